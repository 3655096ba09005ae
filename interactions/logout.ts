/** Ends sessions and tells the apps of it (OpenID Connect Back-Channel Logout 1.0). */
import type { Provider } from 'oidc-provider'
import { digest } from './kit/keyring.ts'
import type { Artifact, AuditEvent, Stores } from './kit/stores.ts'

/** What a session row says of one app. */
interface Authorization {
  sid?: string
  grantId?: string
  /** The person let the app go on without the session (`offline_access`). */
  persistsLogout?: boolean
}

type OwnClient = {
  clientId: string
  backchannelLogoutUri?: string
  backchannelLogoutSessionRequired?: boolean
  /** oidc-provider's: one POST, 2.5 seconds, no redirect followed. @throws when the app does not answer 200 or 204 */
  backchannelLogout(sub: string, sid: string | undefined): Promise<void>
}

/** What became of the logout tokens. */
export interface Told {
  /** Client ids. */
  told: string[]
  failed: { clientId: string; why: string }[]
}

/** Who ends sessions. */
export interface EndingParts {
  provider: Pick<Provider, 'Client'>
  stores: Pick<Stores, 'artifacts' | 'audit'>
  /** Seconds since 1970. */
  now: number
  /** For the audit. */
  about?: Pick<AuditEvent, 'actor' | 'requestId' | 'cid'> | undefined
}

/**
 * Ends these sessions for good, with the tokens that are bound to them, and tells every app that was signed in to by one of them and
 * registered a `backchannel_logout_uri`. When it returns, the sessions have ended.
 *
 * It does not raise the epoch: what ends *all* sessions of a person does that first, so that no new one begins meanwhile.
 *
 * @param sessions rows of `sessionsOf`
 * @returns `told` resolves when all apps have answered, after 2.5 seconds at the most; an app that does not is no error
 */
export async function endSessions(
  parts: EndingParts,
  sessions: Artifact[],
): Promise<{ ended: number; told: Promise<Told> }> {
  const { stores, now } = parts
  for (const { uid, payload } of sessions) {
    if (uid !== undefined) await stores.artifacts.endSession(uid, now)
    for (const { grantId, persistsLogout } of Object.values(authorizationsOf(payload))) {
      if (grantId === undefined || persistsLogout) continue
      for (const model of ['AccessToken', 'RefreshToken', 'AuthorizationCode', 'DeviceCode'])
        await stores.artifacts.revokeByGrantId(model, grantId)
      await stores.artifacts.destroy('Grant', grantId, now)
    }
  }
  return { ended: sessions.length, told: tell(parts, sessions) }
}

async function tell({ provider, stores, now, about }: EndingParts, sessions: Artifact[]): Promise<Told> {
  const told: Told = { told: [], failed: [] }
  const bySubject = new Set<string>()
  const messages = sessions.flatMap(({ uid, accountId, payload }) =>
    Object.entries(authorizationsOf(payload)).map(async ([clientId, { sid }]) => {
      const client = (await provider.Client.find(clientId).catch(() => undefined)) as unknown as OwnClient | undefined
      if (!client?.backchannelLogoutUri || accountId === undefined) return
      // Without `sid` the token speaks of the person: once is enough.
      const subject = `${clientId} ${accountId}`
      if (!client.backchannelLogoutSessionRequired && bySubject.has(subject)) return
      bySubject.add(subject)
      const why = await client.backchannelLogout(accountId, sid).then(() => undefined, reasonOf)
      if (why === undefined) told.told.push(clientId)
      else told.failed.push({ clientId, why })
      await stores.audit.append({
        ...about,
        ...backchannelEvent(why),
        at: now,
        accountId,
        clientId,
        session: uid && digest(uid),
      })
    }),
  )
  await Promise.all(messages)
  return told
}

/** The audit's row of one logout token. @param why it failed; `undefined`: the app took it */
export const backchannelEvent = (why: string | undefined) =>
  ({
    event: 'logout.backchannel',
    outcome: why === undefined ? 'success' : 'failure',
    ...(why !== undefined && { reasons: [why] }),
  }) as const

/** Why an app could not be told, in a line. */
export function reasonOf(error: Error): string {
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : ''
  return `${error.message}${cause}`.slice(0, 300)
}

const authorizationsOf = (payload: Record<string, unknown>) =>
  (payload['authorizations'] as Record<string, Authorization> | undefined) ?? {}

/**
 * `fetch` for oidc-provider. A logout token goes where the operator registered it, inside the own network too; of the answer
 * only the status is read.
 */
export function logoutFetch(given: typeof fetch = fetch): typeof fetch {
  return async (input, init) => {
    if (!(init?.body instanceof URLSearchParams && init.body.has('logout_token'))) return given(input, init)
    const { dispatcher: _onlyPublicAddresses, ...rest } = init as RequestInit & { dispatcher?: unknown }
    const response = await given(input, rest)
    await response.body?.cancel()
    return new Response(null, { status: response.status })
  }
}
