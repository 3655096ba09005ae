/** What identity providers see of us: our metadata, and where they have responses posted to. */
import { bodyParser } from '@koa/bodyparser'
import type { Context, Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import type { Recorder } from '../kit/audit.ts'
import { networkOf } from '../kit/network.ts'
import { interactionPath } from '../kit/router.ts'
import { type Screen, seeOther } from '../kit/screen.ts'
import type { Connection, ConnectionStore, FederationStore, ThrottleRule, ThrottleStore } from '../kit/stores.ts'
import { serviceProviderOf } from './connection.ts'
import { returnPage } from './index.ts'
import type { Received } from './saml/index.ts'

/** What the routes stand on. */
export interface SamlRoutesParts {
  provider: Provider
  connections: ConnectionStore
  federation: FederationStore
  throttle: ThrottleStore
  screen: Screen
  record: Recorder
  /** The app where a sign-in begins that the identity provider's own page has begun, when the connection names none. */
  defaultClient?: string | undefined
  now: () => number
}

/** Characters: 350 KB of Base64, written as a form writes it. */
const BODY_LIMIT = 512 * 1024
/** A company may be behind one address. What is refused leaves a row in the audit. */
const RESPONSES: ThrottleRule = { kind: 'window', limit: 300, seconds: 60 }

/** `/saml/:connection/metadata` and `/saml/:connection/acs`. */
export function samlRoutes(parts: SamlRoutesParts): Middleware {
  const { provider, connections, federation, throttle, screen, record, now } = parts
  const parse = bodyParser({ enableTypes: ['form'], formLimit: BODY_LIMIT })
  const saml = () => import('./saml/index.ts')

  return async (ctx, next) => {
    const match = /^\/saml\/([\w.-]{1,100})\/(metadata|acs)$/.exec(ctx.path)
    if (!match) return next()
    const [, id = '', part] = match
    const method = part === 'acs' ? 'POST' : 'GET'
    if (ctx.method !== method && !(method === 'GET' && ctx.method === 'HEAD')) {
      ctx.set('Allow', method === 'GET' ? 'GET, HEAD' : method)
      return screen.message(ctx, 'bad_request', { status: 405 })
    }
    const connection = await connections.connection(id)
    if (part === 'metadata') return metadata(ctx, connection)
    return consume(ctx, connection, id)
  }

  async function metadata(ctx: Context, connection: Connection | undefined) {
    if (!connection) return screen.message(ctx, 'not_found', { status: 404 })
    const { spMetadata } = await saml()
    ctx.type = 'application/samlmetadata+xml'
    ctx.body = spMetadata(serviceProviderOf(connection, provider.issuer))
  }

  /**
   * Takes a response. No cookie is looked at, none is set: what it says waits for the browser that asked, which this need not
   * be (OWASP ASVS 10.1.2, login CSRF).
   */
  async function consume(ctx: Context, connection: Connection | undefined, id: string) {
    const refuse = async (code: string, status = 400, more: { checks?: string[]; interaction?: string } = {}) => {
      const { checks, interaction } = more
      await record(ctx, {
        event: 'federation.response',
        outcome: 'failure',
        details: { connection: id, code, ...(checks && { checks }) },
      })
      const label = screen.messages(ctx).t('message.again')
      const link =
        interaction === undefined ? undefined : { href: interactionPath(provider, interaction, 'sso'), label }
      screen.message(ctx, 'sso_refused', { status, link, reference: true })
    }

    const key = `saml|${connection?.id ?? ''}|${networkOf(ctx.ip)}`
    const { allowed, retryAfter } = await throttle.take([{ key, rule: RESPONSES }], now())
    if (!allowed) {
      ctx.set('Retry-After', String(retryAfter))
      return screen.message(ctx, 'busy', { status: 429 })
    }
    if (!connection) return refuse('connection_unknown')
    if (connection.state !== 'active') return refuse('connection_state')
    if (!ctx.is('application/x-www-form-urlencoded')) return refuse('form', 415)
    try {
      await parse(ctx, async () => {})
    } catch (error) {
      return refuse('size', (error as { status?: number }).status === 413 ? 413 : 400)
    }

    const { receiveResponse, VerificationOverloaded } = await saml()
    const form = (ctx.request.body ?? {}) as Record<string, unknown>
    const verifying = {
      form,
      connection: serviceProviderOf(connection, provider.issuer),
      store: federation,
      now: now(),
    }
    let received: Received
    try {
      received = await receiveResponse(verifying)
    } catch (error) {
      if (!(error instanceof VerificationOverloaded)) throw error
      ctx.set('Retry-After', '2')
      return screen.message(ctx, 'busy', { status: 503 })
    }
    const { refusal, handle } = received
    const request = await federation.findRequest(handle, now())
    // Only of this connection: nobody learns of another's by its handle.
    const interaction = request?.connectionId === connection.id ? request.interaction : undefined
    if (!refusal) {
      if (interaction === undefined) return refuse('request')
      return seeOther(ctx, interactionPath(provider, interaction, returnPage(handle)))
    }
    const failed = received.checks.filter(({ passed }) => !passed).map(({ code }) => code)
    if (failed.length === 1 && refusal.code === 'unsolicited') return begin(ctx, connection, refuse)
    return refuse(refusal.code, 400, { checks: failed, ...(interaction !== undefined && { interaction }) })
  }

  /**
   * Somebody began at their identity provider. What it says of them is thrown away; a sign-in begins where every other one
   * does, at the app (OIDC Core §4). The identity provider knows them, so they notice nothing.
   */
  async function begin(
    ctx: Context,
    { id, client: own, domains }: Connection,
    refuse: (code: string) => Promise<void>,
  ) {
    const clientId = own ?? parts.defaultClient
    const client = clientId === undefined ? undefined : await provider.Client.find(clientId)
    const start = client?.['initiateLoginUri']
    if (typeof start !== 'string') return refuse('unsolicited')
    await record(ctx, {
      event: 'federation.unsolicited',
      outcome: 'success',
      clientId: client!.clientId,
      details: { connection: id },
    })
    const url = new URL(start)
    url.searchParams.set('iss', provider.issuer)
    url.searchParams.set('login_hint', `@${domains[0]}`)
    seeOther(ctx, url.href)
  }
}
