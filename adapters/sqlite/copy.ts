/** Reads a whole file to copy it, or takes in the copy of another database. */

import { existsSync } from 'node:fs'
import {
  type CompanyRules,
  type MembershipRole,
  type ServerRole,
  type Side,
  StoreUnavailable,
} from '../../interactions/kit/stores.ts'
import {
  type CopySource,
  type CopyTarget,
  KINDS,
  type Kind,
  type Rows,
  type SigningKey,
  StoreConflict,
} from '../../server/stores.ts'
import { holds, othersCopy, taken, unfinished } from '../copying.ts'
import { factorResetOf } from './accounts.ts'
import { claimDomains } from './connections.ts'
import { Connection, isDuplicate, type Row, type Value } from './driver.ts'
import { checkVersion, migrate } from './migrations.ts'

/** Rows of one read, and of one commit. */
const PAGE = 500
/** A device that was not used for so long is unknown. */
const DEVICE_KEPT = 400 * 24 * 60 * 60
/** Stands for "for good" in `throttles.kept_until`. */
const FOR_GOOD = Number.MAX_SAFE_INTEGER

/** One kind of row: where it is, how it is read and written. */
interface Place<R> {
  /** Columns that name a row; their order is the order of reading. */
  keys: string[]
  /** The tables that hold it, the first one with one row for each. */
  tables: string[]
  /** Other columns than all of the first table. */
  columns?: string
  /** Several rows of the table make one. */
  groups?: boolean
  rowOf(row: Row): R
  put(connection: Connection, row: R): void
}

const text = (value: Value | undefined) => (value === null || value === undefined ? undefined : String(value))
const number = (value: Value | undefined) => (value === null || value === undefined ? undefined : Number(value))
const list = <T extends string>(value: Value | undefined) => JSON.parse(String(value)) as T[]
const flag = (value: boolean) => (value ? 1 : 0)

/** `INSERT`, or the same as an update of the row with these keys. Never `REPLACE`: it would remove whoever is in the way. */
function put(connection: Connection, table: string, keys: string[], row: Record<string, Value | undefined>): void {
  const names = Object.keys(row)
  const update = names.filter((name) => !keys.includes(name)).map((name) => `${name} = excluded.${name}`)
  connection.run(
    `INSERT INTO ${table} (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})
      ON CONFLICT (${keys.join(', ')}) DO ${update.length > 0 ? `UPDATE SET ${update.join(', ')}` : 'NOTHING'}`,
    ...Object.values(row).map((value) => value ?? null),
  )
}

