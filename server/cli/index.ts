#!/usr/bin/env node
/** The command line. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, configuration or seed file. */
import { Command, CommanderError } from 'commander'
import { applyCommand } from './apply.ts'
import { auditCommand } from './audit.ts'
import { copyCommand } from './copy.ts'
import { directoryCommands } from './directory.ts'
import { explainCommand } from './explain.ts'
import { exportCommand } from './export.ts'
import { failed } from './house.ts'
import { keysCommand } from './keys.ts'
import { mfaCommand } from './mfa.ts'
import { migrateCommand } from './migrate.ts'
import { outboxCommand } from './outbox.ts'
import { peopleCommands } from './people.ts'
import { demoCommand, doctorCommand, serveCommand } from './server.ts'

const program = new Command('sallyport')
  .description('An OpenID Connect identity provider that proves who signs in.')
  .option('--json', 'answer in JSON')
  .option('--config <file>', 'configuration file (default: sallyport.config.yaml, when it is there)')
  .exitOverride()
  .showHelpAfterError('(--help shows what there is)')
  .addHelpText(
    'after',
    `
Examples:
  sallyport apply people-and-apps.yaml --dry-run
  sallyport serve
  sallyport mfa reset ana@acme.example --reason "lost phone, identified on a video call"
  sallyport audit list --user ana@acme.example --json
`,
  )

const commands = [
  serveCommand(),
  applyCommand(),
  exportCommand(),
  migrateCommand(),
  copyCommand(),
  ...directoryCommands(),
  mfaCommand(),
  explainCommand(),
  keysCommand(),
  auditCommand(),
  outboxCommand(),
  doctorCommand(),
  demoCommand(),
]
for (const command of peopleCommands()) commands.find((one) => one.name() === 'user')!.addCommand(command)
for (const command of commands) program.addCommand(inherit(command))

/** Every command throws instead of ending the process, and takes --json wherever it stands. */
function inherit(command: Command): Command {
  command.exitOverride().showHelpAfterError('(--help shows what there is)')
  if (command.commands.length === 0)
    command.option('--json', 'answer in JSON').option('--config <file>', 'configuration file')
  for (const sub of command.commands) inherit(sub)
  return command
}

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2
  else process.exitCode = failed(error)
}
