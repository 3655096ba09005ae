/** What has to be done to a Provider after it was made: models, claims of this request, listeners, routes. */
import { bodyParser } from '@koa/bodyparser'
import type { Context, Middleware } from 'koa'
import { errors, type KoaContextWithOIDC, Provider } from 'oidc-provider'
import { clientRules, type Decided, type TokenFacts } from './configuration.ts'
import type { Decision, Situation } from './decision.ts'
import { createRecorder, type Happened } from './kit/audit.ts'
import { checkOrigin, formToken } from './kit/csrf.ts'
import { InteractionError } from './kit/errors.ts'
import { digest } from './kit/keyring.ts'
import type { Outcome, Room, Rule } from './kit/room.ts'
import { interactionPath, interactionRoutes, originOf } from './kit/router.ts'
import { requestId, type Screen, seeOther } from './kit/screen.ts'
import { StoreUnavailable } from './kit/stores.ts'
import type { Completed } from './options.ts'
import { acrOf, addProof, amrOf, merge, ROOM_OF, type SessionFacts, sessionAlive } from './policy.ts'

/** What {@link attach} needs besides the provider. */
export interface AttachParts {
  options: Completed
  decided: Decided
  decide: (situation: Situation) => Promise<Decision>
  rooms: Record<(typeof ROOM_OF)[keyof typeof ROOM_OF], Room>
  screen: Screen
}

type OwnSession = SessionFacts & {
  uid?: string
  amr?: string[]
  acr?: string
  loginTs?: number
  authorizations?: unknown
}

/** Makes the provider ours. Call it once, before the first request. */
export function attach(provider: Provider, parts: AttachParts): void {
  const { options, decided, decide, rooms, screen } = parts
  extendModels(provider, decided)
  claimsOfThisRequest(provider, decided)
  keepProofs(provider, options)
  const record = createRecorder(options.stores.audit, options.now)
  auditEvents(provider, options, decided, record)

  const rule: Rule = {
    async judge({ client, ...situation }) {
      const { account, open, requirement } = await decide({ ...situation, client: clientRules({ sallyport: client }) })
      return { account, open, because: requirement.because }
    },
    addProof,
    room: (prompt) => (prompt in ROOM_OF ? rooms[ROOM_OF[prompt as keyof typeof ROOM_OF]] : undefined),
  }
  const { stores, keyRing, now } = options
  provider.use(unavailable(provider, screen, options))
  provider.use(sessionCookie(provider))
  provider.use(switchPage(provider, screen, options))
  provider.use(postToGet(provider, screen, options))
  provider.use(interactionRoutes({ provider, rule, stores, keyRing, screen, record, now }))
}

/** Own fields of the rows: sessions keep factor times, tokens keep the epoch and the second factor's time. */
function extendModels(provider: Provider, decided: Decided): void {
  const extend = (Model: object, ...more: string[]) => {
    const { IN_PAYLOAD } = Model as { IN_PAYLOAD: string[] }
    Object.defineProperty(Model, 'IN_PAYLOAD', { configurable: true, get: () => [...IN_PAYLOAD, ...more] })
  }
  extend(provider.Session, 'factors', 'epoch', 'created')

  for (const Model of [provider.AuthorizationCode, provider.RefreshToken, provider.AccessToken]) {
    extend(Model, 'epoch', 'secondFactorTime')
    const prototype = Model.prototype as unknown as { save(...rest: unknown[]): Promise<unknown> }
    const save = prototype.save
    // The code carries what the decision knew; refresh and access tokens copy it from what they are made of.
    prototype.save = function (this: TokenFacts & { accountId?: string }, ...rest: unknown[]) {
      const ctx = Provider.ctx as KoaContextWithOIDC | undefined
      if (ctx?.oidc && this.epoch === undefined && this.accountId !== undefined)
        Object.assign(this, origin(ctx, decided))
      return save.apply(this, rest)
    }
  }
}

