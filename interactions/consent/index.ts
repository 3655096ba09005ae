/** "May this app …?" Asked for third parties, by `prompt=consent`, and where anybody could hold the redirect URI. Answers `consent`. */
import { z } from 'zod'
import { definePage, person, type Room, type Visit } from '../kit/room.ts'
import type { AuditEvent, ConsentStore, Stores } from '../kit/stores.ts'

/** What this room stands on. */
export interface ConsentParts {
  consents: ConsentStore
  /** The name of an API (RFC 8707), as people know it. */
  apiName: (id: string) => Promise<string | undefined>
  /** Seconds that an app keeps its access with `offline_access`. */
  offlineSeconds: number
}

/** Asks a person what an app may do. What a third party may do is remembered; a first party is agreed to by registration. */
export const consent = ({ consents, apiName, offlineSeconds }: ConsentParts): Room => ({
  name: 'consent',
  pages: {
    '': definePage({
      form: z.strictObject({}),
      async show(visit) {
        const { account, client, permissions } = visit
        const { asked } = permissions
        const fresh = asking(visit)
        const named = (list: string[]) => Promise.all(list.map((permission) => nameOf(permission, apiName)))
        return {
          view: 'consent',
          title: client.firstParty ? 'consent.title' : 'consent.title_third_party',
          titleVars: { app: client.name },
          locals: {
            email: account?.email ?? '',
            thirdParty: !client.firstParty,
            links: { uri: client.uri, policy: client.policyUri, terms: client.tosUri },
            permissions: await named(fresh),
            before: await named(asked.filter((permission) => !fresh.includes(permission))),
            ...(asked.includes('offline_access') && { days: Math.ceil(offlineSeconds / (24 * 60 * 60)) }),
          },
        }
      },
      async submit(visit) {
        const { id } = person(visit)
        const { client, permissions, now } = visit
        if (!client.firstParty) await consents.remember(id, client.id, permissions.asked, now)
        const audit = { event: 'consent.given', details: { permissions: permissions.asked } }
        return { is: 'settled', outcome: { consent: { by: id } }, audit }
      },
    }),
  },
})

/** What the question is about: what is new, or everything when the app asks again for what it has. */
const asking = ({ permissions: { asked, missing } }: Visit) => (missing.length > 0 ? missing : asked)

/** A permission as the page says it: a scope or claim with a sentence of its own, or a scope of a named API. */
async function nameOf(
  permission: string,
  apiName: ConsentParts['apiName'],
): Promise<{ key: string; api?: string; scope: string }> {
  const [first = '', second] = permission.split(' ')
  if (second === undefined) return { key: `scope.${first}`, scope: first }
  if (first === 'claim') return { key: `scope.claim_${second}`, scope: second }
  return { key: `scope.${second}`, scope: second, api: (await apiName(first)) ?? first }
}

/**
 * Takes back everything that a person let an app do: it is asked for again, and the app's codes, refresh tokens and opaque
 * access tokens open nothing any more. JWT access tokens live out their minutes.
 *
 * @param about who does it, and what else the audit should say; `now` in seconds since 1970
 * @returns false when nothing was agreed to
 */
export async function revokeConsent(
  { consents, artifacts, audit }: Pick<Stores, 'consents' | 'artifacts' | 'audit'>,
  accountId: string,
  clientId: string,
  about: Pick<AuditEvent, 'actor' | 'details' | 'requestId' | 'ip'> & { now: number },
): Promise<boolean> {
  const { now: at, ...who } = about
  // The word first: what is issued after it finds no consent.
  const was = await consents.forget(accountId, clientId)
  await artifacts.revokeGrants(accountId, clientId)
  if (was) await audit.append({ ...who, event: 'consent.revoked', outcome: 'success', at, accountId, clientId })
  return was
}
