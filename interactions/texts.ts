/** Codes by text message: made, limited, sent, and taken back once. What the rooms do with them, they say by `kit/texts.ts`. */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { ConversionBreaker, newSmsCode, phoneOf, prefixOf, SMS_CODE_SECONDS, SMS_CODE_TRIES } from './factors/sms.ts'
import { InteractionError } from './kit/errors.ts'
import type { KeyRing } from './kit/keyring.ts'
import { person, type Visit } from './kit/room.ts'
import type { Account, PendingStore, ThrottleRule } from './kit/stores.ts'
import { NotSent, type SentText, type SmsOptions, type TextPurpose, type Texts } from './kit/texts.ts'
import { smsCountries } from './policy.ts'

const MINUTE = 60
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const limit = (count: number, seconds: number): ThrottleRule => ({ kind: 'window', limit: count, seconds })

/**
 * A person's own: a second text after 30 seconds, a third 60 later, a fourth 120 later; five in an hour, ten in a day.
 * Each window is counted from its first text, so that together they are these waits.
 */
const OWN: [name: string, rule: ThrottleRule][] = [
  ['30s', limit(1, 30)],
  ['90s', limit(2, 30 + 60)],
  ['210s', limit(3, 30 + 60 + 120)],
  ['hour', limit(5, HOUR)],
  ['day', limit(10, DAY)],
]
/** One count for those who say that a number is theirs, another for its owner: strangers use up only their own. */
const NUMBER: [name: string, rule: ThrottleRule][] = [
  ['hour', limit(5, HOUR)],
  ['day', limit(10, DAY)],
]
/** Numbers of one block are one carrier's: that is how sending is turned into money. */
const PREFIX = limit(20, 10 * MINUTE)
const NETWORK = limit(10, HOUR)
/** Answers to one code: for as long as it is good. */
const TRIES = limit(SMS_CODE_TRIES, SMS_CODE_SECONDS)
/** Seconds that a country gets no texts after too few of its codes came back. */
const BREAKER_WAIT = 30 * MINUTE

/** What sending stands on. */
export interface TextParts {
  sms: SmsOptions
  pending: PendingStore
  keyRing: KeyRing
  /** Named in the text. */
  brand: string
  /** Host name of the issuer: browsers fill the code in there and nowhere else (origin-bound one-time codes). */
  host: string
}

interface Kept extends SentText {
  /** Keyed hash of the code, for its person, purpose and number; '' when nothing was sent. */
  mac: string
}

