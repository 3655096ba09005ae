/**
 * The second gate: samlify and the SAML schemas must come to the same end by their own way
 * (docs/decisions/saml-two-gates.md). The only file that knows samlify, so that another can take its place.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { XmlDocument, XsdValidator, xmlRegisterInputProvider } from 'libxml2-wasm'
import samlify from 'samlify'
import { packageFolder } from '../../kit/assets.ts'
import { CheckFailed } from './checks.ts'
import { BINDING, type IdpCertificate, type SamlConnection } from './connection.ts'

/** The codes of the checks of {@link agree}. */
export const SECOND_GATE_CHECKS = ['schema', 'key_info', 'second_reading'] as const

const MAIN = 'saml-schema-protocol-2.0.xsd'
const SCHEMAS = [MAIN, 'saml-schema-assertion-2.0.xsd', 'xmldsig-core-schema.xsd', 'xenc-schema.xsd']

/** The compiled schemas. They name each other; nothing but these four can be opened, so no file and no network is. */
function loadSchemas(): XsdValidator {
  const texts = new Map(SCHEMAS.map((name) => [name, readFileSync(join(packageFolder('schemas'), name))]))
  const textOf = (address: string) => texts.get(address.split('/').at(-1)!)
  const open = new Map<number, { text: Buffer; at: number }>()
  xmlRegisterInputProvider({
    match: (address) => textOf(address) !== undefined,
    open: (address) => {
      open.set(open.size + 1, { text: textOf(address)!, at: 0 })
      return open.size
    },
    read: (handle, buffer) => {
      const file = open.get(handle)!
      const part = file.text.subarray(file.at, file.at + buffer.byteLength)
      buffer.set(part)
      file.at += part.length
      return part.length
    },
    close: () => true,
  })
  const main = XmlDocument.fromString(texts.get(MAIN)!.toString(), { url: MAIN })
  try {
    return XsdValidator.fromDoc(main)
  } finally {
    main.dispose()
  }
}

const schemas = loadSchemas()

/** @throws {CheckFailed} `schema` */
function validate(xml: string): void {
  try {
    const document = XmlDocument.fromString(xml)
    try {
      schemas.validate(document)
    } finally {
      document.dispose()
    }
  } catch (error) {
    throw new CheckFailed('schema', (error as Error).message)
  }
}

/** What the first gate found, for the second to find again. */
export interface FirstReading {
  /** The response as it was posted. */
  posted: string
  /** The assertion that was inside an encrypted one, and whether it is signed itself. */
  decrypted?: { assertion: string; isSigned: boolean } | undefined
  /** Whose key verified: what samlify tries when a message brings no certificate along. */
  certificate: IdpCertificate
  nameId: string
}

/** Of all that samlify can read, what it must agree on. */
const AGREED = ['issuer', 'nameID']

/**
 * Reads the response again: the schemas, samlify's verification, and what samlify takes for issuer and NameID.
 *
 * By its parts and not by `parseLoginResponse`, which parses the message a dozen times and decrypts with algorithms that we
 * refuse: it is given what we decrypted. It verifies the signature of the response if that still stands, of the
 * assertion otherwise.
 *
 * @throws {CheckFailed} with one of {@link SECOND_GATE_CHECKS}
 */
export function agree(first: FirstReading, connection: SamlConnection): void {
  const { posted, decrypted } = first
  // What is around a cipher text may be newer than these schemas; our own reading of it is exact.
  const whole = decrypted ? withAssertion(posted, decrypted.assertion) : posted
  validate(whole)
  const message = decrypted?.isSigned ? whole : posted
  try {
    const identityProvider = samlifyIdentityProvider(connection, first.certificate)
    const [isVerified, verified] = samlify.SamlLib.verifySignature(message, { metadata: identityProvider.entityMeta })
    const assertion = decrypted && !decrypted.isSigned ? decrypted.assertion : verified
    if (!isVerified || !assertion) throw new CheckFailed('second_reading', 'the signature')
    const fields = samlify.Extractor.loginResponseFields(assertion).filter(({ key }) => AGREED.includes(key))
    const { issuer, nameID } = samlify.Extractor.extract(assertion, fields)
    if (issuer !== connection.idp.entityId || nameID !== first.nameId)
      throw new CheckFailed('second_reading', 'issuer or NameID differ')
  } catch (error) {
    if (error instanceof CheckFailed) throw error
    const { message: reason } = error as Error
    if (reason === 'ERROR_UNMATCH_CERTIFICATE_DECLARATION_IN_METADATA') throw new CheckFailed('key_info')
    throw new CheckFailed('second_reading', reason)
  }
}

/** The response with the assertion in the place of the encrypted one. The strict parser has read both. */
function withAssertion(posted: string, assertion: string): string {
  const place = /<(?:[\w.-]+:)?EncryptedAssertion[\s>][\s\S]*<\/(?:[\w.-]+:)?EncryptedAssertion\s*>/
  return posted.replace(place, () => assertion.replace(/^<\?xml[^>]*>/i, ''))
}

/** Made of single values: samlify takes the wrong keys from some real metadata. */
function samlifyIdentityProvider({ idp }: SamlConnection, certificate: IdpCertificate) {
  const others = idp.certificates.filter((other) => other !== certificate)
  const location = [{ Binding: BINDING[idp.binding], Location: idp.ssoUrl }]
  return samlify.IdentityProvider({
    entityID: idp.entityId,
    signingCert: [certificate, ...others].map(({ pem }) => pem),
    singleSignOnService: location,
    singleLogoutService: location, // not used; without one it complains on stderr
  })
}
