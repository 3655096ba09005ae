/**
 * A person's addresses: the one they sign in with, and a second one for letters. Either counts only once a link that was mailed there
 * has been used by somebody who is signed in to this account.
 */
import { z } from 'zod'
import {
  type Account,
  type Counter,
  digest,
  InteractionError,
  letterWithLink,
  type Message,
  type ThrottleRule,
} from '../../interactions/index.ts'
import { isChangedMeanwhile, isConflict, writtenOf } from '../stores.ts'
import { NEW_EMAIL_FIELD } from './form.ts'
import { isElsewhere, newLink, UNDO_SECONDS } from './links.ts'
import { type AccountPage, type AccountVisit, accountPage, type OwnAccountParts } from './own.ts'
import { claimEpoch } from './reach.ts'
import { dropToken, tokenOf } from './token.ts'

/** Seconds that a link to prove an address is good. */
const PROOF_SECONDS = 60 * 60
/** Letters that one person has sent to addresses which are not theirs yet, and letters to one such address. */
const PERSON: ThrottleRule = { kind: 'window', limit: 10, seconds: 24 * 60 * 60 }
const ADDRESS: ThrottleRule = { kind: 'window', limit: 3, seconds: 60 * 60 }

/** Titles of the page for a link that is not good. */
const FAULTS = {
  used: 'page.link_used.title',
  expired: 'page.link_expired.title',
  unknown: 'page.link_unknown.title',
} as const

type Proving = 'email' | 'notice'
/** The letter with the link, and the title of the page that it leads to. */
const ASKS = {
  email: { letter: 'email_confirm', title: 'account.confirm.email' },
  notice: { letter: 'notice_confirm', title: 'account.confirm.notice' },
} as const

/** Sends a link to an address that a person says is theirs. Whether it is somebody else's changes nothing but what the letter says. */
async function askToProve(
  { house: { config, database } }: OwnAccountParts,
  { account, letter, now }: AccountVisit,
  purpose: Proving,
  email: string,
): Promise<void> {
  const counters: Counter[] = [
    { key: `prove|person|${account.id}`, rule: PERSON },
    { key: `prove|address|${digest(email)}`, rule: ADDRESS },
  ]
  const { allowed, retryAfter } = await database.throttle.take(counters, now)
  if (!allowed) throw new InteractionError('too_many_attempts', { status: 429, retryAfter })
  const { link, url } = newLink(purpose, { ...account, email }, PROOF_SECONDS, { config, now })
  const facts = { to: email, lang: letter.lang, now, seconds: PROOF_SECONDS }
  // Two accounts have no address in common; a letter may go anywhere.
  const owner = purpose === 'email' ? (await database.accounts.findByEmail(email))?.account : undefined
  const message = owner
    ? letterWithLink('email_taken', owner.id, { ...facts, link: `${config.SALLYPORT_ISSUER}/account` })
    : letterWithLink(ASKS[purpose].letter, account.id, { ...facts, link: url })
  if (!(await database.passwords.issueLink(account.id, purpose, link, [message])))
    throw new InteractionError('form_expired')
}

/** The address that waits for its link to be used, or `undefined`. */
async function waitingFor(
  { house: { database } }: OwnAccountParts,
  { account, now }: AccountVisit,
  purpose: Proving,
): Promise<string | undefined> {
  const link = await database.passwords.linkOf(account.id, purpose)
  const isOpen = link?.usedAt === undefined && (link?.expiresAt ?? 0) > now && link?.epoch === account.securityEpoch
  const present = purpose === 'email' ? account.email : account.noticeEmail
  return isOpen && link.email !== present ? link.email : undefined
}

/**
 * Why a person may not change the address that they sign in with, or `undefined`. One change at a time can be taken back: of a second
 * one within its days the former owner would know nothing.
 */
async function emailRefusal(
  { house }: OwnAccountParts,
  { account, now, messages }: AccountVisit,
): Promise<InteractionError | undefined> {
  const { directory, passwords } = house.database
  const user = await directory.user(account.id)
  const domain = domainOf(account.email)
  if (!user?.hasPassword || (await isElsewhere(house, account.email)))
    return new InteractionError('email_of_company', { vars: { domain } })
  const undo = await passwords.linkOf(account.id, 'email_undo')
  if (undo && undo.expiresAt > now && undo.email !== account.email)
    return new InteractionError('email_just_changed', { vars: { date: messages.date(undo.expiresAt) } })
  return undefined
}

const domainOf = (email: string) => email.slice(email.lastIndexOf('@') + 1)

/** Asks for another address to sign in with. */
export const emailPage = (parts: OwnAccountParts): AccountPage =>
  accountPage({
    proof: 'password',
    proofFirst: true,
    form: z.strictObject({ email: NEW_EMAIL_FIELD }),
    async show(visit) {
      const { account, messages } = visit
      const refusal = await emailRefusal(parts, visit)
      return {
        view: 'account/email',
        title: 'account.email.title',
        locals: {
          email: account.email,
          waiting: await waitingFor(parts, visit, 'email'),
          refused: refusal && messages.t(`error.${refusal.code}`, refusal.vars),
        },
      }
    },
    async submit(visit, { email }) {
      const { account, ctx } = visit
      const refusal = await emailRefusal(parts, visit)
      if (refusal) throw refusal
      if (email === account.email) throw new InteractionError('email_same', { field: 'email' })
      if (await isElsewhere(parts.house, email))
        throw new InteractionError('email_for_company', { field: 'email', vars: { domain: domainOf(email) } })
      await askToProve(parts, visit, 'email', email)
      const about = { actor: account.id, accountId: account.id, outcome: 'success' as const }
      await parts.record(ctx, { ...about, event: 'account.email_link_sent' })
      return { done: 'email_link_sent' }
    },
  })

