/** The sample deployment: what `sallyport apply` would be given, with secrets made once per data folder. */
import { randomBytes, randomInt } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseSeed, type Seed } from '../seed/index.ts'

/** The resource indicator of the Payments API. */
export const API = 'https://api.payments.example'

/** Secrets of one demo folder. */
export interface DemoSecrets {
  /** The password of all sample people. */
  password: string
  clientSecret: string
}

/** The secrets of this data folder, made at the first start; mode 0600. */
export function demoSecrets(folder: string): DemoSecrets {
  const file = join(folder, 'demo.json')
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as DemoSecrets
  const words = Array.from({ length: 4 }, () => String(randomInt(1000, 10_000)))
  const secrets = { password: ['demo', ...words].join('-'), clientSecret: randomBytes(32).toString('base64url') }
  writeFileSync(file, JSON.stringify(secrets), { mode: 0o600 })
  return secrets
}

/** Who there is to try, and what to expect. */
export const PEOPLE = [
  { email: 'payor@acme.example', what: 'a payor: must add an authenticator app' },
  { email: 'disburser@acme.example', what: 'a second payor' },
  { email: 'payee@best.example', what: 'a payee: an authenticator app, or codes by SMS' },
  { email: 'standard@city.example', what: 'a standard user: a password is enough, until an app asks for more' },
  { email: 'admin@dale.example', what: 'looks after the people of a company that demands a second factor' },
  {
    email: 'member@dale.example',
    what: 'one of them: whose phone is lost is reset by the administrator, in the account',
  },
] as const

/** Who has no password yet. */
export const GUEST = {
  email: 'guest@best.example',
  what: 'invited: the link to a first password is among the messages',
}

/** Who signs in at their company. The second one is known to nobody but it. */
export const COLLEAGUES = [
  { email: 'payor@corner.example', name: 'A Corner Payor', what: 'a payor whose company signs them in' },
  {
    email: 'new@corner.example',
    name: 'A Newcomer',
    what: 'their colleague, new here: gets an account at the first sign-in',
  },
] as const

/** The connection to the company's identity provider. */
export const CONNECTION = 'corner-sso'

/**
 * @param app the relying party's base URL
 * @param metadata of the company's identity provider
 */
export function demoSeed({ password, clientSecret }: DemoSecrets, app: string, metadata: string): Seed {
  const member = (company: string, ...roles: string[]) => [{ company, roles }]
  const person = (email: string, name: string, memberships: object[]) => ({ email, name, password, memberships })
  const seed = {
    companies: [
      { id: 'acme-builders', name: 'Acme Builders', side: 'payor', domains: ['acme.example'] },
      { id: 'best-plumbing', name: 'Best Plumbing', side: 'payee', domains: ['best.example'] },
      { id: 'corner-homes', name: 'Corner Homes', side: 'payor', domains: ['corner.example'] },
      { id: 'city-works', name: 'City Works', side: 'none', domains: ['city.example'] },
      {
        id: 'dale-roads',
        name: 'Dale Roads',
        side: 'none',
        domains: ['dale.example'],
        mfa: { enforced_from: '2026-01-01', zone: 'UTC' },
      },
    ],
    users: [
      person('payor@acme.example', 'A Payor', member('acme-builders', 'payments_admin')),
      person('disburser@acme.example', 'A Disburser', member('acme-builders', 'disburser')),
      person('payee@best.example', 'A Payee', member('best-plumbing', 'payments_admin')),
      { email: GUEST.email, memberships: member('best-plumbing', 'payments_admin') },
      person('standard@city.example', 'A Standard User', member('city-works')),
      person('admin@dale.example', 'An Administrator', member('dale-roads', 'company_admin', 'directory_admin')),
      person('member@dale.example', 'A Member', member('dale-roads')),
      {
        email: COLLEAGUES[0].email,
        name: COLLEAGUES[0].name,
        memberships: member('corner-homes', 'payments_admin'),
      },
    ],
    connections: [
      {
        id: CONNECTION,
        company: 'corner-homes',
        domains: ['corner.example'],
        mode: 'forward',
        idp: { metadata },
        attributes: { email: 'mail', name: 'displayName' },
        jit: true,
        state: 'active',
      },
    ],
    resources: [{ id: API, name: 'Payments API', scopes: ['payments'] }],
    clients: [
      {
        client_id: 'payments',
        client_name: 'Payments',
        client_secret: clientSecret,
        client_uri: app,
        redirect_uris: [`${app}/callback`],
        post_logout_redirect_uris: [`${app}/`],
        backchannel_logout_uri: `${app}/backchannel-logout`,
        backchannel_logout_session_required: true,
        grant_types: ['authorization_code', 'refresh_token'],
        sallyport: { first_party: true, mfa: 'by_role', second_factor_max_age: 1800 },
      },
    ],
  }
  return parseSeed(JSON.stringify(seed), 'demo', {})
}
