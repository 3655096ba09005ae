/**
 * A person's own account, `/account`: they see what is kept of them and how they sign in, and change it. Every page needs a
 * session; what a person must prove before a change, and what they may change at all, the policy says.
 */
import type { Context, Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import type { z } from 'zod'
import {
  checkForm,
  createRecorder,
  formToken,
  InteractionError,
  type Messages,
  type NoticeFacts,
  type PasswordHasher,
  proofBeforeChange,
  type Recorder,
  type Sallyport,
  type Shown,
  seeOther,
  type Tell,
  type ThrottleRule,
} from '../../interactions/index.ts'
import { mailOf } from '../delivery.ts'
import type { House } from '../open.ts'
import { limitsOf, noticesOf } from '../provider.ts'
import { confirmPage, emailPage, noticePage } from './addresses.ts'
import { CALLBACK_PATH } from './client.ts'
import { companyPages } from './company.ts'
import { fieldsOf, valid } from './form.ts'
import { historyPage } from './history.ts'
import { homePage } from './home.ts'
import { PATHS } from './links.ts'
import { namePage, passwordPage } from './person.ts'
import { appsPage, sessionsPage } from './reach.ts'
import { alwaysPage, removePage } from './second-step.ts'
import { accountSignIn, type SignedIn } from './sign-in.ts'
import { keepToken } from './token.ts'

/** What is set up by the provider: the policy says what is proven before, and whether this person may have it at all. */
const SET_UP: Record<string, { what: string; done: string }> = {
  '/account/app': { what: 'otp', done: 'app_set_up' },
  '/account/phone': { what: 'sms', done: 'phone_set_up' },
  '/account/recovery-code': { what: 'recovery_code', done: 'recovery_code_made' },
}

/** Forms that one person sends: most of them are told of by a letter, or cost a hash. */
const FORMS: ThrottleRule = { kind: 'window', limit: 120, seconds: 60 * 60 }

/** What the pages stand on. */
export interface OwnAccountParts {
  house: House
  provider: Provider
  sallyport: Pick<Sallyport, 'screen' | 'requirementOf' | 'choicesOf'>
  passwords: PasswordHasher
  tell: Tell
  record: Recorder
  now: () => number
}

/** One request of a person who is signed in. */
export interface AccountVisit extends SignedIn {
  ctx: Context
  now: number
  messages: Messages
  /** Of this request, for letters that tell of it. */
  letter: NoticeFacts
}

/** One page. */
export interface AccountPage<Form = unknown> {
  show(visit: AccountVisit): Promise<Shown>
  form?: z.ZodType<Form>
  /** Who it is not for: the message that they read instead, with a link to `/forgot`. */
  closed?(visit: AccountVisit): 'password_by_mail' | undefined
  /** False: for this person there is no such page. */
  isFor?(visit: AccountVisit): Promise<boolean>
  /** What must have been proven just now for the form to count. */
  proof?: 'password' | 'other'
  /** The page is nothing but the form: the proof is asked for before it is shown. */
  proofFirst?: boolean
  /**
   * @returns what was done, for the notice on the page that comes next, and where that is
   * @throws {InteractionError} the page is shown again with the message
   */
  submit?(visit: AccountVisit, form: Form): Promise<{ done?: string; at?: string }>
}

/** Checks a page's types where it is written, and forgets its form's type. */
export const accountPage = <Form>(page: AccountPage<Form>): AccountPage => page as AccountPage

/** Answers everything under `/account`. Mount it behind the plugin. */
export function ownAccount(given: Pick<OwnAccountParts, 'house' | 'provider' | 'sallyport' | 'passwords'>): Middleware {
  const { house, provider } = given
  const { screen } = given.sallyport
  const now = () => Math.floor(Date.now() / 1000)
  const parts = { ...given, tell: noticesOf(house), record: createRecorder(house.database.audit, now), now }
  const signIn = accountSignIn({ house, provider, limits: limitsOf(house.config), now })
  const pages: Record<string, AccountPage> = {
    '/account': homePage(parts),
    '/account/name': namePage(parts),
    '/account/password': passwordPage(parts),
    '/account/always': alwaysPage(parts),
    '/account/app/remove': removePage(parts, 'otp'),
    '/account/phone/remove': removePage(parts, 'sms'),
    // An address is proven by mail.
    ...(mailOf(house.config) !== 'none' && {
      '/account/email': emailPage(parts),
      '/account/notices': noticePage(parts),
      [PATHS.email]: confirmPage(parts, 'email'),
      [PATHS.notice]: confirmPage(parts, 'notice'),
    }),
    '/account/sessions': sessionsPage(parts),
    '/account/apps': appsPage(parts),
    '/account/history': historyPage(parts),
  }

  const ofCompany = companyPages(parts)

  return async (ctx, next) => {
    const { path, method } = ctx
    if (path !== '/account' && !path.startsWith('/account/')) return next()
    if (!['GET', 'HEAD', 'POST'].includes(method)) {
      ctx.set('Allow', 'GET, POST')
      return screen.message(ctx, 'bad_request', { status: 405 })
    }
    if (path === CALLBACK_PATH) return arrive(ctx)
    // The library asks, ends the session, and has the apps told.
    if (path === '/account/sign-out') return seeOther(ctx, '/session/end')
    const wanted = Object.hasOwn(SET_UP, path) ? SET_UP[path] : undefined
    if (wanted) return signIn.send(ctx, `/account?done=${wanted.done}`, { set_up: wanted.what })
    const page = Object.hasOwn(pages, path) ? pages[path] : ofCompany(path)
    if (!page) return next()
    const linked = (['email', 'notice'] as const).find((purpose) => PATHS[purpose] === path)
    if (linked && method !== 'POST' && ctx.query['token'] !== undefined) return keepToken(ctx, linked, path)
    await answer(ctx, page, next)
  }

  async function arrive(ctx: Context) {
    const to = await signIn.arrive(ctx)
    if (to !== undefined) return seeOther(ctx, to)
    const link = { href: '/account', label: screen.messages(ctx).t('message.again') }
    screen.message(ctx, 'bad_request', { status: 400, link })
  }

  async function answer(ctx: Context, page: AccountPage, next: () => Promise<unknown>) {
    const person = await signIn.signedIn(ctx)
    if (!person) return signIn.send(ctx, ctx.path)
    const visit: AccountVisit = { ...person, ctx, now: now(), messages: screen.messages(ctx), letter: letterOf(ctx) }
    if (page.isFor && !(await page.isFor(visit))) return void (await next())
    const closed = page.closed?.(visit)
    if (closed) {
      const link = { href: '/forgot', label: visit.messages.t('forgot.submit') }
      return screen.message(ctx, closed, { status: ctx.method === 'POST' ? 403 : 200, link })
    }
    const asks = page.proof && proofBeforeChange(person.account, person.facts, page.proof, visit.now)
    if (ctx.method !== 'POST') return asks && page.proofFirst ? signIn.send(ctx, ctx.path, asks) : show(visit, page)
    try {
      const { csrf, ...fields } = await fieldsOf(ctx)
      checkForm(ctx, new URL(house.config.SALLYPORT_ISSUER).origin, secretOf(person), csrf)
      if (!page.form || !page.submit) throw new InteractionError('form_invalid')
      if (asks) return signIn.send(ctx, page.proofFirst ? ctx.path : `${ctx.path}?done=proven`, asks)
      const counters = [{ key: `account-forms|${person.account.id}`, rule: FORMS }]
      const { allowed, retryAfter } = await house.database.throttle.take(counters, visit.now)
      if (!allowed) throw new InteractionError('too_many_attempts', { status: 429, retryAfter })
      const { done, at = ctx.path } = await page.submit(visit, valid(page.form, fields))
      seeOther(ctx, done === undefined ? at : `${at}?done=${done}`)
    } catch (error) {
      if (!(error instanceof InteractionError)) throw error
      if (error.code === 'cross_site') return screen.message(ctx, 'cross_site', { status: 403 })
      await show(visit, page, error)
    }
  }

  async function show(visit: AccountVisit, page: AccountPage, error?: InteractionError) {
    const { ctx, messages } = visit
    const done = `account.done.${ctx.query['done']}`
    const notice = !error && messages.has(done) ? messages.t(done) : undefined
    const csrf = formToken(secretOf(visit))
    screen.show(ctx, await page.show(visit), { csrf, action: ctx.path, error, ...(notice && { notice }) })
  }

  /** A form is good as long as the session that it was shown in. */
  function secretOf({ session }: SignedIn) {
    return house.keyRing.mac('account-form', session.uid)
  }

  function letterOf(ctx: Context): NoticeFacts {
    return {
      now: now(),
      lang: screen.messages(ctx).lang,
      ip: ctx.ip,
      browser: ctx.get('user-agent') || undefined,
    }
  }
}
