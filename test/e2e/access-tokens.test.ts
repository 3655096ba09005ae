/** Access tokens of APIs: JWT and opaque, introspection (RFC 7662), and tokens of a client for itself (RFC 6749 §4.4). */
import assert from 'node:assert/strict'
import type { Change, Client } from '../../server/stores.ts'
import { now, wait } from '../support/clock.ts'
import {
  API,
  CALLBACK,
  CLIENT_SECRET,
  claimsIn,
  firstSignIn,
  openTestHouse,
  signIn,
  type TestHouse,
  type Tokens,
} from '../support/house.ts'

const LEDGER = 'https://ledger.example'
const OTHER = 'https://other.example'

describe('access tokens', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
    const service = { client_secret: CLIENT_SECRET, response_types: [], redirect_uris: [] }
    const clients: Client[] = [
      { client_id: 'ledger-api', ...service, grant_types: [] },
      { client_id: 'other-api', ...service, grant_types: [] },
      { client_id: 'job', ...service, grant_types: ['client_credentials'] },
      { client_id: 'stray', ...service, grant_types: ['client_credentials'] },
    ]
    await test.database.directory.commit([
      ...clients.map((value): Change => ({ kind: 'client', op: 'put', value })),
      {
        kind: 'resource',
        op: 'put',
        value: {
          id: LEDGER,
          name: 'Ledger',
          scopes: ['ledger:read', 'ledger:write'],
          token_format: 'opaque',
          client: 'ledger-api',
          service_clients: ['job', 'spa'],
        },
      },
      {
        kind: 'resource',
        op: 'put',
        value: { id: OTHER, name: 'Other', scopes: ['other'], client: 'other-api', service_clients: ['job'] },
      },
    ])
  })
  after(() => test.close())

  const basic = (client: string, secret = CLIENT_SECRET) => ({
    authorization: `Basic ${Buffer.from(`${client}:${secret}`).toString('base64')}`,
  })
  const introspect = (token: string, client = 'ledger-api', more: Record<string, string> = {}) =>
    test.post('/token/introspection', { token, ...more }, basic(client)) as Promise<
      Tokens & { active?: unknown; amr?: unknown; auth_time?: unknown; exp?: unknown }
    >
  const isActive = async (...[token, client]: [string, string?]) => {
    const answer = await introspect(token, client)
    assert.equal(answer.status, 200)
    if (answer.active !== true) assert.deepEqual(answer, { active: false, status: 200 })
    return answer.active
  }

  /** A payor who signed in, with tokens for the ledger. */
  const payor = async (client = 'payments', resource = LEDGER, scope = 'openid ledger:read') => {
    const email = `tokens${++people}@acme.example`
    const id = await test.person(email)
    const { visitor, answer } = await firstSignIn(test, email, { client_id: client, resource, scope })
    return { email, id, visitor, tokens: await test.exchange(answer, client) }
  }

  describe('come from a code (R92)', () => {
    const signedIn = async (params: Record<string, string> = {}) => {
      const email = `tokens${++people}@city.example`
      await test.person(email, 'standard')
      const visitor = test.visitor()
      return signIn(visitor, await visitor.go(test.authUrl(params)), email)
    }

    it('within 60 seconds', async () => {
      const [soon, late] = [await signedIn(), await signedIn()]
      wait(55)
      assert.ok((await test.exchange(soon))['id_token'])
      wait(10)
      assert.equal((await test.exchange(late)).error, 'invalid_grant')
    })

    it('once: the code again ends what it gave', async () => {
      const answer = await signedIn({ resource: LEDGER, scope: 'openid ledger:read' })
      const tokens = await test.exchange(answer)
      assert.equal(await isActive(tokens['access_token']!), true)
      assert.equal((await test.exchange(answer)).error, 'invalid_grant')
      assert.equal(await isActive(tokens['access_token']!), false)
      const refreshed = await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! })
      assert.equal(refreshed.error, 'invalid_grant')
    })

    it('with its verifier, its redirect URI, by the app that it was given to', async () => {
      const wrong: Record<string, string>[] = [
        { code_verifier: 'v'.repeat(43) },
        { code_verifier: '' },
        { redirect_uri: `${CALLBACK}/` },
        { redirect_uri: '' },
      ]
      for (const extra of wrong)
        assert.match((await test.exchange(await signedIn(), 'payments', extra)).error!, /^invalid_(grant|request)$/)
      assert.equal((await test.exchange(await signedIn(), 'strict')).error, 'invalid_grant')
    })

    it('and from no password, no implicit grant, no assertion', async () => {
      for (const grant_type of ['password', 'implicit', 'urn:ietf:params:oauth:grant-type:jwt-bearer', 'constructor']) {
        const { error } = await test.token({ grant_type, username: 'a@city.example', password: 'x' })
        assert.equal(error, 'unsupported_grant_type', grant_type)
      }
    })
  })

  it('are JWTs, or opaque where the API says so', async () => {
    const { tokens } = await payor()
    assert.match(tokens['access_token']!, /^[\w-]{43,}$/)
    const { tokens: jwt } = await payor('payments', API, 'openid payments')
    const claims = claimsIn(jwt['access_token'])
    assert.deepEqual([claims['aud'], claims.amr], [API, ['pwd', 'otp', 'mfa']])
    const refused = await introspect(jwt['access_token']!, 'payments')
    assert.deepEqual([refused.status, refused.error], [400, 'unsupported_token_type'])
  })

  it('introspection tells the API who, for what, and what was proven when', async () => {
    const { id, tokens } = await payor()
    const told = await introspect(tokens['access_token']!)
    const { acr, amr, auth_time, second_factor_time } = claimsIn(tokens['id_token'])
    const { exp, iat, ...rest } = told as unknown as Record<string, unknown>
    assert.ok(Number(exp) - Number(iat) === 600)
    assert.deepEqual(rest, {
      active: true,
      status: 200,
      sub: id,
      client_id: 'payments',
      iss: test.url,
      aud: LEDGER,
      scope: 'ledger:read',
      token_type: 'Bearer',
      acr,
      amr,
      auth_time,
      second_factor_time,
    })
    const refreshed = await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! })
    const later = await introspect(refreshed['access_token']!)
    assert.deepEqual([later['acr'], later.amr, later.auth_time], [acr, amr, auth_time], 'a refresh proves nothing anew')
  })

  it('introspection answers the API of the token and its own app, and nobody else', async () => {
    const { tokens } = await payor()
    const access = tokens['access_token']!
    for (const client of ['ledger-api', 'payments']) assert.equal(await isActive(access, client), true, client)
    for (const client of ['other-api', 'strict', 'job', 'stray'])
      assert.equal(await isActive(access, client), false, client)
    assert.equal(await isActive(tokens['refresh_token']!, 'payments'), true)
    assert.equal(await isActive(tokens['refresh_token']!, 'ledger-api'), false, 'no API sees a refresh token')
    assert.equal(await isActive(tokens['refresh_token']!, 'strict'), false)

    for (const headers of [basic('ledger-api', 'wrong wrong wrong wrong wrong wrong'), basic('nobody'), {}]) {
      const { error, status } = await test.post('/token/introspection', { token: access }, headers)
      assert.ok(['invalid_client', 'invalid_request'].includes(error!), `${status} ${error}`)
    }
    const open = await test.post('/token/introspection', { token: access, client_id: 'spa' })
    assert.deepEqual(open, { active: false, status: 200 } as unknown)
  })

  it('a token for userinfo is told to its own app only, and one for an API does not open userinfo', async () => {
    const email = `tokens${++people}@city.example`
    await test.person(email, 'standard')
    const visitor = test.visitor()
    const tokens = await test.exchange(await signIn(visitor, await visitor.go(test.authUrl()), email))
    assert.equal(await isActive(tokens['access_token']!, 'payments'), true)
    assert.equal(await isActive(tokens['access_token']!, 'ledger-api'), false)
    const { tokens: opaque } = await payor()
    const headers = { authorization: `Bearer ${opaque['access_token']!}` }
    assert.ok([401, 403].includes((await fetch(`${test.url}/me`, { headers })).status))
  })

  it('a public app’s token is told to the API, not to whoever names the app', async () => {
    const email = `tokens${++people}@city.example`
    await test.person(email, 'standard')
    const visitor = test.visitor()
    const params = { client_id: 'spa', resource: LEDGER, scope: 'openid ledger:read' }
    const tokens = await test.exchange(await signIn(visitor, await visitor.go(test.authUrl(params)), email), 'spa')
    assert.equal(await isActive(tokens['access_token']!), true)
    const named = await test.post('/token/introspection', { token: tokens['access_token']!, client_id: 'spa' })
    assert.deepEqual(named, { active: false, status: 200 } as unknown)
  })

  it('garbage, an ID token, a code, a session are not active', async () => {
    const { tokens, visitor } = await payor()
    for (const token of ['x', '__proto__', visitor.cookie('session')!, 'a'.repeat(5000)])
      assert.equal(await isActive(token), false)
    assert.equal((await introspect(tokens['id_token']!)).error, 'unsupported_token_type')
    assert.equal((await introspect('')).error, 'invalid_request')
    for (const hint of ['access_token', 'refresh_token', 'nonsense'])
      assert.equal((await introspect(tokens['access_token']!, 'ledger-api', { token_type_hint: hint })).active, true)
  })

  describe('a token is dead', () => {
    const ends: [string, (who: Awaited<ReturnType<typeof payor>>) => Promise<unknown>][] = [
      ['when its time is over', async () => wait(601 + 15)],
      ['when the person is disabled', ({ id }) => changeUser(id, { disabled: true })],
      ['when the factor was reset', ({ id }) => test.database.directory.resetMfa(id, { now: now() })],
      ['when the person is removed', ({ id }) => test.database.directory.commit([{ kind: 'user', op: 'remove', id }])],
      [
        'when the person signed out',
        async ({ visitor }) => visitor.submit(await visitor.go('/session/end'), { logout: 'yes' }),
      ],
      [
        'when its app revoked it',
        ({ tokens }) => test.post('/token/revocation', { token: tokens['access_token']! }, basic('payments')),
      ],
      [
        'when its family was revoked by a used refresh token',
        async ({ tokens }) => {
          const form = { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! }
          await test.token(form)
          await test.token(form)
        },
      ],
    ]
    const changeUser = async (id: string, over: object) => {
      const user = (await test.database.directory.user(id))!
      await test.database.directory.commit([{ kind: 'user', op: 'put', value: { ...user, ...over } }])
    }
    for (const [when, end] of ends)
      it(when, async () => {
        const who = await payor()
        assert.equal(await isActive(who.tokens['access_token']!), true)
        await end(who)
        for (const client of ['ledger-api', 'payments'])
          assert.equal(await isActive(who.tokens['access_token']!, client), false, client)
      })

    it('when the person took back what a third party may do', async () => {
      const email = `tokens${++people}@city.example`
      const id = await test.person(email, 'standard')
      const visitor = test.visitor()
      const params = { client_id: 'partner', resource: LEDGER, scope: 'openid ledger:read' }
      const question = await signIn(visitor, await visitor.go(test.authUrl(params)), email)
      const tokens = await test.exchange(await visitor.submit(question), 'partner')
      assert.equal(await isActive(tokens['access_token']!), true)
      await test.database.consents.forget(id, 'partner')
      for (const client of ['ledger-api', 'partner'])
        assert.equal(await isActive(tokens['access_token']!, client), false, client)
    })

    it('not when the person signed out of an app that may go on without them, until they end everything', async () => {
      const { id, visitor, tokens } = await payor('strict')
      await visitor.submit(await visitor.go('/session/end'), { logout: 'yes' })
      assert.equal(await isActive(tokens['access_token']!), true)
      await test.database.directory.resetMfa(id, { now: now() })
      assert.equal(await isActive(tokens['access_token']!), false)
    })

    it('when its app was removed: an answer, no failure', async () => {
      const gone = { ...(await test.database.directory.client('payments'))!, client_id: 'gone' }
      await test.database.directory.commit([{ kind: 'client', op: 'put', value: gone }])
      const { tokens } = await payor('gone')
      assert.equal(await isActive(tokens['access_token']!), true)
      await test.database.directory.commit([{ kind: 'client', op: 'remove', id: 'gone' }])
      assert.equal(await isActive(tokens['access_token']!), false)
    })

    it('when the session idled out', async () => {
      const idle = await openTestHouse({ SALLYPORT_SESSION_IDLE_SECONDS: '60' }, { folder: test.folder })
      try {
        const email = `tokens${++people}@acme.example`
        await idle.person(email)
        const { answer } = await firstSignIn(idle, email, { resource: LEDGER, scope: 'openid ledger:read' })
        const token = (await idle.exchange(answer))['access_token']!
        const active = async () =>
          ((await idle.post('/token/introspection', { token }, basic('ledger-api'))) as { active?: unknown }).active
        assert.equal(await active(), true)
        wait(60 + 16)
        assert.equal(await active(), false)
      } finally {
        await idle.close()
      }
    })
  })

  describe('of a client for itself', () => {
    const ask = (form: Record<string, string>, client = 'job') =>
      test.token({ grant_type: 'client_credentials', ...form }, client)

    it('stand for no person and no authentication', async () => {
      const opaque = await ask({ resource: LEDGER, scope: 'ledger:read ledger:write' })
      assert.deepEqual(
        [opaque.status, opaque['scope'], opaque['token_type']],
        [200, 'ledger:read ledger:write', 'Bearer'],
      )
      assert.ok(!('id_token' in opaque) && !('refresh_token' in opaque))
      const { exp, iat, ...told } = (await introspect(opaque['access_token']!)) as Record<string, unknown>
      assert.equal(Number(exp) - Number(iat), 600)
      assert.deepEqual(told, {
        active: true,
        status: 200,
        client_id: 'job',
        iss: test.url,
        aud: LEDGER,
        scope: 'ledger:read ledger:write',
        token_type: 'Bearer',
      })
      const jwt = claimsIn((await ask({ resource: OTHER, scope: 'other' }))['access_token'])
      assert.deepEqual(Object.keys(jwt).sort(), ['aud', 'client_id', 'exp', 'iat', 'iss', 'jti', 'scope', 'sub'])
      assert.deepEqual([jwt.sub, jwt['client_id'], jwt['aud']], ['job', 'job', OTHER])
    })

    const refused: [string, string, Record<string, string>, string][] = [
      ['a client that no API lists', 'stray', { resource: LEDGER, scope: 'ledger:read' }, 'invalid_target'],
      ['another API than that which lists it', 'job', { resource: API, scope: 'payments' }, 'invalid_target'],
      ['an API that is not there', 'job', { resource: 'https://nowhere.example', scope: 'x' }, 'invalid_target'],
      ['no API', 'job', { scope: 'ledger:read' }, 'invalid_target'],
      ['no API, for userinfo', 'job', { scope: 'openid email' }, 'invalid_target'],
      ['no scope', 'job', { resource: LEDGER }, 'invalid_scope'],
      ['a scope of another API', 'job', { resource: LEDGER, scope: 'ledger:read other' }, 'invalid_scope'],
      ['openid', 'job', { resource: LEDGER, scope: 'openid ledger:read' }, 'invalid_scope'],
      ['an app that signs people in', 'payments', { resource: LEDGER, scope: 'ledger:read' }, 'invalid_request'],
      ['a public app, though listed', 'spa', { resource: LEDGER, scope: 'ledger:read' }, 'invalid_request'],
      [
        'a payment',
        'job',
        { resource: LEDGER, scope: 'ledger:read', authorization_details: '[{"type":"payment"}]' },
        'invalid_authorization_details',
      ],
    ]
    for (const [what, client, form, error] of refused)
      it(`are refused: ${what}`, async () => {
        const answer = await ask(form, client)
        assert.deepEqual([answer.status, answer.error], [400, error], JSON.stringify(answer))
      })

    it('are refused to a public app that was registered for them by mistake', async () => {
      const value = {
        client_id: 'spa2',
        token_endpoint_auth_method: 'none',
        grant_types: ['client_credentials'],
        response_types: [],
        redirect_uris: [],
      }
      const ledger = (await test.database.directory.resources()).find(({ id }) => id === LEDGER)!
      await test.database.directory.commit([
        { kind: 'client', op: 'put', value },
        { kind: 'resource', op: 'put', value: { ...ledger, service_clients: ['job', 'spa2'] } },
      ])
      const form = { client_id: 'spa2', grant_type: 'client_credentials', resource: LEDGER, scope: 'ledger:read' }
      assert.equal((await test.post('/token', form)).error, 'unauthorized_client')
    })

    it('are refused for two APIs at once, and for one that lists the client beside one that does not', async () => {
      for (const second of [OTHER, API]) {
        const body = new URLSearchParams({ grant_type: 'client_credentials', resource: LEDGER, scope: 'ledger:read' })
        body.append('resource', second)
        const answer = await fetch(`${test.url}/token`, { method: 'POST', headers: basic('job'), body })
        const { error } = (await answer.json()) as { error: string }
        assert.match(error, /^invalid_(target|scope)$/)
      }
    })

    it('end with the listing', async () => {
      const token = (await ask({ resource: LEDGER, scope: 'ledger:read' }))['access_token']!
      assert.equal(await isActive(token, 'job'), true)
      const ledger = (await test.database.directory.resources()).find(({ id }) => id === LEDGER)!
      await test.database.directory.commit([{ kind: 'resource', op: 'put', value: { ...ledger, service_clients: [] } }])
      assert.equal(await isActive(token), false)
      await test.database.directory.commit([{ kind: 'resource', op: 'put', value: ledger }])
    })

    it('open neither userinfo nor a sign-in', async () => {
      const token = (await ask({ resource: LEDGER, scope: 'ledger:read' }))['access_token']!
      assert.equal((await fetch(`${test.url}/me`, { headers: { authorization: `Bearer ${token}` } })).status, 401)
      const answer = await test.visitor().request(test.authUrl({ client_id: 'job', redirect_uri: CALLBACK }))
      assert.deepEqual([answer.status, answer.location], [400, undefined])
    })
  })
})
