import { Command, InvalidArgumentError } from 'commander'
import type { AuditRow } from '../stores.ts'
import { auditExportCommand, time } from './audit-export.ts'
import { answer, personOf, Refused, table, withHouse } from './house.ts'

/** `audit list|verify|export`. */
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
    .description('recompute every chain of rows')
    .action((_options: unknown, self: Command) =>
      withHouse(self, async ({ database }) => {
        const result = await database.auditReader.verifyAudit()
        const { broken, rows } = result
        answer(self, result, broken ? [] : [`${rows} rows, all chains whole`])
        if (broken)
          throw new Refused(`the chain of writer ${broken.writer} is broken at row ${broken.number}: ${broken.why}`)
      }),
    )
  command.addCommand(auditExportCommand())
  return command
}

const cells = (row: AuditRow, emails: Map<string, string>): string[] => [
  new Date(row.at * 1000).toISOString(),
  row.event,
  row.outcome,
  emails.get(row.accountId ?? '') ?? row.actor ?? '-',
  row.clientId ?? '-',
  [...(row.reasons ?? []), ...Object.entries(row.details ?? {}).map(([name, value]) => `${name}=${value}`)].join(' '),
]

function count(value: string): number {
  if (!/^[1-9]\d{0,5}$/.test(value)) throw new InvalidArgumentError('must be a whole number from 1 to 999999')
  return Number(value)
}
