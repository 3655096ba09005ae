/** Codes by text message: 6 digits to a phone number. Pure proof: knows no account, no store and no gateway. */
import { randomInt } from 'node:crypto'
// Of mobile numbers only, where a country tells them apart: premium and personal numbers are what pumped traffic goes to.
import {
  type CountryCode,
  getCountries,
  getCountryCallingCode,
  isSupportedCountry,
  parsePhoneNumberFromString,
} from 'libphonenumber-js/mobile'

/** Seconds that a code is good (NIST SP 800-63B-4 §3.1.3.2 allows ten minutes). */
export const SMS_CODE_SECONDS = 5 * 60
/** Answers that one code takes. */
export const SMS_CODE_TRIES = 5

/** A new code: 6 digits, each of the million as likely. */
export const newSmsCode = (): string => String(randomInt(1_000_000)).padStart(6, '0')

/** A phone number in E.164, such as `+12025550123`, with the country it belongs to (ISO 3166-1). */
export interface Phone {
  number: string
  country: string
}

/**
 * The mobile number in what a person typed, or `undefined`: then it is none of that country. A number that begins with `+` says its
 * country itself; spaces, dashes and brackets do not matter.
 *
 * @param country ISO 3166-1, as chosen beside it
 */
export function readPhone(country: string, typed: string): Phone | undefined {
  if (!isSupportedCountry(country) || typed.length > 40) return undefined
  const read = parsePhoneNumberFromString(typed.normalize('NFKC'), { defaultCountry: country, extract: false })
  if (!read?.isValid() || read.ext !== undefined) return undefined
  return phoneOf(read.number)
}

/**
 * A number in E.164 with its country. Where several share a calling code, the number says which; numbers that belong to no
 * country (satellites, `+800`) have none.
 */
export function phoneOf(number: string): Phone | undefined {
  const read = parsePhoneNumberFromString(number)
  return read?.country === undefined ? undefined : { number: read.number, country: read.country }
}

/** True for a country that has phone numbers (ISO 3166-1 alpha-2). */
export const isCountry = (code: string): boolean => isSupportedCountry(code)

/** Every country that has phone numbers. */
export const allCountries = (): string[] => getCountries()

/** `1` for the United States. @param country ISO 3166-1 */
export const callingCode = (country: string): string => getCountryCallingCode(country as CountryCode)

/** All that is shown of a number: its last two digits. */
export const endingOf = (number: string): string => number.slice(-2)

/** Numbers of one block begin alike: the first seven digits, by which pumped traffic is known. */
export const prefixOf = (number: string): string => number.slice(1, 8)

/** Sends of one code that are looked at before anything is said of their share. */
const BREAKER_SENDS = 50
/** Codes that come back, of those sent: below, somebody sends for the sake of sending. */
const BREAKER_SHARE = 0.4

/**
 * Trips when too few of the codes that are sent come back (toll fraud: who sends wants the fee, not the sign-in).
 *
 * Each send weighs `share`, each code that comes back takes 1 away, never below nothing. While at least `share` of the codes
 * come back, the weight stays near nothing; fifty in a row that do not come back trip it, and so do more with some between.
 */
export class ConversionBreaker {
  #weight = 0
  #openUntil = 0
  readonly #wait: number

  /** @param wait seconds that it stays open */
  constructor(wait: number) {
    this.#wait = wait
  }

  /** True while nothing is to be sent. */
  isOpen(now: number): boolean {
    return now < this.#openUntil
  }

  sent(now: number): void {
    this.#weight += BREAKER_SHARE
    if (this.#weight + 1e-9 < BREAKER_SENDS * BREAKER_SHARE) return
    this.#openUntil = now + this.#wait
    this.#weight = 0
  }

  cameBack(): void {
    this.#weight = Math.max(0, this.#weight - 1)
  }
}
