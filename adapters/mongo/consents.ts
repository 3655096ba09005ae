import type { Consent, ConsentStore } from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, NEWEST, wasFirst } from './driver.ts'
import { pairId } from './pending.ts'
import type { Collections, ConsentDocument } from './schemas.ts'

/** What people agreed to: one document for each person and app. */
export class MongoConsents implements ConsentStore {
  readonly #connection: Connection
  readonly #consents: Collections['consents']

  constructor(connection: Connection, { consents }: Collections) {
    this.#connection = connection
    this.#consents = consents
  }

  async remember(accountId: string, clientId: string, permissions: string[], now: number): Promise<void> {
    const write = () =>
      this.#consents.updateOne(
        { _id: pairId(accountId, clientId) },
        {
          $addToSet: { permissions: { $each: permissions } },
          $setOnInsert: { account: accountId, client: clientId, since: now },
        },
        { ...CERTAIN, upsert: true },
      )
    // Inserted by another at this moment: then ours is added to it.
    while (!(await wasFirst(this.#connection.guarded(write))));
  }

  async find(accountId: string, clientId: string): Promise<Consent | undefined> {
    const row = await this.#connection.guarded(() =>
      this.#consents.findById(pairId(accountId, clientId), undefined, NEWEST).lean(),
    )
    return row ? consentOf(row) : undefined
  }

  async list(accountId: string): Promise<Consent[]> {
    const rows = await this.#connection.guarded(() =>
      this.#consents.find({ account: accountId }, undefined, NEWEST).sort({ client: 1 }).lean(),
    )
    return rows.map(consentOf)
  }

  async forget(accountId: string, clientId: string): Promise<boolean> {
    const { deletedCount } = await this.#connection.guarded(() =>
      this.#consents.deleteOne({ _id: pairId(accountId, clientId) }, CERTAIN),
    )
    return deletedCount === 1
  }
}

const consentOf = ({ client, permissions, since }: ConsentDocument): Consent => ({
  clientId: client,
  permissions: [...permissions].sort(),
  since,
})
