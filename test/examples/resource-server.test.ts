/** The guard of an API and the client's helper, against a served provider. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { generateKeyPair, SignJWT } from 'jose'
import { createApi } from '../../examples/resource-server/api.ts'
import { createGuard } from '../../examples/resource-server/guard.ts'
import { callApi } from '../../examples/resource-server/step-up.ts'
import { ACR_2FA, ACR_2FA_APP } from '../../interactions/policy.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import { API, acknowledge, CHALLENGE, codeOf, enrol, openTestHouse, signIn, type TestHouse } from '../support/house.ts'
import { type Answer, headingOf, type Visitor } from '../support/visitor.ts'

describe('the resource server', () => {
  let test: TestHouse
  let url: string
  let close: () => Promise<unknown>
  before(async () => {
    test = await openTestHouse()
    const api = await createApi({ issuer: test.url, audience: API })
    const server = createServer(api.callback())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    close = () => new Promise((resolve) => server.close(resolve))
  })
  after(async () => {
    await close()
    await test.close()
  })

  const get = (path: string, token?: string) =>
    fetch(url + path, token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } })
  const challengeOf = (response: Response) => response.headers.get('www-authenticate')

  /** A request for the API, what the person does, and the access token. */
  async function token(visitor: Visitor, more: Record<string, string>, walk: (page: Answer) => Promise<Answer>) {
    const params = { scope: 'openid payments', resource: API, ...more }
    const answer = await walk(await visitor.go(test.authUrl(params)))
    return (await test.exchange(answer, 'payments', { resource: API }))['access_token']!
  }
  let secret: string
  const code = (visitor: Visitor) => async (page: Answer) => {
    assert.equal(headingOf(page), CHALLENGE)
    nextStep()
    return visitor.submit(page, { code: await codeOf(secret) })
  }

  it('asks for a token, and says nothing of an error that nobody made', async () => {
    const response = await get('/disbursements')
    assert.equal(response.status, 401)
    assert.equal(challengeOf(response), 'Bearer')
  })

  it('refuses what is no token, signed by somebody else, for another API, or expired', async () => {
    const visitor = test.visitor()
    await test.person('kim@city.example', 'standard')
    const good = await token(visitor, {}, (page) => signIn(visitor, page, 'kim@city.example'))
    assert.equal((await get('/disbursements', good)).status, 200)

    const { privateKey } = await generateKeyPair('ES256')
    const own = await new SignJWT({ client_id: 'payments', scope: 'payments' })
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt' })
      .setSubject('kim')
      .setIssuer(test.url)
      .setAudience(API)
      .setIssuedAt(now())
      .setExpirationTime(now() + 60)
      .sign(privateKey)
    const parts = good.split('.')
    const none = `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString('base64url')}.${parts[1]}.`
    for (const [what, bad] of Object.entries({ own, none, half: `${parts[0]}.${parts[1]}.AAAA`, word: 'word' })) {
      const response = await get('/disbursements', bad)
      assert.equal(response.status, 401, what)
      assert.equal(challengeOf(response), 'Bearer error="invalid_token"', what)
    }
    const elsewhere = await createGuard({ issuer: test.url, audience: 'https://other.example' })
    const ctx = { get: () => `Bearer ${good}`, set: () => undefined, state: {}, status: 0 }
    await elsewhere({ scope: 'payments' })(ctx as never, async () => assert.fail('for another API'))
    assert.equal(ctx.status, 401)
    wait(10 * 60 + 10)
    assert.equal((await get('/disbursements', good)).status, 401, 'expired')
  })

  it('refuses an ID token: it is not for an API', async () => {
    const visitor = test.visitor()
    await test.person('leo@city.example', 'standard')
    const answer = await signIn(visitor, await visitor.go(test.authUrl()), 'leo@city.example')
    const { id_token } = await test.exchange(answer)
    assert.equal((await get('/disbursements', id_token)).status, 401)
  })

  it('says which scope is missing', async () => {
    const visitor = test.visitor()
    await test.person('max@city.example', 'standard')
    const scoped = await token(visitor, { scope: 'openid' }, (page) => signIn(visitor, page, 'max@city.example'))
    const response = await get('/disbursements', scoped)
    assert.equal(response.status, 403)
    assert.equal(challengeOf(response), 'Bearer error="insufficient_scope", scope="payments"')
  })

  it('asks a password user for the second factor, once, and is satisfied (RFC 9470)', async () => {
    const visitor = test.visitor()
    await test.person('noa@city.example', 'standard')
    const weak = await token(visitor, {}, (page) => signIn(visitor, page, 'noa@city.example'))
    const call = { url: `${url}/beneficiaries`, method: 'GET' }
    const refused = await callApi(call, weak)
    assert.equal(refused.response.status, 401)
    assert.match(
      challengeOf(refused.response)!,
      /^Bearer error="insufficient_user_authentication", error_description="[^"]+", acr_values="urn:sallyport:acr:2fa-app", second_factor_max_age="900"$/,
    )
    assert.deepEqual(refused.stepUp, { acr_values: ACR_2FA_APP, second_factor_max_age: '900' })

    const strong = await token(visitor, refused.stepUp, async (page) => {
      const enrolled = await enrol(visitor, page)
      secret = enrolled.secret
      return acknowledge(visitor, enrolled.page)
    })
    const { response, stepUp } = await callApi(call, strong)
    assert.equal(response.status, 200)
    assert.equal(stepUp, undefined)

    // Later: the code is too old first, then the sign-in too. Both are asked for at once.
    wait(20 * 60)
    const silent = () => token(visitor, { prompt: 'none' }, async (answer) => answer)
    const later = await callApi(call, await silent())
    assert.deepEqual(later.stepUp, { second_factor_max_age: '900' })
    assert.equal((await callApi(call, await token(visitor, later.stepUp, code(visitor)))).response.status, 200)
    wait(45 * 60)
    const evening = await callApi(call, await silent())
    assert.deepEqual(evening.stepUp, { max_age: '3600', second_factor_max_age: '900' })
    const fresh = await token(visitor, evening.stepUp, async (page) =>
      code(visitor)(await signIn(visitor, page, 'noa@city.example')),
    )
    assert.equal((await callApi(call, fresh)).response.status, 200)

    // One code, one disbursement: the token that just proved everything is asked for a new code, each time.
    const pay = { url: `${url}/disbursements`, method: 'POST' }
    let last = fresh
    for (const made of [1, 2]) {
      const first = await callApi(pay, last)
      assert.deepEqual(first.stepUp, { acr_values: ACR_2FA_APP, second_factor_max_age: '0' })
      assert.ok((await callApi(pay, await silent())).stepUp, 'a new token with the old proof is not enough')
      last = await token(visitor, first.stepUp, code(visitor))
      assert.ok((await callApi(pay, last)).stepUp, 'the code is for the call that asked for it')
      const second = await callApi(first.again, last)
      assert.equal(second.response.status, 201)
      assert.deepEqual(await second.response.json(), { made })
    }

    // Two that wait for a code: one code carries out one of them.
    const account = { url: `${url}/bank-account`, method: 'POST', body: '000123456789' }
    const [one, two] = [await callApi(pay, last), await callApi(account, last)]
    assert.deepEqual(two.stepUp, { acr_values: `${ACR_2FA} ${ACR_2FA_APP}`, second_factor_max_age: '0' })
    const both = await token(visitor, one.stepUp!, code(visitor))
    assert.equal((await callApi({ ...one.again, url: account.url }, both)).response.status, 401, 'for the other call')
    for (const body of ['000123456780', '0', 'x'.repeat(201)]) {
      const swapped = await callApi({ ...two.again, body }, both)
      assert.notEqual(swapped.response.status, 200, 'the code is for this very account')
    }
    const changed = await callApi(two.again, both)
    assert.deepEqual(await changed.response.json(), { ends: '6789' })
    assert.equal((await callApi(one.again, both)).response.status, 401, 'the code is spent')
  })

  it('a provider that does not answer makes no token bad', async () => {
    await assert.rejects(createGuard({ issuer: 'http://127.0.0.1:9', audience: API }))
    const broken = createServer((request, response) => {
      const issuer = `http://${request.headers.host}`
      response.statusCode = request.url === '/jwks' ? 503 : 200
      response.end(JSON.stringify({ issuer, jwks_uri: `${issuer}/jwks` }))
    })
    await new Promise<void>((resolve) => broken.listen(0, '127.0.0.1', resolve))
    const issuer = `http://127.0.0.1:${(broken.address() as AddressInfo).port}`
    const guard = await createGuard({ issuer, audience: API })
    const jwt = [{ alg: 'ES256', typ: 'at+jwt' }, { iss: issuer }, {}]
    const token = jwt.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
    const ctx = { get: () => `Bearer ${token}`, set: () => undefined, state: {}, status: 0 }
    await assert.rejects(async () => guard({ scope: 'payments' })(ctx as never, async () => undefined))
    await new Promise((resolve) => broken.close(resolve))
  })
})
