import { trusted } from 'mongoose'
import type { AuditEvent, AuditStore } from '../../interactions/kit/stores.ts'
import type { AuditHead, AuditReader, AuditRow } from '../../server/stores.ts'
import { BEGINNING, chained, newWriter, told, verifyChains } from '../audit-chain.ts'
import { type Connection, insert, SETTLED } from './driver.ts'
import type { AuditDocument, Collections } from './schemas.ts'

/** Rows of one write. */
const AT_ONCE = 100
/** Rows of one read. */
const PAGE = 1000

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
    const { accountId, ...row } = chained(event, this.#writer, this.#number + 1, this.#previous)
    this.#number = row.number
    this.#previous = row.hash
    return {
      _id: idOf(row.writer, row.number),
      ...row,
      ...(accountId !== undefined && { accountId }),
      at: event.at,
      arrived: arrival(),
    }
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
    const filter = {
      ...(accountId !== undefined && { accountId }),
      ...(event !== undefined && { event }),
      ...(since !== undefined && { at: trusted({ $gte: since }) }),
    }
    const rows = await this.#connection.guarded(() =>
      this.#audit.find(filter, undefined, SETTLED).sort({ arrived: -1, _id: -1 }).limit(limit).lean(),
    )
    return rows.map(auditRow)
  }

  async *auditFromTheBeginning({ accountId, from, to }: { accountId?: string; from?: number; to?: number } = {}) {
    const between = { ...(from !== undefined && { $gte: from }), ...(to !== undefined && { $lt: to }) }
    const filter = {
      ...(accountId !== undefined && { accountId }),
      ...(Object.keys(between).length > 0 && { at: trusted(between) }),
    }
    // By its index, a page at a time: a cursor would not outlive a reader who is slow.
    for (let after: AuditDocument | undefined; ; ) {
      const rows: AuditDocument[] = await this.#connection.guarded(() =>
        this.#audit
          .find({ ...filter, ...behind(after) }, undefined, SETTLED)
          .sort({ arrived: 1, _id: 1 })
          .limit(PAGE)
          .lean(),
      )
      for (const row of rows) yield { ...auditRow(row), body: row.body }
      if (rows.length < PAGE) return
      after = rows.at(-1)
    }
  }

  async auditHeads(after = 0): Promise<AuditHead[]> {
    return this.#connection.guarded(async () => {
      const chains = await this.#audit
        .aggregate<{ _id: string; number: number }>(
          [{ $match: { arrived: { $gt: after } } }, { $group: { _id: '$writer', number: { $max: '$number' } } }],
          SETTLED,
        )
        .exec()
      const ids = chains.map(({ _id, number }) => idOf(_id, number))
      const rows = await this.#audit
        .find({ _id: trusted({ $in: ids }) as unknown as string }, undefined, SETTLED)
        .sort({ _id: 1 })
        .lean()
      return rows.map(({ writer, number, hash }) => ({ writer, number, hash }))
    })
  }

  async verifyAudit(known?: readonly AuditHead[]): ReturnType<AuditReader['verifyAudit']> {
    const stored = this.#audit.find({}, undefined, SETTLED).sort({ _id: 1 }).lean().cursor()
    return this.#connection.guarded(() => verifyChains(inPlace(stored), known))
  }
}

/** Rows that arrived later than this one. */
export const behind = (row: Pick<AuditDocument, 'arrived' | '_id'> | undefined) =>
  row && {
    $or: [
      { arrived: trusted({ $gt: row.arrived }) },
      { arrived: row.arrived, _id: trusted({ $gt: row._id }) as unknown as string },
    ],
  }

const auditRow = ({ body, arrived, hash, previous }: AuditDocument): AuditRow => ({
  ...told(body),
  id: arrived,
  hash,
  previous,
})

/** A row under another name than its own is as good as missing. */
async function* inPlace(rows: AsyncIterable<AuditDocument>): AsyncIterable<AuditDocument> {
  for await (const row of rows) yield row._id === idOf(row.writer, row.number) ? row : { ...row, number: -1 }
}

let last = 0
/** Grows with every row of this process; between processes it is as good as their clocks. */
function arrival(): number {
  last = Math.max(last + 1, Date.now() * 1000)
  return last
}

export const idOf = (writer: string, number: number) => `${writer}:${String(number).padStart(12, '0')}`
