import assert from 'node:assert/strict'
import { passwordCounter } from '../../interactions/index.ts'
import { wait } from '../support/clock.ts'
import { openTestHouse, PASSWORD, REQUEST, signIn, type TestHouse } from '../support/house.ts'
import { type Answer, formOf, headingOf, titleOf, type Visitor } from '../support/visitor.ts'

/** A page without what may differ: the address it echoes, ids and tokens. */
const plain = ({ text }: Answer, email: string) =>
  text
    .replaceAll(email, 'EMAIL')
    .replace(/[\w-]{43}/g, 'UID')
    .replace(/name="csrf" value="[^"]*"/g, 'CSRF')
    .replace(/nonce[-=]"?[\w-]{22}"?/g, 'NONCE')

describe('credentials', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  const passwordPage = async (visitor: Visitor, email: string, params = {}) =>
    visitor.submit(await visitor.go(test.authUrl(params)), { email })
  const attempt = async (visitor: Visitor, email: string, password: string) =>
    visitor.submit(await passwordPage(visitor, email), { password })

  it('asks for the e-mail address first, filled in from login_hint and escaped', async () => {
    const page = await test.visitor().go(test.authUrl({ login_hint: '"><script>x</script>@acme.example' }))
    assert.equal(page.status, 200)
    assert.match(page.text, /value="&#34;&gt;&lt;script&gt;x/)
    assert.match(page.text, /autocomplete="username"/)
  })

  it('shows the address on the password page, read-only, with a way to change it', async () => {
    const visitor = test.visitor()
    const page = await passwordPage(visitor, 'Someone@Acme.Example ')
    assert.match(page.text, /<input[^>]*name="username"[^>]*value="someone@acme.example"[^>]*readonly/)
    const change = /<a href="(\/interaction\/[^"]+)">/.exec(page.text)![1]!
    const identifier = await visitor.go(change)
    assert.match(identifier.text, /name="email"[^>]*value="someone@acme.example"/)
  })

  it('signs in a person who needs no second factor', async () => {
    await test.person('plain@city.example', 'standard')
    const visitor = test.visitor()
    const answer = await attempt(visitor, 'plain@city.example', PASSWORD)
    assert.ok(answer.location?.startsWith(REQUEST.redirect_uri), headingOf(answer))
    assert.ok((await test.exchange(answer))['id_token'])
  })

  it('takes the person from the interaction, not from the posted username', async () => {
    await test.person('mallory@city.example', 'standard')
    const visitor = test.visitor()
    const page = await passwordPage(visitor, 'nobody@city.example')
    const answer = await visitor.submit(page, { username: 'mallory@city.example', password: PASSWORD })
    assert.equal(answer.status, 400)
  })

  describe('tells nobody which accounts exist (R21)', () => {
    const emails = ['known', 'unknown', 'disabled', 'nopassword', 'withdrawn'].map((name) => `${name}@acme.example`)
    before(async () => {
      await test.person('known@acme.example')
      const id = await test.person('disabled@acme.example')
      const user = (await test.database.directory.user(id))!
      await test.database.directory.commit([{ kind: 'user', op: 'put', value: { ...user, disabled: true } }])
      const without = { ...user, id: 'nopassword', email: 'nopassword@acme.example', disabled: false }
      await test.database.directory.commit([{ kind: 'user', op: 'put', value: without }])
      assert.ok(await test.database.passwords.withdraw(await test.person('withdrawn@acme.example'), []))
    })

    it('same next page, and same refusal: status, headers, text', async () => {
      const seen = new Set<string>()
      for (const email of emails) {
        const visitor = test.visitor()
        const page = await passwordPage(visitor, email)
        const refused = await visitor.submit(page, {
          password: /^(disabled|withdrawn)/.test(email) ? PASSWORD : 'not the password at all',
        })
        assert.equal(refused.status, 400)
        const headers = [...refused.headers.keys()].filter((name) => name !== 'content-length').sort()
        seen.add(JSON.stringify([page.status, plain(page, email), refused.status, headers, plain(refused, email)]))
      }
      assert.equal(seen.size, 1)
    })

    it('same store calls and one argon2id on each path', async () => {
      const { accounts, devices, throttle } = test.database
      const tallies = new Set<string>()
      for (const email of emails) {
        const calls: string[] = []
        const undo = [
          spy(accounts, 'findByEmail', calls),
          spy(accounts, 'upgradePasswordHash', calls),
          spy(devices, 'knows', calls),
          spy(throttle, 'take', calls),
        ]
        await attempt(test.visitor(), email, 'not the password at all')
        for (const restore of undo) restore()
        tallies.add(calls.join())
      }
      assert.deepEqual([...tallies], ['take,findByEmail,knows,take,findByEmail'])
    })

    it('same time: medians of 100 interleaved pairs within 15 %, one retry', async function () {
      this.timeout(90_000)
      const time = async (page: Answer, visitor: Visitor) => {
        const { action, hidden } = formOf(page)
        const began = performance.now()
        await visitor.request(action, { form: { ...hidden, password: 'not the password at all' } })
        return performance.now() - began
      }
      const median = (all: number[]) => all.sort((a, b) => a - b)[Math.floor(all.length / 2)]!
      const difference = async () => {
        const known: number[] = []
        const unknown: number[] = []
        for (let i = 0; i < 100; i++) {
          wait(61) // no throttle in the way
          for (const [email, times] of i % 2
            ? ([
                ['known@acme.example', known],
                ['unknown@acme.example', unknown],
              ] as const)
            : ([
                ['unknown@acme.example', unknown],
                ['known@acme.example', known],
              ] as const)) {
            const visitor = test.visitor()
            const page = await passwordPage(visitor, email)
            await test.database.throttle.clear([passwordCounter(email)]) // each visitor has a network of its own
            times.push(await time(page, visitor))
          }
        }
        return Math.abs(median(known) / median(unknown) - 1)
      }
      const first = await difference()
      const apart = first <= 0.15 ? first : await difference()
      assert.ok(apart <= 0.15, `${(apart * 100).toFixed(1)} % apart`)
    })
  })

  describe('slows guessing down', () => {
    it('makes each attempt after the fifth wait longer, the same for an unknown address', async () => {
      for (const email of ['guess@acme.example', 'ghost@acme.example']) {
        if (email.startsWith('guess')) await test.person(email)
        for (let i = 0; i < 9; i++) {
          assert.equal((await attempt(test.visitor(), email, 'wrong wrong wrong wrong')).status, 400)
          if (i < 8) wait(61)
        }
        const tenth = await attempt(test.visitor(), email, PASSWORD)
        assert.equal(tenth.status, 429)
        assert.ok(Number(tenth.headers.get('retry-after')) > 8, 'sixteen seconds, less what this test took')
        assert.match(titleOf(tenth), /^Error: /)
      }
    })

    it('closes for 30 minutes after ten, to strangers; a browser that signed in here before gets in (R32)', async () => {
      await test.person('victim@city.example', 'standard')
      const owner = test.visitor()
      assert.ok((await attempt(owner, 'victim@city.example', PASSWORD)).location?.startsWith(REQUEST.redirect_uri))
      let refused = 0
      for (let i = 0; i < 10; i++) {
        const { status } = await attempt(test.visitor(), 'victim@city.example', 'wrong wrong wrong wrong')
        if (status === 429) refused += 1
        wait(61)
      }
      assert.equal(refused, 0, 'after each wait another try is looked at')
      const stranger = await attempt(test.visitor(), 'victim@city.example', PASSWORD)
      assert.equal(stranger.status, 429)
      const unknown = test.visitor()
      assert.match((await attempt(unknown, 'victim@city.example', PASSWORD)).text, /Too many attempts. Try again in/)
      const back = owner.clone()
      const page = await back.go(test.authUrl({ prompt: 'login' }))
      const answer = await signIn(back, page, 'victim@city.example')
      assert.ok(answer.location?.startsWith(REQUEST.redirect_uri), headingOf(answer))
      wait(31 * 60)
      assert.ok(
        (await attempt(test.visitor(), 'victim@city.example', PASSWORD)).location,
        'and after half an hour strangers too',
      )
    })

    it('looks at no more than the limit of 50 parallel tries (R31)', async () => {
      await test.person('parallel@acme.example')
      const pages = await Promise.all(
        Array.from({ length: 50 }, async () => {
          const visitor = test.visitor()
          return { visitor, page: await passwordPage(visitor, 'parallel@acme.example') }
        }),
      )
      const answers = await Promise.all(
        pages.map(({ visitor, page }) => visitor.submit(page, { password: 'wrong wrong wrong wrong' })),
      )
      const looked = answers.filter(({ status }) => status === 400).length
      // Five at once; a slow machine lets the waits of 1, 2 and 4 seconds pass meanwhile.
      assert.ok(looked >= 5 && looked <= 8, `${looked} were looked at`)
      assert.equal(answers.filter(({ status }) => status === 429).length, 50 - looked)
    })

    it('counts an IPv6 network of /64 as one, and tells a network to wait', async () => {
      const visitor = (n: number) => {
        const one = test.visitor()
        Object.assign(one, { address: `2001:db8:1:2::${n.toString(16)}` })
        return one
      }
      const statuses: number[] = []
      for (let i = 1; i <= 31; i++) {
        const one = visitor(i)
        statuses.push((await one.submit(await one.go(test.authUrl()), { email: `n${i}@acme.example` })).status)
      }
      assert.deepEqual([statuses[29], statuses[30]], [200, 429])
    })

    it('answers 503 with Retry-After when too many passwords wait, before memory runs out (R30)', async () => {
      const small = await openTestHouse({ SALLYPORT_HASH_CONCURRENCY: '1', SALLYPORT_HASH_QUEUE: '2' })
      const pages = await Promise.all(
        Array.from({ length: 30 }, async (_, i) => {
          const visitor = small.visitor()
          return {
            visitor,
            page: await visitor.submit(await visitor.go(small.authUrl()), { email: `crowd${i}@acme.example` }),
          }
        }),
      )
      const answers = await Promise.all(
        pages.map(({ visitor, page }) => visitor.submit(page, { password: 'wrong wrong wrong wrong' })),
      )
      const busy = answers.filter(({ status }) => status === 503)
      assert.ok(busy.length > 0 && busy.length < 30)
      assert.ok(busy.every(({ headers }) => headers.get('retry-after') === '5'))
      assert.ok(busy.every(({ text }) => text.includes('<a class="button" href="">Try again</a>')))
      await small.close()
    })
  })

  it('upgrades a hash of weaker parameters at the next success', async () => {
    const id = await test.person('old@city.example', 'standard')
    const before = (await test.database.accounts.findByEmail('old@city.example'))!.passwordHash!
    const strong = await openTestHouse({ SALLYPORT_ARGON2_MEMORY_KIB: '20480' }, { folder: test.folder })
    const visitor = strong.visitor()
    const page = await visitor.submit(await visitor.go(strong.authUrl()), { email: 'old@city.example' })
    assert.ok((await visitor.submit(page, { password: PASSWORD })).location?.startsWith(REQUEST.redirect_uri))
    const after = (await test.database.accounts.findByEmail('old@city.example'))!
    assert.match(before, /m=19456/)
    assert.match(after.passwordHash!, /m=20480/)
    assert.equal(after.account.securityEpoch, (await test.database.accounts.find(id))!.securityEpoch)
    await strong.close()
  })

  for (const [fault, form, status] of [
    ['an empty address', { email: '' }, 400],
    ['no address', {}, 400],
    ['two words', { email: 'a b' }, 400],
    ['a field that is not known', { email: 'a@b.example', admin: '1' }, 400],
    ['a list', 'email=a%40b.example&email=c%40d.example', 400],
    ['a nested value', 'email%5Bx%5D=1', 400],
    ['a body of 20 KB', `email=${'x'.repeat(20_000)}`, 413],
  ] as const)
    it(`answers ${fault} with a page that helps, and changes nothing (R15)`, async () => {
      const visitor = test.visitor()
      const page = await visitor.go(test.authUrl())
      const { action, hidden } = formOf(page)
      const body = typeof form === 'string' ? `${new URLSearchParams(hidden)}&${form}` : { ...hidden, ...form }
      const answer = await visitor.request(action, { form: body })
      assert.equal(answer.status, status)
      assert.match(answer.text, /name="email"/)
      assert.match(titleOf(answer), /^Error: /)
      assert.equal((await visitor.go(action)).status, 200)
    })

  describe('a form from somewhere else (R9)', () => {
    const cases: [string, Record<string, string>, (csrf: string) => string | undefined, number][] = [
      ['without a token', {}, () => undefined, 403],
      ['with a token of another interaction', {}, () => 'foreign', 403],
      ['from another site', { 'sec-fetch-site': 'cross-site' }, (csrf) => csrf, 403],
      ['from a sister host', { 'sec-fetch-site': 'same-site' }, (csrf) => csrf, 403],
      ['with a foreign Origin', { 'sec-fetch-site': '', origin: 'https://evil.example' }, (csrf) => csrf, 403],
      ['with neither Origin nor Sec-Fetch-Site', { 'sec-fetch-site': '', origin: '' }, (csrf) => csrf, 403],
    ]
    for (const [how, headers, tokenOf, status] of cases)
      it(`${how}: ${status}, and nothing happens`, async () => {
        const visitor = test.visitor()
        const page = await visitor.go(test.authUrl())
        const { action, hidden } = formOf(page)
        const other = formOf(await test.visitor().go(test.authUrl())).hidden['csrf']!
        const token = tokenOf(hidden['csrf']!)
        const csrf = token === 'foreign' ? other : token
        const answer = await visitor.request(action, { form: { ...(csrf && { csrf }), email: 'a@b.example' }, headers })
        assert.equal(answer.status, status)
        assert.match(answer.text, /<h1/)
        assert.doesNotMatch((await visitor.go(action)).text, /a@b\.example/)
      })
  })
})

/** Counts the calls of one real store method; everything still happens. */
function spy(target: object, name: string, calls: string[]): () => void {
  const object = target as Record<string, (...rest: unknown[]) => unknown>
  const original = object[name]!
  object[name] = (...rest) => {
    calls.push(name)
    return original.apply(target, rest)
  }
  return () => {
    delete object[name]
  }
}
