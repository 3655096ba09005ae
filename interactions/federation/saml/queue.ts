/** One response at a time: reading XML does not wait for anything, so many at once would only keep everybody else waiting. */

/** Too many wait already. The answer is 503 with Retry-After. */
export class VerificationOverloaded extends Error {
  override readonly name = 'VerificationOverloaded'
  /** Seconds. */
  readonly retryAfter = 5
  constructor() {
    super('too many sign-ins by company SSO are being verified at once')
  }
}

/** Lets everybody else have a turn of the event loop. */
export const yieldTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/**
 * Runs works one after another, with a turn of the event loop between them.
 *
 * @param limit works that may wait; one more is refused with {@link VerificationOverloaded}
 */
export function oneAtATime(limit: number): <T>(work: () => Promise<T>) => Promise<T> {
  let waiting = 0
  let last: Promise<unknown> = Promise.resolve()
  return (work) => {
    if (waiting > limit) return Promise.reject(new VerificationOverloaded())
    waiting += 1
    const result = last.then(yieldTurn).then(work)
    last = result
      .catch(() => undefined)
      .finally(() => {
        waiting -= 1
      })
    return result
  }
}
