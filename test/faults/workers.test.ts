/** One address, several processes: what people and apps see of it, on both databases. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { loadConfig } from '../../server/config.ts'
import { openHouse } from '../../server/open.ts'
import { begin } from '../support/command.ts'
import {
  acknowledge,
  claimsIn,
  enrol,
  firstSignIn,
  hasCode,
  openTestHouse,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { freshName, useMongo } from '../support/mongo.ts'
import { Visitor } from '../support/visitor.ts'
import { Person } from './person.ts'

const WORKERS = 3
const PEOPLE = 60
const AT_ONCE = 8
const EXCHANGES = 50

/** A browser that opens a connection for each request, so that each may reach another worker. */
class Restless extends Visitor {
  override request(url: string, options: Parameters<Visitor['request']>[1] = {}) {
    return super.request(url, { ...options, headers: { ...options.headers, connection: 'close' } })
  }
}

let visitors = 0
const restless = ({ url }: TestHouse) => new Restless(url, `10.9.${visitors >> 8}.${visitors++ & 255}`)

/** What holds on every database. */
function severalWorkers(settings: () => Record<string, string>): void {
  let test: TestHouse
  let env: Record<string, string>
  let child: ChildProcess
  let log = ''
  const people: Person[] = []

  before(async () => {
    env = settings()
    test = await openTestHouse(env)
    for (let number = 0; number < PEOPLE; number++) {
      const email = `person-${number}@acme.example`
      const up = { up: () => setTimeout(100) } // the others go on
      people.push(new Person(test, up, await test.person(email), email, number % 2 === 0, restless(test)))
    }
    for (const email of ['ana@acme.example', 'ben@acme.example']) await test.person(email)
    await test.close()
    env = {
      ...env,
      PORT: new URL(test.url).port,
      SALLYPORT_DATA_DIR: join(test.folder, 'data'),
      SALLYPORT_TRUSTED_PROXIES: 'loopback',
      SALLYPORT_HASH_QUEUE: '500',
    }
    child = begin(test.folder, ['serve', '--workers', String(WORKERS)], env)
    child.stderr!.setEncoding('utf8').on('data', (chunk) => {
      log += chunk
    })
    const [line] = await Promise.race([once(child.stdout!, 'data'), once(child, 'exit').then(() => [log])])
    assert.match(String(line), new RegExp(`^listening on ${test.url}, .*, ${WORKERS} workers\n$`))
  })
  after(() => child?.kill('SIGKILL'))

  const lines = () =>
    log
      .split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as { pid: number; level: string; msg: string; path?: string; status?: number })
  const workersOf = () =>
    readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)

  it('a sign-in whose requests reach different workers comes through', async () => {
    log = ''
    const ana = restless(test)
    const enrolment = await signIn(ana, await ana.go(test.authUrl()), 'ana@acme.example')
    const { page } = await enrol(ana, enrolment)
    const answer = await acknowledge(ana, page)
    const tokens = await test.exchange(answer)
    assert.equal(tokens.status, 200)
    assert.deepEqual(claimsIn(tokens['id_token']).amr.sort(), ['mfa', 'otp', 'pwd'])
    const again = await ana.go(test.authUrl())
    assert.ok(hasCode(again), 'the session is everybody’s')
    await setTimeout(200)
    const answered = lines().filter(({ msg }) => msg === 'answered')
    const by = new Map(answered.map(({ pid }) => [pid, answered.filter((one) => one.pid === pid).length]))
    assert.ok(by.size > 1, JSON.stringify([...by]))
  })

  it(`of ${EXCHANGES} exchanges of one code at once, one wins`, async () => {
    const { answer } = await firstSignIn(test, 'ben@acme.example')
    log = ''
    const close = { connection: 'close' }
    const all = await Promise.all(Array.from({ length: EXCHANGES }, () => test.exchange(answer, 'payments', {}, close)))
    assert.equal(all.filter(({ status }) => status === 200).length, 1)
    assert.deepEqual([...new Set(all.map(({ error }) => error).filter(Boolean))], ['invalid_grant'])
    await setTimeout(200)
    const by = new Set(lines().flatMap(({ path, pid }) => (path === '/token' ? [pid] : [])))
    assert.ok(by.size > 1, 'more than one worker was asked')
  })

  it(`a worker that is killed during ${PEOPLE} first sign-ins strands nobody, and is replaced`, async () => {
    log = ''
    const queue = [...people]
    let finished = 0
    const killed: number[] = []
    const lane = async () => {
      for (let person = queue.shift(); person; person = queue.shift()) {
        await person.signIn()
        finished += 1
        if (finished !== 15 && finished !== 40) continue
        const victim = workersOf()[0]!
        killed.push(victim)
        process.kill(victim, 'SIGKILL')
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, lane))
    assert.equal(finished, PEOPLE)
    assert.equal(killed.length, 2)
    const now = workersOf()
    assert.equal(now.length, WORKERS)
    assert.ok(killed.every((pid) => !now.includes(pid)))
    const ended = lines().filter(({ msg }) => msg.startsWith('a worker has ended'))
    assert.equal(ended.length, 2)
    const failed = lines().filter(({ status = 0 }) => status >= 500)
    assert.deepEqual(failed, [], 'those that lived answered everybody')
  })

  it('ends with 0, and the database is whole, with a gapless audit of every process', async () => {
    child.kill('SIGTERM')
    const [code] = await once(child, 'exit')
    assert.equal(code, 0)
    const { database } = await openHouse(loadConfig(env, test.folder))
    assert.deepEqual(await database.check(), [])
    const { broken, chains } = (await database.auditReader.verifyAudit()) as { broken?: object; chains?: unknown }
    assert.equal(broken, undefined, JSON.stringify(chains))
    for (const { id, email, enrolled } of people) {
      assert.equal((await database.accounts.find(id))?.recoveryCode?.acknowledged, true, email)
      if (enrolled !== undefined) assert.equal(await database.factors.totpSecret(id), enrolled, email)
    }
    await database.close()
  })
}

describe(`${WORKERS} workers on one SQLite file`, () => severalWorkers(() => ({})))

describe(`${WORKERS} workers on one MongoDB`, function () {
  const server = useMongo(this)
  severalWorkers(() => ({ SALLYPORT_STORE: server().url(freshName()) }))
})
