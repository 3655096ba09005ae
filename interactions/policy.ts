/**
 * The one rule: which question comes next, and why. Pure: no store, no HTTP, no clock of its own.
 *
 * The Checks call it, the page handlers call it, the claims come from it, the audit prints it. No other place holds a rule.
 * Who may reset whose second factors, and nobody their own, stands beside it: resets.ts.
 */

import { decodeJwt } from 'jose'
import type { Factor, FactorTimes } from './kit/room.ts'
import type { Account, Membership, MembershipRole, Method } from './kit/stores.ts'

/** One factor, whichever it is. */
export const ACR_1FA = 'urn:sallyport:acr:1fa'
/** Any second factor. */
export const ACR_2FA = 'urn:sallyport:acr:2fa'
/** A second factor proven by us that is not SMS. */
export const ACR_2FA_APP = 'urn:sallyport:acr:2fa-app'

/** A map, not an object: apps may send any text, `constructor` too. */
const RANK = new Map([
  [ACR_1FA, 1],
  [ACR_2FA, 2],
  [ACR_2FA_APP, 3],
  ['http://schemas.openid.net/pape/policies/2007/06/multi-factor', 2],
  ['https://refeds.org/profile/mfa', 2],
])
const OWN_ACR = [ACR_1FA, ACR_1FA, ACR_2FA, ACR_2FA_APP] as const

/** The values of `acr_values_supported`, our own and the aliases. */
export const ACR_VALUES = [...RANK.keys()]

/** What `amr` can ever say. */
const AMR = new Set(['pwd', 'otp', 'sms', 'mfa'])

/** oidc-provider's prompt → the room that answers it. */
export const ROOM_OF = {
  login: 'credentials',
  mfa: 'challenge',
  mfa_link: 'mailed-link',
  mfa_enroll: 'enrollment',
  recovery_ack: 'recovery',
  consent: 'consent',
} as const

/** The prompts this policy opens, in order. */
export const PROMPTS = ['login', 'mfa', 'mfa_link', 'mfa_enroll', 'recovery_ack'] as const
export type PromptName = (typeof PROMPTS)[number]

/** Why a prompt is open. The text is what a relying party reads with `prompt=none`. */
export const REASONS = {
  unreachable: ['login', 'the requested authentication cannot be reached'],
  no_session: ['login', 'End-User authentication is required'],
  different_account: ['login', 'another account was asked for'],
  hinted_account: ['login', 'id_token_hint or claims name another account'],
  login_prompt: ['login', 'login prompt was not resolved'],
  max_age: ['login', 'End-User authentication is too old'],
  login_not_submitted: ['login', 'End-User authentication is not finished'],
  second_factor_missing: ['mfa', 'a second factor is required'],
  second_factor_stale: ['mfa', 'the second factor is too old'],
  second_factor_fresh: ['mfa', 're-authentication was requested'],
  prove_before_enrolment: ['mfa', 'an existing factor must be proven first'],
  mailed_link_missing: ['mfa_link', 'a mailed link must be opened before a second factor is enrolled'],
  mfa_not_enrolled: ['mfa_enroll', 'a second factor must be enrolled'],
  enrolment_requested: ['mfa_enroll', 'a second factor is to be added or replaced'],
  recovery_code_reserved: ['mfa_enroll', 'a new second factor must be enrolled'],
  recovery_code_unacknowledged: ['recovery_ack', 'the recovery code must be acknowledged'],
  recovery_code_requested: ['recovery_ack', 'a new recovery code is to be made'],
} as const satisfies Record<string, readonly [PromptName, string]>
export type Reason = keyof typeof REASONS

/** Seconds after a proof during which a further factor may be added, and after which people prove anew what changes their account. */
export const ENROLMENT_WINDOW = 5 * 60

/**
 * What a person proves before they change how they sign in, or end sessions: the parameters of an authorization request, or
 * `undefined` when their session is fresh enough. A second factor where there is one (ASVS 6.3.4, 7.5.2), else the primary proof.
 *
 * @param change `password`: the primary proof is wanted besides (ASVS 6.2.3)
 * @param now seconds since 1970
 */
