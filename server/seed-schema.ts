/** The shape of a seed file (`sallyport apply FILE`): what each section may hold, and what is wrong where. */
import { z } from 'zod'
import { normaliseEmail } from '../interactions/kit/network.ts'
import type { MembershipRole, Side } from '../interactions/kit/stores.ts'
import { ACR_VALUES } from '../interactions/policy.ts'
import { isLoopback, oneLine } from './config.ts'
import { didYouMean } from './nearest.ts'

/** Turns `env:NAME` and `file:PATH` into what they name. @throws {Error} whose message says what is missing, never a value */
export type ResolveSecret = (reference: string) => string

/** Roles that pay: they exist only where a company pays. */
export const PAYOR_ROLES: readonly MembershipRole[] = ['disburser', 'beneficiary_approver', 'disbursement_contributor']

/** True when a company of this side pays. */
export const pays = (side: Side) => side === 'payor' || side === 'both'

/** What a section's entry looks like, and which key names it. */
export interface Section<Value> {
  idKey: string
  present: z.ZodType<Value>
  /** Keys that an entry with `state: absent` may still carry. */
  keys: string[]
  id: z.ZodType<string>
}

export type SeedCompany = z.output<ReturnType<typeof companySchema>>
export type SeedUser = z.output<ReturnType<typeof userSchema>>
export type SeedResource = z.output<ReturnType<typeof resourceSchema>>
export type SeedClient = z.output<ReturnType<typeof clientSchema>>

/** The sections of a seed file that are built. */
export const sections = (resolve: ResolveSecret) => {
  const [company, user, resource, client] = [
    companySchema(),
    userSchema(resolve),
    resourceSchema(),
    clientSchema(resolve),
  ]
  return {
    companies: { idKey: 'id', present: company, keys: keysOf(company), id: slug } satisfies Section<SeedCompany>,
    users: { idKey: 'email', present: user, keys: keysOf(user), id: email } satisfies Section<SeedUser>,
    resources: {
      idKey: 'id',
      present: resource,
      keys: keysOf(resource),
      id: resourceId,
    } satisfies Section<SeedResource>,
    clients: { idKey: 'client_id', present: client, keys: keysOf(client), id: clientId } satisfies Section<SeedClient>,
  }
}

/** Sections of the design that a later version brings. */
const LATER_SECTIONS = ['connections']

/** A sentence about a section that is not known, or not built yet. */
export const unknownSection = (name: string, known: string[]) =>
  LATER_SECTIONS.includes(name) ? 'not built yet' : unknownKey(known)(name)

/**
 * The first thing that is wrong, as `users[0].email: is missing`; unknown keys come before what their lack causes.
 *
 * @param at where the parsed value stands in the file
 */
export function firstFault(error: z.ZodError, at: string): string {
  const issue = error.issues.find(({ code }) => code === 'unrecognized_keys') ?? error.issues[0]!
  const path = issue.path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : `${text}.${String(key)}`),
    at,
  )
  return oneLine(`${path}: ${sentence(issue)}`)
}

function sentence(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type') {
    if (issue.message.endsWith('received undefined')) return 'is missing'
    if (issue.message.startsWith('Invalid input'))
      return `must be ${KINDS[issue.expected] ?? `a value of kind ${issue.expected}`}`
  }
  if (issue.code === 'invalid_value' && issue.message.startsWith('Invalid'))
    return `must be ${issue.values.length === 1 ? '' : 'one of '}${issue.values.join(', ')}`
  return issue.message
}

const KINDS: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping of keys to values',
}

/** An object without other keys. Names what is unknown, guesses what was meant, and says what is only not built yet. */
function strict<Shape extends z.ZodRawShape>(shape: Shape, later: readonly string[] = []) {
  const sentenceFor = unknownKey(Object.keys(shape), later)
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys' ? sentenceFor(String((issue['keys'] as string[])[0])) : undefined,
  })
}

