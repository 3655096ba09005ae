/** What every command shares: opening the house, answering for people or machines, exit codes. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import type { Config } from '../config.ts'
import { oneLine } from '../one-line.ts'
import type { House } from '../open.ts'
import { type Database, StoreConflict, type User } from '../stores.ts'

/** A command that was understood and not done. One sentence; exit code 1. */
export class Refused extends Error {
  override readonly name = 'Refused'
}

/** A command that says what cannot be. One sentence; exit code 2. */
export class Misused extends Error {
  override readonly name = 'Misused'
}

/** Options of every command. */
export interface Common {
  json?: boolean
  config?: string
}

/** Who acts at the command line, for the audit. */
export const operator = (): string => `operator:${userInfo().username}`

/** The configuration that a command works with. @throws {ConfigError} */
export async function configFor(command: Command): Promise<Config> {
  // Loaded here, so that help and wrong usage are answered at once.
  const { environment, loadConfig } = await import('../config.ts')
  return loadConfig(environment(), process.cwd(), command.optsWithGlobals<Common>().config)
}

/** The person whom a command is about, by their e-mail address. @throws {Refused} */
export async function personOf({ directory }: Pick<Database, 'directory'>, email: string): Promise<User> {
  const user = await directory.user(email.trim().toLowerCase())
  if (!user) throw new Refused(`there is no user "${email}"`)
  return user
}

/** What `--reason` says, fit for the audit. @throws {Refused} when it says nothing */
export function reasonGiven(reason: string): string {
  if (reason.trim() === '') throw new Refused('--reason: say why, and how you made sure who asked')
  return reason.trim().slice(0, 500)
}

/** Opens the house, does the work, closes it. */
export async function withHouse<T>(
  command: Command,
  work: (house: House) => Promise<T>,
  { createKeys = false } = {},
): Promise<T> {
  const config = await configFor(command)
  const { openHouse } = await import('../open.ts')
  const { createLogger } = await import('../log.ts')
  const house = await openHouse(config, { createKeys, logger: createLogger('warn') })
  try {
    return await work(house)
  } finally {
    await house.close()
  }
}

/** Answers: `data` as JSON with --json, otherwise `lines`. Standard output holds nothing else. */
export function answer(command: Command, data: unknown, lines: string[]): void {
  const text = command.optsWithGlobals<Common>().json ? JSON.stringify(data, null, 2) : lines.join('\n')
  if (text !== '') process.stdout.write(`${text}\n`)
}

/** Columns of even width. What people wrote stays on its line and sends no commands to the terminal. */
export function table(cells: string[][]): string[] {
  const rows = cells.map((row) => row.map(oneLine))
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
}

/** oidc-provider is a peer dependency: npm brings it, `--legacy-peer-deps` does not (docs/decisions/oidc-provider-is-a-peer.md). */
function explained(error: NodeJS.ErrnoException): Error {
  if (error.code !== 'ERR_MODULE_NOT_FOUND' || !error.message.includes("'oidc-provider'")) return error
  return new Refused('the package oidc-provider is not installed: npm install oidc-provider@9', { cause: error })
}

/** What went wrong, in one line where it is no mistake of ours, and the exit code. */
export function told(thrown: unknown): { text: string; exitCode: number } {
  const error = explained(thrown as Error)
  const { message, stack, name } = error
  const expected = [Refused, StoreConflict].some((kind) => error instanceof kind)
  // By name: their modules load only where they are needed.
  const misused = ['ConfigError', 'Misused', 'SeedError'].includes(name)
  const outside = ['StoreUnavailable', 'WorkersFailed'].includes(name)
  const text = expected || misused || outside ? oneLine(message) : (stack ?? message)
  return { text, exitCode: misused ? 2 : 1 }
}

/** Tells what went wrong in one line. @returns the exit code */
export function failed(thrown: unknown): number {
  const { text, exitCode } = told(thrown)
  process.stderr.write(`sallyport: ${text}\n`)
  return exitCode
}
