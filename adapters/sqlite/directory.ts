import type {
  CompanyRules,
  Message,
  Method,
  Connection as SamlConnection,
  Sealer,
  ServerRole,
  Side,
} from '../../interactions/kit/stores.ts'
import {
  type Change,
  type Client,
  type Company,
  type DirectoryStore,
  type Resource,
  refuseIfChanged,
  StoreConflict,
  type StoredConnection,
  type Tried,
  type User,
  type UsersPart,
  writtenOf,
} from '../../server/stores.ts'
import { secretsFrom, secretsText } from '../client-secrets.ts'
import type { SqliteConnections } from './connections.ts'
import { type Connection, isDuplicate, type Row, type Value } from './driver.ts'
import type { SqliteOutbox } from './outbox.ts'
import { nowFormer } from './passwords.ts'

const placeOf = (owner: string) => ({ purpose: 'client_secret', owner })

const TABLE_OF = { otp: 'totp', sms: 'phones' } as const

/** As many parsed clients are kept in memory. */
const CLIENTS_KNOWN = 1000

const USERS = `
  SELECT a.*, t.added_at AS otp_at, p.added_at AS sms_at, r.acknowledged,
    (SELECT json_group_array(json_object('company', m.company_id, 'roles', json(m.roles), 'disabled', m.disabled))
      FROM memberships m WHERE m.account_id = a.id) AS memberships
  FROM accounts a LEFT JOIN totp t ON t.account_id = a.id LEFT JOIN phones p ON p.account_id = a.id
    LEFT JOIN recovery_codes r ON r.account_id = a.id`

/** People, companies, clients and APIs. */
export class SqliteDirectory implements DirectoryStore {
  readonly #connection: Connection
  readonly #sealer: Sealer
  readonly #connections: SqliteConnections
  readonly #outbox: SqliteOutbox
  /** Clients that were read, opened and parsed before; each counts as long as its row says the same. */
  readonly #known = new Map<string, { metadata: Value; secret: Value; client: Client }>()

  constructor(connection: Connection, sealer: Sealer, connections: SqliteConnections, outbox: SqliteOutbox) {
    this.#connection = connection
    this.#sealer = sealer
    this.#connections = connections
    this.#outbox = outbox
  }

  async companies(): Promise<Company[]> {
    return this.#connection.all('SELECT * FROM companies ORDER BY id').map(companyOf)
  }

  async company(id: string): Promise<Company | undefined> {
    const row = this.#connection.get('SELECT * FROM companies WHERE id = ?', id)
    return row && companyOf(row)
  }

  async users(part?: UsersPart): Promise<User[]> {
    const rows = part
      ? this.#connection.all(`${USERS} WHERE a.email > ? ORDER BY a.email LIMIT ?`, part.after, part.limit)
      : this.#connection.all(`${USERS} ORDER BY a.email`)
    return rows.map(userOf)
  }

  async user(idOrEmail: string): Promise<User | undefined> {
    const row = this.#connection.get(`${USERS} WHERE a.id = ?1 OR a.email = ?1`, idOrEmail)
    return row && userOf(row)
  }

  async clients(): Promise<Client[]> {
    return this.#connection.all('SELECT * FROM clients ORDER BY client_id').map((row) => this.#clientOf(row))
  }

