/**
 * What only the server needs of a database: the directory of people and companies, registered clients, signing keys,
 * and reading the audit. The plugin's own stores are in interactions/kit/stores.ts; same rules, same units.
 */
import type { AuditEvent, Membership, MembershipRole, ServerRole, Side, Stores } from '../interactions/kit/stores.ts'

/** A customer company. */
export interface Company {
  id: string
  name: string
  side: Side
  /** Verified e-mail domains, lower case. */
  domains: string[]
  disabled: boolean
  /** A second factor is demanded of everybody from this date on, in this zone. */
  mfa?: { enforced_from: string; zone: string } | undefined
  /** What its people are told who lost phone and recovery code: one line of plain text. */
  help?: string | undefined
}

/** A person as the directory keeps them. Never holds the password hash or a factor's secret. */
export interface User {
  id: string
  /** Normalised: lower case, no spaces around it. Unique. */
  email: string
  name?: string | undefined
  disabled: boolean
  memberships: { company: string; roles: MembershipRole[]; disabled: boolean }[]
  serverRoles: ServerRole[]
  alwaysRequire2fa: boolean
  hasPassword: boolean
  securityEpoch: number
  factors: { method: string; addedAt: number }[]
  recoveryCode: 'none' | 'unacknowledged' | 'acknowledged'
  createdAt: number
}

/** A registered relying party: OIDC client metadata, with `sallyport` as our own part. The secret is stored encrypted. */
export interface Client {
  client_id: string
  client_secret?: string | undefined
  [metadata: string]: unknown
}

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

/** One difference between what is stored and what was asked for. */
export type Change =
  | { kind: 'company'; op: 'put'; value: Company }
  | { kind: 'company'; op: 'remove'; id: string }
  | {
      kind: 'user'
      op: 'put'
      value: Pick<User, 'id' | 'email' | 'name' | 'disabled' | 'memberships' | 'serverRoles'>
      /** Sets the password and raises the epoch. `undefined`: unchanged. */
      passwordHash?: string | undefined
    }
  | { kind: 'user'; op: 'remove'; id: string }
  | { kind: 'client'; op: 'put'; value: Client }
  | { kind: 'client'; op: 'remove'; id: string }
  | { kind: 'resource'; op: 'put'; value: Resource }
  | { kind: 'resource'; op: 'remove'; id: string }

/** People, companies, clients and APIs. */
export interface DirectoryStore {
  companies(): Promise<Company[]>
  company(id: string): Promise<Company | undefined>
  users(): Promise<User[]>
  /** By id or by normalised e-mail address. */
  user(idOrEmail: string): Promise<User | undefined>
  clients(): Promise<Client[]>
  client(clientId: string): Promise<Client | undefined>
  resources(): Promise<Resource[]>
  /**
   * Writes all changes or none. Disabling a user raises their epoch; a changed password too.
   * @throws {StoreConflict} when two users would share an e-mail address, or a membership names no company
   */
  commit(changes: Change[]): Promise<void>
  /** Removes every factor and the recovery code, raises factor version and security epoch. False when there is no such user. */
  resetMfa(accountId: string): Promise<boolean>
}

/** A change that contradicts what is stored. The message says what and where. */
export class StoreConflict extends Error {
  override readonly name = 'StoreConflict'
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

/** Reads the audit. */
export interface AuditReader {
  /** Newest first. */
  auditRows(filter?: { accountId?: string; event?: string; limit?: number }): Promise<AuditRow[]>
  /** Recomputes every chain. @returns the first broken row, or `undefined` when all are whole */
  verifyAudit(): Promise<{ rows: number; broken?: { writer: string; number: number; why: string } | undefined }>
}

/** A database, opened. */
export interface Database extends Stores {
  directory: DirectoryStore
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

export type { Membership, MembershipRole, ServerRole, Side }
