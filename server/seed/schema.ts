/** What a seed file may say: sections, keys, and the sentence for a value that cannot be. */
import { z } from 'zod'
import { IDLE_MINUTES, isCountry, normaliseEmail } from '../../interactions/index.ts'
import { isLoopback } from '../config.ts'

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
export const PAYOR_ROLES = ['disburser', 'beneficiary_approver', 'disbursement_contributor']
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
export const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code'
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

export const Seed = z.strictObject({
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

/** A schema without what only says that it may be left out. */
export function unwrap(schema: unknown): unknown {
  return schema instanceof z.ZodOptional || schema instanceof z.ZodDefault ? unwrap(schema.unwrap()) : schema
}
