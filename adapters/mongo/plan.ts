/** What a commit of the directory has to write: decided from what is stored, before anything is written. */
import type { Document, Model } from 'mongoose'
import { trusted } from 'mongoose'
import type { MailedLink, Message } from '../../interactions/kit/stores.ts'
import {
  type Change,
  type Company,
  checkConnections,
  type Resource,
  StoreConflict,
  testedAlike,
  type WrittenConnection,
  type WrittenUser,
  writtenConnection,
} from '../../server/stores.ts'
import { secretsText } from '../client-secrets.ts'
import { companiesOf } from './accounts.ts'
import { writtenOf } from './connections.ts'
import { NEWEST, oneOf } from './driver.ts'
import { formerAfter } from './passwords.ts'
import type { AccountDocument, Collections, WrittenMessage } from './schemas.ts'

/** Collections whose documents carry the number of their commit. */
export type Filed = 'accounts' | 'addresses' | 'companies' | 'clients' | 'resources' | 'connections'

/** One document to write. */
export interface Write {
  in: Filed
  id: string
  set: Record<string, unknown>
  unset: string[]
  /** Raises the person's security epoch. */
  raises?: boolean
  removes?: boolean
}

/**
 * A document to write, people and apps whose belongings are to be removed, or messages to keep. Plain JSON: it is written
 * down before it is made.
 */
export type Step = Write | { forget: string[]; apps?: string[] } | { send: WrittenMessage[] }

type Person = WrittenUser & {
  passwordHash?: string | undefined
  welcome?: MailedLink | undefined
  undo?: MailedLink | undefined
  recovers?: boolean | undefined
}

/** A client with its secret sealed. */
interface SealedClient {
  id: string
  metadata: string
  secret: string | undefined
}

/** The changes of one commit: per row the last word. */
export interface Wanted {
  companies: Map<string, Company>
  clients: Map<string, SealedClient>
  resources: Map<string, Resource>
  people: Map<string, Person>
  removedPeople: Set<string>
  connections: Map<string, { value: WrittenConnection; keys: string | undefined }>
  messages: WrittenMessage[]
  removed: { in: 'companies' | 'clients' | 'resources' | 'connections'; id: string }[]
}

/** Sorts changes by what they are about. Secrets are sealed here: they reach no journal. */
export function changesOf(
  changes: Change[],
  seal: {
    client(id: string, secrets: string): string
    connection(id: string, keys: string): string
    messages(messages: Message[]): WrittenMessage[]
  },
): Wanted {
  const wanted: Wanted = {
    companies: new Map(),
    clients: new Map(),
    resources: new Map(),
    people: new Map(),
    connections: new Map(),
    removedPeople: new Set(),
    messages: [],
    removed: [],
  }
  for (const change of changes) {
    if (change.op === 'remove') {
      if (change.kind === 'user') wanted.removedPeople.add(change.id)
      else wanted.removed.push({ in: collectionOf[change.kind], id: change.id })
    } else if (change.kind === 'company') wanted.companies.set(change.value.id, change.value)
    else if (change.kind === 'resource') wanted.resources.set(change.value.id, change.value)
    else if (change.kind === 'client') {
      const { client_id: id, client_secret, former_secrets, ...metadata } = change.value
      const secrets = secretsText({ client_secret, former_secrets })
      const secret = secrets === undefined ? undefined : seal.client(id, secrets)
      wanted.clients.set(id, { id, metadata: JSON.stringify(metadata), secret })
    } else if (change.kind === 'connection') {
      const { value, firstKey } = change
      const keys = firstKey && seal.connection(value.id, JSON.stringify([firstKey]))
      wanted.connections.set(value.id, { value: writtenConnection(value), keys })
    } else {
      const { value, welcome, undo, recovers } = change
      const passwordHash = change.passwordHash ?? wanted.people.get(value.id)?.passwordHash
      wanted.people.set(value.id, { ...value, passwordHash, welcome, undo, recovers })
      wanted.messages.push(...seal.messages(change.messages ?? []))
    }
  }
  return wanted
}

