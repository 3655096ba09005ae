/** The device flow (RFC 8628), through real HTTP: the device polls, the person types the code in a browser. */
import assert from 'node:assert/strict'
import { ACR_2FA_APP } from '../../interactions/policy.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import {
  API,
  acknowledge,
  CLIENT_SECRET,
  claimsIn,
  codeOf,
  enrol,
  firstSignIn,
  openTestHouse,
  signIn,
  stolen,
  type TestHouse,
  type Tokens,
} from '../support/house.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const GRANT = 'urn:ietf:params:oauth:grant-type:device_code'
const ENTRY = 'Connect a device'
const CONFIRM = 'Is this you?'
const ALLOWED = 'Your device is connected'
const DENIED = 'Your device is not connected'

interface Started {
  device_code: string
  user_code: string
  verification_uri: string
  verification_uri_complete: string
  expires_in: number
  interval: number
  error?: string
}

describe('device', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())
  beforeEach(() => wait(601)) // what was counted before is over

  const somebody = async (role: 'payor' | 'standard' = 'standard') => {
    people += 1
    const email = `device${people}@${role}.example`
    return { email, id: await test.person(email, role) }
  }
  const start = async (form: Record<string, string> = {}, client = 'tv'): Promise<Started> => {
    const confidential = client !== 'tv'
    const response = await fetch(`${test.url}/device/auth`, {
      method: 'POST',
      headers: confidential
        ? { authorization: `Basic ${Buffer.from(`${client}:${CLIENT_SECRET}`).toString('base64')}` }
        : {},
      body: new URLSearchParams({ scope: 'openid email', ...(!confidential && { client_id: client }), ...form }),
    })
    return (await response.json()) as Started
  }
  const poll = ({ device_code }: Started, client = 'tv'): Promise<Tokens> =>
    test.token({ grant_type: GRANT, device_code }, client)
  const type = async (visitor: Visitor, code: string) =>
    visitor.submit(await visitor.go(`${test.url}/device`), { user_code: code })
  const confirm = async (visitor: Visitor, { user_code }: Started) =>
    visitor.submit(await type(visitor, user_code), { confirm: 'yes' })
  const errorOn = (page: Answer) => /id="user_code-error"><span[^>]*>Error:<\/span> ([^<]+)</.exec(page.text)?.[1]

  it('gives the device a code of eight letters that no eye confuses, and an interval', async () => {
    const started = await start()
    assert.match(started.user_code, /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/)
    assert.equal(started.verification_uri, `${test.url}/device`)
    assert.equal(started.interval, 5)
    assert.equal(started.expires_in, 600)
    const discovery = (await (await fetch(`${test.url}/.well-known/openid-configuration`)).json()) as object
    assert.equal(
      (discovery as { device_authorization_endpoint: string }).device_authorization_endpoint,
      `${test.url}/device/auth`,
    )
  })

  it('a payor needs the app here too, and the tokens say what was proven', async () => {
    const { email } = await somebody('payor')
    const visitor = test.visitor()
    const started = await start({ resource: API, scope: 'openid email payments' })
    assert.equal((await poll(started)).error, 'authorization_pending')
    const question = await type(visitor, started.user_code)
    assert.equal(headingOf(question), CONFIRM)
    assert.ok(question.text.includes(started.user_code) && question.text.includes('TV Reports'))
    const enrolment = await signIn(visitor, await visitor.submit(question, { confirm: 'yes' }), email)
    assert.equal(headingOf(enrolment), 'Secure Your Account')
    wait(5)
    assert.equal((await poll(started)).error, 'authorization_pending', 'a password alone is not enough')
    const { page, secret } = await enrol(visitor, enrolment)
    assert.equal(headingOf(await acknowledge(visitor, page)), ALLOWED)
    wait(5)
    const tokens = await poll(started)
    assert.equal(tokens.status, 200)
    for (const token of [tokens['id_token'], tokens['access_token']]) {
      const { amr, acr, auth_time, second_factor_time } = claimsIn(token)
      assert.deepEqual(amr, ['pwd', 'otp', 'mfa'])
      assert.equal(acr, ACR_2FA_APP)
      assert.ok(auth_time && second_factor_time)
    }
    const refreshed = await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! }, 'tv')
    assert.deepEqual(claimsIn(refreshed['id_token']).amr, ['pwd', 'otp', 'mfa'])

    nextStep()
    const again = test.visitor()
    const next = await start()
    const challenge = await signIn(again, await confirm(again, next), email)
    assert.equal(headingOf(await again.submit(challenge, { code: await codeOf(secret) })), ALLOWED)
    assert.equal((await poll(next)).status, 200)
  })

  it('takes the code as people type it, and a link that has it in it waits for a click', async () => {
    const { email } = await somebody()
    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl()), email)
    for (const spelling of [
      (code: string) => code.toLowerCase(),
      (code: string) => ` ${code.replace('-', ' ')} `,
      (code: string) => code.replace('-', ''),
      (code: string) => [...code].join('-'),
    ]) {
      const started = await start()
      const question = await type(visitor, spelling(started.user_code))
      assert.equal(headingOf(question), CONFIRM)
      assert.ok(question.text.includes(started.user_code))
      assert.ok(question.text.includes(email), 'who is signed in here')
    }
    const started = await start()
    const page = await visitor.go(started.verification_uri_complete)
    assert.equal(headingOf(page), ENTRY)
    assert.ok(page.text.includes(`value="${started.user_code}"`))
    assert.ok(!page.text.includes('<script>'))
    assert.equal((await poll(started)).error, 'authorization_pending')
    const question = await visitor.submit(page, { user_code: started.user_code })
    assert.equal(headingOf(await visitor.submit(question, { confirm: 'yes' })), ALLOWED)
  })

  it('warns of codes that somebody sent, and says when the device is elsewhere', async () => {
    const visitor = test.visitor()
    const page = await visitor.go(`${test.url}/device`)
    assert.match(page.text, /If somebody sent you a code, do not use it/)
    const { user_code } = await start()
    const question = await visitor.submit(page, { user_code })
    assert.match(question.text, /Go on only if you started this yourself/)
    assert.match(question.text, /another network/)
    const near = test.visitor()
    Object.assign(near, { address: '127.0.0.1' })
    assert.doesNotMatch((await type(near, user_code)).text, /another network/)
  })

  it('"No" tells the device, and so does "Back to the app" later; the code is used up', async () => {
    const { email } = await somebody()
    const visitor = test.visitor()
    const started = await start()
    const no = await visitor.submit(await type(visitor, started.user_code), { abort: 'yes' })
    assert.equal(headingOf(no), DENIED)
    assert.equal((await poll(started)).error, 'access_denied')
    assert.match(errorOn(await type(visitor, started.user_code)) ?? '', /used already/)

    const later = await start()
    const page = await confirm(visitor, later)
    assert.equal(headingOf(page), 'Sign in')
    assert.equal(headingOf(await visitor.submit(page, {}, '/cancel')), DENIED)
    assert.equal((await poll(later)).error, 'access_denied')
    assert.equal(headingOf(await visitor.submit(page, { email })), 'This step is already done')
  })

  it('says what is wrong with a code, with a status that says so too', async () => {
    const visitor = test.visitor()
    const started = await start()
    for (const [code, status, sentence] of [
      ['', 400, /Enter the code/],
      ['BBBB-BBBB', 400, /not right/],
    ] as const) {
      const page = await type(visitor, code)
      assert.equal(page.status, status)
      assert.equal(headingOf(page), ENTRY)
      assert.match(errorOn(page) ?? '', sentence)
    }
    wait(601)
    assert.match(errorOn(await type(visitor, started.user_code)) ?? '', /expired/)
    assert.equal((await poll(started)).error, 'expired_token')
  })

  it('an expired code does not become good behind an open page', async () => {
    const { email } = await somebody()
    const visitor = test.visitor()
    const started = await start()
    const page = await confirm(visitor, started)
    wait(601)
    const end = await signIn(visitor, page, email)
    assert.equal(headingOf(end), ENTRY)
    assert.match(errorOn(end) ?? '', /expired/)
    assert.equal((await poll(started)).error, 'expired_token')
  })

  it('a device that asks too often is told to slow down, and gets its tokens nevertheless', async () => {
    const { email } = await somebody()
    const visitor = test.visitor()
    const started = await start()
    assert.equal((await poll(started)).error, 'authorization_pending')
    assert.equal((await poll(started)).error, 'slow_down')
    wait(5)
    assert.equal((await poll(started)).error, 'authorization_pending')
    await signIn(visitor, await confirm(visitor, started), email)
    assert.equal((await poll(started)).status, 200)
    const rows = await test.database.auditReader.auditRows({ event: 'token.device_code' })
    assert.ok(
      rows.every(({ outcome, reasons }) => outcome === 'success' || !reasons?.includes('authorization_pending')),
    )
  })

  it('of two parallel polls one gets the tokens; a later one gets none', async () => {
    const { email } = await somebody()
    const visitor = test.visitor()
    const started = await start()
    assert.equal(headingOf(await signIn(visitor, await confirm(visitor, started), email)), ALLOWED)
    const answers = await Promise.all(Array.from({ length: 6 }, () => poll(started)))
    assert.equal(answers.filter(({ status }) => status === 200).length, 1)
    assert.ok(answers.filter(({ status }) => status !== 200).every(({ error }) => error === 'invalid_grant'))
    assert.equal((await poll(started)).error, 'invalid_grant')
  })

  it('of two people who answer one code at once, one does', async () => {
    const [ana, bob] = [await somebody(), await somebody()]
    for (const answers of [{ confirm: 'yes' }, { abort: 'yes' }] as const) {
      const started = await start()
      const browsers = [test.visitor(), test.visitor()] as const
      for (const [index, { email }] of [ana, bob].entries())
        await signIn(browsers[index]!, await browsers[index]!.go(test.authUrl()), email)
      const pages = await Promise.all(browsers.map((browser) => type(browser, started.user_code)))
      const { artifacts } = test.database
      const { findByUserCode } = artifacts
      let waiting = 0
      let bothHere = () => {}
      const both = new Promise<void>((resolve) => {
        bothHere = resolve
      })
      Object.assign(artifacts, {
        async findByUserCode(...of: Parameters<typeof findByUserCode>) {
          const found = await findByUserCode.apply(artifacts, of)
          waiting += 1
          if (waiting === 2) bothHere()
          await both // each has read the code before the other answers it
          return found
        },
      })
      const ends = await Promise.all([
        browsers[0].submit(pages[0]!, { confirm: 'yes' }),
        browsers[1].submit(pages[1]!, answers),
      ]).finally(() => Object.assign(artifacts, { findByUserCode }))
      assert.equal(
        ends.filter((page) => [ALLOWED, DENIED].includes(headingOf(page))).length,
        1,
        ends.map(headingOf).join(),
      )
      assert.ok(ends.some((page) => /used already/.test(errorOn(page) ?? '')))
      const allowed = ends.findIndex((page) => headingOf(page) === ALLOWED)
      const tokens = await poll(started)
      if (allowed < 0) assert.equal(tokens.error, 'access_denied')
      else assert.equal(claimsIn(tokens['id_token']).sub, [ana, bob][allowed]!.id)
    }
  })

  it('disabled, or every session ended, between the yes and the poll: no tokens', async () => {
    for (const raise of ['disable', 'reset'] as const) {
      const { email, id } = await somebody()
      const visitor = test.visitor()
      const started = await start()
      assert.equal(headingOf(await signIn(visitor, await confirm(visitor, started), email)), ALLOWED)
      if (raise === 'reset') await test.database.directory.resetMfa(id, { now: now() })
      else {
        const value = { ...(await test.database.directory.user(id))!, disabled: true }
        await test.database.directory.commit([{ kind: 'user', op: 'put', value }])
      }
      assert.equal((await poll(started)).error, 'invalid_grant', raise)
    }
  })

  it('a refresh token of a device ends with the epoch too', async () => {
    const { email, id } = await somebody()
    const visitor = test.visitor()
    const started = await start()
    await signIn(visitor, await confirm(visitor, started), email)
    const tokens = await poll(started)
    await test.database.directory.resetMfa(id, { now: now() })
    const form = { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! }
    assert.equal((await test.token(form, 'tv')).error, 'invalid_grant')
  })

  it('a third party’s device asks for consent as well', async () => {
    const { email, id } = await somebody()
    const visitor = test.visitor()
    const started = await start({}, 'partner')
    const page = await signIn(visitor, await confirm(visitor, started), email)
    assert.equal(headingOf(page), 'Let Partner Books use your account?')
    assert.equal(headingOf(await visitor.submit(page)), ALLOWED)
    assert.equal((await poll(started, 'partner')).status, 200)
    assert.ok(await test.database.consents.find(id, 'partner'))
  })

  it('signed in as somebody else: the switch page leads on to the device', async () => {
    const [ana, bob] = [await somebody(), await somebody('payor')]
    await firstSignIn(test, bob.email)
    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl()), ana.email)
    const started = await start({ acr_values: ACR_2FA_APP })
    const page = await confirm(visitor, started)
    assert.equal(headingOf(page), 'Secure Your Account')
    const other = await visitor.submit(page, {}, '/different')
    const third = await somebody()
    const enrolment = await signIn(visitor, other, third.email)
    const { page: recovery } = await enrol(visitor, enrolment)
    const question = await acknowledge(visitor, recovery)
    assert.equal(headingOf(question), 'You are signed in with another account')
    assert.equal(headingOf(await visitor.submit(question, {}, '/session/end/confirm')), ALLOWED)
    assert.equal(claimsIn((await poll(started))['id_token']).sub, third.id)
  })

  it('guesses are counted per network before they are looked at; right codes are not', async () => {
    const visitor = test.visitor()
    const started = await start()
    for (let i = 0; i < 25; i++) assert.equal(headingOf(await type(visitor, started.user_code)), CONFIRM)
    for (let i = 0; i < 20; i++) assert.equal((await type(visitor, 'BBBBBBBB')).status, 400)
    const page = await type(visitor, started.user_code)
    assert.equal(page.status, 429)
    assert.equal(headingOf(page), 'Too many wrong codes')
    assert.ok(Number(page.headers.get('retry-after')) > 0)
    assert.equal(headingOf(await type(test.visitor(), started.user_code)), CONFIRM, 'elsewhere it goes on')
  })

  it('guesses from many networks are counted together, and shut out nobody who signed in here before', async () => {
    const { email } = await somebody()
    const known = test.visitor()
    await signIn(known, await known.go(test.authUrl()), email)
    const counter = { key: 'user_code|all', rule: { kind: 'window', limit: 1000, seconds: 600 } } as const
    const at = Math.floor(Date.now() / 1000)
    for (let i = 0; i < 1000; i++) await test.database.throttle.take([counter], at)
    const started = await start()
    assert.equal((await type(test.visitor(), started.user_code)).status, 429)
    assert.equal(headingOf(await type(known, started.user_code)), CONFIRM)
    await test.database.throttle.clear(['user_code|all'])
  })

  it('takes no form from elsewhere, without its token, or without a cookie; nothing is a dead end', async () => {
    const visitor = test.visitor()
    const started = await start()
    const page = await visitor.go(`${test.url}/device`)
    const { action, hidden } = formOf(page)
    const form = { ...hidden, user_code: started.user_code, confirm: 'yes' }
    const foreign = await visitor.request(action, {
      form,
      headers: { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
    })
    assert.equal(foreign.status, 403)
    const forged = await visitor.request(action, { form: { ...form, xsrf: 'x' } })
    assert.equal(forged.status, 403)
    assert.equal(headingOf(forged), ENTRY)
    const bare = await test.visitor().request(action, { form })
    assert.equal(bare.status, 400)
    assert.match(bare.text, /href="\/device"/)
    for (const path of ['/DEVICE', '/device/']) {
      const other = await visitor.request(`${test.url}${path}`, {
        form,
        headers: { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
      })
      assert.equal(other.status, 403, path)
    }
    assert.equal((await poll(started)).error, 'authorization_pending')
  })

  it('stale pages lead on: a double click, Back after the end, a lost session cookie', async () => {
    const { email } = await somebody()
    const visitor = test.visitor()
    const started = await start()
    const page = await confirm(visitor, started)
    const password = await visitor.submit(page, { email })
    const twin = visitor.clone()
    const ends = await Promise.all([
      visitor.submit(password, { password: 'correct horse battery staple' }),
      twin.submit(password, { password: 'correct horse battery staple' }),
    ])
    assert.ok(
      ends.some((end) => headingOf(end) === ALLOWED),
      ends.map(headingOf).join(),
    )
    assert.ok(ends.every(({ status }) => status < 500))
    const back = await visitor.go(page.at)
    assert.equal(headingOf(back), 'This step is already done')

    const lost = await start({ acr_values: ACR_2FA_APP })
    const other = test.visitor()
    await signIn(other, await other.go(test.authUrl()), email)
    const enrolment = await confirm(other, lost)
    other.cookies = other.cookies.filter(({ name }) => !name.startsWith('session'))
    const { page: end } = await enrol(other, enrolment)
    assert.ok(end.status < 500, headingOf(end))
    assert.notEqual(headingOf(end), ALLOWED)
  })

  it('a session that ended behind the page: the same code works once more', async () => {
    const { email } = await somebody()
    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl()), email)
    const started = await start({ acr_values: ACR_2FA_APP })
    const page = await confirm(visitor, started)
    assert.equal(headingOf(page), 'Secure Your Account')
    await visitor.submit(await visitor.go(`${test.url}/session/end`), { logout: 'yes' })
    const entry = await visitor.go(page.at)
    assert.equal(headingOf(entry), ENTRY)
    const question = await visitor.submit(entry, { user_code: started.user_code })
    assert.equal(headingOf(question), CONFIRM)
    const again = await signIn(visitor, await visitor.submit(question, { confirm: 'yes' }), email)
    const { page: recovery } = await enrol(visitor, again)
    assert.equal(headingOf(await acknowledge(visitor, recovery)), ALLOWED)
    assert.equal(claimsIn((await poll(started))['id_token']).acr, ACR_2FA_APP)
  })

  it('ten wrong codes end it, and the device is told', async () => {
    const { email } = await somebody('payor')
    const { secret } = await firstSignIn(test, email)
    nextStep()
    const visitor = test.visitor()
    const started = await start()
    const page = await signIn(visitor, await confirm(visitor, started), email)
    let last = page
    for (let i = 0; i < 10; i++) {
      const right = await codeOf(secret)
      last = await visitor.submit(page, { code: right === '000000' ? '111111' : '000000' })
    }
    assert.equal(headingOf(last), 'Too many wrong codes')
    assert.equal((await poll(started)).error, 'access_denied')
  })

  it('neither code stands in the database', async () => {
    const started = await start()
    const rows = await stolen(test)
    assert.ok(rows.includes('DeviceCode'))
    for (const secret of [started.device_code, started.user_code, started.user_code.replace('-', '')])
      assert.ok(!rows.includes(secret))
  })
})
