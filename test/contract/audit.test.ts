/** Whoever can write to the file cannot change the audit unnoticed, short of writing the whole chain anew. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { openSqlite, type SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import { temporaryFolder } from '../support/temporary.ts'

describe('audit chain', () => {
  let db: SqliteDatabase
  beforeEach(async () => {
    db = await openSqlite({ file: join(temporaryFolder(), 'sallyport.sqlite'), sealer: new KeyRing(newKeyRing()) })
    for (const accountId of ['ana', 'bob', 'eve'])
      await db.audit.append({ event: 'mfa.otp', outcome: 'success', at: 1_800_000_000, accountId })
  })
  afterEach(() => db.close())

  it('is append-only in the database', () => {
    for (const sql of ["UPDATE audit SET event = 'x'", 'DELETE FROM audit'])
      assert.throws(() => db.connection.run(sql), /append-only/)
  })

  const forgeries: [string, string, number][] = [
    ['a changed body', "UPDATE audit SET body = replace(body, 'success', 'failure') WHERE number = 2", 2],
    ['a changed hash', "UPDATE audit SET hash = 'abc' WHERE number = 2", 2],
    ['a changed link', "UPDATE audit SET previous = '0' WHERE number = 2", 2],
    ['a row filed under another person', "UPDATE audit SET account_id = 'eve' WHERE number = 2", 2],
    ['a row filed under another event', "UPDATE audit SET event = 'login.password' WHERE number = 2", 2],
    ['a row that is gone', 'DELETE FROM audit WHERE number = 2', 2],
    ['a beginning that is gone', 'DELETE FROM audit WHERE number = 1', 1],
  ]
  for (const [what, sql, number] of forgeries)
    it(`shows ${what}`, async () => {
      db.connection.run('DROP TRIGGER audit_keeps')
      db.connection.run('DROP TRIGGER audit_stays')
      db.connection.run(sql)
      assert.equal((await db.auditReader.verifyAudit()).broken?.number, number)
    })
})
