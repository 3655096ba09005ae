/** Requests that are too long for an address wait here under a one-time handle. */
import { randomUUID } from 'node:crypto'
import type { Context } from 'koa'
import { digest } from './keyring.ts'
import { seeOther } from './screen.ts'
import type { PendingStore } from './stores.ts'

/** A query this long still fits Node's 16 KB of headers with room for cookies. */
const URL_LIMIT = 6 * 1024
const PARKED_SECONDS = 60
const PURPOSE = 'posted'

/** 303 to `path` with this query, which waits in the store when it is longer than 6 KB. */
export async function goTo(
  ctx: Context,
  pending: PendingStore,
  path: string,
  query: string,
  now: number,
): Promise<void> {
  if (query.length <= URL_LIMIT) return seeOther(ctx, `${path}?${query}`)
  const handle = randomUUID()
  const value = JSON.stringify({ path, query })
  await pending.keep({ owner: digest(handle), purpose: PURPOSE, value, expiresAt: now + PARKED_SECONDS, now })
  seeOther(ctx, `${path}?posted=${handle}`)
}

/** The query that waits under this handle for this path, once; `undefined` when there is none any more. */
export async function unpark(
  pending: PendingStore,
  handle: string,
  path: string,
  now: number,
): Promise<string | undefined> {
  const value = await pending.take(digest(handle), PURPOSE, now)
  const parked = value === undefined ? undefined : (JSON.parse(value) as { path: string; query: string })
  return parked?.path === path ? parked.query : undefined
}
