/** The token of a mailed link leaves the address for a cookie: no history, no log, no Referer has it (R74). A GET uses nothing up. */
import type { Context } from 'koa'
import { type LinkPurpose, seeOther } from '../../interactions/index.ts'

/** Milliseconds that the browser keeps a token. */
const TOKEN_MS = 24 * 60 * 60 * 1000

/** What a mailed link is for, as its cookie is named. */
export type TokenName = LinkPurpose | 'not_you'

const cookieOf = (ctx: Context, name: TokenName) => (ctx.secure ? `__Host-${name}` : name)

/** Keeps what the address brought, and leads on to the page without it. */
export function keepToken(ctx: Context, name: TokenName, to: string): void {
  const token = ctx.query['token']
  if (typeof token === 'string' && /^[\w.-]{20,300}$/.test(token))
    ctx.cookies.set(cookieOf(ctx, name), token, {
      signed: true,
      httpOnly: true,
      sameSite: 'lax',
      path: '/',
      maxAge: TOKEN_MS,
    })
  ctx.set('Referrer-Policy', 'no-referrer')
  seeOther(ctx, to)
}

/** The token that this browser came with, or ''. */
export const tokenOf = (ctx: Context, name: TokenName): string =>
  ctx.cookies.get(cookieOf(ctx, name), { signed: true }) ?? ''

/** It has done what it was for. */
export function dropToken(ctx: Context, name: TokenName): void {
  ctx.cookies.set(cookieOf(ctx, name), null, { signed: true, path: '/' })
}