const collectionOf = {
  company: 'companies',
  client: 'clients',
  resource: 'resources',
  connection: 'connections',
} as const

/**
 * The steps, in an order in which no half of them lets anybody in: companies, clients and APIs, then people leave, then
 * people come or change, then their addresses lead to them, then companies, clients and APIs leave.
 *
 * @throws {StoreConflict} when the changes contradict what is stored
 * @throws {Error.ValidationError} when a value is none that the schema knows
 */
export async function planOf(collections: Collections, wanted: Wanted, commit: number): Promise<Step[]> {
  const ids = [...new Set([...wanted.people.keys(), ...wanted.removedPeople])]
  const stored = new Map(
    (await collections.accounts.find({ _id: oneOf(ids), removed: null }, undefined, NEWEST).lean()).map((account) => [
      account._id,
      account,
    ]),
  )
  await checkMemberships(collections, wanted)
  await checkRemovedCompanies(collections, wanted, ids)
  await checkAddresses(collections, wanted, stored)
  const connections = await connectionSteps(collections, wanted)

  const leaving = [...wanted.removedPeople]
  const apps = wanted.removed.flatMap(({ in: name, id }) => (name === 'clients' ? [id] : []))
  const steps: Step[] = [
    ...[...wanted.companies.values()].map(companyStep),
    ...[...wanted.clients.values()].map(clientStep),
    ...[...wanted.resources.values()].map(resourceStep),
    ...connections,
    ...leaving.filter((id) => !wanted.people.has(id)).map((id) => removal('accounts', id, ACCOUNT_FIELDS)),
    ...(leaving.length + apps.length > 0 ? [{ forget: leaving, apps }] : []),
    ...[...wanted.people.values()].map((person) =>
      personStep(person, wanted.removedPeople.has(person.id) ? undefined : stored.get(person.id)),
    ),
    ...addressSteps(wanted, stored),
    ...wanted.removed.map(({ in: name, id }) => removal(name, id, FIELDS[name])),
    ...(wanted.messages.length > 0 ? [{ send: wanted.messages }] : []),
  ]
  return Promise.all(steps.map((step) => ('in' in step && !step.removes ? checked(collections, step, commit) : step)))
}

/** After the commit they hold together; the compare-and-set of the journal makes that the lock. */
async function connectionSteps(collections: Collections, wanted: Wanted): Promise<Step[]> {
  const { companies, clients, removed } = wanted
  const isTouched =
    wanted.connections.size + companies.size + removed.filter(({ in: name }) => name !== 'resources').length > 0
  if (!isTouched) return []
  const documents = await collections.connections.find({ removed: null }, undefined, NEWEST).sort({ _id: 1 }).lean()
  const stored = new Map(documents.map((one) => [one._id, writtenOf(one)]))
  const after = new Map(stored)
  for (const { value } of wanted.connections.values()) after.set(value.id, value)
  for (const { in: name, id } of removed) if (name === 'connections') after.delete(id)

  const leaves = (name: string, id: string) => removed.some((one) => one.in === name && one.id === id)
  const named = [...after.values()]
  const found = await companiesOf(collections, [...new Set(named.map(({ company }) => company))])
  const ids = [...new Set(named.flatMap(({ client }) => client ?? []))]
  const apps = new Set(
    ids.length === 0
      ? []
      : (await collections.clients.find({ _id: oneOf(ids), removed: null }, { _id: 1 }, NEWEST).lean()).map(
          ({ _id }) => _id,
        ),
  )
  checkConnections(
    named,
    (id) => (leaves('companies', id) ? undefined : (companies.get(id) ?? found.get(id))?.domains),
    (id) => !leaves('clients', id) && (clients.has(id) || apps.has(id)),
  )

  return [...wanted.connections.values()].map(({ value, keys }): Step => {
    const { id, company, client, state, domains, ...settings } = value
    const before = stored.get(id)
    if (before && before.company !== company)
      throw new StoreConflict(`connection "${id}" stays with company "${before.company}": make another one`)
    if (!before && keys === undefined) throw new StoreConflict(`connection "${id}" needs a key pair of ours`)
    const stays = before !== undefined && testedAlike(before, value)
    return {
      in: 'connections',
      id,
      set: {
        company,
        state,
        domains,
        settings: JSON.stringify(settings),
        ...(client !== undefined && { client }),
        ...(!before && { keys }),
      },
      unset: [...(client === undefined ? ['client'] : []), ...(stays ? [] : ['testedAt'])],
    }
  })
}

