/** Composes oidc-provider's configuration with ours: the policy's Checks, the claims, the grants, the lifetimes. Pure. */
import {
  type AdapterFactory,
  type Configuration,
  errors,
  interactionPolicy,
  type KoaContextWithOIDC,
} from 'oidc-provider'
import type { Decision, Situation } from './decision.ts'
import { createAdapter } from './kit/oidc-adapter.ts'
import type { Outcome } from './kit/room.ts'
import { interactionPath } from './kit/router.ts'
import type { Account } from './kit/stores.ts'
import { keepSuccessor } from './kit/trail.ts'
import { type Completed, METHODS } from './options.ts'
import {
  ACR_VALUES,
  type ClientRules,
  PROMPTS,
  type PromptName,
  REASONS,
  type Reason,
  requirement,
  type SessionFacts,
  stillSatisfies,
} from './policy.ts'

const { Check, Prompt, base } = interactionPolicy

/** What tokens carry beside the library's own fields. */
export interface TokenFacts {
  kind?: string
  epoch?: number
  secondFactorTime?: number
  amr?: string[]
  acr?: string
  authTime?: number
}

/** The decision of each request, made once (Checks of a prompt run in parallel). */
export interface Decided {
  /** Decides, or returns what was decided in this request. */
  of(ctx: KoaContextWithOIDC): Promise<Decision>
  /** What was decided, for synchronous places. */
  settled(ctx: object): Decision | undefined
}

export const clientRules = (client: unknown): ClientRules =>
  (client as { sallyport?: ClientRules } | undefined)?.sallyport ?? {}

export function decideOnce(decide: (situation: Situation) => Promise<Decision>, now: () => number): Decided {
  const running = new WeakMap<object, Promise<Decision>>()
  const settled = new WeakMap<object, Decision>()

  const start = async (ctx: KoaContextWithOIDC) => {
    const { oidc } = ctx
    const interaction = oidc.entities.Interaction
    const outcome = oidc.result as Outcome | undefined
    const decision = await decide({
      params: { ...oidc.params },
      client: clientRules(oidc.client),
      outcome,
      session: oidc.session as unknown as SessionFacts,
      cid: interaction?.cid,
      started: outcome?.started ?? interaction?.iat ?? now(),
      loaded: (oidc.entities.Account as { record?: Account } | undefined)?.record,
    })
    settled.set(ctx, decision)
    return decision
  }

  return {
    of(ctx) {
      const decision = running.get(ctx) ?? start(ctx)
      running.set(ctx, decision)
      return decision
    },
    settled: (ctx) => settled.get(ctx),
  }
}

/** The interaction policy: oidc-provider's, with every authentication Check replaced by the one decision. */
export function createPolicy(decided: Decided) {
  const checks = (prompt: PromptName) =>
    (Object.keys(REASONS) as Reason[])
      .filter((reason) => REASONS[reason][0] === prompt)
      .map(
        (reason) =>
          new Check(
            reason,
            REASONS[reason][1],
            prompt === 'login' ? 'login_required' : 'interaction_required',
            async (ctx) => {
              const { open } = await decided.of(ctx)
              return open?.prompt === prompt && open.reasons.includes(reason)
            },
          ),
      )

  const policy = base()
  const login = policy.get('login')!
  // The library's own look at the session only: with a deferred login they would ask for ever.
  login.checks.clear()
  for (const check of checks('login')) login.checks.add(check)
  // `prompt=login` stays requestable; whether it is resolved, the policy says.
  const consent = policy.get('consent')!
  consent.checks.remove('native_client_prompt')
  consent.checks.add(
    new Check('redirect_not_bound', 'public client without an https redirect URI', 'consent_required', (ctx) => {
      // Nobody can tell who listens there, so being a first party does not make it silent (RFC 8252 §8.6).
      const { client, params, result } = ctx.oidc
      const bound = client?.clientAuthMethod !== 'none' || String(params?.['redirect_uri'] ?? '').startsWith('https://')
      return !bound && !result?.consent
    }),
  )
  for (const [position, name] of PROMPTS.entries())
    if (name !== 'login') policy.add(new Prompt({ name }, ...checks(name)), position)
  return policy
}

/** Features that would issue something past the policy: an essential claim, a device, a client that registers itself. */
const NOT_GUARDED = [
  'ciba',
  'claimsParameter',
  'deviceFlow',
  'introspection',
  'registration',
  'registrationManagement',
  'richAuthorizationRequests',
] as const

