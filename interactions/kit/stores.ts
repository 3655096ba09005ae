/**
 * What the plugin asks of a database, in our words. An adapter keeps these promises in the database's words.
 *
 * "Once" means: of any number of callers, in any number of processes, exactly one is told that it won.
 * All times are whole seconds since 1970; all durations are seconds.
 */

/** A second factor a person can hold. The name is also its `amr` value (RFC 8176). */
export type Method = 'otp' | 'sms'

/** A client secret that was replaced: good until then, beside the new one. */
export interface FormerSecret {
  secret: string
  until: number
}

/** Which side of a payment a company stands on. */
export type Side = 'payor' | 'payee' | 'both' | 'none'

/** A role that a person holds at a company. */
export type MembershipRole =
  | 'payments_admin'
  | 'disburser'
  | 'beneficiary_approver'
  | 'disbursement_contributor'
  | 'company_admin'
  | 'directory_admin'

/** A role that a person holds at this server. */
export type ServerRole = 'operator' | 'support' | 'auditor'

/** A person's place in one company, with what of the company the policy needs. */
export interface Membership {
  companyId: string
  side: Side
  roles: MembershipRole[]
  /** False when the membership or the company is disabled: then it does not count. */
  active: boolean
  /**
   * The company demands a second factor of everybody from this day on (a date in that zone). Who came through the company's
   * own identity provider need not prove one here, unless `sso` says `challenge`.
   */
  enforcement?: { from: string; zone: string; sso?: 'challenge' | undefined } | undefined
  /** What the company tells its people who lost phone and recovery code: one line of plain text. */
  help?: string | undefined
  /** What else the company demands. */
  rules?: CompanyRules | undefined
}

/**
 * What a company demands of how its people sign in, besides a second factor. The strictest of a person's companies wins
 * (policy.ts, `rulesOf`); what is left out demands nothing.
 */
export interface CompanyRules {
  /** Three wrong passwords close the password, but for devices that the person signed in with before. */
  lockout?: boolean | undefined
  /** Minutes without use after which a session ends. Can only shorten the server's own limit. */
  idle_minutes?: (typeof IDLE_MINUTES)[number] | undefined
  /** `mail`: a password is changed by a mailed link only: not in the account, and not by an administrator. */
  password_resets?: 'mail' | undefined
  /** Where its people's phones may be, ISO 3166-1. Can only narrow the server's own list. */
  sms_countries?: string[] | undefined
}

/** What a company may say of idleness. */
export const IDLE_MINUTES = [15, 30, 60, 120] as const

/** The state of a person's one recovery code. The code itself is never stored, only its argon2id hash. */
export interface RecoveryCodeState {
  /** Names this code. Every new code has a new id. */
  id: string
  /** The id this one took the place of. */
  replaces?: string | undefined
  /** The person said that they recorded it. */
  acknowledged: boolean
  /** The interaction chain (`cid`) that holds the right to enrol a new factor by it, until `reservedUntil`. */
  reservedBy?: string | undefined
  reservedUntil?: number | undefined
  /** Counts reservations: the value that the next one must have read. */
  reservations: number
}

/** What was done about a person's factors by somebody else. The last one counts. */
export interface FactorReset {
  /** When every factor and the recovery code were removed. */
  at: number
  /** No factor was added since. */
  open?: true | undefined
  /** The interaction chain (`cid`) that proved a mailed link, and holds the right to enrol until `heldUntil`. */
  heldBy?: string | undefined
  heldUntil?: number | undefined
}

/** A person, with all that the policy needs to decide. Holds no secret. */
export interface Account {
  id: string
  email: string
  /** A second address that gets every letter of what happened. Proven by a link; nobody signs in with it. */
  noticeEmail?: string | undefined
  name?: string | undefined
  disabled: boolean
  /** Raised by everything that ends what was proven before: password change, factor reset, disabling, "end all sessions". */
  securityEpoch: number
  memberships: Membership[]
  serverRoles: ServerRole[]
  /** The person's own switch, "Always require 2FA". */
  alwaysRequire2fa: boolean
  /** Raised by each activation, removal and reset of a factor. */
  factorVersion: number
  /** The factors that stand, with the time each was added. */
  enrolled: Partial<Record<Method, number>>
  /** When each factor was last proven, as far as it is known. For the order in which they are offered. */
  used?: Partial<Record<Method, number>> | undefined
  recoveryCode?: RecoveryCodeState | undefined
  factorReset?: FactorReset | undefined
}

