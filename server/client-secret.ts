/** A client's secret is replaced; the former one stays good for a while, so that the app can be told the new one first. */
import { audited } from './audited.ts'
import { authenticatesBySecret, newClientSecret } from './changes.ts'
import { untilItHolds } from './seed/index.ts'
import { type Change, type Client, type Database, goodFormer, StoreConflict } from './stores.ts'

/** Seconds that a former secret may stay good. */
export const MAX_OVERLAP_SECONDS = 30 * 24 * 60 * 60
/** Former secrets that are good at the same time. */
const MOST_FORMER = 5

/** The new secret, shown this once. */
export interface Rotated {
  client_id: string
  client_secret: string
  /** Seconds since 1970: when the secret before stops being good. Left out: it has. */
  former_until?: number | undefined
}

/**
 * Makes a new secret. Others that were replaced before and are still good stay so until their own time; with an overlap of 0
 * none is good any more but the new one.
 *
 * @param overlap seconds, at most {@link MAX_OVERLAP_SECONDS}
 * @param now seconds since 1970
 * @throws {RangeError} when the overlap is longer
 * @throws {StoreConflict} when there is no such client, it has no secret, or too many former ones are still good
 */
export async function rotateSecret(
  { directory, audit }: Pick<Database, 'directory' | 'audit'>,
  { clientId, overlap, now, actor }: { clientId: string; overlap: number; now: number; actor: string },
): Promise<Rotated> {
  if (overlap > MAX_OVERLAP_SECONDS) throw new RangeError(`an overlap is at most ${MAX_OVERLAP_SECONDS} seconds`)
  const former_until = overlap > 0 ? now + overlap : undefined
  const { value } = await untilItHolds(
    async () => {
      const client = await directory.client(clientId)
      if (!client) throw new StoreConflict(`there is no client "${clientId}": \`sallyport client list\` shows all`)
      return rotated(client, former_until, now)
    },
    async (change) => {
      const details = { former_until: former_until === undefined ? null : new Date(former_until * 1000).toISOString() }
      const act = { event: 'client.secret_rotated', actor, clientId, details }
      await audited(audit, act, () => directory.commit([change]))
    },
  )
  return { client_id: clientId, client_secret: value.client_secret!, ...(former_until && { former_until }) }
}

function rotated(was: Client, until: number | undefined, now: number): Change & { kind: 'client'; op: 'put' } {
  const { client_id: id, client_secret: secret, former_secrets: _, ...metadata } = was
  if (secret === undefined || !authenticatesBySecret(was))
    throw new StoreConflict(
      `client "${id}" has no secret: it authenticates by ${String(was['token_endpoint_auth_method'] ?? 'client_secret_basic')}`,
    )
  const former = until === undefined ? [] : [{ secret, until }, ...goodFormer(was, now)]
  if (former.length > MOST_FORMER)
    throw new StoreConflict(
      `client "${id}" has ${MOST_FORMER} former secrets that are still good: --overlap 0 ends them all`,
    )
  const value: Client = {
    client_id: id,
    ...metadata,
    client_secret: newClientSecret(),
    ...(former.length > 0 && { former_secrets: former }),
  }
  return { kind: 'client', op: 'put', value, was }
}
