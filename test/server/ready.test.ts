/** Discovery and keys, answered from bodies that are made once. */
import assert from 'node:assert/strict'
import { openTestHouse, type TestHouse } from '../support/house.ts'

describe('discovery and keys', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  const paths = ['/.well-known/openid-configuration', '/jwks', '/.well-known/oauth-authorization-server']
  const ask = (path: string, headers: Record<string, string> = {}) => fetch(`${test.url}${path}`, { headers })
  /** What is the same in every answer. */
  const lasting = ({ headers }: Response) =>
    [...headers].filter(([name]) => !['date', 'x-request-id', 'connection', 'keep-alive'].includes(name)).sort()

  for (const path of paths) {
    it(`${path} is the same the second time, headers and all`, async () => {
      const first = await ask(path)
      const second = await ask(path)
      assert.equal(second.status, 200)
      assert.deepEqual(lasting(second), lasting(first))
      assert.equal(await second.text(), await first.text())
      assert.notEqual(second.headers.get('x-request-id'), first.headers.get('x-request-id'))
      assert.equal(second.headers.get('access-control-allow-origin'), '*')
      assert.equal(second.headers.get('x-content-type-options'), 'nosniff')
      assert.equal(second.headers.get('cache-control'), 'no-cache')
    })
    it(`${path} is not sent again to who has it`, async () => {
      const etag = (await ask(path)).headers.get('etag')!
      const again = await ask(path, { 'if-none-match': etag })
      assert.equal(again.status, 304)
      assert.equal(again.headers.get('etag'), etag)
      assert.equal(await again.text(), '')
      assert.equal((await ask(path, { 'if-none-match': '"another"' })).status, 200)
    })
    it(`${path} names the origin of a script that asks`, async () => {
      const answer = await ask(path, { origin: 'https://app.example' })
      assert.equal(answer.headers.get('access-control-allow-origin'), 'https://app.example')
      assert.equal((await ask(path)).headers.get('access-control-allow-origin'), '*')
    })
    it(`${path} stands in the log, with the client's address`, async () => {
      const answer = await ask(path, { 'x-forwarded-for': '203.0.113.7' })
      const id = answer.headers.get('x-request-id')!
      const line = JSON.parse(test.logs.find((one) => one.includes(id))!)
      const logged = path.replace(/[\w-]{21,}/, ':id')
      assert.deepEqual([line.method, line.path, line.status, line.ip], ['GET', logged, 200, '203.0.113.7'])
    })
  }
  it('hold no private key, and what the issuer is', async () => {
    const { issuer } = (await (await ask(paths[0]!)).json()) as { issuer: string }
    assert.equal(issuer, test.url)
    const { keys } = (await (await ask(paths[1]!)).json()) as { keys: Record<string, string>[] }
    assert.deepEqual(
      keys.map(({ kty, d }) => [kty, d]),
      [
        ['EC', undefined],
        ['RSA', undefined],
      ],
    )
    assert.match((await ask(paths[1]!)).headers.get('content-type')!, /^application\/jwk-set\+json/)
  })
  it('are another after the keys have turned and the server started again', async () => {
    const { folder } = test
    const before = await (await ask('/jwks')).text()
    const { newSigningKey } = await import('../../server/signing-keys.ts')
    await test.database.signingKeys.publishSigningKey(await newSigningKey(1), 4_000_000_000)
    await test.close()
    test = await openTestHouse({}, { folder })
    const after = await (await ask('/jwks')).text()
    assert.equal((JSON.parse(after) as { keys: unknown[] }).keys.length, 4)
    assert.notEqual(after, before)
  })
})
