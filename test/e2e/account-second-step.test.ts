/** What a person decides of their second step: the switch, what goes, what takes another's place; also for people of a company sign-in. */
import assert from 'node:assert/strict'
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
  recoveryCodeOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { Connections, IdentityProvider, postResponse, readRequest } from '../support/identity-provider.ts'
import { codeByText, TEXTS } from '../support/texts.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const PHONE = 'Verify Your Identity'

describe('the second step of an account', () => {
  let test: TestHouse
  let acme: IdentityProvider
  const connections = new Connections()
  let people = 0
  before(async () => {
    acme = await IdentityProvider.start('acme')
    connections.put(acme.connection())
    test = await openTestHouse(TEXTS, { connections })
  })
  after(async () => {
    await test.close()
    await acme.close()
  })

  const somebody = async (role: 'payor' | 'payee' | 'standard') => {
    people += 1
    const email = `step${people}@${role}.example`
    const area = [202, 212, 303, 415, 512, 617, 702][people % 7]
    return { email, id: await test.person(email, role), phone: `(${area}) 555-01${String(people).padStart(2, '0')}` }
  }
  type Person = Awaited<ReturnType<typeof somebody>> & { visitor: Visitor }
  const open = (visitor: Visitor, page = '') => visitor.go(`${test.url}/account${page}`)
  const silently = (visitor: Visitor) => visitor.clone().go(test.authUrl({ prompt: 'none' }))
  const account = async (id: string) => (await test.database.accounts.find(id))!
  const kinds = async (accountId: string) =>
    (await test.database.outbox.list({ accountId, limit: 99 })).map(({ kind }) => kind)
  const rows = (accountId: string, event: string) => test.database.auditReader.auditRows({ accountId, event })
  /** Signs in to the account, and sets up an app there. */
  const withApp = async (role: 'payor' | 'payee' | 'standard') => {
    const person = await somebody(role)
    const visitor = test.visitor()
    const page = await signIn(visitor, await open(visitor, '/app'), person.email)
    if (headingOf(page) !== 'Secure Your Account') {
      const target = /href="([^"]*\/choose)"/.exec(page.text)![1]!
      const choose = await visitor.go(new URL(target, page.at).href)
      const app = await visitor.submit(choose, { method: 'otp' })
      const { page: shown, secret } = await enrol(visitor, app)
      await acknowledge(visitor, shown)
      nextStep()
      return { ...person, visitor, secret, recoveryCode: recoveryCodeOn(shown) }
    }
    const { page: shown, secret } = await enrol(visitor, page)
    await acknowledge(visitor, shown)
    nextStep()
    return { ...person, visitor, secret, recoveryCode: recoveryCodeOn(shown) }
  }
  /** The page that takes a number, then the code of the text. */
  const givePhone = async ({ id, visitor }: Person, page: Answer, phone: string) => {
    assert.equal(headingOf(page), 'Set Up SMS Verification')
    const enter = await visitor.submit(page, { country: 'US', phone })
    const shown = await visitor.submit(enter, { code: await codeByText(test, id) })
    const done = await acknowledge(visitor, shown)
    wait(31)
    return { shown, done }
  }
  /** Adds a phone beside the app. */
  const addPhone = async (person: Person & { secret: string }) => {
    const challenge = await open(person.visitor, '/phone')
    const page = await person.visitor.submit(challenge, { code: await codeOf(person.secret) })
    nextStep()
    return givePhone(person, page, person.phone)
  }
  /** A challenge that is passed by the app, if there is one. */
  const pass = async (visitor: Visitor, page: Answer, secret: string): Promise<Answer> => {
    if (headingOf(page) !== CHALLENGE) return page
    const next = await visitor.submit(page, { code: await codeOf(secret) })
    nextStep()
    return next
  }
  /** A POST to a page of the account that no form leads to. */
  const forge = async (visitor: Visitor, page: string, fields: Record<string, string>) => {
    const { hidden } = formOf(await open(visitor, '/name'))
    return visitor.request(`${test.url}/account${page}`, { form: { ...hidden, ...fields } })
  }

  describe('33: "Always require 2FA"', () => {
    it('is a standard user’s own: off, apps ask for no second step; on, every one does; both are told', async () => {
      const person = await withApp('standard')
      assert.equal((await account(person.id)).alwaysRequire2fa, true)
      const before = await account(person.id)
      const page = await open(person.visitor, '/always')
      const off = await person.visitor.submit(page, { always: 'off' })
      assert.match(off.text, /only where an app wants it/)
      const { alwaysRequire2fa, securityEpoch, factorVersion } = await account(person.id)
      assert.deepEqual(
        [alwaysRequire2fa, securityEpoch, factorVersion],
        [false, before.securityEpoch, before.factorVersion],
        'off raises nothing else',
      )
      const other = test.visitor()
      assert.ok(hasCode(await signIn(other, await other.go(test.authUrl()), person.email)))
      await person.visitor.submit(await open(person.visitor, '/always'), { always: 'on' })
      const third = test.visitor()
      assert.equal(headingOf(await signIn(third, await third.go(test.authUrl()), person.email)), CHALLENGE)
      const told = await kinds(person.id)
      assert.ok(told.includes('always_off') && told.includes('always_on'))
      assert.deepEqual(
        (await rows(person.id, 'account.always_off')).map(({ outcome }) => outcome),
        ['success'],
      )
    })

    it('is locked where a role asks for it: shown with the reason, and a forged form changes nothing', async () => {
      const person = await withApp('payor')
      assert.match((await open(person.visitor)).text, /It cannot be switched off\./)
      const page = await open(person.visitor, '/always')
      assert.match(page.text, /You handle payments at Acme Builders/)
      assert.doesNotMatch(page.text, /name="always"/)
      for (const always of ['off', 'on']) assert.equal((await forge(person.visitor, '/always', { always })).status, 400)
      assert.equal((await account(person.id)).alwaysRequire2fa, true)
      assert.ok(!(await kinds(person.id)).includes('always_off'))
      const [row] = await rows(person.id, 'account.always_off')
      assert.deepEqual([row!.outcome, row!.reasons], ['failure', ['always_locked']])
    })

    it('is locked where a company enforces it, from its day on', async () => {
      const person = await withApp('standard')
      const city = (await test.database.directory.company('city'))!
      const put = (value: typeof city) => test.database.directory.commit([{ kind: 'company', op: 'put', value }])
      await put({ ...city, mfa: { enforced_from: '2020-01-01', zone: 'America/Denver' } })
      try {
        assert.equal((await forge(person.visitor, '/always', { always: 'off' })).status, 400)
        assert.match((await open(person.visitor, '/always')).text, /City Works asks it of everybody/)
        assert.equal((await account(person.id)).alwaysRequire2fa, true)
      } finally {
        await put(city)
      }
    })

    it('wants a fresh second factor', async () => {
      const person = await withApp('standard')
      wait(5 * 60 + 1)
      const sent = await forge(person.visitor, '/always', { always: 'off' })
      assert.match(sent.location ?? '', /second_factor_max_age=300/)
      assert.equal((await account(person.id)).alwaysRequire2fa, true)
      assert.equal(headingOf(await open(person.visitor, '/always')), CHALLENGE)
    })

    it('on without a factor leads to one at the next sign-in', async () => {
      const person = await somebody('standard')
      const visitor = test.visitor()
      const page = await signIn(visitor, await open(visitor, '/always'), person.email)
      await visitor.submit(page, { always: 'on' })
      const other = test.visitor()
      const asked = await signIn(other, await other.go(test.authUrl()), person.email)
      assert.match(headingOf(asked), /Two-Factor Authentication Required/)
    })
  })

  it('15: a deadline in the future leads to an app on the account’s own page, after the current password', async () => {
    const city = (await test.database.directory.company('city'))!
    const put = (value: typeof city) => test.database.directory.commit([{ kind: 'company', op: 'put', value }])
    await put({ ...city, mfa: { enforced_from: '2199-01-01', zone: 'UTC' } })
    try {
      const person = await somebody('standard')
      const visitor = test.visitor()
      const home = await signIn(visitor, await open(visitor), person.email)
      assert.equal(headingOf(home), 'Your account', 'nobody is forced yet')
      assert.match(home.text, /<a href="\/account\/app">Add an authenticator app<\/a>/)
      wait(5 * 60 + 1)
      const asked = await open(visitor, '/app')
      assert.equal(headingOf(asked), 'Sign in')
      assert.equal(headingOf(await signIn(visitor, asked, person.email)), 'Secure Your Account')
    } finally {
      await put(city)
    }
  })

  describe('what goes', () => {
    it('the phone, where the app is there: other sessions end, this one goes on, the recovery code stays, the person is told', async () => {
      const person = await withApp('payee')
      const { shown } = await addPhone(person)
      const other = test.visitor()
      const challenge = await signIn(other, await other.go(test.authUrl()), person.email)
      assert.ok(challenge.status === 200)
      const before = await account(person.id)
      const page = await open(person.visitor, '/phone/remove')
      const gone = await person.visitor.submit(await pass(person.visitor, page, person.secret), { remove: 'sms' })
      assert.match(gone.text, /The phone was removed/)
      const after = await account(person.id)
      assert.deepEqual(Object.keys(after.enrolled), ['otp'])
      assert.deepEqual(
        [after.factorVersion, after.securityEpoch, after.recoveryCode?.id],
        [before.factorVersion + 1, before.securityEpoch + 1, before.recoveryCode?.id],
      )
      assert.ok(recoveryCodeOn(shown))
      assert.ok(hasCode(await silently(person.visitor)))
      assert.ok((await kinds(person.id)).includes('phone_removed'))
      assert.equal(await test.database.factors.phone(person.id), undefined)
    })

    it('the app of a payee whose phone stays; never that of a payor, whatever is forged', async () => {
      const payee = await withApp('payee')
      await addPhone(payee)
      const page = await pass(payee.visitor, await open(payee.visitor, '/app/remove'), payee.secret)
      await payee.visitor.submit(page, { remove: 'otp' })
      assert.deepEqual(Object.keys((await account(payee.id)).enrolled), ['sms'])

      const payor = await withApp('payor')
      const refused = await open(payor.visitor, '/app/remove')
      assert.match(refused.text, /no other of yours would do:/)
      assert.match(refused.text, /You handle payments at Acme Builders/)
      assert.doesNotMatch((await open(payor.visitor)).text, /\/account\/app\/remove/)
      assert.equal((await forge(payor.visitor, '/app/remove', { remove: 'otp' })).status, 400)
      assert.deepEqual(Object.keys((await account(payor.id)).enrolled), ['otp'])
      const [row] = await rows(payor.id, 'mfa.removed')
      assert.deepEqual([row!.outcome, row!.reasons], ['failure', ['factor_needed']])
    })

    it('the last phone of a payee does not go', async () => {
      const person = await withApp('payee')
      await addPhone(person)
      const page = await pass(person.visitor, await open(person.visitor, '/app/remove'), person.secret)
      await person.visitor.submit(page, { remove: 'otp' })
      assert.equal((await forge(person.visitor, '/phone/remove', { remove: 'sms' })).status, 400)
      assert.deepEqual(Object.keys((await account(person.id)).enrolled), ['sms'])
    })

    it('the last one of a standard user, after the switch: the recovery code goes with it', async () => {
      const person = await withApp('standard')
      const refused = await open(person.visitor, '/app/remove')
      assert.match(refused.text, /“Always require 2FA” is on in your account/)
      await person.visitor.submit(await open(person.visitor, '/always'), { always: 'off' })
      const page = await open(person.visitor, '/app/remove')
      assert.match(page.text, /your only second step/i)
      const gone = await person.visitor.submit(page, { remove: 'otp' })
      assert.match(gone.text, /The app was removed/)
      const { enrolled, recoveryCode } = await account(person.id)
      assert.deepEqual([enrolled, recoveryCode], [{}, undefined])
      assert.match((await open(person.visitor, '/app/remove')).text, /nothing to remove/)
      const other = test.visitor()
      assert.ok(hasCode(await signIn(other, await other.go(test.authUrl()), person.email)))
      assert.match(
        headingOf(
          await signIn(other, await other.go(test.authUrl({ client_id: 'strict', prompt: 'login' })), person.email),
        ),
        /Two-Factor Authentication Required/,
      )
    })

    it('ends other sessions, refresh tokens and half-finished sign-ins; an enrolment under way comes too late', async () => {
      const person = await withApp('standard')
      await person.visitor.submit(await open(person.visitor, '/always'), { always: 'off' })
      const other = test.visitor()
      const page = await signIn(other, await other.go(test.authUrl({ client_id: 'strict' })), person.email)
      const tokens = await test.exchange(await other.submit(page, { code: await codeOf(person.secret) }), 'strict')
      nextStep()
      const thief = test.visitor()
      const proven = await signIn(thief, await thief.go(`${test.url}/account/app`), person.email)
      const enrolment = await thief.submit(proven, { code: await codeOf(person.secret) })
      assert.equal(headingOf(enrolment), 'Secure Your Account')
      nextStep()
      await person.visitor.submit(await open(person.visitor, '/app/remove'), { remove: 'otp' })
      assert.deepEqual((await account(person.id)).enrolled, {})
      assert.equal(errorOf(await silently(other)), 'login_required')
      const refreshed = await test.token(
        { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! },
        'strict',
      )
      assert.equal(refreshed.error, 'invalid_grant')
      await enrol(thief, enrolment)
      assert.deepEqual((await account(person.id)).enrolled, {}, 'what was proven before the removal adds nothing')
    })

    it('one of twenty clicks removes, and one letter tells', async () => {
      const person = await withApp('payee')
      await addPhone(person)
      const page = await pass(person.visitor, await open(person.visitor, '/phone/remove'), person.secret)
      const { action, hidden } = formOf(page)
      const form = { ...hidden, remove: 'sms' }
      await Promise.all(Array.from({ length: 20 }, () => person.visitor.clone().request(action, { form })))
      assert.equal((await kinds(person.id)).filter((kind) => kind === 'phone_removed').length, 1)
      assert.ok(hasCode(await silently(person.visitor)), 'the session goes on')
    })

    it('wants a fresh second factor, and the form of the page', async () => {
      const person = await withApp('payee')
      await addPhone(person)
      await open(person.visitor)
      wait(5 * 60 + 1)
      assert.match(
        (await forge(person.visitor, '/phone/remove', { remove: 'sms' })).location ?? '',
        /second_factor_max_age/,
      )
      const bare = await person.visitor.request(`${test.url}/account/phone/remove`, { form: { remove: 'sms' } })
      assert.equal(bare.status, 403)
      assert.deepEqual(Object.keys((await account(person.id)).enrolled).sort(), ['otp', 'sms'])
    })
  })

  describe('what takes another’s place', () => {
    it('a new phone: the old one proves it, the new one is verified, and the old one is out (R67)', async () => {
      const person = await somebody('payee')
      const visitor = test.visitor()
      const required = await signIn(visitor, await open(visitor), person.email)
      const choose = await visitor.go(new URL(/href="([^"]*\/choose)"/.exec(required.text)![1]!, required.at).href)
      const first = await givePhone(
        { ...person, visitor },
        await visitor.submit(choose, { method: 'sms' }),
        person.phone,
      )
      const old = await test.database.factors.phone(person.id)

      const asked = await open(visitor, '/phone')
      assert.equal(headingOf(asked), PHONE)
      const enter = await visitor.submit(asked, { resend: 'yes' })
      const form = await visitor.submit(enter, { code: await codeByText(test, person.id) })
      wait(61)
      assert.equal(await test.database.factors.phone(person.id), old, 'until the new one is verified')
      const { shown, done } = await givePhone({ ...person, visitor }, form, '(415) 555-0188')
      assert.match(done.text, /Your phone is set up/)
      assert.equal(await test.database.factors.phone(person.id), '+14155550188')
      assert.notEqual(recoveryCodeOn(shown), recoveryCodeOn(first.shown))
      const told = await kinds(person.id)
      assert.ok(told.includes('phone_added') && told.includes('phone_changed'))
    })

    it('a new app: a letter of its own tells of it', async () => {
      const person = await withApp('payor')
      const challenge = await open(person.visitor, '/app')
      const page = await person.visitor.submit(challenge, { code: await codeOf(person.secret) })
      nextStep()
      await enrol(person.visitor, page)
      const told = await kinds(person.id)
      assert.equal(told.filter((kind) => kind === 'app_added').length, 1)
      assert.equal(told.filter((kind) => kind === 'app_changed').length, 1)
      assert.ok(!told.includes('app_replaced'), 'no recovery code was used')
    })

    it('of two tabs that add a phone at once one does', async () => {
      const person = await withApp('payee')
      const forms = []
      for (const _tab of [1, 2]) {
        const challenge = await open(person.visitor, '/phone')
        forms.push(await person.visitor.submit(challenge, { code: await codeOf(person.secret) }))
        nextStep()
      }
      const { factorVersion } = await account(person.id)
      const enters = []
      for (const [index, form] of forms.entries()) {
        const enter = await person.visitor.submit(form, { country: 'US', phone: `(303) 555-017${index}` })
        enters.push({ enter, code: await codeByText(test, person.id) })
        wait(31)
      }
      await Promise.all(enters.map(({ enter, code }) => person.visitor.submit(enter, { code })))
      assert.equal((await account(person.id)).factorVersion, factorVersion + 1)
    })

    it('one thing after the other: phone, recovery code, app, each with a proof of its own', async () => {
      const person = await withApp('payee')
      const { shown } = await addPhone(person)
      const codes = new Set([person.recoveryCode, recoveryCodeOn(shown)])
      for (const what of ['/recovery-code', '/app', '/recovery-code']) {
        const asked = await open(person.visitor, what)
        assert.notEqual(headingOf(asked), 'Your account', what)
        const byApp = headingOf(asked) === CHALLENGE ? asked : await chooseApp(person.visitor, asked)
        const next = await person.visitor.submit(byApp, { code: await codeOf(person.secret) })
        nextStep()
        const page = what === '/app' ? await replaced(person, next) : next
        codes.add(recoveryCodeOn(page))
        await acknowledge(person.visitor, page)
      }
      assert.equal(codes.size, 5)
      assert.deepEqual(Object.keys((await account(person.id)).enrolled).sort(), ['otp', 'sms'])

      async function replaced(one: { visitor: Visitor; secret: string }, page: Answer) {
        const { page: code, secret } = await enrol(one.visitor, page)
        one.secret = secret
        nextStep()
        return code
      }
    })

    const chooseApp = async (visitor: Visitor, page: Answer) => {
      if (headingOf(page).startsWith('How Do You Want')) return visitor.submit(page, { method: 'otp' })
      const choose = await visitor.go(new URL(/href="([^"]*\/choose)"/.exec(page.text)![1]!, page.at).href)
      return visitor.submit(choose, { method: 'otp' })
    }
  })

  describe('of people whose company signs them in', () => {
    /** At the company, and back. */
    const comeBack = async (visitor: Visitor, location: string, email: string) => {
      acme.person = { email }
      return visitor.go((await postResponse(await acme.visit(location))).location!)
    }
    const atCompany = async () => {
      people += 1
      const email = `sso${people}@acme.example`
      const id = `sso-${people}`
      const memberships = [{ company: 'acme', roles: [], disabled: false }]
      await test.database.directory.commit([
        { kind: 'user', op: 'put', value: { id, email, disabled: false, memberships, serverRoles: [] } },
      ])
      const visitor = test.visitor()
      const sent = await visitor.submit(await open(visitor), { email })
      return { id, email, visitor, page: await comeBack(visitor, sent.location!, email) }
    }
    const forceAuthn = (location: string) => {
      const { searchParams } = new URL(location)
      return readRequest(searchParams.get('SAMLRequest')!, searchParams.get('RelayState')!).forceAuthn
    }

    it('without a factor sign in there once more, and the company is asked to make them (ForceAuthn)', async () => {
      const { email, id, visitor, page } = await atCompany()
      assert.equal(headingOf(page), 'Your account')
      assert.match(page.text, /Your company signs you in/)
      assert.doesNotMatch(page.text, /\/account\/(?:email|password)"/)
      wait(5 * 60 + 1)
      const asked = await open(visitor, '/always')
      const sent = await visitor.submit(asked, headingOf(asked) === 'Sign in' ? { email } : {})
      const location = sent.location ?? ''
      assert.ok(location.startsWith(`${acme.url}/sso?`), `${headingOf(sent)} ${location}`)
      assert.equal(forceAuthn(location), true)
      const form = await comeBack(visitor, location, email)
      assert.equal(headingOf(form), 'Always require 2FA')
      await visitor.submit(form, { always: 'on' })
      assert.equal((await account(id)).alwaysRequire2fa, true)
    })

    it('with a factor prove that one, and their company is not asked', async () => {
      const { id, visitor } = await atCompany()
      const { page, secret } = await enrol(visitor, await open(visitor, '/app'))
      await acknowledge(visitor, page)
      nextStep()
      wait(5 * 60 + 1)
      const challenge = await open(visitor, '/always')
      assert.equal(headingOf(challenge), CHALLENGE)
      const form = await visitor.submit(challenge, { code: await codeOf(secret) })
      await visitor.submit(form, { always: 'off' })
      assert.equal((await account(id)).alwaysRequire2fa, false)
    })

    it('cannot set a password here, nor change their address', async () => {
      const { id, visitor, email } = await atCompany()
      const password = await forge(visitor, '/password', { new_password: 'a quite new battery staple' })
      assert.equal(password.status, 400)
      assert.equal((await forge(visitor, '/email', { email: 'me@new.example' })).status, 400)
      const user = (await test.database.directory.user(id))!
      assert.deepEqual([user.email, user.hasPassword], [email, false])
    })
  })

  it('nobody who is not signed in changes anything', async () => {
    const person = await firstSignIn(test, (await somebody('payor')).email)
    assert.ok(hasCode(person.answer))
    const nobody = test.visitor()
    for (const page of ['/always', '/app/remove', '/phone/remove', '/email', '/notices', '/email/confirm'])
      assert.match((await nobody.request(`${test.url}/account${page}`, { form: {} })).location ?? '', /\/auth\?/)
  })
})
