/** `client check`: what it says of a client, and that what it says fails does fail. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { checkClient, type Remark } from '../../server/client-check.ts'
import { rotateSecret } from '../../server/client-secret.ts'
import { planningOf } from '../../server/provider.ts'
import { applyPlan, type PlanOptions, parseSeed, planSeed } from '../../server/seed/index.ts'
import type { Client } from '../../server/stores.ts'
import { now } from '../support/clock.ts'
import { API, CALLBACK, CLIENT_SECRET, openTestHouse, signIn, type TestHouse } from '../support/house.ts'

const GOOD = {
  client_id: 'app',
  client_name: 'App',
  client_secret: CLIENT_SECRET,
  client_uri: 'https://rp.example',
  redirect_uris: [CALLBACK],
  post_logout_redirect_uris: ['https://rp.example/out'],
  backchannel_logout_uri: 'https://rp.example/logout',
}
const PUBLIC = { ...GOOD, client_secret: undefined, token_endpoint_auth_method: 'none' }
const DEVICE = 'urn:ietf:params:oauth:grant-type:device_code'
const SERVICE = { client_id: 'app', client_secret: CLIENT_SECRET, grant_types: ['client_credentials'] }

describe('client check', () => {
  let test: TestHouse
  let planning: PlanOptions
  let rsa: object
  let ec: object
  before(async () => {
    test = await openTestHouse()
    planning = await planningOf(test.house)
    rsa = await exportJWK((await generateKeyPair('RS256', { extractable: true })).publicKey)
    ec = await exportJWK((await generateKeyPair('ES256', { extractable: true })).publicKey)
  })
  after(() => test.close())

  const stored = async () => (await test.database.directory.client('app'))!
  const register = async (client: object, resources: object[] = []) => {
    const seed = parseSeed(JSON.stringify({ clients: [client], resources }), 'seed', {})
    await applyPlan(test.database, await planSeed(test.database, seed, planning), 'operator:test')
  }
  const check = async (client?: Client, issuer = test.url) =>
    checkClient(
      { database: test.database, config: { ...test.house.config, SALLYPORT_ISSUER: issuer } },
      client ?? (await stored()),
      planning,
      now(),
    )
  const keysOf = (remarks: Remark[]) => remarks.map(({ status, key }) => `${status} ${key}`)

  it('has nothing to say against a client that is well registered', async () => {
    await register(GOOD)
    assert.deepEqual(await check(), [])
    await register(SERVICE, [{ id: 'https://served.example', service_clients: ['app'] }])
    assert.deepEqual(await check(), [])
    await register(GOOD, [{ id: 'https://served.example' }])
  })

  const WEAK: [what: string, client: () => object, remarks: string[]][] = [
    [
      'says least',
      () => ({ client_id: 'app', client_secret: CLIENT_SECRET, redirect_uris: [CALLBACK] }),
      ['post_logout_redirect_uris', 'backchannel_logout_uri', 'client_uri', 'client_name'],
    ],
    ['calls localhost', () => ({ ...GOOD, redirect_uris: ['http://localhost:4000/cb'] }), ['redirect_uris']],
    ['is called back at a star', () => ({ ...GOOD, redirect_uris: ['https://*.rp.example/cb'] }), ['redirect_uris']],
    [
      'has a redirect that others can take',
      () => ({ ...PUBLIC, application_type: 'native', redirect_uris: ['com.example.app:/cb'] }),
      ['redirect_uris'],
    ],
    ['is a third party without terms', () => ({ ...GOOD, sallyport: { first_party: false } }), ['policy_uri']],
    [
      'has a second factor that never ages',
      () => ({ ...GOOD, sallyport: { second_factor_max_age: 999_999 } }),
      ['sallyport.second_factor_max_age'],
    ],
    [
      'signs by any algorithm',
      () => ({ ...GOOD, token_endpoint_auth_method: 'client_secret_jwt' }),
      ['token_endpoint_auth_signing_alg'],
    ],
    ['can do nothing', () => ({ client_id: 'app', client_secret: CLIENT_SECRET, grant_types: [] }), ['grant_types']],
    [
      'is a device without a name',
      () => ({ client_id: 'app', token_endpoint_auth_method: 'none', grant_types: [DEVICE] }),
      ['client_name'],
    ],
  ]
  for (const [what, client, remarks] of WEAK)
    it(`warns of a client that ${what}`, async () => {
      await register(client())
      const said = await check()
      assert.deepEqual(keysOf(said).sort(), remarks.map((key) => `warn ${key}`).sort())
      for (const { message } of said) assert.match(message, /[.)] ?.*\.$/, 'what is so, and what to do')
    })

  it('warns of a web app on the person’s own computer at a server that others use', async () => {
    await register({ ...GOOD, redirect_uris: ['http://127.0.0.1:4000/cb'] })
    assert.deepEqual(keysOf(await check()), [])
    assert.deepEqual(keysOf(await check(undefined, 'https://login.example')), ['warn redirect_uris'])
  })

  it('warns while a former secret is good, and names none', async () => {
    await register(GOOD)
    const { client_secret, former_until } = await rotateSecret(test.database, {
      clientId: 'app',
      overlap: 3600,
      now: now(),
      actor: 'operator:test',
    })
    const said = await check()
    assert.deepEqual(keysOf(said), ['warn client_secret'])
    assert.ok(said[0]!.message.includes(new Date(former_until! * 1000).toISOString()))
    for (const secret of [client_secret, CLIENT_SECRET]) assert.ok(!JSON.stringify(said).includes(secret))
    assert.deepEqual(await checkClient(test.house, await stored(), planning, former_until!), [])
  })

  it('says in the words of apply what apply would refuse', async () => {
    const [one, ...more] = await check({ ...GOOD, redirect_uris: ['https://rp.example/cb#x'] })
    assert.deepEqual([one!.status, more], ['fail', []])
    assert.match(one!.message, /clients app: redirect_uris\.0: must be an absolute https URL without fragment/)
    const [other] = await check({ ...GOOD, token_endpoint_auth_method: 'private_key_jwt' })
    assert.match(other!.message, /jwks is missing/)
    const { client_secret: _, ...bare } = GOOD
    await test.database.directory.commit([{ kind: 'client', op: 'put', value: bare }])
    assert.match((await check())[0]!.message, /client_secret is missing/)
  })

  describe('what it says fails, fails', () => {
    const basic = () => ({ authorization: `Basic ${Buffer.from(`app:${CLIENT_SECRET}`).toString('base64')}` })

    it('client_credentials of a client that no API lists', async () => {
      const ask = () =>
        test.post('/token', { grant_type: 'client_credentials', resource: API, scope: 'payments' }, basic())
      await register(SERVICE)
      assert.deepEqual(keysOf(await check()), ['fail grant_types'])
      assert.notEqual((await ask()).status, 200)
      await register(SERVICE, [{ id: API, name: 'Payments API', scopes: ['payments'], service_clients: ['app'] }])
      assert.deepEqual(await check(), [])
      assert.equal((await ask()).status, 200)
      await register(GOOD, [{ id: API, name: 'Payments API', scopes: ['payments'] }])
    })

    it('offline without the grant', async () => {
      await test.person('offline@city.example', 'standard')
      const refresh = async (grant_types: string[]) => {
        await register({ ...GOOD, grant_types, sallyport: { offline: true } })
        const visitor = test.visitor()
        const page = await visitor.go(test.authUrl({ client_id: 'app' }))
        const { refresh_token } = await test.exchange(await signIn(visitor, page, 'offline@city.example'), 'app')
        return refresh_token
      }
      assert.equal(await refresh(['authorization_code']), undefined)
      assert.deepEqual(keysOf(await check()), ['fail sallyport.offline'])
      assert.ok(await refresh(['authorization_code', 'refresh_token']))
      assert.deepEqual(await check(), [])
    })

    it('keys that do not fit the algorithm', async () => {
      const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
      const own = await exportJWK(publicKey)
      const signer = { ...GOOD, client_secret: undefined, token_endpoint_auth_method: 'private_key_jwt' }
      const ask = async () => {
        const client_assertion = await new SignJWT({
          iss: 'app',
          sub: 'app',
          aud: test.url,
          jti: randomUUID(),
          exp: now() + 60,
        })
          .setProtectedHeader({ alg: 'ES256' })
          .sign(privateKey)
        const client_assertion_type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
        const form = { grant_type: 'authorization_code', code: 'none', redirect_uri: CALLBACK }
        return (await test.post('/token', { ...form, client_assertion_type, client_assertion })).error
      }
      for (const keys of [[rsa], [{ ...own, use: 'enc' }], [{ ...own, alg: 'ES384' }]]) {
        await register({ ...signer, jwks: { keys }, token_endpoint_auth_signing_alg: 'ES256' })
        assert.deepEqual(keysOf(await check()), ['fail token_endpoint_auth_signing_alg'], JSON.stringify(keys))
        assert.equal(await ask(), 'invalid_client')
      }
      await register({ ...signer, jwks: { keys: [rsa, own] }, token_endpoint_auth_signing_alg: 'ES256' })
      assert.deepEqual(await check(), [])
      assert.equal(await ask(), 'invalid_grant')
    })

    it('signed requests without a key for them', async () => {
      const signed = { ...GOOD, require_signed_request_object: true, jwks: { keys: [ec] } }
      await register({ ...signed, request_object_signing_alg: 'PS256' })
      assert.deepEqual(keysOf(await check()), ['fail request_object_signing_alg'])
      await register({ ...signed, request_object_signing_alg: 'ES256' })
      assert.deepEqual(await check(), [])
    })
  })
})
