/**
 * Writes and signs SAML responses with nothing but node:crypto. Text is written in its exclusive canonical form, so that
 * a digest is taken of the text itself and no canonicalizer, ours or a library's, has a say in it.
 */
import {
  constants,
  createCipheriv,
  createHash,
  generateKeyPairSync,
  publicEncrypt,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto'
import { selfSigned } from '../../../interactions/federation/saml/certificate.ts'
import type { IdpCertificate, PendingRequest, SamlConnection } from '../../../interactions/federation/saml/index.ts'

/** Seconds since 1970 at which every message is written and read. */
export const NOW = 1_800_000_000

/** A time so many seconds from {@link NOW}, as SAML writes it. */
export const at = (seconds: number): string => new Date((NOW + seconds) * 1000).toISOString()

export interface Signer {
  privateKey: string
  certificate: IdpCertificate
}

const DAY = 24 * 60 * 60

/** A key with a certificate valid for these seconds around {@link NOW}. */
export function signer(name: string, { bits = 2048, from = -30 * DAY, to = 365 * DAY } = {}): Signer {
  const { privateKey: key } = generateKeyPairSync('rsa', { modulusLength: bits })
  const privateKey = key.export({ type: 'pkcs8', format: 'pem' }).toString()
  const dates = { notBefore: NOW + from, notAfter: NOW + to }
  return { privateKey, certificate: { pem: selfSigned({ privateKey, commonName: name, ...dates }), ...dates } }
}

export const acmeKey = signer('idp.acme.example')
export const acmeNextKey = signer('idp.acme.example next')
export const acmeOldKey = signer('idp.acme.example old', { from: -400 * DAY, to: -DAY })
export const bestKey = signer('idp.best.example')
export const strangerKey = signer('idp.acme.example')
const spKey = signer('sallyport')
const nextSpKey = signer('sallyport next')

const connection = (name: string, keys: Signer[]): SamlConnection => ({
  id: `${name}-sso`,
  company: name,
  domains: [`${name}.example`],
  idp: {
    entityId: `https://idp.${name}.example/metadata`,
    ssoUrl: `https://idp.${name}.example/sso`,
    binding: 'redirect',
    certificates: keys.map(({ certificate }) => certificate),
  },
  sp: {
    entityId: `https://id.example/saml/${name}-sso/metadata`,
    acsUrl: `https://id.example/saml/${name}-sso/acs`,
    keys: [spKey, nextSpKey].map(({ privateKey, certificate }) => ({ privateKey, certificate: certificate.pem })),
  },
  attributes: { email: 'mail', name: 'displayName' },
})

/** The company whose people are attacked: two certificates, the second signs from tomorrow on. */
export const acme = connection('acme', [acmeKey, acmeNextKey])
/** The company of an attacker who runs its identity provider. */
export const best = connection('best', [bestKey])

/** What waits under which RelayState. */
export const requests = new Map<string, PendingRequest>()
const waits = (relayState: string, more: Partial<PendingRequest> = {}) =>
  requests.set(relayState, {
    id: `_request-of-${relayState}`,
    connectionId: 'acme-sso',
    createdAt: NOW - 30,
    expiresAt: NOW + 570,
    forceAuthn: false,
    answered: false,
    ...more,
  })
waits('acme')
waits('acme-other')
waits('best', { connectionId: 'best-sso' })
waits('forced', { forceAuthn: true })
waits('late', { createdAt: NOW - 700, expiresAt: NOW - 100 })
waits('answered', { answered: true })

const NAMESPACES: Record<string, string> = {
  samlp: 'urn:oasis:names:tc:SAML:2.0:protocol',
  saml: 'urn:oasis:names:tc:SAML:2.0:assertion',
  ds: 'http://www.w3.org/2000/09/xmldsig#',
  xenc: 'http://www.w3.org/2001/04/xmlenc#',
  ec: 'http://www.w3.org/2001/10/xml-exc-c14n#',
}
const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')

/** An element in canonical form: attributes in order, no short end tags. With `declare` it names its namespace. */
export function element(
  name: string,
  attributes: Record<string, string | undefined>,
  content = '',
  declare = false,
): string {
  const prefix = name.split(':')[0]!
  const own = declare ? [`xmlns:${prefix}="${NAMESPACES[prefix]}"`] : []
  const others = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}="${escaped(value!)}"`)
  return `<${[name, ...own, ...others].join(' ')}>${content}</${name}>`
}

export interface SignatureOptions {
  key?: Signer
  method?: string
  /** Name of the hash for the signature in OpenSSL. */
  hash?: string
  digest?: string
  digestHash?: string
  canonicalization?: string
  /** Content of Transforms. */
  transforms?: string
  uri?: string
  /** Content of KeyInfo; by default the signer's certificate. Empty: no KeyInfo. */
  keyInfo?: string
  /** Edits SignedInfo before it is signed. */
  info?: (xml: string) => string
  /** Edits the Signature after it was made. */
  done?: (xml: string) => string
  /** What the digest is taken of, when it is not the element. */
  of?: string
}

export const SHA256 = 'http://www.w3.org/2001/04/xmlenc#sha256'
export const SHA512 = 'http://www.w3.org/2001/04/xmlenc#sha512'
export const SHA1 = 'http://www.w3.org/2000/09/xmldsig#sha1'
export const RSA_SHA256 = 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256'
export const RSA_SHA512 = 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha512'
export const EXCLUSIVE = 'http://www.w3.org/2001/10/xml-exc-c14n#'
export const ENVELOPED = 'http://www.w3.org/2000/09/xmldsig#enveloped-signature'

export const transform = (algorithm: string, content = '') => element('ds:Transform', { Algorithm: algorithm }, content)
export const certificateOf = ({ certificate }: Signer) => new X509Certificate(certificate.pem).raw.toString('base64')
export const x509 = (key: Signer) => element('ds:X509Data', {}, element('ds:X509Certificate', {}, certificateOf(key)))

/** A signature over a canonical element. */
export function signatureOver(xml: string, options: SignatureOptions = {}): string {
  const { key = acmeKey, method = RSA_SHA256, hash = 'sha256', digest = SHA256, digestHash = 'sha256' } = options
  const id = / ID="([^"]*)"/.exec(xml)?.[1]
  const value = createHash(digestHash)
    .update(options.of ?? xml)
    .digest('base64')
  const reference = element(
    'ds:Reference',
    { URI: options.uri ?? `#${id}` },
    element('ds:Transforms', {}, options.transforms ?? transform(ENVELOPED) + transform(EXCLUSIVE)) +
      element('ds:DigestMethod', { Algorithm: digest }) +
      element('ds:DigestValue', {}, value),
  )
  const info = element(
    'ds:SignedInfo',
    {},
    element('ds:CanonicalizationMethod', { Algorithm: options.canonicalization ?? EXCLUSIVE }) +
      element('ds:SignatureMethod', { Algorithm: method }) +
      reference,
    true, // as its canonical form has it
  )
  const edited = options.info?.(info) ?? info
  const signed = sign(hash, Buffer.from(edited), key.privateKey).toString('base64')
  const keyInfo = options.keyInfo ?? x509(key)
  const signature = element(
    'ds:Signature',
    {},
    edited.replace(` xmlns:ds="${NAMESPACES['ds']}"`, '') +
      element('ds:SignatureValue', {}, signed) +
      (keyInfo === '' ? '' : element('ds:KeyInfo', {}, keyInfo)),
    true,
  )
  return options.done?.(signature) ?? signature
}

