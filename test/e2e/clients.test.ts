/** docs/clients.md: the configuration that it gives, and what the log says of the mistakes that apps make. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { loadConfig } from '../../server/config.ts'
import { openHouse } from '../../server/open.ts'
import { planningOf } from '../../server/provider.ts'
import { parseSeed, planSeed } from '../../server/seed/index.ts'
import { CALLBACK, CLIENT_SECRET, openTestHouse, pkce, REQUEST, signIn, type TestHouse } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'
import type { Visitor } from '../support/visitor.ts'

const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
const clients = read('docs/clients.md')

describe('mistakes of apps', () => {
  let test: TestHouse
  let visitor: Visitor
  let idToken: string
  before(async () => {
    test = await openTestHouse()
    await test.person('clients@city.example', 'standard')
    visitor = test.visitor()
    const answer = await signIn(visitor, await visitor.go(test.authUrl()), 'clients@city.example')
    idToken = (await test.exchange(answer))['id_token']!
  })
  after(() => test.close())

  const basic = (client: string, secret: string) => ({
    authorization: `Basic ${Buffer.from(`${client}:${secret}`).toString('base64')}`,
  })
  const without = (...names: string[]) =>
    `/auth?${new URLSearchParams(Object.entries(REQUEST).filter(([name]) => !names.includes(name)))}`
  const exchange = async (form: Record<string, string> = {}, headers = basic('payments', CLIENT_SECRET)) => {
    const answer = await visitor.go(test.authUrl())
    const code = new URL(answer.location!).searchParams.get('code')!
    const all = {
      grant_type: 'authorization_code',
      code,
      redirect_uri: CALLBACK,
      code_verifier: pkce.verifier,
      ...form,
    }
    await test.post('/token', all, headers)
    return all
  }

  const mistakes: Record<string, () => Promise<unknown>> = {
    'no PKCE': () => visitor.request(without('code_challenge', 'code_challenge_method')),
    '`code_challenge_method=plain`': () => visitor.request(test.authUrl({ code_challenge_method: 'plain' })),
    'a redirect URI that differs by a slash': () => visitor.request(test.authUrl({ redirect_uri: `${CALLBACK}/` })),
    'no redirect URI': () => visitor.request(without('redirect_uri')),
    'the implicit or hybrid flow': () => visitor.request(test.authUrl({ response_type: 'code id_token', nonce: 'n' })),
    'a mistyped `client_id`': () => visitor.request(test.authUrl({ client_id: 'paymnets' })),
    'a wrong secret': () => exchange({}, basic('payments', 'x'.repeat(40))),
    'the code a second time': async () => {
      await test.post('/token', await exchange(), basic('payments', CLIENT_SECRET))
    },
    'a verifier of another request': () => exchange({ code_verifier: 'v'.repeat(43) }),
    'a scope that is not registered': async () => {
      const { directory } = test.database
      const value = { ...(await directory.client('payments'))!, client_id: 'narrow', scope: 'openid' }
      await directory.commit([{ kind: 'client', op: 'put', value }])
      await visitor.request(test.authUrl({ client_id: 'narrow', scope: 'openid email' }))
    },
    '`prompt=none` while nobody is signed in': () => test.visitor().request(test.authUrl({ prompt: 'none' })),
    'an `acr` that nobody can reach, as essential': () =>
      visitor.request(
        test.authUrl({ claims: '{"id_token":{"acr":{"essential":true,"values":["urn:elsewhere:gold"]}}}' }),
      ),
    'a post-logout address that is not registered': () =>
      visitor.request(
        `/session/end?${new URLSearchParams({ id_token_hint: idToken, post_logout_redirect_uri: CALLBACK })}`,
      ),
  }

  const rows = [...clients.matchAll(/^\| (.+?) \| `(\w+: .+?)` \| /gm)].map(
    ([, name, error]) => [name!, error!] as const,
  )

  it('are those of the document', () => {
    assert.deepEqual(
      rows.map(([name]) => name),
      Object.keys(mistakes),
    )
  })

  for (const [name, error] of rows)
    it(`${name}: ${error}`, async () => {
      const before = test.logs.length
      await mistakes[name]!()
      const told = () =>
        test.logs
          .slice(before)
          .filter((line) => line.includes('"client mistake"'))
          .map((line) => (JSON.parse(line) as { error: string }).error)
      for (let i = 0; i < 50 && told().length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 20))
      assert.deepEqual(told(), [error])
    })
})

describe('configuration of apps', () => {
  const files = readdirSync(new URL('../../examples/clients/', import.meta.url))
  const text = (name: string) => read(`examples/clients/${name}`)
  const blocks = [...clients.matchAll(/```(?:yaml|apache|toml)\n([\s\S]*?)```/g)].map(([, block]) => block!)

  it('in the document is that of the examples, which test/rp runs', () => {
    assert.deepEqual(blocks.toSorted(), files.map(text).toSorted())
    const scripts = readdirSync(new URL('../rp/', import.meta.url)).filter((name) => name.endsWith('.sh'))
    const used = scripts.map((name) => read(`test/rp/${name}`)).join('\n')
    for (const name of files.filter((one) => !one.startsWith('openid-client')))
      assert.ok(used.includes(`examples/clients/${name}`), name)
  })

  it('is taken by apply', async () => {
    const house = await openHouse(loadConfig({ SALLYPORT_LOG_LEVEL: 'silent' }, temporaryFolder()), {
      createKeys: true,
    })
    try {
      const env = Object.fromEntries(
        ['WIKI_SECRET', 'OAUTH2_PROXY_CLIENT_SECRET', 'EXAMPLE_SECRET'].map((name) => [name, CLIENT_SECRET]),
      )
      for (const name of files.filter((one) => one.endsWith('.yaml'))) {
        const { lines } = await planSeed(house.database, parseSeed(text(name), name, env), await planningOf(house))
        assert.equal(lines.length, 1, name)
      }
    } finally {
      await house.close()
    }
  })
})
