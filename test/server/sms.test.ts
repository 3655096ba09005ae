/** Gateways for text messages, against local servers that speak as they do; and what people see when they do not work. */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ConfigError, loadConfig } from '../../server/config.ts'
import { watched } from '../../server/sms/gateway.ts'
import { isTwilios, statusPath, twilio, twilioSignature } from '../../server/sms/twilio.ts'
import { secretBytes, webhook } from '../../server/sms/webhook.ts'
import { openTestHouse, signIn, type TestHouse } from '../support/house.ts'
import { headingOf } from '../support/visitor.ts'

const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`
const SID = `AC${'0'.repeat(31)}1`
const TOKEN = '0123456789abcdef0123456789abcdef'
const MESSAGE = { to: '+12025550123', text: '123456 is your code\n\n@login.example #123456', accountId: 'ana' }

interface Received {
  url: string
  headers: IncomingHttpHeaders
  body: string
}

/** A gateway of somebody else's. */
class Gateway {
  readonly received: Received[] = []
  /** What it answers; 'never': nothing. */
  answer: { status: number; body: string; headers?: Record<string, string> } | 'never' = { status: 200, body: '{}' }
  #server: Server | undefined

  async open(): Promise<string> {
    this.#server = createServer((request, response) => {
      let body = ''
      request.on('data', (part: Buffer) => {
        body += part.toString()
      })
      request.on('end', () => {
        this.received.push({ url: request.url!, headers: request.headers, body })
        if (this.answer === 'never') return
        response.writeHead(this.answer.status, { 'content-type': 'application/json', ...this.answer.headers })
        response.end(this.answer.body)
      })
    })
    await new Promise<void>((resolve) => this.#server!.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#server?.closeAllConnections()
    this.#server?.close()
  }
}

const isSilent = (error: Error) => !error.message.includes('555') && !error.message.includes('123456')

describe('gateways for text messages', () => {
  let gateway: Gateway
  let base: string
  beforeEach(async () => {
    gateway = new Gateway()
    base = await gateway.open()
  })
  afterEach(() => gateway.close())

  describe('a webhook', () => {
    it('gets the message, signed as Standard Webhooks has it', async () => {
      await webhook({ url: `${base}/texts`, secret: SECRET, now: () => 1_800_000_000 }).send(MESSAGE)
      const [{ url, headers, body }] = gateway.received as [Received]
      assert.equal(url, '/texts')
      const { type, data, timestamp } = JSON.parse(body) as Record<string, unknown>
      assert.deepEqual([type, data], ['sms.send', { to: MESSAGE.to, text: MESSAGE.text }])
      assert.equal(timestamp, '2027-01-15T08:00:00.000Z')
      const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`
      const mac = createHmac('sha256', Buffer.alloc(32, 7)).update(signed).digest('base64')
      assert.equal(headers['webhook-signature'], `v1,${mac}`)
      assert.equal(headers['webhook-timestamp'], '1800000000')
    })
    it('names each message anew', async () => {
      for (let sent = 0; sent < 2; sent++) await webhook({ url: base, secret: SECRET }).send(MESSAGE)
      assert.equal(new Set(gateway.received.map(({ headers }) => headers['webhook-id'])).size, 2)
    })
    for (const answer of [
      { status: 500, body: 'oops 12025550123' },
      { status: 302, body: '', headers: { location: 'https://elsewhere.example' } },
      { status: 404, body: '' },
    ])
      it(`fails on ${answer.status}, and says neither number nor text`, async () => {
        gateway.answer = answer
        await assert.rejects(webhook({ url: base, secret: SECRET }).send(MESSAGE), isSilent)
        assert.equal(gateway.received.length, 1, 'no redirect is followed, nothing is sent twice')
      })
    it('fails in time when nothing is answered, and when nobody listens', async () => {
      gateway.answer = 'never'
      await assert.rejects(webhook({ url: base, secret: SECRET, patienceMs: 100 }).send(MESSAGE), /in time/)
      gateway.close()
      await assert.rejects(webhook({ url: base, secret: SECRET }).send(MESSAGE), /cannot be reached/)
    })
    it('reads its secret as bytes', () => assert.deepEqual(secretBytes(SECRET), Buffer.alloc(32, 7)))
  })

  describe('Twilio', () => {
    const parts = () => ({ accountSid: SID, authToken: TOKEN, from: '+12025550100', base })
    const created = { sid: 'SM1', status: 'queued', error_code: null, error_message: null }

    it('gets the message as its REST API takes it', async () => {
      gateway.answer = { status: 201, body: JSON.stringify(created) }
      await twilio({ ...parts(), statusUrl: 'https://login.example/sms/twilio/status' }).send(MESSAGE)
      const [{ url, headers, body }] = gateway.received as [Received]
      assert.equal(url, `/2010-04-01/Accounts/${SID}/Messages.json`)
      assert.equal(headers.authorization, `Basic ${Buffer.from(`${SID}:${TOKEN}`).toString('base64')}`)
      assert.equal(headers['content-type'], 'application/x-www-form-urlencoded')
      assert.deepEqual(Object.fromEntries(new URLSearchParams(body)), {
        To: MESSAGE.to,
        From: '+12025550100',
        Body: MESSAGE.text,
        StatusCallback: 'https://login.example/sms/twilio/status',
      })
    })
    it('sends by a messaging service where that is named', async () => {
      gateway.answer = { status: 201, body: JSON.stringify(created) }
      await twilio({ ...parts(), from: `MG${'a'.repeat(32)}` }).send(MESSAGE)
      const form = new URLSearchParams(gateway.received[0]!.body)
      assert.deepEqual([form.get('MessagingServiceSid'), form.get('From')], [`MG${'a'.repeat(32)}`, null])
    })
    const refusal = { code: 21211, message: "The 'To' number +12025550123 is not valid", status: 400 }
    const wrong: [string, { status: number; body: string }, RegExp][] = [
      ['an error with a code', { status: 400, body: JSON.stringify(refusal) }, /answered 400, code 21211$/],
      ['an error without', { status: 401, body: '<html>' }, /answered 401$/],
      ['what is no message', { status: 200, body: '<html>123456</html>' }, /no message/],
      ['nothing', { status: 201, body: '' }, /no message/],
      ['null', { status: 201, body: 'null' }, /no message/],
      [
        'a text that failed at once',
        { status: 201, body: JSON.stringify({ ...created, status: 'failed', error_code: 30006 }) },
        /did not take the text, code 30006/,
      ],
    ]
    for (const [what, answer, message] of wrong)
      it(`fails on ${what}, and says neither number nor text`, async () => {
        gateway.answer = answer
        await assert.rejects(
          twilio(parts()).send(MESSAGE),
          (error: Error) => message.test(error.message) && isSilent(error),
        )
      })
    it('fails in time', async () => {
      gateway.answer = 'never'
      await assert.rejects(twilio({ ...parts(), patienceMs: 100 }).send(MESSAGE), /in time/)
    })

    it('signs callbacks over the address and the sorted parameters (the example of its documentation)', () => {
      const url = 'https://example.com/myapp.php?foo=1&bar=2'
      const params = { CallSid: 'CA1234567890ABCDE', Caller: '+14158675310', Digits: '1234', From: '+14158675310' }
      const all = { ...params, To: '+18005551212' }
      const signed = twilioSignature('12345', url, all)
      assert.equal(signed, 'L/OH5YylLD5NRKLltdqwSvS0BnU=')
      assert.equal(isTwilios('12345', url, all, signed), true)
      assert.equal(isTwilios('12345', url, { ...all, Digits: '1235' }, signed), false)
      assert.equal(isTwilios('12346', url, all, signed), false)
      assert.equal(isTwilios('12345', `${url}0`, all, signed), false)
      assert.equal(isTwilios('12345', url, all, ''), false)
    })
  })

  it('a watched gateway tells of its last failure, for ten minutes or until a text goes out', async () => {
    let fails = true
    let at = 1000
    const one = watched({ send: async () => (fails ? Promise.reject(new Error('down')) : undefined) }, () => at)
    assert.equal(one.trouble(at), undefined)
    await assert.rejects(one.send(MESSAGE), /down/)
    assert.equal(one.trouble(1599), 'down')
    assert.equal(one.trouble(1600), undefined)
    fails = false
    at = 1100
    await one.send(MESSAGE)
    assert.equal(one.trouble(1100), undefined)
  })
})

