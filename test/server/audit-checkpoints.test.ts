/** Whoever can write to the database, and has no key ring, cannot cut off the end of the audit or write it anew unnoticed. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { BEGINNING, chained } from '../../adapters/audit-chain.ts'
import { openSqlite, type SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing, withNewKey } from '../../interactions/index.ts'
import {
  CheckpointBroken,
  checkpointOnce,
  makeCheckpoint,
  readCheckpoint,
  verifyAudit,
} from '../../server/audit-checkpoints.ts'
import { createKeyRing } from '../../server/key-ring-file.ts'
import type { AuditReader } from '../../server/stores.ts'
import { command } from '../support/command.ts'
import { temporaryFolder } from '../support/temporary.ts'

const AT = 1_800_000_000

describe('audit checkpoints', () => {
  const ring = newKeyRing()
  const keyRing = new KeyRing(ring)
  let file: string
  let db: SqliteDatabase
  const happened = (accountId: string) => db.audit.append({ event: 'mfa.otp', outcome: 'success', at: AT, accountId })
  const checkpoint = () => makeCheckpoint({ ...db, keyRing }, { now: AT, actor: 'server' })
  const verify = (kept?: string[], by = keyRing) => verifyAudit({ ...db, keyRing: by }, kept)
  /** What somebody does who has the file and no key ring. */
  const forge = (sql: string, ...values: (string | number)[]) => {
    db.connection.run('DROP TRIGGER IF EXISTS audit_keeps')
    db.connection.run('DROP TRIGGER IF EXISTS audit_stays')
    db.connection.run(sql, ...values)
  }

  beforeEach(async () => {
    file = join(temporaryFolder(), 'sallyport.sqlite')
    db = await openSqlite({ file, sealer: keyRing })
    for (const accountId of ['ana', 'bob', 'eve']) await happened(accountId)
  })
  afterEach(() => db.close())

  it('names the last row of every chain, and is a row itself', async () => {
    const other = await openSqlite({ file, sealer: keyRing })
    await other.audit.append({ event: 'mfa.sms', outcome: 'success', at: AT })
    await other.close()
    const { at, heads } = await readCheckpoint((await checkpoint())!, keyRing)
    assert.equal(at, AT)
    assert.deepEqual(heads.map(({ number }) => number).sort(), [1, 3])
    assert.deepEqual(await verify(), { rows: 5, checkpoints: 1, newest: AT })
  })
  it('is not made where nothing has happened since', async () => {
    assert.ok(await checkpoint())
    assert.equal(await checkpoint(), undefined)
    await happened('ana')
    assert.ok(await checkpoint())
  })
  it('names what arrived while the one before was made', async () => {
    const auditReader: AuditReader = {
      auditRows: (filter) => db.auditReader.auditRows(filter),
      auditFromTheBeginning: (filter) => db.auditReader.auditFromTheBeginning(filter),
      verifyAudit: () => db.auditReader.verifyAudit(),
      async auditHeads(after) {
        const heads = await db.auditReader.auditHeads(after)
        // The only row of its chain, behind what the checkpoint saw and before the checkpoint itself.
        const other = await openSqlite({ file, sealer: keyRing })
        await other.audit.append({ event: 'mfa.sms', outcome: 'success', at: AT })
        await other.close()
        return heads
      },
    }
    const first = await makeCheckpoint({ ...db, auditReader, keyRing }, { now: AT, actor: 'server' })
    assert.equal((await readCheckpoint(first!, keyRing)).heads.length, 1)
    await happened('ana')
    assert.equal((await readCheckpoint((await checkpoint())!, keyRing)).heads.length, 2)
  })

  it('shows an end that was cut off', async () => {
    await happened('ana')
    await checkpoint()
    // Another process would go on in a chain of its own, so that this one could end anywhere.
    forge('DELETE FROM audit WHERE number = 4')
    forge('UPDATE audit SET number = 4, previous = (SELECT hash FROM audit WHERE number = 3) WHERE number = 5')
    assert.match((await verify()).broken ?? '', /row 4/)
  })
  it('shows that everything since a checkpoint kept elsewhere is gone', async () => {
    const kept = (await checkpoint())!
    forge('DELETE FROM audit WHERE number > 2')
    assert.equal((await verify()).broken, undefined, 'the file alone cannot tell')
    assert.match((await verify([kept])).broken ?? '', /row 3: the chain ends before it/)
  })
  it('shows a chain that was written anew, each hash as it should be', async () => {
    const kept = (await checkpoint())!
    const rows = (await db.auditReader.auditRows()).reverse()
    let previous = BEGINNING
    for (const { id: _id, hash: _hash, previous: _previous, writer, number, ...event } of rows) {
      const row = chained({ ...event, accountId: 'mallory' }, writer, number, previous)
      forge(
        "UPDATE audit SET account_id = 'mallory', body = ?, previous = ?, hash = ? WHERE number = ?",
        row.body,
        row.previous,
        row.hash,
        number,
      )
      previous = row.hash
    }
    assert.deepEqual((await db.auditReader.verifyAudit()).broken, undefined, 'the chain alone cannot tell')
    for (const given of [[], [kept]]) assert.match((await verify(given)).broken ?? '', /written anew/)
  })
  it('shows a checkpoint that was changed, is of another ring, or is none', async () => {
    const kept = (await checkpoint())!
    const [head, payload, signature] = kept.split('.')
    const other = Buffer.from(JSON.stringify({ iat: AT, heads: [] })).toString('base64url')
    const unsigned = Buffer.from('{"alg":"none","typ":"sallyport-audit-checkpoint+jwt"}').toString('base64url')
    for (const wrong of [`${head}.${other}.${signature}`, `${unsigned}.${payload}.`, 'nothing', `${kept}x`]) {
      await assert.rejects(readCheckpoint(wrong, keyRing), CheckpointBroken)
      assert.match((await verify([wrong])).broken ?? '', /the checkpoint 1 that was given: it was changed, or is none/)
    }
    assert.match((await verify([], new KeyRing(newKeyRing()))).broken ?? '', /not on the key ring/)
  })
  it('is verified by a key that signs no more', async () => {
    await checkpoint()
    const turned = new KeyRing(withNewKey(ring))
    await happened('ana')
    await makeCheckpoint({ ...db, keyRing: turned }, { now: AT + 1, actor: 'server' })
    assert.deepEqual(await verify([], turned), { rows: 6, checkpoints: 2, newest: AT + 1 })
  })

  it('is made once an hour by several servers, and stands in the log', async () => {
    const lines: string[] = []
    const logger = pino({}, { write: (line: string) => void lines.push(line) })
    const other = await openSqlite({ file, sealer: keyRing })
    const hourly = (now: number) =>
      Promise.all([db, other].map((database) => checkpointOnce({ database, keyRing, logger }, now)))
    await hourly(AT)
    await happened('ana')
    await hourly(AT + 60)
    await hourly(AT + 3600)
    await other.close()
    const logged = lines.map((line) => (JSON.parse(line) as { checkpoint: string }).checkpoint)
    const filed = await db.auditReader.auditRows({ event: 'audit.checkpoint' })
    assert.deepEqual(
      filed.map(({ details }) => details?.['jws']),
      logged.reverse(),
    )
    assert.equal(logged.length, 2)
  })

  describe('at the command line', function () {
    this.timeout(60_000)
    it('gives one out to keep, and holds the audit against it', async () => {
      const folder = temporaryFolder()
      const env = { SALLYPORT_DATA_DIR: folder, SALLYPORT_KEYS: join(folder, 'keys.json') }
      createKeyRing(env.SALLYPORT_KEYS)
      writeFileSync(join(folder, 'seed.yaml'), 'companies: [{ id: acme, name: Acme, side: payor, domains: [] }]')
      const sallyport = (...words: string[]) => command(folder, words, env)
      assert.equal((await sallyport('apply', join(folder, 'seed.yaml'))).code, 0)
      const { stdout } = await sallyport('audit', 'checkpoint')
      assert.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/)
      const again = await sallyport('audit', 'checkpoint')
      assert.equal(again.code, 1)
      assert.match(again.complaint, /nothing has happened since the last checkpoint/)

      const kept = join(folder, 'kept')
      writeFileSync(kept, stdout)
      const whole = await sallyport('audit', 'verify', '--checkpoints', kept)
      assert.match(whole.stdout, /all chains whole; 2 checkpoints, the newest of \d{4}-/)
      writeFileSync(kept, 'nothing')
      assert.equal((await sallyport('audit', 'verify', '--checkpoints', kept)).code, 1)
      const none = await sallyport('audit', 'verify', '--checkpoints', join(folder, 'none'))
      assert.deepEqual([none.code, /cannot read .*none \(ENOENT\)/.test(none.stderr)], [2, true])
    })
  })
})
