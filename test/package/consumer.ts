/** An app that adopts the package, as the compiler sees it: package.test.ts checks it against the published types. */
import {
  type AccountStore,
  checkPassword,
  createPasswordHasher,
  createProvider,
  KeyRing,
  newKeyRing,
  type SallyportOptions,
} from 'sallyport'
import { type House, loadConfig, openHouse, startServer } from 'sallyport/server'
import { openSqlite, type SqliteDatabase } from 'sallyport/sqlite'

const keyRing = new KeyRing(newKeyRing())
const database: SqliteDatabase = await openSqlite({ file: ':memory:', sealer: keyRing })
const accounts: AccountStore = database.accounts
const options: SallyportOptions = {
  stores: { ...database, accounts },
  keyRing,
  passwords: createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 1, queue: 1 }),
  brand: { name: 'Acme' },
}
const provider = createProvider('https://id.acme.example', {}, options)
provider.use(async (ctx, next) => {
  const path: string = ctx.path
  if (path !== '/nowhere') await next()
})

/** The server, from the same package. */
export async function serve(): Promise<string> {
  const house: House = await openHouse(loadConfig({}, '.'))
  const { url } = await startServer(house)
  return url
}

// What must stay an error.
// @ts-expect-error a brand has a name
export const nameless: SallyportOptions = { ...options, brand: {} }
// @ts-expect-error the answer is one of two words, or nothing
export const length: number = checkPassword('correct horse battery staple')
