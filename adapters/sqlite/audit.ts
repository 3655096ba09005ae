import type { AuditEvent, AuditStore } from '../../interactions/kit/stores.ts'
import type { AuditReader, AuditRow } from '../../server/stores.ts'
import { BEGINNING, chained, newWriter, told, verifyChains } from '../audit-chain.ts'
import type { Connection } from './driver.ts'

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
      ...told(String(row['body'])),
      id: Number(row['id']),
      hash: String(row['hash']),
      previous: String(row['previous']),
    }))
  }

  async verifyAudit(): ReturnType<AuditReader['verifyAudit']> {
    const sql = 'SELECT writer, number, event, account_id, body, previous, hash FROM audit ORDER BY writer, number'
    return verifyChains(
      this.#connection.all(sql).map((row) => ({
        writer: String(row['writer']),
        number: Number(row['number']),
        event: String(row['event']),
        accountId: (row['account_id'] as string | null) ?? undefined,
        body: String(row['body']),
        previous: String(row['previous']),
        hash: String(row['hash']),
      })),
    )
  }
}
