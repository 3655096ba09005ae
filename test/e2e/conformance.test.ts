/**
 * What the OpenID Foundation's conformance suite looks at, with the clients of docs/conformance/seed.yaml: its modules by name,
 * where no other test has the same. docs/conformance.md says what to expect of each.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRemoteJWKSet, decodeProtectedHeader, type JWTPayload, jwtVerify, UnsecuredJWT } from 'jose'
import { planningOf } from '../../server/provider.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import { wait } from '../support/clock.ts'
import {
  claimsIn,
  errorOf,
  openTestHouse,
  PASSWORD,
  pkce,
  signIn,
  type TestHouse,
  type Tokens,
} from '../support/house.ts'
import { type Answer, headingOf, type Visitor } from '../support/visitor.ts'

const read = (name: string) => readFileSync(new URL(`../../docs/conformance/${name}`, import.meta.url), 'utf8')
const SECRETS = {
  'conformance-1': 'one-secret-of-the-suite-and-long-enough',
  'conformance-2': 'two-secret-of-the-suite-and-long-enough',
  'conformance-post': 'a-third-secret-of-the-suite-and-long-enough',
}
const ENV = {
  CONFORMANCE_PASSWORD: PASSWORD,
  CONFORMANCE_SECRET_1: SECRETS['conformance-1'],
  CONFORMANCE_SECRET_2: SECRETS['conformance-2'],
  CONFORMANCE_SECRET_POST: SECRETS['conformance-post'],
}
const BASE = 'https://www.certification.openid.net/test/a/ALIAS'
const CALLBACK = `${BASE}/callback`
const SIGNED_OUT = `${BASE}/post_logout_redirect`
const TESTER = 'tester@conformance.example'
/** As the suite sends them: no `code_challenge`. */
const REQUEST = {
  client_id: 'conformance-1',
  response_type: 'code',
  redirect_uri: CALLBACK,
  scope: 'openid',
  state: 'a-state',
  nonce: 'a-nonce',
}
type Name = keyof typeof SECRETS

