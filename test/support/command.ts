/** The command line in a process of its own, with none of this one's settings. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Environment } from '../../server/config.ts'

const TSX = import.meta.resolve('tsx')
const PROGRAM = fileURLToPath(new URL('../../server/cli/index.ts', import.meta.url))

/** How a command ended. */
export interface Done {
  code: number | null
  stdout: string
  stderr: string
  /** Standard output, as JSON. */
  json(): never
  /** Our own line on standard error; the library's warning about the running Node is not ours. */
  complaint: string
}

/** Begins a command. */
export function begin(cwd: string, args: string[], env: Environment = {}): ChildProcess {
  const { PATH, HOME } = process.env
  return spawn(process.execPath, ['--import', TSX, PROGRAM, ...args], { cwd, env: { PATH, HOME, ...env } })
}

/** Runs a command to its end. */
export async function command(cwd: string, args: string[], env: Environment = {}): Promise<Done> {
  return ended(begin(cwd, args, env))
}

/** Waits for the end of a command. */
export async function ended(child: ChildProcess): Promise<Done> {
  let [stdout, stderr] = ['', '']
  child.stdout!.setEncoding('utf8').on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr!.setEncoding('utf8').on('data', (chunk) => {
    stderr += chunk
  })
  const [code] = (await once(child, 'close')) as [number | null]
  const complaint = stderr
    .split('\n')
    .filter((line) => line.startsWith('sallyport: '))
    .join('\n')
  return { code, stdout, stderr, complaint, json: () => JSON.parse(stdout) as never }
}
