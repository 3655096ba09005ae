/** A server process on the folder and port of the arguments; `maxPages` makes its disk small. */
import { join } from 'node:path'
import pino from 'pino'
import { SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { startServer } from '../../server/app.ts'
import { loadConfig } from '../../server/config.ts'
import { openHouse } from '../../server/open.ts'

const [folder = '', port = '', maxPages = ''] = process.argv.slice(2)
const config = loadConfig(
  {
    PORT: port,
    SALLYPORT_DATA_DIR: join(folder, 'data'),
    SALLYPORT_TRUSTED_PROXIES: 'loopback',
    SALLYPORT_BRAND_NAME: 'Sallyport',
    SALLYPORT_LOG_LEVEL: 'silent',
    SALLYPORT_HASH_QUEUE: '500',
    SALLYPORT_ARGON2_MEMORY_KIB: '19456',
    SALLYPORT_ARGON2_PASSES: '2',
  },
  folder,
)
const house = await openHouse(config, { createKeys: true, logger: pino({ level: 'silent' }) })
if (maxPages) {
  if (!(house.database instanceof SqliteDatabase)) throw new Error('only SQLite counts pages')
  house.database.connection.exec(`PRAGMA max_page_count = ${maxPages}`)
  // Room comes back when the parent says so.
  process.on('message', (pages: number) => {
    ;(house.database as SqliteDatabase).connection.exec(`PRAGMA max_page_count = ${pages}`)
    process.send!('grown')
  })
}
await startServer(house)
process.send!('listening')
