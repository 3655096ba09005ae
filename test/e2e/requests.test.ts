/** Requests that a browser cannot change: pushed (RFC 9126) and signed (RFC 9101); and what they may not ask yet (RFC 9396). */
import assert from 'node:assert/strict'
import { exportJWK, type GenerateKeyPairResult, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import { ACR_1FA, ACR_2FA, ACR_2FA_APP } from '../../interactions/policy.ts'
import type { Client } from '../../server/stores.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import {
  API,
  acknowledge,
  CALLBACK,
  CHALLENGE,
  CLIENT_SECRET,
  claimsIn,
  codeOf,
  enrol,
  firstSignIn,
  openTestHouse,
  PASSWORD,
  REQUEST,
  signIn,
  slowly,
  type TestHouse,
  type Tokens,
} from '../support/house.ts'
import { type Answer, formOf, headingOf } from '../support/visitor.ts'

type Key = GenerateKeyPairResult['privateKey']
const ENROLMENT = 'Secure Your Account'
const answerOf = (answer: Answer) => Object.fromEntries(new URL(answer.location ?? 'x:').searchParams)
const hasCode = (answer: Answer) => answerOf(answer)['code'] !== undefined
const basic = (client: string) => ({
  authorization: `Basic ${Buffer.from(`${client}:${CLIENT_SECRET}`).toString('base64')}`,
})

