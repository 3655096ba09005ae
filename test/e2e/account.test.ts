/** A person's own account: their sign-in, what they see, what they end and change; and what nobody else can. */
import assert from 'node:assert/strict'
import { createPasswordHasher } from '../../interactions/index.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import {
  acknowledge,
  CHALLENGE,
  codeOf,
  enrol,
  errorOf,
  firstSignIn,
  hasCode,
  openTestHouse,
  PASSWORD,
  recoveryCodeOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 100 })

describe('own account', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  const somebody = async (role: 'payor' | 'payee' | 'standard' = 'payor') => {
    people += 1
    const email = `own${people}@${role}.example`
    await test.person(email, role)
    return email
  }
  /** A payor who has just signed in to Payments. */
  const payor = async () => {
    const email = await somebody()
    const signedIn = await firstSignIn(test, email)
    nextStep()
    return { email, ...signedIn }
  }
  /** The same person in another browser. */
  const elsewhere = async ({ email, secret }: { email: string; secret: string }) => {
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    const answer = await visitor.submit(page, { code: await codeOf(secret) })
    assert.ok(hasCode(answer))
    nextStep()
    return visitor
  }
  const open = (visitor: Visitor, page = '') => visitor.go(`${test.url}/account${page}`)
  const silently = (visitor: Visitor) => visitor.clone().go(test.authUrl({ prompt: 'none' }))
  const events = async (email: string) => {
    const { id } = (await test.database.directory.user(email))!
    return (await test.database.auditReader.auditRows({ accountId: id, limit: 100 })).map(({ event }) => event)
  }

  describe('sign-in', () => {
    it('asks whoever is not signed in, as any app does, and ends at the page that was asked for', async () => {
      const { email, secret } = await payor()
      const visitor = test.visitor()
      const first = await open(visitor, '/history')
      assert.equal(headingOf(first), 'Sign in')
      const challenge = await signIn(visitor, first, email)
      assert.equal(headingOf(challenge), CHALLENGE)
      const page = await visitor.submit(challenge, { code: await codeOf(secret) })
      assert.equal(headingOf(page), 'What happened')
      assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'none'/)
      assert.equal(page.headers.get('cache-control'), 'no-store')
    })

    it('asks nothing of somebody who is signed in, and says who they are, how they sign in and why', async () => {
      const { email, visitor } = await payor()
      const page = await open(visitor)
      assert.equal(headingOf(page), 'Your account')
      for (const words of [email, 'A Person', 'Authenticator app', 'You handle payments at Acme Builders'])
        assert.ok(page.text.includes(words), words)
    })

    it('keeps a cookie that says nothing and that a page cannot read', async () => {
      const { visitor } = await payor()
      await open(visitor)
      const cookie = visitor.cookies.find(({ name }) => name === 'account')!
      assert.match(cookie.attributes, /httponly/i)
      assert.match(cookie.attributes, /samesite=lax/i)
      assert.match(cookie.value, /^v1\./)
    })

    it('takes a code once, from the browser that asked for it', async () => {
      const { visitor } = await payor()
      const asked = await visitor.request(`${test.url}/account`)
      const answered = await visitor.request(asked.location!)
      const stranger = test.visitor()
      assert.equal((await stranger.request(answered.location!)).status, 400)
      assert.equal(stranger.cookie('account'), undefined)
      assert.equal((await visitor.clone().request(answered.location!)).status, 303)
      assert.equal((await visitor.clone().request(answered.location!)).status, 400)
    })

    it('takes no code of another app, and no answer to another question', async () => {
      const { visitor, answer } = await payor()
      const asked = await visitor.request(`${test.url}/account`)
      const state = new URL(asked.location!).searchParams.get('state')!
      const code = new URL(answer.location!).searchParams.get('code')!
      const callback = `${test.url}/account/callback?${new URLSearchParams({ code, state })}`
      assert.equal((await visitor.request(callback)).status, 400)
      assert.equal((await test.exchange(answer)).status, 200)
    })

    it('gives the code of the account to nobody over the network', async () => {
      const { visitor } = await payor()
      const asked = await visitor.request(`${test.url}/account`)
      const answered = await visitor.request(asked.location!)
      const code = new URL(answered.location!).searchParams.get('code')!
      const form = {
        grant_type: 'authorization_code',
        code,
        client_id: 'account',
        redirect_uri: `${test.url}/account/callback`,
      }
      assert.equal((await test.token(form, '')).error, 'invalid_client')
    })

    it('works in two tabs at once', async () => {
      const { email, secret } = await payor()
      const visitor = test.visitor()
      const one = await open(visitor, '/sessions')
      await open(visitor, '/apps')
      const challenge = await signIn(visitor, one, email)
      assert.equal(
        headingOf(await visitor.submit(challenge, { code: await codeOf(secret) })),
        'Where you are signed in',
      )
    })

    for (const [what, end] of [
      ['disabling', (id: string) => test.database.directory.setDisabled(id, true)],
      ['the end of all sessions', (id: string) => test.database.directory.raiseEpoch(id)],
      ['a reset of the factors', (id: string) => test.database.directory.resetMfa(id, { now: now() })],
    ] as const)
      it(`ends at once with ${what}`, async () => {
        const { email, visitor } = await payor()
        const page = await open(visitor, '/name')
        await end((await test.database.directory.user(email))!.id)
        assert.equal(headingOf(await open(visitor)), 'Sign in')
        assert.notEqual(headingOf(await visitor.go(page.at, { form: { name: 'Mallory' } })), 'Your account')
        assert.equal((await test.database.directory.user(email))!.name, 'A Person')
      })

    it('ends with a sign-out, and with the session', async () => {
      const { visitor } = await payor()
      const leaving = await open(visitor, '/sign-out')
      assert.equal(headingOf(leaving), 'Do you want to sign out?')
      await visitor.submit(leaving, { logout: 'yes' })
      assert.equal(headingOf(await open(visitor)), 'Sign in')

      const { visitor: idle } = await payor()
      await open(idle)
      wait(60 * 60 + 1)
      assert.equal(headingOf(await open(idle)), 'Sign in')
    })

    it('sends a person who goes back on the way home, not in circles', async () => {
      const visitor = test.visitor()
      const page = await open(visitor)
      assert.equal((await visitor.submit(page, {}, '/cancel')).at, `${test.url}/`)
    })
  })

  it('leads from every page to the others, and back to the apps', async () => {
    const { visitor } = await payor()
    for (const at of ['', '/name', '/password', '/app/remove', '/phone/remove', '/sessions', '/apps', '/history']) {
      const { text } = await open(visitor, at)
      assert.ok(text.includes(`<a href="${test.url}/" >Your apps</a>`), at)
      assert.match(text, /href="\/account\/history"/, at)
    }
  })

  describe('sessions', () => {
    it('are shown with browser and times, this one marked; one is ended, the other goes on', async () => {
      const person = await payor()
      const other = await elsewhere(person)
      const page = await open(person.visitor, '/sessions')
      assert.equal(page.text.match(/Last used/g)?.length, 2)
      assert.equal(page.text.match(/\(This one\)/g)?.length, 1)
      const { action, hidden } = formOf(page)
      const end = /name="end" value="([^"]+)"/.exec(page.text)![1]!
      const after = await person.visitor.go(action, { form: { ...hidden, end } })
      assert.match(after.text, /The session has ended/)
      assert.equal(errorOf(await silently(other)), 'login_required')
      assert.ok(hasCode(await silently(person.visitor)))
      assert.ok((await events(person.email)).includes('account.session_ended'))
    })

    it('of somebody else are not ended by whoever knows their id', async () => {
      const victim = await payor()
      const other = await elsewhere(victim)
      const shown = await open(victim.visitor, '/sessions')
      const end = /name="end" value="([^"]+)"/.exec(shown.text)![1]!
      const thief = await payor()
      const { action, hidden } = formOf(await open(thief.visitor, '/sessions'))
      await thief.visitor.go(action, { form: { ...hidden, end } })
      assert.ok(hasCode(await silently(other)))
    })

    it('end all but this one: refresh tokens and half-finished sign-ins too; the person is told', async () => {
      const person = await payor()
      const other = await elsewhere(person)
      const half = test.visitor()
      const challenge = await signIn(half, await half.go(test.authUrl()), person.email)
      const tokens = await test.exchange(await other.go(test.authUrl({ client_id: 'strict' })), 'strict')
      const after = await person.visitor.submit(await open(person.visitor, '/sessions'), { others: 'yes' })
      assert.match(after.text, /All other sessions have ended/)
      assert.equal(errorOf(await silently(other)), 'login_required')
      assert.ok(hasCode(await silently(person.visitor)))
      assert.equal(headingOf(await open(person.visitor)), 'Your account')
      const refreshed = await test.token(
        { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! },
        'strict',
      )
      assert.equal(refreshed.error, 'invalid_grant')
      assert.equal(hasCode(await half.submit(challenge, { code: await codeOf(person.secret) })), false)
      assert.ok((await events(person.email)).includes('account.sessions_ended'))
    })

    it('end after a fresh second factor only', async () => {
      const person = await payor()
      const other = await elsewhere(person)
      wait(5 * 60 + 1)
      const page = await open(person.visitor, '/sessions')
      const challenge = await person.visitor.submit(page, { others: 'yes' })
      assert.equal(headingOf(challenge), CHALLENGE)
      assert.ok(hasCode(await silently(other)))
      const again = await person.visitor.submit(challenge, { code: await codeOf(person.secret) })
      assert.match(again.text, /Choose once more/)
      await person.visitor.submit(again, { others: 'yes' })
      assert.equal(errorOf(await silently(other)), 'login_required')
    })

    it('of a person without a factor end after their password', async () => {
      const email = await somebody('standard')
      const visitor = test.visitor()
      const page = await signIn(visitor, await open(visitor, '/sessions'), email)
      wait(5 * 60 + 1)
      const asked = await visitor.submit(page, { others: 'yes' })
      assert.equal(headingOf(asked), 'Sign in')
      const again = await signIn(visitor, asked, email)
      assert.match((await visitor.submit(again, { others: 'yes' })).text, /All other sessions have ended/)
    })
  })

  it('takes no form of another site, without its token, or of another session', async () => {
    const person = await payor()
    const page = await open(person.visitor, '/sessions')
    const { action, hidden } = formOf(page)
    const form = { ...hidden, others: 'yes' }
    const foreign = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }
    assert.equal((await person.visitor.request(action, { form, headers: foreign })).status, 403)
    assert.equal((await person.visitor.request(action, { form: { others: 'yes' } })).status, 403)
    const another = await payor()
    await open(another.visitor)
    assert.equal((await another.visitor.request(action, { form })).status, 403)
    assert.equal((await person.visitor.request(action, { form, method: 'DELETE' })).status, 405)
    assert.equal((await person.visitor.request(action, { form: { ...hidden, more: 'x' } })).status, 400)
  })

  describe('name and password', () => {
    const NEW = 'a quite new battery staple'

    it('changes the name, which the next token says', async () => {
      const { email, visitor } = await payor()
      const empty = await visitor.submit(await open(visitor, '/name'), { name: '  ' })
      assert.equal(empty.status, 400)
      assert.equal((await visitor.submit(await open(visitor, '/name'), { name: 'Ana\0Lopez' })).status, 400)
      const page = await visitor.submit(await open(visitor, '/name'), { name: ' Ana <b>Lopez ' })
      assert.match(page.text, /Your name was changed/)
      assert.match(page.text, /Ana &lt;b&gt;Lopez/)
      assert.equal((await test.database.directory.user(email))!.name, 'Ana <b>Lopez')
    })

    it('takes 120 forms an hour: nobody makes us write letters without end', async () => {
      const person = await payor()
      const { id } = (await test.database.directory.user(person.email))!
      const { action, hidden } = formOf(await open(person.visitor, '/name'))
      const write = (name: string) => person.visitor.request(action, { form: { ...hidden, name } })
      assert.equal((await write('Ana')).status, 303)
      const rule = { kind: 'window', limit: 120, seconds: 60 * 60 } as const
      const counters = [{ key: `account-forms|${id}`, rule }]
      for (let count = 0; count < 119; count++)
        assert.ok((await test.database.throttle.take(counters, Math.floor(Date.now() / 1000))).allowed)
      const refused = await write('Ana Lima')
      assert.equal(refused.status, 429)
      assert.match(refused.text, /Too many|too many/)
      assert.equal((await test.database.directory.user(id))!.name, 'Ana')
    })

    it('changes the password: other sessions end, this one goes on, the former one opens nothing', async () => {
      const person = await payor()
      const other = await elsewhere(person)
      const page = await open(person.visitor, '/password')
      const after = await person.visitor.submit(page, { new_password: NEW })
      assert.match(after.text, /Your password was changed/)
      assert.equal(errorOf(await silently(other)), 'login_required')
      assert.ok(hasCode(await silently(person.visitor)))
      const fresh = test.visitor()
      const old = await signIn(fresh, await fresh.go(test.authUrl()), person.email)
      assert.equal(old.status, 400)
      assert.equal(headingOf(await fresh.submit(old, { password: NEW })), CHALLENGE)
      assert.ok((await events(person.email)).includes('account.password_changed'))
    })

    it('refuses a password that may not be one, and the present one', async () => {
      const { visitor } = await payor()
      const page = await open(visitor, '/password')
      assert.match((await visitor.submit(page, { new_password: 'too short' })).text, /15/)
      assert.equal((await visitor.submit(page, { new_password: PASSWORD })).status, 400)
    })

    it('wants the present password and the second factor of the last five minutes', async () => {
      const person = await payor()
      const page = await open(person.visitor, '/password')
      wait(5 * 60 + 1)
      const asked = await person.visitor.submit(page, { new_password: NEW })
      assert.equal(headingOf(asked), 'Sign in')
      const challenge = await signIn(person.visitor, asked, person.email)
      assert.equal(headingOf(challenge), CHALLENGE)
      const again = await person.visitor.submit(challenge, { code: await codeOf(person.secret) })
      assert.match((await person.visitor.submit(again, { new_password: NEW })).text, /Your password was changed/)
    })
  })

  describe('what is set up', () => {
    it('the app: the old one works until the new one is verified, and then no more', async () => {
      const person = await payor()
      const challenge = await open(person.visitor, '/app')
      assert.equal(headingOf(challenge), CHALLENGE)
      const page = await person.visitor.submit(challenge, { code: await codeOf(person.secret) })
      assert.equal(headingOf(page), 'Secure Your Account')
      nextStep()
      const before = test.visitor()
      const stillOld = await signIn(before, await before.go(test.authUrl()), person.email)
      assert.ok(hasCode(await before.submit(stillOld, { code: await codeOf(person.secret) })))
      nextStep()
      const { page: shown, secret } = await enrol(person.visitor, page)
      assert.notEqual(recoveryCodeOn(shown), person.recoveryCode)
      assert.match((await acknowledge(person.visitor, shown)).text, /Your authenticator app is set up/)
      nextStep()
      const fresh = test.visitor()
      const asked = await signIn(fresh, await fresh.go(test.authUrl()), person.email)
      assert.equal((await fresh.submit(asked, { code: await codeOf(person.secret) })).status, 400)
      assert.ok(hasCode(await fresh.submit(asked, { code: await codeOf(secret) })))
    })

    it('a new recovery code: a fresh second factor first, shown once, the former one is void', async () => {
      const person = await payor()
      const challenge = await open(person.visitor, '/recovery-code')
      assert.equal(headingOf(challenge), CHALLENGE)
      const shown = await person.visitor.submit(challenge, { code: await codeOf(person.secret) })
      const code = recoveryCodeOn(shown)
      assert.notEqual(code, person.recoveryCode)
      assert.match((await acknowledge(person.visitor, shown)).text, /You have a new recovery code/)
      const { id } = (await test.database.directory.user(person.email))!
      const { hash } = (await test.database.factors.recoveryCodeHash(id))!
      const matches = (one: string) => hasher.verify(hash, one.replaceAll('-', ''))
      assert.deepEqual([await matches(person.recoveryCode), await matches(code)], [false, true])
    })

    it('for a person without a factor: their password first, then the app', async () => {
      const email = await somebody('standard')
      const visitor = test.visitor()
      await signIn(visitor, await open(visitor), email)
      wait(5 * 60 + 1)
      const asked = await open(visitor, '/app')
      assert.equal(headingOf(asked), 'Sign in')
      const page = await signIn(visitor, asked, email)
      const { page: shown } = await enrol(visitor, page)
      assert.match((await acknowledge(visitor, shown)).text, /Your authenticator app is set up/)
    })

    it('nothing on a password alone where a factor stands', async () => {
      const person = await payor()
      for (const what of ['/app', '/recovery-code']) {
        const thief = test.visitor()
        const page = await signIn(thief, await open(thief, what), person.email)
        assert.equal(headingOf(page), CHALLENGE)
        const interaction = page.at.replace(/(interaction\/[^/]+).*/, '$1')
        for (const room of ['', '/app', '/choose']) {
          const answer = await thief.go(interaction + room)
          assert.doesNotMatch(answer.text, /id="(?:key|recovery-code)"/)
        }
      }
    })

    it('no phone for a payor, whoever asks', async () => {
      const { visitor } = await payor()
      await open(visitor)
      const page = await open(visitor, '/phone')
      assert.equal(headingOf(page), 'Your account')
      assert.doesNotMatch(page.text, /phone_set_up|Your phone is set up|Add a phone/)
    })

    it('nothing by an app that is not the account', async () => {
      const { visitor } = await payor()
      assert.equal(errorOf(await visitor.go(test.authUrl({ set_up: 'otp' }))), 'invalid_request')
    })
  })

  describe('connected apps', () => {
    it('are shown by name, and what one may do is taken back', async () => {
      const person = await payor()
      const asked = await person.visitor.go(test.authUrl({ client_id: 'partner' }))
      assert.ok(hasCode(await person.visitor.submit(asked)))
      const page = await open(person.visitor, '/apps')
      assert.match(page.text, /Partner Books/)
      const after = await person.visitor.submit(page, { revoke: 'partner' })
      assert.match(after.text, /no longer use your account/)
      assert.doesNotMatch(after.text, /Partner Books/)
      assert.match(headingOf(await person.visitor.go(test.authUrl({ client_id: 'partner' }))), /Partner Books/)
    })
  })

  describe('history', () => {
    it('says in plain words what happened and why a person was asked', async () => {
      const person = await payor()
      await elsewhere(person)
      const wrong = test.visitor()
      await wrong.submit(await signIn(wrong, await wrong.go(test.authUrl()), person.email), { code: '000000' })
      const page = await open(person.visitor, '/history')
      for (const words of [
        'Signed in to Payments',
        'Wrong code from an authenticator app',
        'Added a second step',
        'You handle payments at Acme Builders',
      ])
        assert.ok(page.text.includes(words), words)
    })

    it('is of one person and of ninety days', async () => {
      const person = await payor()
      const other = await payor()
      await open(other.visitor)
      wait(90 * 24 * 60 * 60 + 60)
      const visitor = test.visitor()
      const challenge = await signIn(visitor, await open(visitor, '/history'), person.email)
      const page: Answer = await visitor.submit(challenge, { code: await codeOf(person.secret) })
      assert.doesNotMatch(page.text, /Added a second step/)
      assert.doesNotMatch(page.text, new RegExp(other.email))
    })
  })
})
