import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { openSqlite, type SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/index.ts'
import { temporaryFolder } from '../support/temporary.ts'

const CALLER = fileURLToPath(new URL('./race-caller.ts', import.meta.url))
const NOW = 1_800_000_000
const ring = newKeyRing()

/** Two people, one with an app and a recovery code; a code to exchange; a value to take. */
async function prepared(file: string): Promise<SqliteDatabase> {
  const database = await openSqlite({ file, sealer: new KeyRing(ring) })
  const user = (id: string) => ({ id, email: `${id}@acme.example`, disabled: false, memberships: [], serverRoles: [] })
  await database.directory.commit([
    { kind: 'user', op: 'put', value: user('ana') },
    { kind: 'user', op: 'put', value: user('bo') },
  ])
  await database.factors.activateTotp('ana', {
    secret: 'B'.repeat(32),
    step: 1000,
    now: NOW,
    factorVersion: 0,
    recoveryCodeId: 'code-0',
  })
  await database.factors.setRecoveryCode('ana', { replaces: 'code-0', id: 'code-1', hash: '$argon2id$of-a-test' })
  await database.artifacts.save({
    model: 'AuthorizationCode',
    key: 'the-code',
    payload: {},
    expiresAt: NOW + 60,
    grantId: 'grant',
  })
  await database.pending.keep({ owner: 'cid', purpose: 'once', value: 'x', expiresAt: NOW + 60, now: NOW })
  return database
}

async function race(what: string): Promise<{ winners: number; database: SqliteDatabase }> {
  const file = join(temporaryFolder(), 'race.sqlite')
  const database = await prepared(file)
  const text = Buffer.from(JSON.stringify(ring)).toString('base64')
  const callers: ChildProcess[] = ['a', 'b'].map((name) =>
    fork(CALLER, [file, text, what, name], {
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    }),
  )
  await Promise.all(callers.map((caller) => once(caller, 'message')))
  const results = callers.map((caller) => once(caller, 'message'))
  for (const caller of callers) caller.send('go')
  const winners = (await Promise.all(results)).reduce((sum, [won]) => sum + Number(won), 0)
  return { winners, database }
}

describe('50 callers in two processes on one file', () => {
  for (const what of ['consume', 'claimTimeStep', 'reserveRecoveryCode', 'activateTotp', 'takePending', 'throttle'])
    it(`${what}: one winner, three times`, async () => {
      for (let round = 0; round < 3; round++) {
        const { winners, database } = await race(what)
        assert.equal(winners, 1)
        assert.deepEqual(await database.check(), [])
        await database.close()
      }
    })
})

describe('kill -9 of a writer', () => {
  it('five times: every acknowledged row is there, and the file is whole', async () => {
    const file = join(temporaryFolder(), 'killed.sqlite')
    const database = await prepared(file)
    const text = Buffer.from(JSON.stringify(ring)).toString('base64')
    let acknowledged: string[] = []
    for (let round = 0; round < 5; round++) {
      const writer = fork(fileURLToPath(new URL('./writer.ts', import.meta.url)), [file, text, String(round)], {
        execArgv: ['--import', 'tsx'],
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      })
      writer.on('message', (key) => {
        acknowledged = [...acknowledged, String(key)]
      })
      await once(writer, 'message')
      await new Promise((resolve) => setTimeout(resolve, 200))
      writer.kill('SIGKILL')
      await once(writer, 'exit')
    }
    assert.ok(acknowledged.length > 50, `${acknowledged.length} rows`)
    for (const key of acknowledged) assert.ok(await database.artifacts.find('AccessToken', key, NOW), `${key} is lost`)
    assert.deepEqual(await database.check(), [])
    await database.close()
  })
})
