/** Administrative acts: nothing is done that the audit does not know of. */
import type { AuditEvent, AuditStore } from '../interactions/index.ts'

/** What is done to whom, by whom and why. */
export type Act = Pick<
  AuditEvent,
  'event' | 'accountId' | 'clientId' | 'details' | 'requestId' | 'ip' | 'userAgent'
> & { actor: string }

/**
 * Writes down what is about to be done, does it, and writes down how it ended: of a process that dies in between the
 * audit still knows what it was about to do.
 *
 * @param work may answer with more details for the last row
 * @throws whatever the audit or the act throws; an act that cannot be written down is not begun
 */
export async function audited(
  audit: AuditStore,
  act: Act,
  work: () => Promise<AuditEvent['details'] | void>,
): Promise<void> {
  const now = () => Math.floor(Date.now() / 1000)
  const { event, details, ...about } = act
  await audit.append({
    ...about,
    event: 'administration.begun',
    outcome: 'success',
    at: now(),
    details: { act: event, ...details },
  })
  let more: AuditEvent['details'] | void
  try {
    more = await work()
  } catch (error) {
    await audit.append({ ...act, outcome: 'failure', at: now(), reasons: [(error as Error).message] })
    throw error
  }
  await audit.append({
    ...act,
    outcome: 'success',
    at: now(),
    ...((details || more) && { details: { ...details, ...more } }),
  })
}
