/** From "Forgot your password?" to a sign-in with both factors: a phone's width, no script. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import type { Letter } from '../../interactions/index.ts'
import { describeInBrowser } from '../support/browser.ts'
import { nextStep } from '../support/clock.ts'
import { codeOf, firstSignIn, openTestHouse, type TestHouse } from '../support/house.ts'

const NEW = 'ponies dance at midnight'

describeInBrowser('a forgotten password', (browser) => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test?.close())

  for (const javaScriptEnabled of [true, false])
    it(`is replaced and used with the app's code, ${javaScriptEnabled ? 'with' : 'without'} script`, async () => {
      const email = `ana-${javaScriptEnabled}@acme.example`
      const id = await test.person(email)
      const { secret } = await firstSignIn(test, email)
      const context = await browser().newContext({ javaScriptEnabled, viewport: { width: 320, height: 640 } })
      const page = await context.newPage()
      await context.route('https://rp.example/**', (route) =>
        route.fulfill({ contentType: 'text/html', body: '<h1>the app</h1>' }),
      )
      const toPassword = async () => {
        await page.goto(test.authUrl())
        await page.getByLabel('Email address').fill(email)
        await page.getByRole('button', { name: 'Continue' }).click()
      }
      await toPassword()
      await page.getByRole('link', { name: 'Forgot your password?' }).click()
      await page.getByLabel('Email address').fill(email)
      await page.getByRole('button', { name: 'Send a link' }).click()
      await page.getByRole('heading', { name: 'Look into your mail' }).waitFor()

      let link: string | undefined
      for (let looks = 0; looks < 100 && link === undefined; looks++) {
        const states = await test.database.outbox.list({ accountId: id, limit: 9 })
        const found = states.find(({ kind }) => kind === 'password_reset')
        if (found) link = (JSON.parse((await test.database.outbox.read(found.id))!) as Letter).link
        else await setTimeout(20)
      }
      await page.goto(link!)
      assert.equal(new URL(page.url()).pathname + new URL(page.url()).search, '/reset')
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= 320), true)
      await page.getByLabel('New password').fill('too short')
      await page.getByRole('button', { name: 'Set the password' }).click()
      await page.getByText('Your password has 9 characters').first().waitFor()
      if (javaScriptEnabled) {
        await page.getByRole('button', { name: 'Show' }).click()
        assert.equal(await page.getByLabel('New password').getAttribute('type'), 'text')
      }
      await page.getByLabel('New password').fill(NEW)
      await page.getByRole('button', { name: 'Set the password' }).click()
      await page.getByRole('heading', { name: 'Your password is set' }).waitFor()

      nextStep()
      await toPassword()
      await page.getByLabel('Password', { exact: true }).fill(NEW)
      await page.getByRole('button', { name: 'Sign in' }).click()
      await page.getByLabel('6-digit code').fill(await codeOf(secret))
      await page.getByRole('button', { name: 'Continue' }).click()
      await page.getByRole('heading', { name: 'the app' }).waitFor()
      await context.close()
    })
})
