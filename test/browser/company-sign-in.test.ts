/** A person's way by company sign-in in Chromium, as people go it: back, again, in two tabs, too late, as somebody else. */
import assert from 'node:assert/strict'
import type { BrowserContext, Page } from 'playwright-core'
import { describeInBrowser } from '../support/browser.ts'
import { wait } from '../support/clock.ts'
import { CALLBACK, codeOf, openTestHouse, type TestHouse } from '../support/house.ts'
import { Connections, IdentityProvider } from '../support/identity-provider.ts'

const AGAIN = 'Try again'

describeInBrowser('company sign-in in a browser', (browser) => {
  let test: TestHouse
  let acme: IdentityProvider
  const connections = new Connections()
  let people = 0

  before(async () => {
    acme = await IdentityProvider.start('acme')
    connections.put(acme.connection())
    test = await openTestHouse({}, { connections })
  })
  after(async () => {
    await test?.close()
    await acme?.close()
  })

  /** A payor of the company, who is at the keyboard there too. */
  async function somebody() {
    const email = `walker${++people}@acme.example`
    await test.person(email)
    acme.person = { email }
    return email
  }

  /** A fresh browser, with or without script. */
  async function inBrowser(walk: (page: Page, context: BrowserContext) => Promise<void>, javaScriptEnabled = true) {
    const context = await browser().newContext({ javaScriptEnabled })
    context.setDefaultTimeout(10_000)
    try {
      await walk(await context.newPage(), context)
    } finally {
      await context.close()
    }
  }
  const heading = async (page: Page) => ((await page.locator('h1').first().textContent()) ?? '').trim()
  const atProvider = (page: Page) => page.waitForURL((url) => url.origin === acme.url)
  const proceed = (page: Page) => page.getByRole('button', { name: 'Continue', exact: true }).click()

  async function typed(page: Page, email: string) {
    await page.goto(test.authUrl())
    await page.getByLabel('Email address').fill(email)
    await proceed(page)
    await atProvider(page)
  }
  /** There, and back on a page of ours. */
  async function signedInThere(page: Page) {
    await proceed(page)
    await page.waitForURL((url) => url.origin !== acme.url)
  }
  async function enrolled(page: Page) {
    assert.equal(await heading(page), 'Secure Your Account')
    const secret = (await page.locator('#key').innerText()).replace(/\s/g, '')
    await page.locator('[name=code]').fill(await codeOf(secret))
    await proceed(page)
    assert.equal(await heading(page), 'Almost There')
    await page.locator('[name=acknowledged]').check()
    await toTheApp(page)
    return secret
  }
  const toTheApp = (page: Page) =>
    Promise.all([page.waitForRequest((request) => request.url().startsWith(`${CALLBACK}?code=`)), proceed(page)])

  for (const script of [true, false])
    it(`leads to the company, back, through our enrolment and to the app, ${script ? 'with' : 'without'} script`, () =>
      inBrowser(async (page) => {
        await typed(page, await somebody())
        await signedInThere(page)
        await enrolled(page)
      }, script))

  it('leads to the company, back, through our challenge and to the app, when an app is enrolled', () =>
    inBrowser(async (first, context) => {
      const email = await somebody()
      await typed(first, email)
      await signedInThere(first)
      const secret = await enrolled(first)
      await context.clearCookies()
      wait(31)
      const page = await context.newPage()
      await typed(page, email)
      await signedInThere(page)
      assert.equal(await heading(page), 'Enter the code from your authenticator app')
      await page.reload()
      await page.locator('[name=code]').fill(await codeOf(secret))
      await toTheApp(page)
    }))

  it('offers another address to who comes back without an answer, on a page that goes on by itself for nobody', () =>
    inBrowser(async (page) => {
      await typed(page, await somebody())
      await page.goBack()
      await page.goto(`${page.url()}/sso`)
      assert.equal(await heading(page), 'Continue with your company sign-in')
      await page.getByRole('link', { name: 'Use a different email address' }).click()
      assert.equal(await heading(page), 'Sign in')
      await page.getByLabel('Email address').fill('payee@best.example')
      await proceed(page)
      assert.equal(await heading(page), 'Enter your password')
    }))

  it('shows the address on Back from the company, to go there again or to take another one', () =>
    inBrowser(async (page) => {
      const email = await somebody()
      await typed(page, email)
      await page.goBack()
      assert.equal(await heading(page), 'Sign in')
      assert.equal(await page.getByLabel('Email address').inputValue(), email)
      await proceed(page)
      await atProvider(page)
      await page.goBack()
      await page.getByLabel('Email address').fill('payee@best.example')
      await proceed(page)
      assert.equal(await heading(page), 'Enter your password')
      await page.goBack()
      await page.getByLabel('Email address').fill(email)
      await proceed(page)
      await atProvider(page)
      await signedInThere(page)
      await enrolled(page)
    }))

  it('goes on after a reload on our first page behind it', () =>
    inBrowser(async (page) => {
      await typed(page, await somebody())
      await signedInThere(page)
      assert.equal(await heading(page), 'Secure Your Account')
      await page.reload()
      await enrolled(page)
    }))

  it('gives who comes back to an answer that was taken the page that comes next', () =>
    inBrowser(async (page) => {
      await typed(page, await somebody())
      await signedInThere(page)
      assert.equal(await heading(page), 'Secure Your Account')
      await page.goBack() // to the form there
      await atProvider(page)
      await signedInThere(page)
      // The same answer once more: refused, with a way on.
      assert.equal(await heading(page), 'We could not confirm your sign-in')
      await page.getByRole('link', { name: AGAIN }).click()
      await enrolled(page)
    }))

  it('keeps two tabs apart: both get there, each by its own request', () =>
    inBrowser(async (page, context) => {
      const email = await somebody()
      const other = await context.newPage()
      await typed(page, email)
      await typed(other, email)
      await signedInThere(page)
      await enrolled(page)
      // Meanwhile a factor stands: the second tab is asked for it, or signed in by the session.
      wait(31)
      await signedInThere(other)
      assert.notEqual(await heading(other), 'Secure Your Account')
    }))

  it('has a next step for who comes too late', () =>
    inBrowser(async (page) => {
      const email = await somebody()
      await typed(page, email)
      wait(11 * 60)
      await signedInThere(page)
      assert.equal(await heading(page), 'We could not confirm your sign-in')
      // Which sign-in it was is forgotten: the page leads to where every sign-in begins.
      await page.getByRole('link', { name: 'Choose the app you want to use' }).click()
      assert.equal(await heading(page), 'Sign in to Sallyport')
      await typed(page, email)
      await signedInThere(page)
      await enrolled(page)
    }))

  it('tells who signed in there as somebody else, and goes on as either', () =>
    inBrowser(async (page) => {
      await typed(page, await somebody())
      const came = await somebody()
      await page.reload() // the form there is theirs now
      await signedInThere(page)
      assert.equal(await heading(page), 'You signed in with another account')
      await page.getByRole('button', { name: came }).click()
      await atProvider(page)
      await signedInThere(page)
      await enrolled(page)
    }))

  it('refuses the answer in a browser that did not ask', () =>
    inBrowser(async (page) => {
      await typed(page, await somebody())
      const html = await page.content()
      await inBrowser(async (victim) => {
        await victim.setContent(html)
        await proceed(victim)
        await victim.waitForURL((url) => url.origin === test.url)
        assert.notEqual(await heading(victim), 'Secure Your Account')
        await victim.goto(test.authUrl())
        assert.equal(await heading(victim), 'Sign in', 'nobody is signed in there')
      })
    }))
})
