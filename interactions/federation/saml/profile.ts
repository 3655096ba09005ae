/** The Web Browser SSO profile (SAML Profiles §4.1.4): what a signed assertion must say to be an answer to our request. */

import type { Checks } from './checks.ts'
import { NS, type PendingRequest, type SamlConnection, SKEW_SECONDS } from './connection.ts'
import type { Authentication } from './said.ts'
import { all, attributeOf, children, childrenNamed, is, textOf } from './strict-xml.ts'

/** Seconds after which an answer is too old, whatever it says about itself. */
const MAX_AGE_SECONDS = 15 * 60
const BEARER = 'urn:oasis:names:tc:SAML:2.0:cm:bearer'
const ENTITY = 'urn:oasis:names:tc:SAML:2.0:nameid-format:entity'

/** What the checks are made against. */
export interface Expected {
  connection: SamlConnection
  /** The request that waits under the RelayState, if one does. */
  request: PendingRequest | undefined
  /** Seconds since 1970. */
  now: number
}

/**
 * Makes all checks of the profile and notes each one.
 *
 * @param response the response, from signed bytes if it is signed: then it must say where it was sent to
 * @param assertion from signed bytes
 * @returns what they say; of use only when no check failed
 */
export function readProfile(
  { response, assertion, isResponseSigned }: { response: Element; assertion: Element; isResponseSigned: boolean },
  { connection, request, now }: Expected,
  checks: Checks,
): Authentication {
  const times = timesOf(checks)
  const { acsUrl, entityId } = connection.sp

  checkIssuers(response, assertion, connection.idp.entityId, checks)
  checkRequest(response, request, connection, now, checks)

  const destination = attributeOf(response, 'Destination')
  const isHere = destination === undefined ? !isResponseSigned : destination === acsUrl
  checks.note('destination', isHere, isHere ? undefined : `${destination ?? 'missing'}, expected ${acsUrl}`)

  for (const element of [response, assertion]) {
    const issued = times.required(element, 'IssueInstant')
    const age = now - issued
    checks.note('issue_instant', -SKEW_SECONDS <= age && age <= MAX_AGE_SECONDS + SKEW_SECONDS, `${age} s old`)
  }

  checkSubject(assertion, { acsUrl, request, now, times, checks })
  const notOnOrAfter = checkConditions(assertion, { entityId, now, times, checks })
  const authentication = checkStatements(assertion, { request, now, times, checks })

  const issued = times.required(assertion, 'IssueInstant')
  times.settle()
  return {
    ...authentication,
    issuer: connection.idp.entityId,
    assertionId: attributeOf(assertion, 'ID') ?? '',
    inResponseTo: attributeOf(response, 'InResponseTo') ?? '',
    // Too old after a quarter of an hour, so an assertion that says it is valid for years need not be remembered for years.
    usableUntil: Math.ceil(Math.min(notOnOrAfter, issued + MAX_AGE_SECONDS)) + SKEW_SECONDS,
  }
}

/** SAML Core §1.3.3: UTC, with a Z. Seconds, not more exact than a thousandth. */
export function parseTime(text: string | undefined): number {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z$/.exec(text ?? '')
  if (!match) return Number.NaN
  const milliseconds = Date.parse(`${match[1]}Z`)
  // The 30th of February is no time, though some parsers take it for the 2nd of March.
  if (Number.isNaN(milliseconds) || !new Date(milliseconds).toISOString().startsWith(match[1]!)) return Number.NaN
  return milliseconds / 1000 + Number(`0${match[2] ?? ''}`)
}

/** Reads times, and remembers whether one of them could not be read. A time that is not there fails every comparison. */
function timesOf(checks: Checks) {
  let unreadable: string | undefined
  const optional = (element: Element, name: string): number | undefined => {
    const text = attributeOf(element, name)
    if (text === undefined) return undefined
    const time = parseTime(text)
    if (Number.isNaN(time)) unreadable ??= `${name} ${text}`
    return time
  }
  return {
    optional,
    required: (element: Element, name: string): number => optional(element, name) ?? Number.NaN,
    settle: () => checks.note('time_format', unreadable === undefined, unreadable),
  }
}
type Times = ReturnType<typeof timesOf>

function checkIssuers(response: Element, assertion: Element, entityId: string, checks: Checks): void {
  const right = (element: Element) =>
    textOf(element) === entityId && (attributeOf(element, 'Format') ?? ENTITY) === ENTITY
  const ofResponse = childrenNamed(response, NS.saml, 'Issuer')
  const ofAssertion = childrenNamed(assertion, NS.saml, 'Issuer')
  const passed =
    ofResponse.length <= 1 && ofResponse.every(right) && ofAssertion.length === 1 && ofAssertion.every(right)
  const found = [...ofResponse, ...ofAssertion].map((element) => element.textContent).join(' and ')
  checks.note('issuer', passed, passed ? undefined : `${found}, expected ${entityId}`)
}

/** The request decides whose answer it is: never what the message says of itself. */
function checkRequest(
  response: Element,
  request: PendingRequest | undefined,
  connection: SamlConnection,
  now: number,
  checks: Checks,
): void {
  const inResponseTo = attributeOf(response, 'InResponseTo')
  checks.note('unsolicited', inResponseTo !== undefined)
  if (inResponseTo === undefined) return
  checks.note('request', request !== undefined && now < request.expiresAt)
  if (!request) return
  checks.note('request_connection', request.connectionId === connection.id)
  checks.note('request_answered', !request.answered)
  checks.note('in_response_to', inResponseTo === request.id, 'of the response')
}

interface SubjectContext {
  acsUrl: string
  request: PendingRequest | undefined
  now: number
  times: Times
  checks: Checks
}

