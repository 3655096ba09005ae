/** "Payments": the smallest relying party that signs people in, steps up for a disbursement, and signs them out. */
import { createHash, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { decodeJwt } from 'jose'
import Koa, { type Context } from 'koa'
import * as oidc from 'openid-client'
import { type Call, callApi } from '../../examples/resource-server/step-up.ts'
import { API } from './seed.ts'

/** What the app remembers of a browser. */
interface Session {
  /** A request under way, and the call to the API that waits for it. */
  pending?: { verifier: string; state: string; call?: Call | undefined }
  idToken?: string
  accessToken?: string
  disbursements: number
}

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

/** Starts the app. @returns how to stop it */
export async function startRelyingParty(options: RelyingPartyOptions): Promise<{ close(): Promise<void> }> {
  const provider = await oidc.discovery(new URL(options.issuer), options.clientId, options.clientSecret, undefined, {
    // Loopback only: the demo's provider speaks plain http.
    execute: [oidc.allowInsecureRequests],
  })
  const sessions = new Map<string, Session>()
  const app = new Koa()
  app.use(async (ctx) => {
    ctx.set(
      'Content-Security-Policy',
      `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'`,
    )
    ctx.set('Cache-Control', 'no-store')
    const session = sessionOf(ctx, sessions)
    switch (`${ctx.method} ${ctx.path}`) {
      case 'GET /':
        return page(ctx, session)
      case 'GET /sign-in':
        return redirect(ctx, await request(session, {}))
      case 'POST /disburse':
        return await disburse(ctx, session, { url: `${options.api}/disbursements`, method: 'POST' })
      case 'GET /callback':
        return await callback(ctx, session)
      case 'GET /sign-out': {
        const { idToken } = session
        sessions.delete(ctx.cookies.get(COOKIE)!)
        const parameters = {
          post_logout_redirect_uri: `${options.url}/`,
          ...(idToken !== undefined && { id_token_hint: idToken }),
        }
        return redirect(ctx, oidc.buildEndSessionUrl(provider, parameters).href)
      }
      default:
        ctx.status = 404
    }
  })

  /** The call, now or after the step-up that the API asks for. It asks once: `again` is the call after one. */
  async function disburse(ctx: Context, session: Session, call: Call, again = false) {
    if (session.accessToken === undefined) return redirect(ctx, '/sign-in')
    const { response, stepUp } = await callApi(call, session.accessToken)
    if (stepUp && !again) return redirect(ctx, await request(session, stepUp, call))
    if (!response.ok) return failed(ctx, 'Not made', `the API answered ${response.status}`, '/sign-in')
    session.disbursements = ((await response.json()) as { made: number }).made
    redirect(ctx, '/')
  }

  async function request(session: Session, more: Record<string, string>, call?: Call): Promise<string> {
    const pending = { verifier: oidc.randomPKCECodeVerifier(), state: oidc.randomState(), call }
    session.pending = pending
    return oidc.buildAuthorizationUrl(provider, {
      redirect_uri: `${options.url}/callback`,
      scope: 'openid email payments',
      resource: API,
      state: pending.state,
      code_challenge: await oidc.calculatePKCECodeChallenge(pending.verifier),
      code_challenge_method: 'S256',
      ...more,
    }).href
  }

  async function callback(ctx: Context, session: Session) {
    const { pending } = session
    if (!pending) return redirect(ctx, '/')
    delete session.pending
    try {
      const tokens = await oidc.authorizationCodeGrant(
        provider,
        new URL(ctx.url, options.url),
        { pkceCodeVerifier: pending.verifier, expectedState: pending.state },
        { resource: API },
      )
      Object.assign(session, { idToken: tokens.id_token, accessToken: tokens.access_token })
      if (pending.call) return await disburse(ctx, session, pending.call, true)
      redirect(ctx, '/')
    } catch (error) {
      const { error: code, message } = error as { error?: string; message: string }
      failed(ctx, 'Not signed in', code ?? message, '/')
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

const COOKIE = 'payments_session'

function sessionOf(ctx: Context, sessions: Map<string, Session>): Session {
  const id = ctx.cookies.get(COOKIE) ?? ''
  const known = sessions.get(id)
  if (known) return known
  const fresh: Session = { disbursements: 0 }
  const name = randomBytes(24).toString('base64url')
  sessions.set(name, fresh)
  ctx.cookies.set(COOKIE, name, { httpOnly: true, sameSite: 'lax', overwrite: true })
  return fresh
}

function page(ctx: Context, { idToken, accessToken, disbursements }: Session) {
  if (idToken === undefined || accessToken === undefined)
    return html(ctx, 'Payments', '<p>You are not signed in.</p><p><a class="button" href="/sign-in">Sign in</a></p>')
  const token = (name: string, jwt: string) =>
    `<h2>${name}</h2><pre id="${name.split(' ')[0]!.toLowerCase()}-token">${escaped(JSON.stringify(decodeJwt(jwt), null, 2))}</pre>`
  html(
    ctx,
    'Payments',
    `<p>Signed in as <b>${escaped(String(decodeJwt(idToken).sub))}</b>. Disbursements made: <b id="disbursements">${disbursements}</b></p>
<form method="post" action="/disburse"><button class="button">Make a disbursement</button> <a class="button" href="/sign-out">Sign out</a></form>
${token('ID token', idToken)}${token('Access token', accessToken)}`,
  )
}

function failed(ctx: Context, title: string, why: string, back: string) {
  ctx.status = 400
  html(ctx, title, `<p>${escaped(why)}</p><p><a class="button" href="${back}">Back</a></p>`)
}

const STYLE = `:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}body{max-width:44rem;margin:3rem auto;padding:0 1rem}.button{display:inline-block;font:inherit;color:inherit;background:none;cursor:pointer;padding:.6rem 1rem;border:1px solid;border-radius:.5rem;text-decoration:none}pre{overflow-x:auto;padding:1rem;border:1px solid #8885;border-radius:.5rem}`
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64')

function html(ctx: Context, title: string, body: string) {
  ctx.type = 'html'
  ctx.body = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${title}</title><style>${STYLE}</style><h1>${title}</h1>${body}</html>`
}

const escaped = (text: string) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

function redirect(ctx: Context, to: string) {
  ctx.redirect(to)
  ctx.status = 303
}
