/** Against MongoDB, or its stand-in: test/support/mongo.ts. */
import { type MongoDatabase, migrate, openMongo } from '../../adapters/mongo/index.ts'
import { KeyRing, newKeyRing } from '../../interactions/kit/keyring.ts'
import { emptied, freshName, useMongo } from '../support/mongo.ts'
import { contract } from './suite.ts'

describe('mongo', function () {
  const server = useMongo(this)
  const name = freshName()
  before(() => migrate({ url: server().url(name) }))

  contract('mongo', async () => {
    const sealer = new KeyRing(newKeyRing())
    const opened: MongoDatabase[] = []
    const again = async () => {
      const database = await openMongo({ url: server().url(name), sealer })
      opened.push(database)
      return database
    }
    return {
      database: await again(),
      again,
      close: async () => {
        await emptied(opened[0]!)
        for (const database of opened) await database.close()
      },
    }
  })
})
