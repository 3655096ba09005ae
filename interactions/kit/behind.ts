/** Writes that nothing in their request reads again: the request goes on, and its answer waits for all of them together. */
import type { Middleware } from 'koa'
import { Provider } from 'oidc-provider'

/** By request. */
const behind = new WeakMap<object, Promise<void>[]>()

/**
 * Lets the request go on while `write` is under way; {@link holdAnswer} waits for it. Outside of a request it is waited for
 * here.
 *
 * @param ctx the request; by default the one that oidc-provider is answering
 */
export function behindTheRequest(write: Promise<void>, ctx: object | undefined = Provider.ctx): Promise<void> {
  const writes = ctx && behind.get(ctx)
  if (!writes) return write
  writes.push(write)
  write.catch(() => {}) // told by holdAnswer
  return Promise.resolve()
}

/** No answer leaves before what it speaks of is written. @throws what a write threw: then nothing of the answer is sent */
export const holdAnswer: Middleware = async (ctx, next) => {
  const writes: Promise<void>[] = []
  behind.set(ctx, writes)
  let results: PromiseSettledResult<void>[] = []
  try {
    await next()
  } finally {
    results = await Promise.allSettled(writes)
  }
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
