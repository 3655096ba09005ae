/** The sign-in that the app wrote itself, and that Sallyport takes the place of. */
import { bodyParser } from '@koa/bodyparser'
import type { Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import { byEmail, scryptMatches } from './people.ts'

const parse = bodyParser({ enableTypes: ['form'] })

export function signIn(provider: Provider): Middleware {
  return async (ctx, next) => {
    if (!ctx.path.startsWith('/oidc/sign-in/')) return next()
    const { prompt, params, grantId, session } = await provider.interactionDetails(ctx.req, ctx.res)
    ctx.status = 200 // the library ends the response by itself
    if (prompt.name === 'consent') {
      const clientId = String(params['client_id'])
      const grant = (grantId && (await provider.Grant.find(grantId))) || new provider.Grant({ clientId })
      grant.accountId = session!.accountId
      grant.addOIDCScope(String(params['scope']))
      ctx.respond = false
      return provider.interactionFinished(ctx.req, ctx.res, { consent: { grantId: await grant.save() } })
    }
    await parse(ctx, async () => {})
    const { email = '', password = '' } = (ctx.request.body ?? {}) as Record<string, string>
    const person = byEmail(email)
    if (person && scryptMatches(person.passwordHash, password)) {
      ctx.respond = false
      return provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: person.id, amr: ['pwd'] } })
    }
    ctx.type = 'html'
    ctx.body = `<!doctype html><title>Sign in</title><h1>Sign in to Ledger</h1><form method="post" action="${ctx.path}">
<input name="email"><input name="password" type="password"><button>Sign in</button></form>`
  }
}
