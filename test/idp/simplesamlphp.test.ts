/** Company sign-in with simplesamlphp, in Chromium. It lives on localhost, we on 127.0.0.1: two sites. */
import assert from 'node:assert/strict'
import type { Browser, Page, Request } from 'playwright-core'
import { launch } from '../support/browser.ts'
import { freePort } from '../support/free-port.ts'
import { assertRefused, Person } from './person.ts'
import { App, Served } from './served.ts'
import { SimpleSamlPhp } from './simplesamlphp.ts'

const EMAIL = 'bob@acme.test'
const PASSWORD = 'bob-of-acme-42'
const CONNECTION = 'acme-sso'

describe('simplesamlphp', () => {
  let provider: SimpleSamlPhp
  let served: Served
  let app: App
  let browser: Browser
  let bob: Person

  before(async function () {
    this.timeout(10 * 60_000)
    browser = await launch()
    provider = await SimpleSamlPhp.start({ [`bob:${PASSWORD}`]: { email: [EMAIL] } })
    served = new Served(await freePort())
    app = await App.start(served.origin)
    bob = new Person(EMAIL, app, browser)
    await served.connect(app, EMAIL, CONNECTION, served.file('idp.xml', await provider.metadata()))
    await served.start()
    known()
  })
  after(async () => {
    await served?.stop()
    app?.close()
    provider?.stop()
    await browser?.close()
  })

  /** How it answers us from now on. */
  const known = (more: object = {}) =>
    provider.knows({
      [`${served.origin}/saml/${CONNECTION}/metadata`]: {
        AssertionConsumerService: `${served.origin}/saml/${CONNECTION}/acs`,
        'simplesaml.nameidattribute': 'email',
        'saml20.sign.assertion': true,
        'saml20.sign.response': true,
        ...more,
      },
    })

  async function signInThere(page: Page) {
    await page.fill('#username', 'bob')
    await page.fill('#password', PASSWORD)
    await page.locator('#password').press('Enter')
    await page.waitForURL((url) => url.origin === served.origin || url.origin === app.origin)
  }

  it('leads from the e-mail to their page, and after it a payor enrols and the app gets otp and mfa, no pwd', () =>
    bob.withPage(async (page) => {
      const posts: Request[] = []
      page.on('request', (request) => request.url().includes('/acs') && posts.push(request))
      await bob.begin(page, provider.origin)
      await signInThere(page)
      assert.equal(posts.length, 1)
      assert.equal((await posts[0]!.allHeaders())['cookie'], undefined, 'no Lax cookie from another site')
      await bob.enrolled(page)
    }))

  it('asks there again for prompt=login, though they are signed in there', () =>
    bob.withPage(async (page) => {
      await bob.begin(page, provider.origin)
      await signInThere(page)
      await bob.challenged(page)
      await bob.unasked(page)
      await bob.begin(page, provider.origin, { prompt: 'login' })
      await signInThere(page)
      await bob.challenged(page)
    }))

  it('signs its requests, for who demands that, and reads AES-CBC where the response is signed', async () => {
    known({
      'validate.authnrequest': true,
      'assertion.encryption': true,
      certData: await served.certificate(CONNECTION),
    })
    await bob.withPage(async (page) => {
      await bob.begin(page, provider.origin)
      await signInThere(page)
      await bob.challenged(page)
    })
  })

  it('refuses CBC where only what is inside is signed', async () => {
    known({
      'assertion.encryption': true,
      certData: await served.certificate(CONNECTION),
      'saml20.sign.response': false,
    })
    await bob.withPage(async (page) => {
      await bob.begin(page, provider.origin)
      await signInThere(page)
      await assertRefused(page, served.origin)
    })
  })
})
