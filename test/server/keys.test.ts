/** Signing keys that follow one another while two servers run on one file. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { decodeProtectedHeader, importJWK, type JWK, jwtVerify } from 'jose'
import { loadConfig } from '../../server/config.ts'
import { openHouse } from '../../server/open.ts'
import {
  newSigningKey,
  PUBLISHED_AHEAD_SECONDS,
  PUBLISHED_AHEAD_SECONDS_NOW,
  retiredKeysKept,
} from '../../server/signing-keys.ts'
import { now, wait } from '../support/clock.ts'
import { freePort } from '../support/free-port.ts'
import { API, claimsIn, openTestHouse, PASSWORD, signIn, type TestHouse } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'

const TSX = import.meta.resolve('tsx')
const PROGRAM = fileURLToPath(new URL('../../server/cli/index.ts', import.meta.url))

/** An app or API that keeps the key set, and asks again only for a key that it does not know. */
class Verifier {
  keys: JWK[] = []
  asked = 0
  readonly sources: string[]

  constructor(...sources: string[]) {
    this.sources = sources
  }

  async fetch() {
    const source = this.sources[this.asked % this.sources.length]!
    this.asked += 1
    this.keys = ((await (await fetch(`${source}/jwks`)).json()) as { keys: JWK[] }).keys
  }

  async verify(token: string | undefined) {
    const { kid } = decodeProtectedHeader(token!)
    const find = () => this.keys.find((key) => key.kid === kid)
    if (!find()) await this.fetch()
    const key = find()
    assert.ok(key, `no key ${kid} at ${this.sources.join()}`)
    await jwtVerify(token!, await importJWK(key, key.alg), { currentDate: new Date() })
    return kid
  }
}