export function proofBeforeChange(
  { enrolled }: Pick<Account, 'enrolled'>,
  { factors = {} }: SessionFacts,
  change: 'password' | 'other',
  now: number,
): Record<string, string> | undefined {
  const isFresh = (at: number | undefined) => at !== undefined && now - at <= ENROLMENT_WINDOW
  const methods = Object.keys(enrolled) as Method[]
  const second = methods.length > 0 && !methods.some((method) => isFresh(factors[method]))
  const primary = (methods.length === 0 || change === 'password') && !isFresh(primaryOf(factors))
  if (!second && !primary) return undefined
  return {
    ...(primary && { max_age: String(ENROLMENT_WINDOW) }),
    ...(second && { second_factor_max_age: String(ENROLMENT_WINDOW) }),
  }
}

/** What a person may decide themselves. */
export interface OwnChoices {
  /** Who wants a second factor whatever "Always require 2FA" says, as `because` of a requirement. Empty: the switch is theirs. */
  lockedBy: string[]
  /** The factors they may remove. */
  removable: Method[]
}

/**
 * The switch is a person's own where nothing else asks for a second factor at every sign-in. A factor may go where what is asked at
 * every sign-in, their own switch included, is met by another one, or where nothing is asked. However they signed in: who came by their
 * company's identity provider today may come by their password tomorrow.
 */
export function ownChoices(account: Account, available: readonly Method[], now: number): OwnChoices {
  const needed = requirement({}, {}, account, available, now)
  const withoutSwitch = requirement({}, {}, { ...account, alwaysRequire2fa: false }, available, now)
  const held = standing(account)
  const meets = (without: Method) => held.some((method) => method !== without && needed.methods.includes(method))
  return {
    lockedBy: withoutSwitch.rank >= 2 ? withoutSwitch.because : [],
    removable: held.filter((method) => needed.rank < 2 || meets(method)),
  }
}

/** `sallyport` in the client metadata. */
export interface ClientRules {
  first_party?: boolean
  mfa?: 'required' | 'by_role'
  second_factor_max_age?: number
  offline?: boolean
  /** `optional`: an app with a secret or key of its own may leave `code_challenge` out. By default it must not. */
  pkce?: 'required' | 'optional'
  /** Its tokens say when somebody else last reset the person's second factors: `factor_reset_at`. */
  holds_payouts?: boolean
  /** Pages where people manage their account: its requests may ask that something be set up (`set_up`). */
  self_service?: boolean
}

/** What a person may ask to set up, or to replace: the parameter `set_up`. */
export const SET_UP = ['otp', 'sms', 'recovery_code'] as const
export type SetUp = (typeof SET_UP)[number]

/** What this request by this client needs of this person. */
export interface Requirement {
  /** 0 or 1: any sign-in; 2: a second factor; 3: one that is not SMS. */
  rank: number
  /** The methods that satisfy it. */
  methods: Method[]
  /** A second factor that a trusted identity provider vouches for satisfies it too. */
  providerMfa: boolean
  /** `prompt=login`: only proofs of this chain count. */
  thisChainOnly: boolean
  /** Seconds. */
  maxAge?: number | undefined
  /** Seconds; 0: proven in this very chain. */
  secondFactorMaxAge?: number | undefined
  /** The `acr` values of which the token is to name one. */
  requestedAcr: string[]
  /** The request insists on one of them (OIDC Core §5.5.1.1). */
  acrEssential: boolean
  /** The only accounts that may answer: `sub` of `id_token_hint` (OIDC Core §3.1.2.1) and of `claims` (§5.5.1). */
  accountIds?: string[] | undefined
  /** What nobody, or not this person, can prove here: a sentence for the relying party. */
  unreachable?: string | undefined
  /** What the person wants to set up or replace in this chain. */
  setUp?: SetUp | undefined
  /** Who raised the rank, for the audit: `role:payments_admin@acme`, `client`, `acr_values`, … */
  because: string[]
}

/**
 * When the person's second factors were last reset, for apps that then hold payouts and changes of bank accounts back for a while
 * (NIST SP 800-63B-4 §4.2.3); nobody else learns it. Seconds since 1970.
 */
export const factorResetAt = (
  client: ClientRules,
  { factorReset }: Pick<Account, 'factorReset'>,
): number | undefined => (client.holds_payouts === true ? factorReset?.at : undefined)

/** What was proven. */
export interface Proofs {
  /** Times of the live session row of this account; empty when there is none. */
  session: FactorTimes
  /** Times proven in this very chain. */
  chain: FactorTimes
  /** Start of the request. */
  started: number
  /** The chain's proofs have not been submitted to oidc-provider yet. */
  unsubmitted: boolean
  /** The companies whose identity providers vouched for the `fed` of each. */
  fedBy?: { session?: string | undefined; chain?: string | undefined } | undefined
}

