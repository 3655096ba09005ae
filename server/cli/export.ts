import { once } from 'node:events'
import { createWriteStream, realpathSync, renameSync, rmSync, statSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Command } from 'commander'
import { answer, type Common, Refused, withHouse } from './house.ts'

/** `export`: the configuration as `apply` takes it. */
export function exportCommand(): Command {
  return new Command('export')
    .description('write companies, people, APIs, clients and connections as a seed file, without any secret')
    .option('--output <file>', 'write there instead of to standard output; the file is replaced when all is written')
    .addHelpText(
      'after',
      `
YAML, or JSON with --json. To apply it to the same server changes nothing.

Examples:
  sallyport export --output deployment.yaml
  sallyport export --json | jq '.clients[].client_id'`,
    )
    .action(({ output }: { output?: string }, self: Command) =>
      withHouse(self, async ({ database: { directory } }) => {
        const { exportJson, exportYaml } = await import('../export.ts')
        const json = self.optsWithGlobals<Common>().json ?? false
        const pieces = (json ? exportJson : exportYaml)(directory)
        if (output === undefined || output === '-') return toStandardOutput(pieces)
        await toFile(output, pieces)
        answer(self, { written: output }, [`wrote ${output}`])
      }),
    )
}

/** All of it or nothing: what stood there before is not lost to a failure half-way. For its owner only: people stand in it. */
async function toFile(file: string, pieces: AsyncIterable<string>): Promise<void> {
  const there = statSync(file, { throwIfNoEntry: false })
  const target = there ? realpathSync(file) : file
  const half = `${target}.${process.pid}.part`
  try {
    // A device or a pipe is written to, not replaced.
    if (there && !there.isFile()) return await pipeline(Readable.from(pieces), createWriteStream(target))
    await pipeline(Readable.from(pieces), createWriteStream(half, { flags: 'wx', mode: 0o600 }))
    renameSync(half, target)
  } catch (cause) {
    rmSync(half, { force: true })
    const { code } = cause as NodeJS.ErrnoException
    if (code === undefined || !/^E[A-Z]+$/.test(code)) throw cause
    throw new Refused(`cannot write ${file} (${code}): name a file in a folder that is there`, { cause })
  }
}

async function toStandardOutput(pieces: AsyncIterable<string>): Promise<void> {
  const { stdout } = process
  let failure: NodeJS.ErrnoException | undefined
  stdout.once('error', (error) => {
    failure = error
  })
  for await (const piece of pieces) {
    if (failure) break
    if (!stdout.write(piece)) await once(stdout, 'drain').catch(() => {}) // the listener above knows why
  }
  // Whoever reads may have read enough.
  if (failure && failure.code !== 'EPIPE') throw failure
}