async function checkMemberships(collections: Collections, { people, companies }: Wanted): Promise<void> {
  const named = [...people.values()].flatMap(({ memberships }) => memberships.map(({ company }) => company))
  const known = await companiesOf(
    collections,
    [...new Set(named)].filter((id) => !companies.has(id)),
  )
  for (const { email, memberships } of people.values())
    for (const [index, { company }] of memberships.entries()) {
      if (memberships.findIndex((other) => other.company === company) < index)
        throw new StoreConflict(`${email} is a member of company "${company}" twice: make one membership of it`)
      if (!known.has(company) && !companies.has(company))
        throw new StoreConflict(`${email} is a member of company "${company}", which does not exist`)
    }
}

/** @param touched whose memberships after the commit are not those that are stored */
async function checkRemovedCompanies({ accounts }: Collections, wanted: Wanted, touched: string[]): Promise<void> {
  for (const { in: name, id } of wanted.removed) {
    if (name !== 'companies') continue
    const coming = [...wanted.people.values()].find(({ memberships }) =>
      memberships.some(({ company }) => company === id),
    )
    const member =
      coming ??
      (await accounts
        .findOne({ 'memberships.company': id, _id: trusted({ $nin: touched }), removed: null }, { email: 1 }, NEWEST)
        .lean())
    if (member)
      throw new StoreConflict(
        `company "${id}" still has members, ${member.email} among them: remove their memberships first`,
      )
  }
}

async function checkAddresses(
  { addresses }: Collections,
  { people, removedPeople }: Wanted,
  stored: Map<string, AccountDocument>,
): Promise<void> {
  const taken = (email: string) => new StoreConflict(`another user has the e-mail address ${email}`)
  const wanted = new Map<string, string>()
  for (const { id, email } of people.values()) {
    if (wanted.has(email)) throw taken(email)
    wanted.set(email, id)
  }
  const claims = await addresses.find({ _id: oneOf([...wanted.keys()]), removed: null }, undefined, NEWEST).lean()
  for (const { _id: email, account } of claims) {
    const givesItUp = removedPeople.has(account) || (people.has(account) && people.get(account)!.email !== email)
    if (account !== wanted.get(email) && !(givesItUp && stored.has(account))) throw taken(email)
  }
}

function addressSteps({ people, removedPeople }: Wanted, stored: Map<string, AccountDocument>): Step[] {
  const wanted = new Map([...people.values()].map(({ id, email }) => [email, id]))
  const former = [...stored.values()]
    .filter(({ _id, email }) => removedPeople.has(_id) || people.get(_id)?.email !== email)
    .map(({ email }) => email)
    .filter((email) => !wanted.has(email))
  return [
    ...[...wanted].map(([email, account]): Step => ({ in: 'addresses', id: email, set: { account }, unset: [] })),
    ...former.map((email) => removal('addresses', email, FIELDS.addresses)),
  ]
}

