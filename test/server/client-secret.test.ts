/** `client rotate-secret`: the new secret and the former one, at a running server. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import { MAX_OVERLAP_SECONDS, rotateSecret } from '../../server/client-secret.ts'
import { clientEntry } from '../../server/export.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import type { Change } from '../../server/stores.ts'
import { now, wait } from '../support/clock.ts'
import { CALLBACK, CLIENT_SECRET, openTestHouse, stolen, type TestHouse, type Tokens } from '../support/house.ts'

const HOUR = 60 * 60
const METHODS = ['client_secret_basic', 'client_secret_post', 'client_secret_jwt'] as const
type Method = (typeof METHODS)[number]
const THIRD = 'another-secret-of-more-than-32-characters'

describe('client secrets', () => {
  let test: TestHouse
  /** A second process on the same database. */
  let other: TestHouse
  before(async () => {
    test = await openTestHouse()
    other = await openTestHouse({ SALLYPORT_ISSUER: test.url }, { folder: test.folder })
  })
  after(() => Promise.all([test.close(), other.close()]))
  beforeEach(() =>
    test.database.directory.commit(
      METHODS.map(
        (method): Change => ({
          kind: 'client',
          op: 'put',
          value: {
            client_id: method,
            client_secret: CLIENT_SECRET,
            token_endpoint_auth_method: method,
            redirect_uris: [CALLBACK],
            grant_types: ['authorization_code', 'refresh_token'],
          },
        }),
      ),
    ),
  )

  const rotate = (clientId: string, overlap = 24 * HOUR, house = test) =>
    rotateSecret(house.database, { clientId, overlap, now: now(), actor: 'operator:test' })

  /** Asks for tokens with this secret, by the client's own method. Who is let in gets as far as the grant, which is none. */
  const ask = async (method: Method, secret: string, house = test, header: object = {}): Promise<Tokens> => {
    const form = { grant_type: 'refresh_token', refresh_token: 'none' }
    if (method === 'client_secret_basic') {
      const pair = [method, secret].map(encodeURIComponent).join(':')
      return house.post('/token', form, { authorization: `Basic ${Buffer.from(pair).toString('base64')}` })
    }
    if (method === 'client_secret_post')
      return house.post('/token', { ...form, client_id: method, client_secret: secret })
    const client_assertion = await new SignJWT({
      iss: method,
      sub: method,
      aud: test.url,
      jti: randomUUID(),
      exp: now() + 60,
    })
      .setProtectedHeader({ alg: 'HS256', ...header })
      .sign(new TextEncoder().encode(secret))
    const client_assertion_type = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
    return house.post('/token', { ...form, client_assertion_type, client_assertion })
  }
  const opens = async (method: Method, secret: string, house = test) => {
    const { status, error } = await ask(method, secret, house)
    assert.ok(error === 'invalid_grant' || error === 'invalid_client', `${status} ${error}`)
    return error === 'invalid_grant'
  }

  for (const method of METHODS)
    describe(method, () => {
      it('takes both during the overlap, in every process, and the new one alone after it', async () => {
        assert.equal(await opens(method, CLIENT_SECRET), true)
        assert.equal(await opens(method, CLIENT_SECRET, other), true)
        const { client_secret: fresh, former_until } = await rotate(method, HOUR)
        assert.ok(former_until! - now() > HOUR - 5)
        assert.match(fresh, /^[\w-]{43}$/)
        for (const house of [test, other]) {
          assert.equal(await opens(method, fresh, house), true)
          assert.equal(await opens(method, CLIENT_SECRET, house), true)
          assert.equal(await opens(method, THIRD, house), false)
        }
        wait(former_until! - now() - 2)
        assert.equal(await opens(method, CLIENT_SECRET), true)
        wait(2)
        for (const house of [test, other]) {
          assert.equal(await opens(method, CLIENT_SECRET, house), false)
          assert.equal(await opens(method, fresh, house), true)
        }
      })

      it('ends every former one at once with no overlap', async () => {
        const one = await rotate(method)
        const two = await rotate(method, 0)
        assert.equal(two.former_until, undefined)
        for (const [secret, good] of [
          [CLIENT_SECRET, false],
          [one.client_secret, false],
          [two.client_secret, true],
        ] as const)
          assert.equal(await opens(method, secret), good)
      })

      it('leaves each former one its own time when a secret is replaced again', async () => {
        const one = await rotate(method, 2 * HOUR)
        wait(HOUR)
        const two = await rotate(method, 10 * HOUR)
        for (const secret of [CLIENT_SECRET, one.client_secret, two.client_secret])
          assert.equal(await opens(method, secret), true)
        wait(HOUR)
        assert.equal(await opens(method, CLIENT_SECRET), false)
        assert.equal(await opens(method, one.client_secret), true)
        wait(10 * HOUR)
        assert.equal(await opens(method, one.client_secret), false)
        assert.equal(await opens(method, two.client_secret), true)
      })

      it('takes nothing that only looks like one of them', async () => {
        const { client_secret: fresh } = await rotate(method)
        for (const wrong of [`${fresh}\n${CLIENT_SECRET}`, `${fresh}\n`, fresh.slice(0, -1), 'undefined', 'null'])
          assert.notEqual((await ask(method, wrong)).error, 'invalid_grant', JSON.stringify(wrong))
      })
    })

  it('a former secret signs by no other algorithm than the present one may', async () => {
    await rotate('client_secret_jwt')
    const client = (await test.database.directory.client('client_secret_jwt'))!
    const value = { ...client, token_endpoint_auth_signing_alg: 'HS256' }
    await test.database.directory.commit([{ kind: 'client', op: 'put', value }])
    assert.equal((await ask('client_secret_jwt', CLIENT_SECRET)).error, 'invalid_grant')
    const long = CLIENT_SECRET.repeat(2)
    assert.equal((await ask('client_secret_jwt', long, test, { alg: 'HS512' })).error, 'invalid_client')
  })

  it('two at once make two secrets, and both are good', async () => {
    const made = await Promise.all([test, other, test].map((house) => rotate('client_secret_post', HOUR, house)))
    assert.equal(new Set(made.map(({ client_secret }) => client_secret)).size, 3)
    for (const { client_secret } of made) assert.equal(await opens('client_secret_post', client_secret), true)
    assert.equal(await opens('client_secret_post', CLIENT_SECRET), true)
  })

  it('does not pile up: five former ones, and then none more but without overlap', async () => {
    for (let count = 0; count < 5; count += 1) await rotate('client_secret_post')
    await assert.rejects(rotate('client_secret_post'), /5 former secrets.*--overlap 0/)
    await rotate('client_secret_post', 0)
    assert.equal((await test.database.directory.client('client_secret_post'))?.former_secrets, undefined)
  })

  it('forgets those whose time is over with the next one', async () => {
    await rotate('client_secret_post', 60)
    wait(60)
    await rotate('client_secret_post', 60)
    assert.equal((await test.database.directory.client('client_secret_post'))?.former_secrets?.length, 1)
  })

  it('refuses a client that is not there, one without a secret, and a longer overlap than 30 days', async () => {
    await assert.rejects(rotate('nobody'), { name: 'StoreConflict', message: /no client "nobody"/ })
    await assert.rejects(rotate('spa'), { name: 'StoreConflict', message: /"spa" has no secret.*none/ })
    await assert.rejects(rotate('client_secret_post', MAX_OVERLAP_SECONDS + 1), RangeError)
  })

  it('tells the audit before and after, and nobody the secrets', async () => {
    const { client_secret: fresh } = await rotate('client_secret_basic')
    await ask('client_secret_basic', fresh)
    await ask('client_secret_basic', CLIENT_SECRET)
    await ask('client_secret_basic', THIRD)
    const rows = await test.database.auditReader.auditRows({ limit: 20 })
    const [begun, done] = ['administration.begun', 'client.secret_rotated'].map(
      (event) => rows.find((row) => row.event === event)!,
    )
    assert.deepEqual([begun!.clientId, done!.clientId], ['client_secret_basic', 'client_secret_basic'])
    assert.match(String(done!.details?.['former_until']), /^20\d\d-/)
    const written = JSON.stringify(rows) + test.logs.join('\n') + (await stolen(test))
    for (const secret of [fresh, CLIENT_SECRET, THIRD]) assert.ok(!written.includes(secret), secret)
  })

  describe('beside apply', () => {
    const plan = (client: object) =>
      planSeed(test.database, parseSeed(JSON.stringify({ clients: [client] }), 'seed', {}), {
        hash: async (password) => password,
      })
    const stored = async () => (await test.database.directory.client('client_secret_post'))!

    it('a file without secrets leaves both as they are', async () => {
      const { client_secret: fresh } = await rotate('client_secret_post')
      const made = await plan({ ...clientEntry(await stored()), client_name: 'Poster' })
      await applyPlan(test.database, made, 'operator:test')
      assert.equal((await stored())['client_name'], 'Poster')
      assert.equal(await opens('client_secret_post', fresh), true)
      assert.equal(await opens('client_secret_post', CLIENT_SECRET), true)
    })

    it('a file that was planned before is refused, and does not bring the former one back', async () => {
      const made = await plan({ ...clientEntry(await stored()), client_name: 'Late' })
      const { client_secret: fresh } = await rotate('client_secret_post', 0)
      await assert.rejects(applyPlan(test.database, made, 'operator:test'), /changed by somebody else/)
      assert.equal(await opens('client_secret_post', fresh), true)
    })

    it('a file that still has the former one is told so', async () => {
      await rotate('client_secret_post')
      const { notes } = await plan({ ...clientEntry(await stored()), client_secret: CLIENT_SECRET })
      assert.match(notes.join(), /client_secret_post: this client_secret was replaced before/)
    })

    it('another secret from a file ends the former ones; so does another way to authenticate', async () => {
      for (const change of [{ client_secret: THIRD }, { token_endpoint_auth_method: 'none' }]) {
        await test.database.directory.commit([
          { kind: 'client', op: 'put', value: { ...(await stored()), client_secret: CLIENT_SECRET } },
        ])
        await rotate('client_secret_post')
        await applyPlan(test.database, await plan({ ...clientEntry(await stored()), ...change }), 'operator:test')
        assert.equal((await stored()).former_secrets, undefined)
        assert.equal(await opens('client_secret_post', CLIENT_SECRET), false)
      }
    })
  })
})
