/** The request goes on while its rows are written; its answer waits. */
import assert from 'node:assert/strict'
import { SqliteArtifacts } from '../../adapters/sqlite/artifacts.ts'
import type { SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { type Artifact, StoreUnavailable } from '../../interactions/kit/stores.ts'
import type { Database } from '../../server/stores.ts'
import { openTestHouse, signIn, type TestHouse } from '../support/house.ts'

/** Saves of one model wait, or fail. */
class Watched extends SqliteArtifacts {
  model = ''
  gate: Promise<void> = Promise.resolve()
  saved: string[] = []

  override async save(artifact: Artifact): Promise<void> {
    if (artifact.model === this.model) await this.gate
    await super.save(artifact)
    this.saved.push(artifact.model)
  }
}

describe('an answer', () => {
  let test: TestHouse
  let artifacts!: Watched
  beforeEach(async () => {
    const watched = (database: Database) => {
      artifacts = new Watched((database as SqliteDatabase).connection)
      return artifacts
    }
    test = await openTestHouse({}, { artifacts: watched })
    await test.person('sam@city.example', 'standard')
  })
  afterEach(() => test.close())

  const signedIn = async () => {
    const visitor = test.visitor()
    return { visitor, answer: await signIn(visitor, await visitor.go(test.authUrl()), 'sam@city.example') }
  }

  for (const model of ['AccessToken', 'RefreshToken'])
    it(`with tokens does not leave before the ${model} is written`, async () => {
      const { answer } = await signedIn()
      let release!: () => void
      artifacts.model = model
      artifacts.gate = new Promise((resolve) => {
        release = resolve
      })
      let answered = false
      const tokens = test.exchange(answer).finally(() => {
        answered = true
      })
      await new Promise((resolve) => setTimeout(resolve, 200))
      assert.equal(answered, false)
      release()
      assert.equal((await tokens).status, 200)
      assert.ok(artifacts.saved.includes(model))
    })

  it('with tokens that could not be written is 503 and holds none', async () => {
    const { answer } = await signedIn()
    artifacts.model = 'AccessToken'
    artifacts.gate = Promise.reject(new StoreUnavailable('the disk is full'))
    artifacts.gate.catch(() => {})
    const tokens = await test.exchange(answer)
    assert.deepEqual([tokens.status, tokens.error], [503, 'temporarily_unavailable'])
    assert.equal(tokens['access_token'], undefined)
  })

  it('with a code that could not be written is 503 and leads nowhere', async () => {
    const { visitor } = await signedIn()
    artifacts.model = 'AuthorizationCode'
    artifacts.gate = Promise.reject(new StoreUnavailable('the disk is full'))
    artifacts.gate.catch(() => {})
    const answer = await visitor.request(test.authUrl({ prompt: 'none' }))
    assert.equal(answer.status, 503)
    assert.equal(answer.location, undefined)
  })
})
