/** What the operator sets of the brand, as people get it. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Change } from '../../server/stores.ts'
import { firstSignIn, openTestHouse, signIn, type TestHouse } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'
import { type Answer, headingOf } from '../support/visitor.ts'

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

describe('who can help somebody who lost phone and code', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse({ SALLYPORT_SUPPORT_CONTACT: 'support@acme.example' })
  })
  after(() => test.close())

  const company = (id: string, more: object): Change => ({
    kind: 'company',
    op: 'put',
    value: { id, name: id, side: 'payor', domains: [], disabled: false, ...more },
  })
  /** What the page says under "I lost my phone and my code". */
  const helpOn = (page: Answer) =>
    /<summary>I lost my phone and my code<\/summary>\n<p[^>]*>(.*)<\/p>/.exec(page.text)?.[1]?.replace(/<[^>]+>/g, '')
  let people = 0
  /** Somebody at these companies, at the page that asks for a code. */
  async function atTheChallenge(...memberships: { company: string; disabled?: boolean }[]) {
    people += 1
    const email = `lost${people}@acme.example`
    const id = await test.person(email)
    await firstSignIn(test, email)
    const roles = ['payments_admin' as const]
    const value = {
      id,
      email,
      disabled: false,
      memberships: memberships.map((one) => ({ roles, disabled: false, ...one })),
      serverRoles: [],
    }
    await test.database.directory.commit([{ kind: 'user', op: 'put', value }])
    const visitor = test.visitor()
    const before = await visitor.go(test.authUrl())
    const password = await visitor.submit(before, { email })
    const page = await visitor.submit(password, { password: 'correct horse battery staple' })
    assert.equal(headingOf(page), 'Enter the code from your authenticator app')
    return { visitor, page, before: [before, password] }
  }

  it('says it in the words of the person’s company, on both pages that ask, and never before the password', async () => {
    await test.database.directory.commit([company('helpful', { help: 'Call Ann, 555 0100' })])
    const { visitor, page, before } = await atTheChallenge({ company: 'helpful' })
    assert.equal(helpOn(page), 'Call Ann, 555 0100')
    assert.equal(helpOn(await visitor.submit(page, { code: '000000' })), 'Call Ann, 555 0100')
    assert.equal(helpOn(await visitor.go(`${page.at}/recovery`)), 'Call Ann, 555 0100')
    for (const { text } of before) assert.doesNotMatch(text, /Call Ann|I lost my phone/)
    const stranger = test.visitor()
    const wrong = await signIn(stranger, await stranger.go(test.authUrl()), 'lost1@acme.example', 'no password of hers')
    assert.equal(wrong.status, 400)
    assert.doesNotMatch(wrong.text, /Call Ann|I lost my phone/)
    assert.doesNotMatch((await visitor.submit(page, {}, '/different')).text, /Call Ann|I lost my phone/)
  })

  it('goes by the first company that counts and has something to say', async () => {
    await test.database.directory.commit([
      company('a-closed', { help: 'Closed', disabled: true }),
      company('b-left', { help: 'Left' }),
      company('c-silent', {}),
      company('d-first', { help: 'First' }),
      company('e-second', { help: 'Second' }),
    ])
    const { page } = await atTheChallenge(
      { company: 'e-second' },
      { company: 'd-first' },
      { company: 'c-silent' },
      { company: 'b-left', disabled: true },
      { company: 'a-closed' },
    )
    assert.equal(helpOn(page), 'First')
  })

  it('names the support where no company says anything', async () => {
    const { page } = await atTheChallenge({ company: 'acme' })
    assert.match(helpOn(page)!, /^Contact the support of Sallyport\. .* support@acme\.example$/)
  })
})
