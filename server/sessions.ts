/** Ends people's sessions from outside the server: by a command, after an administrative act. */
import { type Artifact, endSessions, type Told } from '../interactions/index.ts'
import type { House } from './open.ts'
import { providerOf } from './provider.ts'
import type { Database } from './stores.ts'

/** How it went. */
export interface Ended extends Told {
  sessions: number
}

/** The live sessions of these people. */
export async function sessionsOf(
  { artifacts }: Pick<Database, 'artifacts'>,
  accountIds: string[],
): Promise<Artifact[]> {
  const now = Math.floor(Date.now() / 1000)
  return (await Promise.all(accountIds.map((id) => artifacts.sessionsOf(id, now)))).flat()
}

/**
 * Ends these sessions and tells their apps (OIDC Back-Channel Logout 1.0); waits for them, 2.5 seconds at the most. Raise the
 * epoch first: disabling, a new password and a reset of factors do.
 *
 * @param actor who did it, for the audit
 */
export async function endTheseSessions(house: House, sessions: Artifact[], actor: string): Promise<Ended> {
  if (sessions.length === 0) return { sessions: 0, told: [], failed: [] }
  const now = Math.floor(Date.now() / 1000)
  const provider = await providerOf(house)
  const { ended, told } = await endSessions({ provider, stores: house.database, now, about: { actor } }, sessions)
  const answers = await told
  for (const { clientId, why } of answers.failed) house.logger.warn({ clientId, why }, 'back-channel logout')
  return { sessions: ended, ...answers }
}

/** Ends all sessions of these people. As {@link endTheseSessions}. */
export async function endSessionsOf(house: House, accountIds: string[], actor: string): Promise<Ended> {
  return endTheseSessions(house, await sessionsOf(house.database, accountIds), actor)
}
