/** What verifying a response needs to know of one company's connection. Where it is stored is not this module's business. */

/** A certificate that an identity provider signs with. Its dates are those inside it, seconds since 1970. */
export interface IdpCertificate {
  pem: string
  notBefore: number
  notAfter: number
}

/** What an identity provider says of itself in its metadata, or an administrator in single fields. */
export interface IdentityProvider {
  entityId: string
  ssoUrl: string
  /** How it wants an AuthnRequest to arrive (SAML Bindings §3.4, §3.5). */
  binding: 'redirect' | 'post'
  /** 1 to 8; any of them may have signed. */
  certificates: IdpCertificate[]
}

/** A key pair of ours. The certificate is self-signed: nobody looks at more than the key in it. */
export interface SpKey {
  /** PKCS #8. */
  privateKey: string
  certificate: string
}

/** The service provider that we are for one connection. */
export interface ServiceProvider {
  entityId: string
  /** Where responses are posted to, exactly as it stands in our metadata. */
  acsUrl: string
  /** The first signs; all of them decrypt. Two while one takes the other's place. */
  keys: SpKey[]
}

/** One company's agreement with one identity provider. */
export interface SamlConnection {
  id: string
  company: string
  /** The domains, in lower case, whose addresses this identity provider may speak for. */
  domains: string[]
  idp: IdentityProvider
  sp: ServiceProvider
  /** The one `Format` that a NameID must have. Any, when not given. */
  nameIdFormat?: string | undefined
  /** The `Name` of the attribute that holds the e-mail address, and of the one that holds the person's name. */
  attributes: { email?: string | undefined; name?: string | undefined }
}

/** An AuthnRequest that an answer may refer to: what of it the answer is checked against. */
export interface PendingRequest {
  /** The `ID` that it was sent with. */
  id: string
  /** Whose identity provider it was sent to. */
  connectionId: string
  /** When it was sent, and until when it may be answered, seconds since 1970. */
  createdAt: number
  expiresAt: number
  forceAuthn: boolean
  /** An answer was accepted before. */
  answered: boolean
}

/** NameID formats (SAML Core §8.3). */
export const NAME_ID = {
  email: 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
  unspecified: 'urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified',
  persistent: 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
  transient: 'urn:oasis:names:tc:SAML:2.0:nameid-format:transient',
} as const

/** Namespaces. */
export const NS = {
  samlp: 'urn:oasis:names:tc:SAML:2.0:protocol',
  saml: 'urn:oasis:names:tc:SAML:2.0:assertion',
  md: 'urn:oasis:names:tc:SAML:2.0:metadata',
  ds: 'http://www.w3.org/2000/09/xmldsig#',
  xenc: 'http://www.w3.org/2001/04/xmlenc#',
  xenc11: 'http://www.w3.org/2009/xmlenc11#',
} as const

/** Bindings (SAML Bindings §3.4, §3.5). */
export const BINDING = {
  redirect: 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect',
  post: 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST',
} as const

/** Seconds that the clocks of two parties may differ. */
export const SKEW_SECONDS = 60
