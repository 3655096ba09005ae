/**
 * Pages for those who look after people of a company: they find a person by the exact address, reset that person's second
 * factors, and let them try again. Whose they are and what may be done for them, the policy says (interactions/resets.ts).
 */
import { z } from 'zod'
import {
  type Account,
  companiesInCare,
  endSessions,
  InteractionError,
  isLockedOut,
  normaliseEmail,
  type Powers,
  passwordCounter,
  powersOver,
  requestFacts,
  type ThrottleRule,
  type ThrottleState,
} from '../../interactions/index.ts'
import { audited } from '../audited.ts'
import { factsHere } from '../provider.ts'
import { logUntold, sessionsOf } from '../sessions.ts'
import { valid } from './form.ts'
import { type AccountPage, type AccountVisit, accountPage, type OwnAccountParts } from './own.ts'

/** By the throttle, or by a company of theirs: whether a new browser is refused whatever password it gives. */
const isLocked = (person: Account, counter: ThrottleState | undefined, now: number): boolean =>
  counter !== undefined && (counter.disabled || counter.blockedUntil > now || isLockedOut(person, counter.count + 1))

/** Where the pages are. */
const BASE = '/account/company'

/** Addresses that one administrator looks for. */
const SEARCHES: ThrottleRule = { kind: 'window', limit: 60, seconds: 60 * 60 }
/** A person is let in again: nobody is to help a stranger guess on. */
const UNLOCKS: ThrottleRule = { kind: 'window', limit: 5, seconds: 24 * 60 * 60 }

const SearchForm = z.strictObject({
  company: z.string().max(200).optional(),
  email: z.string('email_missing').transform(normaliseEmail).pipe(z.string().min(1, 'email_missing')),
})
/** How somebody made sure who asked (R108). */
const IDENTITY = {
  in_person: 'account.identity.in_person',
  video: 'account.identity.video',
  call_back: 'account.identity.call_back',
} as const
const ResetForm = z.strictObject({
  /** The factors that the administrator saw. */
  version: z.string().regex(/^\d{1,9}$/),
  identity: z.enum(Object.keys(IDENTITY) as (keyof typeof IDENTITY)[], 'identity_missing'),
  note: z.string('note_missing').trim().min(1, 'note_missing').max(500, 'form_invalid'),
  verified: z.literal('yes', 'verified_missing'),
})
const Form = z.union([z.strictObject({ unlock: z.literal('yes') }), z.record(z.string(), z.unknown())])

/** A person, as an administrator of theirs may see them. */
interface InCare {
  person: Account
  powers: Powers
  company: { id: string; name: string }
}

/** @returns the page of this address: of everybody, or of one person; `undefined`: there is none */
export function companyPages(parts: OwnAccountParts): (path: string) => AccountPage | undefined {
  const search = searchPage(parts)
  return (path) => {
    if (path === BASE) return search
    const [, company, person] = /^\/account\/company\/([\w.-]{1,200})\/([\w-]{1,100})$/.exec(path) ?? []
    return company === undefined || person === undefined ? undefined : personPage(parts, company, person)
  }
}

const searchPage = (parts: OwnAccountParts): AccountPage => {
  const { database } = parts.house
  return accountPage({
    form: SearchForm,
    proof: 'other',
    proofFirst: true,
    isFor: async ({ account }) => companiesInCare(account).length > 0,

    async show({ account, ctx }) {
      const found = await Promise.all(companiesInCare(account).map((id) => database.directory.company(id)))
      const typed = (ctx.request.body ?? {}) as Record<string, unknown>
      return {
        view: 'account/company',
        title: 'account.company.title',
        locals: {
          companies: found.flatMap((company) => (company ? [{ id: company.id, name: company.name }] : [])),
          company: typed['company'],
          email: typeof typed['email'] === 'string' ? typed['email'].slice(0, 254) : '',
          needsFactor: Object.keys(account.enrolled).length === 0,
        },
      }
    },

    async submit({ account, ctx, now }, { company, email }) {
      const { allowed, retryAfter } = await database.throttle.take(
        [{ key: `company-search|${account.id}`, rule: SEARCHES }],
        now,
      )
      if (!allowed) throw new InteractionError('too_many_attempts', { status: 429, retryAfter })
      const companyId = company ?? companiesInCare(account)[0] ?? ''
      const found = await database.accounts.findByEmail(email)
      // As much is read for an address that nobody has.
      const person = found?.account ?? (await database.accounts.find(account.id).then(() => undefined))
      const outcome = powersOver(account, person, companyId, now) ? 'success' : 'failure'
      const seen = outcome === 'success' ? { accountId: person!.id } : {}
      const details = { company: companyId }
      await parts.record(ctx, { event: 'company.person_sought', outcome, actor: account.id, ...seen, details })
      // Nobody's, or somebody else's: one answer.
      if (outcome === 'failure') throw new InteractionError('person_unknown', { field: 'email' })
      return { at: `${BASE}/${companyId}/${person!.id}` }
    },
  })
}