const PLACES: { [K in Kind]: Place<Rows[K]> } = {
  companies: {
    keys: ['id'],
    tables: ['companies'],
    rowOf: (row) => ({
      id: String(row['id']),
      name: String(row['name']),
      side: row['side'] as Side,
      domains: list(row['domains']),
      disabled: row['disabled'] === 1,
      mfa:
        row['enforced_from'] === null
          ? undefined
          : {
              enforced_from: String(row['enforced_from']),
              zone: String(row['enforced_zone']),
              ...(row['enforced_sso'] !== null && { sso: 'challenge' as const }),
            },
      help: text(row['help']),
      rules: row['rules'] === null ? undefined : (JSON.parse(String(row['rules'])) as CompanyRules),
    }),
    put: (connection, { domains, disabled, mfa, rules, ...row }) =>
      put(connection, 'companies', ['id'], {
        ...row,
        domains: JSON.stringify(domains),
        disabled: flag(disabled),
        enforced_from: mfa?.enforced_from,
        enforced_zone: mfa?.zone,
        enforced_sso: mfa?.sso,
        help: row.help,
        rules: rules && JSON.stringify(rules),
      }),
  },
  clients: {
    keys: ['client_id'],
    tables: ['clients'],
    rowOf: (row) => ({ id: String(row['client_id']), metadata: String(row['metadata']), secret: text(row['secret']) }),
    put: (connection, { id, metadata, secret }) =>
      put(connection, 'clients', ['client_id'], { client_id: id, metadata, secret }),
  },
  resources: {
    keys: ['id'],
    tables: ['resources'],
    rowOf: (row) => ({
      id: String(row['id']),
      name: String(row['name']),
      scopes: list(row['scopes']),
      options: String(row['options']),
    }),
    put: (connection, { scopes, ...row }) =>
      put(connection, 'resources', ['id'], { ...row, scopes: JSON.stringify(scopes) }),
  },
  people: {
    keys: ['id'],
    tables: ['accounts', 'memberships', 'totp', 'phones', 'recovery_codes', 'mailed_links'],
    columns: `*,
      (SELECT json_object('secret', secret, 'lastStep', last_step, 'addedAt', added_at) FROM totp
        WHERE account_id = accounts.id) AS totp,
      (SELECT json_object('number', number, 'addedAt', added_at, 'usedAt', used_at) FROM phones
        WHERE account_id = accounts.id) AS phone,
      (SELECT json_object('id', r.id, 'replaces', replaces, 'hash', hash, 'acknowledged', acknowledged,
          'reservedBy', reserved_by, 'reservedUntil', reserved_until, 'reservations', reservations)
        FROM recovery_codes r WHERE r.account_id = accounts.id) AS recovery_code,
      (SELECT json_group_array(json_object('company', company_id, 'roles', json(roles), 'disabled', m.disabled))
        FROM memberships m WHERE m.account_id = accounts.id) AS memberships,
      (SELECT json_group_object(purpose, json_object('hash', hash, 'email', email, 'epoch', epoch, 'expiresAt', expires_at,
          'usedAt', used_at)) FROM mailed_links l WHERE l.account_id = accounts.id) AS mailed_links`,
    rowOf: (row) => ({
      id: String(row['id']),
      email: String(row['email']),
      noticeEmail: text(row['notice_email']),
      name: text(row['name']),
      passwordHash: text(row['password_hash']),
      formerPasswords: row['former_passwords'] === null ? undefined : list(row['former_passwords']),
      mailedLinks: mailedLinksOf(String(row['mailed_links'])),
      disabled: row['disabled'] === 1,
      serverRoles: list<ServerRole>(row['server_roles']),
      alwaysRequire2fa: row['always_require_2fa'] === 1,
      securityEpoch: Number(row['security_epoch']),
      factorVersion: Number(row['factor_version']),
      factorReset: factorResetOf(row),
      createdAt: Number(row['created_at']),
      memberships: (
        JSON.parse(String(row['memberships'])) as { company: string; roles: MembershipRole[]; disabled: number }[]
      )
        .map(({ disabled, ...membership }) => ({ ...membership, disabled: disabled === 1 }))
        .sort((a, b) => (a.company < b.company ? -1 : 1)),
      totp: row['totp'] === null ? undefined : (JSON.parse(String(row['totp'])) as Rows['people']['totp']),
      phone: row['phone'] === null ? undefined : (JSON.parse(String(row['phone'])) as Rows['people']['phone']),
      recoveryCode: row['recovery_code'] === null ? undefined : recoveryCodeOf(String(row['recovery_code'])),
    }),
    put: putPerson,
  },
  connections: {
    keys: ['id'],
    tables: ['connections', 'connection_domains'],
    rowOf: (row) => ({
      id: String(row['id']),
      company: String(row['company_id']),
      client: text(row['client_id']),
      state: row['state'] as Rows['connections']['state'],
      domains: list(row['domains']),
      settings: String(row['settings']),
      keys: String(row['keys']),
      testedAt: number(row['tested_at']),
    }),
    // Which domain leads to it, finish() writes: only then all of them are there.
    put: (connection, { id, company, client, state, domains, settings, keys, testedAt }) =>
      put(connection, 'connections', ['id'], {
        id,
        company_id: company,
        client_id: client,
        state,
        domains: JSON.stringify(domains),
        settings,
        keys,
        tested_at: testedAt,
      }),
  },
  federation_requests: {
    keys: ['handle'],
    tables: ['federation_requests'],
    rowOf: (row) => ({
      handle: String(row['handle']),
      id: String(row['id']),
      connectionId: String(row['connection_id']),
      interaction: String(row['interaction']),
      createdAt: Number(row['created_at']),
      expiresAt: Number(row['expires_at']),
      forceAuthn: row['force_authn'] === 1,
      authnContexts: list(row['authn_contexts']),
      answered: row['answered'] === 1,
      facts: text(row['facts']),
    }),
    put: (connection, row) =>
      put(connection, 'federation_requests', ['handle'], {
        handle: row.handle,
        id: row.id,
        connection_id: row.connectionId,
        interaction: row.interaction,
        created_at: row.createdAt,
        expires_at: row.expiresAt,
        force_authn: flag(row.forceAuthn),
        authn_contexts: JSON.stringify(row.authnContexts),
        answered: flag(row.answered),
        facts: row.facts,
      }),
  },
  used_assertions: {
    keys: ['issuer', 'assertion_id'],
    tables: ['used_assertions'],
    rowOf: (row) => ({
      issuer: String(row['issuer']),
      assertionId: String(row['assertion_id']),
      handle: String(row['handle']),
      expiresAt: Number(row['usable_until']),
    }),
    put: (connection, { issuer, assertionId, handle, expiresAt }) =>
      put(connection, 'used_assertions', ['issuer', 'assertion_id'], {
        issuer,
        assertion_id: assertionId,
        handle,
        usable_until: expiresAt,
      }),
  },
  federation_traces: {
    keys: ['reference'],
    tables: ['federation_traces'],
    rowOf: (row) => ({
      reference: String(row['reference']),
      connectionId: String(row['connection_id']),
      at: Number(row['at']),
      shelf: row['shelf'] as Rows['federation_traces']['shelf'],
      said: String(row['said']),
      expiresAt: Number(row['expires_at']),
    }),
    put: (connection, { reference, connectionId, at, shelf, said, expiresAt }) =>
      put(connection, 'federation_traces', ['reference'], {
        reference,
        connection_id: connectionId,
        at,
        shelf,
        said,
        expires_at: expiresAt,
      }),
  },
  signing_keys: {
    keys: ['rowid'],
    tables: ['signing_keys'],
    columns: 'rowid, *',
    rowOf: (row) => ({
      kid: String(row['kid']),
      privateJwk: String(row['private_jwk']),
      createdAt: Number(row['created_at']),
      state: row['state'] as SigningKey['state'],
      activatesAt: number(row['activates_at']),
      retiredAt: number(row['retired_at']),
    }),
    put: (connection, { kid, privateJwk, createdAt, state, activatesAt, retiredAt }) =>
      put(connection, 'signing_keys', ['kid'], {
        kid,
        private_jwk: privateJwk,
        created_at: createdAt,
        state,
        activates_at: activatesAt,
        retired_at: retiredAt,
      }),
  },
  consents: {
    keys: ['account_id', 'client_id'],
    tables: ['consents'],
    columns: 'account_id, client_id, min(given_at) AS since, json_group_array(permission) AS permissions',
    groups: true,
    rowOf: (row) => ({
      account: String(row['account_id']),
      client: String(row['client_id']),
      permissions: list(row['permissions']).sort(),
      since: Number(row['since']),
    }),
    put: (connection, { account, client, permissions, since }) => {
      for (const permission of permissions)
        put(connection, 'consents', ['account_id', 'client_id', 'permission'], {
          account_id: account,
          client_id: client,
          permission,
          given_at: since,
        })
    },
  },
  links: {
    keys: ['account_id', 'company_id', 'issuer'],
    tables: ['links'],
    rowOf: (row) => ({
      account: String(row['account_id']),
      company: String(row['company_id']),
      issuer: String(row['issuer']),
      format: String(row['format']),
      name: String(row['name']),
      since: Number(row['linked_at']),
    }),
    put: (connection, { account, company, issuer, format, name, since }) =>
      put(connection, 'links', ['account_id', 'company_id', 'issuer'], {
        account_id: account,
        company_id: company,
        issuer,
        format,
        name,
        linked_at: since,
      }),
  },
  devices: {
    keys: ['device', 'account_id'],
    tables: ['devices'],
    rowOf: (row) => ({
      device: String(row['device']),
      account: String(row['account_id']),
      lastUsed: Number(row['last_used']),
      expiresAt: Number(row['last_used']) + DEVICE_KEPT,
    }),
    put: (connection, { device, account, lastUsed }) =>
      put(connection, 'devices', ['device', 'account_id'], { device, account_id: account, last_used: lastUsed }),
  },
  throttles: {
    keys: ['key'],
    tables: ['throttles'],
    rowOf: (row) => ({
      key: String(row['key']),
      count: Number(row['count']),
      since: Number(row['since']),
      blockedUntil: Number(row['blocked_until']),
      disabled: row['disabled'] === 1,
      expiresAt: row['kept_until'] === FOR_GOOD ? undefined : Number(row['kept_until']),
    }),
    put: (connection, { key, count, since, blockedUntil, disabled, expiresAt }) =>
      put(connection, 'throttles', ['key'], {
        key,
        count,
        since,
        blocked_until: blockedUntil,
        disabled: flag(disabled),
        kept_until: expiresAt ?? FOR_GOOD,
      }),
  },
  pending: {
    keys: ['owner', 'purpose'],
    tables: ['pending'],
    rowOf: (row) => ({
      owner: String(row['owner']),
      purpose: String(row['purpose']),
      value: String(row['value']),
      expiresAt: Number(row['expires_at']),
    }),
    put: (connection, { expiresAt, ...row }) =>
      put(connection, 'pending', ['owner', 'purpose'], { ...row, expires_at: expiresAt }),
  },
  artifacts: {
    keys: ['model', 'key'],
    tables: ['artifacts'],
    rowOf: (row) => ({
      model: String(row['model']),
      key: String(row['key']),
      payload: String(row['payload']),
      expiresAt: number(row['expires_at']),
      uid: text(row['uid']),
      grantId: text(row['grant_id']),
      accountId: text(row['account_id']),
      userCode: text(row['user_code']),
      consumedAt: number(row['consumed_at']),
    }),
    put: (connection, { model, key, payload, expiresAt, uid, grantId, accountId, userCode, consumedAt }) =>
      put(connection, 'artifacts', ['model', 'key'], {
        model,
        key,
        payload,
        expires_at: expiresAt,
        uid,
        grant_id: grantId,
        account_id: accountId,
        user_code: userCode,
        consumed_at: consumedAt,
      }),
  },
  outbox: {
    keys: ['id'],
    tables: ['outbox'],
    rowOf: (row) => ({
      id: String(row['id']),
      channel: row['channel'] as Rows['outbox']['channel'],
      kind: String(row['kind']),
      accountId: String(row['account_id']),
      body: text(row['body']),
      createdAt: Number(row['created_at']),
      firstDue: Number(row['first_due']),
      dueAt: number(row['due_at']),
      usableUntil: Number(row['usable_until']),
      tries: Number(row['tries']),
      sentAt: number(row['sent_at']),
      error: text(row['error']),
      expiresAt: Number(row['kept_until']),
    }),
    put: (connection, row) =>
      put(connection, 'outbox', ['id'], {
        id: row.id,
        channel: row.channel,
        kind: row.kind,
        account_id: row.accountId,
        body: row.body,
        created_at: row.createdAt,
        first_due: row.firstDue,
        due_at: row.dueAt,
        usable_until: row.usableUntil,
        tries: row.tries,
        sent_at: row.sentAt,
        error: row.error,
        kept_until: row.expiresAt,
      }),
  },
  tombstones: {
    keys: ['key'],
    tables: ['destroyed'],
    rowOf: (row) => ({
      key: String(row['key']),
      uid: text(row['uid']),
      payload: text(row['payload']),
      expiresAt: Number(row['kept_until']),
    }),
    put: (connection, { key, uid, payload, expiresAt }) =>
      put(connection, 'destroyed', ['key'], { key, uid, payload, kept_until: expiresAt }),
  },
  ended_sessions: {
    keys: ['uid'],
    tables: ['ended_sessions'],
    rowOf: (row) => ({ uid: String(row['uid']), expiresAt: Number(row['kept_until']) }),
    put: (connection, { uid, expiresAt }) => put(connection, 'ended_sessions', ['uid'], { uid, kept_until: expiresAt }),
  },
  audit: {
    keys: ['id'],
    tables: ['audit'],
    rowOf: (row) => ({
      writer: String(row['writer']),
      number: Number(row['number']),
      event: String(row['event']),
      accountId: text(row['account_id']),
      at: Number(row['at']),
      body: String(row['body']),
      previous: String(row['previous']),
      hash: String(row['hash']),
      position: Number(row['id']),
    }),
    // Append-only here too: a row that is there already is left as it is. The place is the order of arrival.
    put: (connection, { writer, number: count, event, accountId, at, body, previous, hash }) =>
      connection.run(
        `INSERT INTO audit (writer, number, event, account_id, at, body, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
          ON CONFLICT (writer, number) DO NOTHING`,
        writer,
        count,
        event,
        accountId ?? null,
        at,
        body,
        previous,
        hash,
      ),
  },
}

