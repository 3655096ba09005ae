/** What a new password may be: long, not one that others know, not made of what everybody knows of its owner. */
import { createHash } from 'node:crypto'
import { checkPassword, PASSWORD_MAX_LENGTH } from './password.ts'

/** The first rule that a new password breaks. `length`, `min` and `max` in code points. */
export type PasswordFault =
  | { code: 'password_too_short'; length: number; min: number }
  | { code: 'password_too_long'; max: number }
  | { code: 'password_common' | 'password_context' | 'password_used_before' | 'password_breached' }

/** What a new password is compared with. */
export interface PasswordRules {
  minLength: number
  /** What everybody knows: e-mail address, name, company, product. */
  words: string[]
  /** Whether it is one of the last passwords of this person. */
  isFormer(password: string): Promise<boolean>
  /** Whether it is known to be stolen, asked of somebody who is not told which one. */
  isBreached?: ((password: string) => Promise<boolean>) | undefined
}

/**
 * The first rule that this new password breaks, or `undefined`. No composition rules (NIST SP 800-63B-4 §3.1.1.2): the length, a list of
 * passwords that others had, words of its context, and its owner's last passwords.
 */
export async function faultOf(password: string, rules: PasswordRules): Promise<PasswordFault | undefined> {
  const { minLength, words, isFormer, isBreached } = rules
  const length = checkPassword(password, minLength)
  if (length === 'password_too_short')
    return { code: length, length: [...password.normalize('NFC')].length, min: minLength }
  if (length === 'password_too_long') return { code: length, max: PASSWORD_MAX_LENGTH }
  if (await isCommon(password)) return { code: 'password_common' }
  if (isOfContext(password, words)) return { code: 'password_context' }
  if (await isFormer(password)) return { code: 'password_used_before' }
  if (await isBreached?.(password)) return { code: 'password_breached' }
  return undefined
}

let common: Promise<BigUint64Array> | undefined

/**
 * True when the whole password is on the list, however it is written (case, width, spaces), or nothing but such a one, or up to three
 * characters, again and again.
 *
 * The list: 49,000 passwords of @zxcvbn-ts/language-common (MIT). It is read with the first question and kept as sorted 64-bit
 * hashes, 8 bytes each.
 */
export async function isCommon(password: string): Promise<boolean> {
  common ??= readCommon()
  const hashes = await common
  const folded = fold(password)
  // Nothing but blanks.
  if (folded === '') return true
  const unit = unitOf(folded)
  return holds(hashes, hashOf(folded)) || (unit !== folded && ([...unit].length <= 3 || holds(hashes, hashOf(unit))))
}

async function readCommon(): Promise<BigUint64Array> {
  const { dictionary } = await import('@zxcvbn-ts/language-common')
  return BigUint64Array.from(dictionary['passwords-common'] as string[], (one) => hashOf(fold(one))).sort()
}

const hashOf = (text: string) => createHash('sha256').update(text).digest().readBigUInt64BE()

function holds(sorted: BigUint64Array, hash: bigint): boolean {
  let from = 0
  let to = sorted.length
  while (from < to) {
    const middle = (from + to) >>> 1
    if (sorted[middle]! < hash) from = middle + 1
    else to = middle
  }
  return sorted[from] === hash
}

/** The shortest part that the text is a repetition of: `abcabcabc` → `abc`. */
function unitOf(text: string): string {
  const at = `${text}${text}`.indexOf(text, 1)
  return text.slice(0, at)
}

/**
 * True when nothing of the password is left without these words, digits and signs: `Acme-Builders-2026`. Words of less than three
 * letters do not count.
 */
export function isOfContext(password: string, words: string[]): boolean {
  const known = words
    .flatMap((word) => [word, ...word.split(/[^\p{L}]+/u)])
    .map(letters)
    .filter((word) => [...word].length >= 3)
  const text = letters(password)
  if (text === '') return false
  // How far the text is made of known words, from the front.
  const reached = new Set([0])
  for (let at = 0; at < text.length; at++)
    if (reached.has(at)) for (const word of known) if (text.startsWith(word, at)) reached.add(at + word.length)
  return reached.has(text.length)
}

/** For comparing only: what looks alike to a guesser is alike. The password itself is kept as it is. */
const fold = (text: string) =>
  text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[\s\p{Default_Ignorable_Code_Point}]/gu, '')
/** Without accents: whoever knows the name tries both. */
const letters = (text: string) =>
  fold(text)
    .normalize('NFKD')
    .replace(/[^\p{L}]/gu, '')

/**
 * Asks a list of stolen passwords, which learns five digits of the password's SHA-1 and no more (k-anonymity).
 *
 * @param url answers `<url><five digits>` with lines of the other 35 and a count, as api.pwnedpasswords.com/range/ does
 * @param onError the list did not answer: then no password is refused because of it
 */
export function breachList(
  url: string,
  onError: (error: Error) => void,
  get: typeof fetch = fetch,
): (password: string) => Promise<boolean> {
  return async (password) => {
    const hash = createHash('sha1').update(password.normalize('NFC')).digest('hex').toUpperCase()
    try {
      const response = await get(url + hash.slice(0, 5), {
        headers: { 'Add-Padding': 'true' },
        redirect: 'error',
        signal: AbortSignal.timeout(BREACH_MS),
      })
      if (!response.ok) throw new Error(`the list of stolen passwords answered ${response.status}`)
      // Padding has the count 0.
      return (await response.text()).split(/\r?\n/).some((line) => {
        const [rest, count] = line.split(':')
        return rest === hash.slice(5) && Number(count) > 0
      })
    } catch (error) {
      onError(error as Error)
      return false
    }
  }
}

/** A person waits for it. */
const BREACH_MS = 2000
