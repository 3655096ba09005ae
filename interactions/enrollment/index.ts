/** "Secure Your Account": an authenticator app by QR code or manual key, and its first code. Answers `mfa_enroll`. */
import QRCode from 'qrcode'
import { z } from 'zod'
import { clockOffset, enrolmentUri, matchingStep, newSecret, readCode } from '../factors/totp.ts'
import { InteractionError } from '../kit/errors.ts'
import type { Tell } from '../kit/letters.ts'
import { type Attempt, definePage, person, type Room, type Visit } from '../kit/room.ts'
import type { FactorStore, PendingStore, ThrottleRule } from '../kit/stores.ts'

/** Codes at enrolment have a count of their own: they prove a secret that nobody else knows. */
const CODES: ThrottleRule = { kind: 'streak', every: 10, wait: 60 }
const NETWORK: ThrottleRule = { kind: 'window', limit: 30, seconds: 60 }
/** Modules of white around the QR code (ISO/IEC 18004). */
const QUIET_ZONE = 4

/** What this room stands on. */
export interface EnrollmentParts {
  factors: FactorStore
  pending: PendingStore
  /** Shown in the authenticator app; without a colon. */
  issuer: string
  totpWindow: number
  /** A fresh random id. */
  newId: () => string
  tell: Tell
}

/** Asks a person to add an authenticator app. */
export const enrollment = ({ factors, pending, issuer, totpWindow, newId, tell }: EnrollmentParts): Room => {
  /** The same secret on reload, Back and a second tab; another one when the person's factors changed meanwhile. */
  const secretFor = (visit: Visit) => {
    const { id, factorVersion } = person(visit)
    const purpose = `totp_enrolment|${id}|${factorVersion}`
    return pending.keep({ owner: visit.cid, purpose, value: newSecret(), expiresAt: visit.expiresAt, now: visit.now })
  }

  return {
    name: 'enrollment',
    pages: {
      '': definePage({
        form: z.strictObject({
          code: z.string('code_missing').min(1, 'code_missing').transform(readCode).pipe(z.string('code_format')),
        }),

        async show(visit) {
          const { email } = person(visit)
          const secret = await secretFor(visit)
          const uri = enrolmentUri({ issuer, account: email, secret })
          return {
            view: 'enrollment',
            title: 'enrollment.title',
            locals: {
              qr: drawing(uri),
              key: secret.match(/.{1,4}/g)!.join(' '),
              otpauth: uri,
              account: `${issuer}: ${email}`,
            },
          }
        },

        async attempt(visit): Promise<Attempt> {
          return {
            counters: [
              { key: `code|network|${visit.network}`, rule: NETWORK },
              { key: `enrolment|${person(visit).id}|${visit.cid}`, rule: CODES },
            ],
            event: 'mfa.enrolled',
            refusal: (key) => (key.startsWith('code|network|') ? 'too_many_from_network' : 'too_many_attempts'),
          }
        },

        async submit(visit, { code }) {
          const { id, factorVersion, securityEpoch, enrolled } = person(visit)
          const secret = await secretFor(visit)
          const step = await matchingStep(secret, code, visit.now, totpWindow)
          if (step === undefined) throw await unmatched(secret, code, visit.now)

          const byRecovery = visit.reasons.includes('recovery_code_reserved')
          const activated = await factors.activateTotp(id, {
            secret,
            step,
            now: visit.now,
            factorVersion,
            securityEpoch,
            recoveryCodeId: newId(),
            messages: tell(person(visit), byRecovery ? 'app_replaced' : 'app_added', visit.facts),
            ...(byRecovery && { byRecovery: { cid: visit.cid } }),
          })
          // Another tab or a new password was first: the policy asks what is open now.
          if (!activated) return { is: 'overtaken' }
          return {
            is: 'proved',
            factor: 'otp',
            accountId: id,
            securityEpoch: activated.securityEpoch,
            audit: {
              event: 'mfa.enrolled',
              details: { method: 'otp', replaced: 'otp' in enrolled, by_recovery_code: byRecovery },
            },
          }
        },
      }),
    },
  }
}

/** A wrong code; when the phone's clock is off, a message that says so (R45). It is not accepted. */
async function unmatched(secret: string, code: string, now: number) {
  const offset = await clockOffset(secret, code, now)
  if (offset === undefined) return new InteractionError('wrong_enrollment_code', { field: 'code' })
  const minutes = Math.max(1, Math.round(Math.abs(offset) / 60))
  return new InteractionError(offset < 0 ? 'clock_slow' : 'clock_fast', { field: 'code', vars: { minutes } })
}

/** A QR code of level M: its width in modules with the quiet zone, and an SVG path of one bar for each run of dark modules. */
export function drawing(text: string): { size: number; path: string } {
  const { modules } = QRCode.create(text, { errorCorrectionLevel: 'M' })
  const bars: string[] = []
  for (let row = 0; row < modules.size; row++)
    for (let column = 0; column < modules.size; column++) {
      let end = column
      while (end < modules.size && modules.get(row, end)) end += 1
      if (end > column)
        bars.push(`M${column + QUIET_ZONE} ${row + QUIET_ZONE}h${end - column}v1H${column + QUIET_ZONE}z`)
      column = end
    }
  return { size: modules.size + 2 * QUIET_ZONE, path: bars.join('') }
}