/** Reads people. An embedding app that has accounts of its own gives them by `withOwnAccounts` and keeps the other stores. */
export interface AccountStore {
  /** The account, disabled ones too, or `undefined`. */
  find(accountId: string): Promise<Account | undefined>
  /** The account of this (normalised) e-mail address and its password hash (PHC string), if it has one. */
  findByEmail(email: string): Promise<{ account: Account; passwordHash: string | undefined } | undefined>
  /** Replaces a hash made with weaker parameters. Does nothing when the stored hash is no longer `from`. */
  upgradePasswordHash(accountId: string, from: string, to: string): Promise<void>
}

/** A factor that was proven for the first time. */
export type NewFactor =
  | {
      method: 'otp'
      /** Base32, 20 bytes. */
      secret: string
      /** The time step of the code that proved it: used up by the same write (RFC 6238 §5.2). */
      step: number
    }
  | {
      method: 'sms'
      /** E.164. */
      phone: string
    }

/** What an activation writes, all or nothing. */
export interface Activation {
  factor: NewFactor
  now: number
  /** The factor version and the security epoch that the page saw: whatever was raised meanwhile voids the activation. */
  factorVersion: number
  securityEpoch: number
  /** Names the recovery code that is to follow; until it is set, it has no hash and opens nothing. */
  recoveryCodeId: string
  /** Given when the right to enrol comes from a reserved recovery code. */
  byRecovery?: { cid: string } | undefined
  /** Who is told: kept by the same write. */
  messages?: Message[] | undefined
}

/** The second factors and the recovery code. */
export interface FactorStore {
  /** The Base32 secret of the person's authenticator app, or `undefined`. */
  totpSecret(accountId: string): Promise<string | undefined>
  /**
   * Claims a time step, so that one code opens one door. Once: the accepted step only ever grows.
   * @see RFC 6238 §5.2, "MUST NOT accept the second attempt of the OTP"
   */
  claimTimeStep(accountId: string, step: number): Promise<boolean>
  /** The number of the person's phone in E.164, or `undefined`. */
  phone(accountId: string): Promise<string | undefined>
  /** Remembers when a code by text was proven. */
  notePhoneUse(accountId: string, at: number): Promise<void>
  /**
   * Makes this the person's one app, or one phone. Once per factor version: compare-and-set on `factorVersion`,
   * `securityEpoch` and the account not being disabled.
   *
   * In the same write: the version rises by one, the app's `step` is used up, "Always require 2FA" is switched on, the former
   * recovery code is void and the new, unacknowledged one is named; what a reset left open is closed. With `byRecovery` the reservation must still be held by
   * that chain; then every former factor dies, of either kind, and the security epoch rises by one.
   *
   * @returns the account's security epoch after the write, or `undefined` when another activation, a reset or a new password was first
   */
  activate(accountId: string, activation: Activation): Promise<{ securityEpoch: number } | undefined>
  /** Sets the code that takes the place of `replaces`, unacknowledged. Once per replaced id. */
  setRecoveryCode(
    accountId: string,
    code: { replaces: string; id: string; hash: string; messages?: Message[] | undefined },
  ): Promise<boolean>
  /** The argon2id hash of the recovery code, or `undefined`. */
  recoveryCodeHash(accountId: string): Promise<{ id: string; hash: string } | undefined>
  /**
   * Reserves the code for one interaction chain; a former reservation is void. Once per `reservations` value read.
   * It proves no factor: it is the right to enrol.
   */
  reserveRecoveryCode(
    accountId: string,
    reservation: { id: string; reservations: number; cid: string; until: number },
  ): Promise<boolean>
  /** Marks this code as recorded. False when another code has taken its place or it has no hash yet. */
  acknowledgeRecoveryCode(accountId: string, id: string): Promise<boolean>
}

/**
 * A limit. `window`: at most `limit` attempts in `seconds`, counted from the first.
 * `streak`: every `every`th attempt since the last success waits `wait` seconds; after `delayAfter` attempts each one
 * waits 1, 2, 4 … 60 seconds; `disableAt` attempts close it until it is cleared.
 */
