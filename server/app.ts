/** The server: the provider as a koa app, with what only a server has around it. */
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, isIP } from 'node:net'
import type { Context, Middleware } from 'koa'
import { errors, type KoaContextWithOIDC, Provider } from 'oidc-provider'
import { describeError, type Letters, type Sallyport, type Screen, securityHeaders } from '../interactions/index.ts'
import { accountPages } from './account/index.ts'
import { notYouPages } from './account/not-you.ts'
import { ownAccount } from './account/own.ts'
import { checkpointOnce } from './audit-checkpoints.ts'
import { warnOfExpiry } from './certificate-expiry.ts'
import { trustedProxies } from './config.ts'
import { tellOfDeadlines } from './deadlines.ts'
import { LATE_SECONDS, mailOf, smtpTransport, startDelivery } from './delivery.ts'
import type { Logger } from './log.ts'
import type { House } from './open.ts'
import { configurationOf, hasherOf, sallyportOf } from './provider.ts'
import { type Answered, keepReadyAnswers, withReadyAnswers } from './ready.ts'
import { KEYS_READ_SECONDS, retiredKeysKept, turnSigningKeys } from './signing-keys.ts'
import { statusCallbacks } from './sms/callbacks.ts'
import { gatewayOf } from './sms/gateway.ts'
import type { Client, SigningKey } from './stores.ts'

/** A running server. */
export interface Running {
  /** The address it listens on. */
  url: string
  /**
   * Reads the signing keys again and does what is due (server/signing-keys.ts), as it happens by itself every minute.
   * @returns whether anything had changed
   */
  reload(): Promise<boolean>
  /** Takes no new request, answers those under way, closes the database. */
  close(): Promise<void>
}

/** Seconds between two sweeps of what has expired. */
const SWEEP_SECONDS = 5 * 60
const HOUR_SECONDS = 60 * 60
/** Milliseconds that a slow request gets when the server stops. */
const GRACE_MS = 10_000

/** Starts to listen. @throws when the address is taken */
export async function startServer(house: House): Promise<Running> {
  const { config, database, logger } = house
  const serving = await createServing(house)
  const stopDelivery = await delivering(house, serving.letters)
  const forward = forwarding(house)
  const server = createServer((request, response) => {
    forward(request)
    void serving.handle(request, response)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(config.PORT, config.HOST, resolve)
  })
  const now = () => Math.floor(Date.now() / 1000)
  const chores = [
    every(KEYS_READ_SECONDS, 'signing keys', () => serving.reload()),
    every(SWEEP_SECONDS, 'sweep', () => database.sweep(now())),
    every(HOUR_SECONDS, 'certificates of connections', () => warnOfExpiry(house, now())),
    every(HOUR_SECONDS, 'letters of deadlines', () => tellOfDeadlines(house, now())),
    every(HOUR_SECONDS, 'audit checkpoint', () => checkpointOnce(house, now())),
  ].map((begin) => begin(logger))

  const { address, port, family } = server.address() as AddressInfo
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    reload: serving.reload,
    async close() {
      const ended = chores.map((end) => end())
      await closed(server)
      await Promise.all(ended)
      await stopDelivery()
      await house.close()
    },
  }
}

/**
 * Work that a server does by itself: at once, and then again and again. What fails is logged and tried the next time.
 *
 * @returns begins it; what that returns ends it, and waits for what is under way
 */
function every(seconds: number, name: string, work: () => Promise<unknown>) {
  return (logger: Logger): (() => Promise<void>) => {
    let underWay = Promise.resolve()
    const run = () => {
      underWay = work().then(
        () => {},
        (error: Error) => logger.error({ error: error.message }, name),
      )
    }
    run()
    const timer = setInterval(run, seconds * 1000).unref()
    return async () => {
      clearInterval(timer)
      await underWay
    }
  }
}

/** Letters leave as long as the server runs. @returns ends it */
async function delivering(house: House, letters: Letters): Promise<() => Promise<void>> {
  const { config, database, logger } = house
  const mail = mailOf(config)
  if (mail === 'none')
    logger.warn('SALLYPORT_SMTP_URL is not set: nobody is told of changes, and nobody can set a new password by mail')
  if (mail !== 'smtp') return async () => {}
  return startDelivery({ outbox: database.outbox, letters, transport: await smtpTransport(config), logger })
}

/** What answers requests: a provider, and another one in its place when the signing keys have changed. */
interface Serving {
  letters: Letters
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>
  reload: Running['reload']
}

/**
 * The library takes its keys once, when it is made. So a new one is made and takes the next request; what is under way ends
 * with the former. Everything that must outlive a request is in the store (docs/decisions/keys-turn-without-a-restart.md).
 */
