/** What companies demand of their people, through real HTTP: lock-out, idleness, passwords by mail, phones, and notice of a date. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { createPasswordHasher, type Letter, passwordCounter } from '../../interactions/index.ts'
import { changeDirectory } from '../../server/changes.ts'
import { tellOfDeadlines } from '../../server/deadlines.ts'
import { explainFor } from '../../server/explain.ts'
import { openHouse } from '../../server/open.ts'
import { planningOf, sallyportOf } from '../../server/provider.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import type { Company, WrittenConnection } from '../../server/stores.ts'
import { now, wait } from '../support/clock.ts'
import {
  acknowledge,
  CHALLENGE,
  codeOf,
  enrol,
  errorOf,
  hasCode,
  openTestHouse,
  PASSWORD,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { TEXTS } from '../support/texts.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const DAY = 24 * 60 * 60
const NEW = 'ponies dance at midnight'
const WRONG = 'wrong wrong wrong wrong'
const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 100 })

describe('company rules', () => {
  let test: TestHouse
  let count = 0
  before(async () => {
    test = await openTestHouse({ ...TEXTS, SALLYPORT_SMS_COUNTRIES: 'US,GB,FR' })
  })
  after(() => test.close())

  /** A company of these rules, and somebody who belongs to it, and to others. */
  async function member(rules: Company['rules'], more: Partial<Company> & { also?: Company['rules'][] } = {}) {
    count += 1
    const { also = [], ...rest } = more
    const email = `member${count}@rules.example`
    const companies = [rules, ...also].map(
      (one, index): Company => ({
        id: `rules${count}-${index}`,
        name: `Rules ${count}`,
        side: 'none',
        domains: [],
        disabled: false,
        ...(one && { rules: one }),
        ...rest,
      }),
    )
    const id = `member-${count}`
    const memberships = companies.map(({ id: company }) => ({ company, roles: [], disabled: false }))
    const value = { id, email, disabled: false, memberships, serverRoles: [] }
    await test.database.directory.commit([
      ...companies.map((company) => ({ kind: 'company' as const, op: 'put' as const, value: company })),
      { kind: 'user', op: 'put', value, passwordHash: await hasher.hash(PASSWORD) },
    ])
    return { id, email, company: companies[0]!.id }
  }
  const attempt = async (email: string, password: string, visitor = test.visitor()) =>
    signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), email, password)
  const kinds = async (accountId: string) =>
    (await test.database.outbox.list({ accountId, limit: 99 })).map(({ kind }) => kind)
  const silently = (visitor: Visitor) => visitor.clone().go(test.authUrl({ prompt: 'none' }))

  describe('lock-out', () => {
    const lockOut = async (email: string) => {
      for (let i = 0; i < 3; i++) assert.equal((await attempt(email, WRONG)).status, 400)
    }

    it('refuses the fourth attempt from unknown devices, right or not, and tells the person once', async () => {
      const { id, email } = await member({ lockout: true })
      await lockOut(email)
      assert.equal((await attempt(email, PASSWORD)).status, 400)
      assert.equal((await attempt(email, PASSWORD)).status, 400)
      await setTimeout(50)
      assert.deepEqual(await kinds(id), ['locked_out'])
      const rows = await test.database.auditReader.auditRows({ event: 'login.password', limit: 2 })
      assert.deepEqual(
        rows.map(({ details }) => details?.['cause']),
        ['locked_out', 'locked_out'],
      )
      assert.equal((await test.database.accounts.find(id))?.disabled, false)
    })

    it('lets a device in that signed in before, and the lock stands for others', async () => {
      const { email } = await member({ lockout: true })
      const own = test.visitor()
      assert.ok(hasCode(await attempt(email, PASSWORD, own)))
      await lockOut(email)
      assert.ok(hasCode(await attempt(email, PASSWORD, own)))
      assert.equal((await attempt(email, PASSWORD)).status, 400)
    })

    it('is over with a password that was reset by mail, and with `user unlock`', async () => {
      const { id, email } = await member({ lockout: true })
      await lockOut(email)
      await test.database.throttle.clear([passwordCounter(email)]) // what `user unlock` does
      assert.equal((await attempt(email, WRONG)).status, 400)
      assert.equal((await attempt(email, WRONG)).status, 400)
      assert.ok(hasCode(await attempt(email, PASSWORD)), 'three attempts are there again')
      await lockOut(email)
      const visitor = test.visitor()
      await visitor.submit(await visitor.go(`${test.url}/forgot`), { email })
      const link = await letterTo(id, 'password_reset')
      await visitor.submit(await visitor.go(link.link!), { new_password: NEW })
      await lockOut(email) // the stranger was quicker
      assert.equal((await attempt(email, NEW)).status, 400, 'the lock stands for others')
      assert.ok(hasCode(await attempt(email, NEW, visitor)))
      assert.ok((await kinds(id)).includes('new_device'), 'which is told of')
    })

    it('is off by default and where the company is disabled; of several companies the strictest wins', async () => {
      for (const who of [await member(undefined), await member({ lockout: true }, { disabled: true })]) {
        await lockOut(who.email)
        assert.ok(hasCode(await attempt(who.email, PASSWORD)))
      }
      const { email } = await member(undefined, { also: [{ lockout: true }] })
      await lockOut(email)
      assert.equal((await attempt(email, PASSWORD)).status, 400)
    })

    it('looks the same as for an address that nobody has: status, headers, text, all ten times', async () => {
      const { email } = await member({ lockout: true })
      const plain = ({ text }: Answer, address: string) =>
        text
          .replaceAll(address, 'EMAIL')
          .replace(/name="csrf" value="[^"]*"/g, 'CSRF')
          .replace(/[\w-]{43}/g, 'UID')
          .replace(/nonce[-=]"?[\w-]{22}"?/g, 'NONCE')
          .replace(/in \d+ (second|minute)s?/, 'in a while')
      const answers = async (address: string, password: string) => {
        const all: [number, string, string[]][] = []
        for (let i = 0; i < 11; i++) {
          const answer = await attempt(address, password)
          all.push([answer.status, plain(answer, address), [...answer.headers.keys()].sort()])
          if (i > 3) wait(61)
        }
        return all
      }
      const known = await answers(email, PASSWORD.toUpperCase())
      assert.deepEqual(await answers('nobody@rules.example', WRONG), known)
      assert.equal(known[10]![0], 429)
      assert.doesNotMatch(known[1]![1], /some companies/)
      assert.match(known[2]![1], /some companies/)
    })

    it('lets no more than three of twenty at once be looked at', async () => {
      const { email } = await member({ lockout: true })
      const pages = await Promise.all(
        Array.from({ length: 20 }, async () => {
          const visitor = test.visitor()
          return { visitor, page: await visitor.submit(await visitor.go(test.authUrl()), { email }) }
        }),
      )
      await Promise.all(pages.map(({ visitor, page }) => visitor.submit(page, { password: WRONG })))
      const rows = await test.database.auditReader.auditRows({ event: 'login.password', limit: 20 })
      const looked = rows.filter(({ details }) => details?.['code'] !== 'throttled' && details?.['cause'] === undefined)
      assert.equal(looked.length, 3)
    })
  })

  describe('idleness', () => {
    for (const minutes of [15, 30] as const)
      it(`${minutes} minutes unused end a session, and use keeps it`, async () => {
        const { email } = await member({ idle_minutes: minutes })
        const visitor = test.visitor()
        assert.ok(hasCode(await attempt(email, PASSWORD, visitor)))
        for (let i = 0; i < 3; i++) {
          wait(minutes * 60 - 30)
          assert.ok(hasCode(await visitor.go(test.authUrl())), 'used in time')
        }
        wait(minutes * 60 - 30)
        assert.ok(hasCode(await silently(visitor)), 'asked without a person there: no use')
        wait(31)
        assert.equal(errorOf(await silently(visitor)), 'login_required')
      })

    it('ends refresh tokens and access tokens with it, and begins a session anew at the next sign-in', async () => {
      const { email } = await member({ idle_minutes: 15 })
      const visitor = test.visitor()
      const tokens = await test.exchange(await attempt(email, PASSWORD, visitor))
      wait(14 * 60)
      const fresh = await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! })
      assert.ok(fresh['refresh_token'])
      wait(61)
      const late = await test.token({ grant_type: 'refresh_token', refresh_token: fresh['refresh_token']! })
      assert.equal(late.error, 'invalid_grant')
      const me = await fetch(`${test.url}/me`, { headers: { authorization: `Bearer ${fresh['access_token']}` } })
      assert.equal(me.status, 401)

      const before = (await test.database.artifacts.sessionsOf((await idOf(email))!, now()))[0]!
      assert.ok(hasCode(await signIn(visitor, await visitor.go(test.authUrl()), email)))
      const after = (await test.database.artifacts.sessionsOf((await idOf(email))!, now()))[0]!
      assert.equal(after.uid, before.uid)
      assert.ok(Number(after.payload['created']) > Number(before.payload['created']), 'the absolute limit begins anew')
      assert.equal(Object.keys(after.payload['authorizations'] as object).length, 1)
    })

    it('a question that was left open does not outlive the session', async () => {
      const { email } = await member({ idle_minutes: 15 })
      const visitor = test.visitor()
      const start = await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'strict' })), email)
      const choose = await visitor.go(/href="([^"]*\/choose)"/.exec(start.text)![1]!)
      const { page, secret } = await enrol(visitor, await visitor.submit(choose, { method: 'otp' }))
      assert.ok(hasCode(await acknowledge(visitor, page)))
      const challenge = await visitor.go(test.authUrl({ second_factor_max_age: '0' }))
      assert.equal(headingOf(challenge), CHALLENGE)
      wait(15 * 60)
      const answer = await visitor.submit(challenge, { code: await codeOf(secret) })
      assert.deepEqual([hasCode(answer), headingOf(answer)], [false, 'Sign in'])
    })

    it('the shortest of several companies wins, none makes it longer than the server’s hour, and a new rule counts at once', async () => {
      const two = await member({ idle_minutes: 120 }, { also: [{ idle_minutes: 30 }] })
      const visitor = test.visitor()
      assert.ok(hasCode(await attempt(two.email, PASSWORD, visitor)))
      wait(31 * 60)
      assert.equal(errorOf(await silently(visitor)), 'login_required')

      const long = await member({ idle_minutes: 120 })
      const other = test.visitor()
      assert.ok(hasCode(await attempt(long.email, PASSWORD, other)))
      wait(59 * 60)
      assert.ok(hasCode(await silently(other)))
      wait(61)
      assert.equal(errorOf(await silently(other)), 'login_required')

      const late = await member(undefined)
      const third = test.visitor()
      assert.ok(hasCode(await attempt(late.email, PASSWORD, third)))
      wait(16 * 60)
      assert.ok(hasCode(await silently(third)))
      const keys = () => ({ rules: { idle_minutes: 15 } })
      await changeDirectory(test.house, { noun: 'company', op: 'set', id: late.company, keys }, 'operator:test')
      assert.equal(errorOf(await silently(third)), 'login_required')
    })
  })

  describe('passwords by mail only', () => {
    it('are not changed in the account, also by a forged form: the page leads to a mailed link', async () => {
      const { id, email } = await member({ password_resets: 'mail' })
      const visitor = test.visitor()
      await signIn(visitor, await visitor.go(`${test.url}/account`), email)
      const closed = await visitor.go(`${test.url}/account/password`)
      assert.equal(headingOf(closed), 'Your company wants a mailed link')
      assert.match(closed.text, /href="\/forgot"/)
      const { hidden } = formOf(await visitor.go(`${test.url}/account/name`))
      const forged = await visitor.go(`${test.url}/account/password`, { form: { ...hidden, new_password: NEW } })
      assert.equal(forged.status, 403)
      assert.ok(hasCode(await attempt(email, PASSWORD)))

      await visitor.submit(await visitor.go(`${test.url}/forgot`), { email })
      await visitor.submit(await visitor.go((await letterTo(id, 'password_reset')).link!), { new_password: NEW })
      assert.ok(hasCode(await attempt(email, NEW)))
    })

    it('are set by no operator: commands and seeds are refused, a seed that would change none is not', async () => {
      const { email, company } = await member({ password_resets: 'mail' })
      const wanted = { noun: 'user' as const, op: 'set' as const, id: email }
      await assert.rejects(
        changeDirectory(test.house, { ...wanted, password: NEW }, 'operator:test'),
        /company "rules\d+-0" lets passwords be set by a mailed link only: leave it out; "Forgot your password\?"/,
      )
      const seed = (more: object) =>
        parseSeed(JSON.stringify({ users: [{ email, memberships: [{ company }], ...more }] }), 'seed', {})
      const planning = await planningOf(test.house)
      const hash = await hasher.hash(NEW)
      for (const more of [{ password: NEW }, { password_hash: hash }]) {
        await assert.rejects(
          planSeed(test.database, seed(more), { ...planning, setPasswords: true }),
          /mailed link only/,
        )
        assert.deepEqual((await planSeed(test.database, seed(more), planning)).lines, [])
      }
      const newcomer = (more: object) =>
        parseSeed(JSON.stringify({ users: [{ email: `new-${email}`, memberships: [{ company }], ...more }] }), 's', {})
      await assert.rejects(planSeed(test.database, newcomer({ password: NEW }), planning), /mailed link only/)
      const brought = await planSeed(test.database, newcomer({ password_hash: hash }), planning)
      await applyPlan(test.database, brought, 'operator:test')
      assert.ok(hasCode(await attempt(`new-${email}`, NEW)), 'a hash brought along from elsewhere is taken')
    })
  })

  describe('phones', () => {
    const countriesOn = (page: Answer) => [...page.text.matchAll(/<option value="([A-Z]{2})"/g)].map(([, code]) => code)
    /** To the page that asks for the number, or the one that takes its place. */
    const choosePhone = async (email: string) => {
      const visitor = test.visitor()
      const start = await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'strict' })), email)
      const choose = /href="([^"]*\/choose)"/.exec(start.text)?.[1]
      if (choose === undefined) return { visitor, page: start }
      return { visitor, page: await visitor.submit(await visitor.go(choose), { method: 'sms' }) }
    }

    it('are where all companies and the server allow them; a forged number elsewhere is refused', async () => {
      const { email } = await member({ sms_countries: ['FR', 'GB', 'DE'] }, { also: [{ sms_countries: ['GB', 'US'] }] })
      const { visitor, page } = await choosePhone(email)
      assert.equal(headingOf(page), 'Set Up SMS Verification')
      const { hidden } = formOf(page)
      for (const [country, phone] of [
        ['FR', '06 12 34 56 78'],
        ['US', '(202) 555-0123'],
      ] as const) {
        const refused = await visitor.go(page.at, { form: { ...hidden, country, phone } })
        assert.equal(refused.status, 400, country)
      }
      assert.deepEqual(
        countriesOn(page).filter((code) => code !== 'GB'),
        [],
      )
      const sent = await visitor.go(page.at, { form: { ...hidden, country: 'GB', phone: '07400 123456' } })
      assert.equal(headingOf(sent), 'Enter the 6-Digit Verification Code')
    })

    it('where nothing is left, only the app is offered', async () => {
      const { id, email } = await member({ sms_countries: ['DE'] })
      const { page } = await choosePhone(email)
      assert.equal(headingOf(page), 'Secure Your Account')
      const { directory, accounts } = test.database
      const [user, account, client] = [
        await directory.user(id),
        await accounts.find(id),
        await directory.client('strict'),
      ]
      const who = { user: user!, account: account!, client: client!, countries: ['US', 'GB', 'FR'] }
      const { requirement } = await explainFor(test.database, who, {}, undefined, now())
      assert.deepEqual(requirement.methods, ['otp'], 'and `explain` says so')
    })
  })

  describe('notice of a date', () => {
    const date = (days: number) => new Date((now() + days * DAY) * 1000).toISOString().slice(0, 10)
    const deadlines = async (accountId: string) =>
      (await kinds(accountId)).filter((kind) => kind === 'mfa_deadline').length
    const set = (company: string, from: string | undefined) =>
      changeDirectory(
        test.house,
        {
          noun: 'company',
          op: 'set',
          id: company,
          keys: () => ({ mfa: from && { enforced_from: from, zone: 'UTC' } }),
        },
        'operator:test',
      )
    const look = (at = now()) => tellOfDeadlines(test.house, at)

    it('goes out 14, 7 and 1 days before, once each, however many look; and anew for another date', async () => {
      const { id, company } = await member(undefined)
      // A second server on the same database.
      const second = await openHouse(test.house.config, { createKeys: false, logger: test.house.logger })
      const other = (at: number) => tellOfDeadlines(second, at)
      const begin = now()
      await set(company, date(20))
      const day = async (days: number) => {
        await Promise.all([look(begin + days * DAY), other(begin + days * DAY), look(begin + days * DAY + 3600)])
        return deadlines(id)
      }
      assert.deepEqual(
        [await day(0), await day(5), await day(6), await day(7), await day(12), await day(13), await day(18)],
        [0, 0, 1, 1, 1, 2, 2],
      )
      assert.deepEqual([await day(19), await day(20), await day(21)], [3, 3, 3])
      await set(company, date(22))
      assert.equal(await day(19), 4, 'another date, and three days before it the letter of the seventh day')
      await second.close()
    })

    it('tells of company, date and zone, leads to the account, and is of no use after the day', async () => {
      const { id, company } = await member(undefined)
      await set(company, date(3))
      await look()
      const letter = await letterTo(id, 'mfa_deadline')
      assert.equal(letter.link, `${test.url}/account`)
      const { letters } = sallyportOf(test.house)
      for (const lang of ['en', 'es', 'fr']) {
        const { subject, text } = letters.write({
          accountId: id,
          kind: 'mfa_deadline',
          body: JSON.stringify({ ...letter, lang }),
        })
        const year = letter.day!.slice(0, 4)
        for (const part of [`Rules ${count}`, year, 'UTC', `${test.url}/account`]) assert.ok(text.includes(part), part)
        assert.ok(subject.includes(year), subject)
        assert.doesNotMatch(subject + text, /\{\w+\}/)
        assert.doesNotMatch(
          letters.write({ accountId: id, kind: 'locked_out', body: JSON.stringify({ to: letter.to, lang }) }).text,
          /\{/,
        )
      }
      const [state] = await test.database.outbox.list({ accountId: id, limit: 9 })
      assert.ok(state!.expiresAt <= now() + 3 * DAY)
    })

    it('goes to nobody who has a factor, is disabled, or whose company is', async () => {
      const { id, email, company } = await member(undefined)
      const visitor = test.visitor()
      const start = await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'strict' })), email)
      const choose = await visitor.go(/href="([^"]*\/choose)"/.exec(start.text)![1]!)
      const { page } = await enrol(visitor, await visitor.submit(choose, { method: 'otp' }))
      await acknowledge(visitor, page)
      await set(company, date(3))
      const gone = await member(undefined, { disabled: true, mfa: { enforced_from: date(3), zone: 'UTC' } })
      await look()
      assert.deepEqual([await deadlines(id), await deadlines(gone.id)], [0, 0])
    })

    it('goes to nobody whom the company signs in itself, unless it wants them to be asked here as well', async () => {
      const own = { domains: ['rules.example'], mfa: { enforced_from: date(3), zone: 'UTC' } }
      const { id, company } = await member(undefined, own)
      const value: WrittenConnection = {
        ...{ id: 'rules-sso', company, domains: ['rules.example'], mode: 'forward', state: 'active', jit: false },
        idp: { entityId: 'https://idp.example', ssoUrl: 'https://idp.example', binding: 'redirect', certificates: [] },
        ...{ trustedContexts: [], attributes: {} },
      }
      const firstKey = { privateKey: 'private', certificate: 'certificate' }
      await test.database.directory.commit([{ kind: 'connection', op: 'put', value, firstKey }])
      try {
        await look()
        assert.equal(await deadlines(id), 0)
        const [stored] = (await test.database.directory.companies()).filter((one) => one.id === company)
        // The day's mark of the first look stands for the date as it was: another one is looked at anew.
        const mfa = { enforced_from: date(2), zone: 'UTC', sso: 'challenge' as const }
        await test.database.directory.commit([{ kind: 'company', op: 'put', value: { ...stored!, mfa } }])
        await look()
        assert.equal(await deadlines(id), 1)
      } finally {
        await test.database.directory.commit([{ kind: 'connection', op: 'remove', id: 'rules-sso' }])
      }
    })

    it('stands in the account of whoever has no factor, until the day', async () => {
      const { email, company } = await member(undefined)
      await set(company, date(40))
      const visitor = test.visitor()
      await signIn(visitor, await visitor.go(`${test.url}/account`), email)
      const home = await visitor.go(`${test.url}/account`)
      assert.match(home.text, /Rules \d+ asks all its people for a second step from/)
      assert.match(home.text, /href="\/account\/app"/)
      await set(company, undefined)
      assert.doesNotMatch((await visitor.go(`${test.url}/account`)).text, /asks all its people/)
    })
  })

  async function letterTo(accountId: string, kind: string): Promise<Letter> {
    for (let looks = 0; looks < 100; looks++) {
      const found = (await test.database.outbox.list({ accountId, limit: 99 })).find((one) => one.kind === kind)
      if (found) return JSON.parse((await test.database.outbox.read(found.id))!) as Letter
      await setTimeout(20)
    }
    throw new Error(`no ${kind} to ${accountId}`)
  }
  const idOf = async (email: string) => (await test.database.accounts.findByEmail(email))?.account.id
})