/** The element with a signature after its Issuer, or first. */
export const withSignature = (xml: string, signature: string): string => {
  const issuer = /^<[^>]*>\s*<saml:Issuer[^>]*>[^<]*<\/saml:Issuer>/.exec(xml)?.[0] ?? /^<[^>]*>/.exec(xml)![0]
  return issuer + signature + xml.slice(issuer.length)
}

export const nameId = (value = 'ana@acme.example', attributes: Record<string, string | undefined> = {}) =>
  element('saml:NameID', { Format: FORMAT.email, ...attributes }, value)
export const FORMAT = {
  email: 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
  unspecified: 'urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified',
  persistent: 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
  transient: 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient',
}
export const BEARER = 'urn:oasis:names:tc:SAML:2.0:cm:bearer'
export const PASSWORD = 'urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport'

export const attribute = (name: string, ...values: string[]) =>
  element('saml:Attribute', { Name: name }, values.map((value) => element('saml:AttributeValue', {}, value)).join(''))
export const audience = (...names: string[]) =>
  element('saml:AudienceRestriction', {}, names.map((name) => element('saml:Audience', {}, name)).join(''))
export const statusCode = (value: string, content = '') =>
  element('samlp:StatusCode', { Value: `urn:oasis:names:tc:SAML:2.0:status:${value}` }, content)
