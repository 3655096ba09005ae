/**
 * What only the server needs of a database: the directory of people and companies, registered clients, signing keys,
 * and reading the audit. The plugin's own stores are in interactions/kit/stores.ts; same rules, same units.
 */
import { isDeepStrictEqual } from 'node:util'
import type {
  Artifact,
  AuditEvent,
  CompanyRules,
  Connection,
  ConnectionStore,
  FactorReset,
  FederatedName,
  FederationRequest,
  FormerSecret,
  LinkPurpose,
  MailedLink,
  Membership,
  MembershipRole,
  Message,
  Method,
  PasswordStore,
  RecoveryCodeState,
  ServerRole,
  Side,
  Stores,
  ThrottleState,
  Trace,
} from '../interactions/kit/stores.ts'

/** A customer company. */
export interface Company {
  id: string
  name: string
  side: Side
  /** Verified e-mail domains, lower case. */
  domains: string[]
  disabled: boolean
  /** A second factor is demanded of everybody from this date on, in this zone; `sso`: of who came by its connection too. */
  mfa?: { enforced_from: string; zone: string; sso?: 'challenge' | undefined } | undefined
  /** What its people are told who lost phone and recovery code: one line of plain text. */
  help?: string | undefined
  /** What else it demands of its people. Without a key that demands nothing. */
  rules?: CompanyRules | undefined
}

/** A person as the directory keeps them. Never holds the password hash or a factor's secret. */
export interface User {
  id: string
  /** Normalised: lower case, no spaces around it. Unique. */
  email: string
  /** A second address, proven, that gets every letter of what happened. */
  noticeEmail?: string | undefined
  name?: string | undefined
  disabled: boolean
  memberships: { company: string; roles: MembershipRole[]; disabled: boolean }[]
  serverRoles: ServerRole[]
  alwaysRequire2fa: boolean
  hasPassword: boolean
  /** It was taken away: a link brings a new one, a seed file does not. */
  passwordWithdrawn: boolean
  securityEpoch: number
  factors: { method: string; addedAt: number }[]
  recoveryCode: 'none' | 'unacknowledged' | 'acknowledged'
  createdAt: number
}

/** A registered relying party: OIDC client metadata, with `sallyport` as our own part. Secrets are stored encrypted. */
export interface Client {
  client_id: string
  client_secret?: string | undefined
  /** Secrets that were replaced and are still good for a while. Only beside a `client_secret`. */
  former_secrets?: FormerSecret[] | undefined
  [metadata: string]: unknown
}

/** The former secrets of a client that are still good. `now` in seconds since 1970. */
export const goodFormer = ({ former_secrets = [] }: Client, now: number): FormerSecret[] =>
  former_secrets.filter(({ until }) => now < until)

/** An API that takes access tokens (RFC 8707). */
export interface Resource {
  id: string
  name: string
  scopes: string[]
  /** `jwt`, the default: the API verifies tokens itself (RFC 9068). `opaque`: it asks introspection (RFC 7662). */
  token_format?: 'jwt' | 'opaque' | undefined
  /** The client that the API itself is: it may introspect tokens made for it. */
  client?: string | undefined
  /** Clients that may get tokens for themselves (RFC 6749 §4.4). */
  service_clients?: string[] | undefined
}

/** What of a connection a change writes. Our key pairs and what happened to it are the store's. */
export type WrittenConnection = Omit<Connection, 'keys'> & {
  /** Where its identity provider publishes its metadata. Read when an administrator says so. */
  metadataUrl?: string | undefined
}

/** A connection as the directory keeps it. Never holds a private key. */
export type StoredConnection = WrittenConnection & {
  /** Of our key pairs, the one that signs first. */
  keys: { certificate: string }[]
  /** When a dry run with the present identity provider last succeeded, seconds since 1970. */
  testedAt?: number | undefined
}

