/**
 * What came in a response, in words for whoever has to mend it: the one place that says so, for the command line, the page of
 * a dry run, and traces. Names of people are shortened, values of other attributes are left out; no signature, no XML.
 */
import { X509Certificate } from 'node:crypto'
import { type CheckCode, printable } from './checks.ts'
import type { PendingRequest, SamlConnection } from './connection.ts'
import { readFound } from './found.ts'
import { parseTime } from './profile.ts'
import type { Found } from './said.ts'
import { parseStrict } from './strict-xml.ts'
import { readForm } from './transport.ts'
import { adviceFor, VENDORS, vendorOf } from './vendors.ts'
import { type Verification, verifyResponse } from './verify.ts'

/** A response, explained. Plain data; times are seconds since 1970. */
export interface Explanation {
  accepted: boolean
  /** The product that sent it, as far as its entityID says. */
  provider: string
  /** The clock that it was held against. */
  at: number
  signatures: {
    element: string
    /** How it was made, by the ends of the algorithms' names: `rsa-sha256`. */
    method: string
    digest: string
    /** SHA-256 of the stored certificate whose key made it. Without one it was not verified. */
    certificate?: string
    certificateEnds?: number
  }[]
  encryption?: { content: string; key: string }
  /** What is compared exactly. */
  addresses: {
    what: 'issuer' | 'audience' | 'recipient' | 'destination'
    found: string[]
    expected: string
    fits: boolean
  }[]
  times: { what: TimeName; at: number /** Later than `at` of all: positive. */; seconds: number }[]
  nameId?: { value: string; format: string }
  authnContexts: string[]
  attributes: {
    mapped: { as: 'email' | 'name'; name: string; value: string }[]
    missing: { as: 'email' | 'name'; name: string }[]
    /** Names that came and are not used. */
    others: string[]
  }
  failed: { check: string; detail?: string; advice: string; where?: string }[]
}

/** Names of times. */
export type TimeName = 'issued' | 'valid_from' | 'valid_until' | 'confirmed_until' | 'signed_in' | 'session_until'

/** Explains a response that was verified. @param now the clock that it was verified against */
export function explain(
  { found, checks, signatures, verified }: Verification,
  connection: SamlConnection,
  now: number,
): Explanation {
  const vendor = vendorOf(connection.idp)
  const said = found?.assertion
  const failed = checks.filter(({ passed }) => !passed)
  return {
    accepted: verified !== undefined,
    provider: VENDORS[vendor],
    at: now,
    signatures: signaturesOf(found, signatures, connection),
    ...(found?.encryption && {
      encryption: { content: lastOf(found.encryption.content), key: lastOf(found.encryption.key) },
    }),
    addresses: found ? addressesIn(found, connection) : [],
    times: found ? timesIn(found, now) : [],
    ...(said?.nameId !== undefined && {
      nameId: { value: shortened(said.nameId), format: printable(said.nameIdFormat ?? 'unspecified') },
    }),
    authnContexts: (said?.authnContexts ?? []).slice(0, 8).map(printable),
    attributes: attributesIn(said?.attributes ?? [], connection),
    failed: failed.map(({ code, detail }) => ({
      check: code,
      ...(detail !== undefined && { detail }),
      ...adviceFor(code, vendor),
    })),
  }
}

/** Checks of what only the sign-in knows that the response belonged to. */
const OF_THE_REQUEST: readonly string[] = ['request', 'request_connection', 'request_answered'] satisfies CheckCode[]

/** What of a response is left of it in a file. */
export interface ExplainedFile extends Explanation {
  /** When it stopped to be good, seconds since 1970: an old one is no mistake. */
  validUntil?: number
}

/**
 * Verifies and explains a response out of a file: Base64, XML, or a form as a browser's tools copy it. An old one is held
 * against the time at which it was written; whether anybody asked for it cannot be seen.
 *
 * @param now seconds since 1970
 */
export async function explainFile(text: string, connection: SamlConnection, now: number): Promise<ExplainedFile> {
  const SAMLResponse = pasted(text)
  const found = foundIn(text)
  const issued = parseTime(found?.response.issueInstant)
  // One from the future says so: its clock is ahead.
  const at = Number.isNaN(issued) ? now : Math.min(Math.floor(issued), now)
  const asked: PendingRequest = {
    id: found?.response.inResponseTo ?? '',
    connectionId: connection.id,
    createdAt: at,
    expiresAt: at + 1,
    forceAuthn: false,
    answered: false,
  }
  const form = { SAMLResponse, RelayState: 'file' }
  const verification = await verifyResponse({ form, connection, findRequest: async () => asked, now: at })
  const explanation = explain(verification, connection, at)
  const ends = explanation.times.filter(({ what }) => what === 'valid_until' || what === 'confirmed_until')
  return {
    ...explanation,
    failed: explanation.failed.filter(({ check }) => !OF_THE_REQUEST.includes(check)),
    ...(ends.length > 0 && { validUntil: Math.min(...ends.map((end) => end.at)) }),
  }
}

