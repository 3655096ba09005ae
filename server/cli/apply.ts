import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import type { Config } from '../config.ts'
import type { House } from '../open.ts'
import { answer, configFor, Misused, operator, reasonGiven, withHouse } from './house.ts'

/** `apply FILE`: brings the server to what the file says. */
export function applyCommand(): Command {
  return new Command('apply')
    .description(
      'bring companies, people, APIs, clients and connections to what a YAML or JSON file says; all or nothing',
    )
    .argument('<file>', 'seed file')
    .option('--dry-run', 'print the difference, write nothing')
    .option('--set-passwords', 'use `password` also where the account has one')
    .option('--prune <what>', 'remove stored ones that the file does not list: clients, connections, or both', prunable)
    .option('--force', 'activate connections in the mode forward though no dry run has succeeded')
    .option('--reason <text>', 'with --force: why')
    .addHelpText(
      'after',
      '\nExamples:\n  sallyport apply seed.yaml --dry-run\n  sallyport apply seed.yaml --prune clients',
    )
    .action(
      async (
        file: string,
        options: { dryRun?: boolean; setPasswords?: boolean; prune?: string[]; force?: boolean; reason?: string },
        command: Command,
      ) => {
        if ((options.reason !== undefined) !== (options.force ?? false))
          throw new Misused('--force and --reason: one goes with the other')
        const untested = options.reason === undefined ? {} : { untested: reasonGiven(options.reason) }
        const { applyPlan, parseSeed, planSeed, SeedError, untilItHolds } = await import('../seed/index.ts')
        const { planningOf } = await import('../provider.ts')
        const { endTheseSessions } = await import('../sessions.ts')
        const { environment } = await import('../config.ts')
        const config = await configFor(command)
        let text: string
        try {
          text = readFileSync(file, 'utf8')
        } catch (cause) {
          throw new SeedError(`cannot read ${file}: name a YAML or JSON file`, { cause })
        }
        const seed = parseSeed(text, file, environment())

        const work = async (house: House) => {
          const { database } = house
          const planning = {
            ...(await planningOf(house)),
            setPasswords: options.setPasswords ?? false,
            pruneClients: options.prune?.includes('clients') ?? false,
            pruneConnections: options.prune?.includes('connections') ?? false,
            ...untested,
          }
          const plan = await untilItHolds(
            () => planSeed(database, seed, planning),
            async (made) => {
              if (options.dryRun) return
              await applyPlan(database, made, operator(), (sessions) => endTheseSessions(house, sessions, operator()))
            },
          )
          for (const note of plan.notes) process.stderr.write(`note: ${note}\n`)
          const { lines, notes } = plan
          answer(
            command,
            { dry_run: options.dryRun ?? false, changes: lines, notes },
            lines.length > 0 ? lines : ['nothing to change'],
          )
        }
        if (!options.dryRun) return withHouse(command, work, { createKeys: true })
        const { storeExists } = await import('../database.ts')
        if (await storeExists(config.SALLYPORT_STORE)) return withHouse(command, work)
        return withEmptyHouse(config, work)
      },
    )
}

function prunable(value: string): string[] {
  const kinds = value.split(',')
  if (kinds.every((kind) => kind === 'clients' || kind === 'connections')) return kinds
  throw new InvalidArgumentError('It may be clients, connections, or both with a comma.')
}

/** Works with an empty server that is thrown away: a dry run before the first start must not be the first start. */
async function withEmptyHouse(config: Config, work: (house: House) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-dry-run-'))
  try {
    const { openHouse } = await import('../open.ts')
    const { createLogger } = await import('../log.ts')
    const empty: Config = {
      ...config,
      NODE_ENV: 'development', // elsewhere no key ring is made by itself; this one seals nothing that stays
      SALLYPORT_STORE: { kind: 'sqlite', file: join(folder, 'sallyport.sqlite') },
      SALLYPORT_KEYS: join(folder, 'keys.json'),
    }
    const house = await openHouse(empty, { createKeys: true, logger: createLogger('warn') })
    try {
      await work(house)
    } finally {
      await house.close()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
