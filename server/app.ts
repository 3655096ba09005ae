/** The server: the provider as a koa app, with what only a server has around it. */
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { type AddressInfo, isIP } from 'node:net'
import type { Context, Middleware } from 'koa'
import { errors, type KoaContextWithOIDC, Provider } from 'oidc-provider'
import { describeError, type Screen, securityHeaders } from '../interactions/index.ts'
import { trustedProxies } from './config.ts'
import type { House } from './open.ts'
import { configurationOf, sallyportOf } from './provider.ts'
import type { Client } from './stores.ts'

/** A running server. */
export interface Running {
  /** The address it listens on. */
  url: string
  /** Takes no new request, answers those under way, closes the database. */
  close(): Promise<void>
}

/** Seconds between two sweeps of what has expired. */
const SWEEP_SECONDS = 5 * 60
/** Milliseconds that a slow request gets when the server stops. */
const GRACE_MS = 10_000

/** Starts to listen. @throws when the address is taken */
export async function startServer(house: House): Promise<Running> {
  const { config, database, logger } = house
  const provider = await createApp(house)
  const handle = provider.callback()
  const server = createServer((request, response) => {
    forward(request)
    void handle(request, response)
  })
  const forward = forwarding(house)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(config.PORT, config.HOST, resolve)
  })
  const sweep = setInterval(() => {
    database
      .sweep(Math.floor(Date.now() / 1000))
      .catch((error: Error) => logger.error({ error: error.message }, 'sweep'))
  }, SWEEP_SECONDS * 1000)
  sweep.unref()

  const { address, port, family } = server.address() as AddressInfo
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    async close() {
      clearInterval(sweep)
      await closed(server)
      await house.close()
    },
  }
}

/** The provider with all middleware of the server, not listening yet. */
export async function createApp(house: House): Promise<Provider> {
  const { config } = house
  const sallyport = sallyportOf(house)
  const issuer = config.SALLYPORT_ISSUER
  const provider = new Provider(issuer, sallyport.extendConfiguration(await configurationOf(house)))
  // Which headers of whom are believed is decided in forwarding(); what is left of them is ours.
  provider.proxy = true
  provider.use(requests(house))
  provider.use(securityHeaders(issuer.startsWith('https:')))
  provider.use(boundary(house, sallyport.screen))
  provider.use(own(house, sallyport.screen))
  sallyport.attach(provider)
  logMistakes(provider, house)
  return provider
}

/**
 * Says who asks and under which name, before koa looks: the client's address comes from X-Forwarded-For only behind a
 * trusted proxy, scheme and host always from the configured issuer, so that a forged Host header poisons no link.
 */
function forwarding({ config, logger }: House): (request: IncomingMessage) => void {
  const trusted = trustedProxies(config.SALLYPORT_TRUSTED_PROXIES)
  const issuer = new URL(config.SALLYPORT_ISSUER)
  let warned = false

  return (request) => {
    const { headers, socket } = request
    const claimed = [headers['x-forwarded-for'] ?? []]
      .flat()
      .join(',')
      .split(',')
      .filter((hop) => hop.trim() !== '')
      .map(addressOf)
    const peer = socket.remoteAddress ?? ''
    if (claimed.length > 0 && !trusted(peer) && !warned) {
      warned = true
      logger.warn({ peer }, 'X-Forwarded-For from an address that is not in SALLYPORT_TRUSTED_PROXIES is ignored')
    }
    // From the right: each hop was added by the one before it, so the first that is not ours is the client.
    let client = peer
    while (trusted(client) && claimed.length > 0) {
      const hop = claimed.pop()
      if (hop === undefined) break // no address: whoever wrote that is the last one known
      client = hop
    }
    headers['x-forwarded-for'] = client
    headers['x-forwarded-host'] = issuer.host
    headers['x-forwarded-proto'] = issuer.protocol.slice(0, -1)
  }
}

/** The address of a hop, without the port that some proxies add; `undefined` for what is none. */
function addressOf(hop: string): string | undefined {
  const [, bracketed, v4] = /^(?:\[([^\]]+)\](?::\d+)?|(\d+(?:\.\d+){3})(?::\d+)?)$/.exec(hop.trim()) ?? []
  const address = bracketed ?? v4 ?? hop.trim()
  return isIP(address) === 0 ? undefined : address
}

/** One id per request, from the page to the log to the audit; one log line per answer, which names no id that opens anything. */
function requests({ logger }: House): Middleware {
  return async (ctx, next) => {
    const began = performance.now()
    ctx.state['requestId'] = randomUUID()
    ctx.set('X-Request-Id', ctx.state['requestId'])
    try {
      await next()
    } finally {
      const line = {
        requestId: ctx.state['requestId'] as string,
        method: ctx.method,
        path: ctx.path.replace(/[\w-]{21,}/g, ':id').slice(0, 200),
        status: ctx.status,
        ms: Math.round(performance.now() - began),
        ip: ctx.ip,
      }
      logger.info(line, 'answered')
    }
  }
}

