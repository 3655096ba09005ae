/** The `claims` parameter (OIDC Core §5.5) through real HTTP to the token. */
import assert from 'node:assert/strict'
import { ACR_1FA, ACR_2FA, ACR_2FA_APP } from '../../interactions/policy.ts'
import { nextStep } from '../support/clock.ts'
import {
  acknowledge,
  CHALLENGE,
  claimsIn,
  codeOf,
  enrol,
  firstSignIn,
  openTestHouse,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, headingOf } from '../support/visitor.ts'

const ENROLMENT = 'Secure Your Account'
const answerOf = (answer: Answer) => Object.fromEntries(new URL(answer.location ?? 'x:').searchParams)
const asking = (idToken: object, userinfo?: object) => ({ claims: JSON.stringify({ id_token: idToken, userinfo }) })
const acr = (...values: string[]) => asking({ acr: { essential: true, values } })

describe('the claims parameter', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())
  /** Somebody who needs no second factor, signed in with a password. */
  const signedIn = async () => {
    const email = `claims${++people}@city.example`
    const id = await test.person(email, 'standard')
    const visitor = test.visitor()
    const answer = await signIn(visitor, await visitor.go(test.authUrl()), email)
    return { email, id, visitor, answer }
  }

  it('essential acr asks a password session for the second factor, and the token names what was asked (25)', async () => {
    const { visitor } = await signedIn()
    const silent = await visitor.clone().go(test.authUrl({ ...acr(ACR_2FA), prompt: 'none' }))
    assert.equal(answerOf(silent)['error'], 'interaction_required')
    const page = await visitor.go(test.authUrl(acr(ACR_2FA, 'urn:unknown')))
    assert.equal(headingOf(page), ENROLMENT)
    const { page: recovery } = await enrol(visitor, page)
    const { acr: said, amr } = claimsIn((await test.exchange(await acknowledge(visitor, recovery)))['id_token'])
    assert.deepEqual([said, amr], [ACR_2FA, ['pwd', 'otp', 'mfa']])
    const again = await visitor.go(test.authUrl({ ...acr(ACR_1FA, ACR_2FA_APP), prompt: 'none' }))
    assert.equal(claimsIn((await test.exchange(again))['id_token']).acr, ACR_2FA_APP)
    const own = await visitor.go(test.authUrl({ ...asking({ acr: null, amr: null }), prompt: 'none' }))
    assert.equal(claimsIn((await test.exchange(own))['id_token']).acr, ACR_2FA_APP)
  })

  it('essential acr is not lost beside acr_values, its own or the registered ones', async () => {
    const { visitor } = await signedIn()
    const payments = (await test.database.directory.client('payments'))!
    const value = { ...payments, client_id: 'modest', default_acr_values: [ACR_1FA] }
    await test.database.directory.commit([{ kind: 'client', op: 'put', value }])
    for (const more of [{ acr_values: ACR_1FA }, { client_id: 'modest' }]) {
      const page = await visitor.clone().go(test.authUrl({ ...acr(ACR_2FA_APP), ...more }))
      assert.equal(headingOf(page), ENROLMENT)
    }
  })

  it('an essential acr that nobody can reach is an error at once, never a page and never a loop', async () => {
    const { visitor } = await signedIn()
    for (const browser of [visitor, test.visitor()])
      for (const prompt of [{}, { prompt: 'none' }, { prompt: 'login' }])
        for (const asked of [
          acr('urn:mace:incommon:iap:silver'),
          acr('constructor', '__proto__'),
          asking({ acr: { essential: true, value: 'phr' } }),
          asking({ amr: { essential: true, values: ['hwk'] } }),
        ]) {
          const answer = await browser.clone().request(test.authUrl({ ...asked, ...prompt }))
          assert.equal(answerOf(answer)['error'], 'unmet_authentication_requirements', answer.location)
          assert.equal(answerOf(answer)['state'], 'the-state')
        }
  })

  it('an essential amr with otp is the app; a voluntary one asks nothing', async () => {
    const { visitor } = await signedIn()
    const quiet = await visitor.go(test.authUrl(asking({ amr: { values: ['otp'] } })))
    assert.deepEqual(claimsIn((await test.exchange(quiet))['id_token']).amr, ['pwd'])
    const page = await visitor.go(test.authUrl(asking({ amr: { essential: true, values: ['otp'] } })))
    assert.equal(headingOf(page), ENROLMENT)
  })

  it('cannot be skipped: by Back, by another request meanwhile, by a claims parameter that asks for less', async () => {
    const { visitor } = await signedIn()
    const page = await visitor.go(test.authUrl(acr(ACR_2FA_APP)))
    await visitor.go(test.authUrl(acr(ACR_1FA)))
    const back = await visitor.go(page.at)
    assert.equal(headingOf(back), ENROLMENT)
    const twice = `${test.authUrl(acr(ACR_2FA_APP))}&claims=${encodeURIComponent('{"id_token":{}}')}`
    assert.equal(answerOf(await visitor.request(twice))['error'], 'invalid_request')
    await test.person('claims-payor@acme.example')
    const payor = test.visitor()
    const needed = await signIn(payor, await payor.go(test.authUrl(acr(ACR_1FA))), 'claims-payor@acme.example')
    assert.equal(headingOf(needed), ENROLMENT, 'the role still needs it')
  })

  it('works with a challenge, and a fresh one with second_factor_max_age', async () => {
    const email = `claims${++people}@acme.example`
    await test.person(email)
    const { visitor, secret } = await firstSignIn(test, email)
    nextStep()
    const page = await visitor.go(test.authUrl({ ...acr(ACR_2FA), second_factor_max_age: '0' }))
    assert.equal(headingOf(page), CHALLENGE)
    const tokens = await test.exchange(await visitor.submit(page, { code: await codeOf(secret) }))
    assert.equal(claimsIn(tokens['id_token']).acr, ACR_2FA)
    const refreshed = await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! })
    assert.equal(claimsIn(refreshed['id_token']).acr, ACR_2FA, 'a refresh says what its authorization said')
  })

  it('sub with a value is answered by that person only', async () => {
    const ana = await signedIn()
    const bob = await signedIn()
    const sub = asking({ sub: { essential: true, value: ana.id } })
    const mine = await ana.visitor.go(test.authUrl({ ...sub, prompt: 'none' }))
    assert.equal(claimsIn((await test.exchange(mine))['id_token']).sub, ana.id)
    const other = await bob.visitor.go(test.authUrl({ ...sub, prompt: 'none' }))
    assert.equal(answerOf(other)['error'], 'login_required')
    const page = await bob.visitor.go(test.authUrl(sub))
    assert.equal(headingOf(page), 'Sign in')
    const refused = await signIn(bob.visitor, page, bob.email)
    assert.equal(refused.location, undefined, 'no code for somebody else')
    const hint = (await test.exchange(ana.answer))['id_token']!
    const torn = await ana.visitor.go(test.authUrl({ ...asking({ sub: { value: bob.id } }), id_token_hint: hint }))
    assert.equal(answerOf(torn)['error'], 'unmet_authentication_requirements')
  })

  it('auth_time, acr and amr are in every ID token; userinfo tells them when asked', async () => {
    const { visitor } = await signedIn()
    const answer = await visitor.go(
      test.authUrl(asking({ auth_time: { essential: true } }, { acr: null, amr: null, auth_time: null, email: null })),
    )
    const tokens = await test.exchange(answer)
    const { auth_time, acr: said, amr } = claimsIn(tokens['id_token'])
    assert.equal(typeof auth_time, 'number')
    const userinfo = async (token: string) =>
      (await (await fetch(`${test.url}/me`, { headers: { authorization: `Bearer ${token}` } })).json()) as object
    assert.deepEqual(await userinfo(tokens['access_token']!), {
      ...(await userinfo(tokens['access_token']!)),
      acr: said,
      amr,
      auth_time,
    })
    const plain = await test.exchange(await visitor.go(test.authUrl()))
    assert.deepEqual(Object.keys(await userinfo(plain['access_token']!)).sort(), ['email', 'sub'])
  })

  it('name and email come by claims where the client is registered for them, without a question', async () => {
    const { visitor } = await signedIn()
    const answer = await visitor.go(
      test.authUrl({ scope: 'openid', ...asking({ email: null, name: { essential: true } }) }),
    )
    const { email, name } = claimsIn((await test.exchange(answer))['id_token'])
    assert.deepEqual([typeof email, name], ['string', 'A Person'])

    await test.database.directory.commit([
      {
        kind: 'client',
        op: 'put',
        value: { ...(await test.database.directory.client('payments'))!, client_id: 'narrow', scope: 'openid' },
      },
    ])
    for (const asked of [asking({ email: null }), asking({}, { name: { essential: true } })]) {
      const refused = await visitor.request(test.authUrl({ client_id: 'narrow', scope: 'openid', ...asked }))
      assert.equal(answerOf(refused)['error'], 'invalid_request')
      assert.match(answerOf(refused)['error_description']!, /has no scope (email|profile)/)
    }
  })

  it('a third party is asked about for claims as for scopes', async () => {
    const { visitor } = await signedIn()
    const params = { client_id: 'partner', scope: 'openid' }
    const asked = await visitor.go(test.authUrl({ ...params, ...asking({ email: null, acr: null }) }))
    assert.equal(asked.location, undefined)
    const tokens = await test.exchange(await visitor.submit(asked), 'partner')
    assert.equal(typeof claimsIn(tokens['id_token'])['email'], 'string')
    const more = await visitor.go(test.authUrl({ ...params, ...asking({ name: null }), prompt: 'none' }))
    assert.equal(answerOf(more)['error'], 'consent_required')
    const authentication = await visitor.go(test.authUrl({ ...params, ...acr(ACR_1FA), prompt: 'none' }))
    assert.ok(answerOf(authentication)['code'], 'how somebody signed in is no question')
  })

  it('a device is held to the same: an essential acr that nobody can reach ends it', async () => {
    const { visitor } = await signedIn()
    const ask = async (claims: string) => {
      const form = { client_id: 'tv', scope: 'openid', claims }
      return test.post('/device/auth', form)
    }
    assert.equal((await ask('{')).error, 'invalid_request')
    const started = await ask(acr('phr').claims)
    const entry = await visitor.go('/device')
    const confirm = await visitor.submit(entry, { user_code: started['user_code']! })
    const page = await visitor.submit(confirm, { confirm: 'yes' })
    assert.equal(page.status, 400)
    assert.notEqual(headingOf(page), '')
    const form = { grant_type: 'urn:ietf:params:oauth:grant-type:device_code', device_code: started['device_code']! }
    assert.equal((await test.token(form, 'tv')).error, 'unmet_authentication_requirements')

    const second = await ask(acr(ACR_2FA_APP).claims)
    const again = await visitor.submit(await visitor.go('/device'), { user_code: second['user_code']! })
    assert.equal(headingOf(await visitor.submit(again, { confirm: 'yes' })), ENROLMENT)
  })

  it('malformed JSON and shapes are invalid_request, with the state', async () => {
    const malformed = [
      '{',
      '[]',
      '"x"',
      'null',
      '7',
      '{}',
      '{"id_token":null}',
      '{"id_token":[]}',
      '{"id_token":{"acr":"x"}}',
      '{"id_token":{"acr":{"essential":true,"values":"x"}}}',
      '{"id_token":{"acr":{"essential":"yes"}}}',
      '{"userinfo":{"amr":{"value":{"length":1}}}}',
      '{"id_token":{"sub":{"value":["a"]}}}',
      `{"id_token":{"acr":{"essential":true,"value":"x","values":["x"]}}}`,
    ]
    for (const claims of malformed) {
      const answer = await test.visitor().request(test.authUrl({ claims }))
      assert.deepEqual([answer.status, answerOf(answer)['error']], [303, 'invalid_request'], claims)
      assert.equal(answerOf(answer)['state'], 'the-state')
    }
    const odd = '{"id_token":{"__proto__":{"essential":true},"constructor":null,"toString":{"value":1}}}'
    assert.equal(headingOf(await test.visitor().go(test.authUrl({ claims: odd }))), 'Sign in')
    assert.equal(({} as Record<string, unknown>)['essential'], undefined)
  })
})
