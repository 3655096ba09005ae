/** Ends people's sessions from outside the server: by a command, after an administrative act. */
import {
  type Account,
  type Artifact,
  digest,
  endSessions,
  type SessionFacts,
  sessionAlive,
  type Told,
} from '../interactions/index.ts'
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

/** Writes down which apps could not be told that a session ended, for whoever does not wait for them. */
export function logUntold({ logger }: Pick<House, 'logger'>, told: Promise<Told>): void {
  told
    .then(({ failed }) => {
      for (const { clientId, why } of failed) logger.warn({ clientId, why }, 'back-channel logout')
    })
    .catch((error: Error) => logger.error({ error: error.message }, 'back-channel logout'))
}

/** Ends all sessions of these people. As {@link endTheseSessions}. */
export async function endSessionsOf(house: House, accountIds: string[], actor: string): Promise<Ended> {
  return endTheseSessions(house, await sessionsOf(house.database, accountIds), actor)
}

/** A live session, as it may be shown. */
export interface ShownSession {
  /** The beginning of what the audit calls `session`. It opens nothing. */
  id: string
  /** Client ids that it was used for. */
  apps: string[]
  /** Seconds since 1970. */
  created: number
  lastUsed: number
  /** Of the newest authorization, as far as the audit knows it. */
  ip?: string | undefined
  browser?: string | undefined
}

/** Of an audit id so many characters tell sessions apart. */
const SHOWN = 12
/** Audit rows that are looked through for the browser. */
const LOOKED_AT = 500

/** The live sessions of a person, newest use first. Nothing secret is in it. */
export async function shownSessions({ config, database }: House, account: Account): Promise<ShownSession[]> {
  const now = Math.floor(Date.now() / 1000)
  const limits = { idle: config.SALLYPORT_SESSION_IDLE_SECONDS, absolute: config.SALLYPORT_SESSION_ABSOLUTE_SECONDS }
  const rows = await database.auditReader.auditRows({
    accountId: account.id,
    event: 'authorization',
    limit: LOOKED_AT,
  })
  return (await sessionsOf(database, [account.id]))
    .flatMap(({ uid, payload }) => {
      const facts = payload as SessionFacts
      if (uid === undefined || !sessionAlive(facts, account, limits, now)) return []
      const session = digest(uid)
      const seen = rows.find((row) => row.session === session)
      return {
        id: session.slice(0, SHOWN),
        apps: Object.keys((payload['authorizations'] as object | undefined) ?? {}),
        created: facts.created ?? 0,
        lastUsed: facts.used ?? 0,
        ...(seen?.ip !== undefined && { ip: seen.ip }),
        ...(seen?.userAgent !== undefined && { browser: seen.userAgent }),
      }
    })
    .sort((a, b) => b.lastUsed - a.lastUsed)
}
