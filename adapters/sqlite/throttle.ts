import {
  type Counter,
  countAttempt,
  type ThrottleRule,
  type ThrottleState,
  type ThrottleStore,
  type ThrottleVerdict,
  uncountAttempt,
} from '../../interactions/kit/stores.ts'
import type { Connection, Row } from './driver.ts'

/** A streak is kept for long: a stranger must not get a fresh count by waiting. */
const STREAK_KEPT = 90 * 24 * 60 * 60

/** Counters, taken all together under the write lock. */
export class SqliteThrottle implements ThrottleStore {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async take(counters: Counter[], now: number): Promise<ThrottleVerdict> {
    return this.#connection.write(() => {
      const taken = counters.map(({ key, rule }) => ({ key, rule, ...countAttempt(this.#state(key), rule, now) }))
      const refusing = taken.filter(({ next }) => !next).sort((a, b) => b.retryAfter - a.retryAfter)[0]
      if (refusing) return { allowed: false, retryAfter: refusing.retryAfter, key: refusing.key }

      for (const { key, rule, next } of taken) this.#write(key, rule, next!, now)
      const left = taken.flatMap((one) => one.left ?? [])
      return {
        allowed: true,
        retryAfter: 0,
        key: taken.find((one) => one.left === 0)?.key,
        left: left.length > 0 ? Math.min(...left) : undefined,
        counts: taken.map(({ next }) => next!.count),
      }
    })
  }

  async look(keys: string[]): Promise<(ThrottleState | undefined)[]> {
    return keys.map((key) => this.#state(key))
  }

  async giveBack(counters: Counter[], counts: number[]): Promise<void> {
    await this.#connection.write(() => {
      for (const [index, { key }] of counters.entries()) {
        const next = uncountAttempt(this.#state(key), counts[index]!)
        if (next)
          this.#connection.run(
            'UPDATE throttles SET count = ?, blocked_until = ?, disabled = ? WHERE key = ?',
            next.count,
            next.blockedUntil,
            next.disabled ? 1 : 0,
            key,
          )
      }
    })
  }

  async clear(keys: string[]): Promise<void> {
    if (keys.length === 0) return
    const sql = `DELETE FROM throttles WHERE key IN (${keys.map(() => '?').join(', ')})`
    await this.#connection.write(() => this.#connection.run(sql, ...keys))
  }

  #state(key: string): ThrottleState | undefined {
    const row = this.#connection.get('SELECT * FROM throttles WHERE key = ?', key)
    return row && stateOf(row)
  }

  #write(key: string, rule: ThrottleRule, next: ThrottleState, now: number): void {
    const keptUntil = next.disabled
      ? Number.MAX_SAFE_INTEGER
      : now + (rule.kind === 'window' ? rule.seconds : STREAK_KEPT)
    this.#connection.run(
      'INSERT OR REPLACE INTO throttles (key, count, since, blocked_until, disabled, kept_until) VALUES (?, ?, ?, ?, ?, ?)',
      key,
      next.count,
      next.since,
      next.blockedUntil,
      next.disabled ? 1 : 0,
      keptUntil,
    )
  }
}

const stateOf = (row: Row): ThrottleState => ({
  count: Number(row['count']),
  since: Number(row['since']),
  blockedUntil: Number(row['blocked_until']),
  disabled: row['disabled'] === 1,
})
