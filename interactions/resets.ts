/**
 * Who may reset whose second factors, and let whom try again: the part of the rule (policy.ts) about people and their
 * administrators. Pure. Whoever resets speaks for every company that asks for the factor; nobody resets themselves.
 */
import type { Account, Membership, MembershipRole } from './kit/stores.ts'
import { enforces, PAYMENTS_ROLES } from './policy.ts'

/** By what right: as the administrator of a company that enforces, or as another Payments Admin of a payee company. */
export type ResetRight = 'company' | 'payee'

/** What one person may do for another at one company. */
export interface Powers {
  /** `own`: their own, which somebody else resets. `operator`: only the people who run this server may. */
  reset: ResetRight | 'own' | 'operator'
  /** Forget the wrong passwords that keep them out. */
  unlock: boolean
}

/** What somebody may do for people of one company at all. */
interface Authority {
  /** Holds both roles that a reset needs. */
  administers: boolean
  /** Sees everybody in the directory. */
  directory: boolean
  /** Administers the payments of a payee company. */
  payee: boolean
}

function authorityAt({ active, side, roles }: Membership): Authority | undefined {
  if (!active) return undefined
  const holds = (role: MembershipRole) => roles.includes(role)
  const authority = {
    administers: holds('company_admin') && holds('directory_admin'),
    directory: holds('directory_admin'),
    payee: side === 'payee' && holds('payments_admin'),
  }
  return authority.directory || authority.payee ? authority : undefined
}

/** The companies whose people this person looks after. */
export const companiesInCare = ({ memberships }: Pick<Account, 'memberships'>): string[] =>
  memberships.filter(authorityAt).map(({ companyId }) => companyId)

const pays = ({ roles }: Membership) => roles.some((role) => PAYMENTS_ROLES.includes(role))

/**
 * What `who` may do for `person` at this company, or `undefined` when that person is none of theirs: as for an address that
 * nobody has. Who has no second factor of their own has no power over another's.
 *
 * @param now seconds since 1970
 */
export function powersOver(
  who: Pick<Account, 'id' | 'memberships' | 'enrolled'>,
  person: Account | undefined,
  companyId: string,
  now: number,
): Powers | undefined {
  const at = ({ memberships }: Pick<Account, 'memberships'>) => memberships.find((one) => one.companyId === companyId)
  const mine = at(who)
  const authority = mine && authorityAt(mine)
  if (!authority || !person || Object.keys(who.enrolled).length === 0) return undefined
  const place = at(person)
  if (!place?.active) return undefined
  // A Payments Admin sees those who are paid, not the whole directory.
  if (!authority.directory && !pays(place)) return undefined
  if (person.id === who.id) return { reset: 'own', unlock: false }
  const reset = rightOver(authority, person, place, now) ?? 'operator'
  return { reset, unlock: authority.directory && !person.disabled }
}

function rightOver(
  { administers, payee }: Authority,
  { disabled, serverRoles, memberships }: Account,
  place: Membership,
  now: number,
): ResetRight | undefined {
  if (disabled || serverRoles.length > 0) return undefined
  const others = memberships.filter((one) => one !== place)
  if (others.some((one) => one.active && enforces(one, now, undefined))) return undefined
  // Of a role in Payments that is switched off nobody knows when it comes back.
  if (others.some(pays)) return undefined
  if (!pays(place)) return administers && enforces(place, now, undefined) ? 'company' : undefined
  // Who belongs to a company that pays is the operator's, whatever they are elsewhere.
  const isPayee = memberships.every(({ side }) => side === 'payee' || side === 'none')
  const paid = place.roles.filter((role) => PAYMENTS_ROLES.includes(role)).every((role) => role === 'payments_admin')
  return payee && isPayee && paid ? 'payee' : undefined
}