function personStep(person: Person, stored: AccountDocument | undefined): Step {
  const { id, email, name, disabled, memberships, serverRoles, passwordHash } = person
  const always = {
    email,
    disabled,
    serverRoles,
    memberships: memberships.map(({ company, roles, disabled: off }) => ({ company, roles, disabled: off })),
    ...(name !== undefined && { name }),
    ...(passwordHash !== undefined && { passwordHash }),
    ...(person.undo && { 'mailedLinks.email_undo': person.undo }),
  }
  if (stored) {
    const { undo, recovers = false } = person
    const raises = recovers || passwordHash !== undefined || (disabled && !stored.disabled)
    const former = passwordHash !== undefined || recovers ? formerAfter(stored) : {}
    const unset = [
      ...(name === undefined ? ['name'] : []),
      ...(email !== stored.email && !undo ? ['mailedLinks.email_undo'] : []),
      ...(recovers ? ['passwordHash', 'noticeEmail'] : []),
    ]
    return { in: 'accounts', id, set: { ...always, ...former }, unset, raises }
  }
  const beginning = {
    alwaysRequire2fa: false,
    securityEpoch: 0,
    factorVersion: 0,
    createdAt: Math.floor(Date.now() / 1000),
    ...(person.welcome && { mailedLinks: { welcome: person.welcome } }),
  }
  const set = { ...always, ...beginning }
  return { in: 'accounts', id, set, unset: ACCOUNT_FIELDS.filter((field) => !(field in set)) }
}

function companyStep({ id, name, side, domains, disabled, mfa, help, rules }: Company): Step {
  const optional = { ...(mfa && { mfa }), ...(help !== undefined && { help }), ...(rules && { rules }) }
  return {
    in: 'companies',
    id,
    set: { name, side, domains, disabled, ...optional },
    unset: ['mfa', 'help', 'rules'].filter((field) => !(field in optional)),
  }
}

function clientStep({ id, metadata, secret }: SealedClient): Step {
  return secret === undefined
    ? { in: 'clients', id, set: { metadata }, unset: ['secret'] }
    : { in: 'clients', id, set: { metadata, secret }, unset: [] }
}

const resourceStep = ({ id, name, scopes, ...options }: Resource): Step => ({
  in: 'resources',
  id,
  set: { name, scopes, options: JSON.stringify(options) },
  unset: [],
})

const removal = (name: Filed, id: string, fields: string[]): Step => ({
  in: name,
  id,
  set: {},
  unset: fields,
  removes: true,
})

const ACCOUNT_FIELDS = [
  'email',
  'noticeEmail',
  'name',
  'passwordHash',
  'formerPasswords',
  'mailedLinks',
  'disabled',
  'serverRoles',
  'memberships',
  'alwaysRequire2fa',
  'securityEpoch',
  'factorVersion',
  'createdAt',
  'totp',
  'phone',
  'recoveryCode',
  'factorReset',
  'messages',
]
/** All fields but those that say which commit it was. */
const FIELDS = {
  addresses: ['account'],
  companies: ['name', 'side', 'domains', 'disabled', 'mfa', 'help', 'rules'],
  clients: ['metadata', 'secret'],
  resources: ['name', 'scopes', 'options'],
  connections: ['company', 'client', 'state', 'domains', 'settings', 'keys', 'testedAt'],
}

/** The step with values as the schema has them; checked now, so that none can fail after the commit. */
async function checked(collections: Collections, step: Write, commit: number): Promise<Write> {
  const Kind = collections[step.in] as unknown as Model<unknown>
  const unchanged = UNCHANGED[step.in as keyof typeof UNCHANGED]
  const document = new Kind({ _id: step.id, commit, ...unchanged, ...step.set }) as Document
  await document.validate()
  const values: unknown = document.toObject()
  const at = (path: string) =>
    path.split('.').reduce((value, name) => (value as Record<string, unknown>)[name]!, values)
  return { ...step, set: Object.fromEntries(Object.keys(step.set).map((path) => [path, at(path)])) }
}

/** Stands for what a change of a person or a connection leaves as it is. */
const UNCHANGED = {
  accounts: { alwaysRequire2fa: false, securityEpoch: 0, factorVersion: 0, createdAt: 0 },
  connections: { keys: 'as they are' },
}
