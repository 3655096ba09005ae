/** Text messages: what sends them, and what the rooms need of it. */
import { z } from 'zod'
import type { ErrorCode } from './errors.ts'
import type { Attempt, AuditNote, Visit } from './room.ts'
import type { Account, Counter } from './stores.ts'

/** One text message. Its text holds a code: it is never logged. */
export interface SmsMessage {
  /** E.164, such as `+12025550123`. */
  to: string
  text: string
  /** Whose sign-in it belongs to: an account id. */
  accountId: string
}

/** It is certain that the text did not go out, so it costs nobody a try. The message may stand in a log: never number or text. */
export class NotSent extends Error {
  override readonly name = 'NotSent'
}

/** Hands text messages to whoever delivers them. */
export interface SmsGateway {
  /**
   * Resolves when the message was taken over for delivery.
   * @throws {NotSent} when it was certainly not
   * @throws when nobody knows: with what may stand in a log, never number or text
   */
  send(message: SmsMessage): Promise<void>
}

/** How this server sends texts. Without it nobody is offered any. */
export interface SmsOptions {
  gateway: SmsGateway
  /** Where people may have their phones (ISO 3166-1 alpha-2). Those of Payments: the United States only, if it is among them. */
  countries: readonly string[]
  /** Texts to one country in a day. */
  perCountryAndDay: number
  /**
   * Asked before each text: may this number be trusted now? `false` when its SIM was changed or the number was moved a short
   * while ago (NIST SP 800-63B-4 §3.1.3.3): then nothing is sent and the person takes another way.
   */
  allows?: ((text: { phone: string; accountId: string }) => Promise<boolean>) | undefined
}

/** What a code is for: it is good for nothing else. */
export type TextPurpose = 'challenge' | 'enrolment'

/** The code that was sent last, in this chain of interactions, for one purpose. */
export interface SentText {
  /** Names the code. Every new one has a new id. */
  id: string
  /** E.164. */
  phone: string
  /** Seconds since 1970. */
  until: number
}

/** Sends codes by text and takes them back: bound to person, chain, purpose and number; the newest only; once. */
export interface Texts {
  /** The countries that this person's phone may be in, ISO 3166-1. */
  countries(account: Account): string[]
  /** The limits of a text to this number. Take them before {@link send}. */
  limits(visit: Visit, purpose: TextPurpose, phone: string): Counter[]
  /** What a person is told when the limit with this key is reached. */
  refusal(key: string): ErrorCode
  /** True for a limit that is not the person's own. Whoever tries numbers out is not told of it. */
  isOthers(key: string): boolean
  /**
   * Sends a new code in place of the former one.
   * @throws {InteractionError} `sms_failed`, `sms_not_now`, `sms_country`: the former code is void all the same
   */
  send(visit: Visit, purpose: TextPurpose, phone: string): Promise<void>
  /** Does as if a code had been sent: nobody has it. */
  pretend(visit: Visit, purpose: TextPurpose, phone: string): Promise<void>
  sent(visit: Visit, purpose: TextPurpose): Promise<SentText | undefined>
  /** The limit of answers to one code. */
  tries(sent: SentText): Counter
  /** The number that the code was sent to; `undefined`: it is not the newest, too old, or not right. Once. */
  take(visit: Visit, purpose: TextPurpose, code: string): Promise<string | undefined>
}

/**
 * The form of a code by text: the code, or the button that asks for a new one, whatever was typed beside it.
 *
 * @param readCode the digits in what was typed; what is no code uses up no try (R51)
 */
export const textForm = (
  readCode: (typed: string) => string | undefined,
): z.ZodType<{ resend: 'yes' } | { code: string }> =>
  z
    .strictObject({ code: z.string('code_missing').optional(), resend: z.literal('yes').optional() })
    .transform(({ code: typed = '', resend }, ctx) => {
      if (resend) return { resend }
      const code = readCode(typed)
      if (code !== undefined) return { code }
      ctx.addIssue({ code: 'custom', path: ['code'], message: typed === '' ? 'code_missing' : 'sms_code_format' })
      return z.NEVER
    })

/** What limits a text to this number. */
export const sending = (texts: Texts, visit: Visit, purpose: TextPurpose, phone: string): Attempt => ({
  counters: texts.limits(visit, purpose, phone),
  event: 'sms.sent',
  refusal: (key) => texts.refusal(key),
})

/** What the audit says of a text that went out. */
export const noteOfText = (purpose: TextPurpose, phone: string): AuditNote => ({
  event: 'sms.sent',
  details: { purpose, ending: phone.slice(-2) },
})
