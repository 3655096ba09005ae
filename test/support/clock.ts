/** A clock that tests set. The library, its cookies and our code all read `Date.now()`. */
const real = Date.now
let skew = 0

Date.now = () => real() + skew * 1000

/** Lets `seconds` pass. */
export const wait = (seconds: number): void => {
  skew += seconds
}

/** Seconds since 1970, by the set clock. */
export const now = (): number => Math.floor(Date.now() / 1000)

/** The first second of the next time step of an authenticator app, so that a test never straddles two. */
export const nextStep = (): void => wait(30 - (now() % 30))
