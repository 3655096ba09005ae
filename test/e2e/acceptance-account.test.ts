/** The acceptance statements about a person's own factors, passwords and invitations, by their numbers, through real HTTP. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { countersOf, type Letter } from '../../interactions/index.ts'
import { factsHere, noticesOf, planningOf } from '../../server/provider.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import { endSessionsOf } from '../../server/sessions.ts'
import { nextStep, wait } from '../support/clock.ts'
import {
  acknowledge,
  CHALLENGE,
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
import { type Answer, headingOf, type Visitor } from '../support/visitor.ts'

const ENROLMENT = 'Secure Your Account'
const WRONG = 'wrong wrong wrong wrong'
const NEW = 'ponies dance at midnight'
const DAY = 24 * 60 * 60

describe('acceptance: own factors, passwords, invitations', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  const somebody = async (role: 'payor' | 'payee' | 'standard' = 'payor') => {
    people += 1
    const email = `one${people}@${role}.example`
    return { id: await test.person(email, role), email }
  }
  /** A payor with an app, signed in at Payments. */
  const payor = async () => {
    const person = await somebody()
    const signedIn = await firstSignIn(test, person.email)
    nextStep()
    return { ...person, ...signedIn }
  }
  const open = (visitor: Visitor, page = '') => visitor.go(`${test.url}/account${page}`)
  const attempt = async (email: string, password = PASSWORD, visitor = test.visitor()) => ({
    visitor,
    page: await signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), email, password),
  })
  const answerCode = async (visitor: Visitor, page: Answer, secret: string) => {
    assert.equal(headingOf(page), CHALLENGE)
    nextStep()
    return visitor.submit(page, { code: await codeOf(secret) })
  }
  /** The newest letter of a kind; some are written behind the answer. */
  async function letterTo(accountId: string, kind: string): Promise<Letter> {
    for (let looks = 0; looks < 100; looks++) {
      const found = (await test.database.outbox.list({ accountId, limit: 99 })).find((one) => one.kind === kind)
      const body = found && (await test.database.outbox.read(found.id))
      if (body !== undefined) return JSON.parse(body) as Letter
      await setTimeout(20)
    }
    throw new Error(`no ${kind} to ${accountId}`)
  }
  /** The page of the link that "Forgot your password?" sends. */
  async function reset({ id, email }: { id: string; email: string }, visitor: Visitor) {
    await test.database.outbox.withdraw(id, ['password_reset'])
    wait(60 * 60) // three letters an hour
    await visitor.submit(await visitor.go(`${test.url}/forgot`), { email })
    return visitor.go((await letterTo(id, 'password_reset')).link!)
  }

  it('30: a new recovery code in the account makes the former one fail at once', async () => {
    const { email, visitor, secret, recoveryCode } = await payor()
    const shown = await answerCode(visitor, await open(visitor, '/recovery-code'), secret)
    assert.notEqual(recoveryCodeOn(shown), recoveryCode)
    const other = await attempt(email)
    const form = await other.visitor.go(`${new URL(other.page.at).pathname}/recovery`)
    const refused = await other.visitor.submit(form, { recovery_code: recoveryCode })
    assert.equal(refused.status, 400, 'before the new one is acknowledged')
    await acknowledge(visitor, shown)
    const enrolment = await other.visitor.submit(form, { recovery_code: recoveryCodeOn(shown) })
    assert.equal(headingOf(enrolment), ENROLMENT)
  })

  it('31: a new app takes the place of the old one, whose codes then fail; a half-done change keeps the old one', async () => {
    const { email, visitor, secret } = await payor()
    const half = await answerCode(visitor, await open(visitor, '/app'), secret)
    assert.equal(headingOf(half), ENROLMENT)
    const still = await attempt(email)
    assert.ok(hasCode(await answerCode(still.visitor, still.page, secret)))
    const { page, secret: fresh } = await enrol(visitor, await visitor.go(half.at))
    await acknowledge(visitor, page)
    const after = await attempt(email)
    nextStep()
    assert.equal((await after.visitor.submit(after.page, { code: await codeOf(secret) })).status, 400)
    assert.ok(hasCode(await after.visitor.submit(after.page, { code: await codeOf(fresh) })))
    const [factor, ...more] = (await test.database.directory.user(email))!.factors
    assert.deepEqual([factor?.method, more.length], ['otp', 0], 'never two at once')
  })

  it('32: a change of the app needs a fresh second factor; the password where there is none yet', async () => {
    const { visitor } = await payor()
    assert.equal(headingOf(await open(visitor, '/app')), CHALLENGE)
    const { email } = await somebody('standard')
    const other = test.visitor()
    await signIn(other, await open(other), email)
    assert.equal(headingOf(await open(other, '/app')), ENROLMENT, 'the password of just now')
    wait(5 * 60 + 1)
    assert.equal(headingOf(await open(other, '/app')), 'Sign in')
  })

  it('41: a reset ends sessions and refresh tokens, and the person is told', async () => {
    const { id, email, visitor } = await payor()
    const tokens = await test.exchange(await visitor.go(test.authUrl()))
    const { database, house } = test
    const person = { id, email }
    const facts = factsHere(house)
    await database.directory.resetMfa(id, { now: facts.now, messages: noticesOf(house)(person, 'mfa_reset', facts) })
    await endSessionsOf(house, [id], 'operator:test')
    assert.equal(errorOf(await visitor.go(test.authUrl({ prompt: 'none' }))), 'login_required')
    const dead = await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! })
    assert.equal(dead.error, 'invalid_grant')
    assert.equal((await letterTo(id, 'mfa_reset')).to, email)
    // A password alone enrols nothing now: test/e2e/resets.test.ts goes on from here.
    assert.equal(headingOf((await attempt(email)).page), 'Look into your mail')
  })

  it('43: after "unlock" three attempts are there again', async () => {
    const { id, email } = await somebody('standard')
    const [company] = (await test.database.directory.companies()).filter(({ id: one }) => one === 'city')
    const lockOut = (rules: object) =>
      test.database.directory.commit([{ kind: 'company', op: 'put', value: { ...company!, ...rules } }])
    await lockOut({ rules: { lockout: true } })
    try {
      for (let i = 0; i < 3; i++) assert.equal((await attempt(email, WRONG)).page.status, 400)
      assert.equal((await attempt(email)).page.status, 400)
      await test.database.throttle.clear(countersOf((await test.database.accounts.find(id))!))
      for (let i = 0; i < 2; i++) assert.equal((await attempt(email, WRONG)).page.status, 400)
      assert.ok(hasCode((await attempt(email)).page))
    } finally {
      await lockOut({ rules: undefined })
    }
  })

  it('56: each rule of a password, broken alone, is told with its reason; the last four are barred, the fifth-last is not', async () => {
    const person = await somebody('standard')
    const visitor = test.visitor()
    const page = await reset(person, visitor)
    for (const [password, reason] of [
      ['fourteen chars', 'Your password has 14 characters. Use at least 15.'],
      ['x'.repeat(257), 'Use at most 256 characters.'],
      ['passwordpassword', 'on a list of common or leaked passwords'],
      ['City-Works-2026!', 'made of your name, your address or your company'],
      [PASSWORD, 'You used this password before'],
    ] as const) {
      const refused = await visitor.submit(page, { new_password: password })
      assert.equal(refused.status, 400, reason)
      assert.ok(refused.text.includes(reason), reason)
    }
    const four = ['one', 'two', 'three', 'four'].map((word) => `the ${word} pony dances at midnight`)
    for (const word of four) {
      const browser = test.visitor()
      const done = await browser.submit(await reset(person, browser), { new_password: word })
      assert.equal(headingOf(done), 'Your password is set')
    }
    const last = await reset(person, visitor)
    for (const word of four) assert.equal((await visitor.submit(last, { new_password: word })).status, 400, word)
    assert.equal(headingOf(await visitor.submit(last, { new_password: PASSWORD })), 'Your password is set')
  })

  it('59: a password that was reset signs nobody in and skips no second factor', async () => {
    const { id, email, visitor, secret } = await payor()
    const fresh = test.visitor()
    const done = await fresh.submit(await reset({ id, email }, fresh), { new_password: NEW })
    assert.equal(headingOf(done), 'Your password is set')
    assert.equal(errorOf(await fresh.go(test.authUrl({ prompt: 'none' }))), 'login_required')
    assert.equal(errorOf(await visitor.go(test.authUrl({ prompt: 'none' }))), 'login_required')
    const again = await attempt(email, NEW, fresh)
    assert.ok(hasCode(await answerCode(fresh, again.page, secret)))
  })

  for (const [who, company, days] of [
    ['an invitation', 'acme', 3],
    ['a Pay invitation', 'best', 14],
  ] as const)
    it(`60: ${who} works once, for ${days} days, and for the invited person only`, async () => {
      const invite = async () => {
        people += 1
        const email = `invited${people}@${company}.example`
        const users = [{ email, memberships: [{ company, roles: ['payments_admin'] }] }]
        const seed = parseSeed(JSON.stringify({ users }), 'seed', {})
        await applyPlan(
          test.database,
          await planSeed(test.database, seed, await planningOf(test.house)),
          'operator:test',
        )
        const { id } = (await test.database.directory.user(email))!
        return { email, link: (await letterTo(id, 'invitation')).link! }
      }
      const late = await invite()
      wait(days * DAY - 60)
      const form = await test.visitor().go(late.link)
      assert.equal(headingOf(form), 'Welcome to Sallyport')
      wait(61)
      assert.equal(headingOf(await test.visitor().go(late.link)), 'This link has expired')

      const { email, link } = await invite()
      const visitor = test.visitor()
      const page = await visitor.go(link)
      // Whom it is for is in the link, not in the form.
      const done = await visitor.submit(page, { username: 'else@acme.example', name: 'Ana', new_password: NEW })
      assert.equal(headingOf(done), 'Your password is set')
      assert.equal(headingOf(await test.visitor().go(link)), 'This link has been used')
      assert.equal((await test.database.directory.user(email))?.hasPassword, true)
      assert.equal(await test.database.directory.user('else@acme.example'), undefined)
      assert.notEqual((await attempt(email, NEW)).page.status, 400, 'and signs the invited person in')
    })
})
