/** Tokens that only the holder of a key can use (DPoP, RFC 9449). */
import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, type GenerateKeyPairResult, generateKeyPair, type JWK, SignJWT } from 'jose'
import * as oidc from 'openid-client'
import type { Client } from '../../server/stores.ts'
import { now, wait } from '../support/clock.ts'
import {
  API,
  CALLBACK,
  CLIENT_SECRET,
  claimsIn,
  openTestHouse,
  REQUEST,
  signIn,
  slowly,
  type TestHouse,
  type Tokens,
} from '../support/house.ts'

/** A key, and the proofs that it signs. */
interface Holder {
  privateKey: GenerateKeyPairResult['privateKey']
  jwk: JWK
}
const newHolder = async (alg = 'ES256'): Promise<Holder> => {
  const { publicKey, privateKey } = await generateKeyPair(alg)
  return { privateKey, jwk: await exportJWK(publicKey) }
}

describe('DPoP', () => {
  let test: TestHouse
  let other: TestHouse
  let ana: Holder
  let eve: Holder
  let people = 0
  const issuer = 'https://login.example'
  before(async () => {
    test = await openTestHouse({ SALLYPORT_ISSUER: issuer }, { artifacts: slowly })
    other = await openTestHouse({ SALLYPORT_ISSUER: issuer }, { folder: test.folder, artifacts: slowly })
    ;[ana, eve] = await Promise.all([newHolder(), newHolder()])
    const spa = (await test.database.directory.client('spa'))!
    const clients: Client[] = [
      { ...spa, grant_types: ['authorization_code', 'refresh_token'] },
      {
        ...spa,
        client_id: 'bound',
        grant_types: ['authorization_code', 'refresh_token'],
        dpop_bound_access_tokens: true,
      },
    ]
    for (const value of clients) await test.database.directory.commit([{ kind: 'client', op: 'put', value }])
  })
  after(() => Promise.all([test.close(), other.close()]))

  const proof = (
    { privateKey, jwk }: Holder,
    path: string,
    over: Record<string, unknown> = {},
    header: Record<string, unknown> = {},
  ) => {
    const claims = { htm: 'POST', htu: issuer + path, jti: randomUUID(), iat: now(), ...over }
    return new SignJWT(claims).setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk, ...header }).sign(privateKey)
  }
  const ath = (token: string) => createHash('sha256').update(token).digest('base64url')
  /** A code of a signed-in person for a public app. */
  const codeFor = async (params: Record<string, string> = {}) => {
    const email = `dpop${++people}@city.example`
    await test.person(email, 'standard')
    const visitor = test.visitor()
    const answer = await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'spa', ...params })), email)
    const code = new URL(answer.location!).searchParams.get('code')!
    return { code, exchange: (dpop?: string, house = test) => redeem(code, params['client_id'] ?? 'spa', dpop, house) }
  }
  const redeem = async (code: string, client_id: string, dpop: string | undefined, house: TestHouse) => {
    const answer = { status: 303, at: '', location: `${CALLBACK}?code=${code}`, text: '', headers: new Headers() }
    return house.exchange(answer, '', { client_id }, dpop === undefined ? {} : { dpop })
  }
  const me = async (token: string, dpop?: string, scheme = 'DPoP') => {
    const headers = { authorization: `${scheme} ${token}`, ...(dpop !== undefined && { dpop }) }
    const answer = await test.visitor().request('/me', { headers: { ...headers, accept: 'application/json' } })
    return { status: answer.status, ...(JSON.parse(answer.text) as { error?: string; sub?: string }) }
  }

  it('binds the access token, the JWT of an API and what introspection says to the key', async () => {
    const { exchange } = await codeFor()
    const tokens = await exchange(await proof(ana, '/token'))
    assert.equal(tokens['token_type'], 'DPoP', JSON.stringify(tokens))
    const access = tokens['access_token']!
    const forMe = (holder: Holder, over = {}) => proof(holder, '/me', { htm: 'GET', ath: ath(access), ...over })
    assert.equal((await me(access, await forMe(ana))).status, 200)
    assert.equal((await me(access, undefined, 'Bearer')).status, 401, 'a stolen token without the key')
    assert.notEqual((await me(access)).status, 200)
    assert.equal((await me(access, await forMe(eve))).error, 'invalid_token')
    assert.equal((await me(access, await forMe(ana, { ath: ath('other') }))).error, 'invalid_dpop_proof')
    assert.equal((await me(access, await forMe(ana, { ath: undefined }))).error, 'invalid_dpop_proof')
    assert.equal((await me(access, await forMe(ana), 'Bearer')).status, 400)
    const used = await forMe(ana)
    assert.equal((await me(access, used)).status, 200)
    assert.equal((await me(access, used)).error, 'invalid_token', 'a proof is used once')

    const jwt = await codeFor({ resource: API, scope: 'openid payments' })
    const claims = claimsIn((await jwt.exchange(await proof(ana, '/token')))['access_token'])
    assert.deepEqual(claims['cnf'], { jkt: await calculateJwkThumbprint(ana.jwk) })
  })

  it('binds the refresh token of a public app to the key', async () => {
    const { exchange } = await codeFor()
    const tokens = await exchange(await proof(ana, '/token'))
    const refresh = async (token: string, dpop?: string): Promise<Tokens> =>
      test.post(
        '/token',
        { grant_type: 'refresh_token', refresh_token: token, client_id: 'spa' },
        dpop === undefined ? {} : { dpop },
      )
    const first = tokens['refresh_token']!
    assert.equal((await refresh(first)).error, 'invalid_grant', 'without the key')
    assert.equal((await refresh(first, await proof(eve, '/token'))).error, 'invalid_grant', 'with another key')
    const second = await refresh(first, await proof(ana, '/token'))
    assert.equal(second['token_type'], 'DPoP', JSON.stringify(second))
    assert.equal((await refresh(second['refresh_token']!, await proof(eve, '/token'))).error, 'invalid_grant')
    assert.ok((await refresh(second['refresh_token']!, await proof(ana, '/token')))['access_token'])
  })

  it('is demanded of an app that is registered so, for the code and for the refresh', async () => {
    const { exchange } = await codeFor({ client_id: 'bound' })
    assert.equal((await exchange()).error, 'invalid_grant')
    const next = await codeFor({ client_id: 'bound' })
    const tokens = await next.exchange(await proof(ana, '/token'))
    const form = { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']!, client_id: 'bound' }
    assert.equal((await test.post('/token', form)).error, 'invalid_grant')
  })

  it('dpop_jkt binds the code: in the address, or by a proof beside a pushed request', async () => {
    const jkt = await calculateJwkThumbprint(ana.jwk)
    const stolen = await codeFor({ dpop_jkt: jkt })
    assert.equal((await stolen.exchange(await proof(eve, '/token'))).error, 'invalid_grant')
    const bare = await codeFor({ dpop_jkt: jkt })
    assert.equal((await bare.exchange()).error, 'invalid_grant')
    const mine = await codeFor({ dpop_jkt: jkt })
    assert.ok((await mine.exchange(await proof(ana, '/token')))['access_token'])

    const pushed = await test.post('/request', { ...REQUEST, client_id: 'spa' }, { dpop: await proof(ana, '/request') })
    assert.equal(pushed.status, 201, JSON.stringify(pushed))
    const visitor = test.visitor()
    const email = `dpop${++people}@city.example`
    await test.person(email, 'standard')
    const page = await visitor.go(
      `/auth?${new URLSearchParams({ client_id: 'spa', request_uri: pushed['request_uri']! })}`,
    )
    const code = new URL((await signIn(visitor, page, email)).location!).searchParams.get('code')!
    assert.equal((await redeem(code, 'spa', await proof(eve, '/token'), test)).error, 'invalid_grant')
    const torn = await test.post(
      '/request',
      { ...REQUEST, client_id: 'spa', dpop_jkt: jkt },
      { dpop: await proof(eve, '/request') },
    )
    assert.equal(torn.error, 'invalid_request')
  })

  it('a proof is used once, also of many at the same time in two processes', async () => {
    const form = { grant_type: 'refresh_token', refresh_token: 'none', client_id: 'bound' }
    const { exchange } = await codeFor()
    const refresh_token = (await exchange(await proof(ana, '/token')))['refresh_token']!
    const dpop = await proof(ana, '/token')
    const answers = await Promise.all(
      [test, other, test, other].map((house) =>
        house.post('/token', { ...form, client_id: 'spa', refresh_token }, { dpop }),
      ),
    )
    assert.equal(answers.filter((answer) => answer['access_token'] !== undefined).length, 1)
  })

  it('a proof that was dated ahead is not good again when the clock has come there', async () => {
    const { exchange } = await codeFor()
    const tokens = await exchange(await proof(ana, '/token'))
    const access = tokens['access_token']!
    const ahead = await proof(ana, '/me', { htm: 'GET', ath: ath(access), iat: now() + 290 })
    assert.equal((await me(access, ahead)).status, 200)
    wait(370)
    await test.database.sweep(now())
    assert.equal((await me(access, ahead)).error, 'invalid_token')
  })

  const wrong: [string, () => Promise<string> | string][] = [
    ['for another address', () => proof(ana, '/me')],
    ['for another server', () => proof(ana, '/token', { htu: 'https://evil.example/token' })],
    ['for another method', () => proof(ana, '/token', { htm: 'GET' })],
    ['that is old', () => proof(ana, '/token', { iat: now() - 301 })],
    ['from the future', () => proof(ana, '/token', { iat: now() + 302 })],
    ['without a time', () => proof(ana, '/token', { iat: undefined })],
    ['without jti', () => proof(ana, '/token', { jti: undefined })],
    ['with a made-up nonce', () => proof(ana, '/token', { nonce: 'x' })],
    ['of another type', () => proof(ana, '/token', {}, { typ: 'jwt' })],
    ['signed by another key than it names', () => proof({ ...ana, jwk: eve.jwk }, '/token')],
    ['that names no key', () => proof(ana, '/token', {}, { jwk: undefined })],
    [
      'signed by a shared secret',
      () =>
        new SignJWT({ htm: 'POST', htu: `${issuer}/token`, jti: 'a', iat: now() })
          .setProtectedHeader({ alg: 'HS256', typ: 'dpop+jwt', jwk: { kty: 'oct', k: 'c2VjcmV0' } as JWK })
          .sign(new TextEncoder().encode('secret')),
    ],
    [
      'with the private key in it',
      async () => {
        const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true })
        void publicKey
        return proof({ privateKey, jwk: await exportJWK(privateKey) }, '/token')
      },
    ],
    ['that is none', () => 'x.y.z'],
  ]
  for (const [what, make] of wrong)
    it(`refuses a proof ${what}`, async () => {
      const { exchange } = await codeFor()
      const tokens = await exchange(await make())
      assert.deepEqual([tokens.status, tokens['access_token']], [400, undefined])
      assert.match(tokens.error!, /^invalid_(dpop_proof|grant)$/)
    })

  for (const alg of ['ES256', 'Ed25519', 'EdDSA'])
    it(`takes ${alg}, as discovery says`, async () => {
      const holder = await newHolder(alg)
      const { exchange } = await codeFor()
      const tokens = await exchange(await proof(holder, '/token', {}, { alg }))
      assert.equal(tokens['token_type'], 'DPoP', JSON.stringify(tokens))
    })

  it('openid-client pushes, signs in, refreshes and reads userinfo with it', async () => {
    const plain = await openTestHouse()
    try {
      await plain.person('ana@city.example', 'standard')
      const visitor = plain.visitor()
      const provider = await oidc.discovery(new URL(plain.url), 'payments', CLIENT_SECRET, undefined, {
        execute: [oidc.allowInsecureRequests],
      })
      const DPoP = oidc.getDPoPHandle(provider, await oidc.randomDPoPKeyPair('ES256'))
      const verifier = oidc.randomPKCECodeVerifier()
      const url = await oidc.buildAuthorizationUrlWithPAR(
        provider,
        {
          redirect_uri: CALLBACK,
          scope: 'openid email',
          code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
          code_challenge_method: 'S256',
        },
        { DPoP },
      )
      const answer = await signIn(visitor, await visitor.go(url.href), 'ana@city.example')
      const tokens = await oidc.authorizationCodeGrant(
        provider,
        new URL(answer.location!),
        { pkceCodeVerifier: verifier },
        undefined,
        { DPoP },
      )
      assert.equal(tokens.token_type, 'dpop')
      const refreshed = await oidc.refreshTokenGrant(provider, tokens.refresh_token!, undefined, { DPoP })
      const info = await oidc.fetchUserInfo(provider, refreshed.access_token, tokens.claims()!.sub, { DPoP })
      assert.equal(info.email, 'ana@city.example')
    } finally {
      await plain.close()
    }
  })
})
