/** What we ask an identity provider (SAML Core §3.4.1): always signed. */
import { randomBytes, sign } from 'node:crypto'
import { deflateRawSync } from 'node:zlib'
import { SignedXml } from 'xml-crypto'
import { BINDING, NS, type SamlConnection } from './connection.ts'
import { certificateBody, xml, xmlText } from './write-xml.ts'

const RSA_SHA256 = 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256'
const SHA256 = 'http://www.w3.org/2001/04/xmlenc#sha256'
const EXCLUSIVE = 'http://www.w3.org/2001/10/xml-exc-c14n#'
const ENVELOPED = 'http://www.w3.org/2000/09/xmldsig#enveloped-signature'

/** What a request is to say. */
export interface AuthnRequestOptions {
  connection: SamlConnection
  /** An opaque handle of at most 80 bytes. */
  relayState: string
  /** Seconds since 1970. */
  now: number
  /** Asks for a new sign-in, whoever is signed in there. */
  forceAuthn?: boolean
  /** Asks for one of these AuthnContextClassRefs exactly. Not sent when there are none: some refuse it. */
  authnContexts?: string[]
}

/** A request on its way. */
export type AuthnRequest = { id: string } & (
  | { binding: 'redirect'; url: string }
  /** A form with these fields, to be posted to `url`. */
  | { binding: 'post'; url: string; fields: { SAMLRequest: string; RelayState: string } }
)

/**
 * A signed request, in the binding that the identity provider wants. Its `id` has to be kept before it is sent.
 *
 * @throws {RangeError} when the RelayState is longer than SAML Bindings §3.4.3 allows
 */
export function authnRequest(options: AuthnRequestOptions): AuthnRequest {
  const { connection, relayState } = options
  if (Buffer.byteLength(relayState) > 80) throw new RangeError('a RelayState has at most 80 bytes')
  const id = `_${randomBytes(20).toString('hex')}`
  const text = requestText(id, options)
  const { ssoUrl, binding } = connection.idp
  if (binding === 'redirect') return { id, binding, url: redirectUrl(ssoUrl, text, relayState, connection) }
  const SAMLRequest = Buffer.from(signed(text, id, connection)).toString('base64')
  return { id, binding, url: ssoUrl, fields: { SAMLRequest, RelayState: relayState } }
}

function requestText(
  id: string,
  { connection, now, forceAuthn = false, authnContexts = [] }: AuthnRequestOptions,
): string {
  const { sp, idp, nameIdFormat } = connection
  const contexts = authnContexts.map((context) => xmlText('saml:AuthnContextClassRef', context)).join('')
  return xml(
    'samlp:AuthnRequest',
    {
      'xmlns:samlp': NS.samlp,
      'xmlns:saml': NS.saml,
      ID: id,
      Version: '2.0',
      IssueInstant: new Date(now * 1000).toISOString().replace(/\.\d+/, ''),
      Destination: idp.ssoUrl,
      ForceAuthn: forceAuthn ? 'true' : undefined,
      ProtocolBinding: BINDING.post,
      AssertionConsumerServiceURL: sp.acsUrl,
    },
    xmlText('saml:Issuer', sp.entityId) +
      xml('samlp:NameIDPolicy', { Format: nameIdFormat, AllowCreate: 'true' }) +
      (contexts === '' ? '' : xml('samlp:RequestedAuthnContext', { Comparison: 'exact' }, contexts)),
  )
}

/** SAML Bindings §3.4.4: the signature is over the query, in this order and this spelling. */
function redirectUrl(ssoUrl: string, text: string, relayState: string, { sp }: SamlConnection): string {
  const query = [
    ['SAMLRequest', deflateRawSync(text).toString('base64')],
    ['RelayState', relayState],
    ['SigAlg', RSA_SHA256],
  ]
    .map(([name, value]) => `${name}=${encodeURIComponent(value!)}`)
    .join('&')
  const signature = sign('sha256', Buffer.from(query), sp.keys[0]!.privateKey).toString('base64')
  return `${ssoUrl}${ssoUrl.includes('?') ? '&' : '?'}${query}&Signature=${encodeURIComponent(signature)}`
}

/** SAML Core §5.4: enveloped, after the Issuer. */
function signed(text: string, id: string, { sp }: SamlConnection): string {
  const { privateKey, certificate } = sp.keys[0]!
  const signer = new SignedXml({ privateKey, signatureAlgorithm: RSA_SHA256, canonicalizationAlgorithm: EXCLUSIVE })
  signer.getKeyInfoContent = () => xml('ds:X509Data', {}, xml('ds:X509Certificate', {}, certificateBody(certificate)))
  signer.addReference({
    xpath: `//*[@ID='${id}']`,
    transforms: [ENVELOPED, EXCLUSIVE],
    digestAlgorithm: SHA256,
  })
  signer.computeSignature(text, {
    prefix: 'ds',
    location: { reference: "/*/*[local-name(.)='Issuer']", action: 'after' },
  })
  return signer.getSignedXml()
}
