/** Metadata (SAML Metadata §2): an identity provider's, read with suspicion, and ours. */
import { X509Certificate } from 'node:crypto'
import { CheckFailed } from './checks.ts'
import { BINDING, type IdentityProvider, type IdpCertificate, NS, type SamlConnection } from './connection.ts'
import { attributeOf, bytesOf, childrenNamed, is, METADATA_LIMITS, parseStrict, textOf } from './strict-xml.ts'
import { certificateBody, xml, xmlText } from './write-xml.ts'

const MAX_BYTES = 256 * 1024
const MAX_CERTIFICATES = 8
const MAX_ENTITY_ID = 1024
const MIN_RSA_BITS = 2048
const PROTOCOL = 'urn:oasis:names:tc:SAML:2.0:protocol'

/** Metadata that cannot be used. The message names the fault in one sentence. */
export class MetadataError extends Error {
  override readonly name = 'MetadataError'
}
const fault = (sentence: string) => new MetadataError(sentence)

/** What metadata says of an identity provider. */
export interface IdpMetadata extends IdentityProvider {
  /** NameID formats that it can send. */
  nameIdFormats: string[]
  /** It refuses requests that are not signed. Ours always are. */
  wantsSignedRequests: boolean
  /** When the metadata ends, seconds since 1970. */
  validUntil: number | undefined
}

/** How metadata is read. */
export interface MetadataOptions {
  /** Seconds since 1970. */
  now: number
  /** Lets `http` locations on this machine pass: for a demo. */
  allowLoopback?: boolean
}

/**
 * Reads an identity provider's metadata: one EntityDescriptor with one IDPSSODescriptor of SAML 2.0. Keys come only from
 * there, and only those that sign. A signature on the metadata is not looked at: who hands it in answers for it.
 *
 * @throws {MetadataError}
 */
export function readIdpMetadata(text: string | Buffer, { now, allowLoopback = false }: MetadataOptions): IdpMetadata {
  const entity = readEntity(text)
  const entityId = attributeOf(entity, 'entityID') ?? ''
  if (entityId === '' || entityId !== entityId.trim()) throw fault('The metadata has no entityID.')
  if (entityId.length > MAX_ENTITY_ID) throw fault(`The entityID has more than ${MAX_ENTITY_ID} characters.`)

  const descriptors = childrenNamed(entity, NS.md, 'IDPSSODescriptor').filter((descriptor) =>
    (attributeOf(descriptor, 'protocolSupportEnumeration') ?? '').split(/\s+/).includes(PROTOCOL),
  )
  const [descriptor] = descriptors
  if (!descriptor)
    throw fault(
      'The metadata describes no SAML 2.0 identity provider (IDPSSODescriptor): ask for that of the identity provider.',
    )
  if (descriptors.length > 1) throw fault('The metadata describes more than one identity provider role.')

  const ends = [entity, descriptor].map(validUntilOf).filter((end) => end !== undefined)
  const validUntil = ends.length > 0 ? Math.min(...ends) : undefined
  if (validUntil !== undefined && validUntil <= now)
    throw fault(`The metadata was valid until ${new Date(validUntil * 1000).toISOString()}: download it again.`)

  const { ssoUrl, binding } = readSsoService(descriptor, allowLoopback)
  return {
    entityId,
    ssoUrl,
    binding,
    certificates: readCertificates(descriptor, now),
    nameIdFormats: childrenNamed(descriptor, NS.md, 'NameIDFormat').map((format) => textOf(format)?.trim() ?? ''),
    wantsSignedRequests: ['true', '1'].includes(attributeOf(descriptor, 'WantAuthnRequestsSigned') ?? ''),
    validUntil,
  }
}

function readEntity(text: string | Buffer): Element {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  if (bytes.length > MAX_BYTES) throw fault(`The metadata has more than ${MAX_BYTES / 1024} KB.`)
  let root: Element
  try {
    // A byte order mark is what some consoles write before a file.
    root = parseStrict(withoutComments(new TextDecoder('utf-8', { fatal: true }).decode(bytes).trim()), METADATA_LIMITS)
  } catch (error) {
    if (!(error instanceof CheckFailed)) throw fault('The metadata is not in UTF-8.')
    if (error.code === 'markup') throw fault('The metadata holds a DOCTYPE, CDATA section or processing instruction.')
    if (error.code === 'limits') throw fault('The metadata is too large: export that of this one identity provider.')
    throw fault('The metadata is not well-formed XML.')
  }
  if (is(root, NS.md, 'EntitiesDescriptor')) {
    const entities = childrenNamed(root, NS.md, 'EntityDescriptor')
    if (entities.length !== 1 || childrenNamed(root, NS.md, 'EntitiesDescriptor').length > 0)
      throw fault(`The metadata describes ${entities.length} entities: export that of this one identity provider.`)
    throw fault('The metadata is a list (EntitiesDescriptor): hand in the EntityDescriptor inside it.')
  }
  if (!is(root, NS.md, 'EntityDescriptor')) throw fault('This is no SAML metadata: its root is no EntityDescriptor.')
  return root
}

/** Comments between elements are common in metadata, and mean nothing there. Elsewhere they could cut a value in two. */
const withoutComments = (text: string) => text.replace(/(^|>)(\s*)<!--(?:(?!--)[\s\S])*-->(?=\s*(?:<|$))/g, '$1$2')

function validUntilOf(element: Element): number | undefined {
  const text = attributeOf(element, 'validUntil')
  if (text === undefined) return undefined
  const time = Date.parse(text)
  if (!/^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(text) || Number.isNaN(time))
    throw fault('The validUntil of the metadata is no time.')
  return Math.floor(time / 1000)
}

