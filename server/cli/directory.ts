import { Command } from 'commander'
import type { Noun as Name } from '../changes.ts'
import {
  type Client,
  type Company,
  type DirectoryStore,
  goodFormer,
  type Resource,
  type StoredConnection,
  type User,
} from '../stores.ts'
import { addChanges } from './changes.ts'
import { addClientCommands } from './clients.ts'
import { addDoctorCommands } from './connection-doctor.ts'
import { addConnectionCommands, addDomainCommand, shownConnection } from './connections.ts'
import { answer, operator, personOf, Refused, reasonGiven, table, withHouse } from './house.ts'

/** A noun of the directory: how it is found, and what of it is shown. Never a secret. */
interface Noun<Thing> {
  name: Name
  example: string
  what: string
  list(directory: DirectoryStore): Promise<Thing[]>
  find(directory: DirectoryStore, id: string): Promise<Thing | undefined>
  columns: string[]
  row(thing: Thing): string[]
  shown(thing: Thing, issuer: string): object | Promise<object>
}

const CLIENTS: Noun<Client> = {
  name: 'client',
  example: 'payments',
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
  shown(client) {
    const { client_secret, former_secrets: _, ...rest } = client
    const former = goodFormer(client, Date.now() / 1000)
    return {
      ...rest,
      has_secret: client_secret !== undefined,
      ...(former.length > 0 && {
        former_secrets_until: former.map(({ until }) => new Date(until * 1000).toISOString()),
      }),
    }
  },
}

const USERS: Noun<User> = {
  name: 'user',
  example: 'ana@acme.example',
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
  example: 'acme',
  what: 'companies',
  list: (directory) => directory.companies(),
  find: (directory, id) => directory.company(id),
  columns: ['id', 'name', 'side', 'domains', 'state'],
  row: ({ id, name, side, domains, disabled }) => [id, name, side, domains.join(' '), disabled ? 'disabled' : 'active'],
  shown: (company) => company,
}

const RESOURCES: Noun<Resource> = {
  name: 'resource',
  example: 'https://api.example.com',
  what: 'APIs',
  list: (directory) => directory.resources(),
  find: async (directory, id) => (await directory.resources()).find((one) => one.id === id),
  columns: ['id', 'name', 'scopes', 'tokens', 'client', 'service clients'],
  row: ({ id, name, scopes, token_format, client, service_clients }) => [
    id,
    name,
    scopes.join(' '),
    token_format ?? 'jwt',
    client ?? '',
    service_clients?.join(' ') ?? '',
  ],
  shown: (resource) => resource,
}

const CONNECTIONS: Noun<StoredConnection> = {
  name: 'connection',
  example: 'acme-sso',
  what: 'connections to companies’ identity providers',
  list: (directory) => directory.connections(),
  find: (directory, id) => directory.connection(id),
  columns: ['id', 'company', 'domains', 'client', 'mode', 'state', 'identity provider'],
  row: ({ id, company, domains, client, mode, state, idp }) => [
    id,
    company,
    domains.join(' '),
    client ?? '-',
    mode,
    state,
    idp.entityId,
  ],
  shown: shownConnection,
}

/** `client|user|company|resource|connection list|show|add|set|remove`, and what only one of them has. */
export function directoryCommands(): Command[] {
  const users = commandOf(USERS)
  users.addCommand(unlockCommand())
  const clients = commandOf(CLIENTS)
  addClientCommands(clients)
  const companies = commandOf(COMPANIES)
  addDomainCommand(companies)
  const connections = commandOf(CONNECTIONS)
  addConnectionCommands(connections)
  addDoctorCommands(connections)
  return [clients, users, companies, commandOf(RESOURCES), connections]
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
  const command = new Command(noun.name).description(`look at ${noun.what}, add, change and remove them`)
  command
    .command('list')
    .description(`list ${noun.what}`)
    .action((_options: unknown, self: Command) =>
      withHouse(self, async ({ database, config }) => {
        const things = await noun.list(database.directory)
        const shown = await Promise.all(things.map((one) => noun.shown(one, config.SALLYPORT_ISSUER)))
        answer(self, shown, table([noun.columns, ...things.map(noun.row)]))
      }),
    )
  command
    .command('show')
    .argument('<id>', noun.name === 'user' ? 'e-mail address or id' : 'id')
    .description(`show one ${noun.name}`)
    .addHelpText('after', `\nExample:\n  sallyport ${noun.name} show ${noun.example} --json`)
    .action((id: string, _options: unknown, self: Command) =>
      withHouse(self, async ({ database, config }) => {
        const thing = await noun.find(database.directory, id)
        if (!thing) throw new Refused(`there is no ${noun.name} "${id}": \`sallyport ${noun.name} list\` shows all`)
        const shown = await noun.shown(thing, config.SALLYPORT_ISSUER)
        answer(self, shown, table(Object.entries(shown).map(([name, value]) => [name, textOf(value)])))
      }),
    )
  addChanges(command, noun.name)
  return command
}

const textOf = (value: unknown) => (typeof value === 'object' ? JSON.stringify(value) : String(value))
