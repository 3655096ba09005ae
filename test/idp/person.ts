/** Somebody whose company signs them in: in Chromium, with an authenticator app of their own. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { generate } from 'otplib'
import type { Browser, Page } from 'playwright-core'
import type { App } from './served.ts'

/** What the app was told. */
interface Claims {
  amr: string[]
  acr: string
  sub: string
}

export class Person {
  readonly #email: string
  readonly #app: App
  readonly #browser: Browser
  #secret = ''
  #lastStep = 0
  #sub = ''

  constructor(email: string, app: App, browser: Browser) {
    this.#email = email
    this.#app = app
    this.#browser = browser
  }

  /** A walk in a fresh browser. */
  async withPage(walk: (page: Page) => Promise<void>): Promise<void> {
    const context = await this.#browser.newContext()
    const page = await context.newPage()
    page.setDefaultTimeout(30_000)
    try {
      await walk(page)
    } finally {
      await context.close()
    }
  }

  /** From the app to the company's identity provider. */
  async begin(page: Page, there: string, query: Record<string, string> = {}): Promise<void> {
    await page.goto(`${this.#app.origin}/?${new URLSearchParams(query)}`)
    assert.equal(await heading(page), 'Sign in')
    await page.fill('[name=email]', this.#email)
    await send(page)
    await page.waitForURL((url) => url.origin === there)
  }

  /** Our own enrolment, back at the app. */
  async enrolled(page: Page): Promise<void> {
    assert.equal(await heading(page), 'Secure Your Account')
    this.#secret = ((await page.locator('#key').textContent()) ?? '').replace(/\s/g, '')
    await page.fill('[name=code]', await this.#code())
    await send(page)
    assert.equal(await heading(page), 'Almost There')
    await page.check('[name=acknowledged]')
    await send(page)
    await this.#told(page)
  }

  /** Our own challenge, back at the app. */
  async challenged(page: Page): Promise<void> {
    assert.equal(await heading(page), 'Enter the code from your authenticator app')
    await page.fill('[name=code]', await this.#code())
    await send(page)
    await this.#told(page)
  }

  /** At the app without a question. */
  async #told(page: Page): Promise<void> {
    await page.waitForURL((url) => url.origin === this.#app.origin)
    const { amr, acr, sub } = JSON.parse((await page.locator('body').textContent()) ?? '{}') as Claims
    assert.deepEqual(amr, ['otp', 'mfa'])
    assert.equal(acr, 'urn:sallyport:acr:2fa-app')
    this.#sub ||= sub
    assert.equal(sub, this.#sub, 'the same person')
  }

  /** The app asks again, and nobody is asked anything. */
  async unasked(page: Page): Promise<void> {
    await page.goto(`${this.#app.origin}/`)
    await this.#told(page)
  }

  async #code(): Promise<string> {
    const step = Math.max(Math.floor(Date.now() / 30_000), this.#lastStep + 1)
    this.#lastStep = step
    // One step ahead is taken as well: a phone's clock may be fast.
    while (Date.now() < (step - 1) * 30_000 + 1000) await setTimeout(500)
    return generate({ secret: this.#secret, epoch: step * 30 })
  }
}

export const heading = async (page: Page): Promise<string> =>
  ((await page.locator('h1').first().textContent()) ?? '').trim()

export const send = (page: Page): Promise<void> => page.locator('main form[novalidate] button[type=submit]').click()

/** Refused: a page of ours that shows nothing of the message and a way on. */
export async function assertRefused(page: Page, ours: string): Promise<void> {
  assert.equal(new URL(page.url()).origin, ours)
  assert.notEqual(await heading(page), 'Enter the code from your authenticator app')
  assert.ok(!(await page.content()).includes('saml:'), 'nothing of the message is shown')
}
