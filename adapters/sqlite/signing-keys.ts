import type { Sealer } from '../../interactions/kit/stores.ts'
import type { SigningKey, SigningKeyStore } from '../../server/stores.ts'
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
    }))
  }

  async addSigningKey(
    { kid, privateJwk, createdAt }: Omit<SigningKey, 'state'>,
    { ifNone = false } = {},
  ): Promise<void> {
    const sealed = this.#sealer.seal(placeOf(kid), privateJwk)
    await this.#connection.write(() => {
      if (ifNone && this.#connection.get('SELECT 1 FROM signing_keys')) return
      this.#connection.run("UPDATE signing_keys SET state = 'retired' WHERE state = 'active'")
      this.#connection.run(
        "INSERT INTO signing_keys (kid, private_jwk, created_at, state) VALUES (?, ?, ?, 'active')",
        kid,
        sealed,
        createdAt,
      )
    })
  }
}