/** The second address: shown, asked for, removed. */
export const noticePage = (parts: OwnAccountParts): AccountPage => {
  const { house, record, tell } = parts
  return accountPage({
    proof: 'other',
    proofFirst: true,
    form: z.union([z.strictObject({ remove: z.literal('yes') }), z.strictObject({ email: NEW_EMAIL_FIELD })]),
    async show(visit) {
      const { email, noticeEmail } = visit.account
      return {
        view: 'account/notices',
        title: 'account.notices.title',
        locals: { email, noticeEmail, waiting: await waitingFor(parts, visit, 'notice') },
      }
    },
    async submit(visit, form) {
      const { account, ctx, letter } = visit
      const about = { actor: account.id, accountId: account.id, outcome: 'success' as const }
      if ('email' in form) {
        if (form.email === account.email || form.email === account.noticeEmail)
          throw new InteractionError('email_same', { field: 'email' })
        await askToProve(parts, visit, 'notice', form.email)
        await record(ctx, { ...about, event: 'account.notice_email_link_sent' })
        return { done: 'email_link_sent' }
      }
      const { noticeEmail } = account
      const messages = tell(account, 'notice_removed', letter)
      if (noticeEmail && (await house.database.directory.dropNoticeEmail(account.id, noticeEmail, messages)))
        await record(ctx, { ...about, event: 'account.notice_email_removed' })
      return { done: 'notice_removed' }
    },
  })
}

/** The page behind the link in the letter. It asks once more: programs follow links too, and a GET changes nothing. */
export function confirmPage(parts: OwnAccountParts, purpose: Proving): AccountPage {
  const { house, record, tell } = parts
  const { config, database } = house
  const back = purpose === 'email' ? '/account/email' : '/account/notices'

  /** The address that this browser came to prove, or why it cannot. */
  async function proven({ ctx, account, now }: AccountVisit) {
    const link = await database.passwords.findLink(digest(tokenOf(ctx, purpose)))
    if (link?.purpose !== purpose || link.accountId !== account.id) return { fault: 'unknown' as const }
    const present = purpose === 'email' ? account.email : account.noticeEmail
    if (link.usedAt !== undefined || link.email === present) return { fault: 'used' as const }
    if (link.expiresAt <= now || link.epoch !== account.securityEpoch) return { fault: 'expired' as const }
    return { link }
  }

  /** The former address is told by a letter whose link takes the change back; the others by one as of any change. */
  function letters({ account, letter, now }: AccountVisit, email: string) {
    const { link: undo, url } = newLink('email_undo', account, UNDO_SECONDS, { config, now })
    const vars = { email }
    const facts = { to: account.email, lang: letter.lang, at: now, browser: letter.browser, ip: letter.ip }
    const warning = { ...facts, vars, link: url, now, seconds: UNDO_SECONDS }
    const messages: Message[] = [
      letterWithLink('email_changed', account.id, warning),
      ...tell({ ...account, email }, 'email_now', { ...letter, vars }),
    ]
    return { undo, messages }
  }

  async function changeEmail(visit: AccountVisit, email: string): Promise<boolean> {
    const refusal = await emailRefusal(parts, visit)
    if (refusal) throw refusal
    if (await isElsewhere(house, email))
      throw new InteractionError('email_for_company', { vars: { domain: domainOf(email) } })
    const { account } = visit
    await claimEpoch(parts, visit)
    const user = await database.directory.user(account.id)
    if (user?.email !== account.email) return false
    const was = writtenOf(user)
    try {
      await database.directory.commit([
        { kind: 'user', op: 'put', value: { ...was, email }, was, ...letters(visit, email) },
      ])
      return true
    } catch (error) {
      if (isChangedMeanwhile(error)) return false
      // Whoever came here has the mailbox: they may know.
      if (isConflict(error)) throw new InteractionError('email_taken', { cause: error })
      throw error
    }
  }

  async function takeNotice({ account, letter, now }: AccountVisit, email: string, hash: string): Promise<boolean> {
    const facts = { ...letter, vars: { email } }
    const former = account.noticeEmail === undefined ? [] : tellOnly(account, account.noticeEmail)
    const messages = [...tell({ ...account, noticeEmail: email }, 'notice_added', facts), ...former]
    return database.directory.takeNoticeEmail(hash, now, messages)

    function tellOnly({ id }: Account, to: string) {
      return tell({ id, email: to }, 'notice_removed', letter)
    }
  }

  return accountPage({
    form: z.strictObject({ confirm: z.literal('yes') }),
    async show(visit) {
      const { link, fault } = await proven(visit)
      if (fault) visit.ctx.status = 400
      const locals = { purpose, email: link?.email, former: visit.account.email, fault, back }
      return { view: 'account/confirm', title: fault ? FAULTS[fault] : ASKS[purpose].title, locals }
    },
    async submit(visit) {
      const { account, ctx } = visit
      const { link } = await proven(visit)
      // Of two clicks the second finds it done: its page says so.
      const isDone =
        link !== undefined &&
        (purpose === 'email' ? await changeEmail(visit, link.email) : await takeNotice(visit, link.email, link.hash))
      if (!isDone) throw new InteractionError('form_expired')
      dropToken(ctx, purpose)
      const event = purpose === 'email' ? { event: 'account.email_changed' } : { event: 'account.notice_email_added' }
      await record(ctx, { actor: account.id, accountId: account.id, outcome: 'success', ...event })
      return purpose === 'email' ? { done: 'email_changed', at: '/account' } : { done: 'notice_added', at: back }
    },
  })
}