describe('signing keys', () => {
  let a: TestHouse
  let b: TestHouse
  let at: { a: string; b: string }
  let people = 0

  beforeEach(async () => {
    const [one, two] = [await freePort(), await freePort()]
    at = { a: `http://127.0.0.1:${one}`, b: `http://127.0.0.1:${two}` }
    const folder = temporaryFolder()
    a = await openTestHouse({ PORT: String(one), SALLYPORT_ISSUER: at.a }, { folder })
    b = await openTestHouse({ PORT: String(two), SALLYPORT_ISSUER: at.a }, { folder })
  })
  afterEach(async () => {
    await a.close()
    await b.close()
  })

  /** Fresh tokens, signed by this server: an ID token and a JWT access token. */
  const tokensOf = async (house: TestHouse) => {
    people += 1
    const email = `keys${people}@city.example`
    await house.person(email, 'standard')
    const visitor = house.visitor()
    const params = { resource: API, scope: 'openid payments' }
    const answer = await signIn(visitor, await visitor.go(house.authUrl(params)), email)
    const tokens = await house.exchange(answer, 'payments', { resource: API })
    return { visitor, ...tokens, both: [tokens['id_token'], tokens['access_token']] }
  }
  const publish = async (ahead: number) => {
    const key = await newSigningKey(now())
    assert.equal(await a.database.signingKeys.publishSigningKey(key, now() + ahead), true)
    return key.kid
  }
  const keySet = async (base: string) => ((await (await fetch(`${base}/jwks`)).json()) as { keys: JWK[] }).keys
  /** By their name, which is that of the ES256 pair; each has one for RS256 too. */
  const published = async (base: string) => {
    const [es256, rs256] = [[], []] as [string[], string[]]
    for (const { kid, alg } of await keySet(base)) (alg === 'RS256' ? rs256 : es256).push(kid!)
    assert.equal(rs256.length, es256.length)
    return es256
  }

  it('turn without a token that does not verify, whichever server signed and whichever is asked for the keys', async () => {
    const verifiers = [new Verifier(at.a), new Verifier(at.b), new Verifier(at.a, at.b)]
    const signedBy = async () => {
      const kids: Record<string, unknown> = {}
      for (const [name, house] of Object.entries({ a, b }))
        for (const token of (await tokensOf(house)).both)
          for (const verifier of verifiers) kids[name] = await verifier.verify(token)
      return [kids['a'], kids['b']]
    }
    const first = (await a.database.signingKeys.signingKeys())[0]!.kid
    assert.deepEqual(await signedBy(), [first, first])

    const second = await publish(PUBLISHED_AHEAD_SECONDS)
    assert.deepEqual(await published(at.a), [first])
    assert.equal(await a.reload(), true)
    assert.deepEqual(await published(at.a), [first, second])
    assert.deepEqual(await signedBy(), [first, first])
    await b.reload()
    assert.deepEqual(await signedBy(), [first, first], 'published, not signing')

    wait(PUBLISHED_AHEAD_SECONDS - 60)
    assert.equal(await a.reload(), false)
    wait(60)
    assert.equal(await a.reload(), true)
    assert.deepEqual(await signedBy(), [second, first], 'the other one has not looked yet')
    await b.reload()
    assert.deepEqual(await signedBy(), [second, second])
    assert.deepEqual((await published(at.b)).sort(), [first, second].sort())
    assert.ok(verifiers[0]!.asked <= 2 && verifiers[1]!.asked <= 2, 'nobody had to ask more often than needed')

    wait(retiredKeysKept(a.house.config) - 60)
    assert.equal(await a.reload(), false)
    wait(60)
    assert.equal(await b.reload(), true)
    assert.deepEqual(await published(at.b), [second])
    await a.reload()
    assert.deepEqual(await published(at.a), [second])
    assert.deepEqual(await signedBy(), [second, second])

    const rows = await a.database.auditReader.auditRows()
    for (const event of ['keys.activated_signing', 'keys.removed_signing'])
      assert.equal(rows.filter((row) => row.event === event).length, 1, event)
  })

  it('in a hurry too: published two minutes ahead, every server knows the key before one signs with it', async () => {
    const second = await publish(PUBLISHED_AHEAD_SECONDS_NOW)
    const verifier = new Verifier(at.b)
    wait(60) // each server looks once a minute
    await a.reload()
    await b.reload()
    wait(60)
    await a.reload()
    for (const token of (await tokensOf(a)).both) assert.equal(await verifier.verify(token), second)
  })

  it('sign by RS256 for an app that wants it, with a pair that turns along (OIDC Core §15.1)', async () => {
    const { directory } = a.database
    const value = { ...(await directory.client('payments'))!, id_token_signed_response_alg: 'RS256' }
    await directory.commit([{ kind: 'client', op: 'put', value }])
    const verifier = new Verifier(at.a)
    const algorithmsOf = async () => {
      const { both } = await tokensOf(a)
      const kids = [await verifier.verify(both[0]), await verifier.verify(both[1])]
      assert.deepEqual(
        both.map((token) => decodeProtectedHeader(token!).alg),
        ['RS256', 'ES256'],
        'the ID token is for the app, the access token for an API',
      )
      return kids
    }
    const before = await algorithmsOf()
    const second = await publish(0)
    await a.reload()
    const after = await algorithmsOf()
    assert.equal(after[1], second)
    assert.notEqual(after[0], before[0])
  })

  it('of before there were two algorithms sign by ES256 alone', async () => {
    const [key] = (JSON.parse((await newSigningKey(now())).privateJwk) as { keys: JWK[] }).keys
    const old = { kid: key!.kid!, privateJwk: JSON.stringify(key), createdAt: now() }
    assert.equal(await a.database.signingKeys.publishSigningKey(old, now()), true)
    assert.equal(await a.reload(), true)
    const verifier = new Verifier(at.a)
    for (const token of (await tokensOf(a)).both) assert.equal(await verifier.verify(token), old.kid)
  })

  it('change under a sign-in that is half done, a session and a refresh token: nothing is lost', async () => {
    const before = await tokensOf(a)
    const email = 'half@city.example'
    await a.person(email, 'standard')
    const visitor = a.visitor()
    const password = await visitor.submit(await visitor.go(a.authUrl()), { email })
    const second = await publish(0)
    assert.equal(await a.reload(), true)
    const answer = await visitor.submit(password, { password: PASSWORD })
    const { id_token } = await a.exchange(answer)
    assert.equal(decodeProtectedHeader(id_token!).kid, second)
    assert.match((await before.visitor.go(a.authUrl({ prompt: 'none' }))).location ?? '', /code=/)
    const form = { grant_type: 'refresh_token', refresh_token: before['refresh_token' as never] as string }
    const refreshed = await a.token(form)
    assert.equal(claimsIn(refreshed['id_token']).sub, claimsIn(before.both[0]).sub)
    const out = `${at.a}/session/end?${new URLSearchParams({ id_token_hint: before.both[0]! })}`
    assert.equal((await before.visitor.go(out)).status, 200, 'a hint of the retired key is good')
  })

  it('of many servers and looks at once one activates', async () => {
    const second = await publish(0)
    await Promise.all(Array.from({ length: 10 }, (_, index) => (index % 2 ? a : b).reload()))
    const keys = await a.database.signingKeys.signingKeys()
    assert.deepEqual(
      keys.map(({ kid, state }) => [kid === second, state]),
      [
        [true, 'active'],
        [false, 'retired'],
      ],
    )
    assert.equal((await a.database.auditReader.auditRows({ event: 'keys.activated_signing' })).length, 1)
  })

  it('a store that does not answer changes nothing, and the next look works', async () => {
    const store = a.database.signingKeys
    const { signingKeys } = store
    await publish(0)
    Object.assign(store, { signingKeys: () => Promise.reject(new Error('away')) })
    await assert.rejects(a.reload(), /away/)
    assert.equal((await tokensOf(b)).both.length, 2)
    Object.assign(store, { signingKeys: signingKeys.bind(store) })
    assert.equal(await a.reload(), true)
  })

  it('a running server reads them at once on SIGHUP, and goes on', async function () {
    this.timeout(60_000)
    const folder = temporaryFolder()
    const port = await freePort()
    const { PATH, HOME } = process.env
    const env = { PATH, HOME, PORT: String(port) }
    const child: ChildProcess = spawn(process.execPath, ['--import', TSX, PROGRAM, 'serve'], {
      cwd: folder,
      env,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    try {
      await once(child.stdout!, 'data')
      const base = `http://127.0.0.1:${port}`
      const config = loadConfig({ PORT: String(port), SALLYPORT_DATA_DIR: join(folder, 'data') }, folder)
      const house = await openHouse(config)
      const key = await newSigningKey(Math.floor(Date.now() / 1000))
      await house.database.signingKeys.publishSigningKey(key, now() + 1000)
      await house.close()
      assert.equal((await published(base)).length, 1)
      child.kill('SIGHUP')
      for (let i = 0; i < 100 && (await published(base)).length < 2; i++)
        await new Promise((resolve) => setTimeout(resolve, 100))
      assert.equal((await published(base)).length, 2)
    } finally {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
  })
})