/** Who is in front of us, as far as the decision needs it. */
export interface Subject {
  id: string
  /** When each factor was added. */
  enrolled: Partial<Record<Method, number>>
  /** This chain holds the right to enrol by a recovery code. */
  reserved: boolean
  /** The recovery code waits to be acknowledged. */
  unacknowledged: boolean
  /** A recovery code was shown and acknowledged in this chain. */
  renewed?: boolean | undefined
  /** Their factors were reset, and none was added since. */
  reset?: boolean | undefined
  /** A link that was mailed since then was opened in this chain. No amr: it is only the right to enrol. */
  linked?: boolean | undefined
}

/** The one prompt that comes next. */
export interface Open {
  prompt: PromptName
  reasons: Reason[]
  /** Methods to choose from, for `mfa` and `mfa_enroll`. */
  offer: Method[]
}

/** What the tokens say. */
export interface Claims {
  amr: string[]
  acr: string
  /** The oldest counted proof. */
  auth_time: number
  /** The newest counted second factor. */
  second_factor_time?: number | undefined
}

const PAYOR_APP_ROLES: MembershipRole[] = ['payments_admin', 'disburser', 'beneficiary_approver']

/** Whoever holds one of these uses Payments, whether or not the role needs a second factor. */
export const PAYMENTS_ROLES: MembershipRole[] = [...PAYOR_APP_ROLES, 'disbursement_contributor']

/** Whose rules are asked for. */
type Member = Pick<Account, 'memberships'>

/** What a person's companies demand together. */
export interface Rules {
  lockout: boolean
  /** Seconds. */
  idle: number
  passwordsByMail: boolean
  maySendTo(country: string): boolean
}

/** The strictest of the rules of all their companies. Disabled memberships and companies do not count. */
export function rulesOf({ memberships }: Member): Rules {
  const rules = memberships.flatMap((one) => (one.active && one.rules) || [])
  return {
    lockout: rules.some(({ lockout }) => lockout === true),
    idle: Math.min(...rules.map(({ idle_minutes: minutes = Number.POSITIVE_INFINITY }) => minutes * 60)),
    passwordsByMail: rules.some(({ password_resets: resets }) => resets === 'mail'),
    maySendTo: (country) => rules.every(({ sms_countries: countries }) => countries?.includes(country) ?? true),
  }
}

/** Wrong passwords from devices that the person has not signed in with, after which a company's lock-out closes the password there. */
export const LOCKOUT_AFTER = 3

/**
 * Whether a password is not looked at, however right: a company of theirs wants it so, and this is one attempt too many from
 * devices that the person has not signed in with.
 *
 * @param attempt counted since the last right one, this one among them
 */
export const isLockedOut = (account: Member, attempt: number): boolean =>
  attempt > LOCKOUT_AFTER && rulesOf(account).lockout

/**
 * Where this person's phone may be, as ISO 3166-1 codes: people of Payments in the United States only, others where this
 * server sends texts at all; and nowhere that a company of theirs does not allow.
 *
 * @param configured the countries that this server sends texts to
 */
export const smsCountries = (person: Member, configured: readonly string[]): string[] => {
  const { maySendTo } = rulesOf(person)
  const pays = person.memberships.some(
    ({ active, roles }) => active && roles.some((role) => PAYMENTS_ROLES.includes(role)),
  )
  return configured.filter((country) => maySendTo(country) && (!pays || country === 'US'))
}

/** What one membership asks of its holder. */
function needsOfMembership(
  membership: Membership,
  now: number,
  fedBy: string | undefined,
): { methods: Method[]; because: string[] } {
  const payor = membership.side === 'payor' || membership.side === 'both'
  const paying = membership.roles.filter((role) => PAYOR_APP_ROLES.includes(role))
  // Fails closed: who may move money needs a second factor, whatever the company was called.
  const [app, any] = payor ? [paying, []] : [[], paying]
  return {
    methods: app.length > 0 ? ['otp'] : ['otp', 'sms'],
    because: [
      ...[...app, ...any].map((role) => `role:${role}@${membership.companyId}`),
      ...(enforces(membership, now, fedBy) ? [`company:${membership.companyId}`] : []),
    ],
  }
}

/**
 * A company's enforcement begins with the first second of its date in its zone. Who came through the company's own identity
 * provider was asked there, unless the company wants its people to be asked here too.
 */