/** @returns what the rooms are given */
export function createTexts({ sms, pending, keyRing, brand, host }: TextParts): Texts {
  /**
   * Of this process: each sees its share of the texts, and of the codes that come back. Whoever tries numbers out trips that of
   * enrolment, and keeps nobody from a code to a phone that was proven before.
   */
  const breakers = new Map<string, ConversionBreaker>()
  const breakerOf = (purpose: TextPurpose, country: string) => {
    const key = `${purpose}|${country}`
    const breaker = breakers.get(key) ?? new ConversionBreaker(BREAKER_WAIT)
    breakers.set(key, breaker)
    return breaker
  }
  const hash = (value: string) => keyRing.mac('sms_number', value)

  // Another factor meanwhile, and the code is for nothing.
  const place = ({ cid, ...visit }: Visit, purpose: TextPurpose) => {
    const { id, factorVersion } = person(visit as Visit)
    return { owner: cid, purpose: `sms|${purpose}|${id}|${factorVersion}` }
  }
  const macOf = (visit: Visit, purpose: TextPurpose, { id, phone }: SentText, code: string) =>
    keyRing.mac('sms_code', JSON.stringify([person(visit).id, visit.cid, purpose, phone, id, code]))

  async function keep(visit: Visit, purpose: TextPurpose, phone: string, code: string | undefined) {
    const fresh = { id: randomBytes(9).toString('base64url'), phone, until: visit.now + SMS_CODE_SECONDS }
    const kept: Kept = { ...fresh, mac: code === undefined ? '' : macOf(visit, purpose, fresh, code) }
    await pending.replace({ ...place(visit, purpose), value: JSON.stringify(kept), expiresAt: visit.expiresAt })
  }

  async function recall(visit: Visit, purpose: TextPurpose): Promise<Kept | undefined> {
    const { owner, purpose: of } = place(visit, purpose)
    const kept = await pending.recall(owner, of, visit.now)
    return kept === undefined ? undefined : (JSON.parse(kept) as Kept)
  }

  const countries = (account: Account) => smsCountries(account, sms.countries)

  return {
    countries,

    limits(visit, purpose, phone) {
      const { id } = person(visit)
      const country = phoneOf(phone)?.country ?? ''
      return [
        ...OWN.map(([name, rule]) => ({ key: `sms|own|${name}|${id}`, rule })),
        ...NUMBER.map(([name, rule]) => ({ key: `sms|number|${purpose}|${name}|${hash(phone)}`, rule })),
        { key: `sms|network|${visit.network}`, rule: NETWORK },
        { key: `sms|prefix|${prefixOf(phone)}`, rule: PREFIX },
        { key: `sms|country|${country}`, rule: limit(sms.perCountryAndDay, DAY) },
      ]
    },

    refusal: (key) => (/^sms\|own\|\d+s\|/.test(key) ? 'sms_wait' : 'sms_too_many'),
    isOthers: (key) => !key.startsWith('sms|own|'),

    async send(visit, purpose, phone) {
      const account = person(visit)
      const country = phoneOf(phone)?.country
      // Asked again at each text: a role may have come, or a country may have gone.
      if (country === undefined || !countries(account).includes(country)) throw new InteractionError('sms_country')
      const breaker = breakerOf(purpose, country)
      if (breaker.isOpen(visit.now)) {
        if (purpose === 'enrolment') return keep(visit, purpose, phone, undefined)
        throw new InteractionError('sms_not_now', { cause: 'too few codes of this country come back' })
      }

      if (sms.allows && !(await isAllowed(sms.allows, { phone, accountId: account.id })))
        throw new InteractionError('sms_not_now', { cause: 'the number was changed a short while ago' })
      const code = newSmsCode()
      await keep(visit, purpose, phone, code)
      try {
        await sms.gateway.send({ to: phone, accountId: account.id, text: textOf(visit, { brand, host, code }) })
      } catch (error) {
        // Where nobody knows whether it went out, it is counted: else a slow gateway would send any number of them.
        const isSent = !(error instanceof NotSent)
        if (isSent) breaker.sent(visit.now)
        throw new InteractionError('sms_failed', { status: isSent ? 504 : 503, cause: (error as Error).message })
      }
      breaker.sent(visit.now)
    },

    pretend: (visit, purpose, phone) => keep(visit, purpose, phone, undefined),

    async sent(visit, purpose) {
      const kept = await recall(visit, purpose)
      return kept && { id: kept.id, phone: kept.phone, until: kept.until }
    },

    tries: ({ id }) => ({ key: `sms|tries|${id}`, rule: TRIES }),

    async take(visit, purpose, code) {
      const kept = await recall(visit, purpose)
      if (!kept || kept.until <= visit.now || !isRight(visit, purpose, kept, code)) return undefined
      const { owner, purpose: of } = place(visit, purpose)
      const taken = await pending.take(owner, of, visit.now)
      // Taken by somebody else, or a newer code came in between: that one was not given.
      if (taken === undefined || (JSON.parse(taken) as Kept).id !== kept.id) return undefined
      const country = phoneOf(kept.phone)?.country
      if (country !== undefined) breakerOf(purpose, country).cameBack()
      return kept.phone
    },
  }

  function isRight(visit: Visit, purpose: TextPurpose, kept: Kept, code: string): boolean {
    const mac = macOf(visit, purpose, kept, code)
    return mac.length === kept.mac.length && timingSafeEqual(Buffer.from(mac), Buffer.from(kept.mac))
  }
}

/** What the hook says. What it throws may name the number, and goes nowhere. */
async function isAllowed(allows: NonNullable<SmsOptions['allows']>, about: Parameters<typeof allows>[0]) {
  try {
    return await allows(about)
  } catch {
    throw new InteractionError('sms_failed', { status: 503, cause: 'the hook that is asked before a text failed' })
  }
}

/** What stands in a text: app and code first, and a last line by which phones fill it in. */
function textOf({ messages, client }: Visit, { brand, host, code }: { brand: string; host: string; code: string }) {
  // What an app calls itself is of any length; a text is paid by the piece.
  const app = client.name.replace(/\s+/g, ' ').slice(0, 40)
  return `${messages.t('sms.text', { code, app, brand })}\n\n@${host} #${code}`
}
