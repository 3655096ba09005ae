import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Adapter } from 'oidc-provider'
import { openSqlite, type SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { KeyRing, type KeyRingFile, newKeyRing, SealBroken, withNewKey } from '../../interactions/kit/keyring.ts'
import { createAdapter } from '../../interactions/kit/oidc-adapter.ts'
import type { Change } from '../../server/stores.ts'
import { temporaryFolder } from '../support/temporary.ts'

const NOW = 1_800_000_000
const SECRETS = {
  totp: { ana: 'ANASANASANASANASANASANASANASANAS', bob: 'BOBSBOBSBOBSBOBSBOBSBOBSBOBSBOBS' },
  client: 'the-secret-of-a-client-that-nobody-knows',
  key: '{"kty":"EC","d":"the-private-part-of-a-signing-key"}',
  pending: 'the-pending-recovery-code',
  session: 'the-session-id-that-is-in-a-cookie',
  code: 'the-authorization-code-in-a-redirect',
  user: 'USER-CODE',
  interaction: 'an-interaction-with-a-login-hint',
  pushed: 'a-pushed-request-with-a-login-hint',
}

const person = (id: string): Change => ({
  kind: 'user',
  op: 'put',
  value: { id, email: `${id}@acme.example`, disabled: false, memberships: [], serverRoles: [] },
})

describe('secrets at rest', () => {
  let file: string
  let ring: KeyRingFile
  let db: SqliteDatabase
  let instances: SqliteDatabase[]
  const open = async (keys: KeyRingFile = ring) => {
    const opened = await openSqlite({ file, sealer: new KeyRing(keys) })
    instances.push(opened)
    return opened
  }

  beforeEach(async () => {
    file = join(temporaryFolder(), 'sallyport.sqlite')
    ring = newKeyRing()
    instances = []
    db = await open()
    await db.directory.commit([
      person('ana'),
      person('bob'),
      { kind: 'client', op: 'put', value: { client_id: 'app', client_secret: SECRETS.client } },
    ])
    for (const id of ['ana', 'bob'] as const)
      await db.factors.activateTotp(id, {
        secret: SECRETS.totp[id],
        step: 1,
        now: NOW,
        factorVersion: 0,
        securityEpoch: 0,
        recoveryCodeId: 'code',
      })
    await db.signingKeys.addSigningKey({ kid: 'one', privateJwk: SECRETS.key, createdAt: NOW })
    await db.pending.keep({ owner: 'cid', purpose: 'p', value: SECRETS.pending, expiresAt: NOW + 60, now: NOW })
    const adapter = createAdapter({ artifacts: db.artifacts, sealer: new KeyRing(ring), now: () => NOW }) as (
      model: string,
    ) => Adapter
    await adapter('Session').upsert(SECRETS.session, { jti: SECRETS.session, uid: 'uid', accountId: 'ana' }, 60)
    await adapter('AuthorizationCode').upsert(SECRETS.code, { jti: SECRETS.code, grantId: 'g' }, 60)
    await adapter('DeviceCode').upsert('device', { jti: 'device', userCode: SECRETS.user }, 60)
    await adapter('Interaction').upsert('i', { jti: 'i', params: { login_hint: SECRETS.interaction } }, 60)
    await adapter('PushedAuthorizationRequest').upsert('p', { jti: 'p', request: SECRETS.pushed }, 60)
  })
  afterEach(async () => {
    for (const one of instances) await one.close().catch(() => {})
  })

  const files = () => [file, `${file}-wal`, `${file}-shm`]

  it('are in none of the files', () => {
    const hidden = [
      ...Object.values(SECRETS.totp),
      ...Object.values(SECRETS).filter((value) => typeof value === 'string'),
    ]
    const raw = files().map((name) => readFileSync(name))
    assert.ok(
      raw.some((bytes) => bytes.includes('ana@acme.example')),
      'what is not secret is found this way',
    )
    for (const [index, bytes] of raw.entries())
      for (const secret of hidden) assert.ok(!bytes.includes(secret), `${secret} in ${files()[index]}`)
  })
  it('are in files that only their owner reads', () => {
    for (const name of files()) assert.equal(statSync(name).mode & 0o777, 0o600, name)
  })
  it('do not open for somebody else when they are swapped in the file', async () => {
    const rows = db.connection.all('SELECT account_id, secret FROM totp')
    assert.equal(rows.length, 2)
    for (const [index, row] of rows.entries())
      db.connection.run(
        'UPDATE totp SET secret = ? WHERE account_id = ?',
        rows[1 - index]!['secret']!,
        row['account_id']!,
      )
    for (const id of ['ana', 'bob']) await assert.rejects((await open()).factors.totpSecret(id), SealBroken)
  })
  it('do not open with a byte changed', async () => {
    const sealed = String(db.connection.get("SELECT secret FROM totp WHERE account_id = 'ana'")!['secret'])
    const at = sealed.length - 10
    const flipped = sealed.slice(0, at) + (sealed[at] === 'A' ? 'B' : 'A') + sealed.slice(at + 1)
    db.connection.run("UPDATE totp SET secret = ? WHERE account_id = 'ana'", flipped)
    await assert.rejects(db.factors.totpSecret('ana'), /totp_secret does not open/)
    assert.equal(await db.factors.totpSecret('bob'), SECRETS.totp.bob)
  })
  it('open under the old key and the new, and only under the new after rewrap', async () => {
    const both = withNewKey(ring)
    const all = async (one: SqliteDatabase, keys: KeyRingFile) => {
      assert.equal(await one.factors.totpSecret('ana'), SECRETS.totp.ana)
      assert.equal((await one.directory.client('app'))?.client_secret, SECRETS.client)
      assert.equal((await one.signingKeys.signingKeys())[0]?.privateJwk, SECRETS.key)
      assert.equal(await one.pending.recall('cid', 'p', NOW), SECRETS.pending)
      const adapter = createAdapter({ artifacts: one.artifacts, sealer: new KeyRing(keys), now: () => NOW }) as (
        model: string,
      ) => Adapter
      const interaction = (await adapter('Interaction').find('i')) as { params?: { login_hint: string } }
      assert.equal(interaction.params?.login_hint, SECRETS.interaction)
      assert.equal((await adapter('PushedAuthorizationRequest').find('p'))?.request, SECRETS.pushed)
      assert.equal((await adapter('DeviceCode').findByUserCode(SECRETS.user))?.jti, 'device')
    }
    const rotated = await open(both)
    await all(rotated, both)
    await rotated.signingKeys.addSigningKey({ kid: 'two', privateJwk: SECRETS.key, createdAt: NOW + 1 })
    const onlyNew = { keys: [both.keys[0]!] }
    await assert.rejects((await open(onlyNew)).factors.totpSecret('ana'), /no key ".*" on the key ring: put it back/)

    assert.equal(await rotated.rewrap(), 8)
    assert.equal(await rotated.rewrap(), 0)
    await all(await open(onlyNew), onlyNew)
    await all(await open(both), both)
  })
})
