/** Opens what a server stands on: the key ring, the database, the first signing key. */
import { type ConnectionStore, type KeyRing, SealBroken } from '../interactions/index.ts'
import { type Config, ConfigError } from './config.ts'
import { openStore, storeExists, storeName } from './database.ts'
import type { FetchOptions } from './guarded-fetch.ts'
import { createKeyRing, KeyRingOnDisk, readKeyRing } from './key-ring-file.ts'
import { createLogger, type Logger } from './log.ts'
import { ensureSigningKey } from './signing-keys.ts'
import type { Database } from './stores.ts'

/** Everything that a server or a command works with. */
export interface House {
  config: Config
  keyRing: KeyRing
  database: Database
  /** Companies' connections to their identity providers. */
  connections?: ConnectionStore | undefined
  logger: Logger
  /** What a test puts in place of the network, where metadata is fetched. */
  network?: FetchOptions | undefined
  /** Takes numbers for whatever counts them. Names nobody. */
  onMetric?: ((metric: Metric) => void) | undefined
  /** Closes the database. Later calls do nothing. */
  close(): Promise<void>
}

/**
 * A number that somebody may watch: `saml_responses` counts one, by connection, outcome and failed check;
 * `certificate_days_left` is looked at every hour, for certificates that end within 30 days.
 */
export interface Metric {
  name: 'saml_responses' | 'certificate_days_left'
  value: number
  labels: Record<string, string>
}

/** What may be made when it is not there. */
export interface OpenOptions {
  /**
   * First start: makes the data folder, the database, the first signing key and, except with NODE_ENV=production, the
   * key ring. Without it, a database or key ring that is not there is an error: a mistyped path makes no new server.
   */
  createKeys?: boolean
  logger?: Logger
}

/**
 * Opens the key ring and the database that the configuration names.
 *
 * @throws {ConfigError} one line that names the setting: a missing, unreadable or foreign key ring, a database that does not open
 */
export async function openHouse(config: Config, { createKeys = false, logger }: OpenOptions = {}): Promise<House> {
  const keyRing = await openKeyRing(config, createKeys)
  const database = await openDatabase(config, keyRing, createKeys)
  try {
    if (createKeys) await ensureSigningKey(database.signingKeys, Math.floor(Date.now() / 1000))
    else await database.signingKeys.signingKeys() // a ring that belongs to another database shows here
  } catch (cause) {
    await database.close()
    if (cause instanceof SealBroken)
      throw new ConfigError(
        `SALLYPORT_KEYS: ${config.SALLYPORT_KEYS} does not open ${storeName(config.SALLYPORT_STORE)}: ${cause.message}`,
        { cause },
      )
    throw cannotOpen(config, cause)
  }

  let closing: Promise<void> | undefined
  return {
    config,
    keyRing,
    database,
    logger: logger ?? createLogger(config.SALLYPORT_LOG_LEVEL),
    close: () => {
      closing ??= database.close()
      return closing
    },
  }
}

/**
 * Reads the key ring; makes it first where that is allowed.
 *
 * @throws {ConfigError}
 */
export async function openKeyRing(config: Config, create: boolean): Promise<KeyRing> {
  const path = config.SALLYPORT_KEYS
  const production = config.NODE_ENV === 'production'
  let read = readKeyRing(path)
  if (!read && create && !production) {
    // A new ring beside an old database would open nothing in it, and hide that the old ring is missing. Read again
    // first: another process may have made both just now, the ring before the database.
    if ((await isThere(config)) && !readKeyRing(path))
      throw new ConfigError(
        `SALLYPORT_KEYS: no key ring at ${path}, but there is a database at ${storeName(config.SALLYPORT_STORE)}: restore its key ring`,
      )
    createKeyRing(path)
    read = readKeyRing(path)
  }
  if (!read) {
    const how = production ? 'make one with `sallyport keys init`' : '`sallyport serve` and `sallyport apply` make one'
    throw new ConfigError(`SALLYPORT_KEYS: no key ring at ${path}: ${how}, or name the right file`)
  }
  if (production && (read.mode & 0o007) !== 0)
    throw new ConfigError(`SALLYPORT_KEYS: ${path} can be read by everybody on this machine: chmod 600 it`)
  return new KeyRingOnDisk(read.ring, path)
}

async function openDatabase(config: Config, sealer: KeyRing, create: boolean): Promise<Database> {
  const { SALLYPORT_STORE: store, NODE_ENV } = config
  if (!create && store.kind === 'sqlite' && !(await storeExists(store)))
    throw new ConfigError(
      `SALLYPORT_STORE: no database at ${store.file}: \`sallyport serve\` and \`sallyport apply\` make one, or name the right file`,
    )
  // A server that others share is changed when somebody says so, not because one of them starts.
  const make = create && (store.kind === 'sqlite' || NODE_ENV !== 'production')
  try {
    return await openStore(store, sealer, make)
  } catch (cause) {
    throw cannotOpen(config, cause)
  }
}

async function isThere(config: Config): Promise<boolean> {
  try {
    return await storeExists(config.SALLYPORT_STORE)
  } catch (cause) {
    throw cannotOpen(config, cause)
  }
}

function cannotOpen(config: Config, cause: unknown): ConfigError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new ConfigError(`SALLYPORT_STORE: cannot open ${storeName(config.SALLYPORT_STORE)}: ${why}`, { cause })
}
