/** A process that revokes and uses up tokens in a file that others have open. */
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'

const NOW = 1_800_000_000
const database = await openSqlite({ file: process.argv[2]!, sealer: new KeyRing(newKeyRing()) })
process.on('message', async ({ revoke, consume }: { revoke?: string; consume?: string }) => {
  const { artifacts } = database
  process.send!(
    revoke !== undefined
      ? await artifacts.destroy('AccessToken', revoke, NOW)
      : await artifacts.consume('AccessToken', consume!, NOW),
  )
})
process.once('disconnect', () => void database.close())
process.send!('ready')
