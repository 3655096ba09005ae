/** A process that opens a file when it is told to. */
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'

process.send!('ready')
process.once('message', async () => {
  const answer = await openSqlite({ file: process.argv[2]!, sealer: new KeyRing(newKeyRing()) }).then(
    (database) => database.close().then(() => 'open'),
    (error: Error) => `${error.name}: ${error.message}`,
  )
  process.send!(answer, () => process.disconnect())
})