/** The part of a connection that a change writes, without keys that say nothing. */
export function writtenConnection(connection: WrittenConnection | StoredConnection): WrittenConnection {
  const { keys: _keys, testedAt: _testedAt, ...written } = connection as StoredConnection
  return JSON.parse(JSON.stringify(written)) as WrittenConnection
}

/** What a dry run tries. */
export type Tried = Pick<Connection, 'company' | 'domains' | 'idp' | 'nameIdFormat' | 'attributes'>

/** Whether a dry run of the one says something of the other: the same answers of the same identity provider are taken. */
export const testedAlike = (one: Tried, other: Tried): boolean =>
  isDeepStrictEqual(
    ...([one, other].map(({ company, domains, idp, nameIdFormat, attributes }) => ({
      company,
      domains,
      idp,
      nameIdFormat,
      attributes,
    })) as [object, object]),
  )

/**
 * What must hold of all connections together. Every database looks at it in the commit itself.
 *
 * @param connections those that there are after the commit
 * @param domainsOf the verified domains of a company after the commit; `undefined`: there is no such company
 * @param isClient whether there is such a client after the commit
 * @throws {StoreConflict}
 */
export function checkConnections(
  connections: Iterable<WrittenConnection>,
  domainsOf: (company: string) => string[] | undefined,
  isClient: (id: string) => boolean,
): void {
  const owners = new Map<string, string>()
  const issuers = new Map<string, WrittenConnection>()
  for (const connection of connections) {
    const { id, company, client, domains, state, idp } = connection
    const verified = domainsOf(company)
    if (!verified) throw new StoreConflict(`connection "${id}" is of company "${company}", which does not exist`)
    if (client !== undefined && !isClient(client))
      throw new StoreConflict(`connection "${id}" is for client "${client}", which does not exist`)
    const other = issuers.get(idp.entityId)
    if (other && other.company !== company)
      throw new StoreConflict(
        `connection "${id}": the identity provider's entityID is that of another company's connection, "${other.id}"`,
      )
    issuers.set(idp.entityId, connection)
    // A disabled one holds no domain: another one may take its place, and it cannot come back beside that.
    if (state === 'disabled') continue
    const foreign = domains.find((domain) => !verified.includes(domain))
    if (foreign !== undefined)
      throw new StoreConflict(
        `connection "${id}": ${foreign} is no verified domain of company "${company}": \`sallyport company verify-domain\` proves it`,
      )
    for (const domain of domains) {
      const place = JSON.stringify([domain, client])
      const owner = owners.get(place)
      if (owner !== undefined)
        throw new StoreConflict(
          `connection "${id}": ${domain} is taken by connection "${owner}"${client === undefined ? '' : ` for client "${client}"`}: disable that one first`,
        )
      owners.set(place, id)
    }
  }
}

/** What of a person a change writes. */
export type WrittenUser = Pick<User, 'id' | 'email' | 'name' | 'disabled' | 'memberships' | 'serverRoles'>

/** The part of a person that a change writes, memberships in the order of their companies. */
export const writtenOf = ({ id, email, name, disabled, memberships, serverRoles }: WrittenUser): WrittenUser => ({
  id,
  email,
  ...(name !== undefined && { name }),
  disabled,
  memberships: [...memberships].sort((a, b) => (a.company < b.company ? -1 : 1)),
  serverRoles,
})

/**
 * What was stored when a change was planned, `null` for nothing. The commit is refused when something else is stored by
 * then: nobody's change is lost. Left out: whatever is stored is written over.
 */
interface Planned<Thing> {
  was?: Thing | null | undefined
}

