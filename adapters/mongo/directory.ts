import { mongo, trusted } from 'mongoose'
import type { Message, Method, Connection as SamlConnection, Sealer } from '../../interactions/kit/stores.ts'
import {
  type Change,
  type Client,
  type Company,
  type DirectoryStore,
  type Resource,
  refuseIfChanged,
  StoreConflict,
  type StoredConnection,
  type Tried,
  type User,
  type UsersPart,
  writtenOf,
} from '../../server/stores.ts'
import { secretsFrom } from '../client-secrets.ts'
import { companiesOf } from './accounts.ts'
import { type MongoConnections, samlKeyPlace, writtenOf as writtenConnectionOf } from './connections.ts'
import { CERTAIN, type Connection, insert, NEWEST, oneOf, SETTLED, wasFirst } from './driver.ts'
import type { MongoOutbox } from './outbox.ts'
import { changesOf, type Filed, planOf, type Step, type Write } from './plan.ts'
import type { AccountDocument, ClientDocument, Collections, CompanyDocument, ResourceDocument } from './schemas.ts'

export const clientPlace = (owner: string) => ({ purpose: 'client_secret', owner })

/** A document holds 16 MB; the journal keeps the steps of one commit in one. */
const MOST_BYTES = 12 * 1024 * 1024
/** Steps of one round trip. */
const AT_ONCE = 500

/**
 * People, companies, clients and APIs.
 *
 * A commit is all or nothing without a transaction, by a journal of one document. It reads what is stored, decides, and
 * writes down every step; that one compare-and-set, on the number of commits so far, is the commit: two that read the
 * same cannot both succeed. Then the steps are made and struck out. Whoever comes next, opens, sweeps or commits, makes
 * them when the first one could not. A step is made once, however often it is tried: each document carries the number of
 * the commit that wrote it, and a removed one keeps it for a day, so a late writer of an older commit changes nothing.
 */
export class MongoDirectory implements DirectoryStore {
  readonly #connection: Connection
  readonly #collections: Collections
  readonly #sealer: Sealer
  readonly #connections: MongoConnections
  readonly #outbox: MongoOutbox

  constructor(
    connection: Connection,
    collections: Collections,
    sealer: Sealer,
    connections: MongoConnections,
    outbox: MongoOutbox,
  ) {
    this.#connection = connection
    this.#collections = collections
    this.#sealer = sealer
    this.#connections = connections
    this.#outbox = outbox
  }

