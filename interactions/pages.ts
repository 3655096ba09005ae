/** The pages that oidc-provider draws itself, in our look: errors and logout. */
import type { Context } from 'koa'
import type { Configuration, KoaContextWithOIDC } from 'oidc-provider'
import { againPath, appLink, originOf } from './kit/router.ts'
import type { MessageName, Screen } from './kit/screen.ts'
import type { AccountStore } from './kit/stores.ts'

type AppOfLink = Parameters<typeof appLink>[0]

/** What only servers ask: they get JSON, whatever they say they accept (RFC 6749 §5.2). */
const FOR_SERVERS = new Set(['token', 'introspection', 'revocation', 'pushed_authorization_request', 'userinfo'])
/** The library's errors that have a page of their own; the others are a link or a form that is not right. */
const PAGE_OF: Partial<Record<string, MessageName>> = {
  invalid_client: 'unknown_client',
  invalid_request_uri: 'expired',
}

/** The configuration with our pages for errors, the logout question and its end. */
export function libraryPages(configuration: Configuration, screen: Screen, accounts: AccountStore): Configuration {
  return {
    ...configuration,
    renderError(ctx, out) {
      const koa = ctx as unknown as Context
      if (FOR_SERVERS.has(ctx.oidc?.route ?? '')) {
        koa.body = out
        return
      }
      const interaction = resumed(ctx)
      // A resume that came too late or twice: the page of its interaction knows where to go on.
      if (interaction !== undefined && out.error === 'invalid_request') {
        koa.redirect(againPath(ctx.oidc.provider, interaction))
        koa.status = 303
        return
      }
      // The second of two clicks on "Sign out": it is done.
      if (ctx.oidc?.route === 'end_session_confirm' && ctx.oidc.session?.accountId === undefined) {
        koa.status = 200
        return screen.show(koa, { view: 'signed-out', title: 'signed-out.title', locals: { clientUri: undefined } })
      }
      if (out.error === 'server_error') return screen.message(koa, 'server_error', { status: 500, reference: true })
      const name = PAGE_OF[out.error] ?? 'bad_request'
      const client = ctx.oidc?.client as AppOfLink | undefined
      const link = client && appLink(client, screen.messages)
      screen.message(koa, name, { status: koa.status, reference: true, link })
    },
    features: {
      ...configuration.features,
      rpInitiatedLogout: {
        enabled: true,
        async logoutSource(ctx) {
          const state = ctx.oidc.session!.state as { secret: string; postLogoutRedirectUri?: string }
          const target = state.postLogoutRedirectUri ?? ctx.oidc.params?.['post_logout_redirect_uri']
          const account = await accounts.find(ctx.oidc.session!.accountId!)
          screen.show(
            ctx as unknown as Context,
            {
              view: 'logout',
              title: 'logout.title',
              locals: {
                email: account?.email,
                xsrf: state.secret,
                logoutAction: ctx.oidc.urlFor('end_session_confirm'),
              },
            },
            typeof target === 'string' ? { formActions: [originOf(target)] } : {},
          )
        },
        async postLogoutSuccessSource(ctx) {
          const { client, provider } = ctx.oidc
          const clientUri = client?.clientUri
          // "Stay signed in" ends here too.
          const { accountId } = await provider.Session.get(ctx)
          if (accountId !== undefined) {
            const link = client && appLink(client as unknown as AppOfLink, screen.messages)
            return screen.message(ctx as unknown as Context, 'still_signed_in', { status: 200, link })
          }
          screen.show(ctx as unknown as Context, {
            view: 'signed-out',
            title: 'signed-out.title',
            locals: { clientUri },
          })
        },
      },
    },
  }
}

function resumed(ctx: KoaContextWithOIDC): string | undefined {
  return ctx.oidc.route === 'resume' ? /\/([\w-]{20,64})$/.exec(ctx.path)?.[1] : undefined
}
