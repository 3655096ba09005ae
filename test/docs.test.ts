/** What the documents promise about the code, compared with the code. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PROMPTS } from '../interactions/policy.ts'
import { directoryCommands } from '../server/cli/directory.ts'
import { Config, loadConfig } from '../server/config.ts'
import { SEED_KEYS } from '../server/seed/index.ts'

const read = (file: string) => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')
const operations = read('docs/operations.md')
const rows = [...operations.matchAll(/^\| (.+) \| (.*)\|$/gm)].map(([row]) => row)

const sources = (folder: string): string[] =>
  readdirSync(new URL(`../${folder}`, import.meta.url), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => read(join(folder, name)))

describe('documents', () => {
  const defaults = loadConfig({ NODE_ENV: 'development' }, '/nowhere')
  /** Their defaults hang on something else, which the row says. */
  const derived = ['SALLYPORT_ISSUER', 'SALLYPORT_STORE', 'SALLYPORT_KEYS', 'SALLYPORT_DATA_DIR']

  for (const name of Object.keys(Config.shape))
    it(`docs/operations.md tells of ${name} and its default`, () => {
      const row = rows.filter((line) => line.startsWith(`| \`${name}\` |`))
      assert.equal(row.length, 1)
      const value = (defaults as Record<string, unknown>)[name]
      if (derived.includes(name) || name === 'SALLYPORT_HASH_CONCURRENCY') return
      const told = value === undefined ? 'none' : Array.isArray(value) && value.length === 0 ? 'nobody' : `\`${value}\``
      assert.ok(row[0]!.includes(told), `${row[0]} says ${told}`)
    })

  it('docs/operations.md has no setting that is not there', () => {
    const told = rows.flatMap((row) => /^\| `([A-Z_]+)` \|/.exec(row)?.[1] ?? [])
    assert.deepEqual(
      told.filter((name) => !(name in Config.shape)),
      [],
    )
  })

  it('docs/operations.md tells of every audit event, and of no other', () => {
    const code = [...sources('interactions'), ...sources('server')].join('\n')
    const named = [...code.matchAll(/\bevent: '([a-z_.]+)'/g)].map(([, name]) => name!)
    const passed = [...code.matchAll(/\], '([a-z_]+\.[a-z_]+)'\)/g)].map(([, name]) => name!)
    const events = new Set([
      ...named,
      ...passed,
      ...[...PROMPTS, 'consent'].map((prompt) => `prompt.${prompt}`),
      ...['authorization_code', 'refresh_token', 'client_credentials', 'device_code', 'unknown'].map(
        (type) => `token.${type}`,
      ),
    ])
    const section = operations.slice(operations.indexOf('## The audit'))
    const told = section
      .split('\n')
      .filter((line) => line.startsWith('| `'))
      .flatMap((line) => [...line.split(' | ')[0]!.matchAll(/`([a-z_.]+)`/g)].map(([, name]) => name!))
    assert.deepEqual([...events].filter((name) => !told.includes(name)).sort(), [], 'not told')
    assert.deepEqual(told.filter((name) => !events.has(name)).sort(), [], 'not there')
  })

  it('docs/operations.md tells of every command on companies, people, APIs and clients', () => {
    const told = rows.flatMap((row) => {
      let nouns: string[] = []
      const cell = row.slice(2).split(' | ')[0]!
      return [...cell.matchAll(/`([^`]+)`/g)].flatMap(([, text]) => {
        const [first = '', second = ''] = text!.split(' ')
        if (!/^[a-z|\\-]+$/.test(second)) return nouns.map((noun) => `${noun} ${first}`)
        nouns = first.split('\\|')
        return nouns.map((noun) => `${noun} ${second}`)
      })
    })
    const commands = directoryCommands().flatMap((noun) => noun.commands.map((one) => `${noun.name()} ${one.name()}`))
    assert.ok(commands.length > 20)
    // Some stand where somebody needs them.
    assert.deepEqual(
      commands.filter((one) => !told.includes(one) && !operations.includes(`sallyport ${one}`)),
      [],
    )
  })

  for (const [what, keys] of Object.entries(SEED_KEYS))
    it(`docs/protocol.md tells of every key of a ${what}, and of no other`, () => {
      const protocol = read('docs/protocol.md')
      const section = protocol.slice(protocol.indexOf(`### The keys of a \`${what}\``)).split('\n#')[0]!
      const told = section
        .split('\n')
        .filter((line) => line.startsWith('| `'))
        .flatMap((line) => [...line.split(' | ')[0]!.matchAll(/`([a-z_]+)`/g)].map(([, name]) => name!))
      assert.deepEqual(told.sort(), [...keys].sort())
    })

  it('README names commands that exist and files that are there', () => {
    const readme = read('README.md')
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    for (const [, script] of readme.matchAll(/npm run ([a-z:]+)/g)) assert.ok(script! in scripts, script)
    for (const [, path] of readme.matchAll(/\]\(((?!https?:)[^)#]+)\)/g)) assert.ok(exists(path!), path)
    for (const document of [
      'CONTRIBUTING.md',
      'SECURITY.md',
      'docs/flow.md',
      'docs/operations.md',
      'docs/embedding.md',
      'docs/protocol.md',
      'docs/clients.md',
      'docs/conformance.md',
      'docs/sso.md',
    ])
      for (const [, path] of read(document).matchAll(
        /`((?:interactions|adapters|server|test|docs|examples)\/[\w./-]+)`/g,
      ))
        assert.ok(exists(path!), `${document}: ${path}`)
  })

  it('docs/decisions/README.md lists every decision by its title', () => {
    const pages = readdirSync(new URL('../docs/decisions', import.meta.url)).filter((name) => name !== 'README.md')
    const titled = pages.map((name) => `- [${read(`docs/decisions/${name}`).slice(2).split('\n')[0]}](${name})`)
    const listed = read('docs/decisions/README.md').match(/^- .*$/gm)
    assert.deepEqual(listed?.sort(), titled.sort())
  })

  it('the code in README, docs/embedding.md and docs/clients.md stands in the examples', () => {
    const code = sources('examples').join('\n').split('\n')
    for (const document of ['README.md', 'docs/embedding.md', 'docs/clients.md'])
      for (const [, block] of read(document).matchAll(/```ts\n([\s\S]*?)```/g))
        for (const line of block!.trimEnd().split('\n')) assert.ok(code.includes(line), `${document}: ${line}`)
  })

  it('docs/requirements.md names tests that are there', () => {
    for (const [, path] of read('docs/requirements.md').matchAll(/\b(test\/[\w./-]+\.ts)\b/g))
      assert.ok(exists(path!), path)
  })
})

function exists(path: string): boolean {
  try {
    readdirSync(new URL(`../${path}`, import.meta.url))
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOTDIR'
  }
}
