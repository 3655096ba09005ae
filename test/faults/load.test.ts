/** More people at once than passwords can be checked: some wait for their turn, nothing else does. */
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { CLIENT_SECRET, hasCode, openTestHouse, PASSWORD, type TestHouse } from '../support/house.ts'
import { headingOf } from '../support/visitor.ts'

const PEOPLE = 500
const MB = 1024 * 1024
const BUSY = 'Many people are signing in'

const begin = async (name: string, args: string[], ...flags: string[]): Promise<ChildProcess> => {
  const child = fork(new URL(name, import.meta.url).pathname, args, { execArgv: ['--import', 'tsx', ...flags] })
  await once(child, 'message')
  return child
}
const ask = async <T>(child: ChildProcess): Promise<T> => {
  child.send('tell')
  return (await once(child, 'message'))[0] as T
}

describe(`${PEOPLE} sign-ins at once on one process`, () => {
  let test: TestHouse
  let server: ChildProcess
  const children: ChildProcess[] = []
  const emails = Array.from({ length: PEOPLE }, (_, number) => `person-${number}@city.example`)

  before(async () => {
    test = await openTestHouse()
    await Promise.all(emails.map((email) => test.person(email, 'standard')))
    await test.close()
    server = await begin('./measured.ts', [test.folder, new URL(test.url).port], '--expose-gc')
    children.push(server)
  })
  after(() => {
    for (const child of children) child.kill('SIGKILL')
  })

  /** Somebody who does what the page says: wait a little, try again. @returns how often they were asked to wait */
  async function signIn(email: string): Promise<number> {
    const visitor = test.visitor()
    const page = await visitor.submit(await visitor.go(test.authUrl()), { email })
    for (let refusals = 0; ; refusals++) {
      const answer = await visitor.submit(page, { password: PASSWORD })
      if (hasCode(answer)) return refusals
      assert.equal(answer.status, 503, `${email}: ${answer.status} ${headingOf(answer)}`)
      assert.equal(headingOf(answer), BUSY)
      assert.equal(answer.headers.get('retry-after'), '5')
      await setTimeout(1000 + Math.random() * 4000)
    }
  }

  it('asks those beyond the queue to wait, lets all in, answers apps meanwhile, and gives its memory back', async () => {
    // As a server that has been at work: what is loaded and compiled once is there.
    const visitor = test.visitor()
    const page = await visitor.submit(await visitor.go(test.authUrl()), { email: emails[0]! })
    const tokens = await test.exchange(await visitor.submit(page, { password: PASSWORD }))
    await Promise.all(emails.slice(0, 40).map(signIn))
    const before = await ask<number>(server)

    const basic = `Basic ${Buffer.from(`payments:${CLIENT_SECRET}`).toString('base64')}`
    const prober = await begin('./prober.ts', [`${test.url}/token/introspection`, basic, tokens['access_token']!])
    children.push(prober)
    const began = performance.now()
    const refusals = await Promise.all(emails.map(signIn))
    const seconds = (performance.now() - began) / 1000
    const { took, wrong } = await ask<{ took: number[]; wrong: string[] }>(prober)

    const peak = await ask<number>(server)
    let after = peak
    for (let waited = 0; after > before + 50 * MB && waited < 30_000; waited += 1000) {
      await setTimeout(1000)
      after = await ask<number>(server)
    }
    took.sort((a, b) => a - b)
    const at = (part: number) => Math.round(took[Math.floor((took.length - 1) * part)]!)
    const asked = refusals.reduce((sum, number) => sum + number, 0)
    const memory = [before, peak, after].map((bytes) => Math.round(bytes / MB)).join(', ')
    console.log(
      `      ${seconds.toFixed(1)} s, ${asked} times 503; introspection ${took.length} times, ` +
        `ms: median ${at(0.5)}, p99 ${at(0.99)}, most ${at(1)}; MB before, at the end, after: ${memory}`,
    )
    assert.ok(
      refusals.some((number) => number > 0),
      'nobody was asked to wait',
    )
    assert.deepEqual(wrong, [])
    assert.ok(took.length > 50)
    assert.ok(at(0.99) < 1000, `p99 ${at(0.99)} ms`)
    assert.ok(after <= before + 50 * MB, `${memory} MB`)
  }).timeout(240_000)
})
