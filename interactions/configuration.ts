/** Composes oidc-provider's configuration with ours: the policy's Checks, the claims, the grants, the lifetimes. Pure. */
import {
  type AdapterFactory,
  type Client,
  type Configuration,
  errors,
  type FindAccount,
  interactionPolicy,
  type KoaContextWithOIDC,
} from 'oidc-provider'
import type { Decision, Situation } from './decision.ts'
import { DEVICE_CODE_SECONDS } from './device.ts'
import { FORMER_SECRETS } from './former-secrets.ts'
import { createAdapter } from './kit/oidc-adapter.ts'
import type { Outcome } from './kit/room.ts'
import { interactionPath } from './kit/router.ts'
import type { Account, ConsentStore } from './kit/stores.ts'
import { keepSuccessor } from './kit/trail.ts'
import { logoutFetch } from './logout.ts'
import type { Api, Completed } from './options.ts'
import { permissionsAsked, permissionsOf, permit } from './permissions.ts'
import {
  ACR_VALUES,
  type ClientRules,
  CONSENT_REASONS,
  type ConsentReason,
  claimsFault,
  consentReasons,
  factorResetAt,
  missingPermissions,
  PROMPTS,
  type PromptName,
  REASONS,
  type Reason,
  requirement,
  rulesOf,
  SET_UP,
  type SessionFacts,
  sessionAlive,
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
  /** The company whose identity provider vouched for the sign-in. */
  fedBy?: string
  /** It ends with the session of this uid. */
  expiresWithSession?: boolean
  sessionUid?: string
  /** Of an access token: what it says besides. */
  extra?: Record<string, unknown>
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

function resetClaim(client: unknown, account: Account): { factor_reset_at?: number } {
  const at = factorResetAt(clientRules(client), account)
  return at === undefined ? {} : { factor_reset_at: at }
}

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
              const { open, requirement } = await decided.of(ctx)
              // No question leads there: an answer for the app, not a page for the person.
              if (open?.reasons.includes('unreachable'))
                throw new errors.UnmetAuthenticationRequirements(requirement.unreachable)
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

/** Features that would issue something past the policy: a client that registers itself, a payment. */
const NOT_GUARDED = [
  'ciba',
  'clientIdMetadataDocument',
  'openid4vci',
  'registration',
  'registrationManagement',
  'richAuthorizationRequests',
] as const

/** Seconds that an assertion may be good for: its `jti` is kept that long (RFC 7523 §3). */
const ASSERTION_LIFETIME = 60 * 60

/** Signed by the client's own key: a shared secret vouches for nobody, since both sides hold it. */
const REQUEST_OBJECT_ALGS = ['ES256', 'PS256', 'RS256', 'Ed25519', 'EdDSA'] as const

/** `typ` is as it should be, or says nothing (RFC 8725 §3.11). */
const isOfType = (typ: unknown, expected: string) =>
  typ === undefined || ['jwt', expected, `application/${expected}`].includes(String(typ).toLowerCase())

const AUTHENTICATION_CLAIMS = ['acr', 'amr', 'auth_time', 'second_factor_time', 'factor_reset_at']

/** `claims` is no way round the scopes that a client is registered for. */
function notAllowed(
  claims: object,
  registered: string | undefined,
  ofScopes: NonNullable<Configuration['claims']>,
): string | undefined {
  if (registered === undefined) return undefined
  const asked = Object.values(claims).flatMap((place) => Object.keys((place ?? {}) as object))
  const scopes = Object.entries(ofScopes).map(([scope, names]) => ({ scope, names: namesOf(names) }))
  const allowed = scopes.filter(({ scope }) => registered.split(' ').includes(scope)).flatMap(({ names }) => names)
  const missing = scopes.find(({ names }) => names.some((name) => asked.includes(name) && !allowed.includes(name)))
  return missing && `claims asks for ${missing.names.join(', ')}, and this client has no scope ${missing.scope}`
}

function refusePayment(): never {
  throw new errors.InvalidAuthorizationDetails('payments cannot be confirmed here yet: leave authorization_details out')
}

const forItself = ({ oidc }: KoaContextWithOIDC): boolean => oidc.params?.['grant_type'] === 'client_credentials'

/** A token of a client for itself (RFC 6749 §4.4): of an API that lists it, for scopes of that API, never for none. */
function checkService({ oidc }: KoaContextWithOIDC, api: Api, client: Client): void {
  if (client.clientAuthMethod === 'none')
    throw new errors.UnauthorizedClient('a public client gets no token for itself')
  if (!api.serviceClients?.includes(client.clientId))
    throw new errors.InvalidTarget('this API gives the client no token for itself')
  const known = api.scope.split(' ')
  const asked = [...oidc.requestParamScopes]
  const unknown = asked.find((scope) => !known.includes(scope))
  if (asked.length === 0) throw new errors.InvalidScope('scope is missing: say what the token is for', '')
  if (unknown !== undefined) throw new errors.InvalidScope('this API has no such scope', unknown)
}

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
  const { stores, keyRing, limits, methods, now } = options
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
  const claims = {
    email: namesOf(configuration.claims?.['email'], 'email'),
    profile: namesOf(configuration.claims?.['profile'], 'name'),
  }
  /** Whom a token stands for while it stands: account state and epoch, for a refresh token the rank; and the app's own no. */
  const personOf = async (ctx: KoaContextWithOIDC, id: string, token: TokenFacts | undefined, holder?: Client) => {
    const record = await stores.accounts.find(id)
    if (!record || record.disabled) return undefined
    // A token that says no epoch was made by something that this rule does not know.
    if (token && token.epoch !== record.securityEpoch) return undefined
    // Its row stands as long as the server lets a session idle: a company may want it to end sooner.
    if (token?.expiresWithSession && token.sessionUid !== undefined && rulesOf(record).idle < limits.idle) {
      const session = await stores.artifacts.findByUid('Session', token.sessionUid, now())
      if (!sessionAlive(session?.payload as SessionFacts | undefined, record, limits, now())) return undefined
    }
    // Taken back while a code or token was being issued: it opens nothing.
    const client = holder ?? ctx.oidc?.client
    const agreed = !token || !client || clientRules(client).first_party === true
    if (!agreed && !(await stores.consents.find(id, client.clientId))) return undefined
    if (token?.kind === 'RefreshToken') {
      const needed = requirement({}, clientRules(client), record, methods(record), now(), token.fedBy)
      if (!stillSatisfies(needed, token.amr ?? [])) return undefined
    }
    const own = await configuration.findAccount?.(ctx, id, token as Parameters<FindAccount>[2])
    return configuration.findAccount && !own ? undefined : { record, own }
  }

  return {
    ...configuration,
    adapter: createAdapter({
      artifacts: stores.artifacts,
      sealer: keyRing,
      now,
      pushedKept: limits.interaction,
      client: options.client,
    }) satisfies AdapterFactory,
    acrValues: ACR_VALUES,
    // REQUIRED, OIDC Core §3.1.2.1: an app that leaves it out finds out before it registers a second one.
    allowOmittingSingleRegisteredRedirectUri: false,
    assertJwtClientAuthClaimsAndHeader(_ctx, { exp }, { typ }) {
      // Another JWT that the same key signed is no assertion (RFC 8725 §3.11).
      if (!isOfType(typ, 'client-authentication+jwt'))
        throw new errors.InvalidClientAuth('typ is not that of a client assertion')
      if (Number(exp) > now() + ASSERTION_LIFETIME)
        throw new errors.InvalidClientAuth(`exp of a client assertion is at most ${ASSERTION_LIFETIME} s ahead`)
    },
    claims: { ...configuration.claims, ...claims, openid: ['sub', ...AUTHENTICATION_CLAIMS] },
    clientDefaults: {
      id_token_signed_response_alg: alg,
      // So that every app is told why a payment is refused, and not that it was registered wrongly.
      authorization_details_types: ['payment'],
      ...configuration.clientDefaults,
    },
    // The library's own rule, said aloud: scripts of a public app's own origins, and of any app's for userinfo.
    clientBasedCORS:
      configuration.clientBasedCORS ??
      (({ oidc }, origin, { clientAuthMethod, redirectUris }) =>
        origin !== 'null' &&
        (oidc.route === 'userinfo' || clientAuthMethod === 'none') &&
        (redirectUris ?? []).some((uri) => new URL(uri).origin === origin)),
    conformIdTokenClaims: true,
    cookies: {
      keys: keyRing.cookieKeys(),
      ...configuration.cookies,
      names: { ...(options.issuer.startsWith('https:') && HTTPS_COOKIES), ...configuration.cookies?.names },
      long: { ...cookie, path: '/' },
      short: cookie,
    },
    enabledJWA: { requestObjectSigningAlgValues: [...REQUEST_OBJECT_ALGS], ...configuration.enabledJWA },
    extraClientMetadata: {
      ...configuration.extraClientMetadata,
      properties: namesOf(configuration.extraClientMetadata?.properties, 'sallyport', FORMER_SECRETS),
    },
    extraParams: {
      ...validatorsOf(configuration.extraParams),
      set_up(_ctx, value, client) {
        if (value === undefined) return
        if (!clientRules(client).self_service) throw new errors.InvalidRequest('set_up is for the pages of an account')
        if (!SET_UP.some((one) => one === value))
          throw new errors.InvalidRequest(`set_up must be ${SET_UP.join(' or ')}`)
      },
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
      const { record } = (ctx.oidc.account ?? {}) as { record?: Account }
      return {
        ...own,
        ...{ acr, amr, auth_time, ...(second_factor_time !== undefined && { second_factor_time }) },
        ...(record && resetClaim(ctx.oidc.client, record)),
      }
    },
    fetch: logoutFetch(configuration.fetch as typeof fetch | undefined),
    features: {
      ...configuration.features,
      claimsParameter: {
        enabled: true,
        assertClaimsParameter(_ctx, asked, client) {
          const fault =
            claimsFault(asked as Record<string, unknown>) ??
            notAllowed(asked, client.scope, { ...configuration.claims, ...claims })
          if (fault !== undefined) throw new errors.InvalidRequest(fault)
        },
      },
      devInteractions: { enabled: false },
      dPoP: { enabled: true },
      pushedAuthorizationRequests: { enabled: true, allowUnregisteredRedirectUris: false },
      requestObjects: {
        enabled: true,
        assertJwtClaimsAndHeader(_ctx, { sub }, { typ }, client) {
          // A browser carries it: it must not pass as the client's assertion, nor an assertion as it (RFC 9101 §10.8).
          if (sub === client.clientId) throw new errors.InvalidRequestObject('sub must not be the client')
          if (!isOfType(typ, 'oauth-authz-req+jwt'))
            throw new errors.InvalidRequestObject('typ is not oauth-authz-req+jwt')
        },
      },
      // Only the client that a token was given to (RFC 7009 §2.1).
      revocation: { enabled: true, allowedPolicy: async (_ctx, client, token) => token.clientId === client.clientId },
      clientCredentials: { enabled: true },
      introspection: {
        enabled: true,
        /** Whom a token was made for or given to, by its secret or key (RFC 7662 §2.1); and only while it stands. */
        async allowedPolicy(ctx, client, token) {
          if (client.clientAuthMethod === 'none') return false
          const { aud, accountId } = token as { aud?: string; accountId?: string }
          const api = aud === undefined ? undefined : await options.resource?.(aud)
          const holder =
            token.clientId === client.clientId ? client : await ctx.oidc.provider.Client.find(token.clientId!)
          if (!holder || (holder !== client && api?.client !== client.clientId)) return false
          if (token.kind === 'ClientCredentials') return api?.serviceClients?.includes(holder.clientId) === true
          return (await personOf(ctx, accountId!, token as TokenFacts, holder)) !== undefined
        },
      },
      openid4vci: { enabled: false },
      richAuthorizationRequests: {
        enabled: true,
        types: {
          // Known, so that an app learns why. A payment is confirmed on a page of its own, which is not there yet.
          payment: { validate: refusePayment },
        },
        authorizationDetailsForGrantSource: refusePayment,
        authorizationDetailsForAccessToken: refusePayment,
        authorizationDetailsForIntrospection: refusePayment,
      },
      resourceIndicators: {
        enabled: true,
        defaultResource(ctx, _client, oneOf) {
          if (oneOf === undefined && forItself(ctx))
            throw new errors.InvalidTarget('resource is missing: a token for the client itself is a token for an API')
          return oneOf as string[]
        },
        async getResourceServerInfo(ctx, id, client) {
          const api = await options.resource?.(id)
          if (!api) throw new errors.InvalidTarget(undefined, `no resource "${id}"`)
          if (forItself(ctx)) checkService(ctx, api, client)
          return {
            scope: api.scope,
            audience: id,
            accessTokenTTL: limits.accessToken,
            accessTokenFormat: api.tokenFormat ?? 'jwt',
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
    // A verifier for a code that was asked for without a challenge is refused by the library (RFC 9700 §2.1.1).
    pkce: {
      required: (_ctx, client) => client.clientAuthMethod === 'none' || clientRules(client).pkce !== 'optional',
    },
    responseTypes: ['code'],
    rotateRefreshToken: true,
    scopes: namesOf(configuration.scopes, 'openid', 'offline_access', 'email', 'profile'),
    ttl: {
      ...configuration.ttl,
      AccessToken: limits.accessToken,
      AuthorizationCode: 60,
      DeviceCode: DEVICE_CODE_SECONDS,
      ClientCredentials: limits.accessToken,
      Grant: limits.refreshToken,
      IdToken: limits.idToken,
      Interaction: limits.interaction,
      RefreshToken: limits.refreshToken,
      // The library writes it at the end of every request. The policy looks at the two ends itself; a row past them may go.
      Session(_ctx, session) {
        const { created = now(), used = now() } = session as unknown as SessionFacts
        const end = Math.min(used + limits.idle, created + limits.absolute)
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
      const facts = token as TokenFacts | undefined
      const person = await personOf(ctx, id, facts)
      if (!person) return undefined
      const { record, own } = person
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
          ...(use === 'id_token' && resetClaim(ctx.oidc.client, record)),
          // Userinfo tells of the authentication only when `claims` asks for it, and then what its token says.
          ...(use === 'userinfo' &&
            Object.fromEntries(Object.entries(facts?.extra ?? {}).filter(([name]) => Object.hasOwn(claims, name)))),
        }),
      }
    },
  }
}
