import { Command } from 'commander'
import { answer, Misused, personOf, table, withHouse } from './house.ts'

/** `outbox list`. */
export function outboxCommand(): Command {
  const command = new Command('outbox').description('messages to people: what is on its way, what has left')
  command
    .command('list')
    .option('--user <email>', 'only those to this person')
    .option('--limit <number>', 'how many, newest first', '50')
    .description('messages, newest first; what they say is shown on a developer’s machine only, until they have left')
    .addHelpText('after', '\nExample:\n  sallyport outbox list --user ana@acme.example --json')
    .action(({ user: email, limit }: { user?: string; limit: string }, self: Command) =>
      withHouse(self, async (house) => {
        if (!/^[1-9]\d{0,3}$/.test(limit)) throw new Misused('--limit: must be a whole number from 1 to 9999')
        const { config, database } = house
        const accountId = email === undefined ? undefined : (await personOf(database, email)).id
        const states = await database.outbox.list({
          limit: Number(limit),
          ...(accountId !== undefined && { accountId }),
        })
        const isOpen = config.NODE_ENV !== 'production'
        const letters = isOpen ? (await import('../provider.ts')).sallyportOf(house).letters : undefined
        const shown = await Promise.all(
          states.map(async ({ id, channel, kind, accountId: person, createdAt, dueAt, sentAt, tries, error }) => {
            const body = isOpen ? await database.outbox.read(id) : undefined
            const letter =
              body !== undefined && channel === 'mail' ? letters?.write({ kind, body, accountId: person }) : undefined
            return {
              id,
              channel,
              kind,
              user: person,
              state: sentAt !== undefined ? 'sent' : dueAt !== undefined ? 'waiting' : 'given up',
              created: iso(createdAt),
              ...(dueAt !== undefined && { due: iso(dueAt) }),
              ...(sentAt !== undefined && { sent: iso(sentAt) }),
              tries,
              ...(error !== undefined && { error }),
              ...(letter
                ? { to: letter.to, subject: letter.subject, text: letter.text }
                : body !== undefined && { body: JSON.parse(body) as unknown }),
            }
          }),
        )
        const head = ['created', 'state', 'channel', 'kind', 'user', 'tries', 'error']
        const rows = shown.map((row) => [
          row.created,
          row.state,
          row.channel,
          row.kind,
          row.user,
          String(row.tries),
          row.error ?? '-',
        ])
        answer(self, shown, shown.length === 0 ? ['no messages'] : table([head, ...rows]))
      }),
    )
  return command
}

const iso = (seconds: number) => new Date(seconds * 1000).toISOString()