  async client(clientId: string): Promise<Client | undefined> {
    const [row] = this.#connection.settled('SELECT * FROM clients WHERE client_id = ?', clientId)
    if (!row) return undefined
    const { metadata, secret } = row as Record<'metadata' | 'secret', Value>
    const known = this.#known.get(clientId)
    if (known?.metadata === metadata && known.secret === secret) return known.client
    const client = Object.freeze(this.#clientOf(row))
    if (this.#known.size >= CLIENTS_KNOWN) this.#known.clear()
    this.#known.set(clientId, { metadata, secret, client })
    return client
  }

  async resources(): Promise<Resource[]> {
    return this.#connection.settled('SELECT * FROM resources ORDER BY id').map(resourceOf)
  }

  async connections(): Promise<StoredConnection[]> {
    return this.#connections.list()
  }

  async connection(id: string): Promise<StoredConnection | undefined> {
    return this.#connections.stored(id)
  }

  async replaceConnectionKeys(
    id: string,
    before: { certificate: string }[],
    after: SamlConnection['keys'],
  ): Promise<boolean> {
    return this.#connections.replaceKeys(id, before, after)
  }

  async recordTest(tried: Tried & { id: string }, now: number): Promise<boolean> {
    return this.#connections.recordTest(tried, now)
  }

  async commit(changes: Change[]): Promise<void> {
    await this.#connection.write(() => {
      for (const change of changes)
        if (change.op === 'put' && change.was !== undefined) refuseIfChanged(change, this.#stored(change))
      // People last: their memberships name companies of the same commit; removals of companies after that.
      for (const change of changes) if (change.op === 'put' && change.kind !== 'user') this.#apply(change)
      // Removed people before others: their addresses may be given away. And no address counts that is about to change.
      for (const change of changes) if (change.kind === 'user' && change.op === 'put') this.#move(change)
      for (const op of ['remove', 'put'])
        for (const change of changes) if (change.kind === 'user' && change.op === op) this.#apply(change)
      for (const change of changes) if (change.op === 'remove' && change.kind !== 'user') this.#apply(change)
      if (changes.some(({ kind }) => kind === 'connection' || kind === 'company' || kind === 'client'))
        this.#connections.inCheck()
    })
  }

  async resetMfa(
    accountId: string,
    { now, messages = [], factorVersion }: { now: number; messages?: Message[]; factorVersion?: number },
  ): Promise<boolean> {
    return this.#connection.write(() => {
      const raised = `UPDATE accounts SET factor_version = factor_version + 1, security_epoch = security_epoch + 1,
          reset_at = ?2, reset_open = 1, reset_held_by = NULL, reset_held_until = NULL
        WHERE id = ?1 AND factor_version = coalesce(?3, factor_version)`
      if (this.#connection.run(raised, accountId, now, factorVersion ?? null) !== 1) return false
      for (const table of ['totp', 'phones', 'recovery_codes'])
        this.#connection.run(`DELETE FROM ${table} WHERE account_id = ?`, accountId)
      this.#outbox.inPut(messages)
      return true
    })
  }

  async removeFactor(
    accountId: string,
    removal: { method: Method; factorVersion: number; securityEpoch: number; messages: Message[] },
  ): Promise<boolean> {
    const { method, factorVersion, securityEpoch, messages } = removal
    const connection = this.#connection
    return connection.write(() => {
      const won = connection.run(
        `UPDATE accounts SET factor_version = factor_version + 1, security_epoch = security_epoch + 1
          WHERE id = ? AND factor_version = ? AND security_epoch = ?
            AND EXISTS (SELECT 1 FROM ${TABLE_OF[method]} WHERE account_id = accounts.id)`,
        accountId,
        factorVersion,
        securityEpoch,
      )
      if (won !== 1) return false
      connection.run(`DELETE FROM ${TABLE_OF[method]} WHERE account_id = ?`, accountId)
      connection.run(
        `DELETE FROM recovery_codes WHERE account_id = ?1 AND NOT EXISTS (SELECT 1 FROM totp WHERE account_id = ?1)
          AND NOT EXISTS (SELECT 1 FROM phones WHERE account_id = ?1)`,
        accountId,
      )
      this.#outbox.inPut(messages)
      return true
    })
  }

  async setAlwaysRequire2fa(accountId: string, always: boolean, messages: Message[]): Promise<boolean> {
    const sql = 'UPDATE accounts SET always_require_2fa = ?2 WHERE id = ?1 AND always_require_2fa <> ?2'
    return this.#tellingOnce(messages, sql, accountId, always ? 1 : 0)
  }

