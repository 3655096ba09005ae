/** What the first code of a new factor has in common, whichever factor it is. */
import { codesFromNetwork, isFromNetwork } from '../kit/codes.ts'
import type { Tell } from '../kit/letters.ts'
import type { Answer, Attempt, Visit } from '../kit/room.ts'
import { person } from '../kit/room.ts'
import type { Counter, FactorStore, NewFactor, ThrottleRule } from '../kit/stores.ts'

/** Codes at enrolment have a count of their own: they prove what nobody else knows. */
const CODES: ThrottleRule = { kind: 'streak', every: 10, wait: 60 }

/** Limits the answers. @param more limits of this factor's own */
export const firstCode = (visit: Visit, more: Counter[] = []): Attempt => ({
  counters: [codesFromNetwork(visit), ...more, { key: `enrolment|${person(visit).id}|${visit.cid}`, rule: CODES }],
  event: 'mfa.enrolled',
  refusal(key) {
    if (isFromNetwork(key)) return 'too_many_from_network'
    return key.startsWith('sms|') ? 'sms_code_used_up' : 'too_many_attempts'
  },
})

/** Makes a factor that was just proven the person's own. */
export type Activate = (visit: Visit, factor: NewFactor) => Promise<Answer>

/** @param newId a fresh random id */
export const activation =
  (factors: FactorStore, newId: () => string, tell: Tell): Activate =>
  async (visit, factor) => {
    const { id, factorVersion, securityEpoch, enrolled } = person(visit)
    const { method } = factor
    // Whatever page was posted to: only what the policy offers becomes a factor.
    if (!visit.offer.includes(method)) return { is: 'overtaken' }
    const byRecovery = visit.reasons.includes('recovery_code_reserved')
    const how = byRecovery ? 'byRecovery' : method in enrolled ? 'other' : 'first'
    const activated = await factors.activate(id, {
      factor,
      now: visit.now,
      factorVersion,
      securityEpoch,
      recoveryCodeId: newId(),
      messages: tell(person(visit), NOTICES[method][how], visit.facts),
      ...(byRecovery && { byRecovery: { cid: visit.cid } }),
    })
    // Another tab or a new password was first: the policy asks what is open now.
    if (!activated) return { is: 'overtaken' }
    return {
      is: 'proved',
      factor: method,
      accountId: id,
      securityEpoch: activated.securityEpoch,
      audit: {
        event: 'mfa.enrolled',
        details: { method, replaced: method in enrolled, by_recovery_code: byRecovery },
      },
    }
  }

/** The letter of a first one, of one in place of another, and of one that came by the recovery code. */
const NOTICES = {
  otp: { first: 'app_added', other: 'app_changed', byRecovery: 'app_replaced' },
  sms: { first: 'phone_added', other: 'phone_changed', byRecovery: 'phone_replaced' },
} as const
