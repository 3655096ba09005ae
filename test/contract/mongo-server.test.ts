/** The MongoDB itself: indexes, versions, what is asked of its servers, late writers, outages. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { inspect, isDeepStrictEqual } from 'node:util'
import mongoose, { mongo } from 'mongoose'
import { type MongoDatabase, type MongoOptions, migrate, openMongo } from '../../adapters/mongo/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import { type Artifact, StoreUnavailable } from '../../interactions/kit/stores.ts'
import type { Change } from '../../server/stores.ts'
import { freshName, isRealMongo, needsStandIn, startStandIn, useMongo } from '../support/mongo.ts'

const NOW = 4_000_000_000
const sealer = new KeyRing(newKeyRing())
const unavailable = (pattern: RegExp) => (error: Error) => {
  assert.ok(error instanceof StoreUnavailable, error.stack)
  assert.match(error.message, pattern)
  assert.doesNotMatch(error.message, /\n/)
  return true
}
const person = (id: string, email = `${id}@acme.example`): Change => ({
  kind: 'user',
  op: 'put',
  value: { id, email, disabled: false, memberships: [], serverRoles: [] },
})
const client = (id: string, more: object = {}): Change => ({
  kind: 'client',
  op: 'put',
  value: { client_id: id, ...more },
})

/** A promise and what resolves it. */
function latch(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

describe('mongo database', function () {
  const server = useMongo(this)
  const opened: MongoDatabase[] = []
  const open = async (url: string, more: Partial<MongoOptions> = {}) => {
    const database = await openMongo({ url, sealer, ...more })
    opened.push(database)
    return Object.assign(database, { url })
  }
  const fresh = async (more: Partial<MongoOptions> = {}) => {
    const url = server().url(freshName())
    await migrate({ url })
    return open(url, more)
  }
  /** Works on a database by the driver alone. */
  const byHand = async (url: string, work: (database: mongo.Db) => Promise<unknown>) => {
    const raw = await new mongo.MongoClient(url).connect()
    await work(raw.db())
    await raw.close()
  }
  afterEach(async () => {
    for (const database of opened.splice(0)) await database.close()
  })

  describe('migrate', () => {
    it('is told to whoever opens a database without it, and opening makes nothing', async () => {
      const url = server().url(freshName())
      await assert.rejects(open(url), unavailable(/not set up for this version: run `sallyport migrate`$/))
      await byHand(url, async (raw) => assert.deepEqual(await raw.listCollections().toArray(), []))
      await migrate({ url })
      await open(url)
    })
    it('may run again, and three times at once', async () => {
      const url = server().url(freshName())
      await Promise.all([migrate({ url }), migrate({ url }), migrate({ url })])
      const database = await open(url)
      await database.directory.commit([client('app')])
      await migrate({ url })
      assert.deepEqual(await database.directory.clients(), [{ client_id: 'app' }])
      assert.deepEqual(await database.check(), [])
    })
    it('names an index that is missing or another one than it should be, and makes it again', async () => {
      const url = server().url(freshName())
      await migrate({ url })
      const database = await open(url)
      // The whole collection: dropping one index takes those of the same name elsewhere with it in the stand-in.
      await byHand(url, async (raw) => {
        await raw.collection('pending').drop()
        await raw.collection('pending').createIndex({ expires: 1 }, { name: 'by-hand' }) // expires nothing
      })
      await assert.rejects(open(url), unavailable(/lacks the index pending\.expires: run `sallyport migrate`$/))
      assert.deepEqual(await database.check(), ['the index pending.expires is missing: run `sallyport migrate`'])
      await byHand(url, (raw) => raw.collection('pending').drop())
      await migrate({ url })
      await open(url)
    })
    it('refuses a newer version, and so does opening', async () => {
      const url = server().url(freshName())
      await migrate({ url })
      await byHand(url, (raw) => raw.collection('meta').updateOne({}, { $set: { version: 999 } }))
      await assert.rejects(migrate({ url }), unavailable(/schema 999.*run the newer version/))
      await assert.rejects(open(url), unavailable(/schema 999.*run the newer version/))
    })
    it('refuses a database of another program', async () => {
      const url = server().url(freshName())
      await byHand(url, (raw) => raw.collection('shop_orders').insertOne({ a: 1 }))
      await assert.rejects(
        migrate({ url }),
        unavailable(/"shop_orders" of another program: name a database of its own/),
      )
    })
  })

  describe('values', () => {
    it('are refused by name when a schema does not know them', async () => {
      const { collections } = await fresh()
      const { companies, pending } = collections
      const wrong = companies.updateOne({ _id: 'a' }, { $set: { colour: 'red' } } as object, { upsert: true })
      await assert.rejects(wrong, /colour/)
      await assert.rejects(companies.insertMany([{ _id: 'a', commit: 1, name: 'A', side: 'left' }] as never), /side/)
      await assert.rejects(pending.findOne({ owners: 'a' } as object), /owners/)
    })
    it('are never operators', async () => {
      const database = await fresh()
      await database.directory.commit([person('ana')])
      const anybody = { $gt: '' } as unknown as string
      for (const ask of [
        () => database.accounts.find(anybody),
        () => database.accounts.findByEmail(anybody),
        () => database.directory.client(anybody),
        () => database.artifacts.findByUid('Session', anybody, NOW),
        () => database.factors.totpSecret(anybody),
      ])
        await assert.rejects(ask(), /Cast to string failed/)
    })
    it('that no schema takes leave no half of a commit behind', async () => {
      const database = await fresh()
      const odd = { id: 'a', name: 'A', side: 'left', domains: [], disabled: false } as never
      await assert.rejects(
        database.directory.commit([client('half'), { kind: 'company', op: 'put', value: odd }]),
        /side/,
      )
      assert.deepEqual(await database.directory.clients(), [])
      await database.directory.commit([client('whole')])
    })
    it('that are too many for one commit are refused with advice, and nothing is written', async () => {
      const database = await fresh()
      const large = Array.from({ length: 13 }, (_, index) => client(`app-${index}`, { text: 'x'.repeat(1024 * 1024) }))
      await assert.rejects(database.directory.commit(large), /14 MiB of 12\): make them in several parts/)
      assert.deepEqual(await database.directory.clients(), [])
    })
  })

  it('is asked for a majority on disk with every write, except of what may be lost, and with a read concern for every read', async () => {
    const database = await fresh({ driver: { monitorCommands: true } })
    const commands: { name: string; collection: string; command: mongo.Document }[] = []
    database.connection.opened.getClient().on('commandStarted', ({ commandName: name, command }) => {
      commands.push({ name, collection: String(command[name]), command })
    })
    const { directory, factors, throttle, devices, pending, audit, artifacts, signingKeys, auditReader } = database
    await directory.commit([person('ana'), client('app', { client_secret: 's' })])
    await directory.commit([{ kind: 'client', op: 'remove', id: 'app' }])
    await factors.activate('ana', {
      factor: { method: 'otp', secret: 'S', step: 1 },
      now: NOW,
      factorVersion: 0,
      securityEpoch: 0,
      recoveryCodeId: 'c',
    })
    await factors.claimTimeStep('ana', 2)
    await throttle.take([{ key: 'k', rule: { kind: 'window', limit: 1, seconds: 1 } }], NOW)
    await throttle.clear(['k'])
    await devices.remember('d', 'ana', NOW)
    await pending.keep({ owner: 'o', purpose: 'p', value: 'v', expiresAt: NOW + 1, now: NOW })
    await pending.take('o', 'p', NOW)
    await audit.append({ event: 'e', outcome: 'success', at: NOW })
    await artifacts.save({ model: 'Session', key: 's', uid: 'u', payload: {}, expiresAt: NOW })
    await artifacts.save({ model: 'AccessToken', key: 't', payload: {}, expiresAt: NOW })
    await artifacts.consume('AccessToken', 't', NOW)
    await artifacts.destroy('Session', 's', NOW)
    await artifacts.destroy('AccessToken', 't', NOW)
    await artifacts.revokeByGrantId('AccessToken', 'g')
    await signingKeys.addFirstSigningKey({ kid: 'a', privateJwk: '{}', createdAt: NOW })
    await signingKeys.signingKeys()
    await directory.resetMfa('ana', { now: NOW })
    await directory.users()
    await auditReader.auditRows()
    await auditReader.verifyAudit()
    await database.ping()

    const seen = new Set<string>()
    for (const { name, collection, command } of commands) {
      const label = `${name} of ${collection}`
      seen.add(label)
      if (['insert', 'update', 'delete', 'findAndModify'].includes(name)) {
        const cheap = collection === 'devices' && name === 'update'
        assert.deepEqual(command['writeConcern'], cheap ? { w: 1 } : { w: 'majority', wtimeout: 5000, j: true }, label)
      } else if (name === 'find') {
        const { level } = command['readConcern'] as { level: string }
        const published = ['audit', 'signing_keys'].includes(collection)
        assert.ok(published ? ['majority', 'local'].includes(level) : level.length > 0, label)
      }
    }
    for (const one of ['insert of audit', 'insert of throttles', 'update of accounts', 'findAndModify of pending'])
      assert.ok(seen.has(one), one)
    const levels = (collection: string) =>
      commands
        .filter((one) => one.name === 'find' && one.collection === collection)
        .map(({ command }) => command['readConcern'].level)
    assert.deepEqual([...new Set(levels('audit'))], ['majority'])
    assert.ok(levels('signing_keys').includes('majority'))
    assert.deepEqual([...new Set(levels('pending'))], ['local'])
  })

  describe('a late writer', () => {
    it('of an older commit changes nothing', async () => {
      const database = await fresh()
      const { directory } = database
      const apply = directory.apply.bind(directory)
      const made: Parameters<typeof apply>[] = []
      directory.apply = async (...commit) => {
        made.push(commit)
        await apply(...commit)
      }
      await directory.commit([person('ana', 'old@x'), client('app', { text: 'old' }), client('gone')])
      await directory.commit([person('ana', 'new@x'), client('app', { text: 'new' })])
      await directory.commit([
        { kind: 'client', op: 'remove', id: 'gone' },
        { kind: 'user', op: 'remove', id: 'ana' },
      ])
      await directory.commit([person('bob', 'old@x')])
      const state = async () => [await directory.users(), await directory.clients(), await database.check()]
      const before = await state()
      for (const older of made.slice(0, -1)) {
        await apply(...older)
        assert.deepEqual(await state(), before)
      }
      assert.equal((await database.accounts.findByEmail('old@x'))?.account.id, 'bob')
    })

    it('of a commit that was overtaken is not told of a conflict that half of the other one made', async () => {
      const first = await fresh()
      await first.directory.commit([person('ana', 'ana@x')])
      const second = await open(first.url)

      // The first removes Ana and is held before it frees her address; the second has settled just before that.
      const reached = latch()
      const released = latch()
      const { collection } = first.collections.addresses
      const bulkWrite = collection.bulkWrite.bind(collection)
      Object.assign(collection, {
        bulkWrite: async (...writes: Parameters<typeof bulkWrite>) => {
          reached.resolve()
          await released.promise
          return bulkWrite(...writes)
        },
      })
      let removal: Promise<void> | undefined
      const settle = second.directory.settle.bind(second.directory)
      second.directory.settle = async () => {
        const before = await settle()
        removal ??= first.directory.commit([{ kind: 'user', op: 'remove', id: 'ana' }])
        await reached.promise
        return before
      }
      await second.directory.commit([person('ana', 'new@x'), person('zed', 'ana@x')])
      released.resolve()
      await removal
      assert.equal((await first.accounts.findByEmail('ana@x'))?.account.id, 'zed')
      assert.equal((await first.accounts.findByEmail('new@x'))?.account.id, 'ana')
      assert.deepEqual(await first.check(), [])
    })

    const session = (key: string, clients: string[]): Artifact => ({
      model: 'Session',
      key,
      uid: 'uid',
      expiresAt: NOW + 3600,
      accountId: 'ana',
      payload: { accountId: 'ana', authorizations: Object.fromEntries(clients.map((one) => [one, {}])) },
    })
    /** A late save under the old name falls between the renaming request's look at the tombstones and its insert. */
    async function lateBetween(guard: object): Promise<string[]> {
      const database = await fresh()
      const { artifacts } = database
      await artifacts.save(session('old', ['a']))
      await artifacts.destroy('Session', 'old', NOW)
      const store = artifacts as unknown as { buried(uid: string): Promise<unknown[]> }
      const buried = store.buried.bind(artifacts)
      store.buried = async (uid) => {
        store.buried = buried
        const found = await buried(uid)
        await artifacts.save(session('old', ['a', 'late']))
        return found
      }
      Object.assign(artifacts, guard)
      await artifacts.save(session('new', ['a']))
      const { payload } = (await artifacts.find('Session', 'new', NOW))!
      return Object.keys(payload['authorizations'] as object).sort()
    }
    it('of a renamed session is heard even between two steps of the rename', async () =>
      assert.deepEqual(await lateBetween({}), ['a', 'late']))
    it('of a renamed session is heard even between two steps of the rename: not without the guard', async () =>
      assert.deepEqual(await lateBetween({ catchUp: async () => {} }), ['a']))

    it('of the audit begins a new chain when a write failed, and leaves no gap', async () => {
      const database = await fresh()
      const append = (name: string) => database.audit.append({ event: name, outcome: 'success', at: NOW })
      await append('first')
      const { audit } = database.collections
      const insertMany = audit.insertMany.bind(audit)
      // The row arrives, and its acknowledgement does not.
      Object.assign(audit, {
        insertMany: async (...rows: Parameters<typeof insertMany>) => {
          await insertMany(...rows)
          throw new mongo.MongoNetworkError('gone')
        },
      })
      await assert.rejects(append('second'), unavailable(/gone/))
      Object.assign(audit, { insertMany })
      await Promise.all(Array.from({ length: 250 }, (_, index) => append(`event-${index}`)))
      assert.deepEqual(await database.auditReader.verifyAudit(), { rows: 252 })
      const rows = await database.auditReader.auditRows({ limit: 1000 })
      assert.deepEqual(rows.map(({ event }) => event).slice(-3), ['event-0', 'second', 'first'])
      assert.equal(new Set(rows.map(({ writer }) => writer)).size, 2)
      for (const change of [{ body: '{}' }, { event: 'another' }, { accountId: 'ana' }, { previous: '0' }]) {
        const { _id } = (await audit.findOne().sort({ _id: 1 }).lean())!
        const before = await audit.findById(_id).lean()
        await audit.updateOne({ _id }, { $set: change })
        assert.ok((await database.auditReader.verifyAudit()).broken, JSON.stringify(change))
        await audit.replaceOne({ _id }, before!)
      }
      assert.equal((await database.auditReader.verifyAudit()).broken, undefined)
      await audit.deleteOne({ number: 7 })
      assert.match((await database.auditReader.verifyAudit()).broken?.why ?? '', /missing/)
    })
  })

  it('writes down what was appended to the audit before it closes', async () => {
    const database = await fresh()
    const appended = Array.from({ length: 250 }, (_, at) =>
      database.audit.append({ event: 'e', outcome: 'success', at }),
    )
    await database.close()
    await Promise.all(appended)
    assert.deepEqual(await (await open(database.url)).auditReader.verifyAudit(), { rows: 250 })
  })

  it('is one of several in a process, and nothing is set for others that use mongoose', async () => {
    const [one, two] = [await fresh(), await fresh()]
    await one.directory.commit([client('app')])
    assert.deepEqual(await two.directory.clients(), [])
    await one.close()
    await two.ping()
    await assert.rejects(one.ping(), unavailable(/does not answer/))
    assert.equal(mongoose.connections.filter(({ readyState }) => readyState !== 0).length, 0)
    assert.equal(mongoose.get('sanitizeFilter'), undefined)
  })

  it('says so in a few seconds when no server answers, and shows no password', async () => {
    const began = Date.now()
    const url = 'mongodb://ana:hunter2@127.0.0.1:1/sallyport'
    const error = await openMongo({ url, sealer }).then(
      () => assert.fail(),
      (failure: Error) => failure,
    )
    unavailable(/^the database mongodb:\/\/127\.0\.0\.1:1\/sallyport does not answer: /)(error)
    assert.doesNotMatch(inspect(error, { depth: 9 }), /hunter2/)
    assert.ok(Date.now() - began < 8000)
    const odd = openMongo({ url: 'mongodb://ana:hunter2@127.0.0.1:1/sallyport?nosuch=hunter2', sealer })
    await assert.rejects(odd, (failure: Error) => {
      unavailable(/^the URL of mongodb:\/\/127\.0\.0\.1:1\/sallyport is of no use: /)(failure)
      assert.doesNotMatch(inspect(failure, { depth: 9 }), /hunter2/)
      return true
    })
  })
})