export type ThrottleRule =
  | { kind: 'window'; limit: number; seconds: number }
  | { kind: 'streak'; every: number; wait: number; delayAfter?: number | undefined; disableAt?: number | undefined }

/** One counter of an attempt. Keys carry no personal data in clear: the caller hashes addresses. */
export interface Counter {
  key: string
  rule: ThrottleRule
}

/** What a counter remembers. */
export interface ThrottleState {
  count: number
  /** Start of the window, or time of the last attempt of a streak. */
  since: number
  blockedUntil: number
  disabled: boolean
}

/** `allowed`: the attempt was counted and may be looked at. Otherwise nothing was counted. */
export interface ThrottleVerdict {
  allowed: boolean
  /** Seconds until the next attempt may be made; 0 when allowed. `Infinity` when the counter is closed for good. */
  retryAfter: number
  /** The key that refused, or, when allowed, the key of a streak that now waits: a wrong answer was the last one for a while. */
  key?: string | undefined
  /** Attempts left before a streak waits, counting none of this one; `undefined` without a streak. */
  left?: number | undefined
  /** When allowed: what each counter, in its order, has counted with this one. For {@link ThrottleStore.giveBack}. */
  counts?: number[] | undefined
}

/** Counts attempts before an answer is looked at. */
export interface ThrottleStore {
  /**
   * Takes one attempt from every counter, or from none if one of them refuses. One atomic operation, shared by all
   * processes: of N parallel callers at most the limit are allowed.
   */
  take(counters: Counter[], now: number): Promise<ThrottleVerdict>
  /** Takes the attempt back: nobody looked at the answer (too busy, an outage). `counts`: as {@link take} said. */
  giveBack(counters: Counter[], counts: number[]): Promise<void>
  /** Forgets the counters: the right answer was given. */
  clear(keys: string[]): Promise<void>
  /** What the counters remember, in the order of the keys. Takes nothing. */
  look(keys: string[]): Promise<(ThrottleState | undefined)[]>
}

/**
 * The arithmetic of one counter, the same for every database.
 * @returns the state after the attempt, or `undefined` when it is refused, with the seconds to wait
 */
export function countAttempt(
  state: ThrottleState | undefined,
  rule: ThrottleRule,
  now: number,
): { next: ThrottleState | undefined; retryAfter: number; left: number | undefined } {
  if (state?.disabled) return { next: undefined, retryAfter: Number.POSITIVE_INFINITY, left: undefined }
  if (state && state.blockedUntil > now)
    return { next: undefined, retryAfter: state.blockedUntil - now, left: undefined }

  if (rule.kind === 'window') {
    const open = state && now < state.since + rule.seconds ? state : { count: 0, since: now }
    if (open.count >= rule.limit)
      return { next: undefined, retryAfter: open.since + rule.seconds - now, left: undefined }
    const next = { count: open.count + 1, since: open.since, blockedUntil: 0, disabled: false }
    return { next, retryAfter: 0, left: undefined }
  }

  const count = (state?.count ?? 0) + 1
  const waits = count % rule.every === 0
  const late = rule.delayAfter === undefined ? -1 : count - rule.delayAfter
  const delay = waits ? rule.wait : late >= 0 ? Math.min(2 ** late, 60) : 0
  const disabled = rule.disableAt !== undefined && count >= rule.disableAt
  const next = { count, since: now, blockedUntil: delay ? now + delay : 0, disabled }
  return { next, retryAfter: 0, left: waits || disabled ? 0 : rule.every - (count % rule.every) }
}

/**
 * The arithmetic of an attempt that nobody looked at, the same for every database.
 * @param count what the counter had counted with it
 * @returns the state without it, or `undefined` when there is nothing to take back
 */
export function uncountAttempt(state: ThrottleState | undefined, count: number): ThrottleState | undefined {
  if (!state || state.count < count) return undefined
  // A wait that a later attempt began stands.
  const last = state.count === count
  return { ...state, count: state.count - 1, ...(last && { blockedUntil: 0, disabled: false }) }
}

