/** Links in letters that let a person set a password. */
import { randomBytes } from 'node:crypto'
import {
  type Account,
  digest,
  type LinkPurpose,
  letterWithLink,
  type MailedLink,
  type Message,
} from '../../interactions/index.ts'
import type { Config } from '../config.ts'
import type { House } from '../open.ts'

/** Seconds that a link to a new password is good (NIST SP 800-63B-4 §4.2.1.2 allows 24 hours). */
const RESET_SECONDS = 30 * 60
const DAY = 24 * 60 * 60
/** Days that an invitation is good, and one to somebody who is paid. */
const INVITED_DAYS = 3
const PAYEE_DAYS = 14
/** Days after an invitation, as long as it is not accepted. */
const REMINDER_DAYS = [1, 3, 7, 14]

/** A link that was not mailed yet, and the letters that bring it. */
export interface NewLink {
  purpose: PasswordPurpose
  link: MailedLink
  messages: Message[]
}

type Person = Pick<Account, 'id' | 'email' | 'securityEpoch'> & {
  memberships: Pick<Account['memberships'][number], 'side' | 'roles'>[]
}

/** About whom and when. */
interface Circumstances {
  config: Pick<Config, 'SALLYPORT_ISSUER' | 'SALLYPORT_BRAND_NAME'>
  now: number
  lang: string
}

/** The path of each purpose. */
export const PATHS = {
  reset: '/reset',
  welcome: '/welcome',
  email: '/account/email/confirm',
  notice: '/account/notices/confirm',
  email_undo: '/undo',
} as const satisfies Partial<Record<LinkPurpose, string>>

/** Links that set a password. */
export type PasswordPurpose = 'reset' | 'welcome'

/** Seconds in which a change of the address can be taken back from the former one. */
export const UNDO_SECONDS = 7 * DAY

/** A link that nobody has yet. */
export function newLink(
  purpose: keyof typeof PATHS,
  { email, securityEpoch }: Pick<Account, 'email' | 'securityEpoch'>,
  seconds: number,
  { config, now }: Pick<Circumstances, 'config' | 'now'>,
) {
  const token = randomBytes(32).toString('base64url')
  const link: MailedLink = { hash: digest(token), email, epoch: securityEpoch, expiresAt: now + seconds }
  // From the configuration, never from a request's Host header.
  return { link, url: `${config.SALLYPORT_ISSUER}${PATHS[purpose]}?token=${token}` }
}

/** Whether people of this domain have no password here, for any app: by the domain alone. */
export const isElsewhere = async ({ database, connections = database.connections }: House, email: string) =>
  (await connections.connectionFor(email.slice(email.lastIndexOf('@') + 1), ''))?.mode === 'forward'

/** A link to a new password. */
export function resetLink(person: Person, about: Circumstances): NewLink {
  const { link, url } = newLink('reset', person, RESET_SECONDS, about)
  const { now, lang } = about
  const letter = { to: person.email, lang, link: url, now, seconds: RESET_SECONDS }
  return { purpose: 'reset', link, messages: [letterWithLink('password_reset', person.id, letter)] }
}

/** Tells a person that their password was taken away, and where a new one is to be had. */
export const withdrawal = (
  { id, email }: Pick<Person, 'id' | 'email'>,
  { config, now, lang }: Circumstances,
): Message =>
  letterWithLink('password_change_required', id, {
    to: email,
    lang,
    link: `${config.SALLYPORT_ISSUER}/forgot`,
    now,
    seconds: 7 * DAY,
  })

/** An invitation, with its reminders. @param inviter who made the account, in words */
export function invitation(person: Person, about: Circumstances & { inviter: string }): NewLink {
  const isPayee = person.memberships.some(
    ({ side, roles }) => (side === 'payee' || side === 'both') && roles.includes('payments_admin'),
  )
  const days = isPayee ? PAYEE_DAYS : INVITED_DAYS
  const { link, url } = newLink('welcome', person, days * DAY, about)
  const { now, lang, inviter } = about
  const letter = { to: person.email, lang, link: url, vars: { inviter, days: String(days) }, now }
  const reminders = REMINDER_DAYS.map((day) =>
    letterWithLink('invitation_reminder', person.id, { ...letter, dueAt: now + day * DAY, seconds: DAY }),
  )
  const first = letterWithLink('invitation', person.id, { ...letter, seconds: days * DAY })
  return { purpose: 'welcome', link, messages: [first, ...reminders] }
}
