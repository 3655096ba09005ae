/** Encrypted assertions (XML Encryption 1.1). Encryption says nothing about who sent it: everybody knows our public key. */
import { constants, createDecipheriv, createPrivateKey, privateDecrypt } from 'node:crypto'
import { CheckFailed } from './checks.ts'
import { NS, type SpKey } from './connection.ts'
import { all, attributeOf, bytesOf, children, childrenNamed, is, textOf } from './strict-xml.ts'

/** Content ciphers: name in OpenSSL, bytes of the key. CBC can be changed without the key, so it needs a signature around it. */
const CIPHERS: ReadonlyMap<
  string,
  { name: 'aes-128-gcm' | 'aes-256-gcm' | 'aes-128-cbc' | 'aes-256-cbc'; key: number }
> = new Map([
  ['http://www.w3.org/2009/xmlenc11#aes128-gcm', { name: 'aes-128-gcm', key: 16 }],
  ['http://www.w3.org/2009/xmlenc11#aes256-gcm', { name: 'aes-256-gcm', key: 32 }],
  ['http://www.w3.org/2001/04/xmlenc#aes128-cbc', { name: 'aes-128-cbc', key: 16 }],
  ['http://www.w3.org/2001/04/xmlenc#aes256-cbc', { name: 'aes-256-cbc', key: 32 }],
])

/** RSA-OAEP with one hash for label and mask, as OpenSSL has it. `rsa-oaep-mgf1p` is the same with SHA-1 for the mask. */
const OAEP = ['http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p', 'http://www.w3.org/2009/xmlenc11#rsa-oaep']
const DIGESTS: ReadonlyMap<string, string> = new Map([
  ['http://www.w3.org/2000/09/xmldsig#sha1', 'sha1'],
  ['http://www.w3.org/2001/04/xmlenc#sha256', 'sha256'],
  ['http://www.w3.org/2001/04/xmlenc#sha512', 'sha512'],
])
const MASKS: ReadonlyMap<string, string> = new Map([
  ['http://www.w3.org/2009/xmlenc11#mgf1sha1', 'sha1'],
  ['http://www.w3.org/2009/xmlenc11#mgf1sha256', 'sha256'],
  ['http://www.w3.org/2009/xmlenc11#mgf1sha512', 'sha512'],
])

/** The codes of the checks of {@link decryptAssertion}. */
export const ENCRYPTION_CHECKS = ['encryption_form', 'encryption_algorithm', 'decryption'] as const

/**
 * The text of the element inside an EncryptedAssertion.
 *
 * @param keys tried one after the other
 * @param signed a signature over the whole response holds: without one AES-CBC is refused, because answers to changed
 *   cipher texts would tell what is inside
 * @throws {CheckFailed} with one of {@link ENCRYPTION_CHECKS}; the same for every failure of decryption itself
 */
export function decryptAssertion(encrypted: Element, keys: SpKey[], signed: boolean): string {
  const [data, another] = childrenNamed(encrypted, NS.xenc, 'EncryptedData')
  const encryptedKeys = all(encrypted).filter((element) => is(element, NS.xenc, 'EncryptedKey'))
  const [encryptedKey] = encryptedKeys
  if (!data || another || !encryptedKey || encryptedKeys.length > 1)
    throw new CheckFailed('encryption_form', 'not one EncryptedData with one EncryptedKey')
  const type = attributeOf(data, 'Type')
  if (type !== undefined && type !== `${NS.xenc}Element`) throw new CheckFailed('encryption_form', `Type ${type}`)

  const method = methodOf(data)
  const cipher = CIPHERS.get(method.algorithm)
  if (!cipher) throw new CheckFailed('encryption_algorithm', method.algorithm)
  const isCbc = cipher.name.endsWith('cbc')
  if (isCbc && !signed) throw new CheckFailed('encryption_algorithm', 'AES-CBC in a response that is not signed')
  const oaepHash = oaepHashOf(methodOf(encryptedKey))
  const wrapped = cipherValueOf(encryptedKey)
  const content = cipherValueOf(data)

  for (const { privateKey } of keys)
    try {
      const key = createPrivateKey(privateKey)
      const contentKey = privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash }, wrapped)
      if (contentKey.length !== cipher.key) continue
      const bytes = isCbc ? openCbc(cipher.name, contentKey, content) : openGcm(cipher.name, contentKey, content)
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    } catch {
      // Not this key, or nothing that we could open: which of them is not told.
    }
  throw new CheckFailed('decryption')
}

interface Method {
  element: Element
  algorithm: string
}

function methodOf(parent: Element): Method {
  const [element, another] = childrenNamed(parent, NS.xenc, 'EncryptionMethod')
  if (!element || another) throw new CheckFailed('encryption_form', `${parent.localName} without one EncryptionMethod`)
  return { element, algorithm: attributeOf(element, 'Algorithm') ?? '' }
}

function oaepHashOf({ element, algorithm }: Method): string {
  if (!OAEP.includes(algorithm)) throw new CheckFailed('encryption_algorithm', algorithm)
  const parameters = children(element)
  const one = (namespace: string, name: string) => parameters.find((parameter) => is(parameter, namespace, name))
  const digest = one(NS.ds, 'DigestMethod')
  const mask = one(NS.xenc11, 'MGF')
  if (parameters.length !== [digest, mask].filter(Boolean).length)
    throw new CheckFailed('encryption_algorithm', 'parameters of RSA-OAEP')
  const hash = digest ? DIGESTS.get(attributeOf(digest, 'Algorithm') ?? '') : 'sha1'
  const maskHash = mask ? MASKS.get(attributeOf(mask, 'Algorithm') ?? '') : 'sha1'
  if (hash === undefined || hash !== maskHash)
    throw new CheckFailed('encryption_algorithm', 'RSA-OAEP with different hashes for digest and mask')
  return hash
}

function cipherValueOf(parent: Element): Buffer {
  const [data] = childrenNamed(parent, NS.xenc, 'CipherData')
  const [value] = data ? childrenNamed(data, NS.xenc, 'CipherValue') : []
  const bytes = value && bytesOf(textOf(value) ?? '')
  if (!bytes) throw new CheckFailed('encryption_form', `${parent.localName} without a CipherValue`)
  return bytes
}

/** XML Encryption 1.1 §5.2.4: a nonce of 12 bytes, the text, a tag of 16. */
function openGcm(name: 'aes-128-gcm' | 'aes-256-gcm' | string, key: Buffer, content: Buffer): Buffer {
  if (content.length < 28) throw new Error('too short')
  const decipher = createDecipheriv(name as 'aes-128-gcm', key, content.subarray(0, 12), { authTagLength: 16 })
  decipher.setAuthTag(content.subarray(-16))
  return Buffer.concat([decipher.update(content.subarray(12, -16)), decipher.final()])
}

/** XML Encryption 1.1 §5.2.1: an initialization vector of 16 bytes, then blocks; the last byte counts the padding. */
function openCbc(name: string, key: Buffer, content: Buffer): Buffer {
  const decipher = createDecipheriv(name, key, content.subarray(0, 16)).setAutoPadding(false)
  const padded = Buffer.concat([decipher.update(content.subarray(16)), decipher.final()])
  const padding = padded.at(-1) ?? 0
  if (padding < 1 || padding > 16) throw new Error('padding')
  return padded.subarray(0, -padding)
}