/** Which browsers a person has signed in with. A device lowers throttling; it never stands for a factor. */
export interface DeviceStore {
  remember(deviceHash: string, accountId: string, now: number): Promise<void>
  knows(deviceHash: string, accountId: string): Promise<boolean>
}

/** Short-lived secrets of an interaction chain (owner = `cid`), stored encrypted. */
export interface PendingStore {
  /** Keeps the value unless one is there and has not expired. @returns what is kept: of several callers all get the first one's */
  keep(entry: { owner: string; purpose: string; value: string; expiresAt: number; now: number }): Promise<string>
  /** Keeps the value in place of the one that is there. */
  replace(entry: { owner: string; purpose: string; value: string; expiresAt: number }): Promise<void>
  /** The value, or `undefined` when there is none or it has expired. */
  recall(owner: string, purpose: string, now: number): Promise<string | undefined>
  /** Removes the value and returns it. Once. */
  take(owner: string, purpose: string, now: number): Promise<string | undefined>
}

/**
 * What a link in a letter is for: a new password, or the first one of somebody who was invited; the right to enrol of somebody
 * whose factors were reset; to prove another address to sign in with (`email`) or to be told at (`notice`); to take a change of the
 * first one back (`email_undo`).
 */
export type LinkPurpose = 'reset' | 'welcome' | 'enrolment' | 'email' | 'notice' | 'email_undo'

/** Links that set a password. */
export const SETS_PASSWORD: readonly LinkPurpose[] = ['reset', 'welcome']

/** Links that go to an address which is not the person's yet. */
export const PROVING: readonly LinkPurpose[] = ['email', 'notice']

/** Links that a new password makes void. Not the one that undoes a thief's change of the address. */
export const VOIDED_BY_PASSWORD: readonly LinkPurpose[] = [...SETS_PASSWORD, 'enrolment', ...PROVING]

/**
 * A link that was mailed to a person. It is good once, and only as long as address and security epoch stay as they were; one that takes
 * a change back is good until its end, whatever the epoch.
 */
export interface MailedLink {
  /** SHA-256 of the token. */
  hash: string
  /** Where it was sent. */
  email: string
  /** The security epoch when it was made. */
  epoch: number
  expiresAt: number
  usedAt?: number | undefined
}

/** A link that was found, with whose it is. */
export interface FoundLink extends MailedLink {
  accountId: string
  purpose: LinkPurpose
}

/** As many passwords, the present one among them, are not taken again. */
export const PASSWORDS_BARRED = 4

/** Links that are mailed to people. */
export interface MailedLinkStore {
  /**
   * Makes a link the one link of its purpose: a former one is void. False when there is no such account, it is disabled, or it has
   * another address ({@link PROVING} apart) or epoch by now.
   */
  issueLink(accountId: string, purpose: LinkPurpose, link: MailedLink, messages: Message[]): Promise<boolean>
  /** The link, used or expired ones too, or `undefined`: never made, or another has taken its place. */
  findLink(hash: string): Promise<FoundLink | undefined>
  /** The one link of this purpose, used or expired too. */
  linkOf(accountId: string, purpose: LinkPurpose): Promise<MailedLink | undefined>
  /**
   * Uses a link of purpose `enrolment` and gives its person's right to enrol to one interaction chain; a former holder's is void.
   * Once per link; the chain that holds it may say so again. It proves no factor.
   *
   * @returns false when the link is not good (any more): used by another chain, expired, of another epoch or address, or nothing
   * was reset that is still open
   */
  holdEnrolment(hash: string, right: { accountId: string; cid: string; until: number; now: number }): Promise<boolean>
}

/** Passwords that people set themselves, and the links that let them. */
export interface PasswordStore extends MailedLinkStore {
  /** Hashes of the present password, if there is one, and of those before it, newest first, {@link PASSWORDS_BARRED} at most. */
  recent(accountId: string): Promise<string[]>
  /**
   * Uses a link of {@link SETS_PASSWORD} and sets the password, all or nothing. Once per link. In the same write the security epoch
   * rises by one, the former password is remembered, and the links of {@link VOIDED_BY_PASSWORD} are void.
   *
   * @param set `name`: given by the person; the one that is there stays without it. `withdraws`: kinds of messages that are pointless now
   * @returns the epoch after the write, or `undefined` when the link is not good (any more)
   */
  setByLink(
    hash: string,
    set: { passwordHash: string; name?: string | undefined; now: number; messages: Message[]; withdraws?: string[] },
  ): Promise<{ securityEpoch: number } | undefined>
  /**
   * Takes the password away: it signs nobody in any more, and is remembered as a former one. In the same write the security epoch
   * rises by one, which voids every link. Once: false when there is no password (any more), or the account is disabled.
   */
  withdraw(accountId: string, messages: Message[]): Promise<boolean>
}

