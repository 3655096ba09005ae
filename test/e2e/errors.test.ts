/** Every error that oidc-provider can answer a browser with: back to the app where that is safe, else a page that leads on. */
import assert from 'node:assert/strict'
import { wait } from '../support/clock.ts'
import { CALLBACK, CLIENT_SECRET, firstSignIn, openTestHouse, REQUEST, type TestHouse } from '../support/house.ts'
import { type Answer, formOf, headingOf } from '../support/visitor.ts'

const PAR = 'urn:ietf:params:oauth:request_uri:'

describe('errors', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  /** A page of ours: it says something, leads on, repeats nothing and runs nothing. */
  const isPage = (answer: Answer, what: string, status = 400) => {
    assert.deepEqual([answer.status, answer.location], [status, undefined], `${what}: ${answer.location}`)
    assert.notEqual(headingOf(answer), '', what)
    assert.match(answer.text, /<a (class="button" )?href=|<form/, `${what} has no next step`)
    assert.doesNotMatch(answer.text, /evil|<script(?![^>]* src=)/, what)
    assert.match(answer.headers.get('content-security-policy') ?? '', /default-src 'none'/, what)
    assert.equal(answer.headers.get('cache-control'), 'no-store', what)
  }
  const address = (over: Record<string, string | undefined>) => {
    const params = Object.entries({ ...REQUEST, ...over }).filter(
      (one): one is [string, string] => one[1] !== undefined,
    )
    return `/auth?${new URLSearchParams(params)}`
  }

  const pages: [string, Record<string, string | undefined>][] = [
    ['no app', { client_id: undefined }],
    ['an app that is not there', { client_id: 'evil' }],
    ['an app with a name like a property', { client_id: '__proto__' }],
    ['markup for an app', { client_id: '<script>evil</script>' }],
    ['no redirect URI', { redirect_uri: undefined }],
    ['a redirect URI that is not registered', { redirect_uri: 'https://evil.example' }],
    ['a redirect URI that is none', { redirect_uri: 'evil' }],
    ['two mistakes, one of them the redirect URI', { redirect_uri: 'https://evil.example', response_type: 'token' }],
    ['a malformed claims parameter and no redirect URI', { redirect_uri: undefined, claims: '{' }],
    ['a pushed request that is not there', { redirect_uri: undefined, request_uri: `${PAR}evil` }],
  ]
  for (const [what, over] of pages)
    it(`/auth with ${what} is a page`, async () => {
      isPage(await test.visitor().request(address(over)), what)
    })

  it('/auth with the app or the redirect URI twice is a page', async () => {
    for (const twice of ['client_id=evil', 'redirect_uri=https%3A%2F%2Fevil.example%2Fx']) {
      const answer = await test.visitor().request(`${address({})}&${twice}`)
      if (answer.location === undefined) isPage(answer, twice)
      else assert.ok(answer.location.startsWith(`${CALLBACK}?error=invalid_request`), answer.location)
    }
  })

  const redirected: [string, Record<string, string | undefined>, string][] = [
    ['no response type', { response_type: undefined }, 'invalid_request'],
    ['the implicit flow', { response_type: 'id_token', nonce: 'n' }, 'unsupported_response_type'],
    ['the hybrid flow', { response_type: 'code id_token', nonce: 'n' }, 'unsupported_response_type'],
    ['a token at once', { response_type: 'token' }, 'unsupported_response_type'],
    ['no response', { response_type: 'none' }, 'unsupported_response_type'],
    ['a response mode that is not there', { response_mode: 'jwt' }, 'unsupported_response_mode'],
    ['no PKCE', { code_challenge: undefined, code_challenge_method: undefined }, 'invalid_request'],
    ['PKCE in plain', { code_challenge_method: 'plain' }, 'invalid_request'],
    ['a code challenge that is none', { code_challenge: 'x' }, 'invalid_request'],
    ['contradicting prompts', { prompt: 'none login' }, 'invalid_request'],
    ['a prompt of our own', { prompt: 'mfa' }, 'invalid_request'],
    ['nobody there', { prompt: 'none' }, 'login_required'],
    ['an age that is none', { max_age: '-1' }, 'invalid_request'],
    ['an API that is not there', { resource: 'https://evil.example' }, 'invalid_target'],
    ['an API that is no URI', { resource: 'evil' }, 'invalid_target'],
    ['a hint that is no token', { id_token_hint: 'x.y.z' }, 'invalid_request'],
    ['registration on the way', { registration: '{}' }, 'registration_not_supported'],
    ['a request by reference', { request_uri: 'https://evil.example/r' }, 'request_uri_not_supported'],
    ['a request by value that is none', { request: 'x' }, 'invalid_request_object'],
    ['both', { request: 'x', request_uri: `${PAR}x` }, 'invalid_request'],
    ['a second factor age that is none', { second_factor_max_age: 'x' }, 'invalid_request'],
    ['scope letters that are none', { scope: 'openid "' }, 'invalid_scope'],
  ]
  for (const [what, over, error] of redirected)
    it(`/auth with ${what} is ${error}, back to the app with state and iss`, async () => {
      const answer = await test.visitor().request(address(over))
      assert.ok(answer.location?.startsWith(CALLBACK), `${answer.status} ${answer.location}`)
      const { search, hash } = new URL(answer.location!)
      const told = Object.fromEntries(new URLSearchParams(search === '' ? hash.slice(1) : search))
      assert.deepEqual([told['error'], told['state'], told['iss']], [error, 'the-state', test.url])
      assert.equal(told['code'], undefined)
    })

  it('no app can ask for scopes that nobody gives: they are left out', async () => {
    const answer = await test.visitor().go(address({ scope: 'openid admin' }))
    assert.equal(headingOf(answer), 'Sign in')
  })

  it('/auth/:uid without its cookie, made up, and after its time leads on', async () => {
    const visitor = test.visitor()
    const page = await visitor.go(test.authUrl())
    const uid = new URL(page.at).pathname.split('/').at(-1)!
    for (const [what, browser, path] of [
      ['made up', test.visitor(), `/auth/${'x'.repeat(43)}`],
      ['short', test.visitor(), '/auth/x'],
      ['markup', test.visitor(), '/auth/%3Cscript%3Eevil'],
      ['of another browser', test.visitor(), `/auth/${uid}`],
    ] as const)
      isPage(await browser.go(path), what)
    wait(3601 + 60)
    isPage(await visitor.go(`/auth/${uid}`), 'after its time')
  })

  it('/session/end with mistakes is a page, and nobody is signed out', async () => {
    await test.person('errors@acme.example')
    const { visitor, answer } = await firstSignIn(test, 'errors@acme.example')
    const { id_token } = await test.exchange(answer)
    const [head, body] = id_token!.split('.')
    const mistakes: [string, string][] = [
      ['an app that is not there', 'client_id=evil'],
      ['a hint that is no token', 'id_token_hint=evil'],
      ['a hint that somebody else signed', `id_token_hint=${head}.${body}.${'A'.repeat(86)}`],
      ['a hint of another app', `id_token_hint=${id_token}&client_id=strict`],
      ['a target that is not registered', 'client_id=payments&post_logout_redirect_uri=https%3A%2F%2Fevil.example'],
      ['a parameter twice', 'client_id=payments&client_id=evil'],
    ]
    for (const [what, query] of mistakes) isPage(await visitor.request(`/session/end?${query}`), what)
    for (const [what, form] of [
      ['no secret', {}],
      ['a secret that is none', { xsrf: 'evil', logout: 'yes' }],
    ] as const)
      isPage(await visitor.clone().go('/session/end/confirm', { form }), `${what}: the question again`, 200)
    const question = await visitor.clone().go('/session/end')
    assert.equal(new URL(formOf(question).action).pathname, '/session/end/confirm')
    const silent = await visitor.go(test.authUrl({ prompt: 'none' }))
    assert.ok(new URL(silent.location!).searchParams.has('code'))
  })

  it('servers get JSON with no-store, whatever they accept', async () => {
    const basic = { authorization: `Basic ${Buffer.from(`payments:${CLIENT_SECRET}`).toString('base64')}` }
    const wrong = { authorization: `Basic ${btoa('evil:evil')}` }
    for (const path of ['/token', '/token/introspection', '/token/revocation', '/request', '/me'])
      for (const headers of [{}, basic, wrong]) {
        const answer = await test.visitor().request(path, { form: {}, headers: { ...headers, accept: 'text/html' } })
        assert.ok(answer.status >= 400 && answer.status < 500, `${path} ${answer.status}`)
        assert.match(answer.headers.get('content-type') ?? '', /^application\/json/, path)
        assert.match(answer.headers.get('cache-control') ?? '', /no-store/, path)
        const { error } = JSON.parse(answer.text) as { error: string }
        assert.match(error, /^[a-z_]+$/)
      }
  })
})
