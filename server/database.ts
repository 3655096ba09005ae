/** The database of a house, by its address: whether it is there, how it is brought up to date and opened. */
import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Sealer } from '../interactions/index.ts'
import type { StoreAddress } from './config.ts'
import type { CopySource, CopyTarget, Database } from './stores.ts'

/** What messages call it: the file, or the URL without credentials. */
export const storeName = (address: StoreAddress): string => (address.kind === 'sqlite' ? address.file : address.name)

/**
 * True when there is something in it that a key ring belongs to.
 *
 * @throws {StoreUnavailable} when a server does not answer
 */
export async function storeExists(address: StoreAddress): Promise<boolean> {
  if (address.kind === 'sqlite') return existsSync(address.file)
  const { isInUse } = await import('../adapters/mongo/index.ts')
  return isInUse({ url: address.url() })
}

/**
 * Brings the schema up to date.
 *
 * @returns what was done, as a sentence
 * @throws {StoreUnavailable} when a server does not answer, or the database belongs to another program
 */
export async function migrateStore(address: StoreAddress): Promise<string> {
  if (address.kind === 'sqlite') return `${address.file} needs nothing: SQLite is brought up to date when it is opened`
  const { migrate } = await import('../adapters/mongo/index.ts')
  await migrate({ url: address.url() })
  return `${address.name} is up to date`
}

/**
 * Opens it.
 *
 * @param make makes it, or brings it up to date, when it is not there or old
 * @throws {StoreUnavailable} when it does not open
 */
export async function openStore(address: StoreAddress, sealer: Sealer, make: boolean): Promise<Database> {
  if (address.kind === 'sqlite') {
    if (make) mkdirSync(dirname(address.file), { recursive: true, mode: 0o700 })
    const { openSqlite } = await import('../adapters/sqlite/index.ts')
    return openSqlite({ file: address.file, sealer })
  }
  if (make) await migrateStore(address)
  const { openMongo } = await import('../adapters/mongo/index.ts')
  return openMongo({ url: address.url(), sealer })
}

/**
 * Opens it to be copied: nothing in it is changed.
 *
 * @throws {StoreUnavailable} when it is not there, does not open, or is not of this version
 */
export async function openCopySource(address: StoreAddress): Promise<CopySource> {
  if (address.kind === 'sqlite') {
    const { openSqliteSource } = await import('../adapters/sqlite/index.ts')
    return openSqliteSource({ file: address.file })
  }
  const { openMongoSource } = await import('../adapters/mongo/index.ts')
  return openMongoSource({ url: address.url() })
}

/**
 * Opens it to be copied into: makes it, or brings it up to date.
 *
 * @throws {StoreUnavailable} when it does not open
 */
export async function openCopyTarget(address: StoreAddress): Promise<CopyTarget> {
  if (address.kind === 'sqlite') {
    mkdirSync(dirname(address.file), { recursive: true, mode: 0o700 })
    const { openSqliteTarget } = await import('../adapters/sqlite/index.ts')
    return openSqliteTarget({ file: address.file })
  }
  const { openMongoTarget } = await import('../adapters/mongo/index.ts')
  return openMongoTarget({ url: address.url() })
}
