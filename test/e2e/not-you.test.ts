/** "This was not me": what the link in a letter about a sign-in, or about any change, does. */
import assert from 'node:assert/strict'
import { NOT_ME_SECONDS } from '../../interactions/index.ts'
import { sallyportOf } from '../../server/provider.ts'
import { nextStep, wait } from '../support/clock.ts'
import { codeOf, errorOf, firstSignIn, hasCode, openTestHouse, signIn, type TestHouse } from '../support/house.ts'
import { formOf, headingOf, type Visitor } from '../support/visitor.ts'

describe('this was not me', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  const person = async () => {
    people += 1
    const email = `notme${people}@payor.example`
    const id = await test.person(email)
    const signedIn = await firstSignIn(test, email)
    nextStep()
    return { id, email, ...signedIn }
  }
  /** The link of a letter, as its reader gets it. */
  const linkIn = async (accountId: string, kind: string) => {
    const states = await test.database.outbox.list({ accountId, limit: 99 })
    const state = states.find((one) => one.kind === kind)!
    const { text } = sallyportOf(test.house).letters.write({
      kind,
      accountId,
      body: (await test.database.outbox.read(state.id))!,
    })
    return /This was not me: (\S+)/.exec(text)![1]!
  }
  const silently = (visitor: Visitor) => visitor.clone().go(test.authUrl({ prompt: 'none' }))
  const epochOf = async (id: string) => (await test.database.accounts.find(id))!.securityEpoch

  it('ends all sessions of the account, tokens too, signs nobody in, and leads to a new password', async () => {
    const ana = await person()
    const device = test.visitor()
    const page = await signIn(device, await device.go(test.authUrl({ client_id: 'strict' })), ana.email)
    const answer = await device.submit(page, { code: await codeOf(ana.secret) })
    const tokens = await test.exchange(answer, 'strict')
    const link = await linkIn(ana.id, 'new_device')

    const owner = test.visitor()
    const asked = await owner.go(link)
    assert.equal(headingOf(asked), 'Was this not you?')
    assert.equal(asked.at, `${test.url}/not-you`)
    assert.ok(hasCode(await silently(device)), 'a GET ends nothing')
    const done = await owner.submit(asked)
    assert.equal(headingOf(done), 'All sessions have ended')
    assert.match(done.text, /href="\/forgot"/)
    for (const visitor of [device, ana.visitor, owner]) assert.equal(errorOf(await silently(visitor)), 'login_required')
    const refreshed = await test.token(
      { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! },
      'strict',
    )
    assert.equal(refreshed.error, 'invalid_grant')
    assert.equal((await test.database.auditReader.auditRows({ event: 'account.not_me' }))[0]?.accountId, ana.id)
  })

  it('ends a half-finished sign-in too', async () => {
    const ana = await person()
    const thief = test.visitor()
    const challenge = await signIn(thief, await thief.go(test.authUrl()), ana.email)
    const owner = test.visitor()
    await owner.submit(await owner.go(await linkIn(ana.id, 'new_device')))
    assert.equal(hasCode(await thief.submit(challenge, { code: await codeOf(ana.secret) })), false)
  })

  it('does so once: a later session is not ended by the same letter', async () => {
    const ana = await person()
    const link = await linkIn(ana.id, 'app_added')
    const owner = test.visitor()
    const page = await owner.go(link)
    await owner.submit(page)
    const epoch = await epochOf(ana.id)
    assert.equal(headingOf(await owner.go(link)), 'All sessions have ended')
    const { action, hidden } = formOf(page)
    await owner.request(action, { form: hidden })
    assert.equal(await epochOf(ana.id), epoch)
  })

  it('does nothing by a link that was changed, is of another person, or is too old; its page still helps', async () => {
    const [ana, bob] = [await person(), await person()]
    const link = new URL(await linkIn(ana.id, 'new_device'))
    const [said, mac] = link.searchParams.get('token')!.split('.') as [string, string]
    const bobs = Buffer.from(JSON.stringify([bob.id, 1])).toString('base64url')
    const epochs = [await epochOf(ana.id), await epochOf(bob.id)]
    for (const token of [`${bobs}.${mac}`, `${said}.${'0'.repeat(64)}`, said, `${said}.`, '']) {
      const visitor = test.visitor()
      const page = await visitor.go(`${test.url}/not-you?${new URLSearchParams({ token })}`)
      assert.equal(headingOf(page), 'Somebody else may be using your account', token)
      assert.match(page.text, /href="\/forgot"/)
      await visitor.request(`${test.url}/not-you`, { form: {} })
    }
    const late = test.visitor()
    const page = await late.go(link.href)
    wait(NOT_ME_SECONDS)
    await late.submit(page)
    assert.equal(headingOf(await late.go(link.href)), 'Somebody else may be using your account')
    assert.deepEqual([await epochOf(ana.id), await epochOf(bob.id)], epochs)
  })

  it('takes no form of another site or without its token', async () => {
    const ana = await person()
    const owner = test.visitor()
    const page = await owner.go(await linkIn(ana.id, 'new_device'))
    const { action, hidden } = formOf(page)
    const headers = { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }
    assert.equal((await owner.request(action, { form: hidden, headers })).status, 403)
    assert.equal((await owner.request(action, { form: {} })).status, 403)
    assert.ok(hasCode(await silently(ana.visitor)))
  })
})
