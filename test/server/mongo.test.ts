/** The server on MongoDB: one setting, the same house. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { openMongo } from '../../adapters/mongo/index.ts'
import { KeyRing } from '../../interactions/index.ts'
import { ConfigError, type Environment, loadConfig } from '../../server/config.ts'
import { migrateStore } from '../../server/database.ts'
import { diagnose } from '../../server/doctor.ts'
import { createKeyRing, readKeyRing } from '../../server/key-ring-file.ts'
import { createLogger } from '../../server/log.ts'
import { openHouse } from '../../server/open.ts'
import { claimsIn, firstSignIn, openTestHouse } from '../support/house.ts'
import { freshName, needsStandIn, startStandIn, useMongo } from '../support/mongo.ts'
import { temporaryFolder } from '../support/temporary.ts'

const run = promisify(execFile)
const TSX = import.meta.resolve('tsx')
const PROGRAM = fileURLToPath(new URL('../../server/cli/index.ts', import.meta.url))
const logger = createLogger('silent')

describe('server on MongoDB', function () {
  this.timeout(60_000)
  const server = useMongo(this)
  /** A folder and a database that nobody used, and the settings that name them. */
  const settings = (more: Environment = {}) => {
    const cwd = temporaryFolder()
    const env = { PORT: '1', SALLYPORT_STORE: server().url(freshName()), SALLYPORT_LOG_LEVEL: 'silent', ...more }
    return { cwd, env, config: () => loadConfig(env, cwd) }
  }
  /** The command line. */
  const sallyport = (cwd: string, args: string[], env: Environment) =>
    run(process.execPath, ['--import', TSX, PROGRAM, ...args], {
      cwd,
      env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env },
    }).then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      ({ code, stdout, stderr }) => ({ code, stdout, stderr }) as { code: number; stdout: string; stderr: string },
    )

  it('takes a person from the password to a token with amr=otp', async () => {
    const test = await openTestHouse({ SALLYPORT_STORE: server().url(freshName()) })
    await test.person('ana@acme.example')
    const { answer } = await firstSignIn(test, 'ana@acme.example')
    const tokens = await test.exchange(answer)
    assert.deepEqual(claimsIn(tokens['id_token']).amr.sort(), ['mfa', 'otp', 'pwd'])
    assert.deepEqual((await test.database.auditReader.verifyAudit()).broken, undefined)
    await test.close()
    assert.equal(existsSync(join(test.folder, 'data', 'sallyport.sqlite')), false)
  })

  it('answers 503 while the database is away, and goes on when it is back', async function () {
    needsStandIn(this, 1) // also where there is a real server: nobody stops that one for a test
    const first = await startStandIn()
    const test = await openTestHouse({ SALLYPORT_STORE: first.url('sallyport') })
    const statusOf = async (path: string) => (await fetch(`${test.url}${path}`)).status
    assert.equal(await statusOf('/readyz'), 200)
    await first.kill()
    assert.deepEqual(await Promise.all(['/readyz', '/healthz'].map(statusOf)), [503, 200])
    assert.equal((await test.visitor().go(test.authUrl())).status, 503)
    const second = await startStandIn({ port: first.port })
    await migrateStore(test.house.config.SALLYPORT_STORE) // in memory: it has forgotten everything
    assert.equal(await statusOf('/readyz'), 200)
    await test.close()
    await second.kill()
  })

  it('opens in development without more ado, and once more', async () => {
    const { config } = settings()
    const houses = await Promise.all([1, 2].map(() => openHouse(config(), { createKeys: true, logger })))
    const kids = await Promise.all(
      houses.map(async ({ database }) => (await database.signingKeys.signingKeys()).length),
    )
    assert.deepEqual(kids, [1, 1])
    for (const house of houses) await house.close()
    await (await openHouse(config(), { logger })).close()
  })

  it('in production asks for `sallyport migrate`, which needs no key ring, and opens after it', async () => {
    const { cwd, env } = settings({ NODE_ENV: 'production', SALLYPORT_KEYS: 'keys.json' })
    createKeyRing(join(cwd, 'keys.json'))
    const refused = await sallyport(cwd, ['serve'], env)
    assert.equal(refused.code, 2)
    assert.match(refused.stderr, /SALLYPORT_STORE: .*mongodb:.*run `sallyport migrate`$/m)

    rmSync(join(cwd, 'keys.json'))
    const migrated = await sallyport(cwd, ['migrate', '--json'], env)
    assert.equal(migrated.code, 0, migrated.stderr)
    assert.equal(JSON.parse(migrated.stdout).up_to_date, true)

    createKeyRing(join(cwd, 'keys.json'))
    await (await openHouse(loadConfig(env, cwd), { createKeys: true, logger })).close()
  })

  it('has nothing to migrate in SQLite', async () => {
    assert.match(await migrateStore(loadConfig({}, temporaryFolder()).SALLYPORT_STORE), /needs nothing/)
  })

  it('makes no new key ring beside a database that is in use, nor does `keys init`', async () => {
    const { cwd, env, config } = settings()
    await (await openHouse(config(), { createKeys: true, logger })).close()
    rmSync(join(cwd, 'data', 'keys.json'))
    await assert.rejects(openHouse(config(), { createKeys: true, logger }), /restore its key ring/)
    const { code, stderr } = await sallyport(cwd, ['keys', 'init'], env)
    assert.equal(code, 1)
    assert.match(stderr, /would not open mongodb:/)
    createKeyRing(join(cwd, 'data', 'keys.json'))
    await assert.rejects(openHouse(config(), { logger }), /^ConfigError: SALLYPORT_KEYS: .*does not open mongodb:/)
  })

  it('shows no credentials: not when it cannot be opened, not in what the doctor says', async () => {
    const env = { PORT: '1', SALLYPORT_STORE: 'mongodb://ana:hunter2@127.0.0.1:1/sallyport?appName=hunter2' }
    const cwd = temporaryFolder()
    createKeyRing(join(cwd, 'data', 'keys.json'))
    await assert.rejects(openHouse(loadConfig(env, cwd), { logger }), (error: Error) => {
      assert.ok(error instanceof ConfigError)
      assert.match(error.message, /^SALLYPORT_STORE: cannot open mongodb:\/\/127\.0\.0\.1:1\/sallyport: /)
      assert.doesNotMatch(error.message, /hunter2|ana/)
      return true
    })
    const said = JSON.stringify(await diagnose(env, cwd))
    assert.match(said, /mongodb:\/\/127\.0\.0\.1:1\/sallyport/)
    assert.doesNotMatch(said, /hunter2/)
  })

  it('is looked over by the doctor', async () => {
    const { cwd, env, config } = settings()
    await (await openHouse(config(), { createKeys: true, logger })).close()
    const findings = await diagnose(env, cwd)
    assert.deepEqual(
      findings.filter(({ status }) => status === 'fail'),
      [],
    )
    assert.match(findings.find(({ name }) => name === 'store')?.message ?? '', /^mongodb:.* is whole$/)
    assert.equal(
      findings.some(({ name }) => name === 'disk'),
      false,
    )
  })

  it('dry-runs, applies, lists and rotates keys by the command line', async () => {
    const { cwd, env } = settings()
    const seed = { companies: [{ id: 'acme', name: 'Acme', side: 'payor', domains: [] }] }
    const file = join(cwd, 'seed.json')
    writeFileSync(file, JSON.stringify(seed))
    const steps: [args: string[], says: RegExp][] = [
      [['apply', file, '--dry-run'], /company acme/],
      [['apply', file], /company acme/],
      [['apply', file], /nothing to change/],
      [['company', 'list'], /acme/],
      [['keys', 'rotate', '--data'], /seals from now on; [1-9]\d* stored values/],
      [['audit', 'verify'], /./],
    ]
    for (const [args, says] of steps) {
      const { code, stdout, stderr } = await sallyport(cwd, args, env)
      assert.equal(code, 0, `${args.join(' ')}: ${stderr}`)
      assert.match(stdout, says, args.join(' '))
    }
    const newest = { keys: [readKeyRing(join(cwd, 'data', 'keys.json'))!.ring.keys[0]!] }
    const database = await openMongo({ url: env['SALLYPORT_STORE'], sealer: new KeyRing(newest) })
    assert.equal((await database.signingKeys.signingKeys()).length, 1)
    await database.close()
  })

  it('loads mongoose only where it is used', async () => {
    const cwd = temporaryFolder()
    const script = join(cwd, 'script.mts')
    const from = (path: string) => JSON.stringify(new URL(`../../${path}`, import.meta.url).href)
    writeFileSync(
      script,
      `import { createRequire } from 'node:module'
       import * as plugin from ${from('interactions/index.ts')}
       import { openHouse } from ${from('server/open.ts')}
       import { loadConfig } from ${from('server/config.ts')}
       const house = await openHouse(loadConfig({ SALLYPORT_LOG_LEVEL: 'silent' }, ${JSON.stringify(cwd)}), { createKeys: true })
       await house.close()
       const loaded = () => Object.keys(createRequire(import.meta.url).cache).some((file) => file.includes('/mongoose/'))
       const before = loaded()
       await import(${from('adapters/mongo/index.ts')})
       console.log(JSON.stringify([typeof plugin.createProvider, before, loaded()]))`,
    )
    const { stdout } = await run(process.execPath, ['--import', TSX, script], {
      cwd: fileURLToPath(new URL('../..', import.meta.url)),
    })
    assert.deepEqual(JSON.parse(stdout), ['function', false, true])
  })
})
