/** The one file that knows how to reach a MongoDB: an own connection, what each operation asks of the servers, outages named so. */
import {
  type ConnectOptions,
  type InsertManyOptions,
  type Model,
  Mongoose,
  mongo,
  type Connection as Opened,
  trusted,
} from 'mongoose'
import { StoreUnavailable } from '../../interactions/kit/stores.ts'

/** How a database is reached. */
export interface MongoAddress {
  /** `mongodb://HOST/DATABASE` or `mongodb+srv://…`; may hold credentials, which reach no message. */
  url: string
  /** More options of the driver, such as certificates. What the stores stand on cannot be changed here. */
  driver?: ConnectOptions
}

/** Milliseconds. A page waits for the database, so none is long. */
const TIMES = {
  serverSelectionTimeoutMS: 3000,
  connectTimeoutMS: 3000,
  waitQueueTimeoutMS: 3000,
  socketTimeoutMS: 10_000,
} as const

/** On disk at most of the servers, so that no failover takes it back. For everything that happens once or must not be lost. */
export const CERTAIN = { writeConcern: { w: 'majority', journal: true, wtimeoutMS: 5000 } } as const

/** By the primary alone. For what may be lost: which devices were seen, and removing what has expired. */
export const CHEAP = { writeConcern: { w: 1 } } as const

/**
 * The newest that the primary has. For what decides: right after a failover it holds everything acknowledged, which a
 * majority read may not yet. Once-only is not decided by reading anyway, but by the write that follows.
 */
export const NEWEST = { readPreference: 'primary', readConcern: { level: 'local' } } as const

/** Only what no failover takes back. For what is published, copied out or verified: signing keys, the audit. */
export const SETTLED = { readPreference: 'primary', readConcern: { level: 'majority' } } as const

/** Answers of a server that cannot serve: unreachable, not primary, shutting down, out of time or disk, not letting us in. */
const OUTAGE = new Set([
  6, 7, 13, 18, 50, 64, 79, 89, 91, 100, 133, 134, 189, 202, 262, 391, 8000, 9001, 10107, 11600, 11602, 13388, 13435,
  13436, 14031,
])

/** A connection of its own to one database; several may be open in one process. */
export class Connection {
  readonly opened: Opened
  /** The URL without credentials and options: fit for messages. */
  readonly name: string
  readonly #secrets: string[]

  private constructor(opened: Opened, url: string) {
    this.opened = opened
    this.name = nameOf(url)
    this.#secrets = secretsOf(url)
  }

  /** @throws {StoreUnavailable} when no server answers in time, or it does not let us in */
  static async open({ url, driver = {} }: MongoAddress): Promise<Connection> {
    // An instance of its own: nothing is set for an app that uses mongoose itself.
    const mongoose = new Mongoose()
    mongoose.set({ strictQuery: 'throw', sanitizeFilter: true, runValidators: true, bufferCommands: false })
    const opened = mongoose.createConnection()
    const connection = new Connection(opened, url)
    opened.on('error', () => {}) // each operation tells its caller
    try {
      await connection.guarded(() =>
        opened.openUri(url, {
          ...TIMES,
          ...driver,
          autoIndex: false,
          autoCreate: false,
          retryWrites: true,
          retryReads: true,
        }),
      )
    } catch (error) {
      await opened.close().catch(() => {})
      if (error instanceof StoreUnavailable) throw error
      // Without the cause: of an odd URL the driver quotes parts that we do not know to be harmless.
      throw new StoreUnavailable(`the URL of ${connection.name} is of no use: ${connection.#clean(error as Error)}`)
    }
    return connection
  }

  /** Runs `work`; an outage becomes {@link StoreUnavailable}. It was made or not made, never half. */
  async guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!isOutage(error)) throw error
      throw new StoreUnavailable(`the database ${this.name} does not answer: ${this.#clean(error as Error)}`, {
        cause: error,
      })
    }
  }

  async close(): Promise<void> {
    await this.opened.close()
  }

  #clean({ message }: Error): string {
    return this.#secrets.reduce((text, secret) => text.replaceAll(secret, '***'), message)
  }
}

/**
 * Matches any of these texts. Values of a filter are only ever texts and numbers: mongoose is told to treat everything
 * else as a value (`sanitizeFilter`), except what is marked with `trusted`, which stands in this adapter's code alone.
 */
// Typed as the text that it stands for: mongoose's types know no trusted ones.
export const oneOf = (texts: string[]): string => trusted({ $in: texts }) as unknown as string

/** Inserts rows, one after the other: when it fails, those before the first that failed are there. {@link CERTAIN}. */
export async function insert<T>(model: Model<T>, rows: NoInfer<T>[]): Promise<void> {
  // mongoose hands the write concern on to the driver; its types leave it out.
  await model.insertMany(rows as never, { ...CERTAIN, ordered: true } as InsertManyOptions)
}

/** True when the write was made; false when a row of that `_id` is there already. Of several callers one gets `true`. */
export async function wasFirst(write: Promise<unknown>): Promise<boolean> {
  try {
    await write
    return true
  } catch (error) {
    if ((error as { code?: unknown }).code === 11000) return false
    throw error
  }
}

function isOutage(error: unknown): boolean {
  if (error instanceof mongo.MongoWriteConcernError) return true
  // Several writes in one: without an error of one of them it was the network, or too few servers in time.
  if (error instanceof mongo.MongoBulkWriteError && [error.writeErrors].flat().length === 0) return true
  if (error instanceof mongo.MongoServerError)
    return OUTAGE.has(Number(error.code)) || error.hasErrorLabel('RetryableWriteError')
  // A wrong argument or an odd URL is a mistake of ours or the operator's; all else of the driver's is the network.
  if (error instanceof mongo.MongoInvalidArgumentError || error instanceof mongo.MongoParseError) return false
  if (error instanceof mongo.MongoError || (error as Error).name === 'MongooseServerSelectionError') return true
  // A socket that ends while it is written to: the driver lets Node's own error through.
  return /^E[A-Z]+$/.test(String((error as NodeJS.ErrnoException).code))
}

/** `mongodb://user:password@host/name?options` → `mongodb://host/name` */
export const nameOf = (url: string): string => url.replace(/^([a-z+]+:\/\/)(?:.*@)?([^/?]*\/?[^?]*).*$/s, '$1$2')

function secretsOf(url: string): string[] {
  const [, credentials = ''] = /^[a-z+]+:\/\/(.*)@/s.exec(url) ?? []
  const password = credentials.slice(credentials.indexOf(':') + 1)
  return [...new Set([url, credentials, password, decoded(password)])].filter(Boolean)
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
