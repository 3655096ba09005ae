/** What attacks once found. Each test is the attack; it failed before the guard was there. */
import assert from 'node:assert/strict'
import { chmodSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { createPasswordHasher, KeyRing, newKeyRing, passwordCounter } from '../../interactions/index.ts'
import { ACR_2FA } from '../../interactions/policy.ts'
import { planningOf } from '../../server/provider.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import { nextStep, wait } from '../support/clock.ts'
import {
  CALLBACK,
  CHALLENGE,
  codeOf,
  enrol,
  firstSignIn,
  heldPost,
  openTestHouse,
  PASSWORD,
  REQUEST,
  secretOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'
import { type Answer, formOf, headingOf } from '../support/visitor.ts'

const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 100 })
const codeIn = (answer: Answer) => answer.location && new URL(answer.location).searchParams.get('code')
const errorIn = (answer: Answer) => answer.location && new URL(answer.location).searchParams.get('error')

async function apply(test: TestHouse, seed: object, setPasswords = false) {
  const plan = await planSeed(test.database, parseSeed(JSON.stringify(seed), 'seed.json', {}), {
    ...(await planningOf(test.house)),
    setPasswords,
  })
  await applyPlan(test.database, plan, 'operator:test')
  return plan
}

describe('attacks', () => {
  let test: TestHouse
  let people = 0
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())
  const somebody = async (role: 'payor' | 'standard' = 'payor') => {
    const email = `f${++people}@${role}.example`
    const id = await test.person(email, role)
    return { email, id }
  }

  it('a finished interaction does not come back', async () => {
    const { email } = await somebody()
    const { visitor, secret } = await firstSignIn(test, email)
    nextStep()
    const page = await visitor.go(test.authUrl({ second_factor_max_age: '0' }))
    const { action, hidden } = formOf(page)
    const answered = await visitor.request(action, { form: { ...hidden, code: await codeOf(secret) } })
    const copy = visitor.clone()
    const release = await heldPost(visitor, action, { ...hidden, code: '123456' })
    assert.ok(codeIn(await visitor.go(answered.location!)))
    await release()
    copy.cookies = [
      ...copy.cookies.filter(({ name }) => !name.startsWith('session')),
      ...visitor.cookies.filter(({ name }) => name.startsWith('session')),
    ]
    assert.ok(!codeIn(await copy.go(answered.location!)), 'a second code from one TOTP proof')
  })

  it('nor signs in again after signing out', async () => {
    const { email } = await somebody()
    const { secret } = await firstSignIn(test, email)
    nextStep()
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    const { action, hidden } = formOf(page)
    const answered = await visitor.request(action, { form: { ...hidden, code: await codeOf(secret) } })
    const copy = visitor.clone()
    const release = await heldPost(visitor, action, { ...hidden, code: '123456' })
    await visitor.go(answered.location!)
    await visitor.submit(await visitor.go(`${test.url}/session/end`), { logout: 'yes' })
    await release()
    assert.ok(!codeIn(await copy.go(answered.location!)))
  })

  it('a lost session cookie behind an open page is no loop', async () => {
    const { email } = await somebody()
    const { visitor, secret } = await firstSignIn(test, email)
    nextStep()
    const page = await visitor.go(test.authUrl({ second_factor_max_age: '0' }))
    visitor.cookies = visitor.cookies.filter(({ name }) => !name.startsWith('session'))
    await visitor.submit(page, { code: await codeOf(secret) }) // throws: a loop of redirects
  })

  it('nor is a lost resume cookie', async () => {
    const { email } = await somebody()
    const { secret } = await firstSignIn(test, email)
    nextStep()
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    visitor.cookies = visitor.cookies.filter(({ name }) => !name.startsWith('resume'))
    await visitor.submit(page, { code: await codeOf(secret) })
  })

  it('acr_values is not weakened by "constructor"', async () => {
    const { email } = await somebody('standard')
    const visitor = test.visitor()
    const answer = await signIn(
      visitor,
      await visitor.go(test.authUrl({ acr_values: `${ACR_2FA} constructor` })),
      email,
    )
    assert.ok(!codeIn(answer))
  })

  it('id_token_hint of another person is login_required', async () => {
    const [a, b] = [await somebody('standard'), await somebody('standard')]
    const [one, two] = [test.visitor(), test.visitor()]
    const tokens = await test.exchange(await signIn(one, await one.go(test.authUrl()), a.email))
    await signIn(two, await two.go(test.authUrl()), b.email)
    assert.equal(
      errorIn(await two.go(test.authUrl({ prompt: 'none', id_token_hint: tokens['id_token']! }))),
      'login_required',
    )
  })

  it('/interaction/:uid/constructor is 404', async () => {
    const visitor = test.visitor()
    const page = await visitor.go(test.authUrl())
    assert.equal((await visitor.go(`${page.at}/constructor`)).status, 404)
  })

  it('the download address leads on', async () => {
    const { email } = await somebody()
    const visitor = test.visitor()
    const { page } = await enrol(visitor, await signIn(visitor, await visitor.go(test.authUrl()), email))
    const opened = await visitor.go(`${page.at}/download`)
    assert.ok(codeIn(await visitor.submit(opened, { acknowledged: 'yes' })))
  })

  it('"Stay signed in" does not say "signed out"', async () => {
    const { email } = await somebody('standard')
    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl()), email)
    const answer = await visitor.submit(await visitor.go(`${test.url}/session/end`), {})
    assert.ok(codeIn(await visitor.go(test.authUrl({ prompt: 'none' }))), 'the session lives')
    assert.notEqual(headingOf(answer), 'You are signed out')
  })

  it('signing out twice says signed out', async () => {
    const { email } = await somebody('standard')
    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl()), email)
    const page = await visitor.go(`${test.url}/session/end`)
    await visitor.submit(page, { logout: 'yes' })
    const twice = await visitor.submit(page, { logout: 'yes' })
    assert.equal(twice.status, 200)
  })

  it('every HTML page has a Content-Security-Policy', async () => {
    const page = await test.visitor().go(`${test.url}/session/end`)
    assert.ok(page.headers.get('content-security-policy'))
  })

  it('a password change during an enrolment voids the chain', async () => {
    const { email, id } = await somebody()
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    const { factors, directory } = test.database
    const real = factors.activate
    const passwordHash = await hasher.hash('an entirely new password')
    factors.activate = async function (this: typeof factors, ...rest) {
      factors.activate = real
      await directory.commit([{ kind: 'user', op: 'put', value: (await directory.user(id))!, passwordHash }])
      return real.apply(factors, rest)
    }
    const after = await visitor.submit(page, { code: await codeOf(secretOn(page)) })
    assert.deepEqual((await test.database.accounts.find(id))!.enrolled, {}, "the old password's app does not stand")
    assert.equal(headingOf(after), 'Sign in')
  })

  it('enrolling switches "Always require 2FA" on', async () => {
    const { email, id } = await somebody('standard')
    await firstSignIn(test, email, { acr_values: ACR_2FA })
    assert.equal((await test.database.accounts.find(id))!.alwaysRequire2fa, true)
    const visitor = test.visitor()
    assert.ok(!codeIn(await signIn(visitor, await visitor.go(test.authUrl()), email)))
  })

  it('a hash that cannot be verified is refused by apply', async () => {
    const password_hash = `$argon2id$v=19$m=19456,t=2,p=1$${'A'.repeat(25)}$${'A'.repeat(43)}`
    await assert.rejects(apply(test, { users: [{ email: 'hash@x.example', password_hash }] }))
  })

  for (const [what, more] of Object.entries({
    'initiate_login_uri http': { initiate_login_uri: 'http://rp.example/start' },
    'unknown acr': { default_acr_values: ['nonsense'] },
    'client_secret é': { client_secret: 'é'.repeat(40) },
  }))
    it(`a client that apply takes works: ${what}`, async () => {
      const client_id = `f13-${Object.keys(more)[0]}`
      try {
        await apply(test, {
          clients: [{ client_id, client_secret: 'x'.repeat(40), redirect_uris: [CALLBACK], ...more }],
        })
      } catch {
        return // refused with a sentence: good
      }
      assert.equal(headingOf(await test.visitor().go(test.authUrl({ client_id }))), 'Sign in')
    })

  it('a step-up by recovery code goes on without the password', async () => {
    const { email } = await somebody()
    const { visitor, recoveryCode } = await firstSignIn(test, email)
    nextStep()
    const page = await visitor.go(test.authUrl({ second_factor_max_age: '0' }))
    const enrolment = await visitor.submit(await visitor.go(`${page.at}/recovery`), { recovery_code: recoveryCode })
    assert.equal(headingOf((await enrol(visitor, enrolment)).page), 'Almost There')
  })

  it('"different account" gives the reservation back', async () => {
    const { email } = await somebody()
    const { recoveryCode } = await firstSignIn(test, email)
    nextStep()
    const visitor = test.visitor()
    const page = await signIn(visitor, await visitor.go(test.authUrl()), email)
    const enrolment = await visitor.submit(await visitor.go(`${page.at}/recovery`), { recovery_code: recoveryCode })
    const again = await signIn(visitor, await visitor.submit(enrolment, {}, '/different'), email)
    assert.equal(headingOf(again), CHALLENGE)
  })

  it('the Origin check of the logout form has no second address', async () => {
    for (const path of ['/session/end/confirm/', '/SESSION/end/confirm'])
      assert.ok(
        [403, 404].includes(
          (
            await test.visitor().request(path, {
              form: { xsrf: 'x' },
              headers: { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
            })
          ).status,
        ),
        path,
      )
  })

  it('a stranger does not lock somebody out for good, and a new password opens', async () => {
    const { email } = await somebody('standard')
    for (let i = 1; i <= 100; i++) {
      const stranger = test.visitor()
      await signIn(stranger, await stranger.go(test.authUrl()), email, 'wrong wrong wrong')
      wait(i % 10 === 0 ? 1801 : 61)
    }
    const phone = test.visitor()
    const refused = await signIn(phone, await phone.go(test.authUrl()), email)
    assert.doesNotMatch(refused.text, /Infinity/)
    await apply(test, { users: [{ email, password: 'an entirely new password' }] }, true)
    const again = test.visitor()
    assert.ok(codeIn(await signIn(again, await again.go(test.authUrl()), email, 'an entirely new password')))
  })

  it('signing out while a resume is under way signs out', async () => {
    const { email } = await somebody()
    const { visitor, secret } = await firstSignIn(test, email)
    nextStep()
    const page = await visitor.go(test.authUrl({ second_factor_max_age: '0' }))
    const tab = visitor.clone()
    const question = await tab.go(`${test.url}/session/end`)
    const { artifacts } = test.database
    const real = artifacts.destroy
    artifacts.destroy = async (model, ...rest) => {
      if (model === 'Interaction') {
        artifacts.destroy = real
        assert.equal(headingOf(await tab.submit(question, { logout: 'yes' })), 'You are signed out')
      }
      return real.call(artifacts, model, ...rest)
    }
    await visitor.submit(page, { code: await codeOf(secret) })
    assert.equal(errorIn(await visitor.go(test.authUrl({ prompt: 'none' }))), 'login_required')
  })

  it('of two resumes of one interaction one wins', async () => {
    const { email } = await somebody()
    const { visitor, secret } = await firstSignIn(test, email)
    nextStep()
    const page = await visitor.go(test.authUrl({ second_factor_max_age: '0' }))
    const { action, hidden } = formOf(page)
    const answered = await visitor.request(action, { form: { ...hidden, code: await codeOf(secret) } })
    const { artifacts } = test.database
    const real = artifacts.destroy
    artifacts.destroy = async (model, ...rest) => {
      if (model === 'Interaction') await new Promise((resolve) => setTimeout(resolve, 30))
      return real.call(artifacts, model, ...rest)
    }
    const twins = [visitor.clone(), visitor.clone()]
    const answers = await Promise.all(twins.map((twin) => twin.go(answered.location!)))
    artifacts.destroy = real
    assert.equal(answers.filter(codeIn).length, 1)
  })

  it('a resume while a sign-out is under way does not outlive it', async () => {
    const { email } = await somebody()
    const { visitor, secret } = await firstSignIn(test, email)
    nextStep()
    const page = await visitor.go(test.authUrl({ second_factor_max_age: '0' }))
    const tab = visitor.clone()
    const question = await tab.go(`${test.url}/session/end`)
    const release = await heldPost(tab, formOf(question).action, { ...formOf(question).hidden, logout: 'yes' })
    assert.ok(codeIn(await visitor.submit(page, { code: await codeOf(secret) })))
    assert.equal(await release(), 303)
    assert.equal(errorIn(await visitor.go(test.authUrl({ prompt: 'none' }))), 'login_required')
  })

  it('an address with a port is the same network', async () => {
    const { Visitor: Browser } = await import('../support/visitor.ts')
    const answers: number[] = []
    for (let i = 0; i < 31; i++) {
      const visitor = new Browser(test.url, `203.0.113.7:${40000 + i}`)
      answers.push((await visitor.submit(await visitor.go(test.authUrl()), { email: 'nobody@x.example' })).status)
    }
    assert.equal(answers.at(-1), 429)
  })

  it('an idled-out session gives no code', async () => {
    const idle = await openTestHouse({ SALLYPORT_SESSION_IDLE_SECONDS: '60' })
    try {
      await idle.person('idle@payor.example')
      const { visitor } = await firstSignIn(idle, 'idle@payor.example')
      wait(61)
      const answer = await visitor.go(idle.authUrl())
      assert.ok(!codeIn(answer), 'a code, nobody proved anything')
      assert.equal(headingOf(answer), 'Sign in')
    } finally {
      await idle.close()
    }
  })

  it('nor hours later, when an app polled with prompt=none meanwhile', async () => {
    const idle = await openTestHouse({ SALLYPORT_SESSION_IDLE_SECONDS: '60' })
    try {
      await idle.person('idle@payor.example')
      const { visitor } = await firstSignIn(idle, 'idle@payor.example')
      for (let i = 0; i < 360; i++) {
        wait(10)
        await visitor.go(idle.authUrl({ prompt: 'none' }))
      }
      assert.ok(
        !codeIn(await visitor.go(idle.authUrl())),
        'an hour after the idle end: a code with otp, nobody proved anything',
      )
    } finally {
      await idle.close()
    }
  })

  it('prompt=none twice in one second does not revive either', async () => {
    const idle = await openTestHouse({ SALLYPORT_SESSION_IDLE_SECONDS: '60' })
    try {
      await idle.person('idle@payor.example')
      const { visitor } = await firstSignIn(idle, 'idle@payor.example')
      wait(61)
      assert.equal(errorIn(await visitor.go(idle.authUrl({ prompt: 'none' }))), 'login_required')
      assert.equal(errorIn(await visitor.go(idle.authUrl({ prompt: 'none' }))), 'login_required')
    } finally {
      await idle.close()
    }
  })

  it('an account with an older hash takes as long as an unknown one', async () => {
    const costly = createPasswordHasher({ memoryKiB: 65536, passes: 2, parallelism: 1, concurrency: 1, queue: 10 })
    const old = await hasher.hash(PASSWORD)
    await costly.verify(undefined, 'warm up')
    const fastest = async (phc: string | undefined) => {
      const times: number[] = []
      for (let i = 0; i < 8; i++) {
        const began = performance.now()
        await costly.verify(phc, 'wrong')
        times.push(performance.now() - began)
      }
      return Math.min(...times)
    }
    const [known, unknown] = [await fastest(old), await fastest(undefined)]
    assert.ok(known > unknown * 0.7, `${Math.round(known)} ms against ${Math.round(unknown)} ms`)
  })

  it('createProvider refuses what its rule does not cover', async () => {
    const { createProvider } = await import('../../interactions/index.ts')
    const { newSigningKey } = await import('../../server/signing-keys.ts')
    const { privateJwk } = await newSigningKey(0)
    const options = {
      stores: test.database,
      keyRing: test.house.keyRing,
      passwords: hasher,
      brand: { name: 'Embedded' },
    }
    for (const feature of ['registration', 'ciba', 'openid4vci', 'clientIdMetadataDocument'])
      assert.throws(
        () =>
          createProvider(
            'http://127.0.0.1:9',
            { jwks: JSON.parse(privateJwk), features: { [feature]: { enabled: true } } } as never,
            options,
          ),
        new RegExp(`features.${feature}`),
        feature,
      )
  })

  it('an answer that nobody looked at is not counted', async () => {
    const busy = await openTestHouse({ SALLYPORT_HASH_QUEUE: '0', SALLYPORT_HASH_CONCURRENCY: '1' })
    try {
      await busy.person('owner@s.example', 'standard')
      await busy.person('noise@s.example', 'standard')
      const [owner, noise] = [busy.visitor(), busy.visitor()]
      const page = await owner.submit(await owner.go(busy.authUrl()), { email: 'owner@s.example' })
      const other = await noise.submit(await noise.go(busy.authUrl()), { email: 'noise@s.example' })
      for (let refused = 0, tries = 0; refused < 5; tries++) {
        assert.ok(tries < 100, 'the server is never busy')
        const [, answer] = await Promise.all([
          noise.clone().submit(other, { password: 'x' }),
          owner.clone().submit(page, { password: 'wrong wrong wrong wrong' }),
        ])
        if (answer.status === 503) refused += 1
        else await busy.database.throttle.clear([passwordCounter('owner@s.example')])
      }
      const quiet = await owner.submit(page, { password: PASSWORD })
      assert.notEqual(quiet.status, 429, 'the right password, five times, and now it waits')
    } finally {
      await busy.close()
    }
  })

  it('what cannot be audited is not applied', async () => {
    const { audit } = test.database
    const real = audit.append
    audit.append = async () => {
      throw new Error('disk full')
    }
    await assert.rejects(apply(test, { companies: [{ id: 'half' }] }))
    audit.append = real
    assert.equal(await test.database.directory.company('half'), undefined)
  })

  it('the logout page of a native app may lead back to it', async () => {
    await apply(test, {
      clients: [
        {
          client_id: 'native',
          application_type: 'native',
          token_endpoint_auth_method: 'none',
          redirect_uris: ['com.example.app:/cb'],
          post_logout_redirect_uris: ['com.example.app:/out'],
        },
      ],
    })
    const { email } = await somebody('standard')
    const visitor = test.visitor()
    await signIn(visitor, await visitor.go(test.authUrl()), email)
    const page = await visitor.go(
      `${test.url}/session/end?client_id=native&post_logout_redirect_uri=com.example.app:/out`,
    )
    assert.match(page.headers.get('content-security-policy')!, /form-action 'self' com\.example\.app:/)
  })

  it('an issuer with a path works or is refused', async () => {
    let house: TestHouse
    try {
      house = await openTestHouse({ SALLYPORT_ISSUER: 'https://id.example/sso' })
    } catch {
      return
    }
    try {
      const { authorization_endpoint } = (await (
        await fetch(`${house.url}/.well-known/openid-configuration`)
      ).json()) as Record<string, string>
      assert.equal(authorization_endpoint, 'https://id.example/sso/auth')
    } finally {
      await house.close()
    }
  })

  it('strangers name no audit events', async () => {
    await test.token({ grant_type: 'x\nlogin.password' })
    const [row] = await test.database.auditReader.auditRows({ limit: 1 })
    assert.match(row!.event, /^[a-z_.]+$/)
  })

  it('a payments admin at a company without a side is refused, or still needs a second factor', async () => {
    const { email } = await somebody()
    try {
      await apply(test, { companies: [{ id: 'acme', name: 'Acme Builders', domains: ['acme.example'] }] })
    } catch {
      return
    }
    const visitor = test.visitor()
    const answer = await signIn(visitor, await visitor.go(test.authUrl()), email)
    await apply(test, { companies: [{ id: 'acme', name: 'Acme Builders', side: 'payor', domains: ['acme.example'] }] })
    assert.ok(!codeIn(answer))
  })

  it('a file that is not ours is not touched', async () => {
    const file = join(temporaryFolder(), 'passwd')
    writeFileSync(file, 'root:x:0:0:root:/root:/bin/sh\n'.repeat(50))
    chmodSync(file, 0o644)
    await assert.rejects(openSqlite({ file, sealer: new KeyRing(newKeyRing()) }))
    assert.equal((statSync(file).mode & 0o777).toString(8), '644')
  })

  it('another program’s database keeps its journal mode', async () => {
    const { DatabaseSync } = (await import('@photostructure/sqlite')) as unknown as {
      DatabaseSync: new (
        file: string,
      ) => { exec(sql: string): void; prepare(sql: string): { all(): Record<string, unknown>[] }; close(): void }
    }
    const file = join(temporaryFolder(), 'other.sqlite')
    const other = new DatabaseSync(file)
    other.exec('CREATE TABLE theirs (x)')
    other.close()
    await assert.rejects(openSqlite({ file, sealer: new KeyRing(newKeyRing()) }))
    const again = new DatabaseSync(file)
    const [row] = again.prepare('PRAGMA journal_mode').all()
    again.close()
    assert.equal(row!['journal_mode'], 'delete')
  })

  it('one network does not fill the disk with sign-ins that nobody goes on with', async () => {
    const small = await openTestHouse({ SALLYPORT_STARTS_PER_MINUTE: '5' })
    try {
      await small.person('slow@standard.example', 'standard')
      const visitor = small.visitor()
      const signedIn = await signIn(visitor, await visitor.go(small.authUrl()), 'slow@standard.example')
      assert.ok(codeIn(signedIn))
      for (let i = 0; i < 4; i++)
        assert.equal((await visitor.clone().go(small.authUrl({ prompt: 'login' }))).status, 200)
      const refused = await visitor.go(small.authUrl({ prompt: 'login' }))
      assert.equal(refused.status, 429)
      assert.ok(Number(refused.headers.get('retry-after')) > 0)
      assert.equal((await small.visitor().go(small.authUrl())).status, 200, 'another network')
      wait(61)
      assert.ok(codeIn(await visitor.go(small.authUrl())))
      const rows = await small.database.auditReader.auditRows({ limit: 1000 })
      assert.ok(
        rows.every(({ event, accountId }) => event !== 'prompt.login' || accountId),
        'no row for nobody',
      )
    } finally {
      await small.close()
    }
  })

  it('a long request whose session ended behind the page begins again in full', async () => {
    const { email } = await somebody()
    const { visitor } = await firstSignIn(test, email)
    const state = 's'.repeat(20_000)
    const page = await visitor.go('/auth', { form: { ...REQUEST, state, second_factor_max_age: '0' } })
    assert.equal(headingOf(page), CHALLENGE)
    await visitor.submit(await visitor.go(`${test.url}/session/end`), { logout: 'yes' })
    const again = await visitor.go(page.at)
    assert.equal(headingOf(again), 'Sign in')
  })
})
