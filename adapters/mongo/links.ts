import type { FederatedName, LinkStore } from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, insert, NEWEST, wasFirst } from './driver.ts'
import type { Collections } from './schemas.ts'

/** The two documents of a link: the place of the account at an identity provider, and the name that leads to the account. */
export const linkIds = ({ company, issuer, format, name }: FederatedName, accountId: string) => ({
  place: JSON.stringify(['account', accountId, company, issuer]),
  name: JSON.stringify(['name', company, issuer, format, name]),
})

/**
 * Names that companies' identity providers give our people. Two documents for each, so that either side is claimed by its
 * `_id`. The place comes first: whoever dies in between has linked nothing, and does it again.
 */
export class MongoLinks implements LinkStore {
  readonly #connection: Connection
  readonly #links: Collections['links']

  constructor(connection: Connection, { links }: Collections) {
    this.#connection = connection
    this.#links = links
  }

  async find(name: FederatedName): Promise<string | undefined> {
    const found = await this.#connection.guarded(() =>
      this.#links.findById(linkIds(name, '').name, undefined, NEWEST).lean(),
    )
    return found?.account
  }

  async link(name: FederatedName, accountId: string, now: number) {
    const ids = linkIds(name, accountId)
    const claim = (_id: string) => {
      const row = { _id, leads: _id === ids.name, account: accountId, ...name, since: now }
      return wasFirst(this.#connection.guarded(() => insert(this.#links, [row])))
    }
    const read = (_id: string) => this.#connection.guarded(() => this.#links.findById(_id, undefined, NEWEST).lean())

    const isNew = await claim(ids.place)
    if (!isNew) {
      const held = await read(ids.place)
      if (held?.format !== name.format || held.name !== name.name) return 'taken'
    }
    if (await claim(ids.name)) return 'linked'
    if ((await read(ids.name))?.account === accountId) return 'known'
    // The name is another's: the place is free again.
    if (isNew) await this.#connection.guarded(() => this.#links.deleteOne({ _id: ids.place }, CERTAIN))
    return 'taken'
  }

  async unlinkAll(accountId: string): Promise<number> {
    const { deletedCount } = await this.#connection.guarded(() =>
      this.#links.deleteMany({ account: accountId }, CERTAIN),
    )
    return Math.ceil(deletedCount / 2)
  }
}