/** One difference between what is stored and what was asked for. */
export type Change =
  | ({ kind: 'company'; op: 'put'; value: Company } & Planned<Company>)
  | { kind: 'company'; op: 'remove'; id: string }
  | ({
      kind: 'user'
      op: 'put'
      value: WrittenUser
      /** Sets the password and raises the epoch. `undefined`: unchanged. */
      passwordHash?: string | undefined
      /** Who is told: kept by the same commit. */
      messages?: Message[] | undefined
      /** The link of an invitation, for a person who is not there yet. */
      welcome?: MailedLink | undefined
      /** The link that takes this change of the address back: the one of its purpose. Without one such a change voids the former. */
      undo?: MailedLink | undefined
      /** Nothing that somebody else may have set stays: raises the epoch, takes the password away, drops the second address. */
      recovers?: boolean | undefined
    } & Planned<WrittenUser>)
  | { kind: 'user'; op: 'remove'; id: string }
  | ({ kind: 'client'; op: 'put'; value: Client } & Planned<Client>)
  | { kind: 'client'; op: 'remove'; id: string }
  | ({ kind: 'resource'; op: 'put'; value: Resource } & Planned<Resource>)
  | { kind: 'resource'; op: 'remove'; id: string }
  | ({
      kind: 'connection'
      op: 'put'
      value: WrittenConnection
      /** Our first key pair: taken where there is no connection of this id yet. */
      firstKey?: Connection['keys'][number] | undefined
    } & Planned<WrittenConnection>)
  | { kind: 'connection'; op: 'remove'; id: string }

/** A part of a long list: the first `limit` whose address comes after this one. */
export interface UsersPart {
  after: string
  limit: number
}

/** People, companies, clients and APIs. */
export interface DirectoryStore {
  companies(): Promise<Company[]>
  company(id: string): Promise<Company | undefined>
  /** By e-mail address, in the order of its bytes. */
  users(part?: UsersPart): Promise<User[]>
  /** By id or by normalised e-mail address. */
  user(idOrEmail: string): Promise<User | undefined>
  clients(): Promise<Client[]>
  /** Not to be changed: it may be the object of the call before, as long as nothing has changed. */
  client(clientId: string): Promise<Readonly<Client> | undefined>
  resources(): Promise<Resource[]>
  /** By id. */
  connections(): Promise<StoredConnection[]>
  connection(id: string): Promise<StoredConnection | undefined>
  /**
   * Writes all changes or none. Disabling a user raises their epoch; a changed password too.
   * @throws {StoreConflict} when two users would share an e-mail address, a membership names no company, a connection would
   *   move to another company, or {@link checkConnections} says so
   * @throws {ChangedMeanwhile} when something else is stored than a change was planned from
   */
  commit(changes: Change[]): Promise<void>
  /**
   * Removes every factor and the recovery code, raises factor version and security epoch, and notes the reset, open
   * ({@link FactorReset}). False when there is no such user.
   * @param reset `messages`: who is told, kept by the same write; `factorVersion`: as it was read. Once for each: false when it
   *   is another one by now
   */
  resetMfa(accountId: string, reset: { now: number; messages?: Message[]; factorVersion?: number }): Promise<boolean>
  /**
   * Shuts a person out, which raises their epoch, or lets them in again. Once: false when they were so already, and when
   * there is no such user.
   */
  setDisabled(accountId: string, disabled: boolean): Promise<boolean>
  /**
   * Removes one factor, and with the last one the recovery code; raises factor version and security epoch. Once per factor version:
   * false when that or the epoch has been raised since it was read, or there is no such factor.
   */
  removeFactor(
    accountId: string,
    removal: { method: Method; factorVersion: number; securityEpoch: number; messages: Message[] },
  ): Promise<boolean>
  /** Sets "Always require 2FA". Once: false when it was so already. */
  setAlwaysRequire2fa(accountId: string, always: boolean, messages: Message[]): Promise<boolean>
  /**
   * Makes the address that this link proved the person's second one. Once per link: false when it is used or expired, of another epoch,
   * or there is no such link.
   */
  takeNoticeEmail(hash: string, now: number, messages: Message[]): Promise<boolean>
  /** Removes the second address. Once: false when it is another one by now. */
  dropNoticeEmail(accountId: string, email: string, messages: Message[]): Promise<boolean>
  /**
   * Ends what was proven before: sessions, refresh tokens, half-finished sign-ins. False when there is no such user.
   * @param from the epoch as it was read. Once for each: false when it is another one by now
   */
  raiseEpoch(accountId: string, from?: number): Promise<boolean>
  /**
   * Gives a connection these key pairs in place of those. Once: false when it has others than `before`, told by their
   * certificates, and when there is no such connection.
   */
  replaceConnectionKeys(id: string, before: { certificate: string }[], after: Connection['keys']): Promise<boolean>
  /**
   * Notes that a dry run succeeded. A change of what it tried voids it ({@link testedAlike}). False when there is no such
   * connection, or what was tried is not what it is now.
   */
  recordTest(tried: Tried & { id: string }, now: number): Promise<boolean>
}

