/**
 * The package as it is published. The tarball is unpacked into the `node_modules` of an empty folder; what it depends on
 * is linked from here, so that nothing is fetched.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { temporaryFolder } from '../support/temporary.ts'

const run = promisify(execFile)
const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..')
const MODULES = join(ROOT, 'node_modules')

type Manifest = Record<'dependencies' | 'peerDependencies', Record<string, string>> & { bin: { sallyport: string } }

describe('the package', function () {
  this.timeout(60_000)
  let tarball: string
  let entries: string[]
  let manifest: Manifest
  let everything: string

  before(async () => {
    const folder = temporaryFolder()
    // `prepack` builds first, so that what is packed is what stands here.
    await run('npm', ['pack', '--pack-destination', folder], { cwd: ROOT })
    tarball = join(folder, readdirSync(folder)[0]!)
    entries = (await run('tar', ['-tzf', tarball])).stdout.trim().split('\n')
    everything = await installed()
    manifest = JSON.parse(readFileSync(join(everything, 'node_modules/sallyport/package.json'), 'utf8')) as Manifest
  })

  /** An empty folder with the package in it, and of what it depends on all, or only `these`. */
  async function installed(these?: string[]): Promise<string> {
    const folder = temporaryFolder()
    const modules = join(folder, 'node_modules')
    const place = join(modules, 'sallyport')
    mkdirSync(place, { recursive: true })
    await run('tar', ['-xzf', tarball, '-C', place, '--strip-components', '1'])
    const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(place, 'package.json'), 'utf8')) as Manifest
    for (const name of these ?? Object.keys({ ...dependencies, ...peerDependencies })) {
      mkdirSync(dirname(join(modules, name)), { recursive: true })
      symlinkSync(join(MODULES, name), join(modules, name))
    }
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    return folder
  }

  /** Runs plain JavaScript in a folder. @returns what it printed */
  async function script(folder: string, code: string): Promise<string> {
    writeFileSync(join(folder, 'script.js'), code)
    return (await run(process.execPath, ['script.js'], { cwd: folder })).stdout.trim()
  }

  const sallyport = (folder: string, ...args: string[]) =>
    run(process.execPath, [join('node_modules/sallyport', manifest.bin.sallyport), ...args], { cwd: folder })

  it('holds compiled code, types, pages, pictures, sentences, and nothing else', () => {
    const allowed =
      /^package\/(package\.json|README\.md|LICENSE|dist\/(interactions|adapters|server|examples\/resource-server)\/[\w/-]+(\.js|\.d\.ts)|(views|public|locales|schemas)\/[\w/.-]+\.(ejs|css|js|svg|json|xsd|md))$/
    assert.deepEqual(
      entries.filter((entry) => !allowed.test(entry)),
      [],
    )
    for (const needed of [
      'views/message.ejs',
      'public/sallyport.css',
      'locales/en.json',
      'dist/interactions/index.d.ts',
    ])
      assert.ok(entries.includes(`package/${needed}`), needed)
  })

  it('holds no key, no password and no path of the machine it was made on', () => {
    const place = join(everything, 'node_modules/sallyport')
    for (const name of readdirSync(place, { recursive: true, encoding: 'utf8' })) {
      if (!/\.(js|ts|json|ejs|css|md)$/.test(name)) continue
      const text = readFileSync(join(place, name), 'utf8')
      assert.ok(!text.includes(ROOT), `${name} names ${ROOT}`)
      assert.ok(!/BEGIN [A-Z ]*PRIVATE KEY|\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$\w{10}/.test(text), name)
    }
  })

  it('has its three doors in plain JavaScript', async () => {
    const printed = await script(
      everything,
      `import { createProvider, createSallyport, KeyRing, newKeyRing } from 'sallyport'
       import { openSqlite } from 'sallyport/sqlite'
       import { loadConfig, openHouse, startServer } from 'sallyport/server'
       import { Provider } from 'oidc-provider'
       const sealer = new KeyRing(newKeyRing())
       const database = await openSqlite({ file: ':memory:', sealer })
       const passwords = { hash: async () => '', verify: async () => false, isOutdated: () => false }
       const provider = createProvider('http://127.0.0.1:3000', {}, { stores: database, keyRing: sealer, passwords, brand: { name: 'Acme' } })
       console.log([createSallyport, loadConfig, openHouse, startServer].map((door) => typeof door).join(), provider instanceof Provider)`,
    )
    assert.match(printed, /function,function,function,function true$/)
  })

  it('needs only what a door uses: the plugin no command line, SQLite no oidc-provider', async () => {
    const server = ['commander', 'pino', 'openid-client', 'yaml', '@photostructure/sqlite']
    const plugin = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })
    const embedding = await installed(plugin.filter((name) => !server.includes(name)))
    assert.match(
      await script(embedding, `import { createProvider } from 'sallyport'; console.log(typeof createProvider)`),
      /function$/,
    )
    const storing = await installed(['@photostructure/sqlite'])
    assert.match(
      await script(storing, `import { openSqlite } from 'sallyport/sqlite'; console.log(typeof openSqlite)`),
      /function$/,
    )
  })

  it('answers `sallyport --help` by its bin, without loading the server', async () => {
    const folder = await installed(['commander', 'yaml', 'zod'])
    const { stdout } = await sallyport(folder, '--help')
    assert.match(stdout, /^Usage: sallyport/)
    assert.match(stdout, /serve .*\n/)
  })

  it('says what to do when oidc-provider is not there', async () => {
    const folder = await installed(Object.keys(manifest.dependencies))
    const refused = await sallyport(folder, 'demo', '--auto').catch((error: { code: number; stderr: string }) => error)
    assert.equal('code' in refused && refused.code, 1)
    assert.equal(refused.stderr, 'sallyport: the package oidc-provider is not installed: npm install oidc-provider@9\n')
  })

  it('plays the demo: pages, style sheet and sentences are found', async () => {
    const { stdout } = await sallyport(everything, 'demo', '--auto')
    const claims = JSON.parse(stdout.slice(stdout.indexOf('\n{'))) as { amr: string[] }
    assert.deepEqual(claims.amr, ['pwd', 'otp', 'mfa'])
    assert.match(stdout, /by company sign-in: amr \["otp","mfa"\]/)
  })

  it('type-checks an app with strict settings, declarations included', async () => {
    cpSync(join(ROOT, 'test/package/consumer.ts'), join(everything, 'consumer.ts'))
    cpSync(join(ROOT, 'examples/embed'), join(everything, 'embed'), { recursive: true })
    for (const name of ['@types/node', 'koa-mount', '@types/koa-mount'])
      symlinkSync(join(MODULES, name), join(everything, 'node_modules', name))
    const compilerOptions = {
      target: 'es2023',
      lib: ['es2023'],
      module: 'nodenext',
      strict: true,
      noUncheckedIndexedAccess: true,
      exactOptionalPropertyTypes: true,
      verbatimModuleSyntax: true,
      skipLibCheck: false,
      allowImportingTsExtensions: true,
      noEmit: true,
      types: ['node'],
    }
    const files = ['consumer.ts', 'embed/after.ts']
    writeFileSync(join(everything, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
    const told = await run(process.execPath, [join(MODULES, 'typescript/bin/tsc'), '-p', everything]).catch(
      (error: { stdout: string }) => error,
    )
    assert.equal(told.stdout, '')
  })
})
