import assert from 'node:assert/strict'
import { ACR_2FA_APP } from '../../interactions/policy.ts'
import { nextStep } from '../support/clock.ts'
import {
  acknowledge,
  claimsIn,
  codeOf,
  enrol,
  firstSignIn,
  openTestHouse,
  recoveryCodeOn,
  secretOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { headingOf } from '../support/visitor.ts'

describe('the way through', () => {
  let test: TestHouse
  before(async () => {
    test = await openTestHouse()
  })
  after(() => test.close())

  it('leads a payor from password to app to recovery code to a token with amr=otp', async () => {
    await test.person('ana@acme.example')
    const { answer } = await firstSignIn(test, 'ana@acme.example')
    const tokens = await test.exchange(answer)
    const claims = claimsIn(tokens['id_token'])
    assert.deepEqual(claims.amr, ['pwd', 'otp', 'mfa'])
    assert.equal(claims.acr, ACR_2FA_APP)
  })
})
void [acknowledge, codeOf, enrol, recoveryCodeOn, secretOn, signIn, nextStep, headingOf]
