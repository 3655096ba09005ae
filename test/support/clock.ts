/** A clock that tests set. The library, its cookies and our code all read `Date.now()`. */
const real = Date.now
let skew = 0
let stopped: number | undefined

Date.now = () => (stopped ?? real()) + skew * 1000

/** Lets `seconds` pass. */
export const wait = (seconds: number): void => {
  skew += seconds
}

/** Seconds since 1970, by the set clock. */
export const now = (): number => Math.floor(Date.now() / 1000)

/** The first second of the next time step of an authenticator app, so that a test never straddles two. */
export const nextStep = (): void => wait(30 - (now() % 30))

/** From here on no time passes but by {@link wait}, until the returned function is called. */
export function standStill(): () => void {
  stopped = real()
  return () => {
    stopped = undefined
  }
}
