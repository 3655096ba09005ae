import { trusted } from 'mongoose'
import type { FederationRequest, FederationStore, Sealer } from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, insert, NEWEST, wasFirst } from './driver.ts'
import type { Collections } from './schemas.ts'

export const factsPlace = (handle: string) => ({ purpose: 'federation_facts', owner: handle })
/** Seconds that an expired row stays, for clocks that differ. */
export const FEDERATION_KEPT = 60

const later = (time: number) => new Date((time + FEDERATION_KEPT) * 1000)
const idOf = (issuer: string, assertionId: string) => JSON.stringify([issuer, assertionId])

/** Sign-ins at companies' identity providers: the answer stands in the request's document, so that both are one write. */
export class MongoFederation implements FederationStore {
  readonly #connection: Connection
  readonly #requests: Collections['federation_requests']
  readonly #assertions: Collections['used_assertions']
  readonly #sealer: Sealer

  constructor(connection: Connection, collections: Collections, sealer: Sealer) {
    this.#connection = connection
    this.#requests = collections.federation_requests
    this.#assertions = collections.used_assertions
    this.#sealer = sealer
  }

  async keepRequest({ handle, ...request }: FederationRequest): Promise<void> {
    const row = { _id: handle, ...request, answered: false, expires: later(request.expiresAt) }
    await this.#connection.guarded(() => insert(this.#requests, [row]))
  }

  async findRequest(handle: string, now: number) {
    const found = await this.#connection.guarded(() =>
      this.#requests.findOne({ _id: handle, expiresAt: trusted({ $gt: now }) }, undefined, NEWEST).lean(),
    )
    if (!found) return undefined
    const { id, connectionId, interaction, createdAt, expiresAt, forceAuthn, authnContexts, answered } = found
    return { handle, id, connectionId, interaction, createdAt, expiresAt, forceAuthn, authnContexts, answered }
  }

  async acceptResponse({
    handle,
    issuer,
    assertionId,
    usableUntil,
    facts,
    expiresAt,
    now,
  }: Parameters<FederationStore['acceptResponse']>[0]) {
    const _id = idOf(issuer, assertionId)
    const claim = this.#connection.guarded(() =>
      insert(this.#assertions, [{ _id, handle, expires: later(usableUntil) }]),
    )
    if (!(await wasFirst(claim))) {
      const used = await this.#connection.guarded(() => this.#assertions.findById(_id, undefined, NEWEST).lean())
      if (used?.handle !== handle) return 'replayed'
    }
    const { modifiedCount } = await this.#connection.guarded(() =>
      this.#requests.updateOne(
        { _id: handle, answered: false, expiresAt: trusted({ $gt: now }) },
        {
          $set: {
            answered: true,
            facts: this.#sealer.seal(factsPlace(handle), facts),
            expiresAt,
            expires: later(expiresAt),
          },
        },
        CERTAIN,
      ),
    )
    return modifiedCount === 1 ? 'accepted' : 'answered'
  }

  async takeFacts(handle: string, interaction: string, now: number): Promise<string | undefined> {
    const stored = await this.#connection.guarded(() =>
      this.#requests
        .findOneAndUpdate(
          { _id: handle, interaction, expiresAt: trusted({ $gt: now }), facts: trusted({ $exists: true }) as never },
          { $unset: { facts: 1 } },
          CERTAIN,
        )
        .lean(),
    )
    return stored?.facts === undefined ? undefined : this.#sealer.open(factsPlace(handle), stored.facts)
  }
}
