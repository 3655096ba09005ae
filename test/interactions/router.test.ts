/** What is true of the pages of every room: a form that is refused, late or of another browser leads on, and shows nothing more. */
import assert from 'node:assert/strict'
import { nextStep, wait } from '../support/clock.ts'
import {
  acknowledge,
  codeOf,
  enrol,
  firstSignIn,
  hasCode,
  openTestHouse,
  PASSWORD,
  recoveryCodeOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { formOf, headingOf } from '../support/visitor.ts'

describe('pages of an interaction', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  const somebody = async (role: 'payor' | 'payee' | 'standard' = 'payor') => {
    people += 1
    const email = `router${people}@${role}.example`
    await test.person(email, role)
    return email
  }
  const changePassword = async (email: string) => {
    const { id, name, memberships, serverRoles } = (await test.database.directory.user(email))!
    const { passwordHash } = (await test.database.accounts.findByEmail(email))!
    const value = { id, email, name, memberships, serverRoles, disabled: false }
    await test.database.directory.commit([{ kind: 'user', op: 'put', value, passwordHash }])
  }

  it('another browser is told which app to start from, and cannot answer', async () => {
    const page = await test.visitor().go(test.authUrl())
    const other = test.visitor()
    for (const shown of [await other.go(page.at), await other.submit(page, { email: 'a@b.example' })]) {
      assert.equal(shown.status, 400)
      assert.equal(headingOf(shown), 'Go on where you began')
      assert.match(shown.text, /<a class="button" href="https:\/\/rp\.example"/)
    }
  })

  it('a refused form shows the question that is open now, not the page that it came from', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    const enrolment = await signIn(visitor, await visitor.go(test.authUrl()), email)
    assert.equal(headingOf(enrolment), 'Secure Your Account')
    await changePassword(email)
    const refused = await visitor.submit(enrolment, { csrf: 'forged' })
    assert.equal(headingOf(refused), 'Sign in')
  })

  it('a refused form does not put a new recovery code in the place of one that was acknowledged in another browser', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    const { page, secret } = await enrol(visitor, await signIn(visitor, await visitor.go(test.authUrl()), email))
    nextStep()
    const other = test.visitor()
    const challenge = await signIn(other, await other.go(test.authUrl()), email)
    const later = await other.submit(challenge, { code: await codeOf(secret) })
    assert.notEqual(recoveryCodeOn(later), recoveryCodeOn(page))
    assert.ok(hasCode(await acknowledge(other, later)))

    assert.ok(hasCode(await visitor.submit(page, { csrf: 'forged' })), 'nothing is open here any more')
    const { account } = (await test.database.accounts.findByEmail(email))!
    assert.equal(account.recoveryCode?.acknowledged, true)
  })

  it('a form that was forged is not looked at', async () => {
    const email = await somebody('standard')
    const visitor = test.visitor()
    const page = await visitor.submit(await visitor.go(test.authUrl()), { email })
    const { action, hidden } = formOf(page)
    const forms: [string, Record<string, string>, Record<string, string>][] = [
      ['another token', { csrf: 'forged' }, {}],
      ['no token', { csrf: '' }, {}],
      ['another site', {}, { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }],
      ['no word of where it comes from', {}, { origin: '', 'sec-fetch-site': '' }],
    ]
    for (const [what, fields, headers] of forms) {
      const refused = await visitor.request(action, { form: { ...hidden, password: PASSWORD, ...fields }, headers })
      assert.equal(refused.status, 403, what)
    }
    assert.ok(hasCode(await visitor.submit(page, { password: PASSWORD })), 'and the form itself still works')
  })

  it('going on as somebody else leads on when the session ended meanwhile', async () => {
    const { visitor } = await firstSignIn(test, await somebody())
    const other = await somebody('standard')
    const page = await signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), other)
    assert.match(headingOf(page), /signed in with another account/)
    const late = visitor.clone()
    wait(30 * 60)
    await visitor.submit(await visitor.go(`${test.url}/session/end`), { logout: 'yes' })
    const same = await visitor.submit(page, {}, '/session/end/confirm')
    assert.ok(hasCode(same), 'signed out in a second tab: the sign-in goes on')
    wait(31 * 60)
    const expired = await late.submit(page, {}, '/session/end/confirm')
    assert.match(expired.text, /<a class="button" href="https:\/\/rp\.example"/, headingOf(expired))
  })
})