export const authnStatement = (attributes: Record<string, string | undefined> = {}, context = PASSWORD) =>
  element(
    'saml:AuthnStatement',
    { AuthnInstant: at(-10), SessionIndex: '_session', ...attributes },
    element('saml:AuthnContext', {}, element('saml:AuthnContextClassRef', {}, context)),
  )
export const confirmation = (
  data: Record<string, string | undefined> = {},
  method = BEARER,
  relayState = 'acme',
  to = acme,
) =>
  element(
    'saml:SubjectConfirmation',
    { Method: method },
    element('saml:SubjectConfirmationData', {
      InResponseTo: `_request-of-${relayState}`,
      NotOnOrAfter: at(300),
      Recipient: to.sp.acsUrl,
      ...data,
    }),
  )

type Attributes = Record<string, string | undefined>

/** A response, of which every part can be another. Strings are XML in canonical form. */
export interface MessageOptions {
  /** Whose identity provider writes, and to whom. */
  from?: SamlConnection
  to?: SamlConnection
  relayState?: string
  response?: Attributes
  responseIssuer?: string | undefined
  status?: string
  assertion?: Attributes
  issuer?: string
  subject?: string
  nameId?: string
  confirmations?: string
  confirmation?: Attributes
  conditions?: string
  conditionTimes?: Attributes
  audiences?: string
  authn?: string
  attributes?: string
  /** What is signed. */
  sign?: ('assertion' | 'response')[]
  signature?: SignatureOptions
  /** Edits canonical text before it is signed. */
  inAssertion?: (xml: string) => string
  inResponse?: (xml: string) => string
  /** Edits what was signed. */
  signedAssertion?: (xml: string) => string
  /** Edits the whole text. */
  finish?: (xml: string) => string
}

const issuerElement = (name: string, declare: boolean) => element('saml:Issuer', {}, name, declare)

/** The assertion of a message, signed when `sign` says so. */
export function assertionOf(options: MessageOptions = {}): string {
  const { from = acme, to = from, relayState = 'acme', sign: signs = ['assertion'] } = options
  const subject =
    options.subject ??
    element(
      'saml:Subject',
      {},
      (options.nameId ?? nameId()) +
        (options.confirmations ?? confirmation(options.confirmation, BEARER, relayState, to)),
    )
  const conditions =
    options.conditions ??
    element(
      'saml:Conditions',
      { NotBefore: at(-60), NotOnOrAfter: at(300), ...options.conditionTimes },
      options.audiences ?? audience(to.sp.entityId),
    )
  const xml = element(
    'saml:Assertion',
    { ID: '_assertion', IssueInstant: at(-5), Version: '2.0', ...options.assertion },
    (options.issuer ?? issuerElement(from.idp.entityId, false)) +
      subject +
      conditions +
      (options.authn ?? authnStatement()) +
      (options.attributes ??
        element(
          'saml:AttributeStatement',
          {},
          attribute('mail', 'ana@acme.example') + attribute('displayName', 'Ana Lima'),
        )),
    true,
  )
  const edited = options.inAssertion?.(xml) ?? xml
  const signed = signs.includes('assertion') ? withSignature(edited, signatureOver(edited, options.signature)) : edited
  return options.signedAssertion?.(signed) ?? signed
}