/** On a stand-in of its own, also where the other tests have a real server: nobody stops a real one for a test. */
describe('mongo server', () => {
  before(function () {
    this.timeout(300_000)
    needsStandIn(this, this.test!.parent!.total())
  })

  it('that goes away is unavailable, and works when it is back', async () => {
    const unhandled: unknown[] = []
    const note = (error: unknown) => unhandled.push(error)
    process.on('unhandledRejection', note)
    const first = await startStandIn()
    const url = first.url('sallyport')
    await migrate({ url })
    const database = await openMongo({ url, sealer })
    const { accounts, directory, factors, throttle, pending, audit, artifacts, signingKeys, auditReader } = database
    await database.ping()
    await first.kill()

    const calls: Record<string, () => Promise<unknown>> = {
      ping: () => database.ping(),
      find: () => accounts.find('ana'),
      commit: () => directory.commit([client('app')]),
      users: () => directory.users(),
      claimTimeStep: () => factors.claimTimeStep('ana', 1),
      take: () => throttle.take([{ key: 'k', rule: { kind: 'window', limit: 1, seconds: 1 } }], NOW),
      keep: () => pending.keep({ owner: 'o', purpose: 'p', value: 'v', expiresAt: NOW + 1, now: NOW }),
      append: () => audit.append({ event: 'e', outcome: 'success', at: NOW }),
      save: () => artifacts.save({ model: 'Session', key: 's', payload: {}, expiresAt: NOW }),
      consume: () => artifacts.consume('AuthorizationCode', 'c', NOW),
      signingKeys: () => signingKeys.signingKeys(),
      verifyAudit: () => auditReader.verifyAudit(),
      sweep: () => database.sweep(NOW),
      rewrap: () => database.rewrap(),
    }
    const began = Date.now()
    const results = await Promise.allSettled(Object.values(calls).map((call) => call()))
    assert.ok(Date.now() - began < 8000, `${Date.now() - began} ms`)
    for (const [index, result] of results.entries()) {
      assert.ok(result.status === 'rejected', Object.keys(calls)[index])
      unavailable(/does not answer/)(result.reason)
    }
    assert.equal((await database.check()).length, 1)

    const second = await startStandIn({ port: first.port })
    await migrate({ url }) // in memory: it has forgotten everything
    for (const [name, call] of Object.entries(calls)) await call().catch((error) => assert.fail(`${name}: ${error}`))
    await database.close()
    await second.kill()
    await setTimeout(50)
    process.off('unhandledRejection', note)
    assert.deepEqual(unhandled, [])
  }).timeout(60_000)

  it('deletes what has expired by itself, and nothing else', async () => {
    const server = await startStandIn({ ttlSeconds: 1 })
    const url = server.url('sallyport')
    await migrate({ url })
    const database = await openMongo({ url, sealer })
    const { artifacts, pending, throttle, collections } = database
    // The server's clock, which another file's tests cannot have set.
    const now = Math.floor((performance.timeOrigin + performance.now()) / 1000)
    const old = now - 600
    await artifacts.save({ model: 'AccessToken', key: 'old', payload: {}, expiresAt: old })
    await artifacts.save({ model: 'AccessToken', key: 'tolerated', payload: {}, expiresAt: now - 20 })
    await artifacts.save({ model: 'AccessToken', key: 'eternal', payload: {}, expiresAt: undefined })
    await pending.keep({ owner: 'o', purpose: 'p', value: 'v', expiresAt: old, now: old - 1 })
    await throttle.take([{ key: 'window', rule: { kind: 'window', limit: 1, seconds: 1 } }], old)
    await throttle.take([{ key: 'closed', rule: { kind: 'streak', every: 9, wait: 1, disableAt: 1 } }], 1000)
    await database.directory.commit([client('app')])
    await database.directory.commit([{ kind: 'client', op: 'remove', id: 'app' }])
    const left = async () => [
      (await collections.artifacts.find().sort({ _id: 1 }).lean()).map(({ key }) => key),
      await collections.pending.countDocuments(),
      (await collections.throttles.find().lean()).map(({ _id }) => _id),
      await collections.clients.countDocuments(), // known as removed for a day
    ]
    const expected = [['eternal', 'tolerated'], 0, ['closed'], 1]
    for (let n = 0; n < 200 && !isDeepStrictEqual(await left(), expected); n++) await setTimeout(100)
    await setTimeout(1200) // another round of the server's clock takes nothing more
    assert.deepEqual(await left(), expected)
    await database.close()
    await server.kill()
  }).timeout(60_000)
})

if (isRealMongo) console.error('the contract runs against the server of MONGODB_URI')