export function enforces({ companyId, enforcement }: Membership, now: number, fedBy: string | undefined): boolean {
  if (!enforcement) return false
  if (fedBy === companyId && enforcement.sso !== 'challenge') return false
  return daysUntil(enforcement, now) <= 0
}

/** Days from today, in that zone, to the date on which a company's enforcement begins. 0: today. */
export function daysUntil({ from, zone }: { from: string; zone: string }, now: number): number {
  const today = new Intl.DateTimeFormat('en-CA', { timeZone: zone }).format(now * 1000) // YYYY-MM-DD
  return Math.round((Date.parse(from) - Date.parse(today)) / (24 * 60 * 60 * 1000))
}

/**
 * What a person without a second factor should know before they are stopped: the next date from which a company of theirs
 * demands one; `undefined` where there is none ahead.
 */
export function enforcementAhead(
  { memberships, enrolled }: Pick<Account, 'memberships' | 'enrolled'>,
  now: number,
): { companyId: string; from: string; zone: string } | undefined {
  if (Object.keys(enrolled).length > 0) return undefined
  const ahead = memberships.flatMap(({ active, companyId, enforcement }) =>
    active && enforcement && daysUntil(enforcement, now) > 0 ? [{ companyId, ...enforcement }] : [],
  )
  return ahead.sort((a, b) => daysUntil(a, now) - daysUntil(b, now))[0]
}

/**
 * The requirement: the strictest of client, roles, companies, the person's own switch and the request.
 * A request can raise the bar, never lower it.
 *
 * @param params the authorization request, validated by oidc-provider
 * @param available the methods this server has built
 * @param fedBy the company whose identity provider vouches for the sign-in ({@link signedInBy})
 */
export function requirement(
  params: Record<string, unknown>,
  client: ClientRules,
  account:
    | (Pick<Account, 'memberships' | 'serverRoles' | 'alwaysRequire2fa'> &
        Partial<Pick<Account, 'enrolled' | 'factorReset'>>)
    | undefined,
  available: readonly Method[],
  now: number,
  fedBy?: string,
): Requirement {
  let rank = 0
  const because: string[] = []
  const raise = (to: number, source: string) => {
    if (to > rank) rank = to
    if (to > 1) because.push(source)
  }

  const needs = (account?.memberships ?? []).filter(({ active }) => active).map((m) => needsOfMembership(m, now, fedBy))
  for (const source of needs.flatMap((need) => need.because)) raise(2, source)
  for (const role of account?.serverRoles ?? []) raise(2, `role:${role}`)
  if (account?.alwaysRequire2fa) raise(2, 'person')
  // Whoever had a factor has one again before anything else: a password alone changes nothing of this account meanwhile.
  if (account?.factorReset?.open) raise(2, 'reset')
  if (client.mfa === 'required') raise(2, 'client')

  // A list is a set of alternatives: the weakest known one must be reached (OIDC Core §3.1.2.1: voluntary).
  const { acr, amr, sub } = requestedClaims(params)
  const acrValues = words(params['acr_values'])
  raise(lowest(acrValues), 'acr_values')
  raise(lowest(acr.voluntary), 'claims')
  // An essential list that names `otp` wants it, whatever else would do.
  if (amr?.includes('otp')) raise(3, 'claims')
  else if (amr?.some((value) => value === 'mfa' || value === 'sms')) raise(2, 'claims')

  const asked = seconds(params['second_factor_max_age'])
  // Otherwise it would silently mean nothing for a person who needs no second factor.
  if (asked !== undefined) raise(2, 'second_factor_max_age')
  const ages = [asked, client.second_factor_max_age].filter((age) => age !== undefined)

  const byRole = (account?.serverRoles.length ?? 0) > 0 || needs.some(({ methods }) => methods.length === 1)
  const smsOnly = amr?.includes('sms') && !amr.includes('otp') && !amr.includes('mfa')
  const methodsAt = (level: number) =>
    available.filter((method) => (method === 'otp' ? !smsOnly : !byRole && level < 3))
  const reachable = acr.essential?.filter((value) => {
    const level = RANK.get(value)
    return level !== undefined && (level < 2 || methodsAt(level).length > 0)
  })
  if (reachable) raise(lowest(reachable), 'claims')

  const methods = methodsAt(rank)
  const wanted = client.self_service ? SET_UP.find((one) => one === params['set_up']) : undefined
  // Who has no factor to prove gives the password once more.
  const provesPrimary = wanted !== undefined && Object.keys(account?.enrolled ?? {}).length === 0
  const maxAges = [seconds(params['max_age']), provesPrimary ? ENROLMENT_WINDOW : undefined]
  const maxAge = maxAges.filter((age) => age !== undefined).sort((a, b) => a - b)[0]
  const accountIds = bothOf(sub, subjectOf(params['id_token_hint']))
  const impossible = [
    reachable?.length === 0 && 'none of the essential acr values can be reached',
    amr && !amr.some((value) => AMR.has(value)) && 'none of the essential amr values can be reached',
    rank >= 2 && methods.length === 0 && 'no second factor satisfies what was asked for',
    account &&
      wanted &&
      wanted !== 'recovery_code' &&
      !methods.includes(wanted) &&
      'that factor is not for this person',
    accountIds?.length === 0 && 'id_token_hint and claims ask for different people',
  ]
  return {
    rank,
    methods,
    // Somebody else's word: never for those who may move money or run this server, nor where the app itself is asked for.
    providerMfa: rank === 2 && !byRole && !smsOnly,
    unreachable: impossible.find((sentence) => typeof sentence === 'string'),
    thisChainOnly: words(params['prompt']).includes('login'),
    maxAge,
    setUp: wanted,
    secondFactorMaxAge: ages.length > 0 ? Math.min(...ages) : undefined,
    requestedAcr: acr.essential ?? [...acrValues, ...acr.voluntary],
    acrEssential: acr.essential !== undefined,
    accountIds,
    because,
  }
}

