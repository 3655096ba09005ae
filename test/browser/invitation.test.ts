/** An invited payee, from the letter to the app, with link and code read on the demo's page of messages: as a person tries it. */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { startOutboxPage } from '../../server/demo/outbox.ts'
import { planningOf, sallyportOf } from '../../server/provider.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import { describeInBrowser, looksGood } from '../support/browser.ts'
import { openTestHouse, type TestHouse } from '../support/house.ts'
import { TEXTS } from '../support/texts.ts'

const NEW = 'ponies dance at midnight'
/** Where to put pictures, for whoever wants to look. */
const PICTURES = process.env['PICTURES']

describeInBrowser('an invitation, with the demo’s messages', (browser) => {
  let test: TestHouse
  let outbox: Awaited<ReturnType<typeof startOutboxPage>>
  before(async () => {
    test = await openTestHouse(TEXTS)
    const { letters } = sallyportOf(test.house)
    outbox = await startOutboxPage({ port: 0, database: test.database, letters })
  })
  after(async () => {
    await outbox?.close()
    await test?.close()
  })

  async function invite(email: string) {
    const memberships = [{ company: 'best', roles: ['payments_admin'] }]
    const seed = parseSeed(JSON.stringify({ users: [{ email, memberships }] }), 'seed.json', {})
    await applyPlan(test.database, await planSeed(test.database, seed, await planningOf(test.house)), 'operator:test')
  }

  for (const [index, javaScriptEnabled] of [true, false].entries())
    it(`sets a password, a phone and signs in, ${javaScriptEnabled ? 'with' : 'without'} script, 320 px wide`, async () => {
      const email = `guest${index}@best.example`
      await invite(email)
      const context = await browser().newContext({ javaScriptEnabled, viewport: { width: 320, height: 640 } })
      const page = await context.newPage()
      await context.route('https://rp.example/**', (route) => route.abort())
      const messages = await context.newPage()
      const heading = async (name: string, tab = page) => {
        await tab.getByRole('heading', { level: 1, name }).waitFor()
        await looksGood(tab, name, javaScriptEnabled)
        if (PICTURES) {
          mkdirSync(PICTURES, { recursive: true })
          await tab.screenshot({ path: join(PICTURES, `${name.replace(/\W+/g, '-')}.${index}.png`), fullPage: true })
        }
      }
      const press = (name: string) => page.getByRole('button', { name, exact: true }).click()
      /** The newest message to somebody. */
      const newest = async (kind: string, to: string) => {
        await messages.goto(outbox.url)
        await heading('Messages', messages)
        return messages.locator(`li[data-kind="${kind}"]`, { hasText: `To ${to}` }).first()
      }

      const invitation = await newest('invitation', email)
      await invitation.getByRole('heading', { name: 'Welcome to Sallyport' }).waitFor()
      const href = await invitation.getByRole('link').first().getAttribute('href')
      await page.goto(href!)
      await heading('Welcome to Sallyport')
      await press('Set the password')
      await page.getByRole('alert').first().waitFor()
      await page.getByLabel('Your name').fill('A Guest')
      await page.getByLabel('New password').fill(NEW)
      await press('Set the password')
      await heading('Your password is set')

      await page.goto(test.authUrl())
      await page.getByLabel('Email address').fill(email)
      await press('Continue')
      await page.getByLabel('Password', { exact: true }).fill(NEW)
      await press('Sign in')
      await heading('Two-Factor Authentication Required')
      await page.getByRole('link', { name: 'Set Up Now' }).click()
      await page.getByLabel('SMS Verification').check()
      await press('Continue')
      await page.getByLabel('Enter Your Phone Number').fill(`202-555-018${index}`)
      await press('Send Text Message')
      await heading('Enter the 6-Digit Verification Code')
      const text = await (await newest('sms_code', `+1202555018${index}`)).textContent()
      await page.getByLabel('6-digit code').fill(/(\d{6}) is your sign-in code/.exec(text!)![1]!)
      await press('Continue')
      await heading('Almost There')
      await page.getByLabel('I have safely recorded this code').check()
      const atApp = page.waitForRequest(/^https:\/\/rp\.example\//)
      await press('Continue')
      assert.ok(new URL((await atApp).url()).searchParams.has('code'))
      await newest('phone_added', email)
      assert.equal(await messages.locator(`li[data-kind="invitation_reminder"]`, { hasText: email }).count(), 0)
      await context.close()
    })

  it('shows its messages to this machine only, by this name, and takes nothing', async () => {
    const { port } = new URL(outbox.url)
    const { request } = await import('node:http')
    const ask = (headers: Record<string, string>, method = 'GET', path = '/') =>
      new Promise<[number, string]>((resolve, reject) => {
        const asked = request({ port, host: '127.0.0.1', method, path, headers }, (response) => {
          let body = ''
          response.on('data', (chunk) => {
            body += chunk
          })
          response.on('end', () => resolve([response.statusCode!, body]))
        })
        asked.on('error', reject).end()
      })
    assert.equal((await ask({ host: `127.0.0.1:${port}` }))[0], 200)
    assert.equal((await ask({ host: `localhost:${port}` }))[0], 200)
    for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1', 'localhost']) {
      const [status, body] = await ask({ host })
      assert.equal(status, 403, host)
      assert.doesNotMatch(body, /sign-in code/)
    }
    assert.equal((await ask({ host: `127.0.0.1:${port}` }, 'POST'))[0], 404)
    assert.equal((await ask({ host: `127.0.0.1:${port}` }, 'GET', '/other'))[0], 404)
  })

  it('shows what people wrote as text', async () => {
    const email = 'odd@best.example'
    await test.database.outbox.put([
      {
        ...{ id: 'odd', channel: 'sms', kind: 'sms_code', accountId: 'odd', createdAt: 1, dueAt: 1, expiresAt: 2 },
        body: JSON.stringify({ to: email, text: '<b>x</b> https://a.example/?a=1&b=">' }),
      },
    ])
    const body = await (await fetch(outbox.url)).text()
    assert.ok(body.includes('&#60;b&#62;x'))
    assert.ok(body.includes('<a href="https://a.example/?a=1&#38;b=">'))
  })
})
