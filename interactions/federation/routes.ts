/** What identity providers see of us: our metadata, and where they have responses posted to. */
import { bodyParser } from '@koa/bodyparser'
import type { Context, Middleware } from 'koa'
import { digest } from '../kit/keyring.ts'
import { networkOf } from '../kit/network.ts'
import { interactionPath } from '../kit/router.ts'
import { requestId, seeOther } from '../kit/screen.ts'
import type { Connection, ThrottleRule } from '../kit/stores.ts'
import { serviceProviderOf } from './connection.ts'
import { type DryRunParts, dryRun, personOf, resultPage } from './dry-run.ts'
import { returnPage } from './index.ts'
import type { Received } from './saml/index.ts'
import { isTest, keepTrace, REFUSALS, type TraceParts, type TraceText } from './trace.ts'

/** What the routes stand on. */
export interface SamlRoutesParts extends DryRunParts, TraceParts {
  /** The app where a sign-in begins that the identity provider's own page has begun, when the connection names none. */
  defaultClient?: string | undefined
}

/** Characters: 350 KB of Base64, written as a form writes it. */
const BODY_LIMIT = 512 * 1024
/** A company may be behind one address. What is refused leaves a row in the audit. */
const RESPONSES: ThrottleRule = { kind: 'window', limit: 300, seconds: 60 }
/** At all connections together: whoever knows the addresses of many has no more of our time for it. */
const ANYWHERE: ThrottleRule = { ...RESPONSES, limit: 600 }

/** `/saml/:connection/metadata`, `/saml/:connection/acs`, and the pages of a dry run. */
export function samlRoutes(parts: SamlRoutesParts): Middleware {
  const { provider, connections, federation, throttle, screen, record, now } = parts
  const parse = bodyParser({ enableTypes: ['form'], formLimit: BODY_LIMIT })
  const saml = () => import('./saml/index.ts')
  const { offer, start, result } = dryRun(parts)

  return async (ctx, next) => {
    const match = /^\/saml\/([\w.-]{1,100})\/(metadata|acs|test|test\/result)$/.exec(ctx.path)
    if (!match) return next()
    const [, id = '', part] = match
    const methods = {
      metadata: ['GET', 'HEAD'],
      acs: ['POST'],
      test: ['GET', 'HEAD', 'POST'],
      'test/result': ['GET', 'HEAD'],
    }
    const allowed = methods[part as keyof typeof methods]
    if (!allowed.includes(ctx.method)) {
      ctx.set('Allow', allowed.join(', '))
      return screen.message(ctx, 'bad_request', { status: 405 })
    }
    const connection = await connections.connection(id)
    if (part === 'metadata') return metadata(ctx, connection)
    if (part === 'acs') return consume(ctx, connection, id)
    if (part === 'test/result') return result(ctx, connection)
    return ctx.method === 'POST' ? start(ctx, connection) : offer(ctx, connection)
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
    const network = networkOf(ctx.ip)
    const reference = requestId(ctx)
    const trace = (told: TraceText, signed: boolean) =>
      connection && keepTrace(parts, { reference, connection: connection.id, told, signed, network, now: now() })

    const refuse = async (
      code: string,
      status = 400,
      more: { checks?: string[]; interaction?: string; told?: TraceText; signed?: boolean } = {},
    ) => {
      const { checks, interaction, signed = false } = more
      const advice = REFUSALS[code as keyof typeof REFUSALS]
      await trace(more.told ?? { kind: 'sign_in', outcome: 'refused', code, advice }, signed)
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

    const key = `saml|${connection?.id ?? ''}|${network}`
    const limits = [
      { key, rule: RESPONSES },
      { key: `saml|${network}`, rule: ANYWHERE },
    ]
    const { allowed, retryAfter } = await throttle.take(limits, now())
    if (!allowed) {
      ctx.set('Retry-After', String(retryAfter))
      return screen.message(ctx, 'busy', { status: 429 })
    }
    if (!connection) return refuse('connection_unknown')
    if (connection.state === 'disabled') return refuse('connection_state')
    if (!ctx.is('application/x-www-form-urlencoded')) return refuse('form', 415)
    try {
      await parse(ctx, async () => {})
    } catch (error) {
      return refuse('size', (error as { status?: number }).status === 413 ? 413 : 400)
    }

    const { explain, receiveResponse, VerificationOverloaded } = await saml()
    const form = (ctx.request.body ?? {}) as Record<string, unknown>
    const request = await federation.findRequest(digest(String(form['RelayState'])), now())
    // Only of this connection: nobody learns of another's by its handle.
    const own = request?.connectionId === connection.id ? request : undefined
    const tests = isTest(own)
    if (connection.state !== 'active' && !tests) return refuse('connection_state')
    const ours = serviceProviderOf(connection, provider.issuer)
    const at = now()
    let received: Received
    try {
      received = await receiveResponse({ form, connection: ours, store: federation, now: at, reference })
    } catch (error) {
      if (!(error instanceof VerificationOverloaded)) throw error
      ctx.set('Retry-After', '2')
      return screen.message(ctx, 'busy', { status: 503 })
    }
    const { refusal, handle, verified, signatures } = received
    const told: TraceText = {
      kind: tests ? 'test' : 'sign_in',
      outcome: refusal ? 'refused' : 'accepted',
      code: refusal?.code,
      explanation: explain(received, ours, at),
    }
    const checks = received.checks.filter(({ passed }) => !passed).map(({ code }) => code)
    const signed = signatures.length > 0
    if (own && tests) {
      const person = verified && (await personOf(parts, verified, connection))
      await trace({ ...told, test: { waiter: own.interaction, person } }, signed)
      const details = { connection: id, checks }
      if (refusal) await record(ctx, { event: 'connection.tested', outcome: 'failure', details })
      return seeOther(ctx, resultPage(provider.issuer, id, handle, reference))
    }
    const interaction = own?.interaction
    if (!refusal) {
      if (interaction === undefined) return refuse('request')
      await trace(told, signed)
      return seeOther(ctx, interactionPath(provider, interaction, returnPage(handle)))
    }
    if (checks.length === 1 && refusal.code === 'unsolicited') return begin(ctx, connection, refuse)
    return refuse(refusal.code, 400, { checks, told, signed, ...(interaction !== undefined && { interaction }) })
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
