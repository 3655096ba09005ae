/** Races and kills: one database, several processes. The same for both databases. */
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { migrate, openMongo } from '../../adapters/mongo/index.ts'
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import { tell } from '../../interactions/kit/letters.ts'
import type { Counter } from '../../interactions/kit/stores.ts'
import type { Change, Database } from '../../server/stores.ts'
import { freshName, useMongo } from '../support/mongo.ts'
import { startSmtp } from '../support/smtp.ts'
import { temporaryFolder } from '../support/temporary.ts'

const NOW = 4_000_000_000
const ROUNDS = 5
const KILLS = 5
const TELLERS_KILLED = 20

const ring = newKeyRing()
const sealer = new KeyRing(ring)
const children: ChildProcess[] = []
after(() => {
  for (const child of children) child.kill('SIGKILL')
})

async function start(role: string, address: string, ...more: string[]): Promise<ChildProcess> {
  const args = [role, address, JSON.stringify(ring), ...more]
  const child = fork(new URL('./child.ts', import.meta.url).pathname, args, { execArgv: ['--import', 'tsx'] })
  children.push(child)
  await once(child, 'message')
  return child
}

const federationRequest = (handle: string) => ({
  handle,
  id: '_request',
  connectionId: 'acme-sso',
  interaction: 'uid',
  createdAt: NOW,
  expiresAt: NOW + 60,
  forceAuthn: false,
  authnContexts: [],
})
const federationResponse = (handle: string) => ({
  handle,
  issuer: 'https://idp.example',
  assertionId: `_of-${handle}`,
  usableUntil: NOW + 60,
  facts: 'facts',
  expiresAt: NOW + 60,
  now: NOW,
})

