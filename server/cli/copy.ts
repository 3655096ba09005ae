import { Command } from 'commander'
import type { Copied, Watcher } from '../copy.ts'
import type { Kind } from '../stores.ts'
import { answer, configFor, operator, Refused, table } from './house.ts'

/** `copy --from STORE --to STORE`: moves a deployment to another database. */
export function copyCommand(): Command {
  return new Command('copy')
    .description('copy everything from one database to another: people, factors, apps, keys, sessions, audit')
    .requiredOption('--from <store>', 'sqlite:FILE or mongodb://HOST/DATABASE; it is only read')
    .requiredOption('--to <store>', 'an empty one, or one that an interrupted copy began to fill')
    .addHelpText(
      'after',
      `
Stop the servers of both first: what happens meanwhile may be lost, and is noticed at the end. The key ring is not copied;
SALLYPORT_KEYS names the one of the source, and the new server needs the same. Interrupted, run it again: it goes on.

Example:
  sallyport copy --from sqlite:data/sallyport.sqlite --to mongodb://db.example/sallyport`,
    )
    .action(async ({ from, to }: { from: string; to: string }, self: Command) => {
      const { ConfigError, storeAddress } = await import('../config.ts')
      const config = await configFor(self)
      const [source, target] = [storeAddress(from, '--from', process.cwd()), storeAddress(to, '--to', process.cwd())]
      const { openCopySource, openCopyTarget, openStore, storeName } = await import('../database.ts')
      const [sourceName, targetName] = [storeName(source), storeName(target)]
      if (sourceName === targetName) throw new Refused(`--from and --to are both ${sourceName}: name two databases`)

      const { openKeyRing } = await import('../open.ts')
      const { SealBroken, StoreUnavailable } = await import('../../interactions/index.ts')
      const keyRing = await openKeyRing(config, false)
      const named = (option: string) => (error: unknown) => {
        throw error instanceof StoreUnavailable ? new Refused(`${option}: ${error.message}`, { cause: error }) : error
      }
      const { copyDeployment } = await import('../copy.ts')
      const reading = await openCopySource(source).catch(named('--from'))
      let copied: Copied
      try {
        const writing = await openCopyTarget(target).catch(named('--to'))
        try {
          copied = await copyDeployment(reading, writing, { sourceName, sealer: keyRing, watcher: watcher() })
        } finally {
          await writing.close()
        }
      } catch (error) {
        if (error instanceof SealBroken)
          throw new ConfigError(
            `SALLYPORT_KEYS: ${config.SALLYPORT_KEYS} does not open ${sourceName}: ${error.message}`,
          )
        throw error instanceof StoreUnavailable ? new Refused(error.message, { cause: error }) : error
      } finally {
        await reading.close()
      }

      const rows = Object.values(copied.kinds).reduce((sum, content) => sum + content.rows, 0)
      const opened = await openStore(target, keyRing, false)
      const at = Math.floor(Date.now() / 1000)
      const details = { from: sourceName, to: targetName, rows }
      await opened.audit.append({ event: 'store.copied', outcome: 'success', at, actor: operator(), details })
      await opened.close()
      const { kinds, resumed, sourceChanged } = copied
      if (sourceChanged)
        process.stderr.write(`note: ${sourceName} was written to meanwhile; what was written by now is in the copy\n`)
      answer(self, { from: sourceName, to: targetName, resumed, source_changed: sourceChanged, kinds }, [
        ...table(Object.entries(kinds).map(([kind, content]) => [spoken(kind), String(content.rows)])),
        `${targetName} holds the same as ${sourceName}, row by row: serve it with the same key ring`,
      ])
    })
}

const spoken = (kind: string) => kind.replaceAll('_', ' ')

/** One line that changes on a terminal; elsewhere one line for each kind, and one now and then. */
function watcher(): Watcher {
  const { stderr } = process
  const line = (text: string) => stderr.write(stderr.isTTY ? `\r\u001b[K${text}` : `${text}\n`)
  const ended = () => {
    if (stderr.isTTY) stderr.write('\n')
  }
  let told = 0
  return {
    copied(kind: Kind, rows: number, of: number, all: boolean) {
      const every = stderr.isTTY ? 100 : 5000
      if (!all && performance.now() - told < every) return
      told = performance.now()
      line(all ? `${spoken(kind)}: ${rows}` : `${spoken(kind)}: ${rows} of ${of}`)
      if (all) ended()
    },
    verifying(kind: Kind) {
      if (stderr.isTTY) line(`comparing ${spoken(kind)}`)
      if (kind === 'audit') {
        if (!stderr.isTTY) line('comparing both sides')
        ended()
      }
    },
    again: (kinds: Kind[]) =>
      void stderr.write(`${kinds.map(spoken).join(', ') || 'the source'} changed meanwhile: once more\n`),
  }
}