/** One bearer confirmation that holds is enough; of none that does, the one that comes closest is told about. */
function checkSubject(assertion: Element, context: SubjectContext): void {
  const { checks, now, times } = context
  const subjects = childrenNamed(assertion, NS.saml, 'Subject')
  const [subject] = subjects
  const nameIds = subject ? childrenNamed(subject, NS.saml, 'NameID') : []
  // Also in a confirmation, where it would name somebody else who brings the assertion along.
  const names = subject
    ? all(subject).filter(({ localName }) => ['NameID', 'BaseID', 'EncryptedID'].includes(localName))
    : []
  checks.note('subject', subjects.length === 1 && nameIds.length === 1 && names.length === 1)
  if (!subject) return

  const tries = childrenNamed(subject, NS.saml, 'SubjectConfirmation')
    .filter((confirmation) => attributeOf(confirmation, 'Method') === BEARER)
    .map((confirmation) => {
      const [data, another] = childrenNamed(confirmation, NS.saml, 'SubjectConfirmationData')
      if (!data || another || attributeOf(data, 'NotBefore') !== undefined) return undefined
      const ends = times.required(data, 'NotOnOrAfter')
      const recipient = attributeOf(data, 'Recipient')
      const inResponseTo = attributeOf(data, 'InResponseTo')
      return [
        { code: 'recipient', passed: recipient === context.acsUrl, detail: `${recipient}, expected ${context.acsUrl}` },
        {
          code: 'in_response_to',
          passed: !context.request || inResponseTo === context.request.id,
          detail: 'of the subject confirmation',
        },
        { code: 'confirmation_expired', passed: now < ends + SKEW_SECONDS, detail: `${Math.floor(now - ends)} s ago` },
      ] as const
    })
    .filter((outcome) => outcome !== undefined)
  const failures = (outcome: (typeof tries)[number]) => outcome.filter(({ passed }) => !passed).length
  const [best] = tries.sort((a, b) => failures(a) - failures(b))
  checks.note(
    'confirmation',
    best !== undefined,
    best ? undefined : 'no bearer confirmation with SubjectConfirmationData',
  )
  for (const { code, passed, detail } of best ?? []) checks.note(code, passed, passed ? undefined : detail)
}

const CONDITIONS = ['AudienceRestriction', 'OneTimeUse', 'ProxyRestriction']

/** @returns when the assertion ends */
function checkConditions(
  assertion: Element,
  { entityId, now, times, checks }: { entityId: string; now: number; times: Times; checks: Checks },
): number {
  const found = childrenNamed(assertion, NS.saml, 'Conditions')
  const [conditions] = found
  const ends = conditions ? times.required(conditions, 'NotOnOrAfter') : Number.NaN
  const known = conditions
    ? children(conditions).every((child) => CONDITIONS.some((name) => is(child, NS.saml, name)))
    : false
  const hasEnd = conditions !== undefined && attributeOf(conditions, 'NotOnOrAfter') !== undefined
  checks.note('conditions', found.length === 1 && known && hasEnd)
  if (!conditions) return ends

  const begins = times.optional(conditions, 'NotBefore') ?? 0
  checks.note('not_yet_valid', begins - SKEW_SECONDS <= now, `begins in ${Math.ceil(begins - now)} s`)
  checks.note('expired', now < ends + SKEW_SECONDS, `ends in ${Math.floor(ends - now)} s`)

  const restrictions = childrenNamed(conditions, NS.saml, 'AudienceRestriction')
  const audiences = restrictions.map((restriction) =>
    childrenNamed(restriction, NS.saml, 'Audience').map((audience) => textOf(audience)),
  )
  const isForUs = audiences.length > 0 && audiences.every((names) => names.includes(entityId))
  checks.note(
    'audience',
    isForUs,
    isForUs ? undefined : `${audiences.flat().join(', ') || 'none'}, expected ${entityId}`,
  )
  return ends
}

function checkStatements(
  assertion: Element,
  { request, now, times, checks }: { request: PendingRequest | undefined; now: number; times: Times; checks: Checks },
): Pick<Authentication, 'authnInstant' | 'sessionNotOnOrAfter' | 'authnContexts'> {
  const statements = childrenNamed(assertion, NS.saml, 'AuthnStatement')
  const instants = statements.map((statement) => times.required(statement, 'AuthnInstant'))
  checks.note(
    'authn_statement',
    statements.length > 0 && statements.every((one) => attributeOf(one, 'AuthnInstant') !== undefined),
  )
  checks.note(
    'authn_instant',
    instants.every((instant) => instant <= now + SKEW_SECONDS),
    `${Math.floor(now - Math.max(...instants))} s ago`,
  )
  const oldest = Math.min(...instants)
  if (request?.forceAuthn)
    checks.note(
      'force_authn',
      oldest >= request.createdAt - SKEW_SECONDS,
      `${Math.ceil(request.createdAt - oldest)} s before the request`,
    )

  const ends = statements
    .map((statement) => times.optional(statement, 'SessionNotOnOrAfter'))
    .filter((end) => end !== undefined)
  checks.note(
    'session_expired',
    ends.every((end) => now < end + SKEW_SECONDS),
  )

  const authnContexts = statements
    .flatMap((statement) => childrenNamed(statement, NS.saml, 'AuthnContext'))
    .flatMap((context) => childrenNamed(context, NS.saml, 'AuthnContextClassRef'))
    .map((reference) => textOf(reference) ?? '')
  return {
    // Never ahead of our own clock, whatever the other one says.
    authnInstant: Math.floor(Math.min(oldest, now)),
    sessionNotOnOrAfter: ends.length > 0 ? Math.floor(Math.min(...ends)) : undefined,
    authnContexts,
  }
}
