/**
 * Company sign-in with identity providers that nobody here wrote, in Chromium. They live on localhost, we on 127.0.0.1: two
 * sites, so that what needs a cookie where none arrives shows.
 */
import assert from 'node:assert/strict'
import type { Browser, Page, Request } from 'playwright-core'
import { launch } from '../support/browser.ts'
import { freePort } from '../support/free-port.ts'
import { Keycloak } from './keycloak.ts'
import { assertRefused, Person } from './person.ts'
import { App, Served } from './served.ts'

const EMAIL = 'alice@acme.test'
const PASSWORD = 'alice-of-acme-42'
const CONNECTION = 'acme-sso'
/** Where the app begins a sign-in that it is asked to begin: it must be https, so the test opens it over http. */
const TILE = 'https://payments.example'

describe('Keycloak', () => {
  let keycloak: Keycloak
  let served: Served
  let app: App
  let browser: Browser
  let alice: Person
  const entityId = () => `${served.origin}/saml/${CONNECTION}/metadata`

  before(async function () {
    this.timeout(10 * 60_000)
    browser = await launch()
    keycloak = await Keycloak.start()
    served = new Served(await freePort())
    app = await App.start(served.origin)
    alice = new Person(EMAIL, app, browser)
    await keycloak.addUser('alice', PASSWORD, EMAIL)
    await keycloak.addClient({ entityId: entityId(), acsUrl: `${served.origin}/saml/${CONNECTION}/acs` })
    const metadata_file = served.file('idp.xml', await keycloak.metadata())
    await served.connect(app, EMAIL, CONNECTION, metadata_file, { initiate_login_uri: `${TILE}/start` })
    await served.start()
  })
  after(async () => {
    await served?.stop()
    app?.close()
    keycloak?.stop()
    await browser?.close()
  })

  async function signInThere(page: Page) {
    assert.equal(new URL(page.url()).origin, keycloak.origin)
    if (await page.locator('#username').isVisible()) await page.fill('#username', 'alice')
    await page.fill('#password', PASSWORD)
    await page.click('#kc-login')
    await page.waitForURL((url) => url.origin === served.origin || url.origin === app.origin)
  }

  it('leads from the e-mail to their page, and after it a payor enrols and the app gets otp and mfa, no pwd', () =>
    alice.withPage(async (page) => {
      const posts: Request[] = []
      page.on('request', (request) => request.url().includes('/acs') && posts.push(request))
      await alice.begin(page, keycloak.origin)
      await signInThere(page)
      assert.equal(posts.length, 1)
      // The whole point of two sites: no Lax cookie comes with a form that another site posts.
      assert.equal((await posts[0]!.allHeaders())['cookie'], undefined)

      await alice.enrolled(page)
    }))

  it('asks who has an app for its code, and the next request of the session for nothing', () =>
    alice.withPage(async (page) => {
      await alice.begin(page, keycloak.origin)
      await signInThere(page)
      await alice.challenged(page)
      await alice.unasked(page)
    }))

  it('asks there again for prompt=login, though they are signed in there', () =>
    alice.withPage(async (page) => {
      await alice.begin(page, keycloak.origin)
      await signInThere(page)
      await alice.challenged(page)
      await alice.begin(page, keycloak.origin, { prompt: 'login' })
      assert.ok(await page.locator('#password').isVisible(), 'Keycloak asks for the password')
      await signInThere(page)
      await alice.challenged(page)
    }))

  it('signs its requests, for who demands that, and reads encrypted assertions', async () => {
    const { keys } = JSON.parse(await served.command('connection', 'show', CONNECTION, '--json')) as { keys?: unknown }
    assert.equal(keys, undefined, 'no key is shown')
    const certificate = await served.certificate(CONNECTION)
    await keycloak.changeClient(entityId(), {
      'saml.client.signature': 'true',
      'saml.signing.certificate': certificate,
      'saml.encrypt': 'true',
      'saml.encryption.certificate': certificate,
    })
    await alice.withPage(async (page) => {
      await alice.begin(page, keycloak.origin)
      await signInThere(page)
      await alice.challenged(page)
    })
  })

  it('goes on while they change their certificate, before and after', async () => {
    const before = await keycloak.metadata()
    await keycloak.newSigningKey()
    const after = await keycloak.metadata()
    const certificates = (xml: string) => [...xml.matchAll(/<ds:X509Certificate>([^<]+)</g)].map(([, body]) => body!)
    const added = certificates(after).find((one) => !certificates(before).includes(one))!
    const pem = `-----BEGIN CERTIFICATE-----\n${added.match(/.{1,64}/g)!.join('\n')}\n-----END CERTIFICATE-----\n`
    // Signed with a key that nobody accepted: one neutral page, and a way on.
    await alice.withPage(async (page) => {
      await alice.begin(page, keycloak.origin)
      await signInThere(page)
      await assertRefused(page, served.origin)
    })
    await served.command('connection', 'certificates', CONNECTION, '--add', served.file('new.pem', pem))
    await alice.withPage(async (page) => {
      await alice.begin(page, keycloak.origin)
      await signInThere(page)
      await alice.challenged(page)
    })
  })

  it('answers what nobody asked for with an ordinary sign-in', async () => {
    await keycloak.changeClient(entityId(), { saml_idp_initiated_sso_url_name: 'payments' })
    await alice.withPage(async (page) => {
      await page.goto(`${keycloak.origin}/realms/acme/protocol/saml/clients/payments`)
      await page.fill('#username', 'alice')
      await page.fill('#password', PASSWORD)
      const [tile] = await Promise.all([
        page.waitForRequest((request) => request.url().startsWith(TILE)),
        page.click('#kc-login'),
      ])
      const { searchParams, search } = new URL(tile.url())
      assert.deepEqual(Object.fromEntries(searchParams), { iss: served.origin, login_hint: '@acme.test' })
      // They are signed in there: nobody types anything until our own question.
      const next = await page.context().newPage() // the first one still shows that https did not answer
      await next.goto(`${app.origin}/${search}`)
      await next.waitForURL((url) => url.origin === served.origin)
      await alice.challenged(next)
    })
  })
})
