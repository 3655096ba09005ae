/** Who reaches the account: its sessions, and the apps that a person agreed to. Each can be ended. */
import { z } from 'zod'
import { browserName, digest, endSessions, InteractionError, revokeConsent } from '../../interactions/index.ts'
import { logUntold, sessionsOf, shownSessions } from '../sessions.ts'
import { type AccountPage, type AccountVisit, accountPage, type OwnAccountParts } from './own.ts'

/** Ends these sessions, and does not wait for the apps that are told. @returns how many there were */
export async function endThese(
  { house, provider, now }: Pick<OwnAccountParts, 'house' | 'provider' | 'now'>,
  { ctx, account }: Pick<AccountVisit, 'ctx' | 'account'>,
  which: (uid: string) => boolean,
): Promise<number> {
  const { database } = house
  const sessions = (await sessionsOf(database, [account.id])).filter(({ uid }) => uid !== undefined && which(uid))
  const about = { actor: account.id, requestId: ctx.state['requestId'] as string }
  const { ended, told } = await endSessions({ provider, stores: database, now: now(), about }, sessions)
  logUntold(house, told)
  return ended
}

/**
 * What raised the epoch ends every other session; this one goes on under the new epoch. Under that one and no later: what somebody
 * else raised meanwhile ends this one too.
 */
export async function goOnAlone(parts: OwnAccountParts, visit: AccountVisit): Promise<number> {
  const { account, session, now } = visit
  const { artifacts } = parts.house.database
  const stored = await artifacts.findByUid('Session', session.uid, now)
  if (stored) await artifacts.save({ ...stored, payload: { ...stored.payload, epoch: account.securityEpoch + 1 } })
  return endThese(parts, visit, (uid) => uid !== session.uid)
}

/**
 * For what must not come after a new password, a reset or "this was not me" that somebody else made while this one was typed, hashed
 * or read: the epoch is taken first, by one write, and with it goes every link of before. Ends all other sessions.
 * @returns how many there were, and this visit as it goes on
 */
export async function claimEpoch(
  parts: OwnAccountParts,
  visit: AccountVisit,
): Promise<{ sessions: number; claimed: AccountVisit }> {
  const { account } = visit
  const { id, securityEpoch } = account
  if (!(await parts.house.database.directory.raiseEpoch(id, securityEpoch))) throw new InteractionError('form_expired')
  const sessions = await goOnAlone(parts, visit)
  return { sessions, claimed: { ...visit, account: { ...account, securityEpoch: securityEpoch + 1 } } }
}

export const sessionsPage = (parts: OwnAccountParts): AccountPage => {
  const { house, record, tell } = parts
  const { directory, outbox } = house.database
  return accountPage({
    proof: 'other',
    form: z.union([z.strictObject({ end: z.string().max(100) }), z.strictObject({ others: z.literal('yes') })]),

    async show({ account, session, messages }) {
      const sessions = await shownSessions(house, account)
      const names = new Map((await directory.clients()).map((one) => [one.client_id, String(one['client_name'] ?? '')]))
      return {
        view: 'account/sessions',
        title: 'account.sessions.title',
        locals: {
          sessions: sessions.map(({ id, apps, created, lastUsed, ip, browser }) => ({
            id,
            created,
            lastUsed,
            ip,
            here: digest(session.uid).startsWith(id),
            browser: browserName(browser ?? '') ?? messages.t('account.sessions.unknown'),
            apps: apps.flatMap((app) => names.get(app) || []),
          })),
        },
      }
    },

    async submit(visit, form) {
      const { ctx, account, session, letter } = visit
      const about = { actor: account.id, accountId: account.id, outcome: 'success' as const }
      if ('end' in form) {
        // Among the person's own: an id of somebody else's session ends nothing. This one is ended by signing out.
        const isIt = (uid: string) => uid !== session.uid && digest(uid).slice(0, 12) === form.end
        const ended = await endThese(parts, visit, isIt)
        if (ended > 0) await record(ctx, { ...about, event: 'account.session_ended', details: { session: form.end } })
        return { done: 'session_ended' }
      }
      const { sessions } = await claimEpoch(parts, visit)
      await record(ctx, { ...about, event: 'account.sessions_ended', details: { sessions } })
      await outbox.put(tell(account, 'sessions_ended', letter))
      return { done: 'sessions_ended' }
    },
  })
}

export const appsPage = ({ house: { database }, now }: OwnAccountParts): AccountPage =>
  accountPage({
    form: z.strictObject({ revoke: z.string().max(100) }),

    async show({ account }) {
      const consents = await database.consents.list(account.id)
      const apps = await Promise.all(
        consents.map(async ({ clientId, permissions, since }) => {
          const client = await database.directory.client(clientId)
          return {
            id: clientId,
            name: String(client?.['client_name'] ?? clientId),
            permissions: permissions.map(scopeOf),
            since,
          }
        }),
      )
      return { view: 'account/apps', title: 'account.apps.title', locals: { apps } }
    },

    async submit({ account, ctx }, { revoke }) {
      const about = { actor: account.id, requestId: ctx.state['requestId'] as string, ip: ctx.ip, now: now() }
      await revokeConsent(database, account.id, revoke, about)
      return { done: 'app_revoked' }
    },
  })

/** A permission (Consent in stores.ts) as the consent page words it. */
function scopeOf(permission: string): { key: string; api?: string; scope: string } {
  const [first = '', second] = permission.split(' ')
  if (second === undefined) return { key: `scope.${first}`, scope: first }
  if (first === 'claim') return { key: `scope.claim_${second}`, scope: second }
  return { key: `scope.${second}`, scope: second, api: first }
}
