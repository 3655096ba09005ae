/** Answers with pages: view, title, messages and the content security policy together. */
import { randomUUID } from 'node:crypto'
import type { Context } from 'koa'
import type { KoaContextWithOIDC } from 'oidc-provider'
import type { InteractionError } from './errors.ts'
import { contentSecurityPolicy, newNonce } from './headers.ts'
import type { Languages, Messages, Vars } from './messages.ts'
import type { Page, Pages } from './pages.ts'
import type { Shown } from './room.ts'

/** What a page of a flow needs around its own content. */
export interface Around extends Omit<Page, 'title' | 'error'> {
  error?: InteractionError | undefined
  /** Where the app's redirect URI points: the browser follows it after a form post (CSP `form-action`). */
  formActions?: string[]
}

/** The pages that say something and lead on. Each has `page.<name>.title` and `.text`. */
export type MessageName =
  | 'expired'
  | 'already_done'
  | 'other_browser'
  | 'too_many_codes'
  | 'device_allowed'
  | 'device_denied'
  | 'too_many_user_codes'
  | 'unavailable'
  | 'busy'
  | 'not_found'
  | 'server_error'
  | 'bad_request'
  | 'unknown_client'
  | 'posted_expired'
  | 'cross_site'
  | 'still_signed_in'
  | 'sso_refused'
  | 'test_link_gone'
  | 'link_sent'
  | 'link_used'
  | 'link_expired'
  | 'link_unknown'
  | 'link_opened'
  | 'enrolment_link_used'
  | 'enrolment_link_expired'
  | 'enrolment_link_unknown'
  | 'password_set'
  | 'not_you'
  | 'not_you_done'
  | 'email_restored'
  | 'email_not_free'
  | 'company_password'
  | 'password_by_mail'

/** Those that the same address may get past a little later. */
const PASSING: readonly MessageName[] = ['unavailable', 'busy', 'server_error']

/** Draws pages, each in the language of the request that it answers. */
export interface Screen {
  show(ctx: Context, shown: Shown, around?: Around): void
  message(
    ctx: Context,
    name: MessageName,
    options: { status: number; link?: { href: string; label: string } | undefined; vars?: Vars; reference?: boolean },
  ): void
  /** What this person is spoken to in: what the app asked for, else what the browser asks for, else the default. */
  messages(ctx: Context): Messages
  /** The language tags that there are, the default first. */
  languages: string[]
}

/**
 * What an app asks for: language tags, the best first, with spaces between them (OIDC Core §3.1.2.1). Of the request that
 * oidc-provider answers, that a room said by {@link speak}, or that stands in this very address; a repeated one is none.
 */
function asked(ctx: Context): string[] {
  const { oidc } = ctx as unknown as Partial<KoaContextWithOIDC>
  const places = [ctx.state['speak'], oidc?.entities?.Interaction?.params, oidc?.params, ctx.query]
  const wishes = places.map((place) => (place as Record<string, unknown> | undefined)?.['ui_locales'])
  const found = wishes.find((wish): wish is string => typeof wish === 'string' && wish !== '')
  return found?.split(' ') ?? []
}

/** Says in which language this request is answered: that of an earlier request, by its parameters. */
export function speak(ctx: Context, params: Record<string, unknown>): void {
  ctx.state['speak'] = params
}

/** An address of ours whose page is in the language that was asked for. */
export const inLanguage = (url: string, uiLocales: unknown): string =>
  typeof uiLocales === 'string' && uiLocales !== ''
    ? `${url}${url.includes('?') ? '&' : '?'}${new URLSearchParams({ ui_locales: uiLocales })}`
    : url

/** @param pages the renderer */
export function createScreen(pages: Pages, languages: Languages): Screen {
  const messages = (ctx: Context) => languages.best([...asked(ctx), ...ctx.acceptsLanguages()])

  const draw = (ctx: Context, view: string, page: Page, formActions: string[] = []) => {
    const nonce = newNonce()
    ctx.set('Cache-Control', 'no-store')
    ctx.set('Content-Security-Policy', contentSecurityPolicy(nonce, formActions))
    ctx.type = 'html'
    ctx.body = pages.render(messages(ctx), view, { ...page, nonce })
  }

  return {
    messages,
    languages: languages.tags,
    show(ctx, { view, title, titleVars, locals }, { error, formActions, ...around } = {}) {
      if (error) ctx.status = error.status
      if (error?.retryAfter !== undefined && Number.isFinite(error.retryAfter))
        ctx.set('Retry-After', String(error.retryAfter))
      const here = messages(ctx)
      const shownError = error && { message: sentence(here, error), ...(error.field && { field: error.field }) }
      const page = {
        ...around,
        ...locals,
        title: here.t(title, titleVars),
        ...(shownError && { error: shownError }),
      }
      draw(ctx, view, page, formActions)
    },
    message(ctx, name, { status, link: given, vars, reference }) {
      ctx.status = status
      const { t } = messages(ctx)
      // An empty reference is this page's own address, asked for with a GET.
      const again = PASSING.includes(name) ? { href: '', label: t('message.again') } : undefined
      const link = given ?? again
      const page = {
        title: t(`page.${name}.title`, vars),
        text: t(`page.${name}.text`, vars),
        ...(link && { link }),
        ...(reference && { reference: requestId(ctx) }),
      }
      draw(ctx, 'message', page)
    },
  }
}

/** The sentence of an error, in the person's language. */
export function sentence(messages: Messages, { code, vars, retryAfter }: InteractionError): string {
  const wait = retryAfter === undefined ? undefined : messages.duration(retryAfter)
  return messages.t(`error.${code}`, wait === undefined ? vars : { wait, ...vars })
}

/** One id from page to log to audit; made here when no logger in front gave one. */
export function requestId(ctx: Context): string {
  ctx.state['requestId'] ??= randomUUID()
  return ctx.state['requestId'] as string
}

/** 303 See Other: after a form the browser goes on with a GET (RFC 9700 §4.12). */
export function seeOther(ctx: Context, to: string): void {
  ctx.redirect(to)
  ctx.status = 303
}
