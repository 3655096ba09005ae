import { type Command, InvalidArgumentError } from 'commander'
import { answer, operator, Refused, withHouse } from './house.ts'

/** `client rotate-secret|check`. */
export function addClientCommands(command: Command): void {
  command
    .command('rotate-secret')
    .argument('<client_id>')
    .option(
      '--overlap <time>',
      'how long the former secret stays good: 90m, 24h, 7d; 0 ends it at once',
      overlapOf,
      DAY,
    )
    .description('make a new secret, shown once; the former one stays good for a day, or as long as --overlap says')
    .addHelpText(
      'after',
      `
Running servers take the new secret at once. With --overlap 0 no former secret is good any more.

Examples:
  sallyport client rotate-secret payments --overlap 7d
  sallyport client rotate-secret payments --overlap 0     # it was stolen`,
    )
    .action((clientId: string, { overlap }: { overlap: number }, self: Command) =>
      withHouse(self, async ({ database }) => {
        const { rotateSecret } = await import('../client-secret.ts')
        const now = Math.floor(Date.now() / 1000)
        const { former_until, ...rotated } = await rotateSecret(database, { clientId, overlap, now, actor: operator() })
        const until = former_until === undefined ? undefined : new Date(former_until * 1000).toISOString()
        answer(self, { ...rotated, ...(until && { former_until: until }) }, [
          `client_secret of ${clientId}, shown this once: ${rotated.client_secret}`,
          until === undefined ? 'no former secret is good any more' : `the former one is good until ${until}`,
        ])
      }),
    )

  command
    .command('check')
    .argument('<client_id>')
    .description('read a client as a reviewer would: what does not work (exit code 1), and what could be better')
    .addHelpText('after', '\nExample:\n  sallyport client check payments --json')
    .action((clientId: string, _options: unknown, self: Command) =>
      withHouse(self, async (house) => {
        const client = await house.database.directory.client(clientId)
        if (!client) throw new Refused(`there is no client "${clientId}": \`sallyport client list\` shows all`)
        const { checkClient } = await import('../client-check.ts')
        const { planningOf } = await import('../provider.ts')
        const remarks = await checkClient(house, client, await planningOf(house), Math.floor(Date.now() / 1000))
        answer(
          self,
          { client_id: clientId, remarks },
          remarks.length === 0
            ? [`nothing to say against ${clientId}`]
            : remarks.map(({ status, key, message }) => `${status.padEnd(4)}  ${key}: ${message}`),
        )
        if (remarks.some(({ status }) => status === 'fail')) process.exitCode = 1
      }),
    )
}

const DAY = 24 * 60 * 60
const UNITS: Record<string, number> = { s: 1, m: 60, h: 60 * 60, d: DAY }
/** Days that a former secret may stay good. */
const MOST_DAYS = 30

/** @returns seconds @throws {InvalidArgumentError} */
export function overlapOf(text: string): number {
  const [, count, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? (text === '0' ? ['', '0', 's'] : [])
  if (count === undefined) throw new InvalidArgumentError('say a time such as 90m, 24h or 7d, or 0.')
  const seconds = Number(count) * UNITS[unit]!
  if (seconds > MOST_DAYS * DAY) throw new InvalidArgumentError(`say at most ${MOST_DAYS}d.`)
  return seconds
}
