/**
 * Where a sign-in went on, for stale pages (Back, a double click, a bookmark, an expired tab).
 *
 * The trail is a signed cookie on the path of each interaction. It outlives the interaction's row and says which app asked.
 * The successor is kept in the store: an answer that the browser gave up, as it does at a double click, leaves no cookie.
 */
import type { Context } from 'koa'
import { digest } from './keyring.ts'
import type { PendingStore } from './stores.ts'

/** Where an interaction led. */
export interface Trail {
  client: string
  /** The sign-in was finished. */
  done?: boolean | undefined
  /** What it was held in. */
  language: string
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

const signedOutName = (ctx: Context) => (ctx.secure ? '__Host-signed-out' : 'signed-out')
const SIGNED_OUT_MS = 5 * 60 * 1000

/** Remembers for five minutes that somebody signed out in this browser: nobody is to be signed in again unasked. */
export function leaveSignedOut(ctx: Context): void {
  ctx.cookies.set(signedOutName(ctx), '1', {
    signed: true,
    httpOnly: true,
    sameSite: 'lax',
    path: '/',
    maxAge: SIGNED_OUT_MS,
  })
}

/** Somebody signed out in this browser just now. */
export const hasSignedOut = (ctx: Context): boolean => ctx.cookies.get(signedOutName(ctx), { signed: true }) === '1'

/** An interaction, as far as its successor is concerned. */
export interface Step {
  uid: string
  /** Seconds since 1970. */
  exp: number
  /** Where oidc-provider resumes it. */
  returnTo: string
}

const PURPOSE = 'next_interaction'

/** Remembers which interaction came after `former`. */
export async function keepSuccessor(pending: PendingStore, former: string, next: Step, now: number): Promise<void> {
  const value = JSON.stringify({ uid: next.uid, exp: next.exp, returnTo: next.returnTo })
  await pending.keep({ owner: digest(former), purpose: PURPOSE, value, expiresAt: next.exp, now })
}

/** The interaction that came after `former`, or `undefined`. */
export async function successorOf(pending: PendingStore, former: string, now: number): Promise<Step | undefined> {
  const kept = await pending.recall(digest(former), PURPOSE, now)
  return kept === undefined ? undefined : (JSON.parse(kept) as Step)
}
