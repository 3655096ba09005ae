/**
 * "Payments": a relying party that signs people in, and has the second factor proven anew where money is about to move: at the entry,
 * for a disbursement, for a change of the bank account, and after half an hour without use.
 */
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import Koa, { type Context } from 'koa'
import * as oidc from 'openid-client'
import { callApi } from '../../examples/resource-server/step-up.ts'
import { CONTENT_SECURITY_POLICY, home, message, tool } from './payments-pages.ts'
import { type Session, Sessions, signOut, type Transaction } from './payments-session.ts'
import { API } from './seed.ts'

/** How the app reaches its provider. */
export interface RelyingPartyOptions {
  issuer: string
  clientId: string
  clientSecret: string
  /** The app's own base URL. */
  url: string
  /** Where the Payments API listens. */
  api: string
}

/** Any second factor, as fresh as the entry wants it. Nobody is asked twice who has just signed in with one. */
const ENTRY = { acr_values: 'urn:sallyport:acr:2fa', fresh: 5 * 60 }
/** Seconds without use after which the tool is entered anew: as in earnest, and for a try. */
const IDLE = [30 * 60, 30]
/** Seconds before an access token ends that another one is fetched. */
const EARLY = 10

const now = () => Math.floor(Date.now() / 1000)

/** Starts the app. @returns how to stop it */
export async function startRelyingParty(options: RelyingPartyOptions): Promise<{ close(): Promise<void> }> {
  const provider = await oidc.discovery(new URL(options.issuer), options.clientId, options.clientSecret, undefined, {
    // Loopback only: the demo's provider speaks plain http.
    execute: [oidc.allowInsecureRequests],
  })
  const keys = createRemoteJWKSet(new URL(provider.serverMetadata().jwks_uri!))
  const sessions = new Sessions(IDLE[0]!)
  const app = new Koa()
  app.use(async (ctx) => {
    ctx.set('Content-Security-Policy', CONTENT_SECURITY_POLICY)
    ctx.set('Cache-Control', 'no-store')
    if (ctx.path === '/backchannel-logout' && ctx.method === 'POST') return endedThere(ctx)
    // Other ports of this machine are the same site: the cookie comes along with whatever their pages post.
    if (ctx.method === 'POST' && ctx.get('origin') !== new URL(options.url).origin)
      return message(ctx, 403, 'Not from here', 'Only pages of this app can post to it.')
    const session = sessions.of(ctx)
    switch (`${ctx.method} ${ctx.path}`) {
      case 'GET /':
        return home(ctx, session)
      case 'GET /sign-in':
        return redirect(ctx, await request(session, {}))
      case 'GET /payments':
        return await enter(ctx, session)
      case 'POST /disburse':
        return await carryOut(ctx, session, {
          what: 'disbursement',
          call: { url: `${options.api}/disbursements`, method: 'POST' },
        })
      case 'POST /bank-account': {
        const body = (await form(ctx)).get('account') ?? ''
        if (!/^\d{4,17}$/.test(body)) return tool(ctx, session, IDLE, 'Enter an account number: 4 to 17 digits.')
        return await carryOut(ctx, session, {
          what: 'bank account change',
          call: { url: `${options.api}/bank-account`, method: 'POST', body },
        })
      }
      case 'POST /go-on':
        return session.waiting ? await carryOut(ctx, session, session.waiting) : redirect(ctx, '/')
      case 'POST /idle':
        session.idle = IDLE.find((seconds) => String(seconds) === ctx.query['seconds']) ?? IDLE[0]!
        return redirect(ctx, '/payments')
      case 'GET /callback':
        return await callback(ctx, session)
      case 'GET /sign-out': {
        const { tokens } = session
        sessions.forget(ctx)
        const parameters = {
          post_logout_redirect_uri: `${options.url}/`,
          ...(tokens && { id_token_hint: tokens.id }),
        }
        return redirect(ctx, oidc.buildEndSessionUrl(provider, parameters).href)
      }
      default:
        ctx.status = 404
    }
  })

  /** The tool, for whoever has used it a short while ago; anybody else proves the second factor first. */
  async function enter(ctx: Context, session: Session) {
    if (session.tokens && session.used !== undefined && now() - session.used <= session.idle) {
      session.used = now()
      return tool(ctx, session, IDLE)
    }
    const second_factor_max_age = String(Math.min(ENTRY.fresh, session.idle))
    redirect(ctx, await request(session, { acr_values: ENTRY.acr_values, second_factor_max_age }, 'entry'))
  }

  /** The call, now or after the step-up that the API asks for. It asks once: `again` is the call after one. */
  async function carryOut(ctx: Context, session: Session, transaction: Transaction, again = false) {
    // Whoever has to sign in first finds it again.
    if (!again) session.waiting = transaction
    const token = await accessToken(session)
    if (token === undefined) return redirect(ctx, '/')
    const { response, stepUp, again: call } = await callApi(transaction.call, token)
    if (stepUp && !again) return redirect(ctx, await request(session, stepUp, { ...transaction, call }))
    delete session.waiting
    if (!response.ok) return message(ctx, 400, 'Not made', `The API answered ${response.status}.`)
    const { made, ends } = (await response.json()) as { made?: number; ends?: string }
    if (made !== undefined) session.disbursements = made
    if (ends !== undefined) session.account = ends
    session.used = now()
    redirect(ctx, '/payments')
  }

  /** An access token lives for minutes; what it is refreshed by, as long as the session at the provider. */
  async function accessToken(session: Session): Promise<string | undefined> {
    const { tokens } = session
    if (tokens && now() >= tokens.until - EARLY)
      try {
        keep(session, await oidc.refreshTokenGrant(provider, tokens.refresh, { resource: API }))
      } catch {
        signOut(session)
      }
    return session.tokens?.access
  }

  /** @param then what goes on when the person comes back */
  async function request(session: Session, parameters: Record<string, string>, then?: 'entry' | Transaction) {
    const pending = {
      verifier: oidc.randomPKCECodeVerifier(),
      state: oidc.randomState(),
      parameters,
      then,
      began: now(),
    }
    session.pending = pending
    return oidc.buildAuthorizationUrl(provider, {
      redirect_uri: `${options.url}/callback`,
      scope: 'openid email payments',
      resource: API,
      state: pending.state,
      code_challenge: await oidc.calculatePKCECodeChallenge(pending.verifier),
      code_challenge_method: 'S256',
      ...parameters,
    }).href
  }

  async function callback(ctx: Context, session: Session) {
    const { pending } = session
    if (!pending) return redirect(ctx, '/')
    delete session.pending
    const { then, began, parameters } = pending
    try {
      const tokens = await oidc.authorizationCodeGrant(
        provider,
        new URL(ctx.url, options.url),
        { pkceCodeVerifier: pending.verifier, expectedState: pending.state },
        { resource: API },
      )
      const { second_factor_time: proven = 0 } = tokens.claims() as { second_factor_time?: number }
      const age = parameters['second_factor_max_age']
      // What was asked for is what was given, or it counts for nothing.
      if (age !== undefined && Number(proven) < began - Number(age)) throw new Error('the second factor is too old')
      keep(session, tokens)
    } catch (error) {
      const { error: code, error_description: why, message: what } = error as Error & Partial<Record<string, string>>
      return message(ctx, 400, titleOf(then), why ?? code ?? what ?? '')
    }
    if (then === undefined) return redirect(ctx, '/')
    session.used = now()
    return then === 'entry' ? redirect(ctx, '/payments') : carryOut(ctx, session, then, true)
  }

  function keep(
    session: Session,
    { id_token: id, access_token: access, refresh_token: refresh, expires_in }: oidc.TokenEndpointResponse,
  ) {
    session.tokens = {
      id: id ?? session.tokens!.id,
      access,
      refresh: refresh ?? session.tokens!.refresh,
      until: now() + (expires_in ?? 0),
    }
  }

  /** The provider tells when a session there has ended, after ten wrong codes for example (OIDC Back-Channel Logout 1.0 §2.6). */
  async function endedThere(ctx: Context) {
    try {
      const expected = { issuer: options.issuer, audience: options.clientId, typ: 'logout+jwt' }
      const { payload } = await jwtVerify((await form(ctx)).get('logout_token') ?? '', keys, {
        ...expected,
        currentDate: new Date(Date.now()),
      })
      sessions.endAt(String(payload['sid']))
      ctx.status = 200
    } catch {
      ctx.status = 400
    }
  }

  const server = createServer(app.callback())
  const { port, hostname } = new URL(options.url)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(Number(port), hostname, resolve)
  })
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const titleOf = (then: 'entry' | Transaction | undefined) =>
  then === undefined ? 'Not signed in' : then === 'entry' ? 'Not entered' : 'Not made'

const form = async (ctx: Context) => new URLSearchParams(await text(ctx.req))

function redirect(ctx: Context, to: string) {
  ctx.redirect(to)
  ctx.status = 303
}