function personPage(parts: OwnAccountParts, companyId: string, personId: string): AccountPage {
  const { house, provider, tell } = parts
  const { database } = house

  const inCare = async ({ account, now }: AccountVisit): Promise<InCare | undefined> => {
    const person = await database.accounts.find(personId)
    const powers = powersOver(account, person, companyId, now)
    const company = powers && (await database.directory.company(companyId))
    return powers && company && person && { person, powers, company: { id: company.id, name: company.name } }
  }
  const still = async (visit: AccountVisit): Promise<InCare> => {
    const found = await inCare(visit)
    if (!found) throw new InteractionError('form_expired')
    return found
  }

  return accountPage<z.infer<typeof Form>>({
    form: Form,
    proof: 'other',
    proofFirst: true,
    isFor: async (visit) => (await inCare(visit)) !== undefined,

    async show(visit) {
      const { person, powers, company } = await still(visit)
      const [counter] = await database.throttle.look([passwordCounter(person.email)])
      const typed = (visit.ctx.request.body ?? {}) as Record<string, unknown>
      return {
        view: 'account/company-person',
        title: 'account.person.title',
        titleVars: { name: person.name ?? person.email },
        locals: {
          company: company.name,
          name: person.name,
          email: person.email,
          factors: (['otp', 'sms'] as const).flatMap((method) => {
            const addedAt = person.enrolled[method]
            return addedAt === undefined ? [] : [{ method, addedAt }]
          }),
          resetAt: person.factorReset?.open ? person.factorReset.at : undefined,
          isLocked: isLocked(person, counter, visit.now),
          powers,
          identities: Object.entries(IDENTITY).map(([way, label]) => ({ way, label: visit.messages.t(label) })),
          version: person.factorVersion,
          identity: typed['identity'],
          note: typeof typed['note'] === 'string' ? typed['note'].slice(0, 500) : '',
        },
      }
    },

    async submit(visit, form) {
      const found = await still(visit)
      if (form['unlock'] === 'yes') return unlock(visit, found)
      return reset(visit, found, valid(ResetForm, form))
    },
  })

  async function reset(visit: AccountVisit, { person, powers, company }: InCare, form: z.infer<typeof ResetForm>) {
    const { account, ctx } = visit
    if (powers.reset === 'own' || powers.reset === 'operator')
      throw new InteractionError(powers.reset === 'own' ? 'reset_own' : 'reset_elsewhere', { status: 403 })
    const { identity, note } = form
    // The administrator's browser and address are no business of the person's.
    const facts = factsHere(house)
    const messages = tell(person, 'mfa_reset_by_company', facts)
    const factorVersion = Number(form.version)
    const act = {
      event: 'mfa.reset',
      ...about(visit, person),
      details: {
        company: company.id,
        right: powers.reset,
        identity,
        note,
        removed: Object.keys(person.enrolled),
      },
    }
    let isChanged = false
    await audited(database.audit, act, async () => {
      isChanged = !(await database.directory.resetMfa(person.id, { now: facts.now, messages, factorVersion }))
      if (isChanged) throw new InteractionError('person_changed')
      const sessions = await sessionsOf(database, [person.id])
      const requestId = ctx.state['requestId'] as string
      const ending = { provider, stores: database, now: facts.now, about: { actor: account.id, requestId } }
      const { ended, told } = await endSessions(ending, sessions)
      logUntold(house, told)
      return { sessions: ended }
    })
    return { done: 'person_reset' }
  }

  async function unlock(visit: AccountVisit, { person, powers, company }: InCare) {
    if (!powers.unlock) throw new InteractionError('form_invalid', { status: 403 })
    const counters = [{ key: `unlock|${person.id}`, rule: UNLOCKS }]
    const { allowed, retryAfter } = await database.throttle.take(counters, visit.now)
    if (!allowed) throw new InteractionError('too_many_attempts', { status: 429, retryAfter })
    const act = { event: 'user.unlocked', ...about(visit, person), details: { company: company.id } }
    await audited(database.audit, act, () => database.throttle.clear([passwordCounter(person.email)]))
    return { done: 'person_unlocked' }
  }

  function about({ account, ctx }: AccountVisit, person: Account) {
    return { actor: account.id, accountId: person.id, ...requestFacts(ctx) }
  }
}
