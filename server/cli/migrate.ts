import { Command } from 'commander'
import { answer, configFor } from './house.ts'

/** `migrate`: brings the database to this version. */
export function migrateCommand(): Command {
  return new Command('migrate')
    .description('bring the database to this version: collections and indexes of MongoDB')
    .addHelpText(
      'after',
      '\nRun it before the first start and after every upgrade; it may run beside servers, and again.\nExample:\n  SALLYPORT_STORE=mongodb://db.example/sallyport sallyport migrate',
    )
    .action(async (_options: unknown, self: Command) => {
      const { migrateStore, storeName } = await import('../database.ts')
      const { SALLYPORT_STORE: store } = configFor(self)
      const sentence = await migrateStore(store)
      answer(self, { store: storeName(store), up_to_date: true }, [sentence])
    })
}