  async companies(): Promise<Company[]> {
    const rows = await this.#list(() =>
      this.#collections.companies.find({ removed: null }, undefined, SETTLED).sort({ _id: 1 }).lean(),
    )
    return rows.map(companyOf)
  }

  async company(id: string): Promise<Company | undefined> {
    const found = await this.#connection.guarded(() => companiesOf(this.#collections, [id]))
    const row = found.get(id)
    return row && companyOf(row)
  }

  async users(part?: UsersPart): Promise<User[]> {
    const { accounts } = this.#collections
    const which = part ? { email: trusted({ $gt: part.after }) as never } : {}
    const rows = await this.#list(() =>
      accounts
        .find({ removed: null, ...which }, undefined, SETTLED)
        .sort({ email: 1 })
        .limit(part?.limit ?? 0) // 0: all
        .lean(),
    )
    return rows.map(userOf)
  }

  async user(idOrEmail: string): Promise<User | undefined> {
    const { accounts } = this.#collections
    return this.#connection.guarded(async () => {
      const find = (filter: object) => accounts.findOne({ ...filter, removed: null }, undefined, NEWEST).lean()
      const row = (await find({ _id: idOrEmail })) ?? (await find({ email: idOrEmail }))
      return row ? userOf(row) : undefined
    })
  }

  async clients(): Promise<Client[]> {
    const rows = await this.#list(() =>
      this.#collections.clients.find({ removed: null }, undefined, SETTLED).sort({ _id: 1 }).lean(),
    )
    return rows.map((row) => this.#clientOf(row))
  }

  async client(clientId: string): Promise<Client | undefined> {
    const row = await this.#connection.guarded(() =>
      this.#collections.clients.findOne({ _id: clientId, removed: null }, undefined, NEWEST).lean(),
    )
    return row ? this.#clientOf(row) : undefined
  }

  async resources(): Promise<Resource[]> {
    const rows = await this.#list(() =>
      this.#collections.resources.find({ removed: null }, undefined, SETTLED).sort({ _id: 1 }).lean(),
    )
    return rows.map(resourceOf)
  }

  async connections(): Promise<StoredConnection[]> {
    return this.#connections.list()
  }

  async connection(id: string): Promise<StoredConnection | undefined> {
    return this.#connections.stored(id)
  }

  async replaceConnectionKeys(
    id: string,
    before: { certificate: string }[],
    after: SamlConnection['keys'],
  ): Promise<boolean> {
    return this.#connections.replaceKeys(id, before, after)
  }

  async recordTest(tried: Tried & { id: string }, now: number): Promise<boolean> {
    return this.#connections.recordTest(tried, now)
  }

  async commit(changes: Change[]): Promise<void> {
    const wanted = changesOf(changes, {
      client: (id, secrets) => this.#sealer.seal(clientPlace(id), secrets),
      connection: (id, keys) => this.#sealer.seal(samlKeyPlace(id), keys),
      messages: (messages) => this.#outbox.written(messages),
    })
    for (;;) {
      const before = await this.settle()
      try {
        await this.#refuseIfChanged(changes)
        const steps = await this.#connection.guarded(() => planOf(this.#collections, wanted, before + 1))
        if (await this.#decide(before, steps)) break
      } catch (error) {
        // What contradicts the stored state may have contradicted only half of another commit: look again.
        if (!(error instanceof StoreConflict) || (await this.#isStill(before))) throw error
      }
    }
    await this.settle()
  }

  /**
   * Finishes the last commit, if whoever began it could not.
   * @returns the number of commits so far
   */
  async settle(): Promise<number> {
    const { journal } = this.#collections
    return this.#connection.guarded(async () => {
      const last = await journal.findById('directory', undefined, NEWEST).lean()
      if (!last) {
        await wasFirst(insert(journal, [{ _id: 'directory', commit: 0 }]))
        return this.settle()
      }
      if (last.steps === undefined) return last.commit
      // Read from the primary alone, it may be taken back; not once a majority has this write, which came after it.
      const isThis = { _id: 'directory' as const, commit: last.commit, steps: trusted({ $exists: true }) as never }
      const { matchedCount } = await journal.updateOne(isThis, { $inc: { tries: 1 } }, CERTAIN)
      if (matchedCount === 0) return this.settle()
      await this.apply(JSON.parse(last.steps) as Step[], last.commit)
      await journal.updateOne({ _id: 'directory', commit: last.commit }, { $unset: { steps: 1, tries: 1 } }, CERTAIN)
      return last.commit
    })
  }

  async resetMfa(
    accountId: string,
    { now, messages = [], factorVersion }: { now: number; messages?: Message[]; factorVersion?: number },
  ): Promise<boolean> {
    const filter = { _id: accountId, removed: null, ...(factorVersion !== undefined && { factorVersion }) }
    const update = {
      $unset: { totp: 1, phone: 1, recoveryCode: 1 },
      $inc: { factorVersion: 1, securityEpoch: 1 },
      $set: { factorReset: { at: now, open: true } },
    }
    return this.#telling(filter, update, accountId, messages)
  }

  async setDisabled(accountId: string, disabled: boolean): Promise<boolean> {
    return this.#update(
      { _id: accountId, removed: null, disabled: !disabled },
      { $set: { disabled }, $inc: { securityEpoch: disabled ? 1 : 0 } },
    )
  }

  async raiseEpoch(accountId: string, from?: number): Promise<boolean> {
    const filter = { _id: accountId, removed: null, ...(from !== undefined && { securityEpoch: from }) }
    return this.#update(filter, { $inc: { securityEpoch: 1 } })
  }

  async removeFactor(
    accountId: string,
    removal: { method: Method; factorVersion: number; securityEpoch: number; messages: Message[] },
  ): Promise<boolean> {
    const { method, factorVersion, securityEpoch, messages } = removal
    const [removed, other] = method === 'otp' ? (['totp', 'phone'] as const) : (['phone', 'totp'] as const)
    const filter = {
      _id: accountId,
      removed: null,
      factorVersion,
      securityEpoch,
      [removed]: trusted({ $exists: true }),
    }
    const raised = { $inc: { factorVersion: 1, securityEpoch: 1 } }
    // Whichever of the two it is: no factor comes or goes without a new factor version.
    const last = { ...raised, $unset: { [removed]: 1, recoveryCode: 1 } }
    if (await this.#telling({ ...filter, [other]: null }, last, accountId, messages)) return true
    const oneOfTwo = { ...raised, $unset: { [removed]: 1 } }
    return this.#telling({ ...filter, [other]: trusted({ $exists: true }) }, oneOfTwo, accountId, messages)
  }

  async setAlwaysRequire2fa(accountId: string, always: boolean, messages: Message[]): Promise<boolean> {
    const filter = { _id: accountId, removed: null, alwaysRequire2fa: !always }
    return this.#telling(filter, { $set: { alwaysRequire2fa: always } }, accountId, messages)
  }

  async takeNoticeEmail(hash: string, now: number, messages: Message[]): Promise<boolean> {
    const { accounts } = this.#collections
    const stored = await this.#connection.guarded(() =>
      accounts.findOne({ 'mailedLinks.notice.hash': hash, removed: null }, undefined, NEWEST).lean(),
    )
    const link = stored?.mailedLinks?.notice
    if (!stored || !link || link.usedAt !== undefined || link.expiresAt <= now) return false
    const filter = {
      _id: stored._id,
      removed: null,
      disabled: false,
      securityEpoch: link.epoch,
      'mailedLinks.notice.hash': hash,
      'mailedLinks.notice.usedAt': null,
    }
    const update = { $set: { noticeEmail: link.email, 'mailedLinks.notice.usedAt': now } }
    return this.#telling(filter, update, stored._id, messages)
  }

  async dropNoticeEmail(accountId: string, email: string, messages: Message[]): Promise<boolean> {
    const filter = { _id: accountId, removed: null, noticeEmail: email }
    return this.#telling(filter, { $unset: { noticeEmail: 1 } }, accountId, messages)
  }

  /** The same, with the messages that tell of it. */
  async #telling(filter: object, update: object, accountId: string, messages: Message[]): Promise<boolean> {
    const isDone = await this.#update(filter, { ...update, ...this.#outbox.along(messages) })
    if (isDone && messages.length > 0) await this.#outbox.move(accountId)
    return isDone
  }

  /** A change of one person that is no commit: it takes place in their document. */
  async #update(filter: object, update: object): Promise<boolean> {
    const { modifiedCount } = await this.#connection.guarded(() =>
      this.#collections.accounts.updateOne(filter, update, CERTAIN),
    )
    return modifiedCount === 1
  }

  /** The commit. False when another came first. */
  async #decide(before: number, steps: Step[]): Promise<boolean> {
    const text = JSON.stringify(steps)
    const bytes = Buffer.byteLength(text)
    if (bytes > MOST_BYTES)
      throw new StoreConflict(
        `so many changes at once do not fit (${Math.ceil(bytes / 1024 / 1024)} MiB of ${MOST_BYTES / 1024 / 1024}): make them in several parts`,
      )
    const { modifiedCount } = await this.#connection.guarded(() =>
      this.#collections.journal.updateOne(
        { _id: 'directory', commit: before, steps: null },
        { $set: { steps: text }, $inc: { commit: 1 } },
        CERTAIN,
      ),
    )
    return modifiedCount === 1
  }

  /** Of what is read here nothing changes before the commit is decided: else it is not decided. */
  async #refuseIfChanged(changes: Change[]): Promise<void> {
    const planned = changes.flatMap((change) => (change.op === 'put' && change.was !== undefined ? [change] : []))
    const idOf = ({ value }: (typeof planned)[number]) => ('client_id' in value ? value.client_id : value.id)
    const idsOf = (kind: Change['kind']) => ({
      _id: oneOf(planned.filter((change) => change.kind === kind).map(idOf)),
      removed: null,
    })
    if (planned.length === 0) return
    const { accounts, clients, companies, resources, connections } = this.#collections
    const stored = await this.#connection.guarded(async () => ({
      company: byId(await companies.find(idsOf('company'), undefined, NEWEST).lean(), companyOf),
      user: byId(await accounts.find(idsOf('user'), undefined, NEWEST).lean(), (row) => writtenOf(userOf(row))),
      client: byId(await clients.find(idsOf('client'), undefined, NEWEST).lean(), (row) => this.#clientOf(row)),
      resource: byId(await resources.find(idsOf('resource'), undefined, NEWEST).lean(), resourceOf),
      connection: byId(await connections.find(idsOf('connection'), undefined, NEWEST).lean(), writtenConnectionOf),
    }))
    for (const change of planned) refuseIfChanged(change, stored[change.kind].get(idOf(change)))
  }

  async #isStill(before: number): Promise<boolean> {
    const { journal } = this.#collections
    const last = await this.#connection.guarded(() => journal.findById('directory', undefined, NEWEST).lean())
    return last?.commit === before && last.steps === undefined
  }

  /** Makes the steps of a commit that are not made yet. Of a commit that others came after it changes nothing. */
  async apply(steps: Step[], commit: number): Promise<void> {
    for (const group of groupsOf(steps)) {
      const [first] = group
      if (first && 'forget' in first)
        await this.#forget(
          group.flatMap((step) => ('forget' in step ? step.forget : [])),
          group.flatMap((step) => ('forget' in step ? (step.apps ?? []) : [])),
        )
      else if (first && 'send' in first)
        await this.#outbox.keep(group.flatMap((step) => ('send' in step ? step.send : [])))
      else if (first)
        await this.#write(
          first.in,
          group.flatMap((step) => ('in' in step ? step : [])),
          commit,
        )
    }
  }

  async #write(name: Filed, steps: Write[], commit: number): Promise<void> {
    const operations = steps.map((step) => ({
      updateOne: { filter: { _id: step.id, commit: { $lt: commit } }, ...updateOf(step, commit) },
    }))
    try {
      // By the driver itself: the steps were checked against the schema before they were written down (plan.ts).
      await this.#collections[name].collection.bulkWrite(operations as never, { ...CERTAIN, ordered: false })
    } catch (error) {
      if (!isMadeAlready(error)) throw error
    }
  }

  /** What belongs to removed people, and what was agreed with removed apps, goes with them; the audit stays. */
  async #forget(ids: string[], apps: string[]): Promise<void> {
    const { artifacts, consents, devices, links, outbox } = this.#collections
    await artifacts.deleteMany({ accountId: oneOf(ids) }, CERTAIN)
    await devices.deleteMany({ account: oneOf(ids) }, CERTAIN)
    await links.deleteMany({ account: oneOf(ids) }, CERTAIN)
    await outbox.deleteMany({ account: oneOf(ids) }, CERTAIN)
    await consents.deleteMany({ $or: [{ account: oneOf(ids) }, { client: oneOf(apps) }] }, CERTAIN)
  }

  #list<T>(read: () => Promise<T[]>): Promise<T[]> {
    return this.#connection.guarded(read)
  }

  #clientOf({ _id: id, metadata, secret }: ClientDocument): Client {
    const secrets = secret === undefined ? {} : secretsFrom(this.#sealer.open(clientPlace(id), secret))
    return { client_id: id, ...(JSON.parse(metadata) as object), ...secrets }
  }
}

