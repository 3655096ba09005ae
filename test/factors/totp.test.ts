import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { clockOffset, enrolmentUri, matchingStep, newSecret, readCode } from '../../interactions/factors/totp.ts'

interface Vectors {
  secret: string
  codes: { now: number; code: string }[]
}
const { secret, codes } = JSON.parse(
  readFileSync(new URL('../vectors/rfc6238-sha1.json', import.meta.url), 'utf8'),
) as Vectors

describe('totp', () => {
  for (const { now, code } of codes)
    it(`accepts ${code} at T=${now} (RFC 6238 appendix B, last six digits)`, async () => {
      assert.equal(await matchingStep(secret, code, now), Math.floor(now / 30))
    })

  it('accepts one step to either side and no further (RFC 6238 §5.2, §6)', async () => {
    const { now, code } = codes[1]!
    const step = Math.floor(now / 30)
    assert.equal(await matchingStep(secret, code, (step + 1) * 30), step)
    assert.equal(await matchingStep(secret, code, (step + 2) * 30 - 1), step)
    assert.equal(await matchingStep(secret, code, (step - 1) * 30), step)
    assert.equal(await matchingStep(secret, code, (step + 2) * 30), undefined)
    assert.equal(await matchingStep(secret, code, (step - 1) * 30 - 1), undefined)
    assert.equal(await matchingStep(secret, code, (step + 1) * 30, 0), undefined)
  })

  it('makes secrets of 20 bytes, Base32 without padding (R36)', () => {
    const secrets = new Set(Array.from({ length: 50 }, newSecret))
    assert.equal(secrets.size, 50)
    for (const one of secrets) assert.match(one, /^[A-Z2-7]{32}$/)
  })

  for (const [typed, read] of [
    ['123456', '123456'],
    [' 123 456\n', '123456'],
    ['123-456', '123456'],
    ['123–456', '123456'],
    ['12\u200b34\u200e56', '123456'],
    ['１２３４５６', '123456'],
    ['١٢٣٤٥٦', '123456'],
    ['۱۲۳۴۵۶', '123456'],
    ['12345', undefined],
    ['1234567', undefined],
    ['12345a', undefined],
    ['', undefined],
  ] as const)
    it(`reads ${JSON.stringify(typed)} as ${read ?? 'no code, which uses up no try'} (R51)`, () =>
      assert.equal(readCode(typed), read))

  it('writes the otpauth URI so that every app reads it (R37)', () => {
    const uri = enrolmentUri({ issuer: 'Pay & Co é', account: 'ana+1@acme.example', secret: 'JBSWY3DPEHPK3PXP' })
    assert.equal(
      uri,
      'otpauth://totp/Pay%20%26%20Co%20%C3%A9:ana%2B1%40acme.example?secret=JBSWY3DPEHPK3PXP&issuer=Pay%20%26%20Co%20%C3%A9&algorithm=SHA1&digits=6&period=30',
    )
    const { searchParams, pathname } = new URL(uri)
    assert.equal(
      decodeURIComponent(pathname.slice(1)).split(':')[0]!.replace('/', ''),
      searchParams.get('issuer')!.replace('/', ''),
    )
  })

  it('tells how far off a phone clock is, and nothing beyond ten steps (R45)', async () => {
    const { now, code } = codes[1]!
    assert.equal(await clockOffset(secret, code, now + 180), -180)
    assert.equal(await clockOffset(secret, code, now - 180), 180)
    assert.equal(await clockOffset(secret, code, now + 400), undefined)
  })
})
