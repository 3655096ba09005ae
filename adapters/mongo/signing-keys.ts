import type { Sealer } from '../../interactions/kit/stores.ts'
import type { NewSigningKey, SigningKey, SigningKeyStore } from '../../server/stores.ts'
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

  async addFirstSigningKey(key: NewSigningKey): Promise<boolean> {
    return this.#change((keys) => (keys.length > 0 ? undefined : [this.#sealed(key, { state: 'active' })]))
  }

  async publishSigningKey(key: NewSigningKey, activatesAt: number): Promise<boolean> {
    return this.#change((keys) =>
      keys.some(({ state }) => state === 'next')
        ? undefined
        : [...keys, this.#sealed(key, { state: 'next', activatesAt })],
    )
  }

  async activateSigningKey(kid: string, now: number): Promise<boolean> {
    return this.#change((keys) => {
      if (!keys.some((key) => key.kid === kid && key.state === 'next')) return undefined
      return keys.map((key) => {
        const { activatesAt: _due, ...rest } = key
        if (key.kid === kid) return { ...rest, state: 'active' as const }
        return key.state === 'active' ? { ...rest, state: 'retired' as const, retiredAt: now } : key
      })
    })
  }

  async removeSigningKey(kid: string): Promise<boolean> {
    return this.#change((keys) => {
      const kept = keys.filter((key) => key.kid !== kid || key.state === 'active')
      return kept.length === keys.length ? undefined : kept
    })
  }

  /** Writes what `change` makes of the keys, by compare-and-set; false when it makes nothing of them. */
  async #change(change: (keys: SigningKey[]) => SigningKey[] | undefined): Promise<boolean> {
    for (;;) {
      const stored = await this.#connection.guarded(() => this.#keys.findById('tokens', undefined, NEWEST).lean())
      const next = change(stored?.keys ?? [])
      if (!next) return false
      if (stored ? await replaceKeys(this.#connection, this.#keys, stored, next) : await this.#insert(next)) return true
    }
  }

  #sealed({ kid, privateJwk, createdAt }: NewSigningKey, rest: Pick<SigningKey, 'state' | 'activatesAt'>): SigningKey {
    return { kid, privateJwk: this.#sealer.seal(signingKeyPlace(kid), privateJwk), createdAt, ...rest }
  }

  #insert(keys: SigningKey[]): Promise<boolean> {
    const document = { _id: 'tokens' as const, version: 0, keys }
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
