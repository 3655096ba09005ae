/** What a seed asks for, compared with what is stored. */
import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { checkPassword, type MailedLink, type Message, rulesOf } from '../../interactions/index.ts'
import { isLoopback } from '../config.ts'
import { didYouMean } from '../nearest.ts'
import {
  type Change,
  type Client,
  type Company,
  type Database,
  type Resource,
  type Side,
  type StoredConnection,
  type User,
  type WrittenUser,
  writtenConnection,
  writtenOf,
} from '../stores.ts'
import { checkTogether, connectionOf } from './connections.ts'
import { SeedError } from './error.ts'
import { DEVICE_CODE, PAYOR_ROLES, type Seed } from './schema.ts'

/** What `apply` will do, and how to say it. */
export interface Plan {
  changes: Change[]
  /** `+ client payments`, `~ user ana@acme.example (memberships)`, `- client old` */
  lines: string[]
  /** What the operator should know besides. */
  notes: string[]
  /** Why a connection is activated without a dry run. */
  reason?: string | undefined
}

/** How to plan. */
export interface PlanOptions {
  hash(password: string): Promise<string>
  /** What the provider would refuse of this client's metadata at its first request, in a sentence. */
  checkClient?(client: Client): string | undefined
  /** Code points. By default 15. */
  passwordMinLength?: number
  /** Invites somebody who is new and gets no password: the link, and the letters. `undefined`: they need none. Left out: nobody is. */
  invite?(
    person: WrittenUser,
    sides: ReadonlyMap<string, Side>,
  ): Promise<{ link: MailedLink; messages: Message[] } | undefined>
  /** Who is told that their password was changed. Left out: nobody. */
  tell?(person: Pick<User, 'id' | 'email' | 'noticeEmail'>): Message[]
  /** Use `password` though the account has one. */
  setPasswords?: boolean
  /** Remove stored clients that the file does not list. */
  pruneClients?: boolean
  /** Remove stored connections that the file does not list. */
  pruneConnections?: boolean
  /** Fetches an identity provider's metadata. Left out: none is fetched. @throws {SeedError} */
  fetchMetadata?(url: string): Promise<Buffer>
  /** Identity providers may be on this machine, without TLS. */
  allowLoopback?: boolean
  /** Activate connections that had no dry run, and why. */
  untested?: string
  /** Seconds since 1970. By default now. */
  now?: number
}

/**
 * The differences between what is stored and what the seed asks for. Writes nothing.
 *
 * @throws {SeedError} when the seed contradicts itself or what is stored
 */
export async function planSeed(database: Database, seed: Seed, options: PlanOptions): Promise<Plan> {
  const { directory } = database
  const plan: Plan = { changes: [], lines: [], notes: [], reason: options.untested }
  const stored = {
    companies: await directory.companies(),
    resources: await directory.resources(),
    clients: await directory.clients(),
    connections: await directory.connections(),
  }

  for (const wanted of seed.companies)
    planCompany(
      plan,
      wanted,
      stored.companies.find(({ id }) => id === wanted.id),
    )
  for (const wanted of seed.resources)
    planResource(
      plan,
      wanted,
      stored.resources.find(({ id }) => id === wanted.id),
    )
  for (const wanted of seed.clients)
    planClient(
      plan,
      wanted,
      stored.clients.find((one) => one.client_id === wanted.client_id),
      options,
    )
  if (options.pruneClients && seed.clients.length === 0)
    throw new SeedError('clients: the file lists none, and pruning would remove every client: list those that stay')
  if (options.pruneClients)
    for (const { client_id: id } of stored.clients)
      if (!seed.clients.some((one) => one.client_id === id)) remove(plan, 'client', id)

  checkApis(plan, stored)
  checkDomains(seed, stored.companies)
  await planConnections(plan, seed, stored, options)
  const companies = companiesAfter(plan, stored.companies)
  const sides = new Map([...companies].map(([id, { side }]) => [id, side]))
  for (const wanted of seed.users) {
    if (!wanted.state) checkMemberships(wanted, sides)
    await planUser(plan, wanted, await directory.user(wanted.email), options, database, { companies, sides })
  }
  const listed = new Set(seed.users.map((one) => one.email))
  const people = await directory.users()
  for (const one of people) if (!listed.has(one.email)) checkUnlisted(one, seed, sides)
  noteLastOperator(plan, people)
  return plan
}

