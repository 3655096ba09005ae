import { Command } from 'commander'
import type { Client, Company, DirectoryStore, User } from '../stores.ts'
import { answer, operator, personOf, Refused, reasonGiven, table, withHouse } from './house.ts'

/** A noun of the directory: how it is found, and what of it is shown. Never a secret. */
interface Noun<Thing> {
  name: string
  what: string
  list(directory: DirectoryStore): Promise<Thing[]>
  find(directory: DirectoryStore, id: string): Promise<Thing | undefined>
  columns: string[]
  row(thing: Thing): string[]
  shown(thing: Thing): object
}

const CLIENTS: Noun<Client> = {
  name: 'client',
  what: 'registered apps',
  list: (directory) => directory.clients(),
  find: (directory, id) => directory.client(id),
  columns: ['client_id', 'name', 'authentication', 'redirect URIs'],
  row: ({ client_id, client_name, token_endpoint_auth_method, redirect_uris }) => [
    client_id,
    String(client_name ?? ''),
    String(token_endpoint_auth_method),
    String(redirect_uris),
  ],
  shown: ({ client_secret, ...rest }) => ({ ...rest, has_secret: client_secret !== undefined }),
}

const USERS: Noun<User> = {
  name: 'user',
  what: 'people',
  list: (directory) => directory.users(),
  find: (directory, id) => directory.user(id.trim().toLowerCase()),
  columns: ['email', 'name', 'companies', 'factors', 'state'],
  row: ({ email, name, memberships, factors, disabled }) => [
    email,
    name ?? '',
    memberships.map(({ company, roles }) => [company, ...roles].join(':')).join(' '),
    factors.map(({ method }) => method).join(' ') || '-',
    disabled ? 'disabled' : 'active',
  ],
  shown: (user) => user,
}

const COMPANIES: Noun<Company> = {
  name: 'company',
  what: 'companies',
  list: (directory) => directory.companies(),
  find: (directory, id) => directory.company(id),
  columns: ['id', 'name', 'side', 'domains', 'state'],
  row: ({ id, name, side, domains, disabled }) => [id, name, side, domains.join(' '), disabled ? 'disabled' : 'active'],
  shown: (company) => company,
}

/** `client|user|company list|show`, `user unlock`. */
export function directoryCommands(): Command[] {
  const users = commandOf(USERS)
  users.addCommand(unlockCommand())
  return [commandOf(CLIENTS), users, commandOf(COMPANIES)]
}

function unlockCommand(): Command {
  return new Command('unlock')
    .argument('<email>')
    .requiredOption('--reason <text>', 'why, and how you made sure who asked')
    .description('let a person try again whom too many wrong passwords or codes have shut out; proves nothing for them')
    .addHelpText(
      'after',
      '\nExample:\n  sallyport user unlock ana@acme.example --reason "called back on the known number"',
    )
    .action((email: string, { reason }: { reason: string }, self: Command) =>
      withHouse(self, async ({ database }) => {
        const user = await personOf(database, email)
        const details = { reason: reasonGiven(reason) }
        const account = await database.accounts.find(user.id)
        if (!account) throw new Refused(`there is no user "${email}"`) // removed just now
        const { audited } = await import('../audited.ts')
        const { countersOf } = await import('../../interactions/index.ts')
        const act = { event: 'user.unlocked', actor: operator(), accountId: account.id, details }
        await audited(database.audit, act, () => database.throttle.clear(countersOf(account)))
        answer(self, { email: account.email, unlocked: true }, [`${account.email} can try again`])
      }),
    )
}

function commandOf<Thing>(noun: Noun<Thing>): Command {
  const command = new Command(noun.name).description(`look at ${noun.what}`)
  command
    .command('list')
    .description(`list ${noun.what}`)
    .action((_options: unknown, self: Command) =>
      withHouse(self, async ({ database }) => {
        const things = await noun.list(database.directory)
        answer(self, things.map(noun.shown), table([noun.columns, ...things.map(noun.row)]))
      }),
    )
  command
    .command('show')
    .argument('<id>', noun.name === 'user' ? 'e-mail address or id' : 'id')
    .description(`show one ${noun.name}`)
    .addHelpText(
      'after',
      `\nExample:\n  sallyport ${noun.name} show ${noun.name === 'user' ? 'ana@acme.example' : 'payments'} --json`,
    )
    .action((id: string, _options: unknown, self: Command) =>
      withHouse(self, async ({ database }) => {
        const thing = await noun.find(database.directory, id)
        if (!thing) throw new Refused(`there is no ${noun.name} "${id}": \`sallyport ${noun.name} list\` shows all`)
        const shown = noun.shown(thing)
        answer(self, shown, table(Object.entries(shown).map(([name, value]) => [name, textOf(value)])))
      }),
    )
  return command
}

const textOf = (value: unknown) => (typeof value === 'object' ? JSON.stringify(value) : String(value))
