/** Back-channel logout: what apps are told, and when (OpenID Connect Back-Channel Logout 1.0). */
import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRemoteJWKSet, type JWTPayload, jwtVerify } from 'jose'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import { endSessionsOf, endTheseSessions } from '../../server/sessions.ts'
import type { Client } from '../../server/stores.ts'
import { nextStep } from '../support/clock.ts'
import {
  CALLBACK,
  CLIENT_SECRET,
  claimsIn,
  codeOf,
  enrol,
  firstSignIn,
  openTestHouse,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { headingOf, type Visitor } from '../support/visitor.ts'

/** How an app answers a logout token. */
type Manner = 'takes' | 'fails' | 'redirects' | 'hangs' | 'floods'

describe('back-channel logout', () => {
  let test: TestHouse
  let app: Server
  let base: string
  let heard: { path: string; token: string; type: string | undefined }[] = []
  let manner: Manner = 'takes'
  let people = 0

  before(async () => {
    app = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk) => {
        body += chunk
      })
      request.on('end', () => {
        const token = new URLSearchParams(body).get('logout_token') ?? ''
        heard.push({ path: request.url ?? '', token, type: request.headers['content-type'] })
        if (manner === 'hangs') return
        if (manner === 'fails') response.writeHead(500).end('no')
        else if (manner === 'redirects') response.writeHead(307, { location: `${base}/elsewhere` }).end()
        else if (manner === 'floods') {
          response.writeHead(200)
          const more = setInterval(() => response.write('x'.repeat(65536)), 1)
          response.on('close', () => clearInterval(more)).on('error', () => clearInterval(more))
        } else response.writeHead(204).end()
      })
    })
    await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve))
    base = `http://127.0.0.1:${(app.address() as AddressInfo).port}`
    test = await openTestHouse()
    const clients: Client[] = [
      { client_id: 'books', backchannel_logout_session_required: true },
      { client_id: 'plain', backchannel_logout_session_required: false },
    ].map((client) => ({
      ...client,
      client_secret: CLIENT_SECRET,
      redirect_uris: [CALLBACK],
      grant_types: ['authorization_code', 'refresh_token'],
      backchannel_logout_uri: `${base}/${client.client_id}`,
      sallyport: { first_party: true, mfa: 'by_role' },
    }))
    await test.database.directory.commit(clients.map((value) => ({ kind: 'client', op: 'put', value })))
  })
  after(async () => {
    await test.close()
    app.closeAllConnections()
    app.close()
  })
  beforeEach(() => {
    heard = []
    manner = 'takes'
  })

  const somebody = async (role: 'payor' | 'standard' = 'standard') => {
    people += 1
    const email = `logout${people}@${role}.example`
    return { email, id: await test.person(email, role) }
  }
  const into = async (visitor: Visitor, client: string, email: string) => {
    const page = await visitor.go(test.authUrl({ client_id: client }))
    return test.exchange(page.location?.startsWith(CALLBACK) ? page : await signIn(visitor, page, email), client)
  }
  const signOut = async (visitor: Visitor) =>
    visitor.submit(await visitor.go(`${test.url}/session/end`), { logout: 'yes' })
  /** The claims of a logout token, after every check of §2.6. */
  const claimsOf = async (token: string, audience: string): Promise<JWTPayload> => {
    const { payload, protectedHeader } = await jwtVerify(token, createRemoteJWKSet(new URL(`${test.url}/jwks`)), {
      issuer: test.url,
      audience,
      algorithms: ['ES256'],
      currentDate: new Date(),
    })
    assert.equal(protectedHeader.typ, 'logout+jwt')
    assert.deepEqual(payload['events'], { 'http://schemas.openid.net/event/backchannel-logout': {} })
    assert.ok(payload.iat && payload.exp && payload.jti)
    assert.equal(payload['nonce'], undefined)
    return payload
  }
  const failures = async (accountId: string) =>
    (await test.database.auditReader.auditRows({ accountId, event: 'logout.backchannel' })).map(
      ({ outcome, clientId, reasons }) => [clientId, outcome, ...(reasons ?? [])].join(' '),
    )
  const until = async (done: () => boolean | Promise<boolean>) => {
    for (let i = 0; i < 100; i++) {
      if (await done()) return
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    assert.fail('it never came')
  }

  it('is announced in discovery', async () => {
    const discovery = await (await fetch(`${test.url}/.well-known/openid-configuration`)).json()
    const { backchannel_logout_supported, backchannel_logout_session_supported } = discovery as Record<string, boolean>
    assert.ok(backchannel_logout_supported && backchannel_logout_session_supported)
  })

  it('signing out tells each app of this session, by the sid of its ID token', async () => {
    const { email, id } = await somebody()
    const visitor = test.visitor()
    const { sid } = claimsIn((await into(visitor, 'books', email))['id_token'])
    assert.equal(claimsIn((await into(visitor, 'plain', email))['id_token'])['sid'], undefined)
    await into(visitor, 'payments', email)
    assert.ok(sid)
    assert.equal(headingOf(await signOut(visitor)), 'You are signed out')
    assert.deepEqual(heard.map(({ path }) => path).sort(), ['/books', '/plain'])
    assert.ok(heard.every(({ type }) => type?.startsWith('application/x-www-form-urlencoded')))
    const books = await claimsOf(heard.find(({ path }) => path === '/books')!.token, 'books')
    assert.deepEqual([books.sub, books['sid']], [id, sid])
    const plain = await claimsOf(heard.find(({ path }) => path === '/plain')!.token, 'plain')
    assert.deepEqual([plain.sub, plain['sid']], [id, undefined])
    await until(async () => (await failures(id)).length === 2)
    assert.deepEqual((await failures(id)).sort(), ['books success', 'plain success'])
  })

  for (const [how, why] of [
    ['fails', /expected 200 OK .* got: 500/],
    ['redirects', /got: 307/],
    ['hangs', /timeout/],
  ] as const)
    it(`an app that ${how} keeps nobody from signing out; it stands in the log and in the audit`, async () => {
      const { email, id } = await somebody()
      const visitor = test.visitor()
      await into(visitor, 'books', email)
      manner = how
      const began = performance.now()
      assert.equal(headingOf(await signOut(visitor)), 'You are signed out')
      assert.ok(performance.now() - began < 4000)
      assert.deepEqual(
        heard.map(({ path }) => path),
        ['/books'],
        'no redirect is followed',
      )
      await until(async () => (await failures(id)).length === 1)
      assert.match((await failures(id))[0]!, why)
      assert.ok(test.logs.some((line) => line.includes('back-channel logout')))
    })

  it('reads nothing of an endless answer', async () => {
    const { email } = await somebody()
    const visitor = test.visitor()
    await into(visitor, 'books', email)
    manner = 'floods'
    const before = process.memoryUsage().rss
    assert.equal(headingOf(await signOut(visitor)), 'You are signed out')
    assert.ok(process.memoryUsage().rss - before < 200e6)
  })

  it('ending all sessions of a person tells the apps of each, and ends what is bound to them', async () => {
    const { email, id } = await somebody()
    const [one, two] = [test.visitor(), test.visitor()]
    const tokens = await into(one, 'books', email)
    await into(two, 'books', email)
    await into(two, 'plain', email)
    await into(one, 'plain', email)
    const bystander = await somebody()
    const third = test.visitor()
    await into(third, 'books', bystander.email)
    const ended = await endSessionsOf(test.house, [id], 'operator:test')
    assert.deepEqual([ended.sessions, ended.told.sort(), ended.failed], [2, ['books', 'books', 'plain'], []])
    const sids = await Promise.all(
      heard.filter(({ path }) => path === '/books').map(async ({ token }) => (await claimsOf(token, 'books'))['sid']),
    )
    assert.equal(new Set(sids).size, 2, 'one for each session; without sid once')
    assert.equal(
      (await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! }, 'books')).error,
      'invalid_grant',
    )
    const none = (visitor: Visitor) => visitor.go(test.authUrl({ client_id: 'books', prompt: 'none' }))
    for (const visitor of [one, two]) assert.match((await none(visitor)).location ?? '', /login_required/)
    assert.match((await none(third)).location ?? '', /code=/)
    assert.deepEqual(await endSessionsOf(test.house, [id], 'operator:test'), { sessions: 0, told: [], failed: [] })
  })

  it('apply that disables or removes somebody, or sets a password, tells the apps', async () => {
    for (const what of ['disabled: true', 'state: absent', 'password: "another horse battery staple"']) {
      heard = []
      const { email, id } = await somebody()
      await into(test.visitor(), 'books', email)
      const seed = parseSeed(`users: [{ email: ${email}, ${what} }]`, 'seed.yaml')
      const plan = await planSeed(test.database, seed, { hash: async () => 'hash', setPasswords: true })
      await applyPlan(test.database, plan, 'operator:test', (sessions) =>
        endTheseSessions(test.house, sessions, 'operator:test'),
      )
      assert.equal(heard.length, 1, what)
      assert.equal((await claimsOf(heard[0]!.token, 'books')).sub, id)
      assert.deepEqual(await failures(id), ['books success'])
    }
  })

  it('a new app by recovery code ends the other sessions, and their apps are told', async () => {
    const { email, id } = await somebody('payor')
    const { visitor, secret, recoveryCode } = await firstSignIn(test, email, { client_id: 'books' })
    nextStep()
    const thief = test.visitor()
    const challenge = await signIn(thief, await thief.go(test.authUrl({ client_id: 'plain' })), email)
    await thief.submit(challenge, { code: await codeOf(secret) })
    nextStep()
    const form = await visitor.go(test.authUrl({ client_id: 'books', second_factor_max_age: '0' }))
    const enrolment = await visitor.submit(await visitor.go(`${form.at}/recovery`), { recovery_code: recoveryCode })
    await enrol(visitor, enrolment)
    await until(() => heard.length > 0)
    assert.deepEqual(
      heard.map(({ path }) => path),
      ['/plain'],
      'not the app of the session that goes on',
    )
    assert.equal((await claimsOf(heard[0]!.token, 'plain')).sub, id)
  })

  it('ten wrong codes at a step-up end the session, and its apps are told', async () => {
    const { email } = await somebody('payor')
    const { visitor, secret } = await firstSignIn(test, email, { client_id: 'books' })
    nextStep()
    const page = await visitor.go(test.authUrl({ client_id: 'payments', second_factor_max_age: '0' }))
    for (let i = 0; i < 10; i++)
      await visitor.submit(page, { code: (await codeOf(secret)) === '000000' ? '111111' : '000000' })
    await until(() => heard.length > 0)
    assert.deepEqual(
      heard.map(({ path }) => path),
      ['/books'],
    )
  })
})
