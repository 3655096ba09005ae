import type { Sealer } from '../../interactions/kit/stores.ts'
import type { SigningKey, SigningKeyStore } from '../../server/stores.ts'
import { CERTAIN, type Connection, insert, NEWEST, SETTLED, wasFirst } from './driver.ts'
import type { Collections, SigningKeysDocument } from './schemas.ts'

export const signingKeyPlace = (owner: string) => ({ purpose: 'signing_key', owner })

/** Token-signing keys, sealed, all in one document. */
export class MongoSigningKeys implements SigningKeyStore {
  readonly #connection: Connection
  readonly #keys: Collections['signing_keys']
  readonly #sealer: Sealer

  constructor(connection: Connection, { signing_keys }: Collections, sealer: Sealer) {
    this.#connection = connection
    this.#keys = signing_keys
    this.#sealer = sealer
  }

  async signingKeys(): Promise<SigningKey[]> {
    const stored = await this.#connection.guarded(() => this.#keys.findById('tokens', undefined, SETTLED).lean())
    return (stored?.keys ?? [])
      .map((key) => ({ ...key, privateJwk: this.#sealer.open(signingKeyPlace(key.kid), key.privateJwk) }))
      .reverse()
      .sort((a, b) => b.createdAt - a.createdAt)
  }

  async addSigningKey(
    { kid, privateJwk, createdAt }: Omit<SigningKey, 'state'>,
    { ifNone = false } = {},
  ): Promise<void> {
    const key = {
      kid,
      privateJwk: this.#sealer.seal(signingKeyPlace(kid), privateJwk),
      createdAt,
      state: 'active' as const,
    }
    for (;;) {
      const stored = await this.#connection.guarded(() => this.#keys.findById('tokens', undefined, NEWEST).lean())
      if (!stored) {
        if (await this.#first(key)) return
        continue
      }
      if (ifNone && stored.keys.length > 0) return
      const retired = stored.keys.map((one) => (one.state === 'active' ? { ...one, state: 'retired' as const } : one))
      if (await replaceKeys(this.#connection, this.#keys, stored, [...retired, key])) return
    }
  }

  #first(key: SigningKey): Promise<boolean> {
    const document = { _id: 'tokens' as const, version: 0, keys: [key] }
    return wasFirst(this.#connection.guarded(() => insert(this.#keys, [document])))
  }
}

/** Writes the keys if nobody did since they were read. */
export async function replaceKeys(
  connection: Connection,
  collection: Collections['signing_keys'],
  { version }: SigningKeysDocument,
  keys: SigningKey[],
): Promise<boolean> {
  const { modifiedCount } = await connection.guarded(() =>
    collection.updateOne({ _id: 'tokens', version }, { $set: { keys }, $inc: { version: 1 } }, CERTAIN),
  )
  return modifiedCount === 1
}
