/** Asks an enrolled person for a second factor, or for the recovery code instead. Answers `mfa`. */
import { z } from 'zod'
import type { PasswordHasher } from '../factors/password.ts'
import { readRecoveryCode } from '../factors/recovery-code.ts'
import { codesFromNetwork, isFromNetwork } from '../kit/codes.ts'
import { InteractionError, wrongRecoveryCode } from '../kit/errors.ts'
import { type Attempt, definePage, person, type Room, type Visit } from '../kit/room.ts'
import type { Account, FactorStore, ThrottleRule } from '../kit/stores.ts'
import type { Texts } from '../kit/texts.ts'
import { app } from './app.ts'
import { codeCounter, type SecondFactor } from './factor.ts'
import { text } from './text.ts'

const RECOVERY_CODES: ThrottleRule = { kind: 'streak', every: 5, wait: 30 * 60 }

/** What this room stands on. */
export interface ChallengeParts {
  factors: FactorStore
  passwords: PasswordHasher
  /** Without them nobody is asked for a code by text. */
  texts?: Texts | undefined
  /** Time steps accepted to either side: 1, or 0. */
  totpWindow: number
  /** Seconds that the right to enrol by a recovery code is held. */
  reservationSeconds: number
}

/** Asks an enrolled person to prove a second factor. */
export const challenge = ({ factors, passwords, texts, totpWindow, reservationSeconds }: ChallengeParts): Room => {
  const known: SecondFactor[] = [
    app({ factors, totpWindow, helpFor }),
    ...(texts ? [text({ factors, texts, helpFor })] : []),
  ]
  const byName = new Map(known.map((factor) => [factor.name, factor]))
  /** Those that may answer, last used first. */
  const offered = ({ offer, account }: Visit) =>
    known
      .filter(({ name }) => offer.includes(name))
      .sort((a, b) => (account?.used?.[b.name] ?? 0) - (account?.used?.[a.name] ?? 0))
  const chosen = ({ method }: { method: string }, visit: Visit) => offered(visit).find(({ name }) => name === method)

  const first = byName.get('otp')!.verify
  const pages: Room['pages'] = {
    '': {
      ...first,
      // The app is asked for here when nothing else would do.
      async arrive(visit) {
        const [one, other] = offered(visit)
        // What this person has is not asked for here any more: the recovery code is the way that is left.
        if (!one) return { is: 'turned', page: 'recovery' }
        if (one.name === 'otp' && !other) return undefined
        return { is: 'turned', page: other ? 'choose' : one.name }
      },
    },
    ...Object.fromEntries(known.map(({ name, verify }) => [name, verify])),

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
          counters: [codesFromNetwork(visit), { key: recoveryCodeCounter(person(visit)), rule: RECOVERY_CODES }],
          event: 'recovery_code.reserved',
          refusal: (key) => (isFromNetwork(key) ? 'too_many_from_network' : 'recovery_code_blocked'),
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
  }

  if (texts)
    pages['choose'] = definePage({
      method: 'sms',
      form: z.strictObject({ method: z.enum(['otp', 'sms'], 'method_missing') }),

      async show(visit) {
        return {
          view: 'challenge-choose',
          title: 'challenge-choose.title',
          locals: {
            ...helpFor(visit.account),
            methods: offered(visit).map(({ name }) => name),
            recoveryUrl: visit.url('recovery'),
          },
        }
      },

      attempt: async (visit, form) => chosen(form, visit)?.begin?.attempt(visit),

      async submit(visit, form) {
        const factor = chosen(form, visit)
        if (!factor) throw new InteractionError('method_missing', { field: 'method' })
        const audit = await factor.begin?.run(visit)
        return { is: 'turned', page: factor.name, ...(audit && { audit }) }
      },
    })

  return { name: 'challenge', pages }
}

/** Whom to ask without phone and recovery code, in the words of the person's first company that has any. */
function helpFor(account: Account | undefined): { help?: string } {
  const companies = account?.memberships.filter(({ active }) => active) ?? []
  const [help] = companies.sort((a, b) => (a.companyId < b.companyId ? -1 : 1)).flatMap((company) => company.help ?? [])
  return help === undefined ? {} : { help }
}

/** The counters of wrong codes of a person's factors. */
export const codeCounters = (account: Pick<Account, 'id' | 'factorVersion'>): string[] => [
  codeCounter('otp', account),
  codeCounter('sms', account),
]
/** The counter of a person's wrong recovery codes. */
export const recoveryCodeCounter = ({ id }: Pick<Account, 'id'>): string => `recovery_code|${id}`
