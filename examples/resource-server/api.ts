/** "Payments API": what a resource server looks like behind the guard. */
import { randomUUID } from 'node:crypto'
import Koa from 'koa'
import { type AccessToken, askForMore, createGuard } from './guard.ts'

/** Any second factor, and one that is proven by the provider itself and not by SMS. */
const ANY = 'urn:sallyport:acr:2fa'
const APP = 'urn:sallyport:acr:2fa-app'

/** Bytes of a call's body at the most. */
const BODY = 200

/**
 * @param issuer the provider
 * @param audience the API's resource indicator
 */
export async function createApi({ issuer, audience }: { issuer: string; audience: string }): Promise<Koa> {
  const guard = await createGuard({ issuer, audience })
  // With several processes: in their database.
  /** By person. */
  const made = new Map<string, number>()
  /** Transactions that were refused for want of a code of their own, with the second factor's time that they came with. */
  const waiting = new Map<string, { whose: string; before: number }>()
  /** By person: the second factor's time that the last one was carried out with. */
  const spent = new Map<string, number>()

  /**
   * One code, one transaction: a call that names no refused one is new and is refused; the same call after that, to the last byte and
   * by the same app, needs a proof that is newer, and has served no other. Whatever code was given at a sign-in or an entry meanwhile
   * carries out nothing.
   */
  const transaction = (
    acr: string[],
    carryOut: (ctx: Koa.Context, sub: string, body: string) => unknown,
  ): Koa.Middleware[] => [
    guard({ scope: 'payments', acr }),
    async (ctx) => {
      const { sub, client_id, second_factor_time = 0 } = tokenOf(ctx)
      const body = await bodyOf(ctx)
      if (body === undefined) {
        ctx.status = 413
        return
      }
      const whose = JSON.stringify([sub, client_id, ctx.path, body])
      const known = waiting.get(ctx.get('transaction'))
      if (known?.whose !== whose || second_factor_time <= Math.max(known.before, spent.get(sub) ?? 0)) {
        const transaction = randomUUID()
        waiting.set(transaction, { whose, before: second_factor_time })
        return askForMore(ctx, { acr_values: acr.join(' '), second_factor_max_age: 0, transaction })
      }
      waiting.delete(ctx.get('transaction'))
      spent.set(sub, second_factor_time)
      await carryOut(ctx, sub, body)
    },
  ]

  const routes: Record<string, Koa.Middleware[]> = {
    'GET /disbursements': [
      guard({ scope: 'payments' }),
      (ctx) => {
        ctx.body = { made: made.get(tokenOf(ctx).sub) ?? 0 }
      },
    ],
    'GET /beneficiaries': [
      guard({ scope: 'payments', acr: [APP], maxAge: 60 * 60, secondFactorMaxAge: 15 * 60 }),
      (ctx) => {
        ctx.body = { beneficiaries: ['Best Plumbing'] }
      },
    ],
    'POST /disbursements': transaction([APP], (ctx, sub) => {
      made.set(sub, (made.get(sub) ?? 0) + 1)
      ctx.status = 201
      ctx.body = { made: made.get(sub) }
    }),
    // Who is paid may have a phone in place of an app.
    'POST /bank-account': transaction([ANY, APP], (ctx, _sub, account) => {
      if (/^\d{4,17}$/.test(account)) ctx.body = { ends: account.slice(-4) }
      else ctx.status = 422
    }),
  }

  const app = new Koa()
  app.use(async (ctx, next) => {
    const [door, answer] = routes[`${ctx.method} ${ctx.path}`] ?? []
    if (!door || !answer) return next()
    await door(ctx, async () => answer(ctx, next))
  })
  return app
}

/** `undefined` when it is too long: of a part of it nobody says what the code was for. */
async function bodyOf(ctx: Koa.Context): Promise<string | undefined> {
  const parts: Buffer[] = []
  for await (const part of ctx.req) {
    parts.push(part as Buffer)
    if (Buffer.concat(parts).length > BODY) return undefined
  }
  return Buffer.concat(parts).toString('utf8')
}

const tokenOf = (ctx: Koa.Context) => ctx.state['token'] as AccessToken
