import { randomBytes } from 'node:crypto'
import {
  type Counter,
  countAttempt,
  type ThrottleRule,
  type ThrottleState,
  type ThrottleStore,
  type ThrottleVerdict,
  uncountAttempt,
} from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, insert, NEWEST, oneOf, wasFirst } from './driver.ts'
import type { Collections, ThrottleDocument } from './schemas.ts'

/** A streak is kept for long: a stranger must not get a fresh count by waiting. */
const STREAK_KEPT = 90 * 24 * 60 * 60
/** Seconds that a row stays after its time, for clocks that differ. */
export const THROTTLE_KEPT = 60

/** A counter after an attempt was taken from it, with what it was before. */
interface Taken {
  counter: Counter
  left: number | undefined
  before: ThrottleDocument | undefined
  after: ThrottleDocument
}

/**
 * Counters, taken one after another, each by compare-and-set; what was taken is given back when a later one refuses.
 *
 * An allowed attempt holds one count of every counter from before it is allowed, and gives none back. So no more than the
 * limit are ever allowed, whatever happens between two steps: a process that dies there has counted an attempt that
 * nobody made. The price is that an attempt about to be given back may refuse somebody at the last place of a limit.
 * It is rare: all counters are read first, and nothing is taken when one of them refuses already.
 */
export class MongoThrottle implements ThrottleStore {
  readonly #connection: Connection
  readonly #throttles: Collections['throttles']

  constructor(connection: Connection, { throttles }: Collections) {
    this.#connection = connection
    this.#throttles = throttles
  }

  async take(counters: Counter[], now: number): Promise<ThrottleVerdict> {
    const states = await this.#states(counters)
    const refusing = counters
      .map(({ key, rule }) => ({ key, ...countAttempt(states.get(key), rule, now) }))
      .filter(({ next }) => !next)
      .sort((a, b) => b.retryAfter - a.retryAfter)[0]
    if (refusing) return { allowed: false, retryAfter: refusing.retryAfter, key: refusing.key }

    const taken: Taken[] = []
    for (const counter of inOrder(counters)) {
      const one = await this.#takeOne(counter, now, states.get(counter.key))
      if ('retryAfter' in one) {
        for (const earlier of taken.reverse()) await this.#giveBack(earlier)
        return { allowed: false, retryAfter: one.retryAfter, key: counter.key }
      }
      taken.push(one)
    }
    const left = taken.flatMap((one) => one.left ?? [])
    const last = counters.find((counter) => taken.some((one) => one.counter === counter && one.left === 0))
    const countOf = (counter: Counter) => taken.find((one) => one.counter === counter)!.after.count
    return {
      allowed: true,
      retryAfter: 0,
      key: last?.key,
      left: left.length > 0 ? Math.min(...left) : undefined,
      counts: counters.map(countOf),
    }
  }

  async look(keys: string[]): Promise<(ThrottleState | undefined)[]> {
    const states = await this.#states(keys.map((key) => ({ key })))
    return keys.map((key) => {
      const found = states.get(key)
      if (!found) return undefined
      const { count, since, blockedUntil, disabled } = found
      return { count, since, blockedUntil, disabled }
    })
  }

  async giveBack(counters: Counter[], counts: number[]): Promise<void> {
    for (const [index, counter] of counters.entries())
      for (;;) {
        const before = (await this.#states([counter])).get(counter.key)
        const next = uncountAttempt(before, counts[index]!)
        if (!before || !next || (await this.#replace(before, documentOf(counter, next, before, before.since)))) break
      }
  }

  async clear(keys: string[]): Promise<void> {
    if (keys.length === 0) return
    await this.#connection.guarded(() => this.#throttles.deleteMany({ _id: oneOf(keys) }, CERTAIN))
  }

  async #states(counters: Pick<Counter, 'key'>[]): Promise<Map<string, ThrottleDocument>> {
    const _id = oneOf(counters.map(({ key }) => key))
    const rows = await this.#connection.guarded(() => this.#throttles.find({ _id }, undefined, NEWEST).lean())
    return new Map(rows.map((row) => [row._id, row]))
  }

  async #takeOne(
    counter: Counter,
    now: number,
    known: ThrottleDocument | undefined,
  ): Promise<Taken | { retryAfter: number }> {
    const { key, rule } = counter
    for (let before = known; ; before = (await this.#states([counter])).get(key)) {
      const { next, retryAfter, left } = countAttempt(before, rule, now)
      if (!next) return { retryAfter }
      const after = documentOf(counter, next, before, now)
      if (await this.#replace(before, after)) return { counter, left, before, after }
    }
  }

  async #giveBack({ before, after }: Taken): Promise<void> {
    const { _id, run, version } = after
    if (before) {
      if (await this.#replace(after, before)) return
    } else {
      const { deletedCount } = await this.#connection.guarded(() =>
        this.#throttles.deleteOne({ _id, version }, CERTAIN),
      )
      if (deletedCount === 1) return
    }
    // Others came after us. Their waits stay as they are; only the count goes down, and only of the same window or streak.
    await this.#connection.guarded(() =>
      this.#throttles.updateOne({ _id, run }, { $inc: { count: -1 }, $set: { version: newName() } }, CERTAIN),
    )
  }

  /** Writes the counter if it is still as it was read. */
  async #replace(before: ThrottleDocument | undefined, after: ThrottleDocument): Promise<boolean> {
    if (!before) return wasFirst(this.#connection.guarded(() => insert(this.#throttles, [after])))
    const { _id, version } = before
    const { matchedCount } = await this.#connection.guarded(() =>
      this.#throttles.replaceOne({ _id, version }, after, CERTAIN),
    )
    return matchedCount === 1
  }
}

/** Windows before streaks, whose waits are harder to take back; then by key, so that no two callers wait in each other's way. */
function inOrder(counters: Counter[]): Counter[] {
  const rank = ({ key, rule }: Counter) => `${rule.kind === 'window' ? 0 : 1}${key}`
  return [...counters].sort((a, b) => (rank(a) < rank(b) ? -1 : 1))
}

function documentOf(
  { key, rule }: Counter,
  next: ThrottleState,
  before: ThrottleDocument | undefined,
  now: number,
): ThrottleDocument {
  const keptUntil = next.disabled ? undefined : now + keptFor(rule)
  return {
    _id: key,
    ...next,
    run: before && next.count > 1 ? before.run : newName(),
    version: newName(),
    ...(keptUntil !== undefined && { keptUntil, expires: new Date((keptUntil + THROTTLE_KEPT) * 1000) }),
  }
}

const keptFor = (rule: ThrottleRule) => (rule.kind === 'window' ? rule.seconds : STREAK_KEPT)
/** A name that no other has. */
export const newName = () => randomBytes(9).toString('base64url')