/** What holds for every database. */
function severalProcesses(open: () => Promise<{ database: Database; address: string }>): void {
  let database: Database
  let address: string
  before(async () => {
    ;({ database, address } = await open())
  })
  after(() => database?.close())

  describe('50 callers from two processes', () => {
    let pair: ChildProcess[]
    before(async () => {
      pair = await Promise.all([start('callers', address), start('callers', address)])
    })

    /** A person with an app, a recovery code that stands, a code to exchange and a pending value. */
    async function prepare(id: string) {
      const value = { id, email: `${id}@acme.example`, disabled: false, memberships: [], serverRoles: [] }
      await database.directory.commit([{ kind: 'user', op: 'put', value }])
      const activation = {
        factor: { method: 'otp' as const, secret: 'FIRST', step: 100 },
        now: NOW,
        factorVersion: 0,
        securityEpoch: 0,
        recoveryCodeId: 'named',
      }
      await database.factors.activate(id, activation)
      await database.factors.setRecoveryCode(id, { replaces: 'named', id: 'set', hash: 'hash' })
      await database.factors.acknowledgeRecoveryCode(id, 'set')
      await database.artifacts.save({ model: 'AuthorizationCode', key: id, payload: {}, expiresAt: NOW + 60 })
      await database.pending.keep({ owner: id, purpose: 'put', value: 'there', expiresAt: NOW + 60, now: NOW })
      await database.federation.keepRequest(federationRequest(id))
      await database.federation.keepRequest(federationRequest(`taken-${id}`))
      await database.federation.acceptResponse(federationResponse(`taken-${id}`))
    }

    async function round(operation: string, person: string): Promise<unknown[]> {
      const answers = pair.map(async (child) => (await once(child, 'message'))[0] as unknown[])
      for (const child of pair) child.send({ operation, person, at: Date.now() + 100 })
      return (await Promise.all(answers)).flat()
    }

    for (const operation of [
      'consume',
      'reserveRecoveryCode',
      'claimTimeStep',
      'activate',
      'take',
      'acceptResponse',
      'takeFacts',
      'throttle',
    ])
      it(`${operation}: exactly one wins, ${ROUNDS} times`, async () => {
        for (let number = 0; number < ROUNDS; number++) {
          const person = `${operation}-${number}`
          await prepare(person)
          const answers = await round(operation, person)
          assert.equal(answers.length, 50)
          assert.equal(answers.filter(Boolean).length, 1, person)
        }
      })
    it(`lease: 20 messages leave once each, ${ROUNDS} times`, async () => {
      for (let number = 0; number < ROUNDS; number++) {
        const ids = Array.from({ length: 20 }, (_, index) => `${number}-${index}`)
        const about = { channel: 'mail' as const, kind: 'app_added', accountId: 'ana', body: 'words' }
        await database.outbox.put(
          ids.map((id) => ({ id, ...about, createdAt: NOW, dueAt: NOW, expiresAt: NOW + 3600 })),
        )
        const got = (await round('lease', 'ana')).filter((id) => id !== null)
        assert.deepEqual(got.sort(), ids.sort())
        for (const id of ids) assert.equal(await database.outbox.sent(id, 1, NOW), true)
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

  it(`has told of everything that happened, and of nothing else, when the teller is killed, ${TELLERS_KILLED} times`, async () => {
    let told = 0
    for (let kill = 0; kill < TELLERS_KILLED; kill++) {
      const acknowledged: string[] = []
      const child = await start('telling', address)
      child.on('message', (id: string) => acknowledged.push(id))
      while (acknowledged.length < 3) await setTimeout(1)
      await setTimeout(Math.random() * 10)
      child.kill('SIGKILL')
      await once(child, 'close')
      const people = (await database.directory.users()).filter(({ id }) => id.startsWith(`${child.pid}-`))
      assert.ok(people.length >= acknowledged.length)
      for (const { id, securityEpoch } of people) {
        const letters = await database.outbox.list({ accountId: id, limit: 9 })
        assert.deepEqual(
          letters.map((one) => one.id),
          securityEpoch === 1 ? [`of-${id}`] : [],
          id,
        )
        told += letters.length
        await database.outbox.withdraw(id, ['mfa_reset'])
      }
      for (const id of acknowledged) assert.equal(people.find((one) => one.id === id)?.securityEpoch, 1, id)
    }
    assert.ok(told >= 3 * TELLERS_KILLED)
  }).timeout(180_000)

  it(`delivers every letter, and doubles none but as the same letter, when the server is killed, ${TELLERS_KILLED} times`, async () => {
    const smtp = await startSmtp()
    try {
      await database.outbox.withdraw('ana', ['app_added'])
      const all = Array.from({ length: 60 }, (_, index) => `letter-${index}`)
      const first = 4_100_000_000
      for (const id of all)
        await database.outbox.put(
          tell({ id: 'ana', email: `${id}@acme.example` }, 'app_added', { now: first, lang: 'en', id }),
        )
      let at = first
      for (let kill = 0; kill < TELLERS_KILLED; kill++) {
        const child = await start('delivering', address, smtp.url, String(at))
        const before = smtp.letters.length
        while (smtp.letters.length < before + 1 && smtp.letters.length < all.length) await setTimeout(1)
        child.kill('SIGKILL')
        await once(child, 'close')
        at += 121 // what it held is due again
      }
      const last = await start('delivering', address, smtp.url, String(at))
      await once(last, 'message')
      last.kill('SIGKILL')
      const ids = smtp.letters.flatMap(({ messageId }) => /^<(letter-\d+)@/.exec(messageId)?.[1] ?? [])
      assert.deepEqual([...new Set(ids)].sort(), [...all].sort())
      assert.ok(ids.length <= all.length + TELLERS_KILLED, `${ids.length - all.length} were doubled`)
    } finally {
      await smtp.kill()
    }
  }).timeout(180_000)

  it(`loses nothing that was acknowledged when a writer is killed, ${KILLS} times`, async () => {
    let written = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const acknowledged: string[] = []
      const child = await start('writer', address)
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
}

describe('one SQLite file, several processes', () => {
  severalProcesses(async () => {
    const address = join(temporaryFolder(), 'sallyport.sqlite')
    return { address, database: await openSqlite({ file: address, sealer }) }
  })
})

describe('one MongoDB, several processes', function () {
  const server = useMongo(this)
  const fresh = async () => {
    const address = server().url(freshName())
    await migrate({ url: address })
    return { address, database: await openMongo({ url: address, sealer }) }
  }
  severalProcesses(fresh)

  describe('killed between two steps', () => {
    const person = (id: string, email: string, company: string): Change => ({
      kind: 'user',
      op: 'put',
      value: {
        id,
        email,
        disabled: false,
        memberships: [{ company, roles: ['disburser'], disabled: false }],
        serverRoles: [],
      },
      passwordHash: `hash of ${email}`,
    })
    const company = (id: string): Change => ({
      kind: 'company',
      op: 'put',
      value: { id, name: id, side: 'payor', domains: [], disabled: false },
    })
    const BEFORE = [
      company('old'),
      person('ana', 'a@x', 'old'),
      person('bob', 'b@x', 'old'),
      person('eve', 'e@x', 'old'),
    ]
    /** Everything that a commit can do: come, go, swap addresses. */
    const CHANGES: Change[] = [
      company('new'),
      { kind: 'client', op: 'put', value: { client_id: 'app', client_secret: 'shh' } },
      person('ana', 'b@x', 'new'),
      person('bob', 'a@x', 'new'),
      person('cem', 'c@x', 'new'),
      { kind: 'user', op: 'remove', id: 'eve' },
      { kind: 'company', op: 'remove', id: 'old' },
    ]
    const state = async ({ directory, accounts, artifacts, devices }: Database) => ({
      companies: (await directory.companies()).map(({ id }) => id),
      clients: await directory.clients(),
      people: (await directory.users()).map(({ id, email, memberships, securityEpoch }) => [
        id,
        email,
        memberships[0]?.company,
        securityEpoch,
      ]),
      passwords: await Promise.all(
        ['a@x', 'b@x', 'c@x', 'e@x'].map(async (email) => (await accounts.findByEmail(email))?.passwordHash),
      ),
      session: (await artifacts.find('Session', 'of-eve', NOW)) !== undefined,
      device: await devices.knows('of-eve', 'eve'),
    })

    /** Does the work in a process that dies at the command of that number. @returns false when it came through */
    async function dies(address: string, dieAt: number, work: object): Promise<boolean> {
      const child = await start('work', address, String(dieAt))
      const end = Promise.race([once(child, 'exit').then(() => true), once(child, 'message').then(() => false)])
      child.send(work)
      const died = await end
      child.kill('SIGKILL')
      return died
    }

    it('a commit is made whole or not at all, wherever it was', async () => {
      const ends = new Set<string>()
      let last = 1
      for (; ; last++) {
        const { address, database } = await fresh()
        await database.directory.commit(BEFORE)
        await database.devices.remember('of-eve', 'eve', NOW)
        const session = { model: 'Session', key: 'of-eve', payload: {}, expiresAt: undefined, accountId: 'eve' }
        await database.artifacts.save(session)
        const before = await state(database)
        await database.close()

        const died = await dies(address, last, { commit: CHANGES })
        const next = await openMongo({ url: address, sealer }) // whoever opens it finishes what was begun
        const found = await state(next)
        assert.deepEqual(await next.check(), [], `killed at command ${last}`)
        if (found.companies.includes('old')) assert.deepEqual(found, before, `killed at command ${last}`)
        else {
          assert.deepEqual(found.companies, ['new'])
          assert.deepEqual(found.clients, [{ client_id: 'app', client_secret: 'shh' }])
          assert.deepEqual(found.people, [
            ['bob', 'a@x', 'new', 1],
            ['ana', 'b@x', 'new', 1],
            ['cem', 'c@x', 'new', 0],
          ])
          assert.deepEqual(found.passwords, ['hash of a@x', 'hash of b@x', 'hash of c@x', undefined])
          assert.deepEqual([found.session, found.device], [false, false])
        }
        ends.add(found.companies.join())
        await next.directory.commit([company('later')])
        await next.close()
        if (!died) break
      }
      assert.deepEqual([...ends], ['old', 'new'])
      assert.ok(last > 10, `${last} commands`)
    }).timeout(300_000)

    it('a reset and the letter that tells of it are both there or neither, wherever it was', async () => {
      const ends = new Set<string>()
      let last = 1
      for (; ; last++) {
        const { address, database } = await fresh()
        await database.directory.commit([company('old'), person('ana', 'a@x', 'old')])
        await database.close()
        const reset = tell({ id: 'ana', email: 'a@x' }, 'mfa_reset', { now: NOW, lang: 'en', id: 'letter' })
        const died = await dies(address, last, { reset })
        const next = await openMongo({ url: address, sealer })
        const epoch = (await next.accounts.find('ana'))!.securityEpoch
        // Whoever delivers next moves what was left on the way: once.
        const first = await next.outbox.lease('mail', { now: NOW, until: NOW + 60 })
        assert.equal(first?.id, epoch === 0 ? undefined : 'letter', `killed at command ${last}`)
        assert.equal(await next.outbox.lease('mail', { now: NOW, until: NOW + 60 }), undefined)
        assert.equal(await next.collections.accounts.countDocuments({ 'messages.id': 'letter' } as object), 0)
        ends.add(String(epoch))
        await next.close()
        if (!died) break
      }
      assert.deepEqual([...ends], ['0', '1'])
      assert.ok(last >= 4, `${last} commands`)
    }).timeout(120_000)

    it('an attempt that was half taken lets nobody make more than the limit', async () => {
      const counters: Counter[] = ['a', 'b', 'c'].map((key) => ({
        key,
        rule: { kind: 'window', limit: 2, seconds: 60 },
      }))
      for (let number = 1; ; number++) {
        const { address, database } = await fresh()
        const died = await dies(address, number, { take: counters })
        let allowed = died ? 0 : 1
        for (let attempt = 0; attempt < 5; attempt++)
          if ((await database.throttle.take(counters, NOW)).allowed) allowed += 1
        assert.ok(allowed === 1 || allowed === 2, `killed at command ${number}: ${allowed} allowed`)
        await database.close()
        if (!died) break
      }
    }).timeout(120_000)
  })
})