const unknownKey =
  (known: string[], later: readonly string[] = []) =>
  (key: string) =>
    later.includes(key)
      ? `${key}: not built yet`
      : `${oneLine(key).slice(0, 80)}: unknown key${didYouMean(key, known) || `, known are ${known.join(', ')}`}`

const keysOf = (schema: { shape: object }) => Object.keys(schema.shape)

const line = (what: string, max: number) =>
  z
    .string()
    .trim()
    .min(1, `must be ${what}`)
    .max(max, `must be ${what} of at most ${max} characters`)
    .refine((value) => oneLine(value) === value, `must be ${what} on one line`)

const distinct = <Item>(list: Item[]) => new Set(list).size === list.length

// --- companies

const slug = z
  .string()
  .regex(
    /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/,
    'must be lower-case letters, digits and hyphens, such as acme-builders',
  )

const domain = z
  .string()
  .max(253, 'must be a domain')
  .regex(
    /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$/,
    'must be a lower-case domain, such as acme.example',
  )

const day = z.string().refine(isDay, 'must be a date as YYYY-MM-DD')

const zone = z.string().refine(isZone, 'must be a time zone, such as America/Denver')

function companySchema() {
  return strict({
    id: slug,
    name: line('a name', 200),
    side: z.enum(['payor', 'payee', 'both', 'none']),
    domains: z.array(domain).refine(distinct, 'lists a domain twice').default([]),
    disabled: z.boolean().default(false),
    mfa: strict({ enforced_from: day, zone }, ['sso', 'contexts', 'methods', 'countries']).optional(),
  })
}

function isDay(text: string): boolean {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return false
  const date = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text)
}

function isZone(name: string): boolean {
  if (!/^[A-Za-z]/.test(name)) return false // offsets have no daylight saving
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}

// --- users

const email = z
  .string()
  .transform(normaliseEmail)
  .refine(
    (value) => value.length <= 254 && /^[^\s@]+@[^\s@]+$/.test(value) && oneLine(value) === value,
    'must be an e-mail address',
  )

function userSchema(resolve: ResolveSecret) {
  return strict({
    email,
    name: line('a name', 200).optional(),
    password: secret(resolve).optional(),
    password_hash: secret(resolve).superRefine(checkHash).optional(),
    memberships: z
      .array(
        strict({
          company: slug,
          roles: z
            .array(
              z.enum([
                'payments_admin',
                'disburser',
                'beneficiary_approver',
                'disbursement_contributor',
                'company_admin',
                'directory_admin',
              ]),
            )
            .refine(distinct, 'lists a role twice')
            .default([]),
          disabled: z.boolean().default(false),
        }),
      )
      .refine((list) => distinct(list.map(({ company }) => company)), 'lists a company twice')
      .default([]),
    server_roles: z
      .array(z.enum(['operator', 'support', 'auditor']))
      .refine(distinct, 'lists a role twice')
      .default([]),
    disabled: z.boolean().default(false),
  })
}

/** A text that may stand elsewhere. What is said about it never quotes it. */
function secret(resolve: ResolveSecret) {
  return z.string().transform((value, ctx) => {
    try {
      const resolved = /^(env|file):/.test(value) ? resolve(value) : value
      if (resolved === '') ctx.addIssue('is empty')
      return resolved
    } catch (error) {
      ctx.addIssue(error instanceof Error ? error.message : 'cannot be read')
      return z.NEVER
    }
  })
}

