/** `npm run screens`: pictures of all pages in light, dark and narrow, and a README that shows them. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Browser } from 'playwright-core'
import { launch } from '../support/browser.ts'
import { samplePages, samplesApp } from '../support/pages.ts'

const FOLDER = fileURLToPath(new URL('../../docs/screens', import.meta.url))
const LOOKS = [
  { look: 'light', width: 800, colorScheme: 'light' },
  { look: 'dark', width: 800, colorScheme: 'dark' },
  { look: '320', width: 320, colorScheme: 'light' },
] as const

async function take(browser: Browser, origin: string, { look, width, colorScheme }: (typeof LOOKS)[number]) {
  const context = await browser.newContext({ viewport: { width, height: 400 }, colorScheme, reducedMotion: 'reduce' })
  const page = await context.newPage()
  for (const { name } of samplePages()) {
    await page.goto(`${origin}/${name}`)
    await page.screenshot({ path: join(FOLDER, `${name}.${look}.png`), fullPage: true, caret: 'hide' })
  }
  await context.close()
}

function gallery(): string {
  const rows = samplePages().map(
    ({ name }) => `### ${name}\n\n${LOOKS.map(({ look }) => `![${name}, ${look}](${name}.${look}.png)`).join(' ')}\n`,
  )
  return [
    '# What people see',
    '',
    'Every page in light, dark and 320 px wide, made by `npm run screens`.',
    '',
    ...rows,
  ].join('\n')
}

const server = samplesApp().listen(0, '127.0.0.1')
const browser = await launch()
try {
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  rmSync(FOLDER, { recursive: true, force: true })
  mkdirSync(FOLDER, { recursive: true })
  await Promise.all(LOOKS.map((look) => take(browser, origin, look)))
  writeFileSync(join(FOLDER, 'README.md'), gallery())
  console.log(`${samplePages().length * LOOKS.length} pictures in docs/screens`)
} finally {
  await browser.close()
  server.close()
}