/** A change that contradicts what is stored. The message says what and where. */
export class StoreConflict extends Error {
  override readonly name: string = 'StoreConflict'
}

/** Somebody else changed the same thing since it was read: plan again. */
export class ChangedMeanwhile extends StoreConflict {
  override readonly name = 'ChangedMeanwhile'
}

/** Which of the two it is. By name: the database may have been opened by another copy of this module. */
export const isConflict = (error: unknown): boolean => error instanceof Error && error.name === 'StoreConflict'
export const isChangedMeanwhile = (error: unknown): boolean =>
  error instanceof Error && error.name === 'ChangedMeanwhile'

/**
 * @param stored what is stored now, as the directory reads it; of a person what {@link writtenOf} says
 * @throws {ChangedMeanwhile} when the change was planned from something else
 */
export function refuseIfChanged({ kind, value, was }: Change & { op: 'put' }, stored: object | undefined): void {
  if (was === undefined || isDeepStrictEqual(was ?? undefined, stored)) return
  const name = 'email' in value ? value.email : 'client_id' in value ? value.client_id : value.id
  throw new ChangedMeanwhile(`${kind} "${name}" was changed by somebody else just now: look again and repeat`)
}

/** A token-signing key. */
export interface SigningKey {
  kid: string
  /** Private JWK, or a set of them for several algorithms (RFC 7517 §5), as JSON; stored encrypted. */
  privateJwk: string
  createdAt: number
  /** `next`: published ahead; `active`: signs; `retired`: published so that issued tokens still verify. */
  state: 'next' | 'active' | 'retired'
  /** Of a `next` key: from when on it may sign. */
  activatesAt?: number | undefined
  /** Of a `retired` key: when it stopped to sign. */
  retiredAt?: number | undefined
}

/** A key that is about to be stored. */
export type NewSigningKey = Pick<SigningKey, 'kid' | 'privateJwk' | 'createdAt'>

/** The keys that sign tokens: one `active` at the most, and one `next`. */
export interface SigningKeyStore {
  /** Newest first. */
  signingKeys(): Promise<SigningKey[]>
  /** Adds a key as `active`. Once: only where there is no key at all. */
  addFirstSigningKey(key: NewSigningKey): Promise<boolean>
  /** Adds a key as `next`. Once: false while another one is. */
  publishSigningKey(key: NewSigningKey, activatesAt: number): Promise<boolean>
  /** Makes the `next` key of this id the `active` one and retires the one before, in one write. Once. */
  activateSigningKey(kid: string, now: number): Promise<boolean>
  /** Removes a key that does not sign. Once; false for the active one. */
  removeSigningKey(kid: string): Promise<boolean>
}

/** A stored audit row. */
export interface AuditRow extends AuditEvent {
  /** Order of arrival over all writers. */
  id: number
  /** The writing process and the number of the row in its chain: gapless. */
  writer: string
  number: number
  /** SHA-256 over `previous` and the row's body, hex. */
  hash: string
  previous: string
}

