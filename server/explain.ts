/** What a person of this server would be asked at one of its apps, and why. */
import { type Account, type ClientRules, type Explanation, explain, smsCountries } from '../interactions/index.ts'
import type { Client, Company, Database, User } from './stores.ts'

/** What an app asks for. */
export interface Request {
  acr?: string | undefined
  /** Seconds. */
  maxAge?: number | undefined
  /** Seconds. */
  secondFactorMaxAge?: number | undefined
  prompt?: string | undefined
  scope?: string | undefined
}

/** The scopes that people agree to one by one. */
const SCOPES = ['openid', 'email', 'profile', 'offline_access']

/**
 * The same decision that the server makes, with what is stored now.
 *
 * `countries`: where this server sends text messages; none: nowhere.
 *
 * @param proved seconds ago, of a session; without it there is none
 * @param now seconds since 1970
 */
export async function explainFor(
  { consents, connections }: Pick<Database, 'consents' | 'connections'>,
  { user, account, client, countries = [] }: { user: User; account: Account; client: Client; countries?: string[] },
  request: Request,
  proved: Record<string, number> | undefined,
  now: number,
): Promise<Explanation> {
  const [redirectUri] = (client['redirect_uris'] as string[] | undefined) ?? []
  const prompt = request.prompt ?? ''
  const scopes = (request.scope ?? 'openid').split(' ')
  // As oidc-provider has it: without a question there is no access that outlives the session.
  const may = (scope: string) => scope !== 'offline_access' || prompt.split(' ').includes('consent')
  const agreed = await consents.find(account.id, client.client_id)
  const connection = await connections.connectionFor(user.email.split('@')[1] ?? '', client.client_id)
  return explain({
    company: connection?.mode === 'forward' ? connection.company : undefined,
    params: {
      acr_values: request.acr,
      max_age: request.maxAge,
      second_factor_max_age: request.secondFactorMaxAge,
      prompt: request.prompt,
    },
    client: {
      ...(client['sallyport'] as ClientRules | undefined),
      isPublic: client['token_endpoint_auth_method'] === 'none',
      redirectUri,
    },
    account,
    hasPassword: user.hasPassword,
    passwordWithdrawn: user.passwordWithdrawn,
    session: proved && Object.fromEntries(Object.entries(proved).map(([factor, ago]) => [factor, now - ago])),
    permissions: {
      asked: SCOPES.filter((scope) => scopes.includes(scope) && may(scope)),
      agreed: agreed?.permissions ?? [],
    },
    available: smsCountries(account, countries).length > 0 ? ['otp', 'sms'] : ['otp'],
    now,
  })
}

/** Who made a requirement, in plain words. @param source as the policy names it */
export function sourceInWords(source: string, companies: readonly Company[]): string {
  const [kind = '', rest = ''] = source.split(/:(.*)/s)
  const nameOf = (id: string) => companies.find((company) => company.id === id)?.name ?? id
  if (kind === 'role' && rest.includes('@')) {
    const at = rest.indexOf('@')
    return `the role ${rest.slice(0, at)} at ${nameOf(rest.slice(at + 1))}`
  }
  if (kind === 'role') return `the server role ${rest}`
  if (kind === 'company') {
    const since = companies.find(({ id }) => id === rest)?.mfa?.enforced_from
    return `${nameOf(rest)} demands it of everybody${since === undefined ? '' : ` since ${since}`}`
  }
  const words: Record<string, string> = {
    client: 'the app demands it of everybody',
    person: 'their own switch "Always require 2FA"',
    reset: 'the reset of their second factors, until they have one again',
    acr_values: 'the request, by acr_values',
    claims: 'the request, by claims',
    second_factor_max_age: 'the request, by second_factor_max_age',
  }
  return words[source] ?? source
}