  async takeNoticeEmail(hash: string, now: number, messages: Message[]): Promise<boolean> {
    return this.#connection.write(() => {
      const link = this.#connection.get(
        `UPDATE mailed_links SET used_at = ?2 WHERE hash = ?1 AND purpose = 'notice' AND used_at IS NULL AND expires_at > ?2
            AND EXISTS (SELECT 1 FROM accounts a WHERE a.id = account_id AND a.security_epoch = epoch AND a.disabled = 0)
          RETURNING account_id, email`,
        hash,
        now,
      )
      if (!link) return false
      this.#connection.run('UPDATE accounts SET notice_email = ? WHERE id = ?', link['email']!, link['account_id']!)
      this.#outbox.inPut(messages)
      return true
    })
  }

  async dropNoticeEmail(accountId: string, email: string, messages: Message[]): Promise<boolean> {
    const sql = 'UPDATE accounts SET notice_email = NULL WHERE id = ? AND notice_email = ?'
    return this.#tellingOnce(messages, sql, accountId, email)
  }

  /** True for the one caller whose update found what its WHERE asks for; the messages are that one's. */
  #tellingOnce(messages: Message[], sql: string, ...values: Value[]): Promise<boolean> {
    return this.#connection.write(() => {
      if (this.#connection.run(sql, ...values) !== 1) return false
      this.#outbox.inPut(messages)
      return true
    })
  }

  #stored({ kind, value }: Change & { op: 'put' }): object | undefined {
    const get = (sql: string, id: string) => this.#connection.get(sql, id)
    if (kind === 'client') {
      const row = get('SELECT * FROM clients WHERE client_id = ?', value.client_id)
      return row && this.#clientOf(row)
    }
    if (kind === 'user') {
      const row = get(`${USERS} WHERE a.id = ?`, value.id)
      return row && writtenOf(userOf(row))
    }
    if (kind === 'connection') return this.#connections.written(value.id)
    const row = get(`SELECT * FROM ${kind === 'company' ? 'companies' : 'resources'} WHERE id = ?`, value.id)
    return row && (kind === 'company' ? companyOf(row) : resourceOf(row))
  }

  async setDisabled(accountId: string, disabled: boolean): Promise<boolean> {
    const sql = `UPDATE accounts SET disabled = ?2, security_epoch = security_epoch + ?2 WHERE id = ?1 AND disabled <> ?2`
    return this.#connection.write(() => this.#connection.run(sql, accountId, disabled ? 1 : 0) === 1)
  }

  async raiseEpoch(accountId: string, from?: number): Promise<boolean> {
    const sql =
      'UPDATE accounts SET security_epoch = security_epoch + 1 WHERE id = ?1 AND security_epoch = coalesce(?2, security_epoch)'
    return this.#connection.write(() => this.#connection.run(sql, accountId, from ?? null) === 1)
  }

  #apply(change: Change): void {
    if (change.op === 'remove') {
      if (change.kind === 'company') this.#removeCompany(change.id)
      if (change.kind === 'user') this.#removeUser(change.id)
      if (change.kind === 'client') this.#removeClient(change.id)
      if (change.kind === 'resource') this.#remove('resources', 'id', change.id)
      if (change.kind === 'connection') this.#connections.inRemove(change.id)
      return
    }
    if (change.kind === 'company') this.#putCompany(change.value)
    if (change.kind === 'user') {
      this.#putUser(change)
      this.#outbox.inPut(change.messages)
    }
    if (change.kind === 'client') this.#putClient(change.value)
    if (change.kind === 'resource') this.#putResource(change.value)
    if (change.kind === 'connection') this.#connections.inPut(change)
  }

  #putCompany({ id, name, side, domains, disabled, mfa, help, rules }: Company): void {
    this.#connection.run(
      `INSERT INTO companies (id, name, side, domains, disabled, enforced_from, enforced_zone, enforced_sso, help, rules)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, side = excluded.side, domains = excluded.domains,
          disabled = excluded.disabled, enforced_from = excluded.enforced_from, enforced_zone = excluded.enforced_zone,
          enforced_sso = excluded.enforced_sso, help = excluded.help, rules = excluded.rules`,
      id,
      name,
      side,
      JSON.stringify(domains),
      disabled ? 1 : 0,
      mfa?.enforced_from ?? null,
      mfa?.zone ?? null,
      mfa?.sso ?? null,
      help ?? null,
      rules ? JSON.stringify(rules) : null,
    )
  }

  #removeCompany(id: string): void {
    const member = this.#connection.get(
      'SELECT a.email FROM memberships m JOIN accounts a ON a.id = m.account_id WHERE m.company_id = ?',
      id,
    )
    if (member)
      throw new StoreConflict(
        `company "${id}" still has members, ${member['email']} among them: remove their memberships first`,
      )
    this.#remove('companies', 'id', id)
  }

  #move({ value: { id, email } }: Change & { kind: 'user'; op: 'put' }): void {
    this.#connection.run(
      `DELETE FROM mailed_links WHERE account_id = ?1 AND purpose = 'email_undo'
        AND EXISTS (SELECT 1 FROM accounts WHERE id = ?1 AND email <> ?2)`,
      id,
      email,
    )
    this.#connection.run("UPDATE accounts SET email = ' moving ' || id WHERE id = ?", id)
  }

  #putUser({ value, passwordHash, welcome, undo, recovers }: Change & { kind: 'user'; op: 'put' }): void {
    const { id, email, name, disabled, memberships, serverRoles } = value
    const connection = this.#connection
    const isPassword = passwordHash !== undefined || recovers === true
    const before = isPassword ? connection.get('SELECT * FROM accounts WHERE id = ?', id) : undefined
    try {
      connection.run(
        `INSERT INTO accounts (id, email, name, disabled, server_roles, password_hash, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?8)
          ON CONFLICT (id) DO UPDATE SET email = ?2, name = ?3, disabled = ?4, server_roles = ?5,
            password_hash = coalesce(?6, password_hash),
            security_epoch = security_epoch + (CASE WHEN ?6 IS NOT NULL OR ?4 > disabled OR ?7 THEN 1 ELSE 0 END)`,
        id,
        email,
        name ?? null,
        disabled ? 1 : 0,
        JSON.stringify(serverRoles),
        passwordHash ?? null,
        recovers ? 1 : 0,
        Math.floor(Date.now() / 1000),
      )
    } catch (error) {
      if (isDuplicate(error)) throw new StoreConflict(`another user has the e-mail address ${email}`, { cause: error })
      throw error
    }
    if (before) connection.run('UPDATE accounts SET former_passwords = ? WHERE id = ?', nowFormer(before), id)
    if (recovers) connection.run('UPDATE accounts SET password_hash = NULL, notice_email = NULL WHERE id = ?', id)
    if (welcome)
      connection.run(
        `INSERT INTO mailed_links (account_id, purpose, hash, email, epoch, expires_at) VALUES (?, 'welcome', ?, ?, ?, ?)
          ON CONFLICT DO NOTHING`,
        id,
        welcome.hash,
        welcome.email,
        welcome.epoch,
        welcome.expiresAt,
      )
    if (undo)
      connection.run(
        `INSERT OR REPLACE INTO mailed_links (account_id, purpose, hash, email, epoch, expires_at) VALUES (?, 'email_undo', ?, ?, ?, ?)`,
        id,
        undo.hash,
        undo.email,
        undo.epoch,
        undo.expiresAt,
      )
    connection.run('DELETE FROM memberships WHERE account_id = ?', id)
    for (const [index, { company, roles, disabled: off }] of memberships.entries()) {
      if (memberships.findIndex((other) => other.company === company) < index)
        throw new StoreConflict(`${email} is a member of company "${company}" twice: make one membership of it`)
      if (!connection.get('SELECT 1 FROM companies WHERE id = ?', company))
        throw new StoreConflict(`${email} is a member of company "${company}", which does not exist`)
      connection.run(
        'INSERT INTO memberships (account_id, company_id, roles, disabled) VALUES (?, ?, ?, ?)',
        id,
        company,
        JSON.stringify(roles),
        off ? 1 : 0,
      )
    }
  }

  /** Everything that names the account goes with it; the audit stays. */
  #removeUser(id: string): void {
    this.#connection.run('DELETE FROM artifacts WHERE account_id = ?', id)
    this.#connection.run('DELETE FROM devices WHERE account_id = ?', id)
    this.#connection.run('DELETE FROM consents WHERE account_id = ?', id)
    this.#connection.run('DELETE FROM links WHERE account_id = ?', id)
    this.#connection.run('DELETE FROM outbox WHERE account_id = ?', id)
    this.#remove('accounts', 'id', id)
  }

  /** Another app may come to have the same id: what people let this one do goes with it. */
  #removeClient(id: string): void {
    this.#connection.run('DELETE FROM consents WHERE client_id = ?', id)
    this.#remove('clients', 'client_id', id)
  }

  #putClient({ client_id: id, client_secret, former_secrets, ...metadata }: Client): void {
    const secrets = secretsText({ client_secret, former_secrets })
    this.#connection.run(
      'INSERT OR REPLACE INTO clients (client_id, metadata, secret) VALUES (?, ?, ?)',
      id,
      JSON.stringify(metadata),
      secrets === undefined ? null : this.#sealer.seal(placeOf(id), secrets),
    )
  }

  #putResource({ id, name, scopes, ...options }: Resource): void {
    this.#connection.run(
      'INSERT OR REPLACE INTO resources (id, name, scopes, options) VALUES (?, ?, ?, ?)',
      id,
      name,
      JSON.stringify(scopes),
      JSON.stringify(options),
    )
  }

  #remove(table: 'accounts' | 'clients' | 'companies' | 'resources', column: string, id: string): void {
    this.#connection.run(`DELETE FROM ${table} WHERE ${column} = ?`, id)
  }

  #clientOf(row: Row): Client {
    const id = String(row['client_id'])
    const secrets = row['secret'] === null ? {} : secretsFrom(this.#sealer.open(placeOf(id), String(row['secret'])))
    return { client_id: id, ...(JSON.parse(String(row['metadata'])) as object), ...secrets }
  }
}

