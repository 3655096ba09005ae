/** The one file that knows which SQLite this is: `node:sqlite` where the running Node has it, its twin on Node 20. */
import { chmodSync, closeSync, existsSync, fdatasync, fsyncSync, openSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { StoreUnavailable } from '../../interactions/kit/stores.ts'
import { CommitQueue, type WriteOptions } from './commit-queue.ts'
import { CurrentRows, type Touched, touchedBy } from './current-rows.ts'

/** What can be bound to a parameter. */
export type Value = string | number | null | Uint8Array

/** A row as it is read. */
export type Row = Record<string, Value>

interface Statement {
  run(...values: Value[]): { changes: number | bigint }
  all(...values: Value[]): Row[]
}

interface DatabaseSync {
  exec(sql: string): void
  prepare(sql: string): Statement
  close(): void
}

type Driver = { DatabaseSync: new (file: string, options?: { readOnly: boolean }) => DatabaseSync }

const require = createRequire(import.meta.url)

/** Node 22.13 and later have it without a flag; the twin's API is the same (docs/decisions/node-sqlite-and-its-twin.md). */
function driver(): Driver {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  return require(major > 22 || (major === 22 && minor >= 13) ? 'node:sqlite' : '@photostructure/sqlite') as Driver
}

/** BUSY, LOCKED, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB: the database cannot answer (sqlite.org/rescode.html). */
const OUTAGE = new Set([5, 6, 8, 10, 11, 13, 14, 15, 26])

/** The same in SQLite's words: the twin's all() throws without a number. */
const OUTAGE_TEXT =
  /^(database (table )?is locked|attempt to write a readonly database|disk I\/O error|database disk image is malformed|database or disk is full|unable to open database file|locking protocol|file is not a database)/

/** Stands in the header of our files: "saly" (sqlite.org/fileformat.html §1.3.13). */
export const APPLICATION_ID = 0x73616c79

/** How a file is opened. */
export interface ConnectionOptions {
  synchronous: 'FULL' | 'NORMAL'
  maxPages?: number | undefined
  /** Milliseconds that a writer waits for another process. */
  busyMs: number
  /** Nothing is made and nothing is written. */
  readOnly?: boolean | undefined
}

/** A connection to one file: statements prepared once, errors that mean an outage named so. */
export class Connection {
  readonly #file: string
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, { statement: Statement; touched: Touched }>()
  readonly #rows = new CurrentRows(() => this.get('PRAGMA data_version')!['data_version']!)
  #writing = false
  #waits = 0
  readonly #busyMs: number
  readonly #queue: CommitQueue
  #log: number | undefined
  /** How often the disk was waited for: for measurements and tests. */
  syncs = 0
  readonly #readOnly: boolean
  #open = true

  /** @throws {StoreUnavailable} when the file cannot be opened or is no database */
  constructor(file: string, options: ConnectionOptions) {
    const { DatabaseSync } = driver()
    this.#file = file
    this.#readOnly = options.readOnly === true
    this.#busyMs = options.busyMs
    this.#queue = new CommitQueue(
      {
        begin: () => {
          this.#tryBegin()
          this.#writing = true
        },
        exec: (sql) => void this.run(sql),
        end: () => {
          this.#writing = false
        },
        isBusy,
        sync: options.synchronous === 'FULL' && file !== ':memory:' ? () => this.#sync() : undefined,
      },
      options.busyMs,
    )
    this.#database = this.#guarded(() => {
      if (file !== ':memory:') {
        // Opened here only to make it: closing any handle of an open database drops this process's locks on it.
        if (!options.readOnly && !existsSync(file)) makeFile(file) // -wal and -shm take the mode of the file
      }
      return options.readOnly ? new DatabaseSync(file, { readOnly: true }) : new DatabaseSync(file)
    })
    try {
      this.#configure(options)
    } catch (error) {
      this.close()
      throw error
    }
  }

  #configure({ maxPages, busyMs }: ConnectionOptions): void {
    this.#waitInside(busyMs)
    this.#refuseForeign()
    if (this.#readOnly) return
    if (this.#file !== ':memory:') chmodSync(this.#file, 0o600)
    this.#useWriteAheadLog(busyMs)
    // SQLite's FULL would stop the event loop at each commit: the queue waits for the disk instead (docs/decisions/group-commit.md).
    this.exec('PRAGMA synchronous = NORMAL')
    this.exec('PRAGMA foreign_keys = ON')
    if (maxPages !== undefined) this.exec(`PRAGMA max_page_count = ${maxPages}`)
  }

  exec(sql: string): void {
    this.#rows.forget(touchedBy(sql))
    this.#guarded(() => this.#database.exec(sql))
  }

  /** @returns the number of rows that were changed */
  run(sql: string, ...values: Value[]): number {
    return this.#guarded(() => {
      const { statement, touched } = this.#statement(sql)
      this.#rows.forget(touched)
      return Number(statement.run(...values).changes)
    })
  }

  /** As {@link run}, for a statement that changes no other row of `artifacts` than this one, and no other table. */
  runOnArtifact(model: string, key: string, sql: string, ...values: Value[]): number {
    return this.#guarded(() => {
      this.#rows.forgetArtifact(model, key)
      return Number(this.#statement(sql).statement.run(...values).changes)
    })
  }

  get(sql: string, ...values: Value[]): Row | undefined {
    // To its end: a write with RETURNING commits, or fails to, after its last row, and get() would not say so.
    return this.all(sql, ...values)[0]
  }

  all(sql: string, ...values: Value[]): Row[] {
    return this.#guarded(() => {
      const { statement, touched } = this.#statement(sql)
      this.#rows.forget(touched)
      return this.#patiently(() => statement.all(...values))
    })
  }

  /** The row of `artifacts` with this key, from memory as long as it says the same there. Not to be changed. */
  artifact(model: string, key: string): Row | undefined {
    const read = () => this.get('SELECT * FROM artifacts WHERE model = ? AND key = ?', model, key)
    return this.#writing ? read() : this.#guarded(() => this.#rows.artifact(model, key, read))
  }

  /** As {@link all}, of tables that seldom change, from memory as long as it says the same there. Not to be changed. */
  settled(sql: string, ...values: string[]): readonly Row[] {
    const read = () => this.all(sql, ...values)
    return this.#writing ? read() : this.#guarded(() => this.#rows.settled(sql, values.join('\0'), read))
  }

  /**
   * Runs `work` in the next common commit. All that a store writes goes through here.
   *
   * @see CommitQueue.add
   */
  write<T>(work: () => T, options?: WriteOptions): Promise<T> {
    return this.#queue.add(work, options)
  }

  /** Resolves when every write has been answered. */
  idle(): Promise<void> {
    return this.#queue.idle()
  }

  /** What FULL does after a commit: the write-ahead log goes to the disk. Its file stays the same while we have it open. */
  async #sync(): Promise<void> {
    if (this.#log === undefined) {
      this.#log = openSync(`${this.#file}-wal`, 'r')
      const folder = openSync(dirname(this.#file), 'r')
      fsyncSync(folder) // the name of a new file, once
      closeSync(folder)
    }
    await toDisk(this.#log)
    this.syncs += 1
  }

  /** Common commits so far. */
  get commits(): number {
    return this.#queue.commits
  }

  /** Runs `work` at once, all or nothing, with the write lock held from the start. Blocks: only for opening a file. */
  transaction<T>(work: () => T): T {
    this.#waitInside(this.#busyMs)
    this.exec('BEGIN IMMEDIATE')
    try {
      const result = work()
      this.exec('COMMIT')
      return result
    } catch (error) {
      try {
        this.exec('ROLLBACK')
      } catch {
        // SQLite has rolled back by itself (a full disk); the first error says why.
      }
      throw error
    }
  }

  close(): void {
    if (!this.#open) return
    try {
      // The twin cannot end its statements, so its close() leaves the log beside the file: whoever copies the file alone loses it.
      if (!this.#readOnly) this.#database.exec('PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)')
    } catch {
      // Somebody else is at it, or the disk is full: the log stays, and the next one to open the file reads it.
    }
    this.#open = false
    this.#statements.clear()
    if (this.#log !== undefined) closeSync(this.#log)
    this.#database.close()
  }

  /** The event loop must not stand still while another process writes: the queue waits, not SQLite. */
  #tryBegin(): void {
    this.#waitInside(0)
    this.run('BEGIN IMMEDIATE')
  }

  /** Whether SQLite itself waits for others. Said only when it changes: it costs as much as a read. */
  #waitInside(milliseconds: number): void {
    if (this.#waits !== milliseconds) this.exec(`PRAGMA busy_timeout = ${milliseconds}`)
    this.#waits = milliseconds
  }

  /** A reader waits only for somebody who makes the log ready, for a moment. */
  #patiently<T>(read: () => T): T {
    for (const start = Date.now(); ; pause(1))
      try {
        return read()
      } catch (error) {
        if (!LOCKED.test((error as Error).message) || Date.now() - start > this.#busyMs) throw error
      }
  }

  /** A mistyped path must not change another program's database: nothing is written before this. */
  #refuseForeign(): void {
    // In this order: another process that is making the file writes tables and id in one commit.
    const foreign = this.get("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
    if (foreign && this.get('PRAGMA application_id')!['application_id'] !== APPLICATION_ID)
      throw new StoreUnavailable(
        `the database ${this.#file} belongs to another program, it holds "${foreign['name']}": name another file`,
      )
  }

  /** Of processes that open a new file at once SQLite refuses all but one here, without waiting. So we wait. */
  #useWriteAheadLog(busyMs: number): void {
    for (const start = Date.now(); ; pause(20))
      try {
        this.exec('PRAGMA journal_mode = WAL')
        return
      } catch (error) {
        if (!/is locked/.test((error as Error).message) || Date.now() - start > busyMs) throw error
      }
  }

  #guarded<T>(work: () => T): T {
    if (!this.#open) throw new StoreUnavailable(`the database ${this.#file} is closed`)
    try {
      return work()
    } catch (error) {
      const { errcode, code, message } = error as { errcode?: number; code?: string; message: string }
      const outage =
        typeof errcode === 'number'
          ? OUTAGE.has(errcode & 0xff)
          : /^E[A-Z]+$/.test(code ?? '') || OUTAGE_TEXT.test(message)
      if (outage) throw new StoreUnavailable(`the database ${this.#file} does not answer: ${message}`, { cause: error })
      throw error
    }
  }

  #statement(sql: string) {
    const known = this.#statements.get(sql)
    if (known) return known
    const fresh = { statement: this.#database.prepare(sql), touched: touchedBy(sql) }
    this.#statements.set(sql, fresh)
    return fresh
  }
}

function makeFile(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error // another process was first
  }
}

const toDisk = promisify(fdatasync)

const pause = (milliseconds: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)

const LOCKED = /database (table )?is locked/

const isBusy = (error: unknown): boolean => error instanceof StoreUnavailable && LOCKED.test(error.message)

/** True for a violated UNIQUE or PRIMARY KEY constraint. */
export const isDuplicate = (error: unknown): boolean =>
  ((error as { errcode?: number }).errcode ?? 0) % 256 === 19 && /UNIQUE|PRIMARY KEY/.test((error as Error).message)
