/** Codes by text, through real HTTP to the token: the acceptance statements about methods and SMS, and what strangers may try. */
import assert from 'node:assert/strict'
import { ACR_2FA, ACR_2FA_APP } from '../../interactions/policy.ts'
import { nextStep, now, standStill, wait } from '../support/clock.ts'
import {
  acknowledge,
  CHALLENGE,
  claimsIn,
  codeOf,
  enrol,
  errorOf,
  firstSignIn,
  hasCode,
  MAILED_LINK,
  openMailedLink,
  openTestHouse,
  recoveryCodeOn,
  secretOn,
  signIn,
  stolen,
  type TestHouse,
} from '../support/house.ts'
import { codeByText, not, TEXTS, textsTo } from '../support/texts.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const REQUIRED = 'Two-Factor Authentication Required'
const SELECT = 'Select an Authentication Method'
const SET_UP = 'Set Up SMS Verification'
const ENTER = 'Enter the 6-Digit Verification Code'
const CHOOSE = 'How Do You Want to Verify Your Identity'
const ENTER_TO_VERIFY = 'Enter Your 6-digit Verification Code'
const SEND = 'Verify Your Identity'

describe('codes by text', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse({ ...TEXTS, SALLYPORT_SMS_COUNTRIES: 'US,GB' })
  })
  after(() => test.close())

  const somebody = async (role: 'payor' | 'payee' | 'standard' = 'payee') => {
    people += 1
    const email = `text${people}@${role}.example`
    const id = await test.person(email, role)
    // Each a number of their own, in a block of their own.
    const area = [202, 212, 303, 415, 512, 617, 702][people % 7]
    const phone = `(${area}) ${555 + Math.floor(people / 7)}-01${String(people % 100).padStart(2, '0')}`
    return { id, email, phone }
  }
  type Somebody = Awaited<ReturnType<typeof somebody>>
  const begin = async ({ email }: Somebody, params: Record<string, string> = {}, visitor = test.visitor()) => ({
    visitor,
    page: await signIn(visitor, await visitor.go(test.authUrl(params)), email),
  })
  const follow = (visitor: Visitor, page: Answer, href: RegExp) => {
    const target = new RegExp(`href="([^"]*${href.source})"`).exec(page.text)?.[1]
    assert.ok(target, `${headingOf(page)} leads to ${href}`)
    return visitor.go(new URL(target, page.at).href)
  }
  /** A POST to a page of this interaction that no form leads to. */
  const forge = (visitor: Visitor, page: Answer, segment: string, fields: Record<string, string>) => {
    const base = page.at.replace(/(\/interaction\/[\w-]+).*/, '$1')
    return visitor.go(`${base}${segment && `/${segment}`}`, { form: { ...formOf(page).hidden, ...fields } })
  }
  /** From "Two-Factor Authentication Required" to the page that takes the code. */
  const sendTo = async (visitor: Visitor, page: Answer, phone: string, country = 'US') => {
    const choose = await follow(visitor, page, /\/choose/)
    const form = await visitor.submit(choose, { method: 'sms' })
    return visitor.submit(form, { country, phone })
  }
  /** A first sign-in by SMS, up to the app. */
  const byText = async (person: Somebody, params: Record<string, string> = {}) => {
    const { visitor, page } = await begin(person, params)
    const enter = await sendTo(visitor, page, person.phone)
    const recovery = await visitor.submit(enter, { code: await codeByText(test, person.id) })
    const recoveryCode = recoveryCodeOn(recovery)
    const answer = await acknowledge(visitor, recovery)
    assert.ok(hasCode(answer))
    wait(31)
    return { visitor, recoveryCode, answer }
  }
  /** A challenge by text, from the page that sends. */
  const challenged = async (person: Somebody, params: Record<string, string> = {}, visitor = test.visitor()) => {
    const { page } = await begin(person, params, visitor)
    assert.equal(headingOf(page), SEND)
    const enter = await visitor.submit(page, { resend: 'yes' })
    assert.equal(headingOf(enter), ENTER_TO_VERIFY)
    return { visitor, enter }
  }

  describe('enrolment', () => {
    it('7, 8: a payee is offered the app first, may take SMS, and gets a recovery code', async () => {
      const person = await somebody()
      const { visitor, page } = await begin(person)
      assert.equal(headingOf(page), REQUIRED)
      assert.match(page.text, />Set Up Now</)
      const choose = await follow(visitor, page, /\/choose/)
      assert.equal(headingOf(choose), SELECT)
      const values = [...choose.text.matchAll(/type="radio" value="(\w+)"/g)].map(([, value]) => value)
      assert.deepEqual(values, ['otp', 'sms'], 'the app first')
      assert.match(choose.text, /Authenticator App \(Recommended\)/)
      assert.doesNotMatch(choose.text, / checked/)
      const undecided = await visitor.submit(choose, {})
      assert.deepEqual([undecided.status, headingOf(undecided)], [400, SELECT])

      const form = await visitor.submit(choose, { method: 'sms' })
      assert.equal(headingOf(form), SET_UP)
      assert.deepEqual(await textsTo(test, person.id), [], 'nothing was sent so far')
      const enter = await visitor.submit(form, { country: 'US', phone: person.phone })
      assert.equal(headingOf(enter), ENTER)
      const [text, ...more] = await textsTo(test, person.id)
      assert.deepEqual(more, [])
      assert.match(
        text!.text,
        /^\d{6} is your sign-in code for Payments \(Sallyport\)\. We will never ask you for it\.\n\n@127\.0\.0\.1 #\d{6}$/,
      )
      assert.equal(text!.to, `+1${person.phone.replace(/\D/g, '')}`)
      assert.ok(enter.text.includes(`ending in ${text!.to.slice(-2)}`))
      assert.ok(!enter.text.includes(text!.to.slice(-4)), 'two digits and no more')

      const code = await codeByText(test, person.id)
      const wrong = await visitor.submit(enter, { code: not(code) })
      assert.deepEqual([wrong.status, headingOf(wrong)], [400, ENTER])
      const recovery = await visitor.submit(enter, { code: `${code.slice(0, 3)} ${code.slice(3)}` })
      assert.equal(headingOf(recovery), 'Almost There')
      const answer = await acknowledge(visitor, recovery)
      const claims = claimsIn((await test.exchange(answer))['id_token'])
      assert.deepEqual(claims.amr, ['pwd', 'sms', 'mfa'])
      assert.equal(claims.acr, ACR_2FA)
      const account = (await test.database.accounts.find(person.id))!
      assert.deepEqual(Object.keys(account.enrolled), ['sms'])
    })

    it('7: a payee who takes the app goes on as payors do', async () => {
      const person = await somebody()
      const { visitor, page } = await begin(person)
      const secure = await visitor.submit(await follow(visitor, page, /\/choose/), { method: 'otp' })
      assert.equal(headingOf(secure), 'Secure Your Account')
      assert.equal(headingOf(await follow(visitor, secure, /\/choose/)), SELECT, 'and may change their mind')
      const { page: recovery } = await enrol(visitor, secure)
      const answer = await acknowledge(visitor, recovery)
      assert.deepEqual(claimsIn((await test.exchange(answer))['id_token']).amr, ['pwd', 'otp', 'mfa'])
    })

    it('5, 26: a payor is never offered SMS; forged requests for it are refused', async () => {
      const person = await somebody('payor')
      const { visitor, page } = await begin(person)
      assert.equal(headingOf(page), 'Secure Your Account')
      assert.doesNotMatch(page.text, /SMS|text message|\/choose/i)
      for (const segment of ['required', 'choose', 'phone', 'sms']) {
        assert.equal((await visitor.go(`${page.at}/${segment}`)).status, 404, segment)
        for (const forged of [{ method: 'sms' }, { country: 'US', phone: person.phone }, { code: '000000' }]) {
          const refused = await forge(visitor, page, segment, forged as Record<string, string>)
          assert.equal(refused.status, 404, `${segment} ${JSON.stringify(forged)}`)
        }
      }
      assert.deepEqual(await textsTo(test, person.id), [])
      const asked = { claims: JSON.stringify({ id_token: { amr: { essential: true, values: ['sms'] } } }) }
      assert.equal(errorOf((await begin(person, asked)).page), 'unmet_authentication_requirements')
      const secured = await enrol(visitor, page)
      const answer = await acknowledge(visitor, secured.page)
      assert.deepEqual(claimsIn((await test.exchange(answer))['id_token']).amr, ['pwd', 'otp', 'mfa'])
    })

    it('9: a payee’s number outside the United States is refused, a standard user’s where texts are sent is not', async () => {
      const payee = await somebody()
      const { visitor, page } = await begin(payee)
      const form = await visitor.submit(await follow(visitor, page, /\/choose/), { method: 'sms' })
      assert.doesNotMatch(form.text, /value="GB"/)
      for (const phone of [
        { country: 'GB', phone: '07400 123456' },
        { country: 'US', phone: '+44 7400 123456' },
      ]) {
        const refused = await visitor.submit(form, phone)
        assert.deepEqual([refused.status, headingOf(refused)], [400, SET_UP])
        assert.match(refused.text, /cannot send texts to this number’s country/)
      }
      for (const phone of ['12', 'call me', '', '911']) {
        const refused = await visitor.submit(form, { country: 'US', phone })
        assert.equal(refused.status, 400)
        assert.match(refused.text, /id="phone-error"/)
      }
      assert.deepEqual(await textsTo(test, payee.id), [])

      const standard = await somebody('standard')
      const other = await begin(standard, { client_id: 'strict' })
      const enter = await sendTo(other.visitor, other.page, '07400 123456', 'GB')
      assert.equal(headingOf(enter), ENTER)
      assert.equal((await textsTo(test, standard.id))[0]!.to, '+447400123456')
      const elsewhere = await somebody('standard')
      const third = await begin(elsewhere, { client_id: 'strict' })
      assert.equal((await sendTo(third.visitor, third.page, '06 12 34 56 78', 'FR')).status, 400)
    })

    it('a number can be changed before it is proven; its former code then opens nothing', async () => {
      const person = await somebody()
      const { visitor, page } = await begin(person)
      const enter = await sendTo(visitor, page, person.phone)
      const first = await codeByText(test, person.id)
      const form = await follow(visitor, enter, /\/phone/)
      const soon = await visitor.submit(form, { country: 'US', phone: '(415) 555-0142' })
      assert.deepEqual([soon.status, headingOf(soon)], [429, SET_UP], 'not at once')
      assert.match(soon.text, /value="\(415\) 555-0142"/, 'what was typed stays')
      wait(31)
      const again = await visitor.submit(form, { country: 'US', phone: '(415) 555-0142' })
      assert.equal(headingOf(again), ENTER)
      const twice = await visitor.submit(form, { country: 'US', phone: '415-555-0142' })
      assert.deepEqual([twice.status, headingOf(twice)], [200, ENTER], 'a second click leads to the code under way')
      assert.equal((await textsTo(test, person.id)).length, 2)
      const impatient = await visitor.submit(again, { resend: 'yes' })
      assert.deepEqual([impatient.status, headingOf(impatient)], [429, ENTER])
      assert.match(impatient.text, /You can ask for a new one in/)
      if ((await codeByText(test, person.id)) !== first)
        assert.equal((await visitor.submit(again, { code: first })).status, 400)
      const recovery = await visitor.submit(again, { code: await codeByText(test, person.id) })
      assert.equal(headingOf(recovery), 'Almost There')
      assert.equal(await test.database.factors.phone(person.id), '+14155550142')
    })

    it('where one method is there, there is no choice: essential amr "sms" leads to the phone', async () => {
      const person = await somebody('standard')
      const claims = JSON.stringify({ id_token: { amr: { essential: true, values: ['sms'] } } })
      const { visitor, page } = await begin(person, { claims })
      assert.equal(headingOf(page), REQUIRED)
      const form = await follow(visitor, page, /\/phone/)
      assert.equal(headingOf(form), SET_UP)
      assert.doesNotMatch(form.text, /Use another way/)
      // The app is not what was asked for: posted to by hand, its pages make no factor.
      assert.equal((await forge(visitor, page, 'app', { code: '123456' })).status, 404)
      const secure = await forge(visitor, page, '', { code: '000000' })
      const answer = await forge(visitor, page, '', { code: await codeOf(secretOn(secure)) })
      assert.equal(headingOf(answer), REQUIRED)
      assert.deepEqual((await test.database.accounts.find(person.id))!.enrolled, {})
    })

    it('of two codes given at once in two tabs one enrols', async () => {
      const person = await somebody()
      const { visitor, page } = await begin(person)
      const enter = await sendTo(visitor, page, person.phone)
      const code = await codeByText(test, person.id)
      await Promise.all([visitor.clone().submit(enter, { code }), visitor.clone().submit(enter, { code })])
      const account = (await test.database.accounts.find(person.id))!
      assert.deepEqual([account.factorVersion, Object.keys(account.enrolled)], [1, ['sms']])
    })
  })

  describe('the challenge', () => {
    it('sends when asked to, and never by opening a page', async () => {
      const person = await somebody()
      await byText(person)
      const before = (await textsTo(test, person.id)).length
      const { visitor, page } = await begin(person)
      assert.equal(headingOf(page), SEND)
      await visitor.go(page.at)
      assert.equal((await textsTo(test, person.id)).length, before)
      const enter = await visitor.submit(page, { resend: 'yes' })
      assert.equal((await textsTo(test, person.id)).length, before + 1)
      const answer = await visitor.submit(enter, { code: await codeByText(test, person.id) })
      const claims = claimsIn((await test.exchange(answer))['id_token'])
      assert.deepEqual(claims.amr, ['pwd', 'sms', 'mfa'])
      assert.equal(claims['second_factor_time'], now())
    })

    it('10: a new code voids the former one; it is to be had after 30, 60 and 120 seconds', async () => {
      const person = await somebody()
      await byText(person)
      wait(3600)
      const goOn = standStill()
      try {
        const { visitor, enter } = await challenged(person)
        const codes = [await codeByText(test, person.id)]
        for (const seconds of [30, 60, 120]) {
          wait(seconds - 1)
          const soon = await visitor.submit(enter, { resend: 'yes' })
          assert.deepEqual([soon.status, soon.headers.get('retry-after')], [429, '1'], `${seconds}`)
          wait(1)
          const sent = await visitor.submit(enter, { resend: 'yes', code: '12' })
          assert.equal(sent.status, 200, `${seconds}`)
          assert.match(sent.text, /A new code is on its way/)
          codes.unshift(await codeByText(test, person.id))
        }
        for (const old of codes.slice(1))
          if (old !== codes[0]) assert.equal((await visitor.submit(enter, { code: old })).status, 400)
        assert.ok(hasCode(await visitor.submit(enter, { code: codes[0]! })))
      } finally {
        goOn()
      }
    })

    it('11: a code is good for five minutes', async () => {
      const person = await somebody()
      await byText(person)
      const { visitor, enter } = await challenged(person)
      const code = await codeByText(test, person.id)
      wait(5 * 60)
      const late = await visitor.submit(enter, { code })
      assert.equal(late.status, 400)
      assert.match(late.text, /not right or has expired/)
      await visitor.submit(enter, { resend: 'yes' })
      wait(5 * 60 - 1)
      assert.ok(hasCode(await visitor.submit(enter, { code: await codeByText(test, person.id) })))
    })

    it('takes a code once, in the chain that asked for it, five tries each', async () => {
      const person = await somebody()
      await byText(person)
      const { visitor, enter } = await challenged(person)
      const code = await codeByText(test, person.id)
      wait(61)
      const other = await challenged(person)
      const fresh = await codeByText(test, person.id)
      if (fresh !== code) assert.equal((await other.visitor.submit(other.enter, { code })).status, 400, 'another chain')
      for (let tries = 1; tries <= 5; tries++)
        assert.equal((await visitor.submit(enter, { code: not(code) })).status, 400, `try ${tries}`)
      const used = await visitor.submit(enter, { code })
      assert.equal(used.status, 429, 'the right one comes too late')
      assert.match(used.text, /Ask for a new code/)
      const answer = await other.visitor.submit(other.enter, { code: fresh })
      assert.ok(hasCode(answer))
      wait(400)
      const third = await challenged(person)
      assert.equal((await third.visitor.submit(third.enter, { code: fresh })).status, 400, 'used before')
    })

    it('of 10 requests for a code at once one sends', async () => {
      const person = await somebody()
      await byText(person)
      wait(3600)
      const before = (await textsTo(test, person.id)).length
      const { visitor, page } = await begin(person)
      await Promise.all(Array.from({ length: 10 }, () => visitor.clone().submit(page, { resend: 'yes' })))
      assert.equal((await textsTo(test, person.id)).length, before + 1)
    })

    it('a new password while a code is under way voids what was proven before', async () => {
      const person = await somebody()
      await byText(person)
      wait(3600)
      const { visitor, enter } = await challenged(person)
      const code = await codeByText(test, person.id)
      await test.database.directory.raiseEpoch(person.id)
      const answer = await visitor.submit(enter, { code })
      assert.ok(!hasCode(answer))
      assert.equal(headingOf(answer), 'Sign in')
    })

    it('of 10 right answers at once one is taken', async () => {
      const person = await somebody()
      await byText(person)
      const { visitor, enter } = await challenged(person)
      const code = await codeByText(test, person.id)
      await Promise.all(Array.from({ length: 10 }, () => visitor.clone().submit(enter, { code })))
      const rows = await test.database.auditReader.auditRows({ accountId: person.id, event: 'mfa.sms' })
      const proven = rows.filter(({ outcome }) => outcome === 'success')
      assert.equal(proven.length, 1)
    })

    it('every tenth wrong code ends the interaction; tries are counted over all interactions', async () => {
      const person = await somebody()
      await byText(person)
      wait(3600)
      let last: Answer | undefined
      for (let round = 0; round < 2; round++) {
        const { visitor, enter } = await challenged(person)
        const code = await codeByText(test, person.id)
        for (let tries = 0; tries < 5; tries++) last = await visitor.submit(enter, { code: not(code) })
        wait(121)
      }
      assert.equal(last!.status, 429)
      const { visitor, enter } = await challenged(person)
      const blocked = await visitor.submit(enter, { code: await codeByText(test, person.id) })
      assert.equal(blocked.status, 429)
      assert.match(blocked.text, /recovery code/)
    })

    it('18: with app and phone a person chooses at each challenge, last used first', async () => {
      const person = await somebody()
      await byText(person)
      // Adds the app: an essential request for it, after a proof of the phone that stands.
      const { visitor, enter } = await challenged(person, { acr_values: ACR_2FA_APP })
      const secure = await visitor.submit(enter, { code: await codeByText(test, person.id) })
      assert.equal(headingOf(secure), 'Secure Your Account')
      wait(31)
      const { page: recovery, secret } = await enrol(visitor, secure)
      assert.ok(hasCode(await acknowledge(visitor, recovery)))
      assert.deepEqual(Object.keys((await test.database.accounts.find(person.id))!.enrolled).sort(), ['otp', 'sms'])

      wait(3600)
      const order = (page: Answer) => [...page.text.matchAll(/type="radio" value="(\w+)"/g)].map(([, value]) => value)
      const first = await begin(person)
      assert.equal(headingOf(first.page), CHOOSE)
      assert.deepEqual(order(first.page), ['otp', 'sms'])
      assert.equal((await first.visitor.submit(first.page, { method: 'carrier pigeon' })).status, 400)
      const text = await first.visitor.submit(first.page, { method: 'sms' })
      assert.equal(headingOf(text), ENTER_TO_VERIFY)
      const back = await follow(first.visitor, text, /\/choose/)
      assert.equal(headingOf(await first.visitor.submit(back, { method: 'sms' })), ENTER_TO_VERIFY, 'no second text')
      const count = (await textsTo(test, person.id)).length
      assert.ok(hasCode(await first.visitor.submit(text, { code: await codeByText(test, person.id) })))
      assert.equal((await textsTo(test, person.id)).length, count)

      wait(60)
      nextStep()
      const second = await begin(person)
      assert.deepEqual(order(second.page), ['sms', 'otp'])
      const app = await second.visitor.submit(second.page, { method: 'otp' })
      assert.equal(headingOf(app), CHALLENGE)
      const answer = await second.visitor.submit(app, { code: await codeOf(secret) })
      assert.deepEqual(claimsIn((await test.exchange(answer))['id_token']).amr, ['pwd', 'otp', 'mfa'])
      nextStep()
      assert.deepEqual(order((await begin(person)).page), ['otp', 'sms'])

      // A request that the phone does not reach offers the app alone.
      const third = await begin(person, { acr_values: ACR_2FA_APP })
      assert.equal(headingOf(third.page), CHALLENGE)
      assert.equal((await forge(third.visitor, third.page, 'choose', { method: 'sms' })).status, 404)
      assert.equal((await forge(third.visitor, third.page, 'sms', { resend: 'yes' })).status, 404)
    })

    it('who becomes a payor proves the phone once more, to add the app; from then on the app alone is asked', async () => {
      const person = await somebody()
      await byText(person)
      const value = { id: person.id, email: person.email, disabled: false, serverRoles: [] }
      const memberships = [{ company: 'acme', roles: ['disburser' as const], disabled: false }]
      await test.database.directory.commit([{ kind: 'user', op: 'put', value: { ...value, memberships } }])
      const { visitor, enter } = await challenged(person)
      const secure = await visitor.submit(enter, { code: await codeByText(test, person.id) })
      assert.equal(headingOf(secure), 'Secure Your Account')
      const { page: recovery, secret } = await enrol(visitor, secure)
      const answer = await acknowledge(visitor, recovery)
      assert.ok(claimsIn((await test.exchange(answer))['id_token']).amr.includes('otp'))
      nextStep()
      const next = await begin(person)
      assert.equal(headingOf(next.page), CHALLENGE)
      assert.doesNotMatch(next.page.text, /\/choose/)
      assert.equal((await forge(next.visitor, next.page, 'sms', { resend: 'yes' })).status, 404)
      assert.ok(hasCode(await next.visitor.submit(next.page, { code: await codeOf(secret) })))
    })
  })

  describe('recovery', () => {
    it('by recovery code a payee takes a new phone; the former one is dead', async () => {
      const person = await somebody()
      const { recoveryCode } = await byText(person)
      const { visitor, page } = await begin(person)
      const recovery = await follow(visitor, page, /\/recovery/)
      const required = await visitor.submit(recovery, { recovery_code: recoveryCode })
      assert.equal(headingOf(required), REQUIRED)
      const enter = await sendTo(visitor, required, '(415) 555-0177')
      assert.equal((await textsTo(test, person.id))[0]!.to, '+14155550177')
      const shown = await visitor.submit(enter, { code: await codeByText(test, person.id) })
      assert.notEqual(recoveryCodeOn(shown), recoveryCode)
      assert.ok(hasCode(await acknowledge(visitor, shown)))
      assert.equal(await test.database.factors.phone(person.id), '+14155550177')
    })

    it('40: after a reset no phone is left, and the next sign-in enrols anew', async () => {
      const person = await somebody()
      await byText(person)
      await test.database.directory.resetMfa(person.id, { now: now() })
      assert.equal(await test.database.factors.phone(person.id), undefined)
      const { visitor, page } = await begin(person)
      assert.equal(headingOf(page), MAILED_LINK)
      assert.equal(headingOf(await openMailedLink(test, visitor, person.email)), REQUIRED)
    })
  })

  it('neither number nor code is in a log, or in clear in the database', async () => {
    const person = await somebody()
    const { visitor, page } = await begin(person)
    const enter = await sendTo(visitor, page, person.phone)
    const code = await codeByText(test, person.id)
    await visitor.submit(enter, { code: not(code) })
    await visitor.submit(enter, { code })
    const number = `1${person.phone.replace(/\D/g, '')}`
    const everything = [...test.logs, await stolen(test)]
    for (const text of everything) assert.ok(!text.includes(number))
    assert.ok(!test.logs.some((line) => line.includes(code)))
  })

  it('a person without need of a second factor is asked for none (12); a payor’s sign-in is as ever', async () => {
    assert.ok(hasCode((await begin(await somebody('standard'))).page))
    const { email } = await somebody('payor')
    assert.ok(hasCode((await firstSignIn(test, email)).answer))
  })
})
