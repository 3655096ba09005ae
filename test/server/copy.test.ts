/** A deployment that moves from one database to another, whole. */
import assert from 'node:assert/strict'
import { copyFileSync, existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { openMongo } from '../../adapters/mongo/index.ts'
import { Connection } from '../../adapters/sqlite/driver.ts'
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing } from '../../interactions/index.ts'
import { storeAddress } from '../../server/config.ts'
import { contentOf, copyDeployment } from '../../server/copy.ts'
import { openCopySource, openCopyTarget } from '../../server/database.ts'
import { createKeyRing, readKeyRing } from '../../server/key-ring-file.ts'
import { type Change, type CopyTarget, KINDS } from '../../server/stores.ts'
import { nextStep } from '../support/clock.ts'
import { begin, command, ended } from '../support/command.ts'
import { freePort } from '../support/free-port.ts'
import {
  acknowledge,
  CHALLENGE,
  codeOf,
  enrol,
  errorOf,
  firstSignIn,
  hasCode,
  openTestHouse,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { freshName, useMongo } from '../support/mongo.ts'
import { temporaryFolder } from '../support/temporary.ts'
import { headingOf } from '../support/visitor.ts'

const addressOf = (store: string) => storeAddress(store, '--store', '/')

/** What a store holds, kind by kind. */
async function everything(store: string): Promise<Record<string, { rows: number; digest: string }>> {
  const source = await openCopySource(addressOf(store))
  try {
    const all = []
    for (const kind of KINDS) all.push([kind, await contentOf(source, kind, 0)] as const)
    return Object.fromEntries(all)
  } finally {
    await source.close()
  }
}

describe('copy', function () {
  this.timeout(120_000)
  const server = useMongo(this)
  const mongoStore = () => server().url(freshName())
  const sqliteStore = () => `sqlite:${join(temporaryFolder(), 'sallyport.sqlite')}`

  /** A folder with a key ring, and a database of many people in it. */
  async function crowd(people: number): Promise<{ folder: string; store: string; ring: KeyRing }> {
    const folder = temporaryFolder()
    const file = join(folder, 'data', 'keys.json')
    createKeyRing(file)
    const ring = new KeyRing(readKeyRing(file)!.ring)
    const store = `sqlite:${join(folder, 'data', 'sallyport.sqlite')}`
    const database = await openSqlite({ file: store.slice('sqlite:'.length), sealer: ring, synchronous: 'NORMAL' })
    await database.signingKeys.addFirstSigningKey({ kid: 'key-1', privateJwk: '{"kty":"EC"}', createdAt: 1 })
    const company = { id: 'acme', name: 'Acme', side: 'payor' as const, domains: ['acme.example'], disabled: false }
    const put = (index: number): Change => ({
      kind: 'user',
      op: 'put',
      value: {
        id: `person-${String(index).padStart(6, '0')}`,
        email: `person${index}@acme.example`,
        disabled: index % 7 === 0,
        memberships: [{ company: 'acme', roles: ['disburser'], disabled: false }],
        serverRoles: [],
      },
      passwordHash: `$argon2id$v=19$m=19456,t=2,p=1$salt$${index}`,
    })
    await database.directory.commit([
      { kind: 'company', op: 'put', value: company },
      ...Array.from({ length: people }, (_, index) => put(index)),
    ])
    await Promise.all(
      Array.from({ length: 700 }, (_, index) =>
        database.audit.append({ event: 'login.password', outcome: 'success', at: 1_800_000_000 + index }),
      ),
    )
    await database.close()
    return { folder, store, ring }
  }
  const copy = (folder: string, from: string, to: string) =>
    command(folder, ['copy', '--from', from, '--to', to, '--json'])

  describe('a house that people live in', () => {
    const folder = temporaryFolder()
    let port: number
    let test: TestHouse
    const open = async (store: string) => {
      test = await openTestHouse({ PORT: String(port), SALLYPORT_STORE: store }, { folder })
      // Connections that were kept open end at the server before it.
      for (let i = 0; i < 3; i++) await fetch(`${test.url}/healthz`).catch(() => {})
    }
    before(async () => {
      port = await freePort()
    })

    it('moves from SQLite to MongoDB and back: nobody notices', async () => {
      const stores = [`sqlite:${join(folder, 'data', 'first.sqlite')}`, mongoStore(), sqliteStore(), sqliteStore()]
      await open(stores[0]!)
      await test.person('ana@acme.example')
      const bobId = await test.person('bob@city.example', 'standard')
      const ana = await firstSignIn(test, 'ana@acme.example')
      let { refresh_token: token } = await test.exchange(ana.answer)
      // A third party that was agreed to, by a code that is used.
      const bob = test.visitor()
      const consent = await signIn(bob, await bob.go(test.authUrl({ client_id: 'partner' })), 'bob@city.example')
      const used = await bob.submit(consent, {})
      assert.equal((await test.exchange(used, 'partner')).status, 200)
      // Somebody signed out, somebody began to sign in, somebody typed a wrong password.
      const gone = test.visitor()
      await signIn(gone, await gone.go(test.authUrl()), 'bob@city.example')
      await gone.submit(await gone.go(`${test.url}/session/end`), { logout: 'yes' })
      const half = test.visitor()
      const enrolment = await (async () => {
        await test.person('eve@acme.example')
        return signIn(half, await half.go(test.authUrl()), 'eve@acme.example')
      })()
      await signIn(test.visitor(), await test.visitor().go(test.authUrl()), 'ana@acme.example', 'wrong').catch(() => {})
      await test.close()

      for (const [index, store] of stores.slice(1).entries()) {
        const from = stores[index]!
        const before = await everything(from)
        const done = await copy(folder, from, store)
        assert.equal(done.code, 0, done.stderr)
        const told: { kinds: Record<string, { rows: number }>; resumed: boolean; source_changed: boolean } = done.json()
        assert.deepEqual([told.resumed, told.source_changed], [false, false])
        const after = await everything(store)
        assert.equal(after['audit']!.rows, before['audit']!.rows + 1, 'and the row of the copy itself')
        for (const kind of KINDS)
          if (kind !== 'audit') assert.deepEqual(after[kind], before[kind], `${kind} in ${store}`)
        for (const kind of ['people', 'clients', 'consents', 'artifacts', 'audit', 'devices', 'signing_keys'])
          assert.ok(told.kinds[kind]!.rows > 0, kind)
        assert.deepEqual(await everything(from), before, 'the source is only read')

        await open(store)
        assert.deepEqual((await test.database.auditReader.verifyAudit()).broken, undefined)
        // Her session, her refresh token, her app.
        assert.ok(hasCode(await ana.visitor.go(test.authUrl({ prompt: 'none' }))), 'a silent sign-in')
        const refreshed = await test.token({ grant_type: 'refresh_token', refresh_token: token! })
        assert.equal(refreshed.status, 200, JSON.stringify(refreshed))
        token = refreshed['refresh_token']
        nextStep()
        const anew = test.visitor()
        const challenge = await signIn(anew, await anew.go(test.authUrl()), 'ana@acme.example')
        assert.equal(headingOf(challenge), CHALLENGE)
        const code = await codeOf(ana.secret)
        assert.ok(hasCode(await anew.submit(challenge, { code })))
        const again = test.visitor()
        const replay = await signIn(again, await again.go(test.authUrl()), 'ana@acme.example')
        assert.equal((await again.submit(replay, { code })).status, 400, 'a used code')
        // What was agreed to, and not again.
        assert.ok(hasCode(await bob.go(test.authUrl({ client_id: 'partner' }))))
        assert.equal((await test.database.consents.list(bobId)).length, 1)
        assert.equal(errorOf(await gone.go(test.authUrl({ prompt: 'none' }))), 'login_required')
        // A half-finished sign-in goes on: its pending secret opens.
        if (index === 0) {
          const { page } = await enrol(half, await half.go(enrolment.at))
          assert.ok(hasCode(await acknowledge(half, page)))
        }
        await test.close()
      }
      await open(stores.at(-1)!)
      assert.equal((await test.exchange(used, 'partner')).error, 'invalid_grant')
      await test.close()
    })
  })

  for (const [what, target] of [
    ['SQLite', sqliteStore],
    ['MongoDB', mongoStore],
  ] as const)
    describe(`into ${what}`, () => {
      it('goes on after it was killed, and doubles nothing', async () => {
        const { folder, store } = await crowd(4000)
        const to = target()
        let kills = 0
        for (const line of [/resources: /, /people: /, /artifacts: /]) {
          const child = begin(folder, ['copy', '--from', store, '--to', to])
          child.stderr!.on('data', (chunk) => {
            if (line.test(String(chunk))) child.kill('SIGKILL')
          })
          const { code } = await ended(child)
          if (code === null) kills += 1
          // Nobody serves half of it.
          const served = await command(folder, ['user', 'list'], { SALLYPORT_STORE: to })
          assert.equal(served.code, 2)
          assert.match(served.complaint, /is an unfinished copy of .*sallyport copy/)
        }
        assert.equal(kills, 3)
        const elsewhere = join(temporaryFolder(), 'other.sqlite')
        copyFileSync(store.slice(7), elsewhere)
        const other = await copy(folder, `sqlite:${elsewhere}`, to)
        assert.equal(other.code, 1)
        assert.match(other.complaint, /is an unfinished copy of .*finish that one/)
        const done = await copy(folder, store, to)
        assert.equal(done.code, 0, done.stderr)
        assert.equal((done.json() as { resumed: boolean }).resumed, true)
        const [before, after] = [await everything(store), await everything(to)]
        assert.deepEqual(after['people'], before['people'])
        assert.equal(after['people']!.rows, 4000)
        assert.equal(after['audit']!.rows, before['audit']!.rows + 1)
        const verified = await command(folder, ['audit', 'verify'], { SALLYPORT_STORE: to })
        assert.equal(verified.code, 0, verified.stderr)
        const twice = await copy(folder, store, to)
        assert.equal(twice.code, 1)
        assert.match(
          twice.complaint,
          /holds data already \(.*people.*\): name an empty store; the copy of .* was finished/,
        )
      })

      it('refuses a store that holds another deployment’s data, and leaves it as it is', async () => {
        const { folder, store, ring } = await crowd(3)
        const to = target()
        const there = await openCopyTarget(addressOf(to)) // makes it
        await there.close()
        const database = to.startsWith('sqlite:')
          ? await openSqlite({ file: to.slice(7), sealer: ring })
          : await openMongo({ url: to, sealer: ring })
        const company = { id: 'x', name: 'X', side: 'none' as const, domains: [], disabled: false }
        await database.directory.commit([{ kind: 'company', op: 'put', value: company }])
        await database.close()
        const before = await everything(to)
        const done = await copy(folder, store, to)
        assert.equal(done.code, 1)
        assert.match(done.complaint, /holds data already \(companies\): name an empty store$/)
        assert.deepEqual(await everything(to), before)
        assert.equal((await command(folder, ['company', 'list'], { SALLYPORT_STORE: to })).code, 0)
      })

      it('lets the later of two copies at once go on', async () => {
        const { folder, store, ring } = await crowd(3000)
        const to = target()
        const all = await Promise.all([copy(folder, store, to), copy(folder, store, to)])
        const winners = all.filter(({ code }) => code === 0)
        assert.equal(winners.length, 1, all.map(({ stderr }) => stderr).join())
        assert.match(all.find(({ code }) => code === 1)!.complaint, /another copy has taken|holds data already/)
        const [before, after] = [await everything(store), await everything(to)]
        for (const kind of KINDS) if (kind !== 'audit') assert.deepEqual(after[kind], before[kind], kind)
        assert.ok(ring)
      })

      it('copies once more what changes in the source meanwhile, and ends equal', async () => {
        const { store, ring } = await crowd(20)
        const source = await openCopySource(addressOf(store))
        const to = target()
        const there = await openCopyTarget(addressOf(to))
        const meddler = await openSqlite({ file: store.slice(7), sealer: ring })
        let meddled = false
        const copied = await copyDeployment(source, there, {
          sourceName: 'the source',
          sealer: ring,
          watcher: {
            verifying(kind) {
              if (kind !== 'companies' || meddled) return
              meddled = true
              meddler.connection.run("UPDATE accounts SET disabled = 1, name = 'Changed' WHERE id = 'person-000001'")
              meddler.connection.run("DELETE FROM accounts WHERE id = 'person-000002'")
            },
          },
        })
        assert.equal(copied.sourceChanged, true)
        assert.equal(copied.kinds.people.rows, 19)
        await Promise.all([source.close(), there.close(), meddler.close()])
        assert.deepEqual((await everything(to))['people'], (await everything(store))['people'])
      })

      it('does not finish while somebody else writes to the copy', async () => {
        const { store, ring } = await crowd(20)
        const source = await openCopySource(addressOf(store))
        const there = await openCopyTarget(addressOf(target()))
        const late = { writer: 'w', number: 1, event: 'x', at: 1, body: '{}', previous: '0', hash: '0', position: 1 }
        let owner = ''
        const meddled: CopyTarget = {
          async read(kind, after) {
            if (kind === 'audit') await there.write('audit', [late], { owner, progress: '{}' })
            return there.read(kind, after)
          },
          count: (kind) => there.count(kind),
          mark: () => there.mark(),
          write: (kind, rows, claim) => there.write(kind, rows, claim),
          clear: (kind, claim) => there.clear(kind, claim),
          finish: (name) => there.finish(name),
          close: () => there.close(),
          claim(name, from) {
            owner = name
            return there.claim(name, from)
          },
        }
        await assert.rejects(
          copyDeployment(source, meddled, { sourceName: 'the source', sealer: ring }),
          /source and copy differ in audit: stop the servers of both/,
        )
        await Promise.all([source.close(), there.close()])
      })
    })

  it('copies nothing that the key ring does not open', async () => {
    const { folder, store } = await crowd(3)
    rmSync(join(folder, 'data', 'keys.json'))
    createKeyRing(join(folder, 'data', 'keys.json'))
    const to = sqliteStore()
    const done = await copy(folder, store, to)
    assert.equal(done.code, 2)
    assert.match(done.complaint, /SALLYPORT_KEYS: .*keys\.json does not open .*sallyport\.sqlite/)
    assert.equal(done.stdout, '')
  })

  it('is opened by the same key ring only', async () => {
    const { folder, store } = await crowd(3)
    const to = mongoStore()
    assert.equal((await copy(folder, store, to)).code, 0)
    const elsewhere = temporaryFolder()
    createKeyRing(join(elsewhere, 'data', 'keys.json'))
    const done = await command(elsewhere, ['user', 'list'], { SALLYPORT_STORE: to })
    assert.equal(done.code, 2)
    assert.match(done.complaint, /SALLYPORT_KEYS: .* does not open mongodb:/)
  })

  it('asks for a source of this version, and changes nothing in an older one', async () => {
    const { folder, store } = await crowd(1)
    const file = store.slice(7)
    const connection = new Connection(file, { synchronous: 'FULL', busyMs: 1000 })
    connection.exec('PRAGMA user_version = 1')
    connection.close()
    const before = readFileSync(file)
    const done = await copy(folder, store, sqliteStore())
    assert.equal(done.code, 1)
    assert.match(done.complaint, /--from: the database .* has schema 1, .*: bring it up to date first/)
    assert.deepEqual(readFileSync(file), before)
  })

  it('refuses what is no store, none that is there, the same one twice, and a person’s address that two have', async () => {
    const { folder, store } = await crowd(1)
    const cases: [from: string, to: string, code: number, says: RegExp][] = [
      ['postgres://x', store, 2, /--from must be sqlite:FILE/],
      [store, 'mongodb://a', 2, /--to must name a database/],
      ['sqlite:none.sqlite', sqliteStore(), 1, /--from: there is no database at .*none\.sqlite/],
      [store, store, 1, /both/],
      [mongoStore(), sqliteStore(), 1, /--from: .*sallyport migrate/],
      [
        store,
        'mongodb://ana:hunter2@127.0.0.1:1/sallyport',
        1,
        /--to: the database mongodb:\/\/127\.0\.0\.1:1\/sallyport/,
      ],
    ]
    for (const [from, to, code, says] of cases) {
      const done = await copy(folder, from, to)
      assert.equal(done.code, code, `${from} ${to}: ${done.stderr}`)
      assert.match(done.complaint, says)
      assert.doesNotMatch(done.stderr, /hunter2/)
    }
    assert.equal(existsSync(join(folder, 'none.sqlite')), false)
    assert.equal((await command(folder, ['copy', '--from', store])).code, 2)
  })

  it('refuses two people with one address, whichever database they come from', async () => {
    const { ring, store } = await crowd(2)
    const from = mongoStore()
    const filled = await openCopyTarget(addressOf(from))
    const source = await openCopySource(addressOf(store))
    await copyDeployment(source, filled, { sourceName: 'x', sealer: ring })
    await Promise.all([source.close(), filled.close()])
    const database = await openMongo({ url: from, sealer: ring })
    await database.collections.accounts.updateOne({ _id: 'person-000001' }, { $set: { email: 'person0@acme.example' } })
    await database.close()
    for (const to of [sqliteStore(), mongoStore()]) {
      const [reading, writing] = [await openCopySource(addressOf(from)), await openCopyTarget(addressOf(to))]
      await assert.rejects(
        copyDeployment(reading, writing, { sourceName: 'x', sealer: ring }),
        /two people have the e-mail address person0@acme\.example/,
      )
      await Promise.all([reading.close(), writing.close()])
    }
  })

  it('reads a file that nobody may write to', async () => {
    const { folder, store } = await crowd(5)
    const elsewhere = join(temporaryFolder(), 'copy.sqlite')
    copyFileSync(store.slice(7), elsewhere)
    const before = readFileSync(elsewhere)
    assert.equal((await copy(folder, `sqlite:${elsewhere}`, sqliteStore())).code, 0)
    assert.deepEqual(readFileSync(elsewhere), before)
  })
})
