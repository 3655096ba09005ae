/** What a message says: kept as facts until it leaves, then written in the person's language. */
import { randomBytes } from 'node:crypto'
import type { Brand } from './brand.ts'
import type { Languages } from './messages.ts'
import type { Pages } from './pages.ts'
import type { Account, Message } from './stores.ts'

/** Letters with a link that does something. */
export type LinkKind = 'password_reset' | 'invitation' | 'invitation_reminder' | 'mfa_deadline'

/** Letters that tell what happened, each with "this was not me". */
export type NoticeKind =
  | 'app_added'
  | 'app_replaced'
  | 'phone_added'
  | 'phone_replaced'
  | 'recovery_code_made'
  | 'mfa_reset'
  | 'password_changed'
  | 'new_device'
  | 'sessions_ended'
  | 'name_changed'
  | 'locked_out'

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
  write(message: Pick<Message, 'kind' | 'body'>): Written
}

/** Seconds that a notice is tried to be delivered. */
const NOTICE_USEFUL = 7 * 24 * 60 * 60
/** Characters of a browser's name for itself. */
const BROWSER_SHOWN = 150

/**
 * @param pages draws the view `mail/letter`
 * @param notYou the page that says what to do when it was somebody else
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
  notYou: string
}): Letters {
  return {
    write({ kind, body }) {
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
      const facts = [
        ...(at === undefined ? [] : [t('mail.when', { when: messages.moment(at) })]),
        ...(browser === undefined ? [] : [t('mail.browser', { browser })]),
        ...(ip === undefined ? [] : [t('mail.address', { address: ip })]),
      ]
      const isNotice = link === undefined
      const paragraphs = [t(`mail.${kind}.text`, words)]
      const button = isNotice
        ? { href: notYou, label: say('mail.not_you') }
        : { href: link, label: t(`mail.${kind}.link`, words) }
      const after = isNotice
        ? [say('mail.was_you'), say('mail.was_not_you')]
        : [t(`mail.${kind}.after`, words), say('mail.not_asked')]
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
  /** Of the same name there is one: for what may be tried again. */
  id?: string | undefined
}

/** Says who is told of something that happened to a person: to be kept by the same write. */
export type Tell = (account: Pick<Account, 'id' | 'email'>, kind: NoticeKind, facts: NoticeFacts) => Message[]

/** To every address of the person. */
export const tell: Tell = ({ id: accountId, email }, kind, { now, id, browser, ...facts }) => [
  message(kind, accountId, now, NOTICE_USEFUL, id, {
    to: email,
    at: now,
    ...facts,
    browser: browser?.slice(0, BROWSER_SHOWN),
  }),
]

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
  letter: Letter,
): Message {
  return {
    id: id ?? randomBytes(16).toString('hex'),
    channel: 'mail',
    kind,
    accountId,
    body: JSON.stringify(letter),
    createdAt: now,
    dueAt: now,
    expiresAt: now + seconds,
  }
}
