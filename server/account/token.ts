/** The token of a mailed link leaves the address for a cookie: no history, no log, no Referer has it (R74). A GET uses nothing up. */
import type { Context } from 'koa'
import { dropCookie, keepCookie, type LinkPurpose, readCookie, seeOther } from '../../interactions/index.ts'

/** Seconds that the browser keeps a token. */
const KEPT_SECONDS = 24 * 60 * 60

/** What a mailed link is for, as its cookie is named. */
export type TokenName = LinkPurpose | 'not_you'

/** Keeps what the address brought, and leads on to the page without it. */
export function keepToken(ctx: Context, name: TokenName, to: string): void {
  const token = ctx.query['token']
  if (typeof token === 'string' && /^[\w.-]{20,300}$/.test(token)) keepCookie(ctx, name, token, KEPT_SECONDS)
  ctx.set('Referrer-Policy', 'no-referrer')
  seeOther(ctx, to)
}

/** The token that this browser came with, or ''. */
export const tokenOf = (ctx: Context, name: TokenName): string => readCookie(ctx, name) ?? ''

/** It has done what it was for. */
export const dropToken = (ctx: Context, name: TokenName): void => dropCookie(ctx, name)
