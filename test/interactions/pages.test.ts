import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import Koa, { type Middleware } from 'koa'
import { loadAssets, packageFolder } from '../../interactions/kit/assets.ts'
import type { Brand } from '../../interactions/kit/brand.ts'
import { contentSecurityPolicy, newNonce, securityHeaders } from '../../interactions/kit/headers.ts'
import { loadLanguages } from '../../interactions/kit/messages.ts'
import { createPages, type Page } from '../../interactions/kit/pages.ts'
import { languages, samples, samplesIn } from '../support/sample-pages.ts'
import { temporaryFolder } from '../support/temporary.ts'

const ROOT = join(packageFolder('views'), '..')
const messages = languages.best(['en'])
const assets = loadAssets()
const pagesOf = (brand: Brand) => createPages({ assets, brand })
const pages = pagesOf({ name: 'Sallyport' })
const draw = (view: string, page: Page) => pages.render(messages, view, { ...page, nonce: 'the-nonce' })
const sample = (name: string) => draw(samples[name]!.view, samples[name]!.page)

const filesIn = (folder: string, type: RegExp): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => type.test(name))
    .map((name) => join(folder, name))
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')

const views = ['', 'account/'].flatMap((folder) =>
  readdirSync(join(packageFolder('views'), folder))
    .filter((name) => name.endsWith('.ejs'))
    .map((name) => folder + name),
)
const templates = filesIn('views', /\.ejs$/)

/** The start tag of the element of that id. */
const tag = (html: string, id: string) => new RegExp(`<\\w+[^>]* id="${id}"[^>]*>`).exec(html)?.[0] ?? ''

/** What a person reads. */
const textOf = (html: string) =>
  html
    .replace(/<[^>]+>/g, '')
    .replaceAll('&#34;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&amp;', '&')

/** Whether `sentence` stands in `text`, with anything for its placeholders. */
const isIn = (text: string, sentence: string) =>
  new RegExp(sentence.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/\\\{\w+\\\}/g, '.+')).test(text)

/** Asserts that all these stand in `text`, in this order. */
function inOrder(text: string, parts: string[]) {
  let from = 0
  for (const part of parts) {
    const at = text.indexOf(part, from)
    assert.notEqual(at, -1, `"${part}" is missing or out of order`)
    from = at + part.length
  }
}