/** A list is a set of alternatives: the weakest known one is the bar. 0: it asks for nothing that we know. */
function lowest(acrValues: string[]): number {
  const ranks = acrValues.flatMap((value) => RANK.get(value) ?? [])
  return ranks.length > 0 ? Math.min(...ranks) : 0
}

const bothOf = (ids: string[] | undefined, id: string | undefined) =>
  id === undefined ? ids : ids === undefined || ids.includes(id) ? [id] : []

/** What `claims` may ask of one claim (OIDC Core §5.5.1). */
interface ClaimRequest {
  essential?: boolean
  value?: unknown
  values?: unknown[]
}

/**
 * What the `claims` parameter says of authentication. Of the two places the one that insists counts, else the ID token's.
 * A list of `amr` counts only when it is essential: which methods were used is always told.
 */
function requestedClaims(params: Record<string, unknown>) {
  const claims = typeof params['claims'] === 'string' ? (JSON.parse(params['claims']) as Record<string, unknown>) : {}
  const asked = (name: string): ClaimRequest => {
    const places = [claims['id_token'], claims['userinfo']] as (Record<string, ClaimRequest | null> | undefined)[]
    const requests = places.flatMap((place) => (place && Object.hasOwn(place, name) && place[name]) || [])
    return requests.find(({ essential }) => essential) ?? requests[0] ?? {}
  }
  const listed = ({ value, values }: ClaimRequest) =>
    value === undefined && values === undefined
      ? undefined
      : ([value, values].flat(2).filter((one) => one !== undefined) as string[])

  const [acr, amr, sub] = [asked('acr'), asked('amr'), asked('sub')]
  return {
    acr: acr.essential
      ? { voluntary: [], essential: listed(acr) }
      : { voluntary: listed(acr) ?? [], essential: undefined },
    amr: amr.essential ? listed(amr) : undefined,
    // A `sub` that has a value binds, essential or not (OIDC Core §3.1.2.2).
    sub: listed(sub),
  }
}

/**
 * What is wrong with a `claims` parameter, in a sentence; `undefined` when nothing is. oidc-provider has looked at the
 * outer shape.
 */
export function claimsFault(claims: Record<string, unknown>): string | undefined {
  for (const place of ['id_token', 'userinfo'])
    for (const [name, request] of Object.entries((claims[place] ?? {}) as object)) {
      const fault = requestFault(name, request)
      if (fault !== undefined) return `claims.${place}.${name.slice(0, 50)} ${fault}`
    }
  return undefined
}