function origin(ctx: KoaContextWithOIDC, decided: Decided): Pick<TokenFacts, 'epoch' | 'secondFactorTime'> {
  const decision = decided.settled(ctx)
  if (decision?.claims && decision.account)
    return defined({ epoch: decision.account.securityEpoch, secondFactorTime: decision.claims.second_factor_time })
  const { AuthorizationCode, RotatedRefreshToken, RefreshToken } = ctx.oidc.entities as Record<
    string,
    TokenFacts | undefined
  >
  const source = AuthorizationCode ?? RotatedRefreshToken ?? RefreshToken
  return defined({ epoch: source?.epoch, secondFactorTime: source?.secondFactorTime })
}

const defined = <T extends object>(object: T) =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>
  }

/** `acr`, `amr` and `auth_time` of this request: counted proofs only. The session's own stay what they are. */
function claimsOfThisRequest(provider: Provider, decided: Decided): void {
  for (const name of ['acr', 'amr'] as const)
    Object.defineProperty(provider.OIDCContext.prototype, name, {
      configurable: true,
      get(this: { ctx: object; session?: OwnSession }) {
        return decided.settled(this.ctx)?.claims?.[name] ?? this.session?.[name]
      },
    })

  // auth_time is read through session.authTime(), which knows no request: shadowed on this request's instance.
  provider.on('authorization.accepted', (ctx) => {
    const claims = decided.settled(ctx)?.claims
    if (claims)
      Object.defineProperty(ctx.oidc.session, 'authTime', { configurable: true, value: () => claims.auth_time })
  })
}

/** When a chain of interactions ends with a login, its proofs go into the session row. */
function keepProofs(provider: Provider, { limits, now }: Completed): void {
  provider.on('interaction.ended', (ctx) => {
    const outcome = ctx.oidc.result as Outcome | undefined
    const session = ctx.oidc.session as unknown as OwnSession | undefined
    const { login, proofs } = outcome ?? {}
    if (!login || !proofs || !session || login.accountId !== proofs.accountId || session.accountId !== proofs.accountId)
      return

    const { accountId: id, securityEpoch } = proofs
    const alive = sessionAlive(session, { id, securityEpoch, disabled: false }, limits, now())
    if (!alive) {
      // Signed in again on the cookie of a dead session: nothing of the old one is taken over.
      session.created = now()
      session.factors = {}
      session.authorizations = undefined
    }
    const factors = merge(session.factors ?? {}, proofs.times)
    session.factors = factors
    session.epoch = securityEpoch
    session.amr = amrOf(factors)
    session.acr = acrOf(factors)
    session.loginTs = factors.pwd ?? proofs.times.pwd ?? now()
  })
}

/** Rows for what oidc-provider did. Its events are synchronous: a failed write is reported, it cannot undo the event. */
function auditEvents(
  provider: Provider,
  options: Completed,
  decided: Decided,
  record: (ctx: Context, happened: Happened) => Promise<void>,
): void {
  const report = (ctx: KoaContextWithOIDC, happened: Happened) => {
    const oidc = ctx.oidc as KoaContextWithOIDC['oidc'] | undefined
    const uid = (oidc?.entities.Session as { uid?: string } | undefined)?.uid
    record(ctx as unknown as Context, {
      clientId: oidc?.client?.clientId,
      cid: oidc?.entities.Interaction?.cid,
      session: uid && digest(uid),
      ...happened,
    }).catch((error: Error) =>
      options.onError(error, { requestId: requestId(ctx as unknown as Context), where: 'audit' }),
    )
  }

  provider.on('interaction.started', (ctx, prompt) => {
    const decision = decided.settled(ctx)
    const reasons = [...prompt.reasons, ...(decision?.requirement.because ?? [])]
    report(ctx, { event: `prompt.${prompt.name}`, outcome: 'success', accountId: decision?.account?.id, reasons })
  })
  provider.on('authorization.success', (ctx) => {
    const decision = decided.settled(ctx)
    const details = decision?.claims && {
      amr: decision.claims.amr,
      acr: decision.claims.acr,
      auth_time: decision.claims.auth_time,
    }
    const accountId = ctx.oidc.session?.accountId
    report(ctx, {
      event: 'authorization',
      outcome: 'success',
      accountId,
      reasons: decision?.requirement.because ?? [],
      details,
    })
  })
  provider.on('authorization.error', (ctx, error) => {
    report(ctx, { event: 'authorization', outcome: 'failure', reasons: [error.message] })
  })
  provider.on('grant.success', (ctx) => {
    const accountId = ctx.oidc.account?.accountId
    report(ctx, { event: `token.${ctx.oidc.params?.['grant_type']}`, outcome: 'success', accountId })
  })
  provider.on('grant.error', (ctx, error) => {
    const type = String(ctx.oidc.params?.['grant_type'] ?? 'unknown').slice(0, 60)
    report(ctx, { event: `token.${type}`, outcome: 'failure', reasons: [error.message] })
  })
  provider.on('grant.revoked', (ctx) => report(ctx, { event: 'grant.revoked', outcome: 'success' }))
  provider.on('end_session.success', (ctx) => {
    report(ctx, { event: 'logout', outcome: 'success', accountId: ctx.oidc.session?.accountId })
  })
}

