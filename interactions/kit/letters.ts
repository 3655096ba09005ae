/** What a message says: kept as facts until it leaves, then written in the person's language. */
import { randomBytes } from 'node:crypto'
import type { Brand } from './brand.ts'
import { browserName } from './browser.ts'
import { digest } from './keyring.ts'
import type { Languages } from './messages.ts'
import type { Pages } from './pages.ts'
import type { Account, Message } from './stores.ts'

/** Letters with a link that does something. `email_changed` alone also tells what happened: its link takes that back. */
export type LinkKind =
  | 'password_reset'
  | 'password_change_required'
  | 'invitation'
  | 'invitation_reminder'
  | 'enrolment_link'
  | 'mfa_deadline'
  | 'email_confirm'
  | 'email_taken'
  | 'email_changed'
  | 'notice_confirm'

/** Letters that tell what happened, each with "this was not me". */
export type NoticeKind =
  | 'app_added'
  | 'app_changed'
  | 'app_replaced'
  | 'app_removed'
  | 'phone_added'
  | 'phone_changed'
  | 'phone_replaced'
  | 'phone_removed'
  | 'always_on'
  | 'always_off'
  | 'recovery_code_made'
  | 'mfa_reset'
  | 'mfa_reset_by_company'
  | 'password_changed'
  | 'new_device'
  | 'sign_in_unfinished'
  | 'wrong_codes'
  | 'code_replayed'
  | 'company_linked'
  | 'sessions_ended'
  | 'name_changed'
  | 'locked_out'
  | 'email_now'
  | 'email_restored'
  | 'notice_added'
  | 'notice_removed'

/** Letters with a link that say themselves what to do who did not ask for it. */
const UNASKED: string[] = ['password_change_required', 'enrolment_link'] satisfies LinkKind[]

/** Letters that are pointless once the invitation is taken up: by a password, or by the company's sign-in. */
export const INVITING = ['invitation', 'invitation_reminder'] as const satisfies LinkKind[]

/** Every kind of letter. Each has `mail.<kind>.subject` and `.text` in locales/. */
export type LetterKind = LinkKind | NoticeKind

/** The facts of a letter: what {@link Message} keeps as its body. */
export interface Letter {
  to: string
  /** BCP 47; what it is not available in is written in the default language. */
  lang: string
  /** Where its button leads. */
  link?: string | undefined
  /** When it happened, seconds since 1970, and by which browser and address. */
  at?: number | undefined
  browser?: string | undefined
  ip?: string | undefined
  /** A date that it speaks of, YYYY-MM-DD: `{date}` in its sentences. */
  day?: string | undefined
  vars?: Record<string, string> | undefined
}

/** A letter, ready to be sent. */
export interface Written {
  to: string
  subject: string
  text: string
  html: string
}

/** Writes letters. */
export interface Letters {
  /** @param message of channel `mail` @throws {SyntaxError} when its body is none of ours */
  write(message: Pick<Message, 'kind' | 'body' | 'accountId'>): Written
}

/** Seconds that a notice is tried to be delivered. */
const NOTICE_USEFUL = 7 * 24 * 60 * 60
/** Characters of a browser's name for itself. */
const BROWSER_SHOWN = 150

/**
 * @param pages draws the view `mail/letter`
 * @param notYou the address of the page where somebody says that it was not them
 */
export function createLetters({
  pages,
  languages,
  brand,
  notYou,
}: {
  pages: Pages
  languages: Languages
  brand: Brand
  notYou: (accountId: string, at: number) => string
}): Letters {
  return {
    write({ kind, body, accountId }) {
      const { to, lang, link, at, browser, ip, day, vars } = JSON.parse(body) as Letter
      const messages = languages.best([lang])
      const { t } = messages
      /** Some letters say it in words of their own. */
      const say = (key: `mail.${string}`) => {
        const own = key.replace('mail.', `mail.${kind}.`)
        return t(messages.has(own) ? own : key)
      }
      const date = day === undefined ? undefined : messages.date(Date.parse(day) / 1000)
      const words = { brand: brand.name, ...(date !== undefined && { date }), ...vars }
      const by = browserName(browser ?? '')
      const facts = [
        ...(at === undefined ? [] : [t('mail.when', { when: messages.moment(at) })]),
        ...(by === undefined ? [] : [t('mail.browser', { browser: by })]),
        ...(ip === undefined ? [] : [t('mail.address', { address: ip })]),
      ]
      const isNotice = link === undefined
      const paragraphs = [t(`mail.${kind}.text`, words)]
      const button = isNotice
        ? { href: notYou(accountId, at ?? 0), label: say('mail.not_you') }
        : { href: link, label: t(`mail.${kind}.link`, words) }
      const unasked = kind === 'email_changed' ? 'mail.was_you' : 'mail.not_asked'
      const after = isNotice
        ? [say('mail.was_you'), say('mail.was_not_you')]
        : [t(`mail.${kind}.after`, words), ...(UNASKED.includes(kind) ? [] : [say(unasked)])]
      const contact = brand.supportContact === undefined ? [] : [t('mail.contact', { contact: brand.supportContact })]
      const title = t(`mail.${kind}.subject`, words)
      const parts = [
        paragraphs,
        facts,
        isNotice ? after : [],
        [`${button.label}: ${button.href}`],
        isNotice ? [] : after,
      ]
      const text = [...parts, contact].filter((part) => part.length > 0).map((part) => part.join('\n'))
      const page = { title, nonce: '', paragraphs, facts, button, after, isNotice, contact }
      return { to, subject: title, text: `${text.join('\n\n')}\n`, html: pages.render(messages, 'mail/letter', page) }
    },
  }
}

/** What a notice says of the request that caused it. */
export interface NoticeFacts {
  now: number
  lang: string
  browser?: string | undefined
  ip?: string | undefined
  /** Of the same name there is one for each address: for what may be tried again. */
  id?: string | undefined
  vars?: Record<string, string> | undefined
}

/** Says who is told of something that happened to a person: to be kept by the same write. */
export type Tell = (
  account: Pick<Account, 'id' | 'email' | 'noticeEmail'>,
  kind: NoticeKind,
  facts: NoticeFacts,
) => Message[]

/** To every address of the person. */
export const tell: Tell = ({ id: accountId, email, noticeEmail = email }, kind, { now, id, ...facts }) =>
  [...new Set([email, noticeEmail])].map((to, index) => {
    const name = id !== undefined && index > 0 ? digest(`${id}|${index}`) : id
    const said = { to, at: now, ...facts }
    return message(kind, accountId, now, NOTICE_USEFUL, name, said)
  })

/** A letter with a link that is good for so many seconds, and of no use after. @param letter `id`: of the same name there is one */
export const letterWithLink = (
  kind: LinkKind,
  accountId: string,
  { now, seconds, dueAt = now, id, ...letter }: Letter & { now: number; seconds: number; dueAt?: number; id?: string },
): Message => ({ ...message(kind, accountId, now, dueAt - now + seconds, id, letter), dueAt })

function message(
  kind: LetterKind,
  accountId: string,
  now: number,
  seconds: number,
  id: string | undefined,
  { browser, ...letter }: Letter,
): Message {
  return {
    id: id ?? randomBytes(16).toString('hex'),
    channel: 'mail',
    kind,
    accountId,
    body: JSON.stringify({ ...letter, browser: browser?.slice(0, BROWSER_SHOWN) }),
    createdAt: now,
    dueAt: now,
    expiresAt: now + seconds,
  }
}
