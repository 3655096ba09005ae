/** The key ring: encryption at rest, and the keys for cookies and form tokens. Kept outside the database. */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  hash,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import { z } from 'zod'
import type { SealedPlace, Sealer } from './stores.ts'

/** The file's shape. The first key of the list seals; all of them open. */
const File = z.strictObject({
  keys: z
    .array(
      z.strictObject({ id: z.string().regex(/^[\w-]{1,40}$/), key: z.base64().length(44), created: z.iso.datetime() }),
    )
    .min(1),
})

/** A ring of 256-bit data keys. */
export type KeyRingFile = z.infer<typeof File>

/** What cannot be opened: changed, moved to another owner, or sealed under a key that is not on the ring. */
export class SealBroken extends Error {
  override readonly name = 'SealBroken'
}

/** A ring with one new random key. */
export function newKeyRing(now = new Date()): KeyRingFile {
  return withNewKey({ keys: [] }, now)
}

/** The ring with a new key in front, which seals from now on; the others still open. */
export function withNewKey(ring: KeyRingFile, now = new Date()): KeyRingFile {
  const key = {
    id: randomBytes(6).toString('hex'),
    key: randomBytes(32).toString('base64'),
    created: now.toISOString(),
  }
  return { keys: [key, ...ring.keys] }
}

/**
 * Reads the text of a key ring file.
 * @throws {z.ZodError | SyntaxError} when it is not one
 */
export function parseKeyRing(text: string): KeyRingFile {
  return File.parse(JSON.parse(text))
}

/** What stands before the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410 §7). */
const ED25519_PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')

/** Encrypts and signs with the keys of a ring. */
export class KeyRing implements Sealer {
  readonly #keys: Map<string, Buffer>
  readonly #newest: string

  constructor(file: KeyRingFile) {
    this.#keys = new Map(file.keys.map(({ id, key }) => [id, Buffer.from(key, 'base64')]))
    this.#newest = file.keys[0]!.id
  }

  /** AES-256-GCM with a random 96-bit nonce (SP 800-38D §8.2.2). `v1.<key id>.<nonce, ciphertext, tag in base64url>` */
  seal(place: SealedPlace, plaintext: string): string {
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', this.#keys.get(this.#newest)!, nonce)
    cipher.setAAD(additionalData(place, this.#newest))
    const body = Buffer.concat([nonce, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()])
    return `v1.${this.#newest}.${body.toString('base64url')}`
  }

  /** @throws {SealBroken} */
  open(place: SealedPlace, sealed: string): string {
    const [version, id = '', text = ''] = sealed.split('.')
    const key = this.#keys.get(id)
    if (version !== 'v1' || !key)
      throw new SealBroken(`no key "${id}" on the key ring: put it back, or restore the data it belongs to`)
    const body = Buffer.from(text, 'base64url')
    try {
      if (`${version}.${id}.${body.toString('base64url')}` !== sealed) throw new Error('not in its one spelling')
      const decipher = createDecipheriv('aes-256-gcm', key, body.subarray(0, 12), { authTagLength: 16 })
      decipher.setAAD(additionalData(place, id))
      decipher.setAuthTag(body.subarray(-16))
      return Buffer.concat([decipher.update(body.subarray(12, -16)), decipher.final()]).toString('utf8')
    } catch (cause) {
      throw new SealBroken(`a stored ${place.purpose} does not open: it was changed, or belongs to somebody else`, {
        cause,
      })
    }
  }

  isStale(sealed: string): boolean {
    return sealed.split('.')[1] !== this.#newest
  }

  /** Keys for signed cookies: the newest signs, all verify. */
  cookieKeys(): string[] {
    return [...this.#keys.values()].map((key) => createHmac('sha256', key).update('cookies').digest('base64url'))
  }

  /** What signs for this purpose from now on: an Ed25519 key (RFC 8032) of the newest key, under its id. Never stored. */
  signingKey(purpose: string): { id: string; key: KeyObject } {
    return { id: this.#newest, key: this.#signingKey(purpose, this.#newest) }
  }

  /** What verifies a signature by the key of this id; `undefined` when it is not on the ring. */
  verificationKey(purpose: string, id: string): KeyObject | undefined {
    return this.#keys.has(id) ? createPublicKey(this.#signingKey(purpose, id)) : undefined
  }

  #signingKey(purpose: string, id: string): KeyObject {
    const seed = Buffer.from(hkdfSync('sha256', this.#keys.get(id)!, '', `sign ${purpose}`, 32))
    return createPrivateKey({ key: Buffer.concat([ED25519_PKCS8, seed]), format: 'der', type: 'pkcs8' })
  }

  /** A keyed hash for look-ups and form tokens, hex. Stable as long as the oldest key stays on the ring. */
  mac(purpose: string, value: string): string {
    const oldest = [...this.#keys.values()].at(-1)!
    return createHmac('sha256', oldest).update(`${purpose}|${value}`).digest('hex')
  }
}

/** SHA-256, base64url: what bearer values are stored under. */
export const digest = (value: string): string => hash('sha256', value, 'base64url')

function additionalData(place: SealedPlace, keyId: string): Buffer {
  return Buffer.from(JSON.stringify(['v1', place.purpose, place.owner, place.record ?? '', keyId]))
}
