/** What oidc-provider leaves to its adapter, and one middleware: each must hold, and its scenario must fail without the guard. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import type { Middleware } from 'koa'
import { Provider } from 'oidc-provider'
import { SqliteArtifacts } from '../../adapters/sqlite/artifacts.ts'
import type { Artifact } from '../../interactions/kit/stores.ts'
import { openTestHouse, PASSWORD, signIn, type TestHouse } from '../support/house.ts'
import { type Answer, formOf, type Visitor } from '../support/visitor.ts'

/** A promise and what resolves it. */
function latch(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

/** A database that is slow where a test wants it. */
class SlowArtifacts extends SqliteArtifacts {
  #held: { reached: () => void; released: Promise<void> }[] = []
  latency = 0

  /** The next save of a session waits until it is released. */
  holdSessionSave(): { reached: Promise<void>; release: () => void } {
    const reached = latch()
    const released = latch()
    this.#held.push({ reached: reached.resolve, released: released.promise })
    return { reached: reached.promise, release: released.resolve }
  }

  override async find(model: string, key: string, now: number): Promise<Artifact | undefined> {
    const found = await super.find(model, key, now)
    if (this.latency) await setTimeout(this.latency)
    return found
  }

  override async save(artifact: Artifact): Promise<void> {
    const held = artifact.model === 'Session' ? this.#held.shift() : undefined
    held?.reached()
    await held?.released
    await super.save(artifact)
  }
}

class ConsumesTwice extends SlowArtifacts {
  override async consume(model: string, key: string, at: number): Promise<boolean> {
    await super.consume(model, key, at)
    return true
  }
}

class ForgetsTheDestroyed extends SlowArtifacts {
  protected override isDestroyed(): boolean {
    return false
  }
  protected override hasEnded(): boolean {
    return false
  }
}

class Overwrites extends SlowArtifacts {
  protected override merged(_stored: Record<string, unknown>, next: Record<string, unknown>) {
    return next
  }
}

class HandsNothingOver extends SlowArtifacts {
  protected override handOver(): void {}
}

class LeavesBuriedBehind extends SlowArtifacts {
  protected override buried(): [] {
    return []
  }
}

type Scenario = (test: TestHouse, slow: SlowArtifacts) => Promise<void>

/** Runs a scenario on a server of its own. */
async function play(scenario: Scenario, Kind: typeof SlowArtifacts = SlowArtifacts): Promise<void> {
  let slow!: SlowArtifacts
  const test = await openTestHouse(
    {},
    {
      artifacts: (database) => {
        slow = new Kind(database.connection)
        return slow
      },
    },
  )
  try {
    await scenario(test, slow)
  } finally {
    await test.close()
  }
}

/** Without the middleware of that name. */
async function without(name: string, work: () => Promise<void>): Promise<void> {
  const { use } = Provider.prototype
  let left = 0
  Provider.prototype.use = function (this: Provider, middleware: Middleware) {
    if (middleware.name !== name) return use.call(this, middleware as never)
    left += 1
    return this
  } as typeof use
  try {
    await work()
  } finally {
    Provider.prototype.use = use
    assert.equal(left, 1, `there was a middleware ${name}`)
  }
}

/** A person without a second factor, signed in at Payments. */
async function signedIn(test: TestHouse): Promise<{ visitor: Visitor; answer: Answer; email: string }> {
  const email = 'sam@city.example'
  await test.person(email, 'standard')
  const visitor = test.visitor()
  return { visitor, email, answer: await signIn(visitor, await visitor.go(test.authUrl()), email) }
}

const silently = (test: TestHouse, visitor: Visitor, client: string) =>
  visitor.request(test.authUrl({ client_id: client, prompt: 'none' }))

const oneExchange: Scenario = async (test, slow) => {
  const { answer } = await signedIn(test)
  slow.latency = 20
  const results = await Promise.all(Array.from({ length: 20 }, () => test.exchange(answer)))
  const won = results.filter(({ status }) => status === 200)
  assert.equal(won.length, 1)
  assert.ok(results.every(({ status, error }) => status === 200 || error === 'invalid_grant'))
  const { status } = await fetch(`${test.url}/me`, { headers: { authorization: `Bearer ${won[0]!['access_token']}` } })
  assert.equal(status, 401, 'what was issued for a code that was shown twice opens nothing')
}

const loggedOut: Scenario = async (test, slow) => {
  const { visitor } = await signedIn(test)
  const old = visitor.clone()
  const held = slow.holdSessionSave()
  const late = silently(test, visitor.clone(), 'spa')
  await held.reached
  await visitor.submit(await visitor.go(`${test.url}/session/end`), { logout: 'yes' })
  assert.match((await silently(test, visitor, 'payments')).location!, /error=login_required/)
  held.release()
  await late
  assert.match((await silently(test, old, 'payments')).location!, /error=login_required/)
}

const twoClients: Scenario = async (test, slow) => {
  const { visitor } = await signedIn(test)
  const holds = [slow.holdSessionSave(), slow.holdSessionSave()]
  const answers = (['spa', 'poster'] as const).map((client) => silently(test, visitor.clone(), client))
  await Promise.all(holds.map(({ reached }) => reached))
  for (const { release } of holds) release()
  const [spa, poster] = await Promise.all(answers)
  assert.equal((await test.exchange(spa!, 'spa')).status, 200)
  assert.equal((await test.exchange(poster!, 'poster')).status, 200)
}

const renamedMeanwhile: Scenario = async (test, slow) => {
  const { visitor, email } = await signedIn(test)
  const before = visitor.cookie('session')
  const twin = visitor.clone()
  const page = await visitor.go(test.authUrl({ prompt: 'login' }))
  const held = slow.holdSessionSave()
  const late = silently(test, twin, 'spa')
  await held.reached
  await signIn(visitor, page, email)
  assert.notEqual(visitor.cookie('session'), before, 'the resume renamed the session')
  held.release()
  const answer = await late
  assert.equal((await test.exchange(answer, 'spa')).status, 200)
  assert.deepEqual(
    answer.headers.getSetCookie().filter((cookie) => cookie.startsWith('session=')),
    [],
    'the answer does not set the old cookie',
  )
}

const savedBeforeTheRename: Scenario = async (test, slow) => {
  const { visitor, email } = await signedIn(test)
  const page = await visitor.go(test.authUrl({ prompt: 'login' }))
  const twin = visitor.clone()
  const next = await visitor.submit(page, { email })
  // The resume has read the session and is about to write it under its new name.
  const original = slow.destroy.bind(slow)
  const reached = latch()
  const release = latch()
  slow.destroy = async (model, key, now) => {
    if (model === 'Session') {
      reached.resolve()
      await release.promise
    }
    return original(model, key, now)
  }
  const resumed = visitor.submit(next, { password: PASSWORD })
  await reached.promise
  const answer = await silently(test, twin, 'spa')
  release.resolve()
  await resumed
  assert.equal((await test.exchange(answer, 'spa')).status, 200)
}

/** A slow form whose interaction was finished meanwhile writes it back, and with it the finished sign-in. */
const answeredLate: Scenario = async (test, slow) => {
  await test.person('late@city.example', 'standard')
  const visitor = test.visitor()
  const page = await visitor.submit(await visitor.go(test.authUrl()), { email: 'late@city.example' })
  const { action, hidden } = formOf(page)
  const form = { ...hidden, password: PASSWORD }
  const save = slow.save.bind(slow)
  const reached = latch()
  const release = latch()
  let first = true
  slow.save = async (artifact) => {
    if (artifact.model === 'Interaction' && first) {
      first = false
      reached.resolve()
      await release.promise
    }
    return save(artifact)
  }
  const late = visitor.request(action, { form })
  await reached.promise
  const cookies = visitor.clone()
  const answer = await visitor.go(action, { form })
  assert.match(answer.location!, /code=/)
  release.resolve()
  const again = await cookies.go((await late).location!)
  assert.ok(!again.location?.includes('code='), 'one interaction, one code')
}

describe('duties of the adapter', () => {
  const duties: [string, Scenario, typeof SlowArtifacts][] = [
    ['gives tokens for a code once, to one of twenty, and then revokes them', oneExchange, ConsumesTwice],
    ['lets no slow request bring a session back after a logout', loggedOut, ForgetsTheDestroyed],
    ['lets no slow form bring a finished interaction back', answeredLate, ForgetsTheDestroyed],
    ['keeps what two apps authorized in parallel', twoClients, Overwrites],
    ['keeps what an app authorized while the session was renamed', renamedMeanwhile, HandsNothingOver],
    ['keeps what an app authorized just before the session was renamed', savedBeforeTheRename, LeavesBuriedBehind],
  ]
  for (const [title, scenario, Unguarded] of duties) {
    it(title, () => play(scenario))
    it(`${title}: not without the guard`, () =>
      assert.rejects(play(scenario, Unguarded), (error) => error instanceof assert.AssertionError))
  }
  it('sets the old cookie again without the middleware', () =>
    without('keepSessionCookie', () => assert.rejects(play(renamedMeanwhile), /does not set the old cookie/)))
})
