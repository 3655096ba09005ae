/** `npm run screens`: pictures of all pages in light, dark and narrow, and a README that shows them. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { crc32, deflateSync } from 'node:zlib'
import type { Browser, Page } from 'playwright-core'
import { launch } from '../support/browser.ts'
import { samples, samplesApp } from '../support/sample-pages.ts'

const FOLDER = fileURLToPath(new URL('../../docs/screens', import.meta.url))
const IN_PAGE = fileURLToPath(new URL('../support/in-page.js', import.meta.url))
const LOOKS = [
  { look: 'light', width: 720, colorScheme: 'light' },
  { look: 'dark', width: 720, colorScheme: 'dark' },
  { look: '320', width: 320, colorScheme: 'light' },
] as const

async function take(browser: Browser, origin: string, { look, width, colorScheme }: (typeof LOOKS)[number]) {
  // A low viewport: a full-page picture then ends where the page does.
  const context = await browser.newContext({ viewport: { width, height: 300 }, colorScheme, reducedMotion: 'reduce' })
  await context.addInitScript({ path: IN_PAGE })
  const [page, blank] = [await context.newPage(), await context.newPage()]
  for (const name of Object.keys(samples)) {
    await page.goto(`${origin}/${name}`)
    const picture = await page.screenshot({ fullPage: true, caret: 'hide' })
    const file = join(FOLDER, `${name}.${look}.png`)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, await smaller(blank, picture))
  }
  await context.close()
}

/** The picture as a PNG with a palette, about a third as large. */
async function smaller(blank: Page, picture: Buffer): Promise<Buffer> {
  await blank.goto('about:blank')
  const { width, height, palette, indices } = await blank.evaluate<{
    width: number
    height: number
    palette: number[]
    indices: string
  }>(`inPage.fewColours('${picture.toString('base64')}')`)
  const pixels = Buffer.from(indices, 'base64')
  const rows = Array.from({ length: height }, (_, row) => [
    Buffer.of(0),
    pixels.subarray(row * width, (row + 1) * width),
  ]).flat()
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 3], 8)
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    chunk('PLTE', Buffer.from(palette)),
    chunk('IDAT', deflateSync(Buffer.concat(rows), { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)]
  length.writeUInt32BE(data.length)
  checksum.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, checksum])
}

function gallery(): string {
  const rows = Object.entries(samples).map(([name, { page }]) => {
    const pictures = LOOKS.map(
      ({ look, width }) => `<img src="${name}.${look}.png" width="${width / 2}" alt="${page.title}, ${look}">`,
    )
    return `## ${name}\n\n${pictures.join('\n')}\n`
  })
  return `# What people see\n\nEvery page, with every error that it can show, in light, in dark and 320 px wide. Made by \`npm run screens\`.\n\n${rows.join('\n')}`
}

const brand = { name: 'Sallyport', supportContact: 'support@example.com', homeUrl: '/' }
const server = samplesApp({ '': { brand } }).listen(0, '127.0.0.1')
const browser = await launch()
try {
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  rmSync(FOLDER, { recursive: true, force: true })
  mkdirSync(FOLDER, { recursive: true })
  await Promise.all(LOOKS.map((look) => take(browser, origin, look)))
  writeFileSync(join(FOLDER, 'README.md'), gallery())
  console.log(`${Object.keys(samples).length * LOOKS.length} pictures in docs/screens`)
} finally {
  await browser.close()
  server.close()
}
