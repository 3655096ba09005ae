/** Passwords: what one may be, and how it is kept. Pure proof: knows no account and no store. */
import { availableParallelism } from 'node:os'
import { hash, verify } from '@node-rs/argon2'

/** Cost of one hash and how many may run or wait at once. */
export interface HashingOptions {
  /** KiB of memory per hash; at least 19456 with 2 passes, or 47104 with 1 (OWASP Password Storage). */
  memoryKiB: number
  passes: number
  parallelism: number
  /** Hashes at work at the same time; each holds `memoryKiB`. */
  concurrency: number
  /** Callers that may wait; one more is refused with {@link HashingOverloaded}. */
  queue: number
  /**
   * Verifies hashes that are not argon2's: those that an app made before. They count as outdated, so they are replaced
   * when their owner signs in.
   */
  foreign?: (hash: string, secret: string) => boolean | Promise<boolean>
}

/** Too many hashes are waiting. The answer is 503 with Retry-After, before memory runs out (ASVS 2.4.1). */
export class HashingOverloaded extends Error {
  override readonly name = 'HashingOverloaded'
  /** Seconds. */
  readonly retryAfter = 5
  constructor() {
    super('too many passwords are being checked at once')
  }
}

/** Hashes and verifies secrets with argon2id, a bounded number at a time. */
export interface PasswordHasher {
  /** PHC string, 16-byte random salt. @throws {HashingOverloaded} */
  hash(secret: string): Promise<string>
  /**
   * True when the secret belongs to the hash. Without a hash it costs the same and is false, so that an unknown
   * account takes as long as a known one (OWASP Authentication).
   * @throws {HashingOverloaded}
   */
  verify(phc: string | undefined, secret: string): Promise<boolean>
  /** True when the hash was made with other parameters than today's. */
  isOutdated(phc: string): boolean
}

/**
 * @param options by default 64 MiB and 2 passes, as many at once as there are processor cores, and 64 waiting
 * @throws {RangeError} when the parameters are below the floor
 */
export function createPasswordHasher(options: Partial<HashingOptions> = {}): PasswordHasher {
  const { memoryKiB = 65536, passes = 2, parallelism = 1, foreign } = options
  const { concurrency = availableParallelism(), queue = 64 } = options
  if (!(memoryKiB >= 19456 && passes >= 2) && !(memoryKiB >= 47104 && passes >= 1))
    throw new RangeError('argon2id needs at least 19456 KiB with 2 passes, or 47104 KiB with 1')

  // The library's default algorithm is argon2id; its enum cannot be imported under verbatimModuleSyntax.
  const parameters = { memoryCost: memoryKiB, timeCost: passes, parallelism }
  const today = `$argon2id$v=19$m=${memoryKiB},t=${passes},p=${parallelism}$`
  const bounded = gate(concurrency, queue)
  // Nobody knows what it was made from. Made once, when the first unknown account is asked for.
  let dummy: Promise<string> | undefined
  const dummyHash = () => {
    dummy ??= hash(`${Math.random()}${process.hrtime.bigint()}`, parameters)
    return dummy
  }
  void dummyHash()

  const isOutdated = (phc: string) => !phc.startsWith(today)
  // A hash that cannot be read (a damaged import) is a wrong password like any other.
  const matches = async (phc: string, secret: string) => {
    if (foreign && !phc.startsWith('$argon2')) return foreign(phc, secret)
    return verify(phc, normalise(secret)).catch((error: Error) => {
      if (/decod|invalid/i.test(error.message)) return false
      throw error
    })
  }

  return {
    hash: (secret) => bounded(() => hash(normalise(secret), parameters)),
    async verify(phc, secret) {
      const unknown = await dummyHash()
      return bounded(async () => {
        // A hash of other parameters takes another time: today's runs beside it, so that the answer never comes sooner.
        const asToday = phc !== undefined && !isOutdated(phc) ? undefined : matches(unknown, secret)
        const right = phc !== undefined && (await matches(phc, secret))
        await asToday
        return right
      })
    },
    isOutdated,
  }
}

/** At most this many code points; longer ones are refused, never cut. */
export const PASSWORD_MAX_LENGTH = 256

/**
 * The first rule that this new password breaks, or `undefined`.
 * Length counts code points after NFC (NIST SP 800-63B-4 §3.1.1.2); no composition rules.
 */
export function checkPassword(
  password: string,
  minLength = 15,
): 'password_too_short' | 'password_too_long' | undefined {
  const length = [...normalise(password)].length
  if (length < minLength) return 'password_too_short'
  if (length > PASSWORD_MAX_LENGTH) return 'password_too_long'
  return undefined
}

/** NFC only: never trimmed, folded or cut. */
const normalise = (secret: string) => secret.normalize('NFC')

/** Runs at most `concurrency` tasks; `queue` more may wait in order. */
function gate(concurrency: number, queue: number) {
  let running = 0
  const waiting: (() => void)[] = []
  return async <T>(task: () => Promise<T>): Promise<T> => {
    if (running >= concurrency) {
      if (waiting.length >= queue) throw new HashingOverloaded()
      await new Promise<void>((go) => waiting.push(go))
    } else running += 1
    try {
      return await task()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else running -= 1
    }
  }
}