function requestFault(name: string, request: unknown): string | undefined {
  if (request === null) return undefined
  if (typeof request !== 'object' || Array.isArray(request)) return 'must be null or an object'
  const { essential, value, values } = request as { [member in keyof ClaimRequest]: unknown }
  if (essential !== undefined && typeof essential !== 'boolean') return 'has an essential that is not true or false'
  if (value !== undefined && values !== undefined) return 'must have value or values, not both'
  if (values !== undefined && !(Array.isArray(values) && values.length > 0)) return 'has values that are no list'
  const isText = (one: unknown) => typeof one === 'string'
  const fits = (one: unknown) =>
    isText(one) || (name === 'amr' && Array.isArray(one) && one.length > 0 && one.every(isText))
  const given = value === undefined ? ((values ?? []) as unknown[]) : [value]
  return !['acr', 'amr', 'sub'].includes(name) || given.every(fits) ? undefined : 'has a value that is no text'
}

/** oidc-provider has verified the token by now: when the request came, and before it was kept with the interaction. */
const subjectOf = (hint: unknown): string | undefined => (typeof hint === 'string' ? decodeJwt(hint).sub : undefined)

const words = (value: unknown): string[] =>
  typeof value === 'string' ? value.split(' ').filter((word) => word !== '') : []
const seconds = (value: unknown): number | undefined =>
  value === undefined || value === null || value === '' ? undefined : Number(value)

/** The chain with one more proof. A primary proof starts over. */
export const addProof = (chain: FactorTimes, factor: Factor, at: number): FactorTimes =>
  isPrimary(factor) ? { [factor]: at } : { ...chain, [factor]: at }

const isPrimary = (factor: Factor) => factor === 'pwd' || factor === 'fed'

/** When the primary proof was made. */
export const primaryOf = ({ pwd, fed }: FactorTimes): number | undefined => pwd ?? fed

/** The company whose identity provider vouches for the sign-in that counts, or `undefined`. */
export function signedInBy({ chain, session, fedBy }: Pick<Proofs, 'chain' | 'session' | 'fedBy'>): string | undefined {
  if (primaryOf(chain) === undefined) return session.fed === undefined ? undefined : fedBy?.session
  return chain.fed === undefined ? undefined : fedBy?.chain
}

/**
 * What a chain takes over the epoch that it raised itself, by a new app in place of a lost one: the primary proof, as far
 * as it counts. The former second factors are dead.
 */
export const carriedOver = ({ pwd, fed }: FactorTimes): FactorTimes =>
  pwd !== undefined ? { pwd } : fed !== undefined ? { fed } : {}

/**
 * Session and chain together. A new primary proof drops every older one; a step-up keeps them. A company's sign-in drops
 * all: its time is the identity provider's, and what was proven since then was not proven after it came here.
 */
export function merge(session: FactorTimes, chain: FactorTimes): FactorTimes {
  const primary = primaryOf(chain)
  const kept = entries(session).filter(([, at]) => primary === undefined || (chain.fed === undefined && at > primary))
  const merged: FactorTimes = Object.fromEntries(kept)
  for (const [factor, at] of entries(chain)) merged[factor] = Math.max(merged[factor] ?? 0, at)
  return merged
}

/**
 * The proofs that count for this requirement. Nothing else is seen, neither by the decision nor by the claims.
 * Ages are measured from the start of the request, so that nothing turns stale while a person types.
 */
export function counted(needed: Requirement, proofs: Proofs): FactorTimes {
  const ofSession = ([factor, at]: [Factor, number]) => {
    if (needed.thisChainOnly) return false
    if (needed.maxAge !== undefined && at < proofs.started - needed.maxAge) return false
    if (isPrimary(factor) || needed.secondFactorMaxAge === undefined) return true
    return needed.secondFactorMaxAge > 0 && at >= proofs.started - needed.secondFactorMaxAge
  }
  return merge(Object.fromEntries(entries(proofs.session).filter(ofSession)), proofs.chain)
}

/**
 * THE decision: the one prompt that comes next and why, or `undefined` when nothing is open and a code may be issued.
 *
 * @param subject `undefined`: nobody has proven anything that counts
 */
