/** Consent, through real HTTP to the token. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { revokeConsent } from '../../interactions/index.ts'
import { type ConsentQuestion, consentReasons } from '../../interactions/policy.ts'
import { now } from '../support/clock.ts'
import {
  API,
  CALLBACK,
  claimsIn,
  errorOf,
  openTestHouse,
  payloadsOf,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const hasCode = (answer: Answer) => /[?&]code=/.test(answer.location ?? '')
const ASKS = 'Let Partner Books use your account?'
const itemsOn = (page: Answer) => [...page.text.matchAll(/<li>([^<]+)<\/li>/g)].map(([, text]) => text)
const PARTNER = { client_id: 'partner', scope: 'openid email' }

describe('consent', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  /** A standard user, signed in with the password, and where that led. */
  const arrive = async (params: Record<string, string> = PARTNER) => {
    people += 1
    const email = `consent${people}@city.example`
    const id = await test.person(email, 'standard')
    const visitor = test.visitor()
    return { id, email, visitor, page: await signIn(visitor, await visitor.go(test.authUrl(params)), email) }
  }
  const again = (visitor: Visitor, params: Record<string, string> = {}) =>
    visitor.go(test.authUrl({ ...PARTNER, ...params }))
  const revoke = (id: string) => revokeConsent(test.database, id, 'partner', { actor: 'operator:test', now: now() })
  const rows = (accountId: string, event: string) => test.database.auditReader.auditRows({ accountId, event })

  it('asks before a third party gets anything: who it is, who I am, what it will see, for how long', async () => {
    const { page, email, visitor } = await arrive()
    assert.equal(headingOf(page), ASKS)
    for (const text of [email, 'https://books.example', 'https://books.example/privacy', 'https://books.example/terms'])
      assert.ok(page.text.includes(text), text)
    assert.match(page.text, /is not run by Sallyport/)
    assert.match(page.text, /This ends when you sign out/)
    assert.deepEqual(itemsOn(page), ['know that it is you', 'see your email address'])
    assert.equal(errorOf(await again(visitor.clone(), { prompt: 'none' })), 'consent_required')
    const answer = await visitor.submit(page)
    const tokens = await test.exchange(answer, 'partner')
    assert.equal(tokens.status, 200)
    assert.ok(claimsIn(tokens['id_token']).sub)
    assert.equal(tokens['refresh_token'], undefined)
  })

  it('is remembered, in another browser and after a sign-out too, and says so in the audit', async () => {
    const { page, email, id, visitor } = await arrive()
    await visitor.submit(page)
    assert.ok(hasCode(await again(visitor, { prompt: 'none' })))
    await visitor.submit(await visitor.go(`${test.url}/session/end`), { logout: 'yes' })
    const other = test.visitor()
    for (const browser of [visitor, other]) assert.ok(hasCode(await signIn(browser, await again(browser), email)))
    const given = await rows(id, 'consent.given')
    assert.equal(given.length, 1)
    assert.deepEqual(given[0]?.details?.['permissions'], ['openid', 'email'])
    assert.equal((await test.database.consents.list(id))[0]?.clientId, 'partner')
  })

  it('"Don’t allow" is access_denied to the app, and nothing is remembered', async () => {
    const { page, id, visitor } = await arrive()
    const answer = await visitor.submit(page, {}, '/cancel')
    assert.equal(errorOf(answer), 'access_denied')
    assert.ok(answer.location?.startsWith(CALLBACK))
    assert.deepEqual(await test.database.consents.list(id), [])
    assert.equal(headingOf(await again(visitor)), ASKS)
  })

  it('asks again for what is new, and only for that', async () => {
    const { page, id, visitor } = await arrive()
    await visitor.submit(page)
    const more = { scope: 'openid email profile payments', resource: API }
    assert.equal(errorOf(await again(visitor, { ...more, prompt: 'none' })), 'consent_required')
    const second = await again(visitor, more)
    assert.match(second.text, /now asks also to/)
    assert.deepEqual(itemsOn(second), [
      'see your name',
      'use Payments API: payments',
      'know that it is you',
      'see your email address',
    ])
    const tokens = await test.exchange(await visitor.submit(second), 'partner')
    assert.equal(claimsIn(tokens['access_token'])['scope'], 'payments')
    assert.deepEqual((await test.database.consents.find(id, 'partner'))?.permissions, [
      'email',
      `${API} payments`,
      'openid',
      'profile',
    ])
    assert.ok(hasCode(await again(visitor, { ...more, prompt: 'none' })))
    assert.ok(hasCode(await again(visitor, { scope: 'openid', prompt: 'none' })), 'less is fine')
  })

  it('prompt=consent is obeyed whatever was agreed to; with offline_access the page says for how long', async () => {
    const { page, visitor } = await arrive()
    await visitor.submit(page)
    const asked = await again(visitor, { prompt: 'consent', scope: 'openid email offline_access' })
    assert.match(asked.text, /keep this access while you are away/)
    assert.match(asked.text, /This goes on for 30 days, also after you sign out/)
    const tokens = await test.exchange(await visitor.submit(asked), 'partner')
    assert.ok(tokens['refresh_token'])
    await visitor.submit(await visitor.go(`${test.url}/session/end`), { logout: 'yes' })
    const refreshed = await test.token(
      { grant_type: 'refresh_token', refresh_token: tokens['refresh_token'] },
      'partner',
    )
    assert.equal(refreshed.status, 200, 'it outlives the session')

    const third = await arrive({ ...PARTNER, client_id: 'payments', prompt: 'consent' })
    assert.equal(headingOf(third.page), 'Continue to Payments?', 'of a first party too')
    assert.ok(hasCode(await third.visitor.submit(third.page)))
    assert.deepEqual(await test.database.consents.list(third.id), [])
  })

  it('taken back, it ends the app’s tokens in every browser and is asked for again', async () => {
    const offline = { prompt: 'consent', scope: 'openid offline_access' }
    const { page, id, email, visitor } = await arrive({ ...PARTNER, ...offline })
    const other = test.visitor()
    const first = await test.exchange(await visitor.submit(page), 'partner')
    const second = await test.exchange(
      await other.submit(await signIn(other, await again(other, offline), email)),
      'partner',
    )
    const code = await again(visitor, { scope: 'openid', prompt: 'none' })
    assert.equal(await revoke(id), true)
    for (const { refresh_token } of [first, second])
      assert.equal(
        (await test.token({ grant_type: 'refresh_token', refresh_token: refresh_token! }, 'partner')).error,
        'invalid_grant',
      )
    const userinfo = await fetch(`${test.url}/me`, { headers: { authorization: `Bearer ${first['access_token']}` } })
    assert.equal(userinfo.status, 401)
    assert.equal((await test.exchange(code, 'partner')).error, 'invalid_grant')
    assert.equal(errorOf(await again(visitor, { prompt: 'none', scope: 'openid' })), 'consent_required')
    assert.equal((await rows(id, 'consent.revoked')).length, 1)
    assert.equal(await revoke(id), false)
    assert.ok(hasCode(await visitor.go(test.authUrl({ prompt: 'none' }))), 'the person stays signed in to the rest')
  })

  it('a code that was issued while consent was taken back opens nothing', async () => {
    const { page, id, visitor } = await arrive()
    const answer = await visitor.submit(page)
    await test.database.consents.forget(id, 'partner') // the grant was written after it was looked for
    assert.equal((await test.exchange(answer, 'partner')).error, 'invalid_grant')
  })

  it('an app that stops being a first party has to ask', async () => {
    const { page, id, visitor } = await arrive({ client_id: 'poster', scope: 'openid email' })
    assert.ok(hasCode(page))
    const tokens = await test.exchange(page, 'poster')
    const client = (await test.database.directory.client('poster'))!
    const register = (first_party: boolean) =>
      test.database.directory.commit([{ kind: 'client', op: 'put', value: { ...client, sallyport: { first_party } } }])
    await register(false)
    try {
      const refreshed = await test.token(
        { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! },
        'poster',
      )
      assert.equal(refreshed.error, 'invalid_grant')
      const asked = await again(visitor, { client_id: 'poster', scope: 'openid' })
      assert.equal(headingOf(asked), 'Let Poster use your account?')
      const answer = await visitor.submit(asked)
      const scope = (await test.exchange(answer, 'poster'))['scope']
      assert.equal(scope, 'openid')
      const grants = (await payloadsOf(test, 'Grant', id)).map((payload) => {
        const { openid } = JSON.parse(payload) as { openid: { scope: string } }
        return openid.scope
      })
      assert.deepEqual(grants.sort(), ['openid', 'openid email'], 'the wider grant of before is not gone on with')
      assert.deepEqual((await test.database.consents.find(id, 'poster'))?.permissions, ['openid'])
    } finally {
      await register(true)
    }
  })

  it('a public client that anybody could listen for is asked each time, though it is a first party (RFC 8252 §8.6)', async () => {
    const phone = { client_id: 'phone', redirect_uri: 'com.example.phone:/callback' }
    const { page, visitor } = await arrive(phone)
    assert.equal(headingOf(page), 'Continue to Phone?')
    assert.ok(hasCode(await visitor.submit(page)))
    assert.equal(headingOf(await again(visitor, phone)), 'Continue to Phone?')
    assert.equal(errorOf(await again(visitor, { ...phone, prompt: 'none' })), 'consent_required')
  })

  it('somebody else in the same tab is asked too', async () => {
    const phone = { client_id: 'phone', redirect_uri: 'com.example.phone:/callback' }
    const first = await arrive(phone)
    const other = 'consent-other@city.example'
    await test.person(other, 'standard')
    const next = await first.visitor.submit(first.page, {}, '/different')
    const asked = await signIn(first.visitor, next, other)
    const switched = await first.visitor.submit(asked, {}, '/session/end/confirm')
    assert.equal(headingOf(switched), 'Continue to Phone?')
    assert.ok(switched.text.includes(other))
  })

  it('a yes counts for the person who gave it: not for who signs in next in the same chain', async () => {
    const phone = { client_id: 'phone', redirect_uri: 'com.example.phone:/callback' }
    const { page, visitor, id } = await arrive(phone)
    const other = 'consent-next@city.example'
    await test.person(other, 'standard')
    const { action, hidden } = formOf(page)
    const said = await visitor.request(action, { form: hidden })
    await test.database.directory.resetMfa(id, { now: now() }) // the epoch rises before the resume
    const asked = await visitor.go(said.location!)
    assert.equal(headingOf(asked), 'Sign in')
    const question = await visitor.submit(await signIn(visitor, asked, other), {}, '/session/end/confirm')
    assert.equal(headingOf(question), 'Continue to Phone?')
    assert.ok(question.text.includes(other))
  })

  it('cannot be skipped by going back to /auth, and a second answer changes nothing', async () => {
    const { page, visitor, id } = await arrive()
    assert.equal(headingOf(await again(visitor.clone())), ASKS)
    const twins = await Promise.all([visitor.clone().submit(page), visitor.clone().submit(page)])
    assert.ok(twins.some(hasCode))
    assert.equal((await rows(id, 'consent.given')).length >= 1, true)
    const later = await visitor.submit(page)
    assert.ok(later.status < 500)
  })

  it('third parties never get what was not agreed to; first parties are never asked for permissions (property)', () => {
    const name = fc.constantFrom('openid', 'email', 'profile', 'claim email', `${API} payments`)
    const question: fc.Arbitrary<ConsentQuestion> = fc.record({
      client: fc.record({ first_party: fc.option(fc.boolean(), { nil: undefined as never }) }),
      isPublic: fc.boolean(),
      redirectUri: fc.constantFrom(undefined, 'https://a.example/cb', 'http://127.0.0.1/cb', 'com.example:/cb'),
      prompted: fc.boolean(),
      asked: fc.uniqueArray(name),
      agreed: fc.uniqueArray(name),
      confirmed: fc.boolean(),
    })
    fc.assert(
      fc.property(question, (one) => {
        const reasons = consentReasons(one)
        const all = one.asked.every((permission) => one.agreed.includes(permission))
        assert.equal(reasons.includes('consent_missing'), one.client.first_party !== true && !all)
        if (one.prompted && !one.confirmed) assert.ok(reasons.includes('consent_prompt'))
        if (one.isPublic && one.redirectUri?.startsWith('com.') && !one.confirmed)
          assert.ok(reasons.includes('redirect_not_bound'))
        if (one.confirmed && all) assert.deepEqual(reasons, [])
      }),
    )
  })
})
