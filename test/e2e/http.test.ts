/** What goes over the wire around the flow: cookies, redirects, CORS, methods, bodies, failures, and what the log says of them. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import type { ArtifactStore } from '../../interactions/kit/stores.ts'
import {
  acknowledge,
  CALLBACK,
  CLIENT_SECRET,
  claimsIn,
  enrol,
  firstSignIn,
  hasCode,
  heldPost,
  openTestHouse,
  REQUEST,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

describe('http', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())
  /** What the log says of the request that was answered so; it may be written a moment after the answer. */
  const mistakeOf = async ({ headers }: { headers: Headers }): Promise<Record<string, unknown>> => {
    for (const end = performance.now() + 5000; performance.now() < end; await setTimeout(5))
      for (const line of test.logs.map((text) => JSON.parse(text) as Record<string, unknown>))
        if (line['msg'] === 'client mistake' && line['requestId'] === headers.get('x-request-id')) return line
    throw new Error('the log says nothing of it')
  }

  describe('behind a proxy that ends TLS', () => {
    let https: TestHouse
    before(async () => {
      https = await openTestHouse({ SALLYPORT_ISSUER: 'https://login.example' })
    })
    after(() => https.close())

    it('every cookie is Secure, HttpOnly, SameSite=Lax, short and bound by its name (R8)', async () => {
      await https.person('cookies@acme.example')
      const visitor = https.visitor()
      const set = new Map<string, string[]>()
      const request = visitor.request.bind(visitor)
      visitor.request = async (...args) => {
        const answer = await request(...args)
        for (const cookie of answer.headers.getSetCookie()) {
          const name = cookie.slice(0, cookie.indexOf('='))
          set.set(name, [...(set.get(name) ?? []), cookie])
        }
        return answer
      }
      const page = await signIn(visitor, await visitor.go(https.authUrl()), 'cookies@acme.example')
      const recovery = await enrol(visitor, page)
      const answer = await acknowledge(visitor, recovery.page)
      assert.ok(hasCode(answer), headingOf(answer))
      assert.equal(claimsIn((await https.exchange(answer))['id_token'])['iss'], 'https://login.example')

      const names = [...set.keys()].filter((name) => !name.endsWith('.sig')).sort()
      assert.deepEqual(names, [
        '__Host-device',
        '__Host-session',
        '__Secure-interaction',
        '__Secure-resume',
        '__Secure-trail',
      ])
      for (const [name, cookies] of set)
        for (const cookie of cookies) {
          assert.match(cookie, /; secure/i, cookie)
          assert.match(cookie, /; httponly/i, cookie)
          assert.match(cookie, /; samesite=lax/i, cookie)
          assert.doesNotMatch(cookie, /domain=/i, cookie)
          assert.ok(cookie.length < 4096)
          assert.ok(!cookie.includes('cookies') && !cookie.includes('acme'), 'says nothing about the person')
          if (name.startsWith('__Host-')) assert.match(cookie, /; path=\/(;|$)/i, cookie)
        }
    })

    it('sends Strict-Transport-Security, and names no host but its own', async () => {
      const answer = await https
        .visitor()
        .request('/', { headers: { host: 'evil.example', 'x-forwarded-host': 'evil.example' } })
      assert.match(answer.headers.get('strict-transport-security') ?? '', /max-age=63072000/)
      const discovery = await https.visitor().request('/.well-known/openid-configuration', {
        headers: { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'http' },
      })
      assert.doesNotMatch(discovery.text, /evil/)
      for (const [name, value] of Object.entries(JSON.parse(discovery.text) as Record<string, unknown>))
        if (/endpoint$|_uri$|^issuer$/.test(name)) assert.ok(String(value).startsWith('https://login.example'), name)
    })
  })

  describe('redirects only to registered targets (R19)', () => {
    const { origin, hostname } = new URL(CALLBACK)
    const tricks = [
      `${CALLBACK}/`,
      `${CALLBACK}?`,
      `${CALLBACK}?a=b`,
      `${CALLBACK}#`,
      `${CALLBACK}#code`,
      `${CALLBACK}%2f`,
      `${CALLBACK}%00`,
      `${CALLBACK}\n`,
      `${CALLBACK}\r\nX-Injected: 1`,
      ` ${CALLBACK}`,
      `${CALLBACK} `,
      `${CALLBACK}/../callback`,
      `${CALLBACK}/../evil`,
      `${CALLBACK};evil`,
      `${CALLBACK}\\evil`,
      `${origin}/Callback`,
      `${origin}/callback/evil`,
      `${origin}//callback`,
      `${origin}/./callback`,
      `${origin}/evil/../callback`,
      `${origin}/%63allback`,
      `${origin}:443/callback`,
      `${origin}:8443/callback`,
      origin,
      `${origin}/`,
      `http://${hostname}/callback`,
      `HTTPS://${hostname}/callback`,
      `https://${hostname.toUpperCase()}/callback`,
      `https://${hostname}./callback`,
      `https://${hostname}.evil.example/callback`,
      `https://evil.example/callback`,
      `https://evil.example#@${hostname}/callback`,
      `https://evil.example?${CALLBACK}`,
      `https://user:pass@${hostname}/callback`,
      `https://${hostname}@evil.example/callback`,
      `https://evil.example\\@${hostname}/callback`,
      `https://sub.${hostname}/callback`,
      `https://[::1]/callback`,
      `https:/${hostname}/callback`,
      `https:${hostname}/callback`,
      `//${hostname}/callback`,
      `///evil.example`,
      `/callback`,
      `javascript:alert(1)`,
      `data:text/html,evil`,
      `http://127.0.0.1/callback`,
      `urn:ietf:wg:oauth:2.0:oob`,
      'https://rp.exаmple/callback', // a Cyrillic letter
      '',
      '*',
    ]

    it(`refuses ${tricks.length} tricks with a page, and says in the log what differs`, async () => {
      for (const trick of tricks) {
        const answer = await test.visitor().request(test.authUrl({ redirect_uri: trick }))
        assert.equal(answer.status, 400, JSON.stringify(trick))
        assert.equal(answer.location, undefined, JSON.stringify(trick))
        assert.match(answer.text, /<h1/)
        assert.ok(!answer.text.includes('evil'), 'the page does not repeat it')
        const line = await mistakeOf(answer)
        if (trick !== '') assert.equal(line['given'], trick.slice(0, 300), JSON.stringify(line))
      }
    })

    it('takes each registered one exactly, and twice the parameter is refused', async () => {
      assert.equal((await test.visitor().request(test.authUrl())).status, 303)
      const twice = await test
        .visitor()
        .request(`${test.authUrl()}&redirect_uri=${encodeURIComponent('https://evil.example/callback')}`)
      assert.equal(
        new URL(twice.location ?? CALLBACK).origin,
        origin,
        'the error goes to the registered one, or nowhere',
      )
      assert.ok(!hasCode(twice))
    })

    it('follows no post_logout_redirect_uri that is not registered', async () => {
      for (const target of [...tricks, CALLBACK, 'https://rp.example/signed-out/', 'https://rp.example/signed-out?x']) {
        if (target === '') continue
        const query = new URLSearchParams({ client_id: 'payments', post_logout_redirect_uri: target })
        const answer = await test.visitor().request(`/session/end?${query}`)
        assert.deepEqual([answer.status, answer.location], [400, undefined], JSON.stringify(target))
        const { given, registered } = await mistakeOf(answer)
        assert.deepEqual([given, registered], [target, ['https://rp.example/signed-out']])
      }
    })

    it('knows no return_to, next, continue or RelayState', async () => {
      await test.person('returnto@city.example', 'standard')
      for (const name of ['return_to', 'returnTo', 'next', 'continue', 'redirect', 'url', 'RelayState']) {
        const visitor = test.visitor()
        const answer = await signIn(
          visitor,
          await visitor.go(`${test.authUrl()}&${name}=https%3A%2F%2Fevil.example`),
          'returnto@city.example',
        )
        assert.ok(hasCode(answer))
        assert.ok(!answer.location!.includes('evil'))
      }
    })
  })

  it('answers no cross-origin script at /auth and on pages, and every form with 303 (R93)', async () => {
    await test.person('cors@city.example', 'standard')
    const headers = { origin: 'https://evil.example' }
    const visitor = test.visitor()
    for (const answer of [
      await visitor.request(test.authUrl(), { headers }),
      await visitor.request(test.authUrl(), { headers, method: 'OPTIONS' }),
      await visitor.request('/', { headers }),
      await visitor.request('/session/end', { headers }),
    ])
      assert.deepEqual(
        [...answer.headers.keys()].filter((name) => name.startsWith('access-control-')),
        [],
      )
    const posts: Answer[] = []
    const walker = test.visitor()
    const request = walker.request.bind(walker)
    walker.request = async (url, options = {}) => {
      const answer = await request(url, options)
      if (options.form !== undefined) posts.push(answer)
      return answer
    }
    const page = await walker.go('/auth', { form: REQUEST })
    assert.ok(hasCode(await signIn(walker, page, 'cors@city.example')))
    const question = await walker.go('/session/end', { form: { client_id: 'payments' } })
    await walker.submit(question, { logout: 'yes' })
    assert.deepEqual(
      posts.map(({ status }) => status),
      Array(5).fill(303),
      walker.log.join(),
    )
  })

  describe('a request by POST', () => {
    const long = (bytes: number) => ({ ...REQUEST, login_hint: 'x'.repeat(bytes) })

    it('of more than 6 KB waits under a handle that opens once', async () => {
      const visitor = test.visitor()
      const first = await visitor.request('/auth', { form: long(9000) })
      assert.equal(first.status, 303)
      assert.match(first.location!, /\/auth\?posted=[\w-]{36}$/)
      assert.equal(headingOf(await visitor.go(first.location!)), 'Sign in')
      const again = await visitor.go(first.location!)
      assert.equal(again.status, 400)
      assert.match(again.text, /<h1/)
    })

    it('of more than 56 KB is 413, of another type 415, each with a page', async () => {
      const visitor = test.visitor()
      const large = await visitor.request('/auth', { form: long(60_000) })
      assert.equal(large.status, 413)
      assert.match(large.text, /<h1/)
      const json = await visitor.request('/auth', {
        form: JSON.stringify(REQUEST),
        headers: { 'content-type': 'application/json' },
      })
      assert.equal(json.status, 415)
    })

    it('keeps a repeated parameter repeated', async () => {
      const answer = await test.visitor().go('/auth', { form: `${new URLSearchParams(REQUEST)}&client_id=spa` })
      assert.deepEqual([answer.status, answer.location], [400, undefined])
    })
  })

  describe('the log names exactly what a client got wrong', () => {
    it('a missing code_challenge', async () => {
      const { code_challenge: _one, code_challenge_method: _two, ...without } = REQUEST
      const answer = await test.visitor().request(`/auth?${new URLSearchParams(without)}`)
      assert.match(answer.location!, /error=invalid_request/)
      const line = await mistakeOf(answer)
      assert.match(String(line['error']), /PKCE|code_challenge/)
      assert.equal(line['clientId'], 'payments')
    })

    it('code_challenge_method=plain', async () => {
      const answer = await test.visitor().request(test.authUrl({ code_challenge_method: 'plain' }))
      assert.match(answer.location!, /error=invalid_request/)
      assert.match(String((await mistakeOf(answer))['error']), /code_challenge_method/)
    })

    it('a redirect URI, with what is registered', async () => {
      const line = await mistakeOf(await test.visitor().request(test.authUrl({ redirect_uri: `${CALLBACK}/` })))
      assert.deepEqual([line['given'], line['registered']], [`${CALLBACK}/`, [CALLBACK]])
    })

    it('an unknown client', async () => {
      const answer = await test.visitor().request(test.authUrl({ client_id: 'paymnets' }))
      assert.deepEqual([answer.status, answer.location], [400, undefined])
      assert.equal((await mistakeOf(answer))['clientId'], 'paymnets')
    })

    it('a wrong secret, no secret at all, a verifier that does not fit; never the values', async () => {
      await test.person('mistakes@city.example', 'standard')
      const visitor = test.visitor()
      const answer = await signIn(visitor, await visitor.go(test.authUrl()), 'mistakes@city.example')
      const code = new URL(answer.location!).searchParams.get('code')!
      const post = async (headers: Record<string, string>, form: Record<string, string>) => {
        const response = await fetch(`${test.url}/token`, {
          method: 'POST',
          headers,
          body: new URLSearchParams({ grant_type: 'authorization_code', code, redirect_uri: CALLBACK, ...form }),
        })
        const { error } = (await response.json()) as { error: string }
        return { status: response.status, headers: response.headers, error }
      }
      const basic = (secret: string) => ({
        authorization: `Basic ${Buffer.from(`payments:${secret}`).toString('base64')}`,
      })
      const wrong = await post(basic('not-the-secret-not-the-secret'), { code_verifier: 'v'.repeat(43) })
      assert.deepEqual([wrong.status, wrong.error], [401, 'invalid_client'])
      const wrongSecret = await mistakeOf(wrong)
      assert.equal(wrongSecret['clientId'], 'payments')
      assert.match(String(wrongSecret['error']), /secret/i, JSON.stringify(wrongSecret))

      const nothing = await post({}, { client_id: 'payments', code_verifier: 'v'.repeat(43) })
      assert.equal(nothing.error, 'invalid_client')
      const { given, registered } = await mistakeOf(nothing)
      assert.deepEqual([given, registered], ['none', 'client_secret_basic'])

      const verifier = await post(basic(CLIENT_SECRET), { code_verifier: 'v'.repeat(43) })
      assert.deepEqual([verifier.status, verifier.error], [400, 'invalid_grant'])
      assert.match(String((await mistakeOf(verifier))['error']), /PKCE|verifier/)
      const logs = test.logs.join('\n')
      for (const secret of [code, CLIENT_SECRET, 'not-the-secret', 'v'.repeat(43)]) assert.ok(!logs.includes(secret))
    })
  })

  describe('bad forms', () => {
    /** Each page of the flow with a form, and the visitor who stands on it. */
    const pages = async (): Promise<[string, Visitor, Answer][]> => {
      const email = `forms${Math.random()}@acme.example`
      await test.person(email)
      const a = test.visitor()
      const identifier = await a.go(test.authUrl())
      const b = test.visitor()
      const password = await b.submit(await b.go(test.authUrl()), { email })
      const c = test.visitor()
      const enrolment = await signIn(c, await c.go(test.authUrl()), email)
      const done = await firstSignIn(test, (await someone())!)
      const challenge = await done.visitor.go(test.authUrl({ second_factor_max_age: '0' }))
      const form = await done.visitor.go(`${new URL(challenge.at).pathname}/recovery`)
      const d = test.visitor()
      const { page: recovery } = await enrol(d, await signIn(d, await d.go(test.authUrl()), (await someone())!))
      return [
        ['identifier', a, identifier],
        ['password', b, password],
        ['enrolment', c, enrolment],
        ['challenge', done.visitor, challenge],
        ['recovery code', done.visitor, form],
        ['acknowledgement', d, recovery],
      ]
    }
    const someone = async () => {
      const email = `forms${Math.random()}@acme.example`
      await test.person(email)
      return email
    }

    it('arrays, foreign fields, prototype names, broken encodings, no body: 4xx with a page, and nothing changed', async () => {
      const all = await pages()
      const foreign = formOf(all[0]![2]).hidden['csrf']!
      for (const [name, visitor, page] of all) {
        const { action, hidden } = formOf(page)
        const csrf = `csrf=${encodeURIComponent(hidden['csrf']!)}`
        const bodies: [string, Record<string, string>?][] = [
          [''],
          [csrf.replace(/=.*/, '=')],
          [`${csrf}&${csrf}`],
          [
            `${csrf}&code=1&code=2&email=a&email=b&password=a&password=b&recovery_code=a&recovery_code=b&acknowledged=yes&acknowledged=yes`,
          ],
          [`${csrf}&code[]=123456&email[]=a@b&password[]=x&recovery_code[]=y&acknowledged[]=yes`],
          [`${csrf}&__proto__=1&constructor=2&toString=3`],
          [`${csrf}&login=1&proofs=2&accountId=3&method=sms`],
          [`${csrf}&code=%00%ff&email=%ff&password=&recovery_code=%00&acknowledged=%00`],
          [`${csrf}&%E0%A4%A=1`],
          [`${csrf}&code=${'1'.repeat(15_000)}`],
          [`${csrf}&x=${'1'.repeat(20_000)}`],
          [JSON.stringify({ csrf: hidden['csrf'] }), { 'content-type': 'application/json' }],
          [csrf, { 'content-type': 'multipart/form-data; boundary=x' }],
          [csrf, { 'sec-fetch-site': 'cross-site' }],
          [csrf, { 'sec-fetch-site': 'same-site' }],
          [csrf, { 'sec-fetch-site': '', origin: 'null' }],
        ]
        if (name !== 'identifier') bodies.push([`csrf=${encodeURIComponent(foreign)}`])
        for (const [form, headers = {}] of bodies) {
          const answer = await visitor.request(action, { form, headers })
          const which = `${name}: ${form.slice(0, 90)} ${JSON.stringify(headers)} → ${answer.status}`
          assert.ok(answer.status >= 400 && answer.status < 500, which)
          assert.match(answer.text, /<h1/, which)
          assert.match(answer.text, /<form|<a /, `${which} leads on`)
        }
        const still = await visitor.go(page.at)
        assert.equal(headingOf(still), headingOf(page), `${name} is still there`)
      }
    })

    it('other methods are refused by name', async () => {
      const visitor = test.visitor()
      const page = await visitor.go(test.authUrl())
      for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS', 'HEAD']) {
        const answer = await visitor.request(page.at, { method })
        assert.ok(answer.status === 405 || method === 'HEAD', `${method} ${answer.status}`)
      }
    })
  })

  describe('a failure nobody foresaw (R14)', () => {
    it('is a page with a reference that stands in the log, on every step, and no detail of it', async () => {
      const broken = { model: '', armed: false }
      const secret = 'a-detail-that-nobody-may-see'
      const sick = await openTestHouse(
        {},
        {
          artifacts: (database) =>
            new Proxy(database.artifacts, {
              get(target, name) {
                const value = Reflect.get(target, name) as unknown
                if (typeof value !== 'function') return value
                return (...args: unknown[]) => {
                  if (broken.armed) throw new TypeError(secret)
                  return (value as (...args: unknown[]) => unknown).apply(target, args)
                }
              },
            }) as ArtifactStore,
        },
      )
      try {
        await sick.person('fault@acme.example')
        const visitor = sick.visitor()
        let page = await visitor.go(sick.authUrl())
        const fails = async (step: string, answer: Answer) => {
          assert.equal(answer.status, 500, `${step}: ${answer.status}`)
          assert.ok(!answer.text.includes(secret) && !answer.text.includes('.ts:'), step)
          const reference = answer.headers.get('x-request-id')!
          assert.match(answer.text, /<h1/)
          assert.ok(answer.text.includes(reference), `${step} shows its reference`)
          assert.ok(
            sick.logs.some((line) => line.includes(reference) && line.includes(secret)),
            `${step} is in the log under its reference`,
          )
        }
        const broke = async (step: string, act: () => Promise<Answer>) => {
          broken.armed = true
          const answer = await act().finally(() => {
            broken.armed = false
          })
          await fails(step, answer)
        }
        await broke('/auth', () => sick.visitor().go(sick.authUrl()))
        await broke('the page', () => visitor.go(page.at))
        await broke('its form', () => visitor.submit(page, { email: 'fault@acme.example' }))
        page = await visitor.submit(page, { email: 'fault@acme.example' })
        assert.equal(headingOf(page), 'Enter your password', 'and it goes on where it was')
        await broke('logout', () => visitor.go('/session/end?client_id=payments'))

        broken.armed = true
        const token = await sick.token({ grant_type: 'refresh_token', refresh_token: 'x' }).finally(() => {
          broken.armed = false
        })
        assert.deepEqual([token.status, token.error], [500, 'server_error'])
        assert.ok(!JSON.stringify(token).includes(secret))
      } finally {
        await sick.close()
      }
    })
  })

  describe('the server', () => {
    it('lives and is ready; without its store it lives and is not', async () => {
      const own = await openTestHouse()
      const ask = async (path: string) => (await fetch(own.url + path)).status
      assert.deepEqual([await ask('/healthz'), await ask('/readyz')], [200, 200])
      await own.database.close()
      assert.deepEqual([await ask('/healthz'), await ask('/readyz')], [200, 503])
      await own.close()
    })

    it('answers what is under way before it stops, and takes nothing new', async () => {
      const own = await openTestHouse()
      await own.person('stop@city.example', 'standard')
      const visitor = own.visitor()
      const password = await visitor.submit(await visitor.go(own.authUrl()), { email: 'stop@city.example' })
      const { action, hidden } = formOf(password)
      const release = await heldPost(visitor, action, { ...hidden, password: 'not the password, surely' })
      const stopped = own.close()
      assert.equal(await release(), 400)
      await stopped
      await assert.rejects(fetch(own.url))
    })
  })
})