async function planConnections(
  plan: Plan,
  seed: Seed,
  stored: { companies: Company[]; clients: Client[]; connections: StoredConnection[] },
  options: PlanOptions,
): Promise<void> {
  const present = new Map(stored.connections.map((one) => [one.id, one]))
  if (seed.connections.length === 0 && present.size === 0) return
  const around = {
    companies: new Map(stored.companies.map(({ id, domains }) => [id, domains])),
    clients: new Set(stored.clients.map(({ client_id }) => client_id)),
  }
  for (const change of plan.changes) {
    if (change.kind === 'company' && change.op === 'put') around.companies.set(change.value.id, change.value.domains)
    if (change.kind === 'company' && change.op === 'remove') around.companies.delete(change.id)
    if (change.kind === 'client' && change.op === 'put') around.clients.add(change.value.client_id)
    if (change.kind === 'client' && change.op === 'remove') around.clients.delete(change.id)
  }
  const after = new Map(stored.connections.map((one) => [one.id, writtenConnection(one)]))
  for (const { state: wanted, ...one } of seed.connections) {
    const before = present.get(one.id)
    if (wanted === 'absent') {
      if (before) remove(plan, 'connection', one.id)
      after.delete(one.id)
      continue
    }
    const value = await connectionOf({ ...one, state: wanted }, before, around, options)
    after.set(one.id, value)
    put(plan, { kind: 'connection', op: 'put', value }, one.id, before && writtenConnection(before), value)
  }
  if (options.pruneConnections) {
    if (seed.connections.length === 0)
      throw new SeedError(
        'connections: the file lists none, and pruning would remove every connection: list those that stay',
      )
    for (const id of present.keys())
      if (!seed.connections.some((one) => one.id === id)) {
        remove(plan, 'connection', id)
        after.delete(id)
      }
  }
  checkTogether(after.values(), around)
}

function planCompany(
  plan: Plan,
  { state: gone, ...wanted }: Seed['companies'][number],
  present: Company | undefined,
): void {
  if (gone) {
    if (present) remove(plan, 'company', wanted.id)
    return
  }
  const { rules = {}, ...rest } = wanted
  // What demands nothing is not kept.
  const kept = Object.entries(rules).filter(([, demand]) => demand !== undefined && demand !== false)
  const value = withoutUndefined({
    ...rest,
    name: wanted.name ?? wanted.id,
    rules: kept.length > 0 ? Object.fromEntries(kept) : undefined,
  }) as Company
  put(plan, { kind: 'company', op: 'put', value }, wanted.id, present, value)
}

/** The companies that there will be, by id. */
function companiesAfter({ changes }: Plan, stored: Company[]): Map<string, Company> {
  const after = new Map(stored.map((one) => [one.id, one]))
  for (const change of changes) {
    if (change.kind !== 'company') continue
    if (change.op === 'remove') after.delete(change.id)
    else after.set(change.value.id, change.value)
  }
  return after
}

function planResource(
  plan: Plan,
  { state: gone, ...wanted }: Seed['resources'][number],
  present: Resource | undefined,
): void {
  if (gone) {
    if (present) remove(plan, 'resource', wanted.id)
    return
  }
  const value = withoutUndefined({ ...wanted, name: wanted.name ?? wanted.id }) as Resource
  put(plan, { kind: 'resource', op: 'put', value }, wanted.id, present, value)
}

