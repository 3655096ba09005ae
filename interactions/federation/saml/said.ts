/** What a response says. Apart from what reads it, whose declarations speak of XML elements. */

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

/** Texts are as they stand in the message; a missing one is `undefined`, and may as well be in the wrong place. */
export interface Found {
  response: Partial<Record<'issuer' | 'destination' | 'inResponseTo' | 'issueInstant', string | undefined>>
  /** In the order of the message: the element that each stands in, and how it was made. */
  signatures: { element: string; method: string; digest: string }[]
  /** Algorithms of an EncryptedAssertion. */
  encryption?: { content: string; key: string } | undefined
  assertion?: FoundAssertion | undefined
}

/** An assertion; of an encrypted one, what was inside. */
export interface FoundAssertion {
  issuer: string | undefined
  issueInstant: string | undefined
  nameId: string | undefined
  nameIdFormat: string | undefined
  recipients: string[]
  confirmedUntil: string | undefined
  audiences: string[]
  notBefore: string | undefined
  notOnOrAfter: string | undefined
  authnInstant: string | undefined
  sessionNotOnOrAfter: string | undefined
  authnContexts: string[]
  attributes: { name: string; values: string[] }[]
}
