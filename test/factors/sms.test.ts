import assert from 'node:assert/strict'
import {
  ConversionBreaker,
  callingCode,
  endingOf,
  newSmsCode,
  phoneOf,
  prefixOf,
  readPhone,
} from '../../interactions/factors/sms.ts'

describe('factors: text messages', () => {
  it('a code is six digits, zeros in front too', () => {
    const codes = Array.from({ length: 2000 }, newSmsCode)
    for (const code of codes) assert.match(code, /^\d{6}$/)
    assert.ok(codes.some((code) => code.startsWith('0')))
    assert.ok(new Set(codes).size > 1950)
  })

  const numbers: [country: string, typed: string, number: string | undefined][] = [
    ['US', '(202) 555-0123', '+12025550123'],
    ['US', '+1 202 555 0123', '+12025550123'],
    ['US', '１(202)５５５-0123', '+12025550123'],
    ['US', '+44 7400 123456', '+447400123456'],
    ['GB', '07400 123456', '+447400123456'],
    ['CA', '416 555 0123', '+14165550123'],
    // What is dear to call, rings elsewhere, or stands on a desk: no phone that a code goes to.
    ['US', '900 555 0123', undefined],
    ['US', '800 555 0123', undefined],
    ['US', '500 555 0006', undefined],
    ['GB', '070 1234 5678', undefined],
    ['GB', '0909 879 0123', undefined],
    ['GB', '020 7946 0958', undefined],
    ['US', '+1555', undefined],
    ['US', '123', undefined],
    ['US', 'call me', undefined],
    ['US', '202 555 0123 ext. 4', undefined],
    ['US', 'my number is 202 555 0123', undefined],
    ['US', '2'.repeat(500), undefined],
    ['US', '', undefined],
    ['XX', '202 555 0123', undefined],
    ['__proto__', '202 555 0123', undefined],
  ]
  for (const [country, typed, number] of numbers)
    it(`reads ${JSON.stringify(typed.slice(0, 30))} in ${country} as ${number ?? 'no number'}`, () =>
      assert.equal(readPhone(country, typed)?.number, number))

  it('the number says its country, whatever was chosen beside it', () => {
    assert.equal(readPhone('US', '416 555 0123')?.country, 'CA')
    assert.equal(readPhone('US', '+44 7400 123456')?.country, 'GB')
    assert.equal(readPhone('US', '876 555 0123')?.country, 'JM')
    assert.equal(readPhone('GB', '07797 712345')?.country, 'JE')
    assert.equal(phoneOf('+80012345678')?.country, undefined)
  })

  it('shows two digits of a number, and knows its block by seven', () => {
    assert.equal(endingOf('+12025550123'), '23')
    assert.equal(prefixOf('+12025550123'), '1202555')
    assert.equal(callingCode('IE'), '353')
  })

  describe('the breaker', () => {
    const tripsAt = (sends: number, comesBack: (index: number) => boolean) => {
      const breaker = new ConversionBreaker(1800)
      for (let index = 0; index < sends; index++) {
        if (breaker.isOpen(0)) return index
        breaker.sent(0)
        if (comesBack(index)) breaker.cameBack()
      }
      return breaker.isOpen(0) ? sends : undefined
    }
    it('trips at fifty that do not come back', () =>
      assert.equal(
        tripsAt(60, () => false),
        50,
      ))
    it('does not trip while two of five come back', () =>
      assert.equal(
        tripsAt(100_000, (index) => index % 5 === 0 || index % 5 === 2),
        undefined,
      ))
    it('trips when one of five comes back', () => assert.ok(tripsAt(1000, (index) => index % 5 === 0)! < 120))
    it('closes again after its wait', () => {
      const breaker = new ConversionBreaker(1800)
      for (let index = 0; index < 50; index++) breaker.sent(100)
      assert.equal(breaker.isOpen(1899), true)
      assert.equal(breaker.isOpen(1900), false)
    })
  })
})
