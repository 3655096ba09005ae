/** Keeps one network from filling the disk with sign-ins that nobody goes on with. */

/** The longest list of networks that is kept; beyond it, it starts over. */
const MOST_NETWORKS = 50_000

/** Counts what strangers make this process store. */
export interface FloodGuard {
  /** Seconds until this network may begin another one; `undefined`: now. */
  wait(network: string, now: number): number | undefined
  count(network: string, now: number): void
}

/**
 * At most `limit` in 60 seconds per network. In this process only: it guards a disk, not an account, and a write for each
 * look would be what it guards against. N processes let N times as many through.
 */
export function createFloodGuard(limit: number): FloodGuard {
  const networks = new Map<string, { count: number; since: number }>()
  const stateOf = (network: string, now: number) => {
    const state = networks.get(network)
    return state && now < state.since + 60 ? state : undefined
  }
  return {
    wait(network, now) {
      const state = stateOf(network, now)
      return state && state.count >= limit ? state.since + 60 - now : undefined
    },
    count(network, now) {
      const state = stateOf(network, now) ?? { count: 0, since: now }
      if (networks.size >= MOST_NETWORKS) networks.clear()
      networks.set(network, { ...state, count: state.count + 1 })
    },
  }
}
