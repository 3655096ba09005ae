/** The acceptance statements about Payments as its client sees them, by their numbers: the demo's app, its API, and a person. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import type { JWTPayload } from 'jose'
import { endSessionsOf } from '../../server/sessions.ts'
import { nextStep, wait } from '../support/clock.ts'
import { acknowledge, CHALLENGE, codeOf, enrol, openTestHouse, PASSWORD, type TestHouse } from '../support/house.ts'
import { openPayments } from '../support/payments.ts'
import { codeByText, TEXTS } from '../support/texts.ts'
import { type Answer, headingOf, type Visitor } from '../support/visitor.ts'

describe('acceptance: Payments', () => {
  let test: TestHouse
  let app: string
  let close: () => Promise<void>
  let people = 0
  before(async () => {
    test = await openTestHouse(TEXTS)
    ;({ app, close } = await openPayments(test))
  })
  after(async () => {
    await close()
    await test.close()
  })

  /** A link or a form of the app, and every redirect of app and provider after it. */
  const go = async (visitor: Visitor, path: string, form?: Record<string, string>) =>
    follow(visitor, await visitor.request(`${app}${path}`, form && { form }))
  const follow = async (visitor: Visitor, answer: Answer): Promise<Answer> => {
    let page = answer
    for (let hops = 0; page.location; hops++) {
      assert.ok(hops < 20, visitor.log.slice(-20).join(', '))
      page = await visitor.request(page.location)
    }
    return page
  }
  const submit = async (visitor: Visitor, page: Answer, typed: Record<string, string>, to?: string) =>
    follow(visitor, await visitor.submit(page, typed, to))
  const signIn = async (visitor: Visitor, page: Answer, email: string) =>
    submit(visitor, await submit(visitor, page, { email }), { password: PASSWORD })
  const answerCode = async (visitor: Visitor, page: Answer, secret: string) => {
    assert.equal(headingOf(page), CHALLENGE)
    nextStep()
    return submit(visitor, page, { code: await codeOf(secret) })
  }
  const wrong = async (secret: string) => ((await codeOf(secret)) === '000000' ? '000001' : '000000')
  const made = (page: Answer) => /id="disbursements">(\d+)</.exec(page.text)?.[1]

  /** A payor who has just signed in to the app, by password and app. */
  async function payor() {
    people += 1
    const email = `tool${people}@acme.example`
    const id = await test.person(email)
    const visitor = test.visitor()
    const { page, secret } = await enrol(visitor, await signIn(visitor, await go(visitor, '/sign-in'), email))
    const home = await follow(visitor, await acknowledge(visitor, page))
    assert.equal(headingOf(home), 'Payments')
    return { id, email, visitor, secret }
  }
  /** Into the tool, whatever is asked on the way. */
  async function entered() {
    const person = await payor()
    assert.equal(
      headingOf(await go(person.visitor, '/payments')),
      'Payments tool',
      'a code of just now is fresh enough',
    )
    return person
  }

  it('its forms are posted by its own pages only, not by those of another port of the same machine', async () => {
    for (const origin of ['http://127.0.0.1:9', 'http://localhost', 'null', undefined])
      for (const path of ['/disburse', '/bank-account', '/go-on', '/idle?seconds=30']) {
        const headers = { ...(origin && { origin }) }
        const forged = await fetch(`${app}${path}`, { method: 'POST', headers, redirect: 'manual' })
        assert.equal(forged.status, 403, `${origin} ${path}`)
      }
  })

  it('20: on entering Payments the client demands a new code although the session is alive, and no password', async () => {
    const { visitor, secret } = await payor()
    wait(6 * 60)
    assert.equal(headingOf(await go(visitor, '/')), 'Payments', 'still signed in')
    const tool = await answerCode(visitor, await go(visitor, '/payments'), secret)
    assert.equal(headingOf(tool), 'Payments tool')
    assert.equal(headingOf(await go(visitor, '/payments')), 'Payments tool', 'and is not asked again at once')
  })

  it('21: a disbursement and a bank account change each need a code of their own; one code does not serve two', async () => {
    const { visitor, secret } = await entered()
    const first = await answerCode(visitor, await go(visitor, '/disburse', {}), secret)
    assert.equal(made(first), '1')
    const second = await answerCode(visitor, await go(visitor, '/disburse', {}), secret)
    assert.equal(made(second), '2')
    const change = await answerCode(visitor, await go(visitor, '/bank-account', { account: '000123456789' }), secret)
    assert.match(change.text, /account ending in 6789/)

    // Both begun in two tabs before one code: it carries out one of them.
    const other = visitor.clone()
    const [pay, bank] = [await go(visitor, '/disburse', {}), await go(other, '/bank-account', { account: '11112222' })]
    assert.deepEqual([headingOf(pay), headingOf(bank)], [CHALLENGE, CHALLENGE])
    nextStep()
    const code = await codeOf(secret)
    const answers = [await submit(visitor, pay, { code }), await submit(other, bank, { code })]
    const tool = await go(visitor, '/payments')
    const done = [made(tool) === '3', tool.text.includes('ending in 2222')].filter(Boolean)
    assert.ok(done.length <= 1, answers.map(headingOf).join())
  })

  it('21: what is no account number is refused before anybody is asked for a code', async () => {
    const { visitor } = await entered()
    for (const account of ['', '12a4', '1'.repeat(18)]) {
      const page = await go(visitor, '/bank-account', { account })
      assert.deepEqual([page.status, headingOf(page)], [400, 'Payments tool'])
      assert.match(page.text, /role="alert">Enter an account number/)
    }
  })

  it('22: thirty minutes and a second without use need a new code; 29 minutes with use do not', async () => {
    const { visitor } = await entered()
    for (let i = 0; i < 3; i++) {
      wait(29 * 60)
      assert.equal(headingOf(await go(visitor, '/payments')), 'Payments tool')
    }
    const idle = await entered()
    wait(30 * 60 + 1)
    const challenge = await go(idle.visitor, '/payments')
    assert.equal(headingOf(await answerCode(idle.visitor, challenge, idle.secret)), 'Payments tool')
  })

  it('22: the clock can be set to thirty seconds for a try', async () => {
    const { visitor, secret } = await entered()
    const page = await go(visitor, '/idle?seconds=30', {})
    assert.match(page.text, /id="idle">30 seconds</)
    wait(29)
    assert.equal(headingOf(await go(visitor, '/payments')), 'Payments tool')
    wait(31)
    const tool = await answerCode(visitor, await go(visitor, '/payments'), secret)
    assert.match(tool.text, /id="idle">30 seconds</)
    assert.match((await go(visitor, '/idle?seconds=5', {})).text, /id="idle">30 minutes</)
  })

  it('23: the tenth wrong code ends the session; the next request needs both factors, and the transaction still waits', async () => {
    const { visitor, email, secret } = await entered()
    let page = await go(visitor, '/disburse', {})
    nextStep()
    for (let i = 1; i <= 10; i++) {
      page = await submit(visitor, page, { code: await wrong(secret) })
      assert.equal(page.status, i < 10 ? 400 : 429)
    }
    // Told by the provider, behind the browser's back.
    for (let looks = 0; looks < 50 && !(await go(visitor, '/')).text.includes('not signed in'); looks++)
      await setTimeout(50)
    const out = await go(visitor, '/')
    assert.match(out.text, /Your disbursement was not made yet/)
    assert.match(out.text, /You are not signed in/)
    const back = /href="([^"]+error=access_denied[^"]*)"/.exec(page.text)![1]!.replaceAll('&amp;', '&')
    const told = await follow(visitor, await visitor.request(back))
    assert.deepEqual([told.status, headingOf(told)], [400, 'Not made'])
    assert.match(told.text, /too many wrong codes/)

    const start = await go(visitor, '/sign-in')
    assert.equal(headingOf(start), 'Sign in', 'the session at the provider is over too')
    const challenge = await signIn(visitor, start, email)
    assert.equal((await submit(visitor, challenge, { code: await codeOf(secret) })).status, 429, 'the method waits')
    wait(30 * 60)
    const again = await signIn(visitor, await go(visitor, '/sign-in'), email)
    const home = await answerCode(visitor, again, secret)
    assert.match(home.text, /Go on with the disbursement/)
    const paid = await answerCode(visitor, await submit(visitor, home, {}, '/go-on'), secret)
    assert.equal(made(paid), '1')
    assert.doesNotMatch(paid.text, /not made yet/)
  })

  it('26: a code by SMS changes a payee’s bank account, and makes no disbursement', async () => {
    people += 1
    const email = `paid${people}@best.example`
    const id = await test.person(email, 'payee')
    const visitor = test.visitor()
    const required = await signIn(visitor, await go(visitor, '/sign-in'), email)
    const choose = await visitor.go(/href="([^"]*\/choose)"/.exec(required.text)![1]!)
    const phone = await submit(visitor, choose, { method: 'sms' })
    const enter = await submit(visitor, phone, { country: 'US', phone: '(202) 555-0188' })
    const recovery = await submit(visitor, enter, { code: await codeByText(test, id) })
    const home = await submit(visitor, recovery, { acknowledged: 'yes' })
    const token = JSON.parse(
      /<pre id="id-token"[^>]*>([\s\S]*?)<\/pre>/.exec(home.text)![1]!.replaceAll('&#34;', '"'),
    ) as JWTPayload
    assert.deepEqual(token['amr'], ['pwd', 'sms', 'mfa'])
    wait(60)
    const send = await go(visitor, '/bank-account', { account: '55556666' })
    const sent = await submit(visitor, send, { resend: 'yes' })
    const tool = await submit(visitor, sent, { code: await codeByText(test, id) })
    assert.match(tool.text, /account ending in 6666/)
    // A disbursement wants the app, which this person does not have.
    const pay = await go(visitor, '/disburse', {})
    assert.doesNotMatch(pay.text, /id="disbursements"/)
  })

  it('a person who goes back to the app at the challenge stays signed in, and nothing was made', async () => {
    const { visitor } = await entered()
    const page = await go(visitor, '/disburse', {})
    const told = await submit(visitor, page, {}, '/cancel')
    assert.deepEqual([told.status, headingOf(told)], [400, 'Not made'])
    const tool = await go(visitor, '/payments')
    assert.equal(made(tool), '0')
    assert.match(tool.text, /Go on with the disbursement/)
  })

  it('what ends the sessions at the provider signs the app out as well; a forged logout does nothing', async () => {
    const { visitor, id } = await entered()
    for (const token of ['', 'x', 'eyJhbGciOiJub25lIn0.e30.']) {
      const forged = await fetch(`${app}/backchannel-logout`, {
        method: 'POST',
        body: new URLSearchParams({ logout_token: token }),
      })
      assert.equal(forged.status, 400)
    }
    assert.equal(headingOf(await go(visitor, '/payments')), 'Payments tool')
    await test.database.directory.raiseEpoch(id)
    const { told } = await endSessionsOf(test.house, [id], 'operator:test')
    assert.deepEqual(told, ['tool'])
    assert.match((await go(visitor, '/')).text, /You are not signed in/)
    assert.equal(headingOf(await go(visitor, '/payments')), 'Sign in')
  })
})