function planClient(
  plan: Plan,
  { state: gone, ...wanted }: Seed['clients'][number],
  present: Client | undefined,
  { checkClient }: PlanOptions,
): void {
  const { client_id: id } = wanted
  if (gone) {
    if (present) remove(plan, 'client', id)
    return
  }
  // A device, an API that only introspects, or a service that only gets tokens for itself: no browser is called back.
  const byBrowser = wanted.grant_types.includes('authorization_code')
  if (!byBrowser && (wanted.redirect_uris.length > 0 || wanted.response_types))
    throw new SeedError(`clients ${id}: redirect_uris and response_types are for authorization_code: leave them out`)
  if (byBrowser && wanted.redirect_uris.length === 0)
    throw new SeedError(`clients ${id}: redirect_uris is missing: say where the app is called back`)
  for (const label of ['redirect_uris', 'post_logout_redirect_uris'] as const)
    for (const uri of wanted[label] ?? []) checkApplicationType(id, label, uri, wanted.application_type === 'native')
  const method = wanted.token_endpoint_auth_method
  const signsIn = byBrowser || wanted.grant_types.includes(DEVICE_CODE)
  if (method === 'none' && !(signsIn && !wanted.grant_types.includes('client_credentials')))
    throw new SeedError(
      `clients ${id}: token_endpoint_auth_method: none is for apps that sign people in, and nothing else`,
    )
  // Nothing else would keep a stolen code from being used (RFC 9700 §2.1.1).
  if (wanted.sallyport.pkce === 'optional' && (method === 'none' || wanted.application_type === 'native'))
    throw new SeedError(`clients ${id}: sallyport: pkce: optional is for web apps with a secret or a key: leave it out`)
  const bySecret = method.startsWith('client_secret_')
  const secretGiven = wanted.client_secret ?? (bySecret ? present?.client_secret : undefined)
  if (!bySecret && wanted.client_secret !== undefined)
    throw new SeedError(`clients ${id}: client_secret: token_endpoint_auth_method: ${method} has none; remove it`)
  if (bySecret && secretGiven === undefined)
    throw new SeedError(
      `clients ${id}: client_secret is missing: give one of at least 32 characters, or token_endpoint_auth_method: private_key_jwt with jwks, or none`,
    )
  if ((method === 'private_key_jwt' || wanted.require_signed_request_object) && wanted.jwks === undefined)
    throw new SeedError(`clients ${id}: jwks is missing: give the public keys that the client signs with`)
  if (secretGiven !== undefined && secretGiven.length < 32)
    throw new SeedError(
      `clients ${id}: client_secret must have at least 32 characters: \`openssl rand -hex 32\` makes one`,
    )
  const noBrowser = byBrowser ? {} : { response_types: [] }
  const stays = secretGiven !== undefined && secretGiven === present?.client_secret
  if (!stays && present?.former_secrets?.some(({ secret }) => secret === wanted.client_secret))
    plan.notes.push(`client ${id}: this client_secret was replaced before: name the present one, or leave it out`)
  const secrets = { client_secret: secretGiven, former_secrets: stays ? present.former_secrets : undefined }
  const value = withoutUndefined({ ...wanted, ...noBrowser, ...secrets }) as Client
  const problem = checkClient?.(value)
  if (problem !== undefined) throw new SeedError(`clients ${id}: ${problem}`)
  put(plan, { kind: 'client', op: 'put', value }, id, present, value)
}

async function planUser(
  plan: Plan,
  wanted: Seed['users'][number],
  present: User | undefined,
  options: PlanOptions,
  database: Database,
  { companies, sides }: { companies: ReadonlyMap<string, Company>; sides: ReadonlyMap<string, Side> },
): Promise<void> {
  const {
    email: address,
    state: gone,
    password,
    password_hash: given,
    memberships,
    server_roles: serverRoles,
    disabled,
    name,
  } = wanted
  if (gone) {
    if (!present) return
    plan.changes.push({ kind: 'user', op: 'remove', id: present.id })
    plan.lines.push(`- user ${address}`)
    return
  }
  if (password !== undefined && given !== undefined)
    throw new SeedError(`users ${address}: give password or password_hash, not both`)
  if (given !== undefined) checkHash(address, given)
  const broken = password === undefined ? undefined : checkPassword(password, options.passwordMinLength)
  if (broken)
    throw new SeedError(
      broken === 'password_too_short'
        ? `users ${address}: password must have at least ${options.passwordMinLength ?? 15} characters`
        : `users ${address}: password must have at most 256 characters`,
    )

  const same = given !== undefined && given === (await database.accounts.findByEmail(address))?.passwordHash
  // One that was taken away is not brought back by the file that has it still.
  const keeps = present?.hasPassword || present?.passwordWithdrawn
  const sets = !keeps || (options.setPasswords && !same)
  if (sets) checkByMail(wanted, present?.hasPassword === true, companies)
  const passwordHash = sets ? (given ?? (password === undefined ? undefined : await options.hash(password))) : undefined
  const value = writtenOf({
    id: present?.id ?? randomUUID(),
    email: address,
    name,
    disabled,
    memberships,
    serverRoles,
  })
  const before = present && writtenOf(present)
  const isInvited = !present && passwordHash === undefined && !disabled
  const invited = isInvited ? await options.invite?.(value, sides) : undefined
  const change = {
    kind: 'user' as const,
    op: 'put' as const,
    value,
    ...(passwordHash !== undefined && { passwordHash }),
    ...(invited && { welcome: invited.link, messages: invited.messages }),
    // At the address that they had until now.
    ...(present?.hasPassword && passwordHash !== undefined && { messages: options.tell?.(present) ?? [] }),
  }
  put(plan, change, address, before, value, passwordHash !== undefined && present !== undefined)
  if (invited) plan.notes.push(`${address} is invited by mail to choose a password`)
  else if (!present?.hasPassword && passwordHash === undefined && !disabled)
    plan.notes.push(
      present?.passwordWithdrawn
        ? `${address} has to choose a new password by "Forgot your password?"; the one in this file is not used`
        : `${address} cannot sign in until a password is set: \`sallyport user invite\` sends a link`,
    )
}

