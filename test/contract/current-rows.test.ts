/** Rows kept in memory are never older than the file, whoever writes (docs/decisions/rows-kept-in-memory.md). */
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { touchedBy } from '../../adapters/sqlite/current-rows.ts'
import { openSqlite, type SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import type { Change } from '../../server/stores.ts'
import { temporaryFolder } from '../support/temporary.ts'

const NOW = 1_800_000_000
const sealer = new KeyRing(newKeyRing())
const token = (key: string, more: object = {}) => ({
  model: 'AccessToken',
  key,
  payload: {},
  expiresAt: NOW + 600,
  ...more,
})
const person = (id: string, more: object = {}): Change => ({
  kind: 'user',
  op: 'put',
  value: { id, email: `${id}@acme.example`, disabled: false, memberships: [], serverRoles: [], ...more },
})
const app: Change = { kind: 'client', op: 'put', value: { client_id: 'app' } }

describe('rows kept in memory', () => {
  let file: string
  let database: SqliteDatabase
  let another: SqliteDatabase

  beforeEach(async () => {
    file = join(temporaryFolder(), 'sallyport.sqlite')
    database = await openSqlite({ file, sealer })
    another = await openSqlite({ file, sealer })
  })
  afterEach(async () => {
    for (const one of [database, another]) await one.close()
  })

  const find = (key: string) => database.artifacts.find('AccessToken', key, NOW)

  /** Statements that SQLite runs for `work`, besides the question who has written. */
  async function statements(work: () => Promise<unknown>): Promise<number> {
    const { connection } = database
    const { all } = connection
    let count = 0
    connection.all = (sql, ...values) => {
      if (!sql.startsWith('PRAGMA')) count += 1
      return all.call(connection, sql, ...values)
    }
    try {
      await work()
    } finally {
      connection.all = all
    }
    return count
  }

  it('are read once, also what is not there', async () => {
    const read = () =>
      Promise.all([
        find('a'),
        find('nothing'),
        database.accounts.find('ana'),
        database.accounts.findByEmail('ana@acme.example'),
        database.directory.client('app'),
        database.directory.resources(),
        database.consents.find('ana', 'app'),
      ])
    await database.artifacts.save(token('a'))
    await database.directory.commit([person('ana'), app])
    assert.equal(await statements(read), 7)
    await setImmediate()
    assert.equal(await statements(read), 0)
  })
  it('are not more than memory holds', async () => {
    await database.artifacts.save(token('a'))
    await find('a')
    for (let count = 0; count < 2000; count++) await find(`nothing ${count}`)
    assert.equal(await statements(() => find('a')), 1)
  })
  it('stay when a request writes rows of its own', async () => {
    await database.artifacts.save(token('a'))
    await find('a')
    await database.artifacts.save(token('b'))
    await database.audit.append({ event: 'something', outcome: 'success', at: NOW })
    assert.equal(await statements(() => find('a')), 0)
  })

  describe('count no more when somebody has changed', () => {
    interface Changing {
      what: string
      change(by: SqliteDatabase): Promise<unknown>
      seen(): Promise<unknown>
      before: unknown
      after: unknown
    }
    const cases: Changing[] = [
      {
        what: 'a token: revoked',
        change: ({ artifacts }) => artifacts.destroy('AccessToken', 'a', NOW),
        seen: async () => (await find('a')) !== undefined,
        before: true,
        after: false,
      },
      {
        what: 'a token: used up',
        change: ({ artifacts }) => artifacts.consume('AccessToken', 'a', NOW),
        seen: async () => (await find('a'))?.consumedAt,
        before: undefined,
        after: NOW,
      },
      {
        what: 'a token: written anew',
        change: ({ artifacts }) => artifacts.save(token('a', { payload: { new: true } })),
        seen: async () => (await find('a'))?.payload,
        before: {},
        after: { new: true },
      },
      {
        what: 'a token that was not there',
        change: ({ artifacts }) => artifacts.save(token('b')),
        seen: async () => (await find('b')) !== undefined,
        before: false,
        after: true,
      },
      {
        what: 'the tokens of a grant',
        change: ({ artifacts }) => artifacts.revokeByGrantId('AccessToken', 'grant'),
        seen: async () => (await find('a')) !== undefined,
        before: true,
        after: false,
      },
      {
        what: 'what an app holds of a person',
        change: ({ artifacts }) => artifacts.revokeGrants('ana', 'app'),
        seen: async () => (await database.artifacts.find('Grant', 'grant', NOW)) !== undefined,
        before: true,
        after: false,
      },
      {
        what: 'a session: ended',
        change: ({ artifacts }) => artifacts.endSession('uid', NOW),
        seen: async () => (await database.artifacts.find('Session', 's', NOW)) !== undefined,
        before: true,
        after: false,
      },
      {
        what: 'what has expired: swept',
        change: (by) => by.sweep(NOW + 3600),
        seen: async () => (await find('a')) !== undefined,
        before: true,
        after: false,
      },
      {
        what: 'a person: disabled',
        change: ({ directory }) => directory.commit([person('ana', { disabled: true })]),
        seen: async () => (await database.accounts.find('ana'))?.disabled,
        before: false,
        after: true,
      },
      {
        what: 'a person: the epoch raised',
        change: ({ directory }) => directory.raiseEpoch('ana'),
        seen: async () => (await database.accounts.find('ana'))?.securityEpoch,
        before: 0,
        after: 1,
      },
      {
        what: 'a person: removed, with their tokens',
        change: ({ directory }) => directory.commit([{ kind: 'user', op: 'remove', id: 'ana' }]),
        seen: async () => [await database.accounts.find('ana'), await find('a')].map((found) => found !== undefined),
        before: [true, true],
        after: [false, false],
      },
      {
        what: 'a company: out of service',
        change: ({ directory }) =>
          directory.commit([
            {
              kind: 'company',
              op: 'put',
              value: { id: 'acme', name: 'Acme', side: 'payor', domains: [], disabled: true },
            },
          ]),
        seen: async () => (await database.accounts.find('eve'))?.memberships[0]?.active,
        before: true,
        after: false,
      },
      {
        what: 'an app: removed',
        change: ({ directory }) => directory.commit([{ kind: 'client', op: 'remove', id: 'app' }]),
        seen: async () => (await database.directory.client('app')) !== undefined,
        before: true,
        after: false,
      },
      {
        what: 'an API: removed',
        change: ({ directory }) => directory.commit([{ kind: 'resource', op: 'remove', id: 'https://api.example' }]),
        seen: async () => (await database.directory.resources()).length,
        before: 1,
        after: 0,
      },
      {
        what: 'an agreement: taken back',
        change: ({ consents }) => consents.forget('ana', 'app'),
        seen: async () => (await database.consents.find('ana', 'app')) !== undefined,
        before: true,
        after: false,
      },
    ]
    beforeEach(async () => {
      await database.directory.commit([
        {
          kind: 'company',
          op: 'put',
          value: { id: 'acme', name: 'Acme', side: 'payor', domains: [], disabled: false },
        },
        person('ana'),
        person('eve', { memberships: [{ company: 'acme', roles: ['payor_viewer'], disabled: false }] }),
        app,
        { kind: 'resource', op: 'put', value: { id: 'https://api.example', name: 'API', scopes: ['api'] } },
      ])
      await database.consents.remember('ana', 'app', ['openid'], NOW)
      const grant = { model: 'Grant', key: 'grant', payload: { clientId: 'app' }, expiresAt: NOW + 600 }
      await database.artifacts.save({ ...grant, accountId: 'ana' })
      await database.artifacts.save(token('a', { grantId: 'grant', accountId: 'ana' }))
      await database.artifacts.save({ model: 'Session', key: 's', payload: {}, expiresAt: NOW + 600, uid: 'uid' })
    })
    for (const { what, change, seen, before, after } of cases)
      for (const who of ['this process', 'another'] as const)
        it(`${what}, in ${who}`, async () => {
          assert.deepEqual(await seen(), before)
          await change(who === 'another' ? another : database)
          assert.deepEqual(await seen(), after)
        })
  })

  it('take nothing from a write that is rolled back', async () => {
    await database.directory.commit([person('ana')])
    const { connection } = database
    const failing = connection.write(() => {
      connection.run("UPDATE accounts SET security_epoch = 7 WHERE id = 'ana'")
      assert.equal(connection.settled("SELECT security_epoch FROM accounts WHERE id = 'ana'")[0]?.['security_epoch'], 7)
      void database.accounts.find('ana') // reads at once
      throw new Error('no')
    })
    await assert.rejects(failing, /no/)
    assert.equal((await database.accounts.find('ana'))?.securityEpoch, 0)
  })

  describe('beside another process', () => {
    let child: ChildProcess
    const tell = async (message: object) => {
      child.send(message)
      const [answer] = await once(child, 'message')
      return answer as unknown
    }
    beforeEach(async () => {
      child = fork(new URL('revoking.ts', import.meta.url), [file], { execArgv: ['--import', 'tsx'] })
      await once(child, 'message')
    })
    afterEach(async () => {
      child.disconnect()
      await once(child, 'exit')
    })

    it('open nothing that was revoked there, fifty times out of fifty', async () => {
      for (let turn = 0; turn < 50; turn++) {
        const key = `token ${turn}`
        await database.artifacts.save(token(key))
        assert.ok(await find(key))
        assert.equal(await tell({ revoke: key }), true)
        assert.equal(await find(key), undefined)
      }
    })
    it('let one of many use up a token, whoever has it in memory', async () => {
      for (let turn = 0; turn < 20; turn++) {
        const key = `token ${turn}`
        await database.artifacts.save(token(key))
        await find(key)
        const answers = await Promise.all([
          tell({ consume: key }),
          ...Array.from({ length: 10 }, () => database.artifacts.consume('AccessToken', key, NOW)),
        ])
        assert.equal(answers.filter(Boolean).length, 1)
        assert.equal((await find(key))?.consumedAt, NOW)
      }
    })
  })

  it('are made of no table that changes unnoticed', async () => {
    const { connection } = database
    const tables = connection.all("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    for (const { name } of tables) {
      const table = String(name)
      if (touchedBy(`DELETE FROM ${table}`) === 'settled') continue
      assert.throws(() => connection.settled(`SELECT * FROM ${table}`), /are not settled/)
      // A row that goes with another one, or a trigger, would change something that the statement does not name.
      for (const child of tables)
        for (const key of connection.all(`PRAGMA foreign_key_list(${child['name']})`))
          assert.notEqual(key['table'], table, `${child['name']} follows ${table}`)
    }
    const triggers = connection.all("SELECT name FROM sqlite_schema WHERE type = 'trigger'").map(({ name }) => name)
    assert.deepEqual(triggers, ['audit_keeps', 'audit_stays'])
  })
  it('are forgotten by a statement that nobody understands', () => {
    for (const [sql, touched] of [
      ['SELECT 1', 'nothing'],
      ['SAVEPOINT work', 'nothing'],
      ['INSERT OR REPLACE INTO throttles VALUES (1)', 'nothing'],
      ['\n  UPDATE artifacts SET payload = 1', 'artifacts'],
      ['INSERT INTO clients VALUES (1)', 'settled'],
      ['WITH gone AS (SELECT 1) DELETE FROM audit', 'all'],
      ['DROP TABLE accounts', 'all'],
    ] as const)
      assert.equal(touchedBy(sql), touched, sql)
  })
})
