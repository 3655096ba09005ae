/** What stands around oidc-provider's own routes: each middleware mends one thing of its answers. */
import { createHash } from 'node:crypto'
import { bodyParser } from '@koa/bodyparser'
import type { Context, Middleware } from 'koa'
import type { KoaContextWithOIDC, Provider } from 'oidc-provider'
import { HashingOverloaded } from './factors/password.ts'
import { comesFrom, formToken } from './kit/csrf.ts'
import { createFloodGuard } from './kit/flood.ts'
import { basePath, networkOf } from './kit/network.ts'
import { goTo, unpark } from './kit/parked.ts'
import type { Outcome } from './kit/room.ts'
import { formActionsOf, interactionPath, originOf } from './kit/router.ts'
import { isOneOf, pathOf, routeOf } from './kit/routes.ts'
import { inLanguage, requestId, type Screen, seeOther } from './kit/screen.ts'
import type { StoreUnavailable } from './kit/stores.ts'
import type { Completed } from './options.ts'
import type { SessionFacts } from './policy.ts'

/**
 * Cookies signed with the provider's keys. Mounted in an app, a request has the app's, which oidc-provider uses for half of
 * its cookies: they would fail without keys there, and be lost with others. The app gets its own back.
 */
export function ownCookies(provider: Provider): Middleware {
  return async (ctx, next) => {
    if (ctx.app === (provider as unknown)) return next()
    const { cookies } = ctx
    ctx.cookies = provider.createContext(ctx.req, ctx.res).cookies
    ctx.cookies.secure = ctx.secure
    try {
      await next()
    } finally {
      ctx.cookies = cookies
    }
  }
}

/** Where apps and APIs ask: no page, no session cookie, no form. */
const FOR_APPS = ['jwks', 'token', 'userinfo', 'revocation', 'introspection']

/** Leaves out a middleware for people where an app asks: each one costs every answer a little. It keeps its name. */
export function forPeople(provider: Provider): (middleware: Middleware) => Middleware {
  const apps = new Set(FOR_APPS.flatMap((name) => pathOf(provider, name) ?? []))
  return (middleware) => {
    const gated: Middleware = (ctx, next) => (apps.has(ctx.path) ? next() : middleware(ctx, next))
    return Object.defineProperty(gated, 'name', { value: middleware.name })
  }
}

