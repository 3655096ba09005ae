/** "Almost There": shows the recovery code once and takes the acknowledgement. Answers `recovery_ack`. */
import { z } from 'zod'
import type { PasswordHasher } from '../factors/password.ts'
import { newRecoveryCode, readRecoveryCode } from '../factors/recovery-code.ts'
import { InteractionError } from '../kit/errors.ts'
import type { Tell } from '../kit/letters.ts'
import { definePage, person, type Room, type Visit } from '../kit/room.ts'
import type { Account, FactorStore, PendingStore } from '../kit/stores.ts'

/** Seconds that a code may be shown again (R57). */
const SHOWN_SECONDS = 10 * 60

/** What this room stands on. */
export interface RecoveryParts {
  factors: FactorStore
  pending: PendingStore
  passwords: PasswordHasher
  /** Shown in the file that is downloaded. */
  brand: string
  /** A fresh random id. */
  newId: () => string
  tell: Tell
}

/** Asks a person to record their recovery code. */
export const recovery = ({ factors, pending, passwords, brand, newId, tell }: RecoveryParts): Room => {
  /**
   * The code of this page: the same on reload, for ten minutes, as long as no other chain made a newer one.
   * What a code takes the place of names its row, so that of two requests at once both show the same code.
   */
  async function codeFor(visit: Visit): Promise<string> {
    const account = person(visit)
    const present = account.recoveryCode
    if (!present) throw new InteractionError('form_expired')
    const made = present.replaces && (await pending.recall(visit.cid, purposeOf(account, present.replaces), visit.now))
    const shown = made ? read(made) : undefined
    if (shown?.id === present.id) return shown.code

    const kept = await pending.keep({
      owner: visit.cid,
      purpose: purposeOf(account, present.id),
      value: JSON.stringify({ id: newId(), code: newRecoveryCode() }),
      expiresAt: Math.min(visit.expiresAt, visit.now + SHOWN_SECONDS),
      now: visit.now,
    })
    const { id, code } = read(kept)
    const hash = await passwords.hash(readRecoveryCode(code)!)
    await factors.setRecoveryCode(account.id, {
      replaces: present.id,
      id,
      hash,
      messages: tell(account, 'recovery_code_made', visit.facts),
    })
    return code
  }

  async function show(visit: Visit) {
    const locals = {
      code: await codeFor(visit),
      email: person(visit).email,
      downloadAction: visit.url('download'),
      now: visit.now,
    }
    return { view: 'recovery', title: 'recovery.title', locals }
  }

  return {
    name: 'recovery',
    pages: {
      '': definePage({
        form: z.strictObject({ acknowledged: z.literal('yes', 'acknowledge_missing') }),

        show,

        async submit(visit) {
          const { id, recoveryCode } = person(visit)
          const shown =
            recoveryCode?.replaces &&
            (await pending.take(visit.cid, purposeOf(person(visit), recoveryCode.replaces), visit.now))
          // Another browser made a newer code, or this one has been on the screen for too long: show the one that counts.
          if (!shown || !recoveryCode || read(shown).id !== recoveryCode.id)
            throw new InteractionError('recovery_code_replaced')
          if (!(await factors.acknowledgeRecoveryCode(id, recoveryCode.id)))
            throw new InteractionError('recovery_code_replaced')
          return { is: 'settled', outcome: { renewedFor: id }, audit: { event: 'recovery_code.acknowledged' } }
        },
      }),

      download: definePage({
        form: z.strictObject({}),
        async submit(visit) {
          const { t } = visit.messages
          const lines = [t('recovery.file_title', { brand }), person(visit).email, '', await codeFor(visit), '']
          const name = t('recovery.file_name', { brand: brand.toLowerCase().replace(/\W+/g, '-') })
          return { is: 'download', name: `${name}.txt`, text: lines.join('\r\n') }
        },
      }),
    },
  }
}

const purposeOf = ({ id }: Account, replaces: string) => `recovery_code|${id}|${replaces}`

const read = (kept: string) => JSON.parse(kept) as { id: string; code: string }
