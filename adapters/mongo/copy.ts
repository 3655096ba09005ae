/** Reads a whole database to copy it, or takes in the copy of another one. */
import { type Model, mongo, trusted } from 'mongoose'
import { StoreUnavailable } from '../../interactions/kit/stores.ts'
import { type CopySource, type CopyTarget, KINDS, type Kind, type Rows, StoreConflict } from '../../server/stores.ts'
import { holds, othersCopy, taken } from '../copying.ts'
import { idOf as artifactId, ENDED, KEPT } from './artifacts.ts'
import { idOf as auditId, behind } from './audit.ts'
import { CERTAIN, Connection, type MongoAddress, oneOf, SETTLED } from './driver.ts'
import { FEDERATION_KEPT } from './federation.ts'
import { linkIds } from './links.ts'
import { checkVersion, migrate, refuseHalfCopy } from './migrations.ts'
import { DEVICE_KEPT, PENDING_KEPT, pairId } from './pending.ts'
import {
  type AccountDocument,
  type ArtifactDocument,
  type AuditDocument,
  type ClientDocument,
  type Collections,
  type CompanyDocument,
  type ConnectionDocument,
  type ConsentDocument,
  collectionsOf,
  type DeviceDocument,
  type FederationRequestDocument,
  type LinkDocument,
  type OutboxDocument,
  type PendingDocument,
  type ResourceDocument,
  type SigningKeysDocument,
  type ThrottleDocument,
  type TraceDocument,
  type UsedAssertionDocument,
} from './schemas.ts'
import { newName, THROTTLE_KEPT } from './throttle.ts'

/** Documents of one read, and of one write. */
const PAGE = 500
/** The commit of the directory that a copy counts as. */
const COMMIT = 1

/** One kind of row: where it is, how it is read and written. */
interface Place<R, D> {
  in: keyof Collections
  /** Which documents of the collection. */
  filter: object
  rowsOf(document: D): R[]
  /** The document of a row, or those. */
  documentsOf(row: R): D[]
  /** What a sharded collection must be told besides `_id`. */
  shard?: (keyof D & string)[]
}

const place = <K extends Kind, D>(one: Place<Rows[K], D>): Place<Rows[K], never> =>
  one as unknown as Place<Rows[K], never>

const inSeconds = (seconds: number) => new Date(seconds * 1000)
const FILED = { removed: null }
const live = { destroyed: null }