describe('pages', () => {
  it('has a sample of every view', () => {
    assert.deepEqual([...new Set(Object.values(samples).map(({ view }) => `${view}.ejs`))].sort(), views.sort())
  })

  for (const [name, { view, page }] of Object.entries(samples)) {
    it(`draws ${name} with its title, one h1, one main and Help in the footer`, () => {
      const html = draw(view, page)
      const error = page.error ? 'Error: ' : ''
      assert.match(html, /^<!doctype html>\n<html lang="en" dir="ltr">/)
      assert.ok(html.includes(`<title>${error}${page.title} - Sallyport</title>`))
      assert.equal(html.match(/<h1>/g)?.length, 1)
      inOrder(html, [
        'class="skip" href="#main"',
        '<header>',
        '<main id="main"',
        ...(page.error ? ['role="alert"'] : []),
        `<h1>${page.title}</h1>`,
        '</main>',
        '<footer>',
        'Help',
      ])
      assert.doesNotMatch(html, /undefined|\[object|\{\w+\}/)
    })

    it(`draws ${name} with ids that occur once and labels and descriptions that exist`, () => {
      const html = draw(view, page)
      const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id!)
      assert.deepEqual(ids, [...new Set(ids)])
      for (const [, references] of html.matchAll(/ (?:for|aria-labelledby|aria-describedby|aria-controls)="([^"]+)"/g))
        for (const id of references!.split(' ')) assert.ok(ids.includes(id), id)
    })
  }

  for (const view of views.map((name) => name.replace('.ejs', '')))
    it(`draws ${view} with an error that belongs to no field`, () => {
      const { page } = Object.values(samples).find((one) => one.view === view)!
      const html = draw(view, { ...page, error: { message: 'Try again.' } })
      assert.ok(html.includes('<title>Error: '))
      assert.match(html, /role="alert" tabindex="-1" aria-labelledby="summary-title">\n<h2 id="summary-title">/)
      assert.ok(html.includes('<li>Try again.</li>'))
      assert.doesNotMatch(html, /aria-invalid/)
    })

  it('has a sample of every error sentence and of every page that says something', () => {
    const texts = Object.values(samples).map(({ view, page }) => textOf(draw(view, page)))
    const sentences = Object.entries(JSON.parse(read('locales/en.json')) as Record<string, string>)
    const missing = sentences
      .filter(([key]) => /^(error|page)\./.test(key))
      .filter(([, sentence]) => !texts.some((text) => isIn(text, sentence)))
    assert.deepEqual(missing, [])
  })

  for (const room of ['credentials', 'challenge', 'enrollment', 'recovery', 'consent'])
    it(`has a sample of every error that ${room} names, on one of its pages`, () => {
      const files = readdirSync(new URL(`../../interactions/${room}/`, import.meta.url))
      const source = files.map((name) => read(`interactions/${room}/${name}`)).join('\n')
      // `wrongCode()` and the like: what each of them makes, from where they are written.
      const makers = [
        ...read('interactions/kit/errors.ts').matchAll(/const (\w+) = \([^)]*\) =>\s+new InteractionError\('(\w+)'/g),
      ]
      assert.equal(makers.length, 5)
      const made = makers.filter(([, maker]) => source.includes(`${maker}(`)).map(([, , code]) => code!)
      const codes = Object.keys(JSON.parse(read('locales/en.json'))).flatMap(
        (key) => /^error\.(\w+)$/.exec(key)?.[1] ?? [],
      )
      const named = [...made, ...codes.filter((code) => source.includes(`'${code}'`))]
      const shown = Object.values(samples).filter(({ view }) => view.startsWith(room))
      assert.deepEqual(
        named.filter((code) => !shown.some((one) => one.code === code)),
        [],
      )
    })

  it('has a sample of every form that was not understood, was open for too long or holds too much', () => {
    const forms = views
      .map((name) => name.replace('.ejs', ''))
      .filter((view) => /action="<%= action %>"/.test(read(`views/${view}.ejs`)))
    assert.equal(forms.length, 26)
    for (const view of forms)
      for (const code of ['form_invalid', 'form_expired', 'too_large']) assert.ok(samples[`${view}.${code}`], view)
  })

  const withField = Object.entries(samples).filter(([, { page }]) => page.error?.field)
  for (const [name, { page }] of withField)
    it(`ties the error of ${name} to its field (WCAG 3.3.1)`, () => {
      const { field, message } = page.error!
      const html = sample(name)
      assert.ok(html.includes(`<li><a href="#${field}">${message}</a></li>`))
      const input = tag(html, field!)
      assert.match(input, /aria-invalid="true"/)
      assert.match(input, new RegExp(`aria-describedby="(?:${field}-hint )?${field}-error"`))
      assert.ok(html.includes(`id="${field}-error"><span class="visually-hidden">Error:</span> ${message}`))
    })

  it('keeps the email address that was typed, and no secret', () => {
    assert.match(tag(sample('credentials.email_invalid'), 'email'), / value="payor\.acme\.example"/)
    for (const [name, id] of [
      ['credentials-password.wrong_credentials', 'password'],
      ['challenge.wrong_code', 'code'],
      ['challenge-recovery-code.wrong_recovery_code', 'recovery_code'],
    ] as const)
      assert.doesNotMatch(tag(sample(name), id), /value=/)
  })

  it('says which app asked, above the h1', () => {
    inOrder(sample('credentials'), [
      '<p class="app">to continue to <strong><bdi>Payments</bdi></strong></p>',
      '<h1>Sign in</h1>',
    ])
  })

  const ATTRIBUTES = {
    email: [
      'credentials',
      'type="email" inputmode="email" autocomplete="username" autocapitalize="none" autocorrect="off" spellcheck="false" maxlength="254"',
    ],
    username: ['credentials-password', 'type="email" autocomplete="username"'],
    password: [
      'credentials-password',
      'type="password" autocomplete="current-password" autocapitalize="none" autocorrect="off" spellcheck="false"',
    ],
    code: [
      'challenge',
      'type="text" inputmode="numeric" autocomplete="one-time-code" pattern="[0-9 ]*" autocapitalize="none" autocorrect="off" spellcheck="false" enterkeyhint="done"',
    ],
    recovery_code: [
      'challenge-recovery-code',
      'type="text" inputmode="text" autocomplete="off" autocapitalize="characters" autocorrect="off" spellcheck="false" dir="ltr"',
    ],
    acknowledged: ['recovery', 'type="checkbox" value="yes" required'],
  }
  for (const [name, [view, attributes]] of Object.entries(ATTRIBUTES))
    it(`gives ${name} the attributes that browsers and password managers go by (WCAG 1.3.5)`, () => {
      const input = tag(sample(view!), name)
      assert.ok(input.includes(` name="${name}" ${attributes}`), input)
      if (name !== 'email') assert.doesNotMatch(input, /maxlength/)
    })

  it('shows the email address on the password page, not to be changed there', () => {
    assert.match(tag(sample('credentials-password'), 'username'), /value="payor@acme\.example" readonly/)
    assert.match(sample('credentials-password'), /<a href="\/identifier">Change<span class="visually-hidden"> email/)
  })

  it('draws the code at enrolment like the one at sign-in', () => {
    assert.equal(tag(sample('enrollment'), 'code'), tag(sample('challenge'), 'code').replace(' data-focus', ''))
  })

  it('has the setup key and the otpauth link in the enrolment page at once, and the QR code with a name', () => {
    const html = sample('enrollment')
    assert.match(html, /<code id="key" class="select-all" dir="ltr" translate="no">JBSW Y3DP (\w{4} ?){6}<\/code>/)
    assert.match(html, /<a href="otpauth:\/\/totp\/Sallyport:payor%40acme\.example\?secret=/)
    assert.match(html, /<svg role="img" aria-labelledby="qr-title"[^>]*><title id="qr-title">QR code/)
  })

  it('leaves hidden what only a script can do', () => {
    for (const name of ['credentials-password', 'enrollment', 'recovery'])
      for (const [button] of sample(name).matchAll(/<button type="button"[^>]*>/g)) assert.match(button, / hidden/)
  })

  it('asks to record the recovery code before the first button of that form', () => {
    const html = sample('recovery')
    inOrder(html, ['action="/download"', 'Copy Code', 'Download', 'Print', '</form>', 'action="/here"', 'id="ack'])
    assert.ok(html.includes('I have safely recorded this code</label>'))
    assert.equal(
      /<output[^>]*>(.*?)<\/output>/s.exec(html)?.[1]?.replace(/<[^>]+>/g, ''),
      samples['recovery']!.page['code'],
    )
  })

  it('posts the CSRF token with every form of a flow, and lets no browser bubble stop it', () => {
    for (const [name, { page }] of Object.entries(samples))
      for (const [form] of sample(name).matchAll(/<form [\s\S]*?<\/form>/g)) {
        // Whoever has the one-time handle of a dry run may start it.
        if (form.includes('name="handle"')) continue
        // The request to an identity provider is no form of ours: our token is none of its business.
        if (form.includes('name="SAMLRequest"')) {
          assert.doesNotMatch(form, /csrf/)
          continue
        }
        assert.match(form, /^<form [^>]*method="post" action="\/\w+"/)
        assert.match(form, page.csrf && !form.includes('"/switch"') ? /name="csrf" value="csrf-token"/ : /name="xsrf"/)
        if (form.includes(' required')) assert.match(form, /^<form [^>]*novalidate/)
      }
  })

  it('signs out only by the button that says so', () => {
    const html = sample('logout')
    assert.match(html, /<button type="submit" name="logout" value="yes">Sign out<\/button>/)
    assert.match(html, /<button type="submit" class="quiet">Stay signed in<\/button>/)
    assert.match(
      sample('switch-account'),
      /name="xsrf" value="xsrf-token"><input type="hidden" name="logout" value="yes">/,
    )
  })

  it('puts the way back and the way out of a wrong account at the end of a flow page, as forms', () => {
    for (const action of ['/cancel', '/different'])
      assert.ok(sample('challenge').includes(`method="post" action="${action}"`))
    assert.ok(
      draw('credentials', { title: 'Sign in', email: '', cancel: { action: '/c' } }).includes('Back to the app<'),
    )
    assert.doesNotMatch(draw('credentials', { title: 'Sign in', email: '' }), /class="ways"/)
  })

  it('offers the help that the brand has', () => {
    const footer = (brand: Partial<Brand>) =>
      pagesOf({ name: 'Sallyport', ...brand })
        .render(messages, 'home', { title: 'Home', apps: [], discovery: '/d', nonce: 'n' })
        .split('<footer>')[1]
    assert.match(footer({})!, /Ask the company that invited you\./)
    assert.match(footer({ helpUrl: 'https://help.example' })!, /<a href="https:\/\/help\.example">Help<\/a>/)
    assert.doesNotMatch(footer({ helpUrl: 'https://help.example' })!, /Ask the company/)
    assert.match(footer({ supportContact: 'help@acme.example' })!, /<b>Help<\/b> <bdi>help@acme\.example<\/bdi>/)
  })

  it('says who can help somebody who lost phone and code: the company, else the support, else an administrator', () => {
    const lost = (brand: Partial<Brand>, help?: string) => {
      const html = pagesOf({ name: 'Sallyport', ...brand }).render(messages, 'challenge', {
        ...samples['challenge']!.page,
        ...(help !== undefined && { help }),
        nonce: 'n',
      })
      return /<summary>I lost my phone and my code<\/summary>\n(.*)\n<\/details>/.exec(html)?.[1] ?? ''
    }
    assert.equal(lost({ supportContact: '555 0199' }, 'Call <Ann>'), '<p dir="auto">Call &lt;Ann&gt;</p>')
    assert.match(lost({ supportContact: '555 0199' }), /^<p>Contact the support of .* <bdi>555 0199<\/bdi><\/p>$/)
    assert.match(lost({}), /^<p>Ask an administrator at your company/)
    const { page } = samples['credentials-password']!
    assert.doesNotMatch(draw('credentials-password', { ...page, help: 'Call Ann' }), /Call Ann|I lost my phone/)
  })

  it('shows whatever people and apps are called as text (R3)', () => {
    const hostile = '"><script>alert(1)</script>'
    const poison = (value: unknown): unknown => {
      if (typeof value === 'string') return hostile
      if (Array.isArray(value)) return value.map(poison)
      if (typeof value !== 'object' || value === null) return value
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, poison(inner)]))
    }
    for (const { view, page } of Object.values(samples)) {
      const html = pagesOf({ name: hostile, helpUrl: hostile, supportContact: hostile }).render(messages, view, {
        ...(poison(page) as Page),
        nonce: 'the-nonce',
      })
      assert.equal(html.match(/<script/g)?.length, 1, view)
      assert.ok(html.includes('&gt;&lt;script&gt;alert(1)'), view)
    }
  })

  it('lets an embedding app replace one view or one partial', () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'partials'))
    writeFileSync(join(folder, 'home.ejs'), "<%- include('partials/head') %>Ours<%- include('partials/foot') %>")
    writeFileSync(join(folder, 'partials', 'foot.ejs'), 'our foot')
    const theirs = createPages({ assets, brand: { name: 'Acme' }, views: [folder] })
    const home = theirs.render(messages, 'home', { title: 'Hi', apps: [], discovery: '/d', nonce: 'n' })
    assert.match(home, /<h1>Hi<\/h1>\nOursour foot$/)
    assert.match(theirs.render(messages, 'credentials', { title: 'Sign in', email: '', nonce: 'n' }), /our foot$/)
    assert.match(sample('home'), /<\/footer>/)
    assert.throws(() => theirs.render(messages, 'nowhere', { title: '', nonce: 'n' }), /no view "nowhere"/)
  })
})

