import type { Account, AccountStore, Membership } from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, NEWEST, oneOf } from './driver.ts'
import type { AccountDocument, Collections, CompanyDocument } from './schemas.ts'

/** Of an authenticator app: the step that was used last says when (RFC 6238). */
const STEP_SECONDS = 30

/** People: the document of the person, and those of their companies. */
export class MongoAccounts implements AccountStore {
  readonly #connection: Connection
  readonly #collections: Collections

  constructor(connection: Connection, collections: Collections) {
    this.#connection = connection
    this.#collections = collections
  }

  async find(accountId: string): Promise<Account | undefined> {
    const { accounts } = this.#collections
    return this.#connection.guarded(async () => {
      const stored = await accounts.findOne({ _id: accountId, removed: null }, undefined, NEWEST).lean()
      return stored ? this.#complete(stored) : undefined
    })
  }

  async findByEmail(email: string) {
    const { accounts, addresses } = this.#collections
    return this.#connection.guarded(async () => {
      const address = await addresses.findOne({ _id: email, removed: null }, undefined, NEWEST).lean()
      if (!address) return undefined
      // The address too: in the middle of a commit it may be on its way to somebody else.
      const stored = await accounts.findOne({ _id: address.account, email, removed: null }, undefined, NEWEST).lean()
      return stored ? { account: await this.#complete(stored), passwordHash: stored.passwordHash } : undefined
    })
  }

  async upgradePasswordHash(accountId: string, from: string, to: string): Promise<void> {
    await this.#connection.guarded(() =>
      this.#collections.accounts.updateOne(
        { _id: accountId, passwordHash: from },
        { $set: { passwordHash: to } },
        CERTAIN,
      ),
    )
  }

  async #complete(stored: AccountDocument): Promise<Account> {
    const ids = stored.memberships.map(({ company }) => company)
    const companies = await companiesOf(this.#collections, ids)
    return {
      id: stored._id,
      email: stored.email,
      ...(stored.noticeEmail !== undefined && { noticeEmail: stored.noticeEmail }),
      name: stored.name,
      disabled: stored.disabled,
      securityEpoch: stored.securityEpoch,
      factorVersion: stored.factorVersion,
      alwaysRequire2fa: stored.alwaysRequire2fa,
      serverRoles: stored.serverRoles,
      memberships: stored.memberships.flatMap((membership) => membershipOf(membership, companies) ?? []),
      enrolled: {
        ...(stored.totp && { otp: stored.totp.addedAt }),
        ...(stored.phone && { sms: stored.phone.addedAt }),
      },
      used: {
        ...(stored.totp && { otp: stored.totp.lastStep * STEP_SECONDS }),
        ...(stored.phone && { sms: stored.phone.usedAt }),
      },
      recoveryCode: recoveryCodeOf(stored),
      factorReset: stored.factorReset,
    }
  }
}

/** The companies of these ids that are there. */
export async function companiesOf({ companies }: Collections, ids: string[]): Promise<Map<string, CompanyDocument>> {
  if (ids.length === 0) return new Map()
  const found = await companies.find({ _id: oneOf(ids), removed: null }, undefined, NEWEST).lean()
  return new Map(found.map((company) => [company._id, company]))
}

function membershipOf(
  { company: id, roles, disabled }: AccountDocument['memberships'][number],
  companies: Map<string, CompanyDocument>,
): Membership | undefined {
  const company = companies.get(id)
  if (!company) return undefined
  const { side, mfa, help, rules } = company
  const enforcement = mfa && { from: mfa.enforced_from, zone: mfa.zone, ...(mfa.sso && { sso: mfa.sso }) }
  const active = !disabled && !company.disabled
  return {
    companyId: id,
    side,
    roles,
    active,
    enforcement,
    ...(help !== undefined && { help }),
    ...(rules && { rules }),
  }
}

function recoveryCodeOf({ recoveryCode }: AccountDocument): Account['recoveryCode'] {
  if (!recoveryCode) return undefined
  const { id, replaces, acknowledged, reservedBy, reservedUntil, reservations } = recoveryCode
  return { id, replaces, acknowledged, reservedBy, reservedUntil, reservations }
}
