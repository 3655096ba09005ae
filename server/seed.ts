/** `apply`: brings people, companies, clients and APIs to what a file says. All or nothing. */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import {
  type Artifact,
  checkPassword,
  IDLE_MINUTES,
  isCountry,
  type MailedLink,
  type Message,
  normaliseEmail,
  passwordCounter,
  rulesOf,
  saml,
} from '../interactions/index.ts'
import { audited } from './audited.ts'
import { type Environment, environment, isLoopback } from './config.ts'
import { checkTogether, connectionOf } from './connection-plan.ts'
import { didYouMean } from './nearest.ts'
import { SeedError } from './seed-error.ts'
import { sessionsOf } from './sessions.ts'
import {
  type Change,
  type Client,
  type Company,
  type Database,
  isChangedMeanwhile,
  type Resource,
  type Side,
  type StoredConnection,
  type User,
  type WrittenUser,
  writtenConnection,
  writtenOf,
} from './stores.ts'

export { SeedError }

const text = z
  .string()
  .trim()
  .min(1, 'must not be empty')
  .max(200, 'must have at most 200 characters')
  // SQLite ends a text there.
  .refine((value) => !value.includes('\0'), 'must not hold the character NUL')
const line = z
  .string()
  .trim()
  .min(1, 'must not be empty')
  .max(300, 'must have at most 300 characters')
  .refine((value) => !/[\p{Cc}\p{Zl}\p{Zp}]/u.test(value), 'must be one line, without control characters')
const slug = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be lower-case letters, digits and hyphens')
const email = z.string().max(254).transform(normaliseEmail).pipe(z.email('must be an e-mail address'))
const state = z.literal('absent', 'must be absent, or left out').optional()
const domain = z
  .string()
  .regex(/^(?=.{1,253}$)([a-z0-9-]+\.)+[a-z0-9-]+$/, 'must be a domain in lower case, such as acme.example')

/** Only payors have these. */
const PAYOR_ROLES = ['disburser', 'beneficiary_approver', 'disbursement_contributor']
const ROLES = [
  'payments_admin',
  'disburser',
  'beneficiary_approver',
  'disbursement_contributor',
  'company_admin',
  'directory_admin',
] as const

const company = z.strictObject({
  id: slug,
  state,
  name: text.optional(),
  side: z.enum(['payor', 'payee', 'both', 'none']).default('none'),
  domains: z.array(domain).default([]),
  disabled: z.boolean().default(false),
  mfa: z
    .strictObject({
      enforced_from: z.iso.date('must be a date, YYYY-MM-DD'),
      zone: z.string().refine(isZone, 'must be a time zone, such as America/Denver'),
      sso: z.literal('challenge', 'must be challenge, or left out').optional(),
    })
    .optional(),
  help: line.optional(),
  rules: z
    .strictObject({
      lockout: z.boolean().default(false),
      idle_minutes: z.literal(IDLE_MINUTES, `must be ${IDLE_MINUTES.join(', ')}, or left out`).optional(),
      password_resets: z.literal('mail', 'must be mail, or left out').optional(),
      sms_countries: z
        .array(z.string().refine(isCountry, 'must be an ISO 3166-1 code, such as US'))
        .min(1, 'must name a country, or be left out')
        .optional(),
    })
    .optional(),
})

const user = z.strictObject({
  email,
  state,
  name: text.optional(),
  password: z.string().optional(),
  password_hash: z.string().optional(),
  disabled: z.boolean().default(false),
  memberships: z
    .array(
      z.strictObject({
        company: slug,
        roles: z.array(z.enum(ROLES)).default([]),
        disabled: z.boolean().default(false),
      }),
    )
    .default([]),
  server_roles: z.array(z.enum(['operator', 'support', 'auditor'])).default([]),
})

const resource = z.strictObject({
  id: z
    .url('must be an absolute URI, such as https://api.example.com')
    .refine((value) => !value.includes('#'), 'must have no fragment (RFC 8707 §2)'),
  state,
  name: text.optional(),
  scopes: z
    .array(z.string().regex(/^[\x21\x23-\x5b\x5d-\x7e]+$/, 'must be a scope without spaces (RFC 6749 §3.3)'))
    .default([]),
  token_format: z.enum(['jwt', 'opaque']).optional(),
  client: text.optional(),
  service_clients: z.array(text).optional(),
})

