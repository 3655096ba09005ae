import type { ConnectionStore, Connection as SamlConnection, Sealer } from '../../interactions/kit/stores.ts'
import { type StoredConnection, type Tried, testedAlike, type WrittenConnection } from '../../server/stores.ts'
import { companiesOf } from './accounts.ts'
import { CERTAIN, type Connection, NEWEST, SETTLED } from './driver.ts'
import type { Collections, ConnectionDocument } from './schemas.ts'

export const samlKeyPlace = (owner: string) => ({ purpose: 'saml_key', owner })
type Keys = SamlConnection['keys']

/** Connections to companies' identity providers. They are written by commits of the directory, except keys and tests. */
export class MongoConnections implements ConnectionStore {
  readonly #connection: Connection
  readonly #collections: Collections
  readonly #sealer: Sealer

  constructor(connection: Connection, collections: Collections, sealer: Sealer) {
    this.#connection = connection
    this.#collections = collections
    this.#sealer = sealer
  }

  async connection(id: string): Promise<SamlConnection | undefined> {
    const row = await this.#row(id)
    if (!row) return undefined
    const company = (await this.#connection.guarded(() => companiesOf(this.#collections, [row.company]))).get(
      row.company,
    )
    const state = company?.disabled ? 'disabled' : row.state
    return { ...writtenOf(row), state, keys: this.#keysOf(row) }
  }

  async connectionFor(domain: string, clientId: string): Promise<SamlConnection | undefined> {
    return this.#connection.guarded(async () => {
      const { connections } = this.#collections
      const rows = await connections.find({ domains: domain, state: 'active', removed: null }, undefined, NEWEST).lean()
      const row = rows.find(({ client }) => client === clientId) ?? rows.find(({ client }) => client === undefined)
      if (!row) return undefined
      const company = (await companiesOf(this.#collections, [row.company])).get(row.company)
      return company && !company.disabled ? { ...writtenOf(row), keys: this.#keysOf(row) } : undefined
    })
  }

  async anyFor(clientId: string): Promise<boolean> {
    const { connections } = this.#collections
    return this.#connection.guarded(async () => {
      const rows = await connections.find({ state: 'active', removed: null }, { client: 1 }, NEWEST).lean()
      return rows.some(({ client }) => client === undefined || client === clientId)
    })
  }

  /** For the directory: without private keys. */
  async list(): Promise<StoredConnection[]> {
    const { connections } = this.#collections
    const rows = await this.#connection.guarded(() =>
      connections.find({ removed: null }, undefined, SETTLED).sort({ _id: 1 }).lean(),
    )
    return rows.map((row) => this.#storedOf(row))
  }

  async stored(id: string): Promise<StoredConnection | undefined> {
    const row = await this.#row(id)
    return row && this.#storedOf(row)
  }

  async replaceKeys(id: string, before: { certificate: string }[], after: Keys): Promise<boolean> {
    const row = await this.#row(id)
    if (!row || textOf(this.#keysOf(row)) !== textOf(before)) return false
    const keys = this.#sealer.seal(samlKeyPlace(id), JSON.stringify(after))
    // The filter is the lock: what was sealed anew meanwhile counts as changed too, and the caller looks again.
    const { modifiedCount } = await this.#connection.guarded(() =>
      this.#collections.connections.updateOne({ _id: id, keys: row.keys, removed: null }, { $set: { keys } }, CERTAIN),
    )
    return modifiedCount === 1
  }

  async recordTest(tried: Tried & { id: string }, now: number): Promise<boolean> {
    for (;;) {
      const row = await this.#row(tried.id)
      if (!row || !testedAlike(writtenOf(row), tried)) return false
      // The filter is the lock: what was changed meanwhile is looked at again.
      const { _id, commit } = row
      const { matchedCount } = await this.#connection.guarded(() =>
        this.#collections.connections.updateOne({ _id, commit, removed: null }, { $set: { testedAt: now } }, CERTAIN),
      )
      if (matchedCount === 1) return true
    }
  }

  async #row(id: string): Promise<ConnectionDocument | undefined> {
    const { connections } = this.#collections
    const row = await this.#connection.guarded(() =>
      connections.findOne({ _id: id, removed: null }, undefined, NEWEST).lean(),
    )
    return row ?? undefined
  }

  #keysOf({ _id: id, keys }: ConnectionDocument): Keys {
    return JSON.parse(this.#sealer.open(samlKeyPlace(id), keys)) as Keys
  }

  #storedOf(row: ConnectionDocument): StoredConnection {
    return {
      ...writtenOf(row),
      keys: this.#keysOf(row).map(({ certificate }) => ({ certificate })),
      ...(row.testedAt !== undefined && { testedAt: row.testedAt }),
    }
  }
}

const textOf = (keys: { certificate: string }[]) => keys.map(({ certificate }) => certificate).join()

/** What of a document a commit has written. */
export const writtenOf = ({
  _id: id,
  company,
  client,
  state,
  domains,
  settings,
}: ConnectionDocument): WrittenConnection => ({
  id,
  company,
  ...(client !== undefined && { client }),
  state,
  domains,
  ...(JSON.parse(settings) as Omit<WrittenConnection, 'id' | 'company' | 'client' | 'state' | 'domains'>),
})
