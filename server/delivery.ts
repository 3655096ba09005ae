/** Delivers messages from the outbox: every server does, and none twice at a time. */
import type { LeasedMessage, Letters, OutboxStore } from '../interactions/index.ts'
import type { Config } from './config.ts'
import type { Logger } from './log.ts'

/** Brings a letter on its way. @throws when it could not */
export interface Transport {
  /** Resolves when somebody else is responsible for it. @param id the same at every try */
  send(letter: { id: string; to: string; subject: string; text: string; html: string }): Promise<void>
  close(): void
}

/** A message that will not be taken, now or later: nobody tries again. */
export class Undeliverable extends Error {
  override readonly name = 'Undeliverable'
}

/** Seconds that a letter stays a worker's own without a word from it, and milliseconds between two words: a mail server may be slow. */
const LEASE_SECONDS = 2 * 60
const HOLD_MS = 30_000
/** Milliseconds between two looks into the outbox. */
const LOOK_MS = 2000
/** Seconds before a second try, doubled each time up to the longest wait. */
const FIRST_WAIT = 60
const LONGEST_WAIT = 4 * 60 * 60
/** Seconds that a message may wait before health says so. */
export const LATE_SECONDS = 5 * 60

/** Seconds to wait after so many tries: 1, 2, 4 … minutes, four hours at the most. */
export const waitAfter = (tries: number): number => Math.min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT)

/** What delivers. */
export interface DeliveryParts {
  outbox: OutboxStore
  letters: Letters
  transport: Transport
  logger: Logger
  now?: () => number
}

/** Delivers what is due, one after the other. @returns how many have left */
export async function deliverDue({
  outbox,
  letters,
  transport,
  logger,
  now = () => Math.floor(Date.now() / 1000),
}: DeliveryParts): Promise<number> {
  for (let count = 0; ; ) {
    const message = await outbox.lease('mail', { now: now(), until: now() + LEASE_SECONDS })
    if (!message) return count
    try {
      await handOver(message)
    } catch (error) {
      await putOff(message, error as Error)
      continue
    }
    await outbox.sent(message.id, message.tries, now())
    count += 1
  }

  /** However long it takes, nobody else takes it meanwhile. */
  async function handOver(message: LeasedMessage): Promise<void> {
    const { id, tries } = message
    const hold = () => outbox.putOff(id, tries, { error: 'under way', now: now(), dueAt: now() + LEASE_SECONDS })
    // A store that does not answer now may at the next word.
    const holding = setInterval(() => void hold().catch(() => undefined), HOLD_MS)
    try {
      await transport.send({ id, ...letters.write(message) })
    } finally {
      clearInterval(holding)
    }
  }

  async function putOff({ id, kind, tries, expiresAt }: LeasedMessage, error: Error): Promise<void> {
    const next = now() + waitAfter(tries)
    const again = !(error instanceof Undeliverable) && next < expiresAt
    // Mail servers quote what they do not like: a link's token is nothing for a log.
    const why = error.message.replace(/[\w-]{20,}/g, '…').slice(0, 300)
    logger.warn({ message: id, kind, tries, again, error: why }, 'a letter could not be delivered')
    await outbox.putOff(id, tries, { error: why, now: now(), ...(again && { dueAt: next }) })
  }
}

/** Delivers from now on. @returns ends it, when the letter under way has left */
export function startDelivery(parts: DeliveryParts): () => Promise<void> {
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  const round = async () => {
    await deliverDue(parts).catch((error: Error) => parts.logger.error({ error: error.message }, 'delivery'))
    if (!stopped) timer = setTimeout(() => (running = round()), LOOK_MS).unref()
  }
  let running = round()
  return async () => {
    stopped = true
    clearTimeout(timer)
    await running
    parts.transport.close()
  }
}

/**
 * How mail leaves. `outbox`: on a developer's machine, where nobody sends it and `sallyport outbox list` shows it. `none`: in
 * production without SMTP; then there are no letters, and no page that would need one.
 */
export function mailOf({ NODE_ENV, SALLYPORT_SMTP_URL: smtp }: Config): 'smtp' | 'outbox' | 'none' {
  if (smtp !== undefined) return 'smtp'
  return NODE_ENV === 'production' ? 'none' : 'outbox'
}

/** SMTP by nodemailer, which loads here. */
export async function smtpTransport(config: Config): Promise<Transport> {
  const { createTransport } = await import('nodemailer')
  const url = new URL(config.SALLYPORT_SMTP_URL!.url())
  const isSecure = url.protocol === 'smtps:'
  const user = decodeURIComponent(url.username)
  const isHere = ['localhost', '[::1]'].includes(url.hostname) || url.hostname.startsWith('127.')
  const mailer = createTransport({
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port) || (isSecure ? 465 : 587),
    secure: isSecure,
    // Passwords and links cross no network in clear.
    requireTLS: !isSecure && !isHere,
    ...(user !== '' && { auth: { user, pass: decodeURIComponent(url.password) } }),
    connectionTimeout: 10_000,
    greetingTimeout: 10_000,
    socketTimeout: 30_000,
    dnsTimeout: 10_000,
  })
  const host = new URL(config.SALLYPORT_ISSUER).hostname
  return {
    async send({ id, to, subject, text, html }) {
      try {
        await mailer.sendMail({
          messageId: `<${id}@${host}>`,
          from: config.SALLYPORT_MAIL_FROM!,
          to: { name: '', address: to },
          subject,
          text,
          html,
          // Nobody's out-of-office answers (RFC 3834 §5).
          headers: { 'Auto-Submitted': 'auto-generated', 'X-Auto-Response-Suppress': 'All' },
          disableFileAccess: true,
          disableUrlAccess: true,
        })
      } catch (error) {
        const { code, responseCode = 0, message } = error as Error & { code?: string; responseCode?: number }
        // Of this address the server wants to hear no more (RFC 5321 §4.2.1). All else may be mended by somebody.
        if (code === 'EENVELOPE' && responseCode >= 500) throw new Undeliverable(message, { cause: error })
        throw error
      }
    },
    close: () => mailer.close(),
  }
}
