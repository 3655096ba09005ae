import type { ConnectionStore, Connection as SamlConnection, Sealer } from '../../interactions/kit/stores.ts'
import {
  type Change,
  checkConnections,
  StoreConflict,
  type StoredConnection,
  testedAlike,
  type WrittenConnection,
  writtenConnection,
} from '../../server/stores.ts'
import type { Connection, Row } from './driver.ts'

const placeOf = (owner: string) => ({ purpose: 'saml_key', owner })
type Keys = SamlConnection['keys']

/** Connections to companies' identity providers. What begins with "in" belongs into a write. */
export class SqliteConnections implements ConnectionStore {
  readonly #connection: Connection
  readonly #sealer: Sealer

  constructor(connection: Connection, sealer: Sealer) {
    this.#connection = connection
    this.#sealer = sealer
  }

  async connection(id: string): Promise<SamlConnection | undefined> {
    const row = this.#row(id)
    return row && { ...writtenOf(row), keys: this.#keysOf(row) }
  }

  async connectionFor(domain: string, clientId: string): Promise<SamlConnection | undefined> {
    const [row] = this.#connection.settled(
      `SELECT c.* FROM connection_domains d JOIN connections c ON c.id = d.connection_id
        JOIN companies o ON o.id = c.company_id
        WHERE d.domain = ? AND d.client_id IN (?, '') AND c.state = 'active' AND o.disabled = 0
        ORDER BY d.client_id DESC LIMIT 1`,
      domain,
      clientId,
    )
    return row && { ...writtenOf(row), keys: this.#keysOf(row) }
  }

  async anyFor(clientId: string): Promise<boolean> {
    const sql = `SELECT 1 FROM connections WHERE state = 'active' AND (client_id IS NULL OR client_id = ?) LIMIT 1`
    return this.#connection.settled(sql, clientId).length > 0
  }

  /** For the directory: without private keys. */
  list(): StoredConnection[] {
    return this.#connection.all('SELECT * FROM connections ORDER BY id').map((row) => this.#storedOf(row))
  }

  stored(id: string): StoredConnection | undefined {
    const row = this.#row(id)
    return row && this.#storedOf(row)
  }

  /** What {@link refuseIfChanged} compares. */
  written(id: string): WrittenConnection | undefined {
    const row = this.#row(id)
    return row && writtenOf(row)
  }

  inPut({ value, firstKey }: Change & { kind: 'connection'; op: 'put' }): void {
    const { id, company, client, state, domains, ...settings } = writtenConnection(value)
    const before = this.#row(id)
    if (before && before['company_id'] !== company)
      throw new StoreConflict(`connection "${id}" stays with company "${before['company_id']}": make another one`)
    if (!before && !firstKey) throw new StoreConflict(`connection "${id}" needs a key pair of ours`)
    const stays = before !== undefined && testedAlike(writtenOf(before), value)
    const row = [company, client ?? null, state, JSON.stringify(domains), JSON.stringify(settings)]
    if (before)
      this.#connection.run(
        `UPDATE connections SET company_id = ?, client_id = ?, state = ?, domains = ?, settings = ?,
          tested_at = CASE ? WHEN 1 THEN tested_at END WHERE id = ?`,
        ...row,
        stays ? 1 : 0,
        id,
      )
    else
      this.#connection.run(
        `INSERT INTO connections (company_id, client_id, state, domains, settings, id, keys) VALUES (?, ?, ?, ?, ?, ?, ?)`,
        ...row,
        id,
        this.#sealer.seal(placeOf(id), JSON.stringify([firstKey])),
      )
    this.#connection.run('DELETE FROM connection_domains WHERE connection_id = ?', id)
  }

  inRemove(id: string): void {
    this.#connection.run('DELETE FROM connections WHERE id = ?', id)
  }

  /** Looks at all of them together, and gives out the domains anew. At the end of a write that touched one of them. */
  inCheck(): void {
    const all = this.#connection.all('SELECT * FROM connections ORDER BY id').map(writtenOf)
    if (all.length === 0) return
    const domains = new Map(
      this.#connection
        .all('SELECT id, domains FROM companies')
        .map((row) => [String(row['id']), JSON.parse(String(row['domains'])) as string[]]),
    )
    const isClient = (id: string) => this.#connection.get('SELECT 1 FROM clients WHERE client_id = ?', id) !== undefined
    checkConnections(all, (company) => domains.get(company), isClient)
    claimDomains(this.#connection, all)
  }

  async replaceKeys(id: string, before: { certificate: string }[], after: Keys): Promise<boolean> {
    return this.#connection.write(() => {
      const row = this.#row(id)
      if (!row || !sameCertificates(this.#keysOf(row), before)) return false
      const sealed = this.#sealer.seal(placeOf(id), JSON.stringify(after))
      return this.#connection.run('UPDATE connections SET keys = ? WHERE id = ?', sealed, id) === 1
    })
  }

  async recordTest(id: string, now: number): Promise<boolean> {
    return this.#connection.write(
      () => this.#connection.run('UPDATE connections SET tested_at = ? WHERE id = ?', now, id) === 1,
    )
  }

  #row(id: string): Row | undefined {
    return this.#connection.get('SELECT * FROM connections WHERE id = ?', id)
  }

  #keysOf(row: Row): Keys {
    return JSON.parse(this.#sealer.open(placeOf(String(row['id'])), String(row['keys']))) as Keys
  }

  #storedOf(row: Row): StoredConnection {
    return {
      ...writtenOf(row),
      keys: this.#keysOf(row).map(({ certificate }) => ({ certificate })),
      ...(row['tested_at'] !== null && { testedAt: Number(row['tested_at']) }),
    }
  }
}

/** The unique key over domain and client is the lock: a second owner cannot be written. */
export function claimDomains(
  connection: Connection,
  all: Pick<WrittenConnection, 'id' | 'client' | 'state' | 'domains'>[],
): void {
  connection.run('DELETE FROM connection_domains')
  for (const { id, client = '', state, domains } of all)
    for (const domain of state === 'disabled' ? [] : domains)
      connection.run(
        'INSERT INTO connection_domains (domain, client_id, connection_id) VALUES (?, ?, ?)',
        domain,
        client,
        id,
      )
}

const sameCertificates = (one: { certificate: string }[], other: { certificate: string }[]) =>
  one.map(({ certificate }) => certificate).join() === other.map(({ certificate }) => certificate).join()

const writtenOf = (row: Row): WrittenConnection => ({
  id: String(row['id']),
  company: String(row['company_id']),
  ...(row['client_id'] !== null && { client: String(row['client_id']) }),
  state: row['state'] as WrittenConnection['state'],
  domains: JSON.parse(String(row['domains'])) as string[],
  ...(JSON.parse(String(row['settings'])) as Omit<
    WrittenConnection,
    'id' | 'company' | 'client' | 'state' | 'domains'
  >),
})
