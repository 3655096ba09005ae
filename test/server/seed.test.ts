import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createPasswordHasher } from '../../interactions/index.ts'
import { loadConfig } from '../../server/config.ts'
import { type House, openHouse } from '../../server/open.ts'
import { applyPlan, type PlanOptions, parseSeed, planSeed, SeedError, untilItHolds } from '../../server/seed/index.ts'
import { temporaryFolder } from '../support/temporary.ts'

const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 100 })
const PASSWORD = 'correct horse battery staple'
const SECRET = 'a-client-secret-of-more-than-32-characters'
const PHC = `$argon2id$v=19$m=19456,t=2,p=1$${'c2FsdHNhbHRzYWx0c2E'.padEnd(22, 'A')}$${'A'.repeat(43)}`

const SEED = `
companies:
  - { id: acme-builders, name: Acme Builders, side: payor, domains: [acme.example] }
  - { id: city-works, name: City Works, side: none, mfa: { enforced_from: "2027-01-31", zone: America/Denver } }
users:
  - email: Payor@Acme.example
    name: A Payor
    password: "${PASSWORD}"
    memberships: [{ company: acme-builders, roles: [payments_admin] }]
    server_roles: [operator]
resources:
  - { id: "https://api.payments.example", name: Payments API, scopes: [payments] }
clients:
  - client_id: payments
    client_name: Payments
    client_secret: ${SECRET}
    redirect_uris: [http://127.0.0.1:4000/callback]
    sallyport: { first_party: true, mfa: by_role, second_factor_max_age: 1800 }
`

