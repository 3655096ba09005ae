import { createWriteStream, rmSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Command, InvalidArgumentError, Option } from 'commander'
import type { ExportedRow, ExportFormat } from '../audit-export.ts'
import type { Database } from '../stores.ts'
import { answer, personOf, Refused, withHouse } from './house.ts'

interface Options {
  from?: number
  to?: number
  user?: string
  format: ExportFormat
  output?: string
}

/** `audit export`. */
export function auditExportCommand(): Command {
  return new Command('export')
    .description('every row, oldest first, with its hash, for another program')
    .option('--from <time>', 'from this time on, such as 2027-01-31 or 2027-01-31T12:00:00Z', time)
    .option('--to <time>', 'before this time', time)
    .option('--user <email>', 'only about this person')
    .addOption(new Option('--format <format>', 'how').choices(['ndjson', 'csv']).default('ndjson'))
    .option('--output <file>', 'into this file, which must not be there; by default standard output')
    .addHelpText(
      'after',
      `
A date alone is its first second, UTC. The hash of a row is SHA-256 of \`previous\`, a line feed and \`body\`.

Examples:
  sallyport audit export --output audit.ndjson
  sallyport audit export --from 2027-01-01 --to 2027-02-01 --format csv --output january.csv`,
    )
    .action(async ({ from, to, user: email, format, output }: Options, self: Command) => {
      if (from !== undefined && to !== undefined && from >= to) throw new Refused('--from must be before --to')
      await withHouse(self, async ({ database }) => {
        const user = email === undefined ? undefined : await personOf(database, email)
        const filter = {
          ...(user && { accountId: user.id }),
          ...(from !== undefined && { from }),
          ...(to !== undefined && { to }),
        }
        let count = 0
        const rows = async function* () {
          for await (const row of withEmails(database, database.auditReader.auditFromTheBeginning(filter))) {
            count += 1
            yield row
          }
        }
        const { exported } = await import('../audit-export.ts')
        const lines = Readable.from(exported(rows(), format))
        if (output === undefined) return toStandardOutput(lines)
        await toFile(lines, output)
        return answer(self, { output, format, rows: count }, [`${count} rows in ${output}`])
      })
    })
}

/** People whose addresses are kept in memory. */
const KNOWN = 10_000

async function* withEmails(
  { directory }: Database,
  rows: AsyncIterable<Omit<ExportedRow, 'email'>>,
): AsyncIterable<ExportedRow> {
  const known = new Map<string, string | undefined>()
  for await (const row of rows) {
    const { accountId } = row
    if (accountId !== undefined && !known.has(accountId)) {
      if (known.size >= KNOWN) known.clear()
      known.set(accountId, (await directory.user(accountId))?.email)
    }
    const email = accountId === undefined ? undefined : known.get(accountId)
    yield { ...row, ...(email !== undefined && { email }) }
  }
}

/** Whoever reads may stop: `audit export | head`. */
async function toStandardOutput(lines: Readable): Promise<void> {
  await pipeline(lines, process.stdout, { end: false }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
}

async function toFile(lines: Readable, file: string): Promise<void> {
  try {
    await pipeline(lines, createWriteStream(file, { flags: 'wx', mode: 0o600 }))
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    if (code === 'EEXIST') throw new Refused(`${file} is there already: name another file`, { cause })
    rmSync(file, { force: true }) // half an audit looks like a whole one
    if (/^E[A-Z]+$/.test(code ?? '')) throw new Refused(`cannot write ${file}: ${message}`, { cause })
    throw cause
  }
}

/** Seconds since 1970. */
export function time(value: string): number {
  const date = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/.test(value)
    ? Date.parse(value)
    : Number.NaN
  if (Number.isNaN(date)) throw new InvalidArgumentError('must be a date such as 2027-01-31 or 2027-01-31T12:00:00Z')
  return Math.ceil(date / 1000)
}
