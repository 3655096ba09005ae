import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import axe, { type Result, type RunOptions } from 'axe-core'
import type { BrowserContext, BrowserContextOptions, Page } from 'playwright-core'
import { packageFolder } from '../../interactions/kit/assets.ts'
import { loadLanguages } from '../../interactions/kit/messages.ts'
import { describeInBrowser } from '../support/browser.ts'
import { languages, modules, samples, samplesApp } from '../support/sample-pages.ts'
import { temporaryFolder } from '../support/temporary.ts'

const IN_PAGE = fileURLToPath(new URL('../support/in-page.js', import.meta.url))
const LOOKS = {
  light: {},
  dark: { colorScheme: 'dark' },
  'forced colors': { forcedColors: 'active' },
} as const
/** What can differ from light in another look; the rest of the page is the same. */
const COLOR_RULES = ['color-contrast', 'link-in-text-block']
const NARROW = { width: 320, height: 800 }
const PHONE = { viewport: { width: 390, height: 844 }, reducedMotion: 'reduce' } as const
/** For what an error does not change. */
const oneOfEachKind = Object.entries(samples).flatMap(([name, { code }]) => (code ? [] : [name]))
const withError = Object.entries(samples).flatMap(([name, { code }]) => (code ? [name] : []))
const TABS = 4
/** The same pages of another language or brand. */
const variantOf = (names: readonly string[], variant: string) => names.map((name) => `${name}/${variant}`)
const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 40"><style>@media(prefers-color-scheme:dark){text{fill:#fff}}</style><path fill="#ff5200" d="M0 4h32v32H0z"/><text x="40" y="28" font-size="24" font-family="sans-serif">ACME</text></svg>'

/** What a page must bear (WCAG 1.4.4, 1.4.12). */
const TEXT_TWICE_AS_LARGE = 'html{font-size:200%!important}'
const TEXT_SPACING =
  '*{line-height:1.5!important;letter-spacing:.12em!important;word-spacing:.16em!important}p{margin-bottom:2em!important}'

type Look = (tab: Page, name: string) => Promise<void>

