/** An app with people and pages of its own, before and after it adopts the plugin. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type Koa from 'koa'
import { createApp as createAppAfter } from '../../examples/embed/after.ts'
import { createApp as createAppBefore } from '../../examples/embed/before.ts'
import { addPerson, type Person, setPassword } from '../../examples/embed/people.ts'
import { clients } from '../../examples/embed/settings.ts'
import { newKeyRing } from '../../interactions/index.ts'
import { ACR_2FA_APP } from '../../interactions/policy.ts'
import { nextStep } from '../support/clock.ts'
import { freePort } from '../support/free-port.ts'
import { acknowledge, CHALLENGE, claimsIn, codeOf, enrol, pkce, recoveryCodeOn, signIn } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'
import { type Answer, headingOf, Visitor } from '../support/visitor.ts'

const PASSWORD = 'a password of the app itself'

/** The app on a free port. */
async function serve(createApp: (origin: string) => Promise<Koa>) {
  const port = await freePort()
  const origin = `http://127.0.0.1:${port}`
  const app = await createApp(origin)
  const server: Server = createServer(app.callback())
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return { origin, app, close: () => new Promise((resolve) => server.close(resolve)) }
}

const authUrl = (origin: string, params: Record<string, string> = {}) =>
  `${origin}/oidc/auth?${new URLSearchParams({
    client_id: 'ledger',
    response_type: 'code',
    redirect_uri: clients[0]!.redirect_uris[0]!,
    scope: 'openid email profile',
    state: 'the-state',
    code_challenge: pkce.challenge,
    code_challenge_method: 'S256',
    ...params,
  })}`

async function claimsOf(origin: string, answer: Answer) {
  const code = answer.location && new URL(answer.location).searchParams.get('code')
  assert.ok(code, `no code: ${answer.status} ${answer.location ?? headingOf(answer)} ${answer.text.slice(0, 300)}`)
  const { client_id, client_secret, redirect_uris } = clients[0]!
  const response = await fetch(`${origin}/oidc/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}` },
    body: new URLSearchParams({
      grant_type: 'authorization_code',
      code,
      redirect_uri: redirect_uris[0]!,
      code_verifier: pkce.verifier,
    }),
  })
  const tokens = (await response.json()) as { id_token: string; access_token: string }
  assert.equal(response.status, 200, JSON.stringify(tokens))
  const info = await fetch(`${origin}/oidc/me`, { headers: { authorization: `Bearer ${tokens.access_token}` } })
  return {
    ...claimsIn(tokens.id_token),
    iss: claimsIn(tokens.id_token)['iss'],
    userinfo: (await info.json()) as Record<string, unknown>,
  }
}

