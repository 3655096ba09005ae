/**
 * The trail: a signed cookie on the path of each interaction. It outlives the interaction's row, so that a stale page
 * (Back, a bookmark, a restart, an expired tab) still knows which app asked and where the sign-in went on.
 */
import type { Context } from 'koa'

/** Where an interaction led. */
export interface Trail {
  client: string
  /** The interaction that came after this one. */
  next?: string | undefined
  /** The sign-in was finished. */
  done?: boolean | undefined
}

/** `__Secure-` where the issuer is https; `__Host-` forbids a path of its own (R8). */
const nameOf = (ctx: Context) => (ctx.secure ? '__Secure-trail' : 'trail')
const KEPT_MS = 24 * 60 * 60 * 1000

/** Writes the trail of the interaction whose page is at `path`. */
export function leaveTrail(ctx: Context, path: string, trail: Trail): void {
  const value = Buffer.from(JSON.stringify(trail)).toString('base64url')
  ctx.cookies.set(nameOf(ctx), value, {
    path,
    signed: true,
    httpOnly: true,
    sameSite: 'lax',
    maxAge: KEPT_MS,
    overwrite: true,
  })
}

/** The trail of the interaction that this request's path belongs to. */
export function readTrail(ctx: Context): Trail | undefined {
  const value = ctx.cookies.get(nameOf(ctx), { signed: true })
  if (!value) return undefined
  return JSON.parse(Buffer.from(value, 'base64url').toString()) as Trail // signed: nobody else wrote it
}
