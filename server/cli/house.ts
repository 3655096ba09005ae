/** What every command shares: opening the house, answering for people or machines, exit codes. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { type Config, ConfigError, environment, loadConfig } from '../config.ts'
import { createLogger } from '../log.ts'
import { type House, openHouse } from '../open.ts'
import { SeedError } from '../seed.ts'
import { StoreConflict } from '../stores.ts'

/** A command that was understood and not done. One sentence; exit code 1. */
export class Refused extends Error {
  override readonly name = 'Refused'
}

/** Options of every command. */
export interface Common {
  json?: boolean
  config?: string
}

/** Who acts at the command line, for the audit. */
export const operator = (): string => `operator:${userInfo().username}`

/** The configuration that a command works with. @throws {ConfigError} */
export const configFor = (command: Command): Config =>
  loadConfig(environment(), process.cwd(), command.optsWithGlobals<Common>().config)

/** Opens the house, does the work, closes it. */
export async function withHouse<T>(
  command: Command,
  work: (house: House) => Promise<T>,
  { createKeys = false } = {},
): Promise<T> {
  const config = configFor(command)
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

/** Columns of even width. */
export function table(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
}

/** Tells what went wrong in one line. @returns the exit code */
export function failed(error: unknown): number {
  const { message, stack } = error as Error
  const expected = [Refused, StoreConflict].some((kind) => error instanceof kind)
  const misused = [ConfigError, SeedError].some((kind) => error instanceof kind)
  const text = expected || misused || (error as Error).name === 'StoreUnavailable' ? message : (stack ?? message)
  process.stderr.write(`sallyport: ${text}\n`)
  return misused ? 2 : 1
}
