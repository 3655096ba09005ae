/** What ends with a password change, a reset, a disabling; and what goes on. Prompts are neither skipped nor answered twice. */
import assert from 'node:assert/strict'
import { createPasswordHasher } from '../../interactions/index.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import {
  acknowledge,
  CHALLENGE,
  claimsIn,
  codeOf,
  enrol,
  errorOf,
  firstSignIn,
  hasCode,
  openTestHouse,
  PASSWORD,
  recoveryCodeOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const NEW_PASSWORD = 'another correct horse battery'
const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 100 })

describe('epoch and prompts', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  const somebody = async (role: 'payor' | 'payee' | 'standard' = 'payor') => {
    people += 1
    const email = `epoch${people}@${role}.example`
    await test.person(email, role)
    return email
  }
  const payor = async (params: Record<string, string> = {}) => {
    const email = await somebody()
    const signedIn = await firstSignIn(test, email, params)
    nextStep()
    return { email, ...signedIn }
  }
  const put = async (email: string, { password, disabled = false }: { password?: string; disabled?: boolean }) => {
    const { id, name, memberships, serverRoles } = (await test.database.directory.user(email))!
    const passwordHash = password === undefined ? undefined : await hasher.hash(password)
    const value = { id, email, name, memberships, serverRoles, disabled }
    await test.database.directory.commit([{ kind: 'user', op: 'put', value, passwordHash }])
  }
  const reset = async (email: string) =>
    test.database.directory.resetMfa((await test.database.directory.user(email))!.id, { now: now() })
  const silently = (visitor: Visitor, params: Record<string, string> = {}) =>
    visitor.clone().go(test.authUrl({ prompt: 'none', ...params }))
  const userinfo = async (token: string | undefined) =>
    (await fetch(`${test.url}/me`, { headers: { authorization: `Bearer ${token}` } })).status

  const raises: [string, (email: string) => Promise<unknown>][] = [
    ['a new password', (email) => put(email, { password: NEW_PASSWORD })],
    ['a reset of the factors', reset],
    ['disabling', (email) => put(email, { disabled: true })],
    [
      'disabling, though enabled again,',
      async (email) => {
        await put(email, { disabled: true })
        await put(email, {})
      },
    ],
  ]
  for (const [what, raise] of raises) {
    it(`${what} ends a live session, its refresh tokens and its access tokens`, async () => {
      const { email, visitor, answer } = await payor({ client_id: 'strict' })
      const tokens = await test.exchange(answer, 'strict')
      const unused = await visitor.go(test.authUrl({ client_id: 'strict' }))
      assert.ok(hasCode(unused))
      assert.equal(await userinfo(tokens['access_token']), 200)
      await raise(email)
      assert.equal(errorOf(await silently(visitor, { client_id: 'strict' })), 'login_required')
      assert.equal(headingOf(await visitor.go(test.authUrl({ client_id: 'strict' }))), 'Sign in')
      assert.equal(await userinfo(tokens['access_token']), 401)
      const form = { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! }
      assert.equal((await test.token(form, 'strict')).error, 'invalid_grant')
      assert.equal((await test.exchange(unused, 'strict')).error, 'invalid_grant', 'a code that was issued before')
    })

    it(`${what} in the middle of a sign-in: it begins again, and the code that was typed is not used up`, async () => {
      const { email, secret } = await payor()
      const visitor = test.visitor()
      const challenge = await signIn(visitor, await visitor.go(test.authUrl()), email)
      assert.equal(headingOf(challenge), CHALLENGE)
      await raise(email)
      const next = await visitor.submit(challenge, { code: await codeOf(secret) })
      assert.equal(headingOf(next), 'Sign in')
      const { account } = (await test.database.accounts.findByEmail(email))!
      if (account.enrolled.otp === undefined) return
      assert.equal(await test.database.factors.claimTimeStep(account.id, Math.floor(now() / 30)), true)
    })
  }

  it('a new password at an open enrolment: no app is added by who signed in with the old one', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    const enrolment = await signIn(visitor, await visitor.go(test.authUrl()), email)
    await put(email, { password: NEW_PASSWORD })
    const { page } = await enrol(visitor, enrolment)
    assert.equal(headingOf(page), 'Sign in')
    assert.deepEqual((await test.database.accounts.findByEmail(email))!.account.enrolled, {})
  })

  it('a new password in the moment of an activation: what was proven before does not sign in', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    const enrolment = await signIn(visitor, await visitor.go(test.authUrl()), email)
    const { factors } = test.database
    const activate = factors.activate
    factors.activate = async (...given) => {
      await put(email, { password: NEW_PASSWORD })
      return activate.apply(factors, given)
    }
    try {
      const { page } = await enrol(visitor, enrolment)
      assert.equal(headingOf(page), 'Sign in')
    } finally {
      factors.activate = activate
    }
    assert.equal(errorOf(await silently(visitor)), 'login_required')
  })

  it('proofs of an older epoch are dropped when a further factor is proven', async () => {
    const { email, secret, visitor } = await payor()
    wait(120)
    // One tab gives the password anew and is left at the challenge.
    const asked = test.authUrl({ max_age: '60', second_factor_max_age: '0' })
    const challenge = await signIn(visitor, await visitor.go(asked), email)
    assert.equal(headingOf(challenge), CHALLENGE)
    await put(email, { password: NEW_PASSWORD })
    wait(60)
    // Another tab signs in with the new one.
    const signedIn = now()
    const second = await signIn(visitor, await visitor.go(test.authUrl()), email, NEW_PASSWORD)
    assert.ok(hasCode(await visitor.submit(second, { code: await codeOf(secret) })))
    nextStep()
    const answer = await visitor.submit(challenge, { code: await codeOf(secret) })
    const claims = claimsIn((await test.exchange(answer))['id_token'])
    assert.ok(claims.auth_time >= signedIn, 'the password of before counts no more')
    assert.ok(Number(claims['second_factor_time']) > claims.auth_time)
  })

  it('the sign-in whose recovery code raised the epoch goes on; every other one ends', async () => {
    const { email, secret, recoveryCode, visitor: signedIn } = await payor()
    const other = test.visitor()
    const otherChallenge = await signIn(other, await other.go(test.authUrl()), email)
    const visitor = test.visitor()
    const began = now()
    const challenge = await signIn(visitor, await visitor.go(test.authUrl()), email)
    wait(30)
    const form = await visitor.go(`${new URL(challenge.at).pathname}/recovery`)
    const enrolment = await visitor.submit(form, { recovery_code: recoveryCode })
    const { page } = await enrol(visitor, enrolment)
    assert.equal(headingOf(page), 'Almost There', 'the password is not asked again')
    assert.equal(headingOf(await other.submit(otherChallenge, { code: await codeOf(secret) })), 'Sign in')
    assert.equal(errorOf(await silently(signedIn)), 'login_required')
    const claims = claimsIn((await test.exchange(await acknowledge(visitor, page)))['id_token'])
    assert.deepEqual(claims.amr, ['pwd', 'otp', 'mfa'])
    assert.ok(claims.auth_time >= began && claims.auth_time < began + 30, 'the password of this sign-in still counts')
    assert.ok(hasCode(await silently(visitor)), 'and its session lives')
  })

  it('a session that is not used for an hour stays ended, whatever is asked in the seconds after', async () => {
    const email = await somebody('standard')
    for (const params of [{}, { prompt: 'none' }] as Record<string, string>[]) {
      const visitor = test.visitor()
      assert.ok(hasCode(await signIn(visitor, await visitor.go(test.authUrl()), email)))
      wait(3600)
      for (let i = 0; i < 3; i++) {
        const answer = await visitor.go(test.authUrl(params))
        assert.ok(!hasCode(answer), 'the library finds a session for 15 s more, and prolongs it')
      }
      assert.equal(headingOf(await visitor.go(test.authUrl())), 'Sign in')
    }
  })

  it('a disabled person is refused like one with a wrong password, and comes in again once enabled', async () => {
    const email = await somebody('standard')
    const visitor = test.visitor()
    const page = await visitor.submit(await visitor.go(test.authUrl()), { email })
    await put(email, { disabled: true })
    const refused = await visitor.submit(page, { password: PASSWORD })
    assert.equal(refused.status, 400)
    await put(email, {})
    assert.ok(hasCode(await visitor.submit(refused, { password: PASSWORD })))
  })

  // The requirement changes while somebody answers, or later.

  const enforce = async (on: boolean) => {
    const { mfa: _former, ...company } = (await test.database.directory.company('city'))!
    const mfa = on ? { mfa: { enforced_from: '2020-01-01', zone: 'UTC' } } : {}
    await test.database.directory.commit([{ kind: 'company', op: 'put', value: { ...company, ...mfa } }])
  }
  /** Gives the password and lets something happen before the browser follows the redirect to oidc-provider. */
  const between = async (happens: () => Promise<void>) => {
    const email = await somebody('standard')
    const visitor = test.visitor()
    const page = await visitor.submit(await visitor.go(test.authUrl()), { email })
    const { action, hidden } = formOf(page)
    const { location } = await visitor.request(action, { form: { ...hidden, password: PASSWORD } })
    await happens()
    return { visitor, answer: await visitor.go(location!) }
  }

  it('a requirement that falls between an answer and its resume: the login is submitted, and a session begins', async () => {
    await enforce(true)
    const { visitor, answer } = await between(() => enforce(false))
    assert.deepEqual(claimsIn((await test.exchange(answer))['id_token']).amr, ['pwd'])
    assert.ok(hasCode(await silently(visitor)))
  })

  it('a refresh asks for the factor that is needed now', async () => {
    const email = await somebody('standard')
    const visitor = test.visitor()
    const tokens = await test.exchange(await signIn(visitor, await visitor.go(test.authUrl()), email))
    const form = { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! }
    await enforce(true)
    assert.equal((await test.token(form)).error, 'invalid_grant')
    await enforce(false)
    assert.deepEqual(claimsIn((await test.token(form))['id_token']).amr, ['pwd'])
  })

  it('a requirement that rises between an answer and its resume: the next question is asked', async () => {
    const { answer } = await between(() => enforce(true))
    await enforce(false)
    assert.equal(headingOf(answer), 'Secure Your Account')
  })

  it('an enrolment that is not asked for any more adds no app', async () => {
    const email = await somebody('standard')
    const visitor = test.visitor()
    await enforce(true)
    const enrolment = await signIn(visitor, await visitor.go(test.authUrl()), email)
    assert.equal(headingOf(enrolment), 'Secure Your Account')
    await enforce(false)
    const { page } = await enrol(visitor, enrolment)
    assert.ok(hasCode(page), 'the sign-in goes on')
    assert.deepEqual((await test.database.accounts.findByEmail(email))!.account.enrolled, {})
  })

  it('a password alone shows no recovery code that waits to be acknowledged', async () => {
    const email = await somebody('standard')
    const visitor = test.visitor()
    const enrolment = await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'strict' })), email)
    assert.equal(headingOf((await enrol(visitor, enrolment)).page), 'Almost There')
    const other = test.visitor()
    // "Always require 2FA" off again, as a person may switch it: the password is enough, and shows nothing more.
    test.database.connection.run('UPDATE accounts SET always_require_2fa = 0 WHERE email = ?', email)
    assert.ok(hasCode(await signIn(other, await other.go(test.authUrl()), email)))
  })

  // Every prompt after the first factor.

  interface At {
    visitor: Visitor
    page: Answer
    email: string
    /** The right answer. */
    answer: Record<string, string>
    heading: string
  }
  const prompts: [string, () => Promise<At>][] = [
    [
      'mfa',
      async () => {
        const { email, secret } = await payor()
        const visitor = test.visitor()
        const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
        return { visitor, page, email, answer: { code: await codeOf(secret) }, heading: CHALLENGE }
      },
    ],
    [
      'mfa_enroll',
      async () => {
        const email = await somebody()
        const visitor = test.visitor()
        const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
        const key = /<code id="key"[^>]*>([^<]+)</.exec(page.text)![1]!.replace(/\s/g, '')
        return { visitor, page, email, answer: { code: await codeOf(key) }, heading: 'Secure Your Account' }
      },
    ],
    [
      'recovery_ack',
      async () => {
        const email = await somebody()
        const visitor = test.visitor()
        const { page } = await enrol(visitor, await signIn(visitor, await visitor.go(test.authUrl()), email))
        assert.ok(recoveryCodeOn(page))
        return { visitor, page, email, answer: { acknowledged: 'yes' }, heading: 'Almost There' }
      },
    ],
  ]
  for (const [prompt, reach] of prompts) {
    it(`${prompt} cannot be skipped by going back to /auth`, async () => {
      const { visitor, page, heading } = await reach()
      assert.equal(headingOf(page), heading)
      for (const params of [{}, { client_id: 'strict' }, { max_age: '3000' }, { login_hint: 'a@b.example' }]) {
        const again = await visitor.clone().go(test.authUrl(params))
        assert.equal(headingOf(again), 'Sign in', 'nothing of an unfinished sign-in counts in another')
        assert.equal(errorOf(await silently(visitor, params)), 'login_required')
      }
      const uid = page.at.split('/').at(-1)!
      assert.ok(!hasCode(await visitor.clone().go(`${test.url}/auth/${uid}`)), 'nor by resuming what was not answered')
    })

    it(`${prompt} refuses the same answer twice`, async () => {
      const { visitor, page, email, answer } = await reach()
      const twin = visitor.clone()
      const first = await visitor.submit(page, answer)
      assert.ok(hasCode(first) || headingOf(first) === 'Almost There')
      const events = async () => {
        const { id } = (await test.database.directory.user(email))!
        const rows = await test.database.auditReader.auditRows({ accountId: id, limit: 200 })
        return rows.filter(
          ({ event, outcome }) =>
            outcome === 'success' && ['mfa.otp', 'mfa.enrolled', 'recovery_code.acknowledged'].includes(event),
        ).length
      }
      const before = await events()
      for (const browser of [visitor, twin]) {
        const again = await browser.submit(page, answer)
        assert.ok(!hasCode(again), `${again.status} ${headingOf(again)}`)
        assert.ok(again.status < 500)
      }
      if (answer['code'] !== undefined) {
        const other = test.visitor()
        const challenge = await signIn(other, await other.go(test.authUrl()), email, PASSWORD)
        assert.equal((await other.submit(challenge, answer)).status, 400, 'nor in another sign-in')
      }
      assert.equal(await events(), before)
    })
  }
})
