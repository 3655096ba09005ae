/** `export`: what it writes, `apply` takes, and nothing changes. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { parse } from 'yaml'
import { createPasswordHasher } from '../../interactions/index.ts'
import { loadConfig } from '../../server/config.ts'
import { exportJson, exportYaml } from '../../server/export.ts'
import { type House, openHouse } from '../../server/open.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import type { Change } from '../../server/stores.ts'
import { storeOf } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'

const SECRET = 'a-client-secret-of-more-than-32-characters'
const PASSWORD = 'correct horse battery staple'
const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 100 })

const openEmpty = async (): Promise<House> => {
  const folder = temporaryFolder()
  return openHouse(loadConfig({ SALLYPORT_LOG_LEVEL: 'silent', ...(await storeOf(folder)) }, folder), {
    createKeys: true,
  })
}

const text = async (pieces: AsyncIterable<string>) => {
  let whole = ''
  for await (const piece of pieces) whole += piece
  return whole
}
const yamlOf = ({ database }: House) => text(exportYaml(database.directory))
const jsonOf = ({ database }: House) => text(exportJson(database.directory))

/** Puts a text into a server. @returns what had to be changed */
async function apply({ database }: House, source: string): Promise<string[]> {
  const plan = await planSeed(database, parseSeed(source, 'seed', {}), { hash: hasher.hash })
  await applyPlan(database, plan, 'operator:test')
  return plan.lines
}

/** Empties a server for the next one: opening one takes longer than a hundred commits. */
async function empty({ database: { directory } }: House): Promise<void> {
  const changes: Change[] = [
    ...(await directory.users()).map(({ id }): Change => ({ kind: 'user', op: 'remove', id })),
    ...(await directory.companies()).map(({ id }): Change => ({ kind: 'company', op: 'remove', id })),
    ...(await directory.resources()).map(({ id }): Change => ({ kind: 'resource', op: 'remove', id })),
    ...(await directory.clients()).map(({ client_id: id }): Change => ({ kind: 'client', op: 'remove', id })),
  ]
  await directory.commit(changes)
}

/** Words that YAML could take for something else, and what people write. */
const words = fc
  .oneof(
    fc.constantFrom(
      'null',
      'yes',
      'No',
      '~',
      '1e3',
      '0x10',
      '2027-01-31',
      '- a',
      '# a',
      '&a',
      '*a',
      '!a',
      '%a',
      '{a',
      '@',
    ),
    fc.constantFrom(
      "it's",
      '"a"',
      'a: b',
      'a #b',
      'Äçé ü',
      'السلام',
      '株式会社',
      '🏗️ & Söhne',
      'a\tb',
      'a\nb',
      'a\\nb',
      '---',
    ),
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 10 }).filter((one) => !/\p{Surrogate}/u.test(one)),
  )
  // No NUL: it is refused (test/server/seed.test.ts).
  .filter((word) => word.trim() !== '' && word.trim().length <= 200 && !word.includes('\0'))
const line = words.filter((word) => !/[\p{Cc}\p{Zl}\p{Zp}]/u.test(word.trim()))
const slug = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,12}$/)
const some = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: undefined })
const flag = some(fc.boolean())

