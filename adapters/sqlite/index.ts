/** The embedded database: one file, or several processes on one machine sharing it. */
import { type SealedPlace, type Sealer, StoreUnavailable } from '../../interactions/kit/stores.ts'
import type { Database } from '../../server/stores.ts'
import { SqliteAccounts } from './accounts.ts'
import { SqliteArtifacts } from './artifacts.ts'
import { SqliteAudit } from './audit.ts'
import { SqliteConnections } from './connections.ts'
import { SqliteConsents } from './consents.ts'
import { refuseHalfCopy } from './copy.ts'
import { SqliteDirectory } from './directory.ts'
import { Connection, type Value } from './driver.ts'
import { SqliteFactors } from './factors.ts'
import { SqliteFederation } from './federation.ts'
import { SqliteLinks } from './links.ts'
import { migrate } from './migrations.ts'
import { SqliteOutbox } from './outbox.ts'
import { SqlitePasswords } from './passwords.ts'
import { SqliteDevices, SqlitePending } from './pending.ts'
import { SqliteSigningKeys } from './signing-keys.ts'
import { SqliteThrottle } from './throttle.ts'
import { SqliteTraces } from './traces.ts'

export { openSqliteSource, openSqliteTarget } from './copy.ts'

/** How to open a file. */
export interface SqliteOptions {
  /** Path; made with mode 0600 when it is not there. Its folder must exist. */
  file: string
  sealer: Sealer
  /** `FULL` (default): what was acknowledged survives a power loss. `NORMAL`: a process crash only. */
  synchronous?: 'FULL' | 'NORMAL'
  /** The file may grow to so many pages. */
  maxPages?: number
  /** Milliseconds that a writer waits for another process before it gives up. */
  busyMs?: number
}

/** Sealed columns: where they are, and whose they are. */
const SEALED: { table: string; column: string; keys: string[]; place(row: Record<string, Value>): SealedPlace }[] = [
  {
    table: 'totp',
    column: 'secret',
    keys: ['account_id'],
    place: (row) => ({ purpose: 'totp_secret', owner: String(row['account_id']) }),
  },
  {
    table: 'phones',
    column: 'number',
    keys: ['account_id'],
    place: (row) => ({ purpose: 'phone', owner: String(row['account_id']) }),
  },
  {
    table: 'clients',
    column: 'secret',
    keys: ['client_id'],
    place: (row) => ({ purpose: 'client_secret', owner: String(row['client_id']) }),
  },
  {
    table: 'signing_keys',
    column: 'private_jwk',
    keys: ['kid'],
    place: (row) => ({ purpose: 'signing_key', owner: String(row['kid']) }),
  },
  {
    table: 'pending',
    column: 'value',
    keys: ['owner', 'purpose'],
    place: (row) => ({ purpose: 'pending', owner: String(row['owner']), record: String(row['purpose']) }),
  },
  {
    table: 'connections',
    column: 'keys',
    keys: ['id'],
    place: (row) => ({ purpose: 'saml_key', owner: String(row['id']) }),
  },
  {
    table: 'federation_requests',
    column: 'facts',
    keys: ['handle'],
    place: (row) => ({ purpose: 'federation_facts', owner: String(row['handle']) }),
  },
  {
    table: 'federation_traces',
    column: 'said',
    keys: ['reference'],
    place: (row) => ({ purpose: 'federation_trace', owner: String(row['reference']) }),
  },
  {
    table: 'outbox',
    column: 'body',
    keys: ['id'],
    place: (row) => ({ purpose: 'outbox', owner: String(row['id']) }),
  },
]

/** What goes when its time is over; `before` seconds later than it says. */
const EXPIRING = [
  { table: 'artifacts', key: 'model, key', expired: 'expires_at', before: 60 },
  { table: 'destroyed', key: 'key', expired: 'kept_until', before: 0 },
  { table: 'ended_sessions', key: 'uid', expired: 'kept_until', before: 0 },
  { table: 'pending', key: 'owner, purpose', expired: 'expires_at', before: -1 },
  { table: 'federation_requests', key: 'handle', expired: 'expires_at', before: -1 },
  { table: 'used_assertions', key: 'issuer, assertion_id', expired: 'usable_until', before: -1 },
  { table: 'federation_traces', key: 'reference', expired: 'expires_at', before: -1 },
  { table: 'outbox', key: 'id', expired: 'kept_until', before: 0 },
  { table: 'throttles', key: 'key', expired: 'kept_until', before: 0 },
  { table: 'devices', key: 'device, account_id', expired: 'last_used', before: 400 * 24 * 60 * 60 },
]
/** Rows: answers must not wait for a large sweep. */
const SWEPT_AT_ONCE = 500

/**
 * Opens the file and brings its schema up to date.
 * @throws {StoreUnavailable} when the folder is missing, the file is no database, or of a newer version
 */
export async function openSqlite(options: SqliteOptions): Promise<SqliteDatabase> {
  return new SqliteDatabase(options)
}

