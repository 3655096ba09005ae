import { join } from 'node:path'
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import type { Database } from '../../server/stores.ts'
import { temporaryFolder } from '../support/temporary.ts'
import { contract } from './suite.ts'

contract('sqlite', async () => {
  const file = join(temporaryFolder(), 'sallyport.sqlite')
  const sealer = new KeyRing(newKeyRing())
  const opened: Database[] = []
  const again = async () => {
    // NORMAL: no test here pulls the plug.
    const database = await openSqlite({ file, sealer, synchronous: 'NORMAL' })
    opened.push(database)
    return database
  }
  return {
    database: await again(),
    again,
    close: async () => {
      for (const database of opened) await database.close().catch(() => {})
    },
  }
})
