import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import Koa from 'koa'
import { loadAssets } from '../../interactions/kit/assets.ts'
import { brandStyles, colourProblem, contrast, readLogo, SURFACES } from '../../interactions/kit/brand.ts'
import { createPages } from '../../interactions/kit/pages.ts'
import { languages, samples } from '../support/sample-pages.ts'
import { temporaryFolder } from '../support/temporary.ts'

const css = readFileSync(new URL('../../public/sallyport.css', import.meta.url), 'utf8')
const LOOKS = ['light', 'dark'] as const

/** Custom properties by name, first of the light look and then of the dark one. */
const valuesIn = (sheet: string) =>
  sheet
    .split('prefers-color-scheme')
    .map((part) =>
      Object.fromEntries([...part.matchAll(/--([\w-]+): ?(#\w+)/g)].map(([, name, value]) => [name, value])),
    )

const anyColour = fc.integer({ min: 0, max: 0xffffff }).map((n) => `#${n.toString(16).padStart(6, '0')}`)

const SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 3"><script>alert(1)</script></svg>'
const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)
function file(name: string, content: string | Buffer): string {
  const path = join(temporaryFolder(), name)
  writeFileSync(path, content)
  return path
}

describe('the colours of a brand', () => {
  it('are measured as WCAG 2.2 does', () => {
    assert.equal(contrast('#000000', '#ffffff'), 21)
    assert.equal(contrast('#777777', '#777777'), 1)
    assert.equal(contrast('#ffffff', '#767676').toFixed(2), '4.54')
    assert.equal(contrast('#ff0000', '#ffffff').toFixed(2), '4.00')
    assert.equal(contrast('#ffffff', '#0000ff').toFixed(2), '8.59')
  })

  it('are measured against what the style sheet has behind them', () => {
    const [light, dark] = valuesIn(css)
    const long = (value: string | undefined) => (value?.length === 4 ? value.replace(/\w/g, '$&$&') : value)
    for (const [look, values] of [
      ['light', light],
      ['dark', dark],
    ] as const)
      assert.deepEqual(
        SURFACES[look],
        ['card', 'sunken', 'page'].map((name) => long(values?.[name])),
      )
  })

  it('are refused with the ratio, what is needed and a colour that has it', () => {
    assert.equal(
      colourProblem('#ffd400', 'light'),
      '#ffd400 has a contrast of 1.32:1 with #f4f7f8 of the light pages, and 3:1 is needed (WCAG 1.4.11): #a88c00 has it',
    )
    assert.match(colourProblem('#0e6472', 'dark')!, /2\.\d\d:1 with #152023 of the dark pages/)
    assert.equal(colourProblem('#ff5200', 'light'), undefined)
    assert.equal(colourProblem('#84d3dd', 'dark'), undefined)
    for (const wrong of ['red', '#fff', '#ff52001', 'ff5200', '#ff520g', 'rgb(0 0 0)', '#000000;}*{}'])
      assert.equal(colourProblem(wrong, 'light'), 'must be a colour as #rrggbb, such as #0e6472')
    assert.throws(() => brandStyles({ colour: '#ffd400' }), {
      name: 'TypeError',
      message: /^brand\.colour: #ffd400 has/,
    })
    assert.throws(() => brandStyles({ colourDark: '#000000' }), /^TypeError: brand\.colourDark: #000000 has/)
  })

  it('name a better colour that is taken', () => {
    fc.assert(
      fc.property(anyColour, fc.constantFrom(...LOOKS), (colour, look) => {
        const better = / (#\w+) has it$/.exec(colourProblem(colour, look) ?? '')?.[1]
        if (better) assert.equal(colourProblem(better, look), undefined)
      }),
    )
  })

  it('can be read and seen in both looks, whatever is taken', () => {
    fc.assert(
      fc.property(anyColour, fc.option(anyColour, { nil: undefined }), (colour, colourDark) => {
        if (colourProblem(colour, 'light') ?? (colourDark && colourProblem(colourDark, 'dark'))) return
        const styles = brandStyles({ colour, ...(colourDark && { colourDark }) })
        const [light, dark] = valuesIn(styles)
        assert.equal(light!['brand'], colour)
        if (colourDark) assert.equal(dark!['brand'], colourDark)
        for (const [look, values] of [
          ['light', light!],
          ['dark', dark!],
        ] as const) {
          for (const button of ['brand', 'brand-strong'])
            assert.ok(contrast(values['on-brand']!, values[button]!) >= 4.5, `text on ${button}: ${styles}`)
          for (const surface of SURFACES[look].slice(0, 2))
            assert.ok(contrast(values['brand']!, surface) >= 3, `edge on ${surface}: ${styles}`)
          for (const surface of SURFACES[look]) {
            for (const link of ['link', 'link-strong'])
              assert.ok(contrast(values[link]!, surface) >= 4.5, `${link} on ${surface}: ${styles}`)
          }
        }
      }),
      { numRuns: 1000 },
    )
  })

  it('stand at the end of the one style sheet, and a brand without them changes nothing', async () => {
    assert.equal(brandStyles({}), '')
    assert.match(brandStyles({ colourDark: '#84d3dd' }), /^@media screen and \(prefers-color-scheme:dark\)/)
    const own = await served(loadAssets())
    assert.equal(own.css, css)
    const assets = loadAssets({ brand: { colour: '#ff5200' } })
    assert.notEqual(assets.css, loadAssets().css)
    assert.equal((await served(assets)).css, css + brandStyles({ colour: '#ff5200' }))
  })
})

describe('the logo of a brand', () => {
  it('is an SVG or PNG file of at most 12 KiB, whatever it is called', () => {
    assert.equal(readLogo(file('logo.txt', PNG)).type, 'png')
    for (const svg of [
      SVG,
      `<?xml version="1.0"?>\n<!-- ours -->\n${SVG}`,
      `\ufeff<!DOCTYPE svg PUBLIC "a" "b">${SVG}`,
    ])
      assert.equal(readLogo(file('logo.svg', svg)).type, 'svg')
    assert.throws(() => readLogo('/nowhere/logo.svg'), /cannot read \/nowhere\/logo\.svg \(ENOENT\)/)
    assert.throws(
      () => readLogo(file('a.svg', `${SVG}${' '.repeat(12 * 1024)}`)),
      /a\.svg has \d+ bytes, and 12288 is the most/,
    )
    for (const other of ['GIF89a', '<html><svg></svg></html>', '', '<svgx>'])
      assert.throws(() => readLogo(file('b.svg', other)), /b\.svg must be an SVG or PNG file/)
    assert.throws(() => loadAssets({ brand: { logo: '/nowhere' } }), /^TypeError: brand\.logo: cannot read/)
  })

  it('stands in place of the name and in the tab, under its hash, and an SVG can run nothing (R20)', async () => {
    for (const [name, content, type] of [
      ['logo.svg', SVG, 'image/svg+xml'],
      ['logo.png', PNG, 'image/png'],
    ] as const) {
      const brand = { name: 'Acme', logo: file(name, content) }
      const assets = loadAssets({ brand })
      assert.match(assets.logo!, /^\/assets\/logo\.[0-9a-f]{16}\.(svg|png)$/)
      const page = createPages({ assets, brand }).render(languages.best([]), 'credentials', {
        ...samples['credentials']!.page,
        nonce: 'n',
      })
      assert.ok(page.includes(`<header>\n<img class="logo" src="${assets.logo}" height="40" alt="Acme">\n</header>`))
      assert.ok(page.includes(`<link rel="icon" href="${assets.logo}">`))
      const { headers, logo } = await served(assets)
      assert.equal(headers!.get('content-type'), type)
      assert.equal(headers!.get('x-content-type-options'), 'nosniff')
      assert.deepEqual(Buffer.from(logo!, 'latin1'), Buffer.from(content))
      if (type === 'image/svg+xml')
        assert.equal(
          headers!.get('content-security-policy'),
          "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox",
        )
    }
  })

  it('leaves a sign-in page at three files and 30 KB', () => {
    const logo = file('logo.svg', SVG.padEnd(12 * 1024))
    const brand = { name: 'Acme', logo, colour: '#ff5200', colourDark: '#ff5200' }
    const assets = loadAssets({ brand })
    const files = new Set(Object.values(assets).filter((path) => typeof path === 'string'))
    assert.equal(files.size, 3)
    const js = readFileSync(new URL('../../public/sallyport.js', import.meta.url))
    const rest = css.length + brandStyles(brand).length + js.length + 12 * 1024
    const pages = createPages({ assets, brand })
    for (const name of ['credentials', 'credentials-password', 'challenge']) {
      const html = pages.render(languages.best(['fr']), name, { ...samples[name]!.page, nonce: 'n' })
      assert.ok(Buffer.byteLength(html) + rest <= 30 * 1024, `${name}: ${Buffer.byteLength(html) + rest}`)
    }
  })
})

/** What is served, the logo as Latin 1. */
async function served(assets: ReturnType<typeof loadAssets>) {
  const server = new Koa().use(assets.serve).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  try {
    const origin = `http://127.0.0.1:${(server.address() as { port: number }).port}`
    const sheet = await (await fetch(origin + assets.css)).text()
    if (!assets.logo) return { css: sheet }
    const { headers, ...answer } = await fetch(origin + assets.logo).then(async (response) => ({
      headers: response.headers,
      body: Buffer.from(await response.arrayBuffer()),
    }))
    return { css: sheet, headers, logo: answer.body.toString('latin1') }
  } finally {
    server.closeAllConnections()
    server.close()
  }
}
