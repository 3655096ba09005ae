/** The recovery code: the right to enrol a new authenticator app. It proves no factor. */
import { randomBytes } from 'node:crypto'

/** Crockford's Base32: no I, L, O, U. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const LENGTH = 24

/** A new code, 24 characters = 120 random bits, in groups of 4: `7K2M-4QXN-…` (NIST SP 800-63B-4 §4.2.1.1 asks for 64). */
export function newRecoveryCode(): string {
  const characters = [...randomBytes(LENGTH)].map((byte) => ALPHABET[byte % 32]!) // 256 = 8 × 32: no bias
  return characters.join('').match(/.{4}/g)!.join('-')
}

/**
 * The code in what a person typed, in the form it is hashed in, or `undefined`: then it is no code and uses up no try.
 * Case, spaces and hyphens do not matter; O is 0, I and L are 1.
 */
export function readRecoveryCode(typed: string): string | undefined {
  const plain = typed
    .normalize('NFKC')
    .toUpperCase()
    .replace(/[\s\p{Pd}\p{Cf}]/gu, '')
    .replace(/O/g, '0')
    .replace(/[IL]/g, '1')
  return plain.length === LENGTH && [...plain].every((character) => ALPHABET.includes(character)) ? plain : undefined
}
