/** Who is told of what happened to an account (R35, R62, R107; behaviour 41). */
import assert from 'node:assert/strict'
import type { Letter } from '../../interactions/index.ts'
import { wait } from '../support/clock.ts'
import {
  CHALLENGE,
  codeOf,
  enrol,
  firstSignIn,
  openTestHouse,
  recoveryCodeOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { headingOf } from '../support/visitor.ts'

describe('notices', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  /** The kinds of letters to a person, oldest first, and what the newest says. */
  async function lettersTo(accountId: string) {
    const states = await test.database.outbox.list({ accountId, limit: 99 })
    const letters = await Promise.all(
      states.map(async ({ id }) => JSON.parse((await test.database.outbox.read(id))!) as Letter),
    )
    return { kinds: states.map(({ kind }) => kind).sort(), letters }
  }

  it('go out for a new app, a new recovery code and a browser that was not used before', async () => {
    const id = await test.person('ana@acme.example')
    const { visitor, secret } = await firstSignIn(test, 'ana@acme.example')
    const { kinds, letters } = await lettersTo(id)
    assert.deepEqual(kinds, ['app_added', 'new_device', 'recovery_code_made'])
    for (const { to, ip, lang } of letters) assert.deepEqual([to, ip, lang], ['ana@acme.example', '10.0.0.1', 'en'])

    wait(60)
    const again = await signIn(visitor, await visitor.go(test.authUrl({ prompt: 'login' })), 'ana@acme.example')
    assert.equal(headingOf(again), CHALLENGE)
    await visitor.submit(again, { code: await codeOf(secret) })
    assert.equal((await lettersTo(id)).kinds.length, 3, 'a browser that is known is told of once')
  })

  it('say nothing secret', async () => {
    const id = await test.person('bob@acme.example')
    const { secret, recoveryCode } = await firstSignIn(test, 'bob@acme.example')
    const text = JSON.stringify((await lettersTo(id)).letters)
    assert.ok(text.includes('bob@acme.example'))
    for (const word of [secret, recoveryCode]) assert.ok(!text.includes(word))
  })

  it('go out for a factor that came by the recovery code', async () => {
    const id = await test.person('cem@acme.example')
    const { recoveryCode } = await firstSignIn(test, 'cem@acme.example')
    const other = test.visitor()
    const challenge = await signIn(other, await other.go(test.authUrl()), 'cem@acme.example')
    const recovery = await other.go(`${challenge.at}/recovery`)
    const enrolment = await other.submit(recovery, { recovery_code: recoveryCode })
    recoveryCodeOn((await enrol(other, enrolment)).page)
    const { kinds } = await lettersTo(id)
    assert.ok(kinds.includes('app_replaced'))
    assert.equal(kinds.filter((kind) => kind === 'recovery_code_made').length, 2)
  })

  it('are kept for nobody in production without a mail server', async () => {
    const { noticesOf } = await import('../../server/provider.ts')
    const config = { ...test.house.config, NODE_ENV: 'production' as const }
    assert.deepEqual(noticesOf({ config })({ id: 'a', email: 'a@b' }, 'mfa_reset', { now: 1, lang: 'en' }), [])
  })
})