const REDIRECT_RULE =
  'must be an absolute https URL without fragment (http for a loopback address, or a private scheme such as com.example.app:/)'
const link = z.url({ protocol: /^https?$/, error: 'must be an http or https URL' })
const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code'
/** The keys that a client signs with. What is in each, the provider checks: public, and of a kind that it knows. */
const jwks = z.strictObject({ keys: z.array(z.looseObject({ kty: z.string() })).min(1, 'must hold a key') })
/** Algorithms of a client's own keys (RFC 7518). */
const SIGNING_ALGS = ['ES256', 'PS256', 'RS256', 'Ed25519', 'EdDSA'] as const
const SCOPES = ['openid', 'offline_access', 'email', 'profile']
const client = z.strictObject({
  client_id: z
    .string()
    .regex(/^[\x21-\x7e]{1,100}$/, 'must be 1 to 100 printable characters without spaces')
    .refine((id) => id !== 'account', 'must not be "account": that is the pages under /account, which are built in'),
  state,
  client_name: text.optional(),
  client_secret: z.string().optional(),
  redirect_uris: z.array(z.string().refine(isRedirectUri, REDIRECT_RULE)).default([]),
  post_logout_redirect_uris: z.array(z.string().refine(isRedirectUri, REDIRECT_RULE)).optional(),
  grant_types: z
    .array(z.enum(['authorization_code', 'refresh_token', 'client_credentials', DEVICE_CODE]))
    .refine(
      (types) =>
        types.includes('authorization_code') || types.includes(DEVICE_CODE) || !types.includes('refresh_token'),
      'must hold authorization_code beside refresh_token',
    )
    .default(['authorization_code']),
  response_types: z.tuple([z.literal('code')], 'must be [code]').optional(),
  token_endpoint_auth_method: z
    .enum(['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'])
    .default('client_secret_basic'),
  token_endpoint_auth_signing_alg: z.enum(['HS256', ...SIGNING_ALGS]).optional(),
  jwks: jwks.optional(),
  require_pushed_authorization_requests: z.boolean().optional(),
  require_signed_request_object: z.boolean().optional(),
  request_object_signing_alg: z.enum(SIGNING_ALGS).optional(),
  dpop_bound_access_tokens: z.boolean().optional(),
  scope: text
    .refine((value) => value.split(' ').every((one) => SCOPES.includes(one)), `may hold ${SCOPES.join(', ')}`)
    .refine((value) => value.split(' ').includes('openid'), 'must hold openid')
    .optional(),
  client_uri: link.optional(),
  logo_uri: link.optional(),
  policy_uri: link.optional(),
  tos_uri: link.optional(),
  backchannel_logout_uri: z
    .string()
    .refine(isLogoutUri, 'must be an absolute https URL without fragment (http for a loopback address)')
    .optional(),
  backchannel_logout_session_required: z.boolean().optional(),
  initiate_login_uri: link.optional(),
  application_type: z.enum(['web', 'native']).optional(),
  default_acr_values: z.array(text).optional(),
  default_max_age: z.int().min(0).optional(),
  id_token_signed_response_alg: z.enum(['ES256', 'RS256']).optional(),
  sallyport: z
    .strictObject({
      first_party: z.boolean().default(true),
      mfa: z.enum(['required', 'by_role']).default('by_role'),
      second_factor_max_age: z.int().min(0).optional(),
      offline: z.boolean().optional(),
      holds_payouts: z.boolean().optional(),
      pkce: z.enum(['required', 'optional']).optional(),
    })
    .refine(({ first_party, offline }) => first_party || !offline, {
      path: ['offline'],
      error: 'must be left out for a third party: it asks the person for offline_access',
    })
    .default({ first_party: true, mfa: 'by_role' }),
})

