/** The acceptance statements of the main way, by their numbers, through real HTTP to the token. */
import assert from 'node:assert/strict'
import { ACR_1FA, ACR_2FA, ACR_2FA_APP } from '../../interactions/policy.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import {
  API,
  acknowledge,
  CHALLENGE,
  claimsIn,
  codeOf,
  enrol,
  errorOf,
  firstSignIn,
  hasCode,
  openTestHouse,
  recoveryCodeOn,
  secretOn,
  signIn,
  stolen,
  type TestHouse,
} from '../support/house.ts'
import { headingOf, titleOf } from '../support/visitor.ts'

describe('acceptance', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())
  const somebody = async (role: 'payor' | 'payee' | 'standard' = 'payor') => {
    people += 1
    const email = `person${people}@${role}.example`
    await test.person(email, role)
    return email
  }
  /** A payor with an app, signed in. */
  const payor = async (params: Record<string, string> = {}) => {
    const email = await somebody()
    const signedIn = await firstSignIn(test, email, params)
    nextStep()
    return { email, ...signedIn }
  }

  it('1, 2: a payor without an app sees "Secure Your Account" and no code is issued before app and recovery code', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    assert.equal(headingOf(page), 'Secure Your Account')
    assert.match(page.text, /href="otpauth:\/\/totp\/Sallyport:/)
    assert.match(page.text, /Trouble scanning\?/)
    assert.ok(page.text.includes(`secret=${secretOn(page)}&amp;`), 'the same secret in the link and as text')
    for (const params of [{}, { prompt: 'none' }, { client_id: 'strict' }]) {
      const again = await visitor.clone().go(test.authUrl(params))
      assert.ok(!hasCode(again), 'cannot be skipped by going back to /auth')
    }
    const { page: recovery } = await enrol(visitor, page)
    assert.ok(!hasCode(await visitor.clone().go(test.authUrl({ prompt: 'none' }))))
    assert.ok(hasCode(await acknowledge(visitor, recovery)))
  })

  it('3: a wrong code leaves the person on the page with an error and the same secret', async () => {
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), await somebody())
    for (const code of ['12345', '1234567', 'abcdef', '']) {
      const refused = await visitor.submit(page, { code })
      assert.equal(refused.status, 400)
      assert.match(titleOf(refused), /^Error: /)
      assert.equal(secretOn(refused), secretOn(page))
    }
    const wrong = await visitor.submit(page, {
      code: (await codeOf(secretOn(page))) === '000000' ? '000001' : '000000',
    })
    assert.equal(wrong.status, 400)
    assert.equal(secretOn(await visitor.go(page.at)), secretOn(page), 'and on reload')
  })

  it('4: "Continue" without the tick is refused by the server', async () => {
    const visitor = test.visitor()
    const { page } = await enrol(visitor, await signIn(visitor, await visitor.go(test.authUrl()), await somebody()))
    assert.equal(headingOf(page), 'Almost There')
    assert.doesNotMatch(page.text, /checkbox"[^>]*checked/)
    for (const form of [{}, { acknowledged: 'no' }]) {
      const refused = await visitor.submit(page, form as Record<string, string>)
      assert.equal(refused.status, 400)
      assert.equal(recoveryCodeOn(refused), recoveryCodeOn(page))
    }
    assert.equal(recoveryCodeOn(await visitor.go(page.at)), recoveryCodeOn(page), 'survives reload')
    const file = await visitor.submit(page, {}, '/download')
    assert.match(file.headers.get('content-disposition') ?? '', /attachment/)
    assert.ok(file.text.includes(recoveryCodeOn(page)))
    assert.ok(hasCode(await acknowledge(visitor, page)))
  })

  it('6: left at the recovery page, the next sign-in asks for a code, then shows a new recovery code; the old one is void', async () => {
    const email = await somebody()
    const visitor = test.visitor()
    const { page, secret } = await enrol(visitor, await signIn(visitor, await visitor.go(test.authUrl()), email))
    const first = recoveryCodeOn(page)
    nextStep()
    const other = test.visitor()
    const challenge = await signIn(other, await other.go(test.authUrl()), email)
    assert.equal(headingOf(challenge), CHALLENGE)
    const recovery = await other.submit(challenge, { code: await codeOf(secret) })
    assert.equal(headingOf(recovery), 'Almost There')
    assert.notEqual(recoveryCodeOn(recovery), first)
    const stale = await acknowledge(visitor, page)
    assert.equal(stale.status, 400, 'the first page cannot acknowledge a code that is void')
    assert.notEqual(recoveryCodeOn(stale), first)
    const kept = await acknowledge(visitor, stale)
    assert.ok(hasCode(kept))
    assert.ok(hasCode(await acknowledge(other, recovery)), 'the other page goes on by itself')
  })

  it('17: an enrolled payor is asked for a code at every sign-in', async () => {
    const { visitor, email, secret } = await payor()
    const page = await signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), email)
    assert.equal(headingOf(page), CHALLENGE)
    assert.ok(hasCode(await visitor.submit(page, { code: await codeOf(secret) })))
  })

  it('19: a code is refused once accepted, and outside the permitted steps', async () => {
    const { email, secret } = await payor()
    const [one, two] = [test.visitor(), test.visitor()]
    const pages = [
      await signIn(one, await one.go(test.authUrl()), email),
      await signIn(two, await two.go(test.authUrl()), email),
    ]
    const code = await codeOf(secret)
    assert.ok(hasCode(await one.submit(pages[0]!, { code: `${code.slice(0, 3)} ${code.slice(3)}` })))
    const replay = await two.submit(pages[1]!, { code })
    assert.equal(replay.status, 400)
    wait(120)
    assert.equal((await two.submit(pages[1]!, { code })).status, 400)
    const [row] = await test.database.auditReader
      .auditRows({ event: 'mfa.otp', limit: 5 })
      .then((rows) => rows.filter(({ details }) => details?.['cause']))
    assert.equal(row?.details?.['cause'], 'otp_replayed')
  })

  it('19: 20 posts of one code from two browsers: one success (R53)', async () => {
    const { email, secret } = await payor()
    const visitors = [test.visitor(), test.visitor()]
    const pages = await Promise.all(visitors.map(async (one) => signIn(one, await one.go(test.authUrl()), email)))
    const code = await codeOf(secret)
    const before = (await test.database.auditReader.auditRows({ event: 'mfa.otp', limit: 1000 })).filter(
      ({ outcome }) => outcome === 'success',
    ).length
    await Promise.all(Array.from({ length: 20 }, (_, i) => visitors[i % 2]!.clone().submit(pages[i % 2]!, { code })))
    const after = (await test.database.auditReader.auditRows({ event: 'mfa.otp', limit: 1000 })).filter(
      ({ outcome }) => outcome === 'success',
    ).length
    assert.equal(after - before, 1)
  })

  it('24: amr, acr, auth_time and second_factor_time in ID token and JWT access token', async () => {
    const { visitor, answer } = await payor({ scope: 'openid email payments', resource: API })
    const tokens = await test.exchange(answer, 'payments', { resource: API })
    for (const token of [tokens['id_token'], tokens['access_token']]) {
      const claims = claimsIn(token)
      assert.deepEqual([claims.amr, claims.acr], [['pwd', 'otp', 'mfa'], ACR_2FA_APP])
      assert.ok(Number(claims['second_factor_time']) >= claims.auth_time)
    }
    assert.equal(claimsIn(tokens['access_token'])['aud'], API)
    const email = await somebody('standard')
    const other = test.visitor()
    const plain = claimsIn(
      (await test.exchange(await signIn(other, await other.go(test.authUrl()), email)))['id_token'],
    )
    assert.deepEqual([plain.amr, plain.acr, plain['second_factor_time']], [['pwd'], ACR_1FA, undefined])
    void visitor
  })

  it('25: a request that needs more than the session has gets the challenge, or interaction_required', async () => {
    const email = await somebody('standard')
    const visitor = test.visitor()
    assert.ok(hasCode(await signIn(visitor, await visitor.go(test.authUrl()), email)))
    assert.equal(
      errorOf(await visitor.go(test.authUrl({ acr_values: ACR_2FA, prompt: 'none' }))),
      'interaction_required',
    )
    assert.equal(errorOf(await test.visitor().go(test.authUrl({ prompt: 'none' }))), 'login_required')
    const page = await visitor.go(test.authUrl({ acr_values: ACR_2FA }))
    assert.equal(headingOf(page), 'Secure Your Account', 'the password is not asked again')
    const { page: recovery } = await enrol(visitor, page)
    const claims = claimsIn((await test.exchange(await acknowledge(visitor, recovery)))['id_token'])
    assert.deepEqual(claims.amr, ['pwd', 'otp', 'mfa'])
  })

  it('27, 28, 29, 40: the recovery code leads to a new app and a new code; the old app and code are dead', async () => {
    const { email, secret, recoveryCode, visitor: former } = await payor()
    assert.ok(hasCode(await former.go(test.authUrl({ prompt: 'none' }))))
    const visitor = test.visitor()
    const challenge = await signIn(visitor, await visitor.go(test.authUrl()), email)
    const form = await visitor.go(`${new URL(challenge.at).pathname}/recovery`)
    assert.equal((await visitor.submit(form, { recovery_code: 'AAAA-AAAA-AAAA-AAAA-AAAA-AAAA' })).status, 400)
    const enrolment = await visitor.submit(form, { recovery_code: recoveryCode.toLowerCase().replaceAll('-', ' ') })
    assert.equal(headingOf(enrolment), 'Secure Your Account', headingOf(enrolment))
    assert.ok(!hasCode(await visitor.clone().go(test.authUrl({ prompt: 'none' }))), 'it proves no factor')
    const { page, secret: fresh } = await enrol(visitor, enrolment)
    assert.notEqual(fresh, secret)
    const next = recoveryCodeOn(page)
    assert.notEqual(next, recoveryCode)
    const claims = claimsIn((await test.exchange(await acknowledge(visitor, page)))['id_token'])
    assert.deepEqual(claims.amr, ['pwd', 'otp', 'mfa'])
    assert.equal(
      errorOf(await former.go(test.authUrl({ prompt: 'none' }))),
      'login_required',
      'sessions of before have ended (R65)',
    )

    nextStep()
    const again = test.visitor()
    const page2 = await signIn(again, await again.go(test.authUrl()), email)
    assert.equal((await again.submit(page2, { code: await codeOf(secret) })).status, 400, 'the old app is dead')
    const form2 = await again.go(`${new URL(page2.at).pathname}/recovery`)
    assert.equal((await again.submit(form2, { recovery_code: recoveryCode })).status, 400, 'the old code is dead')
  })

  it('34: a recovery code is stored only as a hash', async () => {
    const { email } = await payor()
    const { account } = (await test.database.accounts.findByEmail(email))!
    assert.match((await test.database.factors.recoveryCodeHash(account.id))!.hash, /^\$argon2id\$/)
  })

  it('42: enrolment, failed challenge, recovery and reset are in the audit, with reasons and nothing secret', async () => {
    const { email, secret } = await payor()
    const id = (await test.database.accounts.findByEmail(email))!.account.id
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    await visitor.submit(page, { code: (await codeOf(secret)) === '000000' ? '000001' : '000000' })
    const rows = await test.database.auditReader.auditRows({ accountId: id, limit: 200 })
    const events = rows.map(({ event, outcome }) => `${event} ${outcome}`)
    for (const event of [
      'mfa.enrolled success',
      'recovery_code.acknowledged success',
      'authorization success',
      'mfa.otp failure',
      'login.password success',
    ])
      assert.ok(events.includes(event), `${event} in ${[...new Set(events)].join(', ')}`)
    assert.ok(rows.some(({ reasons }) => reasons?.includes('role:payments_admin@acme')))
    assert.ok(!JSON.stringify(rows).includes(secret))
  })

  it('every tenth wrong code ends the interaction, then the method waits 30 minutes (R54)', async () => {
    const { email, secret } = await payor()
    const visitor = test.visitor()
    let page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    const wrong = async () => ((await codeOf(secret)) === '000000' ? '000001' : '000000')
    for (let i = 0; i < 9; i++) {
      // A hint before the end, and a new browser does not reset the count.
      if (i === 4) page = await signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), email)
      const refused = await visitor.submit(page, { code: await wrong() })
      assert.equal(refused.status, 400)
      if (i === 8) assert.match(refused.text, /1 more try/)
    }
    const last = await visitor.submit(page, { code: await wrong() })
    assert.equal(last.status, 429)
    assert.match(last.text, /error=access_denied/)
    assert.equal((await visitor.go(page.at)).status, 400, 'the interaction is over')
    const other = test.visitor()
    const blocked = await other.submit(await signIn(other, await other.go(test.authUrl()), email), {
      code: await codeOf(secret),
    })
    assert.equal(blocked.status, 429, 'the right code is refused during the wait')
    wait(30 * 60)
    const open = await signIn(other, await other.go(test.authUrl()), email)
    assert.ok(hasCode(await other.submit(open, { code: await codeOf(secret) })))
  })

  it('a stale page, a double submit, a finished sign-in, an unknown interaction: each leads on', async () => {
    const { visitor, email, secret } = await payor()
    const start = await visitor.go(test.authUrl({ prompt: 'login' }))
    const page = await signIn(visitor, start, email)
    const stale = await visitor.go(start.at)
    assert.equal(stale.at, page.at, 'Back to the password page leads to the question that is open')
    const code = await codeOf(secret)
    const [a, b] = await Promise.all([visitor.submit(page, { code }), visitor.clone().submit(page, { code })])
    assert.ok(
      [a, b].some(hasCode),
      [a, b].map((one) => `${one.status} ${one.location} ${headingOf(one)} ${titleOf(one)}`).join(' / ') +
        visitor.log.slice(-6).join(),
    )
    assert.ok([a, b].every(({ status }) => status < 500))
    const done = await visitor.go(page.at)
    assert.equal(done.status, 400)
    assert.match(done.text, /https:\/\/rp\.example/)
    const unknown = await test.visitor().go(`/interaction/${'x'.repeat(43)}`)
    assert.equal(unknown.status, 400)
    assert.match(unknown.text, /<h1/)
  })

  it('"Not you?" asks for another account, and a switch shows a page with buttons, not a script', async () => {
    const { visitor } = await payor()
    const other = await somebody('standard')
    const challenge = await visitor.go(test.authUrl({ second_factor_max_age: '0' }))
    assert.equal(headingOf(challenge), CHALLENGE)
    const page = await visitor.submit(challenge, {}, '/different')
    assert.equal(headingOf(page), 'Sign in')
    const page2 = await signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), other)
    assert.match(
      headingOf(page2),
      /signed in with another account/,
      test.logs.filter((line) => line.includes('could not')).join(),
    )
    assert.doesNotMatch(page2.text, /submit\(\)/)
    const twin = visitor.clone()
    assert.equal(errorOf(await twin.submit(page2, {}, '/cancel')), 'access_denied')
    const again = await signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), other)
    const switched = await visitor.submit(again, {}, '/session/end/confirm')
    assert.equal(
      claimsIn((await test.exchange(switched))['id_token']).sub,
      (await test.database.accounts.findByEmail(other))!.account.id,
    )
  })

  it('a disabled person, a reset factor and a raised epoch end sessions and refresh tokens', async () => {
    const { visitor, email } = await payor({ client_id: 'strict' })
    const id = (await test.database.accounts.findByEmail(email))!.account.id
    const again = await visitor.go(test.authUrl({ client_id: 'strict' }))
    const tokens = await test.exchange(again, 'strict')
    const refreshed = await test.token(
      { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! },
      'strict',
    )
    assert.deepEqual(claimsIn(refreshed['id_token']).amr, ['pwd', 'otp', 'mfa'])
    await test.database.directory.resetMfa(id, { now: now() })
    assert.equal(errorOf(await visitor.go(test.authUrl({ client_id: 'strict', prompt: 'none' }))), 'login_required')
    const dead = await test.token({ grant_type: 'refresh_token', refresh_token: refreshed['refresh_token']! }, 'strict')
    assert.equal(dead.error, 'invalid_grant')
  })

  it('a used refresh token ends its family; an authorization code works once', async () => {
    const { answer } = await payor()
    const tokens = await test.exchange(answer)
    const second = await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! })
    assert.ok(second['access_token'])
    assert.equal(
      (await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! })).error,
      'invalid_grant',
    )
    assert.equal(
      (await test.token({ grant_type: 'refresh_token', refresh_token: second['refresh_token']! })).error,
      'invalid_grant',
    )
    assert.equal((await test.exchange(answer)).error, 'invalid_grant')
  })

  it('sessions end to the second: idle, and absolute in spite of use', async () => {
    const email = await somebody('standard')
    const visitor = test.visitor()
    assert.ok(hasCode(await signIn(visitor, await visitor.go(test.authUrl()), email)))
    for (let hour = 0; hour < 13; hour++) {
      wait(3300)
      if (hour < 12) assert.ok(hasCode(await visitor.go(test.authUrl())), `used after ${hour + 1} × 55 minutes`)
    }
    wait(12 * 3600 - 13 * 3300 + 5)
    assert.equal(errorOf(await visitor.go(test.authUrl({ prompt: 'none' }))), 'login_required')
  })

  it('nothing that went over the wire stands in the database, its WAL or the logs (R112)', async () => {
    const { visitor, secret, recoveryCode, answer } = await payor({
      scope: 'openid email payments offline_access',
      resource: API,
    })
    const tokens = await test.exchange(answer, 'payments', { resource: API })
    await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! })
    const haystack = [await stolen(test), ...test.logs].join('\n')
    const needles = [
      ...visitor.seen,
      secret,
      recoveryCode,
      recoveryCode.replaceAll('-', ''),
      tokens['access_token']!,
      tokens['refresh_token']!,
      tokens['id_token']!,
    ]
    for (const needle of needles.filter((value) => value.length >= 16))
      assert.ok(!haystack.includes(needle), `${needle.slice(0, 6)}… is stored in clear`)
    assert.ok(needles.length > 12)
  })
})
