import assert from 'node:assert/strict'
import { checkPassword, createPasswordHasher, HashingOverloaded } from '../../interactions/factors/password.ts'

const floor = { memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 100 }

describe('password', () => {
  const hasher = createPasswordHasher(floor)

  it('keeps an argon2id PHC string with its parameters and a salt of its own (R29)', async () => {
    const [one, two] = await Promise.all([hasher.hash('correct horse battery'), hasher.hash('correct horse battery')])
    assert.match(one!, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22,}\$/)
    assert.notEqual(one, two)
    assert.equal(await hasher.verify(one, 'correct horse battery'), true)
    assert.equal(await hasher.verify(one, 'correct horse batterY'), false)
  })

  it('refuses parameters below the floor (R29)', () => {
    assert.throws(() => createPasswordHasher({ ...floor, memoryKiB: 8192 }), RangeError)
    assert.throws(() => createPasswordHasher({ ...floor, passes: 1 }), RangeError)
    assert.doesNotThrow(() => createPasswordHasher({ ...floor, memoryKiB: 47104, passes: 1 }))
  })

  it('costs the same without a hash, and is false (R23)', async () => {
    const phc = await hasher.hash('x'.repeat(15))
    const time = async (against: string | undefined) => {
      const began = performance.now()
      assert.equal(await hasher.verify(against, 'not the password'), false)
      return performance.now() - began
    }
    await time(undefined)
    const known: number[] = []
    const unknown: number[] = []
    for (let i = 0; i < 15; i++) {
      known.push(await time(phc))
      unknown.push(await time(undefined))
    }
    const median = (all: number[]) => all.sort((a, b) => a - b)[7]!
    assert.ok(median(unknown) > median(known) * 0.5, `${median(unknown)} ms against ${median(known)} ms`)
  })

  it('says when a hash was made with other parameters', async () => {
    const other = createPasswordHasher({ ...floor, memoryKiB: 20480 })
    const phc = await hasher.hash('correct horse battery')
    assert.equal(hasher.isOutdated(phc), false)
    assert.equal(other.isOutdated(phc), true)
  })

  it('reads hashes of another make, which are outdated, and nothing but them', async () => {
    const reads = createPasswordHasher({ ...floor, foreign: (hash, secret) => hash === `old:${secret}` })
    assert.ok(await reads.verify('old:correct horse battery', 'correct horse battery'))
    assert.ok(!(await reads.verify('old:correct horse battery', 'another')))
    assert.ok(!(await reads.verify(undefined, 'old')))
    assert.ok(reads.isOutdated('old:correct horse battery'))
    const phc = await reads.hash('correct horse battery')
    assert.ok(await reads.verify(phc, 'correct horse battery'))
    assert.ok(!(await hasher.verify('old:correct horse battery', 'correct horse battery')), 'unless it is told')
  })

  it('lets so many wait and no more (R30)', async () => {
    const small = createPasswordHasher({ ...floor, concurrency: 1, queue: 2 })
    const results = await Promise.allSettled(Array.from({ length: 6 }, () => small.hash('correct horse battery')))
    const refused = results.filter((result) => result.status === 'rejected')
    assert.equal(refused.length, 3)
    assert.ok(refused.every((result) => result.status === 'rejected' && result.reason instanceof HashingOverloaded))
    assert.ok(await small.hash('afterwards it works again'))
  })

  for (const [password, broken] of [
    ['a'.repeat(14), 'password_too_short'],
    ['a'.repeat(15), undefined], // no composition rules (R27)
    ['🐎'.repeat(15), undefined], // each code point counts one
    ['🐎'.repeat(14), 'password_too_short'],
    ['e\u0301'.repeat(14), 'password_too_short'], // counted after NFC
    ['e\u0301'.repeat(15), undefined],
    ['               ', undefined], // spaces are characters
    ['a'.repeat(256), undefined],
    ['a'.repeat(257), 'password_too_long'],
  ] as const)
    it(`${JSON.stringify(password.slice(0, 6))}… of ${password.length} UTF-16 units: ${broken ?? 'good'} (R26)`, () =>
      assert.equal(checkPassword(password), broken))

  it('takes é in one code point or two for the same password (R26)', async () => {
    assert.equal(
      await hasher.verify(await hasher.hash('caf\u00e9 caf\u00e9 caf\u00e9'), 'cafe\u0301 cafe\u0301 cafe\u0301'),
      true,
    )
  })
})