/** A store that does not answer: 503 and a page, whatever the library made of it, and nobody gets in. */
function unavailable(provider: Provider, screen: Screen, options: Completed): Middleware {
  const outage = new WeakSet<object>()
  provider.on('server_error', (ctx, error) => {
    options.onError(error, {
      requestId: requestId(ctx as unknown as Context),
      where: ctx.path.replace(/[\w-]{21,}/g, ':id'),
    })
    if (isOutage(error)) outage.add(ctx)
  })

  return async (ctx, next) => {
    try {
      await next()
      if (!outage.has(ctx)) return
    } catch (error) {
      if (!isOutage(error)) throw error
      options.onError(error as Error, { requestId: requestId(ctx), where: 'store' })
    }
    ctx.remove('Location')
    ctx.set('Retry-After', '5')
    if (ctx.accepts('json', 'html') === 'html') screen.message(ctx, 'unavailable', { status: 503, reference: true })
    else {
      ctx.status = 503
      ctx.body = { error: 'temporarily_unavailable', error_description: 'try again in a few seconds' }
    }
  }
}

const isOutage = (error: unknown): boolean =>
  error instanceof StoreUnavailable || (error instanceof Error && error.cause !== undefined && isOutage(error.cause))

/**
 * The library sets the session cookie on every answer. Ours has no expiry, so repeating what the browser sent says nothing
 * new, and from a slow request it would put back an id that a resume has renamed meanwhile; the cookie of an empty session
 * would overwrite a good one. Both are dropped.
 */
export function sessionCookie(provider: Provider): Middleware {
  return async function keepSessionCookie(ctx, next) {
    await next()
    const session = (ctx as unknown as Partial<KoaContextWithOIDC>).oidc?.session as
      | (OwnSession & { state?: unknown; destroyed?: boolean })
      | undefined
    if (!session || session.destroyed) return
    const name = provider.cookieName('session')
    const sent = ctx.cookies.get(name)
    const all = [ctx.response.headers['set-cookie'] ?? []].flat() as string[]
    const own = all.find((cookie) => cookie.startsWith(`${name}=`))
    const empty = session.accountId === undefined && session.state === undefined
    if (!own || !(empty || own.slice(name.length + 1).split(';')[0] === sent)) return
    const kept = all.filter((cookie) => !cookie.startsWith(`${name}=`) && !cookie.startsWith(`${name}.sig=`))
    ctx.remove('Set-Cookie')
    if (kept.length > 0) ctx.set('Set-Cookie', kept)
  }
}

