/** After a reset: nobody enrols by a password alone (R109; behaviour 40, 41). */
import assert from 'node:assert/strict'
import { nextStep, now, wait } from '../support/clock.ts'
import {
  API,
  acknowledge,
  CHALLENGE,
  CLIENT_SECRET,
  claimsIn,
  codeOf,
  enrol,
  firstSignIn,
  hasCode,
  MAILED_LINK,
  mailedLinkTo,
  openMailedLink,
  openTestHouse,
  signIn,
  stolen,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, headingOf } from '../support/visitor.ts'

const SECURE = 'Secure Your Account'

describe('after a reset', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  const idOf = async (email: string) => (await test.database.directory.user(email))!.id
  const accountOf = async (email: string) => (await test.database.accounts.find(await idOf(email)))!
  const reset = async (email: string) =>
    assert.ok(await test.database.directory.resetMfa(await idOf(email), { now: now() }))
  /** A payor who had an app, and whose factors were reset. */
  const afterReset = async () => {
    people += 1
    const email = `reset${people}@acme.example`
    await test.person(email)
    const former = await firstSignIn(test, email)
    nextStep()
    await reset(email)
    return { email, ...former }
  }
  const atTheLink = async (email: string, visitor = test.visitor()) => {
    const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    assert.equal(headingOf(page), MAILED_LINK)
    return { visitor, page }
  }
  const letters = async (email: string, kind = 'enrolment_link') =>
    (await test.database.outbox.list({ accountId: await idOf(email), limit: 99 })).filter((one) => one.kind === kind)
  const events = async (email: string) =>
    (await test.database.auditReader.auditRows({ accountId: await idOf(email), limit: 100 })).map(({ event }) => event)
  const pageOf = (answer: Answer, page: string) => `${answer.at.split('/').slice(0, 5).join('/')}/${page}`

  it('a mailed link, opened in the browser that signs in, leads to the enrolment', async () => {
    const { email } = await afterReset()
    const { visitor, page } = await atTheLink(email)
    assert.match(page.text, new RegExp(`We have sent a link to ${email}`))
    const link = new URL(await mailedLinkTo(test, email))
    assert.equal(link.origin + link.pathname, `${test.url}/enrol`)
    const opened = await visitor.go(link.href)
    assert.equal(headingOf(opened), 'You have opened the link')
    assert.equal(opened.at, page.at)
    const enrolment = await visitor.submit(opened, {})
    assert.equal(headingOf(enrolment), SECURE)
    const { page: recovery } = await enrol(visitor, enrolment)
    assert.ok(hasCode(await acknowledge(visitor, recovery)))
    const { factorReset } = await accountOf(email)
    assert.equal(factorReset?.open, undefined)
    assert.equal(typeof factorReset?.at, 'number')
    const told = await events(email)
    for (const event of ['enrolment.link_sent', 'enrolment.link_used', 'mfa.enrolled'])
      assert.ok(told.includes(event), event)
  })

  it('the password alone shows no secret and takes no code, at whatever address', async () => {
    const { email } = await afterReset()
    const { visitor, page } = await atTheLink(email)
    for (const at of ['', 'app', 'phone', 'sms', 'choose', 'required', 'again', 'recovery', 'code']) {
      const shown = await visitor.go(pageOf(page, at))
      assert.ok(!/otpauth|id="key"/.test(shown.text), at)
      const posted = await visitor
        .submit({ ...page, at: pageOf(page, at) } as Answer, { code: '123456' })
        .catch(() => page)
      assert.ok(!hasCode(posted))
    }
    const still = await visitor.submit(await visitor.go(page.at), {})
    assert.equal(still.status, 400)
    assert.match(still.text, /Open the link of the newest message in this browser first/)
    assert.deepEqual((await accountOf(email)).enrolled, {})
  })

  it('a link is mailed once in a chain, and three times an hour; the last is good until another may be asked for', async () => {
    const { email } = await afterReset()
    const { visitor, page } = await atTheLink(email)
    for (let reloads = 0; reloads < 3; reloads++) assert.equal(headingOf(await visitor.go(page.at)), MAILED_LINK)
    assert.equal((await letters(email)).length, 1)
    const first = await mailedLinkTo(test, email)
    wait(59 * 60)
    const { visitor: later, page: again } = await atTheLink(email)
    const resent = await later.submit(again, {}, '/again')
    assert.match(resent.text, /Another link is on its way/)
    const third = await mailedLinkTo(test, email)
    const refused = await later.submit(resent, {}, '/again')
    assert.equal(refused.status, 429)
    assert.match(refused.text, /We sent you several links a moment ago/)
    assert.equal((await letters(email)).length, 3)
    // A stranger who knows the password cannot use them all up for the person: one of them is always good.
    const owner = test.visitor()
    const waiting = await signIn(owner, await owner.go(test.authUrl()), email)
    assert.equal(headingOf(waiting), MAILED_LINK)
    assert.equal((await letters(email)).length, 3)
    assert.equal(await mailedLinkTo(test, email), third)
    assert.equal(headingOf(await owner.go(first)), 'This link does not work')
    // It was mailed to another chain: the page says to go on where one signs in.
    assert.match((await owner.go(third)).text, /If you are signing in in this browser, go on there/)
    assert.equal(headingOf(await owner.submit(waiting, {})), SECURE)
    wait(60)
    const { page: next } = await atTheLink(email)
    assert.equal(headingOf(next), MAILED_LINK)
    assert.equal((await letters(email)).length, 4)
  })

  it('opening a link changes nothing, and its token leaves the address', async () => {
    const { email } = await afterReset()
    const { visitor, page } = await atTheLink(email)
    const link = await mailedLinkTo(test, email)
    const token = new URL(link).searchParams.get('token')!
    for (const method of ['GET', 'HEAD', 'GET']) {
      const answer = await test.visitor().request(link, { method })
      assert.equal(answer.status, 303)
      assert.ok(!answer.location!.includes(token))
      assert.equal(answer.headers.get('referrer-policy'), 'no-referrer')
      assert.match(answer.headers.getSetCookie().join(), /link=[^;]+; path=\/; expires=[^;]+; samesite=lax; httponly/i)
    }
    assert.equal((await test.visitor().request(link, { form: {} })).status, 405)
    const opened = await visitor.go(link)
    assert.ok(!opened.text.includes(token))
    assert.deepEqual((await accountOf(email)).factorReset, { at: (await accountOf(email)).factorReset!.at, open: true })
    assert.equal(headingOf(await visitor.submit(opened, {})), SECURE)
    assert.equal((await accountOf(email)).factorReset?.heldUntil !== undefined, true)
    assert.ok(!test.logs.some((line) => line.includes(token)))
    assert.ok(!(await stolen(test)).includes(token))
    assert.equal(page.status, 200)
  })

  it('a link that somebody opens elsewhere opens nothing in the browser that asked for it', async () => {
    const { email } = await afterReset()
    const thief = await atTheLink(email)
    const owner = test.visitor()
    const elsewhere = await owner.go(await mailedLinkTo(test, email))
    assert.equal(headingOf(elsewhere), 'You have opened the link')
    assert.match(elsewhere.text, /sign in here now/)
    assert.match(elsewhere.text, /href="https:\/\/rp\.example"/)
    for (let tries = 0; tries < 3; tries++) {
      const still = await thief.visitor.submit(await thief.visitor.go(thief.page.at), {})
      assert.match(still.text, /in this browser first/)
    }
    // The person signs in there, and no other letter is needed.
    const page = await signIn(owner, await owner.go(test.authUrl()), email)
    assert.equal(headingOf(page), 'You have opened the link')
    assert.equal((await letters(email)).length, 1)
    const enrolment = await owner.submit(page, {})
    assert.equal(headingOf(enrolment), SECURE)
    const { page: recovery } = await enrol(owner, enrolment)
    assert.ok(hasCode(await acknowledge(owner, recovery)))
    const late = await thief.visitor.submit(await thief.visitor.go(thief.page.at), {}).catch(() => undefined)
    assert.ok(!late || !hasCode(late))
    assert.equal(headingOf(await thief.visitor.go(test.authUrl({ prompt: 'login' }))), 'Sign in')
  })

  it('a link is good once; used, expired, replaced or cut, it says so and leads back to the sign-in', async () => {
    const { email } = await afterReset()
    const { visitor, page } = await atTheLink(email)
    const link = await mailedLinkTo(test, email)
    const enrolment = await visitor.submit(await visitor.go(link), {})
    assert.equal(headingOf(enrolment), SECURE)
    const other = await atTheLink(email, test.visitor())
    const newest = await mailedLinkTo(test, email)
    assert.notEqual(newest, link)
    const replaced = await other.visitor.go(link)
    assert.equal(headingOf(replaced), 'This link does not work')
    assert.match(replaced.text, />Go on signing in</)
    assert.equal(headingOf(await other.visitor.submit(await other.visitor.go(newest), {})), SECURE)
    const used = await test.visitor().go(newest)
    assert.equal(headingOf(used), 'This link has been used')
    assert.match(used.text, />Go on signing in</)
    // The other chain has the right to enrol now.
    const stale = await visitor.submit(enrolment, { code: '123456' })
    assert.ok(['Look into your mail', 'You have opened the link'].includes(headingOf(stale)), headingOf(stale))
    const late = await atTheLink(email)
    const last = await mailedLinkTo(test, email)
    wait(60 * 60)
    const expired = await late.visitor.go(last)
    assert.equal(headingOf(expired), 'This link has expired')
    assert.equal(headingOf(await test.visitor().go(`${test.url}/enrol`)), 'This link does not work')
    assert.equal(headingOf(await test.visitor().go(`${test.url}/enrol?token=x&at=y`)), 'This link does not work')
    assert.equal(page.status, 200)
  })

  it('Back, a second tab and a double click lead on', async () => {
    const { email } = await afterReset()
    const { visitor, page } = await atTheLink(email)
    const opened = await visitor.go(await mailedLinkTo(test, email))
    const [one, two] = await Promise.all([visitor.submit(opened, {}), visitor.clone().submit(opened, {})])
    for (const answer of [one, two]) assert.equal(headingOf(answer), SECURE)
    // The tab that waited for the link.
    assert.equal(headingOf(await visitor.go(page.at)), SECURE)
    assert.equal(headingOf(await visitor.submit(page, {})), SECURE)
    const { page: recovery } = await enrol(visitor, await visitor.go(page.at))
    assert.ok(hasCode(await acknowledge(visitor, recovery)))
    assert.ok(!hasCode(await visitor.submit(opened, {})))
  })

  it('in the middle of an enrolment, voids the right to it and the proofs of the chain', async () => {
    const { email } = await afterReset()
    const { visitor } = await atTheLink(email)
    const enrolment = await openMailedLink(test, visitor, email)
    await reset(email)
    const { page } = await enrol(visitor, enrolment)
    assert.equal(headingOf(page), 'Sign in')
    assert.deepEqual((await accountOf(email)).enrolled, {})
    const again = await signIn(visitor, page, email)
    assert.ok(headingOf(again) === MAILED_LINK)
    assert.equal((await letters(email)).length, 2)
  })

  it('during the first enrolment of all, asks for a link as well', async () => {
    people += 1
    const email = `reset${people}@acme.example`
    await test.person(email)
    const visitor = test.visitor()
    const enrolment = await signIn(visitor, await visitor.go(test.authUrl()), email)
    assert.equal(headingOf(enrolment), SECURE)
    await reset(email)
    const { page } = await enrol(visitor, enrolment)
    assert.equal(headingOf(page), 'Sign in')
    assert.equal(headingOf(await signIn(visitor, page, email)), MAILED_LINK)
  })

  it('“Not you?” gives the right to nobody else, and the same person has it again', async () => {
    const { email } = await afterReset()
    const { visitor } = await atTheLink(email)
    const enrolment = await openMailedLink(test, visitor, email)
    const signInPage = await visitor.submit(enrolment, {}, '/different')
    const { email: other } = await afterReset()
    const page = await signIn(visitor, signInPage, other)
    assert.equal(headingOf(page), MAILED_LINK)
    const back = await signIn(visitor, await visitor.submit(page, {}, '/different'), email)
    assert.equal(headingOf(back), 'You have opened the link')
    assert.equal(headingOf(await visitor.submit(back, {})), SECURE)
  })

  it('a link that was opened for somebody else is none: another one is mailed', async () => {
    const [{ email: one }, { email: two }] = [await afterReset(), await afterReset()]
    const { visitor } = await atTheLink(one)
    await visitor.go(await mailedLinkTo(test, one))
    const { page } = await atTheLink(two, visitor)
    assert.equal((await letters(two)).length, 1)
    assert.match((await visitor.submit(page, {})).text, /in this browser first/)
    assert.equal((await accountOf(one)).factorReset?.heldBy, undefined)
  })

  it('a new password, or the end of all sessions, voids the right to enrol', async () => {
    const { email } = await afterReset()
    const { visitor } = await atTheLink(email)
    const enrolment = await openMailedLink(test, visitor, email)
    await test.database.directory.raiseEpoch(await idOf(email))
    const again = await signIn(visitor, await visitor.go(enrolment.at), email)
    assert.equal(headingOf(again), MAILED_LINK)
    assert.equal((await letters(email)).length, 2)
    assert.match((await visitor.submit(again, {})).text, /in this browser first/)
    assert.equal(headingOf(await openMailedLink(test, visitor, email)), SECURE)
  })

  it('no app gets a code, whatever it asks for, and whatever it is', async () => {
    people += 1
    const email = `reset${people}@city.example`
    await test.person(email, 'standard')
    const plain = test.visitor()
    assert.ok(hasCode(await signIn(plain, await plain.go(test.authUrl()), email)), 'asked for nothing before')
    await reset(email)
    const visitor = test.visitor()
    for (const params of [{}, { client_id: 'spa' }, { max_age: '60' }, { acr_values: 'urn:sallyport:acr:1fa' }]) {
      const page = await visitor.go(test.authUrl(params))
      assert.equal(headingOf(await signIn(visitor, page, email)), MAILED_LINK, JSON.stringify(params))
    }
    const account = await visitor.go(`${test.url}/account`)
    assert.equal(headingOf(await signIn(visitor, account, email)), MAILED_LINK)
    const silent = await plain.go(test.authUrl({ prompt: 'none' }))
    assert.match(silent.location!, /error=login_required/)
  })

  it('of many chains at once that know the password, one that has the link enrols', async () => {
    const { email } = await afterReset()
    const chains: Awaited<ReturnType<typeof atTheLink>>[] = []
    // One after the other: of many passwords for one person at once the sixth has to wait.
    for (let index = 0; index < 8; index++) chains.push(await atTheLink(email))
    const holder = chains[3]!
    await holder.visitor.go(await mailedLinkTo(test, email))
    const answers = await Promise.all(chains.map(({ visitor, page }) => visitor.submit(page, {})))
    assert.deepEqual(
      answers.map(headingOf),
      chains.map((_, index) => (index === 3 ? SECURE : MAILED_LINK)),
    )
    const everywhere = await Promise.all(chains.map(({ visitor, page }) => visitor.go(pageOf(page, ''))))
    assert.equal(everywhere.filter(({ text }) => /otpauth/.test(text)).length <= 1, true)
    const { page: recovery, secret } = await enrol(holder.visitor, answers[3]!)
    assert.ok(hasCode(await acknowledge(holder.visitor, recovery)))
    assert.equal(await test.database.factors.totpSecret(await idOf(email)), secret)
    nextStep()
    const fresh = test.visitor()
    const challenge = await signIn(fresh, await fresh.go(test.authUrl()), email)
    assert.equal(headingOf(challenge), CHALLENGE)
    assert.ok(hasCode(await fresh.submit(challenge, { code: await codeOf(secret) })))
  })
})