/**
 * Where a company wants passwords to be set by a mailed link, nobody knows another one's. A hash that is brought along from
 * elsewhere is the person's own: it is taken where there is none.
 */
function checkByMail(
  { email: address, password, password_hash: given, memberships }: Seed['users'][number],
  hasOne: boolean,
  companies: ReadonlyMap<string, Company>,
): void {
  if (password === undefined && (given === undefined || !hasOne)) return
  const strict = memberships.find(({ company: id, disabled }) => {
    const { rules, disabled: gone = true } = companies.get(id) ?? {}
    const active = !disabled && !gone
    return rulesOf({ memberships: [{ companyId: id, side: 'none', roles: [], active, rules }] }).passwordsByMail
  })
  if (!strict) return
  const key = password === undefined ? 'password_hash' : 'password'
  throw new SeedError(
    `users ${address}: ${key}: company "${strict.company}" lets passwords be set by a mailed link only: leave it out; "Forgot your password?" sends one, and \`sallyport user invite\` to somebody who has none`,
  )
}

function put(
  plan: Plan,
  change: Change & { op: 'put' },
  name: string,
  before: NonNullable<(Change & { op: 'put' })['was']> | undefined,
  after: object,
  password = false,
): void {
  const differing = before === undefined ? [] : namesOfDifferences(before, after)
  if (password) differing.push('password')
  if (before !== undefined && differing.length === 0) return
  // `before` is of the change's own kind: each caller says both.
  plan.changes.push({ ...change, was: before ?? null } as Change)
  plan.lines.push(
    before === undefined ? `+ ${change.kind} ${name}` : `~ ${change.kind} ${name} (${differing.join(', ')})`,
  )
}

function remove(plan: Plan, kind: 'company' | 'resource' | 'client' | 'connection', id: string): void {
  plan.changes.push({ kind, op: 'remove', id })
  plan.lines.push(`- ${kind} ${id}`)
}

function namesOfDifferences(before: object, after: object): string[] {
  const [was, is] = [before as Record<string, unknown>, after as Record<string, unknown>]
  return [...new Set([...Object.keys(was), ...Object.keys(is)])]
    .filter((name) => !isDeepStrictEqual(was[name], is[name]))
    .map((name) => (name === 'state' ? `state ${String(was[name])} → ${String(is[name])}` : name))
}

/** Nothing forbids it: whoever has this command line can make another one. But nobody should do it unawares. */
function noteLastOperator(plan: Plan, people: User[]): void {
  const isOperator = ({ disabled, serverRoles }: Pick<User, 'disabled' | 'serverRoles'>) =>
    !disabled && serverRoles.includes('operator')
  const after = new Map(people.map((one) => [one.id, isOperator(one)]))
  for (const change of plan.changes) {
    if (change.kind !== 'user') continue
    if (change.op === 'remove') after.delete(change.id)
    else after.set(change.value.id, isOperator(change.value))
  }
  if (people.some(isOperator) && ![...after.values()].includes(true))
    plan.notes.push('nobody is an operator any more: give somebody server_roles: [operator]')
}

type Sides = Map<string, Company['side']>

function checkMemberships({ email: address, memberships }: Seed['users'][number], sides: Sides): void {
  const seen = new Set<string>()
  for (const { company: id, roles } of memberships) {
    const side = sides.get(id)
    if (seen.has(id))
      throw new SeedError(`users ${address}: memberships: "${id}" is listed twice: put the roles together`)
    seen.add(id)
    if (side === undefined)
      throw new SeedError(
        `users ${address}: memberships: there is no company "${id}"${didYouMean(id, sides.keys()) || ': add it under companies'}`,
      )
    const wrong = misplaced(roles, side)
    if (wrong)
      throw new SeedError(
        `users ${address}: memberships: ${wrong.role} needs a company with side ${wrong.needs}, and "${id}" has side ${side}`,
      )
  }
}

/** People whom the file does not list stay as they are: what it does to their companies must leave them valid. */
function checkUnlisted({ email: address, memberships }: User, { companies }: Seed, sides: Sides): void {
  for (const { company: id, roles } of memberships) {
    const listed = companies.find((one) => one.id === id)
    if (listed?.state)
      throw new SeedError(`companies ${id}: ${address} is still a member: remove the membership before the company`)
    const wrong = misplaced(roles, sides.get(id))
    if (listed && wrong)
      throw new SeedError(
        `companies ${id}: side ${listed.side}: ${address} has the role ${wrong.role}, which needs side ${wrong.needs}`,
      )
  }
}

