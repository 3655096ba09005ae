/** The hand-off to a company's identity provider and back: over HTTP, with an identity provider that has keys of its own. */
import assert from 'node:assert/strict'
import { explainFor } from '../../../server/explain.ts'
import type { Change } from '../../../server/stores.ts'
import { now, wait } from '../../support/clock.ts'
import {
  acknowledge,
  CHALLENGE,
  claimsIn,
  codeOf,
  enrol,
  errorOf,
  hasCode,
  openTestHouse,
  PASSWORD,
  signIn,
  type TestHouse,
} from '../../support/house.ts'
import {
  assertSigned,
  Connections,
  IdentityProvider,
  type Posted,
  postResponse,
  readRequest,
  type SignedIn,
} from '../../support/identity-provider.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../../support/visitor.ts'
import { attribute, FORMAT } from '../../vectors/saml/message.ts'

const HAND_OFF = 'Continue with your company sign-in'
const REFUSED = 'We could not confirm your sign-in'
const OTHER = 'You signed in with another account'
const PERSISTENT = (value: string) => ({ value, format: FORMAT.persistent })

describe('federation: the hand-off', () => {
  let test: TestHouse
  let acme: IdentityProvider
  let best: IdentityProvider
  const connections = new Connections()
  let people = 0
  const newEmail = (domain = 'acme.example') => `person${++people}@${domain}`

  before(async () => {
    acme = await IdentityProvider.start('acme')
    best = await IdentityProvider.start('best')
    test = await openTestHouse({}, { connections })
  })
  after(async () => {
    await test.close()
    await acme.close()
    await best.close()
  })
  beforeEach(() => {
    connections.all.clear()
    connections.put(acme.connection())
    connections.put(best.connection())
  })

  /** Types the address; what comes is the identity provider's address, or a page. */
  const typeEmail = async (visitor: Visitor, email: string, params: Record<string, string> = {}) =>
    visitor.submit(await visitor.go(test.authUrl(params)), { email })
  /** At the identity provider: signs in there, and has its form posted to us by a browser without our cookies. */
  const atProvider = async (location: string | undefined, person: SignedIn, provider = acme): Promise<Posted> => {
    assert.ok(location?.startsWith(`${provider.url}/sso?`), String(location))
    provider.person = person
    return provider.visit(location!)
  }
  /** The whole way, to the page or app that comes after. */
  const comeBack = async (visitor: Visitor, location: string | undefined, person: SignedIn, provider = acme) => {
    const answer = await postResponse(await atProvider(location, person, provider))
    assert.equal(answer.status, 303, headingOf(answer as Answer))
    return visitor.go(answer.location!)
  }
  const sso = async (
    email: string,
    {
      visitor = test.visitor(),
      params = {},
      person = {},
    }: { visitor?: Visitor; params?: Record<string, string>; person?: Partial<SignedIn> } = {},
  ) => {
    const sent = await typeEmail(visitor, email, params)
    return { visitor, page: await comeBack(visitor, sent.location, { email, ...person }) }
  }
  const rows = async (event: string) => test.database.auditReader.auditRows({ event, limit: 1 })
  const lastCode = async (event: string) => (await rows(event))[0]?.details?.['code']
  const referenceOn = (page: { text: string }) => /<code class="select-all"[^>]*>([^<]+)</.exec(page.text)?.[1]
  const assertRefused = (page: { text: string; status: number }) => {
    assert.equal(headingOf(page as Answer), REFUSED)
    assert.ok(page.status >= 400 && page.status < 500, String(page.status))
    assert.ok(referenceOn(page))
  }
  const put = (...changes: Change[]) => test.database.directory.commit(changes)
  const enforce = async (more: { sso?: 'challenge' } = {}) => {
    const company = (await test.database.directory.company('acme'))!
    await put({
      kind: 'company',
      op: 'put',
      value: { ...company, mfa: { enforced_from: '2020-01-01', zone: 'UTC', ...more } },
    })
  }
  const standardAt = async (email: string, more: { enforced?: boolean; disabled?: boolean } = {}) => {
    const id = await test.person(email, 'standard')
    const user = (await test.database.directory.user(id))!
    if (more.enforced) await enforce()
    const memberships = [{ company: 'acme', roles: [], disabled: more.disabled === true }]
    await put({
      kind: 'user',
      op: 'put',
      value: { id, email, disabled: false, memberships, serverRoles: user.serverRoles },
    })
    return id
  }
  const enforceNothing = async () => {
    const { mfa: _mfa, ...company } = (await test.database.directory.company('acme'))!
    await put({ kind: 'company', op: 'put', value: company })
  }

  describe('a payor', () => {
    it('signs in at the company, enrols here, and the token says otp and mfa without pwd (acceptance 44, 49)', async () => {
      const email = newEmail()
      const id = await test.person(email)
      const visitor = test.visitor()
      const sent = await typeEmail(visitor, email)
      assert.equal(sent.status, 303)
      assertSigned(sent.location!, (await connections.connection('acme-sso'))!)
      const before = Math.floor(Date.now() / 1000)
      const enrolment = await comeBack(visitor, sent.location, { email, proved: 100 })
      assert.match(enrolment.text, /class="notice"[^>]*>Your company sign-in now opens your account/)
      const { page, secret } = await enrol(visitor, enrolment)
      assert.doesNotMatch(page.text, /class="notice"/)
      const answer = await acknowledge(visitor, page)
      const claims = claimsIn((await test.exchange(answer)).id_token)
      assert.deepEqual([...claims.amr].sort(), ['mfa', 'otp'])
      assert.equal(claims.acr, 'urn:sallyport:acr:2fa-app')
      assert.equal(claims.sub, id)
      assert.ok(
        claims.auth_time <= before - 95 && claims.auth_time >= before - 110,
        'the time at the identity provider',
      )

      wait(30)
      const again = await sso(email)
      assert.equal(headingOf(again.page), CHALLENGE)
      assert.doesNotMatch(again.page.text, /class="notice"/)
      const second = await again.visitor.submit(again.page, { code: await codeOf(secret) })
      assert.deepEqual([...claimsIn((await test.exchange(second)).id_token).amr].sort(), ['mfa', 'otp'])
    })

    it('enrols anew after a reset without a mailed link: the company’s sign-in stands for it (R109)', async () => {
      const email = newEmail()
      const id = await test.person(email)
      await test.database.directory.resetMfa(id, { now: now() })
      const { visitor, page } = await sso(email)
      assert.equal(headingOf(page), 'Secure Your Account')
      const { page: recovery } = await enrol(visitor, page)
      assert.ok(hasCode(await acknowledge(visitor, recovery)))
      assert.equal((await test.database.accounts.find(id))?.factorReset?.open, undefined)
      assert.ok(
        !(await test.database.outbox.list({ accountId: id, limit: 9 })).some(({ kind }) => kind === 'enrolment_link'),
      )
    })

    it('needs the challenge in every sign-in, and none within the session', async () => {
      const email = newEmail()
      await test.person(email)
      const { visitor, page } = await sso(email)
      const { page: recovery } = await enrol(visitor, page)
      assert.ok(hasCode(await acknowledge(visitor, recovery)))
      assert.ok(hasCode(await visitor.go(test.authUrl())))
      const forced = await visitor.go(test.authUrl({ prompt: 'login' }))
      const sent = await visitor.submit(forced, { email })
      assert.equal(headingOf(await comeBack(visitor, sent.location, { email })), CHALLENGE)
    })

    it('cannot skip the second factor by going back to /auth', async () => {
      const email = newEmail()
      await test.person(email)
      const { visitor } = await sso(email)
      const back = await visitor.go(test.authUrl())
      assert.equal(headingOf(back), 'Sign in')
      assert.equal(errorOf(await visitor.go(test.authUrl({ prompt: 'none' }))), 'login_required')
    })

    it('gets a refresh token that stands by otp', async () => {
      const email = newEmail()
      await test.person(email)
      const { visitor, page } = await sso(email)
      const { page: recovery } = await enrol(visitor, page)
      const { refresh_token } = await test.exchange(await acknowledge(visitor, recovery))
      assert.equal((await test.token({ grant_type: 'refresh_token', refresh_token: refresh_token! })).status, 200)
    })
  })

  it('a device is connected by a sign-in at the company, with our second factor after it (RFC 8628)', async () => {
    const grant = 'urn:ietf:params:oauth:grant-type:device_code'
    const begin = async () => {
      const body = new URLSearchParams({ client_id: 'tv', scope: 'openid email' })
      const response = await fetch(`${test.url}/device/auth`, { method: 'POST', body })
      return (await response.json()) as { device_code: string; user_code: string }
    }
    const poll = (device_code: string) => test.token({ grant_type: grant, device_code }, 'tv')
    const signInAt = async (visitor: Visitor, user_code: string, email: string) => {
      const question = await visitor.submit(await visitor.go(`${test.url}/device`), { user_code })
      return visitor.submit(await visitor.submit(question, { confirm: 'yes' }), { email })
    }

    const email = newEmail()
    const id = await test.person(email)
    const visitor = test.visitor()
    const { device_code, user_code } = await begin()
    const sent = await signInAt(visitor, user_code, email)
    const enrolment = await comeBack(visitor, sent.location, { email })
    assert.equal(headingOf(enrolment), 'Secure Your Account')
    assert.equal((await poll(device_code))['error'], 'authorization_pending', 'the company alone is not enough')
    const { page } = await enrol(visitor, enrolment)
    assert.equal(headingOf(await acknowledge(visitor, page)), 'Your device is connected')
    wait(6)
    const claims = claimsIn((await poll(device_code)).id_token)
    assert.deepEqual([claims.sub, [...claims.amr].sort()], [id, ['mfa', 'otp']])

    // Somebody else of the company does not connect it, and neither does who only signed in there.
    const stranger = test.visitor()
    const next = await begin()
    const other = await signInAt(stranger, next.user_code, email)
    assert.equal(headingOf(await comeBack(stranger, other.location, { email: newEmail() })), OTHER)
    assert.equal((await poll(next.device_code))['error'], 'authorization_pending')
  })

  describe('a standard user', () => {
    afterEach(enforceNothing)

    it('meets the own company’s enforcement by its own sign-in, and the token says 1fa, also after a refresh (acceptance 50)', async () => {
      const email = newEmail()
      await standardAt(email, { enforced: true })
      const { page } = await sso(email)
      const tokens = await test.exchange(page)
      const claims = claimsIn(tokens.id_token)
      assert.deepEqual(claims.amr ?? [], [])
      assert.equal(claims.acr, 'urn:sallyport:acr:1fa')
      const refreshed = await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! })
      assert.equal(refreshed.status, 200, JSON.stringify(refreshed))
    })
    it('is challenged all the same where the company says so (mfa.sso: challenge), at the next sign-in (acceptance 50)', async () => {
      const email = newEmail()
      await standardAt(email, { enforced: true })
      const before = await sso(email)
      const { refresh_token } = await test.exchange(before.page)

      await enforce({ sso: 'challenge' })
      const refreshed = await test.token({ grant_type: 'refresh_token', refresh_token: refresh_token! })
      assert.equal(refreshed['error'], 'invalid_grant')
      assert.match(headingOf(await before.visitor.go(test.authUrl())), /Secure Your Account/)
      const { visitor, page } = await sso(email)
      assert.match(headingOf(page), /Secure Your Account/)
      const { page: recovery } = await enrol(visitor, page)
      const claims = claimsIn((await test.exchange(await acknowledge(visitor, recovery))).id_token)
      assert.deepEqual([...claims.amr].sort(), ['mfa', 'otp'])
    })
    it('is challenged where the app or the request asks for it, whoever vouches', async () => {
      const email = newEmail()
      await standardAt(email, { enforced: true })
      const strict = await sso(email, { params: { client_id: 'strict' } })
      assert.match(headingOf(strict.page), /Secure Your Account/)
      const asked = await sso(email, { params: { acr_values: 'urn:sallyport:acr:2fa' } })
      assert.match(headingOf(asked.page), /Secure Your Account/)
    })
    it('is challenged with a password where the company enforces', async () => {
      connections.put(acme.connection({ mode: 'allow_password' }))
      const email = newEmail()
      await standardAt(email, { enforced: true })
      const visitor = test.visitor()
      assert.match(headingOf(await signIn(visitor, await visitor.go(test.authUrl()), email)), /Secure Your Account/)
    })
    it('goes on in the session, whose first factor is the company’s', async () => {
      const email = newEmail()
      await standardAt(email, { enforced: true })
      const { visitor } = await sso(email)
      assert.ok(hasCode(await visitor.go(test.authUrl())))
      assert.ok(hasCode(await visitor.go(test.authUrl({ prompt: 'none' }))))
    })
  })

  describe('routing', () => {
    it('is by the domain: somebody unknown is sent like anybody (R22)', async () => {
      const known = newEmail()
      await test.person(known)
      const outcomes = []
      for (const email of [known, 'nobody.at.all@acme.example']) {
        const sent = await typeEmail(test.visitor(), email)
        const { origin, pathname, searchParams } = new URL(sent.location!)
        outcomes.push([sent.status, origin, pathname, [...searchParams.keys()]])
      }
      assert.deepEqual(outcomes[0], outcomes[1])
    })
    it('leaves other domains at the password (acceptance 55)', async () => {
      for (const email of [
        'x@acme.example.evil.example',
        'x@sub.acme.example',
        'x@xacme.example',
        newEmail('city.example'),
      ])
        assert.equal(headingOf(await typeEmail(test.visitor(), email)), 'Enter your password', email)
    })
    it('prefers the connection of this client', async () => {
      connections.put(
        best.connection({ id: 'acme-strict', company: 'acme', domains: ['acme.example'], client: 'strict' }),
      )
      const forStrict = await typeEmail(test.visitor(), newEmail(), { client_id: 'strict' })
      assert.ok(forStrict.location?.startsWith(best.url))
      assert.ok((await typeEmail(test.visitor(), newEmail())).location?.startsWith(acme.url))
    })
    it('needs an active connection', async () => {
      for (const state of ['draft', 'testing', 'disabled'] as const) {
        connections.put(acme.connection({ state }))
        assert.equal(headingOf(await typeEmail(test.visitor(), newEmail())), 'Enter your password', state)
      }
    })
    it('goes by login_hint without a page, also for a domain alone', async () => {
      for (const hint of [newEmail(), '@acme.example', ' @ACME.example ', 'ANA@ACME.EXAMPLE ']) {
        const sent = await test.visitor().go(test.authUrl({ login_hint: hint }))
        assert.ok(sent.location?.startsWith(acme.url), hint)
      }
      const other = await test.visitor().go(test.authUrl({ login_hint: '@unknown.example' }))
      assert.equal(headingOf(other), 'Sign in')
      assert.doesNotMatch(other.text, /@unknown/)
    })
    it('takes a hinted domain to whoever of it signs in there', async () => {
      const email = newEmail()
      await test.person(email)
      const visitor = test.visitor()
      const sent = await visitor.go(test.authUrl({ login_hint: '@acme.example' }))
      assert.match(headingOf(await comeBack(visitor, sent.location, { email })), /Secure Your Account/)
    })
    it('does not jump after "Not you?"', async () => {
      const email = newEmail()
      await test.person(email)
      const visitor = test.visitor()
      const sent = await visitor.go(test.authUrl({ login_hint: email }))
      const page = await comeBack(visitor, sent.location, { email })
      const different = await visitor.submit(page, {}, 'different')
      assert.equal(headingOf(different), 'Sign in')
    })
    it('does not evaluate a posted password in forward mode (acceptance 44)', async () => {
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      connections.all.clear()
      const password = await typeEmail(visitor, email)
      assert.equal(headingOf(password), 'Enter your password')
      connections.put(acme.connection())
      const posted = await visitor.submit(password, { password: PASSWORD })
      assert.ok(posted.location?.startsWith(acme.url), headingOf(posted))
      // By its address, too.
      const opened = await visitor.go(password.at)
      assert.equal(headingOf(opened), HAND_OFF)
    })
    it('does not count passwords of somebody who has none here', async () => {
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      connections.all.clear()
      const password = await typeEmail(visitor, email)
      connections.put(acme.connection())
      const { action, hidden } = formOf(password)
      for (let count = 0; count < 25; count++) {
        const posted = await visitor.request(action, { form: { ...hidden, password: 'wrong wrong wrong wrong' } })
        assert.equal(posted.status, 303)
      }
      connections.put(acme.connection({ mode: 'allow_password' }))
      const other = test.visitor()
      assert.ok(hasCode(await signIn(other, await other.go(test.authUrl()), email)))
    })
    it('offers both where the company allows passwords (acceptance 45)', async () => {
      connections.put(acme.connection({ mode: 'allow_password' }))
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      const password = await typeEmail(visitor, email)
      const link = /<a href="([^"]+)">Use your company sign-in</.exec(password.text)?.[1]
      assert.ok(link)
      const sent = await visitor.go(new URL(link, password.at).href)
      assert.ok(hasCode(await comeBack(visitor, sent.location, { email })))
      const other = test.visitor()
      const answer = await signIn(other, await other.go(test.authUrl()), email)
      assert.deepEqual(claimsIn((await test.exchange(answer)).id_token).amr, ['pwd'])
    })
    it('sends the request by POST where the identity provider wants it: one button, no script', async () => {
      const { idp } = acme.connection()
      connections.put(acme.connection({ idp: { ...idp, binding: 'post' } }))
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      const page = await typeEmail(visitor, email)
      assert.equal(headingOf(page), HAND_OFF)
      const { action, hidden } = formOf(page)
      assert.equal(action, `${acme.url}/sso`)
      assert.match(
        page.headers.get('content-security-policy')!,
        new RegExp(`form-action 'self' [^;]*${acme.url}(;| |$)`),
      )
      assert.doesNotMatch(page.text.slice(page.text.indexOf(action)).split('</form>')[0]!, /csrf/)
      const asked = readRequest(hidden['SAMLRequest']!, hidden['RelayState']!)
      assert.match(asked.xml, /<ds:SignatureValue>/)
      const posted = { url: asked.acsUrl, fields: acme.answer(asked, { email }) }
      const answer = await postResponse(posted)
      assert.ok(hasCode(await visitor.go(answer.location!)))
    })
    it('lets the first page lead to an identity provider, and no other page', async () => {
      const visitor = test.visitor()
      const page = await visitor.go(test.authUrl())
      assert.match(page.headers.get('content-security-policy')!, /form-action 'self' [^;]*https:/)
      const password = await visitor.submit(page, { email: newEmail('city.example') })
      assert.doesNotMatch(password.headers.get('content-security-policy')!, /form-action[^;]* https:(;| |$)/)
    })
    it('leaves running sessions alive when it is switched on (acceptance 53)', async () => {
      connections.all.clear()
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      assert.ok(hasCode(await signIn(visitor, await visitor.go(test.authUrl()), email)))
      connections.put(acme.connection())
      assert.ok(hasCode(await visitor.go(test.authUrl())))
      const next = await visitor.submit(await visitor.go(test.authUrl({ prompt: 'login' })), { email })
      assert.ok(next.location?.startsWith(acme.url))
    })
    it('without connections is as it was', async () => {
      const plain = await openTestHouse()
      try {
        const visitor = plain.visitor()
        const page = await visitor.go(plain.authUrl({ login_hint: '@acme.example' }))
        assert.equal(headingOf(page), 'Sign in')
        assert.doesNotMatch(page.headers.get('content-security-policy')!, / https:(;| |$)/)
        assert.equal((await fetch(`${plain.url}/saml/acme-sso/metadata`)).status, 404)
      } finally {
        await plain.close()
      }
    })
  })

  describe('a new sign-in', () => {
    it('is asked for by prompt=login and max_age (ForceAuthn), and by nothing else', async () => {
      for (const [params, forced] of [
        [{}, false],
        [{ prompt: 'login' }, true],
        [{ max_age: '60' }, true],
      ] as const) {
        const email = newEmail()
        const sent = await typeEmail(test.visitor(), email, params)
        await atProvider(sent.location, { email })
        assert.equal(acme.asked!.forceAuthn, forced)
      }
    })
    it('is refused when the identity provider does not ask anew: with its reason, and no loop', async () => {
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      const sent = await typeEmail(visitor, email, { prompt: 'login' })
      const answer = await postResponse(await atProvider(sent.location, { email, proved: 3600 }))
      assertRefused(answer)
      assert.equal(await lastCode('federation.response'), 'force_authn')
      // Try again leads to the hand-off page, not straight there.
      const again = /<a class="button" href="([^"]+)"/.exec(answer.text)![1]!
      assert.equal(headingOf(await visitor.go(new URL(again, answer.at).href)), HAND_OFF)
    })
    it('at an identity provider whose clock is half a minute slow comes to an end', async () => {
      for (const params of [{ prompt: 'login' }, { max_age: '10' }, { max_age: '0' }]) {
        const email = newEmail()
        await standardAt(email)
        const { page } = await sso(email, { params, person: { proved: 30 } })
        assert.ok(hasCode(page), `${JSON.stringify(params)}: ${page.location ?? headingOf(page)}`)
      }
    })
    it('counts from the identity provider’s time: never later than now', async () => {
      const email = newEmail()
      await standardAt(email)
      const { page } = await sso(email, { person: { proved: -50 } })
      const { auth_time: time } = claimsIn((await test.exchange(page)).id_token)
      assert.ok(time <= Math.floor(Date.now() / 1000))
    })
    it('ends when the identity provider says so, and is asked for again without a loop', async () => {
      const email = newEmail()
      await standardAt(email)
      const end = new Date(Date.now() + 600_000).toISOString()
      const { visitor, page } = await sso(email, { person: { sessionEnds: end } })
      assert.ok(hasCode(page))
      assert.ok(hasCode(await visitor.go(test.authUrl())))
      wait(601)
      assert.equal(errorOf(await visitor.go(test.authUrl({ prompt: 'none' }))), 'login_required')
      const gone = new Date(Date.now() - 30_000).toISOString()
      const again = await sso(email, { visitor, person: { sessionEnds: gone } })
      assert.ok(hasCode(again.page))
      assert.equal(errorOf(await visitor.go(test.authUrl({ prompt: 'none' }))), 'login_required')
    })
    it('of an old session at the identity provider does not end ours at once', async () => {
      const email = newEmail()
      await standardAt(email)
      const { visitor, page } = await sso(email, { person: { proved: 20 * 60 * 60 } })
      assert.ok(hasCode(page))
      assert.ok(hasCode(await visitor.go(test.authUrl())))
    })
  })

  describe('the way back', () => {
    it('answers reload, Back and a second tab with the question that is open', async () => {
      const email = newEmail()
      await test.person(email)
      const visitor = test.visitor()
      const sent = await typeEmail(visitor, email)
      const answer = await postResponse(await atProvider(sent.location, { email }))
      const page = await visitor.go(answer.location!)
      assert.match(headingOf(page), /Secure Your Account/)
      for (const tab of [visitor, visitor.clone()]) {
        const reloaded = await tab.go(answer.location!)
        assert.match(headingOf(reloaded), /Secure Your Account/, headingOf(reloaded))
      }
      const identifier = await visitor.go(answer.location!.replace(/\/sso-return.*/, ''))
      assert.match(headingOf(identifier), /Secure Your Account/)
    })
    it('shows the hand-off page to who comes back without an answer, with another address to choose', async () => {
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      const sent = await typeEmail(visitor, email)
      await atProvider(sent.location, { email })
      const uid = visitor.log.length && visitor.cookies.find(({ name }) => name === 'interaction')!.value
      const page = await visitor.go(`${test.url}/interaction/${uid}/sso`)
      assert.equal(headingOf(page), HAND_OFF)
      assert.match(page.text, /acme\.example/)
      const other = /<a href="([^"]+)">Use a different email address</.exec(page.text)![1]!
      const identifier = await visitor.go(new URL(other, page.at).href)
      assert.equal(headingOf(identifier), 'Sign in')
      const password = await visitor.submit(identifier, { email: newEmail('city.example') })
      assert.equal(headingOf(password), 'Enter your password')
      // And with the same one, straight on.
      const once = await visitor.submit(identifier, { email })
      assert.ok(hasCode(await comeBack(visitor, once.location, { email })))
    })
    it('asks before it signs in again whoever has just signed out', async () => {
      const email = newEmail()
      await standardAt(email)
      const { visitor } = await sso(email)
      const confirm = await visitor.go(`${test.url}/session/end`)
      await visitor.submit(confirm, { logout: 'yes' })
      for (const params of [{ login_hint: email }, { login_hint: '@acme.example' }])
        assert.equal(headingOf(await visitor.go(test.authUrl(params))), HAND_OFF)
      const page = await typeEmail(visitor, email)
      assert.equal(headingOf(page), HAND_OFF)
      assert.ok((await visitor.submit(page)).location?.startsWith(acme.url))
      wait(5 * 60 + 1)
      assert.ok((await visitor.go(test.authUrl({ login_hint: email }))).location?.startsWith(acme.url))
    })
    it('goes on by the button of the hand-off page', async () => {
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      await typeEmail(visitor, email)
      const uid = visitor.cookies.find(({ name }) => name === 'interaction')!.value
      const page = await visitor.go(`${test.url}/interaction/${uid}/sso`)
      assert.match(page.headers.get('content-security-policy')!, new RegExp(acme.url))
      const sent = await visitor.submit(page)
      assert.ok(hasCode(await comeBack(visitor, sent.location, { email })))
    })
    it('takes an answer for ten minutes, and then says what to do', async () => {
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      const sent = await typeEmail(visitor, email)
      wait(11 * 60)
      const answer = await postResponse(await atProvider(sent.location, { email }))
      assertRefused(answer)
      assert.equal(await lastCode('federation.response'), 'request')
    })
    it('keeps what was said for five minutes', async () => {
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      const sent = await typeEmail(visitor, email)
      const answer = await postResponse(await atProvider(sent.location, { email }))
      wait(6 * 60)
      const page = await visitor.go(answer.location!)
      assert.equal(page.status, 400)
      assert.equal(headingOf(page), HAND_OFF)
      assert.match(page.text, /took too long/)
    })
    it('does not send anybody round for ever', async () => {
      const visitor = test.visitor()
      await typeEmail(visitor, newEmail())
      const uid = visitor.cookies.find(({ name }) => name === 'interaction')!.value
      let page = await visitor.go(`${test.url}/interaction/${uid}/sso`)
      for (let count = 0; count < 40 && page.status !== 429; count++) {
        const sent = await visitor.submit(await visitor.go(`${test.url}/interaction/${uid}/sso`))
        if (sent.location === undefined) page = sent
      }
      assert.equal(page.status, 429)
      assert.equal(headingOf(page), HAND_OFF)
    })
  })

  describe('a response is used once, in the browser that asked', () => {
    it('refuses the same response a second time, and one of two at once', async () => {
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      const posted = await atProvider((await typeEmail(visitor, email)).location, { email })
      const answers = await Promise.all([postResponse(posted), postResponse(posted)])
      assert.deepEqual(answers.map(({ status }) => status).sort(), [303, 400])
      const good = answers.find(({ status }) => status === 303)!
      assert.ok(hasCode(await visitor.go(good.location!)))
      assertRefused(await postResponse(posted))
      assert.equal(await lastCode('federation.response'), 'request_answered')
    })
    it('signs one of two returns in', async () => {
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      const posted = await atProvider((await typeEmail(visitor, email)).location, { email })
      const { location } = await postResponse(posted)
      const pages = await Promise.all([visitor.go(location!), visitor.clone().go(location!)])
      assert.ok(pages.some(hasCode))
      for (const page of pages) assert.ok(page.status < 500)
    })
    it('sets no cookie and needs none', async () => {
      const email = newEmail()
      await standardAt(email)
      const answer = await postResponse(await atProvider((await typeEmail(test.visitor(), email)).location, { email }))
      assert.deepEqual(answer.headers.getSetCookie(), [])
      assert.equal(answer.headers.get('cache-control'), 'no-store')
    })
    it('does not sign another browser in: login CSRF (R78)', async () => {
      const email = newEmail()
      await standardAt(email)
      const attacker = test.visitor()
      const { location } = await postResponse(await atProvider((await typeEmail(attacker, email)).location, { email }))
      const victim = test.visitor()
      await victim.go(test.authUrl())
      const page = await victim.go(location!)
      assert.equal(page.status, 400)
      assert.equal(headingOf(page), 'Go on where you began')
      assert.match(page.text, /class="button" href="https:\/\/rp\.example/)
      assert.equal(errorOf(await victim.go(test.authUrl({ prompt: 'none' }))), 'login_required')
      // Nothing is used up by it.
      assert.ok(hasCode(await attacker.go(location!)))
    })
    it('does not take a handle of another interaction', async () => {
      const email = newEmail()
      await standardAt(email)
      const attacker = test.visitor()
      const { location } = await postResponse(await atProvider((await typeEmail(attacker, email)).location, { email }))
      const victim = test.visitor()
      const own = await victim.go(test.authUrl())
      const page = await victim.go(`${own.at}/sso-return${new URL(location!).search}`)
      assert.equal(page.status, 400)
      assert.equal(errorOf(await victim.go(test.authUrl({ prompt: 'none' }))), 'login_required')
      for (const query of ['', '?handle=', '?handle=a&handle=b', `?handle=${'x'.repeat(500)}`])
        assert.equal((await victim.go(`${own.at}/sso-return${query}`)).status, 400, query)
    })
    it('gives a new session id to who signs in: no fixation', async () => {
      const email = newEmail()
      await standardAt(email)
      const { visitor } = await sso(email)
      const before = visitor.cookie('session')
      const { page } = await sso(email, { visitor, params: { prompt: 'login' } })
      assert.ok(hasCode(page))
      assert.notEqual(visitor.cookie('session'), before)
    })
  })

  describe('companies', () => {
    it('refuses a response for one connection at the address of another', async () => {
      const email = newEmail()
      await standardAt(email)
      const posted = await atProvider((await typeEmail(test.visitor(), email)).location, { email })
      assertRefused(await postResponse({ ...posted, url: posted.url.replace('acme-sso', 'best-sso') }))
      assertRefused(await postResponse({ ...posted, url: posted.url.replace('acme-sso', 'gone-sso') }))
    })
    it('refuses addresses outside the connection’s domains (acceptance 47)', async () => {
      const victim = newEmail()
      await test.person(victim)
      for (const email of [victim, 'x@best.example.evil', victim.replace('acme', 'ACME')]) {
        const sent = await typeEmail(test.visitor(), newEmail('best.example'))
        const answer = await postResponse(await atProvider(sent.location, { email }, best))
        assertRefused(answer)
      }
    })
    it('does not give away a name: the same NameID at another company is another person', async () => {
      const victim = newEmail()
      await standardAt(victim)
      await sso(victim, { person: { name: PERSISTENT('u-1') } })
      const mallory = newEmail('best.example')
      const id = await test.person(mallory, 'payee')
      const visitor = test.visitor()
      const sent = await typeEmail(visitor, mallory)
      const page = await comeBack(visitor, sent.location, { email: mallory, name: PERSISTENT('u-1') }, best)
      const { page: recovery } = await enrol(visitor, page)
      assert.equal(claimsIn((await test.exchange(await acknowledge(visitor, recovery))).id_token).sub, id)
    })
    it('takes no RelayState for an address (open redirect)', async () => {
      const email = newEmail()
      const posted = await atProvider((await typeEmail(test.visitor(), email)).location, { email })
      for (const relayState of ['https://evil.example/', '//evil.example', '/account', '', 'x'.repeat(5000)]) {
        const answer = await postResponse({ ...posted, fields: { ...posted.fields, RelayState: relayState } })
        assertRefused(answer)
        assert.doesNotMatch(answer.text, /evil\.example/)
      }
    })
    it('refuses what was signed by a key that was replaced (acceptance 54)', async () => {
      const email = newEmail()
      const posted = await atProvider((await typeEmail(test.visitor(), email)).location, { email })
      const connection = acme.connection()
      connections.put({ ...connection, idp: { ...connection.idp, certificates: best.connection().idp.certificates } })
      assertRefused(await postResponse(posted))
      assert.equal(await lastCode('federation.response'), 'signature')
    })
  })

  describe('accounts', () => {
    it('has one page for unknown people, disabled ones and a wrong domain (acceptance 46)', async () => {
      const disabled = newEmail()
      await test.database.directory.setDisabled(await standardAt(disabled), true)
      const suspended = newEmail()
      await standardAt(suspended, { disabled: true })
      const plain = (text: string) => text.replace(/<code[^>]*>[^<]*<|nonce="[^"]*"|\/interaction\/[\w-]+/g, '')
      const texts = new Set<string>()
      const codes = []
      for (const email of [newEmail(), disabled, suspended]) {
        const { page } = await sso(email)
        assertRefused(page)
        codes.push(await lastCode('login.sso'))
        texts.add(plain(page.text))
      }
      const sent = await typeEmail(test.visitor(), newEmail())
      const elsewhere = await postResponse(await atProvider(sent.location, { email: newEmail('else.example') }))
      assertRefused(elsewhere)
      texts.add(plain(elsewhere.text))
      assert.deepEqual(codes, ['no_account', 'account_disabled', 'membership_disabled'])
      assert.equal(texts.size, 1)
      assert.equal((await test.database.directory.user(disabled))!.disabled, true)
    })
    it('has the reference of the page in the audit, and nothing of the message', async () => {
      const { page } = await sso(newEmail())
      const [row] = await rows('login.sso')
      assert.equal(row!.requestId, referenceOn(page))
      const posted = await atProvider((await typeEmail(test.visitor(), newEmail())).location, {
        email: 'x@else.example',
      })
      const answer = await postResponse(posted)
      const [response] = await rows('federation.response')
      assert.equal(response!.requestId, referenceOn(answer))
      assert.equal(response!.details!['code'], 'email_domain')
      assert.doesNotMatch(JSON.stringify(response), /samlp|<|x@else/)
      assert.ok(!test.logs.some((line) => /samlp|SAMLResponse|x@else/.test(line)))
    })
    it('is disabled in the middle: the person, then the connection', async () => {
      const email = newEmail()
      const id = await standardAt(email)
      const visitor = test.visitor()
      const { location } = await postResponse(await atProvider((await typeEmail(visitor, email)).location, { email }))
      await test.database.directory.setDisabled(id, true)
      assertRefused(await visitor.go(location!))
      await test.database.directory.setDisabled(id, false)

      const second = test.visitor()
      const back = await postResponse(await atProvider((await typeEmail(second, email)).location, { email }))
      connections.put({ ...(await connections.connection('acme-sso'))!, state: 'disabled' })
      assertRefused(await second.go(back.location!))
      assert.equal(await lastCode('login.sso'), 'connection_state')
    })
    it('ends at once what is under way when the connection is disabled', async () => {
      const email = newEmail()
      const posted = await atProvider((await typeEmail(test.visitor(), email)).location, { email })
      connections.put({ ...(await connections.connection('acme-sso'))!, state: 'disabled' })
      assertRefused(await postResponse(posted))
      assert.equal(await lastCode('federation.response'), 'connection_state')
    })
    it('asks whom this is for when somebody else comes back, and lets the person choose', async () => {
      const ana = newEmail()
      const bo = newEmail()
      await standardAt(ana)
      const boId = await standardAt(bo)
      const visitor = test.visitor()
      const sent = await typeEmail(visitor, ana)
      const page = await comeBack(visitor, sent.location, { email: bo })
      assert.equal(headingOf(page), OTHER)
      assert.ok(page.text.includes(ana) && page.text.includes(bo))
      assert.equal(errorOf(await visitor.clone().go(test.authUrl({ prompt: 'none' }))), 'login_required')

      const again = await visitor.submit(page, { account: 'expected' })
      await atProvider(again.location, { email: bo })
      assert.equal(acme.asked!.forceAuthn, true)

      const other = await comeBack(visitor, again.location, { email: bo })
      assert.equal(headingOf(other), OTHER)
      const asBo = await visitor.submit(other, { account: 'came' })
      const answer = await comeBack(visitor, asBo.location, { email: bo })
      assert.equal(claimsIn((await test.exchange(answer)).id_token).sub, boId)
    })
    it('links a name once, tells of it once, and knows the person by it though the address changes', async () => {
      const email = newEmail()
      const id = await standardAt(email)
      const name = PERSISTENT('lasting-1')
      await sso(email, { person: { name } })
      const [row] = await rows('federation.linked')
      assert.equal(row!.accountId, id)
      const letters = async () =>
        (await test.database.outbox.list({ accountId: id, limit: 9 })).filter(({ kind }) => kind === 'company_linked')
      assert.equal((await letters()).length, 1)
      const visitor = test.visitor()
      const hinted = await visitor.go(test.authUrl({ login_hint: '@acme.example' }))
      const answer = await comeBack(visitor, hinted.location, { email: newEmail(), name })
      assert.equal(claimsIn((await test.exchange(answer)).id_token).sub, id)
      assert.equal((await rows('federation.linked'))[0]!.id, row!.id)
      assert.equal((await letters()).length, 1)
    })
    it('does not let a changed address take somebody’s account over', async () => {
      const email = newEmail()
      await standardAt(email)
      await sso(email, { person: { name: PERSISTENT('owner') } })
      const { page } = await sso(email, { person: { name: PERSISTENT('heir') } })
      assertRefused(page)
      assert.equal(await lastCode('login.sso'), 'link_taken')
      assert.equal(await test.database.links.unlinkAll((await test.database.directory.user(email))!.id), 1)
      assert.ok(hasCode((await sso(email, { person: { name: PERSISTENT('heir') } })).page))
    })
    it('does not take a name that is an address for more than the address', async () => {
      const email = newEmail()
      const id = await standardAt(email)
      await sso(email)
      const user = (await test.database.directory.user(id))!
      const memberships = [{ company: 'acme', roles: [], disabled: false }]
      const moved = { id, email: newEmail(), disabled: false, memberships, serverRoles: user.serverRoles }
      await put({ kind: 'user', op: 'put', value: moved })
      await standardAt(email)
      const { page } = await sso(email)
      assertRefused(page)
      assert.equal(await lastCode('login.sso'), 'link_taken')
    })
    it('does not speak for somebody who has gone to another company', async () => {
      const email = newEmail()
      const id = await standardAt(email)
      const name = PERSISTENT('gone')
      await sso(email, { person: { name } })
      const moved = { id, email: newEmail('best.example'), disabled: false, memberships: [], serverRoles: [] }
      await put({ kind: 'user', op: 'put', value: moved })
      assertRefused((await sso(email, { person: { name } })).page)
      assert.equal(await lastCode('login.sso'), 'email_domain')
    })
    it('never links a transient name', async () => {
      const email = newEmail()
      const id = await standardAt(email)
      for (const value of ['t-1', 't-2'])
        assert.ok(hasCode((await sso(email, { person: { name: { value, format: FORMAT.transient } } })).page))
      assert.equal(await test.database.links.unlinkAll(id), 0)
    })
    it('opens an account that has a name here by that name alone, not by what goes without one', async () => {
      const email = newEmail()
      const id = await standardAt(email)
      await sso(email, { person: { name: PERSISTENT('owner-2') } })
      const heirs = [
        { value: 'passing', format: FORMAT.transient },
        { value: email, format: FORMAT.email },
        { value: email, format: FORMAT.unspecified },
      ]
      for (const name of heirs) {
        assertRefused((await sso(email, { person: { name } })).page)
        assert.equal(await lastCode('login.sso'), 'link_taken')
      }
      assert.equal(await test.database.links.unlinkAll(id), 1)
      assert.ok(hasCode((await sso(email, { person: { name: heirs[0]! } })).page))
    })
    it('takes no letters along that ask for what is done: reminders of an invitation', async () => {
      const kinds = async (accountId: string) =>
        (await test.database.outbox.list({ accountId, limit: 9 })).map(({ kind }) => kind)
      for (const format of [FORMAT.persistent, FORMAT.transient]) {
        const email = newEmail()
        const id = await standardAt(email)
        const letter = { channel: 'mail' as const, accountId: id, body: '{}', createdAt: now() }
        const dueAt = now() + 86_400
        const reminder = { ...letter, id: `reminder-${id}`, kind: 'invitation_reminder', dueAt, expiresAt: dueAt + 60 }
        await test.database.outbox.put([reminder])
        await sso(email, { person: { name: { value: `name-${id}`, format } } })
        const left = await kinds(id)
        assert.equal(left.includes('invitation_reminder'), false)
        assert.equal(left.includes('company_linked'), format === FORMAT.persistent)
      }
    })
    it('makes an account where the connection says so: a member without roles', async () => {
      connections.put(acme.connection({ jit: true }))
      const email = newEmail()
      const { page } = await sso(email, { person: { displayName: 'New Comer' } })
      const { sub } = claimsIn((await test.exchange(page)).id_token)
      const user = (await test.database.directory.user(email))!
      assert.equal(user.id, sub)
      assert.deepEqual(user.memberships, [{ company: 'acme', roles: [], disabled: false }])
      assert.deepEqual([user.name, user.serverRoles, user.hasPassword], ['New Comer', [], false])
      assert.equal((await rows('federation.account_created'))[0]!.accountId, sub)
    })
    it('takes up an invitation that is open: nobody is made, and the roles are those of the invitation', async () => {
      connections.put(acme.connection({ jit: true }))
      const email = newEmail()
      const id = `invited-${people}`
      const memberships = [{ company: 'acme', roles: ['disburser' as const], disabled: false }]
      const welcome = { hash: `hash-${people}`, email, epoch: 0, expiresAt: now() + 86_400 }
      const value = { id, email, disabled: false, memberships, serverRoles: [] }
      await put({ kind: 'user', op: 'put', value, welcome })
      const { visitor, page } = await sso(email)
      assert.match(headingOf(page), /Secure Your Account/)
      const { page: recovery } = await enrol(visitor, page)
      assert.equal(claimsIn((await test.exchange(await acknowledge(visitor, recovery))).id_token).sub, id)
      assert.deepEqual((await test.database.directory.user(email))!.memberships, memberships)
    })
    it('makes one account of two first sign-ins at once', async () => {
      connections.put(acme.connection({ jit: true }))
      const email = newEmail()
      const pages = await Promise.all([sso(email), sso(email)])
      const subs = await Promise.all(pages.map(async ({ page }) => claimsIn((await test.exchange(page)).id_token).sub))
      assert.equal(subs[0], subs[1])
    })
    it('never makes or enables a disabled person again', async () => {
      connections.put(acme.connection({ jit: true }))
      const email = newEmail()
      await test.database.directory.setDisabled(await standardAt(email), true)
      assertRefused((await sso(email)).page)
      assert.equal((await test.database.directory.user(email))!.disabled, true)
    })
    it('makes nobody in a company that is disabled', async () => {
      connections.put(acme.connection({ jit: true }))
      const company = (await test.database.directory.company('acme'))!
      await put({ kind: 'company', op: 'put', value: { ...company, disabled: true } })
      try {
        assertRefused((await sso(newEmail())).page)
      } finally {
        await put({ kind: 'company', op: 'put', value: { ...company, disabled: false } })
      }
    })
  })

  describe('a second factor of the identity provider', () => {
    const REFEDS = 'https://refeds.org/profile/mfa'
    const asked = { acr_values: 'urn:sallyport:acr:2fa' }

    it('counts where the connection trusts it and we asked for it: mfa without otp', async () => {
      connections.put(acme.connection({ trustedContexts: [REFEDS] }))
      const email = newEmail()
      await standardAt(email)
      const { page } = await sso(email, { params: asked, person: { context: REFEDS } })
      assert.deepEqual(acme.asked!.contexts, [REFEDS])
      const claims = claimsIn((await test.exchange(page)).id_token)
      assert.deepEqual([claims.amr, claims.acr], [['mfa'], 'urn:sallyport:acr:2fa'])
    })
    it('is not asked for, and does not count, where no second factor is needed', async () => {
      connections.put(acme.connection({ trustedContexts: [REFEDS] }))
      const email = newEmail()
      await standardAt(email)
      const { page } = await sso(email, { person: { context: REFEDS } })
      assert.deepEqual(acme.asked!.contexts, [])
      assert.equal(claimsIn((await test.exchange(page)).id_token).acr, 'urn:sallyport:acr:1fa')
    })
    for (const [what, person, trustedContexts] of [
      ['that is not trusted', { context: REFEDS }, []],
      ['that is another one', { context: 'urn:oasis:names:tc:SAML:2.0:ac:classes:X509' }, [REFEDS]],
      ['that was long ago', { context: REFEDS, proved: 400 }, [REFEDS]],
    ] as const)
      it(`does not count one ${what}`, async () => {
        connections.put(acme.connection({ trustedContexts: [...trustedContexts] }))
        const email = newEmail()
        await standardAt(email)
        assert.match(headingOf((await sso(email, { params: asked, person })).page), /Secure Your Account/)
      })
    it('does not count a context that comes as an attribute: only Entra’s own value is read there', async () => {
      const METHODS = 'http://schemas.microsoft.com/claims/authnmethodsreferences'
      const MULTIPLE = 'http://schemas.microsoft.com/claims/multipleauthn'
      for (const [said, trusted, counts] of [
        [REFEDS, REFEDS, false],
        [MULTIPLE, REFEDS, false],
        [MULTIPLE, MULTIPLE, true],
      ] as const) {
        connections.put(acme.connection({ trustedContexts: [trusted] }))
        const email = newEmail()
        await standardAt(email)
        const { page } = await sso(email, { params: asked, person: { attributes: attribute(METHODS, said) } })
        assert.equal(hasCode(page), counts, `${said} where ${trusted} is trusted`)
      }
    })
    it('does not count one that is trusted no longer', async () => {
      connections.put(acme.connection({ trustedContexts: [REFEDS] }))
      const email = newEmail()
      await standardAt(email)
      const visitor = test.visitor()
      const sent = await typeEmail(visitor, email, asked)
      connections.put(acme.connection())
      const page = await comeBack(visitor, sent.location, { email, context: REFEDS })
      assert.match(headingOf(page), /Secure Your Account/)
    })
    it('never satisfies a payor, nor who asks for the app', async () => {
      connections.put(acme.connection({ trustedContexts: [REFEDS] }))
      const payor = newEmail()
      await test.person(payor)
      assert.match(headingOf((await sso(payor, { params: asked, person: { context: REFEDS } })).page), /Secure Your/)
      const email = newEmail()
      await standardAt(email)
      const app = { acr_values: 'urn:sallyport:acr:2fa-app' }
      assert.match(headingOf((await sso(email, { params: app, person: { context: REFEDS } })).page), /Secure Your/)
    })
  })

  describe('the addresses of a connection', () => {
    it('describes us with all keys', async () => {
      const connection = acme.connection()
      connections.put({ ...connection, keys: [...connection.keys, ...best.connection().keys] })
      const response = await fetch(`${test.url}/saml/acme-sso/metadata`)
      const text = await response.text()
      assert.match(response.headers.get('content-type')!, /samlmetadata\+xml/)
      assert.equal(text.match(/use="signing"/g)?.length, 2)
      assert.ok(text.includes(`entityID="${test.url}/saml/acme-sso/metadata"`))
      assert.ok(text.includes(`Location="${test.url}/saml/acme-sso/acs"`))
      assert.equal((await fetch(`${test.url}/saml/none/metadata`)).status, 404)
    })
    it('takes nothing but a form of at most 512 KB', async () => {
      const url = `${test.url}/saml/acme-sso/acs`
      assert.equal((await fetch(url)).status, 405)
      assert.equal(
        (await fetch(url, { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } })).status,
        415,
      )
      assert.equal((await postResponse({ url, fields: { SAMLResponse: 'A'.repeat(600 * 1024) } })).status, 413)
      for (const fields of [{}, { SAMLResponse: '' }, { SAMLResponse: '****' }, { SAMLResponse: 'PGE+' }])
        assertRefused(await postResponse({ url, fields: fields as Record<string, string> }))
    })
  })

  it('is explained as it is asked: a payor, and a member of a company that demands a second factor', async () => {
    const explained = async (email: string, clientId: string) => {
      const user = (await test.database.directory.user(email))!
      const account = (await test.database.accounts.find(user.id))!
      const client = (await test.database.directory.client(clientId))!
      const { consents } = test.database
      const { asked, claims } = await explainFor(
        { consents, connections },
        { user, account, client },
        {},
        undefined,
        now(),
      )
      return { rooms: asked.map(({ room }) => room), claims }
    }
    const payor = newEmail()
    await test.person(payor)
    assert.deepEqual(await explained(payor, 'payments'), {
      rooms: ['federation', 'enrollment', 'recovery'],
      claims: { amr: ['otp', 'mfa'], acr: 'urn:sallyport:acr:2fa-app' },
    })
    assert.equal(headingOf((await sso(payor)).page), 'Secure Your Account')

    const member = newEmail()
    await standardAt(member, { enforced: true })
    try {
      const { rooms, claims } = await explained(member, 'payments')
      assert.deepEqual([rooms, claims?.acr], [['federation'], 'urn:sallyport:acr:1fa'])
      assert.ok(hasCode((await sso(member)).page))
      assert.deepEqual((await explained(member, 'strict')).rooms, ['federation', 'enrollment', 'recovery'])
    } finally {
      await enforceNothing()
    }
  })

  describe('who begins at the identity provider', () => {
    const unsolicited = (email: string) => {
      const base = `${test.url}/saml/acme-sso`
      const asked = {
        id: 'none',
        relayState: '',
        acsUrl: `${base}/acs`,
        spEntityId: `${base}/metadata`,
        forceAuthn: false,
        contexts: [],
        xml: '',
      }
      const at = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString()
      const response = { InResponseTo: undefined, ID: `_r${people}${Math.random()}`, IssueInstant: at(0) }
      const { RelayState: _none, ...fields } = acme.answer(asked, { email, message: { response } })
      return { url: asked.acsUrl, fields }
    }
    it('gets no session, but a sign-in at the app that goes by itself (acceptance 45)', async () => {
      const start = 'https://rp.example/start?kept=1'
      const client = (await test.database.directory.client('payments'))!
      await put({ kind: 'client', op: 'put', value: { ...client, initiate_login_uri: start } })
      connections.put(acme.connection({ client: 'payments' }))
      const email = newEmail()
      await standardAt(email)
      const answer = await postResponse({
        ...unsolicited(email),
        fields: { ...unsolicited(email).fields, RelayState: 'https://evil.example' },
      })
      assert.equal(answer.status, 303, headingOf(answer as Answer))
      const url = new URL(answer.location!)
      assert.equal(url.origin + url.pathname, 'https://rp.example/start')
      assert.deepEqual(Object.fromEntries(url.searchParams), { kept: '1', iss: test.url, login_hint: '@acme.example' })
      assert.deepEqual(answer.headers.getSetCookie(), [])

      const visitor = test.visitor()
      const sent = await visitor.go(test.authUrl({ login_hint: url.searchParams.get('login_hint')! }))
      assert.ok(hasCode(await comeBack(visitor, sent.location, { email })))
    })
    it('is refused where no app takes them, and when the response is not a good one', async () => {
      assertRefused(await postResponse(unsolicited(newEmail())))
      assert.equal(await lastCode('federation.response'), 'unsolicited')
      const client = (await test.database.directory.client('payments'))!
      const start = 'https://rp.example/start'
      await put({ kind: 'client', op: 'put', value: { ...client, initiate_login_uri: start } })
      connections.put(acme.connection({ client: 'payments' }))
      assert.equal((await postResponse(unsolicited(newEmail()))).status, 303)
      assertRefused(await postResponse(unsolicited('x@else.example')))
      const { key } = acme
      acme.key = best.key
      try {
        assertRefused(await postResponse(unsolicited(newEmail())))
      } finally {
        acme.key = key
      }
    })
  })
})
