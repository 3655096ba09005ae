/** A clock that tests set. The library, its cookies and our code all read `Date.now()`. */

/** One for the whole process: this module may be loaded more than once. */
const shared = globalThis as { clockOfTests?: { real: () => number; skew: number; stopped: number | undefined } }
shared.clockOfTests ??= { real: Date.now, skew: 0, stopped: undefined }
const clock = shared.clockOfTests

Date.now = () => (clock.stopped ?? clock.real()) + clock.skew * 1000

/** Lets `seconds` pass. */
export const wait = (seconds: number): void => {
  clock.skew += seconds
}

/** Seconds since 1970, by the set clock. */
export const now = (): number => Math.floor(Date.now() / 1000)

/** The first second of the next time step of an authenticator app, so that a test never straddles two. */
export const nextStep = (): void => wait(30 - (now() % 30))

/** From here on no time passes but by {@link wait}, until the returned function is called. */
export function standStill(): () => void {
  clock.stopped = clock.real()
  return () => {
    clock.stopped = undefined
  }
}

/** What happens from here on happens now, as other processes see it, until the returned function is called. */
export function realTime(): () => void {
  const former = clock.skew
  clock.skew = 0
  return () => {
    clock.skew += former
  }
}
