import {
  type Channel,
  type LeasedMessage,
  MESSAGE_KEPT,
  type Message,
  type MessageState,
  type OutboxStore,
  type Sealer,
} from '../../interactions/kit/stores.ts'
import type { Connection, Row } from './driver.ts'

const placeOf = (owner: string) => ({ purpose: 'outbox', owner })

/** Messages on their way. A lease is a later `due_at`, and the number of the try is its name. */
export class SqliteOutbox implements OutboxStore {
  readonly #connection: Connection
  readonly #sealer: Sealer

  constructor(connection: Connection, sealer: Sealer) {
    this.#connection = connection
    this.#sealer = sealer
  }

  async put(messages: Message[]): Promise<void> {
    if (messages.length > 0) await this.#connection.write(() => this.inPut(messages))
  }

  /** Inside the write of what they tell. */
  inPut(messages: Message[] = []): void {
    for (const { id, channel, kind, accountId, body, createdAt, dueAt, expiresAt } of messages)
      this.#connection.run(
        `INSERT INTO outbox (id, channel, kind, account_id, body, created_at, first_due, due_at, usable_until, kept_until)
          VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
        id,
        channel,
        kind,
        accountId,
        this.#sealer.seal(placeOf(id), body),
        createdAt,
        dueAt,
        dueAt,
        expiresAt,
        expiresAt + MESSAGE_KEPT,
      )
  }

  async lease(channel: Channel, { now, until }: { now: number; until: number }): Promise<LeasedMessage | undefined> {
    const due = 'channel = ? AND due_at <= ? AND usable_until > ?'
    // Most of the time there is none: looked for without the lock.
    if (!this.#connection.get(`SELECT 1 FROM outbox WHERE ${due} LIMIT 1`, channel, now, now)) return undefined
    const row = await this.#connection.write(() =>
      this.#connection.get(
        `UPDATE outbox SET due_at = ?, tries = tries + 1
          WHERE id = (SELECT id FROM outbox WHERE ${due} ORDER BY due_at LIMIT 1) RETURNING *`,
        until,
        channel,
        now,
        now,
      ),
    )
    if (!row) return undefined
    const { dueAt = until, ...state } = stateOf(row)
    return { ...state, dueAt, body: this.#sealer.open(placeOf(state.id), String(row['body'])) }
  }

  async sent(id: string, tries: number, now: number): Promise<boolean> {
    const sql = `UPDATE outbox SET sent_at = ?, kept_until = ?, body = NULL, due_at = NULL, error = NULL
      WHERE id = ? AND tries = ? AND due_at IS NOT NULL`
    return this.#connection.write(() => this.#connection.run(sql, now, now + MESSAGE_KEPT, id, tries) === 1)
  }

  async putOff(id: string, tries: number, { error, dueAt }: { error: string; dueAt?: number | undefined }) {
    const sql = 'UPDATE outbox SET due_at = ?, error = ? WHERE id = ? AND tries = ? AND due_at IS NOT NULL'
    return this.#connection.write(() => this.#connection.run(sql, dueAt ?? null, error, id, tries) === 1)
  }

  async withdraw(accountId: string, kinds: string[]): Promise<number> {
    return this.#connection.write(() => this.inWithdraw(accountId, kinds))
  }

  async takeBack(id: string): Promise<boolean> {
    return this.#connection.write(
      () => this.#connection.run('DELETE FROM outbox WHERE id = ? AND due_at IS NOT NULL', id) === 1,
    )
  }

  /** Inside the write that makes them pointless. */
  inWithdraw(accountId: string, kinds: readonly string[]): number {
    const sql = `DELETE FROM outbox WHERE account_id = ? AND due_at IS NOT NULL AND kind IN (${kinds.map(() => '?').join(', ')})`
    return kinds.length === 0 ? 0 : this.#connection.run(sql, accountId, ...kinds)
  }

  async list({ accountId, limit }: { accountId?: string | undefined; limit: number }): Promise<MessageState[]> {
    const [where, values] = accountId === undefined ? ['', []] : ['WHERE account_id = ?', [accountId]]
    const sql = `SELECT * FROM outbox ${where} ORDER BY created_at DESC, id LIMIT ?`
    return this.#connection.all(sql, ...values, limit).map(stateOf)
  }

  async read(id: string): Promise<string | undefined> {
    const row = this.#connection.get('SELECT body FROM outbox WHERE id = ? AND body IS NOT NULL', id)
    return row && this.#sealer.open(placeOf(id), String(row['body']))
  }

  async dueSince(channel: Channel, now: number): Promise<number | undefined> {
    const sql = `SELECT min(first_due) AS since FROM outbox
      WHERE channel = ? AND due_at IS NOT NULL AND first_due <= ? AND usable_until > ?`
    const since = this.#connection.get(sql, channel, now, now)!['since']
    return since === null ? undefined : Number(since)
  }
}

function stateOf(row: Row): MessageState {
  const number = (name: string) => (row[name] === null ? undefined : Number(row[name]))
  return {
    id: String(row['id']),
    channel: row['channel'] as Channel,
    kind: String(row['kind']),
    accountId: String(row['account_id']),
    createdAt: Number(row['created_at']),
    expiresAt: Number(row['usable_until']),
    tries: Number(row['tries']),
    dueAt: number('due_at'),
    sentAt: number('sent_at'),
    error: (row['error'] as string | null) ?? undefined,
  }
}
