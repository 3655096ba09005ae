/** The database for several machines: MongoDB, by mongoose. Nothing in here needs a transaction over several documents. */
import { trusted } from 'mongoose'
import { type SealedPlace, type Sealer, StoreUnavailable } from '../../interactions/kit/stores.ts'
import type { Database } from '../../server/stores.ts'
import { MongoAccounts } from './accounts.ts'
import { MongoArtifacts } from './artifacts.ts'
import { MongoAudit } from './audit.ts'
import { MongoConnections, samlKeyPlace } from './connections.ts'
import { MongoConsents } from './consents.ts'
import { clientPlace, MongoDirectory } from './directory.ts'
import { CERTAIN, CHEAP, Connection, type MongoAddress, NEWEST, oneOf } from './driver.ts'
import { MongoFactors, phonePlace, totpPlace } from './factors.ts'
import { FEDERATION_KEPT, factsPlace, MongoFederation } from './federation.ts'
import { MongoLinks } from './links.ts'
import { checkVersion, missingIndexes, refuseHalfCopy } from './migrations.ts'
import { MongoOutbox, outboxPlace } from './outbox.ts'
import { MongoPasswords } from './passwords.ts'
import { MongoDevices, MongoPending, PENDING_KEPT, pendingPlace } from './pending.ts'
import { type Collections, collectionsOf } from './schemas.ts'
import { MongoSigningKeys, replaceKeys, signingKeyPlace } from './signing-keys.ts'
import { MongoThrottle, THROTTLE_KEPT } from './throttle.ts'
import { MongoTraces, tracePlace } from './traces.ts'

export { openMongoSource, openMongoTarget } from './copy.ts'
export type { MongoAddress } from './driver.ts'
export { migrate } from './migrations.ts'

/** How to open a database. */
export interface MongoOptions extends MongoAddress {
  sealer: Sealer
}

/**
 * Opens a database that {@link migrate} has set up, and finishes what a process that died there had begun.
 *
 * @throws {StoreUnavailable} when no server answers, it does not let us in, or `migrate` has to run first
 */
export async function openMongo({ sealer, ...address }: MongoOptions): Promise<MongoDatabase> {
  const connection = await Connection.open(address)
  const database = new MongoDatabase(connection, sealer)
  try {
    await connection.guarded(() => checkVersion(connection, database.collections))
    await connection.guarded(() => refuseHalfCopy(connection, database.collections))
    await database.directory.settle()
  } catch (error) {
    await connection.close()
    throw error
  }
  return database
}

/**
 * True when a server of ours keeps signing keys in this database already.
 *
 * @throws {StoreUnavailable} when no server answers or it does not let us in
 */
export async function isInUse(address: MongoAddress): Promise<boolean> {
  const connection = await Connection.open(address)
  try {
    const { signing_keys } = collectionsOf(connection.opened)
    return await connection.guarded(
      async () => (await signing_keys.findById('tokens', { _id: 1 }, NEWEST).lean()) !== null,
    )
  } finally {
    await connection.close()
  }
}

/** All stores over one connection. */
export class MongoDatabase implements Database {
  readonly accounts: MongoAccounts
  readonly factors: MongoFactors
  readonly throttle: MongoThrottle
  readonly devices: MongoDevices
  readonly pending: MongoPending
  readonly consents: MongoConsents
  readonly federation: MongoFederation
  readonly traces: MongoTraces
  readonly links: MongoLinks
  readonly outbox: MongoOutbox
  readonly passwords: MongoPasswords
  readonly audit: MongoAudit
  readonly artifacts: MongoArtifacts
  readonly directory: MongoDirectory
  readonly connections: MongoConnections
  readonly signingKeys: MongoSigningKeys
  readonly auditReader: MongoAudit
  readonly connection: Connection
  readonly collections: Collections
  readonly #sealer: Sealer

