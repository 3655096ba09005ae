import { existsSync } from 'node:fs'
import { Command } from 'commander'
import { answer, configFor, operator, Refused, table, withHouse } from './house.ts'

/** `keys list|init|rotate`. */
export function keysCommand(): Command {
  const command = new Command('keys').description('the key ring, and the keys that sign tokens')

  command
    .command('list')
    .description('signing keys and data keys; never the keys themselves')
    .action((_options: unknown, self: Command) =>
      withHouse(self, async ({ database, config }) => {
        const { readKeyRing } = await import('../key-ring-file.ts')
        const signing = (await database.signingKeys.signingKeys()).map(({ kid, state, createdAt }) => ({
          kid,
          state,
          created: iso(createdAt),
        }))
        const data = readKeyRing(config.SALLYPORT_KEYS)!.ring.keys.map(({ id, created }, index) => ({
          id,
          state: index === 0 ? 'seals' : 'opens',
          created,
        }))
        const rows = [
          ...signing.map(({ kid, state, created }) => ['signing', kid, state, created]),
          ...data.map(({ id, state, created }) => ['data', id, state, created]),
        ]
        answer(self, { signing, data }, table([['kind', 'id', 'state', 'created'], ...rows]))
      }),
    )

  command
    .command('init')
    .description('make the key ring file that SALLYPORT_KEYS names')
    .action(async (_options: unknown, self: Command) => {
      const { createKeyRing } = await import('../key-ring-file.ts')
      const { SALLYPORT_KEYS: file, SALLYPORT_STORE: store } = configFor(self)
      const { storeExists, storeName } = await import('../database.ts')
      if (!existsSync(file) && (await storeExists(store)))
        throw new Refused(
          `no key ring at ${file}, and a new one would not open ${storeName(store)}: restore its key ring`,
        )
      if (!createKeyRing(file)) throw new Refused(`${file} is there already: it is not touched`)
      answer(self, { made: file }, [`made ${file}: keep a copy where the database's copies are not`])
    })

  command
    .command('rotate')
    .option('--signing', 'a new key signs tokens; the former ones stay published')
    .option('--data', 'a new key seals what is stored; everything is sealed anew')
    .description('replace a key by a new one')
    .addHelpText(
      'after',
      '\nRunning servers sign with the new key after their next start; they read a rotated key ring at once.',
    )
    .action(async ({ signing, data }: { signing?: boolean; data?: boolean }, self: Command) => {
      if (!signing === !data) {
        process.stderr.write('sallyport: say which: --signing or --data\n')
        process.exitCode = 2
        return
      }
      await withHouse(self, async ({ database }) => {
        const at = Math.floor(Date.now() / 1000)
        const { audited } = await import('../audited.ts')
        const actor = operator()
        if (signing) {
          const { rotateSigningKey } = await import('../signing-keys.ts')
          let kid = ''
          await audited(database.audit, { event: 'keys.rotated_signing', actor }, async () => {
            kid = await rotateSigningKey(database.signingKeys, at)
            return { kid }
          })
          return answer(self, { kid }, [`${kid} signs from now on`])
        }
        const { addKeyToRing } = await import('../key-ring-file.ts')
        let id = ''
        let rewrapped = 0
        await audited(database.audit, { event: 'keys.rotated_data', actor }, async () => {
          id = addKeyToRing(configFor(self).SALLYPORT_KEYS)
          // Opened anew: the house's ring was read before the key was added.
          rewrapped = await withHouse(self, async (fresh) => fresh.database.rewrap())
          return { key: id, rewrapped }
        })
        return answer(self, { key: id, rewrapped }, [
          `${id} seals from now on; ${rewrapped} stored values were sealed anew`,
        ])
      })
    })
  return command
}

const iso = (seconds: number) => new Date(seconds * 1000).toISOString()