/** How a message travels. */
export type Channel = 'mail' | 'sms'

/** A message that somebody is to get. */
export interface Message {
  /** Names it for good, at every try to deliver it. Of one id there is one message. */
  id: string
  channel: Channel
  /** What it tells, for operators: `app_added`, `password_reset`, …: stable names, listed in docs/operations.md */
  kind: string
  accountId: string
  /** Where to, and what the words are made of: text that its channel reads. Stored encrypted, and gone once it has left. */
  body: string
  createdAt: number
  /** Not to leave before. */
  dueAt: number
  /** Of no use from then on: nobody tries any longer. */
  expiresAt: number
}

/** A message that one worker holds. */
export interface LeasedMessage extends Message {
  /** Which try this is, from 1. It names the lease. */
  tries: number
}

/** What became of a message, as operators see it: never what it says. */
export interface MessageState extends Omit<Message, 'body' | 'dueAt'> {
  tries: number
  /** When it is tried next; `undefined` when nobody will. */
  dueAt?: number | undefined
  sentAt?: number | undefined
  /** Why the last try came to nothing. */
  error?: string | undefined
}

/**
 * Messages on their way. Whatever is worth a message takes it along (`messages`) and keeps it in the same write, so that neither
 * is there without the other; here are those that stand alone, and the way out.
 */
export interface OutboxStore {
  /** Keeps messages. One whose id is there already, or was within 30 days, is left as it is. */
  put(messages: Message[]): Promise<void>
  /**
   * Gives one message that is due to one worker, until `until`: if it has neither left nor been put off by then, the worker
   * is taken for dead, and the message is due again. Once per try.
   */
  lease(channel: Channel, lease: { now: number; until: number }): Promise<LeasedMessage | undefined>
  /** It has left. Its body is removed, the rest is kept for 30 days. False when the lease was over and another has it. */
  sent(id: string, tries: number, now: number): Promise<boolean>
  /** It could not leave: tried again at `dueAt`, or never without one. False when the lease was over and another has it. */
  putOff(id: string, tries: number, why: { error: string; dueAt?: number | undefined; now: number }): Promise<boolean>
  /** Takes back what has not left yet, of these kinds. @returns how many */
  withdraw(accountId: string, kinds: string[]): Promise<number>
  /** Takes this one back, if it has not left yet and was put by itself. False when it has, or there is none. */
  takeBack(id: string): Promise<boolean>
  /** Newest first. */
  list(filter: { accountId?: string | undefined; limit: number }): Promise<MessageState[]>
  /** What it says, until it has left. @throws when the key ring does not open it */
  read(id: string): Promise<string | undefined>
  /** When the oldest one that has not left, tried or not, was first due; `undefined` when none is. */
  dueSince(channel: Channel, now: number): Promise<number | undefined>
}

/** Seconds that is known what became of a message. */
export const MESSAGE_KEPT = 30 * 24 * 60 * 60

/** A question that was sent to a company's identity provider. */
export interface FederationRequest {
  /** SHA-256 of the RelayState that it was sent with. */
  handle: string
  /** The `ID` that it was sent with. */
  id: string
  connectionId: string
  /** Uid of the interaction that waits for the answer. */
  interaction: string
  createdAt: number
  expiresAt: number
  /** The identity provider was asked to make the person sign in anew. */
  forceAuthn: boolean
  /** The AuthnContextClassRefs that were asked for. */
  authnContexts: string[]
}

