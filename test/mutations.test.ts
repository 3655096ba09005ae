import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { MUTATIONS } from './support/mutations.ts'

describe('the list of mutations', () => {
  it('finds each guard once, and the test that is to notice', () => {
    const gone = MUTATIONS.filter(
      ({ file, find, test }) => readFileSync(file, 'utf8').split(find).length !== 2 || !existsSync(test),
    )
    assert.deepEqual(
      gone.map(({ name, file }) => `${name} (${file})`),
      [],
    )
    assert.equal(new Set(MUTATIONS.map(({ name }) => name)).size, MUTATIONS.length)
  })
})
