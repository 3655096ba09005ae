/** Another address to sign in with, and a second one for letters: proven by a link, told of, taken back. */
import assert from 'node:assert/strict'
import type { Letter } from '../../interactions/index.ts'
import { nextStep, wait } from '../support/clock.ts'
import {
  CHALLENGE,
  codeOf,
  errorOf,
  firstSignIn,
  hasCode,
  openTestHouse,
  signIn,
  stolen,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const HOUR = 60 * 60
const DAY = 24 * HOUR
const FORWARD = {
  id: 'sso',
  company: 'acme',
  domains: ['forward.example'],
  mode: 'forward' as const,
  state: 'active' as const,
  jit: false,
  trustedContexts: [],
  idp: { entityId: 'urn:idp', ssoUrl: 'https://idp.example', binding: 'redirect' as const, certificates: [] },
  keys: [],
  attributes: {},
}

describe('addresses of an account', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse(
      {},
      {
        connections: {
          connection: async () => undefined,
          connectionFor: async (domain) => (domain === 'forward.example' ? FORWARD : undefined),
          anyFor: async () => true,
        },
      },
    )
  })
  after(() => test.close())

  const payor = async () => {
    people += 1
    const email = `addresses${people}@payor.example`
    const id = await test.person(email)
    const signedIn = await firstSignIn(test, email)
    nextStep()
    return { id, email, wanted: `wanted${people}@new.example`, ...signedIn }
  }
  const open = (visitor: Visitor, page = '') => visitor.go(`${test.url}/account${page}`)
  const silently = (visitor: Visitor) => visitor.clone().go(test.authUrl({ prompt: 'none' }))
  const emailOf = async (id: string) => (await test.database.accounts.find(id))!.email
  const letters = async (accountId: string, kind?: string) => {
    const states = await test.database.outbox.list({ accountId, limit: 99 })
    const found = states.filter((one) => kind === undefined || one.kind === kind)
    return Promise.all(
      found.map(async ({ id, kind: named }) => ({
        kind: named,
        ...(JSON.parse((await test.database.outbox.read(id))!) as Letter),
      })),
    )
  }
  const seen = new Set<string>()
  /** Of the newest letter: of two in one second the one that was not there before. */
  const linkIn = async (accountId: string, kind: string) => {
    const links = (await letters(accountId, kind)).map(({ link }) => link!)
    const link = links.find((one) => !seen.has(one)) ?? links[0]!
    seen.add(link)
    return link
  }
  const events = async (id: string) =>
    (await test.database.auditReader.auditRows({ accountId: id, limit: 100 })).map(({ event }) => event)
  const ask = async (visitor: Visitor, email: string, page = '/email') =>
    visitor.submit(await open(visitor, page), { email })
  /** Asks for another address and opens the letter's link. */
  const changed = async (person: { id: string; visitor: Visitor; wanted: string }) => {
    await ask(person.visitor, person.wanted)
    const page = await person.visitor.go(await linkIn(person.id, 'email_confirm'))
    return person.visitor.submit(page, { confirm: 'yes' })
  }

  describe('the one to sign in with', () => {
    it('changes when the link that went to the new one is used; the former one is told, and signs nobody in (R76)', async () => {
      const person = await payor()
      const sent = await ask(person.visitor, person.wanted.toUpperCase())
      assert.match(sent.text, /We sent a link to the address/)
      assert.ok(sent.text.includes(person.wanted))
      const [asked] = await letters(person.id, 'email_confirm')
      assert.equal(asked!.to, person.wanted)
      assert.equal(await emailOf(person.id), person.email)
      assert.ok(!(await stolen(test)).includes(new URL(asked!.link!).searchParams.get('token')!))

      const page = await person.visitor.go(asked!.link!)
      assert.equal(headingOf(page), 'Use this address?')
      assert.doesNotMatch(page.at, /token/)
      assert.equal(await emailOf(person.id), person.email, 'a GET changes nothing')
      const done = await person.visitor.submit(page, { confirm: 'yes' })
      assert.match(done.text, /Your email address was changed/)
      assert.equal(await emailOf(person.id), person.wanted)
      assert.ok(hasCode(await silently(person.visitor)), 'the session goes on')

      const [warning] = await letters(person.id, 'email_changed')
      assert.equal(warning!.to, person.email)
      assert.ok(warning!.link!.startsWith(`${test.url}/undo?token=`))
      assert.deepEqual(
        (await letters(person.id, 'email_now')).map(({ to }) => to),
        [person.wanted],
      )
      assert.ok((await events(person.id)).includes('account.email_changed'))
      const former = test.visitor()
      assert.equal((await signIn(former, await former.go(test.authUrl()), person.email)).status, 400)
      const fresh = test.visitor()
      assert.equal(headingOf(await signIn(fresh, await fresh.go(test.authUrl()), person.wanted)), CHALLENGE)
    })

    it('does not change by a link that was used, is too old, or whose place a newer one has taken', async () => {
      const person = await payor()
      await ask(person.visitor, person.wanted)
      const first = await linkIn(person.id, 'email_confirm')
      await ask(person.visitor, `other.${person.wanted}`)
      const replaced = await person.visitor.go(first)
      assert.equal(replaced.status, 400)
      assert.match(replaced.text, /a newer one has taken its place/)
      const all = await letters(person.id, 'email_confirm')
      const { link } = all.find((one) => one.link !== first)!
      wait(HOUR - 60)
      const page = await person.visitor.go(link!)
      wait(60)
      assert.equal((await person.visitor.submit(page, { confirm: 'yes' })).status, 400)
      assert.equal(await emailOf(person.id), person.email)
    })

    it('changes once of twenty clicks, and the page says so after', async () => {
      const person = await payor()
      await ask(person.visitor, person.wanted)
      const link = await linkIn(person.id, 'email_confirm')
      const page = await person.visitor.go(link)
      const { action, hidden } = formOf(page)
      const form = { ...hidden, confirm: 'yes' }
      // As over a network, where one reads what another has written already.
      const { directory } = test.database
      const user = directory.user.bind(directory)
      let calls = 0
      directory.user = async (one) => {
        calls += 1
        await new Promise((resolve) => setTimeout(resolve, calls * 5))
        return user(one)
      }
      const clicks = Array.from({ length: 20 }, () => person.visitor.clone().request(action, { form }))
      const statuses = new Set((await Promise.all(clicks)).map(({ status }) => status))
      directory.user = user
      assert.deepEqual([...statuses].sort(), [303, 400])
      assert.equal(await emailOf(person.id), person.wanted)
      assert.equal((await letters(person.id, 'email_changed')).length, 1)
      assert.equal((await events(person.id)).filter((event) => event === 'account.email_changed').length, 1)
      assert.match((await person.visitor.go(link)).text, /This link has been used/)
    })

    it('of a new password by a link of before and a change in one moment, one counts', async () => {
      for (const [what, last] of [
        ['email', 2],
        ['password', 3],
      ] as const) {
        const person = await payor()
        await ask(person.visitor, person.wanted)
        const page =
          what === 'email'
            ? await person.visitor.go(await linkIn(person.id, 'email_confirm'))
            : await open(person.visitor, '/password')
        const fields = what === 'email' ? { confirm: 'yes' } : { new_password: 'a thief has long words' }
        const { email, securityEpoch: epoch } = (await test.database.accounts.find(person.id))!
        const hash = `reset${person.id}`
        await test.database.passwords.issueLink(person.id, 'reset', { hash, email, epoch, expiresAt: 1e11 }, [])
        // The last that is read before anything is written.
        const { directory } = test.database
        const user = directory.user.bind(directory)
        let looks = 0
        let set: unknown
        directory.user = async (one) => {
          const found = await user(one)
          looks += 1
          if (looks === last)
            set = await test.database.passwords.setByLink(hash, { passwordHash: 'owner', now: 1, messages: [] })
          return found
        }
        const answer = await person.visitor.submit(page, fields)
        directory.user = user
        const isChanged =
          what === 'email' ? (await emailOf(person.id)) !== person.email : /Your password was changed/.test(answer.text)
        assert.deepEqual([isChanged, set], [true, undefined], what)
      }
    })

    it('ends the other sessions; nothing of before it counts', async () => {
      const person = await payor()
      const other = test.visitor()
      const challenge = await signIn(other, await other.go(test.authUrl()), person.email)
      nextStep()
      assert.ok(hasCode(await other.submit(challenge, { code: await codeOf(person.secret) })))
      await changed(person)
      assert.equal(errorOf(await silently(other)), 'login_required')
      assert.ok(hasCode(await silently(person.visitor)), 'this one goes on')
    })

    it('of two people who confirm one address at once one gets it', async () => {
      const [one, other] = [await payor(), await payor()]
      const forms = []
      for (const person of [one, other]) {
        await ask(person.visitor, one.wanted)
        forms.push({ person, page: await person.visitor.go(await linkIn(person.id, 'email_confirm')) })
      }
      const answers = await Promise.all(
        forms.map(({ person, page }) => person.visitor.submit(page, { confirm: 'yes' })),
      )
      assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 400])
      assert.match(answers.find(({ status }) => status === 400)!.text, /now belongs to another account/)
      const found = [await emailOf(one.id), await emailOf(other.id)]
      assert.equal(found.filter((email) => email === one.wanted).length, 1)
    })

    it('is asked for alike whether somebody has it; they are told, and nobody else can use the link', async () => {
      const [person, owner] = [await payor(), await payor()]
      const free = await ask(person.visitor, person.wanted)
      const taken = await ask(person.visitor, owner.email)
      const same = (answer: Answer, email: string) =>
        [
          answer.status,
          answer.at,
          answer.text.replaceAll(email, '').replace(/value="[^"]*"|nonce="[^"]*"/g, ''),
        ] as const
      assert.deepEqual(same(taken, owner.email), same(free, person.wanted))
      const [told] = await letters(owner.id, 'email_taken')
      assert.deepEqual([told!.to, told!.link], [owner.email, `${test.url}/account`])
      assert.equal((await letters(person.id, 'email_confirm')).length, 1, 'only that of the free one')
      assert.equal(await emailOf(owner.id), owner.email)
    })

    it('is proven by nobody else than who asked: a stranger with the letter gets nothing', async () => {
      const [person, thief] = [await payor(), await payor()]
      await ask(person.visitor, person.wanted)
      const link = await linkIn(person.id, 'email_confirm')
      await open(thief.visitor)
      const page = await thief.visitor.go(link)
      assert.match(page.text, /belongs to another account/)
      const { hidden } = formOf(await open(thief.visitor, '/name'))
      await thief.visitor.request(`${test.url}/account/email/confirm`, { form: { ...hidden, confirm: 'yes' } })
      assert.deepEqual([await emailOf(person.id), await emailOf(thief.id)], [person.email, thief.email])

      const nobody = test.visitor()
      assert.equal(headingOf(await nobody.go(link)), 'Sign in')
    })

    it('wants password and second factor of the last five minutes, and three letters an hour at most go to one address', async () => {
      const person = await payor()
      const page = await open(person.visitor, '/email')
      wait(5 * 60 + 1)
      assert.equal(headingOf(await person.visitor.submit(page, { email: person.wanted })), 'Sign in')
      assert.equal((await letters(person.id, 'email_confirm')).length, 0)
      const challenge = await signIn(person.visitor, await open(person.visitor, '/email'), person.email)
      await person.visitor.submit(challenge, { code: await codeOf(person.secret) })
      for (let count = 0; count < 3; count++) assert.equal((await ask(person.visitor, person.wanted)).status, 200)
      assert.equal((await ask(person.visitor, person.wanted)).status, 429)
      assert.equal((await letters(person.id, 'email_confirm')).length, 3)
    })

    it('refuses what is no address, the present one, and those of a company that signs its people in', async () => {
      const { visitor, email } = await payor()
      for (const [typed, said] of [
        ['', /Enter your email address/],
        ['nobody', /correct format/],
        ['ana\0@new.example', /correct format/],
        ['"ana lima"@new.example', /correct format/],
        [`${'a'.repeat(250)}@new.example`, /correct format/],
        [` ${email} `, /in your account already/],
        ['ana@forward.example', /People with an address at forward\.example sign in at their company/],
      ] as const) {
        const answer = await ask(visitor, typed)
        assert.equal(answer.status, 400, typed)
        assert.match(answer.text, said)
      }
    })

    it('is void after a new password, and after the end of all sessions', async () => {
      const person = await payor()
      await ask(person.visitor, person.wanted)
      const link = await linkIn(person.id, 'email_confirm')
      const page = await open(person.visitor, '/sessions')
      await person.visitor.submit(page, { others: 'yes' })
      assert.match((await person.visitor.go(link)).text, /has expired, or your account has changed/)
    })

    it('is not of people whose company signs them in: they are told whom to ask, and a forged form changes nothing', async () => {
      const person = await payor()
      const email = `person${people}@forward.example`
      const was = (await test.database.directory.user(person.id))!
      await ask(person.visitor, person.wanted)
      await test.database.directory.commit([{ kind: 'user', op: 'put', value: { ...was, email } }])
      const page = await open(person.visitor, '/email')
      assert.match(page.text, /Your company signs you in with its own address at forward\.example/)
      assert.doesNotMatch(page.text, /name="email"/)
      const { hidden } = formOf(await open(person.visitor, '/name'))
      const forged = await person.visitor.go(`${test.url}/account/email`, {
        form: { ...hidden, email: person.wanted },
      })
      assert.equal(forged.status, 400)
      const confirm = await person.visitor.go(await linkIn(person.id, 'email_confirm'))
      assert.equal((await person.visitor.submit(confirm, { confirm: 'yes' })).status, 400)
      assert.equal(await emailOf(person.id), email)
      // Nothing of a company's own: the second address is theirs.
      assert.equal((await ask(person.visitor, person.wanted, '/notices')).status, 200)
    })
  })

  describe('a change that was somebody else', () => {
    it('is taken back by the link in the letter to the former address: sessions end, the epoch rises, nobody is signed in', async () => {
      const person = await payor()
      await changed(person)
      const before = (await test.database.accounts.find(person.id))!.securityEpoch
      const owner = test.visitor()
      const page = await owner.go(await linkIn(person.id, 'email_changed'))
      assert.equal(headingOf(page), 'Bring your address back')
      assert.doesNotMatch(page.at, /token/)
      assert.equal(await emailOf(person.id), person.wanted, 'a GET changes nothing')
      const done = await owner.submit(page)
      assert.equal(headingOf(done), 'Your address is back')
      assert.match(done.text, /href="\/forgot"/)
      const { email, securityEpoch } = (await test.database.accounts.find(person.id))!
      assert.deepEqual([email, securityEpoch], [person.email, before + 1])
      assert.equal(errorOf(await silently(person.visitor)), 'login_required')
      assert.equal(errorOf(await silently(owner)), 'login_required')
      assert.deepEqual((await letters(person.id, 'email_restored')).map(({ to }) => to).sort(), [
        person.email,
        person.wanted,
      ])
      assert.ok((await events(person.id)).includes('account.email_restored'))
    })

    it('is taken back even after the thief set a new password and asked for yet another address', async () => {
      const person = await payor()
      await changed(person)
      assert.match((await open(person.visitor, '/email')).text, /can be taken back from the former address/)
      const { hidden } = formOf(await open(person.visitor, '/name'))
      const form = { ...hidden, email: `more.${person.wanted}` }
      assert.equal((await person.visitor.request(`${test.url}/account/email`, { form })).status, 400)
      const page = await open(person.visitor, '/password')
      await person.visitor.submit(page, { new_password: 'a thief has long words' })
      const thief = test.visitor()
      await thief.submit(await thief.go(`${test.url}/forgot`), { email: person.wanted })
      const owner = test.visitor()
      await owner.submit(await owner.go(await linkIn(person.id, 'email_changed')))
      assert.equal(await emailOf(person.id), person.email)
    })

    it('is taken back once of twenty clicks, not by a link that was used, and not after its days', async () => {
      const person = await payor()
      await changed(person)
      const link = await linkIn(person.id, 'email_changed')
      const owner = test.visitor()
      const { action, hidden } = formOf(await owner.go(link))
      const clicks = Array.from({ length: 20 }, () => owner.clone().request(action, { form: hidden }))
      assert.ok((await Promise.all(clicks)).every(({ status }) => [200, 400].includes(status)))
      assert.equal(await emailOf(person.id), person.email)
      assert.equal((await letters(person.id, 'email_restored')).length, 2, 'one to either address')
      assert.equal(headingOf(await owner.go(link)), 'This link has been used')

      const late = await payor()
      await changed(late)
      wait(7 * DAY)
      assert.equal(headingOf(await test.visitor().go(await linkIn(late.id, 'email_changed'))), 'This link has expired')
      assert.equal(await emailOf(late.id), late.wanted)
    })

    it('leaves a thief neither the password they know nor the second address they added: both are told', async () => {
      const person = await payor()
      const spy = `spy.${person.wanted}`
      await ask(person.visitor, spy, '/notices')
      await person.visitor.submit(await person.visitor.go(await linkIn(person.id, 'notice_confirm')), {
        confirm: 'yes',
      })
      await changed(person)
      const owner = test.visitor()
      const undo = await owner.go(await linkIn(person.id, 'email_changed'))
      assert.match(undo.text, /password and its second address for messages count no more/)
      await owner.submit(undo)
      assert.deepEqual(
        (await letters(person.id, 'email_restored')).map(({ to }) => to).sort(),
        [person.email, person.wanted, spy].sort(),
      )
      const thief = test.visitor()
      assert.equal((await signIn(thief, await thief.go(test.authUrl()), person.email)).status, 400)
      assert.equal((await test.database.accounts.find(person.id))!.noticeEmail, undefined)
      await owner.submit(await owner.go(`${test.url}/forgot`), { email: person.email })
      for (let looks = 0; (await letters(person.id, 'password_reset')).length === 0 && looks < 100; looks++)
        await new Promise((resolve) => setTimeout(resolve, 20))
      await owner.submit(await owner.go(await linkIn(person.id, 'password_reset')), {
        new_password: 'an owner has long words',
      })
      assert.deepEqual(
        (await letters(person.id, 'password_changed')).map(({ to }) => to),
        [person.email],
      )
    })

    it('is not taken back again by the same letter once the operator has moved the person', async () => {
      const person = await payor()
      const move = async (email: string) => {
        const user = (await test.database.directory.user(person.id))!
        await test.database.directory.commit([{ kind: 'user', op: 'put', value: { ...user, email } }])
      }
      await changed(person)
      const link = await linkIn(person.id, 'email_changed')
      const reader = test.visitor()
      const page = await reader.go(link)
      await reader.submit(page)
      await move(`moved.${person.wanted}`)
      assert.equal(headingOf(await reader.go(link)), 'This link does not work')
      await reader.submit(page)
      assert.equal(await emailOf(person.id), `moved.${person.wanted}`)
    })

    it('cannot be taken back when somebody else has the address by now: the page says so', async () => {
      const person = await payor()
      await changed(person)
      await test.person(person.email)
      const owner = test.visitor()
      const done = await owner.submit(await owner.go(await linkIn(person.id, 'email_changed')))
      assert.equal(headingOf(done), 'This address belongs to another account now')
      assert.equal(await emailOf(person.id), person.wanted)
    })

    it('needs the form of the page, and a link of this kind', async () => {
      const person = await payor()
      await changed(person)
      const owner = test.visitor()
      await owner.go(await linkIn(person.id, 'email_changed'))
      assert.equal((await owner.request(`${test.url}/undo`, { form: {} })).status, 403)
      const other = test.visitor()
      const token = new URL(await linkIn(person.id, 'email_confirm')).searchParams.get('token')
      assert.equal(headingOf(await other.go(`${test.url}/undo?token=${token}`)), 'This link does not work')
      assert.equal(await emailOf(person.id), person.wanted)
    })

    it('a former link to a new password is void, and none goes to the former address', async () => {
      const person = await payor()
      const visitor = test.visitor()
      await visitor.submit(await visitor.go(`${test.url}/forgot`), { email: person.email })
      for (let looks = 0; (await letters(person.id, 'password_reset')).length === 0 && looks < 100; looks++)
        await new Promise((resolve) => setTimeout(resolve, 20))
      await changed(person)
      const link = await linkIn(person.id, 'password_reset')
      assert.equal(headingOf(await test.visitor().go(link)), 'This link does not work')
    })
  })

  describe('a second one, for letters', () => {
    const added = async (person: { id: string; visitor: Visitor; wanted: string }) => {
      await ask(person.visitor, person.wanted, '/notices')
      const page = await person.visitor.go(await linkIn(person.id, 'notice_confirm'))
      assert.equal(headingOf(page), 'Send security messages here?')
      return person.visitor.submit(page, { confirm: 'yes' })
    }

    it('gets every letter of what happened once its link was used, and none before', async () => {
      const person = await payor()
      await ask(person.visitor, person.wanted, '/notices')
      await linkIn(person.id, 'notice_confirm')
      await person.visitor.submit(await open(person.visitor, '/name'), { name: 'Ana' })
      assert.deepEqual(
        (await letters(person.id, 'name_changed')).map(({ to }) => to),
        [person.email],
      )
      assert.match((await added(person)).text, /Security messages now go to both addresses/)
      const both = [person.email, person.wanted]
      assert.deepEqual((await letters(person.id, 'notice_added')).map(({ to }) => to).sort(), both)

      const device = test.visitor()
      const challenge = await signIn(device, await device.go(test.authUrl()), person.email)
      assert.ok(hasCode(await device.submit(challenge, { code: await codeOf(person.secret) })))
      assert.deepEqual((await letters(person.id, 'new_device')).map(({ to }) => to).sort(), [person.email, ...both])

      await person.visitor.submit(await open(person.visitor, '/password'), { new_password: 'a quite new battery' })
      assert.deepEqual((await letters(person.id, 'password_changed')).map(({ to }) => to).sort(), both)
      assert.ok(!(await test.database.accounts.findByEmail(person.wanted)), 'nobody signs in with it')
    })

    it('may be what somebody else signs in with: the answer is the same, and the letter goes there', async () => {
      const [person, other] = [await payor(), await payor()]
      const page = await ask(person.visitor, other.email, '/notices')
      assert.match(page.text, /We sent a link to the address/)
      const [asked] = await letters(person.id, 'notice_confirm')
      assert.equal(asked!.to, other.email)
    })

    it('is removed at once; both are told, and then the first alone', async () => {
      const person = await payor()
      await added(person)
      const page = await person.visitor.submit(await open(person.visitor, '/notices'), { remove: 'yes' })
      assert.match(page.text, /go to your first address only/)
      assert.deepEqual((await letters(person.id, 'notice_removed')).map(({ to }) => to).sort(), [
        person.email,
        person.wanted,
      ])
      await person.visitor.submit(await open(person.visitor, '/name'), { name: 'Ana' })
      assert.equal((await letters(person.id, 'name_changed')).length, 1)
    })

    it('is told of a change of the first one, and of the way back', async () => {
      const person = await payor()
      await added({ ...person, wanted: `notice.${person.wanted}` })
      await changed(person)
      assert.deepEqual((await letters(person.id, 'email_now')).map(({ to }) => to).sort(), [
        `notice.${person.wanted}`,
        person.wanted,
      ])
    })

    it('wants a fresh second factor, and is not proven by the link of the other kind', async () => {
      const person = await payor()
      const page = await open(person.visitor, '/notices')
      wait(5 * 60 + 1)
      assert.equal(headingOf(await person.visitor.submit(page, { email: person.wanted })), CHALLENGE)
      const challenge = await open(person.visitor, '/notices')
      await person.visitor.submit(challenge, { code: await codeOf(person.secret) })
      await ask(person.visitor, person.wanted, '/notices')
      const token = new URL(await linkIn(person.id, 'notice_confirm')).searchParams.get('token')
      const wrong = await person.visitor.go(`${test.url}/account/email/confirm?token=${token}`)
      assert.equal(wrong.status, 400)
      assert.equal(await emailOf(person.id), person.email)
    })
  })

  it('are changed by no form of another site or without its token', async () => {
    const person = await payor()
    await ask(person.visitor, person.wanted)
    const page = await person.visitor.go(await linkIn(person.id, 'email_confirm'))
    const { action, hidden } = formOf(page)
    const form = { ...hidden, confirm: 'yes' }
    const foreign = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }
    assert.equal((await person.visitor.request(action, { form, headers: foreign })).status, 403)
    assert.equal((await person.visitor.request(action, { form: { confirm: 'yes' } })).status, 403)
    assert.equal(await emailOf(person.id), person.email)
  })
})
