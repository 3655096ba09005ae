/** Letters, from the outbox to a real SMTP server. */
import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { createSallyport, KeyRing, newKeyRing, tell } from '../../interactions/index.ts'
import { loadConfig } from '../../server/config.ts'
import { deliverDue, LATE_SECONDS, mailOf, smtpTransport, type Transport, waitAfter } from '../../server/delivery.ts'
import { createLogger } from '../../server/log.ts'
import { hasherOf } from '../../server/provider.ts'
import type { Database } from '../../server/stores.ts'
import { wait } from '../support/clock.ts'
import { freePort } from '../support/free-port.ts'
import { hasCode, openTestHouse, signIn } from '../support/house.ts'
import { startSmtp, type TestSmtp } from '../support/smtp.ts'
import { temporaryFolder } from '../support/temporary.ts'

const NOW = 1_800_000_000
const ISSUER = 'https://id.example.com'

describe('mail', () => {
  let smtp: TestSmtp
  let database: Database
  let transport: Transport
  const configFor = (more: object) =>
    loadConfig({ SALLYPORT_ISSUER: ISSUER, SALLYPORT_MAIL_FROM: 'Acme <id@acme.example>', ...more }, '/nowhere')
  const keyRing = new KeyRing(newKeyRing())

  before(async () => {
    smtp = await startSmtp()
  })
  after(() => smtp.kill())
  beforeEach(async () => {
    smtp.letters.length = 0
    database = await openSqlite({
      file: join(temporaryFolder(), 'a.sqlite'),
      sealer: keyRing,
      synchronous: 'NORMAL',
    })
    transport = await smtpTransport(configFor({ SALLYPORT_SMTP_URL: smtp.url }))
  })
  afterEach(async () => {
    transport.close()
    await database.close()
  })

  const lettersOf = () =>
    createSallyport(ISSUER, {
      stores: database,
      keyRing,
      passwords: hasherOf(configFor({})),
      brand: { name: 'Acme <Pay>', homeUrl: ISSUER, supportContact: 'help@acme.example' },
    }).letters
  const deliver = (now: number, over = transport) =>
    deliverDue({
      outbox: database.outbox,
      letters: lettersOf(),
      transport: over,
      logger: createLogger('silent'),
      now: () => now,
    })
  const notice = (email: string, more: object = {}) =>
    tell({ id: 'ana', email }, 'app_added', { now: NOW, lang: 'en', ...more })

  it('says what happened, when, from where, and what to do, as text and as HTML', async () => {
    await database.outbox.put(
      notice('ana@acme.example', { browser: 'Mozilla/5.0 (Windows) Firefox/140', ip: '192.0.2.1' }),
    )
    assert.equal(await deliver(NOW), 1)
    const [letter] = smtp.letters
    assert.deepEqual(letter!.to, ['ana@acme.example'])
    assert.equal(letter!.subject, 'Authenticator app added to your Acme <Pay> account')
    for (const part of [
      'An authenticator app was added to your account.',
      'When: January 15, 2027',
      'Network address: 192.0.2.1',
      'If this was you, you need do nothing.',
      `${ISSUER}/not-you`,
      'Help: help@acme.example',
    ]) {
      assert.ok(letter!.text.includes(part), part)
      assert.ok(letter!.html.includes(part.split('/not-you')[0]!), part)
    }
    assert.ok(letter!.text.includes('Browser: Firefox, Windows'))
    assert.ok(letter!.html.includes('<h1>Authenticator app added to your Acme &lt;Pay&gt; account</h1>'))
    assert.match(letter!.source, /^From: Acme <id@acme\.example>/m)
    assert.match(letter!.source, /^Auto-Submitted: auto-generated/m)
  })
  it('says nothing that a stranger’s browser calls itself', async () => {
    for (const [browser, said] of [
      ['Blocked! Sign in at https://thief.example/acme', /^Browser: Blocked\r?$/m],
      ['thief.example/acme', /^Browser: thief\r?$/m],
      ['curl/8.5.0', /^Browser: curl\r?$/m],
      ['Firefox/1 https://thief.example', /^Browser: Firefox\r?$/m],
      ['(https://thief.example)', undefined],
      ['<b>', undefined],
    ] as const) {
      smtp.letters.length = 0
      await database.outbox.put(notice('ana@acme.example', { browser, ip: '192.0.2.1' }))
      assert.equal(await deliver(NOW), 1)
      const { text, html } = smtp.letters[0]!
      if (said === undefined) assert.doesNotMatch(text, /Browser:/)
      else assert.match(text, said)
      assert.doesNotMatch(text + html, /thief\.|<b>|&lt;b/, browser)
    }
  })
  for (const [lang, subject] of [
    ['es', 'Aplicación de autenticación añadida a su cuenta de Acme <Pay>'],
    ['fr', 'Application d’authentification ajoutée à votre compte Acme <Pay>'],
    ['xx-nowhere', 'Authenticator app added to your Acme <Pay> account'],
  ] as const)
    it(`speaks ${lang}`, async () => {
      await database.outbox.put(notice('ana@acme.example', { lang }))
      await deliver(NOW)
      assert.equal(smtp.letters[0]!.subject, subject)
    })

  it('goes on when the mail server is back, under the same Message-ID', async () => {
    await database.outbox.put(notice('later@acme.example'))
    assert.equal(await deliver(NOW), 0)
    const [state] = await database.outbox.list({ limit: 1 })
    assert.equal(state!.dueAt, NOW + 60)
    assert.match(state!.error!, /451/)
    const { port } = smtp
    await smtp.kill()
    await database.outbox.put(notice('bob@acme.example'))
    assert.equal(await deliver(NOW), 0)
    assert.match((await database.outbox.list({ limit: 9 })).map(({ error }) => error).join(), /ECONNREFUSED/)
    smtp = await startSmtp(port)
    assert.equal(await deliver(NOW + 59), 0)
    assert.equal(await deliver(NOW + 60), 1)
    const [sent] = (await database.outbox.list({ limit: 9 })).filter(({ sentAt }) => sentAt !== undefined)
    assert.equal(smtp.letters[0]!.messageId, `<${sent!.id}@id.example.com>`)
    assert.equal(await database.outbox.read(sent!.id), undefined)
  })
  it('is given up where nobody of that name wants mail', async () => {
    await database.outbox.put(notice('gone@acme.example'))
    await deliver(NOW)
    const [state] = await database.outbox.list({ limit: 1 })
    assert.deepEqual([state!.dueAt, state!.sentAt], [undefined, undefined])
    assert.match(state!.error!, /550/)
  })
  it('comes twice only when the server died after the mail server had said yes, and then as the same letter', async () => {
    await database.outbox.put(notice('ana@acme.example'))
    const dies: Transport = {
      async send(letter) {
        await transport.send(letter)
        throw Object.assign(new Error('killed'), { killed: true })
      },
      close() {},
    }
    // As a process that ends there: nobody says what became of it.
    const deaf = { ...database.outbox, lease: database.outbox.lease.bind(database.outbox), putOff: async () => true }
    await deliverDue({
      outbox: deaf as never,
      letters: lettersOf(),
      transport: dies,
      logger: createLogger('silent'),
      now: () => NOW,
    })
    assert.equal(await deliver(NOW + 119), 0)
    assert.equal(await deliver(NOW + 120), 1)
    assert.equal(await deliver(NOW + 999), 0)
    assert.equal(smtp.letters.length, 2)
    assert.equal(smtp.letters[0]!.messageId, smtp.letters[1]!.messageId)
  })
  it('is delivered once by many workers', async () => {
    await database.outbox.put(Array.from({ length: 30 }, (_, index) => notice(`p${index}@acme.example`)).flat())
    const sent = await Promise.all([deliver(NOW), deliver(NOW), deliver(NOW)])
    assert.equal(sent[0]! + sent[1]! + sent[2]!, 30)
    assert.equal(new Set(smtp.letters.map(({ messageId }) => messageId)).size, 30)
    assert.equal(smtp.letters.length, 30)
  })
  for (const [what, greet] of [
    ['is not there', undefined],
    ['says nothing', () => {}],
    ['answers nonsense', (socket: Socket) => void socket.write('HTTP/1.1 200 OK\r\n\r\n')],
  ] as const)
    it(`people sign in, and health says so after five minutes, while the mail server ${what}; then nothing is lost`, async function () {
      this.timeout(60_000)
      const port = await freePort()
      const sockets = new Set<Socket>()
      const broken = createServer((socket) => {
        sockets.add(socket.on('error', () => {}))
        greet?.(socket)
      })
      if (greet) await new Promise<void>((resolve) => broken.listen(port, '127.0.0.1', resolve))
      const test = await openTestHouse({
        SALLYPORT_SMTP_URL: `smtp://127.0.0.1:${port}`,
        SALLYPORT_MAIL_FROM: 'Acme <id@acme.example>',
      })
      let back: TestSmtp | undefined
      try {
        const ready = async () => {
          const answer = await fetch(`${test.url}/readyz`)
          return [answer.status, await answer.json()]
        }
        await test.person('ana@city.example', 'standard')
        const ana = test.visitor()
        assert.ok(hasCode(await signIn(ana, await ana.go(test.authUrl()), 'ana@city.example')))
        assert.deepEqual(await ready(), [200, { status: 'ok' }])
        wait(LATE_SECONDS + 1)
        assert.deepEqual(await ready(), [200, { status: 'degraded', mail: 'mail is late' }])
        const again = test.visitor()
        assert.ok(hasCode(await signIn(again, await again.go(test.authUrl()), 'ana@city.example')))

        for (const socket of sockets) socket.destroy()
        await new Promise((resolve) => (greet ? broken.close(resolve) : resolve(undefined)))
        back = await startSmtp(port)
        for (let looks = 0; back.letters.length < 2 && looks < 100; looks++) {
          wait(60)
          await setTimeout(200)
        }
        assert.deepEqual(
          back.letters.map(({ to, subject }) => [to[0], subject]),
          Array(2).fill(['ana@city.example', 'Sign-in to your Sallyport account from a new device']),
        )
        await setTimeout(50)
        assert.deepEqual(await ready(), [200, { status: 'ok' }])
      } finally {
        await back?.kill()
        await test.close()
      }
    })
  it('waits 1, 2, 4 … minutes, and four hours at the most', () => {
    assert.deepEqual([1, 2, 3, 4, 20].map(waitAfter), [60, 120, 240, 480, 4 * 60 * 60])
    assert.ok(LATE_SECONDS >= 60)
  })
  it('is shown on a developer’s machine, and is off in production without a mail server', () => {
    assert.equal(mailOf(configFor({})), 'outbox')
    assert.equal(mailOf(configFor({ NODE_ENV: 'production', SALLYPORT_KEYS: '/k' })), 'none')
    const production = configFor({ NODE_ENV: 'production', SALLYPORT_KEYS: '/k', SALLYPORT_SMTP_URL: 'smtps://u:p@m' })
    assert.equal(mailOf(production), 'smtp')
    assert.ok(!JSON.stringify(production).includes('u:p'))
  })
  it('refuses what is no mail server, without its password', () => {
    for (const url of ['mail.example', 'http://mail.example', 'smtp://', 'smtp://m/path', 'smtp://m?x'])
      assert.throws(() => configFor({ SALLYPORT_SMTP_URL: url }), /SALLYPORT_SMTP_URL: must be smtp:/, url)
    assert.throws(
      () => configFor({ SALLYPORT_SMTP_URL: 'smtp://u:secret@m/x' }),
      (error: Error) => !/secret/.test(error.message),
    )
    assert.throws(
      () => loadConfig({ SALLYPORT_SMTP_URL: 'smtp://m' }, '/nowhere'),
      /SALLYPORT_MAIL_FROM: needed with SALLYPORT_SMTP_URL/,
    )
    for (const from of ['Acme', 'a b@c', 'A <b>', 'a@b\nBcc: c@d'])
      assert.throws(() => configFor({ SALLYPORT_MAIL_FROM: from }), /SALLYPORT_MAIL_FROM/, from)
  })
})
