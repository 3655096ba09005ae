import {
  type FoundLink,
  type LinkPurpose,
  type MailedLink,
  type Message,
  PASSWORDS_BARRED,
  type PasswordStore,
  PROVING,
  VOIDED_BY_PASSWORD,
} from '../../interactions/kit/stores.ts'
import type { Connection, Row } from './driver.ts'
import type { SqliteOutbox } from './outbox.ts'

/** Passwords that people set themselves, and the links that let them. */
export class SqlitePasswords implements PasswordStore {
  readonly #connection: Connection
  readonly #outbox: SqliteOutbox

  constructor(connection: Connection, outbox: SqliteOutbox) {
    this.#connection = connection
    this.#outbox = outbox
  }

  async recent(accountId: string): Promise<string[]> {
    const row = this.#connection.get('SELECT password_hash, former_passwords FROM accounts WHERE id = ?', accountId)
    return row ? [...(row['password_hash'] ? [String(row['password_hash'])] : []), ...formerOf(row)] : []
  }

  async issueLink(accountId: string, purpose: LinkPurpose, link: MailedLink, messages: Message[]): Promise<boolean> {
    const { hash, email, epoch, expiresAt } = link
    const sql = `INSERT INTO mailed_links (account_id, purpose, hash, email, epoch, expires_at)
      SELECT id, ?2, ?3, ?4, security_epoch, ?6 FROM accounts
        WHERE id = ?1 AND (email = ?4 OR ?7) AND security_epoch = ?5 AND disabled = 0
      ON CONFLICT (account_id, purpose) DO UPDATE SET hash = excluded.hash, email = excluded.email, epoch = excluded.epoch,
        expires_at = excluded.expires_at, used_at = NULL`
    return this.#connection.write(() => {
      const isProving = PROVING.includes(purpose) ? 1 : 0
      if (this.#connection.run(sql, accountId, purpose, hash, email, epoch, expiresAt, isProving) !== 1) return false
      this.#outbox.inPut(messages)
      return true
    })
  }

  async findLink(hash: string): Promise<FoundLink | undefined> {
    const row = this.#connection.get('SELECT * FROM mailed_links WHERE hash = ?', hash)
    return row && { accountId: String(row['account_id']), purpose: row['purpose'] as LinkPurpose, ...linkOf(row) }
  }

  async linkOf(accountId: string, purpose: LinkPurpose): Promise<MailedLink | undefined> {
    const sql = 'SELECT * FROM mailed_links WHERE account_id = ? AND purpose = ?'
    const row = this.#connection.get(sql, accountId, purpose)
    return row && linkOf(row)
  }

  async holdEnrolment(
    hash: string,
    { accountId, cid, until, now }: { accountId: string; cid: string; until: number; now: number },
  ): Promise<boolean> {
    const connection = this.#connection
    return connection.write(() => {
      const found = connection.get(
        `SELECT l.used_at, a.reset_held_by, a.reset_held_until FROM mailed_links l
            JOIN accounts a ON l.account_id = a.id AND l.email = a.email AND l.epoch = a.security_epoch
          WHERE l.hash = ? AND l.purpose = 'enrolment' AND a.id = ? AND a.disabled = 0 AND l.expires_at > ? AND a.reset_open = 1`,
        hash,
        accountId,
        now,
      )
      if (!found) return false
      if (found['used_at'] !== null) return found['reset_held_by'] === cid && Number(found['reset_held_until']) > now
      connection.run('UPDATE mailed_links SET used_at = ? WHERE hash = ?', now, hash)
      const sql = 'UPDATE accounts SET reset_held_by = ?, reset_held_until = ? WHERE id = ?'
      return connection.run(sql, cid, until, accountId) === 1
    })
  }

  async setByLink(
    hash: string,
    set: { passwordHash: string; name?: string | undefined; now: number; messages: Message[]; withdraws?: string[] },
  ): Promise<{ securityEpoch: number } | undefined> {
    const { passwordHash, name, now, messages, withdraws = [] } = set
    const connection = this.#connection
    return connection.write(() => {
      const found = connection.get(
        `SELECT a.* FROM mailed_links l JOIN accounts a ON a.id = l.account_id AND a.email = l.email
            AND a.security_epoch = l.epoch AND a.disabled = 0
          WHERE l.hash = ? AND l.purpose IN ('reset', 'welcome') AND l.used_at IS NULL AND l.expires_at > ?`,
        hash,
        now,
      )
      if (!found) return undefined
      const id = String(found['id'])
      connection.run(
        `UPDATE accounts SET password_hash = ?, former_passwords = ?, name = coalesce(?, name), security_epoch = security_epoch + 1
          WHERE id = ?`,
        passwordHash,
        nowFormer(found),
        name ?? null,
        id,
      )
      for (const purpose of VOIDED_BY_PASSWORD)
        connection.run(
          'UPDATE mailed_links SET used_at = ? WHERE account_id = ? AND purpose = ? AND used_at IS NULL',
          now,
          id,
          purpose,
        )
      this.#outbox.inWithdraw(id, withdraws)
      this.#outbox.inPut(messages)
      return { securityEpoch: Number(found['security_epoch']) + 1 }
    })
  }

  async withdraw(accountId: string, messages: Message[]): Promise<boolean> {
    const connection = this.#connection
    return connection.write(() => {
      const found = connection.get(
        'SELECT * FROM accounts WHERE id = ? AND password_hash IS NOT NULL AND disabled = 0',
        accountId,
      )
      if (!found) return false
      connection.run(
        `UPDATE accounts SET password_hash = NULL, former_passwords = ?, security_epoch = security_epoch + 1 WHERE id = ?`,
        nowFormer(found, PASSWORDS_BARRED),
        accountId,
      )
      this.#outbox.inPut(messages)
      return true
    })
  }
}

const linkOf = (row: Row): MailedLink => ({
  hash: String(row['hash']),
  email: String(row['email']),
  epoch: Number(row['epoch']),
  expiresAt: Number(row['expires_at']),
  usedAt: row['used_at'] === null ? undefined : Number(row['used_at']),
})

const formerOf = (row: Row): string[] =>
  typeof row['former_passwords'] === 'string' ? (JSON.parse(row['former_passwords']) as string[]) : []

/** What `former_passwords` is once another password takes the place of this row's, or none does: then one more is kept. */
export function nowFormer(row: Row, kept = PASSWORDS_BARRED - 1): string | null {
  const former = typeof row['password_hash'] === 'string' ? [row['password_hash'], ...formerOf(row)] : formerOf(row)
  return former.length === 0 ? null : JSON.stringify(former.slice(0, kept))
}
