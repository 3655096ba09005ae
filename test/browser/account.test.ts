/** A person's own account in Chromium: a change of phone, of address, the switch, a new recovery code; narrow, with script and without. */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import type { Letter } from '../../interactions/index.ts'
import { describeInBrowser, launch, looksGood } from '../support/browser.ts'
import { wait } from '../support/clock.ts'
import { openTestHouse, PASSWORD, type TestHouse } from '../support/house.ts'
import { codeByText, TEXTS } from '../support/texts.ts'

/** Where pictures go, if somebody wants to look at them. */
const PICTURES = process.env['SCREENS_DIR']

describeInBrowser('an own account, in a browser', () => {
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
    it(`phone, recovery code, switch, address and the way back ${javaScriptEnabled ? 'with' : 'without'} JavaScript, at 320 px`, async () => {
      const email = `own${index}@city.example`
      const wanted = `own${index}@new.example`
      const id = await test.person(email, 'standard')
      const context = await browser.newContext({ javaScriptEnabled, viewport: { width: 320, height: 640 } })
      const page = await context.newPage()
      const errors: string[] = []
      page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
      const heading = async (name: string) => {
        await page.getByRole('heading', { level: 1, name, exact: true }).waitFor()
        await looksGood(page, name, javaScriptEnabled)
        if (PICTURES) {
          mkdirSync(PICTURES, { recursive: true })
          const file = `${name.toLowerCase().replaceAll(/\W+/g, '-')}.${index}.png`
          await page.screenshot({ path: join(PICTURES, file), fullPage: true })
        }
      }
      const press = (name: string) => page.getByRole('button', { name, exact: true }).click()
      const follow = (name: string | RegExp) => page.getByRole('link', { name }).click()
      const notice = async (text: string) => {
        const status = page.getByRole('status')
        await status.waitFor()
        assert.equal(await status.textContent(), text)
      }
      const signIn = async (address: string) => {
        await page.getByLabel('Email address').fill(address)
        await press('Continue')
        await page.getByLabel('Password', { exact: true }).fill(PASSWORD)
        await press('Sign in')
      }
      const record = async () => {
        await page.getByRole('heading', { name: 'Almost There' }).waitFor()
        const code = await page.locator('#recovery-code').textContent()
        await page.getByLabel('I have safely recorded this code').check()
        await press('Continue')
        return code
      }
      const setPhone = async (number: string) => {
        await page.getByLabel('Enter Your Phone Number').fill(number)
        await press('Send Text Message')
        await page.getByLabel('6-digit code').fill(await codeByText(test, id))
        await press('Continue')
        const code = await record()
        wait(121)
        return code
      }
      const byText = async () => {
        await press('Send Text Message')
        await page.getByLabel('6-digit code').fill(await codeByText(test, id))
        await press('Continue')
        wait(121)
      }
      const linkIn = async (kind: string) => {
        const states = await test.database.outbox.list({ accountId: id, limit: 99 })
        const { id: message } = states.find((one) => one.kind === kind)!
        return (JSON.parse((await test.database.outbox.read(message))!) as Letter).link!
      }

      await page.goto(`${test.url}/account`)
      await signIn(email)
      await heading('Your account')
      await follow('Add a phone for text messages')
      const first = await setPhone(`202-555-018${index}`)
      await heading('Your account')
      await notice('Your phone is set up.')

      await follow('Change the number')
      await byText()
      const second = await setPhone(`202-555-019${index}`)
      await heading('Your account')
      assert.equal(await test.database.factors.phone(id), `+1202555019${index}`)

      await follow('Make a new one')
      await byText()
      const third = await record()
      await notice('You have a new recovery code. The former one no longer works.')
      assert.equal(new Set([first, second, third]).size, 3)

      await follow('Change Always require 2FA')
      await heading('Always require 2FA')
      await press('Switch off')
      await heading('Your account')
      await notice('A second step is now asked for only where an app wants it.')
      await follow('Change Always require 2FA')
      await press('Switch on')
      await notice('From now on every sign-in asks you for a second step.')

      assert.equal(await page.getByRole('link', { name: 'Remove the phone' }).count(), 0)
      await page.goto(`${test.url}/account/phone/remove`)
      await heading('Remove the phone')
      assert.ok(await page.getByText('“Always require 2FA” is on in your account.').isVisible())
      await page.goBack()

      await follow('Change Second address for security messages')
      await heading('Where security messages go')
      const secondAddress = page.getByLabel('New email address')
      assert.equal(await secondAddress.getAttribute('autocomplete'), 'email')
      await secondAddress.fill('nobody')
      await press('Send a link')
      await page.getByRole('alert').waitFor()
      assert.match(await page.title(), /^Error: /)
      await secondAddress.fill(`home.${wanted}`)
      await press('Send a link')
      await page.goto(await linkIn('notice_confirm'))
      await heading('Send security messages here?')
      await press('Confirm')
      await heading('Where security messages go')
      assert.ok(await page.getByText(`home.${wanted}`).first().isVisible())

      await follow('Your account')
      await follow('Change Email address')
      await page.getByRole('heading', { name: 'Sign in' }).waitFor()
      await signIn(email)
      await byText()
      await heading('Change your email address')
      await page.getByLabel('New email address').fill(wanted)
      await press('Send a link')
      await notice('We sent a link to the address. It works once, for an hour.')
      const link = await linkIn('email_confirm')
      await page.goto(link)
      await heading('Use this address?')
      await page.reload()
      await press('Confirm')
      await heading('Your account')
      await notice('Your email address was changed.')
      await page.goto(link)
      await heading('This link has been used')
      await follow('Your account')
      await follow('Change Email address')
      await heading('Change your email address')

      await context.clearCookies()
      await page.goto(await linkIn('email_changed'))
      await heading('Bring your address back')
      await press(`Bring ${email} back`)
      await heading('Your address is back')
      await follow('Set a new password')
      await heading('Set a new password')
      assert.equal((await test.database.accounts.find(id))!.email, email)
      assert.deepEqual(
        errors.filter((text) => !/status of 400/.test(text)),
        [],
      )
      await context.close()
    })
})