const PLACES: { [K in Exclude<Kind, 'signing_keys'>]: Place<Rows[K], never> } = {
  companies: place<'companies', CompanyDocument>({
    in: 'companies',
    filter: FILED,
    rowsOf: ({ _id: id, name, side, domains, disabled, mfa, help, rules }) => [
      { id, name, side, domains, disabled, mfa, help, rules },
    ],
    documentsOf: ({ id, name, side, domains, disabled, mfa, help, rules }) => [
      {
        _id: id,
        commit: COMMIT,
        name,
        side,
        domains,
        disabled,
        ...(mfa && { mfa }),
        ...(help !== undefined && { help }),
        ...(rules && { rules }),
      },
    ],
  }),
  clients: place<'clients', ClientDocument>({
    in: 'clients',
    filter: FILED,
    rowsOf: ({ _id: id, metadata, secret }) => [{ id, metadata, secret }],
    documentsOf: ({ id, metadata, secret }) => [
      { _id: id, commit: COMMIT, metadata, ...(secret !== undefined && { secret }) },
    ],
  }),
  resources: place<'resources', ResourceDocument>({
    in: 'resources',
    filter: FILED,
    rowsOf: ({ _id: id, name, scopes, options }) => [{ id, name, scopes, options }],
    documentsOf: ({ id, ...row }) => [{ _id: id, commit: COMMIT, ...row }],
  }),
  people: place<'people', AccountDocument>({
    in: 'accounts',
    filter: FILED,
    rowsOf: ({ _id: id, commit: _commit, removed: _removed, messages: _moved, memberships, ...row }) => [
      { id, ...row, memberships: [...memberships].sort((a, b) => (a.company < b.company ? -1 : 1)) },
    ],
    documentsOf: ({ id, ...row }) => [{ _id: id, commit: COMMIT, ...(defined(row) as typeof row) } as AccountDocument],
  }),
  connections: place<'connections', ConnectionDocument>({
    in: 'connections',
    filter: FILED,
    rowsOf: ({ _id: id, commit: _commit, removed: _removed, ...row }) => [{ id, ...row }],
    documentsOf: ({ id, ...row }) => [
      { _id: id, commit: COMMIT, ...(defined(row) as typeof row) } as ConnectionDocument,
    ],
  }),
  federation_requests: place<'federation_requests', FederationRequestDocument>({
    in: 'federation_requests',
    filter: {},
    rowsOf: ({ _id: handle, expires: _expires, ...row }) => [{ handle, ...row }],
    documentsOf: ({ handle, ...row }) => [
      {
        _id: handle,
        ...(defined(row) as typeof row),
        expires: inSeconds(row.expiresAt + FEDERATION_KEPT),
      } as FederationRequestDocument,
    ],
  }),
  used_assertions: place<'used_assertions', UsedAssertionDocument>({
    in: 'used_assertions',
    filter: {},
    rowsOf: ({ _id, handle, expires }) => {
      const [issuer, assertionId] = JSON.parse(_id) as [string, string]
      return [{ issuer, assertionId, handle, expiresAt: expires.getTime() / 1000 - FEDERATION_KEPT }]
    },
    documentsOf: ({ issuer, assertionId, handle, expiresAt }) => [
      { _id: pairId(issuer, assertionId), handle, expires: inSeconds(expiresAt + FEDERATION_KEPT) },
    ],
  }),
  federation_traces: place<'federation_traces', TraceDocument>({
    in: 'federation_traces',
    filter: {},
    rowsOf: ({ _id: reference, expires: _expires, keptAt: _keptAt, ...row }) => [{ reference, ...row }],
    documentsOf: ({ reference, ...row }) => [
      { _id: reference, ...row, expires: inSeconds(row.expiresAt + FEDERATION_KEPT) },
    ],
  }),
  outbox: place<'outbox', OutboxDocument>({
    in: 'outbox',
    filter: {},
    rowsOf: ({ _id: id, account: accountId, expires, ...row }) => [
      { id, accountId, ...row, expiresAt: expires.getTime() / 1000 },
    ],
    documentsOf: ({ id, accountId, expiresAt, ...row }) => [
      { _id: id, account: accountId, ...(defined(row) as typeof row), expires: inSeconds(expiresAt) } as OutboxDocument,
    ],
  }),
  consents: place<'consents', ConsentDocument>({
    in: 'consents',
    filter: {},
    rowsOf: ({ account, client, permissions, since }) => [
      { account, client, permissions: [...permissions].sort(), since },
    ],
    documentsOf: (row) => [{ _id: pairId(row.account, row.client), ...row }],
  }),
  links: place<'links', LinkDocument>({
    in: 'links',
    filter: { leads: true },
    rowsOf: ({ _id, leads: _leads, ...row }) => [row],
    documentsOf: (row) => {
      const ids = linkIds(row, row.account)
      return [
        { _id: ids.place, leads: false, ...row },
        { _id: ids.name, leads: true, ...row },
      ]
    },
  }),
  devices: place<'devices', DeviceDocument>({
    in: 'devices',
    filter: {},
    rowsOf: ({ _id, account, lastUsed }) => {
      const [device] = JSON.parse(_id) as [string]
      return [{ device, account, lastUsed, expiresAt: lastUsed + DEVICE_KEPT }]
    },
    documentsOf: ({ device, account, lastUsed, expiresAt }) => [
      { _id: pairId(device, account), account, lastUsed, expires: inSeconds(expiresAt) },
    ],
  }),
  throttles: place<'throttles', ThrottleDocument>({
    in: 'throttles',
    filter: {},
    rowsOf: ({ _id: key, count, since, blockedUntil, disabled, keptUntil: expiresAt }) => [
      { key, count, since, blockedUntil, disabled, expiresAt },
    ],
    documentsOf: ({ key, expiresAt, ...state }) => [
      {
        _id: key,
        ...state,
        run: newName(),
        version: newName(),
        ...(expiresAt !== undefined && { keptUntil: expiresAt, expires: inSeconds(expiresAt + THROTTLE_KEPT) }),
      },
    ],
  }),
  pending: place<'pending', PendingDocument>({
    in: 'pending',
    filter: {},
    rowsOf: ({ owner, purpose, value, expiresAt }) => [{ owner, purpose, value, expiresAt }],
    documentsOf: (row) => [
      { _id: pairId(row.owner, row.purpose), ...row, expires: inSeconds(row.expiresAt + PENDING_KEPT) },
    ],
  }),
  artifacts: place<'artifacts', ArtifactDocument>({
    in: 'artifacts',
    filter: live,
    rowsOf: ({ _id, expires: _expires, version: _version, destroyed: _destroyed, ...row }) => [
      { ...row, expiresAt: row.expiresAt },
    ],
    documentsOf: (row) => [
      {
        _id: artifactId(row.model, row.key),
        ...(defined(row) as Omit<ArtifactDocument, '_id'>),
        ...(row.expiresAt !== undefined && { expires: inSeconds(row.expiresAt + KEPT) }),
        ...((row.model === 'Session' || row.model === 'Interaction') && { version: 1 }),
      },
    ],
  }),
  tombstones: place<'tombstones', ArtifactDocument>({
    in: 'artifacts',
    filter: { destroyed: true, model: oneOf(['Session', 'Interaction']) },
    rowsOf: ({ key, uid, payload, expiresAt = 0 }) => [
      { key, uid, payload: leavesNothing({ uid, payload }) ? undefined : payload, expiresAt },
    ],
    // Not every database knows which of the two it was. Both keys are SHA-256 of random ids: no other row is hit.
    documentsOf: ({ key, uid, payload, expiresAt }) =>
      (payload === undefined ? ['Session', 'Interaction'] : ['Session']).map((model) => ({
        _id: artifactId(model, key),
        model,
        key,
        payload: payload ?? '{}',
        destroyed: true,
        version: 1,
        expiresAt,
        expires: inSeconds(expiresAt + KEPT),
        ...(uid !== undefined && { uid }),
      })),
  }),
  ended_sessions: place<'ended_sessions', ArtifactDocument>({
    in: 'artifacts',
    filter: { destroyed: true, model: ENDED },
    rowsOf: ({ key: uid, expiresAt = 0 }) => [{ uid, expiresAt }],
    documentsOf: ({ uid, expiresAt }) => [
      {
        _id: artifactId(ENDED, uid),
        model: ENDED,
        key: uid,
        payload: '{}',
        destroyed: true,
        expiresAt,
        expires: inSeconds(expiresAt + KEPT),
      },
    ],
  }),
  audit: place<'audit', AuditDocument>({
    in: 'audit',
    filter: {},
    rowsOf: ({ _id, arrived: position, ...row }) => [{ ...row, position }],
    documentsOf: ({ position, ...row }) => [
      { _id: auditId(row.writer, row.number), ...(defined(row) as typeof row), arrived: position } as AuditDocument,
    ],
    shard: ['writer'],
  }),
}