/** These say how somebody signed in, and that it was with one factor. */
const ONE_FACTOR = [
  'unspecified',
  'Password',
  'PasswordProtectedTransport',
  'PreviousSession',
  'Kerberos',
  'X509',
  'TLSClient',
]
const context = text.refine(
  (value) => !ONE_FACTOR.some((name) => value.endsWith(`:ac:classes:${name}`)),
  'must stand for two factors: this one says nothing of a second',
)
const connection = z.strictObject({
  id: slug,
  state: z.enum(['draft', 'testing', 'active', 'disabled', 'absent']).default('draft'),
  company: slug.optional(),
  domains: z.array(domain).optional(),
  client: text.optional(),
  mode: z.enum(['forward', 'allow_password']).default('allow_password'),
  idp: z
    .strictObject({
      metadata_file: z.string().min(1, 'must not be empty').optional(),
      metadata: z.string().optional(),
      metadata_url: z
        .url({ protocol: /^https$/, error: 'must be an https URL' })
        .max(2048, 'must have at most 2048 characters')
        .optional(),
      entity_id: z
        .string()
        .min(1, 'must not be empty')
        .max(1024, 'must have at most 1024 characters')
        .refine((value) => value === value.trim(), 'must be without spaces around it')
        .optional(),
      sso_url: z.string().optional(),
      binding: z.enum(['redirect', 'post']).default('redirect'),
      certificates: z.array(z.string()).optional(),
    })
    .optional(),
  mfa: z
    .strictObject({
      trust: z
        .union(
          [z.literal('never'), z.strictObject({ contexts: z.array(context).min(1) })],
          'must be never, or contexts with a list of AuthnContextClassRefs that stand for two factors',
        )
        .default('never'),
    })
    .default({ trust: 'never' }),
  jit: z.boolean().default(false),
  name_id_format: z
    .string()
    .regex(
      /^urn:oasis:names:tc:SAML:(1\.1|2\.0):nameid-format:[A-Za-z0-9]{1,60}$/,
      'must be a NameID format, such as urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
    )
    .optional(),
  attributes: z.strictObject({ email: line.optional(), name: line.optional() }).default({}),
})

const Seed = z.strictObject({
  companies: z.array(company).default([]),
  users: z.array(user).default([]),
  resources: z.array(resource).default([]),
  clients: z.array(client).default([]),
  connections: z.array(connection).default([]),
})

/** The keys that a client, its `sallyport` part and an API may have: what docs/protocol.md tells of. */
export const SEED_KEYS = {
  client: Object.keys(client.shape),
  sallyport: Object.keys(client.shape.sallyport.unwrap().shape),
  resource: Object.keys(resource.shape),
}

/** What a seed file says, checked by itself. */
export type Seed = z.infer<typeof Seed>

/** Designed, and brought by a later version. */
const NOT_BUILT = new Set(['brand', 'contexts'])
/** Left out on purpose. */
const NOT_TAKEN = new Map([
  [
    'jwks_uri',
    'is not fetched: nothing that decides who gets in comes from an address that a client names; put the keys under jwks',
  ],
])

/**
 * Reads a seed file: YAML or JSON.
 *
 * @param env where values of the form `env:NAME` come from; `file:PATH` starts at the seed file's folder
 * @throws {SeedError} one line that names the place
 */
export function parseSeed(source: string, fileName: string, env: Environment = environment()): Seed {
  return readSeed(contentOf(source, fileName), fileName, env)
}

/**
 * Checks what a seed file, or whoever speaks like one, says.
 *
 * @param fileName stands before every complaint
 * @throws {SeedError} as {@link parseSeed}
 */
