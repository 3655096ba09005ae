/** The one place that loads what the policy needs and asks it. Checks and page handlers both come here. */
import type { Outcome } from './kit/room.ts'
import type { Account, AccountStore, Method } from './kit/stores.ts'
import {
  type Claims,
  type ClientRules,
  claimsOf,
  type Open,
  openReasons,
  type Proofs,
  type Requirement,
  requirement,
  type SessionFacts,
  type SessionLimits,
  sessionAlive,
  signedInBy,
} from './policy.ts'

/** A request, as far as it has come. */
export interface Situation {
  params: Record<string, unknown>
  client: ClientRules
  /** What the rooms left in the interaction. */
  outcome: Outcome | undefined
  /** The session row of this browser. */
  session: SessionFacts | undefined
  /** The interaction chain. */
  cid: string | undefined
  /** Start of the request, seconds. */
  started: number
  /** An account that is already loaded. */
  loaded?: Account | undefined
}

/** What is open, and, when nothing is, what the tokens say. */
export interface Decision {
  /** Who proved something that counts. */
  account: Account | undefined
  /** The session of this browser counts. */
  alive: boolean
  requirement: Requirement
  proofs: Proofs
  open: Open | undefined
  claims: Claims | undefined
}

/**
 * @param available the second factors that this person can be asked for here
 * @param now seconds since 1970
 */
export function createDecision(
  accounts: AccountStore,
  limits: SessionLimits,
  available: (account: Account | undefined) => readonly Method[],
  now: () => number,
): (situation: Situation) => Promise<Decision> {
  const load = async (id: string | undefined, loaded: Account | undefined) =>
    id === undefined ? undefined : loaded?.id === id ? loaded : accounts.find(id)

  return async ({ params, client, outcome, session, cid, started, loaded }) => {
    const at = now()
    const chain = outcome?.proofs
    const proven = await load(chain?.accountId, loaded)
    // Proofs made under an older epoch are no proofs.
    const pending =
      chain && proven && !proven.disabled && chain.securityEpoch === proven.securityEpoch ? chain : undefined

    const account = pending ? proven : outcome?.differentAccount ? undefined : await load(session?.accountId, loaded)
    const alive = account !== undefined && !outcome?.differentAccount && sessionAlive(session, account, limits, at)
    const known = pending || alive ? account : undefined

    const proofs: Proofs = {
      session: alive ? (session?.factors ?? {}) : {},
      chain: pending?.times ?? {},
      started,
      unsubmitted: pending !== undefined && !outcome?.login,
      fedBy: { session: alive ? session?.fedBy : undefined, chain: pending?.fedBy },
    }
    const needed = requirement(params, client, known, available(known), at, signedInBy(proofs))
    const subject = known && {
      id: known.id,
      enrolled: known.enrolled,
      reserved:
        // "Not you?" drops the outcome and with it the right to enrol, though the chain is the same.
        outcome?.reservedFor === known.id &&
        cid !== undefined &&
        known.recoveryCode?.reservedBy === cid &&
        (known.recoveryCode.reservedUntil ?? 0) > at,
      unacknowledged: known.recoveryCode?.acknowledged === false,
      renewed: outcome?.renewedFor === known.id,
      reset: known.factorReset?.open === true,
      linked:
        outcome?.linkedFor?.accountId === known.id &&
        outcome.linkedFor.securityEpoch === known.securityEpoch &&
        cid !== undefined &&
        known.factorReset?.heldBy === cid &&
        (known.factorReset.heldUntil ?? 0) > at,
    }
    const open = openReasons(needed, subject, proofs, at, { differentAccount: outcome?.differentAccount ?? false })
    return {
      account: known,
      alive,
      requirement: needed,
      proofs,
      open,
      claims: known && !open ? claimsOf(needed, proofs) : undefined,
    }
  }
}