/** Of an upsert that finds its step made already the insert collides. All else of the write must be well. */
function isMadeAlready(error: unknown): boolean {
  if (!(error instanceof mongo.MongoBulkWriteError) || error.result.getWriteConcernError()) return false
  const errors = [error.writeErrors].flat()
  return errors.length > 0 && errors.every(({ code }) => code === 11000)
}

function updateOf(step: Write, commit: number): { update: object; upsert: boolean } {
  const unset = Object.fromEntries(step.unset.map((name) => [name, 1]))
  if (step.removes) return { update: { $set: { commit, removed: new Date() }, $unset: unset }, upsert: false }
  return {
    update: {
      $set: { ...step.set, commit },
      $unset: { ...unset, removed: 1 },
      ...(step.raises && { $inc: { securityEpoch: 1 } }),
    },
    upsert: true,
  }
}

/** Neighbours of one kind, so many at once. */
function groupsOf(steps: Step[]): Step[][] {
  const groups: Step[][] = []
  const kind = (step: Step) => ('in' in step ? step.in : 'send' in step ? 'send' : 'forget')
  for (const step of steps) {
    const last = groups.at(-1)
    if (last && last.length < AT_ONCE && kind(last[0]!) === kind(step)) last.push(step)
    else groups.push([step])
  }
  return groups
}

