/** The relying party of the examples against a served provider. */
import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import { createApp } from '../../examples/relying-party/app.ts'
import { ACR_1FA, ACR_2FA_APP } from '../../interactions/policy.ts'
import { nextStep, wait } from '../support/clock.ts'
import { freePort } from '../support/free-port.ts'
import {
  acknowledge,
  CHALLENGE,
  CLIENT_SECRET,
  codeOf,
  enrol,
  openTestHouse,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, headingOf, Visitor } from '../support/visitor.ts'

describe('the relying party', () => {
  let test: TestHouse
  let url: string
  let server: Server
  let browser: Visitor
  /** What the browser keeps for the app; cookies of two ports of one host are not told apart by browsers either. */
  let app: Visitor
  let secret: string

  before(async () => {
    test = await openTestHouse()
    const port = await freePort()
    url = `http://127.0.0.1:${port}`
    const value = {
      client_id: 'example',
      client_name: 'Example',
      client_secret: CLIENT_SECRET,
      redirect_uris: [`${url}/callback`],
      post_logout_redirect_uris: [`${url}/`],
      sallyport: { first_party: true },
    }
    await test.database.directory.commit([{ kind: 'client', op: 'put', value }])
    await test.person('pia@city.example', 'standard')
    const koa = await createApp({ issuer: test.url, clientId: 'example', clientSecret: CLIENT_SECRET, url })
    server = createServer(koa.callback())
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    browser = test.visitor()
    app = new Visitor(url)
  })
  after(async () => {
    await new Promise((resolve) => server.close(resolve))
    await test.close()
  })

  /** Opens a page of the app and, if the app asks for something, the provider's page. */
  async function open(path: string): Promise<Answer> {
    const answer = await app.go(url + path)
    return answer.location === undefined ? answer : browser.go(answer.location)
  }
  /** Back at the app. */
  const back = async (answer: Answer) => JSON.parse((await app.go(answer.location!)).text) as Record<string, unknown>

  it('signs in by code and PKCE, and reads that it was a password', async () => {
    assert.equal(JSON.parse((await open('/')).text).sub, undefined)
    const told = await back(await signIn(browser, await open('/sign-in'), 'pia@city.example'))
    assert.equal(told['page'], '/')
    assert.deepEqual(told['amr'], ['pwd'])
    assert.equal(told['acr'], ACR_1FA)
  })

  it('asks for a second factor where a page needs one, by acr_values', async () => {
    const enrolled = await enrol(browser, await open('/beneficiaries'))
    secret = enrolled.secret
    const told = await back(await acknowledge(browser, enrolled.page))
    assert.equal(told['page'], '/beneficiaries')
    assert.deepEqual(told['amr'], ['pwd', 'otp', 'mfa'])
    assert.equal(told['acr'], ACR_2FA_APP)
  })

  it('asks for a new code where the last one is too old, by second_factor_max_age, and for no password', async () => {
    assert.equal((JSON.parse((await open('/transfer')).text) as { page: string }).page, '/transfer')
    wait(6 * 60)
    const challenge = await open('/transfer')
    assert.equal(headingOf(challenge), CHALLENGE)
    nextStep()
    const told = await back(await browser.submit(challenge, { code: await codeOf(secret) }))
    assert.equal(told['page'], '/transfer')
  })

  it('does not go round in circles when the person goes back instead', async () => {
    wait(6 * 60)
    const challenge = await open('/transfer')
    const answer = await browser.submit(challenge, {}, '/cancel')
    assert.deepEqual(await back(answer), { error: 'access_denied' })
  })

  it('takes no answer that another browser asked for', async () => {
    const stranger = new Visitor(url)
    await stranger.request(`${url}/sign-in`)
    const asked = await app.request(`${url}/sign-in`)
    const answer = await browser.go(asked.location!)
    const { status } = await stranger.go(answer.location!)
    assert.equal(status, 403)
  })

  it('signs out at both', async () => {
    await back(await open('/sign-in'))
    const { location } = await app.request(`${url}/sign-out`, { form: {} })
    const question = await browser.go(location!)
    assert.equal(headingOf(question), 'Do you want to sign out?')
    assert.equal((await browser.submit(question, { logout: 'yes' })).location, `${url}/`)
    assert.equal((JSON.parse((await open('/')).text) as { sub?: string }).sub, undefined)
    assert.equal(headingOf(await open('/sign-in')), 'Sign in')
  })
})
