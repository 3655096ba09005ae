/** Apps that sign instead of sending their secret: `private_key_jwt` and `client_secret_jwt` (OIDC Core §9, RFC 7523). */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { exportJWK, type GenerateKeyPairResult, generateKeyPair, SignJWT } from 'jose'
import * as oidc from 'openid-client'
import { planningOf } from '../../server/provider.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import { now, wait } from '../support/clock.ts'
import {
  CALLBACK,
  CLIENT_SECRET,
  openTestHouse,
  signIn,
  slowly,
  type TestHouse,
  type Tokens,
} from '../support/house.ts'

type Key = GenerateKeyPairResult['privateKey']
type Claims = Record<string, unknown>
const ISSUER = 'https://login.example'
const TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
const SECRET_KEY = new TextEncoder().encode(CLIENT_SECRET)

describe('client authentication', () => {
  let test: TestHouse
  /** A second process on the same database. */
  let other: TestHouse
  let own: Key
  let foreign: Key
  before(async () => {
    test = await openTestHouse({ SALLYPORT_ISSUER: ISSUER }, { artifacts: slowly })
    other = await openTestHouse({ SALLYPORT_ISSUER: ISSUER }, { folder: test.folder, artifacts: slowly })
    const pair = await generateKeyPair('ES256', { extractable: true })
    own = pair.privateKey
    foreign = (await generateKeyPair('ES256')).privateKey
    const jwks = { keys: [{ ...(await exportJWK(pair.publicKey)), kid: 'own' }] }
    const grant_types = ['authorization_code', 'refresh_token']
    const clients = [
      {
        client_id: 'signer',
        grant_types,
        token_endpoint_auth_method: 'private_key_jwt',
        jwks,
        redirect_uris: [CALLBACK],
      },
      {
        client_id: 'hasher',
        grant_types,
        token_endpoint_auth_method: 'client_secret_jwt',
        client_secret: CLIENT_SECRET,
        redirect_uris: [CALLBACK],
      },
    ]
    const plan = await planSeed(
      test.database,
      parseSeed(JSON.stringify({ clients }), 'seed.json', {}),
      await planningOf(test.house),
    )
    await applyPlan(test.database, plan, 'operator:test')
  })
  after(() => Promise.all([test.close(), other.close()]))

  const assertion = (
    client: string,
    over: Claims = {},
    { key = own, ...header }: { key?: Key; alg?: string; typ?: string; kid?: string } = {},
  ) => {
    const byKey = client === 'signer'
    const payload = { iss: client, sub: client, aud: ISSUER, jti: randomUUID(), exp: now() + 60, ...over }
    const given = Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined))
    return new SignJWT(given)
      .setProtectedHeader({ alg: byKey ? 'ES256' : 'HS256', ...header })
      .sign(byKey ? key : SECRET_KEY)
  }
  /** Who is let in gets as far as the grant, which is none. */
  const knock = async (client_assertion: string, house = test, more: Record<string, string> = {}): Promise<Tokens> =>
    house.post('/token', {
      grant_type: 'refresh_token',
      refresh_token: 'none',
      client_assertion_type: TYPE,
      client_assertion,
      ...more,
    })
  const letIn = ({ status, error }: Tokens) => status === 400 && error === 'invalid_grant'

  for (const client of ['signer', 'hasher'])
    describe(client === 'signer' ? 'private_key_jwt' : 'client_secret_jwt', () => {
      it('exchanges a code', async () => {
        const email = `${client}@city.example`
        await test.person(email, 'standard')
        const visitor = test.visitor()
        const answer = await signIn(visitor, await visitor.go(test.authUrl({ client_id: client })), email)
        const tokens = await test.exchange(answer, '', {
          client_assertion_type: TYPE,
          client_assertion: await assertion(client),
        })
        assert.ok(tokens['id_token'], JSON.stringify(tokens))
      })

      for (const aud of [ISSUER, `${ISSUER}/token`, [ISSUER]])
        it(`takes the audience ${JSON.stringify(aud)}`, async () => {
          assert.ok(letIn(await knock(await assertion(client, { aud }))))
        })

      it('takes an assertion once, also of two at the same time in two processes', async () => {
        const once = await assertion(client)
        assert.ok(letIn(await knock(once)))
        assert.equal((await knock(once)).error, 'invalid_client')
        assert.equal((await knock(once, other)).error, 'invalid_client')
        for (let round = 0; round < 5; round++) {
          const raced = await assertion(client)
          const answers = await Promise.all([test, other, test, other, test, other].map((house) => knock(raced, house)))
          assert.equal(answers.filter(letIn).length, 1, `round ${round}`)
        }
      })

      it('remembers a jti as long as an assertion may live', async () => {
        const jti = randomUUID()
        const long = { jti, exp: now() + 3600 }
        assert.ok(letIn(await knock(await assertion(client, long))))
        wait(3590)
        await test.database.sweep(now())
        assert.equal((await knock(await assertion(client, long))).error, 'invalid_client')
      })

      const wrong: [string, Claims, { key?: Key; alg?: string; typ?: string }?][] = [
        ['without jti', { jti: undefined }],
        ['without exp', { exp: undefined }],
        ['that has expired', { exp: 1 }],
        ['that is good for a day', { exp: Math.floor(Date.now() / 1000) + 24 * 3600 + 9000 }],
        ['that is not good yet', { nbf: 4_000_000_000 }],
        ['for another server', { aud: 'https://other.example' }],
        ['without audience', { aud: undefined }],
        ['of another issuer', { iss: 'payments' }],
        ['without issuer', { iss: undefined }],
        ['for another client', { sub: 'payments' }],
        ['for a client that is not there', { sub: 'nobody', iss: 'nobody' }],
        ['that is a request object', {}, { typ: 'oauth-authz-req+jwt' }],
        ['that is an access token', {}, { typ: 'at+jwt' }],
      ]
      for (const [what, over, header] of wrong)
        it(`refuses one ${what}`, async () => {
          const { status, error } = await knock(await assertion(client, over, header))
          assert.ok(['invalid_client', 'invalid_request'].includes(error!), `${status} ${error}`)
        })
    })

  it('refuses another key, the public key as a secret, no signature, two ways at once', async () => {
    const stranger = await assertion('signer', {}, { key: foreign })
    const [head, body] = (await assertion('signer')).split('.')
    const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${body}.`
    const publicKey = JSON.stringify((await test.database.directory.client('signer'))!['jwks'])
    const confused = await new SignJWT({ iss: 'signer', sub: 'signer', aud: ISSUER, jti: 'x', exp: now() + 60 })
      .setProtectedHeader({ alg: 'HS256' })
      .sign(new TextEncoder().encode(publicKey))
    const hashed = await new SignJWT({ iss: 'signer', sub: 'signer', aud: ISSUER, jti: 'y', exp: now() + 60 })
      .setProtectedHeader({ alg: 'HS256' })
      .sign(SECRET_KEY)
    for (const bad of [stranger, none, confused, hashed, `${head}.${body}.AAAA`, 'x', 'x.y.z', ''])
      assert.match((await knock(bad)).error!, /^invalid_(client|request)$/, bad)
    const good = await assertion('signer')
    assert.equal((await knock(good, test, { client_secret: CLIENT_SECRET })).error, 'invalid_request')
    assert.equal((await knock(good, test, { client_assertion_type: 'other' })).error, 'invalid_request')
    assert.equal((await knock(good, test, { client_id: 'payments' })).error, 'invalid_request')
    assert.equal(
      (await test.token({ grant_type: 'refresh_token', refresh_token: 'x' }, 'hasher')).error,
      'invalid_client',
    )
  })

  it('one client’s jti is not another’s', async () => {
    const jti = randomUUID()
    assert.ok(letIn(await knock(await assertion('signer', { jti }))))
    assert.ok(letIn(await knock(await assertion('hasher', { jti }))))
  })

  it('the log names what differs, and not the assertion', async () => {
    const bad = await assertion('signer', { aud: 'https://other.example' })
    await knock(bad)
    const line = test.logs
      .map((one) => JSON.parse(one) as Record<string, string>)
      .findLast(({ msg }) => msg === 'client mistake')!
    assert.deepEqual([line['clientId'], line['registered']], ['signer', 'private_key_jwt'])
    assert.match(line['error']!, /audience/)
    assert.ok(!test.logs.some((one) => one.includes(bad.split('.')[2]!)))
  })

  it('apply refuses a private key, and names it', async () => {
    const clients = [
      {
        client_id: 'careless',
        token_endpoint_auth_method: 'private_key_jwt',
        redirect_uris: [CALLBACK],
        jwks: { keys: [await exportJWK((await generateKeyPair('ES256', { extractable: true })).privateKey)] },
      },
    ]
    await assert.rejects(
      async () =>
        planSeed(test.database, parseSeed(JSON.stringify({ clients }), 'seed.json', {}), await planningOf(test.house)),
      (error: Error) => {
        assert.match(error.message, /clients careless: .*jwks\.keys\[0\]\.d must not be provided/)
        assert.ok(!error.message.includes(String(clients[0]!.jwks.keys[0]!.d)))
        return true
      },
    )
  })

  it('openid-client authenticates by key', async () => {
    const plain = await openTestHouse()
    try {
      await plain.database.directory.commit([
        { kind: 'client', op: 'put', value: (await test.database.directory.client('signer'))! },
      ])
      const provider = await oidc.discovery(new URL(plain.url), 'signer', undefined, oidc.PrivateKeyJwt(own), {
        execute: [oidc.allowInsecureRequests],
      })
      await assert.rejects(oidc.refreshTokenGrant(provider, 'none'), { error: 'invalid_grant' })
    } finally {
      await plain.close()
    }
  })
})
