import { trusted } from 'mongoose'
import type { Artifact, ArtifactStore } from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, insert, NEWEST, oneOf, wasFirst } from './driver.ts'
import type { ArtifactDocument, Collections } from './schemas.ts'

/** The library accepts rows this long after their end (`clockTolerance`). */
const TOLERANCE = 15
/** Longer than any request takes. */
const DESTROYED_KEPT = 60 * 60
/** Seconds after its end that the server may delete a row: beyond the tolerance, and for clocks that differ. */
export const KEPT = 60

type Payload = Record<string, unknown>

export const idOf = (model: string, key: string) => `${model}:${key}`
const LIVE = { destroyed: null }
/** Stands for a session that ended: its key is the session's uid. */
export const ENDED = 'EndedSession'

/**
 * The rows of oidc-provider. The three duties are methods of their own, so that a test can take one away.
 *
 * A session is written by compare-and-set on its version, and a destroyed one stays in its place as a tombstone, so
 * that one document decides whether a key lives. What two documents have to agree on, the authorizations that pass from
 * a renamed session to its successor, is written first and looked for afterwards by both sides: the late writer leaves
 * them on the tombstone and then looks for the successor; the successor is inserted and then looks at the tombstones.
 * Whoever is later sees the other. Either may die in between: its request was never answered.
 */
export class MongoArtifacts implements ArtifactStore {
  protected readonly connection: Connection
  protected readonly rows: Collections['artifacts']

  constructor(connection: Connection, { artifacts }: Collections) {
    this.connection = connection
    this.rows = artifacts
  }

  async save(artifact: Artifact): Promise<void> {
    if (artifact.model === 'Session') return this.saveSession(artifact)
    if (artifact.model !== 'Interaction') return this.put(artifact)
    for (;;) {
      const row = await this.row(artifact.model, artifact.key)
      if (row && this.isDestroyed(row)) return
      if (row ? await this.replace(row, artifact) : await this.add(artifact)) return
    }
  }

  protected async saveSession(artifact: Artifact): Promise<void> {
    for (;;) {
      if (await this.hasEnded(artifact.uid)) return
      const row = await this.row(artifact.model, artifact.key)
      if (row && this.isDestroyed(row)) return this.handOver(artifact)
      let { payload } = artifact
      for (const earlier of row ? [payloadOf(row)] : await this.buried(artifact.uid))
        payload = await this.merged(earlier, payload)
      const next = { ...artifact, payload }
      if (!(row ? await this.replace(row, next) : await this.add(next))) continue
      if (!row) await this.catchUp(artifact)
      // Ended between our look and our write: it was marked before its rows were removed, so one of us removes this one.
      if (await this.hasEnded(artifact.uid)) await this.remove(artifact.uid!)
      return
    }
  }

  async find(model: string, key: string, now: number): Promise<Artifact | undefined> {
    return this.alive({ _id: idOf(model, key) }, now)
  }

  async findByUid(model: string, uid: string, now: number): Promise<Artifact | undefined> {
    return this.alive({ uid, model }, now)
  }

  async findByUserCode(model: string, userCode: string, now: number): Promise<Artifact | undefined> {
    return this.alive({ userCode, model }, now)
  }

  /** Each answer of this database says so already. */
  async onDisk(): Promise<void> {}

  async consume(model: string, key: string, at: number): Promise<boolean> {
    const { modifiedCount } = await this.connection.guarded(() =>
      this.rows.updateOne(
        {
          _id: idOf(model, key),
          consumedAt: null,
          $or: [{ expiresAt: null }, { expiresAt: trusted({ $gt: at - TOLERANCE }) }],
        },
        { $set: { consumedAt: at } },
        CERTAIN,
      ),
    )
    return modifiedCount === 1
  }

  async destroy(model: string, key: string, now: number): Promise<boolean> {
    if (model === 'Session' || model === 'Interaction') return this.bury(model, key, now)
    const { deletedCount } = await this.connection.guarded(() =>
      this.rows.deleteOne({ _id: idOf(model, key) }, CERTAIN),
    )
    return deletedCount === 1
  }

  async endSession(uid: string, now: number): Promise<void> {
    const write = () =>
      this.rows.updateOne(
        { _id: idOf(ENDED, uid) },
        {
          $set: { destroyed: true, ...ends(now + DESTROYED_KEPT) },
          $setOnInsert: { model: ENDED, key: uid, payload: '{}' },
        },
        { ...CERTAIN, upsert: true },
      )
    while (!(await wasFirst(this.connection.guarded(write))));
    await this.remove(uid)
  }

  protected async remove(uid: string): Promise<void> {
    await this.connection.guarded(() => this.rows.deleteMany({ uid, model: 'Session', ...LIVE }, CERTAIN))
  }

