/** The audit as text for other programs, row by row. */
import type { AuditRow } from './stores.ts'

/** A row, with the text that its hash is over and the address of whom it is about. */
export type ExportedRow = AuditRow & { body: string; email?: string | undefined }

/** How it is written. */
export type ExportFormat = 'ndjson' | 'csv'

/** One line of JSON. `body` is exactly what the hash is over; the other fields say the same for those who only read. */
const ndjson = ({ id: _order, at, ...row }: ExportedRow) => JSON.stringify({ time: iso(at), ...row })

const COLUMNS = [
  'time',
  'event',
  'outcome',
  'account_id',
  'email',
  'actor',
  'client_id',
  'reasons',
  'details',
  'ip',
  'user_agent',
  'request_id',
  'cid',
  'session',
  'writer',
  'number',
  'previous',
  'hash',
  'body_base64url',
]

const csv = (row: ExportedRow) =>
  [
    iso(row.at),
    row.event,
    row.outcome,
    row.accountId,
    row.email,
    row.actor,
    row.clientId,
    row.reasons?.join(', '),
    row.details && JSON.stringify(row.details),
    row.ip,
    row.userAgent,
    row.requestId,
    row.cid,
    row.session,
    row.writer,
    String(row.number),
    row.previous,
    row.hash,
    // In letters that no spreadsheet takes for a formula: it must not be changed.
    Buffer.from(row.body).toString('base64url'),
  ]
    .map(cell)
    .join(',')

/**
 * A cell (RFC 4180 §2) that no spreadsheet takes for a formula (CWE-1236): an apostrophe stands before whatever would begin
 * one, at the beginning and behind everything that some spreadsheet takes for the end of a cell.
 */
export function cell(value: string | undefined): string {
  const harmless = (value ?? '').replace(/(^|[;,\t\r\n|])([ "']*)(?=[=+\-@＝＋－＠])/g, "$1'$2")
  // A tab or a line break at the beginning is skipped by some, and what follows is looked at.
  return `"${harmless.replace(/^(?=[\t\r\n])/, "'").replaceAll('"', '""')}"`
}

const iso = (seconds: number) => new Date(seconds * 1000).toISOString()

/** The lines of the file, each with its end. CSV begins with the names of its columns. */
export async function* exported(rows: AsyncIterable<ExportedRow>, format: ExportFormat): AsyncIterable<string> {
  if (format === 'csv') yield `${COLUMNS.join(',')}\r\n`
  for await (const row of rows) yield format === 'csv' ? `${csv(row)}\r\n` : `${ndjson(row)}\n`
}