describe('seed', () => {
  let house: House
  beforeEach(async () => {
    const config = loadConfig({ SALLYPORT_LOG_LEVEL: 'silent' }, temporaryFolder())
    house = await openHouse(config, { createKeys: true })
  })
  afterEach(() => house.close())

  const plan = (text: string, options: Partial<PlanOptions> = {}) =>
    planSeed(house.database, parseSeed(text, 'seed.yaml', {}), { hash: hasher.hash, ...options })
  const apply = async (text: string, options: Partial<PlanOptions> = {}) => {
    const made = await plan(text, options)
    await applyPlan(house.database, made, 'operator:test')
    return made.lines
  }
  const client = (rest: string) => `clients: [{ client_id: payments, ${rest} }]`
  const hashNow = async () => (await house.database.accounts.findByEmail('payor@acme.example'))?.passwordHash

  it('brings an empty server to what the file says, and a second time changes nothing', async () => {
    assert.deepEqual((await apply(SEED)).sort(), [
      '+ client payments',
      '+ company acme-builders',
      '+ company city-works',
      '+ resource https://api.payments.example',
      '+ user payor@acme.example',
    ])
    assert.equal(await hasher.verify(await hashNow(), PASSWORD), true)
    assert.deepEqual(await apply(SEED), [])
  })

  it('applied by several at once, as by servers that start together, is applied once', async () => {
    const lines: string[] = []
    await Promise.all(
      [1, 2, 3].map(() =>
        untilItHolds(
          () => plan(SEED),
          async (made) => {
            await applyPlan(house.database, made, 'operator:test')
            lines.push(...made.lines)
          },
        ),
      ),
    )
    assert.equal(lines.length, 5)
    assert.deepEqual(await apply(SEED), [])
  })

  it('reads the same from JSON', async () => {
    const json = JSON.stringify({ companies: [{ id: 'acme', name: 'Acme', side: 'payor' }] }, null, '\t')
    assert.deepEqual(await apply(json), ['+ company acme'])
  })

  it('leaves what is not listed, and brings absent keys of what is listed back to their default', async () => {
    await apply(SEED)
    const lines = await apply('companies: [{ id: city-works, name: City Works, side: none }]')
    assert.deepEqual(lines, ['~ company city-works (mfa)'])
    assert.equal((await house.database.directory.clients()).length, 1)
    assert.equal((await house.database.directory.company('city-works'))?.mfa, undefined)
  })

  it('keeps the secret of a client that does not repeat it', async () => {
    await apply(SEED)
    assert.deepEqual(await apply(client('client_name: Pay, redirect_uris: [https://pay.example/cb]')), [
      '~ client payments (client_name, redirect_uris, sallyport)',
    ])
    assert.equal((await house.database.directory.client('payments'))?.client_secret, SECRET)
  })

  it('uses a password only where there is none, unless told to', async () => {
    await apply(SEED)
    const before = await hashNow()
    const other = SEED.replace(PASSWORD, 'another horse battery staple')
    assert.deepEqual(await apply(other), [])
    assert.equal(await hashNow(), before)
    assert.deepEqual(await apply(other, { setPasswords: true }), ['~ user payor@acme.example (password)'])
    assert.equal(await hasher.verify(await hashNow(), 'another horse battery staple'), true)
  })

  it('removes what is marked absent, and never people by pruning', async () => {
    await apply(SEED)
    assert.deepEqual(await apply('clients: [{ client_id: payments, state: absent }]'), ['- client payments'])
    assert.deepEqual(await apply('users: [{ email: payor@acme.example, state: absent }]'), [
      '- user payor@acme.example',
    ])
    assert.deepEqual(await apply('users: [{ email: payor@acme.example, state: absent }]'), [])
  })

  it('takes a device, which has no redirect URI, and the provider takes it too', async () => {
    const device = 'urn:ietf:params:oauth:grant-type:device_code'
    const text = client(`token_endpoint_auth_method: none, grant_types: ["${device}"]`)
    const { planningOf } = await import('../../server/provider.ts')
    const seed = parseSeed(text, 'seed.yaml', {})
    await applyPlan(house.database, await planSeed(house.database, seed, await planningOf(house)), 'operator:test')
    const stored = (await house.database.directory.clients()).find(({ grant_types }) => String(grant_types) === device)
    assert.deepEqual([stored?.['redirect_uris'], stored?.['response_types']], [[], []])
  })

  it('prunes clients that the file does not list', async () => {
    await apply(SEED)
    const file = `clients: [{ client_id: new, client_secret: ${SECRET}, redirect_uris: [https://a.example/cb] }]`
    assert.deepEqual((await apply(file, { pruneClients: true })).sort(), ['+ client new', '- client payments'])
    assert.equal((await house.database.directory.users()).length, 1)
    await assert.rejects(plan('companies: []', { pruneClients: true }), SeedError)
  })

  it('tells that a person without a password cannot sign in yet', async () => {
    const { notes } = await plan('users: [{ email: ana@acme.example }]')
    assert.match(notes[0] ?? '', /ana@acme\.example.*until a password is set/)
  })

  it('records each change with who made it, and no secret', async () => {
    await apply(SEED)
    const rows = await house.database.auditReader.auditRows({ event: 'config.changed' })
    assert.equal(rows.length, 5)
    assert.ok(rows.every(({ actor, outcome }) => actor === 'operator:test' && outcome === 'success'))
    const text = JSON.stringify(rows)
    for (const secret of [PASSWORD, SECRET, 'argon2id']) assert.ok(!text.includes(secret), secret)
  })

  it('writes nothing when a part contradicts what is stored', async () => {
    const made = await plan(SEED)
    await apply('companies: [{ id: other, name: Other, side: none }]')
    const twin = await plan('users: [{ email: ana@other.example, memberships: [{ company: other }] }]')
    await apply('companies: [{ id: other, state: absent }]')
    const both = { ...made, changes: [...made.changes, ...twin.changes], lines: [...made.lines, ...twin.lines] }
    await assert.rejects(applyPlan(house.database, both, 'operator:test'), { name: 'StoreConflict' })
    assert.equal((await house.database.directory.users()).length, 0)
    assert.equal((await house.database.directory.clients()).length, 0)
  })

  it('keeps people’s roles possible when a company changes sides or goes', async () => {
    await apply(SEED.replace('payments_admin', 'disburser'))
    const side = 'companies: [{ id: acme-builders, name: Acme Builders, side: payee, domains: [acme.example] }]'
    await assert.rejects(plan(side), /acme-builders.*payor@acme\.example.*disburser/)
    await assert.rejects(plan('companies: [{ id: acme-builders, state: absent }]'), /payor@acme\.example/)
  })

  it('keeps APIs and their clients together', async () => {
    const api = `
resources: [{ id: "https://a.example", scopes: [a], token_format: opaque, client: api, service_clients: [job] }]
clients:
  - { client_id: api, client_secret: ${SECRET}, grant_types: [] }
  - { client_id: job, client_secret: ${SECRET}, grant_types: [client_credentials] }`
    assert.equal((await apply(api)).length, 3)
    assert.deepEqual(await apply(api), [])
    await assert.rejects(
      plan('clients: [{ client_id: job, state: absent }]'),
      /service_clients: there is no client "job"/,
    )
    assert.deepEqual(await apply('resources: [{ id: "https://a.example", scopes: [a] }]'), [
      '~ resource https://a.example (token_format, client, service_clients)',
    ])
    assert.deepEqual(await apply('clients: [{ client_id: job, state: absent }]'), ['- client job'])
  })

  it('reads secrets from the environment and from files beside it', async () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'secret'), `${SECRET}\n`)
    const text = `
users: [{ email: ana@acme.example, password: "env:ANA" }]
clients: [{ client_id: a, client_secret: "file:secret", redirect_uris: [https://a.example/cb] }]`
    const seed = parseSeed(text, join(folder, 'seed.yaml'), { ANA: PASSWORD })
    await applyPlan(house.database, await planSeed(house.database, seed, { hash: hasher.hash }), 'operator:test')
    assert.equal((await house.database.directory.client('a'))?.client_secret, SECRET)
    assert.throws(() => parseSeed(text, join(folder, 'seed.yaml'), {}), /ANA is not set/)
    assert.throws(() => parseSeed(text, '/nowhere/seed.yaml', { ANA: PASSWORD }), /cannot read .*secret/)
  })

  const user = (rest: string) => `users: [{ email: ana@acme.example, ${rest} }]`
  const full = (rest: string) => client(`client_secret: ${SECRET}, redirect_uris: [https://a.example/cb], ${rest}`)
  const redirect = (uri: string, rest = '') => client(`client_secret: ${SECRET}, redirect_uris: ["${uri}"]${rest}`)
  const WRONG: [what: string, text: string, complaint: RegExp][] = [
    ['no YAML', 'a: [', /line \d/],
    ['a key twice', 'users: []\nusers: []', /line 2/],
    ['a list for a file', '- a', /sections/],
    ['nothing', '', /sections/],
    ['a section not built yet', 'brand: {}', /brand: not built yet/],
    [
      'contexts that are not under trust',
      'connections: [{ id: a, company: acme, domains: [acme.example], mfa: { contexts: [x] } }]',
      /connections a: mfa: contexts: stands under trust: /,
    ],
    ['an unknown section', 'user: []', /user: unknown key, did you mean users\?/],
    ['an unknown key', user('pasword: x'), /pasword: unknown key, did you mean password\?/],
    ['an address of keys', full('jwks_uri: "https://a.example/jwks"'), /jwks_uri: is not fetched.*under jwks/],
    ['no keys', full('jwks: { keys: [] }'), /must hold a key/],
    [
      'mfa.sso',
      'companies: [{ id: a, name: A, side: none, mfa: { enforced_from: "2027-01-31", zone: UTC, sso: never } }]',
      /sso: must be challenge, or left out/,
    ],
    [
      'a third party that helps itself',
      full('sallyport: { first_party: false, offline: true }'),
      /offline: must be left out/,
    ],
    ['no e-mail address', 'users: [{ email: ana }]', /e-mail address/],
    ['a person twice', 'users: [{ email: a@b.example }, { email: A@B.example }]', /twice/],
    ['a short password', user('password: short'), /15 characters/],
    ['two passwords', user(`password: "${PASSWORD}", password_hash: "${PHC}"`), /not both/],
    ['a weak hash', user(`password_hash: "${PHC.replace('19456', '8192')}"`), /19456/],
    ['a hash that would take the server down', user(`password_hash: "${PHC.replace('19456', '9999999')}"`), /argon2id/],
    ['another hash', user('password_hash: "$2b$10$abc"'), /argon2id/],
    ['no such company', user('memberships: [{ company: acme }]'), /no company "acme"/],
    ['no such role', user('server_roles: [root]'), /operator/],
    [
      'a payor role at a payee',
      `companies: [{ id: best, name: B, side: payee }]\n${user('memberships: [{ company: best, roles: [disburser] }]')}`,
      /disburser/,
    ],
    ['a help of two lines', 'companies: [{ id: a, help: "Call Ann\\nor Bob" }]', /companies a: help: must be one line/],
    ['a help that is too long', `companies: [{ id: a, help: ${'x'.repeat(301)} }]`, /at most 300/],
    ['a NUL in a name', user('name: "A\\0B"'), /name: must not hold the character NUL/],
    [
      'another idle time',
      'companies: [{ id: a, rules: { idle_minutes: 20 } }]',
      /rules.idle_minutes: must be 15, 30, 60, 120/,
    ],
    ['another way of resets', 'companies: [{ id: a, rules: { password_resets: phone } }]', /must be mail, or left out/],
    ['no such country', 'companies: [{ id: a, rules: { sms_countries: [UK] } }]', /ISO 3166-1/],
    ['no country', 'companies: [{ id: a, rules: { sms_countries: [] } }]', /must name a country, or be left out/],
    ['no such rule', 'companies: [{ id: a, rules: { lock: true } }]', /rules: lock: unknown key/],
    [
      'a password where a company wants a mailed link',
      `companies: [{ id: a, rules: { password_resets: mail } }]\n${user(`password: "${PASSWORD}", memberships: [{ company: a }]`)}`,
      /users ana@acme.example: password: company "a" lets passwords be set by a mailed link only: leave it out/,
    ],
    ['an empty help', 'companies: [{ id: a, help: " " }]', /must not be empty/],
    ['no side', 'companies: [{ id: a, name: A, side: left }]', /payor/],
    ['an upper-case domain', 'companies: [{ id: a, name: A, side: none, domains: [A.example] }]', /lower case/],
    [
      'no such day',
      'companies: [{ id: a, name: A, side: none, mfa: { enforced_from: "2027-02-30", zone: UTC } }]',
      /date/,
    ],
    [
      'no such zone',
      'companies: [{ id: a, name: A, side: none, mfa: { enforced_from: "2027-01-31", zone: Mars/Base } }]',
      /time zone/,
    ],
    ['no redirect URI', client(`client_secret: ${SECRET}`), /redirect_uris/],
    ['a relative redirect URI', redirect('/cb'), /redirect_uris/],
    ['a fragment', redirect('https://a.example/cb#x'), /fragment/],
    ['http to elsewhere', redirect('http://a.example/cb'), /redirect_uris/],
    ['a script for an address', redirect('javascript:alert(1)', ', application_type: native'), /redirect_uris/],
    ['a private scheme of a web app', redirect('com.example.app:/cb'), /application_type: native/],
    ['no client secret', client('redirect_uris: [https://a.example/cb]'), /client_secret is missing/],
    ['a short client secret', client('client_secret: abc, redirect_uris: [https://a.example/cb]'), /32 characters/],
    ['a secret of a public client', full('token_endpoint_auth_method: none'), /client_secret/],
    [
      'a public client without PKCE',
      client('redirect_uris: [https://a.example/cb], token_endpoint_auth_method: none, sallyport: { pkce: optional }'),
      /clients payments: sallyport: pkce: optional is for web apps/,
    ],
    [
      'a native client without PKCE',
      full('application_type: native, sallyport: { pkce: optional }'),
      /clients payments: sallyport: pkce: optional is for web apps/,
    ],
    [
      'a device with a redirect URI',
      full('grant_types: ["urn:ietf:params:oauth:grant-type:device_code"]'),
      /leave them out/,
    ],
    ['a logout address that others can read', full('backchannel_logout_uri: "http://a.example/out"'), /https/],
    ['a logout address of a native app', full('backchannel_logout_uri: "com.example.app:/out"'), /https/],
    ['another way to authenticate', full('token_endpoint_auth_method: tls_client_auth'), /client_secret_basic/],
    ['a secret beside keys', full('token_endpoint_auth_method: private_key_jwt'), /client_secret: .* has none/],
    [
      'private_key_jwt without keys',
      client('token_endpoint_auth_method: private_key_jwt, redirect_uris: [https://a.example/cb]'),
      /jwks is missing/,
    ],
    ['the implicit grant', full('grant_types: [implicit]'), /authorization_code/],
    ['a negative age', full('sallyport: { second_factor_max_age: -1 }'), /second_factor_max_age/],
    [
      'a service without a secret',
      client('grant_types: [client_credentials], token_endpoint_auth_method: none'),
      /none is for apps/,
    ],
    ['refresh alone', full('grant_types: [refresh_token]'), /authorization_code beside refresh_token/],
    ['an API of no client', 'resources: [{ id: "https://a.example", client: api }]', /no client "api": add it/],
    [
      'a service that is no client',
      `resources: [{ id: "https://a.example", service_clients: [payment] }]\n${full('')}`,
      /service_clients: there is no client "payment", did you mean payments/,
    ],
    [
      'a service without the grant',
      `resources: [{ id: "https://a.example", service_clients: [payments] }]\n${full('')}`,
      /"payments" needs grant_types: \[client_credentials\]/,
    ],
    [
      'an API that cannot authenticate',
      `resources: [{ id: "https://a.example", client: payments }]\n${client('redirect_uris: [https://a.example/cb], token_endpoint_auth_method: none')}`,
      /cannot introspect/,
    ],
    ['a resource with a fragment', 'resources: [{ id: "https://a.example#x" }]', /fragment/],
    ['a state that is none', 'companies: [{ id: a, state: gone }]', /absent/],
  ]
  for (const [what, text, complaint] of WRONG)
    it(`refuses ${what} in one line`, async () => {
      await assert.rejects(
        async () => plan(text),
        (error: Error) => {
          assert.ok(error instanceof SeedError, String(error))
          assert.doesNotMatch(error.message, /[\r\n]/)
          assert.match(error.message, complaint)
          assert.ok(!error.message.includes(SECRET) && !error.message.includes(PASSWORD))
          return true
        },
      )
    })
})