export function openReasons(
  needed: Requirement,
  subject: Subject | undefined,
  proofs: Proofs,
  now: number,
  { differentAccount = false } = {},
): Open | undefined {
  // Before anybody is asked anything in vain.
  if (needed.unreachable !== undefined) return open('unreachable')
  if (!subject) return open(differentAccount ? 'different_account' : 'no_session')
  if (needed.accountIds && !needed.accountIds.includes(subject.id)) return open('hinted_account')
  const counting = counted(needed, proofs)
  const all = merge(proofs.session, proofs.chain)
  if (primaryOf(counting) === undefined) return open(missingPrimary(needed, all))

  if (needed.rank >= 2 && !hasSecond(needed, counting)) {
    if (subject.reserved) return open('recovery_code_reserved', needed.methods)

    const usable = needed.methods.filter((method) => subject.enrolled[method] !== undefined)
    if (usable.length > 0) return open(missingSecond(needed, usable, all), usable)

    return openProof(subject, proofs, now) ?? openLink(subject, counting) ?? open('mfa_not_enrolled', needed.methods)
  }

  if (needed.setUp !== undefined && !isSetUp(needed.setUp, subject, proofs)) {
    if (subject.reserved) return open('recovery_code_reserved', needed.methods)
    const first = openProof(subject, proofs, now) ?? openLink(subject, counting)
    if (first) return first
    if (needed.setUp !== 'recovery_code') return open('enrolment_requested', [needed.setUp])
    if (standing(subject).length > 0) return open('recovery_code_requested')
  }

  // Shown only to somebody who proved a second factor in this very request: a password alone never shows a recovery code.
  const secondHere = proofs.chain.otp !== undefined || proofs.chain.sms !== undefined
  if (subject.unacknowledged && secondHere) return open('recovery_code_unacknowledged')
  if (proofs.unsubmitted) return open('login_not_submitted')
  return undefined
}

const standing = ({ enrolled }: Pick<Subject, 'enrolled'>) =>
  (['otp', 'sms'] as const).filter((method) => enrolled[method] !== undefined)

/** Never add a factor on a password alone when one exists: the one that stands is proven first, in this chain. */
function openProof(subject: Subject, { chain }: Proofs, now: number): Open | undefined {
  const methods = standing(subject)
  const proven = methods.some((method) => now - (chain[method] ?? Number.NEGATIVE_INFINITY) <= ENROLMENT_WINDOW)
  return methods.length > 0 && !proven ? open('prove_before_enrolment', methods) : undefined
}

/** After a reset a password alone enrols nothing (NIST SP 800-63B-4 §4.2): a mailed link besides, or a company's sign-in. */
const openLink = ({ reset, linked }: Subject, counting: FactorTimes): Open | undefined =>
  reset && !linked && counting.fed === undefined ? open('mailed_link_missing') : undefined

/** Done in this chain: what was added before is to be replaced. */
const isSetUp = (wanted: SetUp, { enrolled, renewed }: Subject, { started }: Proofs): boolean =>
  wanted === 'recovery_code' ? renewed === true : (enrolled[wanted] ?? Number.NEGATIVE_INFINITY) >= started

const hasSecond = (needed: Requirement, counting: FactorTimes) =>
  needed.methods.some((method) => counting[method] !== undefined) ||
  (needed.providerMfa && counting.fed_mfa !== undefined)

function missingPrimary(needed: Requirement, all: FactorTimes): Reason {
  if (needed.thisChainOnly) return 'login_prompt'
  return primaryOf(all) === undefined ? 'no_session' : 'max_age'
}

function missingSecond(needed: Requirement, usable: Method[], all: FactorTimes): Reason {
  if (!usable.some((method) => all[method] !== undefined)) return 'second_factor_missing'
  return needed.thisChainOnly ? 'second_factor_fresh' : 'second_factor_stale'
}

const open = (reason: Reason, offer: Method[] = []): Open => ({ prompt: REASONS[reason][0], reasons: [reason], offer })

/**
 * `amr` of these proofs (RFC 8176): only what was proven. `mfa` when two different factors were. A company's sign-in has no
 * registered value, so it has none.
 */
export const amrOf = (times: FactorTimes): string[] => {
  const factors = (['pwd', 'otp', 'sms'] as const).filter((factor) => times[factor] !== undefined)
  return rankOf(times) >= 2 ? [...factors, 'mfa'] : factors
}

/** Our own `acr` for these proofs. */
export const acrOf = (times: FactorTimes): string => OWN_ACR[rankOf(times)]!

function rankOf(times: FactorTimes): 0 | 1 | 2 | 3 {
  if (primaryOf(times) === undefined) return 0
  if (times.otp !== undefined) return 3
  return times.sms !== undefined || times.fed_mfa !== undefined ? 2 : 1
}

/**
 * What the tokens of this request say: counted proofs only. `acr` is the highest requested value that is met when the
 * request insists on one or names an alias, otherwise our own rank.
 */
