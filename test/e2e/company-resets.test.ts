/** Administrators of a company, for their own people only (R107, R108, R109; behaviour 35–41, 43). */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import type { Letter, MembershipRole } from '../../interactions/index.ts'
import { passwordCounter } from '../../interactions/index.ts'
import type { Company } from '../../server/stores.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import {
  acknowledge,
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
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, headingOf, type Visitor } from '../support/visitor.ts'

const BOTH: MembershipRole[] = ['company_admin', 'directory_admin']
const PEOPLE = 'People you look after'
const ENTERED = { identity: 'video', note: 'Ticket 4711, seen on camera', verified: 'yes' }

describe('administrators of a company', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
    const enforced = { enforced_from: '2020-01-01', zone: 'UTC' }
    const company = (id: string, name: string, more: Partial<Company> = {}) => ({
      kind: 'company' as const,
      op: 'put' as const,
      value: { id, name, side: 'none' as const, domains: [], disabled: false, ...more },
    })
    await test.database.directory.commit([
      company('town', 'Town Works', { mfa: enforced }),
      company('port', 'Port Works', { mfa: enforced }),
      company('lax', 'Lax Works'),
      company('careful', 'Careful Works', { rules: { lockout: true } }),
      company('pipes', 'Pipes', { side: 'payee' }),
    ])
  })
  after(() => test.close())

  type Place = [company: string, roles?: MembershipRole[], disabled?: true]
  const somebody = async (...places: Place[]) => {
    people += 1
    const email = `someone${people}@example.com`
    const id = await test.person(email)
    const value = (await test.database.directory.user(id))!
    const memberships = places.map(([company, roles = [], disabled = false]) => ({ company, roles, disabled }))
    const { name, serverRoles } = value
    const written = { id, email, name, disabled: false, memberships, serverRoles }
    await test.database.directory.commit([{ kind: 'user', op: 'put', value: written }])
    return { id, email }
  }
  /** Signed in with an app. */
  const withApp = async (...places: Place[]) => {
    const person = await somebody(...places)
    const page = await firstSignIn(test, person.email, { client_id: 'strict' })
    nextStep()
    return { ...person, ...page }
  }
  const admin = () => withApp(['town', BOTH])
  const search = (visitor: Visitor) => visitor.go(`${test.url}/account/company`)
  const find = async (visitor: Visitor, email: string, more: Record<string, string> = {}) =>
    visitor.submit(await search(visitor), { email, ...more })
  /** The same however somebody is not theirs: but for what was typed. */
  const refusal = ({ status, text }: Answer, email: string) => [
    status,
    text
      .replaceAll(email, 'EMAIL')
      .replace(/value="[\w-]{20,}"/g, '')
      .replace(/nonce="[^"]+"/g, ''),
  ]
  const account = async ({ id }: { id: string }) => (await test.database.accounts.find(id))!
  const rows = async ({ id }: { id: string }, event: string) =>
    (await test.database.auditReader.auditRows({ accountId: id, event, limit: 50 })).reverse()
  const lettersTo = async ({ id }: { id: string }, kind: string): Promise<Letter[]> => {
    const found = (await test.database.outbox.list({ accountId: id, limit: 99 })).filter((one) => one.kind === kind)
    return Promise.all(found.map(async (one) => JSON.parse((await test.database.outbox.read(one.id))!) as Letter))
  }

  it('35: one with both roles resets a member by exact address, with the box ticked; all of it is recorded (R108)', async () => {
    const { visitor, ...boss } = await admin()
    const person = await withApp(['town'])
    const page = await find(visitor, person.email.toUpperCase())
    assert.equal(headingOf(page), 'Help A Person to sign in')
    assert.equal(page.at, `${test.url}/account/company/town/${person.id}`)
    assert.match(page.text, /Town Works/)
    for (const [missing, words] of [
      ['verified', /Make sure first that it is this person/],
      ['note', /Write down what happened/],
      ['identity', /Choose how you made sure/],
    ] as const) {
      const { [missing]: _left, ...fields } = ENTERED
      const refused = await visitor.submit(page, { ...fields, ...(missing === 'verified' ? {} : { [missing]: '' }) })
      assert.equal(refused.status, 400, missing)
      assert.match(refused.text, words)
    }
    assert.equal(Object.keys((await account(person)).enrolled).length, 1)
    const done = await visitor.submit(page, ENTERED)
    assert.match(done.text, /Two-step sign-in was reset\./)
    assert.match(done.text, /have not set it up again yet/)
    const { enrolled, recoveryCode, factorReset } = await account(person)
    assert.deepEqual([enrolled, recoveryCode], [{}, undefined])
    assert.equal(factorReset?.open, true)

    const row = (await rows(person, 'mfa.reset')).at(-1)!
    assert.deepEqual([row.actor, row.accountId, row.outcome], [boss.id, person.id, 'success'])
    const { company, right, identity, note, removed } = row.details!
    assert.deepEqual([company, right, identity, note, removed], ['town', 'company', 'video', ENTERED.note, ['otp']])
    assert.ok(row.ip && row.requestId)
    const begun = (await rows(person, 'administration.begun')).at(-1)!
    assert.deepEqual([begun.details?.['act'], begun.details?.['note']], ['mfa.reset', ENTERED.note])
  })

  it('36: of one role alone, or of themselves: refused, on the page and by a forged form', async () => {
    const person = await withApp(['town'])
    const directory = await withApp(['town', ['directory_admin']])
    const page = await find(directory.visitor, person.email)
    assert.match(page.text, /You cannot reset this person’s two-step sign-in/)
    assert.ok(!page.text.includes('name="verified"'))
    const boss = await admin()
    const own = await find(boss.visitor, boss.email)
    assert.match(own.text, /Nobody resets their own/)
    const hers = await find(boss.visitor, person.email)
    const version = /name="version" value="(\d+)"/.exec(hers.text)![1]!
    for (const [visitor, at, words] of [
      [boss.visitor, own.at, /Nobody resets their own/],
      [directory.visitor, page.at, /You cannot reset this person/],
    ] as const) {
      const csrf = /name="csrf" value="([^"]+)"/.exec((await search(visitor)).text)![1]!
      const forged = await visitor.go(at, { form: { ...ENTERED, version, csrf } })
      assert.equal(forged.status, 403)
      assert.match(forged.text, words)
    }
    assert.equal(Object.keys((await account(person)).enrolled).length, 1)
    assert.equal(Object.keys((await account(boss)).enrolled).length, 1)
    // A company administrator alone looks after nobody: there is no such page.
    const half = await withApp(['town', ['company_admin']])
    assert.equal((await search(half.visitor)).status, 404)
    const plain = await withApp(['town'])
    assert.equal((await search(plain.visitor)).status, 404)
    assert.equal((await plain.visitor.go(hers.at)).status, 404)
  })

  it('37: nobody outside the directory: one answer for them and for addresses that nobody has', async () => {
    const { visitor } = await admin()
    const unknown = await find(visitor, 'nobody@example.com')
    assert.match(unknown.text, /Nobody in your company’s directory has this email address/)
    const expected = refusal(unknown, 'nobody@example.com')
    const others = [
      await somebody(['port']),
      await somebody(['town', [], true]),
      await somebody(['port', BOTH]),
      await somebody(),
      await somebody(['acme', ['payments_admin']]),
    ]
    for (const { id, email } of others) {
      assert.deepEqual(refusal(await find(visitor, email), email), expected)
      const page = await visitor.go(`${test.url}/account/company/town/${id}`)
      const nobody = await visitor.go(`${test.url}/account/company/town/nobody`)
      assert.deepEqual([page.status, headingOf(page)], [nobody.status, headingOf(nobody)])
      assert.equal(page.status, 404)
      assert.equal((await visitor.go(`${test.url}/account/company/port/${id}`)).status, 404)
      const csrf = /name="csrf" value="([^"]+)"/.exec((await search(visitor)).text)![1]!
      for (const form of [
        { ...ENTERED, version: '0', csrf },
        { unlock: 'yes', csrf },
      ])
        assert.equal((await visitor.go(`${test.url}/account/company/town/${id}`, { form })).status, 404)
      assert.equal((await account({ id })).factorReset, undefined)
    }
    const seen = (await test.database.auditReader.auditRows({ event: 'company.person_sought', limit: 500 })).filter(
      ({ outcome }) => outcome === 'failure',
    )
    assert.ok(seen.length >= 6)
    for (const row of seen) assert.ok(row.accountId === undefined && !JSON.stringify(row).includes('@'))
  })

  it('37: nor where the company does not enforce, or another one does too', async () => {
    const lax = await withApp(['lax', BOTH])
    assert.match((await find(lax.visitor, (await somebody(['lax'])).email)).text, /You cannot reset this person/)
    const { visitor } = await admin()
    assert.match((await find(visitor, (await somebody(['town'], ['port'])).email)).text, /You cannot reset this person/)
  })

  it('38: nor of a payor, who is the operator’s, as the page says', async () => {
    const { visitor } = await admin()
    for (const role of ['payments_admin', 'disburser', 'beneficiary_approver', 'disbursement_contributor'] as const) {
      const payor = await withApp(['town'], ['acme', [role]])
      const page = await find(visitor, payor.email)
      assert.match(page.text, /The people who run this site can: ask them/)
      const version = String((await account(payor)).factorVersion)
      const csrf = /name="csrf" value="([^"]+)"/.exec((await search(visitor)).text)![1]!
      assert.equal((await visitor.go(page.at, { form: { ...ENTERED, version, csrf } })).status, 403)
      assert.equal((await account(payor)).factorReset, undefined)
    }
  })

  it('39: a payee’s Payments Admin resets another of the same company', async () => {
    const first = await withApp(['pipes', ['payments_admin']])
    const second = await withApp(['pipes', ['payments_admin']])
    const done = await first.visitor.submit(await find(first.visitor, second.email), ENTERED)
    assert.match(done.text, /Two-step sign-in was reset\./)
    assert.equal((await rows(second, 'mfa.reset')).at(-1)!.details?.['right'], 'payee')
    assert.deepEqual((await account(second)).enrolled, {})
    // The other way round there is no session any more, and no factor.
    assert.equal(headingOf(await search(second.visitor)), 'Sign in')
    const clerk = await withApp(['pipes'])
    assert.equal((await find(first.visitor, clerk.email)).status, 400)
  })

  it('39: one without a second factor of their own is asked to add one first', async () => {
    const person = await somebody(['lax', BOTH])
    const visitor = test.visitor()
    const page = await signIn(visitor, await search(visitor), person.email)
    assert.equal(headingOf(page), PEOPLE)
    assert.match(page.text, /You help others only with a second step of your own/)
    assert.match(page.text, /href="\/account\/app"/)
    assert.ok(!page.text.includes('name="email"'))
    const csrf = /name="csrf" value="([^"]+)"/.exec((await visitor.go(`${test.url}/account/name`)).text)![1]!
    const other = await withApp(['lax'])
    const forged = await visitor.go(`${test.url}/account/company`, { form: { email: other.email, csrf } })
    assert.equal(forged.status, 400)
    assert.equal((await visitor.go(`${test.url}/account/company/lax/${other.id}`)).status, 404)
  })

  it('40, 41: all that was is void, apps are told, the person is told; a mailed link and a new app end it (R109)', async () => {
    const { visitor: boss } = await admin()
    const heard: string[] = []
    const app = createServer((request, response) => {
      request.on('data', (chunk: Buffer) => heard.push(new URLSearchParams(String(chunk)).get('logout_token')!))
      request.on('end', () => response.writeHead(204).end())
    })
    await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve))
    const { port } = app.address() as AddressInfo
    const strict = (await test.database.directory.client('strict'))!
    const value = { ...strict, backchannel_logout_uri: `http://127.0.0.1:${port}/` }
    await test.database.directory.commit([{ kind: 'client', op: 'put', value }])
    const person = await withApp(['town'])
    const tokens = await test.exchange(person.answer, 'strict')
    assert.ok(tokens['refresh_token'])
    await boss.submit(await find(boss, person.email), ENTERED)
    assert.deepEqual(await test.database.artifacts.sessionsOf(person.id, now()), [])
    for (let looks = 0; heard.length === 0 && looks < 100; looks++) await setTimeout(20)
    assert.deepEqual(
      heard.map((token) => claimsIn(token).sub),
      [person.id],
    )
    await new Promise((resolve) => app.close(resolve))
    await test.database.directory.commit([{ kind: 'client', op: 'put', value: strict }])
    const refreshed = await test.token(
      { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! },
      'strict',
    )
    assert.equal(refreshed.error, 'invalid_grant')
    assert.equal(
      errorOf(await person.visitor.go(test.authUrl({ client_id: 'strict', prompt: 'none' }))),
      'login_required',
    )
    const [letter, ...more] = await lettersTo(person, 'mfa_reset_by_company')
    assert.equal(more.length, 0)
    assert.deepEqual([letter!.to, letter!.ip, letter!.browser], [person.email, undefined, undefined])

    const visitor = test.visitor()
    const link = await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'strict' })), person.email)
    assert.equal(headingOf(link), MAILED_LINK)
    for (const form of [{ code: await codeOf(person.secret) }, { recovery_code: person.recoveryCode }])
      assert.ok(!hasCode(await visitor.submit(link, form)))
    const chosen = await openMailedLink(test, visitor, person.email)
    assert.match(headingOf(chosen), /Two-Factor Authentication Required|Secure Your Account/)
    const secure =
      headingOf(chosen) === 'Secure Your Account' ? chosen : await visitor.go(chosen.at.replace(/\/required$/, '/app'))
    const { page, secret } = await enrol(visitor, secure)
    assert.notEqual(secret, person.secret)
    assert.notEqual(recoveryCodeOn(page), person.recoveryCode)
    assert.ok(hasCode(await acknowledge(visitor, page)))
  })

  it('of two administrators at once one resets; the other learns it, and undoes nothing that came after', async () => {
    const [one, two] = [await admin(), await admin()]
    const person = await withApp(['town'])
    const pages = await Promise.all([one, two].map(({ visitor }) => find(visitor, person.email)))
    const answers = await Promise.all([one, two].map(({ visitor }, index) => visitor.submit(pages[index]!, ENTERED)))
    const texts = answers.map(({ text }) => text)
    assert.equal(texts.filter((text) => /Two-step sign-in was reset\./.test(text)).length, 1)
    assert.equal(texts.filter((text) => /Somebody else has just changed/.test(text)).length, 1)
    assert.equal((await lettersTo(person, 'mfa_reset_by_company')).length, 1)
    const outcomes = (await rows(person, 'mfa.reset')).map(({ outcome }) => outcome).sort()
    assert.deepEqual(outcomes, ['failure', 'success'])
    // The loser's old page, after the person has enrolled again.
    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'strict' })), person.email)
    const chosen = await openMailedLink(test, visitor, person.email)
    const { page } = await enrol(visitor, await visitor.go(chosen.at.replace(/\/required$/, '/app')))
    assert.ok(hasCode(await acknowledge(visitor, page)))
    for (const [index, { visitor: late }] of [one, two].entries())
      assert.match((await late.submit(pages[index]!, ENTERED)).text, /Somebody else has just changed/)
    assert.equal(Object.keys((await account(person)).enrolled).length, 1)
  })

  it('while the person is enrolling, the reset wins', async () => {
    const { visitor: boss } = await admin()
    const person = await withApp(['town'])
    await boss.submit(await find(boss, person.email), ENTERED)
    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'strict' })), person.email)
    const chosen = await openMailedLink(test, visitor, person.email)
    const enrolment = await visitor.go(chosen.at.replace(/\/required$/, '/app'))
    await boss.submit(await find(boss, person.email), ENTERED)
    const { page } = await enrol(visitor, enrolment)
    assert.equal(headingOf(page), 'Sign in')
    assert.deepEqual((await account(person)).enrolled, {})
  })

  it('is asked for a fresh second factor, before a page is shown and before a form counts', async () => {
    const boss = await admin()
    const person = await withApp(['town'])
    const page = await find(boss.visitor, person.email)
    wait(5 * 60 + 1)
    const asked = await boss.visitor.submit(page, ENTERED)
    assert.equal(headingOf(asked), 'Enter the code from your authenticator app')
    assert.equal((await account(person)).factorReset, undefined)
    const back = await boss.visitor.submit(asked, { code: await codeOf(boss.secret) })
    assert.equal(back.at.split('?')[0], page.at)
    nextStep()
    assert.match((await boss.visitor.submit(back, ENTERED)).text, /Two-step sign-in was reset\./)
    wait(5 * 60 + 1)
    for (const at of ['', `/town/${person.id}`])
      assert.equal(
        headingOf(await boss.visitor.go(`${test.url}/account/company${at}`)),
        'Enter the code from your authenticator app',
      )
  })

  it('takes no form of another site, without its token, or by another method', async () => {
    const { visitor } = await admin()
    const person = await withApp(['town'])
    const page = await find(visitor, person.email)
    const version = String((await account(person)).factorVersion)
    const csrf = /name="csrf" value="([^"]+)"/.exec(page.text)![1]!
    const form = { ...ENTERED, version, csrf }
    const headers = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }
    assert.equal((await visitor.request(page.at, { form, headers })).status, 403)
    assert.equal((await visitor.request(page.at, { form: { ...form, csrf: 'x' } })).status, 403)
    const stranger = await admin()
    await search(stranger.visitor)
    assert.equal((await stranger.visitor.request(page.at, { form })).status, 403, 'a token of another session')
    assert.equal((await visitor.request(page.at, { method: 'DELETE' })).status, 405)
    assert.equal((await test.visitor().go(page.at, { form })).status, 200, 'the sign-in page')
    await visitor.go(page.at)
    assert.equal((await account(person)).factorReset, undefined)
  })

  it('never sees a secret or a code, nor sets one (R107)', async () => {
    const { visitor } = await admin()
    const person = await withApp(['town'])
    const page = await find(visitor, person.email)
    const done = await visitor.submit(page, ENTERED)
    for (const { text } of [page, done]) {
      assert.ok(!text.includes(person.secret) && !text.includes(person.recoveryCode))
      assert.ok(!/otpauth|type="password"|id="key"/.test(text))
    }
    const links = (await test.database.outbox.list({ accountId: person.id, limit: 99 })).filter(
      ({ kind }) => kind === 'enrolment_link',
    )
    assert.equal(links.length, 0, 'a link is mailed to whoever signs in, and to nobody before')
  })

  it('43: a directory administrator sees who is locked, and unlocks them; five times a day', async () => {
    const clerk = await withApp(['town', ['directory_admin']])
    const person = await withApp(['town'])
    const lock = async () => {
      const counter = {
        key: passwordCounter(person.email),
        rule: { kind: 'streak' as const, every: 10, wait: 30 * 60 },
      }
      for (let tries = 0; tries < 10; tries++)
        await test.database.throttle.take([counter], Math.floor(Date.now() / 1000))
    }
    const page = await find(clerk.visitor, person.email)
    assert.ok(!page.text.includes('this account is locked'))
    await lock()
    const locked = await clerk.visitor.go(page.at)
    assert.match(locked.text, /this account is locked/)
    const stranger = test.visitor()
    assert.equal((await signIn(stranger, await stranger.go(test.authUrl()), person.email)).status, 429)
    const opened = await clerk.visitor.submit(locked, { unlock: 'yes' })
    assert.match(opened.text, /The account is unlocked/)
    assert.ok(!opened.text.includes('this account is locked'))
    assert.equal(
      (await signIn(stranger, await stranger.go(test.authUrl({ client_id: 'strict' })), person.email)).status,
      200,
    )
    const row = (await rows(person, 'user.unlocked')).at(-1)!
    assert.deepEqual([row.actor, row.details], [clerk.id, { company: 'town' }])
    for (let again = 0; again < 4; again++) {
      await lock()
      await clerk.visitor.submit(await clerk.visitor.go(page.at), { unlock: 'yes' })
    }
    await lock()
    assert.equal((await clerk.visitor.submit(await clerk.visitor.go(page.at), { unlock: 'yes' })).status, 429)
    // By the rule of another company of theirs: from the third wrong password on.
    const careful = await withApp(['town'], ['careful'])
    const theirs = await find(clerk.visitor, careful.email)
    const tries = async (count: number) => {
      const counter = { key: passwordCounter(careful.email), rule: { kind: 'streak' as const, every: 10, wait: 1800 } }
      for (let one = 0; one < count; one++) await test.database.throttle.take([counter], Math.floor(Date.now() / 1000))
      return (await clerk.visitor.go(theirs.at)).text
    }
    assert.ok(!(await tries(2)).includes('this account is locked'))
    assert.match(await tries(1), /this account is locked/)
    // A Payments Admin of a payee resets, and unlocks nobody.
    const payee = await withApp(['pipes', ['payments_admin']])
    const other = await withApp(['pipes', ['payments_admin']])
    const hers = await find(payee.visitor, other.email)
    assert.equal((await payee.visitor.submit(hers, { unlock: 'yes' })).status, 403)
    const csrf = /name="csrf" value="([^"]+)"/.exec(hers.text)![1]!
    assert.equal((await payee.visitor.go(hers.at, { form: { unlock: 'yes', csrf } })).status, 403)
  })

  it('looks for sixty people an hour', async () => {
    const { visitor } = await admin()
    let page = await search(visitor)
    for (let index = 0; index < 60; index++) {
      page = await visitor.submit(page, { email: `guess${index}@example.com` })
      assert.equal(page.status, 400)
    }
    const refused = await visitor.submit(page, { email: 'guess@example.com' })
    assert.equal(refused.status, 429)
  })

  it('is led there from the account’s first page, and chooses the company where there are several', async () => {
    const both = await withApp(['town', BOTH], ['port', BOTH])
    const home = await both.visitor.go(`${test.url}/account`)
    assert.match(home.text, /href="\/account\/company"/)
    const person = await withApp(['port'])
    const page = await search(both.visitor)
    assert.match(page.text, /<option value="town"[^>]*>Town Works<\/option>/)
    assert.equal((await both.visitor.submit(page, { email: person.email, company: 'town' })).status, 400)
    const found = await both.visitor.submit(page, { email: person.email, company: 'port' })
    assert.equal(found.at, `${test.url}/account/company/port/${person.id}`)
    const plain = await withApp(['town'])
    assert.ok(!(await plain.visitor.go(`${test.url}/account`)).text.includes('/account/company'))
  })
})