/** A role that such a company does not have, with the sides that do. */
function misplaced(
  roles: readonly string[],
  side: Company['side'] | undefined,
): { role: string; needs: string } | undefined {
  if (side === 'payor' || side === 'both') return undefined
  const role = roles.find((one) => PAYOR_ROLES.includes(one))
  if (role !== undefined) return { role, needs: 'payor or both' }
  // Without a side nobody would ask the people who pay for a second factor.
  return side !== 'payee' && roles.includes('payments_admin')
    ? { role: 'payments_admin', needs: 'payor, payee or both' }
    : undefined
}

/** What APIs will say of clients, once the plan is done, must be true of the clients that there will be. */
function checkApis({ changes }: Plan, stored: { resources: Resource[]; clients: Client[] }): void {
  const resources = new Map(stored.resources.map((one) => [one.id, one]))
  const clients = new Map(stored.clients.map((one) => [one.client_id, one]))
  for (const change of changes) {
    if (change.kind === 'resource' && change.op === 'put') resources.set(change.value.id, change.value)
    if (change.kind === 'resource' && change.op === 'remove') resources.delete(change.id)
    if (change.kind === 'client' && change.op === 'put') clients.set(change.value.client_id, change.value)
    if (change.kind === 'client' && change.op === 'remove') clients.delete(change.id)
  }
  for (const { id, client: own, service_clients: services = [] } of resources.values()) {
    for (const [key, name] of [
      ...(own === undefined ? [] : [['client', own]]),
      ...services.map((one) => ['service_clients', one]),
    ] as [string, string][])
      if (!clients.has(name))
        throw new SeedError(
          `resources ${id}: ${key}: there is no client "${name}"${didYouMean(name, clients.keys()) || ': add it under clients'}`,
        )
    if (own !== undefined && clients.get(own)?.['token_endpoint_auth_method'] === 'none')
      throw new SeedError(`resources ${id}: client: "${own}" has no secret and no key, so it cannot introspect`)
    const idle = services.find(
      (one) => !(clients.get(one)?.['grant_types'] as string[] | undefined)?.includes('client_credentials'),
    )
    if (idle !== undefined)
      throw new SeedError(`resources ${id}: service_clients: "${idle}" needs grant_types: [client_credentials]`)
  }
}

/** A domain says which company a new address belongs to, so it belongs to one. */
function checkDomains({ companies }: Seed, stored: Company[]): void {
  const listed = new Set(companies.map(({ id }) => id))
  const owners = new Map(
    stored.filter(({ id }) => !listed.has(id)).flatMap(({ id, domains }) => domains.map((one) => [one, id] as const)),
  )
  for (const { id, domains, state: gone } of companies)
    for (const one of gone ? [] : domains) {
      const owner = owners.get(one)
      if (owner !== undefined)
        throw new SeedError(`companies ${id}: domains: ${one} is listed for "${owner}" too: leave it with one of them`)
      owners.set(one, id)
    }
}

/** OIDC Dynamic Client Registration §2, `application_type`: the provider refuses such a client at its first request. */
function checkApplicationType(id: string, label: string, uri: string, native: boolean): void {
  const { protocol, hostname } = new URL(uri)
  const web = protocol === 'https:' || protocol === 'http:'
  if (!web && !native)
    throw new SeedError(`clients ${id}: ${label}: a private scheme needs application_type: native, or use https`)
  if (native && protocol === 'https:' && isLoopback(hostname))
    throw new SeedError(`clients ${id}: ${label}: application_type: native needs http for a loopback address`)
}

function checkHash(address: string, phc: string): void {
  const [, memory = 0, passes = 0, lanes = 0] = (
    /^\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$[A-Za-z0-9+/]{22,86}\$[A-Za-z0-9+/]{22,86}$/.exec(phc) ??
    []
  ).map(Number)
  const [salt = '', digest = ''] = phc.split('$').slice(-2)
  const floor = (memory >= 19456 && passes >= 2) || (memory >= 47104 && passes >= 1)
  // Else nobody could sign in with it: the library decodes strictly.
  const readable = [salt, digest].every(isBase64)
  if (!floor || !readable || lanes < 1 || memory > MAX_MEMORY_KIB)
    throw new SeedError(
      `users ${address}: password_hash must be an argon2id PHC string with at least 19456 KiB and 2 passes, or 47104 KiB and 1`,
    )
}

/** Without padding, and nothing left over in the last character (RFC 4648 §3.5). */
const isBase64 = (text: string) => Buffer.from(text, 'base64').toString('base64').replace(/=+$/, '') === text

/** A hash that needs more would take the server down at its owner's first sign-in. */
const MAX_MEMORY_KIB = 1024 * 1024

const withoutUndefined = (object: object): object =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined))