function companyOf(row: Row): Company {
  const mfa =
    row['enforced_from'] === null
      ? undefined
      : {
          enforced_from: String(row['enforced_from']),
          zone: String(row['enforced_zone']),
          ...(row['enforced_sso'] !== null && { sso: 'challenge' as const }),
        }
  return {
    id: String(row['id']),
    name: String(row['name']),
    side: row['side'] as Side,
    domains: JSON.parse(String(row['domains'])) as string[],
    disabled: row['disabled'] === 1,
    ...(mfa && { mfa }),
    ...(row['help'] !== null && { help: String(row['help']) }),
    ...(row['rules'] !== null && { rules: JSON.parse(String(row['rules'])) as CompanyRules }),
  }
}

const resourceOf = (row: Row): Resource => ({
  id: String(row['id']),
  name: String(row['name']),
  scopes: JSON.parse(String(row['scopes'])) as string[],
  ...(JSON.parse(String(row['options'])) as object),
})

function userOf(row: Row): User {
  const memberships = JSON.parse(String(row['memberships'])) as { company: string; roles: []; disabled: number }[]
  return {
    id: String(row['id']),
    email: String(row['email']),
    ...(row['notice_email'] !== null && { noticeEmail: String(row['notice_email']) }),
    ...(row['name'] !== null && { name: String(row['name']) }),
    disabled: row['disabled'] === 1,
    memberships: memberships.map((membership) => ({ ...membership, disabled: membership.disabled === 1 })),
    serverRoles: JSON.parse(String(row['server_roles'])) as ServerRole[],
    alwaysRequire2fa: row['always_require_2fa'] === 1,
    hasPassword: row['password_hash'] !== null,
    passwordWithdrawn: row['password_hash'] === null && row['former_passwords'] !== null,
    securityEpoch: Number(row['security_epoch']),
    factors: (['otp', 'sms'] as const).flatMap((method) =>
      row[`${method}_at`] === null ? [] : [{ method, addedAt: Number(row[`${method}_at`]) }],
    ),
    recoveryCode: row['acknowledged'] === null ? 'none' : row['acknowledged'] === 1 ? 'acknowledged' : 'unacknowledged',
    createdAt: Number(row['created_at']),
  }
}
