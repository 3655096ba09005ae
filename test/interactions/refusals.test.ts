/** What a person is told who is refused: how long, what to do next, and nothing that cannot be done. */
import assert from 'node:assert/strict'
import { codeCounter } from '../../interactions/challenge/factor.ts'
import { passwordCounter } from '../../interactions/index.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import { codeOf, firstSignIn, openTestHouse, PASSWORD, secretOn, signIn, type TestHouse } from '../support/house.ts'
import { type Answer, formOf, headingOf } from '../support/visitor.ts'

const summaryOf = ({ text }: Answer) =>
  /role="alert"[\s\S]*?<li>([\s\S]*?)<\/li>/.exec(text)?.[1]?.replace(/<[^>]+>/g, '') ?? ''

describe('refusals', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  /** As after a hundred wrong answers: no wait ends it. */
  const closeForGood = async (key: string) => {
    await test.database.throttle.take([{ key, rule: { kind: 'streak', every: 1000, wait: 1, disableAt: 1 } }], now())
  }
  const wrong = async (secret: string) => ((await codeOf(secret)) === '000000' ? '000001' : '000000')

  it('keeps the address that was typed, so that it can be mended (WCAG 3.3.1)', async () => {
    const visitor = test.visitor()
    const refused = await visitor.submit(await visitor.go(test.authUrl()), { email: 'ana@@acme.example' })
    assert.match(summaryOf(refused), /correct format/)
    assert.match(refused.text, /name="email"[^>]*value="ana@@acme\.example"/)
  })

  it('says on the password page that the address is missing, at the address', async () => {
    const visitor = test.visitor()
    const start = await visitor.go(test.authUrl())
    const page = await visitor.go(`${start.at}/password`)
    const refused = await visitor.submit(page, { password: PASSWORD })
    assert.equal(refused.status, 400)
    assert.match(refused.text, /<a href="#username">Enter your email address<\/a>/)
  })

  it('names no wait for passwords that are closed for good, the same for an unknown address', async () => {
    await test.person('closed@acme.example')
    const said = new Set<string>()
    for (const email of ['closed@acme.example', 'nobody-closed@acme.example']) {
      const attempt = async () => {
        const visitor = test.visitor()
        return signIn(visitor, await visitor.go(test.authUrl()), email, 'wrong wrong wrong wrong')
      }
      await attempt()
      await closeForGood(passwordCounter(email))
      const refused = await attempt()
      assert.equal(refused.status, 429)
      assert.equal(refused.headers.get('retry-after'), null)
      said.add(summaryOf(refused))
    }
    assert.equal(said.size, 1)
    assert.match([...said][0]!, /^Too many wrong passwords\..*ask for help\.$/)
  })

  it('leads from an app that is closed for good to the recovery code', async () => {
    await test.person('closed-app@acme.example')
    const { secret } = await firstSignIn(test, 'closed-app@acme.example')
    nextStep()
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), 'closed-app@acme.example')
    await visitor.submit(page, { code: await wrong(secret) })
    const { account } = (await test.database.accounts.findByEmail('closed-app@acme.example'))!
    await closeForGood(codeCounter('otp', account))
    const refused = await visitor.submit(page, { code: await codeOf(secret) })
    assert.equal(refused.status, 429)
    assert.match(summaryOf(refused), /no longer work.*Use your recovery code/)
    assert.match(refused.text, /<a href="[^"]+\/recovery">Use your recovery code<\/a>/)
  })

  it('makes a person wait at enrolment without naming a recovery code that is not there yet', async () => {
    await test.person('slow@acme.example')
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), 'slow@acme.example')
    const code = await wrong(secretOn(page))
    for (let i = 0; i < 10; i++) await visitor.submit(page, { code })
    const refused = await visitor.submit(page, { code })
    assert.equal(refused.status, 429)
    assert.match(summaryOf(refused), /^Too many attempts\. Try again in/)
    wait(61)
    assert.equal((await visitor.submit(page, { code })).status, 400)
  })

  it('says of a form from another site that it was none of ours, and leads back to the app', async () => {
    const visitor = test.visitor()
    const { action, hidden } = formOf(await visitor.go(test.authUrl()))
    const headers = { 'sec-fetch-site': 'cross-site' }
    const refused = await visitor.request(action, { form: { ...hidden, email: 'a@b.example' }, headers })
    assert.equal(headingOf(refused), 'This form did not come from our page')
    assert.match(refused.text, /class="button" href="https:\/\/rp\.example"/)
  })

  it('leads back to the app from a request that is wrong, if the app is known, to an address it registered', async () => {
    const wrongTarget = await test.visitor().go(test.authUrl({ redirect_uri: 'https://evil.example/callback' }))
    assert.equal(wrongTarget.status, 400)
    assert.match(wrongTarget.text, /class="button" href="https:\/\/rp\.example">Back to Payments/)
    const wrongClient = await test.visitor().go(test.authUrl({ client_id: 'nobody' }))
    assert.match(headingOf(wrongClient), /We do not know the app/)
    assert.match(wrongClient.text, /class="button" href="[^"]+">Choose the app you want to use/)
  })
})
