/** The pages that oidc-provider draws itself, in our look: errors and logout. */
import type { Context } from 'koa'
import type { Configuration, KoaContextWithOIDC } from 'oidc-provider'
import { interactionPath } from './kit/router.ts'
import { type Screen, seeOther } from './kit/screen.ts'
import type { AccountStore } from './kit/stores.ts'

/** The configuration with our pages for errors, the logout question and its end. */
export function libraryPages(configuration: Configuration, screen: Screen, accounts: AccountStore): Configuration {
  return {
    ...configuration,
    renderError(ctx, out) {
      const koa = ctx as unknown as Context
      // A resume or a sign-out that came too late or twice: its page knows where to go on.
      const further = out.error === 'invalid_request' ? goesOnAt(ctx) : undefined
      if (further !== undefined) return seeOther(koa, further)
      if (out.error === 'server_error') return screen.message(koa, 'server_error', { status: 500, reference: true })
      const name = out.error === 'invalid_client' ? 'unknown_client' : 'bad_request'
      screen.message(koa, name, { status: koa.status, reference: true })
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
            typeof target === 'string' ? { formActions: [new URL(target).origin] } : {},
          )
        },
        async postLogoutSuccessSource(ctx) {
          const clientUri = ctx.oidc.client?.clientUri
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

const UID = /^[\w-]{20,64}$/

/** The interaction of a late resume or switch of accounts; the question again for a late sign-out. */
function goesOnAt({ oidc, path }: KoaContextWithOIDC): string | undefined {
  if (oidc.route !== 'resume' && oidc.route !== 'end_session_confirm') return undefined
  const uid = oidc.route === 'resume' ? path.split('/').at(-1) : oidc.body?.['interaction']
  if (typeof uid === 'string' && UID.test(uid)) return interactionPath(oidc.provider, uid)
  return oidc.route === 'resume' ? undefined : oidc.urlFor('end_session')
}