/** A response around this content. */
export function responseAround(content: string, options: MessageOptions = {}): string {
  const { from = acme, to = from, relayState = 'acme', sign: signs = ['assertion'] } = options
  const issuer = 'responseIssuer' in options ? options.responseIssuer : from.idp.entityId
  const xml = element(
    'samlp:Response',
    {
      Destination: to.sp.acsUrl,
      ID: '_response',
      InResponseTo: `_request-of-${relayState}`,
      IssueInstant: at(-5),
      Version: '2.0',
      ...options.response,
    },
    (issuer === undefined ? '' : issuerElement(issuer, true)) +
      (options.status ?? element('samlp:Status', {}, statusCode('Success'))) +
      content,
    true,
  )
  const edited = options.inResponse?.(xml) ?? xml
  const signed = signs.includes('response') ? withSignature(edited, signatureOver(edited, options.signature)) : edited
  return options.finish?.(signed) ?? signed
}

/** A whole response. Without options a good one, its assertion signed. */
export const message = (options: MessageOptions = {}): string => responseAround(assertionOf(options), options)

export interface EncryptionOptions {
  cipher?: 'aes128-gcm' | 'aes256-gcm' | 'aes128-cbc' | 'aes256-cbc' | 'tripledes-cbc'
  /** The one in the message, when it is to say something else than what was done. */
  cipherUri?: string
  keyMethod?: string
  keyParameters?: string
  oaepHash?: string
  padding?: number
  publicKey?: string
  /** Edits the encrypted bytes. */
  bytes?: (content: Buffer) => Buffer
}

const CIPHER_URI: Record<string, string> = {
  'aes128-gcm': 'http://www.w3.org/2009/xmlenc11#aes128-gcm',
  'aes256-gcm': 'http://www.w3.org/2009/xmlenc11#aes256-gcm',
  'aes128-cbc': 'http://www.w3.org/2001/04/xmlenc#aes128-cbc',
  'aes256-cbc': 'http://www.w3.org/2001/04/xmlenc#aes256-cbc',
  'tripledes-cbc': 'http://www.w3.org/2001/04/xmlenc#tripledes-cbc',
}
export const OAEP_MGF1P = 'http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p'

/** An EncryptedAssertion that holds this text. */
export function encrypted(text: string, options: EncryptionOptions = {}): string {
  const { cipher = 'aes256-gcm', keyMethod = OAEP_MGF1P, keyParameters = '', oaepHash = 'sha1' } = options
  const [name, length, block] =
    cipher === 'tripledes-cbc'
      ? ['des-ede3-cbc', 24, 8]
      : [cipher.replace('aes', 'aes-'), cipher.startsWith('aes128') ? 16 : 32, 16]
  const isGcm = cipher.endsWith('gcm')
  const key = randomBytes(length as number)
  const iv = randomBytes(isGcm ? 12 : (block as number))
  const box = createCipheriv(name as 'aes-256-gcm', key, iv)
  const plain = Buffer.from(text)
  const body = Buffer.concat([iv, box.update(plain), box.final(), ...(isGcm ? [box.getAuthTag()] : [])])
  const content = options.bytes?.(body) ?? body
  const padding = options.padding ?? constants.RSA_PKCS1_OAEP_PADDING
  const wrapped = publicEncrypt({ key: options.publicKey ?? spKey.certificate.pem, padding, oaepHash }, key)
  const cipherData = (bytes: Buffer) =>
    element('xenc:CipherData', {}, element('xenc:CipherValue', {}, bytes.toString('base64')))
  const encryptedKey = element(
    'xenc:EncryptedKey',
    {},
    element('xenc:EncryptionMethod', { Algorithm: keyMethod }, keyParameters) + cipherData(wrapped),
  )
  const data = element(
    'xenc:EncryptedData',
    { Type: 'http://www.w3.org/2001/04/xmlenc#Element' },
    element('xenc:EncryptionMethod', { Algorithm: options.cipherUri ?? CIPHER_URI[cipher] }) +
      element('ds:KeyInfo', {}, encryptedKey, true) +
      cipherData(content),
    true,
  )
  return element('saml:EncryptedAssertion', {}, data, true)
}

/** What a browser posts. */
export const form = (xml: string, relayState = 'acme') => ({
  SAMLResponse: Buffer.from(xml).toString('base64'),
  RelayState: relayState,
})
export const nextSpCertificate = nextSpKey.certificate.pem