function recoveryCodeOf(json: string): Rows['people']['recoveryCode'] {
  const { acknowledged, ...code } = JSON.parse(json) as Record<string, unknown>
  const there = Object.entries({ ...code, acknowledged: acknowledged === 1 }).filter(([, value]) => value !== null)
  return Object.fromEntries(there) as unknown as NonNullable<Rows['people']['recoveryCode']>
}

function mailedLinksOf(json: string): Rows['people']['mailedLinks'] {
  const links = Object.entries(JSON.parse(json) as Record<string, Record<string, unknown>>)
  if (links.length === 0) return undefined
  const withoutNulls = (link: object) => Object.fromEntries(Object.entries(link).filter(([, value]) => value !== null))
  return Object.fromEntries(links.map(([purpose, link]) => [purpose, withoutNulls(link)]))
}

function putPerson(connection: Connection, person: Rows['people']): void {
  const { id, email, memberships, totp, phone, recoveryCode, formerPasswords, mailedLinks = {}, factorReset } = person
  try {
    put(connection, 'accounts', ['id'], {
      id,
      email,
      notice_email: person.noticeEmail,
      name: person.name,
      password_hash: person.passwordHash,
      former_passwords: formerPasswords && JSON.stringify(formerPasswords),
      disabled: flag(person.disabled),
      server_roles: JSON.stringify(person.serverRoles),
      always_require_2fa: flag(person.alwaysRequire2fa),
      security_epoch: person.securityEpoch,
      factor_version: person.factorVersion,
      reset_at: factorReset?.at,
      reset_open: flag(factorReset?.open === true),
      reset_held_by: factorReset?.heldBy,
      reset_held_until: factorReset?.heldUntil,
      created_at: person.createdAt,
    })
  } catch (error) {
    if (isDuplicate(error)) throw new StoreConflict(`two people have the e-mail address ${email}`, { cause: error })
    throw error
  }
  for (const table of ['memberships', 'totp', 'phones', 'recovery_codes', 'mailed_links'])
    connection.run(`DELETE FROM ${table} WHERE account_id = ?`, id)
  for (const { company, roles, disabled } of memberships)
    put(connection, 'memberships', ['account_id', 'company_id'], {
      account_id: id,
      company_id: company,
      roles: JSON.stringify(roles),
      disabled: flag(disabled),
    })
  for (const [purpose, link] of Object.entries(mailedLinks))
    put(connection, 'mailed_links', ['account_id', 'purpose'], {
      account_id: id,
      purpose,
      hash: link.hash,
      email: link.email,
      epoch: link.epoch,
      expires_at: link.expiresAt,
      used_at: link.usedAt,
    })
  if (totp)
    put(connection, 'totp', ['account_id'], {
      account_id: id,
      secret: totp.secret,
      last_step: totp.lastStep,
      added_at: totp.addedAt,
    })
  if (phone)
    put(connection, 'phones', ['account_id'], {
      account_id: id,
      number: phone.number,
      added_at: phone.addedAt,
      used_at: phone.usedAt,
    })
  if (recoveryCode)
    put(connection, 'recovery_codes', ['account_id'], {
      account_id: id,
      id: recoveryCode.id,
      replaces: recoveryCode.replaces,
      hash: recoveryCode.hash,
      acknowledged: flag(recoveryCode.acknowledged),
      reserved_by: recoveryCode.reservedBy,
      reserved_until: recoveryCode.reservedUntil,
      reservations: recoveryCode.reservations,
    })
}

