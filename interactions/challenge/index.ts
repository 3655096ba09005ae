/** Asks an enrolled person for a code, or for the recovery code instead. Answers `mfa`. */
import { z } from 'zod'
import type { PasswordHasher } from '../factors/password.ts'
import { readRecoveryCode } from '../factors/recovery-code.ts'
import { matchingStep, readCode } from '../factors/totp.ts'
import { wrongCode, wrongRecoveryCode } from '../kit/errors.ts'
import { type Attempt, definePage, person, type Room } from '../kit/room.ts'
import type { Account, FactorStore, ThrottleRule } from '../kit/stores.ts'

/** Every tenth wrong code since the last right one waits half an hour; a hundred close the app until recovery or reset. */
const CODES: ThrottleRule = { kind: 'streak', every: 10, wait: 30 * 60, disableAt: 100 }
const RECOVERY_CODES: ThrottleRule = { kind: 'streak', every: 5, wait: 30 * 60 }
const NETWORK: ThrottleRule = { kind: 'window', limit: 30, seconds: 60 }

/** What this room stands on. */
export interface ChallengeParts {
  factors: FactorStore
  passwords: PasswordHasher
  /** Time steps accepted to either side: 1, or 0. */
  totpWindow: number
  /** Seconds that the right to enrol by a recovery code is held. */
  reservationSeconds: number
}

/** Asks an enrolled person to prove a second factor. */
export const challenge = ({ factors, passwords, totpWindow, reservationSeconds }: ChallengeParts): Room => ({
  name: 'challenge',
  pages: {
    '': definePage({
      // Whatever is no code uses up no try (R51).
      form: z.strictObject({
        code: z.string('code_missing').min(1, 'code_missing').transform(readCode).pipe(z.string('code_format')),
      }),
      wrong: 'wrong_code',

      async show({ account, url }) {
        const addedAt = account?.enrolled.otp
        return {
          view: 'challenge',
          title: 'challenge.title',
          locals: { ...helpFor(account), recoveryUrl: url('recovery'), ...(addedAt !== undefined && { addedAt }) },
        }
      },

      async attempt(visit): Promise<Attempt> {
        const { id, factorVersion } = person(visit)
        return {
          counters: [
            { key: `code|network|${visit.network}`, rule: NETWORK },
            // The version is part of the key: a new app starts with a new count.
            { key: codeCounter({ id, factorVersion }), rule: CODES },
          ],
          event: 'mfa.otp',
          refusal(key, wait) {
            if (key.startsWith('code|network|')) return 'too_many_from_network'
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

    recovery: definePage({
      form: z.strictObject({
        recovery_code: z
          .string('recovery_code_missing')
          .min(1, 'recovery_code_missing')
          .transform(readRecoveryCode)
          .pipe(z.string('wrong_recovery_code')),
      }),

      async show({ account, url }) {
        return {
          view: 'challenge-recovery-code',
          title: 'challenge-recovery-code.title',
          locals: { ...helpFor(account), codeUrl: url() },
        }
      },

      async attempt(visit): Promise<Attempt> {
        return {
          counters: [
            { key: `code|network|${visit.network}`, rule: NETWORK },
            { key: recoveryCodeCounter(person(visit)), rule: RECOVERY_CODES },
          ],
          event: 'recovery_code.reserved',
          refusal: (key) => (key.startsWith('code|network|') ? 'too_many_from_network' : 'recovery_code_blocked'),
        }
      },

      async submit(visit, { recovery_code: code }) {
        const { id, recoveryCode } = person(visit)
        const stored = await factors.recoveryCodeHash(id)
        if (!(await passwords.verify(stored?.hash, code)) || !stored || !recoveryCode) throw wrongRecoveryCode()
        const reserved = await factors.reserveRecoveryCode(id, {
          id: stored.id,
          reservations: recoveryCode.reservations,
          cid: visit.cid,
          until: visit.now + reservationSeconds,
        })
        if (!reserved) throw wrongRecoveryCode()
        return { is: 'settled', outcome: { reservedFor: id }, audit: { event: 'recovery_code.reserved' } }
      },
    }),
  },
})

/** Whom to ask without phone and recovery code, in the words of the person's first company that has any. */
function helpFor(account: Account | undefined): { help?: string } {
  const companies = account?.memberships.filter(({ active }) => active) ?? []
  const [help] = companies.sort((a, b) => (a.companyId < b.companyId ? -1 : 1)).flatMap((company) => company.help ?? [])
  return help === undefined ? {} : { help }
}

/** The counter of wrong codes of a person's app. */
export const codeCounter = ({ id, factorVersion }: Pick<Account, 'id' | 'factorVersion'>): string =>
  `code|otp|${id}|${factorVersion}`
/** The counter of a person's wrong recovery codes. */
export const recoveryCodeCounter = ({ id }: Pick<Account, 'id'>): string => `recovery_code|${id}`
