/** Tools that nobody here wrote: Chromium shows the page, zbarimg reads the QR code, oathtool is the authenticator app. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { describeInBrowser, launch } from '../support/browser.ts'
import { openTestHouse, PASSWORD, type TestHouse } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'

const has = (tool: string) => {
  try {
    execFileSync('which', [tool], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

describeInBrowser('an authenticator app that nobody here wrote', () => {
  let test: TestHouse
  let browser: Browser
  before(async () => {
    test = await openTestHouse()
    browser = await launch()
  })
  after(async () => {
    await browser?.close()
    await test?.close()
  })

  for (const scheme of ['light', 'dark'] as const)
    it(`zbarimg reads the QR code in ${scheme}, oathtool’s codes enrol and sign in`, async function () {
      if (!has('oathtool') || !has('zbarimg')) {
        console.log('        needs oathtool and zbarimg: apt-get install oathtool zbar-tools')
        return this.skip()
      }
      const email = `${scheme}@acme.example`
      await test.person(email)
      const context = await browser.newContext({ colorScheme: scheme })
      const page = await context.newPage()
      const leaves: string[] = []
      await context.route('https://rp.example/**', (route) => {
        leaves.push(route.request().url())
        return route.fulfill({ contentType: 'text/html', body: '<h1>the app</h1>' })
      })
      const signIn = async (extra = {}) => {
        await page.goto(test.authUrl(extra))
        await page.getByLabel('Email address').fill(email)
        await page.getByRole('button', { name: 'Continue' }).click()
        await page.getByLabel('Password', { exact: true }).fill(PASSWORD)
        await page.getByRole('button', { name: 'Sign in' }).click()
      }
      await signIn()
      const file = join(temporaryFolder(), 'qr.png')
      await page.screenshot({ path: file, fullPage: true })
      const uri = new URL(execFileSync('zbarimg', ['-q', '--raw', file]).toString().trim())
      assert.equal(uri.searchParams.get('issuer'), 'Sallyport')
      const secret = uri.searchParams.get('secret')!
      assert.equal((await page.locator('#key').innerText()).replace(/\s/g, ''), secret)
      const code = (minus: number) => {
        const at = new Date(Date.now() + minus * 1000).toISOString().replace('T', ' ').slice(0, 19)
        return execFileSync('oathtool', ['--totp', '-b', secret, '-N', `${at} UTC`])
          .toString()
          .trim()
      }
      // One step early, so that the next step's code is still unused at the sign-in that follows.
      await page.getByLabel('6-digit code').fill(code(-30))
      await page.getByRole('button', { name: 'Continue' }).click()
      await page.getByLabel('I have safely recorded this code').check()
      await page.getByRole('button', { name: 'Continue' }).click()
      await page.getByRole('heading', { name: 'the app' }).waitFor()
      assert.ok(new URL(leaves[0]!).searchParams.has('code'))

      await signIn({ prompt: 'login' })
      await page.getByLabel('6-digit code').fill(code(0))
      await page.getByRole('button', { name: 'Continue' }).click()
      await page.getByRole('heading', { name: 'the app' }).waitFor()
      assert.ok(new URL(leaves[1]!).searchParams.has('code'))
      await context.close()
    })
})