/** Tables of the schema that hold rows of a deployment. */
export const COPIED_TABLES: readonly string[] = Object.values(PLACES).flatMap(({ tables }) => tables)

/**
 * Opens a file to copy it, without a change to it.
 * @throws {StoreUnavailable} when it is not there, is none of ours, of another version, or itself half a copy
 */
export async function openSqliteSource({ file }: { file: string }): Promise<CopySource> {
  if (!existsSync(file)) throw new StoreUnavailable(`there is no database at ${file}`)
  const connection = new Connection(file, { synchronous: 'FULL', busyMs: 5000, readOnly: true })
  try {
    checkVersion(connection, file)
    refuseHalfCopy(connection, file)
  } catch (error) {
    connection.close()
    throw error
  }
  return new SqliteCopy(connection, file)
}

/**
 * Opens a file to copy into it; makes it when it is not there. Its folder must exist.
 * @throws {StoreUnavailable} when it cannot be opened
 */
export async function openSqliteTarget({ file }: { file: string }): Promise<CopyTarget> {
  const connection = new Connection(file, { synchronous: 'FULL', busyMs: 5000 })
  try {
    migrate(connection)
    // Rows may come before those that they name; finish() looks at all of them.
    connection.exec('PRAGMA foreign_keys = OFF')
  } catch (error) {
    connection.close()
    throw error
  }
  return new SqliteCopy(connection, file)
}

