/** What oidc-provider leaves to its adapter, and one middleware: each must hold, and its scenario must fail without the guard. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import type { Middleware } from 'koa'
import { Provider } from 'oidc-provider'
import { type ArtifactStore, StoreUnavailable } from '../../interactions/kit/stores.ts'
import { openTestHouse, PASSWORD, signIn, type TestHouse } from '../support/house.ts'
import { freshName, useMongo } from '../support/mongo.ts'
import { type Answer, formOf, type Visitor } from '../support/visitor.ts'

/** A promise and what resolves it. */
function latch(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

/** Makes a store slow where a test wants it. */
class Slowed {
  readonly store: ArtifactStore
  #held: { reached: () => void; released: Promise<void> }[] = []
  latency = 0

  constructor(store: ArtifactStore) {
    this.store = store
    const find = store.find.bind(store)
    const save = store.save.bind(store)
    store.find = async (...place) => {
      const found = await find(...place)
      if (this.latency) await setTimeout(this.latency)
      return found
    }
    store.save = async (artifact) => {
      const held = artifact.model === 'Session' ? this.#held.shift() : undefined
      held?.reached()
      await held?.released
      await save(artifact)
    }
  }

  /** The next save of a session waits until it is released. */
  holdSessionSave(): { reached: Promise<void>; release: () => void } {
    const reached = latch()
    const released = latch()
    this.#held.push({ reached: reached.resolve, released: released.promise })
    return { reached: reached.promise, release: released.resolve }
  }
}

/** Takes one duty away. Both adapters have it as a method of the same name. */
type Unguard = (store: ArtifactStore) => object

const consumesTwice: Unguard = (store) => {
  const consume = store.consume.bind(store)
  return { consume: (...place: Parameters<typeof consume>) => consume(...place).then(() => true) }
}
const forgetsTheDestroyed: Unguard = () => ({ isDestroyed: () => false, hasEnded: () => false })
const overwrites: Unguard = () => ({ merged: (_stored: object, next: object) => next })
const handsNothingOver: Unguard = () => ({ handOver: () => undefined })
const leavesBuriedBehind: Unguard = () => ({ buried: () => [] })

type Scenario = (test: TestHouse, slow: Slowed) => Promise<void>

/** Runs a scenario on a server of its own. */
async function play(scenario: Scenario, env: Record<string, string>, unguard?: Unguard): Promise<void> {
  let slow!: Slowed
  const test = await openTestHouse(env, {
    artifacts: ({ artifacts }) => {
      for (const [name, replacement] of Object.entries(unguard?.(artifacts) ?? {})) {
        assert.ok(name in artifacts, `the adapter has a guard ${name}`)
        Object.assign(artifacts, { [name]: replacement })
      }
      slow = new Slowed(artifacts)
      return artifacts
    },
  })
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
  const { store } = slow
  const original = store.destroy.bind(store)
  const reached = latch()
  const release = latch()
  store.destroy = async (model, key, now) => {
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
  const save = slow.store.save.bind(slow.store)
  const reached = latch()
  const release = latch()
  let first = true
  slow.store.save = async (artifact) => {
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

/** Tokens for a code that a power loss would give back may not leave; nor for one of which nobody knows. */
const onDiskFirst: Scenario = async (test, { store }) => {
  const { answer, visitor } = await signedIn(test)
  const asked = latch()
  const release = latch()
  store.onDisk = async () => {
    asked.resolve()
    await release.promise
  }
  let left = false
  const exchange = test.exchange(answer).then((result) => {
    left = true
    return result
  })
  await Promise.race([asked.promise, exchange])
  await setTimeout(100)
  assert.equal(left, false, 'no answer before the disk')
  release.resolve()
  assert.equal((await exchange).status, 200)

  store.onDisk = () => Promise.reject(new StoreUnavailable('the disk failed'))
  const lost = await test.exchange(await silently(test, visitor, 'payments'))
  assert.equal(lost.status, 503)
  assert.equal(lost['access_token'], undefined)
}

/** Everything, on the database that the settings name. */
function duties(settings: () => Record<string, string>): void {
  const all: [string, Scenario, Unguard][] = [
    ['gives tokens for a code once, to one of twenty, and then revokes them', oneExchange, consumesTwice],
    ['lets no slow request bring a session back after a logout', loggedOut, forgetsTheDestroyed],
    ['lets no slow form bring a finished interaction back', answeredLate, forgetsTheDestroyed],
    ['keeps what two apps authorized in parallel', twoClients, overwrites],
    ['keeps what an app authorized while the session was renamed', renamedMeanwhile, handsNothingOver],
    ['keeps what an app authorized just before the session was renamed', savedBeforeTheRename, leavesBuriedBehind],
  ]
  it('sends tokens only when the disk has that the code is used up', () => play(onDiskFirst, settings()))
  for (const [title, scenario, unguard] of all) {
    it(title, () => play(scenario, settings()))
    it(`${title}: not without the guard`, () =>
      assert.rejects(play(scenario, settings(), unguard), (error) => error instanceof assert.AssertionError))
  }
}

describe('duties of the adapter', () => {
  describe('sqlite', () => {
    duties(() => ({}))
    it('sets the old cookie again without the middleware', () =>
      without('keepSessionCookie', () => assert.rejects(play(renamedMeanwhile, {}), /does not set the old cookie/)))
  })
  describe('mongo', function () {
    const server = useMongo(this)
    duties(() => ({ SALLYPORT_STORE: server().url(freshName()) }))
  })
})