/** Whatever was thrown becomes a page with a reference; nothing of the error is shown. */
function boundary({ logger }: House, screen: Screen): Middleware {
  return async (ctx, next) => {
    try {
      await next()
      if (ctx.status === 404 && ctx.body === undefined) screen.message(ctx, 'not_found', { status: 404 })
    } catch (error) {
      logger.error({ requestId: ctx.state['requestId'] as string, error: (error as Error).stack }, 'unexpected')
      screen.message(ctx, 'server_error', { status: 500, reference: true })
    }
  }
}

/** The server's own addresses: what it is, and whether it lives. */
function own({ config, database, logger }: House, screen: Screen): Middleware {
  const answer = (ctx: Context, status: number, body: object) => {
    ctx.status = status
    ctx.body = body
  }
  return async (ctx, next) => {
    if (ctx.method !== 'GET' && ctx.method !== 'HEAD') return next()
    switch (ctx.path) {
      case '/':
        return screen.show(ctx, {
          view: 'home',
          title: 'home.title',
          titleVars: { brand: config.SALLYPORT_BRAND_NAME },
          locals: {
            apps: appsOf(await database.directory.clients()),
            discovery: `${config.SALLYPORT_ISSUER}/.well-known/openid-configuration`,
          },
        })
      case '/healthz':
        return answer(ctx, 200, { status: 'ok' })
      case '/readyz':
        try {
          await database.ping()
          return answer(ctx, 200, { status: 'ok' })
        } catch (error) {
          logger.error({ error: (error as Error).message }, 'the store does not answer')
          return answer(ctx, 503, { status: 'the store does not answer' })
        }
      default:
        return next()
    }
  }
}

/** The house's own apps, by where a person opens them. A client without such an address has none. */
const appsOf = (clients: Client[]) =>
  clients.flatMap(({ client_id, client_name, initiate_login_uri, client_uri, sallyport }) => {
    const href = initiate_login_uri ?? client_uri
    const own = (sallyport as { first_party?: boolean } | undefined)?.first_party === true
    return own && /^https?:/.test(String(href)) ? [{ name: String(client_name ?? client_id), href: String(href) }] : []
  })

/** A client's mistake: the log names exactly what differs, so that nobody has to guess. */
function logMistakes(provider: Provider, { logger, database }: House): void {
  const mistake = (ctx: KoaContextWithOIDC, error: Error) => {
    const oidc = ctx.oidc as KoaContextWithOIDC['oidc'] | undefined
    const clientId = oidc?.client?.clientId ?? textOf(oidc?.params?.['client_id'])
    const requestId = (ctx.state as { requestId?: string }).requestId
    const line = { requestId, clientId, error: describeError(error) }
    void database.directory
      .client(clientId ?? '')
      .then((registered) => logger.warn({ ...line, ...difference(ctx, error, registered) }, 'client mistake'))
      .catch(() => logger.warn(line, 'client mistake'))
  }
  provider.on('authorization.error', mistake)
  provider.on('grant.error', mistake)
  provider.on('end_session.error', mistake)
  provider.on('revocation.error', mistake)
  provider.on('introspection.error', mistake)
  provider.on('pushed_authorization_request.error', mistake)
  provider.on('userinfo.error', mistake)
}

/** What the client sent beside what is registered, where the mistake is that the two differ. */
function difference(ctx: KoaContextWithOIDC, error: Error, registered: Client | undefined): object {
  const params = ctx.oidc?.params
  if (error instanceof errors.InvalidRedirectUri)
    return { given: textOf(params?.['redirect_uri']), registered: registered?.['redirect_uris'] }
  if (error instanceof errors.InvalidClientAuth)
    return {
      given: authenticationOf(ctx),
      registered: registered && (registered['token_endpoint_auth_method'] ?? 'client_secret_basic'),
    }
  if (error instanceof errors.InvalidRequest && error.error_description?.includes('post_logout_redirect_uri'))
    return {
      given: textOf(params?.['post_logout_redirect_uri']),
      registered: registered?.['post_logout_redirect_uris'],
    }
  return {}
}

/** How the client authenticated, by the names of `token_endpoint_auth_method`. */
function authenticationOf(ctx: KoaContextWithOIDC): string {
  const { client_assertion: assertion, client_secret: secret } = ctx.oidc.params ?? {}
  if (ctx.get('authorization') !== '') return 'client_secret_basic'
  if (secret !== undefined) return 'client_secret_post'
  return assertion === undefined ? 'none' : 'client_secret_jwt or private_key_jwt'
}

const textOf = (value: unknown) => (typeof value === 'string' ? value.slice(0, 300) : undefined)

async function closed(server: Server): Promise<void> {
  const done = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const force = setTimeout(() => server.closeAllConnections(), GRACE_MS)
  await done
  clearTimeout(force)
}
