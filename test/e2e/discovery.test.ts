/** The discovery document (OIDC Discovery §3, RFC 8414): what it lists is what works, and nothing else. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { ACR_VALUES } from '../../interactions/policy.ts'
import { now } from '../support/clock.ts'
import {
  API,
  CALLBACK,
  CLIENT_SECRET,
  claimsIn,
  openTestHouse,
  REQUEST,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { headingOf, type Visitor } from '../support/visitor.ts'

const CHALLENGED = ['Sign in', 'Secure Your Account']

describe('discovery', () => {
  let test: TestHouse
  let document: Record<string, string[] & string>
  let visitor: Visitor
  before(async () => {
    test = await openTestHouse()
    document = (await (await fetch(`${test.url}/.well-known/openid-configuration`)).json()) as typeof document
    await test.person('discovery@city.example', 'standard')
    visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl()), 'discovery@city.example')
  })
  after(() => test.close())

  /** A client that signs with this algorithm, by its secret or by a key of its own. */
  const signer = async (alg: string, metadata: object = {}) => {
    const pair = alg.startsWith('HS') ? undefined : await generateKeyPair(alg)
    const jwks = pair && { keys: [await exportJWK(pair.publicKey)] }
    const client_id = `${alg}-${randomUUID()}`
    const value = {
      ...(await test.database.directory.client('payments'))!,
      client_id,
      ...(jwks && { jwks }),
      ...metadata,
    }
    await test.database.directory.commit([{ kind: 'client', op: 'put', value }])
    const sign = (claims: object) =>
      new SignJWT({ iss: client_id, aud: test.url, jti: randomUUID(), exp: now() + 60, ...claims })
        .setProtectedHeader({ alg })
        .sign(pair?.privateKey ?? new TextEncoder().encode(CLIENT_SECRET))
    return { client_id, sign }
  }

  it('is this, word for word', () => {
    const { url } = test
    assert.deepEqual(document, {
      issuer: url,
      acr_values_supported: ACR_VALUES,
      authorization_endpoint: `${url}/auth`,
      authorization_response_iss_parameter_supported: true,
      backchannel_logout_session_supported: true,
      backchannel_logout_supported: true,
      claim_types_supported: ['normal'],
      claims_parameter_supported: true,
      claims_supported: [
        'sub',
        'acr',
        'amr',
        'auth_time',
        'second_factor_time',
        'factor_reset_at',
        'email',
        'name',
        'sid',
        'iss',
      ],
      code_challenge_methods_supported: ['S256'],
      device_authorization_endpoint: `${url}/device/auth`,
      dpop_signing_alg_values_supported: ['ES256', 'Ed25519', 'EdDSA'],
      end_session_endpoint: `${url}/session/end`,
      grant_types_supported: [
        'authorization_code',
        'refresh_token',
        'client_credentials',
        'urn:ietf:params:oauth:grant-type:device_code',
      ],
      id_token_signing_alg_values_supported: ['ES256', 'RS256'],
      introspection_endpoint: `${url}/token/introspection`,
      jwks_uri: `${url}/jwks`,
      pushed_authorization_request_endpoint: `${url}/request`,
      request_object_signing_alg_values_supported: ['ES256', 'PS256', 'RS256', 'Ed25519', 'EdDSA'],
      request_parameter_supported: true,
      request_uri_parameter_supported: false,
      response_modes_supported: ['form_post', 'fragment', 'query'],
      response_types_supported: ['code'],
      revocation_endpoint: `${url}/token/revocation`,
      scopes_supported: ['openid', 'offline_access', 'email', 'profile'],
      subject_types_supported: ['public'],
      token_endpoint: `${url}/token`,
      token_endpoint_auth_methods_supported: [
        'client_secret_basic',
        'client_secret_jwt',
        'client_secret_post',
        'private_key_jwt',
        'none',
      ],
      token_endpoint_auth_signing_alg_values_supported: ['HS256', 'RS256', 'PS256', 'ES256', 'Ed25519', 'EdDSA'],
      ui_locales_supported: ['en', 'es', 'fr'],
      userinfo_endpoint: `${url}/me`,
    })
  })

  it('is the same for OAuth (RFC 8414), and open to scripts', async () => {
    const answer = await fetch(`${test.url}/.well-known/oauth-authorization-server`, {
      headers: { origin: 'https://a.example' },
    })
    assert.deepEqual(await answer.json(), document)
    assert.equal(answer.headers.get('access-control-allow-origin'), 'https://a.example')
  })

  it('a script of a private scheme or of nowhere reads no token', async () => {
    const native = { client_id: 'native', token_endpoint_auth_method: 'none', application_type: 'native' }
    const value = { ...native, redirect_uris: ['com.example.app:/callback', 'https://app.example/callback'] }
    await test.database.directory.commit([{ kind: 'client', op: 'put', value }])
    const allowed = async (origin: string) => {
      const body = new URLSearchParams({ grant_type: 'authorization_code', code: 'x', client_id: 'native' })
      const answer = await fetch(`${test.url}/token`, { method: 'POST', body, headers: { origin } })
      return answer.headers.get('access-control-allow-origin')
    }
    assert.deepEqual([await allowed('null'), await allowed('https://evil.example')], [null, null])
    assert.equal(await allowed('https://app.example'), 'https://app.example')
  })

  it('names addresses that answer', async () => {
    for (const [name, address] of Object.entries(document))
      if (name.endsWith('_endpoint') || name === 'jwks_uri') {
        const get = ['authorization_endpoint', 'end_session_endpoint', 'userinfo_endpoint', 'jwks_uri'].includes(name)
        const { status } = await fetch(address as string, { method: get ? 'GET' : 'POST', redirect: 'manual' })
        assert.ok(![404, 405, 500].includes(status), `${name}: ${status}`)
      }
    const { keys } = (await (await fetch(document['jwks_uri']!)).json()) as { keys: JWK[] }
    assert.ok(keys.every(({ d, alg, kid }) => d === undefined && alg !== undefined && kid !== undefined))
  })

  it('lists response modes that answer', async () => {
    for (const mode of document['response_modes_supported']!) {
      const answer = await visitor.go(test.authUrl({ response_mode: mode, prompt: 'none' }))
      const told = mode === 'form_post' ? answer.text : answer.location!
      const expected = { query: /\?code=/, fragment: /#code=/, form_post: /name="code" value="/ }[mode]!
      assert.match(told, expected, mode)
    }
  })

  it('lists algorithms that apps can sign assertions with', async () => {
    for (const alg of document['token_endpoint_auth_signing_alg_values_supported']!) {
      const metadata = alg.startsWith('HS')
        ? { token_endpoint_auth_method: 'client_secret_jwt' }
        : { token_endpoint_auth_method: 'private_key_jwt', client_secret: undefined }
      const { client_id, sign } = await signer(alg, metadata)
      const { error } = await test.post('/token', {
        grant_type: 'refresh_token',
        refresh_token: 'none',
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: await sign({ sub: client_id }),
      })
      assert.equal(error, 'invalid_grant', alg)
    }
  })

  it('lists algorithms that apps can sign requests with', async () => {
    for (const alg of document['request_object_signing_alg_values_supported']!) {
      const { client_id, sign } = await signer(alg)
      const request = await sign({ ...REQUEST, client_id, state: alg })
      const answer = await visitor.go(`/auth?${new URLSearchParams({ client_id, request })}`)
      assert.equal(new URL(answer.location!).searchParams.get('state'), alg)
      assert.ok(new URL(answer.location!).searchParams.has('code'), alg)
    }
  })

  it('lists scopes and claims that come', async () => {
    const params = {
      scope: 'openid email profile offline_access',
      prompt: 'consent',
      claims: JSON.stringify({
        id_token: Object.fromEntries(document['claims_supported']!.map((name) => [name, null])),
      }),
    }
    const page = await visitor.go(test.authUrl({ ...params }))
    const answer = await visitor.submit(page)
    const tokens = await test.exchange(answer)
    const claims = claimsIn(tokens['id_token'])
    // Nobody proved a second factor here.
    for (const name of document['claims_supported']!.filter(
      (one) => !['second_factor_time', 'factor_reset_at'].includes(one),
    ))
      assert.ok(name in claims, name)
    assert.equal(tokens['scope'], 'openid email profile offline_access')
  })

  it('lists acr values that can be asked for', async () => {
    for (const acr_values of document['acr_values_supported']!) {
      const answer = await visitor.clone().go(test.authUrl({ acr_values }))
      assert.ok(answer.location?.startsWith(CALLBACK) || CHALLENGED.includes(headingOf(answer)), acr_values)
    }
  })

  it('lists no type of authorization_details while none can be confirmed', async () => {
    assert.equal(document['authorization_details_types_supported'], undefined)
    const answer = await visitor.request(test.authUrl({ resource: API, authorization_details: '[{"type":"payment"}]' }))
    assert.match(answer.location!, /error=invalid_authorization_details/)
  })
})