const company = fc.record(
  {
    id: slug,
    name: words,
    side: fc.constantFrom('payor', 'payee', 'both', 'none'),
    disabled: fc.boolean(),
    mfa: fc.record(
      {
        enforced_from: fc.constantFrom('2027-01-31', '2026-12-01'),
        zone: fc.constantFrom('UTC', 'America/Denver'),
        sso: fc.constant('challenge'),
      },
      { requiredKeys: ['enforced_from', 'zone'] },
    ),
    help: line,
    rules: fc.record(
      {
        lockout: fc.boolean(),
        idle_minutes: fc.constantFrom(15, 30, 60, 120),
        password_resets: fc.constant('mail'),
        sms_countries: fc.constantFrom(['US'], ['FR', 'US']),
      },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: ['id'] },
)

const https = fc.webUrl({ validSchemes: ['https'], withQueryParameters: true }).filter((uri) => !uri.includes('#'))
const client = fc
  .record({
    id: fc.stringMatching(/^[\x21-\x7e]{1,20}$/),
    kind: fc.constantFrom('secret', 'public', 'service', 'device', 'api', 'keys'),
    uris: fc.uniqueArray(https, { minLength: 1, maxLength: 3 }),
    name: some(words),
    scope: some(fc.constantFrom('openid', 'openid email', 'email openid profile')),
    uri: some(https),
    offline: flag,
    mfa: some(fc.constantFrom('required', 'by_role')),
    age: some(fc.nat(100_000)),
    third: fc.boolean(),
    bare: fc.boolean(),
    types: some(fc.constant(['code'])),
    pushed: flag,
    acr: some(fc.array(words, { maxLength: 2 })),
    maxAge: some(fc.nat()),
  })
  .map(({ id, kind, ...one }) => {
    const browser = kind === 'secret' || kind === 'public' || kind === 'keys'
    const method = { public: 'none', keys: 'private_key_jwt', device: 'none' }[kind as 'keys']
    return {
      client_id: id,
      client_name: one.name,
      scope: one.scope,
      client_uri: one.uri,
      ...(method !== undefined && { token_endpoint_auth_method: method }),
      ...(method === undefined && { client_secret: SECRET }),
      ...(browser && { redirect_uris: one.uris, response_types: one.types, post_logout_redirect_uris: [] }),
      ...(kind === 'keys' && {
        jwks: { keys: [{ kty: 'EC', crv: 'P-256', x: 'a', y: 'b', 'x-more': { a: [null, 1, 'no'] } }] },
      }),
      ...(kind === 'service' && { grant_types: ['client_credentials'] }),
      ...(kind === 'device' && { grant_types: ['urn:ietf:params:oauth:grant-type:device_code'] }),
      ...(kind === 'api' && { grant_types: [] }),
      require_pushed_authorization_requests: one.pushed,
      default_acr_values: one.acr,
      default_max_age: one.maxAge,
      ...(!one.bare && {
        sallyport: {
          ...(one.third ? { first_party: false } : { offline: one.offline }),
          mfa: one.mfa,
          second_factor_max_age: one.age,
        },
      }),
    }
  })

const sorts = fc
  .record({
    companies: fc.uniqueArray(company, { selector: ({ id }) => id, maxLength: 4 }),
    clients: fc.uniqueArray(client, { selector: (one) => one.client_id, maxLength: 4 }),
    people: fc.uniqueArray(
      fc.record({
        email: fc
          .stringMatching(/^[a-zA-Z][a-z0-9.]{0,8}[a-z]@[a-z]{1,8}\.example$/)
          .filter((one) => !one.includes('..')),
        name: some(words),
        disabled: flag,
        roles: fc.subarray(['company_admin', 'directory_admin']),
        among: fc.nat(),
        off: flag,
        server: some(fc.subarray(['operator', 'support', 'auditor'])),
      }),
      { selector: ({ email }) => email.toLowerCase(), maxLength: 5 },
    ),
    apis: fc.uniqueArray(
      fc.record({
        id: fc.webUrl({ withQueryParameters: true }),
        name: some(words),
        scopes: some(fc.uniqueArray(fc.stringMatching(/^[a-z:#&*!-]{1,8}$/), { maxLength: 3 })),
        token_format: some(fc.constantFrom('jwt', 'opaque')),
        of: fc.nat(),
      }),
      { selector: ({ id }) => id, maxLength: 3 },
    ),
  })
  .map(({ companies, clients, people, apis }) => {
    const owners = clients.filter((one) => one.token_endpoint_auth_method !== 'none')
    const services = clients.filter((one) => one.grant_types?.includes('client_credentials'))
    return {
      companies: companies.map((one, index) => ({
        ...one,
        domains: index % 2 ? [`d${index}.example`, `a${index}.example`] : undefined,
      })),
      clients,
      users: people.map(({ roles, among, off, server, ...one }) => ({
        ...one,
        server_roles: server,
        memberships: companies
          .filter((_, index) => (among >> index) & 1)
          .reverse()
          .map(({ id }) => ({ company: id, roles, disabled: off })),
      })),
      resources: apis.map(({ of, ...one }) => ({
        ...one,
        ...(owners.length > 0 && of % 2 && { client: owners[of % owners.length]!.client_id }),
        ...(services.length > 0 && of % 3 && { service_clients: services.map(({ client_id }) => client_id) }),
      })),
    }
  })

/** An empty server has no secrets to keep: the file must bring them. */
function withSecrets(source: string): string {
  const content = parse(source) as { clients: Record<string, unknown>[] }
  for (const one of content.clients) {
    const method = String(one['token_endpoint_auth_method'] ?? 'client_secret_basic')
    if (method.startsWith('client_secret_')) one['client_secret'] = SECRET
  }
  return JSON.stringify(content)
}

describe('export', () => {
  let first: House
  let second: House
  before(async () => {
    first = await openEmpty()
    second = await openEmpty()
  })
  afterEach(async () => {
    await empty(first)
    await empty(second)
  })
  after(() => Promise.all([first.close(), second.close()]))

  it('leaves a text as it is, whatever ends a line elsewhere', async () => {
    const users = [{ email: 'ana@acme.example', name: 'A\u2028B' }]
    await apply(first, JSON.stringify({ users }))
    assert.deepEqual(await apply(first, await yamlOf(first)), [])
    assert.deepEqual(await apply(first, await jsonOf(first)), [])
  })

  it('applied to the same server changes nothing; applied to an empty one makes the same again', async () => {
    let people = 0
    await fc.assert(
      fc.asyncProperty(sorts, async (seed) => {
        await empty(first)
        await empty(second)
        await apply(first, JSON.stringify(seed))
        const [yaml, json] = [await yamlOf(first), await jsonOf(first)]
        people += seed.users.length
        assert.deepEqual(await apply(first, yaml), [])
        assert.deepEqual(await apply(first, json), [])
        assert.deepEqual(JSON.parse(json), parse(yaml))
        await apply(second, withSecrets(yaml))
        assert.equal(await yamlOf(second), yaml)
      }),
      { numRuns: process.env['TEST_STORE'] === 'mongo' ? 40 : 80 },
    )
    assert.ok(people > 20, 'the property was about nobody')
  })

  it('says only what is not so by default, in an order that stays', async () => {
    await apply(
      first,
      JSON.stringify({
        companies: [
          { id: 'best', name: 'best', side: 'none', domains: [], disabled: false },
          { id: 'acme', name: 'Acme', side: 'payor' },
        ],
        users: [
          {
            email: 'Zoe@acme.example',
            password: PASSWORD,
            memberships: [
              { company: 'best', disabled: true },
              { company: 'acme', roles: ['disburser', 'company_admin'] },
            ],
          },
          { email: 'ana@acme.example', disabled: true, server_roles: ['operator'] },
        ],
        clients: [
          {
            client_id: 'payments',
            client_secret: SECRET,
            redirect_uris: ['https://pay.example/cb'],
            grant_types: ['authorization_code'],
            token_endpoint_auth_method: 'client_secret_basic',
            sallyport: { first_party: true, mfa: 'by_role', offline: true },
          },
        ],
      }),
    )
    assert.equal(
      await yamlOf(first),
      `# Companies, people, APIs, clients and connections, as \`sallyport apply\` takes them.
# Passwords, client secrets and private keys are not in here: apply leaves those that are stored as they are.
companies:
  - id: acme
    name: Acme
    side: payor
  - id: best
users:
  - email: ana@acme.example
    disabled: true
    server_roles:
      - operator
  - email: zoe@acme.example
    memberships:
      - company: acme
        roles:
          - disburser
          - company_admin
      - company: best
        disabled: true
resources: []
clients:
  - client_id: payments
    redirect_uris:
      - https://pay.example/cb
    sallyport:
      offline: true
connections: []
`,
    )
  })

  it('has no secret, former or present, and no hash', async () => {
    await apply(
      first,
      `users: [{ email: a@b.example, password: ${PASSWORD} }]
clients: [{ client_id: a, client_secret: ${SECRET}, redirect_uris: [https://a.example/cb] }]`,
    )
    const was = (await first.database.directory.client('a'))!
    const former_secrets = [{ secret: 'former-'.repeat(6), until: 4_000_000_000 }]
    await first.database.directory.commit([{ kind: 'client', op: 'put', value: { ...was, former_secrets }, was }])
    const all = (await yamlOf(first)) + (await jsonOf(first))
    for (const secret of [SECRET, PASSWORD, 'former', 'argon2', 'password:', 'client_secret:', 'client_secret"'])
      assert.ok(!all.includes(secret), secret)
    assert.deepEqual(await apply(first, await yamlOf(first)), [])
    assert.deepEqual((await first.database.directory.client('a'))?.former_secrets, former_secrets)
  })

  it('is of an empty server what an empty server is', async () => {
    assert.deepEqual(await apply(first, await yamlOf(first)), [])
    assert.deepEqual(JSON.parse(await jsonOf(first)), {
      companies: [],
      users: [],
      resources: [],
      clients: [],
      connections: [],
    })
  })

  for (const count of [499, 500, 501, 1000])
    it(`reads ${count} people page by page and loses none`, async () => {
      const emails = Array.from({ length: count }, (_, index) => `p${String(index).padStart(4, '0')}@a.example`)
      await first.database.directory.commit(
        emails.map((email): Change => {
          const value = { id: email.replace('@', '-'), email, disabled: false, memberships: [], serverRoles: [] }
          return { kind: 'user', op: 'put', value }
        }),
      )
      const users = emails.map((email) => ({ email }))
      assert.deepEqual((parse(await yamlOf(first)) as { users: unknown }).users, users)
      assert.deepEqual(JSON.parse(await jsonOf(first)).users, users)
    })
})
