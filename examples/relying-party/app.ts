/**
 * The smallest app that signs people in with openid-client, reads what was proven, asks for more where a page needs more,
 * and signs them out. Registered with `sallyport apply`: redirect URI `<url>/callback`, post-logout URI `<url>/`.
 */
import { randomBytes } from 'node:crypto'
import Koa, { type Context } from 'koa'
import * as oidc from 'openid-client'

/** A second factor that is not SMS. What is proven may be more than what was asked for: compare with all that is enough. */
const APP = 'urn:sallyport:acr:2fa-app'

/** What a page needs of the sign-in. */
interface Needs {
  acr?: string
  /** Seconds since the second factor. */
  secondFactorMaxAge?: number
}

const PAGES: Record<string, Needs> = {
  '/': {},
  '/beneficiaries': { acr: APP },
  '/transfer': { acr: APP, secondFactorMaxAge: 5 * 60 },
}

/** What the app keeps of a browser, under the name in its cookie. */
interface Session {
  idToken?: string
  claims?: oidc.IDToken
  /** A request that is under way, and the page it is for. */
  pending?: { verifier: string; state: string; page: string }
}

/** Where the provider and the app are, and who the app is. */
export interface RelyingParty {
  issuer: string
  clientId: string
  clientSecret: string
  /** The app's own address. */
  url: string
}

/** The app, not listening yet. */
export async function createApp({ issuer, clientId, clientSecret, url }: RelyingParty): Promise<Koa> {
  // Only on one's own machine: everywhere else openid-client refuses http by itself.
  const local = new URL(issuer).hostname === '127.0.0.1' ? { execute: [oidc.allowInsecureRequests] } : {}
  const provider = await oidc.discovery(new URL(issuer), clientId, clientSecret, undefined, local)
  const sessions = new Map<string, Session>()

  /** To the provider, and back to `page`. */
  async function ask(ctx: Context, session: Session, page: string, more: Record<string, string>) {
    const pending = { verifier: oidc.randomPKCECodeVerifier(), state: oidc.randomState(), page }
    session.pending = pending
    const parameters = {
      redirect_uri: `${url}/callback`,
      scope: 'openid email',
      state: pending.state,
      code_challenge: await oidc.calculatePKCECodeChallenge(pending.verifier),
      code_challenge_method: 'S256',
      ...more,
    }
    ctx.redirect(oidc.buildAuthorizationUrl(provider, parameters).href)
  }

  async function callback(ctx: Context, { pending }: Session) {
    if (!pending) return ctx.redirect('/')
    const { verifier: pkceCodeVerifier, state: expectedState, page } = pending
    const answer = new URL(ctx.url, url)
    const tokens = await oidc
      .authorizationCodeGrant(provider, answer, { pkceCodeVerifier, expectedState })
      .catch((error: { error?: string; message: string }) => error)
    // The person went back (`access_denied`), the state is another one, …
    if (!('access_token' in tokens)) return refuse(ctx, tokens.error ?? tokens.message)
    // A new name: whoever knew the one from before the sign-in has nothing.
    sessions.delete(ctx.cookies.get('app') ?? '')
    const name = randomBytes(24).toString('base64url')
    sessions.set(name, { idToken: tokens.id_token!, claims: tokens.claims()! })
    ctx.cookies.set('app', name, { httpOnly: true, sameSite: 'lax', overwrite: true })
    // Asked for once. To ask again would go round in circles.
    if (missing(tokens.claims(), PAGES[page]!)) return refuse(ctx, 'not proven enough for this page')
    ctx.redirect(page)
  }

  function signOut(ctx: Context, { idToken }: Session) {
    sessions.delete(ctx.cookies.get('app') ?? '')
    const hint = idToken === undefined ? {} : { id_token_hint: idToken }
    ctx.redirect(oidc.buildEndSessionUrl(provider, { post_logout_redirect_uri: `${url}/`, ...hint }).href)
    ctx.status = 303
  }

  const app = new Koa()
  app.use(async (ctx) => {
    const session = sessionOf(ctx, sessions)
    if (ctx.path === '/callback') return callback(ctx, session)
    if (ctx.path === '/sign-in') return ask(ctx, session, '/', {})
    if (ctx.path === '/sign-out' && ctx.method === 'POST') return signOut(ctx, session)
    const needs = PAGES[ctx.path]
    if (!needs) return
    const more = missing(session.claims, needs)
    if (more) return ask(ctx, session, ctx.path, more)
    ctx.body = { page: ctx.path, sub: session.claims?.sub, amr: session.claims?.['amr'], acr: session.claims?.acr }
  })
  return app
}

function refuse(ctx: Context, error: string) {
  ctx.status = 403
  ctx.body = { error }
}

/** The parameters to ask with, or `undefined` when nothing is missing. */
function missing(claims: oidc.IDToken | undefined, { acr, secondFactorMaxAge }: Needs) {
  const now = Math.floor(Date.now() / 1000)
  const proven = Number(claims?.['second_factor_time'] ?? 0)
  const more = {
    ...(acr !== undefined && claims?.acr !== acr && { acr_values: acr }),
    ...(secondFactorMaxAge !== undefined &&
      now - proven > secondFactorMaxAge && { second_factor_max_age: String(secondFactorMaxAge) }),
  }
  return Object.keys(more).length > 0 ? more : undefined
}

function sessionOf(ctx: Context, sessions: Map<string, Session>): Session {
  const known = sessions.get(ctx.cookies.get('app') ?? '')
  if (known) return known
  const session: Session = {}
  const name = randomBytes(24).toString('base64url')
  sessions.set(name, session)
  ctx.cookies.set('app', name, { httpOnly: true, sameSite: 'lax', overwrite: true })
  return session
}
