/** Brings a database to this version, and says what is missing. Nothing else makes collections or indexes. */
import { mongo } from 'mongoose'
import { StoreUnavailable } from '../../interactions/kit/stores.ts'
import { unfinished } from '../copying.ts'
import { CERTAIN, Connection, insert, type MongoAddress, NEWEST, wasFirst } from './driver.ts'
import { COLLECTIONS, type Collections, collectionsOf } from './schemas.ts'

/** Raised when {@link migrate} has something new to do. */
const VERSION = 1

/**
 * Makes the collections and indexes of this version. Safe to run again, by several at once, and beside running servers.
 *
 * @throws {StoreUnavailable} when the database does not answer, is of a newer version, or belongs to another program
 */
export async function migrate(address: MongoAddress): Promise<void> {
  const connection = await Connection.open(address)
  try {
    await connection.guarded(() => bringUpToDate(connection))
  } finally {
    await connection.close()
  }
}

/**
 * @throws {StoreUnavailable} when {@link migrate} has to run first, or the database is of a newer version
 */
export async function checkVersion(connection: Connection, collections: Collections): Promise<void> {
  const version = await versionOf(connection, collections)
  const missing = version === undefined ? [] : await missingIndexes(collections)
  if (version === undefined || version < VERSION || missing.length > 0) {
    const why = missing.length > 0 ? `lacks the index ${missing.join(', ')}` : 'is not set up for this version'
    throw new StoreUnavailable(`the database ${connection.name} ${why}: run \`sallyport migrate\``)
  }
}

/** @throws {StoreUnavailable} while another database is being copied into this one */
export async function refuseHalfCopy(connection: Connection, { meta }: Collections): Promise<void> {
  const copy = (await meta.findById('schema', undefined, NEWEST).lean())?.copy
  if (copy) throw new StoreUnavailable(unfinished(connection.name, copy.source))
}

/** `collection.field` of every index that a schema names and the server does not have as it should be. */
export async function missingIndexes(collections: Collections): Promise<string[]> {
  const missing = COLLECTIONS.map(async (name) => {
    const { schema, collection } = collections[name]
    const found = await collection.listIndexes().toArray().catch(noneWhenThereIsNoCollection)
    const there = new Set(found.map((index) => shapeOf(index['key'], index['expireAfterSeconds'])))
    return schema
      .indexes()
      .filter(([key, { expireAfterSeconds }]) => !there.has(shapeOf(key, expireAfterSeconds)))
      .map(([key]) => `${name}.${Object.keys(key).join('+')}`)
  })
  return (await Promise.all(missing)).flat()
}

async function bringUpToDate(connection: Connection): Promise<void> {
  const collections = collectionsOf(connection.opened)
  const version = await versionOf(connection, collections)
  if (version === undefined) {
    const names = (await connection.opened.listCollections()).map(({ name }) => name)
    const foreign = names.find((name) => !name.startsWith('system.') && !(COLLECTIONS as string[]).includes(name))
    if (foreign !== undefined)
      throw new StoreUnavailable(
        `the database ${connection.name} holds "${foreign}" of another program: name a database of its own in the URL`,
      )
  }
  for (const name of COLLECTIONS) {
    await collections[name].createCollection().catch(fineWhenItIsThere)
    await collections[name].createIndexes().catch((error) => refuseConflict(error, connection, name))
  }
  const { meta } = collections
  if (version === undefined && (await wasFirst(insert(meta, [{ _id: 'schema', version: VERSION }])))) return
  await meta.updateOne({ _id: 'schema' }, { $max: { version: VERSION } }, CERTAIN)
}

async function versionOf(connection: Connection, { meta }: Collections): Promise<number | undefined> {
  const version = (await meta.findById('schema', undefined, NEWEST).lean())?.version
  if (version !== undefined && version > VERSION)
    throw new StoreUnavailable(
      `the database ${connection.name} has schema ${version}, this version knows ${VERSION}: run the newer version`,
    )
  return version
}

const shapeOf = (key: object, expireAfterSeconds: unknown) =>
  JSON.stringify([Object.entries(key), expireAfterSeconds === undefined ? null : Number(expireAfterSeconds)])

/** Somebody made an index of these fields by hand, with other options. */
function refuseConflict(error: unknown, { name }: Connection, collection: string): never {
  if (error instanceof mongo.MongoServerError && (error.code === 85 || error.code === 86))
    throw new StoreUnavailable(
      `the collection ${collection} of ${name} has an index in the way (${error.message}): drop it and migrate again`,
      { cause: error },
    )
  throw error
}

/** Another process made it first. */
function fineWhenItIsThere(error: unknown): void {
  if (!(error instanceof mongo.MongoServerError && error.codeName === 'NamespaceExists')) throw error
}

function noneWhenThereIsNoCollection(error: unknown): [] {
  if (error instanceof mongo.MongoServerError && error.code === 26) return []
  throw error
}