/** A resume as somebody else: the library answers with a form that submits itself. Ours is a page with two buttons. */
function switchPage(provider: Provider, screen: Screen, { stores, keyRing }: Completed): Middleware {
  return async (ctx, next) => {
    await next()
    const { oidc } = ctx as unknown as Partial<KoaContextWithOIDC>
    const state = oidc?.session?.state as { secret?: string; postLogoutRedirectUri?: string } | undefined
    if (oidc?.route !== 'resume' || ctx.status !== 200 || !state?.secret) return
    const interaction = oidc.entities.Interaction!
    const outcome = interaction.result as Outcome | undefined
    const [present, other] = await Promise.all([
      stores.accounts.find(oidc.session!.accountId!),
      stores.accounts.find(outcome?.login?.accountId ?? ''),
    ])
    const client = await provider.Client.find(String(interaction.params['client_id']))
    ctx.remove('Content-Length')
    screen.show(
      ctx as unknown as Context,
      {
        view: 'switch-account',
        title: 'switch-account.title',
        locals: {
          signedInAs: present?.email ?? '',
          newAccount: other?.email ?? '',
          xsrf: state.secret,
          switchAction: oidc.urlFor!('end_session_confirm'),
          interaction: interaction.uid,
        },
      },
      {
        clientName: client?.clientName ?? client?.clientId ?? '',
        csrf: formToken(keyRing.mac('form', interaction.uid)),
        cancel: { action: interactionPath(provider, interaction.uid, 'cancel') },
        formActions: [originOf(String(interaction.params['redirect_uri']))],
      },
    )
  }
}

/** A query this long still fits Node's 16 KB of headers with room for cookies. */
const URL_LIMIT = 6 * 1024
const BODY_LIMIT = 56 * 1024
const PARKED_SECONDS = 60

/**
 * POST /auth and POST /session/end: answered with a 303 to the GET, so that Lax cookies come along and the library's own
 * POST support (which wants SameSite=None) stays off. Long bodies wait under a one-time handle.
 */
function postToGet(provider: Provider, screen: Screen, { stores, now }: Completed): Middleware {
  const parse = bodyParser({ enableTypes: ['form'], formLimit: BODY_LIMIT })
  const paths = () => [provider.pathFor('authorization'), provider.pathFor('end_session')]

  return async (ctx, next) => {
    if (ctx.method === 'POST' && ctx.path === provider.pathFor('end_session_confirm')) {
      try {
        checkOrigin(ctx, new URL(provider.issuer).origin)
      } catch (error) {
        if (!(error instanceof InteractionError)) throw error
        return screen.message(ctx, 'bad_request', { status: error.status })
      }
    }
    if (!paths().includes(ctx.path)) return next()

    if (ctx.method === 'POST') {
      if (!ctx.is('application/x-www-form-urlencoded')) return screen.message(ctx, 'bad_request', { status: 415 })
      try {
        await parse(ctx, async () => {})
      } catch (error) {
        return screen.message(ctx, 'bad_request', { status: (error as { status?: number }).status === 413 ? 413 : 400 })
      }
      // Encoded anew; a repeated parameter stays repeated, so that the library still refuses it.
      const query = new URLSearchParams(ctx.request.rawBody).toString()
      ctx.set('Cache-Control', 'no-store')
      if (query.length <= URL_LIMIT) return seeOther(ctx, `${ctx.path}?${query}`)
      const handle = crypto.randomUUID()
      const value = JSON.stringify({ path: ctx.path, query })
      await stores.pending.keep({
        owner: digest(handle),
        purpose: 'posted',
        value,
        expiresAt: now() + PARKED_SECONDS,
        now: now(),
      })
      return seeOther(ctx, `${ctx.path}?posted=${handle}`)
    }

    const { posted } = ctx.query
    if (typeof posted === 'string') {
      const value = await stores.pending.take(digest(posted), 'posted', now())
      const parked = value === undefined ? undefined : (JSON.parse(value) as { path: string; query: string })
      if (parked?.path !== ctx.path) return screen.message(ctx, 'posted_expired', { status: 400 })
      ctx.querystring = parked.query
    }
    return next()
  }
}

/** A library error for the log: what differs, without what was secret. */
export const describeError = (error: Error): string =>
  error instanceof errors.OIDCProviderError
    ? [error.error, error.error_description, error.error_detail].filter(Boolean).join(': ')
    : error.message
