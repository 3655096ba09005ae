import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { openSqlite, type SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import { temporaryFolder } from '../support/temporary.ts'

const NOW = 1_800_000_000
const ROUNDS = 5
const KILLS = 5

describe('one SQLite file, several processes', () => {
  const file = join(temporaryFolder(), 'sallyport.sqlite')
  const ring = newKeyRing()
  let database: SqliteDatabase
  const children: ChildProcess[] = []

  const start = async (role: string): Promise<ChildProcess> => {
    const child = fork(new URL('./child.ts', import.meta.url).pathname, [role, file, JSON.stringify(ring)], {
      execArgv: ['--import', 'tsx'],
    })
    children.push(child)
    await once(child, 'message')
    return child
  }

  before(async () => {
    database = await openSqlite({ file, sealer: new KeyRing(ring) })
  })
  after(async () => {
    for (const child of children) child.kill('SIGKILL')
    await database.close()
  })

  describe('50 callers from two processes', () => {
    let pair: ChildProcess[]
    before(async () => {
      pair = await Promise.all([start('callers'), start('callers')])
    })

    /** A person with an app, a recovery code that stands, a code to exchange and a pending value. */
    async function prepare(id: string) {
      const value = { id, email: `${id}@acme.example`, disabled: false, memberships: [], serverRoles: [] }
      await database.directory.commit([{ kind: 'user', op: 'put', value }])
      const activation = {
        secret: 'FIRST',
        step: 100,
        now: NOW,
        factorVersion: 0,
        securityEpoch: 0,
        recoveryCodeId: 'named',
      }
      await database.factors.activateTotp(id, activation)
      await database.factors.setRecoveryCode(id, { replaces: 'named', id: 'set', hash: 'hash' })
      await database.factors.acknowledgeRecoveryCode(id, 'set')
      await database.artifacts.save({ model: 'AuthorizationCode', key: id, payload: {}, expiresAt: NOW + 60 })
      await database.pending.keep({ owner: id, purpose: 'put', value: 'there', expiresAt: NOW + 60, now: NOW })
    }

    async function round(operation: string, person: string): Promise<unknown[]> {
      const answers = pair.map(async (child) => (await once(child, 'message'))[0] as unknown[])
      for (const child of pair) child.send({ operation, person, at: Date.now() + 100 })
      return (await Promise.all(answers)).flat()
    }

    for (const operation of ['consume', 'reserveRecoveryCode', 'claimTimeStep', 'activateTotp', 'take', 'throttle'])
      it(`${operation}: exactly one wins, ${ROUNDS} times`, async () => {
        for (let number = 0; number < ROUNDS; number++) {
          const person = `${operation}-${number}`
          await prepare(person)
          const answers = await round(operation, person)
          assert.equal(answers.length, 50)
          assert.equal(answers.filter(Boolean).length, 1, person)
        }
      })
    it(`keep: all get one value, ${ROUNDS} times`, async () => {
      for (let number = 0; number < ROUNDS; number++) {
        const answers = await round('keep', `keep-${number}`)
        assert.equal(answers.length, 50)
        assert.equal(new Set(answers).size, 1)
        assert.equal(await database.pending.recall(`keep-${number}`, 'kept', NOW), answers[0])
      }
    })
  })

  it(`loses nothing that was acknowledged when a writer is killed, ${KILLS} times`, async () => {
    let written = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const acknowledged: string[] = []
      const child = await start('writer')
      child.on('message', (key: string) => acknowledged.push(key))
      while (acknowledged.length < 50 + kill * 7) await setTimeout(2)
      child.kill('SIGKILL')
      await once(child, 'close')
      for (const key of acknowledged) {
        assert.ok(await database.artifacts.find('Grant', key, NOW), key)
        assert.equal(await database.pending.recall(key, 'p', NOW), key)
        assert.equal((await database.auditReader.auditRows({ accountId: key })).length, 1)
      }
      assert.deepEqual(await database.check(), [])
      written += acknowledged.length
    }
    assert.ok(written >= 50 * KILLS)
    assert.equal((await database.auditReader.verifyAudit()).broken, undefined)
  })
})
