/**
 * Company sign-in with identity providers that nobody here wrote, in Chromium. They live on localhost, we on 127.0.0.1: two
 * sites, so that what needs a cookie where none arrives shows.
 */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { generate } from 'otplib'
import type { Browser, Page, Request } from 'playwright-core'
import { launch } from '../support/browser.ts'
import { freePort } from '../support/free-port.ts'
import { Keycloak } from './keycloak.ts'
import { App, Served } from './served.ts'

const EMAIL = 'alice@acme.test'
const PASSWORD = 'alice-of-acme-42'
/** Where the app begins a sign-in that it is asked to begin: it must be https, so the test opens it over http. */
const TILE = 'https://payments.example'

describe('Keycloak', () => {
  let keycloak: Keycloak
  let served: Served
  let app: App
  let browser: Browser
  let secret = ''
  let lastStep = 0
  const connection = 'acme-sso'
  const entityId = () => `${served.origin}/saml/${connection}/metadata`

  before(async function () {
    this.timeout(10 * 60_000)
    browser = await launch()
    keycloak = await Keycloak.start()
    served = new Served(await freePort())
    app = await App.start(served.origin)
    await keycloak.addUser('alice', PASSWORD, EMAIL)
    await keycloak.addClient({ entityId: entityId(), acsUrl: `${served.origin}/saml/${connection}/acs` })
    const metadata_file = served.file('idp.xml', await keycloak.metadata())
    await served.apply({
      companies: [{ id: 'acme', name: 'Acme', side: 'payor', domains: ['acme.test'] }],
      users: [{ email: EMAIL, name: 'Alice', memberships: [{ company: 'acme', roles: ['payments_admin'] }] }],
      clients: [
        {
          client_id: 'payments',
          client_name: 'Payments',
          client_secret: app.secret,
          redirect_uris: [`${app.origin}/callback`],
          initiate_login_uri: `${TILE}/start`,
          sallyport: { first_party: true },
        },
      ],
      connections: [
        {
          id: connection,
          mode: 'forward',
          company: 'acme',
          client: 'payments',
          domains: ['acme.test'],
          idp: { metadata_file },
          attributes: { email: 'email' },
        },
      ],
    })
    await served.command('connection', 'activate', connection, '--force', '--reason', 'a test')
    await served.start()
  })
  after(async () => {
    await served?.stop()
    app?.close()
    keycloak?.stop()
    await browser?.close()
  })

  /** A fresh browser. */
  async function withPage(walk: (page: Page) => Promise<void>) {
    const context = await browser.newContext()
    const page = await context.newPage()
    page.setDefaultTimeout(30_000)
    try {
      await walk(page)
    } finally {
      await context.close()
    }
  }
  const heading = async (page: Page) => ((await page.locator('h1').first().textContent()) ?? '').trim()
  const send = (page: Page) => page.locator('main form[novalidate] button[type=submit]').click()
  const atKeycloak = (page: Page) => page.url().startsWith(keycloak.origin)
  const atApp = (page: Page) => page.url().startsWith(app.origin)
  const claims = async (page: Page) => JSON.parse((await page.locator('body').textContent()) ?? '{}')

  async function code() {
    const step = Math.max(Math.floor(Date.now() / 30_000), lastStep + 1)
    lastStep = step
    // One step ahead is taken as well: a phone's clock may be fast.
    while (Date.now() < (step - 1) * 30_000 + 1000) await setTimeout(500)
    return generate({ secret, epoch: step * 30 })
  }

  async function begin(page: Page, query: Record<string, string> = {}) {
    await page.goto(`${app.origin}/?${new URLSearchParams(query)}`)
    assert.equal(await heading(page), 'Sign in')
    await page.fill('[name=email]', EMAIL)
    await send(page)
    await page.waitForURL((url) => url.origin === keycloak.origin)
  }

  async function signInThere(page: Page) {
    assert.ok(atKeycloak(page), page.url())
    if (await page.locator('#username').isVisible()) await page.fill('#username', 'alice')
    await page.fill('#password', PASSWORD)
    await page.click('#kc-login')
    await page.waitForURL((url) => url.origin === served.origin || url.origin === app.origin)
  }

  async function challenged(page: Page) {
    assert.equal(await heading(page), 'Enter the code from your authenticator app')
    await page.fill('[name=code]', await code())
    await send(page)
    await page.waitForURL((url) => url.origin === app.origin)
    return claims(page)
  }

  let sub = ''
  const proven = (token: { amr: string[]; acr: string; sub: string }) => {
    assert.deepEqual(token.amr, ['otp', 'mfa'])
    assert.equal(token.acr, 'urn:sallyport:acr:2fa-app')
    sub ||= token.sub
    assert.equal(token.sub, sub, 'the same person')
  }

  it('leads from the e-mail to their page, and after it a payor enrols and the app gets otp and mfa, no pwd', () =>
    withPage(async (page) => {
      const posts: Request[] = []
      page.on('request', (request) => request.url().includes('/acs') && posts.push(request))
      await begin(page)
      await signInThere(page)
      assert.equal(posts.length, 1)
      // The whole point of two sites: no Lax cookie comes with a form that another site posts.
      assert.equal((await posts[0]!.allHeaders())['cookie'], undefined)

      assert.equal(await heading(page), 'Secure Your Account')
      secret = ((await page.locator('#key').textContent()) ?? '').replace(/\s/g, '')
      await page.fill('[name=code]', await code())
      await send(page)
      assert.equal(await heading(page), 'Almost There')
      await page.check('[name=acknowledged]')
      await send(page)
      await page.waitForURL((url) => url.origin === app.origin)
      proven(await claims(page))
    }))

  it('asks who has an app for its code, and the next request of the session for nothing', () =>
    withPage(async (page) => {
      await begin(page)
      await signInThere(page)
      proven(await challenged(page))
      await page.goto(`${app.origin}/`)
      assert.ok(atApp(page), page.url())
      proven(await claims(page))
    }))

  it('asks there again for prompt=login, though they are signed in there', () =>
    withPage(async (page) => {
      await begin(page)
      await signInThere(page)
      await challenged(page)
      await begin(page, { prompt: 'login' })
      assert.ok(await page.locator('#password').isVisible(), 'Keycloak asks for the password')
      await signInThere(page)
      proven(await challenged(page))
    }))

  it('signs its requests, for who demands that, and reads encrypted assertions', async () => {
    const { keys } = JSON.parse(await served.command('connection', 'show', connection, '--json')) as { keys?: unknown }
    assert.equal(keys, undefined, 'no key is shown')
    const metadata = await (await fetch(entityId())).text()
    const certificate = /<(?:\w+:)?X509Certificate>([^<]+)</.exec(metadata)![1]!.replace(/\s/g, '')
    await keycloak.changeClient(entityId(), {
      'saml.client.signature': 'true',
      'saml.signing.certificate': certificate,
      'saml.encrypt': 'true',
      'saml.encryption.certificate': certificate,
    })
    await withPage(async (page) => {
      await begin(page)
      await signInThere(page)
      proven(await challenged(page))
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
    await withPage(async (page) => {
      await begin(page)
      await signInThere(page)
      assert.notEqual(await heading(page), 'Enter the code from your authenticator app')
      assert.ok(!(await page.content()).includes('saml:'), 'nothing of the message is shown')
    })
    await served.command('connection', 'certificates', connection, '--add', served.file('new.pem', pem))
    await withPage(async (page) => {
      await begin(page)
      await signInThere(page)
      proven(await challenged(page))
    })
  })

  it('answers what nobody asked for with an ordinary sign-in', async () => {
    await keycloak.changeClient(entityId(), { saml_idp_initiated_sso_url_name: 'payments' })
    await withPage(async (page) => {
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
      proven(await challenged(next))
    })
  })
})
