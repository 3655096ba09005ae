/** "Payments API": what a resource server looks like behind the guard. */
import Koa from 'koa'
import { type AccessToken, askForMore, createGuard } from './guard.ts'

/** Any second factor, and one that is proven by the provider itself and not by SMS. */
const ANY = 'urn:sallyport:acr:2fa'
const APP = 'urn:sallyport:acr:2fa-app'

/** Characters of a call's body that are read. */
const BODY = 200

/**
 * @param issuer the provider
 * @param audience the API's resource indicator
 */
export async function createApi({ issuer, audience }: { issuer: string; audience: string }): Promise<Koa> {
  const guard = await createGuard({ issuer, audience })
  // By person. With several processes: in their database.
  const made = new Map<string, number>()
  /** Whose transaction waits, and the second factor's time that it came with. */
  const waiting = new Map<string, number>()
  /** The second factor's time that the last transaction was carried out with. */
  const spent = new Map<string, number>()

  /** One code, one transaction: the proof must be newer than what the refused call came with, and serve none but this. */
  const transaction = (acr: string[], carryOut: (ctx: Koa.Context, sub: string) => unknown): Koa.Middleware[] => [
    guard({ scope: 'payments', acr }),
    async (ctx) => {
      const { sub, second_factor_time = 0 } = tokenOf(ctx)
      const call = `${ctx.path} ${sub}`
      const before = waiting.get(call)
      if (before === undefined || second_factor_time <= Math.max(before, spent.get(sub) ?? 0)) {
        waiting.set(call, second_factor_time)
        return askForMore(ctx, { acr_values: acr.join(' '), second_factor_max_age: 0 })
      }
      waiting.delete(call)
      spent.set(sub, second_factor_time)
      await carryOut(ctx, sub)
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
    'POST /bank-account': transaction([ANY, APP], async (ctx) => {
      let account = ''
      for await (const part of ctx.req) account = (account + String(part)).slice(0, BODY)
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

const tokenOf = (ctx: Koa.Context) => ctx.state['token'] as AccessToken
