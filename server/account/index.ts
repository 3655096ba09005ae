/** Pages for people who have no password to give: asking for a link, and setting a password by it. They sign nobody in. */
import { randomBytes } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import { z } from 'zod'
import {
  type Counter,
  checkForm,
  createRecorder,
  digest,
  endSessions,
  type FoundLink,
  formToken,
  INVITING,
  InteractionError,
  keepCookie,
  keepDevice,
  networkOf,
  type PasswordHasher,
  passwordCounter,
  passwordSetIn,
  readCookie,
  type Sallyport,
  seeOther,
  type ThrottleRule,
} from '../../interactions/index.ts'
import { mailOf } from '../delivery.ts'
import type { House } from '../open.ts'
import { noticesOf } from '../provider.ts'
import { logUntold } from '../sessions.ts'
import { EMAIL_FIELD, fieldsOf, NAME_FIELD, valid } from './form.ts'
import { invitation, isElsewhere, PATHS, type PasswordPurpose, resetLink } from './links.ts'
import { passwordRule } from './password-rules.ts'
import { dropToken, keepToken, tokenOf } from './token.ts'

/** Letters to one address, whether somebody has it or not, and questions from one network. */
const ADDRESS: ThrottleRule = { kind: 'window', limit: 3, seconds: 60 * 60 }
const NETWORK: ThrottleRule = { kind: 'window', limit: 10, seconds: 60 * 60 }
/** A new password costs several hashes. */
const TRIES: ThrottleRule = { kind: 'window', limit: 30, seconds: 60 * 60 }
const ForgotForm = z.strictObject({ csrf: z.string(), email: EMAIL_FIELD })
/** `username` is there for password managers. */
const PasswordForm = z.strictObject({
  csrf: z.string(),
  username: z.string().optional(),
  name: NAME_FIELD.optional(),
  new_password: z.string('new_password_missing').min(1, 'new_password_missing').max(4096, 'form_invalid'),
})

/** What the pages stand on. */
export interface AccountParts {
  house: House
  provider: Provider
  screen: Sallyport['screen']
  passwords: PasswordHasher
}