export function readSeed(content: object, fileName: string, env: Environment): Seed {
  const parsed = Seed.safeParse(content)
  if (!parsed.success) {
    // A mistyped key comes before what its lack causes.
    const { issues } = parsed.error
    const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]!
    throw new SeedError(`${fileName}: ${issueText(issue, content)}`)
  }
  const seed = parsed.data

  const read = (value: string | undefined, where: string) => readSecret(value, where, fileName, env)
  for (const one of seed.users) {
    if (one.state) continue
    one.password = read(one.password, `users ${one.email}: password`)
    one.password_hash = read(one.password_hash, `users ${one.email}: password_hash`)
  }
  for (const one of seed.clients)
    if (!one.state) one.client_secret = read(one.client_secret, `clients ${one.client_id}: client_secret`)

  for (const { id, state: gone, idp } of seed.connections) {
    if (gone === 'absent' || !idp) continue
    if (idp.metadata_file !== undefined) {
      if (idp.metadata !== undefined)
        throw new SeedError(`${fileName}: connections ${id}: idp: give metadata_file or metadata, not both`)
      const where = `connections ${id}: idp: metadata_file`
      idp.metadata = read(`file:${idp.metadata_file}`, where)
      delete idp.metadata_file
    }
    idp.certificates = idp.certificates?.map((one) => read(one, `connections ${id}: idp: certificates`)!)
  }

  refuseTwins(
    'companies',
    seed.companies.map(({ id }) => id),
    fileName,
  )
  refuseTwins(
    'users',
    seed.users.map((one) => one.email),
    fileName,
  )
  refuseTwins(
    'resources',
    seed.resources.map(({ id }) => id),
    fileName,
  )
  refuseTwins(
    'clients',
    seed.clients.map(({ client_id }) => client_id),
    fileName,
  )
  refuseTwins(
    'connections',
    seed.connections.map(({ id }) => id),
    fileName,
  )
  return seed
}

/** A section of a seed file. */
export type Section = keyof Seed

/**
 * An entry as it would stand in a seed file: keys in the schema's order, without those that say what is so by default.
 * Keys that the schema does not know are left out.
 */
export function entryOf(section: Section, stored: object): Record<string, unknown> {
  return shortest(Seed.shape[section].unwrap().element, stored as Record<string, unknown>)
}

function shortest(schema: z.ZodObject, value: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(schema.shape).flatMap(([key, field]) => {
    if (value[key] === undefined) return []
    const said = shortestValue(field, value[key])
    const unsaid = field instanceof z.ZodDefault ? shortestValue(field, field.def.defaultValue) : undefined
    return isDeepStrictEqual(said, unsaid) ? [] : [[key, said] as const]
  })
  return Object.fromEntries(entries)
}

function shortestValue(schema: unknown, value: unknown): unknown {
  const inner = unwrap(schema)
  if (inner instanceof z.ZodArray) return (value as unknown[]).map((one) => shortestValue(inner.element, one))
  // Other objects, such as keys of a client, say more than the schema knows.
  const isStrict = inner instanceof z.ZodObject && inner.def.catchall instanceof z.ZodNever
  return isStrict ? shortest(inner, value as Record<string, unknown>) : value
}

/** What the text says, as plain values. Errors name the line and never quote it: a secret may stand there. */
function contentOf(source: string, fileName: string): object {
  const document = parseDocument(source.replace(/^\ufeff/, ''), { logLevel: 'silent' })
  const [fault] = document.errors
  if (fault) {
    const what =
      fault.code === 'DUPLICATE_KEY' ? 'a key stands there twice' : `this is not YAML or JSON (${fault.code})`
    throw new SeedError(`${fileName}: line ${fault.linePos?.[0].line ?? 1}: ${what}`)
  }
  let content: unknown
  try {
    content = document.toJS()
  } catch (cause) {
    throw new SeedError(`${fileName}: too many aliases: write the values out`, { cause })
  }
  if (content === null || typeof content !== 'object' || Array.isArray(content))
    throw new SeedError(`${fileName}: must hold sections: ${Object.keys(Seed.shape).join(', ')}`)
  return content
}

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

/**
 * Plans and writes; plans anew when somebody else changed the same thing meanwhile, so that neither change is lost.
 *
 * @param planned makes the plan from what is stored now
 * @param apply writes it
 * @returns the plan that was written
 */
export async function untilItHolds<P>(planned: () => Promise<P>, apply: (plan: P) => Promise<void>): Promise<P> {
  for (let tries = 1; ; tries += 1) {
    const plan = await planned()
    try {
      await apply(plan)
      return plan
    } catch (error) {
      if (!isChangedMeanwhile(error) || tries === TRIES) throw error
    }
  }
}

/** Each time somebody else came first. */
const TRIES = 10

