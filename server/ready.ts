/** Discovery and keys are the same for everybody: made once, they are answered before koa is asked. */
import { createHash, randomUUID } from 'node:crypto'
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Context } from 'koa'
import type { Provider } from 'oidc-provider'

/** OIDC Discovery §4 and RFC 8414 §3; the issuer has no path. */
const DISCOVERY = ['/.well-known/openid-configuration', '/.well-known/oauth-authorization-server']

/** Tells of a ready answer. `began` as `performance.now()` has it. */
export type Answered = (line: {
  requestId: string
  method: string
  path: string
  status: number
  began: number
  ip: string
}) => void

interface Ready {
  etag: string
  headers: OutgoingHttpHeaders
  body: Buffer
}

const kept = new WeakMap<Provider, Map<string, Ready>>()

/**
 * Keeps the answers that are the same for everybody as long as this provider lives: it knows no other keys and settings
 * than it began with. A request with `Origin` is left to the library, which names that origin in its answer.
 *
 * Call it after what sets headers was added, and before what mends the library's answers.
 */
export function keepReadyAnswers(provider: Provider): void {
  const paths = new Set([...DISCOVERY, provider.pathFor('jwks')])
  const ready = new Map<string, Ready>()
  kept.set(provider, ready)

  const remember = async (ctx: Context, next: () => Promise<void>) => {
    await next()
    if (ctx.status !== 200) return
    const body = Buffer.from(JSON.stringify(ctx.body))
    const etag = `"${createHash('sha256').update(body).digest('base64url')}"`
    ctx.set('ETag', etag)
    // May be kept, but not used without asking: after a change of keys nobody shall go on with the old ones.
    ctx.set('Cache-Control', 'no-cache')
    if (ctx.get('Origin') !== '') return
    const { 'x-request-id': _own, ...headers } = ctx.response.headers as OutgoingHttpHeaders
    ready.set(ctx.path, { etag, headers: { ...headers, 'content-length': body.length }, body })
  }
  provider.use((ctx, next) => (ctx.method === 'GET' && paths.has(ctx.path) ? remember(ctx, next) : next()))
}

/**
 * The provider's callback, with the answers in front of it that {@link keepReadyAnswers} kept.
 *
 * @returns expects the client's address in `X-Forwarded-For`
 */
export function withReadyAnswers(
  provider: Provider,
  answered: Answered,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const ready = kept.get(provider)
  const handle = provider.callback()
  return async (request, response) => {
    const { method = '', headers, url: path = '' } = request
    const known = method === 'GET' && headers.origin === undefined ? ready?.get(path) : undefined
    if (!known) return handle(request, response)
    const began = performance.now()
    const requestId = randomUUID()
    const status = headers['if-none-match']?.includes(known.etag) ? 304 : 200
    response.setHeader('X-Request-Id', requestId)
    if (status === 200) response.writeHead(200, known.headers).end(known.body)
    else {
      const { 'content-length': _length, 'content-type': _type, ...rest } = known.headers
      response.writeHead(304, rest).end()
    }
    answered({ requestId, method, path, status, began, ip: String(headers['x-forwarded-for'] ?? '') })
  }
}
