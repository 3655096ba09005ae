import type { DeviceStore, PendingStore, Sealer } from '../../interactions/kit/stores.ts'
import type { Connection, Row } from './driver.ts'

const placeOf = (owner: string, record: string) => ({ purpose: 'pending', owner, record })

/** Short-lived secrets, sealed for their owner and purpose. */
export class SqlitePending implements PendingStore {
  readonly #connection: Connection
  readonly #sealer: Sealer

  constructor(connection: Connection, sealer: Sealer) {
    this.#connection = connection
    this.#sealer = sealer
  }

  async keep({
    owner,
    purpose,
    value,
    expiresAt,
    now,
  }: {
    owner: string
    purpose: string
    value: string
    expiresAt: number
    now: number
  }) {
    const sealed = this.#sealer.seal(placeOf(owner, purpose), value)
    const row = await this.#connection.write(() =>
      this.#connection.get(
        `INSERT INTO pending (owner, purpose, value, expires_at) VALUES (?1, ?2, ?3, ?4)
          ON CONFLICT DO UPDATE SET
            value = CASE WHEN expires_at <= ?5 THEN excluded.value ELSE value END,
            expires_at = CASE WHEN expires_at <= ?5 THEN excluded.expires_at ELSE expires_at END
          RETURNING value`,
        owner,
        purpose,
        sealed,
        expiresAt,
        now,
      ),
    )
    return this.#open(owner, purpose, row!)
  }

  async replace({ owner, purpose, value, expiresAt }: Parameters<PendingStore['replace']>[0]): Promise<void> {
    const sealed = this.#sealer.seal(placeOf(owner, purpose), value)
    const sql = 'INSERT OR REPLACE INTO pending (owner, purpose, value, expires_at) VALUES (?, ?, ?, ?)'
    await this.#connection.write(() => this.#connection.run(sql, owner, purpose, sealed, expiresAt))
  }

  async recall(owner: string, purpose: string, now: number): Promise<string | undefined> {
    const row = this.#connection.get(
      'SELECT value FROM pending WHERE owner = ? AND purpose = ? AND expires_at > ?',
      owner,
      purpose,
      now,
    )
    return row && this.#open(owner, purpose, row)
  }

  async take(owner: string, purpose: string, now: number): Promise<string | undefined> {
    const sql = 'DELETE FROM pending WHERE owner = ? AND purpose = ? RETURNING value, expires_at'
    const row = await this.#connection.write(() => this.#connection.get(sql, owner, purpose))
    return row && Number(row['expires_at']) > now ? this.#open(owner, purpose, row) : undefined
  }

  #open(owner: string, purpose: string, row: Row): string {
    return this.#sealer.open(placeOf(owner, purpose), String(row['value']))
  }
}

/** Which browsers a person signed in with. */
export class SqliteDevices implements DeviceStore {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async remember(deviceHash: string, accountId: string, now: number): Promise<void> {
    const sql = 'INSERT OR REPLACE INTO devices (device, account_id, last_used) VALUES (?, ?, ?)'
    await this.#connection.write(() => this.#connection.run(sql, deviceHash, accountId, now))
  }

  async knows(deviceHash: string, accountId: string): Promise<boolean> {
    return (
      this.#connection.get('SELECT 1 FROM devices WHERE device = ? AND account_id = ?', deviceHash, accountId) !==
      undefined
    )
  }
}
