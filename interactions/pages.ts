/** The pages that oidc-provider draws itself, in our look: errors and logout. */
import type { Context } from 'koa'
import type { Configuration } from 'oidc-provider'
import { deviceFeature } from './device.ts'
import { againPath, appLink, interactionPath, originOf } from './kit/router.ts'
import { inLanguage, type MessageName, type Screen, seeOther } from './kit/screen.ts'
import type { AccountStore } from './kit/stores.ts'

type AppOfLink = Parameters<typeof appLink>[0]

/** What only servers ask: they get JSON, whatever they say they accept (RFC 6749 §5.2). */
const FOR_SERVERS = new Set(['token', 'introspection', 'revocation', 'pushed_authorization_request', 'userinfo'])
/** The library's errors that have a page of their own; the others are a link or a form that is not right. */
const PAGE_OF: Partial<Record<string, MessageName>> = {
  invalid_client: 'unknown_client',
  invalid_request_uri: 'expired',
}

/** The configuration with our pages for errors, the logout question and its end, and the languages they are in. */
export function libraryPages(configuration: Configuration, screen: Screen, accounts: AccountStore): Configuration {
  return {
    ...configuration,
    discovery: { ...configuration.discovery, ui_locales_supported: screen.languages },
    renderError(ctx, out) {
      const koa = ctx as unknown as Context
      if (FOR_SERVERS.has(ctx.oidc?.route ?? '')) {
        koa.body = out
        return
      }
      // Too late or twice: the interaction of a resume, or of a switch of accounts, knows where to go on.
      if (out.error === 'invalid_request') {
        const { provider, route, body } = ctx.oidc
        const resumed = route === 'resume' ? uidOf(ctx.path.split('/').at(-1)) : undefined
        if (resumed !== undefined) return seeOther(koa, againPath(provider, resumed))
        const switched = route === 'end_session_confirm' ? uidOf(body?.['interaction']) : undefined
        if (switched !== undefined) return seeOther(koa, interactionPath(provider, switched))
      }
      if (ctx.oidc?.route === 'end_session_confirm') {
        // The second of two clicks on "Sign out": it is done. Signed in again meanwhile: the question again.
        if (ctx.oidc.session?.accountId !== undefined) return seeOther(koa, ctx.oidc.urlFor('end_session'))
        koa.status = 200
        return screen.show(koa, { view: 'signed-out', title: 'signed-out.title', locals: { clientUri: undefined } })
      }
      if (out.error === 'server_error') return screen.message(koa, 'server_error', { status: 500, reference: true })
      const name = PAGE_OF[out.error] ?? 'bad_request'
      const client = ctx.oidc?.client as AppOfLink | undefined
      const link = client && appLink(client, screen.messages(koa))
      screen.message(koa, name, { status: koa.status, reference: true, link })
    },
    features: {
      ...configuration.features,
      ...(configuration.features?.deviceFlow?.enabled && {
        deviceFlow: deviceFeature(configuration.features.deviceFlow, screen, accounts),
      }),
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
                logoutAction: inLanguage(ctx.oidc.urlFor('end_session_confirm'), ctx.oidc.params?.['ui_locales']),
              },
            },
            typeof target === 'string' ? { formActions: [originOf(target)] } : {},
          )
        },
        async postLogoutSuccessSource(ctx) {
          const koa = ctx as unknown as Context
          const { client, provider } = ctx.oidc
          const clientUri = client?.clientUri
          // "Stay signed in" ends here too.
          const { accountId } = await provider.Session.get(ctx)
          if (accountId !== undefined) {
            const link = client && appLink(client as unknown as AppOfLink, screen.messages(koa))
            return screen.message(koa, 'still_signed_in', { status: 200, link })
          }
          screen.show(koa, { view: 'signed-out', title: 'signed-out.title', locals: { clientUri } })
        },
      },
    },
  }
}

const uidOf = (value: unknown) => (typeof value === 'string' && /^[\w-]{20,64}$/.test(value) ? value : undefined)
