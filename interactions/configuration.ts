/** Composes oidc-provider's configuration with ours: the policy's Checks, the claims, the grants, the lifetimes. Pure. */
import {
  type AdapterFactory,
  type Configuration,
  errors,
  interactionPolicy,
  type KoaContextWithOIDC,
} from 'oidc-provider'
import type { Decision, Situation } from './decision.ts'
import { DEVICE_CODE_SECONDS } from './device.ts'
import { createAdapter } from './kit/oidc-adapter.ts'
import type { Outcome } from './kit/room.ts'
import { interactionPath } from './kit/router.ts'
import type { Account, ConsentStore } from './kit/stores.ts'
import { keepSuccessor } from './kit/trail.ts'
import { logoutFetch } from './logout.ts'
import { type Completed, METHODS } from './options.ts'
import { permissionsAsked, permissionsOf, permit } from './permissions.ts'
import {
  ACR_VALUES,
  type ClientRules,
  CONSENT_REASONS,
  type ConsentReason,
  consentReasons,
  missingPermissions,
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

/** A third party asks the person for that, by `offline_access`. */
const outlivesSession = ({ first_party: firstParty, offline }: ClientRules) => firstParty === true && offline === true

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

/** What the person of a request lets its app do, read once. */
interface Consented {
  agreed(ctx: KoaContextWithOIDC): Promise<readonly string[]>
  question(ctx: KoaContextWithOIDC): Promise<{ reasons: ConsentReason[]; asked: string[]; missing: string[] }>
}

function consentOnce(consents: ConsentStore): Consented {
  const found = new WeakMap<object, Promise<readonly string[]>>()
  const agreed = (ctx: KoaContextWithOIDC) => {
    const { client, session } = ctx.oidc
    if (session?.accountId === undefined) return Promise.resolve([])
    const running =
      found.get(ctx) ?? consents.find(session.accountId, client!.clientId).then((consent) => consent?.permissions ?? [])
    found.set(ctx, running)
    return running
  }
  return {
    agreed,
    async question(ctx) {
      const { client, params, prompts, result, session } = ctx.oidc
      const rules = clientRules(client)
      const asked = permissionsAsked(ctx)
      const before = rules.first_party === true ? [] : await agreed(ctx)
      const redirectUri = params?.['redirect_uri']
      const reasons = consentReasons({
        client: rules,
        isPublic: client?.clientAuthMethod === 'none',
        redirectUri: typeof redirectUri === 'string' ? redirectUri : undefined,
        prompted: prompts.has('consent'),
        asked,
        agreed: before,
        confirmed: (result as Outcome | undefined)?.consent?.by === session?.accountId,
      })
      return { reasons, asked, missing: missingPermissions(rules, asked, before) }
    },
  }
}

/** The interaction policy: oidc-provider's, with every authentication Check replaced by the one decision. */
export function createPolicy(decided: Decided, consented: Consented) {
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
  consent.checks.clear()
  for (const reason of Object.keys(CONSENT_REASONS) as ConsentReason[])
    consent.checks.add(
      new Check(
        reason,
        CONSENT_REASONS[reason],
        'consent_required',
        async (ctx) => (await consented.question(ctx)).reasons.includes(reason),
        async (ctx) => {
          const { asked, missing } = await consented.question(ctx)
          return { asked, missing }
        },
      ),
    )
  for (const [position, name] of PROMPTS.entries())
    if (name !== 'login') policy.add(new Prompt({ name }, ...checks(name)), position)
  return policy
}

/** Features that would issue something past the policy: an essential claim, a client that registers itself. */
const NOT_GUARDED = [
  'ciba',
  'claimsParameter',
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
  const consented = consentOnce(stores.consents)
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
      const { AuthorizationCode, DeviceCode, RefreshToken } = ctx.oidc.entities
      const source = (AuthorizationCode ?? DeviceCode ?? RefreshToken) as unknown as TokenFacts | undefined
      if (token.kind !== 'AccessToken' || !source) return own
      const { acr, amr, authTime: auth_time, secondFactorTime: second_factor_time } = source
      return { ...own, acr, amr, auth_time, ...(second_factor_time !== undefined && { second_factor_time }) }
    },
    fetch: logoutFetch(configuration.fetch as typeof fetch | undefined),
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
      policy: createPolicy(decided, consented),
      async url(ctx, interaction) {
        // A stale page of the former step leads on to this one. The library has forgotten the former by now; the path has not.
        const former = ctx.oidc.route.endsWith('resume') ? ctx.path.split('/').at(-1) : undefined
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
      DeviceCode: DEVICE_CODE_SECONDS,
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
      !(code.scopes.has('offline_access') || outlivesSession(clientRules(ctx.oidc.client))),

    /**
     * One grant per session and client, topped up with what was asked: a first party's by its registration, another's as
     * far as the person agreed. What a person agrees to outlives the session; the grant need not.
     */
    async loadExistingGrant(ctx) {
      const { client, provider, session } = ctx.oidc
      const { clientId } = client!
      const accountId = session!.accountId!
      const firstParty = clientRules(client).first_party === true
      const agreed = firstParty ? [] : await consented.agreed(ctx)
      const may = (permission: string) => firstParty || agreed.includes(permission)

      const id = session!.grantIdFor(clientId)
      const stored = id === undefined ? undefined : await provider.Grant.find(id)
      // Another person's, or from when the app could do more: that one is not gone on with.
      const found = stored?.accountId === accountId && permissionsOf(stored).every(may) ? stored : undefined
      const allowed = permissionsAsked(ctx).filter(may)
      if (!found && allowed.length === 0) return undefined
      const grant = found ?? new provider.Grant({ accountId, clientId })
      const before = JSON.stringify(grant)
      permit(grant, allowed)
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
      // Taken back while a code or token was being issued: it opens nothing.
      const client = ctx.oidc?.client
      if (
        facts &&
        client &&
        clientRules(client).first_party !== true &&
        !(await stores.consents.find(id, client.clientId))
      )
        return undefined
      if (facts?.kind === 'RefreshToken') {
        const needed = requirement({}, clientRules(client), record, METHODS, now())
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
