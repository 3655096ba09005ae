/**
 * Rows kept in memory that are never older than the file: the rule by which SQLite keeps pages. They count as long as
 * `PRAGMA data_version` says that nobody else has committed and no statement of ours has written there
 * (docs/decisions/rows-kept-in-memory.md).
 */
import type { Row, Value } from './driver.ts'

/** What is remembered of a family at most: then it begins anew. */
const MOST = 2000

/** Tables that no kept row is made of. A write to any other table forgets what could be made of it. */
const NEVER_KEPT = new Set([
  'audit',
  'destroyed',
  'devices',
  'ended_sessions',
  'federation_requests',
  'federation_traces',
  'mailed_links',
  'outbox',
  'pending',
  'throttles',
  'used_assertions',
])

/** Changes nothing that could be read; pragmas are the driver's own. */
const NO_WRITE = /^\s*(SELECT|PRAGMA|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b/i
const WRITTEN = /^\s*(?:INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM) (\w+)/i

/** What a statement may change: rows of `artifacts`, what is settled (people, apps, companies …), or all of it. */
export type Touched = 'nothing' | 'artifacts' | 'settled' | 'all'

/** By its words. What is not understood is taken to change everything. */
export function touchedBy(sql: string): Touched {
  if (NO_WRITE.test(sql)) return 'nothing'
  const table = WRITTEN.exec(sql)?.[1]
  if (table === undefined) return 'all'
  if (NEVER_KEPT.has(table)) return 'nothing'
  return table === 'artifacts' ? 'artifacts' : 'settled'
}

/** @throws {TypeError} for a statement that reads what changes without a word to {@link CurrentRows.forget} */
function refuseUnsettled(sql: string): void {
  const table = sql.match(/\w+/g)?.find((word) => word === 'artifacts' || NEVER_KEPT.has(word))
  if (table !== undefined) throw new TypeError(`rows of ${table} are not settled: read them with get or all`)
}

/** Of one connection. */
export class CurrentRows {
  readonly #version: () => Value
  readonly #artifacts = new Map<string, Row | undefined>()
  readonly #settled = new Map<string, Map<string, readonly Row[]>>()
  #size = 0
  #seen: Value | undefined
  #looked = false

  /** @param version differs from what it was when another connection has committed since then */
  constructor(version: () => Value) {
    this.#version = version
  }

  /** The row of `artifacts` with this key. */
  artifact(model: string, key: string, read: () => Row | undefined): Row | undefined {
    this.#look()
    const place = `${model} ${key}`
    const known = this.#artifacts.get(place)
    if (known !== undefined || this.#artifacts.has(place)) return known
    const row = read()
    if (this.#artifacts.size >= MOST) this.#artifacts.clear()
    this.#artifacts.set(place, row)
    return row
  }

  /** What this statement finds in tables that seldom change. It must not depend on the time. */
  settled(sql: string, value: string, read: () => readonly Row[]): readonly Row[] {
    this.#look()
    const known = this.#settled.get(sql)?.get(value)
    if (known) return known
    const rows = read()
    if (this.#size >= MOST) this.forget('settled')
    this.#size += 1
    const ofStatement = this.#settled.get(sql) ?? new Map<string, readonly Row[]>()
    if (ofStatement.size === 0) refuseUnsettled(sql)
    this.#settled.set(sql, ofStatement.set(value, rows))
    return rows
  }

  /** Call it when the statement runs: inside its transaction nothing is read from here. */
  forget(touched: Touched): void {
    if (touched === 'artifacts' || touched === 'all') this.#artifacts.clear()
    if (touched === 'settled' || touched === 'all') {
      this.#settled.clear()
      this.#size = 0
    }
  }

  /** Of a statement that changes no other row than this one. */
  forgetArtifact(model: string, key: string): void {
    this.#artifacts.delete(`${model} ${key}`)
  }

  /**
   * Asks once until the microtasks end. Nothing that anybody sends arrives in between, so that nobody can have been told
   * of a change before they asked us: who asks after it is read by a later callback, which looks again.
   */
  #look(): void {
    if (this.#looked) return
    const version = this.#version()
    if (version !== this.#seen) this.forget('all')
    this.#seen = version
    this.#looked = true
    process.nextTick(() => {
      this.#looked = false
    })
  }
}
