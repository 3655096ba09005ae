/** "Payments API": what a resource server looks like behind the guard. */
import Koa from 'koa'
import { type AccessToken, askForMore, createGuard } from './guard.ts'

/** Proven by us, and not by SMS. */
const APP = 'urn:sallyport:acr:2fa-app'

/**
 * @param issuer the provider
 * @param audience the API's resource indicator
 */
export async function createApi({ issuer, audience }: { issuer: string; audience: string }): Promise<Koa> {
  const guard = await createGuard({ issuer, audience })
  const made = new Map<string, number>()
  /** Whose disbursement waits, and the second factor's time that it came with. With several processes: in their database. */
  const waiting = new Map<string, number>()

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
    'POST /disbursements': [
      guard({ scope: 'payments', acr: [APP] }),
      (ctx) => {
        // One code, one disbursement: the proof must be newer than the one that the refused call came with.
        const { sub, second_factor_time = 0 } = tokenOf(ctx)
        const before = waiting.get(sub)
        if (before === undefined || second_factor_time <= before) {
          waiting.set(sub, second_factor_time)
          return askForMore(ctx, { acr_values: APP, second_factor_max_age: 0 })
        }
        waiting.delete(sub)
        made.set(sub, (made.get(sub) ?? 0) + 1)
        ctx.status = 201
        ctx.body = { made: made.get(sub) }
      },
    ],
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