/** A row of a chain, as one who only wants to know later whether it is still there remembers it. */
export type AuditHead = Pick<AuditRow, 'writer' | 'number' | 'hash'>

/** Reads the audit. */
export interface AuditReader {
  /** Newest first. `since`: seconds since 1970. */
  auditRows(filter?: { accountId?: string; event?: string; since?: number; limit?: number }): Promise<AuditRow[]>
  /**
   * Oldest first, a page at a time, so that any number of them takes little memory. With `body`, the text that the hash is
   * over: `hash` = SHA-256 of `previous`, a line feed and `body`.
   *
   * @param filter `from` ≤ time < `to`, seconds since 1970
   */
  auditFromTheBeginning(filter?: {
    accountId?: string
    from?: number
    to?: number
  }): AsyncIterable<AuditRow & { body: string }>
  /** The last row of each chain that has grown behind the row `after` (its `id`). Without it, of every chain. */
  auditHeads(after?: number): Promise<AuditHead[]>
  /**
   * Recomputes every chain.
   *
   * @param known rows that were there once, and must be there still
   * @returns the first broken row, or `undefined` when all are whole
   */
  verifyAudit(
    known?: readonly AuditHead[],
  ): Promise<{ rows: number; broken?: { writer: string; number: number; why: string } | undefined }>
}

/**
 * What a whole deployment is made of, kind by kind, in words that no database owns. Sealed values stay sealed: what binds
 * them to their place names no database either. Times are seconds since 1970; `expiresAt`: when the row may go.
 */
export interface Rows {
  companies: Company
  /** `metadata` is JSON. `secret` is sealed. */
  clients: { id: string; metadata: string; secret?: string | undefined }
  /** `options` is JSON. */
  resources: { id: string; name: string; scopes: string[]; options: string }
  people: Pick<
    User,
    | 'id'
    | 'email'
    | 'noticeEmail'
    | 'name'
    | 'disabled'
    | 'memberships'
    | 'serverRoles'
    | 'alwaysRequire2fa'
    | 'securityEpoch'
    | 'createdAt'
  > & {
    passwordHash?: string | undefined
    /** Hashes of the passwords before it, newest first. */
    formerPasswords?: string[] | undefined
    mailedLinks?: Partial<Record<LinkPurpose, MailedLink>> | undefined
    factorVersion: number
    /** `secret` is sealed; `lastStep` is used up. */
    totp?: { secret: string; lastStep: number; addedAt: number } | undefined
    /** `number` is sealed. */
    phone?: { number: string; addedAt: number; usedAt: number } | undefined
    recoveryCode?: (RecoveryCodeState & { hash?: string | undefined }) | undefined
    factorReset?: FactorReset | undefined
  }
  /** `settings` is JSON: all that is written of it and has no field here. `keys` is sealed. */
  connections: {
    id: string
    company: string
    client?: string | undefined
    state: Connection['state']
    domains: string[]
    settings: string
    keys: string
    testedAt?: number | undefined
  }
  /** `privateJwk` is sealed. */
  signing_keys: SigningKey
  consents: { account: string; client: string; permissions: string[]; since: number }
  /** What companies' identity providers call our people. */
  links: FederatedName & { account: string; since: number }
  devices: { device: string; account: string; lastUsed: number; expiresAt: number }
  throttles: ThrottleState & { key: string; expiresAt?: number | undefined }
  /** `value` is sealed. */
  pending: { owner: string; purpose: string; value: string; expiresAt: number }
  /** oidc-provider's: sessions, interactions, codes, tokens, grants. `payload` is JSON. */
  artifacts: Omit<Artifact, 'payload'> & { payload: string }
  /** Keys of sessions and interactions that were destroyed, with what a session leaves to its successor (`payload`, JSON). */
  tombstones: { key: string; uid?: string | undefined; payload?: string | undefined; expiresAt: number }
  ended_sessions: { uid: string; expiresAt: number }
  /** `facts` is sealed. */
  federation_requests: FederationRequest & { answered: boolean; facts?: string | undefined }
  /** `said` is sealed. */
  federation_traces: Trace & { expiresAt: number }
  used_assertions: { issuer: string; assertionId: string; handle: string; expiresAt: number }
  /** `body` is sealed; none once it has left. `dueAt`: none when nobody tries any longer. `expiresAt`: when the row may go. */
  outbox: Omit<Message, 'body' | 'dueAt' | 'expiresAt'> & {
    body?: string | undefined
    firstDue: number
    dueAt?: number | undefined
    usableUntil: number
    tries: number
    sentAt?: number | undefined
    error?: string | undefined
    expiresAt: number
  }
  /** `body` is what the hash is over. `position` only gives the order of arrival. */
  audit: Pick<AuditRow, 'writer' | 'number' | 'event' | 'accountId' | 'at' | 'hash' | 'previous'> & {
    body: string
    position: number
  }
}

