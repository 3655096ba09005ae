/** The acceptance statements about what companies demand, by their numbers, through real HTTP to the token. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { createPasswordHasher, type Letter } from '../../interactions/index.ts'
import type { Company } from '../../server/stores.ts'
import { now, wait } from '../support/clock.ts'
import {
  acknowledge,
  CHALLENGE,
  claimsIn,
  codeOf,
  enrol,
  errorOf,
  hasCode,
  openTestHouse,
  PASSWORD,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { headingOf, type Visitor } from '../support/visitor.ts'

const ENROLMENT = 'Secure Your Account'
const NEW = 'ponies dance at midnight'
const WRONG = 'wrong wrong wrong wrong'
const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 100 })

describe('acceptance: companies', () => {
  let test: TestHouse
  let count = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  type Demands = Pick<Company, 'mfa' | 'rules'>
  const put = (id: string, demands: Demands) =>
    test.database.directory.commit([
      {
        kind: 'company',
        op: 'put',
        value: { id, name: id, side: 'none', domains: [], disabled: false, ...demands },
      },
    ])
  /** A standard user of companies that demand this. */
  async function standard(...companies: Demands[]) {
    count += 1
    const ids = companies.map((_, index) => `company-${count}-${index}`)
    for (const [index, demands] of companies.entries()) await put(ids[index]!, demands)
    const email = `standard${count}@people.example`
    const value = { id: `standard-${count}`, email, disabled: false, serverRoles: [] }
    const write = async (disabled: boolean) => {
      const memberships = ids.map((company) => ({ company, roles: [], disabled }))
      const passwordHash = await hasher.hash(PASSWORD)
      await test.database.directory.commit([
        { kind: 'user', op: 'put', value: { ...value, memberships }, passwordHash },
      ])
    }
    await write(false)
    return { id: value.id, email, companies: ids, write }
  }
  const attempt = async (email: string, password = PASSWORD, visitor = test.visitor()) =>
    signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), email, password)
  const silently = (visitor: Visitor) => visitor.clone().go(test.authUrl({ prompt: 'none' }))
  /** A date so many days from now, in UTC. */
  const date = (days: number) => new Date((now() + days * 86400) * 1000).toISOString().slice(0, 10)
  const from = (day: string, zone = 'UTC') => ({ mfa: { enforced_from: day, zone } })

  it('12: a standard user of companies none of which enforces signs in by password alone', async () => {
    const { email } = await standard({}, from(date(30)))
    const { amr } = claimsIn((await test.exchange(await attempt(email)))['id_token'])
    assert.deepEqual(amr, ['pwd'])
  })

  it('13: of two companies one enforces: the person enrols, and is challenged from then on', async () => {
    const { email } = await standard({}, from(date(-1)))
    const visitor = test.visitor()
    const { page, secret } = await enrol(visitor, await attempt(email, PASSWORD, visitor))
    assert.ok(hasCode(await acknowledge(visitor, page)))
    wait(31)
    const challenge = await attempt(email, PASSWORD, visitor)
    assert.equal(headingOf(challenge), CHALLENGE)
    assert.ok(hasCode(await visitor.submit(challenge, { code: await codeOf(secret) })))
  })

  it('14: the day before nobody is forced; from the first second of the date, in the zone it was set in, everybody is', async () => {
    const zone = 'America/Denver'
    const here = (seconds: number) => new Intl.DateTimeFormat('en-CA', { timeZone: zone }).format(seconds * 1000)
    const tomorrow = here(now() + 86400)
    const { email } = await standard(from(tomorrow, zone))
    const visitor = test.visitor()
    assert.ok(hasCode(await attempt(email, PASSWORD, visitor)))
    // To the last minute of today there, by way of the hour.
    while (here(now() + 3600) < tomorrow) wait(3600)
    while (here(now() + 60) < tomorrow) wait(60)
    assert.ok(hasCode(await attempt(email, PASSWORD, visitor)), 'a minute before')
    wait(60)
    assert.equal(headingOf(await attempt(email)), ENROLMENT)
    assert.equal(errorOf(await silently(visitor)), 'interaction_required', 'nor by a session of the day before')
  })

  it('15: before the date a person may add an app in their account, which asks for the password', async () => {
    const { email } = await standard(from(date(30)))
    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(`${test.url}/account`), email)
    wait(6 * 60)
    const home = await visitor.go(`${test.url}/account`)
    assert.match(home.text, /asks all its people for a second step from/)
    assert.match(home.text, /href="\/account\/app">Add/)
    const asked = await visitor.go(`${test.url}/account/app`)
    assert.equal(headingOf(asked), 'Sign in', 'the password of six minutes ago is too old')
    const { page } = await enrol(visitor, await signIn(visitor, asked, email))
    const done = await acknowledge(visitor, page)
    assert.match(done.text, /Your authenticator app is set up/)
    assert.doesNotMatch(done.text, /asks all its people for a second step from/)
  })

  it('16: an inactive user is not affected; reactivated, they must enrol', async () => {
    const { email, write } = await standard(from(date(-1)))
    await write(true)
    assert.ok(hasCode(await attempt(email)))
    await write(false)
    assert.equal(headingOf(await attempt(email)), ENROLMENT)
  })

  it('57: with lock-out the fourth attempt is refused, right or not; a known device gets in; a reset clears it; without it none is', async () => {
    const { id, email } = await standard({ rules: { lockout: true } })
    const own = test.visitor()
    assert.ok(hasCode(await attempt(email, PASSWORD, own)))
    for (let i = 0; i < 3; i++) assert.equal((await attempt(email, WRONG)).status, 400)
    assert.equal((await attempt(email)).status, 400)
    assert.ok(hasCode(await attempt(email, PASSWORD, own)))

    const visitor = test.visitor()
    await visitor.submit(await visitor.go(`${test.url}/forgot`), { email })
    await visitor.submit(await visitor.go(await linkOf(id, 'password_reset')), { new_password: NEW })
    assert.ok(hasCode(await attempt(email, NEW)))

    const free = await standard({ rules: { lockout: false } })
    for (let i = 0; i < 4; i++) assert.equal((await attempt(free.email, WRONG)).status, 400)
    assert.ok(hasCode(await attempt(free.email)))
  })

  for (const minutes of [15, 30, 60] as const)
    it(`58: ${minutes} minutes without use end the session`, async () => {
      const { email } = await standard({ rules: { idle_minutes: minutes } })
      const visitor = test.visitor()
      assert.ok(hasCode(await attempt(email, PASSWORD, visitor)))
      wait(minutes * 60 - 10)
      assert.ok(hasCode(await silently(visitor)))
      wait(11)
      assert.equal(errorOf(await silently(visitor)), 'login_required')
    })

  it('58: 120 minutes, where the server itself allows as many; none by default', async () => {
    const other = await openTestHouse({ SALLYPORT_SESSION_IDLE_SECONDS: '7200' })
    try {
      for (const [company, lives] of [
        ['hour', false],
        ['two-hours', true],
        ['none', true],
      ] as const) {
        const rules = { hour: { idle_minutes: 60 }, 'two-hours': { idle_minutes: 120 }, none: undefined } as const
        const value = { id: company, name: company, side: 'none' as const, domains: [], disabled: false }
        const email = `${company}@people.example`
        const person = { id: company, email, disabled: false, serverRoles: [] }
        const memberships = [{ company, roles: [], disabled: false }]
        await other.database.directory.commit([
          { kind: 'company', op: 'put', value: { ...value, ...(rules[company] && { rules: rules[company] }) } },
          { kind: 'user', op: 'put', value: { ...person, memberships }, passwordHash: await hasher.hash(PASSWORD) },
        ])
        const visitor = other.visitor()
        assert.ok(hasCode(await signIn(visitor, await visitor.go(other.authUrl()), email)))
        wait(119 * 60)
        const answer = await visitor.clone().go(other.authUrl({ prompt: 'none' }))
        assert.equal(hasCode(answer), lives, company)
        wait(61)
        assert.equal(errorOf(await visitor.go(other.authUrl({ prompt: 'none' }))), 'login_required')
      }
    } finally {
      await other.close()
    }
  })

  async function linkOf(accountId: string, kind: string): Promise<string> {
    for (let looks = 0; looks < 100; looks++) {
      const found = (await test.database.outbox.list({ accountId, limit: 99 })).find((one) => one.kind === kind)
      if (found) return (JSON.parse((await test.database.outbox.read(found.id))!) as Letter).link!
      await setTimeout(20)
    }
    throw new Error(`no ${kind} to ${accountId}`)
  }
})