export function claimsOf(needed: Requirement, proofs: Proofs): Claims {
  const counting = counted(needed, proofs)
  const rank = rankOf(counting)
  const met = needed.requestedAcr
    .filter((value) => (RANK.get(value) ?? Number.POSITIVE_INFINITY) <= rank)
    .sort((a, b) => RANK.get(b)! - RANK.get(a)!)
  const namesAlias = needed.requestedAcr.some((value) => RANK.has(value) && !value.startsWith('urn:sallyport:'))
  const named = needed.acrEssential || namesAlias
  const second = Math.max(counting.otp ?? 0, counting.sms ?? 0, counting.fed_mfa ?? 0)
  return {
    amr: amrOf(counting),
    acr: (named && met[0]) || acrOf(counting),
    auth_time: Math.min(...Object.values(counting)),
    second_factor_time: second || undefined,
  }
}

/** A refresh asks again for the rank, not for freshness: true when a token with this `amr` still satisfies. */
export function stillSatisfies(needed: Requirement, amr: readonly string[]): boolean {
  return (
    needed.rank < 2 ||
    needed.methods.some((method) => amr.includes(method)) ||
    (needed.providerMfa && amr.includes('mfa'))
  )
}

/** Why a person is asked whether an app may go on. The text is what a relying party reads with `prompt=none`. */
export const CONSENT_REASONS = {
  consent_prompt: 'consent prompt was not resolved',
  redirect_not_bound: 'public client without an https redirect URI',
  consent_missing: 'requested permissions were not granted',
} as const
export type ConsentReason = keyof typeof CONSENT_REASONS

/** What decides whether a person is asked. */
export interface ConsentQuestion {
  client: ClientRules
  /** The client has no secret and no key. */
  isPublic: boolean
  /** None in the device flow, which has a confirmation of its own. */
  redirectUri: string | undefined
  /** `prompt=consent`. */
  prompted: boolean
  /** The permissions asked for. */
  asked: readonly string[]
  /** What the person agreed to before. */
  agreed: readonly string[]
  /** The person said yes in this very request. */
  confirmed: boolean
}

/** Why consent is open; empty: the app may go on. First parties are agreed to by their registration. */
export function consentReasons(question: ConsentQuestion): ConsentReason[] {
  const { client, isPublic, redirectUri, prompted, asked, confirmed } = question
  // Nobody can tell who listens there, so being a first party does not make it silent (RFC 8252 §8.6).
  const unbound = isPublic && redirectUri !== undefined && !redirectUri.startsWith('https://')
  const missing = missingPermissions(client, asked, question.agreed)
  return [
    ...(prompted && !confirmed ? (['consent_prompt'] as const) : []),
    ...(unbound && !confirmed ? (['redirect_not_bound'] as const) : []),
    ...(missing.length > 0 ? (['consent_missing'] as const) : []),
  ]
}

/** What a third party asks for and nobody agreed to yet. */
export const missingPermissions = (client: ClientRules, asked: readonly string[], agreed: readonly string[]) =>
  client.first_party === true ? [] : asked.filter((permission) => !agreed.includes(permission))

/** What we keep in the session row beside the library's own fields. */
export interface SessionFacts {
  accountId?: string | undefined
  factors?: FactorTimes | undefined
  /** The company whose identity provider vouched for `factors.fed`, and when that wants the session to end. */
  fedBy?: string | undefined
  until?: number | undefined
  epoch?: number | undefined
  /** When this session began; the absolute limit counts from here. */
  created?: number | undefined
  /** When it was last used. Ours, not the library's `exp`, which every request to /auth moves, answered or not. */
  used?: number | undefined
}

/** The server's own, seconds. A company of the person's can only shorten `idle`. */
export interface SessionLimits {
  idle: number
  absolute: number
}

/**
 * A session counts only while its epoch is the account's and its limits stand. Checked here because the library accepts
 * a session 15 s after its end, and slides the end with each request, whatever it was answered.
 */
export function sessionAlive(
  session: SessionFacts | undefined,
  account: Pick<Account, 'id' | 'securityEpoch' | 'disabled' | 'memberships'>,
  limits: SessionLimits,
  now: number,
): boolean {
  if (!session || session.accountId !== account.id || account.disabled) return false
  if (session.epoch !== account.securityEpoch) return false
  if (session.created === undefined || now >= session.created + limits.absolute) return false
  // SAML Core §2.7.2, SessionNotOnOrAfter.
  if (session.until !== undefined && now >= session.until) return false
  return session.used !== undefined && now < session.used + Math.min(limits.idle, rulesOf(account).idle)
}

const entries = (times: FactorTimes) => Object.entries(times) as [Factor, number][]