async function createServing(house: House): Promise<Serving> {
  const { config, database, logger } = house
  const sallyport = sallyportOf(house)
  const keysNow = () =>
    turnSigningKeys({
      signingKeys: database.signingKeys,
      audit: database.audit,
      kept: retiredKeysKept(config),
      now: Math.floor(Date.now() / 1000),
      actor: 'server',
    })
  const namesOf = (keys: readonly SigningKey[]) => keys.map(({ kid, state }) => `${state} ${kid}`).join()
  const make = async (keys: readonly SigningKey[]) =>
    withReadyAnswers(await createApp(house, sallyport, keys), requestLog(logger))

  const first = await keysNow()
  let serves = namesOf(first)
  let handle = await make(first)
  const look = async () => {
    const keys = await keysNow()
    if (namesOf(keys) === serves) return false
    handle = await make(keys)
    serves = namesOf(keys)
    logger.info({ keys: serves }, 'signing keys have changed')
    return true
  }

  let looking: Promise<boolean> = Promise.resolve(false)
  return {
    letters: sallyport.letters,
    handle: (request, response) => handle(request, response),
    reload() {
      // One after the other: a slower look must not bring former keys back.
      looking = looking.then(look, look)
      return looking
    },
  }
}

/** The provider with all middleware of the server, not listening yet. */
export async function createApp(
  house: House,
  sallyport: Sallyport = sallyportOf(house),
  signingKeys?: readonly SigningKey[],
): Promise<Provider> {
  const { config } = house
  const issuer = config.SALLYPORT_ISSUER
  const provider = new Provider(issuer, sallyport.extendConfiguration(await configurationOf(house, signingKeys)))
  // Which headers of whom are believed is decided in forwarding(); what is left of them is ours.
  provider.proxy = true
  provider.use(requests(requestLog(house.logger)))
  provider.use(securityHeaders(issuer.startsWith('https:')))
  provider.use(boundary(house, sallyport.screen))
  provider.use(own(house, sallyport.screen))
  provider.use(statusCallbacks(house))
  keepReadyAnswers(provider)
  sallyport.attach(provider)
  provider.use(accountPages({ house, provider, screen: sallyport.screen, passwords: hasherOf(config) }))
  provider.use(notYouPages({ house, provider, screen: sallyport.screen }))
  provider.use(ownAccount({ house, provider, sallyport, passwords: hasherOf(config) }))
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

/** One line per answer, which names no id that opens anything. */
function requestLog(logger: Logger): Answered {
  // Six fields, none of which holds a secret: looking for secret names in each line would cost more than writing it.
  const plain = logger.child({}, { redact: [] })
  return ({ path, began, ...line }) =>
    plain.info(
      {
        ...line,
        path: path.replace(/[\w-]{21,}/g, ':id').slice(0, 200),
        ms: Math.round(performance.now() - began),
      },
      'answered',
    )
}

/** One id per request, from the page to the log to the audit. */
function requests(log: Answered): Middleware {
  return async (ctx, next) => {
    const began = performance.now()
    const requestId = randomUUID()
    ctx.state['requestId'] = requestId
    ctx.set('X-Request-Id', requestId)
    try {
      await next()
    } finally {
      log({ requestId, method: ctx.method, path: ctx.path, status: ctx.status, began, ip: ctx.ip })
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
      // What failed may have failed after the answer was made: an app's code must not leave with the page.
      ctx.remove('Location')
      screen.message(ctx, 'server_error', { status: 500, reference: true })
    }
  }
}

/** The server's own addresses: what it is, and whether it lives. */
function own(house: House, screen: Screen): Middleware {
  const { config, database, logger } = house
  const answer = (ctx: Context, status: number, body: object) => {
    ctx.status = status
    ctx.body = body
  }
  /** It stays ready: people sign in without mail. */
  const isMailLate = async () => {
    if (mailOf(config) !== 'smtp') return false
    const now = Math.floor(Date.now() / 1000)
    const since = await database.outbox.dueSince('mail', now)
    return since !== undefined && since < now - LATE_SECONDS
  }
  const paths = new Set(['/', '/healthz', '/readyz'])
  const show = async (ctx: Context) => {
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
          // It goes on without: letters wait, and people are told to take another way than SMS.
          const sms = gatewayOf(house)?.trouble(Math.floor(Date.now() / 1000))
          const mail = (await isMailLate()) ? 'mail is late' : undefined
          const degraded = sms !== undefined || mail !== undefined
          return answer(ctx, 200, { status: degraded ? 'degraded' : 'ok', ...(sms && { sms }), ...(mail && { mail }) })
        } catch (error) {
          logger.error({ error: (error as Error).message }, 'the store does not answer')
          return answer(ctx, 503, { status: 'the store does not answer' })
        }
    }
  }
  return (ctx, next) => ((ctx.method === 'GET' || ctx.method === 'HEAD') && paths.has(ctx.path) ? show(ctx) : next())
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
    if (error instanceof errors.AuthorizationPending) return // a device that waits makes none
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
  // Again and again: a connection that was answered meanwhile would be kept open by whoever asked.
  const idle = setInterval(() => server.closeIdleConnections(), 50)
  const force = setTimeout(() => server.closeAllConnections(), GRACE_MS)
  await done
  clearInterval(idle)
  clearTimeout(force)
}
