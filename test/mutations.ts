/**
 * Takes one guard away at a time and runs the test file that is to notice. `npm run test:mutations [WORD]`: all, or those
 * with that word in their name. Exit code 1 when one is not noticed, 2 when one no longer applies.
 *
 * Each change is made in a copy of the sources and must match exactly once, so that the list cannot rot.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { MUTATIONS, type Mutation, PROPERTY } from './support/mutations.ts'
import { temporaryFolder } from './support/temporary.ts'

const SOURCES = [
  'adapters',
  'interactions',
  'locales',
  'public',
  'schemas',
  'server',
  'test',
  'views',
  'package.json',
  'tsconfig.json',
]
const root = resolve(import.meta.dirname, '..')

interface Run {
  failures: number
  /** The first test that failed. */
  title: string
}

/** A copy of everything that a test needs. */
function copy(): string {
  const folder = temporaryFolder()
  for (const source of SOURCES) cpSync(join(root, source), join(folder, source), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  return folder
}

function run(folder: string, test: string): Run {
  const options = ['--no-config', '--exit', '--bail', '--timeout', '60000', '--reporter', 'json']
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', 'node_modules/mocha/bin/mocha.js', ...options, test],
    { cwd: folder, encoding: 'utf8', maxBuffer: 2 ** 26, env: { ...process.env, PROPERTY_SHRINKS: '0' } },
  )
  const report = /^\{\n {2}"stats"[\s\S]*^\}/m.exec(stdout)?.[0]
  if (report === undefined) throw new Error(`${test} did not run: ${stderr.slice(-2000)}${stdout.slice(-2000)}`)
  const { stats, failures } = JSON.parse(report) as {
    stats: { failures: number }
    failures: { title: string; err: { message?: string } }[]
  }
  const [first] = failures
  // The property has one title; its message says what broke.
  const title = (test === PROPERTY ? first?.err.message?.split('\n')[0] : first?.title) ?? ''
  return { failures: stats.failures, title }
}

function mutate(folder: string, { name, file, find, replace }: Mutation): void {
  const source = readFileSync(join(root, file), 'utf8')
  const times = source.split(find).length - 1
  if (times !== 1) {
    console.error(`"${name}": found ${times} times in ${file}, not once. Bring test/mutations.ts up to date: ${find}`)
    process.exit(2)
  }
  writeFileSync(
    join(folder, file),
    source.replace(find, () => replace),
  )
}

const word = process.argv[2] ?? ''
const chosen = MUTATIONS.filter(({ name }) => name.includes(word))
const folder = copy()
for (const mutation of MUTATIONS) {
  mutate(folder, mutation)
  cpSync(join(root, mutation.file), join(folder, mutation.file))
}
for (const test of new Set(chosen.map((mutation) => mutation.test))) {
  const { failures, title } = run(folder, test)
  if (failures === 0) continue
  console.error(`${test} fails as it is: ${title}`)
  process.exit(2)
}

let survivors = 0
for (const mutation of chosen) {
  mutate(folder, mutation)
  const began = performance.now()
  const { failures, title } = run(folder, mutation.test)
  cpSync(join(root, mutation.file), join(folder, mutation.file))
  const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(5)
  if (failures === 0) survivors += 1
  const noticed = failures > 0 ? `${mutation.test.replace('test/', '')}: ${title}` : `NOT NOTICED by ${mutation.test}`
  console.log(`${seconds} s  ${mutation.name.padEnd(62)}  ${noticed.slice(0, 110)}`)
}
console.log(`${chosen.length} guards taken away, ${survivors} not noticed`)
process.exitCode = survivors > 0 ? 1 : 0
