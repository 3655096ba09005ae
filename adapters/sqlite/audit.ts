import type { AuditEvent, AuditStore } from '../../interactions/kit/stores.ts'
import type { AuditReader, AuditRow } from '../../server/stores.ts'
import { BEGINNING, type ChainedRow, chained, newWriter, told, verifyChains } from '../audit-chain.ts'
import type { Connection, Row } from './driver.ts'

/** One chain of rows per opened database: number and hash of each follow from the one before. */
export class SqliteAudit implements AuditStore, AuditReader {
  readonly #connection: Connection
  readonly #writer = newWriter()
  #head = { number: 0, hash: BEGINNING }

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async append(event: AuditEvent): Promise<void> {
    let before = this.#head
    await this.#connection.write(
      () => {
        before = this.#head
        const { number, body, previous, hash } = chained(event, this.#writer, before.number + 1, before.hash)
        this.#connection.run(
          'INSERT INTO audit (writer, number, event, account_id, at, body, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
          this.#writer,
          number,
          event.event,
          event.accountId ?? null,
          event.at,
          body,
          previous,
          hash,
        )
        // Only now: a row that could not be written leaves no gap.
        this.#head = { number, hash }
      },
      {
        undo: () => {
          this.#head = before
        },
      },
    )
  }

  async auditRows({
    accountId,
    event,
    since,
    limit = 100,
  }: {
    accountId?: string
    event?: string
    since?: number
    limit?: number
  } = {}): Promise<AuditRow[]> {
    const rows = this.#connection.all(
      `SELECT * FROM audit WHERE (?1 IS NULL OR account_id = ?1) AND (?2 IS NULL OR event = ?2) AND (?3 IS NULL OR at >= ?3)
        ORDER BY id DESC LIMIT ?4`,
      accountId ?? null,
      event ?? null,
      since ?? null,
      limit,
    )
    return rows.map(({ body, ...row }) => auditRow(row, String(body)))
  }

  async *auditFromTheBeginning({ accountId, from, to }: { accountId?: string; from?: number; to?: number } = {}) {
    const sql = `SELECT * FROM audit WHERE id > ?1 AND (?2 IS NULL OR account_id = ?2) AND (?3 IS NULL OR at >= ?3)
      AND (?4 IS NULL OR at < ?4) ORDER BY id LIMIT ${PAGE}`
    for (let after = Number.MIN_SAFE_INTEGER, rows: Row[] = []; ; ) {
      rows = this.#connection.all(sql, after, accountId ?? null, from ?? null, to ?? null)
      for (const row of rows) yield { ...auditRow(row, String(row['body'])), body: String(row['body']) }
      if (rows.length < PAGE) return
      after = Number(rows.at(-1)!['id'])
    }
  }

  async verifyAudit(): ReturnType<AuditReader['verifyAudit']> {
    return verifyChains(this.#byChain())
  }

  async *#byChain(): AsyncIterable<ChainedRow> {
    const sql = `SELECT writer, number, event, account_id, body, previous, hash FROM audit WHERE (writer, number) > (?, ?)
      ORDER BY writer, number LIMIT ${PAGE}`
    for (let after: [string, number] = ['', Number.MIN_SAFE_INTEGER], rows: Row[] = []; ; ) {
      rows = this.#connection.all(sql, ...after)
      for (const row of rows)
        yield {
          writer: String(row['writer']),
          number: Number(row['number']),
          event: String(row['event']),
          accountId: (row['account_id'] as string | null) ?? undefined,
          body: String(row['body']),
          previous: String(row['previous']),
          hash: String(row['hash']),
        }
      if (rows.length < PAGE) return
      after = [String(rows.at(-1)!['writer']), Number(rows.at(-1)!['number'])]
    }
  }
}

/** Rows of one read: an audit may be larger than the memory. */
const PAGE = 1000

const auditRow = (row: Row, body: string): AuditRow => ({
  ...told(body),
  id: Number(row['id']),
  hash: String(row['hash']),
  previous: String(row['previous']),
})
