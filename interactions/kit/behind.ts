/** Writes that nothing in their request reads again: the request goes on, and its answer waits for all of them together. */
import type { Middleware } from 'koa'
import { Provider } from 'oidc-provider'

/** By request. */
const behind = new WeakMap<object, (() => Promise<void>)[]>()

/**
 * Leaves `write` to the end of the request, where {@link holdAnswer} does it together with others, so that they share a
 * commit. Outside of a request it is done here.
 *
 * @param ctx the request; by default the one that oidc-provider is answering
 */
export async function behindTheRequest(
  write: () => Promise<void>,
  ctx: object | undefined = Provider.ctx,
): Promise<void> {
  const writes = ctx && behind.get(ctx)
  if (writes) writes.push(write)
  else await write()
}

/**
 * No answer leaves before what it speaks of is written. What was begun is written also when the request failed.
 *
 * @throws what a write threw: then nothing of the answer is sent
 */
export const holdAnswer: Middleware = async (ctx, next) => {
  const writes: (() => Promise<void>)[] = []
  behind.set(ctx, writes)
  let results: PromiseSettledResult<void>[] = []
  try {
    await next()
  } finally {
    behind.delete(ctx)
    results = await Promise.allSettled(writes.map((write) => write()))
  }
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
