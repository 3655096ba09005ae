/**
 * Signed checkpoints of the audit: what says later that the end of a chain was cut off, or a chain written anew. The key that
 * signs comes from the key ring, which is kept apart from the database: whoever can write to the database cannot sign.
 */
import { errors, jwtVerify, SignJWT } from 'jose'
import type { AuditStore, KeyRing } from '../interactions/index.ts'
import { isFirst } from './first.ts'
import type { House } from './open.ts'
import type { AuditHead, AuditReader } from './stores.ts'

/** The audit event whose detail `jws` is a checkpoint. */
export const CHECKPOINT_EVENT = 'audit.checkpoint'
const HOUR_SECONDS = 60 * 60
const PURPOSE = 'audit checkpoint'
const TYPE = 'sallyport-audit-checkpoint+jwt'

/** A checkpoint that was verified. */
export interface Checkpoint {
  /** Seconds since 1970. */
  at: number
  heads: AuditHead[]
}

/** A checkpoint that our key ring did not sign, or that was changed. */
export class CheckpointBroken extends Error {
  override readonly name = 'CheckpointBroken'
}

/** What checkpoints are made with. */
export interface CheckpointParts {
  audit: AuditStore
  auditReader: AuditReader
  keyRing: KeyRing
}

/**
 * Signs the heads of the chains that have grown, and files the checkpoint as a row of the audit.
 *
 * @param now seconds since 1970
 * @returns a JWS (RFC 7515) of the heads, to be kept elsewhere; `undefined` when nothing has happened since the last one
 */
export async function makeCheckpoint(
  { audit, auditReader, keyRing }: CheckpointParts,
  { now, actor }: { now: number; actor: string },
): Promise<string | undefined> {
  const [last, former] = await auditReader.auditRows({ event: CHECKPOINT_EVENT, limit: 2 })
  const [newest] = await auditReader.auditRows({ limit: 1 })
  if (!newest || newest.id === last?.id) return undefined
  // From the last but one: what arrived while the last one was made stands in none yet.
  const heads = await auditReader.auditHeads(former?.id)
  const { id: kid, key } = keyRing.signingKey(PURPOSE)
  const jws = await new SignJWT({ heads: heads.map(({ writer, number, hash }) => [writer, number, hash]) })
    .setProtectedHeader({ alg: 'EdDSA', typ: TYPE, kid })
    .setIssuedAt(now)
    .sign(key)
  await audit.append({ event: 'audit.checkpoint', outcome: 'success', at: now, actor, details: { jws } })
  return jws
}

/** What a server does once an hour, however many there are: a checkpoint, and its copy in the log, which leaves the machine. */
export async function checkpointOnce(
  { database, keyRing, logger }: Pick<House, 'database' | 'keyRing' | 'logger'>,
  now: number,
): Promise<void> {
  const hour = Math.floor(now / HOUR_SECONDS)
  const place = { owner: PURPOSE, purpose: `hour ${hour}`, expiresAt: now + 2 * HOUR_SECONDS, now }
  if (!(await isFirst(database, place))) return
  const checkpoint = await makeCheckpoint({ ...database, keyRing }, { now, actor: 'server' })
  if (checkpoint !== undefined) logger.info({ checkpoint }, 'audit checkpoint')
}

/** @throws {CheckpointBroken} one sentence */
export async function readCheckpoint(jws: string, keyRing: KeyRing): Promise<Checkpoint> {
  try {
    const { payload } = await jwtVerify(
      jws,
      ({ kid = '' }) => {
        const key = keyRing.verificationKey(PURPOSE, kid)
        if (!key)
          throw new CheckpointBroken(`it is signed by the key "${kid.slice(0, 40)}", which is not on the key ring`)
        return key
      },
      { algorithms: ['EdDSA'], typ: TYPE },
    )
    const heads = payload['heads'] as [string, number, string][]
    return { at: payload.iat!, heads: heads.map(([writer, number, hash]) => ({ writer, number, hash })) }
  } catch (error) {
    if (error instanceof errors.JOSEError) throw new CheckpointBroken('it was changed, or is none', { cause: error })
    throw error
  }
}

/** What an audit is found to be. */
export interface Verified {
  rows: number
  /** How many checkpoints were looked at, and when the newest was made, in seconds since 1970. */
  checkpoints: number
  newest?: number | undefined
  /** The first thing that is wrong, in a sentence. */
  broken?: string | undefined
}

/**
 * Recomputes every chain, and holds it against every checkpoint: those filed in the audit and those kept elsewhere.
 *
 * @param kept checkpoints as {@link makeCheckpoint} gave them out
 */
export async function verifyAudit(
  { auditReader, keyRing }: Pick<CheckpointParts, 'auditReader' | 'keyRing'>,
  kept: readonly string[] = [],
): Promise<Verified> {
  const filed = await auditReader.auditRows({ event: CHECKPOINT_EVENT, limit: Number.MAX_SAFE_INTEGER })
  const all = [
    ...filed.map(({ details, at }) => ({
      jws: String(details?.['jws']),
      name: `of ${new Date(at * 1000).toISOString()}`,
    })),
    ...kept.map((jws, index) => ({ jws, name: `${index + 1} that was given` })),
  ]
  const known: AuditHead[] = []
  let newest: number | undefined
  for (const { jws, name } of all)
    try {
      const { at, heads } = await readCheckpoint(jws, keyRing)
      known.push(...heads)
      newest = Math.max(newest ?? at, at)
    } catch (error) {
      if (!(error instanceof CheckpointBroken)) throw error
      return { rows: 0, checkpoints: all.length, broken: `the checkpoint ${name}: ${error.message}` }
    }
  const { rows, broken } = await auditReader.verifyAudit(known)
  return {
    rows,
    checkpoints: all.length,
    newest,
    ...(broken && {
      broken: `the chain of writer ${broken.writer} is broken at row ${broken.number}: ${broken.why}`,
    }),
  }
}
