import assert from 'node:assert/strict'
import { newRecoveryCode, readRecoveryCode } from '../../interactions/factors/recovery-code.ts'

describe('recovery code', () => {
  it('is 24 Crockford characters in groups of 4, evenly drawn (R60)', () => {
    const counts = new Map<string, number>()
    for (let i = 0; i < 2000; i++) {
      const code = newRecoveryCode()
      assert.match(code, /^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){5}$/)
      for (const character of code.replaceAll('-', '')) counts.set(character, (counts.get(character) ?? 0) + 1)
    }
    assert.equal(counts.size, 32)
    for (const [character, count] of counts)
      assert.ok(Math.abs(count - 1500) < 300, `${character}: ${count} of about 1500`)
  })

  const plain = '7K2M4QXN90TBC3HZ8WDRP5VE'
  for (const [typed, read] of [
    ['7K2M-4QXN-90TB-C3HZ-8WDR-P5VE', plain],
    ['7k2m 4qxn 90tb c3hz 8wdr p5ve', plain],
    [' 7K2M4QXN9OTBC3HZ8WDRP5VE\n', plain], // O is 0
    ['7K2M–4QXN–90TB–C3HZ–8WDR–P5VE', plain],
    ['IL2M-4QXN-90TB-C3HZ-8WDR-P5VE', '112M4QXN90TBC3HZ8WDRP5VE'],
    ['7K2M-4QXN-90TB-C3HZ-8WDR-P5V', undefined],
    ['7K2M-4QXN-90TB-C3HZ-8WDR-P5VU', undefined], // no U
    ['123456', undefined],
  ] as const)
    it(`reads ${JSON.stringify(typed)} as ${read ?? 'no code'} (R60)`, () =>
      assert.equal(readRecoveryCode(typed), read))
})