function companyOf({ _id: id, name, side, domains, disabled, mfa, help, rules }: CompanyDocument): Company {
  return {
    id,
    name,
    side,
    domains,
    disabled,
    ...(mfa && { mfa }),
    ...(help !== undefined && { help }),
    ...(rules && { rules }),
  }
}

const resourceOf = ({ _id: id, name, scopes, options }: ResourceDocument): Resource => ({
  id,
  name,
  scopes,
  ...(JSON.parse(options) as object),
})

const byId = <Row extends { _id: string }>(rows: Row[], read: (row: Row) => object) =>
  new Map(rows.map((row) => [row._id, read(row)]))

function userOf(row: AccountDocument): User {
  const { _id: id, email, name, disabled, memberships, serverRoles, alwaysRequire2fa, securityEpoch, createdAt } = row
  return {
    id,
    email,
    ...(row.noticeEmail !== undefined && { noticeEmail: row.noticeEmail }),
    ...(name !== undefined && { name }),
    disabled,
    memberships,
    serverRoles,
    alwaysRequire2fa,
    hasPassword: row.passwordHash !== undefined,
    passwordWithdrawn: row.passwordHash === undefined && row.formerPasswords !== undefined,
    securityEpoch,
    factors: [
      ...(row.totp ? [{ method: 'otp' as const, addedAt: row.totp.addedAt }] : []),
      ...(row.phone ? [{ method: 'sms' as const, addedAt: row.phone.addedAt }] : []),
    ],
    recoveryCode: !row.recoveryCode ? 'none' : row.recoveryCode.acknowledged ? 'acknowledged' : 'unacknowledged',
    createdAt,
  }
}
