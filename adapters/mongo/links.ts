import type { FederatedName, LinkStore } from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, insert, NEWEST, wasFirst } from './driver.ts'
import type { MongoOutbox } from './outbox.ts'
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
  readonly #outbox: MongoOutbox

  constructor(connection: Connection, { links }: Collections, outbox: MongoOutbox) {
    this.#connection = connection
    this.#links = links
    this.#outbox = outbox
  }

  async find(name: FederatedName): Promise<string | undefined> {
    const found = await this.#connection.guarded(() =>
      this.#links.findById(linkIds(name, '').name, undefined, NEWEST).lean(),
    )
    return found?.account
  }

  async link(
    name: FederatedName,
    accountId: string,
    now: number,
    { messages = [], withdraws = [] }: Parameters<LinkStore['link']>[3] = {},
  ) {
    const ids = linkIds(name, accountId)
    const claim = (_id: string) => {
      const row = { _id, leads: _id === ids.name, account: accountId, ...name, since: now }
      return wasFirst(this.#connection.guarded(() => insert(this.#links, [row])))
    }
    const isNew = await claim(ids.place)
    if (!isNew) {
      const held = await this.#read(ids.place)
      if (held?.format !== name.format || held.name !== name.name) return 'taken'
    }
    // The letters first, and taken back when there is no link: whoever dies in between has told too much, not too little.
    await this.#outbox.put(messages)
    if (await claim(ids.name)) {
      if (withdraws.length > 0) await this.#outbox.withdraw(accountId, [...withdraws])
      return 'linked'
    }
    for (const { id } of messages) await this.#outbox.takeBack(id)
    if ((await this.#read(ids.name))?.account === accountId) return 'known'
    // The name is another's: the place is free again.
    if (isNew) await this.#connection.guarded(() => this.#links.deleteOne({ _id: ids.place }, CERTAIN))
    return 'taken'
  }

  /** A place whose name was never claimed names nobody. */
  async isNamed(accountId: string, at: Pick<FederatedName, 'company' | 'issuer'>): Promise<boolean> {
    const held = await this.#read(linkIds({ ...at, format: '', name: '' }, accountId).place)
    return held !== null && (await this.#read(linkIds(held, accountId).name))?.account === accountId
  }

  async unlinkAll(accountId: string): Promise<number> {
    const { deletedCount } = await this.#connection.guarded(() =>
      this.#links.deleteMany({ account: accountId }, CERTAIN),
    )
    return Math.ceil(deletedCount / 2)
  }

  async #read(_id: string) {
    return this.#connection.guarded(() => this.#links.findById(_id, undefined, NEWEST).lean())
  }
}
