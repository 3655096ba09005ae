import type { Activation, FactorStore, Message, NewFactor, Sealer } from '../../interactions/kit/stores.ts'
import type { Connection, Value } from './driver.ts'
import type { SqliteOutbox } from './outbox.ts'

const placeOf = (owner: string) => ({ purpose: 'totp_secret', owner })
const phonePlace = (owner: string) => ({ purpose: 'phone', owner })

/** Authenticator apps, phones and recovery codes. What happens once is one UPDATE whose WHERE is the lock. */
export class SqliteFactors implements FactorStore {
  readonly #connection: Connection
  readonly #sealer: Sealer
  readonly #outbox: SqliteOutbox

  constructor(connection: Connection, sealer: Sealer, outbox: SqliteOutbox) {
    this.#connection = connection
    this.#sealer = sealer
    this.#outbox = outbox
  }

  async totpSecret(accountId: string): Promise<string | undefined> {
    const row = this.#connection.get('SELECT secret FROM totp WHERE account_id = ?', accountId)
    return row && this.#sealer.open(placeOf(accountId), String(row['secret']))
  }

  async claimTimeStep(accountId: string, step: number): Promise<boolean> {
    const sql = 'UPDATE totp SET last_step = ? WHERE account_id = ? AND last_step < ?'
    return this.#once(sql, step, accountId, step)
  }

  async phone(accountId: string): Promise<string | undefined> {
    const row = this.#connection.get('SELECT number FROM phones WHERE account_id = ?', accountId)
    return row && this.#sealer.open(phonePlace(accountId), String(row['number']))
  }

  async notePhoneUse(accountId: string, at: number): Promise<void> {
    const sql = 'UPDATE phones SET used_at = max(used_at, ?) WHERE account_id = ?'
    await this.#connection.write(() => this.#connection.run(sql, at, accountId))
  }

  async activate(accountId: string, activation: Activation): Promise<{ securityEpoch: number } | undefined> {
    const { factor, now, factorVersion, securityEpoch, recoveryCodeId, byRecovery } = activation
    const store = this.#storing(accountId, factor, now)
    const connection = this.#connection
    const raise = byRecovery ? 1 : 0
    return connection.write(() => {
      if (byRecovery) {
        const held = connection.get(
          'SELECT 1 FROM recovery_codes WHERE account_id = ? AND reserved_by = ? AND reserved_until > ?',
          accountId,
          byRecovery.cid,
          now,
        )
        if (!held) return undefined
      }
      const won = connection.run(
        `UPDATE accounts SET factor_version = factor_version + 1, security_epoch = security_epoch + ?, always_require_2fa = 1,
            reset_open = 0, reset_held_by = NULL, reset_held_until = NULL
          WHERE id = ? AND factor_version = ? AND security_epoch = ? AND disabled = 0`,
        raise,
        accountId,
        factorVersion,
        securityEpoch,
      )
      if (won !== 1) return undefined
      // Whoever holds a lost phone holds its number too, and whoever holds the number may hold the phone.
      if (byRecovery)
        for (const table of ['totp', 'phones']) connection.run(`DELETE FROM ${table} WHERE account_id = ?`, accountId)
      store()
      connection.run('INSERT OR REPLACE INTO recovery_codes (account_id, id) VALUES (?, ?)', accountId, recoveryCodeId)
      this.#outbox.inPut(activation.messages)
      return { securityEpoch: securityEpoch + raise }
    })
  }

  /** Sealed now; writes when it is called, inside the transaction. */
  #storing(accountId: string, factor: NewFactor, now: number): () => void {
    if (factor.method === 'otp') {
      const sealed = this.#sealer.seal(placeOf(accountId), factor.secret)
      const sql = 'INSERT OR REPLACE INTO totp (account_id, secret, last_step, added_at) VALUES (?, ?, ?, ?)'
      return () => this.#connection.run(sql, accountId, sealed, factor.step, now)
    }
    const sealed = this.#sealer.seal(phonePlace(accountId), factor.phone)
    const sql = 'INSERT OR REPLACE INTO phones (account_id, number, added_at, used_at) VALUES (?, ?, ?, ?)'
    return () => this.#connection.run(sql, accountId, sealed, now, now)
  }

  async setRecoveryCode(
    accountId: string,
    { replaces, id, hash, messages }: { replaces: string; id: string; hash: string; messages?: Message[] | undefined },
  ): Promise<boolean> {
    const sql = `UPDATE recovery_codes SET id = ?, replaces = ?, hash = ?, acknowledged = 0, reserved_by = NULL, reserved_until = NULL
      WHERE account_id = ? AND id = ?`
    return this.#connection.write(() => {
      if (this.#connection.run(sql, id, replaces, hash, accountId, replaces) !== 1) return false
      this.#outbox.inPut(messages)
      return true
    })
  }

  async recoveryCodeHash(accountId: string): Promise<{ id: string; hash: string } | undefined> {
    const row = this.#connection.get(
      'SELECT id, hash FROM recovery_codes WHERE account_id = ? AND hash IS NOT NULL',
      accountId,
    )
    return row && { id: String(row['id']), hash: String(row['hash']) }
  }

  async reserveRecoveryCode(
    accountId: string,
    { id, reservations, cid, until }: { id: string; reservations: number; cid: string; until: number },
  ): Promise<boolean> {
    return this.#once(
      `UPDATE recovery_codes SET reserved_by = ?, reserved_until = ?, reservations = reservations + 1
        WHERE account_id = ? AND id = ? AND hash IS NOT NULL AND reservations = ?`,
      cid,
      until,
      accountId,
      id,
      reservations,
    )
  }

  async acknowledgeRecoveryCode(accountId: string, id: string): Promise<boolean> {
    return this.#once(
      'UPDATE recovery_codes SET acknowledged = 1 WHERE account_id = ? AND id = ? AND hash IS NOT NULL AND acknowledged = 0',
      accountId,
      id,
    )
  }

  /** True for the one caller whose update found what its WHERE asks for. */
  #once(sql: string, ...values: Value[]): Promise<boolean> {
    return this.#connection.write(() => this.#connection.run(sql, ...values) === 1)
  }
}
