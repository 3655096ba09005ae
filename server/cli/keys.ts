import { existsSync } from 'node:fs'
import { Command } from 'commander'
import type { House } from '../open.ts'
import type { TurningParts } from '../signing-keys.ts'
import type { Database, SigningKey } from '../stores.ts'
import { answer, configFor, operator, Refused, table, withHouse } from './house.ts'

/** `keys list|init|rotate|activate|prune`. */
export function keysCommand(): Command {
  const command = new Command('keys').description('the key ring, and the keys that sign tokens')

  command
    .command('list')
    .description('signing keys and data keys; never the keys themselves')
    .action((_options: unknown, self: Command) =>
      withHouse(self, async ({ database, config }) => {
        const { readKeyRing } = await import('../key-ring-file.ts')
        const { retiredKeysKept } = await import('../signing-keys.ts')
        const kept = retiredKeysKept(config)
        const signing = (await database.signingKeys.signingKeys()).map(
          ({ kid, state, createdAt, activatesAt, retiredAt }) => ({
            kid,
            state,
            created: iso(createdAt),
            ...(activatesAt !== undefined && { signs_from: iso(activatesAt) }),
            ...(retiredAt !== undefined && { published_until: iso(retiredAt + kept) }),
          }),
        )
        const data = readKeyRing(config.SALLYPORT_KEYS)!.ring.keys.map(({ id, created }, index) => ({
          id,
          state: index === 0 ? 'seals' : 'opens',
          created,
        }))
        const rows = [
          ...signing.map(({ kid, state, created, signs_from, published_until }) => {
            const then = signs_from
              ? `signs from ${signs_from}`
              : published_until
                ? `published until ${published_until}`
                : ''
            return ['signing', kid, state, created, then]
          }),
          ...data.map(({ id, state, created }) => ['data', id, state, created, '']),
        ]
        answer(self, { signing, data }, table([['kind', 'id', 'state', 'created', 'then'], ...rows]))
      }),
    )

  command
    .command('init')
    .description('make the key ring file that SALLYPORT_KEYS names')
    .action(async (_options: unknown, self: Command) => {
      const { createKeyRing } = await import('../key-ring-file.ts')
      const { SALLYPORT_KEYS: file, SALLYPORT_STORE: store } = await configFor(self)
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
    .option('--signing', 'publish a new key, which signs tokens a day later by itself; the former ones stay published')
    .option('--now', 'with --signing: it signs after two minutes')
    .option('--data', 'a new key seals what is stored; everything is sealed anew')
    .description('replace a key by a new one')
    .addHelpText(
      'after',
      '\nRunning servers read the signing keys every minute, or at once on SIGHUP; they read a rotated key ring at once.',
    )
    .action(async ({ signing, data, now }: { signing?: boolean; data?: boolean; now?: boolean }, self: Command) => {
      if (!signing === !data || (data && now)) {
        process.stderr.write('sallyport: say which: --signing, --signing --now or --data\n')
        process.exitCode = 2
        return
      }
      await withHouse(self, async ({ database }) => {
        const at = Math.floor(Date.now() / 1000)
        const { audited } = await import('../audited.ts')
        const actor = operator()
        if (signing) {
          const keys = await import('../signing-keys.ts')
          const next = await nextKey(database)
          if (next) throw alreadyPublished(next)
          const key = await keys.newSigningKey(at)
          const from = at + (now ? keys.PUBLISHED_AHEAD_SECONDS_NOW : keys.PUBLISHED_AHEAD_SECONDS)
          const details = { kid: key.kid, signs_from: iso(from) }
          await audited(database.audit, { event: 'keys.rotated_signing', actor, details }, async () => {
            if (await database.signingKeys.publishSigningKey(key, from)) return
            throw alreadyPublished((await nextKey(database)) ?? { ...key, activatesAt: from })
          })
          return answer(self, details, [`${key.kid} is published; running servers sign with it from ${iso(from)} on`])
        }
        const { addKeyToRing } = await import('../key-ring-file.ts')
        let id = ''
        let rewrapped = 0
        await audited(database.audit, { event: 'keys.rotated_data', actor }, async () => {
          id = addKeyToRing((await configFor(self)).SALLYPORT_KEYS)
          // Opened anew: the house's ring was read before the key was added.
          rewrapped = await withHouse(self, async (fresh) => fresh.database.rewrap())
          return { key: id, rewrapped }
        })
        return answer(self, { key: id, rewrapped }, [
          `${id} seals from now on; ${rewrapped} stored values were sealed anew`,
        ])
      })
    })

  command
    .command('activate')
    .option('--now', 'though its time has not come: apps that keep the key set have to ask for it again')
    .description('let the published key sign')
    .action(({ now }: { now?: boolean }, self: Command) =>
      withHouse(self, async (house) => {
        const next = await nextKey(house.database)
        if (!next) throw new Refused('no key is published ahead: `sallyport keys rotate --signing` makes one')
        const parts = await turning(house)
        if (!now && (next.activatesAt ?? 0) > parts.now)
          throw new Refused(
            `${next.kid} signs from ${iso(next.activatesAt ?? 0)} on by itself: --now does not wait for apps that keep the key set`,
          )
        const { activate } = await import('../signing-keys.ts')
        await activate(parts, next.kid)
        answer(self, { kid: next.kid }, [`${next.kid} signs from now on; running servers read it within a minute`])
      }),
    )

  command
    .command('prune')
    .option('--now', 'all of them: what they signed verifies no more, such as after a theft')
    .description('remove retired signing keys that nothing needs any more; running servers do that by themselves')
    .action(({ now }: { now?: boolean }, self: Command) =>
      withHouse(self, async (house) => {
        const parts = await turning(house)
        const { remove } = await import('../signing-keys.ts')
        const removed: string[] = []
        for (const { kid, state, retiredAt = 0 } of await house.database.signingKeys.signingKeys())
          if (state === 'retired' && (now || retiredAt + parts.kept <= parts.now) && (await remove(parts, kid)))
            removed.push(kid)
        answer(self, { removed }, removed.length > 0 ? removed.map((kid) => `${kid} is gone`) : ['nothing to remove'])
      }),
    )
  return command
}

const nextKey = async ({ signingKeys }: Database): Promise<SigningKey | undefined> =>
  (await signingKeys.signingKeys()).find(({ state }) => state === 'next')

const alreadyPublished = ({ kid, activatesAt = 0 }: Pick<SigningKey, 'kid' | 'activatesAt'>) =>
  new Refused(
    `${kid} is published already and signs from ${iso(activatesAt)} on: \`sallyport keys activate --now\` does not wait`,
  )

async function turning({ config, database: { signingKeys, audit } }: House): Promise<TurningParts> {
  const { retiredKeysKept } = await import('../signing-keys.ts')
  const now = Math.floor(Date.now() / 1000)
  return { signingKeys, audit, kept: retiredKeysKept(config), now, actor: operator() }
}

const iso = (seconds: number) => new Date(seconds * 1000).toISOString()