describeInBrowser('pages in a browser', (browser) => {
  const brand = { name: 'Sallyport', homeUrl: '/' }
  const logo = join(temporaryFolder(), 'logo.svg')
  writeFileSync(logo, LOGO)
  const app = samplesApp({
    '': { brand },
    bright: { brand: { name: 'Acme Builders', logo, colour: '#ff5200' } },
    deep: { brand: { name: 'Acme Builders', logo, colour: '#002855', colourDark: '#7fb2ff' } },
    ...Object.fromEntries(languages.tags.map((tag) => [tag, { messages: languages.best([tag]), brand }])),
    wordy: { messages: wordyMessages(), brand: { ...brand, helpUrl: '/help' } },
  })
  const server = app.listen(0, '127.0.0.1')
  after(() => server.close())
  const url = (name: string) => `http://127.0.0.1:${(server.address() as AddressInfo).port}/${name}`

  /** Opens `count` tabs, and fails on anything that the browser complains about in them. */
  async function inTabs(
    count: number,
    options: BrowserContextOptions,
    use: (tab: Page, context: BrowserContext) => Promise<void>,
  ) {
    const context = await browser().newContext({ viewport: { width: 1280, height: 800 }, ...options })
    try {
      const complaints: string[] = []
      await context.addInitScript({ path: IN_PAGE })
      const open = async () => {
        const tab = await context.newPage()
        tab.on('console', (line) => line.type() === 'error' && complaints.push(`${tab.url()}: ${line.text()}`))
        tab.on('pageerror', (error) => complaints.push(`${tab.url()}: ${error.message}`))
        await use(tab, context)
      }
      await Promise.all(Array.from({ length: count }, open))
      assert.deepEqual(complaints, [])
    } finally {
      await context.close()
    }
  }
  const inTab = inTabs.bind(undefined, 1)

  /** Goes through all pages, or those of these names, in several tabs at a time. */
  async function onEveryPage(options: BrowserContextOptions, ...rest: [Look] | [readonly string[], Look]) {
    const [names, look] = rest.length === 1 ? [Object.keys(samples), rest[0]] : rest
    const left = [...names]
    await inTabs(TABS, options, async (tab) => {
      for (let name = left.pop(); name; name = left.pop()) {
        await tab.goto(url(name))
        await look(tab, name)
      }
    })
  }

  const focused = (tab: Page, what: string) => tab.evaluate<string>(`document.activeElement.${what}`)

  /** What axe finds, as lines. @param rules by name; without them, all */
  async function axeOn(tab: Page, where: string, rules: RunOptions = {}) {
    const options = { resultTypes: ['violations'], ...rules } satisfies RunOptions
    if (!(await tab.evaluate('Boolean(globalThis.axe)'))) await tab.evaluate(axe.source)
    const { passed, violations } = await tab.evaluate<{ passed: number; violations: Result[] }>(
      `axe.run(${JSON.stringify(options)}).then((all) => ({ passed: all.passes.length, violations: all.violations }))`,
    )
    assert.ok(passed > 0)
    return violations.flatMap(({ id, nodes }) =>
      nodes.map(({ html, failureSummary }) => `${where}: ${id}: ${html} ${failureSummary}`),
    )
  }
  const onlyColors: RunOptions = { runOnly: { type: 'rule', values: COLOR_RULES } }
  const notColors: RunOptions = { rules: Object.fromEntries(COLOR_RULES.map((rule) => [rule, { enabled: false }])) }

  it('gives axe nothing to find on any page and error, on a phone in light and dark, and 320 px wide', async () => {
    const found: string[] = []
    await onEveryPage(PHONE, async (tab, name) => {
      await tab.evaluate('inPage.openDetails()')
      found.push(...(await axeOn(tab, `${name}, light`)))
      await tab.emulateMedia({ colorScheme: 'dark' })
      found.push(...(await axeOn(tab, `${name}, dark`, onlyColors)))
      await tab.emulateMedia({ colorScheme: 'light' })
      await tab.setViewportSize(NARROW)
      found.push(...(await axeOn(tab, `${name}, 320 px`, notColors)))
      await tab.setViewportSize(PHONE.viewport)
    })
    assert.deepEqual(found, [])
  }).timeout(180_000)

  it('gives axe nothing to find on a wide screen and in forced colors', async () => {
    const found: string[] = []
    await onEveryPage({ reducedMotion: 'reduce' }, oneOfEachKind, async (tab, name) => {
      for (const [look, media] of Object.entries(LOOKS)) {
        await tab.emulateMedia({ colorScheme: 'light', forcedColors: 'none', ...media })
        found.push(...(await axeOn(tab, `${name}, ${look}`, look === 'light' ? {} : onlyColors)))
      }
    })
    assert.deepEqual(found, [])
  }).timeout(180_000)

  for (const [name, colours] of [
    ['bright', ['rgb(255, 82, 0)', 'rgb(255, 82, 0)']],
    ['deep', ['rgb(0, 40, 85)', 'rgb(127, 178, 255)']],
  ] as const)
    it(`gives axe nothing to find on the pages of a ${name} brand in light and dark, and shows its logo`, async () => {
      const found: string[] = []
      await onEveryPage(PHONE, variantOf(oneOfEachKind, name), async (tab, page) => {
        await tab.evaluate('inPage.openDetails()')
        const seen: string[] = []
        for (const colorScheme of ['light', 'dark'] as const) {
          await tab.emulateMedia({ colorScheme })
          found.push(...(await axeOn(tab, `${page}, ${colorScheme}`, colorScheme === 'light' ? {} : onlyColors)))
          seen.push(...(await tab.evaluate<string[]>('inPage.buttonColours()')))
        }
        await tab.emulateMedia({ colorScheme: 'light' })
        assert.deepEqual([...new Set(seen)], seen.length > 0 ? [...new Set(colours)] : [], page)
        const logos = await tab.evaluate('[...document.images].map(({ naturalWidth, alt }) => [naturalWidth > 0, alt])')
        assert.deepEqual(logos, [[true, 'Acme Builders']])
      })
      assert.deepEqual(found, [])
    }).timeout(180_000)

  it('says what went wrong: to screen readers at once, above the h1, and at the field (R16)', async () => {
    const wrong: string[] = []
    await onEveryPage(PHONE, withError, async (tab, name) => {
      wrong.push(...(await tab.evaluate<string[]>('inPage.unannounced()')).map((what) => `${name}: ${what}`))
    })
    assert.ok(withError.length > 50)
    assert.deepEqual(wrong, [])
  })

  it('has one h1 and a way on: a link, or a form', async () => {
    const without: string[] = []
    await onEveryPage(PHONE, async (tab, name) => {
      if (!(await tab.evaluate('inPage.leadsOn()'))) without.push(name)
    })
    assert.deepEqual(without, [])
  })

  for (const [viewport, names] of [
    [NARROW, Object.keys(samples)],
    [{ width: 1280, height: 800 }, oneOfEachKind],
  ] as const)
    it(`fits ${viewport.width} px, also with text twice as large, wide text spacing and longer words from right to left`, async () => {
      const tooWide: string[] = []
      await onEveryPage({ viewport }, names, async (tab, name) => {
        const look = async (change: string, css: string) => {
          const out = await tab.evaluate<string[]>(`inPage.sticksOut(${JSON.stringify(css)})`)
          tooWide.push(...out.map((what) => `${name}, ${change}: ${what}`))
        }
        await tab.evaluate('inPage.openDetails()')
        await look('as it is', '')
        await look('200 % text', TEXT_TWICE_AS_LARGE)
        await look('text spacing', TEXT_SPACING)
        await tab.goto(url(`${name}/wordy`))
        await tab.evaluate('inPage.openDetails()')
        await look('wordy', '')
      })
      assert.deepEqual(tooWide, [])
    }).timeout(180_000)

  it('fits 320 px in every language, with every error', async () => {
    const tooWide: string[] = []
    const names = languages.tags.filter((tag) => tag !== 'en').flatMap((tag) => variantOf(Object.keys(samples), tag))
    await onEveryPage({ viewport: NARROW }, names, async (tab, name) => {
      await tab.evaluate('inPage.openDetails()')
      const out = await tab.evaluate<string[]>("inPage.sticksOut('')")
      tooWide.push(...out.map((what) => `${name}: ${what}`))
    })
    assert.deepEqual(tooWide, [])
  }).timeout(180_000)

  it('has targets and letters that are large enough (WCAG 2.5.8; iOS zooms into fields below 16 px)', async () => {
    await onEveryPage({ viewport: NARROW }, oneOfEachKind, async (tab, name) =>
      assert.deepEqual(await tab.evaluate('inPage.tooSmall()'), [], name),
    )
  })

  for (const look of ['dark', 'forced colors'] as const)
    it(`draws the QR code black on white in ${look}, module for module`, async () => {
      await inTab({ ...LOOKS[look], viewport: { width: 320, height: 800 } }, async (tab, context) => {
        await tab.goto(url('enrollment'))
        const drawing = tab.locator('.qr svg')
        assert.ok((await drawing.boundingBox())!.width >= 200)
        const png = (await drawing.screenshot()).toString('base64')
        const size = modules.size + 8
        const expected = Array.from({ length: size * size }, (_, i) => {
          const [x, y] = [(i % size) - 4, Math.floor(i / size) - 4] as const
          const isInside = Math.min(x, y) >= 0 && Math.max(x, y) < modules.size
          return isInside && modules.get(y, x) ? 0 : 255
        })
        const blank = await context.newPage() // the page's own policy allows no data: images
        assert.deepEqual(await blank.evaluate(`inPage.brightnessOf('${png}', ${size})`), expected)
      })
    })

  it('begins at the error summary, whose link leads to the field', async () => {
    await inTab({}, async (tab) => {
      await tab.goto(url('challenge.wrong_code'))
      assert.equal(await focused(tab, 'className'), 'summary')
      await tab.click('.summary a')
      assert.equal(await focused(tab, 'id'), 'code')
    })
  })

  it('begins at the only field, but not where that opens a touch keyboard', async () => {
    await inTab({}, async (tab) => {
      await tab.goto(url('challenge'))
      assert.equal(await focused(tab, 'id'), 'code')
      await tab.goto(url('enrollment'))
      assert.equal(await focused(tab, 'tagName'), 'BODY')
    })
    await inTab({ hasTouch: true, isMobile: true }, async (tab) => {
      await tab.goto(url('challenge'))
      assert.equal(await focused(tab, 'tagName'), 'BODY')
    })
  })

  it('can be walked through by keyboard, in the order of the page, from the skip link on', async () => {
    await inTab({}, async (tab) => {
      await tab.goto(url('enrollment'))
      const expected = [
        'Skip to main content',
        'Copy key',
        'On this device? Open in an authenticator app',
        'code',
        'Continue',
        'Not you? Use a different account',
        'Back to Payments',
      ]
      for (const stop of expected) {
        await tab.keyboard.press('Tab')
        assert.equal((await focused(tab, 'textContent')) || (await focused(tab, 'id')), stop)
        assert.equal(await tab.evaluate('getComputedStyle(document.activeElement).outlineStyle'), 'solid', stop)
      }
    })
  })

  it('shows the password, and hides it again before it is sent', async () => {
    await inTab({}, async (tab) => {
      await tab.goto(url('credentials-password'))
      await tab.evaluate("document.forms[0].addEventListener('submit', (event) => event.preventDefault())")
      const state = async () => [
        await tab.getAttribute('#password', 'type'),
        await tab.getAttribute('#toggle', 'aria-pressed'),
      ]
      await tab.click('#toggle')
      assert.deepEqual(await state(), ['text', 'true'])
      await tab.click('#toggle')
      assert.deepEqual(await state(), ['password', 'false'])
      await tab.click('#toggle')
      await tab.press('#password', 'Enter')
      assert.deepEqual(await state(), ['password', 'false'])
    })
  })

  it('copies the key without its spaces and the recovery code with its dashes, and says so', async () => {
    await inTab({ permissions: ['clipboard-read', 'clipboard-write'] }, async (tab) => {
      for (const [name, expected, said] of [
        ['enrollment', 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP', 'Key copied'],
        ['recovery', '7K2M-4QXN-90TB-C3HZ-8WDR-P5VE', 'Code copied'],
      ] as const) {
        await tab.goto(url(name))
        await tab.click('[data-copy]')
        await tab.getByRole('status').filter({ hasText: said }).waitFor()
        assert.equal(await tab.evaluate('navigator.clipboard.readText()'), expected)
      }
    })
  })

  it('selects the code and says which keys to press where the browser does not let it copy', async () => {
    await inTab({}, async (tab) => {
      await tab.goto(url('recovery'))
      await tab.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
      await tab.click('[data-copy]')
      await tab.getByText('Press Ctrl+C or Cmd+C to copy').waitFor()
      assert.equal(await tab.evaluate('String(getSelection())'), '7K2M-4QXN-90TB-C3HZ-8WDR-P5VE')
    })
  })

  it('prints code, site, account and date, and nothing else, dark on white', async () => {
    await inTab({ colorScheme: 'dark' }, async (tab) => {
      await tab.goto(url('recovery.acknowledge_missing'))
      await tab.emulateMedia({ media: 'print' })
      assert.equal(
        (await tab.innerText('body')).trim().replace(/\s+/g, ' '),
        '7K2M-4QXN-90TB-C3HZ-8WDR-P5VE Site Sallyport Account payor@acme.example Date March 3, 2027',
      )
      const color = await tab.evaluate<string>('getComputedStyle(document.body).color')
      for (const part of color.match(/\d+/g)!) assert.ok(Number(part) < 64, color)
    })
  })

  it('stays blank in a frame of another origin (R10)', async () => {
    const html = (_: unknown, response: { end(body: string): void }) =>
      response.end(`<!doctype html><iframe src="${url('credentials')}"></iframe>`)
    const stranger = createServer(html).listen(0, '127.0.0.1')
    const context = await browser().newContext()
    try {
      const tab = await context.newPage()
      await tab.goto(`http://localhost:${(stranger.address() as AddressInfo).port}`)
      const frame = tab.frames()[1]!
      await frame.waitForLoadState()
      assert.match(frame.url(), /^chrome-error:/)
      assert.equal(await frame.locator('input').count(), 0)
    } finally {
      await context.close()
      stranger.close()
    }
  })

  it('has everything but comforts without JavaScript', async () => {
    await inTab({ javaScriptEnabled: false }, async (tab) => {
      await tab.goto(url('enrollment'))
      assert.ok(await tab.locator('#key').isVisible())
      assert.ok(await tab.getByRole('link', { name: 'Open in an authenticator app' }).isVisible())
      assert.equal(await tab.locator('[data-copy]').isVisible(), false)
      await tab.goto(url('recovery'))
      assert.deepEqual(await tab.getByRole('button').allInnerTexts(), [
        'Download',
        'Continue',
        'Not you? Use a different account',
        'Back to Payments',
      ])
    })
  })
})

/** A language with words 40 % longer, written from right to left. */
function wordyMessages() {
  const english: Record<string, string> = JSON.parse(readFileSync(join(packageFolder('locales'), 'en.json'), 'utf8'))
  const longer = Object.entries(english).map(([key, text]) => [key, `${text} ${'x'.repeat(text.length * 0.4)}`])
  return loadLanguages({ ar: Object.fromEntries(longer) }).best(['ar'])
}
