import { readFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { answer, configFor, operator, withHouse } from './house.ts'

/** `apply FILE`: brings the server to what the file says. */
export function applyCommand(): Command {
  return new Command('apply')
    .description('bring companies, people, APIs and clients to what a YAML or JSON file says; all or nothing')
    .argument('<file>', 'seed file')
    .option('--dry-run', 'print the difference, write nothing')
    .option('--set-passwords', 'use `password` also where the account has one')
    .addOption(new Option('--prune <what>', 'remove stored ones that the file does not list').choices(['clients']))
    .addHelpText(
      'after',
      '\nExamples:\n  sallyport apply seed.yaml --dry-run\n  sallyport apply seed.yaml --prune clients',
    )
    .action(
      async (
        file: string,
        options: { dryRun?: boolean; setPasswords?: boolean; prune?: 'clients' },
        command: Command,
      ) => {
        const { applyPlan, parseSeed, planSeed, SeedError } = await import('../seed.ts')
        const { hasherOf } = await import('../provider.ts')
        const { environment } = await import('../config.ts')
        const config = configFor(command)
        let text: string
        try {
          text = readFileSync(file, 'utf8')
        } catch (cause) {
          throw new SeedError(`cannot read ${file}: name a YAML or JSON file`, { cause })
        }
        const seed = parseSeed(text, file, environment())

        await withHouse(
          command,
          async ({ database }) => {
            const plan = await planSeed(database, seed, {
              hash: hasherOf(config).hash,
              passwordMinLength: config.SALLYPORT_PASSWORD_MIN_LENGTH,
              setPasswords: options.setPasswords ?? false,
              pruneClients: options.prune === 'clients',
            })
            if (!options.dryRun) await applyPlan(database, plan, operator())
            for (const note of plan.notes) process.stderr.write(`note: ${note}\n`)
            const { lines, notes } = plan
            answer(
              command,
              { dry_run: options.dryRun ?? false, changes: lines, notes },
              lines.length > 0 ? lines : ['nothing to change'],
            )
          },
          { createKeys: true },
        )
      },
    )
}
