/** Back, reload, double submit, tabs, clients, accounts, expiry, restart: each page says what happened and leads on. */
import assert from 'node:assert/strict'
import { nextStep, now, wait } from '../support/clock.ts'
import {
  acknowledge,
  CALLBACK,
  CHALLENGE,
  claimsIn,
  codeOf,
  enrol,
  firstSignIn,
  hasCode,
  MAILED_LINK,
  openMailedLink,
  openTestHouse,
  recoveryCodeOn,
  secretOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

/** One step of a first sign-in: the page's heading and how a person answers it. */
interface Step {
  heading: string
  answer(visitor: Visitor, page: Answer): Promise<Answer>
}

/** The four pages of a payor's first sign-in. */
const steps = (email: string): Step[] => [
  { heading: 'Sign in', answer: (visitor, page) => visitor.submit(page, { email }) },
  {
    heading: 'Enter your password',
    answer: (visitor, page) => visitor.submit(page, { password: 'correct horse battery staple' }),
  },
  {
    heading: 'Secure Your Account',
    answer: async (visitor, page) => visitor.submit(page, { code: await codeOf(secretOn(page)) }),
  },
  { heading: 'Almost There', answer: acknowledge },
]

/** Every page must say something and have a next step. */
function leadsOn(answer: Answer, what: string): void {
  if (answer.location?.startsWith(CALLBACK)) return
  assert.ok(answer.status < 500, `${what}: ${answer.status}`)
  assert.notEqual(headingOf(answer), '', what)
  assert.match(answer.text, /<form|<a (class="button" )?href=/, `${what}: ${headingOf(answer)} has no next step`)
}

describe('no dead ends', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())
  const somebody = async (role: 'payor' | 'payee' | 'standard' = 'payor') => {
    people += 1
    const email = `walker${people}@${role}.example`
    await test.person(email, role)
    return email
  }

  it('reload shows the same page at every step, and Back from every step leads to the open question', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    let page = await visitor.go(test.authUrl())
    const before: Answer[] = []
    for (const { heading, answer } of steps(email)) {
      assert.equal(headingOf(page), heading)
      const reloaded = await visitor.go(page.at)
      assert.equal(headingOf(reloaded), heading, 'reload')
      if (heading === 'Secure Your Account') assert.equal(secretOn(reloaded), secretOn(page))
      if (heading === 'Almost There') assert.equal(recoveryCodeOn(reloaded), recoveryCodeOn(page))
      for (const former of before) {
        const back = await visitor.go(former.at)
        leadsOn(back, `Back from ${heading} to ${headingOf(former)}`)
        if (!['Sign in', 'Enter your password'].includes(heading)) assert.equal(headingOf(back), heading)
      }
      before.push(page)
      page = await answer(visitor, page)
    }
    assert.ok(hasCode(page))
    for (const former of before) {
      const back = await visitor.go(former.at)
      leadsOn(back, `Back after the end to ${headingOf(former)}`)
      assert.match(back.text, /https:\/\/rp\.example/, 'back to the app')
    }
  })

  it('an old form posted again at any later step goes on with the open question and changes nothing', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    let page = await visitor.go(test.authUrl())
    const done: [Answer, Step][] = []
    for (const step of steps(email)) {
      for (const [former, { heading, answer }] of done) {
        // The identifier page may be answered again: "Change".
        if (heading === 'Sign in' && step.heading === 'Enter your password') continue
        const again = await answer(visitor, former)
        leadsOn(again, `${heading} again at ${step.heading}`)
        if (heading !== 'Sign in') assert.equal(headingOf(again), step.heading, `${heading} again`)
      }
      done.push([page, step])
      page = await step.answer(visitor, page)
    }
    assert.ok(hasCode(page))
    for (const [former, { heading, answer }] of done) leadsOn(await answer(visitor, former), `${heading} after the end`)
  })

  it('a double click at every step brings the person on, once', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    let page = await visitor.go(test.authUrl())
    for (const { heading, answer } of steps(email)) {
      const both = await Promise.all([answer(visitor, page), answer(visitor, page)])
      for (const one of both) leadsOn(one, `double click at ${heading}`)
      const on = both.find(hasCode) ?? both.find((one) => one.status === 200 && headingOf(one) !== heading)
      assert.ok(on, `${heading}: ${both.map(headingOf).join(' | ')}`)
      page = on
    }
    assert.ok(hasCode(page))
  })

  it('a second click whose first answer the browser gave up goes on with the cookies it never got', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    let page = await visitor.go(test.authUrl())
    for (const { heading, answer } of steps(email).slice(0, 3)) {
      await answer(visitor.clone(), page) // answered, and the browser has thrown the answer away
      const on = await answer(visitor, page)
      assert.equal(on.status, 200, `${heading}: ${headingOf(on)}`)
      assert.notEqual(headingOf(on), heading)
      page = on
    }
    assert.ok(hasCode(await acknowledge(visitor, page)))
    const stranger = await test.visitor().go(page.at)
    assert.equal(headingOf(stranger), 'Go on where you began', 'nobody else is given anything')
  })

  it('a resume that nobody answered anything for forgets nothing that was proven', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    const resumed = await visitor.go(`/auth/${new URL(page.at).pathname.split('/').at(-1)}`)
    assert.equal(headingOf(resumed), 'Secure Your Account')
    assert.equal(secretOn(resumed), secretOn(page))
  })

  it('of two resumes of one interaction at once, one gets a code', async () => {
    const email = await somebody('standard')
    for (let round = 0; round < 5; round++) {
      const visitor = test.visitor()
      const page = await visitor.submit(await visitor.go(test.authUrl({ prompt: 'login' })), { email })
      const answer = await visitor.request(formOf(page).action, {
        form: { ...formOf(page).hidden, password: 'correct horse battery staple' },
      })
      const both = await Promise.all(Array.from({ length: 4 }, () => visitor.clone().go(answer.location!)))
      assert.equal(both.filter(hasCode).length, 1)
      for (const one of both) leadsOn(one, 'a resume that came second')
    }
  })

  it('two tabs: what one finished, the other need not be asked again', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    const [one, two] = [await visitor.go(test.authUrl()), await visitor.go(test.authUrl())]
    const enrolment = await signIn(visitor, one, email)
    const { page } = await enrol(visitor, enrolment)
    assert.ok(hasCode(await acknowledge(visitor, page)))
    const other = await visitor.submit(two, { email })
    leadsOn(other, 'the second tab')
    const ended = await visitor.go(test.authUrl())
    assert.ok(hasCode(ended), 'a new request has the session')
  })

  for (const order of ['the first one first', 'the second one first'])
    it(`two clients at once in one browser, ${order}: each gets its own code`, async () => {
      const email = await somebody()
      const visitor = test.visitor()
      const pages: [string, Answer][] = []
      for (const client of ['payments', 'poster'])
        pages.push([client, await visitor.go(test.authUrl({ client_id: client, state: client }))])
      if (order === 'the second one first') pages.reverse()
      const [[firstClient, first], [secondClient, second]] = pages as [[string, Answer], [string, Answer]]
      const { page, secret } = await enrol(visitor, await signIn(visitor, first, email))
      const answer = await acknowledge(visitor, page)
      assert.equal(new URL(answer.location!).searchParams.get('state'), firstClient)
      assert.deepEqual(claimsIn((await test.exchange(answer, firstClient))['id_token']).amr, ['pwd', 'otp', 'mfa'])
      nextStep()
      let rest = await signIn(visitor, second, email)
      if (headingOf(rest) === CHALLENGE) rest = await visitor.submit(rest, { code: await codeOf(secret) })
      assert.ok(hasCode(rest), `${headingOf(rest)} ${rest.status}`)
      assert.equal(new URL(rest.location!).searchParams.get('state'), secondClient)
      assert.equal(claimsIn((await test.exchange(rest, secondClient))['id_token'])['aud'], secondClient)
    })

  it('another account in a second tab gets a page with buttons, and both people can go on', async () => {
    const [ana, bob] = [await somebody('standard'), await somebody('standard')]
    const visitor = test.visitor()
    const [one, two] = [await visitor.go(test.authUrl()), await visitor.go(test.authUrl())]
    assert.ok(hasCode(await signIn(visitor, one, ana)))
    const page = await signIn(visitor, two, bob)
    assert.match(headingOf(page), /signed in with another account/)
    assert.ok(page.text.includes(ana) && page.text.includes(bob))
    const switched = await visitor.submit(page, {}, '/session/end/confirm')
    assert.ok(hasCode(switched))
    assert.equal(
      claimsIn((await test.exchange(await visitor.go(test.authUrl())))['id_token']).sub,
      (await test.database.accounts.findByEmail(bob))!.account.id,
    )
  })

  it('an expired interaction at every step says so and leads back to the app', async () => {
    const email = await somebody()
    for (let stop = 0; stop < 4; stop++) {
      const own = stop === 3 ? await somebody() : email
      const visitor = test.visitor()
      let page = await visitor.go(test.authUrl())
      for (const { answer } of steps(own).slice(0, stop)) page = await answer(visitor, page)
      wait(3700)
      for (const answer of [await visitor.go(page.at), await steps(own)[stop]!.answer(visitor, page)]) {
        assert.equal(answer.status, 400, `${stop} ${headingOf(answer)}`)
        assert.match(answer.text, /https:\/\/rp\.example/)
      }
    }
  })

  it('a step-up whose session ended meanwhile begins again', async () => {
    const email = await somebody()
    const { visitor, secret } = await firstSignIn(test, email)
    const tab = await visitor.go(test.authUrl({ second_factor_max_age: '0' }))
    assert.equal(headingOf(tab), CHALLENGE)
    const question = await visitor.go('/session/end?client_id=payments')
    await visitor.submit(question, { logout: 'yes' })
    const on = await visitor.submit(tab, { code: await codeOf(secret) })
    assert.equal(headingOf(on), 'Sign in')
    nextStep()
    const challenge = await signIn(visitor, on, email)
    assert.ok(hasCode(await visitor.submit(challenge, { code: await codeOf(secret) })))
  })

  it('an unknown interaction, another browser, no cookies: a page with a way on', async () => {
    const visitor = test.visitor()
    const page = await visitor.go(test.authUrl())
    for (const answer of [
      await test.visitor().go(page.at),
      await test.visitor().go(`/interaction/${'x'.repeat(43)}`),
      await test.visitor().go(`/auth/${'x'.repeat(43)}`),
      await visitor.go(`${page.at}/nowhere`),
      await visitor.go('/nowhere'),
      await visitor.go('/auth'),
      await visitor.go('/session/end/success'),
    ]) {
      leadsOn(answer, answer.at)
    }
  })

  it('a page whose app is not known leads to the list of apps, and one in another browser to the app that asked', async () => {
    const page = await test.visitor().go('/nowhere')
    const home = await test.visitor().go(/class="button" href="([^"]+)"/.exec(page.text)![1]!)
    assert.equal(home.status, 200)
    assert.match(home.text, /<a href="https:\/\/rp\.example">Payments<\/a>/)
    const visitor = test.visitor()
    const elsewhere = await test.visitor().go((await visitor.go(test.authUrl())).at)
    assert.equal(headingOf(elsewhere), 'Go on where you began')
    assert.match(elsewhere.text, /href="https:\/\/rp\.example">Back to Payments/)
  })

  it('a restart of the server in the middle of every step loses nothing', async () => {
    let own = await openTestHouse()
    const { folder } = own
    await own.person('restart@acme.example')
    const visitor = own.visitor()
    let page = await visitor.go(own.authUrl())
    for (const { heading, answer } of steps('restart@acme.example')) {
      assert.equal(headingOf(page), heading)
      const { port } = new URL(own.url)
      await own.close()
      own = await openTestHouse({ PORT: port }, { folder })
      // The first request may meet a connection that the former process closed.
      const reloaded = await visitor.go(page.at).catch(() => visitor.go(page.at))
      assert.equal(headingOf(reloaded), heading, 'the page is still there')
      page = await answer(visitor, page)
    }
    assert.ok(hasCode(page))
    assert.deepEqual(claimsIn((await own.exchange(page))['id_token']).amr, ['pwd', 'otp', 'mfa'])
    await own.close()
  })

  describe('the app only (26, 40)', () => {
    it("26: a payor's token is never issued on anything but the app, whatever is asked or posted", async () => {
      const email = await somebody()
      const { secret } = await firstSignIn(test, email)
      nextStep()
      for (const acr of ['urn:sallyport:acr:1fa', 'urn:sallyport:acr:2fa', 'https://refeds.org/profile/mfa']) {
        const other = test.visitor()
        const page = await signIn(other, await other.go(test.authUrl({ acr_values: acr })), email)
        assert.equal(headingOf(page), CHALLENGE)
        for (const forged of [{ method: 'sms' }, { method: 'sms', code: '000000' }, { phone: '+12025550123' }])
          assert.equal((await other.submit(page, forged as Record<string, string>)).status, 400)
        assert.equal((await other.go(`${new URL(page.at).pathname}/sms`)).status, 404)
        const answer = await other.submit(page, { code: await codeOf(secret) })
        assert.deepEqual(claimsIn((await test.exchange(answer))['id_token']).amr, ['pwd', 'otp', 'mfa'])
        nextStep()
      }
    })

    it('40: after a reset the old app and recovery code are void, and the next sign-in starts enrolment', async () => {
      const email = await somebody()
      const { visitor, secret, recoveryCode } = await firstSignIn(test, email)
      const { account } = (await test.database.accounts.findByEmail(email))!
      const open = test.visitor()
      const pending = await signIn(open, await open.go(test.authUrl()), email)
      assert.equal(headingOf(pending), CHALLENGE)
      const recovery = await open.go(`${new URL(pending.at).pathname}/recovery`)
      await test.database.directory.resetMfa(account.id, { now: now() })
      nextStep()
      for (const dead of [
        await open.clone().submit(pending, { code: await codeOf(secret) }),
        await open.clone().submit(recovery, { recovery_code: recoveryCode }),
      ]) {
        assert.ok(!hasCode(dead))
        leadsOn(dead, 'a page from before the reset')
      }
      const silent = await visitor.go(test.authUrl({ prompt: 'none' }))
      assert.match(silent.location!, /error=login_required/)
      const again = test.visitor()
      const link = await signIn(again, await again.go(test.authUrl()), email)
      assert.equal(headingOf(link), MAILED_LINK)
      const enrolment = await openMailedLink(test, again, email)
      assert.equal(headingOf(enrolment), 'Secure Your Account')
      assert.notEqual(secretOn(enrolment), secret)
      const { page } = await enrol(again, enrolment)
      assert.notEqual(recoveryCodeOn(page), recoveryCode)
      assert.ok(hasCode(await acknowledge(again, page)))
    })
  })
})
