/** The configuration as `apply` takes it: companies, people, APIs, clients and connections, and of none of them a secret. */
import { stringify } from 'yaml'
import { entryOf, type Section } from './seed/index.ts'
import {
  type Client,
  type Company,
  type DirectoryStore,
  type Resource,
  type StoredConnection,
  type User,
  writtenOf,
} from './stores.ts'

/** An entry of a seed file. */
export type Entry = Record<string, unknown>

/** People that are read at once. */
const PAGE = 500

/** A company as it would stand in a seed file. */
export const companyEntry = (company: Company): Entry => entryOf('companies', named(company))

/** An API as it would stand in a seed file. */
export const resourceEntry = (resource: Resource): Entry => entryOf('resources', named(resource))

/** A person as they would stand in a seed file, without a password. */
export function userEntry(user: User): Entry {
  const { serverRoles: server_roles, ...rest } = writtenOf(user)
  return entryOf('users', { ...rest, server_roles })
}

/** A client as it would stand in a seed file, without its secrets. */
export function clientEntry({ client_secret, former_secrets, ...metadata }: Client): Entry {
  // What no browser calls back has no response types; the file does not say so.
  const byBrowser = (metadata['grant_types'] as string[] | undefined)?.includes('authorization_code') ?? true
  return entryOf('clients', { ...metadata, ...(!byBrowser && { response_types: undefined }) })
}

/** A connection as it would stand in a seed file, without our key pairs. */
export function connectionEntry(connection: StoredConnection): Entry {
  const { trustedContexts, idp, metadataUrl, nameIdFormat, ...rest } = connection
  const { entityId, ssoUrl, binding, certificates } = idp
  return entryOf('connections', {
    ...rest,
    idp: {
      metadata_url: metadataUrl,
      entity_id: entityId,
      sso_url: ssoUrl,
      binding,
      certificates: certificates.map(({ pem }) => pem),
    },
    mfa: { trust: trustedContexts.length === 0 ? 'never' : { contexts: trustedContexts } },
    name_id_format: nameIdFormat,
  })
}

/** What has no name is called by its id. */
const named = <Thing extends { id: string; name: string }>(thing: Thing): object =>
  thing.name === thing.id ? { ...thing, name: undefined } : thing

/** Every entry, section by section, each in the order of its ids: of two exports only what changed differs. */
async function* entries(directory: DirectoryStore): AsyncGenerator<[section: Section, entries: Entry[]]> {
  yield ['companies', (await directory.companies()).map(companyEntry)]
  for (let after = ''; ; ) {
    const people = await directory.users({ after, limit: PAGE })
    yield ['users', people.map(userEntry)]
    if (people.length < PAGE) break
    after = people.at(-1)!.email
  }
  yield ['resources', (await directory.resources()).map(resourceEntry)]
  yield ['clients', (await directory.clients()).map(clientEntry)]
  yield ['connections', (await directory.connections()).map(connectionEntry)]
}

const HEAD = `# Companies, people, APIs, clients and connections, as \`sallyport apply\` takes them.
# Passwords, client secrets and private keys are not in here: apply leaves those that are stored as they are.
`

/** The whole configuration as YAML, in pieces: a long list of people never stands in memory. */
export async function* exportYaml(directory: DirectoryStore): AsyncGenerator<string> {
  yield HEAD
  for await (const { section, begins, ends, part } of sections(directory)) {
    if (begins) yield ends && part.length === 0 ? `${section}: []\n` : `${section}:\n`
    if (part.length > 0)
      yield stringify(part, { lineWidth: 0, aliasDuplicateObjects: false }).replace(/(^|\n)(?=[^\n])/g, '$1  ')
  }
}

/** The same as JSON. */
export async function* exportJson(directory: DirectoryStore): AsyncGenerator<string> {
  yield '{'
  let first = true
  for await (const { section, begins, ends, part } of sections(directory)) {
    if (begins) yield `${first ? '' : ','}\n  ${JSON.stringify(section)}: [`
    const text = part.map((entry) => `\n${JSON.stringify(entry, null, 2)}`.replaceAll('\n', '\n    ')).join(',')
    yield begins || text === '' ? text : `,${text}`
    if (ends) yield begins && part.length === 0 ? ']' : '\n  ]'
    first = false
  }
  yield '\n}\n'
}

/** The entries with where their section begins and ends. */
async function* sections(directory: DirectoryStore) {
  let held: { section: Section; begins: boolean; part: Entry[] } | undefined
  for await (const [section, part] of entries(directory)) {
    const begins = held?.section !== section
    // An empty page ends a list of people that fills the pages before it.
    if (!begins && part.length === 0) continue
    if (held) yield { ...held, ends: begins }
    held = { section, begins, part }
  }
  if (held) yield { ...held, ends: true }
}
