/** Asks a person to add a second factor: one that their role allows, which they choose where there are two. Answers `mfa_enroll`. */
import { z } from 'zod'
import { InteractionError } from '../kit/errors.ts'
import type { Tell } from '../kit/letters.ts'
import { definePage, type Room } from '../kit/room.ts'
import type { FactorStore, Method, PendingStore } from '../kit/stores.ts'
import type { Texts } from '../kit/texts.ts'
import { app } from './app.ts'
import { activation } from './first-code.ts'
import { text } from './text.ts'

export { drawing } from './app.ts'

/** What this room stands on. */
export interface EnrollmentParts {
  factors: FactorStore
  pending: PendingStore
  /** Without them nobody is offered codes by text. */
  texts?: Texts | undefined
  /** Shown in the authenticator app; without a colon. */
  issuer: string
  totpWindow: number
  /** A fresh random id. */
  newId: () => string
  tell: Tell
}

/** Where each method is set up. */
const PAGE_OF: Record<Method, string> = { otp: 'app', sms: 'phone' }

/** Asks a person to add a second factor. */
export const enrollment = ({ factors, pending, texts, issuer, totpWindow, newId, tell }: EnrollmentParts): Room => {
  const activate = activation(factors, newId, tell)
  const secure = app({ pending, issuer, totpWindow, activate })
  const pages: Room['pages'] = {
    '': {
      ...secure,
      method: undefined,
      // The app is set up here when nothing else would do.
      arrive: async ({ offer, reasons }) =>
        offer.includes('sms')
          ? { is: 'turned', page: reasons.includes('enrolment_requested') ? 'phone' : 'required' }
          : undefined,
    },
    app: secure,
  }
  if (!texts) return { name: 'enrollment', pages }

  return {
    name: 'enrollment',
    pages: {
      ...pages,
      ...text({ texts, activate }),

      required: definePage({
        method: 'sms',
        form: z.strictObject({}),
        async show({ url, offer }) {
          return {
            view: 'enrollment-required',
            title: 'enrollment-required.title',
            locals: { nextUrl: url(offer.length > 1 ? 'choose' : 'phone') },
          }
        },
        submit: async ({ offer }) => ({ is: 'turned', page: offer.length > 1 ? 'choose' : 'phone' }),
      }),

      choose: definePage({
        method: 'sms',
        form: z.strictObject({ method: z.enum(['otp', 'sms'], 'method_missing') }),
        async show({ offer }) {
          return { view: 'enrollment-choose', title: 'enrollment-choose.title', locals: { methods: offer } }
        },
        async submit({ offer }, { method }) {
          if (!offer.includes(method)) throw new InteractionError('method_missing', { field: 'method' })
          return { is: 'turned', page: PAGE_OF[method] }
        },
      }),
    },
  }
}
