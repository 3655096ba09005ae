/** The checks that a SAML response must pass, by name: what a trace, a log line and the connection doctor print. */

/** Every check, in the order it is made, and what an administrator of the identity provider can do when it fails. */
export const CHECKS = {
  // Transport
  form: 'Post exactly one SAMLResponse and one RelayState field, by the HTTP-POST binding.',
  size: 'Send fewer attributes: the response is too large. Limit the groups that are sent to this app.',
  base64: 'Send SAMLResponse in plain Base64 (RFC 4648 §4), not compressed and not URL-safe.',
  utf8: 'Send the response as UTF-8.',
  // Text
  limits: 'Send fewer attributes: the response has too many elements, too deep or too long ones.',
  characters: 'Remove control characters from the attributes of this person.',
  markup: 'Send no DOCTYPE, comment, CDATA section or processing instruction.',
  references: 'Use no entities but the five that XML predefines.',
  well_formed: 'Send well-formed XML.',
  // Shape
  root: 'Send a SAML 2.0 Response element (urn:oasis:names:tc:SAML:2.0:protocol).',
  version: 'Send SAML version 2.0.',
  status:
    'The identity provider refused this sign-in: look at its own log, and whether the person is assigned to this app.',
  namespace: 'Use the elements of SAML and XML Signature in their own namespaces.',
  assertions: 'Send exactly one assertion, directly in the response.',
  ids: 'Give the response and the assertion one unique ID attribute each, and no other kind of id.',
  signature_missing: 'Sign the assertion, the response, or both.',
  signature_place: 'Place at most one signature directly in the response and one directly in the assertion.',
  signature_form: 'Sign with one SignedInfo that has one Reference, without Object.',
  signature_algorithm: 'Sign with RSA-SHA256 or RSA-SHA512, and a digest of SHA-256 or SHA-512.',
  signature_transforms:
    'Use exactly the enveloped-signature and exclusive canonicalization transforms, without comments.',
  signature_reference: 'Let each signature refer to the ID of the element it stands in.',
  // Trust
  certificate: 'Sign with a certificate that is valid today. Send the new certificate before the old one ends.',
  signature: 'Sign with the key of a certificate that this connection knows. Send the current signing certificate.',
  // Encryption
  encryption_form: 'Encrypt one Assertion element, with one encrypted key for this service provider.',
  encryption_algorithm: 'Encrypt with AES-GCM and RSA-OAEP. AES-CBC only when the whole response is signed.',
  decryption: 'Encrypt with the current certificate of our metadata.',
  // Profile
  issuer: 'Send as Issuer exactly the entity ID that this connection is registered with.',
  unsolicited: 'Start the sign-in from the app. A response that nobody asked for signs nobody in.',
  request: 'Start again from the app: nobody waits for this answer, or no longer.',
  request_connection: 'Post the answer to the address that the request named.',
  request_answered: 'Start again from the app: this answer was given before.',
  in_response_to: 'Name the ID of the request in InResponseTo, in the response and in the subject confirmation.',
  destination: 'Set Destination to our assertion consumer service URL, exactly.',
  time_format: 'Write every time as UTC with a Z (SAML Core §1.3.3).',
  issue_instant: 'Set the clock: IssueInstant must not be ahead, nor older than 15 minutes.',
  subject: 'Send one Subject with one NameID.',
  confirmation: 'Confirm the subject by the bearer method, without NotBefore (SAML Profiles §4.1.4.2).',
  recipient: 'Set Recipient of the subject confirmation to our assertion consumer service URL, exactly.',
  confirmation_expired: 'Set the clock, or a longer NotOnOrAfter of the subject confirmation.',
  conditions: 'Send one Conditions element with NotOnOrAfter, and only conditions that SAML defines.',
  not_yet_valid: 'Set the clock: the assertion begins in the future.',
  expired: 'Set the clock, or a longer NotOnOrAfter of the conditions.',
  audience: 'Set the audience to our entity ID, exactly.',
  authn_statement: 'Send an AuthnStatement with AuthnInstant.',
  authn_instant: 'Set the clock: AuthnInstant is ahead.',
  force_authn: 'Honour ForceAuthn: this sign-in is older than the request for a new one.',
  session_expired: 'Send a SessionNotOnOrAfter in the future, or none.',
  // Identity
  name_id: 'Send a NameID with plain text of at most 1024 characters, without white space around it.',
  name_id_format: 'Send the NameID in the format that this connection is registered with.',
  name_id_qualifier: 'Qualify a persistent NameID with your own entity ID and ours, or not at all.',
  attributes: 'Send the attribute with the e-mail address once, with one value of plain text.',
  email_missing: 'Send the e-mail address, as NameID of the format emailAddress or in the mapped attribute.',
  email_conflict: 'Send one e-mail address: NameID and attribute differ.',
  email_form: 'Send an e-mail address of ASCII characters, at most 254 of them.',
  email_domain: 'Send only people whose address is in a domain of this connection.',
  // Second gate
  schema: 'Send a response that is valid by the SAML 2.0 schemas.',
  key_info: 'Sign with the certificate that you send along, or send none along.',
  second_reading: 'A second, independent reading does not agree with the first. Tell us about it.',
  // Once
  replay: 'Start again from the app: this assertion was used before.',
} as const

/** Names a check. Stable: for logs, traces and tests. */
export type CheckCode = keyof typeof CHECKS

/** A check that was made. */
export interface Check {
  code: CheckCode
  passed: boolean
  /** What was found and what was expected. Never the message, never a whole address. */
  detail?: string
}

/** A check failed, and those after it cannot be made. */
export class CheckFailed extends Error {
  override readonly name = 'CheckFailed'
  readonly code: CheckCode
  readonly detail: string | undefined

  constructor(code: CheckCode, detail?: string) {
    super(detail ? `${code}: ${detail}` : code)
    this.code = code
    this.detail = detail
  }
}

/** Details come from outside: one line of printable text, short, without a person's address. */
export const printable = (detail: string) =>
  detail
    .slice(0, 1000)
    .replace(/[^\x20-\x7e]+/g, '?')
    .replace(/[^\s'"]+@[^\s'"]+/g, '?@?')
    .slice(0, 300)

/** The checks of one response, as they are made. */
export class Checks {
  readonly made: Check[] = []

  /** Notes what was found. A failed check does not stop those after it: who has to mend it learns everything at once. */
  note(code: CheckCode, passed: boolean, detail?: string): void {
    this.made.push({ code, passed, ...(detail !== undefined && { detail: printable(detail) }) })
  }

  /** Runs what makes several checks, one of which may fail for all. @throws {CheckFailed} */
  all<T>(codes: readonly CheckCode[], work: () => T): T {
    const result = work()
    for (const code of codes) if (!this.made.some((check) => check.code === code)) this.note(code, true)
    return result
  }

  /** The first one that failed. */
  get failed(): Check | undefined {
    return this.made.find(({ passed }) => !passed)
  }
}
