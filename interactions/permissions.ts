/** What an app asks for and what a grant holds, as the flat list of names in which people agree to it (kit/stores.ts, Consent). */
import type { Grant, KoaContextWithOIDC } from 'oidc-provider'

/** How somebody signed in: every app is told, so nobody is asked. */
const OF_THE_SIGN_IN = new Set([
  'sub',
  'sid',
  'iss',
  'acr',
  'amr',
  'auth_time',
  'second_factor_time',
  'factor_reset_at',
])
const CLAIM = 'claim'

/** Everything that this request asks for. */
export function permissionsAsked({ oidc }: KoaContextWithOIDC): string[] {
  const claims = [...oidc.requestParamClaims].filter((claim) => !OF_THE_SIGN_IN.has(claim))
  const ofApis = Object.entries(oidc.resourceServers ?? {}).flatMap(([api, server]) =>
    [...oidc.requestParamScopes].filter((scope) => server.scopes.has(scope)).map((scope) => `${api} ${scope}`),
  )
  return [...oidc.requestParamOIDCScopes, ...claims.map((claim) => `${CLAIM} ${claim}`), ...ofApis]
}

/** Everything that this grant lets its app do. */
export function permissionsOf(grant: Grant): string[] {
  const ofApis = Object.entries(grant.resources ?? {}).flatMap(([api, scopes]) =>
    scopes.split(' ').map((scope) => `${api} ${scope}`),
  )
  const scopes = grant.getOIDCScope().split(' ').filter(Boolean)
  return [...scopes, ...grant.getOIDCClaims().map((claim) => `${CLAIM} ${claim}`), ...ofApis]
}

/** Adds permissions to a grant. */
export function permit(grant: Grant, permissions: readonly string[]): void {
  for (const permission of permissions) {
    const [first = '', second] = permission.split(' ')
    if (second === undefined) grant.addOIDCScope(first)
    else if (first === CLAIM) grant.addOIDCClaims([second])
    else grant.addResourceScope(first, second)
  }
}