/** Answers `/forgot`, `/reset` and `/welcome`. Mount it behind the plugin. Where mail is off there are no such pages. */
export function accountPages({ house, provider, screen, passwords }: AccountParts): Middleware {
  const { config, database, keyRing, logger } = house
  const { origin } = new URL(config.SALLYPORT_ISSUER)
  const now = () => Math.floor(Date.now() / 1000)
  const tell = noticesOf(house)
  const checkRules = passwordRule(house, passwords)

  async function count(counters: Counter[]): Promise<void> {
    const { allowed, retryAfter, key = '' } = await database.throttle.take(counters, now())
    if (!allowed) {
      const code = key.includes('|network|') ? 'too_many_from_network' : 'too_many_attempts'
      throw new InteractionError(code, { status: 429, retryAfter })
    }
  }

  const record = createRecorder(database.audit, now)

  // --- asking for a link

  /** What the form token is bound to: this browser. */
  function browserOf(ctx: Context): string {
    const known = readCookie(ctx, 'form')
    const value = known ?? randomBytes(32).toString('base64url')
    if (!known) keepCookie(ctx, 'form', value)
    return keyRing.mac('forgot', value)
  }

  function showForgot(ctx: Context, email: string, error?: InteractionError) {
    const csrf = formToken(browserOf(ctx))
    screen.show(ctx, { view: 'forgot', title: 'forgot.title', locals: { email } }, { csrf, action: '/forgot', error })
  }

  async function forgot(ctx: Context): Promise<void> {
    const { body, unread } = await read(ctx)
    if (ctx.method !== 'POST' || unread) return showForgot(ctx, '', unread)
    const typed = typeof body['email'] === 'string' ? body['email'] : ''
    try {
      checkForm(ctx, origin, browserOf(ctx), body['csrf'])
      const { email } = valid(ForgotForm, body)
      if (await isElsewhere(house, email))
        return screen.message(ctx, 'company_password', { status: 200, vars: { domain: email.split('@')[1]! } })
      await count([
        { key: `reset|network|${networkOf(ctx.ip)}`, rule: NETWORK },
        { key: `reset|address|${digest(email)}`, rule: ADDRESS },
      ])
      // Behind the answer, which is the same for everybody and as quick.
      const facts = { lang: screen.messages(ctx).lang }
      setImmediate(() => {
        mail(ctx, email, facts.lang).catch((error: Error) =>
          logger.error({ error: error.message }, 'a link to a new password'),
        )
      })
      const link = { href: '/forgot', label: screen.messages(ctx).t('forgot.again') }
      screen.message(ctx, 'link_sent', { status: 200, vars: { email }, link })
    } catch (error) {
      refuse(ctx, error, (shown) => showForgot(ctx, typed, shown))
    }
  }

  /** Somebody who never had a password is invited again; whose password was taken away gets a link to a new one. */
  async function mail(ctx: Context, email: string, lang: string): Promise<void> {
    const found = await database.accounts.findByEmail(email)
    if (!found || found.account.disabled) return
    const about = { config, now: now(), lang }
    const { purpose, link, messages } =
      (await database.passwords.recent(found.account.id)).length === 0
        ? invitation(found.account, { ...about, inviter: config.SALLYPORT_BRAND_NAME })
        : resetLink(found.account, about)
    if (purpose === 'welcome') await database.outbox.withdraw(found.account.id, [...INVITING])
    if (!(await database.passwords.issueLink(found.account.id, purpose, link, messages))) return
    await record(ctx, { event: 'password.link_sent', outcome: 'success', accountId: found.account.id })
  }

  // --- setting a password

  /** The link, if it is good; else a page says what is the matter, and leads on. */
  async function goodLink(ctx: Context, purpose: PasswordPurpose, token: string): Promise<FoundLink | undefined> {
    const link = await database.passwords.findLink(digest(token))
    const account = link && (await database.accounts.find(link.accountId))
    const again = { href: '/forgot', label: screen.messages(ctx).t('forgot.link') }
    const say = (name: 'link_used' | 'link_expired' | 'link_unknown') => {
      screen.message(ctx, name, { status: 400, link: again })
      return undefined
    }
    if (!link || link.purpose !== purpose) return say('link_unknown')
    if (link.usedAt !== undefined) return say('link_used')
    if (link.expiresAt <= now()) return say('link_expired')
    const isVoid = !account || account.disabled || account.email !== link.email || account.securityEpoch !== link.epoch
    return isVoid || (await isElsewhere(house, link.email)) ? say('link_unknown') : link
  }

  async function newPassword(ctx: Context, purpose: PasswordPurpose): Promise<void> {
    if (ctx.method !== 'POST' && ctx.query['token'] !== undefined) return keepToken(ctx, purpose, PATHS[purpose])
    const token = tokenOf(ctx, purpose)
    const secret = keyRing.mac('new-password', token)
    const { body, unread } = await read(ctx)
    const link = await goodLink(ctx, purpose, token)
    if (!link) return
    const account = (await database.accounts.find(link.accountId))!
    const showForm = (error?: InteractionError) => {
      const typed = typeof body['name'] === 'string' ? body['name'] : account.name
      const locals = {
        email: link.email,
        min: config.SALLYPORT_PASSWORD_MIN_LENGTH,
        ...(purpose === 'welcome' && { name: typed ?? '' }),
      }
      const title = purpose === 'welcome' ? 'welcome.title' : 'new-password.title'
      const shown = { view: 'new-password', title, titleVars: { brand: config.SALLYPORT_BRAND_NAME }, locals }
      screen.show(ctx, shown, { csrf: formToken(secret), action: PATHS[purpose], error })
    }
    if (ctx.method !== 'POST' || unread) return showForm(unread)
    try {
      checkForm(ctx, origin, secret, body['csrf'])
      await count([{ key: `new-password|network|${networkOf(ctx.ip)}`, rule: TRIES }])
      const { name, new_password: password } = valid(PasswordForm, body)
      if (purpose === 'welcome' && name === undefined) throw new InteractionError('name_missing', { field: 'name' })
      await checkRules(account, password, name)
      const facts = {
        now: now(),
        lang: screen.messages(ctx).lang,
        ip: ctx.ip,
        browser: ctx.get('user-agent') || undefined,
      }
      const set = await database.passwords.setByLink(link.hash, {
        passwordHash: await passwords.hash(password),
        ...(purpose === 'welcome' && { name }),
        now: now(),
        messages: purpose === 'welcome' ? [] : tell(account, 'password_changed', facts),
        withdraws: [...INVITING],
      })
      // The other of two clicks, or somebody in between: the page says which.
      if (!set) return void (await goodLink(ctx, purpose, token))
      await after(ctx, purpose, account)
    } catch (error) {
      refuse(ctx, error, showForm)
    }
  }

  /** Every session ends, apps are told; what a stranger's wrong passwords closed is open again, and stays so in this browser (R32). Nobody is signed in. */
  async function after(
    ctx: Context,
    purpose: PasswordPurpose,
    { id: accountId, email }: { id: string; email: string },
  ) {
    const event = purpose === 'reset' ? { event: 'password.reset' } : { event: 'invitation.accepted' }
    await record(ctx, { ...event, outcome: 'success', accountId })
    await database.devices.remember(passwordSetIn(keepDevice(ctx)), accountId, now())
    await database.throttle.clear([passwordCounter(email)])
    const sessions = await database.artifacts.sessionsOf(accountId, now())
    const requestId = ctx.state['requestId'] as string
    const { told } = await endSessions({ provider, stores: database, now: now(), about: { requestId } }, sessions)
    logUntold(house, told)
    dropToken(ctx, purpose)
    seeOther(ctx, `${PATHS[purpose]}/done`)
  }

  /** What a form sent, or why it cannot be read. */
  async function read(ctx: Context): Promise<{ body: Record<string, unknown>; unread?: InteractionError }> {
    if (ctx.method !== 'POST') return { body: {} }
    try {
      return { body: await fieldsOf(ctx) }
    } catch (error) {
      if (!(error instanceof InteractionError)) throw error
      return { body: {}, unread: error }
    }
  }

  function refuse(ctx: Context, error: unknown, show: (error: InteractionError) => void) {
    if (!(error instanceof InteractionError)) throw error
    if (error.code === 'cross_site') return screen.message(ctx, 'cross_site', { status: 403 })
    show(error)
  }

  return async (ctx, next) => {
    const isPage = ['/forgot', '/reset', '/welcome', '/reset/done', '/welcome/done'].includes(ctx.path)
    if (!isPage || mailOf(config) === 'none') return next()
    if (!['GET', 'HEAD', 'POST'].includes(ctx.method)) return next()
    if (ctx.path.endsWith('/done')) return screen.message(ctx, 'password_set', { status: 200 })
    return ctx.path === '/forgot' ? forgot(ctx) : newPassword(ctx, ctx.path === '/reset' ? 'reset' : 'welcome')
  }
}
