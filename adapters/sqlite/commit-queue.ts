/** Group commit: all writes in flight share one transaction (docs/decisions/group-commit.md). */
import { StoreUnavailable } from '../../interactions/kit/stores.ts'

/** The statements that the queue needs of a connection. */
export interface Transactions {
  /** Takes the write lock without waiting for it. @throws when another process holds it */
  begin(): void
  exec(sql: string): void
  /** The transaction is over, one way or the other. */
  end?: (() => void) | undefined
  /** Makes what was committed so far survive a power loss, away from the event loop. Absent: nothing waits for the disk. */
  sync?: (() => Promise<void>) | undefined
  /** True for the error of a lock that somebody else holds: it is worth another try. */
  isBusy(error: unknown): boolean
}

/** How a work is answered. */
export interface WriteOptions {
  undo?: (() => void) | undefined
  ahead?: boolean | undefined
}

interface Entry {
  work: () => unknown
  undo: (() => void) | undefined
  ahead: boolean
  since: number
  resolve: (result: never) => void
  reject: (error: unknown) => void
}

/** What became of a work inside the transaction. */
type Outcome = { entry: Entry; result: unknown } | { entry: Entry; error: unknown }

/** Milliseconds between two tries for a lock that another process holds, the last one repeated. */
const PAUSES = [1, 2, 5, 10, 20]

/**
 * Works that wait for the next commit. At the end of the event loop's turn they run one after another, each in a savepoint
 * of its own, and are answered together when their common commit is done and on the disk. What comes while the disk is
 * written waits for the commit after it.
 */
export class CommitQueue {
  readonly #transactions: Transactions
  readonly #busyMs: number
  #waiting: Entry[] = []
  #scheduled = false
  #syncing = false
  #lost: StoreUnavailable | undefined
  #tries = 0
  #idle: (() => void)[] = []
  /** Commits so far: for measurements and tests. */
  commits = 0

  /** @param busyMs how long a work waits for the write lock of another process */
  constructor(transactions: Transactions, busyMs: number) {
    this.#transactions = transactions
    this.#busyMs = busyMs
  }

  /**
   * Runs `work` in the next transaction. It must be synchronous and must not begin a transaction of its own.
   *
   * @param options.undo takes back what `work` changed in memory, when the commit fails after it
   * @param options.ahead answer when it is committed and not on the disk yet. Whoever says so adds another work before
   * anything leaves: the log has one order, so what is on the disk then was written after this
   * @returns what `work` returned, once it is committed and on the disk
   * @throws what `work` threw: then nothing of it is written, and its neighbours are not disturbed
   * @throws {StoreUnavailable} when the commit failed: then nothing of the whole transaction is written. When the disk
   * failed, nobody knows what is written, and every later work is refused
   */
  add<T>(work: () => T, { undo, ahead = false }: WriteOptions = {}): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#lost) return reject(this.#lost)
      this.#waiting.push({ work, undo, ahead, since: performance.now(), resolve, reject })
      this.#schedule()
    })
  }

  #schedule(): void {
    if (this.#scheduled || this.#syncing || this.#waiting.length === 0) return
    this.#scheduled = true
    setImmediate(() => this.#flush())
  }

  /** Resolves when nothing waits any more. */
  async idle(): Promise<void> {
    if (this.#waiting.length > 0 || this.#syncing) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  #flush(): void {
    try {
      this.#transactions.begin()
    } catch (error) {
      this.#postpone(error)
      return
    }
    const entries = this.#waiting
    this.#waiting = []
    this.#scheduled = false
    this.#tries = 0
    this.#commit(entries)
    this.#tellIdle()
  }

  /** Another process holds the lock: who has waited long enough is refused, the others are tried again in a moment. */
  #postpone(error: unknown): void {
    const now = performance.now()
    const patient = this.#transactions.isBusy(error)
      ? this.#waiting.filter(({ since }) => now - since < this.#busyMs)
      : []
    const refused = this.#waiting.filter((entry) => !patient.includes(entry))
    this.#waiting = patient
    this.#scheduled = patient.length > 0
    if (this.#scheduled) setTimeout(() => this.#flush(), PAUSES[Math.min(this.#tries++, PAUSES.length - 1)])
    else this.#tries = 0
    for (const { reject } of refused) reject(error)
    this.#tellIdle()
  }

  #commit(entries: Entry[]): void {
    const outcomes: Outcome[] = []
    try {
      for (const entry of entries) outcomes.push(this.#run(entry))
      this.#transactions.exec('COMMIT')
      this.commits += 1
    } catch (cause) {
      this.#rollBack()
      for (const outcome of outcomes.reverse()) if ('result' in outcome) outcome.entry.undo?.()
      const message = `the commit failed, nothing was written: ${(cause as Error).message}`
      for (const { reject } of entries) reject(new StoreUnavailable(message, { cause }))
      return
    } finally {
      this.#transactions.end?.()
    }
    const { sync } = this.#transactions
    const waiting = sync ? outcomes.filter(({ entry }) => !entry.ahead) : []
    answer(outcomes.filter((outcome) => !waiting.includes(outcome)))
    // Who was answered ahead comes back for the disk: together with others, which is one wait less.
    if (sync && waiting.length > 0) void this.#sync(sync, waiting)
    else this.#schedule()
  }

  async #sync(sync: () => Promise<void>, outcomes: Outcome[]): Promise<void> {
    this.#syncing = true
    try {
      await sync()
      answer(outcomes)
    } catch (cause) {
      // The kernel forgets what it could not write and calls the next try a success: what follows would stand on nothing.
      const message = `the disk failed, writes are refused until a restart: ${(cause as Error).message}`
      this.#lost = new StoreUnavailable(message, { cause })
      for (const { reject } of [...outcomes.map(({ entry }) => entry), ...this.#waiting.splice(0)]) reject(this.#lost)
    }
    this.#syncing = false
    this.#schedule()
    this.#tellIdle()
  }

  /** @throws what the work threw, when that took the whole transaction with it, as a full disk may */
  #run(entry: Entry): Outcome {
    this.#transactions.exec('SAVEPOINT work')
    try {
      const result = entry.work()
      this.#transactions.exec('RELEASE work')
      return { entry, result }
    } catch (error) {
      try {
        this.#transactions.exec('ROLLBACK TO work')
        this.#transactions.exec('RELEASE work')
      } catch {
        throw error
      }
      return { entry, error }
    }
  }

  #rollBack(): void {
    try {
      this.#transactions.exec('ROLLBACK')
    } catch {
      // SQLite has rolled back by itself; the first error says why.
    }
  }

  #tellIdle(): void {
    if (this.#waiting.length === 0 && !this.#syncing) for (const tell of this.#idle.splice(0)) tell()
  }
}

function answer(outcomes: Outcome[]): void {
  for (const outcome of outcomes)
    if ('error' in outcome) outcome.entry.reject(outcome.error)
    else outcome.entry.resolve(outcome.result as never)
}
