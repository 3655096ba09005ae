import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Adapter } from 'oidc-provider'
import { type MongoDatabase, migrate, openMongo } from '../../adapters/mongo/index.ts'
import { openSqlite, type SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { KeyRing, type KeyRingFile, newKeyRing, SealBroken, withNewKey } from '../../interactions/kit/keyring.ts'
import { createAdapter } from '../../interactions/kit/oidc-adapter.ts'
import type { Sealer } from '../../interactions/kit/stores.ts'
import type { Change, Company, Database, WrittenConnection } from '../../server/stores.ts'
import { freshName, useMongo } from '../support/mongo.ts'
import { temporaryFolder } from '../support/temporary.ts'

const NOW = 1_800_000_000
const SECRETS = {
  totp: { ana: 'ANASANASANASANASANASANASANASANAS', bob: 'BOBSBOBSBOBSBOBSBOBSBOBSBOBSBOBS' },
  client: 'the-secret-of-a-client-that-nobody-knows',
  former: 'the-former-secret-of-that-client',
  key: '{"kty":"EC","d":"the-private-part-of-a-signing-key"}',
  pending: 'the-pending-recovery-code',
  phone: '+12025550123',
  message: 'a-link-in-a-message-to-somebody',
  saml: 'the-private-key-of-a-connection',
  trace: 'what-an-explanation-said-of-a-person',
  facts: 'what-an-identity-provider-said-of-a-person',
  session: 'the-session-id-that-is-in-a-cookie',
  code: 'the-authorization-code-in-a-redirect',
  user: 'USER-CODE',
  interaction: 'an-interaction-with-a-login-hint',
  pushed: 'a-pushed-request-with-a-login-hint',
}

const FORMER = [{ secret: SECRETS.former, until: NOW + 60 }]

const CONNECTION: WrittenConnection = {
  id: 'acme-sso',
  company: 'acme',
  domains: ['acme.example'],
  mode: 'forward',
  state: 'active',
  jit: false,
  trustedContexts: [],
  idp: { entityId: 'urn:idp', ssoUrl: 'https://idp.example', binding: 'redirect', certificates: [] },
  attributes: {},
}
const COMPANY: Company = { id: 'acme', name: 'Acme', side: 'none', domains: ['acme.example'], disabled: false }

const person = (id: string): Change => ({
  kind: 'user',
  op: 'put',
  value: { id, email: `${id}@acme.example`, disabled: false, memberships: [], serverRoles: [] },
})

/** A database and a way to look under it. */
interface Underneath {
  open(sealer: Sealer): Promise<Database>
  /** Everything that is stored. */
  everything(): Promise<Buffer[]>
  /** The sealed secrets of the authenticator apps, by person, and a way to change one. */
  totp(): Promise<Map<string, string>>
  /** The sealed secret of the client, the first signing key, and the pending value. */
  others(): Promise<{ client: string; key: string; pending: string }>
  setTotp(id: string, sealed: string): Promise<void>
}

/** What holds for every database. */
function secretsAtRest(fresh: () => Promise<Underneath>): void {
  let under: Underneath
  let ring: KeyRingFile
  let db: Database
  let instances: Database[]
  const open = async (keys: KeyRingFile = ring) => {
    const opened = await under.open(new KeyRing(keys))
    instances.push(opened)
    return opened
  }

  beforeEach(async () => {
    under = await fresh()
    ring = newKeyRing()
    instances = []
    db = await open()
    await db.directory.commit([
      { kind: 'company', op: 'put', value: COMPANY },
      person('ana'),
      person('bob'),
      { kind: 'client', op: 'put', value: { client_id: 'app', client_secret: SECRETS.client, former_secrets: FORMER } },
      { kind: 'connection', op: 'put', value: CONNECTION, firstKey: { privateKey: SECRETS.saml, certificate: 'c' } },
    ])
    for (const id of ['ana', 'bob'] as const)
      await db.factors.activate(id, {
        factor: { method: 'otp', secret: SECRETS.totp[id], step: 1 },
        now: NOW,
        factorVersion: 0,
        securityEpoch: 0,
        recoveryCodeId: 'code',
      })
    await db.factors.activate('ana', {
      factor: { method: 'sms', phone: SECRETS.phone },
      now: NOW,
      factorVersion: 1,
      securityEpoch: 0,
      recoveryCodeId: 'code',
    })
    await db.signingKeys.addFirstSigningKey({ kid: 'one', privateJwk: SECRETS.key, createdAt: NOW })
    await db.pending.keep({ owner: 'cid', purpose: 'p', value: SECRETS.pending, expiresAt: NOW + 60, now: NOW })
    const message = { id: 'm', channel: 'mail' as const, kind: 'k', accountId: 'ana', body: SECRETS.message }
    await db.outbox.put([{ ...message, createdAt: NOW, dueAt: NOW, expiresAt: NOW + 60 }])
    const request = { handle: 'handle', id: '_request', connectionId: 'acme-sso', interaction: 'uid' }
    const until = { createdAt: NOW, expiresAt: NOW + 60 }
    await db.federation.keepRequest({ ...request, ...until, forceAuthn: false, authnContexts: [] })
    const assertion = { issuer: 'https://idp.example', assertionId: '_assertion', usableUntil: NOW + 60 }
    await db.federation.acceptResponse({
      ...assertion,
      handle: 'handle',
      facts: SECRETS.facts,
      expiresAt: NOW + 60,
      now: NOW,
    })
    await db.traces.keep({
      reference: 'ref',
      connectionId: 'acme-sso',
      at: NOW,
      shelf: 'accepted',
      said: SECRETS.trace,
    })
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

  it('are stored nowhere in clear', async () => {
    const hidden = [
      ...Object.values(SECRETS.totp),
      ...Object.values(SECRETS).filter((value) => typeof value === 'string'),
    ]
    const raw = await under.everything()
    assert.ok(
      raw.some((bytes) => bytes.includes('ana@acme.example')),
      'what is not secret is found this way',
    )
    for (const bytes of raw) for (const secret of hidden) assert.ok(!bytes.includes(secret), secret)
  })
  it('do not open for somebody else when they are swapped underneath', async () => {
    const rows = await under.totp()
    await under.setTotp('ana', rows.get('bob')!)
    await under.setTotp('bob', rows.get('ana')!)
    for (const id of ['ana', 'bob']) await assert.rejects((await open()).factors.totpSecret(id), SealBroken)
  })
  it('are sealed for whose they are and what for, not for a place in one database: copied to another they open', async () => {
    const seal = new KeyRing(ring)
    const { client, key, pending } = await under.others()
    assert.equal(
      seal.open({ purpose: 'totp_secret', owner: 'ana' }, (await under.totp()).get('ana')!),
      SECRETS.totp.ana,
    )
    assert.equal(
      seal.open({ purpose: 'client_secret', owner: 'app' }, client),
      `${SECRETS.client}\n${NOW + 60} ${SECRETS.former}`,
    )
    assert.equal(seal.open({ purpose: 'signing_key', owner: 'one' }, key), SECRETS.key)
    assert.equal(seal.open({ purpose: 'pending', owner: 'cid', record: 'p' }, pending), SECRETS.pending)
  })
  it('do not open with a byte changed', async () => {
    const sealed = (await under.totp()).get('ana')!
    const at = sealed.length - 10
    await under.setTotp('ana', sealed.slice(0, at) + (sealed[at] === 'A' ? 'B' : 'A') + sealed.slice(at + 1))
    await assert.rejects(db.factors.totpSecret('ana'), /totp_secret does not open/)
    assert.equal(await db.factors.totpSecret('bob'), SECRETS.totp.bob)
  })
  it('open under the old key and the new, and only under the new after rewrap', async () => {
    const both = withNewKey(ring)
    const all = async (one: Database, keys: KeyRingFile) => {
      assert.equal(await one.factors.totpSecret('ana'), SECRETS.totp.ana)
      assert.equal(await one.factors.phone('ana'), SECRETS.phone)
      const app = await one.directory.client('app')
      assert.deepEqual([app?.client_secret, app?.former_secrets], [SECRETS.client, FORMER])
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
    await rotated.signingKeys.publishSigningKey({ kid: 'two', privateJwk: SECRETS.key, createdAt: NOW + 1 }, NOW)
    const onlyNew = { keys: [both.keys[0]!] }
    await assert.rejects((await open(onlyNew)).factors.totpSecret('ana'), /no key ".*" on the key ring: put it back/)

    assert.equal(await rotated.rewrap(), 13)
    assert.equal(await rotated.rewrap(), 0)
    await all(await open(onlyNew), onlyNew)
    const connection = await (await open(onlyNew)).connections.connection('acme-sso')
    assert.equal(connection?.keys[0]?.privateKey, SECRETS.saml)
    const renewed = await open(onlyNew)
    assert.equal(await renewed.federation.takeFacts('handle', 'uid', NOW), SECRETS.facts)
    assert.equal((await renewed.traces.find('ref', NOW))?.said, SECRETS.trace)
    assert.equal(await renewed.outbox.read('m'), SECRETS.message)
    await all(await open(both), both)
  })
}

describe('secrets at rest in SQLite', () => {
  let file: string
  const files = () => [file, `${file}-wal`, `${file}-shm`]

  secretsAtRest(async () => {
    file = join(temporaryFolder(), 'sallyport.sqlite')
    const opened: SqliteDatabase[] = []
    const connection = () => opened[0]!.connection
    return {
      async open(sealer) {
        opened.push(await openSqlite({ file, sealer }))
        return opened.at(-1)!
      },
      everything: async () => files().map((name) => readFileSync(name)),
      totp: async () =>
        new Map(
          connection()
            .all('SELECT account_id, secret FROM totp')
            .map((row) => [String(row['account_id']), String(row['secret'])]),
        ),
      others: async () => ({
        client: String(connection().get('SELECT secret FROM clients')!['secret']),
        key: String(connection().get('SELECT private_jwk FROM signing_keys')!['private_jwk']),
        pending: String(connection().get('SELECT value FROM pending')!['value']),
      }),
      async setTotp(id, sealed) {
        connection().run('UPDATE totp SET secret = ? WHERE account_id = ?', sealed, id)
      },
    }
  })
  it('are in files that only their owner reads', () => {
    for (const name of files()) assert.equal(statSync(name).mode & 0o777, 0o600, name)
  })
})

describe('secrets at rest in MongoDB', function () {
  const server = useMongo(this)
  let database: MongoDatabase

  secretsAtRest(async () => {
    const url = server().url(freshName())
    await migrate({ url })
    const journals: Buffer[] = []
    const opened: MongoDatabase[] = []
    const accounts = () => opened[0]!.collections.accounts
    return {
      async open(sealer) {
        database = await openMongo({ url, sealer })
        opened.push(database)
        const { directory, collections } = database
        const apply = directory.apply.bind(directory)
        // The journal is empty again after a commit: looked at while there is something in it.
        directory.apply = async (...commit) => {
          journals.push(Buffer.from(JSON.stringify(await collections.journal.find().lean())))
          await apply(...commit)
        }
        return database
      },
      async everything() {
        assert.ok(journals.some((journal) => journal.includes('ana@acme.example')))
        const rows = Object.values(database.collections).map((one) => one.collection.find().toArray())
        return [...journals, ...(await Promise.all(rows)).map((row) => Buffer.from(JSON.stringify(row)))]
      },
      totp: async () => new Map((await accounts().find().lean()).map(({ _id, totp }) => [_id, totp!.secret])),
      async others() {
        const { clients, signing_keys, pending } = opened[0]!.collections
        return {
          client: (await clients.findOne().lean())!.secret!,
          key: (await signing_keys.findOne().lean())!.keys[0]!.privateJwk,
          pending: (await pending.findOne().lean())!.value,
        }
      },
      async setTotp(id, sealed) {
        await accounts().updateOne({ _id: id }, { $set: { 'totp.secret': sealed } })
      },
    }
  })
})
