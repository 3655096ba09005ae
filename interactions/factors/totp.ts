/** Time-based one-time passwords: 6 digits, 30 seconds, SHA-1 (RFC 6238). Pure proof: knows no account and no store. */
import { generateSecret, verify } from 'otplib'

/** Seconds that one code is shown. */
export const STEP_SECONDS = 30
const SECRET_BYTES = 20

/** A new secret, Base32 without padding: 20 random bytes (RFC 4226 §4 R6). */
export const newSecret = (): string => generateSecret({ length: SECRET_BYTES })

/**
 * The `otpauth:` URI that authenticator apps read.
 * @param issuer shown in the app; may not contain a colon, which separates issuer and account in the label
 */
export function enrolmentUri({ issuer, account, secret }: { issuer: string; account: string; secret: string }): string {
  const label = `${encodeURIComponent(issuer)}:${encodeURIComponent(account)}`
  // Written by encodeURIComponent, not URLSearchParams: apps show a "+" as a plus.
  return `otpauth://totp/${label}?secret=${secret}&issuer=${encodeURIComponent(issuer)}&algorithm=SHA1&digits=6&period=${STEP_SECONDS}`
}

/**
 * The 6 digits in what a person typed or pasted, or `undefined`: then it is no code and uses up no try.
 * Spaces, hyphens and zero-width characters are dropped; full-width and Arabic-Indic digits are digits.
 */
export function readCode(typed: string): string | undefined {
  const digits = typed
    .normalize('NFKC')
    .replace(/[٠-٩]/g, (digit) => String(digit.charCodeAt(0) - 0x0660))
    .replace(/[۰-۹]/g, (digit) => String(digit.charCodeAt(0) - 0x06f0))
    .replace(/[\s\p{Pd}\p{Cf}]/gu, '')
  return /^\d{6}$/.test(digits) ? digits : undefined
}

/**
 * The time step in which `code` is valid, or `undefined`.
 *
 * Accepts `window` steps late, for network delay (RFC 6238 §5.2), and as many early, for a fast phone clock (§6).
 *
 * @param code 6 digits
 * @param now seconds since 1970
 * @param window steps to either side: 1, or 0
 */
export async function matchingStep(secret: string, code: string, now: number, window = 1): Promise<number | undefined> {
  const result = await verify({ secret, token: code, epoch: now, epochTolerance: window * STEP_SECONDS })
  return result.valid ? Math.floor(now / STEP_SECONDS) + result.delta : undefined
}

/**
 * How many seconds the phone's clock seems to be off when the code is right within ten steps: positive is fast.
 * For the message only; such a code is not accepted (RFC 6238 §6).
 */
export async function clockOffset(secret: string, code: string, now: number): Promise<number | undefined> {
  const step = await matchingStep(secret, code, now, 10)
  return step === undefined ? undefined : (step - Math.floor(now / STEP_SECONDS)) * STEP_SECONDS
}
