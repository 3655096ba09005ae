/** "Set Up SMS Verification": country and number, then the code that was sent there. */
import { z } from 'zod'
import { callingCode, endingOf, readPhone } from '../factors/sms.ts'
import { readCode } from '../factors/totp.ts'
import { InteractionError, wrongSmsCode } from '../kit/errors.ts'
import { type Attempt, definePage, person, type RoomPage, type Visit } from '../kit/room.ts'
import { noteOfText, sending, type Texts, textForm } from '../kit/texts.ts'
import { type Activate, firstCode } from './first-code.ts'

/** The country that is chosen at first, where it is one of several. */
const FIRST = 'US'

/** What it stands on. */
export interface TextParts {
  texts: Texts
  activate: Activate
}

/** The two pages of a phone: its number, and its first code. */
export const text = ({ texts, activate }: TextParts): { phone: RoomPage; sms: RoomPage } => {
  const send = async (visit: Visit, phone: string) => {
    await texts.send(visit, 'enrolment', phone)
    return noteOfText('enrolment', phone)
  }
  /** Limits that are not the person's own look like success: nobody learns by them which numbers others try (R70). */
  const limits = (visit: Visit, phone: string): Attempt => ({
    ...sending(texts, visit, 'enrolment', phone),
    async instead(key) {
      if (!texts.isOthers(key)) return undefined
      await texts.pretend(visit, 'enrolment', phone)
      return { is: 'turned', page: 'sms' }
    },
  })

  return {
    phone: definePage({
      method: 'sms',
      form: z
        .strictObject({
          country: z.string('phone_invalid').max(2, 'phone_invalid'),
          phone: z.string('phone_missing').trim().min(1, 'phone_missing'),
        })
        .transform(({ country, phone: typed }, ctx) => {
          const phone = readPhone(country, typed)
          if (phone) return phone
          ctx.addIssue({ code: 'custom', path: ['phone'], message: 'phone_invalid' })
          return z.NEVER
        }),

      async show(visit) {
        const countries = texts.countries(person(visit))
        const { country, phone } = visit.posted
        const names = new Intl.DisplayNames(visit.messages.lang, { type: 'region' })
        return {
          view: 'enrollment-phone',
          title: 'enrollment-phone.title',
          locals: {
            countries: countries
              .map((code) => ({ code, name: names.of(code) ?? code, calling: callingCode(code) }))
              .sort((a, b) => a.name.localeCompare(b.name, visit.messages.lang)),
            country: countries.includes(String(country)) ? country : countries.includes(FIRST) ? FIRST : countries[0],
            phone: typeof phone === 'string' ? phone.slice(0, 40) : '',
            ...(visit.offer.length > 1 && { chooseUrl: visit.url('choose') }),
          },
        }
      },

      async attempt(visit, { number, country }) {
        refuseElsewhere(visit, country)
        const first = limits(visit, number)
        const sent = await texts.sent(visit, 'enrolment')
        // The same number again, from Back or a second click: its code is under way.
        const instead = async (key: string) =>
          !texts.isOthers(key) && sent?.phone === number
            ? ({ is: 'turned', page: 'sms' } as const)
            : first.instead!(key)
        return { ...first, instead }
      },

      async submit(visit, { number }) {
        return { is: 'turned', page: 'sms', audit: await send(visit, number) }
      },
    }),

    sms: definePage({
      method: 'sms',
      form: textForm(readCode),
      wrong: 'wrong_sms_code',

      async arrive(visit) {
        return (await texts.sent(visit, 'enrolment')) ? undefined : { is: 'turned', page: 'phone' }
      },

      async show(visit) {
        const sent = await texts.sent(visit, 'enrolment')
        return {
          view: 'enrollment-sms',
          title: 'enrollment-sms.title',
          locals: {
            ending: endingOf(sent?.phone ?? ''),
            phoneUrl: visit.url('phone'),
            ...(visit.offer.length > 1 && { chooseUrl: visit.url('choose') }),
          },
        }
      },

      async attempt(visit, form) {
        const sent = await texts.sent(visit, 'enrolment')
        if ('resend' in form) return sent && limits(visit, sent.phone)
        return firstCode(visit, sent ? [texts.tries(sent)] : [])
      },

      async submit(visit, form) {
        if ('resend' in form) {
          const sent = await texts.sent(visit, 'enrolment')
          if (!sent) return { is: 'turned', page: 'phone' }
          const audit = await send(visit, sent.phone)
          return { is: 'turned', page: 'sms', outcome: { notice: 'sms.sent' }, audit }
        }
        const phone = await texts.take(visit, 'enrolment', form.code)
        if (phone === undefined) throw wrongSmsCode()
        return activate(visit, { method: 'sms', phone })
      },
    }),
  }

  /** Before anything is counted: a number that gets no texts here. */
  function refuseElsewhere(visit: Visit, country: string) {
    if (!texts.countries(person(visit)).includes(country)) throw new InteractionError('sms_country', { field: 'phone' })
  }
}