/** What {@link Rows} are there. */
export type Kind = keyof Rows

/** Every kind, in the order in which they are copied: what others name comes first, the audit last. */
export const KINDS: readonly Kind[] = Object.keys({
  companies: true,
  clients: true,
  resources: true,
  people: true,
  connections: true,
  signing_keys: true,
  consents: true,
  links: true,
  devices: true,
  throttles: true,
  pending: true,
  artifacts: true,
  tombstones: true,
  ended_sessions: true,
  federation_requests: true,
  used_assertions: true,
  federation_traces: true,
  outbox: true,
  audit: true,
} satisfies Record<Kind, true>) as Kind[]

/** A database that is copied from. Nothing in it is written, not even to bring it up to date. */
export interface CopySource {
  /** Some rows behind the place `after`, in an order that stays. @returns the place of the last one; `undefined`: no more */
  read<K extends Kind>(kind: K, after: string | undefined): Promise<{ rows: Rows[K][]; next: string | undefined }>
  count(kind: Kind): Promise<number>
  /** A text that is another one when somebody has written meanwhile, as far as that can be seen. */
  mark(): Promise<string>
  close(): Promise<void>
}

/** A database that is copied to. From `claim` to `finish` no server opens it. */
export interface CopyTarget extends CopySource {
  /**
   * Takes the database for one copy. One that another copy of the same source began is gone on with; that one's next
   * `write` fails.
   *
   * @returns what the last `write` said of its progress, or `undefined`
   * @throws {StoreConflict} when it holds anything else
   */
  claim(owner: string, source: string): Promise<string | undefined>
  /**
   * Writes rows; those that are there already are written over, not doubled.
   * @throws {StoreConflict} when another copy has taken the database, or two rows want what is unique
   */
  write<K extends Kind>(kind: K, rows: Rows[K][], claim: { owner: string; progress: string }): Promise<void>
  /** Removes all rows of a kind, so that they are copied once more. The audit stays: it only grows. */
  clear(kind: Kind, claim: { owner: string; progress: string }): Promise<void>
  /** Lets servers in. @throws {StoreConflict} as `write`, or when a row names one that is not there */
  finish(owner: string): Promise<void>
}

/** A database, opened. */
export interface Database extends Stores {
  directory: DirectoryStore
  connections: ConnectionStore
  passwords: PasswordStore
  signingKeys: SigningKeyStore
  auditReader: AuditReader
  /** Answers a trivial read. @throws when the database does not answer */
  ping(): Promise<void>
  /** Removes what has expired. @returns how many rows */
  sweep(now: number): Promise<number>
  /** Re-encrypts everything that an older key of the ring sealed. @returns how many values */
  rewrap(): Promise<number>
  /** Says whether the file or server is whole: one line per problem. */
  check(): Promise<string[]>
  close(): Promise<void>
}

export type { CompanyRules, Connection, FormerSecret, Membership, MembershipRole, ServerRole, Side }