/** All stores over one connection. */
export class SqliteDatabase implements Database {
  readonly accounts: SqliteAccounts
  readonly factors: SqliteFactors
  readonly throttle: SqliteThrottle
  readonly devices: SqliteDevices
  readonly pending: SqlitePending
  readonly consents: SqliteConsents
  readonly federation: SqliteFederation
  readonly traces: SqliteTraces
  readonly links: SqliteLinks
  readonly outbox: SqliteOutbox
  readonly passwords: SqlitePasswords
  readonly audit: SqliteAudit
  readonly artifacts: SqliteArtifacts
  readonly directory: SqliteDirectory
  readonly connections: SqliteConnections
  readonly signingKeys: SqliteSigningKeys
  readonly auditReader: SqliteAudit
  /** For tests that take a guard away. */
  readonly connection: Connection
  readonly #sealer: Sealer

  constructor({ file, sealer, synchronous = 'FULL', maxPages, busyMs = 5000 }: SqliteOptions) {
    const connection = new Connection(file, { synchronous, maxPages, busyMs })
    try {
      migrate(connection)
      refuseHalfCopy(connection, file)
    } catch (error) {
      connection.close()
      throw error
    }
    this.connection = connection
    this.#sealer = sealer
    this.accounts = new SqliteAccounts(connection)
    this.outbox = new SqliteOutbox(connection, sealer)
    this.passwords = new SqlitePasswords(connection, this.outbox)
    this.factors = new SqliteFactors(connection, sealer, this.outbox)
    this.throttle = new SqliteThrottle(connection)
    this.devices = new SqliteDevices(connection)
    this.pending = new SqlitePending(connection, sealer)
    this.consents = new SqliteConsents(connection)
    this.federation = new SqliteFederation(connection, sealer)
    this.traces = new SqliteTraces(connection, sealer)
    this.links = new SqliteLinks(connection, this.outbox)
    this.audit = new SqliteAudit(connection)
    this.artifacts = new SqliteArtifacts(connection)
    this.connections = new SqliteConnections(connection, sealer)
    this.directory = new SqliteDirectory(connection, sealer, this.connections, this.outbox)
    this.signingKeys = new SqliteSigningKeys(connection, sealer)
    this.auditReader = this.audit
  }

  async ping(): Promise<void> {
    this.connection.get('SELECT count(*) FROM signing_keys')
  }

  async sweep(now: number): Promise<number> {
    let count = 0
    for (const { table, key, expired, before } of EXPIRING) {
      const sql = `DELETE FROM ${table} WHERE (${key}) IN (SELECT ${key} FROM ${table} WHERE ${expired} < ? LIMIT ${SWEPT_AT_ONCE})`
      let rows: number
      do {
        rows = await this.connection.write(() => this.connection.run(sql, now - before))
        count += rows
      } while (rows === SWEPT_AT_ONCE)
    }
    return count
  }

  /** One write per row, each an update of what was read: service goes on meanwhile. */
  async rewrap(): Promise<number> {
    let count = 0
    for (const { table, column, keys, place } of SEALED)
      for (const row of this.connection.all(
        `SELECT ${[...keys, column].join(', ')} FROM ${table} WHERE ${column} IS NOT NULL`,
      ))
        count += await this.#reseal(table, column, keys, row, String(row[column]), place(row))

    for (const row of this.connection.all(
      "SELECT model, key, payload FROM artifacts WHERE model IN ('Interaction', 'PushedAuthorizationRequest', 'DeviceCode')",
    )) {
      const payload = JSON.parse(String(row['payload'])) as { sealed?: string; sealedId?: string }
      const [name, purpose] =
        payload.sealed !== undefined ? (['sealed', 'interaction'] as const) : (['sealedId', 'device_code'] as const)
      const sealed = payload[name]
      if (sealed === undefined || !this.#sealer.isStale(sealed)) continue
      const place = { purpose, owner: String(row['key']) }
      const fresh = JSON.stringify({ ...payload, [name]: this.#sealer.seal(place, this.#sealer.open(place, sealed)) })
      const sql = 'UPDATE artifacts SET payload = ? WHERE model = ? AND key = ? AND payload = ?'
      count += await this.connection.write(() =>
        this.connection.run(sql, fresh, row['model']!, row['key']!, row['payload']!),
      )
    }
    return count
  }

  async #reseal(
    table: string,
    column: string,
    keys: string[],
    row: Record<string, Value>,
    sealed: string,
    place: SealedPlace,
  ): Promise<number> {
    if (!this.#sealer.isStale(sealed)) return 0
    const fresh = this.#sealer.seal(place, this.#sealer.open(place, sealed))
    const where = [...keys, column].map((name) => `${name} = ?`).join(' AND ')
    const sql = `UPDATE ${table} SET ${column} = ? WHERE ${where}`
    return this.connection.write(() => this.connection.run(sql, fresh, ...keys.map((key) => row[key]!), sealed))
  }

  async check(): Promise<string[]> {
    try {
      return this.#problems()
    } catch (error) {
      if (error instanceof StoreUnavailable) return [error.message] // too damaged to be looked through
      throw error
    }
  }

  #problems(): string[] {
    const integrity = this.connection.all('PRAGMA integrity_check').map((row) => String(row['integrity_check']))
    const orphans = this.connection
      .all('PRAGMA foreign_key_check')
      .map((row) => `row ${row['rowid']} of ${row['table']} names a missing ${row['parent']}`)
    return [...integrity.filter((line) => line !== 'ok'), ...orphans]
  }

  async close(): Promise<void> {
    await this.connection.idle()
    this.connection.close()
  }
}