/**
 * Writes the plan, all or nothing, and an audit row for each change.
 *
 * @param actor who did it, such as `operator:root`
 * @param endSessions ends the sessions of people who were removed or disabled or got a new password, and tells their apps
 * @throws {StoreConflict} when the database changed since the plan was made and no longer allows it
 * @throws {ChangedMeanwhile} when what the plan changes was changed since it was made
 */
export async function applyPlan(
  database: Database,
  { changes, lines, reason }: Plan,
  actor: string,
  endSessions?: (sessions: Artifact[]) => Promise<unknown>,
): Promise<void> {
  if (changes.length === 0) return
  const at = Math.floor(Date.now() / 1000)
  const why = reason === undefined ? {} : { reason }
  // A person who is removed takes the rows along: read before. Everybody else's epoch rises first.
  const removed = await sessionsOf(
    database,
    changes.flatMap((one) => (one.kind === 'user' && one.op === 'remove' ? [one.id] : [])),
  )
  const begun = {
    event: 'config.applied',
    actor,
    details: { changes: lines.slice(0, 50), count: lines.length, ...why },
  }
  await audited(database.audit, begun, async () => database.directory.commit(await withFirstKeys(changes, at)))
  // A new password opens what wrong ones had closed.
  const opened = changes.flatMap((change) =>
    change.kind === 'user' && change.op === 'put' && change.passwordHash !== undefined ? [change.value.email] : [],
  )
  await database.throttle.clear(opened.map(passwordCounter))
  const ended = changes.flatMap((change) =>
    change.kind === 'user' && change.op === 'put' && (change.value.disabled || change.passwordHash !== undefined)
      ? [change.value.id]
      : [],
  )
  await endSessions?.([...removed, ...(await sessionsOf(database, ended))])
  for (const [index, change] of changes.entries()) {
    const about = change.op === 'remove' ? change.id : 'id' in change.value ? change.value.id : change.value.client_id
    await database.audit.append({
      event: 'config.changed',
      outcome: 'success',
      at,
      actor,
      ...(change.kind === 'user' && { accountId: String(about) }),
      ...(change.kind === 'client' && { clientId: String(about) }),
      details: { change: lines[index] ?? null, ...confirmedDomains(change), ...(change.kind === 'connection' && why) },
    })
  }
}

/** Whoever applies a domain answers for it; one that DNS proves is confirmed by that (server/domain-proof.ts). */
function confirmedDomains(change: Change): { domains_confirmed?: string[] } {
  if (change.kind !== 'company' || change.op !== 'put') return {}
  const before = change.was?.domains ?? []
  const added = change.value.domains.filter((domain) => !before.includes(domain))
  return added.length > 0 ? { domains_confirmed: added } : {}
}

