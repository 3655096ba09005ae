/** What the operator sets of the brand, as people get it. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openTestHouse, type TestHouse } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'

const LOGO = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 3"><script>alert(1)</script></svg>'

describe('a brand', () => {
  let test: TestHouse
  before(async () => {
    const logo = join(temporaryFolder(), 'acme.svg')
    writeFileSync(logo, LOGO)
    test = await openTestHouse({
      SALLYPORT_BRAND_NAME: 'Acme',
      SALLYPORT_BRAND_LOGO: logo,
      SALLYPORT_BRAND_COLOUR: '#ff5200',
      SALLYPORT_BRAND_COLOUR_DARK: '#ff8a50',
    })
  })
  after(() => test.close())

  it('has its logo and its colours on the sign-in page, from this origin and without inline styles', async () => {
    const visitor = test.visitor()
    const page = await visitor.go(test.authUrl())
    assert.match(page.headers.get('content-security-policy')!, /style-src 'self'; img-src 'self'/)
    const [, logo = ''] = /<img class="logo" src="([^"]+)" height="40" alt="Acme">/.exec(page.text) ?? []
    const image = await visitor.go(logo)
    assert.equal(image.text, LOGO)
    assert.equal(image.headers.get('content-type'), 'image/svg+xml')
    assert.match(image.headers.get('content-security-policy')!, /^default-src 'none'; .*; sandbox$/)
    const [, css = ''] = /<link rel="stylesheet" href="([^"]+)">/.exec(page.text) ?? []
    const sheet = await visitor.go(css)
    assert.match(sheet.text, /:root\{--brand:#ff5200;.*prefers-color-scheme:dark\)\{:root\{--brand:#ff8a50;/)
  })
})