/** Too many passwords at once, or a store that does not answer: 503 and a page, whatever the library made of it, and nobody gets in. */
export function unavailable(provider: Provider, screen: Screen, options: Completed): Middleware {
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
      if (error instanceof HashingOverloaded) {
        ctx.set('Retry-After', String(error.retryAfter))
        return screen.message(ctx, 'busy', { status: 503 })
      }
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

/** {@link StoreUnavailable} by its name: of a package that is installed twice, or loaded twice, there are two classes. */
const isOutage = (error: unknown): boolean =>
  error instanceof Error &&
  (error.name === ('StoreUnavailable' satisfies StoreUnavailable['name']) || isOutage(error.cause))

/**
 * The library sets the session cookie on every answer. Ours has no expiry, so repeating what the browser sent says nothing
 * new, and from a slow request it would put back an id that a resume has renamed meanwhile; the cookie of an empty session
 * would overwrite a good one. Both are dropped.
 */
export function sessionCookie(provider: Provider): Middleware {
  return async function keepSessionCookie(ctx, next) {
    await next()
    const session = (ctx as unknown as Partial<KoaContextWithOIDC>).oidc?.session as
      | (SessionFacts & { state?: unknown; destroyed?: boolean })
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

/** Discovery names what works (OIDC Discovery §3): type `payment` is known, and refused until it can be confirmed. */
export function discovery(): Middleware {
  return async (ctx, next) => {
    await next()
    if ((ctx as unknown as Partial<KoaContextWithOIDC>).oidc?.route !== 'discovery') return
    const { authorization_details_types_supported: _known, ...document } = ctx.body as Record<string, unknown>
    ctx.body = document
  }
}

const RESUMES = new Set(['resume', 'device_resume'])

/** A resume as somebody else: the library answers with a form that submits itself. Ours is a page with two buttons. */
export function switchPage(provider: Provider, screen: Screen, { stores, keyRing }: Completed): Middleware {
  return async (ctx, next) => {
    await next()
    const { oidc } = ctx as unknown as Partial<KoaContextWithOIDC>
    const state = oidc?.session?.state as { secret: string; postLogoutRedirectUri?: string } | undefined
    if (!oidc || !RESUMES.has(oidc.route ?? '') || ctx.status !== 200 || !state?.postLogoutRedirectUri) return
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
        formActions: formActionsOf(interaction.params),
      },
    )
  }
}

/**
 * `response_mode=form_post`: the library's page submits itself by a script. It may run that one script and post to the
 * app that asked, nothing else.
 */
export function formPostPolicy(): Middleware {
  return async (ctx, next) => {
    await next()
    const params = (ctx as unknown as Partial<KoaContextWithOIDC>).oidc?.params
    if (params?.['response_mode'] !== 'form_post' || typeof ctx.body !== 'string') return
    const script = /<script>([\s\S]*?)<\/script>/.exec(ctx.body)?.[1]
    if (script === undefined) return
    const hash = createHash('sha256').update(script).digest('base64')
    ctx.set(
      'Content-Security-Policy',
      [
        "default-src 'none'",
        `script-src 'sha256-${hash}'`,
        `form-action ${originOf(String(params['redirect_uri']))}`,
        "frame-ancestors 'none'",
        "base-uri 'none'",
      ].join('; '),
    )
  }
}

/**
 * A sign-in that is begun leaves rows for an hour, whoever began it: so many per network and minute. A pushed request too,
 * where the app that pushes has no secret.
 */
export function floodGate(provider: Provider, screen: Screen, { limits, now }: Completed): Middleware {
  const guards = { auth: createFloodGuard(limits.startsPerMinute), push: createFloodGuard(limits.startsPerMinute) }
  // A device code and the page where it is typed leave a row each time.
  const always = [pathOf(provider, 'device_authorization'), pathOf(provider, 'code_verification')]
  const pushing = routeOf(provider, 'pushed_authorization_request')
  const starting = [routeOf(provider, 'authorization'), ...always]
  return async (ctx, next) => {
    const pushed = isOneOf(ctx.path, pushing)
    if (!pushed && !isOneOf(ctx.path, ...starting)) return next()
    const guard = pushed ? guards.push : guards.auth
    const network = networkOf(ctx.ip)
    const wait = guard.wait(network, now())
    if (wait !== undefined) {
      ctx.set('Retry-After', String(wait))
      if (!pushed) return screen.message(ctx, 'busy', { status: 429 })
      ctx.status = 429
      ctx.body = { error: 'temporarily_unavailable', error_description: 'too many requests: try again later' }
      return
    }
    await next()
    const { entities } = (ctx as unknown as Partial<KoaContextWithOIDC>).oidc ?? {}
    const counts = pushed
      ? entities?.Client?.clientAuthMethod === 'none'
      : entities?.Interaction || ctx.method === 'POST' || isOneOf(ctx.path, ...always)
    if (counts) guard.count(network, now())
  }
}

/** Signing out where nobody is signed in: the library answers with a form that submits itself. There is nothing to ask. */
export function nobodyToSignOut(provider: Provider): Middleware {
  return async (ctx, next) => {
    await next()
    const { oidc } = ctx as unknown as Partial<KoaContextWithOIDC>
    if (oidc?.route !== 'end_session' || ctx.status !== 200 || oidc.session?.accountId !== undefined) return
    const { postLogoutRedirectUri, state } = (oidc.session?.state ?? {}) as Record<string, string | undefined>
    const target = new URL(postLogoutRedirectUri ?? provider.urlFor('end_session_success'))
    if (postLogoutRedirectUri !== undefined && state !== undefined) target.searchParams.set('state', state)
    ctx.body = null
    ctx.remove('Content-Length')
    seeOther(ctx, target.href)
  }
}

/** The page at the end of a logout is asked for by a request of its own: it is told the language of the first. */
export function keepLanguage(provider: Provider): Middleware {
  return async (ctx, next) => {
    await next()
    const { location } = ctx.response.headers
    if (typeof location === 'string' && location.startsWith(provider.urlFor('end_session_success')))
      ctx.set('Location', inLanguage(location, ctx.query['ui_locales']))
  }
}

const BODY_LIMIT = 56 * 1024

/**
 * POST /auth and POST /session/end: answered with a 303 to the GET, so that Lax cookies come along and the library's own
 * POST support (which wants SameSite=None) stays off. Long bodies wait under a one-time handle.
 */
export function postToGet(provider: Provider, screen: Screen, { stores, now }: Completed): Middleware {
  const parse = bodyParser({ enableTypes: ['form'], formLimit: BODY_LIMIT })
  const paths = [routeOf(provider, 'authorization'), routeOf(provider, 'end_session')]
  const confirming = routeOf(provider, 'end_session_confirm')
  const base = basePath(provider.issuer)
  const { origin } = new URL(provider.issuer)

  return async (ctx, next) => {
    if (ctx.method === 'POST' && isOneOf(ctx.path, confirming) && !comesFrom(ctx, origin))
      return screen.message(ctx, 'cross_site', { status: 403 })
    if (!isOneOf(ctx.path, ...paths)) return next()

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
      return goTo(ctx, stores.pending, base + ctx.path, query, now())
    }

    const { posted } = ctx.query
    if (typeof posted === 'string') {
      const query = await unpark(stores.pending, posted, base + ctx.path, now())
      if (query === undefined) return screen.message(ctx, 'posted_expired', { status: 400 })
      ctx.querystring = query
    }
    return next()
  }
}