const leavesNothing = ({ uid, payload }: Pick<ArtifactDocument, 'payload'> & { uid?: string | undefined }) =>
  uid === undefined && payload === '{}'

const defined = (object: object) =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as object

/** Collections that hold rows of a deployment, those that are made of them too. */
export const COPIED_COLLECTIONS: readonly string[] = [
  ...new Set(Object.values(PLACES).map((one) => one.in)),
  'signing_keys',
  'addresses',
]

/**
 * Opens a database to copy it, without a change to it.
 * @throws {StoreUnavailable} when no server answers, `migrate` has to run first, a commit is half made, or it is half a copy
 */
export async function openMongoSource(address: MongoAddress): Promise<CopySource> {
  const connection = await Connection.open(address)
  const collections = collectionsOf(connection.opened)
  try {
    await connection.guarded(async () => {
      await checkVersion(connection, collections)
      await refuseHalfCopy(connection, collections)
      const journal = await collections.journal.findById('directory', undefined, SETTLED).lean()
      if (journal?.steps !== undefined)
        throw new StoreUnavailable(
          `the database ${connection.name} has a commit that was not finished: \`sallyport doctor\` finishes it`,
        )
      if (
        await collections.accounts.findOne({ 'messages.id': trusted({ $exists: true }) } as object, { _id: 1 }).lean()
      )
        throw new StoreUnavailable(
          `the database ${connection.name} has messages on the way to its outbox: \`sallyport doctor\` moves them`,
        )
    })
  } catch (error) {
    await connection.close()
    throw error
  }
  return new MongoCopy(connection, collections)
}

/**
 * Opens a database to copy into it, and makes its collections and indexes.
 * @throws {StoreUnavailable} when no server answers, or it belongs to another program
 */
export async function openMongoTarget(address: MongoAddress): Promise<CopyTarget> {
  await migrate(address)
  const connection = await Connection.open(address)
  return new MongoCopy(connection, collectionsOf(connection.opened))
}

class MongoCopy implements CopySource, CopyTarget {
  readonly #connection: Connection
  readonly #collections: Collections

  constructor(connection: Connection, collections: Collections) {
    this.#connection = connection
    this.#collections = collections
  }