/** `__Host-` and `__Secure-` keep other hosts of the domain from setting them. The two of an interaction have a path of their own. */
const HTTPS_COOKIES = {
  session: '__Host-_session',
  interaction: '__Secure-_interaction',
  resume: '__Secure-_interaction_resume',
}

/** The app's names and ours, each once. */
const namesOf = (given: object | null | undefined, ...ours: string[]): string[] => [
  ...new Set([...ours, ...(isIterable(given) ? given : Object.keys(given ?? {}))]),
]
const isIterable = (value: unknown): value is Iterable<string> => Symbol.iterator in Object(value)

/** The app's own parameters of an authorization request. */
const validatorsOf = (given: Configuration['extraParams']) =>
  isIterable(given) ? Object.fromEntries([...given].map((name) => [name, null])) : given

/**
 * The configuration an app gave, extended. What the app set for other purposes stays; what proves who signs in is ours.
 *
 * @throws {TypeError} for a feature that the policy does not guard. oidc-provider checks the rest
 */
export function extendConfiguration(configuration: Configuration, options: Completed, decided: Decided): Configuration {
  const { stores, keyRing, limits, now } = options
  const features = configuration.features as Record<string, { enabled?: boolean } | undefined> | undefined
  for (const name of NOT_GUARDED)
    if (features?.[name]?.enabled)
      throw new TypeError(
        `features.${name}: not supported: it would issue what the policy has not decided; leave it out`,
      )
  // An app that has RSA keys only goes on with them.
  const alg = configuration.jwks?.keys.some(({ crv }) => crv === 'P-256') ? 'ES256' : 'RS256'
  const cookie = { signed: true, httpOnly: true, sameSite: 'lax' } as const

  return {
    ...configuration,
    adapter: createAdapter({
      artifacts: stores.artifacts,
      sealer: keyRing,
      now,
      client: options.client,
    }) satisfies AdapterFactory,
    acrValues: ACR_VALUES,
    // REQUIRED, OIDC Core §3.1.2.1: an app that leaves it out finds out before it registers a second one.
    allowOmittingSingleRegisteredRedirectUri: false,
    claims: {
      ...configuration.claims,
      openid: ['sub', 'acr', 'amr', 'auth_time', 'second_factor_time'],
      email: namesOf(configuration.claims?.['email'], 'email'),
      profile: namesOf(configuration.claims?.['profile'], 'name'),
    },
    clientDefaults: { id_token_signed_response_alg: alg, ...configuration.clientDefaults },
    conformIdTokenClaims: true,
    cookies: {
      keys: keyRing.cookieKeys(),
      ...configuration.cookies,
      names: { ...(options.issuer.startsWith('https:') && HTTPS_COOKIES), ...configuration.cookies?.names },
      long: { ...cookie, path: '/' },
      short: cookie,
    },
    extraClientMetadata: {
      ...configuration.extraClientMetadata,
      properties: namesOf(configuration.extraClientMetadata?.properties, 'sallyport'),
    },
    extraParams: {
      ...validatorsOf(configuration.extraParams),
      second_factor_max_age(_ctx, value) {
        if (value !== undefined && !/^\d{1,9}$/.test(String(value)))
          throw new errors.InvalidRequest('second_factor_max_age must be a whole number of seconds')
      },
    },
    async extraTokenClaims(ctx, token) {
      const own = await configuration.extraTokenClaims?.(ctx, token)
      const { AuthorizationCode, RefreshToken } = ctx.oidc.entities
      const source = (AuthorizationCode ?? RefreshToken) as unknown as TokenFacts | undefined
      if (token.kind !== 'AccessToken' || !source) return own
      const { acr, amr, authTime: auth_time, secondFactorTime: second_factor_time } = source
      return { ...own, acr, amr, auth_time, ...(second_factor_time !== undefined && { second_factor_time }) }
    },
    features: {
      ...configuration.features,
      devInteractions: { enabled: false },
      dPoP: { enabled: false },
      pushedAuthorizationRequests: { enabled: false },
      // Only the client that a token was given to (RFC 7009 §2.1).
      revocation: { enabled: true, allowedPolicy: async (_ctx, client, token) => token.clientId === client.clientId },
      resourceIndicators: {
        enabled: true,
        async getResourceServerInfo(_ctx, id) {
          const resource = await options.resource?.(id)
          if (!resource) throw new errors.InvalidTarget(undefined, `no resource "${id}"`)
          return {
            ...resource,
            audience: id,
            accessTokenTTL: limits.accessToken,
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg } },
          }
        },
        useGrantedResource: () => true,
      },
    },
    interactions: {
      policy: createPolicy(decided),
      async url(ctx, interaction) {
        // A stale page of the former step leads on to this one. The library has forgotten the former by now; the path has not.
        const former = ctx.oidc.route === 'resume' ? ctx.path.split('/').at(-1) : undefined
        if (former) await keepSuccessor(stores.pending, former, interaction, now())
        return interactionPath(ctx.oidc.provider, interaction.uid)
      },
    },
    pkce: { required: () => true },
    responseTypes: ['code'],
    rotateRefreshToken: true,
    scopes: namesOf(configuration.scopes, 'openid', 'offline_access', 'email', 'profile'),
    ttl: {
      ...configuration.ttl,
      AccessToken: limits.accessToken,
      AuthorizationCode: 60,
      Grant: limits.refreshToken,
      IdToken: limits.idToken,
      Interaction: limits.interaction,
      RefreshToken: limits.refreshToken,
      // The library writes it at the end of every request. The policy looks at the two ends itself; a row past them may go.
      Session(_ctx, session) {
        const { created, idle } = session as unknown as SessionFacts
        const end = Math.min(idle ?? now() + limits.idle, (created ?? now()) + limits.absolute)
        return Math.max(1, end - now())
      },
    },

    // The library drops offline_access without prompt=consent before our code runs: a first party's registration says it.
    issueRefreshToken: async (_ctx, client, code) =>
      client.grantTypeAllowed('refresh_token') &&
      (code.scopes.has('offline_access') || clientRules(client).first_party === true),
    expiresWithSession: async (ctx, code) =>
      !code.scopes.has('offline_access') && clientRules(ctx.oidc.client).offline !== true,

    /** One grant per session and client, topped up with what was asked: first parties are agreed to by registration. */
    async loadExistingGrant(ctx) {
      const { client, provider, session } = ctx.oidc
      const { clientId } = client!
      const { accountId } = session!
      const id = session!.grantIdFor(clientId)
      const found = id === undefined ? undefined : await provider.Grant.find(id)
      const grant = found ?? new provider.Grant({ accountId: accountId!, clientId })
      if (grant.accountId !== accountId) return undefined
      if (clientRules(client).first_party !== true) return found
      const before = JSON.stringify(grant)
      grant.addOIDCScope([...ctx.oidc.requestParamOIDCScopes].join(' '))
      for (const [resource, server] of Object.entries(ctx.oidc.resourceServers ?? {})) {
        const scopes = [...ctx.oidc.requestParamScopes].filter((scope) => server.scopes.has(scope))
        if (scopes.length > 0) grant.addResourceScope(resource, scopes.join(' '))
      }
      if (!found || JSON.stringify(grant) !== before) await grant.save()
      return grant
    },

    /** Account state, epoch and, for a refresh, rank are checked wherever a token is used. */
    async findAccount(ctx, id, token) {
      const record = await stores.accounts.find(id)
      if (!record || record.disabled) return undefined
      const facts = token as TokenFacts | undefined
      // A token that says no epoch was made by something that this rule does not know.
      if (facts && facts.epoch !== record.securityEpoch) return undefined
      if (facts?.kind === 'RefreshToken') {
        const needed = requirement({}, clientRules(ctx.oidc.client), record, METHODS, now())
        if (!stillSatisfies(needed, facts.amr ?? [])) return undefined
      }
      // Claims of the app's own, and its own no.
      const own = await configuration.findAccount?.(ctx, id, token)
      if (configuration.findAccount && !own) return undefined
      return {
        accountId: id,
        record,
        claims: async (use, scope, claims, rejected) => ({
          ...(await own?.claims(use, scope, claims, rejected)),
          sub: id,
          email: record.email,
          ...(record.name !== undefined && { name: record.name }),
          ...(use === 'id_token' &&
            facts?.secondFactorTime !== undefined && { second_factor_time: facts.secondFactorTime }),
        }),
      }
    },
  }
}
