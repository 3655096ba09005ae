/** A resource server's door: JWT access tokens (RFC 9068), and what the sign-in behind them must have proven (RFC 9470). */
import { createRemoteJWKSet, errors, type JWTPayload, jwtVerify } from 'jose'
import type { Context, Middleware } from 'koa'

/** What the provider says in a token. Times are seconds since 1970. */
export interface AccessToken extends JWTPayload {
  sub: string
  client_id: string
  scope?: string
  acr?: string
  amr?: string[]
  auth_time?: number
  second_factor_time?: number
}

/** What one address of the API needs. */
export interface Needs {
  scope: string
  /** One of these. The first is what is asked for. */
  acr?: string[]
  /** Seconds since the person signed in. */
  maxAge?: number
  /** Seconds since their second factor. */
  secondFactorMaxAge?: number
}

/** How far the clocks of provider and API may be apart, in seconds. */
const CLOCKS = 5

/** The keys could not be fetched: nothing is known of the token. */
const OUTAGE = ['ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID', 'ERR_JOSE_GENERIC']

/**
 * Finds the provider's keys, once.
 *
 * @param audience the API's resource indicator (RFC 8707)
 * @returns middleware that lets nobody past who lacks what is needed; `ctx.state.token` is the token's content
 * @throws when the provider does not answer, or says that it is another
 */
export async function createGuard({ issuer, audience }: { issuer: string; audience: string }) {
  const discovered = await fetch(`${issuer}/.well-known/openid-configuration`)
  const metadata = (await discovered.json()) as { issuer: string; jwks_uri: string }
  if (metadata.issuer !== issuer) throw new Error(`${issuer} says that it is ${metadata.issuer}`)
  const keys = createRemoteJWKSet(new URL(metadata.jwks_uri))

  /** The token's content, or `undefined` when it is not good. A provider that does not answer is no bad token: it throws. */
  async function read(jwt: string): Promise<AccessToken | undefined> {
    try {
      const options = { issuer, audience, typ: 'at+jwt', clockTolerance: CLOCKS, currentDate: new Date(Date.now()) }
      const required = { requiredClaims: ['sub', 'client_id', 'exp', 'iat'], algorithms: ['ES256', 'RS256'] }
      return (await jwtVerify<AccessToken>(jwt, keys, { ...options, ...required })).payload
    } catch (error) {
      if (error instanceof errors.JOSEError && !OUTAGE.includes(error.code)) return undefined
      throw error
    }
  }

  return (needs: Needs): Middleware =>
    async (ctx, next) => {
      const [, jwt] = /^Bearer ([\w.~+/-]+=*)$/i.exec(ctx.get('authorization')) ?? []
      // Nothing was sent, so nothing is wrong with it (RFC 6750 §3.1).
      if (jwt === undefined) return refuse(ctx, 401, {})
      const token = await read(jwt)
      if (!token) return refuse(ctx, 401, { error: 'invalid_token' })
      if (!(token.scope ?? '').split(' ').includes(needs.scope))
        return refuse(ctx, 403, { error: 'insufficient_scope', scope: needs.scope })
      const missing = missingIn(token, needs)
      if (missing) return askForMore(ctx, missing)
      ctx.state['token'] = token
      return next()
    }
}

/** What an authorization request must say before the same call is answered; the names are its parameters. */
export interface StepUp {
  acr_values?: string
  max_age?: number
  second_factor_max_age?: number
  /** No parameter: what the same call names as its header `transaction` when it is made again. */
  transaction?: string
}

/** All that is missing, so that one step-up is enough. */
function missingIn({ acr, auth_time, second_factor_time }: AccessToken, needs: Needs): StepUp | undefined {
  const now = Math.floor(Date.now() / 1000)
  const old = (time: number | undefined, age: number | undefined) =>
    age !== undefined && (time === undefined || now - time > age + CLOCKS)
  const missing: StepUp = {
    ...(needs.acr && !needs.acr.includes(acr ?? '') && { acr_values: needs.acr.join(' ') }),
    ...(old(auth_time, needs.maxAge) && { max_age: needs.maxAge! }),
    ...(old(second_factor_time, needs.secondFactorMaxAge) && { second_factor_max_age: needs.secondFactorMaxAge! }),
  }
  return Object.keys(missing).length > 0 ? missing : undefined
}

/** Asks for a stronger or fresher sign-in (RFC 9470 §3). `second_factor_max_age` is Sallyport's own. */
export function askForMore(ctx: Context, stepUp: StepUp): void {
  const description = 'a stronger or fresher sign-in is needed'
  refuse(ctx, 401, { error: 'insufficient_user_authentication', error_description: description, ...stepUp })
}

function refuse(ctx: Context, status: number, parameters: Record<string, string | number>): void {
  const list = Object.entries(parameters).map(([name, value]) => `${name}="${value}"`)
  ctx.status = status
  ctx.set('WWW-Authenticate', ['Bearer', list.join(', ')].join(' ').trim())
  ctx.body = parameters
}
