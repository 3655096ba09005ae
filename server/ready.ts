/** Discovery and keys are the same for everybody: made once, they are answered before koa is asked. */
import { createHash } from 'node:crypto'
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import type { Middleware } from 'koa'

/** Answers that are kept as long as their provider lives: it knows no other keys and settings than it began with. */
export interface ReadyAnswers {
  /** Keeps the first answer of each path. Innermost, so that it sees what the library said and all headers around it. */
  remember: Middleware
  /** Answers the request if it can. @returns the status, or `undefined` when koa has to answer */
  answer(request: IncomingMessage, response: ServerResponse, requestId: string): number | undefined
}

/**
 * @param paths of public documents. A request with `Origin` is left to the library, which names that origin in its answer
 */
export function readyAnswers(paths: string[]): ReadyAnswers {
  const ready = new Map<string, { etag: string; headers: OutgoingHttpHeaders; body: Buffer }>()

  return {
    async remember(ctx, next) {
      await next()
      if (ctx.method !== 'GET' || !paths.includes(ctx.path) || ctx.status !== 200) return
      const body = Buffer.from(JSON.stringify(ctx.body))
      const etag = `"${createHash('sha256').update(body).digest('base64url')}"`
      ctx.set('ETag', etag)
      // May be kept, but not used without asking: after a change of keys nobody shall go on with the old ones.
      ctx.set('Cache-Control', 'no-cache')
      if (ctx.get('Origin') !== '') return
      const { 'x-request-id': _own, ...headers } = ctx.response.headers as OutgoingHttpHeaders
      ready.set(ctx.path, { etag, headers: { ...headers, 'content-length': body.length }, body })
    },

    answer(request, response, requestId) {
      const known = request.method === 'GET' ? ready.get(request.url ?? '') : undefined
      if (!known || request.headers.origin !== undefined) return undefined
      response.setHeader('X-Request-Id', requestId)
      if (request.headers['if-none-match']?.includes(known.etag)) {
        const { 'content-length': _length, 'content-type': _type, ...headers } = known.headers
        response.writeHead(304, headers).end()
        return 304
      }
      response.writeHead(200, known.headers).end(known.body)
      return 200
    },
  }
}