describe('requests', () => {
  let test: TestHouse
  let own: Key
  let foreign: Key
  let people = 0
  before(async () => {
    test = await openTestHouse({}, { artifacts: slowly })
    const pair = await generateKeyPair('ES256')
    own = pair.privateKey
    foreign = (await generateKeyPair('ES256')).privateKey
    const jwks = { keys: [await exportJWK(pair.publicKey)] }
    const base = { ...(await test.database.directory.client('payments'))!, jwks }
    const clients: Client[] = [
      base,
      { ...base, client_id: 'pushes', require_pushed_authorization_requests: true },
      { ...base, client_id: 'signs', require_signed_request_object: true },
      { ...base, client_id: 'es384', request_object_signing_alg: 'PS256' },
    ]
    for (const value of clients) await test.database.directory.commit([{ kind: 'client', op: 'put', value }])
  })
  after(() => test.close())

  const somebody = async (role: 'payor' | 'standard' = 'standard') => {
    const email = `requests${++people}@${role === 'payor' ? 'acme' : 'city'}.example`
    const id = await test.person(email, role)
    return { email, id }
  }
  const push = (params: Record<string, string> = {}, client = 'payments') =>
    test.post('/request', { ...REQUEST, ...params, client_id: client }, basic(client))
  const at = (request_uri: string, more: Record<string, string> = {}) =>
    `/auth?${new URLSearchParams({ client_id: 'payments', request_uri, ...more })}`
  const signed = (claims: object = {}, { key = own, ...header }: { key?: Key; alg?: string; typ?: string } = {}) =>
    new SignJWT({ ...REQUEST, iss: 'payments', aud: test.url, ...claims })
      .setProtectedHeader({ alg: 'ES256', ...header })
      .sign(key)
  const bySigned = (request: string, more: Record<string, string> = {}) =>
    `/auth?${new URLSearchParams({ client_id: 'payments', request, ...more })}`

  describe('pushed', () => {
    it('lead to a code, once; the address is of no use again', async () => {
      const { email } = await somebody()
      const { request_uri, expires_in, status } = (await push()) as Tokens & { request_uri: string }
      assert.deepEqual([status, expires_in], [201, 60 as unknown])
      const visitor = test.visitor()
      const answer = await signIn(visitor, await visitor.go(at(request_uri)), email)
      assert.equal(answerOf(answer)['state'], 'the-state')
      assert.ok((await test.exchange(answer))['id_token'])
      for (const browser of [visitor, test.visitor()]) {
        const again = await browser.go(at(request_uri))
        assert.deepEqual([again.status, again.location], [400, undefined])
        assert.match(again.text, /https:\/\/rp\.example/, 'the page leads to the app')
      }
    })

    it('of two people at the same time, on one address, one gets a code', async () => {
      for (let round = 0; round < 3; round++) {
        const two = [await somebody(), await somebody()]
        const { request_uri } = (await push()) as Tokens & { request_uri: string }
        const pages = await Promise.all(
          two.map(async ({ email }) => {
            const visitor = test.visitor()
            return { visitor, page: await visitor.submit(await visitor.go(at(request_uri)), { email }) }
          }),
        )
        const resumes = await Promise.all(
          pages.map(async ({ visitor, page }) => {
            const { action, hidden } = formOf(page)
            const { location } = await visitor.request(action, {
              form: { ...hidden, password: PASSWORD },
            })
            return { visitor, location: location! }
          }),
        )
        const answers = await Promise.all(resumes.map(({ visitor, location }) => visitor.go(location)))
        assert.equal(
          answers.filter(hasCode).length,
          1,
          answers.map(({ location, status }) => `${status} ${location}`).join(),
        )
        assert.equal(answerOf(answers.find((answer) => !hasCode(answer))!)['error'], 'invalid_request_uri')
      }
    })

    it('nor do two get one who take their time', async () => {
      const two = [await somebody(), await somebody()]
      const { request_uri } = (await push()) as Tokens & { request_uri: string }
      const pages = await Promise.all(
        two.map(async ({ email }) => {
          const visitor = test.visitor()
          return { visitor, page: await visitor.submit(await visitor.go(at(request_uri)), { email }) }
        }),
      )
      wait(30 * 60)
      await test.database.sweep(now())
      const answers: Answer[] = []
      for (const { visitor, page } of pages) answers.push(await visitor.submit(page, { password: PASSWORD }))
      assert.deepEqual(answers.map(hasCode), [true, false])
      const { email } = await somebody()
      const late = test.visitor()
      const third = (await push()) as Tokens & { request_uri: string }
      const form = await late.submit(await late.go(at(third.request_uri)), { email })
      wait(59 * 60)
      const fourth = await late.submit(form, { password: PASSWORD })
      assert.ok(hasCode(fourth), 'and one who takes almost an hour still gets it')
    })

    it('are forgotten after an hour and a minute: then the app is told, and no code is given on a guess', async () => {
      const { email } = await somebody('payor')
      const { secret } = await firstSignIn(test, email)
      const { request_uri } = (await push()) as Tokens & { request_uri: string }
      const visitor = test.visitor()
      const password = await visitor.submit(await visitor.go(at(request_uri)), { email })
      wait(50 * 60)
      const challenge = await visitor.submit(password, { password: PASSWORD })
      wait(50 * 60)
      await test.database.sweep(now())
      const answer = await visitor.submit(challenge, { code: await codeOf(secret) })
      assert.equal(answerOf(answer)['error'], 'invalid_request_uri')
      assert.ok(hasCode(await visitor.go(test.authUrl({ prompt: 'none' }))), 'the next request is answered at once')
    })

    it('cannot be begun after 60 seconds, and a made-up address never', async () => {
      const { request_uri } = (await push()) as Tokens & { request_uri: string }
      wait(61)
      for (const uri of [
        request_uri,
        `${request_uri.slice(0, -4)}AAAA`,
        'urn:ietf:params:oauth:request_uri:',
        'urn:ietf:params:oauth:request_uri:__proto__',
      ]) {
        const answer = await test.visitor().go(at(uri))
        assert.deepEqual([answer.status, answer.location], [400, undefined], uri)
        assert.match(answer.text, /<h1/)
      }
      for (const uri of ['https://evil.example/request.jwt', 'http://127.0.0.1/request', 'data:text/plain,x']) {
        const answer = await test.visitor().go(at(uri, { redirect_uri: CALLBACK }))
        assert.equal(answerOf(answer)['error'], 'request_uri_not_supported', uri)
      }
    })

    it('decide by what was pushed: nothing in the browser lowers it, adds to it or turns it to another app', async () => {
      const { email } = await somebody()
      const visitor = test.visitor()
      await signIn(visitor, await visitor.go(test.authUrl()), email)
      const { request_uri } = (await push({ acr_values: ACR_2FA_APP, state: 'pushed' })) as Tokens & {
        request_uri: string
      }
      const lowered = {
        acr_values: ACR_1FA,
        claims: '{"id_token":{}}',
        prompt: 'none',
        state: 'browser',
        redirect_uri: 'https://evil.example/callback',
      }
      const page = await visitor.go(at(request_uri, lowered))
      assert.equal(headingOf(page), ENROLMENT)
      const { page: recovery } = await enrol(visitor, page)
      const answer = await acknowledge(visitor, recovery)
      assert.ok(answer.location?.startsWith(`${CALLBACK}?`))
      assert.equal(answerOf(answer)['state'], 'pushed')
      assert.deepEqual(claimsIn((await test.exchange(answer))['id_token']).amr, ['pwd', 'otp', 'mfa'])

      const second = (await push()) as Tokens & { request_uri: string }
      const other = await visitor.request(at(second.request_uri, { client_id: 'strict' }))
      assert.ok(!hasCode(other), `${other.status} ${other.location}`)
    })

    it('carry our own parameters and claims', async () => {
      const { email } = await somebody('payor')
      const { visitor, secret } = await firstSignIn(test, email)
      nextStep()
      const claims = JSON.stringify({ id_token: { acr: { essential: true, value: ACR_2FA } } })
      const pushed = (await push({ second_factor_max_age: '0', claims })) as Tokens & { request_uri: string }
      const page = await visitor.go(at(pushed.request_uri))
      assert.equal(headingOf(page), CHALLENGE)
      const before = now()
      const told = claimsIn(
        (await test.exchange(await visitor.submit(page, { code: await codeOf(secret) })))['id_token'],
      )
      assert.equal(told.acr, ACR_2FA)
      assert.ok(Number(told['second_factor_time']) >= before)
    })

    const refused: [string, Record<string, string>, string][] = [
      ['a redirect URI that is not registered', { redirect_uri: 'https://evil.example/callback' }, 'invalid_request'],
      ['no PKCE', { code_challenge: '', code_challenge_method: '' }, 'invalid_request'],
      ['malformed claims', { claims: '{' }, 'invalid_request'],
      ['claims of a wrong shape', { claims: '{"id_token":{"acr":{"values":"x"}}}' }, 'invalid_request'],
      ['an age that is none', { second_factor_max_age: 'soon' }, 'invalid_request'],
      ['an address of a request', { request_uri: 'urn:ietf:params:oauth:request_uri:x' }, 'request_uri_not_supported'],
      ['another response type', { response_type: 'code id_token' }, 'unsupported_response_type'],
      ['a prompt that is none', { prompt: 'mfa' }, 'invalid_request'],
    ]
    for (const [what, params, error] of refused)
      it(`are refused at once with ${what}`, async () => {
        const answer = await push(params)
        assert.deepEqual([answer.status, answer.error], [400, error], JSON.stringify(answer))
        assert.equal(answer['request_uri'], undefined)
      })

    it('need the app’s secret', async () => {
      for (const headers of [{}, { authorization: `Basic ${btoa('payments:wrong wrong wrong wrong wrong wrong')}` }]) {
        const { error } = await test.post('/request', REQUEST, headers)
        assert.equal(error, 'invalid_client')
      }
      const other = await test.post('/request', { ...REQUEST, client_id: 'strict' }, basic('payments'))
      assert.equal(other.error, 'invalid_request')
    })

    it('are the only way for an app that is registered so', async () => {
      const { email } = await somebody()
      const plain = await test.visitor().request(test.authUrl({ client_id: 'pushes' }))
      assert.equal(answerOf(plain)['error'], 'invalid_request')
      const signedOnly = await signed({ client_id: 'pushes', iss: 'pushes' })
      const bySigning = await test
        .visitor()
        .request(bySigned(signedOnly, { client_id: 'pushes', redirect_uri: CALLBACK }))
      assert.equal(answerOf(bySigning)['error'], 'invalid_request')
      const { request_uri } = (await push({}, 'pushes')) as Tokens & { request_uri: string }
      const visitor = test.visitor()
      const answer = await signIn(visitor, await visitor.go(at(request_uri, { client_id: 'pushes' })), email)
      assert.ok(hasCode(answer))
    })

    it('are not begun again from the browser when the session behind a page has ended: the app is linked', async () => {
      const { email } = await somebody('payor')
      const { visitor } = await firstSignIn(test, email)
      const pushed = (await push({ second_factor_max_age: '0', login_hint: 'not-for-the-address-bar' })) as Tokens & {
        request_uri: string
      }
      const page = await visitor.go(at(pushed.request_uri))
      assert.equal(headingOf(page), CHALLENGE)
      const tab = visitor.clone()
      await tab.submit(await tab.go('/session/end'), { logout: 'yes' })
      const after = await visitor.request(page.at)
      assert.deepEqual([after.status, after.location], [400, undefined])
      assert.match(after.text, /https:\/\/rp\.example/)
    })

    it('are sealed in the database', async () => {
      const { request_uri } = (await push({ login_hint: 'somebody-to-hide@acme.example' })) as Tokens & {
        request_uri: string
      }
      const { readFileSync, readdirSync } = await import('node:fs')
      const data = `${test.folder}/data`
      const stored = readdirSync(data)
        .filter((name) => name.startsWith('sallyport.sqlite'))
        .map((name) => readFileSync(`${data}/${name}`, 'latin1'))
        .join()
      assert.ok(!stored.includes('somebody-to-hide'))
      assert.ok(!stored.includes(Buffer.from('somebody-to-hide').toString('base64url').slice(2, 18)))
      assert.ok(!stored.includes(request_uri.split(':').at(-1)!))
    })

    it('of an app without a secret: taken, and so many per network and minute', async () => {
      const small = await openTestHouse({ SALLYPORT_STARTS_PER_MINUTE: '3' })
      try {
        const pushSpa = (address: string) =>
          small.post('/request', { ...REQUEST, client_id: 'spa' }, { 'x-forwarded-for': address })
        for (let i = 0; i < 3; i++) assert.equal((await pushSpa('198.51.100.7')).status, 201)
        assert.deepEqual(await pushSpa('198.51.100.7'), {
          status: 429,
          error: 'temporarily_unavailable',
          error_description: 'too many requests: try again later',
        } as unknown)
        assert.equal((await pushSpa('203.0.113.9')).status, 201)
        for (let i = 0; i < 5; i++)
          assert.equal(
            (await small.post('/request', REQUEST, { ...basic('payments'), 'x-forwarded-for': '192.0.2.1' })).status,
            201,
          )
      } finally {
        await small.close()
      }
    })
  })

  describe('signed', () => {
    it('lead to a code', async () => {
      const { email } = await somebody()
      for (const typ of [undefined, 'JWT', 'oauth-authz-req+jwt', 'application/oauth-authz-req+jwt']) {
        const visitor = test.visitor()
        const page = await visitor.go(bySigned(await signed({ state: 'signed' }, typ === undefined ? {} : { typ })))
        const answer = await signIn(visitor, page, email)
        assert.equal(answerOf(answer)['state'], 'signed', typ)
        assert.ok((await test.exchange(answer))['id_token'])
      }
    })

    it('decide by what was signed: the browser adds nothing', async () => {
      const { email } = await somebody()
      const visitor = test.visitor()
      await signIn(visitor, await visitor.go(test.authUrl()), email)
      const request = await signed({ claims: { id_token: { acr: { essential: true, value: ACR_2FA_APP } } } })
      const page = await visitor.go(
        bySigned(request, { ...REQUEST, acr_values: ACR_1FA, claims: '{"id_token":{}}', prompt: 'none' }),
      )
      assert.equal(headingOf(page), ENROLMENT)
      const quiet = await visitor.go(bySigned(await signed(), { second_factor_max_age: '0', prompt: 'login' }))
      assert.ok(hasCode(quiet), 'nor raises it')
    })

    it('carry our own parameter as a number', async () => {
      const { email } = await somebody('payor')
      const { visitor } = await firstSignIn(test, email)
      assert.ok(hasCode(await visitor.go(bySigned(await signed({ second_factor_max_age: 3600 })))))
      assert.equal(headingOf(await visitor.go(bySigned(await signed({ second_factor_max_age: 0 })))), CHALLENGE)
      const wrong = await visitor.request(
        bySigned(await signed({ second_factor_max_age: { a: 1 } }), { redirect_uri: CALLBACK }),
      )
      assert.equal(answerOf(wrong)['error'], 'invalid_request')
    })

    it('can be pushed', async () => {
      const { email } = await somebody()
      const pushed = (await test.post(
        '/request',
        { request: await signed({ state: 'both' }), client_id: 'payments', state: 'outside' },
        basic('payments'),
      )) as Tokens & { request_uri: string }
      assert.equal(pushed.status, 201, JSON.stringify(pushed))
      const visitor = test.visitor()
      assert.equal(answerOf(await signIn(visitor, await visitor.go(at(pushed.request_uri)), email))['state'], 'both')
    })

    it('are the only way for an app that is registered so', async () => {
      assert.equal(
        answerOf(await test.visitor().request(test.authUrl({ client_id: 'signs' })))['error'],
        'invalid_request',
      )
      assert.equal((await push({}, 'signs')).error, 'invalid_request')
      const request = await signed({ client_id: 'signs', iss: 'signs' })
      assert.equal(headingOf(await test.visitor().go(bySigned(request, { client_id: 'signs' }))), 'Sign in')
    })

    const refused: [string, () => Promise<string> | string][] = [
      ['by another key', () => signed({}, { key: foreign })],
      ['by nobody', () => new UnsecuredJWT({ ...REQUEST, iss: 'payments', aud: test.url }).encode()],
      ['with the app’s secret', () => hmac()],
      ['for another server', () => signed({ aud: 'https://other.example' })],
      ['for nobody', () => signed({ aud: undefined })],
      ['by another issuer', () => signed({ iss: 'strict' })],
      ['for another app', () => signed({ client_id: 'strict' })],
      ['too long ago', () => signed({ exp: now() - 60 })],
      ['for later', () => signed({ nbf: now() + 600 })],
      ['with a request inside', () => signed({ request: 'x' })],
      [
        'so that it would pass as an assertion of the app',
        () => signed({ sub: 'payments', jti: 'a', exp: now() + 60 }),
      ],
      ['as a client assertion', () => signed({}, { typ: 'client-authentication+jwt' })],
      ['as an access token', () => signed({}, { typ: 'at+jwt' })],
      ['and cut off', async () => (await signed()).slice(0, -8)],
      ['nothing', () => 'x.y.z'],
    ]
    const hmac = () =>
      new SignJWT({ ...REQUEST, iss: 'payments', aud: test.url })
        .setProtectedHeader({ alg: 'HS256' })
        .sign(new TextEncoder().encode(CLIENT_SECRET))
    for (const [how, make] of refused)
      it(`are refused: ${how}`, async () => {
        const answer = await test.visitor().request(bySigned(await make(), { redirect_uri: CALLBACK, state: 's' }))
        assert.match(
          answerOf(answer)['error'] ?? '',
          /^invalid_request(_object)?$/,
          `${answer.status} ${answer.location}`,
        )
        assert.ok(answer.location?.startsWith(`${CALLBACK}?`))
        const pushed = await test.post('/request', { client_id: 'payments', request: await make() }, basic('payments'))
        assert.match(pushed.error ?? '', /^invalid_request(_object)?$/, JSON.stringify(pushed))
      })

    it('are refused on a page with a redirect URI that is not registered, and for no app', async () => {
      for (const claims of [{ redirect_uri: 'https://evil.example/callback' }, { client_id: undefined }]) {
        const answer = await test.visitor().request(bySigned(await signed(claims)))
        assert.deepEqual([answer.status, answer.location], [400, undefined])
        assert.match(answer.text, /https:\/\/rp\.example/, 'which leads to the app')
      }
    })

    it('are refused with another algorithm than the registered one', async () => {
      const request = await signed({ client_id: 'es384', iss: 'es384' })
      const answer = await test.visitor().request(bySigned(request, { client_id: 'es384', redirect_uri: CALLBACK }))
      assert.equal(answerOf(answer)['error'], 'invalid_request_object')
    })

    it('by POST wait under a handle', async () => {
      const { email } = await somebody()
      const visitor = test.visitor()
      const request = await signed({ login_hint: 'x'.repeat(7000), state: 'posted' })
      const page = await visitor.go('/auth', { form: { client_id: 'payments', request } })
      assert.equal(answerOf(await signIn(visitor, page, email))['state'], 'posted')
    })
  })

  describe('authorization_details (RFC 9396)', () => {
    const payment = [
      { type: 'payment', instructedAmount: { currency: 'USD', amount: '4200.00' }, creditorName: 'Acme' },
    ]
    const ways: [string, (details: unknown) => Promise<{ error?: string; error_description?: string }>][] = [
      [
        'in the address',
        async (details) =>
          answerOf(
            await test
              .visitor()
              .request(test.authUrl({ resource: API, authorization_details: JSON.stringify(details) })),
          ),
      ],
      ['pushed', (details) => push({ resource: API, authorization_details: JSON.stringify(details) })],
      [
        'signed',
        async (details) => {
          const request = await signed({ resource: API, authorization_details: details })
          return answerOf(await test.visitor().request(bySigned(request, { redirect_uri: CALLBACK })))
        },
      ],
    ]
    for (const [way, ask] of ways)
      it(`${way}: a payment is refused with a sentence, another type as unknown`, async () => {
        const known = await ask(payment)
        assert.equal(known.error, 'invalid_authorization_details')
        assert.match(known.error_description!, /cannot be confirmed here yet/)
        for (const details of [
          [{ type: 'account' }],
          [{ type: 'constructor' }],
          [...payment, { type: 'x' }],
          [{}],
          [7],
          { type: 'payment' },
        ])
          assert.equal((await ask(details)).error, 'invalid_authorization_details', JSON.stringify(details))
        const unknown = await ask([{ type: 'account' }])
        assert.match(unknown.error_description!, /unsupported authorization details type/)
      })

    it('are refused at the token endpoint', async () => {
      const { email } = await somebody()
      const visitor = test.visitor()
      const answer = await signIn(
        visitor,
        await visitor.go(test.authUrl({ resource: API, scope: 'openid payments' })),
        email,
      )
      const tokens = await test.exchange(answer, 'payments', { authorization_details: JSON.stringify(payment) })
      assert.equal(tokens.error, 'invalid_authorization_details')
    })

    it('are refused where they are no JSON', async () => {
      const answer = await test.visitor().request(test.authUrl({ authorization_details: '[' }))
      assert.equal(answerOf(answer)['error'], 'invalid_authorization_details')
    })
  })
})
