/** The cookie by which a browser is known that a person used before. It lowers throttling; it stands for no factor (R32). */
import { randomBytes } from 'node:crypto'
import type { Context } from 'koa'
import { digest } from './keyring.ts'
import { keepCookie, readCookie } from './private-cookie.ts'

const NAME = 'device'
const KEPT_SECONDS = 400 * 24 * 60 * 60

/** What this browser is known by, as the store has it. */
export function deviceOf(ctx: Context): string | undefined {
  const value = readCookie(ctx, NAME)
  return value && digest(value)
}

/** Has this browser be known from now on. @returns what by, as the store has it */
export function keepDevice(ctx: Context): string {
  const value = readCookie(ctx, NAME) ?? randomBytes(32).toString('base64url')
  keepCookie(ctx, NAME, value, KEPT_SECONDS)
  return digest(value)
}

/**
 * The name of a browser in which a password was just set by mail. The throttle knows it, so that no stranger closes the way in again
 * before its owner has taken it; a sign-in there is one on a new device all the same, and is told of.
 */
export const passwordSetIn = (device: string): string => digest(`${device}|password set`)
