/** Pages behind links in letters that take back what somebody else did. They ask once more, and sign nobody in. */
import type { Context, Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import {
  type Account,
  checkForm,
  createRecorder,
  digest,
  endSessions,
  type FoundLink,
  formToken,
  InteractionError,
  NOT_ME_SECONDS,
  readNotMe,
  type Sallyport,
} from '../../interactions/index.ts'
import { mailOf } from '../delivery.ts'
import type { House } from '../open.ts'
import { noticesOf } from '../provider.ts'
import { untilItHolds } from '../seed/index.ts'
import { logUntold } from '../sessions.ts'
import { isConflict, writtenOf } from '../stores.ts'
import { fieldsOf } from './form.ts'
import { PATHS } from './links.ts'
import { dropToken, keepToken, type TokenName, tokenOf } from './token.ts'

/** What the pages stand on. */
export interface NotYouParts {
  house: House
  provider: Provider
  screen: Sallyport['screen']
}

/** Keys of the sentences of one button. */
interface Question {
  title: string
  text: string
  submit: string
  vars?: Record<string, string>
}
const NOT_YOU: Question = { title: 'not-you.title', text: 'not-you.text', submit: 'not-you.submit' }
const UNDO: Question = { title: 'undo.title', text: 'undo.text', submit: 'undo.submit' }

/** Answers `/not-you`, which ends sessions, and `/undo`, which brings a former address back. */
export function notYouPages({ house, provider, screen }: NotYouParts): Middleware {
  const { config, database, keyRing } = house
  const now = () => Math.floor(Date.now() / 1000)
  const tell = noticesOf(house)

  const record = createRecorder(database.audit, now)

  const newPassword = (ctx: Context) => ({ href: '/forgot', label: screen.messages(ctx).t('forgot.title') })

  /** After the epoch was raised: all of them. */
  async function end(ctx: Context, accountId: string): Promise<number> {
    const sessions = await database.artifacts.sessionsOf(accountId, now())
    const about = { requestId: ctx.state['requestId'] as string }
    const { ended, told } = await endSessions({ provider, stores: database, now: now(), about }, sessions)
    logUntold(house, told)
    return ended
  }

  /** Shows one button, and does what it says when it is pressed. */
  async function asked(ctx: Context, name: TokenName, question: Question, act: () => Promise<void>) {
    const { t } = screen.messages(ctx)
    const secret = keyRing.mac('not-you', tokenOf(ctx, name))
    const { title, vars } = question
    const locals = { text: t(question.text, vars), submit: t(question.submit, vars) }
    const show = (error?: InteractionError) =>
      screen.show(ctx, { view: 'not-you', title, locals }, { csrf: formToken(secret), action: ctx.path, error })
    if (ctx.method !== 'POST') return show()
    try {
      const { csrf } = await fieldsOf(ctx)
      checkForm(ctx, new URL(config.SALLYPORT_ISSUER).origin, secret, csrf)
      await act()
    } catch (error) {
      if (!(error instanceof InteractionError)) throw error
      if (error.code === 'cross_site') return screen.message(ctx, 'cross_site', { status: 403 })
      show(error)
    }
  }

  // --- "This was not me"

  async function notYou(ctx: Context): Promise<void> {
    const said = readNotMe(keyRing, tokenOf(ctx, 'not_you'), now())
    // The page speaks for itself where there is no link, or one whose time is over.
    if (!said) return screen.message(ctx, 'not_you', { status: 200, link: newPassword(ctx) })
    const { accountId, at } = said
    const used = { owner: digest(`${accountId}|${at}`), purpose: 'not_me' }
    const done = () => screen.message(ctx, 'not_you_done', { status: 200, link: newPassword(ctx) })
    if ((await database.pending.recall(used.owner, used.purpose, now())) !== undefined) return done()
    await asked(ctx, 'not_you', NOT_YOU, async () => {
      // Ended first and then used up: to end them twice in one moment does no harm, a letter that did nothing would.
      await database.directory.raiseEpoch(accountId)
      const sessions = await end(ctx, accountId)
      await database.pending.replace({ ...used, value: 'used', expiresAt: at + NOT_ME_SECONDS })
      await record(ctx, { event: 'account.not_me', outcome: 'success', accountId, details: { sessions } })
      done()
    })
  }

  // --- a former address

  async function undo(ctx: Context): Promise<void> {
    const hash = digest(tokenOf(ctx, 'email_undo'))
    const link = await database.passwords.findLink(hash)
    const account = link && (await database.accounts.find(link.accountId))
    const say = (name: 'link_used' | 'link_expired' | 'link_unknown') =>
      screen.message(ctx, name, { status: 400, link: newPassword(ctx) })
    if (link?.purpose !== 'email_undo' || !account || account.disabled) return say('link_unknown')
    if (account.email === link.email) return say('link_used')
    if (link.expiresAt <= now()) return say('link_expired')
    await asked(ctx, 'email_undo', { ...UNDO, vars: { email: link.email } }, async () => {
      if (!(await restore(ctx, account, link))) return screen.message(ctx, 'email_not_free', { status: 409 })
      const sessions = await end(ctx, account.id)
      await record(ctx, {
        event: 'account.email_restored',
        outcome: 'success',
        accountId: account.id,
        details: { sessions },
      })
      dropToken(ctx, 'email_undo')
      screen.message(ctx, 'email_restored', { status: 200, vars: { email: link.email }, link: newPassword(ctx) })
    })
  }

  /**
   * Whatever else is written of the person meanwhile. Whoever took the address may know the password, and be told of everything at a
   * second address: neither stays. The link has had its day, wherever the person is moved later.
   * @returns false when the address is somebody else's by now
   */
  async function restore(ctx: Context, { id }: Account, { email, hash, epoch }: FoundLink): Promise<boolean> {
    const facts = {
      now: now(),
      lang: screen.messages(ctx).lang,
      ip: ctx.ip,
      browser: ctx.get('user-agent') || undefined,
      vars: { email },
    }
    try {
      await untilItHolds(
        async () => database.directory.user(id),
        async (user) => {
          if (!user || user.email === email) return
          const was = writtenOf(user)
          const undo = { hash, email, epoch, expiresAt: facts.now }
          const messages = [
            ...tell({ ...user, email }, 'email_restored', facts),
            ...tell({ id, email: user.email }, 'email_restored', facts),
          ]
          await database.directory.commit([
            { kind: 'user', op: 'put', value: { ...was, email }, was, recovers: true, undo, messages },
          ])
        },
      )
      return true
    } catch (error) {
      if (isConflict(error)) return false
      throw error
    }
  }

  return async (ctx, next) => {
    const isPage = ctx.path === '/not-you' || ctx.path === PATHS.email_undo
    if (!isPage || mailOf(config) === 'none' || !['GET', 'HEAD', 'POST'].includes(ctx.method)) return next()
    const name = ctx.path === '/not-you' ? 'not_you' : 'email_undo'
    if (ctx.method !== 'POST' && ctx.query['token'] !== undefined) return keepToken(ctx, name, ctx.path)
    await (name === 'not_you' ? notYou(ctx) : undo(ctx))
  }
}
