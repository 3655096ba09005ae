/** The link of a letter that was opened in this browser: its token waits in a cookie until somebody signs in whose link it is. */
import type { Context } from 'koa'
import { digest } from './keyring.ts'

/** `__Host-` keeps other hosts of the domain from setting it; it needs https. */
const nameOf = (ctx: Context) => (ctx.secure ? '__Host-link' : 'link')

/** Keeps the token, which leaves the address by it: no history, no log, no Referer has it. @param seconds as long as links are good */
export function keepOpenedLink(ctx: Context, token: string, seconds: number): void {
  ctx.cookies.set(nameOf(ctx), token, {
    signed: true,
    httpOnly: true,
    sameSite: 'lax',
    path: '/',
    maxAge: seconds * 1000,
  })
}

/** SHA-256 of the token, or `undefined`. */
export function openedLink(ctx: Context): string | undefined {
  const token = ctx.cookies.get(nameOf(ctx), { signed: true })
  return token && digest(token)
}
