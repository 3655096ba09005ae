/** Invitations: a link to the first password (behaviour 60). */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { INVITING, type Letter } from '../../interactions/index.ts'
import { invitation } from '../../server/account/links.ts'
import { planningOf } from '../../server/provider.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import { now, wait } from '../support/clock.ts'
import { openTestHouse, signIn, type TestHouse } from '../support/house.ts'
import { headingOf } from '../support/visitor.ts'

const DAY = 24 * 60 * 60
const NEW = 'ponies dance at midnight'

describe('an invitation', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  /** A person of the seed without a password, and their letters in the order in which they are due. */
  async function invite(email: string, company = 'acme', roles = ['payments_admin']) {
    const seed = parseSeed(JSON.stringify({ users: [{ email, memberships: [{ company, roles }] }] }), 'seed.json', {})
    const plan = await planSeed(test.database, seed, await planningOf(test.house))
    await applyPlan(test.database, plan, 'operator:test')
    const { id } = (await test.database.directory.user(email))!
    return { id, notes: plan.notes, letters: await lettersTo(id) }
  }
  async function lettersTo(accountId: string) {
    const states = await test.database.outbox.list({ accountId, limit: 99 })
    const letters = await Promise.all(
      states.map(async ({ id, kind, dueAt }) => ({
        kind,
        dueAt: dueAt!,
        ...(JSON.parse((await test.database.outbox.read(id))!) as Letter),
      })),
    )
    return letters.sort((a, b) => a.dueAt - b.dueAt)
  }

  it('comes with the person, asks for a name and a password, signs nobody in, and stops the reminders', async () => {
    const at = now()
    const { id, notes, letters } = await invite('ana@acme.example')
    assert.deepEqual(notes, ['ana@acme.example is invited by mail to choose a password'])
    assert.deepEqual(
      letters.map(({ kind }) => kind),
      ['invitation', ...Array.from({ length: 4 }, () => 'invitation_reminder')],
    )
    assert.deepEqual(
      letters.slice(1).map(({ dueAt }) => Math.round((dueAt - at) / DAY)),
      [1, 3, 7, 14],
    )
    const ana = test.visitor()
    const form = await ana.go(letters[0]!.link!)
    assert.equal(headingOf(form), 'Welcome to Sallyport')
    assert.equal((await ana.submit(form, { new_password: NEW })).status, 400)
    const nameless = await ana.submit(form, { name: ' ', new_password: NEW })
    assert.match(nameless.text, /Enter your name/)
    assert.equal(headingOf(await ana.submit(form, { name: 'Ana Arc', new_password: NEW })), 'Your password is set')
    assert.ok(!ana.cookies.some(({ name }) => name === 'session'))
    assert.equal((await test.database.directory.user('ana@acme.example'))?.name, 'Ana Arc')
    assert.deepEqual(await lettersTo(id), [])

    const enrolment = await signIn(ana, await ana.go(test.authUrl()), 'ana@acme.example', NEW)
    assert.equal(headingOf(enrolment), 'Secure Your Account')
    assert.equal(headingOf(await test.visitor().go(letters[0]!.link!)), 'This link has been used')
  })

  for (const [who, company, roles, days] of [
    ['somebody who pays', 'acme', ['payments_admin'], 3],
    ['somebody who is paid', 'best', ['payments_admin'], 14],
    ['anybody else', 'city', [], 3],
  ] as const)
    it(`to ${who} is good for ${days} days, and its page leads to a new one`, async () => {
      const email = `p${days}-${company}@${company}.example`
      const { id, letters } = await invite(email, company, [...roles])
      const link = letters[0]!.link!
      assert.equal(letters[0]!.vars!['days'], String(days))
      wait(days * DAY - 5)
      assert.equal(headingOf(await test.visitor().go(link)), 'Welcome to Sallyport')
      wait(5)
      const visitor = test.visitor()
      const expired = await visitor.go(link)
      assert.equal(headingOf(expired), 'This link has expired')
      const answer = await visitor.submit(await visitor.go(`${test.url}/forgot`), { email })
      assert.equal(headingOf(answer), 'Look into your mail')
      let again = await lettersTo(id)
      for (let looks = 0; looks < 50 && again.every((one) => one.link === link); looks++) {
        await setTimeout(20)
        again = await lettersTo(id)
      }
      assert.equal(again.length, 5, 'the former ones are taken back')
      assert.ok(again.every((one) => one.link !== link))
      assert.equal(headingOf(await test.visitor().go(link)), 'This link does not work')
      assert.equal(headingOf(await test.visitor().go(again[0]!.link!)), 'Welcome to Sallyport')
    })

  it('goes to nobody whose password is given, and to nobody who is there already', async () => {
    const seed = {
      users: [{ email: 'pat@city.example', password: 'correct horse battery staple' }, { email: 'ana@acme.example' }],
    }
    const plan = await planSeed(
      test.database,
      parseSeed(JSON.stringify(seed), 'seed.json', {}),
      await planningOf(test.house),
    )
    assert.deepEqual(plan.notes, [])
    assert.ok(plan.changes.every((change) => !('welcome' in change)))
  })
  it('is void when a newer one is sent', async () => {
    const { id, letters } = await invite('lee@acme.example')
    const account = (await test.database.accounts.find(id))!
    const about = { config: test.house.config, now: now(), lang: 'en', inviter: 'Acme' }
    const newer = invitation(account, about)
    await test.database.outbox.withdraw(id, [...INVITING])
    assert.ok(await test.database.passwords.issueLink(id, 'welcome', newer.link, newer.messages))
    assert.equal(headingOf(await test.visitor().go(letters[0]!.link!)), 'This link does not work')
    assert.equal((await lettersTo(id)).length, 5)
  })
})