describe('the conformance suite', () => {
  let test: TestHouse
  let visitor: Visitor
  let discovery: Record<string, string & string[]>
  let keys: ReturnType<typeof createRemoteJWKSet>

  before(async () => {
    test = await openTestHouse()
    const { house, database, url } = test
    await applyPlan(
      database,
      await planSeed(database, parseSeed(read('seed.yaml'), 'seed.yaml', ENV), await planningOf(house)),
      'operator:test',
    )
    discovery = (await (await fetch(`${url}/.well-known/openid-configuration`)).json()) as typeof discovery
    keys = createRemoteJWKSet(new URL(discovery['jwks_uri']!))
    visitor = test.visitor()
    await signIn(visitor, await visitor.go(address()), TESTER)
  })
  after(() => test.close())

  const address = (over: Record<string, string | undefined> = {}) => {
    const params = Object.entries({ ...REQUEST, ...over }).filter(
      (one): one is [string, string] => one[1] !== undefined,
    )
    return `${test.url}/auth?${new URLSearchParams(params)}`
  }
  const codeIn = (answer: Answer): string => {
    assert.ok(answer.location?.startsWith(CALLBACK), `${answer.status} ${headingOf(answer)}`)
    const params = new URL(answer.location!).searchParams
    assert.equal(params.get('error_description'), null)
    assert.equal(params.get('state'), REQUEST.state)
    assert.equal(params.get('iss'), test.url)
    return params.get('code')!
  }
  const token = (form: Record<string, string>, client: Name = 'conformance-1') =>
    client === 'conformance-post'
      ? test.post('/token', { ...form, client_id: client, client_secret: SECRETS[client] })
      : test.post('/token', form, {
          authorization: `Basic ${Buffer.from(`${client}:${SECRETS[client]}`).toString('base64')}`,
        })
  const exchange = (code: string, client?: Name, more: Record<string, string> = {}) =>
    token({ grant_type: 'authorization_code', code, redirect_uri: CALLBACK, ...more }, client)
  /** A request on the session that there is, and its tokens. */
  const tokensOf = async (over: Record<string, string | undefined> = {}): Promise<Tokens> => {
    const tokens = await exchange(codeIn(await visitor.go(address(over))), over['client_id'] as Name)
    assert.equal(tokens.status, 200, tokens.error)
    return tokens
  }
  const userinfo = async ({ access_token }: Tokens) =>
    (await (
      await fetch(`${test.url}/me`, { headers: { authorization: `Bearer ${access_token}` } })
    ).json()) as JWTPayload

  it('is configured with clients of the seed, and with fields and buttons of our pages', async () => {
    const suite = JSON.parse(read('suite.json')) as Record<string, { client_id: string; client_secret: string }>
    for (const name of ['client', 'client2', 'client_secret_post']) {
      const { client_id, client_secret } = suite[name]!
      const client = (await test.database.directory.client(client_id))!
      assert.equal(client.client_secret, ENV[client_secret as keyof typeof ENV])
      assert.ok((client['redirect_uris'] as string[]).includes(CALLBACK))
    }
    const typed = [...read('suite.json').matchAll(/"text", "name", "(\w+)"/g)].map(([, name]) => name)
    assert.deepEqual(typed, ['email', 'password'])
    const stranger = test.visitor()
    let page = await stranger.go(address())
    for (const name of typed) {
      assert.match(
        page.text,
        new RegExp(`<main[\\s\\S]*<form[^>]* novalidate[\\s\\S]*name="${name}"[\\s\\S]*<button type="submit"`),
      )
      page = await stranger.submit(page, { [name!]: name === 'email' ? TESTER : PASSWORD })
    }
    assert.match((await stranger.go('/session/end')).text, /<main[\s\S]*<button[^>]* name="logout" value="yes"/)
  })

  describe('config', () => {
    it('oidcc-discovery-endpoint-verification', async () => {
      assert.equal(discovery['issuer'], test.url)
      assert.deepEqual(discovery['response_types_supported'], ['code'])
      assert.deepEqual(discovery['subject_types_supported'], ['public'])
      assert.ok(discovery['id_token_signing_alg_values_supported']!.includes('RS256'))
      assert.ok(discovery['request_object_signing_alg_values_supported']!.includes('RS256'))
      assert.ok(discovery['scopes_supported']!.includes('openid'))
      assert.ok(Array.isArray(discovery['claims_supported']))
      const set = (await (await fetch(discovery['jwks_uri']!)).json()) as { keys: Record<string, string>[] }
      assert.deepEqual(set.keys.map(({ kty, use, alg }) => [kty, use, alg]).sort(), [
        ['EC', 'sig', 'ES256'],
        ['RSA', 'sig', 'RS256'],
      ])
      for (const key of set.keys)
        for (const secret of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'k']) assert.equal(key[secret], undefined, secret)
    })
  })

  describe('basic', () => {
    it('oidcc-server, oidcc-idtoken-signature, oidcc-userinfo-get', async () => {
      const tokens = await tokensOf()
      assert.equal(tokens['token_type'], 'Bearer')
      const { payload, protectedHeader } = await jwtVerify(tokens['id_token']!, keys, {
        issuer: test.url,
        audience: 'conformance-1',
        currentDate: new Date(),
      })
      assert.equal(protectedHeader.alg, 'RS256')
      assert.ok(protectedHeader.kid)
      assert.equal(payload['nonce'], REQUEST.nonce)
      const { sub } = await userinfo(tokens)
      assert.equal(sub, payload.sub)
    })

    it('oidcc-userinfo-post-header, oidcc-userinfo-post-body', async () => {
      const { access_token: bearer } = await tokensOf()
      const header = await test.post('/me', {}, { authorization: `Bearer ${bearer}` })
      const body = await test.post('/me', { access_token: bearer! })
      assert.equal(header.status, 200)
      assert.deepEqual(body, header)
    })

    it('oidcc-ensure-request-without-nonce-succeeds-for-code-flow', async () => {
      assert.equal(claimsIn((await tokensOf({ nonce: undefined }))['id_token'])['nonce'], undefined)
    })

    it('oidcc-scope-profile, oidcc-scope-email, oidcc-alternate-happy-flow; address and phone are not listed', async () => {
      const names = async (scope: string) => Object.keys(await userinfo(await tokensOf({ scope }))).sort()
      assert.deepEqual(await names('openid profile'), ['name', 'sub'])
      assert.deepEqual(await names('openid email'), ['email', 'sub'])
      assert.deepEqual(await names('email openid'), ['email', 'sub'])
      for (const scope of ['address', 'phone']) assert.ok(!discovery['scopes_supported']!.includes(scope))
    })

    for (const more of [
      { display: 'page' },
      { display: 'popup' },
      { extra: 'foobar' },
      { ui_locales: 'se' },
      { claims_locales: 'se' },
    ] as Record<string, string>[])
      it(`a request with ${new URLSearchParams(more)} succeeds, with a session and without`, async () => {
        await tokensOf(more)
        const stranger = test.visitor()
        const answer = await signIn(stranger, await stranger.go(address(more)), TESTER)
        assert.equal((await exchange(codeIn(answer))).status, 200)
      })

    it('oidcc-login-hint', async () => {
      const page = await test.visitor().go(address({ login_hint: TESTER }))
      assert.match(page.text, new RegExp(`name="email"[^>]*value="${TESTER}"`))
    })

    it('oidcc-prompt-login, oidcc-max-age-1: both ask again, and auth_time is later', async () => {
      for (const more of [{ prompt: 'login' }, { max_age: '1' }]) {
        const before = claimsIn((await tokensOf())['id_token'])
        wait(2)
        const page = await visitor.go(address(more))
        assert.equal(headingOf(page), 'Sign in')
        const again = claimsIn((await exchange(codeIn(await signIn(visitor, page, TESTER))))['id_token'])
        assert.ok(again.auth_time > before.auth_time, JSON.stringify(more))
        assert.equal(again.sub, before.sub)
      }
    })

    it('oidcc-max-age-10000, oidcc-prompt-none-logged-in, oidcc-id-token-hint: none asks, and auth_time stays', async () => {
      const before = await tokensOf()
      wait(2)
      for (const more of [
        { max_age: '10000' },
        { prompt: 'none' },
        { prompt: 'none', id_token_hint: before['id_token']! },
      ]) {
        const { auth_time, sub } = claimsIn((await tokensOf(more))['id_token'])
        assert.deepEqual(
          { auth_time, sub },
          (({ auth_time, sub }) => ({ auth_time, sub }))(claimsIn(before['id_token'])),
        )
      }
    })

    it('oidcc-prompt-none-not-logged-in', async () => {
      assert.equal(errorOf(await test.visitor().go(address({ prompt: 'none' }))), 'login_required')
    })

    it('oidcc-ensure-request-with-acr-values-succeeds: with all that discovery lists, one of them comes', async () => {
      const listed = discovery['acr_values_supported']!
      assert.ok(listed.includes(claimsIn((await tokensOf({ acr_values: listed.join(' ') }))['id_token']).acr))
    })

    it('oidcc-codereuse, oidcc-codereuse-30seconds: refused, and what the code gave is revoked', async () => {
      for (const seconds of [0, 30]) {
        const code = codeIn(await visitor.go(address()))
        const first = await exchange(code)
        wait(seconds)
        assert.equal((await exchange(code)).error, 'invalid_grant')
        assert.equal((await userinfo(first))['error'], 'invalid_token')
      }
    })

    it('oidcc-ensure-post-request-succeeds', async () => {
      const answer = await visitor.go(`${test.url}/auth`, { form: REQUEST })
      assert.equal((await exchange(codeIn(answer))).status, 200)
    })

    it('oidcc-server-client-secret-post', async () => {
      assert.ok((await tokensOf({ client_id: 'conformance-post' }))['id_token'])
    })

    it('oidcc-unsigned-request-object…: none is not listed, and refused as invalid', async () => {
      assert.ok(!discovery['request_object_signing_alg_values_supported']!.includes('none'))
      const request = new UnsecuredJWT(REQUEST).setIssuer(REQUEST.client_id).setAudience(test.url).encode()
      assert.equal(errorOf(await visitor.request(address({ request }))), 'invalid_request_object')
    })

    it('oidcc-request-uri-unsigned-…: not listed, and refused', async () => {
      assert.equal(discovery['request_uri_parameter_supported'] as unknown, false)
      const request_uri = `${BASE}/requests/one`
      assert.equal(errorOf(await visitor.request(address({ request_uri }))), 'request_uri_not_supported')
    })

    it('oidcc-claims-essential: in userinfo, not in the ID token', async () => {
      const tokens = await tokensOf({ claims: '{"userinfo":{"name":{"essential":true}}}' })
      assert.equal((await userinfo(tokens))['name'], 'Conformance Tester')
      assert.equal(claimsIn(tokens['id_token'])['name'], undefined)
    })

    it('oidcc-refresh-token: it refreshes, and is bound to its client', async () => {
      const answer = await visitor.submit(
        await visitor.go(address({ client_id: 'conformance-2', scope: 'openid offline_access', prompt: 'consent' })),
      )
      const { refresh_token, id_token } = await exchange(codeIn(answer), 'conformance-2')
      const form = { grant_type: 'refresh_token', refresh_token: refresh_token! }
      assert.equal((await token(form, 'conformance-1')).error, 'invalid_grant')
      const again = await token(form, 'conformance-2')
      assert.equal(claimsIn(again['id_token']).sub, claimsIn(id_token).sub)
      assert.equal(claimsIn(again['id_token']).auth_time, claimsIn(id_token).auth_time)
    })

    it('oidcc-ensure-request-with-valid-pkce-succeeds', async () => {
      const challenge = { code_challenge: pkce.challenge, code_challenge_method: 'S256' }
      const code = codeIn(await visitor.go(address(challenge)))
      assert.equal((await exchange(code, undefined, { code_verifier: pkce.verifier })).status, 200)
    })
  })

  it('the same in form_post: code and errors come in a form (OAuth 2.0 Form Post Response Mode)', async () => {
    const fields = ({ text }: Answer) =>
      Object.fromEntries([...text.matchAll(/name="([^"]+)" value="([^"]*)"/g)].map(([, name, value]) => [name, value]))
    const good = await visitor.go(address({ response_mode: 'form_post' }))
    assert.match(good.text, new RegExp(`<form method="post" action="${CALLBACK}"`))
    const { code, state, iss } = fields(good)
    assert.deepEqual([state, iss], [REQUEST.state, test.url])
    assert.equal((await exchange(code!)).status, 200)
    const stranger = await test.visitor().go(address({ response_mode: 'form_post', prompt: 'none' }))
    assert.equal(fields(stranger)['error'], 'login_required')
    assert.equal(fields(stranger)['state'], REQUEST.state)
  })

  describe('PKCE of a client that may leave it out', () => {
    const challenge = { code_challenge: pkce.challenge, code_challenge_method: 'S256' }

    it('that sent a challenge needs the verifier; that sent none must send none (RFC 9700 §4.8.2)', async () => {
      const bound = codeIn(await visitor.go(address(challenge)))
      assert.equal((await exchange(bound)).error, 'invalid_grant')
      const stripped = codeIn(await visitor.go(address()))
      assert.equal((await exchange(stripped, undefined, { code_verifier: pkce.verifier })).error, 'invalid_grant')
    })

    it('is S256 all the same', async () => {
      const plain = { code_challenge: pkce.verifier, code_challenge_method: 'plain' }
      assert.equal(errorOf(await visitor.request(address(plain))), 'invalid_request')
    })

    it('is needed by a public client whatever its registration says, and by every other one', async () => {
      const { directory } = test.database
      const { client_secret: _none, ...rest } = (await directory.client('conformance-1'))!
      for (const over of [
        { ...rest, token_endpoint_auth_method: 'none' },
        { client_secret: SECRETS['conformance-1'], ...rest, sallyport: { first_party: true } },
      ]) {
        await directory.commit([{ kind: 'client', op: 'put', value: { ...over, client_id: 'other' } }])
        assert.equal(errorOf(await visitor.request(address({ client_id: 'other' }))), 'invalid_request')
      }
    })
  })

  describe('RP-initiated logout', () => {
    /** A person signed in, and a way to the page where they sign out. */
    const signedIn = async () => {
      const person = test.visitor()
      const { id_token } = await exchange(codeIn(await signIn(person, await person.go(address()), TESTER)))
      const out = (params: Record<string, string>) =>
        person.go(`${test.url}/session/end?${new URLSearchParams(params)}`)
      const isOut = async () => errorOf(await person.clone().go(address({ prompt: 'none' }))) === 'login_required'
      return { person, id_token: id_token!, out, isOut }
    }
    const state = 'x'.repeat(128)

    it('oidcc-rp-initiated-logout, …-no-state: back at the app, with its state if it sent one', async () => {
      for (const more of [{ state }, {}]) {
        const { person, id_token, out, isOut } = await signedIn()
        const page = await out({ id_token_hint: id_token, post_logout_redirect_uri: SIGNED_OUT, ...more })
        const answer = await person.submit(page, { logout: 'yes' })
        assert.equal(answer.location, `${SIGNED_OUT}${'state' in more ? `?state=${state}` : ''}`)
        assert.ok(await isOut())
      }
    })

    it('…-no-params, …-only-state, …-no-post-logout-redirect-uri, …-no-id-token-hint: asked, signed out, a page of ours', async () => {
      for (const names of [[], ['state'], ['state', 'id_token_hint'], ['state', 'post_logout_redirect_uri']]) {
        const { person, id_token, out, isOut } = await signedIn()
        const all: Record<string, string> = {
          state,
          id_token_hint: id_token,
          post_logout_redirect_uri: SIGNED_OUT,
        }
        const page = await out(Object.fromEntries(names.map((name) => [name, all[name]!])))
        assert.equal(headingOf(page), 'Do you want to sign out?', names.join())
        const answer = await person.submit(page, { logout: 'yes' })
        assert.deepEqual([answer.status, answer.location], [200, undefined], names.join())
        assert.ok(await isOut(), names.join())
      }
    })

    it('…-bad-post-logout-redirect-uri, …-query-added…, …-modified-id-token-hint, …-bad-id-token-hint: a page, and nobody is signed out', async () => {
      const { id_token, out, isOut } = await signedIn()
      const [, payload] = id_token.split('.')
      const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`
      const good = { id_token_hint: id_token, post_logout_redirect_uri: SIGNED_OUT, state }
      for (const wrong of [
        { post_logout_redirect_uri: 'https://evil.example/' },
        { post_logout_redirect_uri: `${SIGNED_OUT}?foo=bar` },
        { id_token_hint: unsigned },
        { id_token_hint: 'not-a-token' },
      ]) {
        const page = await out({ ...good, ...wrong })
        assert.deepEqual([page.status, page.location], [400, undefined], JSON.stringify(wrong).slice(0, 60))
        assert.equal(await isOut(), false)
      }
    })

    it('oidcc-backchannel-rp-initiated-logout: the token is signed as the client’s ID tokens are, with their sid', async () => {
      assert.equal(discovery['backchannel_logout_supported'] as unknown, true)
      assert.equal(discovery['backchannel_logout_session_supported'] as unknown, true)
      const heard: string[] = []
      const app = createServer(async (request, response) => {
        let body = ''
        for await (const chunk of request) body += chunk
        heard.push(body)
        response.end()
      })
      await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve))
      try {
        const { directory } = test.database
        const value = {
          ...(await directory.client('conformance-1'))!,
          backchannel_logout_uri: `http://127.0.0.1:${(app.address() as AddressInfo).port}/backchannel_logout`,
        }
        await directory.commit([{ kind: 'client', op: 'put', value }])
        const { person, id_token, out, isOut } = await signedIn()
        await person.submit(await out({ id_token_hint: id_token, post_logout_redirect_uri: SIGNED_OUT }), {
          logout: 'yes',
        })
        assert.equal(heard.length, 1)
        const form = new URLSearchParams(heard[0])
        assert.deepEqual([...form.keys()], ['logout_token'])
        const told = form.get('logout_token')!
        const { payload } = await jwtVerify(told, keys, { audience: 'conformance-1', currentDate: new Date() })
        assert.equal(decodeProtectedHeader(told).alg, 'RS256')
        assert.equal(payload['sid'], claimsIn(id_token)['sid'])
        assert.equal(payload.sub, claimsIn(id_token).sub)
        assert.equal(payload['nonce'], undefined)
        assert.ok(await isOut())
      } finally {
        app.close()
        app.closeAllConnections()
      }
    })
  })
})
