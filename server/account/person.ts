/** What a person changes of themselves: their name and their password. */
import { z } from 'zod'
import { InteractionError, passwordCounter, rulesOf } from '../../interactions/index.ts'
import { isChangedMeanwhile, writtenOf } from '../stores.ts'
import { NAME_FIELD } from './form.ts'
import { type AccountPage, type AccountVisit, accountPage, type OwnAccountParts } from './own.ts'
import { passwordRule } from './password-rules.ts'
import { claimEpoch, goOnAlone } from './reach.ts'

const NEW_PASSWORD = z.string('new_password_missing').min(1, 'new_password_missing').max(4096, 'form_invalid')

/** Writes it as long as nobody else has written the same person meanwhile. */
async function write(
  { house: { database }, tell }: OwnAccountParts,
  { account, letter }: AccountVisit,
  kind: 'name_changed' | 'password_changed',
  changed: { name?: string; passwordHash?: string },
): Promise<void> {
  const user = await database.directory.user(account.id)
  if (!user) throw new InteractionError('form_expired')
  const was = writtenOf(user)
  const { passwordHash, ...rest } = changed
  try {
    await database.directory.commit([
      { kind: 'user', op: 'put', value: { ...was, ...rest }, was, passwordHash, messages: tell(account, kind, letter) },
    ])
  } catch (error) {
    if (isChangedMeanwhile(error)) throw new InteractionError('form_expired', { cause: error })
    throw error
  }
}

export const namePage = (parts: OwnAccountParts): AccountPage =>
  accountPage({
    form: z.strictObject({ name: NAME_FIELD }),
    show: async ({ account }) => ({
      view: 'account/name',
      title: 'account.name.title',
      locals: { name: account.name ?? '' },
    }),
    async submit(visit, { name }) {
      const { account, ctx } = visit
      await write(parts, visit, 'name_changed', { name })
      const about = { actor: account.id, accountId: account.id, outcome: 'success' as const }
      await parts.record(ctx, { ...about, event: 'account.name_changed' })
      return { done: 'name_changed', at: '/account' }
    },
  })

/** The present password was given to the provider within five minutes, and the second factor where there is one. */
export const passwordPage = (parts: OwnAccountParts): AccountPage => {
  const { house, passwords, record } = parts
  const { config, database } = house
  const check = passwordRule(house, passwords)
  return accountPage({
    closed: ({ account }) => (rulesOf(account).passwordsByMail ? 'password_by_mail' : undefined),
    proof: 'password',
    proofFirst: true,
    // `username` is there for password managers.
    form: z.strictObject({ username: z.string().optional(), new_password: NEW_PASSWORD }),
    show: async ({ account }) => ({
      view: 'new-password',
      title: 'new-password.title',
      locals: { email: account.email, min: config.SALLYPORT_PASSWORD_MIN_LENGTH, isOwn: true },
    }),
    async submit(visit, { new_password: password }) {
      const { account, ctx } = visit
      const user = await database.directory.user(account.id)
      // Who has none is signed in by their company: that is no way round it.
      if (!user?.hasPassword) throw new InteractionError('form_expired')
      await check(account, password)
      const passwordHash = await passwords.hash(password)
      const { sessions, claimed } = await claimEpoch(parts, visit)
      await write(parts, claimed, 'password_changed', { passwordHash })
      await goOnAlone(parts, claimed)
      const about = { actor: account.id, accountId: account.id, outcome: 'success' as const }
      await record(ctx, { ...about, event: 'account.password_changed', details: { sessions } })
      await database.throttle.clear([passwordCounter(account.email)])
      return { done: 'password_changed', at: '/account' }
    },
  })
}