describe('an app with people of its own', () => {
  let theirs: Awaited<ReturnType<typeof serve>>
  let ours: Awaited<ReturnType<typeof serve>>
  let ana: Person
  const folder = temporaryFolder()
  let secret: string
  let browser: Visitor
  let recoveryCode: string

  it('signs in with a password of its own, before', async () => {
    theirs = await serve(createAppBefore)
    ana = addPerson('ana@ledger.example', 'Ana', PASSWORD)
    const visitor = new Visitor(theirs.origin)
    const page = await visitor.go(authUrl(theirs.origin))
    assert.equal(headingOf(page), 'Sign in to Ledger')
    const claims = await claimsOf(
      theirs.origin,
      await visitor.go(page.at, { form: { email: ana.email, password: PASSWORD } }),
    )
    assert.equal(claims.amr, undefined)
    assert.equal(claims.userinfo['plan'], 'pro')
  })

  it('adopts the plugin in under 30 lines', () => {
    const lines = (name: string) =>
      readFileSync(new URL(`../../examples/embed/${name}.ts`, import.meta.url), 'utf8')
        .split('\n')
        .map((line) => line.trim())
    const old = lines('before')
    const added = lines('after').filter((line) => line !== '' && !old.includes(line))
    assert.ok(added.length < 30, `${added.length}`)
  })

  it('asks for an authenticator app at the first sign-in, under its own address, in its own look and words', async () => {
    writeFileSync(`${folder}/keys.json`, JSON.stringify(newKeyRing()))
    ours = await serve((origin) => createAppAfter(origin, folder))
    browser = new Visitor(ours.origin)
    const identifier = await browser.go(authUrl(ours.origin))
    assert.equal(new URL(identifier.at).pathname.split('/').slice(0, 3).join('/'), '/oidc/interaction')
    assert.equal(headingOf(identifier), 'Sign in to Ledger')
    assert.match(identifier.headers.get('content-security-policy')!, /style-src 'self'/)
    assert.equal(identifier.headers.get('x-content-type-options'), 'nosniff')
    const sheets = [...identifier.text.matchAll(/<link rel="stylesheet" href="([^"]+)"/g)].map(([, href]) => href!)
    assert.equal(sheets.length, 2)
    const [house, own] = await Promise.all(sheets.map((href) => browser.request(href)))
    assert.match(house!.text, /--brand:/)
    assert.equal(own!.text, readFileSync(new URL('../../examples/embed/brand.css', import.meta.url), 'utf8'))

    const enrolment = await signIn(browser, identifier, ana.email, PASSWORD)
    assert.equal(headingOf(enrolment), 'Secure Your Account')
    assert.match(enrolment.text, /Ledger moves money/)
    const enrolled = await enrol(browser, enrolment)
    secret = enrolled.secret
    recoveryCode = recoveryCodeOn(enrolled.page)
    const claims = await claimsOf(ours.origin, await acknowledge(browser, enrolled.page))
    assert.deepEqual(claims.amr, ['pwd', 'otp', 'mfa'])
    assert.equal(claims.acr, ACR_2FA_APP)
    assert.equal(claims.sub, ana.id)
    assert.equal(claims.iss, `${ours.origin}/oidc`)
    assert.deepEqual(claims.userinfo, { sub: ana.id, email: ana.email, name: 'Ana', plan: 'pro' })
  })

  it('asks for a code at the second, and for nothing while the session lives', async () => {
    const visitor = new Visitor(ours.origin)
    const challenge = await signIn(visitor, await visitor.go(authUrl(ours.origin)), ana.email, PASSWORD)
    assert.equal(headingOf(challenge), CHALLENGE)
    nextStep()
    const claims = await claimsOf(ours.origin, await visitor.submit(challenge, { code: await codeOf(secret) }))
    assert.deepEqual(claims.amr, ['pwd', 'otp', 'mfa'])
    const silent = await claimsOf(ours.origin, await visitor.go(authUrl(ours.origin, { prompt: 'none' })))
    assert.equal(silent.auth_time, claims.auth_time)
  })

  it('takes a request by POST, and signs out, under its own address', async () => {
    const [at, query] = authUrl(ours.origin).split('?')
    const posted = await browser.go(at!, { form: new URLSearchParams(query) })
    assert.match(posted.location!, /^https:\/\/ledger\.example\/callback\?code=/)
    const visitor = browser.clone()
    const question = await visitor.go(`${ours.origin}/oidc/session/end`)
    assert.equal(headingOf(question), 'Do you want to sign out?')
    const out = await visitor.submit(question, { logout: 'yes' })
    assert.equal(headingOf(out), 'You are signed out')
    const silent = await visitor.go(authUrl(ours.origin, { prompt: 'none' }))
    assert.equal(new URL(silent.location!).searchParams.get('error'), 'login_required')
  })

  it('lets nobody stay signed in past a new password of the app', async () => {
    const visitor = new Visitor(ours.origin)
    const challenge = await signIn(visitor, await visitor.go(authUrl(ours.origin)), ana.email, PASSWORD)
    nextStep()
    await claimsOf(ours.origin, await visitor.submit(challenge, { code: await codeOf(secret) }))
    setPassword(ana, 'another password of the app')
    const silent = await visitor.go(authUrl(ours.origin, { prompt: 'none' }))
    assert.equal(new URL(silent.location!).searchParams.get('error'), 'login_required')
    const old = await signIn(visitor, await visitor.go(authUrl(ours.origin)), ana.email, PASSWORD)
    assert.equal(old.status, 400)
    const page = await visitor.submit(old, { password: 'another password of the app' })
    assert.equal(headingOf(page), CHALLENGE)
  })

  it('adds a new phone by the recovery code', async () => {
    const visitor = new Visitor(ours.origin)
    const challenge = await signIn(visitor, await visitor.go(authUrl(ours.origin)), ana.email, ana.email)
    const lost = await visitor.submit(challenge, { password: 'another password of the app' })
    const form = await visitor.go(`${new URL(lost.at).pathname}/recovery`)
    const enrolment = await visitor.submit(form, { recovery_code: recoveryCode })
    const enrolled = await enrol(visitor, enrolment)
    assert.notEqual(enrolled.secret, secret)
    const claims = await claimsOf(ours.origin, await acknowledge(visitor, enrolled.page))
    assert.deepEqual(claims.amr, ['pwd', 'otp', 'mfa'])
    assert.match(ana.passwordHash, /^\$argon2id\$/, 'the hash of the app became a better one')
  })

  it('leaves its own pages alone', async () => {
    for (const path of ['/', '/pricing', '/nowhere', '/oidcish']) {
      const [old, now] = await Promise.all([fetch(theirs.origin + path), fetch(ours.origin + path)])
      assert.equal(now.status, old.status)
      assert.equal(await now.text(), await old.text())
      const headers = (response: Response) => [...response.headers].filter(([name]) => name !== 'date')
      assert.deepEqual(headers(now), headers(old))
    }
  })

  after(async () => {
    await Promise.all([theirs.close(), ours.close()])
  })
})
