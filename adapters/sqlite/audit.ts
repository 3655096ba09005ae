import { createHash, randomBytes } from 'node:crypto'
import type { AuditEvent, AuditStore } from '../../interactions/kit/stores.ts'
import type { AuditReader, AuditRow } from '../../server/stores.ts'
import type { Connection } from './driver.ts'

const BEGINNING = '0'.repeat(64)

/** One chain of rows per opened database: number and hash of each follow from the one before. */
export class SqliteAudit implements AuditStore, AuditReader {
  readonly #connection: Connection
  readonly #writer = randomBytes(8).toString('hex')
  #head = { number: 0, hash: BEGINNING }

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async append(event: AuditEvent): Promise<void> {
    let before = this.#head
    await this.#connection.write(
      () => {
        before = this.#head
        const number = before.number + 1
        const body = canonical({ ...event, writer: this.#writer, number })
        const hash = link(before.hash, body)
        this.#connection.run(
          'INSERT INTO audit (writer, number, event, account_id, at, body, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
          this.#writer,
          number,
          event.event,
          event.accountId ?? null,
          event.at,
          body,
          before.hash,
          hash,
        )
        // Only now: a row that could not be written leaves no gap.
        this.#head = { number, hash }
      },
      () => {
        this.#head = before
      },
    )
  }

  async auditRows({
    accountId,
    event,
    limit = 100,
  }: {
    accountId?: string
    event?: string
    limit?: number
  } = {}): Promise<AuditRow[]> {
    const rows = this.#connection.all(
      `SELECT * FROM audit WHERE (?1 IS NULL OR account_id = ?1) AND (?2 IS NULL OR event = ?2) ORDER BY id DESC LIMIT ?3`,
      accountId ?? null,
      event ?? null,
      limit,
    )
    return rows.map((row) => ({
      ...(JSON.parse(String(row['body'])) as AuditEvent & { writer: string; number: number }),
      id: Number(row['id']),
      hash: String(row['hash']),
      previous: String(row['previous']),
    }))
  }

  async verifyAudit(): Promise<{ rows: number; broken?: { writer: string; number: number; why: string } }> {
    let rows = 0
    let writer: unknown
    let number = 0
    let previous = BEGINNING
    for (const row of this.#connection.all(
      'SELECT writer, number, event, account_id, body, previous, hash FROM audit ORDER BY writer, number',
    )) {
      if (row['writer'] !== writer) [writer, number, previous] = [row['writer'], 0, BEGINNING]
      number += 1
      rows += 1
      const where = { writer: String(writer), number }
      if (row['number'] !== number) return { rows, broken: { ...where, why: 'a row is missing' } }
      if (row['previous'] !== previous || row['hash'] !== link(previous, String(row['body'])))
        return { rows, broken: { ...where, why: 'the row was changed' } }
      const { event, accountId = null } = JSON.parse(String(row['body'])) as AuditEvent
      if (row['event'] !== event || row['account_id'] !== accountId)
        return { rows, broken: { ...where, why: 'the row is filed under another event or person than it speaks of' } }
      previous = String(row['hash'])
    }
    return { rows }
  }
}

const link = (previous: string, body: string) => createHash('sha256').update(`${previous}\n${body}`).digest('hex')

/** JSON with sorted keys: the same event has the same hash. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}
