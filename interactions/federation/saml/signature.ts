/** XML signatures, checked with the certificates that are stored. What a message brings along as a key is ignored. */
import { createVerify, type KeyObject, X509Certificate } from 'node:crypto'
import { SignedXml } from 'xml-crypto'
import { CheckFailed } from './checks.ts'
import { type IdpCertificate, SKEW_SECONDS } from './connection.ts'
import { DIGEST_ALGORITHMS, type PlacedSignature, SIGNATURE_ALGORITHMS } from './shape.ts'
import { bytesOf } from './strict-xml.ts'

/** A key that may have signed. */
interface TrustedKey {
  key: KeyObject
  certificate: IdpCertificate
}

/** What a signature stands for. */
export interface Verified {
  /** The canonical form of what was signed. Nothing else may be read from the message. */
  signed: string
  /** Which certificate's key it was. */
  certificate: IdpCertificate
}

/**
 * The keys of the certificates that are valid at `now`.
 * @throws {CheckFailed} `certificate` when none is
 */
export function trustedKeys(certificates: IdpCertificate[], now: number): TrustedKey[] {
  const keys = certificates
    .filter(({ notBefore, notAfter }) => notBefore - SKEW_SECONDS <= now && now < notAfter + SKEW_SECONDS)
    .flatMap((certificate) => {
      const key = publicKeyOf(certificate)
      return key ? [{ certificate, key }] : []
    })
  if (keys.length === 0) throw new CheckFailed('certificate', 'no certificate of this connection is valid today')
  return keys
}

/** One that cannot be read verifies nothing: the others still do. */
function publicKeyOf({ pem }: IdpCertificate): KeyObject | undefined {
  try {
    return new X509Certificate(pem).publicKey
  } catch {
    return undefined
  }
}

/** Verifies with any of the keys, so that a document is parsed and canonicalized once however many there are. */
const algorithm = (name: string, hash: string, keys: TrustedKey[], found: (certificate: IdpCertificate) => void) =>
  class {
    getAlgorithmName = () => name
    getSignature = (): never => {
      throw new Error('only verifies')
    }
    verifySignature = (signedInfo: string, _key: unknown, value: string): boolean => {
      const signature = bytesOf(value)
      if (!signature) return false
      const signer = keys.find(({ key }) => createVerify(hash).update(signedInfo).verify(key, signature))
      if (signer) found(signer.certificate)
      return signer !== undefined
    }
  }

/**
 * What the signature signs, if one of the keys made it.
 *
 * @param xml the text that the signature's document was parsed from
 * @throws {CheckFailed} `signature`
 */
export function verifySignature(xml: string, { element }: PlacedSignature, keys: TrustedKey[]): Verified {
  let certificate: IdpCertificate | undefined
  const verifier = new SignedXml({ publicCert: keys[0]!.key })
  verifier.idAttributes = ['ID']
  verifier.SignatureAlgorithms = Object.fromEntries(
    [...SIGNATURE_ALGORITHMS].map(([name, hash]) => [
      name,
      algorithm(name, hash, keys, (found) => {
        certificate = found
      }),
    ]),
  )
  verifier.HashAlgorithms = Object.fromEntries(DIGEST_ALGORITHMS.map((name) => [name, verifier.HashAlgorithms[name]!]))
  try {
    verifier.loadSignature(element)
    const valid = verifier.checkSignature(xml)
    const [signed, another] = verifier.getSignedReferences()
    if (!valid) throw new CheckFailed('signature', 'what was signed was changed: its digest differs')
    if (certificate && signed !== undefined && another === undefined) return { signed, certificate }
  } catch (error) {
    if (error instanceof CheckFailed) throw error
    // The library throws on a signature value that no key made.
  }
  throw new CheckFailed('signature', 'made by none of the keys of this connection')
}
