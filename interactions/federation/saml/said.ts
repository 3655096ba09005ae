/** What a response that was verified says. Apart from the checks, whose declarations speak of XML elements. */

/** Who signed in, in the identity provider's words. */
export interface Identity {
  nameId: string
  nameIdFormat: string
  /** False for a NameID that is another one next time (SAML Core §8.3.8): then no account is linked by it. */
  lasts: boolean
  /** Lower case; in a domain of the connection. */
  email: string
  /** What the mapped attribute says the person is called. */
  name: string | undefined
  /** Every attribute, by `Name`: the values that are plain text. A Map, because the names come from outside. */
  attributes: Map<string, string[]>
}

/** What the profile says of a sign-in. All times are seconds since 1970. */
export interface Authentication {
  issuer: string
  assertionId: string
  inResponseTo: string
  /** When the person proved to the identity provider who they are; of several times the oldest. */
  authnInstant: number
  /** When the identity provider wants the session to end; of several times the first. */
  sessionNotOnOrAfter: number | undefined
  /** AuthnContextClassRef of every statement. */
  authnContexts: string[]
  /** After this nobody accepts the assertion any more: so long its id must be known as used. */
  usableUntil: number
}