function readSsoService(descriptor: Element, allowLoopback: boolean): Pick<IdentityProvider, 'ssoUrl' | 'binding'> {
  const services = childrenNamed(descriptor, NS.md, 'SingleSignOnService')
  for (const binding of ['redirect', 'post'] as const) {
    const service = services.find((one) => attributeOf(one, 'Binding') === BINDING[binding])
    if (service) return { binding, ssoUrl: checkLocation(attributeOf(service, 'Location') ?? '', allowLoopback) }
  }
  throw fault('The metadata has no SingleSignOnService for the HTTP-Redirect or HTTP-POST binding.')
}

/**
 * An address that people may be sent to.
 * @throws {MetadataError}
 */
export function checkLocation(location: string, allowLoopback: boolean): string {
  const url = URL.canParse(location) && /^[\x21-\x7e]{1,2048}$/.test(location) ? new URL(location) : undefined
  if (!url) throw fault('The location of SingleSignOnService is no URL.')
  const isLoopback = url.hostname === 'localhost' || url.hostname === '[::1]' || /^127(\.\d+){3}$/.test(url.hostname)
  if (url.protocol !== 'https:' && !(allowLoopback && isLoopback && url.protocol === 'http:'))
    throw fault('The location of SingleSignOnService is not https.')
  if (url.username !== '' || url.password !== '' || url.hash !== '')
    throw fault('The location of SingleSignOnService has a user name or a fragment.')
  return location
}

/** Keys that sign: of KeyDescriptors for signing, or for anything (SAML Metadata §2.4.1.1). */
function readCertificates(descriptor: Element, now: number): IdpCertificate[] {
  const found = new Map<string, IdpCertificate>()
  for (const key of childrenNamed(descriptor, NS.md, 'KeyDescriptor')) {
    const use = attributeOf(key, 'use')
    if (use !== undefined && use !== 'signing') continue
    for (const info of childrenNamed(key, NS.ds, 'KeyInfo'))
      for (const data of childrenNamed(info, NS.ds, 'X509Data')) {
        // Of a chain the first is the signer's; those above it sign certificates, not responses.
        const [element] = childrenNamed(data, NS.ds, 'X509Certificate')
        if (!element) continue
        const certificate = readCertificate(textOf(element) ?? '')
        found.set(certificate.pem, certificate)
      }
  }
  const certificates = [...found.values()]
  if (certificates.length === 0) throw fault('The metadata has no certificate for signing.')
  if (certificates.length > MAX_CERTIFICATES)
    throw fault(`The metadata has more than ${MAX_CERTIFICATES} certificates.`)
  const last = Math.max(...certificates.map(({ notAfter }) => notAfter))
  if (last <= now)
    throw fault(`The last certificate of the metadata ended on ${new Date(last * 1000).toISOString().slice(0, 10)}.`)
  return certificates
}

/**
 * A certificate in PEM or in the Base64 of metadata.
 * @throws {MetadataError} when it is none, or its key is too weak
 */
export function readCertificate(text: string): IdpCertificate {
  const bytes = bytesOf(certificateBody(text))
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(bytes ?? Buffer.alloc(0))
  } catch {
    throw fault('A certificate cannot be read.')
  }
  const { asymmetricKeyType, asymmetricKeyDetails } = certificate.publicKey
  if (asymmetricKeyType !== 'rsa')
    throw fault(`A certificate has a key of type ${asymmetricKeyType}: only RSA is supported.`)
  const bits = asymmetricKeyDetails?.modulusLength ?? 0
  if (bits < MIN_RSA_BITS) throw fault(`A certificate has an RSA key of ${bits} bits: ${MIN_RSA_BITS} is the least.`)
  const seconds = (date: string) => Math.floor(Date.parse(date) / 1000)
  return {
    pem: certificate.toString(),
    notBefore: seconds(certificate.validFrom),
    notAfter: seconds(certificate.validTo),
  }
}

/**
 * Our metadata for one connection: one key, or two while one takes the other's place. Names no logout service: no logout
 * by SAML is accepted.
 */
export function spMetadata({ sp, nameIdFormat }: Pick<SamlConnection, 'sp' | 'nameIdFormat'>): string {
  const key = (use: 'signing' | 'encryption') => (certificate: string) =>
    xml(
      'md:KeyDescriptor',
      { use },
      xml('ds:KeyInfo', {}, xml('ds:X509Data', {}, xml('ds:X509Certificate', {}, certificateBody(certificate)))) +
        (use === 'encryption'
          ? ['http://www.w3.org/2009/xmlenc11#aes256-gcm', 'http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p']
              .map((algorithm) => xml('md:EncryptionMethod', { Algorithm: algorithm }))
              .join('')
          : ''),
    )
  const certificates = sp.keys.map(({ certificate }) => certificate)
  const descriptor = xml(
    'md:SPSSODescriptor',
    { AuthnRequestsSigned: 'true', WantAssertionsSigned: 'true', protocolSupportEnumeration: PROTOCOL },
    certificates.map(key('signing')).join('') +
      certificates.map(key('encryption')).join('') +
      (nameIdFormat === undefined ? '' : xmlText('md:NameIDFormat', nameIdFormat)) +
      xml('md:AssertionConsumerService', { Binding: BINDING.post, Location: sp.acsUrl, index: '0', isDefault: 'true' }),
  )
  return `<?xml version="1.0" encoding="UTF-8"?>\n${xml(
    'md:EntityDescriptor',
    { 'xmlns:md': NS.md, 'xmlns:ds': NS.ds, entityID: sp.entityId },
    descriptor,
  )}\n`
}
