/** Writes what was planned, all or nothing. */
import { type Artifact, passwordCounter, saml } from '../../interactions/index.ts'
import { audited } from '../audited.ts'
import { sessionsOf } from '../sessions.ts'
import { type Change, type Database, isChangedMeanwhile } from '../stores.ts'
import type { Plan } from './plan.ts'

/**
 * Plans and writes; plans anew when somebody else changed the same thing meanwhile, so that neither change is lost.
 *
 * @param planned makes the plan from what is stored now
 * @param apply writes it
 * @returns the plan that was written
 */
export async function untilItHolds<P>(planned: () => Promise<P>, apply: (plan: P) => Promise<void>): Promise<P> {
  for (let tries = 1; ; tries += 1) {
    const plan = await planned()
    try {
      await apply(plan)
      return plan
    } catch (error) {
      if (!isChangedMeanwhile(error) || tries === TRIES) throw error
    }
  }
}

/** Each time somebody else came first. */
const TRIES = 10

/**
 * Writes the plan, all or nothing, and an audit row for each change.
 *
 * @param actor who did it, such as `operator:root`
 * @param endSessions ends the sessions of people who were removed or disabled or got a new password, and tells their apps
 * @throws {StoreConflict} when the database changed since the plan was made and no longer allows it
 * @throws {ChangedMeanwhile} when what the plan changes was changed since it was made
 */
export async function applyPlan(
  database: Database,
  { changes, lines, reason }: Plan,
  actor: string,
  endSessions?: (sessions: Artifact[]) => Promise<unknown>,
): Promise<void> {
  if (changes.length === 0) return
  const at = Math.floor(Date.now() / 1000)
  const why = reason === undefined ? {} : { reason }
  // A person who is removed takes the rows along: read before. Everybody else's epoch rises first.
  const removed = await sessionsOf(
    database,
    changes.flatMap((one) => (one.kind === 'user' && one.op === 'remove' ? [one.id] : [])),
  )
  const begun = {
    event: 'config.applied',
    actor,
    details: { changes: lines.slice(0, 50), count: lines.length, ...why },
  }
  await audited(database.audit, begun, async () => database.directory.commit(await withFirstKeys(changes, at)))
  // A new password opens what wrong ones had closed.
  const opened = changes.flatMap((change) =>
    change.kind === 'user' && change.op === 'put' && change.passwordHash !== undefined ? [change.value.email] : [],
  )
  await database.throttle.clear(opened.map(passwordCounter))
  const ended = changes.flatMap((change) =>
    change.kind === 'user' && change.op === 'put' && (change.value.disabled || change.passwordHash !== undefined)
      ? [change.value.id]
      : [],
  )
  await endSessions?.([...removed, ...(await sessionsOf(database, ended))])
  for (const [index, change] of changes.entries()) {
    const about = change.op === 'remove' ? change.id : 'id' in change.value ? change.value.id : change.value.client_id
    await database.audit.append({
      event: 'config.changed',
      outcome: 'success',
      at,
      actor,
      ...(change.kind === 'user' && { accountId: String(about) }),
      ...(change.kind === 'client' && { clientId: String(about) }),
      details: { change: lines[index] ?? null, ...confirmedDomains(change), ...(change.kind === 'connection' && why) },
    })
  }
}

/** Whoever applies a domain answers for it; one that DNS proves is confirmed by that (server/domain-proof.ts). */
function confirmedDomains(change: Change): { domains_confirmed?: string[] } {
  if (change.kind !== 'company' || change.op !== 'put') return {}
  const before = change.was?.domains ?? []
  const added = change.value.domains.filter((domain) => !before.includes(domain))
  return added.length > 0 ? { domains_confirmed: added } : {}
}

/** Our key pair of each new connection is made when it is written: a dry run makes none, and none stands in a plan. */
async function withFirstKeys(changes: Change[], now: number): Promise<Change[]> {
  const isNew = (change: Change) => change.kind === 'connection' && change.op === 'put' && !change.was
  if (!changes.some(isNew)) return changes
  const { newSpKey } = await saml()
  return changes.map((change) =>
    change.kind === 'connection' && change.op === 'put' && !change.was
      ? { ...change, firstKey: newSpKey(`Sallyport ${change.value.id}`, now) }
      : change,
  )
}