/** One company's agreement with one identity provider, as a sign-in needs it. */
export interface Connection {
  id: string
  company: string
  /** Lower case, each one of the company's verified domains. Compared exactly. */
  domains: string[]
  /** The one client that it is for. It wins over a connection of the same domain for every client. */
  client?: string | undefined
  /** `forward`: people of the domains must come through it. `allow_password`: they may. */
  mode: 'forward' | 'allow_password'
  /** Only an active one routes people. A testing one answers test links. A disabled one ends at once what is under way. */
  state: 'draft' | 'testing' | 'active' | 'disabled'
  /** Whether it makes accounts for people who are new. They get no role. */
  jit: boolean
  /** Which statements of the identity provider count as a second factor: AuthnContextClassRefs. None by default. */
  trustedContexts: string[]
  idp: {
    entityId: string
    ssoUrl: string
    /** How it wants an AuthnRequest to arrive (SAML Bindings §3.4, §3.5). */
    binding: 'redirect' | 'post'
    /** 1 to 8; any of them may have signed. Dates are those inside, seconds since 1970. */
    certificates: { pem: string; notBefore: number; notAfter: number }[]
  }
  /** Our key pairs (PKCS #8, self-signed). The first signs; all of them decrypt. Two while one takes the other's place. */
  keys: { privateKey: string; certificate: string }[]
  nameIdFormat?: string | undefined
  /** The `Name` of the attribute that holds the e-mail address, and of the one that holds the person's name. */
  attributes: { email?: string | undefined; name?: string | undefined }
}

/** Reads connections. An app that embeds the plugin may have none. */
export interface ConnectionStore {
  /** In whatever state; `disabled` while its company is. */
  connection(id: string): Promise<Connection | undefined>
  /** The active one that people of this domain take to this client. @param domain lower case */
  connectionFor(domain: string, clientId: string): Promise<Connection | undefined>
  /** True when people of some domain take an active one to this client. */
  anyFor(clientId: string): Promise<boolean>
  /**
   * Notes that a dry run of this connection succeeded. False when there is none, or when company, domains, identity provider,
   * NameID format or attributes are others by now: of those nothing was tried. Looked at in the write itself.
   */
  recordTest?(tried: Connection, now: number): Promise<boolean>
}

/** Sign-ins at companies' identity providers, from the question to the answer. */
export interface FederationStore {
  /** Keeps a request until `expiresAt`. Its handle is new. */
  keepRequest(request: FederationRequest): Promise<void>
  /** The request, or `undefined` when there is none or it has expired. */
  findRequest(handle: string, now: number): Promise<(FederationRequest & { answered: boolean }) | undefined>
  /**
   * Claims the request and the assertion, and keeps what the assertion says, sealed, until `expiresAt`.
   *
   * Once per request, and once per (issuer, assertion id) until `usableUntil`. Whoever died on the way can do it again:
   * an assertion that was claimed for a request is good for that request until it is answered.
   *
   * @returns `answered` when the request was answered before, or is gone; `replayed` when the assertion was used for another
   */
  acceptResponse(response: {
    handle: string
    issuer: string
    assertionId: string
    usableUntil: number
    facts: string
    expiresAt: number
    now: number
  }): Promise<'accepted' | 'answered' | 'replayed'>
  /** Hands out what was kept. Once, and only to the interaction that asked: another browser uses nothing up. */
  takeFacts(handle: string, interaction: string, now: number): Promise<string | undefined>
}

/** What came of one response of an identity provider, so that somebody can say why a sign-in failed. */
export interface Trace {
  /** The reference that the person's error page shows. */
  reference: string
  connectionId: string
  at: number
  shelf: TraceShelf
  /** JSON, shortened where it speaks of a person; stored encrypted. */
  said: string
}

/** Seconds that a trace is kept. */
export const TRACE_KEPT = 7 * 24 * 60 * 60
/**
 * Where a trace stands. `unsigned`: none of the connection's certificates signed, so anybody may have posted it. Each shelf has
 * places of its own: a flood pushes out nothing that was signed, and a busy day's successes no failure.
 */
export type TraceShelf = 'accepted' | 'refused' | 'unsigned'

/** The newest so many of a connection are kept. */
export const TRACES_KEPT: Readonly<Record<TraceShelf, number>> = { accepted: 100, refused: 200, unsigned: 100 }

