/** A code by text message to the person's phone. Sent when they ask for it: opening a page sends nothing. */
import { endingOf } from '../factors/sms.ts'
import { readCode } from '../factors/totp.ts'
import { codesFromNetwork, isFromNetwork } from '../kit/codes.ts'
import { wrongSmsCode } from '../kit/errors.ts'
import { type Attempt, definePage, person, type Visit } from '../kit/room.ts'
import type { Account, FactorStore } from '../kit/stores.ts'
import { noteOfText, sending, type Texts, textForm } from '../kit/texts.ts'
import { CODES, codeCounter, type SecondFactor } from './factor.ts'

/** What it stands on. */
export interface TextParts {
  factors: FactorStore
  texts: Texts
  helpFor(account: Account | undefined): { help?: string }
}

export const text = ({ factors, texts, helpFor }: TextParts): SecondFactor => {
  const phoneOf = async (visit: Visit) => {
    const phone = await factors.phone(person(visit).id)
    if (phone === undefined) throw wrongSmsCode('no phone')
    return phone
  }
  const limits = async (visit: Visit): Promise<Attempt> => sending(texts, visit, 'challenge', await phoneOf(visit))
  const send = async (visit: Visit) => {
    const phone = await phoneOf(visit)
    await texts.send(visit, 'challenge', phone)
    return noteOfText('challenge', phone)
  }

  return {
    name: 'sms',
    amr: 'sms',
    begin: {
      async attempt(visit) {
        const sent = await texts.sent(visit, 'challenge')
        // Chosen again while a code is under way: that one is asked for.
        const instead = async () => (sent ? ({ is: 'turned', page: 'sms' } as const) : undefined)
        return { ...(await limits(visit)), instead }
      },
      run: send,
    },

    verify: definePage({
      method: 'sms',
      form: textForm(readCode),
      wrong: 'wrong_sms_code',

      async show(visit) {
        const { account, offer, url } = visit
        const sent = await texts.sent(visit, 'challenge')
        return {
          view: 'challenge-sms',
          title: sent ? 'challenge-sms.title' : 'challenge-sms.send_title',
          locals: {
            ...helpFor(account),
            ending: endingOf(await phoneOf(visit)),
            sent: sent !== undefined,
            recoveryUrl: url('recovery'),
            ...(offer.length > 1 && { chooseUrl: url('choose') }),
          },
        }
      },

      async attempt(visit, form): Promise<Attempt> {
        if ('resend' in form) return limits(visit)
        const sent = await texts.sent(visit, 'challenge')
        return {
          counters: [
            codesFromNetwork(visit),
            ...(sent ? [texts.tries(sent)] : []),
            { key: codeCounter('sms', person(visit)), rule: CODES },
          ],
          event: 'mfa.sms',
          refusal(key, wait) {
            if (isFromNetwork(key)) return 'too_many_from_network'
            if (!key.startsWith('code|')) return 'sms_code_used_up'
            return wait === Number.POSITIVE_INFINITY ? 'sms_disabled' : 'code_blocked'
          },
          endsInteraction: true,
        }
      },

      async submit(visit, form) {
        if ('resend' in form)
          return { is: 'turned', page: 'sms', outcome: { notice: 'sms.sent' }, audit: await send(visit) }
        const { id, securityEpoch } = person(visit)
        const phone = await texts.take(visit, 'challenge', form.code)
        if (phone === undefined || phone !== (await factors.phone(id))) throw wrongSmsCode()
        await factors.notePhoneUse(id, visit.now)
        return { is: 'proved', factor: 'sms', accountId: id, securityEpoch, audit: { event: 'mfa.sms' } }
      },
    }),
  }
}
