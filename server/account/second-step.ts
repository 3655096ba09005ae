/** What a person decides of their second step: whether it is always asked for, and what goes. What is theirs to decide the policy says. */
import { z } from 'zod'
import { InteractionError, type Method } from '../../interactions/index.ts'
import { type AccountPage, accountPage, type OwnAccountParts } from './own.ts'
import { goOnAlone } from './reach.ts'
import { reasonsInWords } from './words.ts'

/** "Always require 2FA". Off raises nothing else: what stands stands, and apps ask for it as before. */
export const alwaysPage = ({ house: { database }, sallyport, record, tell }: OwnAccountParts): AccountPage =>
  accountPage({
    proof: 'other',
    proofFirst: true,
    form: z.strictObject({ always: z.enum(['on', 'off']) }),
    async show({ account, messages }) {
      const { lockedBy } = sallyport.choicesOf(account)
      return {
        view: 'account/always',
        title: 'account.always.title',
        locals: {
          isOn: account.alwaysRequire2fa || lockedBy.length > 0,
          lockedBy: reasonsInWords(messages, lockedBy, await database.directory.companies()),
        },
      }
    },
    async submit({ account, ctx, letter }, { always }) {
      const event = always === 'on' ? { event: 'account.always_on' } : { event: 'account.always_off' }
      const about = { actor: account.id, accountId: account.id, ...event }
      if (sallyport.choicesOf(account).lockedBy.length > 0) {
        await record(ctx, { ...about, outcome: 'failure', reasons: ['always_locked'] })
        throw new InteractionError('always_locked')
      }
      const isOn = always === 'on'
      const kind = isOn ? 'always_on' : 'always_off'
      const messages = tell(account, kind, letter)
      if (await database.directory.setAlwaysRequire2fa(account.id, isOn, messages))
        await record(ctx, { ...about, outcome: 'success' })
      return { done: kind, at: '/account' }
    },
  })

/** Removes the app, or the phone. */
export const removePage = (parts: OwnAccountParts, method: Method): AccountPage => {
  const { house, sallyport, record, tell } = parts
  const { directory } = house.database
  const kind = method === 'otp' ? 'app_removed' : 'phone_removed'
  return accountPage({
    proof: 'other',
    proofFirst: true,
    form: z.strictObject({ remove: z.literal(method) }),
    async show({ account, messages }) {
      const isThere = account.enrolled[method] !== undefined
      const { lockedBy, removable } = sallyport.choicesOf(account)
      const isAllowed = removable.includes(method)
      const { because } = sallyport.requirementOf(account)
      return {
        view: 'account/remove',
        title: method === 'otp' ? 'account.remove.otp' : 'account.remove.sms',
        locals: {
          method,
          isThere,
          isAllowed,
          isLast: Object.keys(account.enrolled).length === 1,
          canSwitchOff: lockedBy.length === 0,
          because: isAllowed ? [] : reasonsInWords(messages, because, await directory.companies()),
        },
      }
    },
    async submit(visit) {
      const { account, ctx, letter } = visit
      const { factorVersion, securityEpoch } = account
      const about = { actor: account.id, accountId: account.id, event: 'mfa.removed' }
      if (account.enrolled[method] === undefined) throw new InteractionError('form_expired')
      if (!sallyport.choicesOf(account).removable.includes(method)) {
        await record(ctx, { ...about, outcome: 'failure', reasons: ['factor_needed'], details: { method } })
        throw new InteractionError('factor_needed')
      }
      const messages = tell(account, kind, letter)
      // Whatever else was added, removed or reset meanwhile: the person looks again.
      if (!(await directory.removeFactor(account.id, { method, factorVersion, securityEpoch, messages })))
        throw new InteractionError('form_expired')
      const sessions = await goOnAlone(parts, visit)
      await record(ctx, { ...about, outcome: 'success', details: { method, sessions } })
      return { done: kind, at: '/account' }
    },
  })
}
