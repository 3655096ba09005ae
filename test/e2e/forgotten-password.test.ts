/** "Forgot your password?" and the link to a new one (R32, R73, R74, R75; behaviour 51, 56, 59). */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import { decodeJwt } from 'jose'
import type { Letter } from '../../interactions/index.ts'
import { invitation, resetLink } from '../../server/account/links.ts'
import { now, wait } from '../support/clock.ts'
import {
  CALLBACK,
  CHALLENGE,
  CLIENT_SECRET,
  codeOf,
  firstSignIn,
  hasCode,
  openTestHouse,
  PASSWORD,
  signIn,
  stolen,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const CONNECTION = {
  id: 'sso',
  company: 'acme',
  domains: ['acme.example'],
  state: 'active' as const,
  jit: false,
  trustedContexts: [],
  idp: { entityId: 'urn:idp', ssoUrl: 'https://idp.example', binding: 'redirect' as const, certificates: [] },
  keys: [],
  attributes: {},
}
const NEW = 'ponies dance at midnight'

describe('a forgotten password', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  const ask = async (visitor: Visitor, email: string) =>
    visitor.submit(await visitor.go(`${test.url}/forgot`), { email })

  /** The letters of a kind to a person, oldest first. They are written behind the answer. */
  async function letters(accountId: string, kind: string, count: number): Promise<Letter[]> {
    for (let looks = 0; ; looks++) {
      const found = (await test.database.outbox.list({ accountId, limit: 99 })).filter((one) => one.kind === kind)
      if (found.length >= count || looks > 100) {
        assert.equal(found.length, count, kind)
        const bodies = await Promise.all(found.map(({ id }) => test.database.outbox.read(id)))
        return bodies.map((body) => JSON.parse(body!) as Letter).reverse()
      }
      await setTimeout(20)
    }
  }
  async function linkFor(email: string, visitor = test.visitor()): Promise<string> {
    const { account } = (await test.database.accounts.findByEmail(email))!
    const before = (await test.database.outbox.list({ accountId: account.id, limit: 99 })).filter(
      ({ kind }) => kind === 'password_reset',
    ).length
    assert.equal(headingOf(await ask(visitor, email)), 'Look into your mail')
    const all = await letters(account.id, 'password_reset', before + 1)
    const { link } = all.find(({ link: one }) => !seen.has(one!))!
    seen.add(link!)
    return link!
  }
  const seen = new Set<string>()
  const setTo = (visitor: Visitor, page: Answer, password: string) => visitor.submit(page, { new_password: password })

  it('is replaced by a link, which signs nobody in, skips no second factor and ends every session', async () => {
    await test.person('ana@acme.example')
    const { visitor, secret, answer } = await firstSignIn(test, 'ana@acme.example')
    const tokens = await test.exchange(answer)
    const other = test.visitor()
    const password = await other.submit(await other.go(test.authUrl()), { email: 'ana@acme.example' })
    assert.match(password.text, /<a href="\/forgot">Forgot your password\?<\/a>/)

    const link = await linkFor('ana@acme.example', other)
    assert.ok(link.startsWith(`${test.url}/reset?token=`))
    const form = await other.go(link)
    assert.equal(form.at, `${test.url}/reset`)
    assert.match(form.text, /value="ana@acme\.example" readonly/)
    const done = await setTo(other, form, NEW)
    assert.equal(headingOf(done), 'Your password is set')
    assert.ok(!other.cookies.some(({ name }) => name === 'session' || name === 'reset'))

    assert.equal(
      (await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token'] ?? 'x' })).error,
      'invalid_grant',
    )
    assert.ok(!hasCode(await visitor.go(test.authUrl({ prompt: 'none' }))))
    const again = test.visitor()
    const old = await signIn(again, await again.go(test.authUrl()), 'ana@acme.example', PASSWORD)
    assert.equal(old.status, 400)
    const challenge = await again.submit(old, { password: NEW })
    assert.equal(headingOf(challenge), CHALLENGE)
    wait(30)
    assert.ok(hasCode(await again.submit(challenge, { code: await codeOf(secret) })))
    const { account } = (await test.database.accounts.findByEmail('ana@acme.example'))!
    assert.equal((await test.database.artifacts.sessionsOf(account.id, now())).length, 1, 'the new one alone')
    await letters(account.id, 'password_changed', 1)
    const events = (await test.database.auditReader.auditRows({ accountId: account.id })).map(({ event }) => event)
    assert.ok(events.includes('password.link_sent') && events.includes('password.reset'))
  })

  it('ends sessions at the apps too, which are told (back-channel logout)', async () => {
    const heard: string[] = []
    const app = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk) => {
        body += chunk
      })
      request.on('end', () => {
        heard.push(decodeJwt(new URLSearchParams(body).get('logout_token')!).sub!)
        response.writeHead(204).end()
      })
    })
    await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve))
    try {
      const books = {
        client_id: 'books',
        client_secret: CLIENT_SECRET,
        redirect_uris: [CALLBACK],
        backchannel_logout_uri: `http://127.0.0.1:${(app.address() as AddressInfo).port}/`,
        sallyport: { first_party: true },
      }
      await test.database.directory.commit([{ kind: 'client', op: 'put', value: books }])
      const id = await test.person('told@acme.example')
      const { answer } = await firstSignIn(test, 'told@acme.example', { client_id: 'books' })
      await test.exchange(answer, 'books')
      const other = test.visitor()
      await setTo(other, await other.go(await linkFor('told@acme.example', other)), NEW)
      for (let looks = 0; heard.length === 0 && looks < 100; looks++) await setTimeout(20)
      assert.deepEqual(heard, [id])
    } finally {
      app.closeAllConnections()
      app.close()
    }
  })

  it('has a link that works once, is used up by no GET, and leaves no trace of its token', async () => {
    await test.person('bob@acme.example')
    const visitor = test.visitor()
    const link = await linkFor('bob@acme.example', visitor)
    const token = new URL(link).searchParams.get('token')!
    for (const method of ['GET', 'HEAD', 'GET']) {
      const answer = await test.visitor().request(link, { method })
      assert.deepEqual([answer.status, answer.location], [303, `${test.url}/reset`])
      assert.equal(answer.headers.get('referrer-policy'), 'no-referrer')
      assert.match(answer.headers.getSetCookie().join(), /reset=[^;]+; path=\/; expires=[^;]+; samesite=lax; httponly/i)
    }
    const form = await visitor.go(link)
    const twin = await visitor.go(link)
    assert.ok(!form.text.includes(token))
    assert.equal(headingOf(await setTo(visitor, form, NEW)), 'Your password is set')
    const after = test.visitor()
    const used = await after.go(link)
    assert.deepEqual([used.status, headingOf(used)], [400, 'This link has been used'])
    assert.equal((await setTo(visitor, twin, 'another pass phrase altogether')).status, 400)
    assert.ok(!test.logs.join().includes(token))
    assert.ok(!(await stolen(test)).includes(token))
  })

  it('has one winner when its form is sent ten times at once', async () => {
    await test.person('cem@acme.example')
    const visitor = test.visitor()
    const form = await visitor.go(await linkFor('cem@acme.example', visitor))
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) => {
        const { action, hidden } = formOf(form)
        return visitor.request(action, { form: { ...hidden, new_password: `${NEW} ${index}` } })
      }),
    )
    assert.equal(answers.filter(({ status }) => status === 303).length, 1)
    for (const { status, text } of answers.filter((one) => one.status !== 303))
      assert.ok(status === 400 && text.includes('This link has been used'), String(status))
  })

  it('says of an expired, a replaced and a tampered link which it is, and leads on', async () => {
    await test.person('dan@acme.example')
    const first = await linkFor('dan@acme.example')
    const second = await linkFor('dan@acme.example')
    const heading = async (link: string) => {
      const answer = await test.visitor().go(link)
      assert.equal(answer.status, 400)
      assert.match(answer.text, /<a class="button" href="\/forgot">Ask for a new link</)
      return headingOf(answer)
    }
    assert.equal(await heading(first), 'This link does not work')
    assert.equal(await heading(`${second.slice(0, -3)}abc`), 'This link does not work')
    assert.equal(await heading(second.replace('/reset', '/welcome')), 'This link does not work')
    assert.equal(await heading(`${test.url}/reset`), 'This link does not work')
    assert.equal(headingOf(await test.visitor().go(second)), 'Choose a new password')
    wait(30 * 60)
    assert.equal(await heading(second), 'This link has expired')
  })

  it('is answered the same for everybody', async () => {
    await test.person('eve@acme.example')
    const gone = await test.person('gone@acme.example')
    await test.database.directory.setDisabled(gone, true)
    const shapes = new Set<string>()
    for (const email of ['eve@acme.example', 'gone@acme.example', 'nobody@acme.example', 'x@nowhere.example']) {
      const answer = await ask(test.visitor(), email)
      const text = answer.text.replaceAll(email, 'E').replace(/nonce="[^"]+"/g, '')
      shapes.add(JSON.stringify([answer.status, text]))
    }
    assert.equal(shapes.size, 1)
    await letters(gone, 'password_reset', 0)
  })

  it('is answered before anybody looks who that is, and in the same time (R73)', async function () {
    this.timeout(90_000)
    await test.person('ida@acme.example')
    const { accounts, throttle } = test.database
    // Nobody is looked up while this gate is closed.
    let open: () => void = () => {}
    const gate = new Promise<void>((resolve) => {
      open = resolve
    })
    const calls: string[] = []
    const find = accounts.findByEmail
    const take = throttle.take
    accounts.findByEmail = async (email) => {
      await gate
      return find.call(accounts, email)
    }
    throttle.take = (...args) => {
      calls.push('take')
      return take.apply(throttle, args)
    }
    try {
      for (const email of ['ida@acme.example', 'nobody-yet@acme.example'])
        assert.equal((await ask(test.visitor(), email)).status, 200, 'answered while the gate is closed')
      assert.deepEqual(calls, ['take', 'take'])
    } finally {
      open()
      accounts.findByEmail = find
      throttle.take = take
    }

    const median = (all: number[]) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)]!
    const apart = async () => {
      const times: Record<string, number[]> = { ida: [], 'nobody-yet': [] }
      for (let pair = 0; pair < 60; pair++) {
        wait(3601) // no throttle in the way
        for (const who of pair % 2 ? ['ida', 'nobody-yet'] : ['nobody-yet', 'ida']) {
          const visitor = test.visitor()
          const { action, hidden } = formOf(await visitor.go(`${test.url}/forgot`))
          // What was written behind the answer before is done.
          await setTimeout(10)
          const began = performance.now()
          const { status } = await visitor.request(action, { form: { ...hidden, email: `${who}@acme.example` } })
          times[who]!.push(performance.now() - began)
          assert.equal(status, 200)
        }
      }
      return Math.abs(median(times['ida']!) / median(times['nobody-yet']!) - 1)
    }
    const first = await apart()
    const second = first <= 0.15 ? first : await apart()
    assert.ok(second <= 0.15, `${(second * 100).toFixed(1)} % apart`)
  })

  it('tells by no link who is here: of somebody shut out, moved or gone it says what it says of none', async () => {
    const say = async (link: string) => {
      const visitor = test.visitor()
      const page = await visitor.go(link)
      const posted = await visitor.request(page.at, { form: { csrf: 'x', new_password: NEW } })
      const plain = (one: Answer) => [one.status, one.text.replace(/nonce="[^"]+"/g, '').replace(/[\w-]{43}/g, '')]
      return JSON.stringify([plain(page), plain(posted), visitor.cookies.map(({ name }) => name).sort()])
    }
    for (const path of ['reset', 'welcome']) {
      const never = await say(`${test.url}/${path}?token=${'x'.repeat(43)}`)
      assert.match(never, /This link does not work/)
      for (const [name, change] of [
        ['shut-out', async (id: string) => void (await test.database.directory.setDisabled(id, true))],
        ['moved', (id: string) => moveTo(id, `elsewhere-${path}@acme.example`)],
        ['gone', (id: string) => test.database.directory.commit([{ kind: 'user', op: 'remove', id }])],
      ] as const) {
        const email = `${name}-${path}@acme.example`
        const id = await test.person(email)
        const { account } = (await test.database.accounts.findByEmail(email))!
        const { config } = test.house
        const about = { config, now: now(), lang: 'en' }
        const { purpose, link, messages } =
          path === 'reset' ? resetLink(account, about) : invitation(account, { ...about, inviter: 'Acme' })
        assert.ok(await test.database.passwords.issueLink(id, purpose, link, messages))
        const letter = (await letters(id, path === 'reset' ? 'password_reset' : 'invitation', 1))[0]!
        const form = await test.visitor().go(letter.link!)
        assert.match(form.text, /name="new_password"/)
        await change(id)
        assert.equal(await say(letter.link!), never, `${path} of somebody ${name}`)
      }
    }
  })
  const moveTo = async (id: string, email: string) => {
    const { name, memberships, serverRoles, disabled } = (await test.database.directory.user(id))!
    const value = { id, email, name, memberships, serverRoles, disabled }
    await test.database.directory.commit([{ kind: 'user', op: 'put', value }])
  }

  it('is asked three times an hour for one address, known or not, and ten times from one network', async () => {
    for (const email of ['nobody-at-all@acme.example', 'dan@acme.example']) {
      wait(3600)
      for (let times = 0; times < 3; times++) assert.equal((await ask(test.visitor(), email)).status, 200)
      const refused = await ask(test.visitor(), email)
      assert.equal(refused.status, 429)
      assert.match(refused.text, /Too many attempts\. Try again in/)
      // It blocks no sign-in.
      const visitor = test.visitor()
      assert.equal((await signIn(visitor, await visitor.go(test.authUrl()), email, 'wrong wrong wrong')).status, 400)
    }
    const network = test.visitor()
    const answers: number[] = []
    for (let times = 0; times < 11; times++) answers.push((await ask(network, `p${times}@acme.example`)).status)
    assert.deepEqual(answers, [...Array.from({ length: 10 }, () => 200), 429])
  })

  it('opens what a stranger’s wrong passwords had closed', async () => {
    await test.person('fay@acme.example')
    const stranger = test.visitor()
    let page = await signIn(stranger, await stranger.go(test.authUrl()), 'fay@acme.example', 'wrong')
    for (let tries = 0; tries < 10; tries++) {
      wait(61)
      page = await stranger.submit(page, { password: 'wrong' })
    }
    assert.equal((await stranger.submit(page, { password: PASSWORD })).status, 429)
    const fay = test.visitor()
    await setTo(fay, await fay.go(await linkFor('fay@acme.example', fay)), NEW)
    // Who goes on and on is not quicker than its owner.
    for (let tries = 0; tries < 10; tries++) {
      wait(61)
      page = await stranger.submit(page, { password: 'wrong' })
    }
    assert.equal((await stranger.submit(page, { password: NEW })).status, 429)
    const signedIn = await signIn(fay, await fay.go(test.authUrl()), 'fay@acme.example', NEW)
    assert.equal(headingOf(signedIn), 'Secure Your Account')
  })

  it('says of each rule why a password is not taken, and takes the fifth-last again', async () => {
    await test.person('guy@acme.example')
    const visitor = test.visitor()
    let form = await visitor.go(await linkFor('guy@acme.example', visitor))
    for (const [password, why] of [
      ['', 'Enter a new password'],
      ['eleven char', 'Your password has 11 characters. Use at least 15.'],
      ['x'.repeat(257), 'Use at most 256 characters.'],
      ['passwordpassword', 'on a list of common or leaked passwords'],
      ['Acme-Builders-2026', 'made of your name, your address or your company'],
      [PASSWORD, 'You used this password before'],
    ] as const) {
      form = await setTo(visitor, form, password)
      assert.equal(form.status, 400)
      assert.ok(form.text.includes(why), why)
      assert.ok(password === '' || !form.text.includes(password))
    }
    assert.equal(headingOf(await setTo(visitor, form, `${NEW} 1`)), 'Your password is set')
    for (const number of [2, 3]) {
      wait(3600)
      await setTo(visitor, await visitor.go(await linkFor('guy@acme.example', visitor)), `${NEW} ${number}`)
    }
    wait(3600)
    const last = await visitor.go(await linkFor('guy@acme.example', visitor))
    assert.equal((await setTo(visitor, last, PASSWORD)).status, 400, 'the fourth-last')
    assert.equal(headingOf(await setTo(visitor, last, `${NEW} 4`)), 'Your password is set')
    wait(3600)
    const again = await visitor.go(await linkFor('guy@acme.example', visitor))
    assert.equal(headingOf(await setTo(visitor, again, PASSWORD)), 'Your password is set', 'the fifth-last')
  })

  it('has forms that only our pages post', async () => {
    const visitor = test.visitor()
    const page = await visitor.go(`${test.url}/forgot`)
    const { hidden } = formOf(page)
    const form = { ...hidden, email: 'ana@acme.example' }
    const elsewhere = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }
    assert.equal((await visitor.request(`${test.url}/forgot`, { form, headers: elsewhere })).status, 403)
    assert.equal((await test.visitor().request(`${test.url}/forgot`, { form })).status, 403)
    assert.equal((await visitor.request(`${test.url}/forgot`, { form: { ...form, more: 'x' } })).status, 400)
    assert.equal((await visitor.request(`${test.url}/forgot`, { form: 'email=a%40b&email=c%40d' })).status, 403)
    const big = { ...form, email: 'x'.repeat(20_000) }
    assert.equal((await visitor.request(`${test.url}/forgot`, { form: big })).status, 413)
  })
  it('is nobody’s business here whose company signs them in: by the domain alone, before and after the link (acceptance 51)', async () => {
    const forward = { ...CONNECTION, mode: 'forward' as const }
    let isConnected = false
    let client: string | undefined
    const sso = await openTestHouse(
      {},
      {
        connections: {
          connection: async () => undefined,
          connectionFor: async (domain, asking) =>
            isConnected && domain === 'acme.example' && (client === undefined || client === asking)
              ? forward
              : undefined,
          anyFor: async () => isConnected,
        },
      },
    )
    try {
      const id = await sso.person('ana@acme.example')
      const ana = sso.visitor()
      await ana.submit(await ana.go(`${sso.url}/forgot`), { email: 'ana@acme.example' })
      await setTimeout(200)
      const [state] = await sso.database.outbox.list({ accountId: id, limit: 1 })
      const { link } = JSON.parse((await sso.database.outbox.read(state!.id))!) as Letter
      isConnected = true
      const texts = new Set<string>()
      for (const email of ['ana@acme.example', 'nobody@acme.example']) {
        const visitor = sso.visitor()
        const answer = await visitor.submit(await visitor.go(`${sso.url}/forgot`), { email })
        assert.equal(headingOf(answer), 'Your company looks after your password')
        texts.add(answer.text.replace(/nonce="[^"]+"/g, ''))
      }
      assert.equal(texts.size, 1)
      assert.equal((await sso.database.outbox.list({ accountId: id, limit: 9 })).length, 1)
      assert.equal(headingOf(await ana.go(link!)), 'This link does not work')

      // Where one app alone sends people to their company, the others ask for the password: so it can be forgotten.
      client = 'payments'
      assert.equal(headingOf(await ana.go(link!)), 'Choose a new password')
      const again = sso.visitor()
      const sent = await again.submit(await again.go(`${sso.url}/forgot`), { email: 'ana@acme.example' })
      assert.equal(headingOf(sent), 'Look into your mail')
    } finally {
      await sso.close()
    }
  })
  it('is not there in production without a mail server', async () => {
    const { mailOf } = await import('../../server/delivery.ts')
    assert.equal(mailOf({ ...test.house.config, NODE_ENV: 'production' }), 'none')
  })
})
