/** A payee's first sign-in by text in Chromium, with the code out of the outbox: with script and without, narrow, and checked by axe. */
import assert from 'node:assert/strict'
import type { Browser } from 'playwright-core'
import { describeInBrowser, launch, looksGood } from '../support/browser.ts'
import { wait } from '../support/clock.ts'
import { openTestHouse, PASSWORD, type TestHouse } from '../support/house.ts'
import { codeByText, TEXTS, textsTo } from '../support/texts.ts'

describeInBrowser('codes by text, in a browser', () => {
  let test: TestHouse
  let browser: Browser
  before(async () => {
    test = await openTestHouse(TEXTS)
    browser = await launch()
  })
  after(async () => {
    await browser?.close()
    await test?.close()
  })

  for (const [index, javaScriptEnabled] of [true, false].entries())
    it(`a payee enrols a phone and signs in by it ${javaScriptEnabled ? 'with' : 'without'} JavaScript, at 320 px`, async () => {
      const email = `browser${index}@best.example`
      const id = await test.person(email, 'payee')
      const context = await browser.newContext({ javaScriptEnabled, viewport: { width: 320, height: 640 } })
      const page = await context.newPage()
      const errors: string[] = []
      page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
      const leaves: string[] = []
      await context.route('https://rp.example/**', (route) => {
        leaves.push(route.request().url())
        return route.fulfill({ contentType: 'text/html', body: '<h1>the app</h1>' })
      })
      const heading = async (name: string) => {
        await page.getByRole('heading', { level: 1, name }).waitFor()
        await looksGood(page, name, javaScriptEnabled)
      }
      const press = (name: string) => page.getByRole('button', { name, exact: true }).click()
      const signIn = async () => {
        await page.goto(test.authUrl({ prompt: 'login' }))
        await page.getByLabel('Email address').fill(email)
        await press('Continue')
        await page.getByLabel('Password', { exact: true }).fill(PASSWORD)
        await press('Sign in')
      }

      await signIn()
      await heading('Two-Factor Authentication Required')
      await page.getByRole('link', { name: 'Set Up Now' }).click()
      await heading('Select an Authentication Method')
      await press('Continue')
      await page.getByRole('alert').waitFor()
      assert.match(await page.title(), /^Error: /)
      assert.equal(await page.locator('#method').getAttribute('aria-invalid'), 'true')
      await page.getByLabel('SMS Verification').check()
      await press('Continue')
      await heading('Set Up SMS Verification')
      const phone = page.getByLabel('Enter Your Phone Number')
      assert.equal(await phone.getAttribute('autocomplete'), 'tel-national')
      await phone.fill('12')
      await press('Send Text Message')
      await page.getByRole('alert').waitFor()
      assert.equal(await phone.inputValue(), '12')
      await phone.fill(`202-555-017${index}`)
      await press('Send Text Message')
      await heading('Enter the 6-Digit Verification Code')
      const field = page.getByLabel('6-digit code')
      assert.equal(await field.getAttribute('autocomplete'), 'one-time-code')
      assert.equal(await field.getAttribute('inputmode'), 'numeric')
      await press('Resend New Code')
      await page.getByRole('alert').waitFor()
      assert.match(await page.title(), /^Error: /)
      await page.goBack()
      await page.goForward()
      await field.fill(await codeByText(test, id))
      await press('Continue')
      await page.getByRole('heading', { name: 'Almost There' }).waitFor()
      await page.getByLabel('I have safely recorded this code').check()
      await press('Continue')
      await page.getByRole('heading', { name: 'the app' }).waitFor()
      assert.ok(new URL(leaves[0]!).searchParams.has('code'))

      wait(120)
      await signIn()
      await heading('Verify Your Identity')
      const before = (await textsTo(test, id)).length
      await page.reload()
      assert.equal((await textsTo(test, id)).length, before)
      await press('Send Text Message')
      await heading('Enter Your 6-digit Verification Code')
      await field.fill(await codeByText(test, id))
      await field.press('Enter')
      await page.getByRole('heading', { name: 'the app' }).waitFor()
      assert.ok(new URL(leaves.at(-1)!).searchParams.has('code'))
      assert.deepEqual(
        errors.filter((text) => !/status of (400|429)/.test(text)),
        [],
      )
      await context.close()
    })
})
