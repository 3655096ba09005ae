/** Who has come from an identity provider: which of our people, and whether they may. */

import { INVITING, type Tell } from '../kit/letters.ts'
import { normaliseEmail } from '../kit/network.ts'
import type { Visit } from '../kit/room.ts'
import type {
  Account,
  AccountStore,
  Connection,
  FederatedName,
  FederationRequest,
  LinkStore,
  OutboxStore,
  PeopleStore,
} from '../kit/stores.ts'
import { domainOf } from './connection.ts'
import type { Facts } from './saml/index.ts'

/** What is needed to know people. */
export interface Arrivals {
  accounts: AccountStore
  links: LinkStore
  outbox: OutboxStore
  tell: Tell
  /** Without it nobody is made an account. */
  people?: PeopleStore | undefined
}

/** Why somebody does not come in, whose response was a good one. For the audit: the person sees one page for all. */
export type ArrivalRefusal =
  | 'connection_state'
  | 'connection_client'
  | 'email_domain'
  | 'force_authn'
  | 'max_age'
  | 'no_account'
  | 'account_disabled'
  | 'membership_disabled'
  | 'link_taken'

type Arrival =
  | { is: 'admitted'; account: Account; made: boolean; linked: boolean; mfa: boolean }
  /** Somebody else than the one this sign-in is for. */
  | { is: 'other' }
  | { is: 'refused'; code: ArrivalRefusal; accountId?: string }

/** Seconds that the clocks of two parties may differ. */
const SKEW = 60
/** Seconds after which a second factor at the identity provider is too long ago, unless it was asked to ask anew. */
const FRESH = 5 * 60
const EMAIL = 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress'
/** What Entra says of a second factor, in an attribute instead of the context. It cannot be asked for. */
export const MULTIPLE = 'http://schemas.microsoft.com/claims/multipleauthn'
/** Entra says in this attribute which methods were used. */
const METHODS_ATTRIBUTE = 'http://schemas.microsoft.com/claims/authnmethodsreferences'

/** Decides who it is, links the name to the account, and makes an account where the connection says so. */
export async function admit(
  { accounts, links, outbox, tell, people }: Arrivals,
  {
    visit,
    facts,
    request,
    connection,
  }: { visit: Visit; facts: Facts; request: FederationRequest; connection: Connection | undefined },
): Promise<Arrival> {
  const refused = (code: ArrivalRefusal, accountId?: string): Arrival => ({
    is: 'refused',
    code,
    ...(accountId !== undefined && { accountId }),
  })
  // Looked at again: what was switched off since the response came ends here.
  if (connection?.state !== 'active') return refused('connection_state')
  if (connection.client !== undefined && connection.client !== visit.client.id) return refused('connection_client')
  const speaksFor = (email: string) => connection.domains.includes(domainOf(email))
  if (!speaksFor(facts.email)) return refused('email_domain')
  // An identity provider that does not ask anew would be asked for ever.
  const { anew, since } = visit.asks
  if (anew && !request.forceAuthn) return refused('force_authn')
  if (since !== undefined && facts.authnInstant < since - SKEW) return refused('max_age')

  const isAddress = facts.nameId.toLowerCase() === facts.email
  const name = nameOf(facts, connection)
  const linkedTo = name && (await links.find(name))
  const linked = linkedTo === undefined ? undefined : await accounts.find(linkedTo)
  if (linkedTo !== undefined) {
    if (!linked) return refused('no_account', linkedTo)
    // A name that is an address is worth no more than the address: it may be somebody else's by now.
    if (isAddress && linked.email !== facts.email) return refused('link_taken', linked.id)
    // Who has gone to another company is not this one's to speak for.
    if (!speaksFor(linked.email)) return refused('email_domain', linked.id)
  }

  const { typed, hinted } = visit.identifier
  const address = typed ?? normaliseEmail(hinted ?? '')
  const expected = address === '' || address.startsWith('@') ? undefined : address
  if (expected !== undefined && expected !== facts.email && expected !== linked?.email) return { is: 'other' }

  const known = linked ?? (await accounts.findByEmail(facts.email))?.account
  const made = known || !connection.jit ? undefined : await newcomer(people, facts, connection)
  // Another tab may have been first.
  const account = known ?? made ?? (connection.jit ? (await accounts.findByEmail(facts.email))?.account : undefined)
  if (!account) return refused('no_account')
  if (account.disabled) return refused('account_disabled', account.id)
  const membership = account.memberships.find(({ companyId }) => companyId === connection.company)
  if (membership && !membership.active) return refused('membership_disabled', account.id)

  // The account has another name there: whoever has this address now need not be the one who had it.
  if (!linked && (await links.isNamed(account.id, { company: connection.company, issuer: facts.issuer }))) {
    const isSame = name && (await links.find(name)) === account.id // since a moment ago: another tab was first
    if (!isSame) return refused('link_taken', account.id)
  }
  let isNew = false
  if (name && !linked) {
    // The page tells whoever is there now; the letter tells the person whose account it was before.
    const messages = made ? [] : tell(account, 'company_linked', visit.facts)
    const outcome = await links.link(name, account.id, visit.now, { messages, withdraws: INVITING })
    if (outcome === 'taken') return refused('link_taken', account.id)
    isNew = outcome === 'linked'
  }
  // Nothing is kept of a name that does not last: each time may be the first.
  if (!name) await outbox.withdraw(account.id, [...INVITING])
  return {
    is: 'admitted',
    account,
    made: made !== undefined,
    linked: isNew && made === undefined,
    mfa: vouches(connection, facts, request, visit.now),
  }
}

/** Under which name the person is known; `undefined` when the identity provider gives a new one each time. */
export const nameOf = (
  { lasts, issuer, nameId, nameIdFormat }: Pick<Facts, 'lasts' | 'issuer' | 'nameId' | 'nameIdFormat'>,
  { company }: Pick<Connection, 'company'>,
): FederatedName | undefined =>
  lasts
    ? { company, issuer, format: nameIdFormat, name: nameIdFormat === EMAIL ? nameId.toLowerCase() : nameId }
    : undefined

const newcomer = (people: PeopleStore | undefined, { email, name }: Facts, { company }: Connection) =>
  people?.create({ email, company, ...(name !== undefined && { name }) })

/**
 * Whether the identity provider says that it asked for two factors, just now, in words that this connection trusts: a context
 * only when it was asked for (REFEDS MFA Profile), or Entra's attribute.
 */
function vouches({ trustedContexts }: Connection, facts: Facts, request: FederationRequest, now: number): boolean {
  const isFresh = request.forceAuthn || facts.authnInstant >= now - FRESH
  const said = facts.authnContexts.filter((context) => request.authnContexts.includes(context))
  const methods = facts.attributes.get(METHODS_ATTRIBUTE) ?? []
  // Of several statements each must say it.
  const all = facts.authnContexts.length > 0 && said.length === facts.authnContexts.length
  return (
    isFresh &&
    ((all && said.every((one) => trustedContexts.includes(one))) ||
      (trustedContexts.includes(MULTIPLE) && methods.includes(MULTIPLE)))
  )
}
