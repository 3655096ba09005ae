/** Cookies of ours that hold something: signed, for no script to read, sent by no form of another site. */
import type { Context } from 'koa'

/** `__Host-` keeps other hosts of the domain from setting it; it needs https. */
const nameOf = (ctx: Context, name: string) => (ctx.secure ? `__Host-${name}` : name)

/** What this browser came with, if we have signed it. */
export const readCookie = (ctx: Context, name: string): string | undefined =>
  ctx.cookies.get(nameOf(ctx, name), { signed: true })

/** @param seconds that the browser keeps it; without them, as long as it runs */
export function keepCookie(ctx: Context, name: string, value: string, seconds?: number): void {
  const kept = seconds === undefined ? {} : { maxAge: seconds * 1000 }
  ctx.cookies.set(nameOf(ctx, name), value, { signed: true, httpOnly: true, sameSite: 'lax', path: '/', ...kept })
}

/** The browser forgets it. */
export function dropCookie(ctx: Context, name: string): void {
  ctx.cookies.set(nameOf(ctx, name), null, { signed: true, path: '/' })
}