  /** Signed out in another tab while a resume was about to rename the session. */
  protected async hasEnded(uid: string | undefined): Promise<boolean> {
    return uid !== undefined && (await this.row(ENDED, uid)) !== undefined
  }

  async sessionsOf(accountId: string, now: number): Promise<Artifact[]> {
    const rows = await this.connection.guarded(() =>
      this.rows.find({ accountId, model: 'Session', ...LIVE }, undefined, NEWEST).lean(),
    )
    return rows.filter((row) => isAlive(row, now)).map(artifactOf)
  }

  async revokeByGrantId(model: string, grantId: string): Promise<void> {
    await this.connection.guarded(() => this.rows.deleteMany({ grantId, model }, CERTAIN))
  }

  /** The grants first: without them all that came from them is dead. */
  async revokeGrants(accountId: string, clientId: string): Promise<void> {
    await this.connection.guarded(async () => {
      const grants = await this.rows.find({ accountId, model: 'Grant' }, undefined, NEWEST).lean()
      const keys = grants.filter((row) => payloadOf(row)['clientId'] === clientId).map(({ key }) => key)
      if (keys.length === 0) return
      await this.rows.deleteMany({ _id: oneOf(keys.map((key) => idOf('Grant', key))) }, CERTAIN)
      await this.rows.deleteMany({ grantId: oneOf(keys) }, CERTAIN)
    })
  }

  /**
   * A slower request must not bring it back. What was authorized on a session waits for the row that has its uid next.
   * @returns true when it was there until now
   */
  protected async bury(model: string, key: string, now: number): Promise<boolean> {
    const _id = idOf(model, key)
    let before: ArtifactDocument | null = null
    const write = async () => {
      before = await this.rows
        .findOneAndUpdate(
          { _id },
          {
            $set: { destroyed: true, ...ends(now + DESTROYED_KEPT), ...(model === 'Interaction' && { payload: '{}' }) },
            $unset: { accountId: 1, grantId: 1 },
            $inc: { version: 1 },
            $setOnInsert: { model, key, ...(model === 'Session' && { payload: '{}' }) },
          },
          { ...CERTAIN, upsert: true, returnDocument: 'before' },
        )
        .lean()
    }
    // Inserted by another at this moment: then it is there now.
    while (!(await wasFirst(this.connection.guarded(write))));
    const found = before as ArtifactDocument | null // assigned in the closure above
    return found !== null && found.destroyed !== true
  }

  protected isDestroyed(row: ArtifactDocument): boolean {
    return row.destroyed === true
  }

  /** A rename destroys the old row and then writes the new one from what it read before both. */
  protected async buried(uid: string | undefined): Promise<Payload[]> {
    if (uid === undefined) return []
    const rows = await this.connection.guarded(() => this.rows.find({ uid, destroyed: true }, undefined, NEWEST).lean())
    return rows.map(payloadOf)
  }

  /** Two apps authorized in parallel on one session: the second writer read the row before the first wrote it. */
  protected async merged(stored: Payload, next: Payload): Promise<Payload> {
    return sameSignIn(stored, next) ? { ...next, authorizations: await this.union(stored, next) } : next
  }

  /** Both, the strong one's word first. An app that was signed out of since then has no grant any more. */
  protected async union(weak: Payload, strong: Payload): Promise<object> {
    const has = authorizationsOf(strong)
    const more = Object.entries(authorizationsOf(weak)).filter(([client]) => !(client in has))
    const ids = more.flatMap(([, { grantId }]) => (grantId === undefined ? [] : idOf('Grant', grantId)))
    const rows =
      ids.length === 0
        ? []
        : await this.connection.guarded(() => this.rows.find({ _id: oneOf(ids) }, { key: 1 }, NEWEST).lean())
    const standing = new Set(rows.map(({ key }) => key))
    const kept = more.filter(([, { grantId }]) => grantId === undefined || standing.has(grantId))
    return { ...Object.fromEntries(kept), ...has }
  }

  /** What a late writer authorized on a renamed session goes to the row that has its uid now, or will have it in a moment. */
  protected async handOver(late: Artifact): Promise<void> {
    await this.amend(() => this.row(late.model, late.key), late.payload)
    if (late.uid !== undefined)
      await this.amend(() => this.first({ uid: late.uid, model: late.model, ...LIVE }), late.payload)
  }

  /** Between our look at the tombstones and our insert, a late writer may have left something on one and not found us. */
  protected async catchUp({ model, key, uid }: Artifact): Promise<void> {
    for (const earlier of await this.buried(uid)) await this.amend(() => this.row(model, key), earlier)
  }

