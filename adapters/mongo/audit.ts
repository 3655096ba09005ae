import { createHash, randomBytes } from 'node:crypto'
import type { AuditEvent, AuditStore } from '../../interactions/kit/stores.ts'
import type { AuditReader, AuditRow } from '../../server/stores.ts'
import { type Connection, insert, SETTLED } from './driver.ts'
import type { AuditDocument, Collections } from './schemas.ts'

const BEGINNING = '0'.repeat(64)
/** Rows of one write. */
const AT_ONCE = 100

interface Waiting {
  event: AuditEvent
  written: () => void
  failed: (error: unknown) => void
}

/**
 * One chain of rows per opened database: number and hash of each follow from the one before.
 *
 * Rows are written one batch at a time, in order; what comes meanwhile is the next batch. When a write fails, nobody
 * knows how many of its rows are there: the chain ends at the last of them, and the next row begins a new one.
 */
export class MongoAudit implements AuditStore, AuditReader {
  readonly #connection: Connection
  readonly #audit: Collections['audit']
  readonly #waiting: Waiting[] = []
  #isWriting = false
  #written = Promise.resolve()
  #writer = newWriter()
  #number = 0
  #previous = BEGINNING

  constructor(connection: Connection, { audit }: Collections) {
    this.#connection = connection
    this.#audit = audit
  }

  append(event: AuditEvent): Promise<void> {
    return new Promise((written, failed) => {
      this.#waiting.push({ event, written, failed })
      if (!this.#isWriting) this.#written = this.#write()
    })
  }

  /** Waits for what was appended so far, whether it could be written or not. */
  async settled(): Promise<void> {
    await this.#written
  }

  async #write(): Promise<void> {
    this.#isWriting = true
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, AT_ONCE)
      try {
        const rows = batch.map(({ event }) => this.#next(event))
        await this.#connection.guarded(() => insert(this.#audit, rows))
        for (const { written } of batch) written()
      } catch (error) {
        this.#writer = newWriter()
        this.#number = 0
        this.#previous = BEGINNING
        for (const { failed } of batch) failed(error)
      }
    }
    this.#isWriting = false
  }

  #next(event: AuditEvent): AuditDocument {
    const writer = this.#writer
    const number = this.#number + 1
    const body = canonical({ ...event, writer, number })
    const previous = this.#previous
    const hash = link(previous, body)
    this.#number = number
    this.#previous = hash
    return {
      _id: idOf(writer, number),
      writer,
      number,
      event: event.event,
      ...(event.accountId !== undefined && { accountId: event.accountId }),
      at: event.at,
      arrived: arrival(),
      body,
      previous,
      hash,
    }
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
    const filter = { ...(accountId !== undefined && { accountId }), ...(event !== undefined && { event }) }
    const rows = await this.#connection.guarded(() =>
      this.#audit.find(filter, undefined, SETTLED).sort({ arrived: -1, _id: -1 }).limit(limit).lean(),
    )
    return rows.map(({ body, arrived, hash, previous }) => ({
      ...(JSON.parse(body) as AuditEvent & { writer: string; number: number }),
      id: arrived,
      hash,
      previous,
    }))
  }

  async verifyAudit(): Promise<{ rows: number; broken?: { writer: string; number: number; why: string } }> {
    return this.#connection.guarded(async () => {
      let rows = 0
      let writer: string | undefined
      let number = 0
      let previous = BEGINNING
      for await (const row of this.#audit.find({}, undefined, SETTLED).sort({ _id: 1 }).lean().cursor()) {
        if (row.writer !== writer) [writer, number, previous] = [row.writer, 0, BEGINNING]
        number += 1
        rows += 1
        const why = whyBroken(row, number, previous)
        if (why) return { rows, broken: { writer, number, why } }
        previous = row.hash
      }
      return { rows }
    })
  }
}

function whyBroken(row: AuditDocument, number: number, previous: string): string | undefined {
  if (row.number !== number || row._id !== idOf(row.writer, number)) return 'a row is missing'
  if (row.previous !== previous || row.hash !== link(previous, row.body)) return 'the row was changed'
  const { event, accountId } = JSON.parse(row.body) as AuditEvent
  if (row.event !== event || row.accountId !== accountId)
    return 'the row is filed under another event or person than it speaks of'
  return undefined
}

let last = 0
/** Grows with every row of this process; between processes it is as good as their clocks. */
function arrival(): number {
  last = Math.max(last + 1, Date.now() * 1000)
  return last
}

const newWriter = () => randomBytes(8).toString('hex')
const idOf = (writer: string, number: number) => `${writer}:${String(number).padStart(12, '0')}`
const link = (previous: string, body: string) => createHash('sha256').update(`${previous}\n${body}`).digest('hex')

/** JSON with sorted keys: the same event has the same hash. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}
