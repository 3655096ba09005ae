/** Self-signed certificates (RFC 5280): SAML metadata carries keys in them, and Node makes none. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import type { SpKey } from './connection.ts'

const YEAR_SECONDS = 365 * 24 * 60 * 60

/**
 * A new RSA key of 3072 bits with a certificate over it.
 *
 * @param commonName who it is for: people read it in the identity provider's console
 * @param now seconds since 1970
 * @param years how long it is valid
 */
export function newSpKey(commonName: string, now: number, years = 3): SpKey {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 3072 })
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const dates = { notBefore: now - 60 * 60, notAfter: now + years * YEAR_SECONDS }
  return { privateKey: pem, certificate: selfSigned({ privateKey: pem, commonName, ...dates }) }
}

/**
 * A certificate over an RSA key, signed with it (SHA-256). In PEM.
 *
 * @param dates seconds since 1970
 */
export function selfSigned({
  privateKey,
  commonName,
  notBefore,
  notAfter,
}: {
  privateKey: string
  commonName: string
  notBefore: number
  notAfter: number
}): string {
  const key = createPrivateKey(privateKey)
  const algorithm = sequence(oid('2a864886f70d01010b'), der(0x05)) // sha256WithRSAEncryption
  const name = sequence(der(0x31, sequence(oid('550403'), der(0x0c, Buffer.from(commonName)))))
  const serial = randomBytes(16)
  serial[0] = (serial[0]! & 0x3f) | 0x40 // positive, and no leading zero
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, serial),
    algorithm,
    name,
    sequence(time(notBefore), time(notAfter)),
    name,
    createPublicKey(key).export({ type: 'spki', format: 'der' }),
  )
  const signature = sign('sha256', body, key)
  const certificate = sequence(body, algorithm, der(0x03, Buffer.concat([Buffer.from([0]), signature])))
  const lines = certificate.toString('base64').replace(/.{64}(?=.)/g, '$&\n')
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`
}

/** Tag, length, value (X.690 §8.1). */
function der(tag: number, ...parts: Buffer[]): Buffer {
  const value = Buffer.concat(parts)
  if (value.length < 0x80) return Buffer.concat([Buffer.from([tag, value.length]), value])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(value.length)
  const bytes = length.subarray(length.findIndex((byte) => byte !== 0))
  return Buffer.concat([Buffer.from([tag, 0x80 | bytes.length]), bytes, value])
}
const sequence = (...parts: Buffer[]) => der(0x30, ...parts)
const oid = (hex: string) => der(0x06, Buffer.from(hex, 'hex'))

/** RFC 5280 §4.1.2.5: two digits of the year before 2050, four from then on. */
function time(seconds: number): Buffer {
  const digits = new Date(seconds * 1000).toISOString().replace(/\.\d+|[-:T]/g, '')
  return digits < '2050' ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits))
}
