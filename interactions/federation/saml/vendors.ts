/** Identity providers that people know by name, and where in them a failed check is mended. */
import { CHECKS, type CheckCode } from './checks.ts'
import type { IdentityProvider } from './connection.ts'

/** A product. `other`: the words are those of SAML. */
export type Vendor = 'entra' | 'okta' | 'adfs' | 'google' | 'keycloak' | 'other'

/** What people call it. */
export const VENDORS: Record<Vendor, string> = {
  entra: 'Microsoft Entra ID',
  okta: 'Okta',
  adfs: 'AD FS',
  google: 'Google Workspace',
  keycloak: 'Keycloak',
  other: 'the identity provider',
}

/** By what each calls itself, where it serves. A product behind a name of its own is `other`. */
const SIGNS: [Exclude<Vendor, 'other'>, RegExp][] = [
  ['entra', /^https:\/\/(sts\.windows\.net|login\.microsoftonline\.(com|us)|login\.partner\.microsoftonline\.cn)\//],
  ['okta', /^https?:\/\/(www\.okta\.com|[\w-]+\.(okta|oktapreview|okta-emea|okta-gov)\.com)\//],
  ['adfs', /^https?:\/\/[^/]+\/adfs\/(services\/trust|ls)\b/i],
  ['google', /^https:\/\/accounts\.google\.com\//],
  ['keycloak', /^https?:\/\/[^?#]+\/realms\/[^/?#]+(\/|$)/],
]

/** Which product it is, by its entityID or the address of its sign-in page. */
export function vendorOf({ entityId, ssoUrl }: Pick<IdentityProvider, 'entityId' | 'ssoUrl'>): Vendor {
  const sign = SIGNS.find(([, pattern]) => pattern.test(entityId) || pattern.test(ssoUrl))
  return sign?.[0] ?? 'other'
}

type Words = Partial<Record<Exclude<Vendor, 'other'>, string>>

const NEW_CERTIFICATE: Words = {
  entra:
    'Single sign-on → SAML Certificates: download the active "Certificate (Base64)" or give us the "App Federation Metadata Url".',
  okta: 'Sign On → SAML Signing Certificates: send the one that is Active ("View IdP metadata").',
  adfs: 'Service → Certificates → Token-signing: send the primary one. AD FS makes a new one by itself once a year.',
  google:
    'Apps → this app → Service provider details → Manage certificates: send the selected one, or choose the one that we have.',
  keycloak: 'Realm settings → Keys: send the certificate of the active RS256 key, or the realm’s SAML descriptor.',
}
const ACS: Words = {
  entra: 'Single sign-on → Basic SAML Configuration → Reply URL (Assertion Consumer Service URL).',
  okta: 'General → SAML Settings → Single sign-on URL; tick "Use this for Recipient URL and Destination URL".',
  adfs: 'Relying Party Trust → Properties → Endpoints → SAML Assertion Consumer, binding POST.',
  google: 'Service provider details → ACS URL.',
  keycloak: 'Client → Advanced → Assertion Consumer Service POST Binding URL, and Valid redirect URIs.',
}
const CLOCK: Words = {
  adfs: 'Set the clock of the AD FS servers by NTP. `Set-AdfsRelyingPartyTrust -NotBeforeSkew 2` helps with the rest.',
  keycloak: 'Set the clock of the Keycloak servers by NTP.',
}
const MAIL: Words = {
  entra:
    'Attributes & Claims: send `user.mail` (or `user.userprincipalname`) as the claim that the connection maps; the person’s Email field must not be empty.',
  okta: 'SAML Settings → Attribute Statements: add the mapped name with the value `user.email`, or set Name ID format to EmailAddress.',
  adfs: 'Claim Issuance Policy: Send LDAP Attributes as Claims, E-Mail-Addresses → E-Mail Address; the person needs an address in Active Directory.',
  google: 'Attribute mapping: "Basic Information > Primary email" under the mapped name, or Name ID format EMAIL.',
  keycloak:
    'Client scopes → the dedicated scope → Add mapper → User Property `email` under the mapped name; the person’s Email must not be empty.',
}
const NAME_ID: Words = {
  entra: 'Attributes & Claims → Unique User Identifier (Name ID) → Name identifier format.',
  okta: 'SAML Settings → Name ID format.',
  adfs: 'Claim Issuance Policy: Transform an Incoming Claim, to Name ID, in this outgoing format. Without such a rule none is sent.',
  google: 'Service provider details → Name ID format.',
  keycloak: 'Client → Settings → Name ID format, with "Force name ID format" on.',
}
const ALGORITHM: Words = {
  entra: 'SAML Certificates → Edit → Signing Algorithm: SHA-256.',
  okta: 'SAML Settings → Advanced → Signature Algorithm RSA-SHA256, Digest Algorithm SHA256.',
  adfs: 'Relying Party Trust → Properties → Advanced → Secure hash algorithm: SHA-256.',
  keycloak: 'Client → Keys and Settings → Signature algorithm: RSA_SHA256.',
}
const SIGNED: Words = {
  entra: 'SAML Certificates → Edit → Signing Option: "Sign SAML assertion" or "Sign SAML response and assertion".',
  okta: 'SAML Settings → Advanced → Response: Signed, Assertion Signature: Signed.',
  adfs: '`Set-AdfsRelyingPartyTrust -SamlResponseSignature MessageAndAssertion`.',
  google: 'Service provider details → Signed response.',
  keycloak: 'Client → Settings → Sign assertions: On.',
}

/** Where in each product it is mended. A check that is not here, or a product, has the words of SAML alone. */
const WHERE: Partial<Record<CheckCode, Words>> = {
  status: {
    entra:
      'Enterprise application → Users and groups: assign the person, or look into Sign-in logs for the AADSTS code.',
    okta: 'Assignments: assign the person; Reports → System Log says why.',
    adfs: 'Event Viewer → AD FS/Admin names the Activity ID; look at the Access Control Policy of the trust.',
    google: 'User access: turn the app ON for the person’s organizational unit.',
    keycloak: 'Realm settings → Events, or the server log.',
  },
  signature: NEW_CERTIFICATE,
  certificate: NEW_CERTIFICATE,
  key_info: NEW_CERTIFICATE,
  signature_missing: SIGNED,
  signature_algorithm: ALGORITHM,
  signature_transforms: { keycloak: 'Client → Settings → Canonicalization method: EXCLUSIVE.' },
  issuer: {
    entra: 'The issuer is `https://sts.windows.net/<tenant>/`: give us the metadata of this tenant.',
    okta: 'Sign On → View IdP metadata: entityID. Each Okta app has its own.',
    adfs: 'AD FS → Edit Federation Service Properties → Federation Service identifier.',
    google: 'Each app has an entityID of its own (`…?idpid=…`): give us the metadata of this one.',
    keycloak: 'The issuer is the address of the realm as the browser reached it: set the hostname of Keycloak.',
  },
  audience: {
    entra: 'Basic SAML Configuration → Identifier (Entity ID), as the default one.',
    okta: 'SAML Settings → Audience URI (SP Entity ID).',
    adfs: 'Relying Party Trust → Properties → Identifiers.',
    google: 'Service provider details → Entity ID.',
    keycloak: 'The Client ID of the client is our entityID.',
  },
  recipient: ACS,
  destination: ACS,
  issue_instant: CLOCK,
  not_yet_valid: CLOCK,
  authn_instant: CLOCK,
  expired: {
    ...CLOCK,
    adfs: 'Set the clock of the AD FS servers by NTP, or `Set-AdfsRelyingPartyTrust -TokenLifetime 60`.',
    keycloak: 'Set the clock of the Keycloak servers, or Client → Advanced → Assertion Lifespan.',
  },
  confirmation_expired: { ...CLOCK, keycloak: 'Client → Advanced → Assertion Lifespan.' },
  in_response_to: { okta: 'Start at the app, not at the tile of the dashboard; leave "In Response To" as it is.' },
  unsolicited: {
    entra: 'Basic SAML Configuration → Sign on URL: the address of the app, so that the tile in My Apps starts there.',
    okta: 'Hide the app’s own tile and make a Bookmark App with the address of the app.',
    adfs: 'Do not use idpinitiatedsignon.aspx: give people the address of the app.',
    google: 'Service provider details → Start URL: the address of the app.',
    keycloak: 'Clear "IDP-Initiated SSO URL name", and set Home URL to the address of the app.',
  },
  force_authn: { okta: 'SAML Settings → Advanced → Honor Force Authentication: Yes.' },
  subject: NAME_ID,
  name_id: NAME_ID,
  name_id_format: NAME_ID,
  attributes: MAIL,
  email_missing: MAIL,
  email_form: MAIL,
  email_conflict: MAIL,
  email_domain: {
    ...MAIL,
    entra:
      'Guests and `…onmicrosoft.com` names are outside of the domains: send `user.mail`, and assign only people of this company.',
  },
  size: {
    entra: 'Token configuration → Groups: only "Groups assigned to the application".',
    okta: 'Narrow the filter of the Group Attribute Statement.',
    adfs: 'Send no "Token-Groups" claim, or filter it.',
    keycloak: 'Remove the role_list and group mappers of the client.',
  },
  decryption: {
    entra: 'Token encryption: import our certificate again and activate it.',
    okta: 'SAML Settings → Advanced → Encryption Certificate: our certificate.',
    adfs: 'Relying Party Trust → Properties → Encryption: our certificate, or "Update from Federation Metadata".',
    keycloak: 'Client → Keys → Encryption keys config: import our certificate.',
  },
  encryption_algorithm: {
    entra: 'Entra encrypts with AES-CBC: sign the response too ("Sign SAML response and assertion").',
    okta: 'SAML Settings → Advanced → Encryption Algorithm: AES256-GCM.',
    adfs: 'AD FS encrypts with AES-CBC: `Set-AdfsRelyingPartyTrust -SamlResponseSignature MessageAndAssertion`.',
    keycloak: 'Client → Settings → Encryption algorithm: AES_256_GCM, key transport RSA-OAEP.',
  },
}

/** What to change on their side when a check failed, in their product's words where we know them. */
export function adviceFor(check: CheckCode, vendor: Vendor): { advice: string; where?: string } {
  const where = vendor === 'other' ? undefined : WHERE[check]?.[vendor]
  return { advice: CHECKS[check], ...(where !== undefined && { where }) }
}