  async read<K extends Kind>(
    kind: K,
    after: string | undefined,
  ): Promise<{ rows: Rows[K][]; next: string | undefined }> {
    if (kind === 'signing_keys') return { rows: (await this.#signingKeys()) as Rows[K][], next: undefined }
    const { filter, rowsOf } = PLACES[kind as keyof typeof PLACES] as unknown as Place<Rows[K], { _id: string }>
    const isAudit = kind === 'audit'
    const from = isAudit
      ? behind(after === undefined ? undefined : (JSON.parse(after) as Pick<AuditDocument, 'arrived' | '_id'>))
      : after === undefined
        ? undefined
        : { _id: trusted({ $gt: after }) }
    const documents = await this.#connection.guarded(() =>
      this.#in(kind)
        .find({ ...filter, ...from }, undefined, SETTLED)
        .sort(isAudit ? { arrived: 1, _id: 1 } : { _id: 1 })
        .limit(PAGE)
        .lean(),
    )
    const last = documents.at(-1)
    const more = last && documents.length === PAGE
    const { _id, arrived } = (last ?? {}) as Partial<AuditDocument>
    const once = kind === 'tombstones' ? await this.#once(documents as unknown as ArtifactDocument[]) : documents
    return {
      rows: once.flatMap((document) => rowsOf(document as { _id: string })),
      next: more ? (isAudit ? JSON.stringify({ arrived, _id }) : _id) : undefined,
    }
  }

  /** Without those of a session whose key stands for an interaction too: such a pair was one row where it came from. */
  async #once(tombstones: ArtifactDocument[]): Promise<ArtifactDocument[]> {
    const twinOf = ({ key }: ArtifactDocument) => artifactId('Interaction', key)
    const bare = tombstones.filter((row) => row.model === 'Session' && leavesNothing(row))
    if (bare.length === 0) return tombstones
    const { artifacts } = this.#collections
    const found = await this.#connection.guarded(() =>
      artifacts.find({ _id: oneOf(bare.map(twinOf)), destroyed: true }, { _id: 1 }, SETTLED).lean(),
    )
    const twins = new Set(found.map(({ _id }) => _id))
    return tombstones.filter((row) => !(bare.includes(row) && twins.has(twinOf(row))))
  }

  async count(kind: Kind): Promise<number> {
    if (kind === 'signing_keys') return (await this.#signingKeys()).length
    const { filter } = PLACES[kind]
    return this.#connection.guarded(() => this.#in(kind).countDocuments(filter))
  }

  /** Nearly all that happens leaves a row in the audit; a directory that changed has another number of commits. */
  async mark(): Promise<string> {
    const { audit, journal, signing_keys } = this.#collections
    return this.#connection.guarded(async () => {
      const [newest, commits, keys] = await Promise.all([
        audit.findOne({}, { _id: 1 }, SETTLED).sort({ arrived: -1, _id: -1 }).lean(),
        journal.findById('directory', undefined, SETTLED).lean(),
        signing_keys.findById('tokens', { version: 1 }, SETTLED).lean(),
      ])
      return JSON.stringify([newest?._id, commits?.commit, keys?.version])
    })
  }

  async claim(owner: string, source: string): Promise<string | undefined> {
    return this.#connection.guarded(async () => {
      const { meta, journal } = this.#collections
      const { name } = this.#connection
      const begun = await meta.updateOne({ _id: 'schema', copy: null }, { $set: { copy: { owner, source } } }, CERTAIN)
      if (begun.matchedCount === 0) {
        const mine = { _id: 'schema' as const, 'copy.source': source }
        const taking = await meta
          .findOneAndUpdate(mine, { $set: { 'copy.owner': owner } }, { ...CERTAIN, returnDocument: 'after' })
          .lean()
        if (taking) return taking.copy?.progress
        const others = await meta.findById('schema', undefined, SETTLED).lean()
        throw new StoreConflict(othersCopy(name, others?.copy?.source))
      }
      // Looked at after it was taken: no server opens it from now on.
      const held: Kind[] = []
      for (const kind of KINDS) if ((await this.read(kind, undefined)).rows.length > 0) held.push(kind)
      if (held.length > 0) {
        const copied = await this.#collections.audit
          .findOne({ event: 'store.copied' }, undefined, SETTLED)
          .sort({ arrived: -1 })
          .lean()
        await meta.updateOne({ _id: 'schema', 'copy.owner': owner }, { $unset: { copy: 1 } }, CERTAIN)
        throw new StoreConflict(holds(name, held, copied?.body))
      }
      // What was removed here may still be known: the commit that removed it must not count as the later one.
      await journal.updateOne({ _id: 'directory' }, { $max: { commit: COMMIT } }, { ...CERTAIN, upsert: true })
      return undefined
    })
  }

  async write<K extends Kind>(kind: K, rows: Rows[K][], claim: { owner: string; progress: string }): Promise<void> {
    await this.#connection.guarded(async () => {
      if (kind === 'signing_keys') await this.#writeSigningKeys(rows as Rows['signing_keys'][])
      else {
        if (kind === 'people') await this.#writeAddresses(rows as Rows['people'][])
        const { documentsOf, shard = [] } = PLACES[kind as keyof typeof PLACES] as unknown as Place<
          Rows[K],
          Record<string, unknown> & { _id: string }
        >
        const operations = rows.flatMap(documentsOf).map((replacement) => ({
          replaceOne: {
            filter: Object.fromEntries(['_id', ...shard].map((name) => [name, replacement[name]])),
            replacement,
            upsert: true,
          },
        }))
        // In order: then a document that the schema does not know is an error, and is not left out.
        if (operations.length > 0) await this.#in(kind).bulkWrite(operations as never, { ...CERTAIN, ordered: true })
      }
      await this.#mine(claim)
    })
  }

  async clear(kind: Kind, claim: { owner: string; progress: string }): Promise<void> {
    await this.#connection.guarded(async () => {
      await this.#mine(claim)
      if (kind === 'audit') return
      if (kind === 'people') await this.#collections.addresses.deleteMany({}, CERTAIN)
      await this.#in(kind).deleteMany(kind === 'signing_keys' ? {} : PLACES[kind].filter, CERTAIN)
    })
  }

  async finish(owner: string): Promise<void> {
    await this.#connection.guarded(async () => {
      const { accounts, companies, meta } = this.#collections
      const known = new Set((await companies.find(FILED, { _id: 1 }, SETTLED).lean()).map(({ _id }) => _id))
      for await (const { _id, memberships } of accounts.find(FILED, { memberships: 1 }, SETTLED).lean().cursor())
        for (const { company } of memberships)
          if (!known.has(company))
            throw new StoreConflict(
              `person ${_id} is a member of company "${company}", which is missing: mend it in the source`,
            )
      const { matchedCount } = await meta.updateOne(
        { _id: 'schema', 'copy.owner': owner } as object,
        { $unset: { copy: 1 } },
        CERTAIN,
      )
      if (matchedCount === 0) throw new StoreConflict(taken(this.#connection.name))
    })
  }

  async #mine({ owner, progress }: { owner: string; progress: string }): Promise<void> {
    const { matchedCount } = await this.#collections.meta.updateOne(
      { _id: 'schema', 'copy.owner': owner } as object,
      { $set: { 'copy.progress': progress } },
      CERTAIN,
    )
    if (matchedCount === 0) throw new StoreConflict(taken(this.#connection.name))
  }

  /** An address leads to one person; of two who want it, the second is refused, as in a commit of the directory. */
  async #writeAddresses(people: Rows['people'][]): Promise<void> {
    const operations = people.map(({ id, email }) => ({
      updateOne: {
        filter: { _id: email, account: id },
        update: { $set: { commit: COMMIT }, $unset: { removed: 1 } },
        upsert: true,
      },
    }))
    try {
      if (operations.length > 0)
        await this.#collections.addresses.bulkWrite(operations as never, { ...CERTAIN, ordered: true })
    } catch (error) {
      if (!(error instanceof mongo.MongoBulkWriteError) || error.code !== 11000) throw error
      const { index } = [error.writeErrors].flat()[0]!
      throw new StoreConflict(`two people have the e-mail address ${people[index]?.email}`, { cause: error })
    }
  }

  async #signingKeys(): Promise<Rows['signing_keys'][]> {
    const stored = await this.#connection.guarded(() =>
      this.#collections.signing_keys.findById('tokens', undefined, SETTLED).lean(),
    )
    return (stored as SigningKeysDocument | null)?.keys ?? []
  }

  async #writeSigningKeys(keys: Rows['signing_keys'][]): Promise<void> {
    if (keys.length === 0) return
    const earlier = (await this.#signingKeys()).filter(({ kid }) => !keys.some((key) => key.kid === kid))
    const all = [...earlier, ...keys].map((key) => defined(key))
    await this.#collections.signing_keys.replaceOne(
      { _id: 'tokens' },
      { _id: 'tokens', version: 1, keys: all } as never,
      {
        ...CERTAIN,
        upsert: true,
      },
    )
  }

  /** Typed as one collection: which it is only the kind knows. */
  #in(kind: Kind): Model<{ _id: string }> {
    const name = kind === 'signing_keys' ? kind : PLACES[kind].in
    return this.#collections[name] as unknown as Model<{ _id: string }>
  }

  async close(): Promise<void> {
    await this.#connection.close()
  }
}
