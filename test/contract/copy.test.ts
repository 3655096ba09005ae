/** Every kind of row, with all that it can hold, through both databases; and no table that is forgotten. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { COPIED_COLLECTIONS } from '../../adapters/mongo/copy.ts'
import { openMongo, openMongoSource, openMongoTarget } from '../../adapters/mongo/index.ts'
import { COLLECTIONS } from '../../adapters/mongo/schemas.ts'
import { COPIED_TABLES } from '../../adapters/sqlite/copy.ts'
import { openSqlite, openSqliteSource, openSqliteTarget } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import { type CopySource, type CopyTarget, KINDS, type Kind, type Rows } from '../../server/stores.ts'
import { freshName, useMongo } from '../support/mongo.ts'
import { temporaryFolder } from '../support/temporary.ts'

const FAR = 4_000_000_000
const membership = { company: 'acme', roles: ['disburser' as const, 'company_admin' as const], disabled: true }
const nobody = {
  disabled: false,
  serverRoles: [],
  memberships: [],
  alwaysRequire2fa: false,
  securityEpoch: 0,
  factorVersion: 0,
  createdAt: 1,
}
const code = {
  id: 'c',
  replaces: 'b',
  hash: 'h',
  acknowledged: true,
  reservedBy: 'cid',
  reservedUntil: 9,
  reservations: 3,
}

/** Of each kind a full row and a bare one. */
const ROWS: { [K in Kind]: Rows[K][] } = {
  companies: [
    {
      id: 'acme',
      name: 'Acme',
      side: 'both',
      domains: ['acme.example', 'a.example'],
      disabled: true,
      mfa: { enforced_from: '2027-01-31', zone: 'America/Denver', sso: 'challenge' },
      help: 'Ask Bob.',
      rules: { lockout: true, idle_minutes: 15, sms_countries: ['US'] },
    },
    { id: 'best', name: 'Best', side: 'none', domains: [], disabled: false },
  ],
  clients: [
    { id: 'a.$b', metadata: '{"client_name":"A","$x":{"a.b":1}}', secret: 'v1.k.sealed' },
    { id: 'spa', metadata: '{}' },
  ],
  resources: [{ id: 'https://api.example', name: 'API', scopes: ['a', 'b'], options: '{"token_format":"opaque"}' }],
  people: [
    {
      ...nobody,
      id: 'ana',
      email: 'ana@acme.example',
      noticeEmail: 'ana@home.example',
      name: 'Ana',
      passwordHash: '$argon2id$…',
      formerPasswords: ['$argon2id$b', '$argon2id$a'],
      mailedLinks: {
        reset: { hash: 'r', email: 'ana@acme.example', epoch: 6, expiresAt: 7, usedAt: 5 },
        welcome: { hash: 'w', email: 'ana@acme.example', epoch: 0, expiresAt: 7 },
        email: { hash: 'e', email: 'ana@new.example', epoch: 7, expiresAt: 8 },
        notice: { hash: 'n', email: 'ana@home.example', epoch: 7, expiresAt: 8, usedAt: 6 },
        email_undo: { hash: 'u', email: 'ana@old.example', epoch: 3, expiresAt: 9 },
        enrolment: { hash: 'l', email: 'ana@acme.example', epoch: 7, expiresAt: 9 },
      },
      factorReset: { at: 1_800_000_000, open: true, heldBy: 'cid-1', heldUntil: 1_800_000_060 },
      disabled: true,
      serverRoles: ['operator', 'auditor'],
      memberships: [membership, { company: 'best', roles: [], disabled: false }],
      alwaysRequire2fa: true,
      securityEpoch: 7,
      factorVersion: 3,
      totp: { secret: 'v1.k.sealed', lastStep: 60_000_000, addedAt: 1_800_000_000 },
      phone: { number: 'v1.k.sealed', addedAt: 1_800_000_000, usedAt: 1_800_000_001 },
      recoveryCode: code,
    },
    { ...nobody, id: 'bob', email: 'bob@acme.example' },
    { ...nobody, id: 'eve', email: 'eve@x.example', recoveryCode: { id: 'c', acknowledged: false, reservations: 0 } },
  ],
  connections: [
    {
      id: 'acme-sso',
      company: 'acme',
      client: 'spa',
      state: 'active',
      domains: ['acme.example', 'a.example'],
      settings: '{"mode":"forward","idp":{"entityId":"https://idp.example"}}',
      keys: 'v1.k.sealed',
      testedAt: 1_800_000_000,
    },
    {
      id: 'bare',
      company: 'best',
      state: 'disabled',
      domains: ['best.example'],
      settings: '{"idp":{"entityId":"https://other.example"}}',
      keys: 'v1.k.sealed',
    },
  ],
  signing_keys: [
    { kid: 'z', privateJwk: 'v1.k.z', createdAt: 5, state: 'retired', retiredAt: 9 },
    { kid: 'a', privateJwk: 'v1.k.a', createdAt: 5, state: 'active' },
    { kid: 'm', privateJwk: 'v1.k.m', createdAt: 6, state: 'next', activatesAt: 12 },
  ],
  consents: [
    { account: 'ana', client: 'a.$b', permissions: ['claim name', 'email', 'https://api.example a'], since: 4 },
  ],
  links: [
    { account: 'ana', company: 'acme', issuer: 'https://idp.example', format: 'urn:f', name: 'n"[', since: 4 },
    { account: 'ana', company: 'best', issuer: 'https://idp.example', format: 'urn:f', name: 'n"[', since: 5 },
  ],
  devices: [{ device: 'd"[', account: 'ana', lastUsed: FAR, expiresAt: FAR + 400 * 24 * 60 * 60 }],
  throttles: [
    { key: 'k', count: 9, since: 3, blockedUntil: 44, disabled: false, expiresAt: FAR },
    { key: 'shut', count: 100, since: 3, blockedUntil: 0, disabled: true },
  ],
  pending: [{ owner: 'cid', purpose: 'totp', value: 'v1.k.sealed', expiresAt: FAR }],
  artifacts: [
    {
      model: 'RefreshToken',
      key: 'r',
      payload: '{"b":1,"a":[2]}',
      expiresAt: FAR,
      uid: 'u',
      grantId: 'g',
      accountId: 'ana',
      userCode: 'uc',
      consumedAt: 8,
    },
    { model: 'Session', key: 's', payload: '{"accountId":"ana"}', expiresAt: FAR, uid: 'su', accountId: 'ana' },
    { model: 'Grant', key: 'g', payload: '{}', expiresAt: undefined },
  ],
  tombstones: [
    { key: 'bare', expiresAt: FAR },
    { key: 'full', uid: 'su', payload: '{"authorizations":{}}', expiresAt: FAR },
    { key: 'nouid', payload: '{"x":1}', expiresAt: FAR },
  ],
  ended_sessions: [{ uid: 'eu', expiresAt: FAR }],
  federation_requests: [
    {
      handle: 'h',
      id: '_1',
      connectionId: 'acme-sso',
      interaction: 'i',
      createdAt: 5,
      expiresAt: FAR,
      forceAuthn: true,
      authnContexts: ['urn:a'],
      answered: true,
      facts: 'v1.k.sealed',
    },
    {
      handle: 'h2',
      id: '_2',
      connectionId: 'bare',
      interaction: 'i',
      createdAt: 5,
      expiresAt: FAR,
      forceAuthn: false,
      authnContexts: [],
      answered: false,
    },
  ],
  used_assertions: [{ issuer: 'https://idp.example/"', assertionId: '_a', handle: 'h', expiresAt: FAR }],
  federation_traces: [
    { reference: 'r', connectionId: 'acme-sso', at: 5, shelf: 'refused', said: 'v1.k.sealed', expiresAt: FAR },
    { reference: 'r2', connectionId: 'acme-sso', at: 6, shelf: 'unsigned', said: 'v1.k.sealed', expiresAt: FAR },
  ],
  outbox: [
    {
      id: 'm1',
      channel: 'mail',
      kind: 'app_added',
      accountId: 'ana',
      body: 'v1.k.sealed',
      createdAt: 4,
      firstDue: 5,
      dueAt: 6,
      usableUntil: 7,
      tries: 2,
      error: 'refused',
      expiresAt: FAR,
    },
    {
      id: 'm2',
      channel: 'sms',
      kind: 'code',
      accountId: 'bob',
      createdAt: 4,
      firstDue: 5,
      usableUntil: 7,
      tries: 1,
      sentAt: 6,
      expiresAt: FAR,
    },
  ],
  audit: ['w2', 'w1'].map((writer, index) => ({
    writer,
    number: 1,
    event: 'mfa.otp',
    ...(index === 0 && { accountId: 'ana' }),
    at: 1_800_000_000 - index,
    body: '{"x":1}',
    previous: '0',
    hash: String(index),
    position: index + 1,
  })),
}

