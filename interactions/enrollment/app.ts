/** An authenticator app by QR code or manual key, and its first code. */
import QRCode from 'qrcode'
import { z } from 'zod'
import { clockOffset, enrolmentUri, matchingStep, newSecret, readCode } from '../factors/totp.ts'
import { InteractionError } from '../kit/errors.ts'
import { definePage, person, type RoomPage, type Visit } from '../kit/room.ts'
import type { PendingStore } from '../kit/stores.ts'
import { type Activate, firstCode } from './first-code.ts'

/** Modules of white around the QR code (ISO/IEC 18004). */
const QUIET_ZONE = 4

/** What it stands on. */
export interface AppParts {
  pending: PendingStore
  /** Shown in the authenticator app; without a colon. */
  issuer: string
  totpWindow: number
  activate: Activate
}

/** "Secure Your Account". */
export const app = ({ pending, issuer, totpWindow, activate }: AppParts): RoomPage => {
  /** The same secret on reload, Back and a second tab; another one when the person's factors changed meanwhile. */
  const secretFor = (visit: Visit) => {
    const { id, factorVersion } = person(visit)
    const purpose = `totp_enrolment|${id}|${factorVersion}`
    return pending.keep({ owner: visit.cid, purpose, value: newSecret(), expiresAt: visit.expiresAt, now: visit.now })
  }

  return definePage({
    method: 'otp',
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
          ...(visit.offer.length > 1 && { chooseUrl: visit.url('choose') }),
        },
      }
    },

    attempt: async (visit) => firstCode(visit),

    async submit(visit, { code }) {
      const secret = await secretFor(visit)
      const step = await matchingStep(secret, code, visit.now, totpWindow)
      if (step === undefined) throw await unmatched(secret, code, visit.now)
      return activate(visit, { method: 'otp', secret, step })
    },
  })
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