/** The table that is there while a copy into this file is not finished: whose it is and how far it has come. */
const isHalfCopy = (connection: Connection) =>
  connection.get("SELECT 1 FROM sqlite_schema WHERE name = 'copying'") !== undefined

/** @throws {StoreUnavailable} */
export function refuseHalfCopy(connection: Connection, file: string): void {
  if (!isHalfCopy(connection)) return
  const source = connection.get('SELECT source FROM copying')?.['source']
  throw new StoreUnavailable(unfinished(file, source))
}

class SqliteCopy implements CopySource, CopyTarget {
  readonly #connection: Connection
  readonly #file: string

  constructor(connection: Connection, file: string) {
    this.#connection = connection
    this.#file = file
  }

  async read<K extends Kind>(kind: K, after: string | undefined) {
    const { keys, tables, columns = '*', groups, rowOf } = PLACES[kind]
    const from = after === undefined ? [] : (JSON.parse(after) as Value[])
    const where = after === undefined ? '' : `WHERE (${keys.join(', ')}) > (${keys.map(() => '?').join(', ')})`
    const rows = this.#connection.all(
      `SELECT ${columns} FROM ${tables[0]} ${where} ${groups ? `GROUP BY ${keys.join(', ')}` : ''}
        ORDER BY ${keys.join(', ')} LIMIT ${PAGE}`,
      ...from,
    )
    const last = rows.at(-1)
    const next = last && rows.length === PAGE ? JSON.stringify(keys.map((key) => last[key])) : undefined
    return { rows: rows.map(rowOf), next }
  }

  async count(kind: Kind): Promise<number> {
    const { keys, tables, groups } = PLACES[kind]
    const table = groups ? `(SELECT DISTINCT ${keys.join(', ')} FROM ${tables[0]})` : tables[0]
    return Number(this.#connection.get(`SELECT count(*) AS n FROM ${table}`)!['n'])
  }

  async mark(): Promise<string> {
    return String(this.#connection.get('PRAGMA data_version')!['data_version'])
  }

  async claim(owner: string, source: string): Promise<string | undefined> {
    return this.#connection.write(() => {
      const connection = this.#connection
      if (isHalfCopy(connection)) {
        const begun = connection.get('SELECT source, progress FROM copying')!
        if (begun['source'] !== source) throw new StoreConflict(othersCopy(this.#file, begun['source']))
        connection.run('UPDATE copying SET owner = ?', owner)
        return text(begun['progress'])
      }
      const held = KINDS.filter((kind) => connection.get(`SELECT 1 FROM ${PLACES[kind].tables[0]}`))
      if (held.length > 0) throw new StoreConflict(holds(this.#file, held, this.#copied()))
      connection.run('CREATE TABLE copying (owner TEXT NOT NULL, source TEXT NOT NULL, progress TEXT) STRICT')
      connection.run('INSERT INTO copying (owner, source) VALUES (?, ?)', owner, source)
      return undefined
    })
  }

  #copied(): string | undefined {
    const row = this.#connection.get("SELECT body FROM audit WHERE event = 'store.copied' ORDER BY id DESC LIMIT 1")
    return row && String(row['body'])
  }

  async write<K extends Kind>(kind: K, rows: Rows[K][], { owner, progress }: { owner: string; progress: string }) {
    await this.#connection.write(() => {
      this.#mine(owner, progress)
      for (const row of rows) PLACES[kind].put(this.#connection, row)
    })
  }

  async clear(kind: Kind, { owner, progress }: { owner: string; progress: string }): Promise<void> {
    await this.#connection.write(() => {
      this.#mine(owner, progress)
      if (kind !== 'audit') for (const table of PLACES[kind].tables) this.#connection.run(`DELETE FROM ${table}`)
    })
  }

  async finish(owner: string): Promise<void> {
    await this.#connection.write(() => {
      this.#mine(owner, null)
      const [orphan] = this.#connection.all('PRAGMA foreign_key_check')
      if (orphan)
        throw new StoreConflict(
          `a row of ${orphan['table']} names a missing row of ${orphan['parent']}: \`sallyport doctor\` on the source shows which`,
        )
      const all = this.#connection.all('SELECT id, client_id, state, domains FROM connections').map((row) => ({
        id: String(row['id']),
        client: text(row['client_id']),
        state: row['state'] as Rows['connections']['state'],
        domains: list(row['domains']),
      }))
      claimDomains(this.#connection, all)
      this.#connection.run('DROP TABLE copying')
    })
  }

  #mine(owner: string, progress: string | null): void {
    const isMine =
      isHalfCopy(this.#connection) &&
      this.#connection.run('UPDATE copying SET progress = ? WHERE owner = ?', progress, owner) === 1
    if (!isMine) throw new StoreConflict(taken(this.#file))
  }

  async close(): Promise<void> {
    await this.#connection.idle()
    this.#connection.close()
  }
}
