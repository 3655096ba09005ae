/** Cross-site request forgery: a token bound to the interaction, and a request that says where it comes from. */
import Tokens from 'csrf'
import type { Context } from 'koa'
import { InteractionError } from './errors.ts'

const tokens = new Tokens()

/** A form token for what `secret` stands for. A fresh string each time, so that compressed pages do not leak it. */
export const formToken = (secret: string): string => tokens.create(secret)

/**
 * Lets a POST pass that comes from a page of ours: right token, and `Sec-Fetch-Site` or `Origin` of this origin
 * (ASVS 3.5.1, 3.5.3). A POST with neither header is refused.
 * @throws {InteractionError} `cross_site` or `form_expired`, 403
 */
export function checkForm(ctx: Context, origin: string, secret: string, token: unknown): void {
  if (!comesFrom(ctx, origin)) throw new InteractionError('cross_site', { status: 403 })
  if (typeof token !== 'string' || !tokens.verify(secret, token))
    throw new InteractionError('form_expired', { status: 403 })
}

/** The half of {@link checkForm} for forms whose token somebody else checks: true for a request from this origin. */
export function comesFrom(ctx: Context, origin: string): boolean {
  const site = ctx.get('sec-fetch-site')
  return site ? site === 'same-origin' || site === 'none' : ctx.get('origin') === origin
}
