import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { loadConfig } from '../../server/config.ts'
import { openHouse } from '../../server/open.ts'
import type { Database } from '../../server/stores.ts'
import { openTestHouse, type TestHouse } from '../support/house.ts'
import type { Answer } from '../support/visitor.ts'
import { Person } from './person.ts'

const PEOPLE = 200
const AT_ONCE = 8
/** Killed when so many have finished, the others being in the middle. */
const KILLED_AT = [20, 60, 100, 140, 180]

/** A server process that can be killed and started again on the same folder. */
class Server {
  starts = 0
  readonly #test: TestHouse
  #child: ChildProcess | undefined
  #up: Promise<void> = Promise.resolve()

  constructor(test: TestHouse) {
    this.#test = test
  }

  start(maxPages = ''): Promise<void> {
    this.starts += 1
    const child = fork(
      new URL('./serve.ts', import.meta.url).pathname,
      [this.#test.folder, new URL(this.#test.url).port, maxPages],
      { execArgv: ['--import', 'tsx'] },
    )
    this.#child = child
    this.#up = Promise.race([
      once(child, 'message').then(() => {}),
      once(child, 'exit').then(([code]) => {
        throw new Error(`the server ended with ${code}`)
      }),
    ])
    return this.#up
  }

  async kill(): Promise<void> {
    const child = this.#child!
    child.kill('SIGKILL')
    await once(child, 'close')
  }

  async killAndStart(): Promise<void> {
    this.#up = this.kill().then(() => this.start())
    await this.#up
  }

  /** Gives the database room for so many pages. */
  async grow(pages: number): Promise<void> {
    this.#child!.send(pages)
    await once(this.#child!, 'message')
  }

  up(): Promise<void> {
    return this.#up
  }
}

/** A prepared folder whose server has stopped. */
async function prepared(people: number) {
  const test = await openTestHouse()
  const server = new Server(test)
  const persons: Person[] = []
  for (let index = 0; index < people; index++) {
    const email = `person-${index}@acme.example`
    persons.push(new Person(test, server, await test.person(email), email, index % 2 === 0))
  }
  await test.close()
  return { test, server, persons }
}

const reopen = async ({ folder, url }: TestHouse): Promise<Database> => {
  const env = { PORT: new URL(url).port, SALLYPORT_DATA_DIR: join(folder, 'data') }
  const { database } = await openHouse(loadConfig(env, folder))
  return database
}

describe('a server that is killed', () => {
  it(`loses nothing that it acknowledged during ${PEOPLE} first sign-ins, ${KILLED_AT.length} times`, async () => {
    const { test, server, persons } = await prepared(PEOPLE)
    await server.start()
    const queue = [...persons]
    let finished = 0
    try {
      const worker = async () => {
        for (let person = queue.shift(); person; person = queue.shift()) {
          await person.signIn()
          finished += 1
          if (KILLED_AT.includes(finished)) await server.killAndStart()
        }
      }
      await Promise.all(Array.from({ length: AT_ONCE }, worker))

      assert.equal(finished, PEOPLE)
      assert.equal(server.starts, KILLED_AT.length + 1)
      const interrupted = persons.filter(({ interruptions }) => interruptions > 0)
      assert.ok(interrupted.length >= KILLED_AT.length, `only ${interrupted.length} were interrupted`)
      assert.ok(interrupted.some(({ wentOn }) => wentOn > 0))
      for (const { email, accessToken } of persons) {
        const { status } = await fetch(`${test.url}/me`, { headers: { authorization: `Bearer ${accessToken}` } })
        assert.equal(status, 200, email)
      }
    } finally {
      await server.kill()
    }

    const database = await reopen(test)
    try {
      for (const { id, enrolled, email } of persons) {
        const account = (await database.accounts.find(id))!
        assert.equal(account.recoveryCode?.acknowledged, true, email)
        assert.ok(account.enrolled.otp, email)
        if (enrolled !== undefined) assert.equal(await database.factors.totpSecret(id), enrolled, email)
      }
      assert.deepEqual(await database.check(), [])
      assert.equal((await database.auditReader.verifyAudit()).broken, undefined)
    } finally {
      await database.close()
    }
  })
})

describe('a server whose disk is full', () => {
  it('answers 503 with its page, half-writes nothing, and works again when there is room', async () => {
    const { test, server, persons } = await prepared(1)
    await server.start('1') // no page more than there are
    try {
      let page: Answer | undefined
      for (let tries = 0; tries < 300 && page?.status !== 503; tries++) page = await test.visitor().go(test.authUrl())
      assert.equal(page?.status, 503)
      assert.match(page.headers.get('content-type')!, /text\/html/)
      assert.ok(page.headers.get('retry-after'))
      assert.match(page.text, /<h1/)
      assert.equal(page.location, undefined)
      const reading = await fetch(`${test.url}/readyz`)
      assert.equal(reading.status, 200, 'reading goes on')

      const database = await reopen(test)
      assert.deepEqual(await database.check(), [])
      assert.deepEqual((await database.accounts.find(persons[0]!.id))?.enrolled, {})
      await database.close()

      await server.grow(1_000_000)
      await persons[0]!.signIn()
      assert.ok(persons[0]!.accessToken)
    } finally {
      await server.kill()
    }
    const database = await reopen(test)
    assert.deepEqual(await database.check(), [])
    await database.close()
  })
})