describe('templates', () => {
  for (const file of templates)
    it(`${file} says what it needs, and has no inline style or script`, () => {
      const source = read(file)
      assert.match(source, /^<%# .+ -%>\n/)
      assert.doesNotMatch(source, /\sstyle\s*=|<style|\son\w+\s*=|javascript:|srcdoc|<script(?! nonce)/i)
      for (const [raw] of source.matchAll(/<%-[\s\S]*?%>/g)) assert.match(raw, /^<%- include\('partials\/[\w-]+'/)
      for (const [, url] of source.matchAll(/(?:href|src|action)="([^"]*)"/g))
        assert.match(url!, /^(<%= [^%]+ %>|#.*)$/)
    })
})

describe('messages', () => {
  const keys = Object.keys(JSON.parse(read('locales/en.json')))
  const inViews = templates.map(read).join('\n')
  const inCode = ['interactions', 'server']
    .flatMap((folder) => filesIn(folder, /\.ts$/))
    .map(read)
    .join('\n')
  // Being listed in a type is no use.
  const inUse = `${inViews}\n${inCode.replace(/^ +\| '\w+'$/gm, '')}`
  const isQuoted = (text: string) => inUse.includes(`'${text}'`)

  it('has all that the views and the code ask for', () => {
    const asked = [...`${inViews}\n${inCode}`.matchAll(/\b(?:t|around)\(\s*'([\w.-]+\w)'/g)].map(([, key]) => key!)
    assert.ok(asked.length > 80)
    assert.deepEqual(
      asked.filter((key) => !messages.has(key)),
      [],
    )
    for (const view of views.filter((name) => name !== 'message.ejs' && !name.includes('/')))
      messages.t(view.replace('ejs', 'title'))
  })

  it('has none that nobody asks for', () => {
    const unused = keys.filter((key) => {
      const [family, name, kind] = key.split('.')
      if (family === 'scope') return false
      // What the audit and the policy name, and what was done: the last word of it.
      if (family === 'account' && ['why', 'event', 'done', 'method'].includes(name!)) {
        const last = key
          .replace(/\.failed$/, '')
          .split('.')
          .at(-1)
        return !new RegExp(`\\b${last}\\b`).test(inCode)
      }
      if (family === 'mail' && kind !== undefined) return !isQuoted(name!)
      if (family === 'error' || (family === 'page' && (kind === 'title' || kind === 'text'))) return !isQuoted(name!)
      return !isQuoted(key.replace(/\.one$/, ''))
    })
    assert.deepEqual(unused, [])
  })

  it('fills in placeholders and picks the plural', () => {
    assert.match(messages.t('error.wrong_code_tries', { left: 3 }), /have 3 more tries before/)
    assert.match(messages.t('error.wrong_code_tries', { left: 1 }), /have 1 more try before/)
    assert.match(messages.t('error.clock_slow', { minutes: 1 }), /about 1 minute slow/)
    assert.throws(() => messages.t('error.nonsense'), /no message "error\.nonsense"/)
  })

  it('says a wait in words, never too short', () => {
    const said = [0.2, 1, 20, 60, 61, 1800, 7200, 86400].map(messages.duration)
    assert.deepEqual(said, [
      '1 second',
      '1 second',
      '20 seconds',
      '1 minute',
      '2 minutes',
      '30 minutes',
      '2 hours',
      '24 hours',
    ])
  })

  it('takes other words, and another language that says the rest in English', () => {
    const theirs = loadLanguages({ ar: { 'credentials.title': 'تسجيل الدخول' }, fr: { 'shell.continue': 'Suivant' } })
    assert.deepEqual(theirs.tags, ['en', 'es', 'fr', 'ar'])
    const arabic = theirs.best(['ar'])
    const page = { title: arabic.t('credentials.title'), email: '', nonce: 'n' }
    const html = pages.render(arabic, 'credentials', page)
    assert.match(html, /<html lang="ar" dir="rtl">/)
    assert.match(html, /<h1>تسجيل الدخول<\/h1>/)
    assert.match(html, />Continue<\/button>/)
    assert.match(pages.render(theirs.best(['fr']), 'credentials', page), />Suivant<\/button>/)
  })

  it('says in a variant what it does not say itself as the language does, and in English with English plurals', () => {
    const theirs = loadLanguages({ 'fr-CA': { 'shell.email': 'Courriel' }, ar: { 'error.clock_slow': '{minutes}' } })
    const canadian = theirs.best(['fr-CA'])
    assert.equal(canadian.lang, 'fr-CA')
    assert.equal(canadian.t('shell.email'), 'Courriel')
    assert.equal(canadian.t('shell.continue'), 'Continuer')
    const arabic = theirs.best(['ar'])
    assert.equal(arabic.t('error.clock_slow', { minutes: 1 }), '1')
    assert.match(arabic.t('error.wrong_code_tries', { left: 1 }), /have 1 more try/)
  })

  it('refuses what is no language', () => {
    assert.throws(() => loadLanguages({ 'shell.continue': {} }), /"shell\.continue" must be a language tag/)
    assert.throws(() => loadLanguages({}, 'de'), /"de" must be one of en, es, fr/)
  })
})

describe('languages', () => {
  const said = (lang: string) => JSON.parse(read(`locales/${lang}.json`)) as Record<string, string>
  const english = said('en')
  const FORM = /\.(zero|one|two|few|many)$/
  const sentences = (texts: Record<string, string>) => Object.keys(texts).filter((key) => !FORM.test(key))
  const placeholders = (text: string) => [...new Set(text.match(/\{\w+\}/g))].sort()

  for (const lang of languages.tags) {
    const texts = said(lang)

    it(`${lang} says what English says, with the same placeholders`, () => {
      assert.deepEqual(sentences(texts).sort(), sentences(english).sort())
      for (const [key, text] of Object.entries(texts)) {
        assert.equal(text, text.trim(), key)
        assert.deepEqual(placeholders(text), placeholders(english[key.replace(FORM, '')]!), key)
      }
    })

    it(`${lang} has every plural form where it counts`, () => {
      const forms = new Intl.PluralRules(lang).resolvedOptions().pluralCategories.filter((form) => form !== 'other')
      const counted = new Set(
        Object.keys({ ...english, ...texts }).flatMap((key) => (FORM.test(key) ? key.replace(FORM, '') : [])),
      )
      assert.equal(counted.size, 4)
      for (const key of counted)
        assert.deepEqual(
          Object.keys(texts)
            .filter((one) => FORM.test(one) && one.replace(FORM, '') === key)
            .sort(),
          forms.map((form) => `${key}.${form}`).sort(),
        )
    })

    it(`${lang} says so on every page, and leaves no placeholder`, () => {
      const here = languages.best([lang])
      const rest = ['css', 'js'].reduce((sum, type) => sum + read(`public/sallyport.${type}`).length, 0)
      for (const [name, { view, page }] of Object.entries(samplesIn(here))) {
        const html = pages.render(here, view, { ...page, nonce: 'the-nonce' })
        assert.match(html, new RegExp(`^<!doctype html>\\n<html lang="${lang}" dir="ltr">`), name)
        assert.doesNotMatch(html, /undefined|\[object|\{\w+\}/, name)
        const size = Buffer.byteLength(html) + rest
        assert.ok(size < (view === 'enrollment' ? 30 : 19) * 1024, `${name}: ${size} bytes`)
      }
    })
  }

  for (const lang of languages.tags.filter((tag) => tag !== 'en'))
    it(`${lang} leaves nothing in English`, () => {
      const texts = said(lang)
      const same = Object.keys(english).filter((key) => texts[key] === english[key])
      // Words that are the same in both.
      assert.deepEqual(
        same.filter((key) => !['shell.error', 'enrollment.type', 'recovery.site', 'recovery.date'].includes(key)),
        [],
      )
      assert.doesNotMatch(Object.values(texts).join('\n'), /(?<!\p{L})(tú|tus?|te|toi|ton|ta|tes)(?!\p{L})/iu, 'formal')
    })

  it('says dates, waits and plurals as the language does', () => {
    const [es, fr] = [languages.best(['es']), languages.best(['fr'])]
    const day = Date.UTC(2027, 2, 3) / 1000
    assert.deepEqual([es.date(day), fr.date(day)], ['3 de marzo de 2027', '3 mars 2027'])
    assert.deepEqual([es.duration(3600 * 2), fr.duration(40)], ['2 horas', '40\u00a0secondes'])
    assert.match(es.t('error.wrong_code_tries', { left: 1 }), /Le queda 1 intento antes/)
    assert.match(fr.t('error.wrong_code_tries', { left: 2 }), /reste 2 tentatives avant/)
    assert.match(fr.t('error.clock_fast', { minutes: 1234 }), /1\u202f234/)
  })

  const WISHES: [wanted: string[], got: string][] = [
    [['fr'], 'fr'],
    [['fr-CA', 'en'], 'fr'],
    [['es-419'], 'es'],
    [['FR'], 'fr'],
    [['fr-FR-u-nu-latn'], 'fr'],
    [['de', 'es', 'fr'], 'es'],
    [['de'], 'en'],
    [[], 'en'],
    [['*', '', 'x', 'fr_FR', '--', 'a'.repeat(5000), 'es'], 'es'],
    [[...Array.from({ length: 1000 }, () => 'de'), 'fr'], 'en'],
  ]
  for (const [wanted, got] of WISHES)
    it(`answers ${JSON.stringify(wanted).slice(0, 60)} in ${got}`, () => assert.equal(languages.best(wanted).lang, got))

  it('takes a script for another language, a region for a better match, and the default for the rest', () => {
    const theirs = loadLanguages({ 'zh-Hant': {}, 'pt-BR': {}, 'pt-PT': {}, 'sr-Latn': {} }, 'fr')
    const got = (...wanted: string[]) => theirs.best(wanted).lang
    assert.deepEqual(theirs.tags[0], 'fr')
    assert.deepEqual(
      [got('zh-TW'), got('zh-CN'), got('pt'), got('pt-PT'), got('pt-AO'), got('sr'), got('sr-Latn-ME')],
      ['zh-Hant', 'fr', 'pt-BR', 'pt-PT', 'pt-BR', 'fr', 'sr-Latn'],
    )
  })
})

describe('assets and headers', () => {
  it('keeps HTML, style and script of a page under 19 KB together, and under 30 KB with a QR code', () => {
    const rest = ['css', 'js'].reduce((sum, type) => sum + read(`public/sallyport.${type}`).length, 0)
    for (const [name, { view }] of Object.entries(samples)) {
      const size = Buffer.byteLength(sample(name)) + rest
      assert.ok(size < (view === 'enrollment' ? 30 : 19) * 1024, `${name}: ${size} bytes`)
    }
  })

  it('serves files with a hash in their name, to be kept for ever, and knows no others', async () => {
    await serving([securityHeaders(false), assets.serve], async (url) => {
      for (const [path, type] of [
        [assets.css, 'text/css; charset=utf-8'],
        [assets.js, 'text/javascript; charset=utf-8'],
        [assets.icon, 'image/svg+xml'],
      ] as const) {
        assert.match(path, /^\/assets\/sallyport\.[0-9a-f]{16}\.\w+$/)
        const { status, headers } = await fetch(url + path)
        assert.equal(status, 200)
        assert.equal(headers.get('content-type'), type)
        assert.equal(headers.get('cache-control'), 'public, max-age=31536000, immutable')
        assert.equal(headers.get('x-content-type-options'), 'nosniff')
      }
      for (const path of ['/assets/sallyport.css', '/assets/sallyport.0000000000000000.css', '/assets/../package.json'])
        assert.equal((await fetch(url + path)).status, 404)
      assert.equal((await fetch(url + assets.css, { method: 'POST' })).status, 404)
    })
    assert.match(loadAssets({ base: '/op' }).css, /^\/op\/assets\/sallyport\./)
  })

  it('sends every header of the list, and HSTS only on https', async () => {
    const expected = {
      'cache-control': 'no-store',
      'referrer-policy': 'same-origin',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-resource-policy': 'same-origin',
      'permissions-policy':
        'camera=(), geolocation=(), microphone=(), clipboard-write=(self), publickey-credentials-get=(self), otp-credentials=(self)',
    }
    for (const [https, hsts] of [
      [true, 'max-age=63072000; includeSubDomains'],
      [false, null],
    ] as const)
      await serving([securityHeaders(https)], async (url) => {
        const { headers } = await fetch(url)
        for (const [name, value] of Object.entries(expected)) assert.equal(headers.get(name), value, name)
        assert.equal(headers.get('strict-transport-security'), hsts)
      })
  })

  it('allows scripts by nonce only, and forms to us and to the app that asked', () => {
    assert.equal(
      contentSecurityPolicy('abc', ['https://app.example', 'com.example.app:']),
      "default-src 'none'; script-src 'nonce-abc' 'strict-dynamic'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; form-action 'self' https://app.example com.example.app:; frame-ancestors 'none'; base-uri 'none'; object-src 'none'",
    )
    assert.ok(sample('credentials').includes('<script nonce="the-nonce" src="/assets/sallyport.'))
    const nonces = Array.from({ length: 100 }, newNonce)
    assert.equal(new Set(nonces).size, 100)
    for (const nonce of nonces) assert.match(nonce, /^[\w-]{22}$/)
  })
})

async function serving(middlewares: Middleware[], use: (url: string) => Promise<void>) {
  const app = new Koa()
  for (const middleware of middlewares) app.use(middleware)
  const server = app.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}
