/** All writes in flight share one commit (docs/decisions/group-commit.md). */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { CommitQueue } from '../../adapters/sqlite/commit-queue.ts'
import { openSqlite, type SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import { StoreUnavailable } from '../../interactions/kit/stores.ts'
import { StoreConflict } from '../../server/stores.ts'
import { temporaryFolder } from '../support/temporary.ts'

const NOW = 1_800_000_000
const sealer = new KeyRing(newKeyRing())
const row = (key: string, size = 10) => ({
  model: 'AccessToken',
  key,
  payload: { text: 'x'.repeat(size) },
  expiresAt: undefined,
})
const happened = (event: string) => ({ event, outcome: 'success' as const, at: NOW })
const user = (id: string, email = `${id}@acme.example`) => ({
  kind: 'user' as const,
  op: 'put' as const,
  value: { id, email, disabled: false, memberships: [], serverRoles: [] },
})

describe('group commit', () => {
  let file: string
  let database: SqliteDatabase
  const opened: SqliteDatabase[] = []
  const open = async (more: object = {}) => {
    const another = await openSqlite({ file, sealer, ...more })
    opened.push(another)
    return another
  }
  /** As another process sees it. */
  const stored = async () => {
    const other = await open()
    return other.connection.all('SELECT key FROM artifacts ORDER BY key').map(({ key }) => String(key))
  }
  const states = (results: PromiseSettledResult<unknown>[]) => results.map(({ status }) => status)

  beforeEach(async () => {
    file = join(temporaryFolder(), 'sallyport.sqlite')
    database = await open()
  })
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close().catch(() => {})
  })

  it('writes fifty rows of one turn with one commit', async () => {
    await Promise.all(Array.from({ length: 50 }, (_, index) => database.artifacts.save(row(`row-${index}`))))
    assert.equal(database.connection.commits, 1)
    assert.equal((await stored()).length, 50)
  })
  it('answers only after the commit', async () => {
    const other = await open()
    const seen: boolean[] = []
    await Promise.all(
      ['a', 'b'].map(async (key) => {
        await database.artifacts.save(row(key))
        for (const one of ['a', 'b']) seen.push((await other.artifacts.find('AccessToken', one, NOW)) !== undefined)
      }),
    )
    assert.deepEqual(seen, [true, true, true, true])
  })
  it('answers only when the disk has it, and collects meanwhile what the next commit takes', async () => {
    const said: string[] = []
    const disk: { done(): void; failed(why: Error): void }[] = []
    const queue = new CommitQueue(
      {
        begin: () => said.push('begin'),
        exec: (sql) => sql === 'COMMIT' && said.push('commit'),
        isBusy: () => false,
        sync: () => new Promise<void>((done, failed) => disk.push({ done, failed })),
      },
      1000,
    )
    const turn = () => new Promise((resolve) => setTimeout(resolve, 5))
    const add = (name: string) => queue.add(() => said.push(name)).then(() => said.push(`${name} answered`))
    const first = add('a')
    await turn()
    const others = [add('b'), add('c')]
    await turn()
    assert.deepEqual(said, ['begin', 'a', 'commit'])
    disk.shift()!.done()
    await first
    await turn()
    assert.deepEqual(said.slice(3), ['a answered', 'begin', 'b', 'c', 'commit'])

    const waiting = add('d')
    disk.shift()!.failed(new Error('EIO'))
    // Nobody knows what of it is on the disk: nothing is answered as written, now or later.
    const late = Promise.allSettled([...others, waiting]).then(async (results) => [
      ...results,
      ...(await Promise.allSettled([add('e')])),
    ])
    for (const result of await late) {
      assert.equal(result.status, 'rejected')
      assert.ok((result as PromiseRejectedResult).reason instanceof StoreUnavailable)
    }
    assert.deepEqual(said.slice(8), [])
    await queue.idle()
  })
  it('answers ahead who comes back for the disk, and waits for it once', async () => {
    let waits = 0
    const queue = new CommitQueue(
      {
        begin() {},
        exec() {},
        isBusy: () => false,
        async sync() {
          waits += 1
          if (waits > 1) throw new Error('EIO')
        },
      },
      1000,
    )
    assert.equal(await queue.add(() => 'ahead', { ahead: true }), 'ahead')
    assert.equal(waits, 0)
    await queue.add(() => {})
    assert.equal(waits, 1)
    // Beside one that waits: answered also when the disk fails afterwards. What comes back for the disk is not.
    const both = [queue.add(() => 'ahead', { ahead: true }), queue.add(() => {})]
    assert.deepEqual(states(await Promise.allSettled(both)), ['fulfilled', 'rejected'])
    await assert.rejects(
      queue.add(() => {}),
      StoreUnavailable,
    )
    await queue.idle()
  })
  it('waits for the disk by default, and not where a process crash is all that it shall survive', async () => {
    for (const [synchronous, expected] of [
      ['FULL', 2],
      ['NORMAL', 0],
    ] as const) {
      const one = await open({ synchronous })
      const before = one.connection.syncs
      await one.artifacts.save(row(`${synchronous} 1`))
      await one.artifacts.save(row(`${synchronous} 2`))
      assert.equal(one.connection.syncs - before, expected)
    }
  })
  it('shows nobody what is not committed yet', async () => {
    const saved = database.artifacts.save(row('a'))
    assert.equal(await database.artifacts.find('AccessToken', 'a', NOW), undefined)
    await saved
    assert.ok(await database.artifacts.find('AccessToken', 'a', NOW))
  })
  it('lets one of fifty win a row of the same commit', async () => {
    await database.artifacts.save(row('code'))
    const results = await Promise.all(
      Array.from({ length: 50 }, () => database.artifacts.consume('AccessToken', 'code', NOW)),
    )
    assert.equal(results.filter(Boolean).length, 1)
    assert.equal(database.connection.commits, 2)
  })
  it('rolls back a write that fails, whole and alone', async () => {
    await database.directory.commit([user('ana')])
    const results = await Promise.allSettled([
      database.artifacts.save(row('before')),
      database.audit.append(happened('before')),
      database.directory.commit([
        { kind: 'client', op: 'put', value: { client_id: 'half' } },
        user('eve', 'ana@acme.example'),
      ]),
      database.audit.append(happened('after')),
      database.artifacts.save(row('after')),
    ])
    assert.deepEqual(states(results), ['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'fulfilled'])
    assert.ok((results[2] as PromiseRejectedResult).reason instanceof StoreConflict)
    assert.deepEqual(await stored(), ['after', 'before'])
    assert.equal(await database.directory.client('half'), undefined)
    assert.deepEqual(await database.auditReader.verifyAudit(), { rows: 2 })
    assert.equal(database.connection.commits, 2)
  })
  it('fails every write of a commit that fails, and none of the next', async () => {
    await database.audit.append(happened('first'))
    // Found at the commit only: a membership of a company that is not there (the reference is deferred).
    const broken = () =>
      database.connection.write(() => {
        database.connection.run("INSERT INTO accounts (id, email, created_at) VALUES ('bob', 'bob@acme.example', 0)")
        database.connection.run("INSERT INTO memberships (account_id, company_id, roles) VALUES ('bob', 'none', '[]')")
      })
    const results = await Promise.allSettled([
      database.artifacts.save(row('lost')),
      database.audit.append(happened('lost')),
      broken(),
      database.audit.append(happened('lost too')),
    ])
    assert.deepEqual(states(results), ['rejected', 'rejected', 'rejected', 'rejected'])
    for (const result of results) assert.ok((result as PromiseRejectedResult).reason instanceof StoreUnavailable)
    assert.deepEqual(await stored(), [])
    assert.equal(await database.accounts.find('bob'), undefined)

    await Promise.all([database.artifacts.save(row('next')), database.audit.append(happened('next'))])
    assert.deepEqual(await stored(), ['next'])
    assert.deepEqual(await database.auditReader.verifyAudit(), { rows: 2 })
    assert.deepEqual(
      (await database.auditReader.auditRows()).map(({ number, event }) => [number, event]),
      [
        [2, 'next'],
        [1, 'first'],
      ],
    )
  })
  it('fails them all on a full disk, half-writes nothing and leaves no gap in the audit', async () => {
    await database.audit.append(happened('first'))
    const pages = Number(database.connection.get('PRAGMA page_count')!['page_count'])
    database.connection.exec(`PRAGMA max_page_count = ${pages + 4}`)
    const results = await Promise.allSettled([
      database.artifacts.save(row('small')),
      database.audit.append(happened('small')),
      database.artifacts.save(row('large', 1_000_000)),
    ])
    assert.equal(results[2]!.status, 'rejected')
    for (const result of results)
      if (result.status === 'rejected') assert.ok(result.reason instanceof StoreUnavailable, result.reason.stack)
    // SQLite may undo the large one alone or all of them: what was answered "written" is there, and nothing else.
    assert.deepEqual(await stored(), results[0]!.status === 'fulfilled' ? ['small'] : [])

    database.connection.exec('PRAGMA max_page_count = 100000')
    await Promise.all([database.artifacts.save(row('next')), database.audit.append(happened('next'))])
    assert.equal((await database.auditReader.verifyAudit()).broken, undefined)
    assert.equal((await database.auditReader.auditRows()).length, results[1]!.status === 'fulfilled' ? 3 : 2)
  })
  it('waits for another process without stopping the event loop, and refuses who has waited too long', async () => {
    const holder = await open()
    const writer = await open({ busyMs: 300 })
    holder.connection.exec('BEGIN IMMEDIATE')
    let turns = 0
    const ticking = setInterval(() => {
      turns += 1
    }, 5)
    await assert.rejects(writer.artifacts.save(row('late')), StoreUnavailable)
    clearInterval(ticking)
    assert.ok(turns > 10, `the event loop turned ${turns} times in 300 ms`)

    const patient = writer.artifacts.save(row('patient'))
    await new Promise((resolve) => setTimeout(resolve, 50))
    holder.connection.exec('ROLLBACK')
    await patient
    assert.deepEqual(await stored(), ['patient'])
  })
  it('does not write a session that says nothing new, and every one that does', async () => {
    const session = { model: 'Session', key: 's', payload: { uid: 'u', exp: NOW }, expiresAt: NOW, uid: 'u' }
    await database.artifacts.save(session)
    const { commits } = database.connection
    await database.artifacts.save({ ...session, payload: { ...session.payload } })
    assert.equal(database.connection.commits, commits)
    for (const more of [{ payload: { uid: 'u', exp: NOW + 1 } }, { expiresAt: NOW + 1 }, { accountId: 'ana' }])
      await database.artifacts.save({ ...session, ...more })
    assert.equal(database.connection.commits, commits + 3)
    await database.artifacts.endSession('u', NOW)
    await database.artifacts.save({ ...session, accountId: 'ana' })
    assert.equal(await database.artifacts.find('Session', 's', NOW), undefined)
  })
  it('finishes what was begun when it is closed', async () => {
    const saved = database.artifacts.save(row('last'))
    await database.close()
    await saved
    assert.deepEqual(await stored(), ['last'])
    await assert.rejects(database.artifacts.save(row('too late')), StoreUnavailable)
  })
})
