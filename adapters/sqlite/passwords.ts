import {
  type FoundLink,
  type LinkPurpose,
  type MailedLink,
  type Message,
  PASSWORDS_BARRED,
  type PasswordStore,
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
      SELECT id, ?2, ?3, email, security_epoch, ?6 FROM accounts
        WHERE id = ?1 AND email = ?4 AND security_epoch = ?5 AND disabled = 0
      ON CONFLICT (account_id, purpose) DO UPDATE SET hash = excluded.hash, email = excluded.email, epoch = excluded.epoch,
        expires_at = excluded.expires_at, used_at = NULL`
    return this.#connection.write(() => {
      if (this.#connection.run(sql, accountId, purpose, hash, email, epoch, expiresAt) !== 1) return false
      this.#outbox.inPut(messages)
      return true
    })
  }

  async findLink(hash: string): Promise<FoundLink | undefined> {
    const row = this.#connection.get('SELECT * FROM mailed_links WHERE hash = ?', hash)
    if (!row) return undefined
    return {
      accountId: String(row['account_id']),
      purpose: row['purpose'] as LinkPurpose,
      hash,
      email: String(row['email']),
      epoch: Number(row['epoch']),
      expiresAt: Number(row['expires_at']),
      usedAt: row['used_at'] === null ? undefined : Number(row['used_at']),
    }
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
          WHERE l.hash = ? AND l.used_at IS NULL AND l.expires_at > ?`,
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
      connection.run('UPDATE mailed_links SET used_at = ? WHERE account_id = ? AND used_at IS NULL', now, id)
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
        nowFormer(found),
        accountId,
      )
      this.#outbox.inPut(messages)
      return true
    })
  }
}

const formerOf = (row: Row): string[] =>
  typeof row['former_passwords'] === 'string' ? (JSON.parse(row['former_passwords']) as string[]) : []

/** What `former_passwords` is once another password takes the place of this row's. */
export function nowFormer(row: Row): string | null {
  const former = typeof row['password_hash'] === 'string' ? [row['password_hash'], ...formerOf(row)] : formerOf(row)
  return former.length === 0 ? null : JSON.stringify(former.slice(0, PASSWORDS_BARRED - 1))
}
