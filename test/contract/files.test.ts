/** The file itself: schema, disk, locks. */
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openSqlite, type SqliteOptions } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import { StoreUnavailable } from '../../interactions/kit/stores.ts'
import { temporaryFolder } from '../support/temporary.ts'

const NOW = 1_800_000_000
const sealer = new KeyRing(newKeyRing())
const fresh = () => join(temporaryFolder(), 'sallyport.sqlite')
const open = (file: string, more: Partial<SqliteOptions> = {}) => openSqlite({ file, sealer, ...more })
const unavailable = (pattern: RegExp) => (error: Error) => {
  assert.ok(error instanceof StoreUnavailable, error.stack)
  assert.match(error.message, pattern)
  return true
}
const put = (id: string, size = 10) => ({
  kind: 'client' as const,
  op: 'put' as const,
  value: { client_id: id, text: 'x'.repeat(size) },
})

describe('sqlite file', () => {
  it('is made, and opened again with what is in it', async () => {
    const file = fresh()
    const first = await open(file)
    await first.directory.commit([put('app')])
    await first.close()
    const second = await open(file)
    assert.ok(await second.directory.client('app'))
    assert.deepEqual(await second.check(), [])
    await second.close()
  })
  it('is made by three processes at once', async () => {
    const file = fresh()
    const script = new URL('./open-once.ts', import.meta.url).pathname
    const children = Array.from({ length: 3 }, () =>
      fork(script, [file], { execArgv: ['--import', 'tsx'], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }),
    )
    await Promise.all(children.map((child) => once(child, 'message')))
    const answers = children.map(async (child) => (await once(child, 'message'))[0])
    for (const child of children) child.send('go')
    assert.deepEqual(
      await Promise.all(answers),
      children.map(() => 'open'),
    )
    const database = await open(file)
    assert.deepEqual(await database.check(), [])
    await database.close()
  })
  it('of a newer version is refused with a sentence', async () => {
    const file = fresh()
    const database = await open(file)
    database.connection.exec('PRAGMA user_version = 999')
    await database.close()
    await assert.rejects(open(file), unavailable(/schema 999.*run the newer version/))
  })
  it('that is no database is named', async () => {
    const file = fresh()
    writeFileSync(file, 'this is a shopping list, and not a short one '.repeat(100))
    await assert.rejects(open(file), unavailable(/sallyport\.sqlite .*not a database/))
  })
  it('in a folder that is not there, or that is a folder, is named', async () => {
    await assert.rejects(
      open(join(temporaryFolder(), 'none', 'sallyport.sqlite')),
      unavailable(/none\/sallyport\.sqlite/),
    )
    const folder = mkdtempSync(join(temporaryFolder(), 'folder-'))
    await assert.rejects(open(folder), unavailable(/folder-/))
  })
  it('on a full disk refuses the write, half-writes nothing and goes on reading', async () => {
    const file = fresh()
    const roomy = await open(file)
    await roomy.directory.commit([put('app')])
    const pages = Number(roomy.connection.get('PRAGMA page_count')!['page_count'])
    await roomy.close()

    const full = await open(file, { maxPages: pages + 4 })
    await assert.rejects(full.directory.commit([put('small'), put('large', 1_000_000)]), unavailable(/full/))
    assert.equal(await full.directory.client('small'), undefined)
    assert.ok(await full.directory.client('app'))
    const keep = { owner: 'o', purpose: 'p', value: 'v'.repeat(1_000_000), expiresAt: NOW + 60, now: NOW }
    await assert.rejects(full.pending.keep(keep), unavailable(/full/))
    assert.equal(await full.pending.recall('o', 'p', NOW), undefined)
    await full.directory.commit([put('fits')])
    assert.deepEqual(await full.check(), [])
    await full.close()

    const again = await open(file)
    assert.deepEqual(
      (await again.directory.clients()).map((client) => client.client_id),
      ['app', 'fits'],
    )
    await again.close()
  })
  it('locked by another for longer than a writer waits is unavailable, and works afterwards', async () => {
    const file = fresh()
    const holder = await open(file)
    const writer = await open(file, { busyMs: 50 })
    holder.connection.exec('BEGIN IMMEDIATE')
    await assert.rejects(writer.directory.commit([put('app')]), unavailable(/locked/))
    await assert.rejects(
      writer.pending.keep({ owner: 'o', purpose: 'p', value: 'v', expiresAt: NOW + 60, now: NOW }),
      unavailable(/locked/),
    )
    assert.deepEqual(await writer.directory.clients(), [])
    holder.connection.exec('ROLLBACK')
    await writer.directory.commit([put('app')])
    assert.ok(await holder.directory.client('app'))
    await holder.close()
    await writer.close()
  })
})
