/** A lost phone: an administrator of the company resets, a mailed link leads on, a new app is set up. A phone's width. */
import assert from 'node:assert/strict'
import type { Page } from 'playwright-core'
import { describeInBrowser, looksGood } from '../support/browser.ts'
import { nextStep } from '../support/clock.ts'
import { codeOf, firstSignIn, mailedLinkTo, openTestHouse, PASSWORD, type TestHouse } from '../support/house.ts'

describeInBrowser('a lost phone', (browser) => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
    const enforced = { enforced_from: '2020-01-01', zone: 'UTC' }
    const town = { id: 'town', name: 'Town Works', side: 'none' as const, domains: [], disabled: false, mfa: enforced }
    await test.database.directory.commit([{ kind: 'company', op: 'put', value: town }])
  })
  after(() => test?.close())

  const member = async (email: string, roles: ('company_admin' | 'directory_admin')[] = []) => {
    const id = await test.person(email)
    const memberships = [{ company: 'town', roles, disabled: false }]
    const value = { id, email, name: 'Bo Plumber', disabled: false, memberships, serverRoles: [] }
    await test.database.directory.commit([{ kind: 'user', op: 'put', value }])
    const { secret } = await firstSignIn(test, email, { client_id: 'strict' })
    return secret
  }

  for (const javaScriptEnabled of [true, false])
    it(`is replaced, ${javaScriptEnabled ? 'with' : 'without'} script`, async () => {
      const [boss, person] = [`boss-${javaScriptEnabled}@town.example`, `bo-${javaScriptEnabled}@town.example`]
      const secret = await member(boss, ['company_admin', 'directory_admin'])
      await member(person)
      nextStep()
      const viewport = { width: 320, height: 640 }
      const office = await browser().newContext({ javaScriptEnabled, viewport, colorScheme: 'dark' })
      const at = await office.newPage()
      const signIn = async (page: Page, email: string) => {
        await page.getByLabel('Email address').fill(email)
        await page.getByRole('button', { name: 'Continue' }).click()
        await page.getByLabel('Password', { exact: true }).fill(PASSWORD)
        await page.getByRole('button', { name: 'Sign in' }).click()
      }
      await at.goto(`${test.url}/account/company`)
      await signIn(at, boss)
      await at.getByLabel('6-digit code').fill(await codeOf(secret))
      await at.getByRole('button', { name: 'Continue' }).click()
      await at.getByRole('heading', { name: 'People you look after' }).waitFor()
      await looksGood(at, at.url(), javaScriptEnabled)
      await at.getByLabel('Their email address').fill('nobody@town.example')
      await at.getByRole('button', { name: 'Find this person' }).click()
      await at.getByText('Nobody in your company’s directory').first().waitFor()
      await looksGood(at, at.url(), javaScriptEnabled)
      await at.getByLabel('Their email address').fill(person)
      await at.getByRole('button', { name: 'Find this person' }).click()
      await at.getByRole('heading', { name: 'Help Bo Plumber to sign in' }).waitFor()
      await looksGood(at, at.url(), javaScriptEnabled)
      await at.getByLabel('How did you make sure who asked?').selectOption('video')
      await at.getByLabel('Your note').fill('Phone in the river, ticket 4711')
      await at.getByRole('button', { name: 'Reset MFA' }).click()
      await at.getByText('Make sure first that it is this person').first().waitFor()
      assert.equal(await at.getByLabel('Your note').inputValue(), 'Phone in the river, ticket 4711')
      assert.equal(await at.getByLabel('How did you make sure who asked?').inputValue(), 'video')
      await looksGood(at, at.url(), javaScriptEnabled)
      await at.getByLabel('I have verified the user’s request to reset MFA').check()
      await at.getByRole('button', { name: 'Reset MFA' }).click()
      await at.getByText('Two-step sign-in was reset.').waitFor()
      await looksGood(at, at.url(), javaScriptEnabled)
      await office.close()

      const context = await browser().newContext({ javaScriptEnabled, viewport })
      await context.route('https://rp.example/**', (route) =>
        route.fulfill({ contentType: 'text/html', body: '<h1>the app</h1>' }),
      )
      const page = await context.newPage()
      await page.goto(test.authUrl({ client_id: 'strict' }))
      await signIn(page, person)
      await page.getByRole('heading', { name: 'Look into your mail' }).waitFor()
      await looksGood(page, page.url(), javaScriptEnabled)
      await page.getByRole('button', { name: 'I have opened the link' }).click()
      await page.getByText('Open the link of the newest message in this browser first').waitFor()
      await looksGood(page, page.url(), javaScriptEnabled)
      await page.getByRole('button', { name: 'Send another link' }).click()
      await page.getByText('Another link is on its way').waitFor()
      // From the mail program: another tab.
      const tab = await context.newPage()
      await tab.goto(await mailedLinkTo(test, person))
      await tab.getByRole('heading', { name: 'You have opened the link' }).waitFor()
      assert.ok(!tab.url().includes('token'))
      await looksGood(tab, tab.url(), javaScriptEnabled)
      await tab.close()
      await page.getByRole('button', { name: 'I have opened the link' }).click()
      await page.getByRole('heading', { name: 'Secure Your Account' }).waitFor()
      await page.goBack()
      await page.reload()
      const key = await page.locator('#key').textContent()
      await page.getByLabel('6-digit code').fill(await codeOf(key!.replace(/\s/g, '')))
      await page.getByRole('button', { name: 'Continue' }).click()
      await page.getByRole('checkbox').check()
      await page.getByRole('button', { name: 'Continue' }).click()
      await page.getByRole('heading', { name: 'the app' }).waitFor()
      await context.close()
    })
})