/** Whose a pasted response claims to be, and where it went: to find the connection that it belongs to. */
export function addressed(text: string): { issuer?: string | undefined; destination?: string | undefined } {
  const { response, assertion } = foundIn(text) ?? { response: {} }
  return {
    issuer: response.issuer ?? assertion?.issuer,
    destination: response.destination ?? assertion?.recipients[0],
  }
}

function foundIn(text: string): Found | undefined {
  try {
    return readFound(parseStrict(readForm({ SAMLResponse: pasted(text) }).xml))
  } catch {
    return undefined // the verification says what is wrong with it
  }
}

/** As a browser posts it. */
function pasted(text: string): string {
  const trimmed = text.replace(/^\uFEFF/, '').trim()
  if (trimmed.startsWith('<')) return Buffer.from(trimmed).toString('base64')
  const field = /(?:^|&)SAMLResponse=([^&]*)/.exec(trimmed)?.[1] ?? trimmed
  return decoded(field).replace(/\s+/g, '')
}

function decoded(field: string): string {
  try {
    return decodeURIComponent(field)
  } catch {
    return field
  }
}

function signaturesOf(
  found: Found | undefined,
  verified: Verification['signatures'],
  { idp }: SamlConnection,
): Explanation['signatures'] {
  return (found?.signatures ?? []).map(({ element, method, digest }) => {
    const by = verified.find((one) => one.element === element)
    const certificate = by && idp.certificates[by.certificate]
    return {
      element: printable(element),
      method: lastOf(method),
      digest: lastOf(digest),
      ...(certificate && {
        certificate: new X509Certificate(certificate.pem).fingerprint256,
        certificateEnds: certificate.notAfter,
      }),
    }
  })
}

/** `rsa-sha256` of `http://www.w3.org/2001/04/xmldsig-more#rsa-sha256`. */
const lastOf = (algorithm: string) => printable(algorithm.split('#').at(-1) || algorithm || 'none')

function addressesIn({ response, assertion }: Found, { idp, sp }: SamlConnection): Explanation['addresses'] {
  const compared = (
    what: Explanation['addresses'][number]['what'],
    found: (string | undefined)[],
    expected: string,
  ): Explanation['addresses'][number] => {
    const there = found.filter((one) => one !== undefined)
    const fits = there.length > 0 && there.every((one) => one === expected)
    return { what, found: [...new Set(there)].slice(0, 4).map(printable), expected, fits }
  }
  const inAssertion = assertion
    ? [compared('audience', assertion.audiences, sp.entityId), compared('recipient', assertion.recipients, sp.acsUrl)]
    : []
  const { destination } = response
  return [
    compared('issuer', [response.issuer, assertion?.issuer], idp.entityId),
    // Only a signed response must have one.
    ...(destination === undefined ? [] : [compared('destination', [destination], sp.acsUrl)]),
    ...inAssertion,
  ]
}

function timesIn({ response, assertion }: Found, now: number): Explanation['times'] {
  const texts: [TimeName, string | undefined][] = [
    ['issued', response.issueInstant ?? assertion?.issueInstant],
    ['signed_in', assertion?.authnInstant],
    ['valid_from', assertion?.notBefore],
    ['valid_until', assertion?.notOnOrAfter],
    ['confirmed_until', assertion?.confirmedUntil],
    ['session_until', assertion?.sessionNotOnOrAfter],
  ]
  return texts.flatMap(([what, text]) => {
    const at = parseTime(text)
    return Number.isNaN(at) ? [] : [{ what, at: Math.floor(at), seconds: Math.floor(at - now) }]
  })
}

function attributesIn(
  found: { name: string; values: string[] }[],
  { attributes: { email, name } }: SamlConnection,
): Explanation['attributes'] {
  const wanted = (
    [
      ['email', email],
      ['name', name],
    ] as const
  ).flatMap(([as, mapped]) => (mapped === undefined ? [] : [{ as, name: mapped }]))
  const cameAs = (mapped: string) => found.find((one) => one.name === mapped && one.values.length > 0)
  return {
    mapped: wanted.flatMap((one) => {
      const came = cameAs(one.name)
      return came ? [{ ...one, value: shortened(came.values[0]!) }] : []
    }),
    missing: wanted.filter((one) => !cameAs(one.name)),
    others: [...new Set(found.map((one) => one.name))]
      .filter((one) => !wanted.some((mapped) => mapped.name === one))
      .slice(0, 40)
      .map(printable),
  }
}

/** Enough to know one's own by: `a…@acme.example`, `A… (8 characters)`. The domain is what is compared, so it stays. */
function shortened(value: string): string {
  const plain = (text: string) => text.slice(0, 260).replace(/[^\x20-\x7e]+/g, '?')
  const first = plain([...value][0] ?? '')
  const at = value.lastIndexOf('@')
  return at > 0 ? `${first}…${plain(value.slice(at))}` : `${first}… (${[...value].length} characters)`
}