const PHC = /^\$argon2id\$v=19\$m=(\d{1,10}),t=(\d{1,10}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/

/** OWASP Password Storage: the floor. Above the ceiling, one sign-in would be a denial of service. */
function checkHash(hash: string, ctx: z.RefinementCtx) {
  const [, memory, passes, lanes, salt = '', tag = ''] = PHC.exec(hash) ?? []
  if (memory === undefined) return ctx.addIssue('must be an argon2id hash in PHC form: $argon2id$v=19$m=…,t=…,p=…$…$…')
  const [m, t, p] = [Number(memory), Number(passes), Number(lanes)]
  if (!((m >= 19456 && t >= 2) || (m >= 47104 && t >= 1)))
    return ctx.addIssue('is too weak: at least m=19456,t=2 or m=47104,t=1')
  if (m > 1024 * 1024 || t > 10 || p > 16 || p < 1) return ctx.addIssue('costs too much: at most m=1048576,t=10,p=16')
  if (bytesOf(salt) < 16) return ctx.addIssue('has a salt below 16 bytes')
  if (bytesOf(tag) < 32) ctx.addIssue('has a tag below 32 bytes')
}

const bytesOf = (base64: string) => Math.floor((base64.length * 3) / 4)

// --- resources

/** RFC 8707 §2: an absolute URI without a fragment. */
const resourceId = z
  .string()
  .max(2000, 'must be an absolute URI')
  .refine(
    (value) => URL.canParse(value) && /^[\x21-\x7e]+$/.test(value),
    'must be an absolute URI, such as https://api.example.com',
  )
  .refine((value) => !value.includes('#'), 'must not have a fragment (RFC 8707 §2)')

const RESERVED_SCOPES = ['openid', 'offline_access', 'profile', 'email', 'address', 'phone']

/** RFC 6749 §3.3: any printable character but space, `"` and `\`. */
const scopeToken = z
  .string()
  .regex(/^[\x21\x23-\x5b\x5d-\x7e]{1,200}$/, 'must be one scope, without spaces')
  .refine((value) => !RESERVED_SCOPES.includes(value), 'is a scope of OpenID Connect itself')

function resourceSchema() {
  return strict({
    id: resourceId,
    name: line('a name', 200),
    scopes: z.array(scopeToken).refine(distinct, 'lists a scope twice').default([]),
  })
}

// --- clients

const clientId = z.string().regex(/^[\x21-\x7e]{1,200}$/, 'must be 1 to 200 printable characters without spaces')

/** Client metadata that OpenID Connect knows and this version does not read. */
const LATER_METADATA = [
  'authorization_details_types',
  'authorization_signed_response_alg',
  'backchannel_logout_session_required',
  'backchannel_logout_uri',
  'contacts',
  'dpop_bound_access_tokens',
  'frontchannel_logout_uri',
  'introspection_signed_response_alg',
  'jwks',
  'jwks_uri',
  'request_object_signing_alg',
  'require_auth_time',
  'require_pushed_authorization_requests',
  'require_signed_request_object',
  'response_modes',
  'sector_identifier_uri',
  'subject_type',
  'tls_client_auth_san_dns',
  'tls_client_auth_subject_dn',
  'tls_client_certificate_bound_access_tokens',
  'token_endpoint_auth_signing_alg',
  'userinfo_signed_response_alg',
]

const webPage = z
  .string()
  .max(2000, 'must be an http or https URL')
  .refine((value) => /^https?:\/\/[^\s]+$/i.test(value) && URL.canParse(value), 'must be an http or https URL')

const thirdParties = 'consent for third parties is not built yet: leave it true'

function clientSchema(resolve: ResolveSecret) {
  const fields = strict(
    {
      client_id: clientId,
      client_name: line('a name', 200).optional(),
      client_secret: secret(resolve)
        .refine((value) => value.length >= 32, 'must have at least 32 characters')
        .refine((value) => /^[\x20-\x7e]{0,500}$/.test(value), 'must be at most 500 printable ASCII characters')
        .optional(),
      redirect_uris: z
        .array(z.string())
        .min(1, 'must list at least one address')
        .refine(distinct, 'lists an address twice'),
      post_logout_redirect_uris: z.array(z.string()).refine(distinct, 'lists an address twice').default([]),
      grant_types: z
        .array(z.enum(['authorization_code', 'refresh_token']))
        .refine((list) => list.includes('authorization_code'), 'must hold authorization_code')
        .refine(distinct, 'lists a grant twice')
        .default(['authorization_code']),
      response_types: z.array(z.literal('code')).length(1, 'must be [code]').default(['code']),
      token_endpoint_auth_method: z
        .enum(['client_secret_basic', 'client_secret_post', 'none'])
        .default('client_secret_basic'),
      application_type: z.enum(['web', 'native']).default('web'),
      id_token_signed_response_alg: z.literal('ES256').default('ES256'),
      scope: z
        .string()
        .regex(
          /^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/,
          'must be scopes separated by single spaces',
        )
        .refine((value) => value.split(' ').includes('openid'), 'must hold openid')
        .optional(),
      client_uri: webPage.optional(),
      logo_uri: webPage.optional(),
      policy_uri: webPage.optional(),
      tos_uri: webPage.optional(),
      initiate_login_uri: webPage.optional(),
      default_acr_values: z.array(z.enum(ACR_VALUES)).refine(distinct, 'lists a value twice').optional(),
      default_max_age: seconds().optional(),
      sallyport: strict({
        first_party: z.literal(true, thirdParties).default(true),
        mfa: z.enum(['required', 'by_role']).default('by_role'),
        second_factor_max_age: seconds().optional(),
        offline: z.boolean().default(false),
      }).default({ first_party: true, mfa: 'by_role', offline: false }),
    },
    LATER_METADATA,
  )
  return fields.superRefine((client, ctx) => {
    const fault = (path: (string | number)[], message: string) => ctx.addIssue({ code: 'custom', path, message })
    for (const key of ['redirect_uris', 'post_logout_redirect_uris'] as const)
      for (const [index, uri] of client[key].entries()) {
        const why = wrongRedirect(uri, client.application_type)
        if (why) fault([key, index], why)
      }
    if (client.initiate_login_uri && !isHttpsOrLoopback(client.initiate_login_uri))
      fault(['initiate_login_uri'], 'must be https, except on a loopback')
    if (client.token_endpoint_auth_method === 'none' && client.client_secret !== undefined)
      fault(['client_secret'], 'must not be there with token_endpoint_auth_method: none')
    if (client.sallyport.offline && !client.grant_types.includes('refresh_token'))
      fault(['sallyport', 'offline'], 'needs refresh_token among grant_types')
  })
}

function seconds() {
  const message = 'must be a whole number of seconds, 0 or more'
  return z.number(message).int(message).min(0, message)
}

/** Why this is no place to send a person and a code to, or `undefined`. */
function wrongRedirect(uri: string, applicationType: 'web' | 'native'): string | undefined {
  if (!URL.canParse(uri) || !/^[\x21-\x7e]{1,2000}$/.test(uri)) return 'must be an absolute URI'
  const url = new URL(uri)
  if (uri.includes('#')) return 'must not have a fragment (RFC 6749 §3.1.2)'
  if (uri.includes('*')) return 'must be written out: addresses are compared exactly, there are no wildcards'
  if (url.username || url.password) return 'must not hold a user name or password'
  if (url.protocol === 'http:')
    return isLoopback(url.hostname)
      ? undefined
      : 'must be https: http is only for a loopback (127.0.0.1, [::1], localhost)'
  if (url.protocol === 'https:')
    return applicationType === 'native' && isLoopback(url.hostname)
      ? 'must be http: a native application on a loopback has no certificate (RFC 8252 §7.3)'
      : undefined
  if (applicationType === 'web')
    return 'must be https, or http on a loopback; other schemes need application_type: native'
  return url.protocol.includes('.')
    ? undefined
    : 'must have a scheme with a dot, such as com.example.app (RFC 8252 §7.1)'
}

const isHttpsOrLoopback = (uri: string) => {
  const { protocol, hostname } = new URL(uri)
  return protocol === 'https:' || isLoopback(hostname)
}
