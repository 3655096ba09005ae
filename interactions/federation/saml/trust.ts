/** From a message to what may be believed of it: the parts that a signature covers, read again from the signed bytes. */
import { CheckFailed, type Checks } from './checks.ts'
import { NS, type SamlConnection } from './connection.ts'
import { decryptAssertion, ENCRYPTION_CHECKS } from './decrypt.ts'
import { type PlacedSignature, readAssertion, readResponse, SHAPE_CHECKS } from './shape.ts'
import { trustedKeys, type Verified, verifySignature } from './signature.ts'
import { attributeOf, childrenNamed, is, parseStrict } from './strict-xml.ts'

/** What a message says that may be believed. */
export interface Trusted {
  /** From signed bytes if it is signed; otherwise nothing in it may be used but to refuse. */
  response: Element
  isResponseSigned: boolean
  /** From signed bytes. */
  assertion: Element
  /** The assertion that was inside an encrypted one. */
  decrypted: { assertion: string /** With its signature. */; element: Element; isSigned: boolean } | undefined
  /** Who signed, the response first. At least one. */
  signers: { element: 'Response' | 'Assertion'; verified: Verified }[]
}

/**
 * Verifies every signature in a response: each must hold, and one of them must cover the assertion.
 *
 * @throws {CheckFailed} with the check that failed
 */
export function readTrusted(
  xml: string,
  root: Element,
  connection: SamlConnection,
  now: number,
  checks: Checks,
): Trusted {
  const shape = checks.all(SHAPE_CHECKS, () => readResponse(root))
  const keys = checks.all(['certificate'], () => trustedKeys(connection.idp.certificates, now))
  const signers: Trusted['signers'] = []

  /** The element that the signature covers, from the bytes that it covers. */
  const signedElement = (text: string, signature: PlacedSignature, element: 'Response' | 'Assertion'): Element => {
    const verified = verifySignature(text, signature, keys)
    signers.push({ element, verified })
    const signed = parseStrict(verified.signed)
    const isIt =
      is(signed, element === 'Response' ? NS.samlp : NS.saml, element) && attributeOf(signed, 'ID') === signature.signs
    if (!isIt) throw new CheckFailed('signature_reference', 'what is signed is another element')
    return signed
  }

  const isResponseSigned = shape.responseSignature !== undefined
  const response = shape.responseSignature ? signedElement(xml, shape.responseSignature, 'Response') : shape.response

  let assertion: Element | undefined
  let decrypted: Trusted['decrypted']
  if (shape.encrypted) {
    const [encrypted] = childrenNamed(response, NS.saml, 'EncryptedAssertion')
    const text = checks.all(ENCRYPTION_CHECKS, () => decryptAssertion(encrypted!, connection.sp.keys, isResponseSigned))
    const inner = parseStrict(text)
    const signature = readAssertion(inner)
    decrypted = { assertion: text, element: inner, isSigned: signature !== undefined }
    assertion = signature ? signedElement(text, signature, 'Assertion') : inner
  } else if (shape.assertionSignature) {
    assertion = signedElement(xml, shape.assertionSignature, 'Assertion')
  } else {
    assertion = childrenNamed(response, NS.saml, 'Assertion')[0]
  }
  if (signers.length === 0 || !assertion) throw new CheckFailed('signature_missing')
  checks.note('signature', true)
  return { response, isResponseSigned, assertion, decrypted, signers }
}