const plain = (value: unknown) => JSON.parse(JSON.stringify(value)) as unknown
const sorted = (rows: unknown[]) => rows.map((row) => JSON.stringify(row, ordered)).sort()
const ordered = (_name: string, inner: unknown) =>
  inner && typeof inner === 'object' && !Array.isArray(inner) ? Object.fromEntries(Object.entries(inner).sort()) : inner

async function readAll<K extends Kind>(source: CopySource, kind: K): Promise<Rows[K][]> {
  const rows: Rows[K][] = []
  let after: string | undefined
  do {
    const page = await source.read(kind, after)
    rows.push(...page.rows)
    after = page.next
  } while (after !== undefined)
  return rows
}

async function fill(target: CopyTarget, from: (kind: Kind) => Promise<Rows[Kind][]>): Promise<void> {
  assert.equal(await target.claim('me', 'the source'), undefined)
  for (const kind of KINDS) await target.write(kind, (await from(kind)) as never, { owner: 'me', progress: kind })
  assert.equal(await target.claim('me', 'the source'), 'audit')
  await target.finish('me')
  await target.close()
}

describe('copies of every kind of row', function () {
  const server = useMongo(this)
  const folder = temporaryFolder()
  const file = (name: string) => join(folder, `${name}.sqlite`)

  it('come through SQLite, MongoDB and SQLite as they were', async () => {
    const url = server().url(freshName())
    const stores: [open: () => Promise<CopyTarget>, read: () => Promise<CopySource>][] = [
      [() => openSqliteTarget({ file: file('a') }), () => openSqliteSource({ file: file('a') })],
      [() => openMongoTarget({ url }), () => openMongoSource({ url })],
      [() => openSqliteTarget({ file: file('b') }), () => openSqliteSource({ file: file('b') })],
    ]
    let from = async (kind: Kind): Promise<Rows[Kind][]> => ROWS[kind]
    for (const [open, read] of stores) {
      await fill(await open(), from)
      const source = await read()
      for (const kind of KINDS) {
        const rows = await readAll(source, kind)
        assert.deepEqual(sorted(plain(rows) as unknown[]), sorted(plain(ROWS[kind]) as unknown[]), kind)
        // The order in which keys came and rows arrived.
        if (kind === 'audit')
          assert.deepEqual(
            (rows as Rows['audit'][]).map(({ writer }) => writer),
            ['w2', 'w1'],
          )
        if (kind === 'signing_keys')
          assert.deepEqual((rows as Rows['signing_keys'][]).map(({ kid }) => kid).join(''), 'zam')
      }
      const all = new Map<Kind, Rows[Kind][]>()
      for (const kind of KINDS) all.set(kind, await readAll(source, kind))
      from = async (kind) => all.get(kind)!
      await source.close()
    }
  })

  it('keep what is destroyed destroyed, on whichever database', async () => {
    const sealer = new KeyRing(newKeyRing())
    const url = server().url(freshName())
    await fill(await openMongoTarget({ url }), async (kind) => ROWS[kind])
    const databases = [await openMongo({ url, sealer }), await openSqlite({ file: file('a'), sealer })]
    for (const { artifacts } of databases) {
      for (const model of ['Session', 'Interaction'])
        await artifacts.save({ model, key: 'bare', payload: {}, expiresAt: FAR })
      await artifacts.save({ model: 'Session', key: 'new', payload: {}, expiresAt: FAR, uid: 'eu' })
      for (const [model, key] of [
        ['Session', 'bare'],
        ['Interaction', 'bare'],
        ['Session', 'new'],
      ] as const)
        assert.equal(await artifacts.find(model, key, 1), undefined, `${model} ${key}`)
      assert.equal(await artifacts.consume('RefreshToken', 'r', 9), false, 'used up')
      assert.equal(await artifacts.consume('Grant', 'g', 9), true)
      // A session goes on to be written.
      await artifacts.save({
        model: 'Session',
        key: 's',
        payload: { accountId: 'ana', x: 1 },
        expiresAt: FAR,
        uid: 'su',
      })
      assert.equal((await artifacts.find('Session', 's', 1))?.payload['x'], 1)
    }
    for (const { directory } of databases) {
      await directory.commit([{ kind: 'company', op: 'put', value: { ...ROWS.companies[1]!, name: 'Best of All' } }])
      assert.equal((await directory.company('best'))?.name, 'Best of All')
    }
    for (const database of databases) await database.close()
  })

  it('forget no table and no collection', async () => {
    const database = await openSqlite({ file: file('tables'), sealer: new KeyRing(newKeyRing()) })
    const tables = database.connection.all("SELECT name FROM sqlite_schema WHERE type = 'table'")
    await database.close()
    assert.deepEqual(tables.map(({ name }) => String(name)).sort(), [...COPIED_TABLES].sort())
    // The journal and the number of the version are the database's own.
    assert.deepEqual([...COLLECTIONS].sort(), [...COPIED_COLLECTIONS, 'journal', 'meta'].sort())
  })
})