describe('texts by a gateway that does not work', () => {
  let test: TestHouse
  let gateway: Gateway
  before(async () => {
    gateway = new Gateway()
    const url = await gateway.open()
    test = await openTestHouse({ SALLYPORT_SMS: `webhook:${url}`, SALLYPORT_SMS_SECRET: SECRET })
  })
  after(async () => {
    await test.close()
    gateway.close()
  })

  it('a person is told, keeps what they typed, is not made to wait, and can take the app instead', async () => {
    const id = await test.person('down@best.example', 'payee')
    const visitor = test.visitor()
    const required = await signIn(visitor, await visitor.go(test.authUrl()), 'down@best.example')
    const choose = await visitor.go(required.at.replace(/\/required.*/, '/choose'))
    const form = await visitor.submit(choose, { method: 'sms' })
    const ready = async () => (await (await fetch(`${test.url}/readyz`)).json()) as { status: string }
    assert.equal((await ready()).status, 'ok')
    gateway.answer = { status: 503, body: 'nonsense' }
    // More often than a person may send: what did not go out is not counted.
    for (let tries = 0; tries < 8; tries++) {
      const failed = await visitor.submit(form, { country: 'US', phone: '202 555 0123' })
      assert.deepEqual([failed.status, headingOf(failed)], [503, 'Set Up SMS Verification'])
      assert.match(failed.text, /Nothing is lost: try again, or use another way/)
      assert.match(failed.text, /value="202 555 0123"/)
      assert.match(failed.text, /Use another way/)
    }
    assert.equal((await ready()).status, 'degraded')
    gateway.answer = { status: 204, body: '' }
    const enter = await visitor.submit(form, { country: 'US', phone: '202 555 0123' })
    assert.equal(headingOf(enter), 'Enter the 6-Digit Verification Code')
    const { data } = JSON.parse(gateway.received.at(-1)!.body) as { data: { to: string; text: string } }
    const shown = await visitor.submit(enter, { code: data.text.slice(0, 6) })
    assert.equal(headingOf(shown), 'Almost There')
    assert.equal((await ready()).status, 'ok')
    const rows = await test.database.auditReader.auditRows({ accountId: id, event: 'sms.sent' })
    assert.deepEqual(rows.map(({ outcome }) => outcome).sort(), [...Array(8).fill('failure'), 'success'])
    assert.ok(!JSON.stringify(rows).includes('5550123'), 'the audit knows no number')
  })

  it('a number that the gateway refuses is counted: nobody asks it about any number of numbers', async () => {
    await test.person('probe@best.example', 'payee')
    const visitor = test.visitor()
    const required = await signIn(visitor, await visitor.go(test.authUrl()), 'probe@best.example')
    const form = await visitor.submit(await visitor.go(required.at.replace(/\/required.*/, '/choose')), {
      method: 'sms',
    })
    gateway.answer = { status: 400, body: 'no such number' }
    const before = gateway.received.length
    for (let tries = 0; tries < 5; tries++) await visitor.submit(form, { country: 'US', phone: `303 555 012${tries}` })
    assert.equal(gateway.received.length - before, 1)
  })

  it('a text that may have gone out is counted, so that a slow gateway is not made to send any number; its code is good', async () => {
    await test.person('slow@best.example', 'payee')
    const visitor = test.visitor()
    const required = await signIn(visitor, await visitor.go(test.authUrl()), 'slow@best.example')
    const form = await visitor.go(required.at.replace(/\/required.*/, '/phone'))
    gateway.answer = { status: 502, body: '' }
    const before = gateway.received.length
    const phone = { country: 'US', phone: '415 555 0123' }
    const failed = await visitor.submit(form, phone)
    assert.deepEqual([failed.status, headingOf(failed)], [504, 'Set Up SMS Verification'])
    const again = await visitor.submit(form, phone)
    assert.equal(headingOf(again), 'Enter the 6-Digit Verification Code', 'it may arrive after all')
    assert.equal(gateway.received.length, before + 1)
    const { data } = JSON.parse(gateway.received.at(-1)!.body) as { data: { text: string } }
    assert.equal(headingOf(await visitor.submit(again, { code: data.text.slice(0, 6) })), 'Almost There')
  })

  it('who has a phone only, where no texts are sent any more, is asked for the recovery code', async () => {
    const id = await test.person('left@best.example', 'payee')
    await test.database.factors.activate(id, {
      factor: { method: 'sms', phone: '+12025550123' },
      now: 1,
      factorVersion: 0,
      securityEpoch: 0,
      recoveryCodeId: 'code',
    })
    const without = await openTestHouse({}, { folder: test.folder })
    try {
      const visitor = without.visitor()
      const page = await signIn(visitor, await visitor.go(without.authUrl()), 'left@best.example')
      assert.equal(headingOf(page), 'Enter your recovery code')
    } finally {
      await without.close()
    }
  })
})