/** The last sign-ins of each connection. */
export interface TraceStore {
  /**
   * Keeps it for {@link TRACE_KEPT}, and no more than {@link TRACES_KEPT} of its connection. The first of a reference stays: an
   * app that takes its request ids from outside may give one twice.
   */
  keep(trace: Trace): Promise<void>
  /** The trace, until its time is over. */
  find(reference: string, now: number): Promise<Trace | undefined>
  /** Those of a connection, newest first. */
  list(connectionId: string, now: number): Promise<Trace[]>
}

/** A person as an identity provider names them to one company. */
export interface FederatedName {
  company: string
  /** The identity provider's entity ID. */
  issuer: string
  /** The Format of the NameID, and its value. */
  format: string
  name: string
}

/** Which of a company's people are which of ours. */
export interface LinkStore {
  /** The account that this name was linked to. */
  find(name: FederatedName): Promise<string | undefined>
  /**
   * Links a name to an account. Once: a name has one account, and an account has one name at one identity provider of a
   * company. A link that stands stays as it is.
   *
   * @param along what tells of a new link, and the kinds of messages that it makes pointless. Whoever dies in the middle has not made
   * a link that nobody is told of
   * @returns `linked` for the one caller that made the link; `known` when just this link stood already; `taken` when the name
   * belongs to another account, or the account to another name
   */
  link(
    name: FederatedName,
    accountId: string,
    now: number,
    along?: { messages?: Message[]; withdraws?: readonly string[] },
  ): Promise<'linked' | 'known' | 'taken'>
  /** Whether the account has a name at this identity provider of the company. By e-mail alone it opens no more. */
  isNamed(accountId: string, at: Pick<FederatedName, 'company' | 'issuer'>): Promise<boolean>
  /** Forgets every name of this account. @returns how many there were */
  unlinkAll(accountId: string): Promise<number>
}

/** Makes accounts for people who come for the first time. An app without it has none made. */
export interface PeopleStore {
  /**
   * Makes a person without password and roles who is a member of this company. Once per address.
   * @returns `undefined` when the address is somebody's already, or the company is disabled or gone
   */
  create(person: { email: string; name?: string | undefined; company: string }): Promise<Account | undefined>
}

/**
 * What one person lets one app do. A permission is the name of an OpenID scope (`email`), `claim <name>` for a claim asked
 * for by itself, or `<API> <scope>` for a scope of an API.
 */
export interface Consent {
  clientId: string
  permissions: string[]
  /** When the first of them was given, seconds since 1970. */
  since: number
}

/** What people agreed to. First parties are agreed to by their registration and do not stand here. */
export interface ConsentStore {
  /** Adds permissions to what was agreed before. Two at once: both stand. */
  remember(accountId: string, clientId: string, permissions: string[], now: number): Promise<void>
  /** What was agreed with this app, or `undefined`. */
  find(accountId: string, clientId: string): Promise<Consent | undefined>
  /** All that this person agreed to, by client id. */
  list(accountId: string): Promise<Consent[]>
  /** Forgets what was agreed with this app. False when there was nothing. */
  forget(accountId: string, clientId: string): Promise<boolean>
}

/** Something that happened to a person, a factor, a session or the configuration. Never holds a secret. */
export interface AuditEvent {
  /** `login.password`, `mfa.otp`, `recovery_code.reserved`, …: stable names, listed in docs/operations.md */
  event: string
  outcome: 'success' | 'failure'
  at: number
  /** Who acted: an account id, `operator` at the command line, or nobody yet. */
  actor?: string | undefined
  /** Whom it is about. */
  accountId?: string | undefined
  clientId?: string | undefined
  /** Interaction chain: the same from the first page to the last. */
  cid?: string | undefined
  /** Correlates with the request's log lines. */
  requestId?: string | undefined
  ip?: string | undefined
  userAgent?: string | undefined
  /** Why: the policy's reasons, or the error code. */
  reasons?: string[] | undefined
  /** SHA-256 of the session id, so that rows of one session belong together and open nothing. */
  session?: string | undefined
  details?: Record<string, string | number | boolean | string[] | null> | undefined
}

/** Append-only. */
export interface AuditStore {
  append(event: AuditEvent): Promise<void>
}