/** Our key pair of each new connection is made when it is written: a dry run makes none, and none stands in a plan. */
async function withFirstKeys(changes: Change[], now: number): Promise<Change[]> {
  const isNew = (change: Change) => change.kind === 'connection' && change.op === 'put' && !change.was
  if (!changes.some(isNew)) return changes
  const { newSpKey } = await saml()
  return changes.map((change) =>
    change.kind === 'connection' && change.op === 'put' && !change.was
      ? { ...change, firstKey: newSpKey(`Sallyport ${change.value.id}`, now) }
      : change,
  )
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

/**
 * `env:NAME` and `file:PATH` keep secrets out of the file. One line end at the end of a file is not part of it.
 *
 * @throws {SeedError} when there is none
 */
export function readSecret(
  value: string | undefined,
  where: string,
  fileName: string,
  env: Environment,
): string | undefined {
  if (value?.startsWith('env:')) {
    const found = env[value.slice(4)]
    if (!found) throw new SeedError(`${fileName}: ${where}: the environment variable ${value.slice(4)} is not set`)
    return found
  }
  if (value?.startsWith('file:')) {
    const path = resolve(dirname(fileName), value.slice(5))
    let content: string
    try {
      content = readFileSync(path, 'utf8').replace(/\r?\n$/, '')
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException // node:fs throws nothing else
      throw new SeedError(`${fileName}: ${where}: cannot read ${path} (${code})`, { cause })
    }
    if (content === '') throw new SeedError(`${fileName}: ${where}: ${path} is empty`)
    return content
  }
  return value
}

function refuseTwins(section: string, names: string[], fileName: string): void {
  const twin = names.find((name, index) => names.indexOf(name) !== index)
  if (twin !== undefined) throw new SeedError(`${fileName}: ${section}: ${twin} is listed twice`)
}

/** One sentence: where, what, and what was probably meant. Never the value: it may be a secret. */
function issueText(issue: z.core.$ZodIssue, content: unknown): string {
  const where = placeOf(issue.path, content)
  if (issue.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys
    const label = `${where}${key.slice(0, 60)}`
    const reason = NOT_TAKEN.get(key)
    if (reason !== undefined) return `${label}: ${reason}`
    if (NOT_BUILT.has(key)) return `${label}: not built yet: leave it out`
    return `${label}: unknown key${didYouMean(key, knownKeys(issue.path)) || ': correct it or leave it out'}`
  }
  return `${where.replace(/: $/, '')}: ${complaint(issue, content)}`
}

const KINDS: Record<string, string> = {
  array: 'a list',
  object: 'a set of keys',
  boolean: 'true or false',
  string: 'a text',
  number: 'a whole number',
  int: 'a whole number',
}

function complaint(issue: z.core.$ZodIssue, content: unknown): string {
  const value = issue.path.reduce<unknown>(
    (inner, key) => (inner as Record<PropertyKey, unknown> | null | undefined)?.[key],
    content,
  )
  if (value === undefined) return 'is missing'
  // Our own sentences begin with "must" or "may"; the library's do not say what to do.
  if (/^(must|may) /.test(issue.message)) return issue.message
  if (issue.code === 'invalid_type') return `must be ${KINDS[issue.expected] ?? issue.expected}`
  if (issue.code === 'invalid_value')
    return `must be one of ${issue.values.map(String).join(', ')}${didYouMean(String(value), issue.values.map(String))}`
  if (issue.code === 'too_small') return `must be at least ${issue.minimum}`
  if (issue.code === 'too_big') return `must be at most ${issue.maximum}`
  return issue.message
}

/** `users ana@acme.example: memberships.0.roles: ` */
function placeOf(path: PropertyKey[], content: unknown): string {
  const [section, index, ...rest] = path
  if (section === undefined) return ''
  const entry =
    index === undefined
      ? undefined
      : (content as Record<string, Record<string, unknown>[]>)[String(section)]?.[Number(index)]
  const name = entry?.['email'] ?? entry?.['client_id'] ?? entry?.['id'] ?? index
  const place = [String(section), name === undefined ? '' : ` ${String(name).slice(0, 100)}`].join('')
  return rest.length > 0 ? `${place}: ${rest.map(String).join('.')}: ` : `${place}: `
}

/** The keys that may stand at this place. */
function knownKeys(path: PropertyKey[]): string[] {
  let schema: unknown = Seed
  for (const key of path) {
    const inner = unwrap(schema)
    if (inner instanceof z.ZodObject) schema = inner.shape[String(key)]
    else if (inner instanceof z.ZodArray) schema = inner.element
  }
  const last = unwrap(schema)
  return last instanceof z.ZodObject ? Object.keys(last.shape) : []
}

function unwrap(schema: unknown): unknown {
  return schema instanceof z.ZodOptional || schema instanceof z.ZodDefault ? unwrap(schema.unwrap()) : schema
}

function isRedirectUri(value: string): boolean {
  if (!URL.canParse(value) || value.includes('#')) return false
  const { protocol, hostname } = new URL(value)
  if (protocol === 'https:') return true
  return protocol === 'http:' ? isLoopback(hostname) : /^[a-z][a-z0-9+-]*\.[a-z0-9+.-]+:$/.test(protocol)
}

/** OIDC Back-Channel Logout 1.0 §2.2. */
function isLogoutUri(value: string): boolean {
  return /^https?:/.test(value) && isRedirectUri(value)
}

function isZone(zone: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone })
    return true
  } catch {
    return false
  }
}

const withoutUndefined = (object: object): object =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined))
