/** The authenticator app: a code whose time step is claimed once. */
import { z } from 'zod'
import { matchingStep, readCode } from '../factors/totp.ts'
import { codesFromNetwork, isFromNetwork } from '../kit/codes.ts'
import { wrongCode } from '../kit/errors.ts'
import { type Attempt, definePage, person } from '../kit/room.ts'
import type { Account, FactorStore } from '../kit/stores.ts'
import { CODES, codeCounter, type SecondFactor } from './factor.ts'

/** What it stands on. */
export interface AppParts {
  factors: FactorStore
  /** Time steps accepted to either side: 1, or 0. */
  totpWindow: number
  helpFor(account: Account | undefined): { help?: string }
}

export const app = ({ factors, totpWindow, helpFor }: AppParts): SecondFactor => ({
  name: 'otp',
  amr: 'otp',
  verify: definePage({
    // Whatever is no code uses up no try (R51).
    form: z.strictObject({
      code: z.string('code_missing').min(1, 'code_missing').transform(readCode).pipe(z.string('code_format')),
    }),
    wrong: 'wrong_code',

    async show({ account, offer, url }) {
      const addedAt = account?.enrolled.otp
      return {
        view: 'challenge',
        title: 'challenge.title',
        locals: {
          ...helpFor(account),
          recoveryUrl: url('recovery'),
          ...(offer.length > 1 && { chooseUrl: url('choose') }),
          ...(addedAt !== undefined && { addedAt }),
        },
      }
    },

    async attempt(visit): Promise<Attempt> {
      return {
        counters: [codesFromNetwork(visit), { key: codeCounter('otp', person(visit)), rule: CODES }],
        event: 'mfa.otp',
        refusal(key, wait) {
          if (isFromNetwork(key)) return 'too_many_from_network'
          return wait === Number.POSITIVE_INFINITY ? 'code_disabled' : 'code_blocked'
        },
        endsInteraction: true,
      }
    },

    async submit(visit, { code }) {
      const { id, securityEpoch } = person(visit)
      const secret = await factors.totpSecret(id)
      if (secret === undefined) throw wrongCode('no authenticator app')
      const step = await matchingStep(secret, code, visit.now, totpWindow)
      if (step === undefined) throw wrongCode()
      if (!(await factors.claimTimeStep(id, step))) throw wrongCode('otp_replayed')
      return { is: 'proved', factor: 'otp', accountId: id, securityEpoch, audit: { event: 'mfa.otp' } }
    },
  }),
})