/** A row of oidc-provider's: a session, an interaction, a code, a token, a grant. */
export interface Artifact {
  /** The library's model name, `Session`, `AuthorizationCode`, … */
  model: string
  /** What the row is found by; for bearer values the SHA-256 of what the bearer holds. */
  key: string
  payload: Record<string, unknown>
  /** `undefined`: never. */
  expiresAt: number | undefined
  uid?: string | undefined
  grantId?: string | undefined
  accountId?: string | undefined
  /** SHA-256 of the user code (device flow). */
  userCode?: string | undefined
  /** When it was used up. */
  consumedAt?: number | undefined
}

/** The rows of oidc-provider, with the three duties that the library leaves to its adapter. */
export interface ArtifactStore {
  /**
   * Inserts or replaces, keeping `consumedAt`. A destroyed `Session` or `Interaction` does not come back: a slower
   * request that writes it changes nothing. For the model `Session` besides:
   * - what was authorized on a destroyed key, before or by a late writer, goes to the row that has its `uid` now or next;
   * - `payload.authorizations` of the stored row is kept where the new payload lacks it;
   * both only if account, sign-in (`payload.created`) and security epoch (`payload.epoch`) are the same, and only what
   * its `Grant` still stands for: signing out of one app revokes that.
   */
  save(artifact: Artifact): Promise<void>
  /** The row, consumed ones too, until `expiresAt` + 15 s (the library's clock tolerance). A fresh object each time. */
  find(model: string, key: string, now: number): Promise<Artifact | undefined>
  findByUid(model: string, uid: string, now: number): Promise<Artifact | undefined>
  findByUserCode(model: string, userCode: string, now: number): Promise<Artifact | undefined>
  /**
   * Uses the row up. Once: false for every caller but the first, and when there is no such row.
   *
   * @param options.ahead it may answer as soon as nobody else can use the row, before the disk has that: no answer may
   * leave then before {@link onDisk}
   */
  consume(model: string, key: string, at: number, options?: { ahead?: boolean }): Promise<boolean>
  /** Resolves when the disk has all that was answered before. */
  onDisk(): Promise<void>
  /**
   * Removes the row. The key of a session or an interaction stays known as destroyed for an hour.
   * Once: false for every caller but the first, and when there was no such row.
   */
  destroy(model: string, key: string, now: number): Promise<boolean>
  /**
   * Ends a session for good: every row of this `uid` goes, and for an hour none is saved again, under whatever key.
   * `destroy` alone is what the library does when it renames a session.
   */
  endSession(uid: string, now: number): Promise<void>
  /** The `Session` rows of this person, until `expiresAt` + 15 s. */
  sessionsOf(accountId: string, now: number): Promise<Artifact[]>
  /** Removes all rows of this model that came from this grant. */
  revokeByGrantId(model: string, grantId: string): Promise<void>
  /** Removes every `Grant` of this person to this app (`payload.clientId`) and all rows, of any model, that came from one. */
  revokeGrants(accountId: string, clientId: string): Promise<void>
}

/** Encrypts what is stored, bound to the place it belongs to: a sealed value moved to another owner does not open. */
export interface Sealer {
  /** AES-256-GCM, random nonce; additional data = `v1 | purpose | owner | record | key id`. Never names of tables. */
  seal(place: SealedPlace, plaintext: string): string
  /** @throws when the value was changed, belongs to another place, or its key is not on the ring */
  open(place: SealedPlace, sealed: string): string
  /** True when the value was sealed under a key that is no longer the newest. */
  isStale(sealed: string): boolean
}

/** Whose secret it is. */
export interface SealedPlace {
  purpose: string
  owner: string
  record?: string | undefined
}

/** Everything the plugin needs. One database usually implements all of it. */
export interface Stores {
  accounts: AccountStore
  factors: FactorStore
  throttle: ThrottleStore
  devices: DeviceStore
  pending: PendingStore
  consents: ConsentStore
  federation: FederationStore
  traces: TraceStore
  links: LinkStore
  outbox: OutboxStore
  audit: AuditStore
  artifacts: ArtifactStore
}

/** The database cannot answer: locked, full, gone. Nothing was half-written. The answer is a 503 page. */
export class StoreUnavailable extends Error {
  override readonly name = 'StoreUnavailable'
}
