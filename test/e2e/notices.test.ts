/** Who is told of what happened to an account (R35, R62, R107; behaviour 41). */
import assert from 'node:assert/strict'
import type { Letter } from '../../interactions/index.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import {
  CHALLENGE,
  codeOf,
  enrol,
  firstSignIn,
  openTestHouse,
  PASSWORD,
  recoveryCodeOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { formOf, headingOf } from '../support/visitor.ts'

describe('notices', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  /** The kinds of letters to a person, oldest first, and what the newest says. */
  async function lettersTo(accountId: string) {
    const states = await test.database.outbox.list({ accountId, limit: 99 })
    const letters = await Promise.all(
      states.map(async ({ id }) => JSON.parse((await test.database.outbox.read(id))!) as Letter),
    )
    return { kinds: states.map(({ kind }) => kind).sort(), letters }
  }

  it('go out for a new app, a new recovery code and a browser that was not used before', async () => {
    const id = await test.person('ana@acme.example')
    const { visitor, secret } = await firstSignIn(test, 'ana@acme.example')
    const { kinds, letters } = await lettersTo(id)
    assert.deepEqual(kinds, ['app_added', 'new_device', 'recovery_code_made'])
    for (const { to, ip, lang } of letters) assert.deepEqual([to, ip, lang], ['ana@acme.example', '10.0.0.1', 'en'])

    wait(60)
    const again = await signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), 'ana@acme.example')
    assert.equal(headingOf(again), CHALLENGE)
    await visitor.submit(again, { code: await codeOf(secret) })
    assert.equal((await lettersTo(id)).kinds.length, 3, 'a browser that is known is told of once')
  })

  it('say nothing secret', async () => {
    const id = await test.person('bob@acme.example')
    const { secret, recoveryCode } = await firstSignIn(test, 'bob@acme.example')
    const text = JSON.stringify((await lettersTo(id)).letters)
    assert.ok(text.includes('bob@acme.example'))
    for (const word of [secret, recoveryCode]) assert.ok(!text.includes(word))
  })

  it('go out for a factor that came by the recovery code', async () => {
    const id = await test.person('cem@acme.example')
    const { recoveryCode } = await firstSignIn(test, 'cem@acme.example')
    const other = test.visitor()
    const challenge = await signIn(other, await other.go(test.authUrl()), 'cem@acme.example')
    const recovery = await other.go(`${challenge.at}/recovery`)
    const enrolment = await other.submit(recovery, { recovery_code: recoveryCode })
    recoveryCodeOn((await enrol(other, enrolment)).page)
    const { kinds } = await lettersTo(id)
    assert.ok(kinds.includes('app_replaced'))
    assert.equal(kinds.filter((kind) => kind === 'recovery_code_made').length, 2)
  })

  it('go out for a right password that nothing followed, an hour later and once a day, and not when something did (R35)', async () => {
    const id = await test.person('dot@acme.example')
    const { visitor, secret } = await firstSignIn(test, 'dot@acme.example')
    const unfinished = async () =>
      (await test.database.outbox.list({ accountId: id, limit: 99 })).filter(
        ({ kind }) => kind === 'sign_in_unfinished',
      )
    assert.deepEqual(await unfinished(), [], 'a first sign-in that came to its end')

    // The owner, in a browser that is known, and in one that is not.
    await signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), 'dot@acme.example')
    assert.deepEqual(await unfinished(), [], 'a known browser')
    nextStep()
    const fresh = test.visitor()
    const challenge = await signIn(fresh, await fresh.go(test.authUrl()), 'dot@acme.example')
    assert.equal((await unfinished()).length, 1)
    assert.equal((await fresh.submit(challenge, { code: '000000' })).status, 400)
    await fresh.submit(challenge, { code: await codeOf(secret) })
    assert.deepEqual(await unfinished(), [])

    for (const times of [1, 2, 3]) {
      const thief = test.visitor()
      const page = await signIn(thief, await thief.go(test.authUrl()), 'dot@acme.example')
      assert.equal(headingOf(page), CHALLENGE, `${times}`)
      if (times === 2) await thief.go(formOf(page, '/cancel').action, { form: formOf(page, '/cancel').hidden })
    }
    const [letter, ...more] = await unfinished()
    assert.deepEqual(more, [], 'once a day')
    assert.equal(letter!.dueAt! - letter!.createdAt, 60 * 60)
    // The owner's own sign-in in between takes nobody else's letter back.
    nextStep()
    const other = test.visitor()
    await other.submit(await signIn(other, await other.go(test.authUrl()), 'dot@acme.example'), {
      code: await codeOf(secret),
    })
    assert.deepEqual(
      (await unfinished()).map(({ id }) => id),
      [letter!.id],
    )
    wait(24 * 60 * 60)
    const again = test.visitor()
    await signIn(again, await again.go(test.authUrl()), 'dot@acme.example')
    assert.equal((await unfinished()).length, 2)
  })

  it('go out for a password of somebody else in the same browser, whatever is finished after it', async () => {
    const victim = await test.person('fay@acme.example')
    await firstSignIn(test, 'fay@acme.example')
    await test.person('mallory@city.example', 'standard')
    const thief = test.visitor()
    const start = await thief.go(test.authUrl())
    const password = await thief.submit(start, { email: 'fay@acme.example' })
    const challenge = await thief.submit(password, { password: PASSWORD })
    assert.equal(headingOf(challenge), CHALLENGE)
    // "Not you?", the pages of before, and a new request: each then with a sign-in that needs no second factor.
    const { action, hidden } = formOf(challenge, '/different')
    const again = await thief.go(action, { form: hidden })
    for (const at of [again.at, start.at, test.authUrl()]) {
      const page = await thief.go(at)
      if (/name="email"/.test(page.text)) await signIn(thief, page, 'mallory@city.example')
    }
    const waiting = (await test.database.outbox.list({ accountId: victim, limit: 99 })).filter(
      ({ kind }) => kind === 'sign_in_unfinished',
    )
    assert.equal(waiting.length, 1)
  })

  it('go out for ten wrong codes, and for a code that was used before, once a day each (R35, R56)', async () => {
    const midnight = () => wait(24 * 60 * 60 - (now() % (24 * 60 * 60)))
    midnight()
    const id = await test.person('eli@acme.example')
    const { secret } = await firstSignIn(test, 'eli@acme.example')
    const kinds = async () =>
      (await test.database.outbox.list({ accountId: id, limit: 99 }))
        .map(({ kind }) => kind)
        .filter((kind) => ['sign_in_unfinished', 'wrong_codes', 'code_replayed'].includes(kind))
        .sort()
    nextStep()
    const code = await codeOf(secret)
    for (const _visitor of [1, 2, 3]) {
      const visitor = test.visitor()
      await visitor.submit(await signIn(visitor, await visitor.go(test.authUrl()), 'eli@acme.example'), { code })
    }
    assert.deepEqual(await kinds(), ['code_replayed', 'sign_in_unfinished'])
    midnight()
    for (const _times of [1, 2]) {
      wait(31 * 60)
      const thief = test.visitor()
      let page = await signIn(thief, await thief.go(test.authUrl()), 'eli@acme.example')
      for (let tries = 0; tries < 10 && page.status !== 429; tries++)
        page = await thief.submit(page, { code: '000000' })
      assert.equal(headingOf(page), 'Too many wrong codes')
    }
    assert.deepEqual(await kinds(), ['code_replayed', 'sign_in_unfinished', 'wrong_codes'], 'one letter for one thief')
  })

  it('are kept for nobody in production without a mail server', async () => {
    const { noticesOf } = await import('../../server/provider.ts')
    const config = { ...test.house.config, NODE_ENV: 'production' as const }
    assert.deepEqual(noticesOf({ config })({ id: 'a', email: 'a@b' }, 'mfa_reset', { now: 1, lang: 'en' }), [])
  })
})