describe('callbacks of Twilio', () => {
  it('are taken when Twilio signed them, and from nobody else', async () => {
    const test = await openTestHouse({
      SALLYPORT_SMS: 'twilio',
      SALLYPORT_TWILIO_ACCOUNT_SID: SID,
      SALLYPORT_TWILIO_AUTH_TOKEN: TOKEN,
      SALLYPORT_TWILIO_FROM: '+12025550100',
    })
    try {
      const params = { MessageSid: 'SM1', MessageStatus: 'undelivered', ErrorCode: '30003', To: '+12025550123' }
      const send = (signature: string, method = 'POST') =>
        fetch(test.url + statusPath, {
          method,
          headers: { 'x-twilio-signature': signature },
          ...(method === 'POST' && { body: new URLSearchParams(params) }),
        })
      const right = twilioSignature(TOKEN, test.url + statusPath, params)
      assert.equal((await send(right)).status, 204)
      const line = test.logs.find((one) => one.includes('a text did not arrive'))
      assert.match(line ?? '', /"status":"undelivered","code":"30003"/)
      assert.ok(!test.logs.some((one) => one.includes('2025550123')))
      assert.equal((await send('')).status, 403)
      assert.equal((await send(`${right.slice(0, -2)}A=`)).status, 403)
      assert.equal((await send(right, 'GET')).status, 405)
      assert.equal(test.logs.filter((one) => one.includes('a text did not arrive')).length, 1)
    } finally {
      await test.close()
    }
  })
})

