/** Where the link of a letter leads: it changes nothing, and brings the person back to their sign-in. */
import type { Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import { basePath } from '../kit/network.ts'
import { keepOpenedLink, openedLink } from '../kit/opened-link.ts'
import { interactionPath } from '../kit/router.ts'
import { type Screen, seeOther } from '../kit/screen.ts'
import type { MailedLinkStore } from '../kit/stores.ts'
import { LINK_PATH, LINK_SECONDS } from './index.ts'

/** What the route stands on. */
export interface LinkRouteParts {
  provider: Pick<Provider, 'issuer'>
  links: MailedLinkStore
  screen: Screen
  now: () => number
}

/** `GET /enrol`. */
export function linkRoute({ provider, links, screen, now }: LinkRouteParts): Middleware {
  return async (ctx, next) => {
    if (ctx.path !== LINK_PATH) return next()
    if (ctx.method !== 'GET' && ctx.method !== 'HEAD') {
      ctx.set('Allow', 'GET')
      return screen.message(ctx, 'bad_request', { status: 405 })
    }
    ctx.set('Referrer-Policy', 'no-referrer')
    ctx.set('Cache-Control', 'no-store')
    const { token, at } = ctx.query
    const uid = typeof at === 'string' && /^[\w-]{20,64}$/.test(at) ? at : undefined
    if (typeof token === 'string' && /^[\w-]{43}$/.test(token)) {
      keepOpenedLink(ctx, token, LINK_SECONDS)
      return seeOther(ctx, `${basePath(provider.issuer)}${LINK_PATH}${uid ? `?at=${uid}` : ''}`)
    }
    const hash = openedLink(ctx)
    const link = hash === undefined ? undefined : await links.findLink(hash)
    const signIn = uid && { href: interactionPath(provider, uid), label: screen.messages(ctx).t('mailed-link.go_on') }
    const name =
      link?.purpose !== 'enrolment'
        ? 'enrolment_link_unknown'
        : link.usedAt !== undefined
          ? 'enrolment_link_used'
          : link.expiresAt <= now()
            ? 'enrolment_link_expired'
            : undefined
    if (name) return screen.message(ctx, name, { status: 400, ...(signIn && { link: signIn }) })
    // The page of the sign-in, if it is in this browser; else a page that says to sign in here (kit/router.ts).
    if (uid) return seeOther(ctx, interactionPath(provider, uid))
    screen.message(ctx, 'link_opened', { status: 200 })
  }
}
