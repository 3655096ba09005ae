/** Moves a whole deployment from one database to another: everything, as it is, once. */
import { createHash, randomBytes } from 'node:crypto'
import type { SealedPlace, Sealer } from '../interactions/index.ts'
import { type CopySource, type CopyTarget, KINDS, type Kind, type Rows, StoreConflict } from './stores.ts'

/** What is equal on both sides. */
export interface Content {
  rows: number
  /** SHA-256 of each row, added up: the same for the same rows, whatever their order. Hex. */
  digest: string
}

/** What a copy did. */
export interface Copied {
  kinds: Record<Kind, Content>
  /** An earlier, interrupted one was gone on with. */
  resumed: boolean
  /** Somebody wrote to the source meanwhile, and what they wrote is in the copy. */
  sourceChanged: boolean
}

/** Who is told how it goes. */
export interface Watcher {
  /** Rows of this kind so far. */
  copied?(kind: Kind, rows: number, of: number, done: boolean): void
  verifying?(kind: Kind): void
  /** Kinds that differ, and are copied once more. */
  again?(kinds: Kind[]): void
}

/** How often what differs is copied once more. */
const TRIES = 3
/** Seconds after its end that a row may be gone by itself; rows that end while they are compared are not compared. */
const KEPT = 60

type Row = Rows[Kind]
type Progress = Partial<Record<Kind, { after?: string; rows: number; done?: boolean }>>
const now = () => Math.floor(Date.now() / 1000)

/**
 * Copies, or goes on with a copy that was interrupted, and compares both sides. The source is only read.
 *
 * What the target holds while it is not finished opens for no server. Two copies at once: the later one goes on, the
 * earlier one ends.
 *
 * @param sourceName how the target remembers where it comes from
 * @param sealer opens everything that is sealed: what it does not open is not copied
 * @throws {StoreConflict} when the target holds anything else, another copy took it, or both sides go on to differ
 * @throws {SealBroken} when the key ring is not the source's
 */
export async function copyDeployment(
  source: CopySource,
  target: CopyTarget,
  { sourceName, sealer, watcher = {} }: { sourceName: string; sealer: Sealer; watcher?: Watcher },
): Promise<Copied> {
  for (const row of (await source.read('signing_keys', undefined)).rows) checkSeals('signing_keys', row, sealer)
  const owner = randomBytes(8).toString('hex')
  const before = await source.mark()
  const earlier = await target.claim(owner, sourceName)
  const progress = JSON.parse(earlier ?? '{}') as Progress
  const parts = { source, target, owner, progress, sealer, watcher }
  for (const kind of KINDS) await copyKind(parts, kind)

  for (let tries = 1; ; tries++) {
    const mark = await source.mark()
    const { kinds, different } = await compare(parts)
    const settled = (await source.mark()) === mark
    if (different.length === 0 && settled) {
      await target.finish(owner)
      return { kinds, resumed: earlier !== undefined, sourceChanged: mark !== before }
    }
    if (tries === TRIES)
      throw new StoreConflict(
        different.length === 0
          ? 'the source is written to while it is copied: stop its servers and run the copy again'
          : `source and copy differ in ${different.join(', ').replaceAll('_', ' ')}: stop the servers of both and run the copy again, or begin with an empty store`,
      )
    watcher.again?.(different)
    for (const kind of different) {
      delete progress[kind]
      await target.clear(kind, { owner, progress: JSON.stringify(progress) })
      await copyKind(parts, kind)
    }
  }
}

interface Parts {
  source: CopySource
  target: CopyTarget
  owner: string
  progress: Progress
  sealer: Sealer
  watcher: Watcher
}

async function copyKind({ source, target, owner, progress, sealer, watcher }: Parts, kind: Kind): Promise<void> {
  let { after, rows: count, done } = progress[kind] ?? { rows: 0 }
  if (done) return
  const total = await source.count(kind)
  const gone = now() - KEPT
  do {
    const page = await source.read(kind, after)
    const rows = page.rows.filter((row) => endOf(row) > gone)
    for (const row of rows) checkSeals(kind, row, sealer)
    count += rows.length
    after = page.next
    progress[kind] = after === undefined ? { rows: count, done: true } : { rows: count, after }
    await target.write(kind, rows, { owner, progress: JSON.stringify(progress) })
    watcher.copied?.(kind, count, Math.max(count, total), after === undefined)
  } while (after !== undefined)
}

async function compare({ source, target, watcher }: Parts): Promise<{ kinds: Copied['kinds']; different: Kind[] }> {
  const kinds: Partial<Copied['kinds']> = {}
  const different: Kind[] = []
  for (const kind of KINDS) {
    watcher.verifying?.(kind)
    const until = now() + KEPT
    const [here, there] = await Promise.all([contentOf(source, kind, until), contentOf(target, kind, until)])
    kinds[kind] = there
    if (here.rows !== there.rows || here.digest !== there.digest) different.push(kind)
  }
  return { kinds: kinds as Copied['kinds'], different }
}

/**
 * What a database holds of one kind, without rows that end before `until`.
 * @param until seconds since 1970
 */
export async function contentOf(store: CopySource, kind: Kind, until: number): Promise<Content> {
  let rows = 0
  let sum = 0n
  let after: string | undefined
  do {
    const page = await store.read(kind, after)
    for (const row of page.rows) {
      if (endOf(row) <= until) continue
      rows += 1
      sum = BigInt.asUintN(256, sum + hashOf(row))
    }
    after = page.next
  } while (after !== undefined)
  return { rows, digest: sum.toString(16).padStart(64, '0') }
}

function hashOf(row: Row): bigint {
  const { position: _order, ...content } = row as Row & { position?: number }
  return BigInt(`0x${createHash('sha256').update(canonical(content)).digest('hex')}`)
}

/** JSON with sorted keys, without what is undefined. */
const canonical = (value: object) =>
  JSON.stringify(value, (_name, inner: unknown) =>
    inner && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )

const endOf = (row: Row): number => ('expiresAt' in row ? row.expiresAt : undefined) ?? Number.POSITIVE_INFINITY

interface Sealed {
  place: SealedPlace
  sealed: string | undefined
}

/** What is sealed in a row, and whose it is. */
const SEALS: { [K in Kind]?: (row: Rows[K]) => Sealed | Sealed[] } = {
  clients: ({ id, secret }) => ({ place: { purpose: 'client_secret', owner: id }, sealed: secret }),
  people: ({ id, totp, phone }) => [
    { place: { purpose: 'totp_secret', owner: id }, sealed: totp?.secret },
    { place: { purpose: 'phone', owner: id }, sealed: phone?.number },
  ],
  connections: ({ id, keys }) => ({ place: { purpose: 'saml_key', owner: id }, sealed: keys }),
  federation_requests: ({ handle, facts }) => ({
    place: { purpose: 'federation_facts', owner: handle },
    sealed: facts,
  }),
  federation_traces: ({ reference, said }) => ({
    place: { purpose: 'federation_trace', owner: reference },
    sealed: said,
  }),
  outbox: ({ id, body }) => ({ place: { purpose: 'outbox', owner: id }, sealed: body }),
  signing_keys: ({ kid, privateJwk }) => ({ place: { purpose: 'signing_key', owner: kid }, sealed: privateJwk }),
}

/** @throws {SealBroken} */
function checkSeals<K extends Kind>(kind: K, row: Rows[K], sealer: Sealer): void {
  for (const { place, sealed } of [SEALS[kind]?.(row) ?? []].flat())
    if (sealed !== undefined) sealer.open(place, sealed)
}
