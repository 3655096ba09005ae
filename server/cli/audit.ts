import { readFileSync } from 'node:fs'
import { Command, InvalidArgumentError } from 'commander'
import type { AuditRow } from '../stores.ts'
import { auditExportCommand, time } from './audit-export.ts'
import { answer, Misused, operator, personOf, Refused, table, withHouse } from './house.ts'

/** `audit list|verify|checkpoint|export`. */
export function auditCommand(): Command {
  const command = new Command('audit').description('what happened, and why')

  command
    .command('list')
    .option('--user <email>', 'only about this person')
    .option('--event <name>', 'only this event, such as mfa.otp')
    .option('--since <time>', 'only from this time on, such as 2027-01-31 or 2027-01-31T12:00:00Z', time)
    .option('--limit <n>', 'at most so many rows', count, 50)
    .description('the newest rows first')
    .addHelpText(
      'after',
      '\nExamples:\n  sallyport audit list --user ana@acme.example\n  sallyport audit list --event mfa.reset --json',
    )
    .action((options: { user?: string; event?: string; since?: number; limit: number }, self: Command) =>
      withHouse(self, async ({ database }) => {
        const user = options.user === undefined ? undefined : await personOf(database, options.user)
        const rows = await database.auditReader.auditRows({
          limit: options.limit,
          ...(user && { accountId: user.id }),
          ...(options.event !== undefined && { event: options.event }),
          ...(options.since !== undefined && { since: options.since }),
        })
        const emails = new Map<string, string>()
        for (const id of new Set(rows.flatMap(({ accountId }) => accountId ?? []))) {
          const email = (await database.directory.user(id))?.email
          if (email !== undefined) emails.set(id, email)
        }
        answer(
          self,
          rows,
          table([['time', 'event', 'outcome', 'who', 'client', 'why'], ...rows.map((row) => cells(row, emails))]),
        )
      }),
    )

  command
    .command('verify')
    .option(
      '--checkpoints <file>',
      'hold it also against these: one a line, as `audit checkpoint` and the log have them',
    )
    .description('recompute every chain of rows, and hold it against the signed checkpoints')
    .action(({ checkpoints: file }: { checkpoints?: string }, self: Command) =>
      withHouse(self, async ({ database, keyRing }) => {
        const { verifyAudit } = await import('../audit-checkpoints.ts')
        const result = await verifyAudit({ ...database, keyRing }, file === undefined ? [] : linesOf(file))
        const { broken, rows, checkpoints, newest } = result
        const last = newest === undefined ? '' : `, the newest of ${iso(newest)}`
        answer(self, result, broken ? [] : [`${rows} rows, all chains whole; ${checkpoints} checkpoints${last}`])
        if (broken) throw new Refused(broken)
      }),
    )

  command
    .command('checkpoint')
    .description('sign what is there now, for you to keep elsewhere; a server does so every hour and logs it')
    .action((_options: unknown, self: Command) =>
      withHouse(self, async ({ database, keyRing }) => {
        const { makeCheckpoint } = await import('../audit-checkpoints.ts')
        const now = Math.floor(Date.now() / 1000)
        const checkpoint = await makeCheckpoint({ ...database, keyRing }, { now, actor: operator() })
        if (checkpoint === undefined) throw new Refused('nothing has happened since the last checkpoint')
        answer(self, { checkpoint }, [checkpoint])
      }),
    )
  command.addCommand(auditExportCommand())
  return command
}

const cells = (row: AuditRow, emails: Map<string, string>): string[] => [
  iso(row.at),
  row.event,
  row.outcome,
  emails.get(row.accountId ?? '') ?? row.actor ?? '-',
  row.clientId ?? '-',
  [...(row.reasons ?? []), ...Object.entries(row.details ?? {}).map(([name, value]) => `${name}=${value}`)].join(' '),
]

const iso = (seconds: number) => new Date(seconds * 1000).toISOString()

/** @throws {Misused} when there is no such file */
function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '')
  } catch (cause) {
    throw new Misused(`--checkpoints: cannot read ${file} (${(cause as NodeJS.ErrnoException).code})`, { cause })
  }
}

function count(value: string): number {
  if (!/^[1-9]\d{0,5}$/.test(value)) throw new InvalidArgumentError('must be a whole number from 1 to 999999')
  return Number(value)
}
