/** What sending texts may cost: limits by person, number, network, prefix and country, and the breaker (toll fraud). */
import assert from 'node:assert/strict'
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import { loadLanguages } from '../../interactions/kit/messages.ts'
import type { Visit } from '../../interactions/kit/room.ts'
import type { Account } from '../../interactions/kit/stores.ts'
import { NotSent, type SmsMessage, type SmsOptions } from '../../interactions/kit/texts.ts'
import { createTexts } from '../../interactions/texts.ts'
import { now, wait } from '../support/clock.ts'
import { openTestHouse, signIn, type TestHouse } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'
import { codeByText, TEXTS, textsTo } from '../support/texts.ts'
import { headingOf } from '../support/visitor.ts'

const ENTER = 'Enter the 6-Digit Verification Code'

describe('limits of texts', () => {
  let test: TestHouse
  let people = 0
  const sentTo = new Map<string, number>()
  beforeEach(async () => {
    test = await openTestHouse({ ...TEXTS, SALLYPORT_SMS_PER_COUNTRY_AND_DAY: '60' })
  })
  afterEach(() => test.close())
  after(() => sentTo.clear())

  /** A person who knows their password, at the page that takes a number, in a network of their own. */
  const atPhone = async (address?: string) => {
    people += 1
    const email = `limit${people}@best.example`
    const id = await test.person(email, 'payee')
    const visitor = test.visitor()
    if (address !== undefined) Object.assign(visitor, { address })
    const required = await signIn(visitor, await visitor.go(test.authUrl()), email)
    const form = await visitor.go(required.at.replace(/\/required.*/, '/phone'))
    return { id, visitor, form, give: (phone: string) => visitor.submit(form, { country: 'US', phone }) }
  }
  const sent = async () => {
    const rows = await test.database.outbox.list({ limit: 10_000 })
    return rows.filter(({ channel }) => channel === 'sms').length
  }

  it('one prefix gets twenty in ten minutes, whoever asks from wherever (1,000 numbers, many addresses)', async () => {
    // 40 people suffice to ask 40 times at once; the other 960 would be told the same.
    const all = await Promise.all(Array.from({ length: 40 }, () => atPhone()))
    const answers = []
    for (const [index, { give }] of all.entries()) answers.push(await give(`202 555 ${1000 + index}`))
    assert.equal(await sent(), 20)
    for (const answer of answers) assert.equal(headingOf(answer), ENTER, 'nobody is told which number was one too many')
  })

  it('1,000 numbers of one prefix: what the counters let through is twenty', async () => {
    const { throttle } = test.database
    const texts = textsOf({})
    // Of what the tests before have sent nothing counts any more.
    const later = now() + 2 * 24 * 60 * 60
    let taken = 0
    for (let index = 0; index < 1000; index++) {
      const visit = visitOf(`person-${index}`, `10.9.${index >> 8}.${index & 255}`)
      const { allowed } = await throttle.take(
        texts.limits(visit, 'enrolment', `+1202555${String(index).padStart(4, '0')}`),
        later,
      )
      if (allowed) taken += 1
    }
    assert.equal(taken, 20)
  })

  it('one person gets five in an hour and ten in a day, whatever the number, and is told', async () => {
    const { id } = await atPhone()
    const { email } = (await test.database.accounts.find(id))!
    const blocks = ['202 555', '212 555', '303 555', '415 555', '512 555', '617 555', '702 555']
    const counts = []
    for (let hour = 0; hour < 3; hour++) {
      // An interaction lives for an hour.
      const visitor = test.visitor()
      const required = await signIn(visitor, await visitor.go(test.authUrl()), email)
      const form = await visitor.go(required.at.replace(/\/required.*/, '/phone'))
      for (const [index, block] of blocks.entries()) {
        const answer = await visitor.submit(form, { country: 'US', phone: `${block} 01${hour}${index}` })
        if (answer.status === 429) assert.match(answer.text, /asked for too many codes/)
        wait(5 * 60)
      }
      counts.push((await textsTo(test, id)).length)
      wait(60 * 60 - blocks.length * 5 * 60)
    }
    assert.deepEqual(counts, [5, 10, 10])
  })

  it('one number gets five in an hour, whoever asks', async () => {
    const counts = []
    for (let index = 0; index < 8; index++) {
      const { id, give } = await atPhone()
      assert.equal(headingOf(await give('202 555 0123')), ENTER)
      counts.push((await textsTo(test, id)).length)
    }
    assert.deepEqual(counts, [1, 1, 1, 1, 1, 0, 0, 0])
  })

  it('strangers who say that a number is theirs do not keep its owner from a code', async () => {
    const owner = await atPhone()
    const email = (await test.database.accounts.find(owner.id))!.email
    const page = await owner.give('202 555 0123')
    await owner.visitor.submit(page, { code: await codeByText(test, owner.id) })
    for (let index = 0; index < 8; index++) await (await atPhone()).give('202 555 0123')
    wait(31)
    const again = test.visitor()
    await again.submit(await signIn(again, await again.go(test.authUrl()), email), { resend: 'yes' })
    assert.equal((await textsTo(test, owner.id)).length, 2)
  })

  it('one network gets ten in an hour', async () => {
    let count = 0
    for (let index = 0; index < 13; index++) {
      const { id, give } = await atPhone('192.0.2.77')
      await give(`415 55${index % 10} 0123`)
      count += (await textsTo(test, id)).length
    }
    assert.equal(count, 10)
  })

  it('who guesses a code that was never sent does not find one', async () => {
    for (let index = 0; index < 5; index++) await (await atPhone()).give('202 555 0123')
    const { visitor, give } = await atPhone()
    const enter = await give('202 555 0123')
    for (const code of ['000000', '123456']) {
      const refused = await visitor.submit(enter, { code })
      assert.equal(refused.status, 400)
      assert.match(refused.text, /not right or has expired/)
    }
  })

  it('a password is needed first: no page of a stranger sends anything', async () => {
    const visitor = test.visitor()
    const page = await visitor.go(test.authUrl())
    for (const segment of ['phone', 'sms', 'choose']) {
      const { hidden } = await import('../support/visitor.ts').then(({ formOf }) => formOf(page))
      await visitor.go(`${page.at}/${segment}`, { form: { ...hidden, country: 'US', phone: '202 555 0123' } })
    }
    assert.equal(await sent(), 0)
  })

  const outgoing: SmsMessage[] = []
  const database = () => openSqlite({ file: `${temporaryFolder()}/texts.sqlite`, sealer: keyRing })
  const keyRing = new KeyRing(newKeyRing())
  const visitOf = (id: string, network = '192.0.2.1', now = 1_800_000_000): Visit =>
    ({
      cid: `cid-${id}`,
      now,
      expiresAt: now + 3600,
      network,
      account: { id, factorVersion: 0, memberships: [] } as unknown as Account,
      client: { id: 'payments', name: 'Payments', firstParty: true },
      messages: loadLanguages().best(['en']),
    }) as unknown as Visit
  const textsOf = (more: Partial<SmsOptions>, pending: Parameters<typeof createTexts>[0]['pending'] = {} as never) =>
    createTexts({
      sms: {
        countries: ['US', 'GB'],
        perCountryAndDay: 100,
        gateway: { send: async (message) => void outgoing.push(message) },
        ...more,
      },
      pending,
      keyRing,
      brand: 'Sallyport',
      host: 'login.example',
    })

  describe('of the plugin', () => {
    beforeEach(() => outgoing.splice(0))

    it('a number whose SIM was changed a short while ago gets nothing: another way is taken (R71)', async () => {
      const db = await database()
      const asked: object[] = []
      const allows = async (about: object) => {
        asked.push(about)
        return false
      }
      const texts = textsOf({ allows }, db.pending)
      const visit = visitOf('ana')
      await assert.rejects(texts.send(visit, 'challenge', '+12025550123'), { code: 'sms_not_now' })
      assert.deepEqual(asked, [{ phone: '+12025550123', accountId: 'ana' }])
      assert.deepEqual([outgoing.length, await texts.sent(visit, 'challenge')], [0, undefined])
      const broken = textsOf({ allows: () => Promise.reject(new Error('down')) }, db.pending)
      await assert.rejects(broken.send(visit, 'challenge', '+12025550123'), { code: 'sms_failed', status: 503 })
      assert.equal(outgoing.length, 0)
      await db.close()
    })

    it('after fifty codes of a country that did not come back it gets no more, others do', async () => {
      const db = await database()
      const texts = textsOf({}, db.pending)
      for (let index = 0; index < 50; index++) await texts.send(visitOf(`us-${index}`), 'enrolment', '+12025550123')
      // Whoever tries numbers out learns nothing.
      const visit = visitOf('us-51')
      await texts.send(visit, 'enrolment', '+12025550123')
      assert.equal(outgoing.length, 50)
      assert.ok(await texts.sent(visit, 'enrolment'))
      await texts.send(visitOf('gb'), 'enrolment', '+447400123456')
      assert.equal(outgoing.length, 51)
      // Who has a phone already is not kept out by those who try numbers out.
      for (let index = 0; index < 50; index++) await texts.send(visitOf(`own-${index}`), 'challenge', '+12025550123')
      assert.equal(outgoing.length, 101)
      await assert.rejects(texts.send(visitOf('us-52'), 'challenge', '+12025550123'), { code: 'sms_not_now' })
      await texts.send(visitOf('us-53', '192.0.2.1', 1_800_000_000 + 1800), 'challenge', '+12025550123')
      assert.equal(outgoing.length, 102, 'after half an hour it is tried again')
      await db.close()
    })

    it('what a gateway that was down did not send is no code that did not come back; what it may have sent is', async () => {
      const db = await database()
      let fails: Error | undefined = new NotSent('down')
      const gateway = {
        async send(message: SmsMessage) {
          if (fails) throw fails
          outgoing.push(message)
        },
      }
      const texts = textsOf({ gateway }, db.pending)
      const send = (index: number) => texts.send(visitOf(`p-${index}`), 'challenge', '+12025550123')
      for (let index = 0; index < 60; index++) await assert.rejects(send(index), { code: 'sms_failed', status: 503 })
      fails = undefined
      await send(60)
      assert.equal(outgoing.length, 1, 'back again, it sends at once')
      fails = new Error('nobody knows')
      for (let index = 0; index < 49; index++) await assert.rejects(send(index), { code: 'sms_failed', status: 504 })
      await assert.rejects(send(61), { code: 'sms_not_now' })
      await db.close()
    })

    it('a code is good for its person, chain, purpose and factors, and for the newest only; once', async () => {
      const db = await database()
      const texts = textsOf({}, db.pending)
      const visit = visitOf('ana')
      const send = async () => {
        await texts.send(visit, 'challenge', '+12025550123')
        return outgoing.at(-1)!.text.slice(0, 6)
      }
      const first = await send()
      const code = await send()
      const other = (more: object) => ({ ...visit, ...more }) as Visit
      const account = visit.account as Account
      assert.equal(await texts.take(visit, 'enrolment', code), undefined)
      assert.equal(await texts.take(other({ cid: 'another' }), 'challenge', code), undefined)
      assert.equal(await texts.take(other({ account: { ...account, id: 'bob' } }), 'challenge', code), undefined)
      assert.equal(await texts.take(other({ account: { ...account, factorVersion: 1 } }), 'challenge', code), undefined)
      assert.equal(await texts.take(other({ now: visit.now + 300 }), 'challenge', code), undefined)
      if (first !== code) assert.equal(await texts.take(visit, 'challenge', first), undefined)
      const taken = await Promise.all(Array.from({ length: 20 }, () => texts.take(visit, 'challenge', code)))
      assert.deepEqual(taken.filter(Boolean), ['+12025550123'])
      await db.close()
    })

    it('names the app in any language, short, on one line; the last line is the origin-bound code', async () => {
      const db = await database()
      const texts = textsOf({}, db.pending)
      for (const [lang, start] of [
        ['en', /^\d{6} is your sign-in code for Evil @x #1/],
        ['es', /^\d{6} es su código de acceso a Evil/],
        ['fr', /^\d{6} est votre code de connexion à Evil/],
      ] as const) {
        const client = { id: 'evil', name: `Evil\n\n@x #1${'y'.repeat(200)}`, firstParty: false }
        const visit = { ...visitOf(`ana-${lang}`), client, messages: loadLanguages().best([lang]) }
        await texts.send(visit, 'challenge', '+12025550123')
        const lines = outgoing.at(-1)!.text.split('\n')
        assert.equal(lines.length, 3)
        assert.match(lines[0]!, start)
        assert.match(lines[2]!, /^@login\.example #\d{6}$/)
        assert.equal(lines[2]!.slice(-6), lines[0]!.slice(0, 6))
        assert.ok(lines[0]!.length < 160)
      }
      await db.close()
    })
  })
})
