/** A server process on the folder and port of the arguments that tells its memory: run it with --expose-gc. */
import { join } from 'node:path'
import { startServer } from '../../server/app.ts'
import { loadConfig } from '../../server/config.ts'
import { createLogger } from '../../server/log.ts'
import { openHouse } from '../../server/open.ts'

const [folder = '', port = ''] = process.argv.slice(2)
const settings = { PORT: port, SALLYPORT_DATA_DIR: join(folder, 'data'), SALLYPORT_TRUSTED_PROXIES: 'loopback' }
const house = await openHouse(loadConfig(settings, folder), { createKeys: true, logger: createLogger('silent') })
process.on('message', () => {
  globalThis.gc!()
  process.send!(process.memoryUsage().rss)
})
await startServer(house)
process.send!('listening')
