import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const ROOMS = ['credentials', 'challenge', 'enrollment', 'mailed-link', 'recovery', 'consent', 'federation']

/** Who may import whom. The first rule that fits a file is the one that holds. */
const RULES: { files: RegExp; may: RegExp[] }[] = [
  { files: /^interactions\/kit\//, may: [/^interactions\/kit\//] },
  { files: /^interactions\/factors\//, may: [/^interactions\/factors\//] },
  ...ROOMS.map((room) => ({
    files: new RegExp(`^interactions/${room}/`),
    may: [new RegExp(`^interactions/${room}/`), /^interactions\/(kit|factors)\//],
  })),
  { files: /^interactions\/policy\.ts$/, may: [/^interactions\/kit\/(stores|room)\.ts$/] },
  { files: /^interactions\//, may: [/^interactions\//] },
  // What is the same in every database.
  { files: /^adapters\/[\w-]+\.ts$/, may: [/^interactions\/kit\/stores\.ts$/] },
  {
    files: /^adapters\/(\w+)\//,
    may: [/^adapters\/$1\//, /^adapters\/[\w-]+\.ts$/, /^interactions\/kit\/stores\.ts$/, /^server\/stores\.ts$/],
  },
  // Types of the plugin's stores reach the server's stores; everything else goes through the doors.
  { files: /^server\/stores\.ts$/, may: [/^interactions\/kit\/stores\.ts$/] },
  // An example is an outside user: it has its own folder, and the doors by their published names.
  { files: /^examples\/([\w-]+)\//, may: [/^examples\/$1\//] },
  // The demo's app and API are the examples that it shows.
  { files: /^server\/demo\//, may: [/^server\//, /^interactions\/index\.ts$/, /^examples\/resource-server\//] },
  { files: /^server\//, may: [/^server\//, /^interactions\/index\.ts$/, /^adapters\/\w+\/index\.ts$/] },
]

const sources = (folder: string): string[] =>
  readdirSync(join(ROOT, folder)).flatMap((name) => {
    const path = join(folder, name)
    if (statSync(join(ROOT, path)).isDirectory()) return sources(path)
    return path.endsWith('.ts') ? [path] : []
  })

const importsOf = (file: string): string[] =>
  [...readFileSync(join(ROOT, file), 'utf8').matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map(([, target]) =>
    relative(ROOT, resolve(ROOT, dirname(file), target!)),
  )

/** The imports of a file that its rule forbids. */
function forbidden(file: string, imports: string[]): string[] {
  const rule = RULES.find(({ files }) => files.test(file))
  assert.ok(rule, `no rule for ${file}: say in test/rooms.test.ts what it may import`)
  const [, captured = ''] = rule.files.exec(file)!
  const may = rule.may.map((pattern) => new RegExp(pattern.source.replace('$1', captured)))
  return imports.filter((target) => !may.some((pattern) => pattern.test(target)))
}

describe('rooms', () => {
  for (const file of ['interactions', 'adapters', 'server', 'examples'].flatMap(sources))
    it(`${file} imports only what it may`, () => assert.deepEqual(forbidden(file, importsOf(file)), []))

  it('examples come in by published doors', () => {
    const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { exports: object }
    const doors = Object.keys(exports).map((path) => path.replace('.', 'sallyport'))
    for (const file of sources('examples'))
      for (const [, door] of readFileSync(join(ROOT, file), 'utf8').matchAll(/'(sallyport[/\w]*)'/g))
        assert.ok(doors.includes(door!), `${file}: ${door}`)
  })

  it('notices a room that reaches into another, and a server that comes in by the window', () => {
    assert.equal(forbidden('interactions/challenge/index.ts', ['interactions/recovery/index.ts']).length, 1)
    assert.equal(forbidden('interactions/kit/router.ts', ['interactions/policy.ts']).length, 1)
    assert.equal(forbidden('adapters/sqlite/totp.ts', ['adapters/mongo/index.ts']).length, 1)
    assert.equal(forbidden('server/app.ts', ['interactions/policy.ts']).length, 1)
    assert.equal(forbidden('examples/embed/after.ts', ['interactions/index.ts']).length, 1)
  })

  it('has one view at least for every room', () => {
    const views = readdirSync(join(ROOT, 'views'))
    const built = ROOMS.filter((name) => existsSync(join(ROOT, 'interactions', name, 'index.ts')))
    for (const room of built)
      assert.ok(
        views.some((view) => view.startsWith(room)),
        room,
      )
  })

  it('loads SAML when somebody signs in by it, and samlify in one file', () => {
    const libraries = /from '(samlify|libxml2-wasm|xml-crypto|@xmldom\/xmldom)'/g
    for (const file of ['interactions', 'adapters', 'server', 'examples'].flatMap(sources)) {
      const text = readFileSync(join(ROOT, file), 'utf8')
      // The demo's company is another party, in a process of its own.
      if (file === 'server/demo/identity-provider.ts') continue
      const inside = file.startsWith('interactions/federation/saml/')
      const used = [...text.matchAll(libraries)].map(([, name]) => name)
      if (!inside) assert.deepEqual(used, [], file)
      if (used.includes('samlify')) assert.equal(file, 'interactions/federation/saml/samlify.ts')
      // `import type` leaves nothing behind; any other import would load it all.
      if (!inside) assert.doesNotMatch(text, /^(?:import|export)(?! type)[^']*from '[^']*saml\/[^']*'/m, file)
    }
  })
})