  /** Adds authorizations that a row of the same sign-in lacks. */
  protected async amend(read: () => Promise<ArtifactDocument | undefined>, weak: Payload): Promise<void> {
    for (;;) {
      const row = await read()
      if (!row || row.uid === undefined) return
      const payload = payloadOf(row)
      const authorizations = await this.union(weak, payload)
      const isNew = Object.keys(authorizations).length > Object.keys(payload['authorizations'] ?? {}).length
      if (!isNew || !sameSignIn(payload, weak)) return
      const change = { $set: { payload: JSON.stringify({ ...payload, authorizations }) } }
      if (await this.change(row, change)) return
    }
  }

  /** Inserts or replaces whatever is there, keeping what only the row knows. */
  protected async put(artifact: Artifact): Promise<void> {
    const { consumedAt, ...rest } = documentOf(artifact)
    const { $set, $unset } = changeTo(rest)
    const write = () =>
      this.rows.updateOne(
        { _id: rest._id },
        // The earlier of two times, or the only one: a used row stays used.
        { $set, $unset, ...(consumedAt !== undefined && { $min: { consumedAt } }) },
        { ...CERTAIN, upsert: true },
      )
    while (!(await wasFirst(this.connection.guarded(write))));
  }

  protected add(artifact: Artifact): Promise<boolean> {
    return wasFirst(this.connection.guarded(() => insert(this.rows, [{ ...documentOf(artifact), version: 1 }])))
  }

  protected replace(row: ArtifactDocument, artifact: Artifact): Promise<boolean> {
    const { consumedAt: _kept, ...next } = documentOf(artifact)
    const { $set, $unset } = changeTo(next)
    return this.change(row, { $set, $unset: { ...$unset, destroyed: 1 } })
  }

  /** Writes if nobody did since the row was read. */
  protected async change(row: ArtifactDocument, change: object): Promise<boolean> {
    const { modifiedCount } = await this.connection.guarded(() =>
      this.rows.updateOne({ _id: row._id, version: row.version! }, { ...change, $inc: { version: 1 } }, CERTAIN),
    )
    return modifiedCount === 1
  }

  protected row(model: string, key: string): Promise<ArtifactDocument | undefined> {
    return this.first({ _id: idOf(model, key) })
  }

  protected async first(filter: object): Promise<ArtifactDocument | undefined> {
    const row = await this.connection.guarded(() => this.rows.findOne(filter, undefined, NEWEST).lean())
    return row ?? undefined
  }

  protected async alive(filter: object, now: number): Promise<Artifact | undefined> {
    const row = await this.first({ ...filter, ...LIVE })
    return row && isAlive(row, now) ? artifactOf(row) : undefined
  }
}

/** A session that was signed in on again (new `created`, other epoch) took nothing over, on purpose. */
const sameSignIn = (a: Payload, b: Payload): boolean =>
  ['accountId', 'epoch', 'created'].every((name) => a[name] === b[name])

const authorizationsOf = (payload: Payload) =>
  (payload['authorizations'] as Record<string, { grantId?: string }> | undefined) ?? {}

const isAlive = ({ expiresAt }: ArtifactDocument, now: number) => expiresAt === undefined || expiresAt + TOLERANCE > now

const payloadOf = ({ payload }: ArtifactDocument) => JSON.parse(payload) as Payload

const ends = (expiresAt: number) => ({ expiresAt, expires: new Date((expiresAt + KEPT) * 1000) })

function documentOf({ model, key, payload, expiresAt, uid, grantId, accountId, userCode, consumedAt }: Artifact) {
  return {
    _id: idOf(model, key),
    model,
    key,
    payload: JSON.stringify(payload),
    ...(expiresAt !== undefined && ends(expiresAt)),
    ...(uid !== undefined && { uid }),
    ...(grantId !== undefined && { grantId }),
    ...(accountId !== undefined && { accountId }),
    ...(userCode !== undefined && { userCode }),
    ...(consumedAt !== undefined && { consumedAt }),
  }
}

/** What makes any row this one. The user code is left as it is where the new row has none. */
function changeTo({ _id, ...next }: ArtifactDocument): { $set: object; $unset: Record<string, 1> } {
  const absent = (['expiresAt', 'expires', 'uid', 'grantId', 'accountId'] as const).filter((name) => !(name in next))
  return { $set: next, $unset: Object.fromEntries(absent.map((name) => [name, 1])) }
}

function artifactOf(row: ArtifactDocument): Artifact {
  const { model, key, expiresAt, uid, grantId, accountId, userCode, consumedAt } = row
  return { model, key, payload: payloadOf(row), expiresAt, uid, grantId, accountId, userCode, consumedAt }
}
