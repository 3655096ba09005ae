/** In which language a person is spoken to: what the app asked for, from the first page to the last; else the browser's. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { nextStep, wait } from '../support/clock.ts'
import {
  acknowledge,
  CALLBACK,
  codeOf,
  enrol,
  firstSignIn,
  openTestHouse,
  recoveryCodeOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, headingOf } from '../support/visitor.ts'

const said = (language: string): Record<string, string> =>
  JSON.parse(readFileSync(new URL(`../../locales/${language}.json`, import.meta.url), 'utf8'))
const es = said('es')
const fr = said('fr')

/** A page's language and its heading. */
const spoken = (page: Answer) => [/<html lang="([^"]+)"/.exec(page.text)?.[1], headingOf(page)]

describe('languages of a sign-in', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())
  const somebody = async () => {
    people += 1
    const email = `speaker${people}@acme.example`
    await test.person(email)
    return email
  }
  const speaker = (language?: string) => Object.assign(test.visitor(), { language })

  it('says which there are in discovery (OIDC Discovery §3)', async () => {
    const { ui_locales_supported } = JSON.parse(
      (await test.visitor().go('/.well-known/openid-configuration')).text,
    ) as Record<string, unknown>
    assert.deepEqual(ui_locales_supported, ['en', 'es', 'fr'])
  })

  it('speaks what the app asked for on every page, its errors and the pages after it', async () => {
    const email = await somebody()
    const ana = speaker('es')
    const first = await ana.go(test.authUrl({ ui_locales: 'fr-CA fr en' }))
    assert.deepEqual(spoken(first), ['fr', fr['credentials.title']])
    const typo = await ana.submit(first, { email: 'ana' })
    assert.match(typo.text, new RegExp(fr['error.email_invalid']!))
    const password = await ana.submit(typo, { email })
    assert.deepEqual(spoken(password), ['fr', fr['credentials-password.title']])
    const enrolment = await ana.submit(password, { password: 'correct horse battery staple' })
    assert.deepEqual(spoken(enrolment), ['fr', fr['enrollment.title']])
    const { page } = await enrol(ana, enrolment)
    assert.deepEqual(spoken(page), ['fr', fr['recovery.title']])
    assert.match(page.text, /<dt>Date<\/dt><dd>\d+(er)? [a-zéû]+ \d{4}<\/dd>/)

    const file = await ana.submit(page, {}, '/download')
    assert.match(file.headers.get('content-disposition')!, /filename="sallyport-code-de-recuperation\.txt"/)
    assert.match(file.text, /^Code de récupération Sallyport\r\n/)
    assert.ok(file.text.includes(recoveryCodeOn(page)))

    assert.deepEqual(spoken(await ana.go(`${page.at}/nowhere`)), ['fr', fr['page.not_found.title']])
    const done = await acknowledge(ana, page)
    assert.ok(done.location?.startsWith(CALLBACK))
    assert.deepEqual(spoken(await ana.go(page.at)), ['fr', fr['page.already_done.title']])
  })

  it('goes on in that language when the sign-in has expired', async () => {
    const ana = speaker()
    const first = await ana.go(test.authUrl({ ui_locales: 'es' }))
    wait(60 * 60 + 1)
    const late = await ana.go(first.at)
    assert.deepEqual(spoken(late), ['es', es['page.expired.title']])
    assert.match(late.text, /Volver a Payments/)
  })

  it('asks for a code in that language, with the day the app was added', async () => {
    const email = await somebody()
    await firstSignIn(test, email)
    const ana = speaker()
    const challenge = await signIn(ana, await ana.go(test.authUrl({ ui_locales: 'es' })), email)
    assert.deepEqual(spoken(challenge), ['es', es['challenge.title']])
    assert.match(challenge.text, /Aplicación añadida el \d+ de [a-z]+ de \d{4}\./)
  })

  it('goes by the browser where the app asked for nothing that there is', async () => {
    for (const wish of [undefined, 'de pt', '', '* - fr_FR', 'a'.repeat(2000)]) {
      const ana = speaker('de, es-MX;q=0.7, fr;q=0.3, en;q=0')
      const first = await ana.go(test.authUrl(wish === undefined ? {} : { ui_locales: wish }))
      assert.deepEqual(spoken(first), ['es', es['credentials.title']], wish)
    }
    assert.deepEqual(spoken(await speaker('de').go(test.authUrl())), ['en', 'Sign in'])
    assert.deepEqual(spoken(await speaker().go(test.authUrl())), ['en', 'Sign in'])
    assert.deepEqual(spoken(await speaker('fr').go('/')), ['fr', 'Se connecter à Sallyport'])
    assert.deepEqual(spoken(await speaker('fr').go('/nowhere')), ['fr', fr['page.not_found.title']])
  })

  it('says a mistake of the app in the language of its request, and of the browser where that is one too', async () => {
    const unknown = await speaker('es').go(test.authUrl({ client_id: 'nobody', ui_locales: 'fr' }))
    assert.deepEqual(spoken(unknown), ['fr', fr['page.unknown_client.title']])
    const incomplete = await speaker('es').go(test.authUrl({ redirect_uri: 'https://evil.example', ui_locales: 'fr' }))
    assert.deepEqual(spoken(incomplete), ['fr', fr['page.bad_request.title']])
    const posted = await speaker('es').go('/auth', {
      form: { client_id: 'nobody', response_type: 'code', ui_locales: 'fr' },
    })
    assert.deepEqual(spoken(posted), ['fr', fr['page.unknown_client.title']])
    const twice = await speaker('es').go(`${test.authUrl({ client_id: 'nobody', ui_locales: 'fr' })}&ui_locales=en`)
    assert.equal(spoken(twice)[0], 'es')
  })

  it('keeps two sign-ins of one browser apart', async () => {
    const ana = speaker('en')
    const one = await ana.go(test.authUrl({ ui_locales: 'fr' }))
    const other = await ana.go(test.authUrl({ ui_locales: 'es', client_id: 'strict' }))
    assert.equal(spoken(await ana.go(one.at))[0], 'fr')
    assert.equal(spoken(await ana.go(other.at))[0], 'es')
  })

  it('asks about another account that is signed in here in the language of the sign-in that met it', async () => {
    const [one, other] = [await somebody(), await somebody()]
    const { secret } = await firstSignIn(test, other)
    nextStep()
    const { visitor } = await firstSignIn(test, one)
    const page = await visitor.go(test.authUrl({ prompt: 'login', ui_locales: 'fr' }))
    const challenge = await signIn(visitor, page, other)
    const met = await visitor.submit(challenge, { code: await codeOf(secret) })
    assert.deepEqual(spoken(met), ['fr', fr['switch-account.title']])
  })

  it('signs out in the language that the app asked for, to the end', async () => {
    const email = await somebody()
    const { visitor } = await firstSignIn(test, email)
    const question = await visitor.go('/session/end?ui_locales=fr')
    assert.deepEqual(spoken(question), ['fr', fr['logout.title']])
    const stays = await visitor.submit(question)
    assert.deepEqual(spoken(stays), ['fr', fr['page.still_signed_in.title']])
    const again = await visitor.go('/session/end?ui_locales=fr')
    const gone = await visitor.submit(again, { logout: 'yes' })
    assert.deepEqual(spoken(gone), ['fr', fr['signed-out.title']])
    assert.deepEqual(spoken(await visitor.go('/session/end?ui_locales=es')), ['es', es['signed-out.title']])
  })
})

describe('the default language', () => {
  it('is the one that is set', async () => {
    const test = await openTestHouse({ SALLYPORT_LANGUAGE: 'es' })
    try {
      assert.deepEqual(spoken(await test.visitor().go(test.authUrl())), ['es', es['credentials.title']])
      assert.deepEqual(spoken(await test.visitor().go(test.authUrl({ ui_locales: 'en' }))), ['en', 'Sign in'])
    } finally {
      await test.close()
    }
  })
})