  constructor(connection: Connection, sealer: Sealer) {
    const collections = collectionsOf(connection.opened)
    this.connection = connection
    this.collections = collections
    this.#sealer = sealer
    this.accounts = new MongoAccounts(connection, collections)
    this.outbox = new MongoOutbox(connection, collections, sealer)
    this.passwords = new MongoPasswords(connection, collections, this.outbox)
    this.factors = new MongoFactors(connection, collections, sealer, this.outbox)
    this.throttle = new MongoThrottle(connection, collections)
    this.devices = new MongoDevices(connection, collections)
    this.pending = new MongoPending(connection, collections, sealer)
    this.consents = new MongoConsents(connection, collections)
    this.federation = new MongoFederation(connection, collections, sealer)
    this.traces = new MongoTraces(connection, collections, sealer)
    this.links = new MongoLinks(connection, collections, this.outbox)
    this.audit = new MongoAudit(connection, collections)
    this.artifacts = new MongoArtifacts(connection, collections)
    this.connections = new MongoConnections(connection, collections, sealer)
    this.directory = new MongoDirectory(connection, collections, sealer, this.connections, this.outbox)
    this.signingKeys = new MongoSigningKeys(connection, collections, sealer)
    this.auditReader = this.audit
  }

  async ping(): Promise<void> {
    await this.connection.guarded(() => this.collections.meta.findById('schema', undefined, NEWEST).lean())
  }

  /** What the server deletes by its own clock is mostly gone already. By `expires`, which has an index. */
  async sweep(now: number): Promise<number> {
    await this.directory.settle()
    await this.outbox.move()
    const { artifacts, pending, throttles, devices, federation_requests, used_assertions, federation_traces, outbox } =
      this.collections
    const before = (time: number) => ({ expires: trusted({ $lt: new Date(time * 1000) }) })
    const swept = await this.connection.guarded(() =>
      Promise.all([
        artifacts.deleteMany(before(now), CHEAP),
        pending.deleteMany(before(now + PENDING_KEPT + 1), CHEAP),
        throttles.deleteMany(before(now + THROTTLE_KEPT), CHEAP),
        federation_requests.deleteMany(before(now + FEDERATION_KEPT + 1), CHEAP),
        used_assertions.deleteMany(before(now + FEDERATION_KEPT + 1), CHEAP),
        federation_traces.deleteMany(before(now + FEDERATION_KEPT + 1), CHEAP),
        devices.deleteMany(before(now), CHEAP),
        outbox.deleteMany(before(now), CHEAP),
      ]),
    )
    return swept.reduce((sum, { deletedCount }) => sum + deletedCount, 0)
  }