describe('settings of text messages', () => {
  const load = (env: Record<string, string>) => loadConfig(env, '/')
  const fails = (env: Record<string, string>, message: RegExp) =>
    assert.throws(
      () => load(env),
      (error: Error) => error instanceof ConfigError && message.test(error.message),
    )
  const twilioSettings = {
    SALLYPORT_SMS: 'twilio',
    SALLYPORT_TWILIO_ACCOUNT_SID: SID,
    SALLYPORT_TWILIO_AUTH_TOKEN: TOKEN,
    SALLYPORT_TWILIO_FROM: '+12025550100',
  }

  it('none by default; to the United States', () => {
    const config = load({})
    assert.deepEqual([config.SALLYPORT_SMS, config.SALLYPORT_SMS_COUNTRIES], [undefined, ['US']])
  })
  it('are whole, or the start stops and names what is missing', () => {
    fails({ SALLYPORT_SMS: 'pigeon' }, /^SALLYPORT_SMS: must be outbox, twilio, or webhook:/)
    fails({ SALLYPORT_SMS: 'webhook:http://sms.example' }, /^SALLYPORT_SMS: must be/)
    fails({ SALLYPORT_SMS: 'webhook:https://user:pw@sms.example' }, /^SALLYPORT_SMS: must be/)
    fails({ SALLYPORT_SMS: 'webhook:https://sms.example' }, /^SALLYPORT_SMS_SECRET: needed/)
    fails(
      { SALLYPORT_SMS: 'webhook:https://sms.example', SALLYPORT_SMS_SECRET: 'short' },
      /^SALLYPORT_SMS_SECRET: must/,
    )
    for (const name of Object.keys(twilioSettings).slice(1))
      fails({ ...twilioSettings, [name]: '' }, new RegExp(`^${name}: needed with SALLYPORT_SMS=twilio`))
    fails({ SALLYPORT_SMS_COUNTRIES: 'US,us' }, /^SALLYPORT_SMS_COUNTRIES: "us" is no country code/)
    fails({ SALLYPORT_SMS_COUNTRIES: ',' }, /^SALLYPORT_SMS_COUNTRIES: must name a country/)
    assert.deepEqual(load({ SALLYPORT_SMS_COUNTRIES: 'US, GB' }).SALLYPORT_SMS_COUNTRIES, ['US', 'GB'])
    assert.deepEqual(
      load({ SALLYPORT_SMS: 'webhook:https://sms.example/a', SALLYPORT_SMS_SECRET: SECRET }).SALLYPORT_SMS,
      {
        kind: 'webhook',
        url: 'https://sms.example/a',
      },
    )
  })
  it('hold secrets that no dump shows', () => {
    const dump = JSON.stringify(load({ ...twilioSettings, SALLYPORT_SMS_SECRET: SECRET }))
    assert.ok(!dump.includes(TOKEN) && !dump.includes(SECRET))
  })
  it('the outbox is refused in production', () => {
    const production = { NODE_ENV: 'production', SALLYPORT_ISSUER: 'https://login.example', SALLYPORT_KEYS: '/k' }
    fails({ ...production, SALLYPORT_SMS: 'outbox' }, /^SALLYPORT_SMS: outbox sends nothing/)
    assert.equal(load({ ...production, ...twilioSettings }).SALLYPORT_SMS?.kind, 'twilio')
  })
})
