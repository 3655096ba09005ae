/**
 * People who live in an app's own database, with their factors in ours (docs/decisions/own-accounts.md).
 *
 * The app says who somebody is; the store knows what they hold. What the store counts for a person stands in a row of
 * theirs that has no address, no password and no role.
 */
import type { Account, FactorStore, Stores } from './stores.ts'

/** A person as the app keeps them. What is left out: not disabled, in no company, with no role, nothing switched on. */
export interface OwnAccount
  extends Pick<Account, 'id' | 'email'>,
    Partial<Pick<Account, 'name' | 'noticeEmail' | 'disabled' | 'memberships' | 'serverRoles' | 'alwaysRequire2fa'>> {
  /**
   * Raise it in the same write that changes the password, disables the person or ends their sessions: all that was
   * proven before is void then. Only ever grows; 0 when left out.
   */
  securityEpoch?: number | undefined
  /** PHC string, or whatever the app's hasher reads. Only {@link OwnAccountStore.findByEmail} needs it. */
  passwordHash?: string | undefined
}

/** Reads the app's people. */
export interface OwnAccountStore {
  /** The person, disabled ones too, or `undefined`. */
  find(accountId: string): Promise<OwnAccount | undefined>
  /** The person of this address (lower case, no spaces around it), with the hash of their password, if they have one. */
  findByEmail(email: string): Promise<OwnAccount | undefined>
  /** Replaces a hash made with weaker parameters, if it is still `from`. Without it the old hash stays. */
  upgradePasswordHash?(accountId: string, from: string, to: string): Promise<void>
}

/** A database of ours, as far as it is needed here. */
export interface FactorDatabase extends Stores {
  directory: {
    commit(changes: { kind: 'user'; op: 'put'; value: FactorHolder }[]): Promise<void>
  }
}

/** The row that holds the factors of somebody who lives elsewhere. Its address is the id, with which nobody signs in. */
interface FactorHolder {
  id: string
  email: string
  disabled: false
  memberships: []
  serverRoles: []
}

/** The stores of `database`, with people of the app's own. */
export function withOwnAccounts(database: FactorDatabase, people: OwnAccountStore): Stores {
  const {
    accounts: holders,
    throttle,
    devices,
    pending,
    consents,
    federation,
    traces,
    links,
    outbox,
    audit,
    artifacts,
  } = database

  return {
    ...{ throttle, devices, pending, consents, federation, traces, links, outbox, audit, artifacts },
    accounts: {
      async find(accountId) {
        const person = await people.find(accountId)
        return person && complete(person, await holders.find(accountId))
      },
      async findByEmail(email) {
        const person = await people.findByEmail(email)
        if (!person) return undefined
        return { account: complete(person, await holders.find(person.id)), passwordHash: person.passwordHash }
      },
      async upgradePasswordHash(accountId, from, to) {
        await people.upgradePasswordHash?.(accountId, from, to)
      },
    },
    factors: factorsOf(database, people),
  }
}

/** The person, with what the store knows of them. Either side may raise the epoch: their sum grows with both. */
function complete(person: OwnAccount, held: Account | undefined): Account {
  return {
    id: person.id,
    email: person.email,
    ...(person.noticeEmail !== undefined && { noticeEmail: person.noticeEmail }),
    name: person.name,
    disabled: person.disabled ?? false,
    memberships: person.memberships ?? [],
    serverRoles: person.serverRoles ?? [],
    alwaysRequire2fa: person.alwaysRequire2fa ?? held?.alwaysRequire2fa ?? false,
    securityEpoch: (person.securityEpoch ?? 0) + (held?.securityEpoch ?? 0),
    factorVersion: held?.factorVersion ?? 0,
    enrolled: held?.enrolled ?? {},
    used: held?.used,
    recoveryCode: held?.recoveryCode,
  }
}

function factorsOf({ factors, directory }: FactorDatabase, people: OwnAccountStore): FactorStore {
  return {
    totpSecret: (accountId) => factors.totpSecret(accountId),
    claimTimeStep: (accountId, step) => factors.claimTimeStep(accountId, step),
    setRecoveryCode: (accountId, code) => factors.setRecoveryCode(accountId, code),
    recoveryCodeHash: (accountId) => factors.recoveryCodeHash(accountId),
    reserveRecoveryCode: (accountId, reservation) => factors.reserveRecoveryCode(accountId, reservation),
    acknowledgeRecoveryCode: (accountId, id) => factors.acknowledgeRecoveryCode(accountId, id),
    phone: (accountId) => factors.phone(accountId),
    notePhoneUse: (accountId, at) => factors.notePhoneUse(accountId, at),
    async activate(accountId, activation) {
      const holder: FactorHolder = {
        id: accountId,
        email: accountId,
        disabled: false,
        memberships: [],
        serverRoles: [],
      }
      await directory.commit([{ kind: 'user', op: 'put', value: holder }])
      const person = await people.find(accountId)
      if (!person || person.disabled) return undefined
      // Read now, not when the page was shown: what the app raised meanwhile makes the store's part too small to match.
      const epoch = person.securityEpoch ?? 0
      const written = await factors.activate(accountId, {
        ...activation,
        securityEpoch: activation.securityEpoch - epoch,
      })
      return written && { securityEpoch: written.securityEpoch + epoch }
    },
  }
}
