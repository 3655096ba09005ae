/** Many guesses, by whoever has time and addresses: what they open, and whom they shut out (R31, R32, R33, R54). */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import type { Letter } from '../../interactions/index.ts'
import { wait } from '../support/clock.ts'
import {
  CHALLENGE,
  codeOf,
  enrol,
  firstSignIn,
  hasCode,
  openTestHouse,
  PASSWORD,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { not } from '../support/texts.ts'
import { formOf, headingOf } from '../support/visitor.ts'

describe('guessing', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse({ SALLYPORT_LOG_LEVEL: 'silent' })
  })
  after(() => test.close())

  it('10,000 wrong passwords from as many addresses shut nobody out who has a known browser, or resets by mail', async function () {
    this.timeout(300_000)
    const email = 'ana@city.example'
    const id = await test.person(email, 'standard')
    const owner = test.visitor()
    assert.ok(hasCode(await signIn(owner, await owner.go(test.authUrl()), email)))

    let looked = 0
    for (let round = 0; round < 100; round++) {
      const stranger = test.visitor()
      const page = await stranger.submit(await stranger.go(test.authUrl()), { email })
      const { action, hidden } = formOf(page)
      const form = { ...hidden, password: 'wrong wrong wrong wrong' }
      const tries = Array.from({ length: 100 }, (_, index) =>
        stranger.request(action, { form, headers: { 'x-forwarded-for': `10.200.${round}.${index}` } }),
      )
      for (const { status } of await Promise.all(tries)) {
        assert.ok(status === 400 || status === 429, String(status))
        if (status === 400) looked += 1
      }
      wait(30 * 60 + 1)
    }
    assert.equal(looked, 100, 'a hundred were looked at, then none')
    const stranger = test.visitor()
    const closed = await signIn(stranger, await stranger.go(test.authUrl()), email)
    assert.equal(closed.status, 429, 'not even by the right one')

    assert.ok(hasCode(await signIn(owner, await owner.go(test.authUrl({ prompt: 'login' })), email)), 'a known browser')
    const elsewhere = test.visitor()
    await elsewhere.submit(await elsewhere.go(`${test.url}/forgot`), { email })
    let link: string | undefined
    for (let looks = 0; link === undefined && looks < 100; looks++) {
      await setTimeout(20)
      const found = (await test.database.outbox.list({ accountId: id, limit: 9 })).find(
        ({ kind }) => kind === 'password_reset',
      )
      if (found) link = (JSON.parse((await test.database.outbox.read(found.id))!) as Letter).link
    }
    await elsewhere.submit(await elsewhere.go(link!), { new_password: 'ponies dance at midnight' })
    const fresh = test.visitor()
    assert.ok(
      hasCode(await signIn(fresh, await fresh.go(test.authUrl()), email, 'ponies dance at midnight')),
      'a reset',
    )
  })

  it('whoever knows the password gets a hundred guesses at the app’s code, over all sign-ins, browsers and days', async function () {
    this.timeout(300_000)
    const email = 'bot@acme.example'
    await test.person(email)
    const { secret, recoveryCode } = await firstSignIn(test, email)
    let looked = 0
    let refused = 0
    for (let sign = 0; sign < 90; sign++) {
      const bot = test.visitor()
      let page = await signIn(bot, await bot.go(test.authUrl()), email)
      // Three in each: a sign-in that is left counts nothing anew.
      for (let guess = 0; guess < 3 && headingOf(page) === CHALLENGE; guess++) {
        page = await bot.submit(page, { code: not(await codeOf(secret)) })
        const isLooked = page.status === 400 || headingOf(page) === 'Too many wrong codes'
        if (isLooked) looked += 1
        else refused += 1
      }
      // What had to be waited for, is.
      if (page.status === 429) wait(30 * 60 + 1)
    }
    assert.equal(looked, 100)
    assert.ok(refused > 50, String(refused))
    wait(30 * 24 * 60 * 60)
    const bot = test.visitor()
    const page = await signIn(bot, await bot.go(test.authUrl()), email)
    const right = await bot.submit(page, { code: await codeOf(secret) })
    assert.equal(right.status, 429, 'the right one, a month later')
    assert.match(right.text, /Codes from this app no longer work/)

    // The owner is told, and gets in by the recovery code.
    const kinds = (await test.database.outbox.list({ limit: 500 })).map(({ kind }) => kind)
    assert.ok(kinds.includes('wrong_codes') && kinds.includes('sign_in_unfinished'))
    const owner = test.visitor()
    const challenge = await signIn(owner, await owner.go(test.authUrl()), email, PASSWORD)
    const recovery = await owner.go(`${challenge.at}/recovery`)
    const enrolment = await owner.submit(recovery, { recovery_code: recoveryCode })
    assert.equal(headingOf((await enrol(owner, enrolment)).page), 'Almost There')
  })
})
