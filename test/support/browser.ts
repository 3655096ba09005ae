/** A real Chromium for the tests, if this computer has one. */
import assert from 'node:assert/strict'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import axe from 'axe-core'
import { type Browser, chromium, type Page } from 'playwright-core'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome']
/** Headless, and calling nobody. */
const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
const HOW_TO_GET_ONE =
  'Skipped for want of a browser: install Chromium (Debian: `apt-get install chromium`) or set CHROMIUM to its path.'

/** The path of `CHROMIUM`, else of the first Chromium or Chrome in the usual places. */
export function findChromium(): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/bin', '/usr/local/bin', '/snap/bin']
  const found = NAMES.flatMap((name) => folders.map((folder) => join(folder, name)))
  const named = process.env['CHROMIUM']
  return (named ? [named] : found).find(isExecutable)
}

/** Starts it. */
export function launch(): Promise<Browser> {
  const executablePath = findChromium()
  if (!executablePath) throw new Error(HOW_TO_GET_ONE)
  return chromium.launch({ executablePath, args: ARGS })
}

/** `describe` with one browser for all its tests. Without Chromium they are pending, and a line says how to get it. */
export function describeInBrowser(title: string, define: (browser: () => Browser) => void): void {
  describe(title, () => {
    let browser: Browser | undefined
    before(async function () {
      this.timeout(60_000)
      if (!findChromium()) {
        console.log(`  ${HOW_TO_GET_ONE}`)
        this.skip()
      }
      browser = await launch()
    })
    after(() => browser?.close())
    define(() => browser!)
  })
}

/** Nothing is wider than the screen, and axe finds nothing. Without script only the first: axe is a script. */
export async function looksGood(page: Page, name: string, hasScript: boolean): Promise<void> {
  const isNarrow = await page.evaluate('document.documentElement.scrollWidth <= innerWidth')
  assert.equal(isNarrow, true, `${name} is too wide`)
  if (!hasScript) return
  await page.evaluate(axe.source)
  const found = 'axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes[0].html].join()))'
  assert.deepEqual(await page.evaluate(found), [], name)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
