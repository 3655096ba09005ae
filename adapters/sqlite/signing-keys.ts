import type { Sealer } from '../../interactions/kit/stores.ts'
import type { NewSigningKey, SigningKey, SigningKeyStore } from '../../server/stores.ts'
import type { Connection } from './driver.ts'

const placeOf = (owner: string) => ({ purpose: 'signing_key', owner })

/** Token-signing keys, sealed. */
export class SqliteSigningKeys implements SigningKeyStore {
  readonly #connection: Connection
  readonly #sealer: Sealer

  constructor(connection: Connection, sealer: Sealer) {
    this.#connection = connection
    this.#sealer = sealer
  }

  async signingKeys(): Promise<SigningKey[]> {
    return this.#connection.all('SELECT * FROM signing_keys ORDER BY created_at DESC, rowid DESC').map((row) => ({
      kid: String(row['kid']),
      privateJwk: this.#sealer.open(placeOf(String(row['kid'])), String(row['private_jwk'])),
      createdAt: Number(row['created_at']),
      state: row['state'] as SigningKey['state'],
      ...(row['activates_at'] !== null && { activatesAt: Number(row['activates_at']) }),
      ...(row['retired_at'] !== null && { retiredAt: Number(row['retired_at']) }),
    }))
  }

  async addFirstSigningKey(key: NewSigningKey): Promise<boolean> {
    return this.#insert(key, 'active', null, 'NOT EXISTS (SELECT 1 FROM signing_keys)')
  }

  async publishSigningKey(key: NewSigningKey, activatesAt: number): Promise<boolean> {
    return this.#insert(key, 'next', activatesAt, "NOT EXISTS (SELECT 1 FROM signing_keys WHERE state = 'next')")
  }

  async activateSigningKey(kid: string, now: number): Promise<boolean> {
    return this.#connection.write(() => {
      if (!this.#connection.get("SELECT 1 FROM signing_keys WHERE kid = ? AND state = 'next'", kid)) return false
      this.#connection.run("UPDATE signing_keys SET state = 'retired', retired_at = ? WHERE state = 'active'", now)
      this.#connection.run("UPDATE signing_keys SET state = 'active', activates_at = NULL WHERE kid = ?", kid)
      return true
    })
  }

  async removeSigningKey(kid: string): Promise<boolean> {
    const sql = "DELETE FROM signing_keys WHERE kid = ? AND state != 'active'"
    return this.#connection.write(() => this.#connection.run(sql, kid) === 1)
  }

  #insert(
    { kid, privateJwk, createdAt }: NewSigningKey,
    state: SigningKey['state'],
    activatesAt: number | null,
    where: string,
  ): Promise<boolean> {
    const sealed = this.#sealer.seal(placeOf(kid), privateJwk)
    const sql = `INSERT INTO signing_keys (kid, private_jwk, created_at, state, activates_at) SELECT ?, ?, ?, ?, ? WHERE ${where}`
    return this.#connection.write(() => this.#connection.run(sql, kid, sealed, createdAt, state, activatesAt) === 1)
  }
}
