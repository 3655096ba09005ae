/** Writes rows until it is killed, and says of each when it was acknowledged. */
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing, parseKeyRing } from '../../interactions/index.ts'

const [file = '', ring = '', round = ''] = process.argv.slice(2)
const database = await openSqlite({ file, sealer: new KeyRing(parseKeyRing(Buffer.from(ring, 'base64').toString())) })
for (let i = 0; ; i++) {
  const key = `${round}-${i}`
  await database.artifacts.save({ model: 'AccessToken', key, payload: { i }, expiresAt: 1_800_000_060 })
  process.send!(key)
  await new Promise((resolve) => setImmediate(resolve))
}
