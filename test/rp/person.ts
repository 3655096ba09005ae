/** A person in Chromium who signs in through our pages. */
import assert from 'node:assert/strict'
import { generate } from 'otplib'
import type { Page } from 'playwright-core'
import { launch } from '../support/browser.ts'

/** What the script that starts the relying party says. */
export function given(name: 'APP' | 'ISSUER' | 'RP_PASSWORD' | 'UPSTREAM'): string {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set: run the script test/rp/*.sh, which starts the relying party`)
  return value
}

/** A person with a fresh browser and, once enrolled, an authenticator app. */
export interface Person {
  page: Page
  /** From our sign-in page to the end of it, whatever is asked on the way. */
  signIn(): Promise<string[]>
  /** From our page of a second factor. */
  proveApp(): Promise<string[]>
  /** "Do you want to sign out?" */
  signOut(): Promise<void>
  heading(): Promise<string>
}

/** Runs `walk` as this person, with a browser that is closed in any case. */
export async function asPerson(email: string, walk: (person: Person) => Promise<void>): Promise<void> {
  const browser = await launch()
  try {
    const page = await browser.newPage()
    page.setDefaultTimeout(15_000)
    await walk(personWith(page, email))
  } finally {
    await browser.close()
  }
}

function personWith(page: Page, email: string): Person {
  let secret = ''
  /** The code of this time step, or of the next one where this one's was used: our clock and theirs may differ so much. */
  let last = 0
  const code = async () => {
    const step = Math.max(Math.floor(Date.now() / 30_000), last + 1)
    last = step
    return generate({ secret, epoch: step * 30 })
  }
  const heading = async () => (await page.locator('h1').first().textContent())?.trim() ?? ''
  const send = () => page.locator('main form[novalidate] button[type=submit]').click()

  const answers: Record<string, () => Promise<void>> = {
    'Secure Your Account': async () => {
      secret = ((await page.locator('#key').textContent()) ?? '').replace(/\s/g, '')
      await page.fill('[name=code]', await code())
      await send()
    },
    'Almost There': async () => {
      await page.check('[name=acknowledged]')
      await send()
    },
    'Enter the code from your authenticator app': async () => {
      await page.fill('[name=code]', await code())
      await send()
    },
  }
  /** Answers page after page of ours. @returns their headings */
  const proveApp = async () => {
    const seen: string[] = []
    while (page.url().startsWith(given('ISSUER'))) {
      const asked = await heading()
      assert.ok(seen.length < 4 && answers[asked] !== undefined, `"${asked}" is asked at ${page.url()}, after: ${seen}`)
      seen.push(asked)
      await answers[asked]!()
      await page.waitForLoadState()
    }
    return seen
  }

  return {
    page,
    heading,
    proveApp,
    async signIn() {
      assert.equal(await heading(), 'Sign in')
      await page.fill('[name=email]', email)
      await send()
      await page.fill('[name=password]', given('RP_PASSWORD'))
      await send()
      await page.waitForLoadState()
      return proveApp()
    },
    async signOut() {
      assert.equal(await heading(), 'Do you want to sign out?')
      await page.locator('[name=logout][value=yes]').click()
      await page.waitForLoadState()
    },
  }
}
