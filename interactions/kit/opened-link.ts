/** The link of a letter that was opened in this browser: its token waits in a cookie until somebody signs in whose link it is. */
import type { Context } from 'koa'
import { digest } from './keyring.ts'
import { keepCookie, readCookie } from './private-cookie.ts'

const NAME = 'link'

/** Keeps the token, which leaves the address by it: no history, no log, no Referer has it. @param seconds as long as links are good */
export const keepOpenedLink = (ctx: Context, token: string, seconds: number): void =>
  keepCookie(ctx, NAME, token, seconds)

/** SHA-256 of the token, or `undefined`. */
export function openedLink(ctx: Context): string | undefined {
  const token = readCookie(ctx, NAME)
  return token && digest(token)
}
