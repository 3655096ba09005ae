/** The audit's chains, the same in every database: number and hash of each row follow from the one before. */
import { createHash, randomBytes } from 'node:crypto'
import type { AuditEvent } from '../interactions/kit/stores.ts'

/** What the first row of a chain follows. */
export const BEGINNING = '0'.repeat(64)

/** The name of a new chain. */
export const newWriter = (): string => randomBytes(8).toString('hex')

/** A row as it is stored, as far as the chain goes. */
export interface ChainedRow {
  writer: string
  number: number
  event: string
  accountId?: string | undefined
  body: string
  previous: string
  hash: string
}

type Head = Pick<ChainedRow, 'writer' | 'number' | 'hash'>

/** The row of this event. @param previous hash of the row before, or {@link BEGINNING} */
export function chained(event: AuditEvent, writer: string, number: number, previous: string): ChainedRow {
  const body = canonical({ ...event, writer, number })
  const { event: name, accountId } = event
  return { writer, number, event: name, accountId, body, previous, hash: link(previous, body) }
}

/** What a row says, for those who read it. */
export const told = (body: string) => JSON.parse(body) as AuditEvent & { writer: string; number: number }

/**
 * Recomputes every chain.
 *
 * @param rows by writer, then number
 * @param known rows that were there once: a chain is also broken when it ends before them, or says something else there
 * @returns how many rows were looked at, and the first that is broken
 */
export async function verifyChains(
  rows: Iterable<ChainedRow> | AsyncIterable<ChainedRow>,
  known: readonly Head[] = [],
): Promise<{ rows: number; broken?: { writer: string; number: number; why: string } }> {
  const missing = new Map(known.map((head) => [nameOf(head), head]))
  let count = 0
  let writer: string | undefined
  let number = 0
  let previous = BEGINNING
  for await (const row of rows) {
    if (row.writer !== writer) [writer, number, previous] = [row.writer, 0, BEGINNING]
    number += 1
    count += 1
    const why = whyBroken(row, number, previous, missing.get(nameOf(row)))
    if (why) return { rows: count, broken: { writer, number, why } }
    missing.delete(nameOf(row))
    previous = row.hash
  }
  const [cut] = missing.values()
  return cut
    ? { rows: count, broken: { writer: cut.writer, number: cut.number, why: 'the chain ends before it' } }
    : { rows: count }
}

const nameOf = ({ writer, number }: Pick<Head, 'writer' | 'number'>) => `${writer}:${number}`

function whyBroken(row: ChainedRow, number: number, previous: string, known?: Head): string | undefined {
  if (row.number !== number) return 'a row is missing'
  if (known && known.hash !== row.hash) return 'the chain was written anew'
  if (row.previous !== previous || row.hash !== link(previous, row.body)) return 'the row was changed'
  const { event, accountId } = told(row.body)
  if (row.event !== event || row.accountId !== accountId)
    return 'the row is filed under another event or person than it speaks of'
  return undefined
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
