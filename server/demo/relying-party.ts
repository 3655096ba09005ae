/** "Payments": the smallest relying party that signs people in, steps up for a disbursement, and signs them out. */
import { createHash, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { decodeJwt } from 'jose'
import Koa, { type Context } from 'koa'
import * as oidc from 'openid-client'

const API = 'https://api.payments.example'

/** What the app remembers of a browser. */
interface Session {
  /** A request under way. */
  pending?: { verifier: string; state: string; purpose: 'sign-in' | 'disbursement' }
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
        return redirect(ctx, await request(session, 'sign-in', {}))
      case 'GET /disburse':
        // One code for one disbursement: proven in this very request.
        return redirect(ctx, await request(session, 'disbursement', { second_factor_max_age: '0' }))
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

  async function request(
    session: Session,
    purpose: 'sign-in' | 'disbursement',
    more: Record<string, string>,
  ): Promise<string> {
    const pending = { verifier: oidc.randomPKCECodeVerifier(), state: oidc.randomState(), purpose }
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
      if (pending.purpose === 'disbursement') session.disbursements += 1
      redirect(ctx, '/')
    } catch (error) {
      ctx.status = 400
      const { error: code, message } = error as { error?: string; message: string }
      html(ctx, 'Not signed in', `<p>${escaped(code ?? message)}</p><p><a class="button" href="/">Back</a></p>`)
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
<p><a class="button" href="/disburse">Make a disbursement</a> <a class="button" href="/sign-out">Sign out</a></p>
${token('ID token', idToken)}${token('Access token', accessToken)}`,
  )
}

const STYLE = `:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}body{max-width:44rem;margin:3rem auto;padding:0 1rem}.button{display:inline-block;padding:.6rem 1rem;border:1px solid;border-radius:.5rem;text-decoration:none}pre{overflow-x:auto;padding:1rem;border:1px solid #8885;border-radius:.5rem}`
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
