/** What an operator does about one person at the command line, and how a server that runs meanwhile takes it. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { decodeJwt } from 'jose'
import { type Letter, tell } from '../../interactions/index.ts'
import type { AuditRow, Client } from '../../server/stores.ts'
import { nextStep, realTime } from '../support/clock.ts'
import { command } from '../support/command.ts'
import {
  acknowledge,
  CALLBACK,
  CHALLENGE,
  CLIENT_SECRET,
  codeOf,
  enrol,
  errorOf,
  hasCode,
  openTestHouse,
  PASSWORD,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { freshName, useMongo } from '../support/mongo.ts'
import { headingOf, type Visitor } from '../support/visitor.ts'

for (const store of ['SQLite', 'MongoDB'])
  describe(`people at the command line, ${store}`, function () {
    this.timeout(180_000)
    const server = store === 'MongoDB' ? useMongo(this) : undefined
    let test: TestHouse
    let app: Server
    let heard: { path: string; sub: string | undefined }[] = []
    let people = 0

    let timeOfOthers: () => void
    before(async () => {
      // Commands are processes of their own: by their clock.
      timeOfOthers = realTime()
      app = createServer((request, response) => {
        let body = ''
        request.on('data', (chunk) => {
          body += chunk
        })
        request.on('end', () => {
          heard.push({ path: request.url!, sub: decodeJwt(new URLSearchParams(body).get('logout_token')!).sub })
          response.writeHead(request.url === '/deaf' ? 500 : 204).end()
        })
      })
      await new Promise<void>((resolve) => app.listen(0, '127.0.0.1', resolve))
      test = await openTestHouse(server ? { SALLYPORT_STORE: server().url(freshName()) } : {})
      const clients: Client[] = ['books', 'deaf'].map((client_id) => ({
        client_id,
        client_secret: CLIENT_SECRET,
        redirect_uris: [CALLBACK],
        grant_types: ['authorization_code', 'refresh_token'],
        backchannel_logout_uri: `http://127.0.0.1:${(app.address() as AddressInfo).port}/${client_id}`,
        sallyport: { first_party: true, mfa: 'by_role', offline: true },
      }))
      await test.database.directory.commit(clients.map((value) => ({ kind: 'client', op: 'put', value })))
    })
    after(async () => {
      await test.close()
      app.closeAllConnections()
      app.close()
      timeOfOthers()
    })
    beforeEach(() => {
      heard = []
    })

    const somebody = async () => {
      people += 1
      const email = `person${people}@city.example`
      return { email, id: await test.person(email, 'standard') }
    }
    const into = async (visitor: Visitor, client: string, email: string) => {
      const page = await visitor.go(test.authUrl({ client_id: client }))
      return test.exchange(hasCode(page) ? page : await signIn(visitor, page, email), client)
    }
    const sallyport = (...args: string[]) => sallyportWith({}, ...args)
    const sallyportWith = (more: Record<string, string>, ...args: string[]) => {
      const { config } = test.house
      const { SALLYPORT_STORE: address } = config
      return command(test.folder, args, {
        SALLYPORT_DATA_DIR: join(test.folder, 'data'),
        SALLYPORT_STORE: address.kind === 'sqlite' ? `sqlite:${address.file}` : address.url(),
        SALLYPORT_ISSUER: test.url,
        SALLYPORT_LOG_LEVEL: 'silent',
        ...more,
      })
    }
    const silent = async (visitor: Visitor, client = 'books') =>
      visitor.go(test.authUrl({ client_id: client, prompt: 'none' }))
    const refreshed = (token: string | undefined) =>
      test.token({ grant_type: 'refresh_token', refresh_token: token! }, 'books')
    const newest = async (accountId: string, event: string): Promise<AuditRow | undefined> =>
      (await test.database.auditReader.auditRows({ accountId, event }))[0]

    it('disable: the session, the refresh token and the sign-in end at once, the app is told', async () => {
      const { email, id } = await somebody()
      const [visitor, bystander] = [test.visitor(), test.visitor()]
      const tokens = await into(visitor, 'books', email)
      await into(bystander, 'books', (await somebody()).email)
      const done = await sallyport('user', 'disable', email, '--reason', 'left', '--by', 'HR 4711', '--json')
      assert.equal(done.code, 0, done.stderr)
      assert.deepEqual(done.json(), { email, disabled: true, sessions_ended: 1, told: ['books'], not_told: [] })
      assert.deepEqual(heard, [{ path: '/books', sub: id }])
      assert.equal((await refreshed(tokens['refresh_token'])).error, 'invalid_grant')
      assert.equal(errorOf(await silent(visitor)), 'login_required')
      const page = await visitor.go(test.authUrl({ client_id: 'books' }))
      assert.equal(page.status, 200)
      const refused = await signIn(visitor, page, email)
      assert.equal(hasCode(refused), false, headingOf(refused))
      assert.ok(hasCode(await silent(bystander)), 'nobody else')

      const rows = await test.database.auditReader.auditRows({ accountId: id })
      const acts = rows.filter(({ actor }) => actor?.startsWith('operator:')).map(({ event }) => event)
      assert.deepEqual(acts, ['user.disabled', 'logout.backchannel', 'administration.begun'])
      assert.deepEqual((await newest(id, 'user.disabled'))?.details, { reason: 'left', by: 'HR 4711', sessions: 1 })

      const twice = await sallyport('user', 'disable', email, '--reason', 'left')
      assert.deepEqual([twice.code, /is disabled already/.test(twice.complaint)], [1, true])
      const back = await sallyport('user', 'enable', email, '--reason', 'is back', '--json')
      assert.deepEqual(back.json(), { email, disabled: false })
      assert.equal((await refreshed(tokens['refresh_token'])).error, 'invalid_grant', 'what ended stays ended')
      assert.ok(hasCode(await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'books' })), email)))
    })

    it('sessions: apps, times and browser, and nothing that opens anything', async () => {
      const { email } = await somebody()
      const none = await sallyport('user', 'sessions', email)
      assert.equal(none.stdout, `${email} has no session\n`)
      const [one, two] = [test.visitor(), test.visitor()]
      await into(one, 'books', email)
      await into(one, 'deaf', email)
      await into(two, 'books', email)
      const done = await sallyport('user', 'sessions', email, '--json')
      const shown: Record<string, string | string[]>[] = done.json()
      assert.deepEqual(shown.map(({ apps }) => (apps as string[]).sort().join()).sort(), ['books', 'books,deaf'])
      const rows = await test.database.auditReader.auditRows({ event: 'authorization', limit: 10 })
      for (const session of shown) {
        assert.equal((session['id'] as string).length, 12)
        assert.ok(
          rows.some((row) => row.session?.startsWith(session['id'] as string)),
          'as the audit says',
        )
        assert.match(String(session['created']), /^\d{4}-.*Z$/)
        assert.match(String(session['ip']), /^10\./)
      }
      for (const { value } of [...one.cookies, ...two.cookies])
        if (value.length > 8) assert.ok(!done.stdout.includes(value))
      const table = await sallyport('user', 'sessions', email)
      assert.match(table.stdout, /^id .*created .*last used .*apps/)
    })

    it('unlink: forgets which name an identity provider gives somebody, once', async () => {
      const { email, id } = await somebody()
      const name = { company: 'city', issuer: 'https://idp.example', format: 'urn:f', name: `name-of-${email}` }
      await test.database.links.link(name, id, 1)
      const why = ['--reason', 'new account there', '--by', 'IT']
      const done = await sallyport('user', 'unlink', email, ...why, '--json')
      assert.equal(done.code, 0, done.stderr)
      assert.deepEqual(done.json(), { email, links: 1 })
      assert.equal(await test.database.links.find(name), undefined)
      const row = await newest(id, 'federation.unlinked')
      assert.deepEqual(row?.details, { reason: 'new account there', by: 'IT', links: 1 })
      const again = await sallyport('user', 'unlink', email, ...why)
      assert.equal(again.code, 1)
      assert.match(again.complaint, /linked to no identity provider/)
    })
    it('end-sessions: all of them, with what an app may do without one; who could not be told is named', async () => {
      const { email, id } = await somebody()
      const [one, two] = [test.visitor(), test.visitor()]
      const tokens = await into(one, 'books', email)
      await into(two, 'deaf', email)
      const done = await sallyport('user', 'end-sessions', email, '--json')
      assert.equal(done.code, 0, done.stderr)
      const told: { sessions_ended: number; told: string[]; not_told: { clientId: string }[] } = done.json()
      assert.deepEqual([told.sessions_ended, told.told, told.not_told[0]?.clientId], [2, ['books'], 'deaf'])
      assert.equal((await refreshed(tokens['refresh_token'])).error, 'invalid_grant')
      for (const visitor of [one, two]) assert.equal(errorOf(await silent(visitor)), 'login_required')
      assert.deepEqual((await newest(id, 'user.sessions_ended'))?.details, { sessions: 2 })
      assert.ok(hasCode(await signIn(one, await one.go(test.authUrl({ client_id: 'books' })), email)), 'anew')
    })

    it('require-password-change: the password opens nothing, a link brings a new one, the second factor is asked for as before', async () => {
      const { email, id } = await somebody()
      const ana = test.visitor()
      const start = await signIn(ana, await ana.go(test.authUrl({ client_id: 'strict' })), email)
      const app = /href="([^"]+)"/.exec(start.text.split('class="ways"')[1] ?? '')?.[1]
      assert.equal(app, undefined, 'where no texts are sent the app is set up at once')
      const { page, secret } = await enrol(ana, start)
      const tokens = await test.exchange(await acknowledge(ana, page), 'strict')
      const held = await into(test.visitor(), 'books', email).catch(() => undefined)
      assert.equal(held, undefined, 'a second factor is asked for')

      const told = await sallyport('user', 'require-password-change', email, '--reason', 'leaked list', '--json')
      assert.equal(told.code, 0, told.stderr)
      assert.deepEqual(told.json(), {
        email,
        password_withdrawn: true,
        sessions_ended: 1,
        told: [],
        not_told: [],
      })
      assert.deepEqual((await newest(id, 'user.password_change_required'))?.details, {
        reason: 'leaked list',
        sessions: 1,
      })
      const again = await sallyport('user', 'require-password-change', email, '--reason', 'x')
      assert.deepEqual([again.code, again.complaint], [1, `sallyport: ${email} has no password`])
      assert.match((await sallyport('user', 'invite', email)).complaint, /has a password, or had one/)

      assert.equal(errorOf(await silent(ana, 'strict')), 'login_required')
      assert.equal(
        (await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token'] ?? 'x' }, 'strict'))
          .error,
        'invalid_grant',
      )
      // Whoever knows the password learns from the page that it is wrong, as of any other, and no more.
      const thief = test.visitor()
      const right = await signIn(thief, await thief.go(test.authUrl()), email)
      const wrong = await thief.submit(right, { password: 'any other password' })
      assert.deepEqual([right.status, headingOf(right)], [wrong.status, headingOf(wrong)])
      assert.match(right.text, /href="\/forgot"/)

      // The file that made the person has the password still.
      const seed = join(test.folder, 'withdrawn.yaml')
      writeFileSync(
        seed,
        `users:\n  - { email: ${email}, name: A Person, password: ${PASSWORD}, memberships: [{ company: city, roles: [] }] }\n`,
      )
      const applied = await sallyport('apply', seed)
      assert.equal(applied.code, 0, applied.stderr)
      assert.match(applied.stdout + applied.stderr, /has to choose a new password/)
      assert.equal((await test.database.accounts.findByEmail(email))?.passwordHash, undefined)

      const letters = async (kind: string) => {
        const found = (await test.database.outbox.list({ accountId: id, limit: 50 })).filter((one) => one.kind === kind)
        return Promise.all(found.map(async (one) => JSON.parse((await test.database.outbox.read(one.id))!) as Letter))
      }
      assert.deepEqual(
        (await letters('password_change_required')).map(({ link }) => link),
        [`${test.url}/forgot`],
      )
      const visitor = test.visitor()
      await visitor.submit(await visitor.go(`${test.url}/forgot`), { email })
      let link: string | undefined
      for (let looks = 0; link === undefined && looks < 100; looks++) {
        await setTimeout(20)
        link = (await letters('password_reset'))[0]?.link
      }
      assert.deepEqual(await letters('invitation'), [], 'nobody who had a password is invited')
      const form = await visitor.go(link!)
      const same = await visitor.submit(form, { new_password: PASSWORD })
      assert.match(same.text, /You used this password before/)
      assert.equal(
        headingOf(await visitor.submit(form, { new_password: 'ponies dance at midnight' })),
        'Your password is set',
      )
      const challenge = await signIn(visitor, await visitor.go(test.authUrl()), email, 'ponies dance at midnight')
      assert.equal(headingOf(challenge), CHALLENGE)
      nextStep()
      assert.ok(hasCode(await visitor.submit(challenge, { code: await codeOf(secret) })))
    })

    it('invite: a link for who has no password; a former one is void; who has one, or is shut out, is refused', async () => {
      const email = `invited${people}@best.example`
      const memberships = [{ company: 'best', roles: ['payments_admin' as const], disabled: false }]
      const value = { id: `invited${people}`, email, disabled: false, memberships, serverRoles: [] }
      await test.database.directory.commit([{ kind: 'user', op: 'put', value }])
      const before = Date.now()
      const invited = await sallyport('user', 'invite', email, '--json')
      assert.equal(invited.code, 0, invited.stderr)
      const { until, ...told } = invited.json() as { until: string }
      assert.deepEqual(told, { email, invited: true })
      const days = (Date.parse(until) - before) / 86_400_000
      assert.ok(Math.abs(days - 14) < 0.01, `a payee has fourteen days, not ${days}`)
      assert.equal((await newest(value.id, 'invitation.sent'))?.outcome, 'success')

      const links = async () => {
        const shown = await sallyport('outbox', 'list', '--user', email, '--json')
        assert.equal(shown.code, 0, shown.stderr)
        const letters = shown.json() as { kind: string; text: string; state: string }[]
        assert.ok(letters.every(({ state }) => state === 'waiting'))
        return new Set(letters.map(({ text }) => /https?:\S+\/welcome\?token=\S+/.exec(text)![0]))
      }
      const [first, ...others] = await links()
      assert.deepEqual(others, [], 'reminders bring the same link')
      assert.equal((await sallyport('user', 'invite', email)).code, 0)
      const [second, ...more] = await links()
      assert.deepEqual(more, [], 'the letters of the former invitation are taken back')
      assert.notEqual(second, first)
      assert.equal(headingOf(await test.visitor().go(first!)), 'This link does not work')
      const guest = test.visitor()
      const form = await guest.go(second!)
      assert.equal(headingOf(form), 'Welcome to Sallyport')
      await guest.submit(form, { name: 'A Guest', new_password: 'ponies dance at midnight' })
      assert.match((await sallyport('user', 'invite', email)).complaint, /has a password/)
      assert.match((await sallyport('user', 'invite', 'nobody@best.example')).complaint, /there is no user/)

      await test.database.directory.commit([
        { kind: 'user', op: 'put', value: { ...value, id: 'out', email: 'out@best.example', disabled: true } },
      ])
      assert.match(
        (await sallyport('user', 'invite', 'out@best.example')).complaint,
        /`sallyport user enable` comes first/,
      )
      const production = { NODE_ENV: 'production', SALLYPORT_KEYS: test.house.config.SALLYPORT_KEYS }
      const off = await sallyportWith(production, 'user', 'invite', email)
      assert.match(off.complaint, /mail is off: set SALLYPORT_SMTP_URL and SALLYPORT_MAIL_FROM/)
      const change = await sallyportWith(production, 'user', 'require-password-change', email, '--reason', 'x')
      assert.match(change.complaint, /mail is off/)
    })

    it('outbox list: what a developer reads, and what an operator in production does not', async () => {
      const { email, id } = await somebody()
      const at = Math.floor(Date.now() / 1000)
      const late = { createdAt: at, dueAt: at + 60, expiresAt: at + 3600 }
      await test.database.outbox.put([
        ...tell({ id, email }, 'app_added', { now: at, lang: 'es', ip: '192.0.2.7' }),
        {
          id: 'sms',
          channel: 'sms',
          kind: 'sms_code',
          accountId: id,
          body: '{"to":"+12025550123","text":"123456 is"}',
          ...late,
        },
      ])
      const list = async (more: Record<string, string> = {}, ...args: string[]) => {
        const done = await sallyportWith(more, 'outbox', 'list', '--user', email, ...args)
        assert.equal(done.code, 0, done.stderr)
        return done
      }
      const shown = (await list({}, '--json')).json() as Record<string, unknown>[]
      const [letter] = shown.filter(({ channel }) => channel === 'mail')
      assert.equal(letter!['to'], email)
      assert.match(String(letter!['subject']), /Aplicación de autenticación añadida/)
      assert.match(String(letter!['text']), /192\.0\.2\.7/)
      const [text] = shown.filter(({ channel }) => channel === 'sms')
      assert.deepEqual(text!['body'], { to: '+12025550123', text: '123456 is' })
      assert.equal(shown.length, 2)
      assert.equal(((await list({}, '--json', '--limit', '1')).json() as unknown[]).length, 1)

      const words = (await list()).stdout
      assert.match(words, /^created +state +channel +kind +user/m)
      assert.doesNotMatch(words, /123456|192\.0\.2\.7/, 'a table says what became of them')
      const production = { NODE_ENV: 'production', SALLYPORT_KEYS: test.house.config.SALLYPORT_KEYS }
      const { stdout } = await list(production, '--json')
      assert.match(stdout, /app_added/)
      assert.doesNotMatch(stdout, /123456|12025550123|192\.0\.2\.7|subject/)
      for (const limit of ['0', 'many'])
        assert.equal((await sallyport('outbox', 'list', '--limit', limit)).code, 2, limit)
      assert.deepEqual((await sallyport('outbox', 'list', '--user', 'nobody@x.example')).code, 1)
    })

    it('consents: what was agreed to, and taken back', async () => {
      const { email, id } = await somebody()
      const visitor = test.visitor()
      const question = await signIn(visitor, await visitor.go(test.authUrl({ client_id: 'partner' })), email)
      const tokens = await test.exchange(await visitor.submit(question, {}), 'partner')
      const listed: { client: string; permissions: string[] }[] = (
        await sallyport('user', 'consents', email, '--json')
      ).json()
      assert.deepEqual(
        listed.map(({ client, permissions }) => [client, permissions]),
        [['partner', ['email', 'openid']]],
      )
      const none = await sallyport('user', 'consents', email, '--revoke', 'books')
      assert.deepEqual([none.code, /agreed to nothing with "books"/.test(none.complaint)], [1, true])
      const done = await sallyport(
        'user',
        'consents',
        email,
        '--revoke',
        'partner',
        '--reason',
        'asked by mail',
        '--json',
      )
      assert.deepEqual(done.json(), { email, revoked: 'partner' })
      assert.equal(
        (await test.token({ grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! }, 'partner')).error,
        'invalid_grant',
      )
      assert.match(headingOf(await visitor.go(test.authUrl({ client_id: 'partner' }))), /Partner Books/)
      const rows = await test.database.auditReader.auditRows({ accountId: id })
      const acts = rows.filter(({ actor }) => actor?.startsWith('operator:'))
      assert.deepEqual(
        acts.map(({ event, clientId }) => `${event} ${clientId}`),
        ['consent.revoked partner', 'administration.begun partner'],
      )
      assert.deepEqual(acts[0]?.details, { reason: 'asked by mail' })
    })

    it('a stranger is named, a missing reason is wrong usage, an empty one refused', async () => {
      const { email } = await somebody()
      const cases: [args: string[], code: number][] = [
        [['disable', 'nobody@x.example', '--reason', 'x'], 1],
        [['sessions', 'nobody@x.example'], 1],
        [['end-sessions', 'nobody@x.example'], 1],
        [['consents', 'nobody@x.example'], 1],
        [['unlink', 'nobody@x.example', '--reason', 'x'], 1],
        [['disable', email], 2],
        [['unlink', email], 2],
        [['disable', email, '--reason', ' '], 1],
        [['end-sessions', email, '--reason', ' '], 1],
      ]
      for (const [args, code] of cases) {
        const done = await sallyport('user', ...args)
        assert.equal(done.code, code, `${args.join(' ')}: ${done.stderr}`)
        if (args[1] !== email) assert.match(done.complaint, /there is no user "nobody@x\.example"/)
      }
    })
  })