  /** One write per value, each of what was read: service goes on meanwhile. */
  async rewrap(): Promise<number> {
    await this.directory.settle()
    await this.outbox.move()
    return this.connection.guarded(async () => {
      const { accounts, clients, connections, pending, federation_requests, federation_traces, outbox } =
        this.collections
      let count = await this.#rewrapSigningKeys()
      for await (const { _id, totp } of accounts.find({ totp: there }, { totp: 1 }, NEWEST).lean().cursor())
        count += await this.#reseal(totp!.secret, totpPlace(_id), (from, to) =>
          accounts.updateOne({ _id, 'totp.secret': from }, { $set: { 'totp.secret': to } }, CERTAIN),
        )
      for await (const { _id, phone } of accounts.find({ phone: there }, { phone: 1 }, NEWEST).lean().cursor())
        count += await this.#reseal(phone!.number, phonePlace(_id), (from, to) =>
          accounts.updateOne({ _id, 'phone.number': from }, { $set: { 'phone.number': to } }, CERTAIN),
        )
      for await (const { _id, secret } of clients.find({ secret: there }, { secret: 1 }, NEWEST).lean().cursor())
        count += await this.#reseal(secret!, clientPlace(_id), (from, to) =>
          clients.updateOne({ _id, secret: from }, { $set: { secret: to } }, CERTAIN),
        )
      for await (const { _id, keys } of connections.find({ keys: there }, { keys: 1 }, NEWEST).lean().cursor())
        count += await this.#reseal(keys, samlKeyPlace(_id), (from, to) =>
          connections.updateOne({ _id, keys: from }, { $set: { keys: to } }, CERTAIN),
        )
      for await (const { _id, owner, purpose, value } of pending.find({}, undefined, NEWEST).lean().cursor())
        count += await this.#reseal(value, pendingPlace(owner, purpose), (from, to) =>
          pending.updateOne({ _id, value: from }, { $set: { value: to } }, CERTAIN),
        )
      for await (const { _id, facts } of federation_requests
        .find({ facts: there }, { facts: 1 }, NEWEST)
        .lean()
        .cursor())
        count += await this.#reseal(facts!, factsPlace(_id), (from, to) =>
          federation_requests.updateOne({ _id, facts: from }, { $set: { facts: to } }, CERTAIN),
        )
      for await (const { _id, said } of federation_traces.find({}, { said: 1 }, NEWEST).lean().cursor())
        count += await this.#reseal(said, tracePlace(_id), (from, to) =>
          federation_traces.updateOne({ _id, said: from }, { $set: { said: to } }, CERTAIN),
        )
      for await (const { _id, body } of outbox.find({ body: there }, { body: 1 }, NEWEST).lean().cursor())
        count += await this.#reseal(body!, outboxPlace(_id), (from, to) =>
          outbox.updateOne({ _id, body: from }, { $set: { body: to } }, CERTAIN),
        )
      return count + (await this.#rewrapArtifacts())
    })
  }

  async #rewrapSigningKeys(): Promise<number> {
    const { signing_keys } = this.collections
    for (;;) {
      const stored = await signing_keys.findById('tokens', undefined, NEWEST).lean()
      if (!stored) return 0
      const stale = stored.keys.filter(({ privateJwk }) => this.#sealer.isStale(privateJwk))
      if (stale.length === 0) return 0
      const keys = stored.keys.map((key) =>
        stale.includes(key) ? { ...key, privateJwk: this.#anew(signingKeyPlace(key.kid), key.privateJwk) } : key,
      )
      if (await replaceKeys(this.connection, signing_keys, stored, keys)) return stale.length
    }
  }

  async #rewrapArtifacts(): Promise<number> {
    const { artifacts } = this.collections
    const models = oneOf(['Interaction', 'PushedAuthorizationRequest', 'DeviceCode'])
    let count = 0
    for await (const { _id, key, payload: text } of artifacts
      .find({ model: models }, undefined, NEWEST)
      .lean()
      .cursor()) {
      const payload = JSON.parse(text) as { sealed?: string; sealedId?: string }
      const [name, purpose] =
        payload.sealed !== undefined ? (['sealed', 'interaction'] as const) : (['sealedId', 'device_code'] as const)
      const sealed = payload[name]
      if (sealed === undefined) continue
      count += await this.#reseal(sealed, { purpose, owner: key }, (_from, to) =>
        artifacts.updateOne(
          { _id, payload: text },
          { $set: { payload: JSON.stringify({ ...payload, [name]: to }) } },
          CERTAIN,
        ),
      )
    }
    return count
  }

  async #reseal(
    sealed: string,
    place: SealedPlace,
    replace: (from: string, to: string) => PromiseLike<{ modifiedCount: number }>,
  ): Promise<number> {
    if (!this.#sealer.isStale(sealed)) return 0
    return (await replace(sealed, this.#anew(place, sealed))).modifiedCount
  }

  #anew(place: SealedPlace, sealed: string): string {
    return this.#sealer.seal(place, this.#sealer.open(place, sealed))
  }

  async check(): Promise<string[]> {
    try {
      return await this.connection.guarded(() => this.#problems())
    } catch (error) {
      if (error instanceof StoreUnavailable) return [error.message]
      throw error
    }
  }

  async #problems(): Promise<string[]> {
    await this.directory.settle()
    await this.outbox.move()
    const missing = (await missingIndexes(this.collections)).map(
      (index) => `the index ${index} is missing: run \`sallyport migrate\``,
    )
    return [...missing, ...(await this.#orphans())]
  }

  /** Memberships of companies that are not there; people whom their address does not lead to. */
  async #orphans(): Promise<string[]> {
    const { accounts, addresses, companies } = this.collections
    const known = new Set((await companies.find({ removed: null }, { _id: 1 }, NEWEST).lean()).map(({ _id }) => _id))
    const problems: string[] = []
    const people = accounts.find({ removed: null }, { email: 1, memberships: 1 }, NEWEST).lean().cursor()
    for await (const { _id, email, memberships } of people) {
      for (const { company } of memberships)
        if (!known.has(company)) problems.push(`person ${_id} is a member of company "${company}", which is missing`)
      const address = await addresses.findOne({ _id: email, removed: null }, { account: 1 }, NEWEST).lean()
      if (address?.account !== _id) problems.push(`the address of person ${_id} does not lead to them`)
    }
    return problems
  }

  /** Seconds that the server's clock is ahead of ours: it deletes expired rows by its own. */
  async clockDifference(): Promise<number> {
    const { localTime } = (await this.connection.guarded(() => this.connection.opened.db!.command({ hello: 1 }))) as {
      localTime: Date
    }
    return Math.round((localTime.getTime() - Date.now()) / 1000)
  }

  async close(): Promise<void> {
    await this.audit.settled()
    await this.connection.close()
  }
}

const there = trusted({ $exists: true }) as never
