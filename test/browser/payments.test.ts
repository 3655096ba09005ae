/** The demo's app in Chromium: entry, a disbursement, a bank account change, idleness; with script and without, narrow, and checked by axe. */
import assert from 'node:assert/strict'
import { describeInBrowser, looksGood } from '../support/browser.ts'
import { nextStep, wait } from '../support/clock.ts'
import { codeOf, openTestHouse, PASSWORD, type TestHouse } from '../support/house.ts'
import { openPayments } from '../support/payments.ts'

/** Where screenshots go, if somebody wants to look at them. */
const SCREENS = process.env['SCREENS']

describeInBrowser('Payments, in a browser', (browser) => {
  let test: TestHouse
  let app: string
  let close: (() => Promise<void>) | undefined
  before(async () => {
    test = await openTestHouse()
    ;({ app, close } = await openPayments(test))
  })
  after(async () => {
    await close?.()
    await test?.close()
  })

  for (const [index, javaScriptEnabled] of [true, false].entries())
    it(`a payor enters, pays and changes an account ${javaScriptEnabled ? 'with' : 'without'} JavaScript, at 320 px`, async () => {
      const email = `walk${index}@acme.example`
      await test.person(email)
      const context = await browser().newContext({
        javaScriptEnabled,
        viewport: { width: 320, height: 640 },
        colorScheme: index ? 'dark' : 'light',
      })
      const page = await context.newPage()
      const errors: string[] = []
      page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
      const press = (name: string) => page.getByRole('button', { name, exact: true }).click()
      const follow = (name: string) => page.getByRole('link', { name, exact: true }).click()
      let shots = 0
      const sees = async (heading: string) => {
        await page.getByRole('heading', { level: 1, name: heading }).waitFor()
        shots += 1
        if (SCREENS) await page.screenshot({ path: `${SCREENS}/${index}-${shots}.png`, fullPage: true })
        if (page.url().startsWith(app)) await looksGood(page, heading, javaScriptEnabled)
      }
      let secret = ''
      const giveCode = async () => {
        await sees('Enter the code from your authenticator app')
        nextStep()
        await page.getByLabel('6-digit code').fill(await codeOf(secret))
        await press('Continue')
      }

      await page.goto(app)
      await sees('Payments')
      await follow('Sign in')
      await page.getByLabel('Email address').fill(email)
      await press('Continue')
      await page.getByLabel('Password', { exact: true }).fill(PASSWORD)
      await press('Sign in')
      await sees('Secure Your Account')
      secret = (await page.locator('#key').textContent())!.replace(/\s/g, '')
      await page.getByLabel('6-digit code').fill(await codeOf(secret))
      await press('Continue')
      await page.getByLabel('I have safely recorded this code').check()
      await press('Continue')
      await sees('Payments')

      await follow('Enter the Payments tool')
      await sees('Payments tool')
      await press('Make a disbursement')
      await giveCode()
      await sees('Payments tool')
      assert.equal(await page.locator('#disbursements').textContent(), '1')

      await page.getByLabel('New account number').fill('12a4')
      await press('Change the bank account')
      await page.getByRole('alert').waitFor()
      await sees('Payments tool')
      assert.match(await page.title(), /^Error: /)
      await page.getByLabel('New account number').fill('000123456789')
      await press('Change the bank account')
      await giveCode()
      await sees('Payments tool')
      assert.match((await page.locator('#account').textContent())!, /6789/)

      await press('Make it 30 seconds')
      await sees('Payments tool')
      wait(31)
      await page.reload()
      await giveCode()
      await sees('Payments tool')

      await press('Make a disbursement')
      await sees('Enter the code from your authenticator app')
      await press('Back to Payments')
      await sees('Not made')
      await follow('Back to Payments')
      await sees('Payments')
      await page.getByRole('button', { name: 'Go on with the disbursement' }).waitFor()
      await follow('Sign out')
      await press('Sign out')
      await sees('Payments')
      assert.deepEqual(
        errors.filter((text) => !/status of 400/.test(text)),
        [],
      )
      await context.close()
    })
})