describe('factor_reset_at', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
    const { directory } = test.database
    for (const id of ['payments', 'strict']) {
      const client = (await directory.client(id))!
      const sallyport = { ...(client['sallyport'] as object), ...(id === 'payments' && { holds_payouts: true }) }
      const grant_types = ['authorization_code', 'refresh_token']
      await directory.commit([{ kind: 'client', op: 'put', value: { ...client, grant_types, sallyport } }])
    }
  })
  after(() => test.close())

  it('stands in the tokens of an app that holds payouts, and of no other; nowhere before a reset', async () => {
    const email = 'held@acme.example'
    const id = await test.person(email)
    const { answer } = await firstSignIn(test, email, { resource: API, scope: 'openid payments' })
    const before = await test.exchange(answer)
    for (const token of ['id_token', 'access_token']) assert.ok(!('factor_reset_at' in claimsIn(before[token])), token)
    const resetAt = now()
    await test.database.directory.resetMfa(id, { now: resetAt })
    wait(100)

    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl({ resource: API, scope: 'openid payments' })), email)
    const { page } = await enrol(visitor, await openMailedLink(test, visitor, email))
    const tokens = await test.exchange(await acknowledge(visitor, page))
    const ofApi = await test.token({
      grant_type: 'refresh_token',
      refresh_token: tokens['refresh_token']!,
      resource: API,
    })
    assert.equal(claimsIn(tokens['id_token'])['factor_reset_at'], resetAt)
    assert.equal(claimsIn(ofApi['access_token'])['factor_reset_at'], resetAt)
    assert.equal(claimsIn(ofApi['id_token'])['factor_reset_at'], resetAt)

    const plain = await test.exchange(await visitor.go(test.authUrl()))
    const authorization = `Basic ${Buffer.from(`payments:${CLIENT_SECRET}`).toString('base64')}`
    const seen = await test.post('/token/introspection', { token: plain['access_token']! }, { authorization })
    assert.equal(seen['active'] as unknown, true)
    assert.equal(Number(seen['factor_reset_at']), resetAt)

    const claims = JSON.stringify({ id_token: { factor_reset_at: null }, userinfo: { factor_reset_at: null } })
    const other = await test.exchange(await visitor.go(test.authUrl({ client_id: 'strict', claims })), 'strict')
    assert.ok(!('factor_reset_at' in claimsIn(other['id_token'])))
    const strictly = `Basic ${Buffer.from(`strict:${CLIENT_SECRET}`).toString('base64')}`
    const unseen = await test.post(
      '/token/introspection',
      { token: other['access_token']! },
      { authorization: strictly },
    )
    assert.equal(unseen['active'] as unknown, true)
    assert.equal(unseen['factor_reset_at'], undefined)
  })
})
