import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Environment } from '../../server/config.ts'
import { temporaryFolder } from '../support/temporary.ts'

const TSX = import.meta.resolve('tsx')
const PROGRAM = fileURLToPath(new URL('../../server/cli/index.ts', import.meta.url))
const PASSWORD = 'correct horse battery staple'
const SECRET = 'a-client-secret-of-more-than-32-characters'
const SEED = `
companies: [{ id: acme, name: Acme, side: payor, domains: [acme.example] }]
users:
  - { email: ana@acme.example, password: ${PASSWORD}, memberships: [{ company: acme, roles: [disburser] }] }
clients: [{ client_id: payments, client_secret: ${SECRET}, redirect_uris: [http://127.0.0.1:4000/cb] }]
`

interface Done {
  code: number
  stdout: string
  stderr: string
}

function start(cwd: string, args: string[], env: Environment = {}): ChildProcess {
  const { PATH, HOME } = process.env
  return spawn(process.execPath, ['--import', TSX, PROGRAM, ...args], { cwd, env: { PATH, HOME, ...env } })
}

/** Runs the command line in a process of its own, with none of this one's settings. */
async function run(cwd: string, args: string[], env: Environment = {}): Promise<Done> {
  const child = start(cwd, args, env)
  const done = { stdout: '', stderr: '' }
  child.stdout!.on('data', (chunk) => {
    done.stdout += chunk
  })
  child.stderr!.on('data', (chunk) => {
    done.stderr += chunk
  })
  const [code] = await once(child, 'close')
  return { code, ...done }
}

/** Runs a few at a time, in order. */
async function atOnce(tasks: (() => Promise<Done>)[]): Promise<Done[]> {
  const done: Done[] = []
  while (done.length < tasks.length)
    done.push(...(await Promise.all(tasks.slice(done.length, done.length + 4).map((task) => task()))))
  return done
}

/** Our own line on standard error; the library's warning about the running Node is not ours. */
const complaints = ({ stderr }: Done) => stderr.split('\n').filter((line) => line.startsWith('sallyport: '))

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // listening on TCP
  server.close()
  await once(server, 'close')
  return port
}

describe('command line', function () {
  this.timeout(60_000) // each command is a process of its own
  let cwd: string
  before(async () => {
    cwd = temporaryFolder()
    writeFileSync(join(cwd, 'seed.yaml'), SEED)
  })

  it('explains itself, with examples', async () => {
    const helps = await Promise.all(
      [['--help'], ['apply', '--help'], ['mfa', 'reset', '--help']].map((a) => run(cwd, a)),
    )
    for (const { code, stdout, stderr } of helps) {
      assert.equal(code, 0)
      assert.equal(stderr, '') // the provider, which warns on an old Node, is not loaded for help
      assert.match(stdout, /Examples?:/)
    }
  })

  it('shows the difference and writes nothing with --dry-run; then applies it, once', async () => {
    const dry = await run(cwd, ['apply', 'seed.yaml', '--dry-run', '--json'])
    assert.equal(dry.code, 0, dry.stderr)
    assert.equal(JSON.parse(dry.stdout).changes.length, 3)
    assert.deepEqual(readdirSync(cwd), ['seed.yaml'])

    const first = await run(cwd, ['apply', 'seed.yaml'])
    assert.match(first.stdout, /^\+ client payments$/m)
    const second = await run(cwd, ['apply', 'seed.yaml'])
    assert.equal(second.stdout, 'nothing to change\n')

    const rows = async () => (await run(cwd, ['audit', 'list', '--json'])).stdout
    const before = await rows()
    writeFileSync(join(cwd, 'other.yaml'), SEED.replace('name: Acme', 'name: Other'))
    assert.match((await run(cwd, ['apply', 'other.yaml', '--dry-run'])).stdout, /^~ company acme \(name\)$/m)
    assert.equal(await rows(), before)
    assert.match((await run(cwd, ['company', 'show', 'acme', '--json'])).stdout, /"name": "Acme"/)
    assert.equal(statSync(join(cwd, 'data/keys.json')).mode & 0o777, 0o600)
  })

  it('lists and shows what there is, in words and in JSON, and never a secret', async () => {
    const commands = [
      ['client', 'list'],
      ['client', 'show', 'payments'],
      ['user', 'list'],
      ['user', 'show', 'Ana@acme.example'],
      ['company', 'list'],
      ['company', 'show', 'acme'],
      ['mfa', 'show', 'ana@acme.example'],
      ['keys', 'list'],
      ['audit', 'list', '--event', 'config.applied'],
      ['audit', 'verify'],
    ]
    const inWords = commands.filter(([noun]) => noun === 'client' || noun === 'keys')
    const asked = [...inWords, ...commands.map((args) => [...args, '--json'])]
    const all = await atOnce(asked.map((args) => () => run(cwd, args)))
    const key = JSON.parse(readFileSync(join(cwd, 'data/keys.json'), 'utf8')).keys[0].key
    for (const [index, { code, stdout, stderr }] of all.entries()) {
      const label = asked[index]!.join(' ')
      assert.equal(code, 0, `${label}: ${stderr}`)
      assert.notEqual(stdout, '', label)
      if (asked[index]!.includes('--json')) JSON.parse(stdout)
      for (const secret of [SECRET, PASSWORD, 'argon2id', key, '"d"']) assert.ok(!stdout.includes(secret), label)
    }
  })

  it('refuses what is not there in one sentence', async () => {
    const asked = [
      ['client', 'show', 'none'],
      ['user', 'show', 'none@acme.example'],
      ['company', 'show', 'none'],
      ['mfa', 'show', 'none@acme.example'],
      ['mfa', 'reset', 'none@acme.example', '--reason', 'x'],
      ['audit', 'list', '--user', 'none@acme.example'],
    ]
    for (const done of await atOnce(asked.map((args) => () => run(cwd, args)))) {
      assert.equal(done.code, 1, done.stderr)
      assert.equal(complaints(done).length, 1)
      assert.equal(done.stdout, '')
    }
  })

  it('answers wrong usage with 2', async () => {
    const wrong = [
      ['nonsense'],
      ['client', 'show'],
      ['mfa', 'reset', 'ana@acme.example'],
      ['audit', 'list', '--limit', 'x'],
      ['keys', 'rotate'],
      ['keys', 'rotate', '--signing', '--data'],
      ['apply', 'seed.yaml', '--prune', 'users'],
    ]
    for (const [index, { code, stdout }] of (await atOnce(wrong.map((args) => () => run(cwd, args)))).entries()) {
      assert.equal(code, 2, wrong[index]!.join(' '))
      assert.equal(stdout, '')
    }
  })

  it('answers a bad setting, store, key ring or seed file with one line that names it, and 2', async () => {
    writeFileSync(join(cwd, 'bad.yaml'), 'clients: [{ client_id: a, redirect_urls: [] }]')
    writeFileSync(join(cwd, 'letter'), 'no database. '.repeat(500))
    writeFileSync(join(cwd, 'ring'), '{}')
    const bad: [args: string[], env: Environment, named: RegExp][] = [
      [['serve'], { PORT: 'x' }, /PORT/],
      [['serve'], { SALLYPORT_ISSUER: 'https://a/' }, /SALLYPORT_ISSUER/],
      [['serve'], { SALLYPORT_STORE: 'mongodb://a' }, /SALLYPORT_STORE.*must name a database/],
      [['serve'], { SALLYPORT_STORE: 'sqlite:letter' }, /SALLYPORT_STORE/],
      [['serve'], { SALLYPORT_KEYS: 'ring' }, /SALLYPORT_KEYS/],
      [['serve'], { NODE_ENV: 'production' }, /SALLYPORT_KEYS/],
      [['user', 'list'], { SALLYPORT_DATA_DIR: 'elsewhere' }, /SALLYPORT_KEYS/],
      [['user', 'list', '--config', 'none.yaml'], {}, /none\.yaml/],
      [['apply', 'bad.yaml'], {}, /redirect_urls.*did you mean redirect_uris/],
      [['apply', 'none.yaml'], {}, /none\.yaml/],
    ]
    const all = await atOnce(
      bad.map(
        ([args, env]) =>
          () =>
            run(cwd, args, env),
      ),
    )
    for (const [index, done] of all.entries()) {
      const [args, env, named] = bad[index]!
      const label = `${args.join(' ')} ${JSON.stringify(env)}: ${done.stderr}`
      assert.equal(done.code, 2, label)
      assert.equal(complaints(done).length, 1, label)
      assert.match(complaints(done)[0]!, named)
      assert.doesNotMatch(done.stderr, /\n\s+at /, label)
    }
    assert.equal(existsSync(join(cwd, 'elsewhere')), false)
  })

  it('resets a person’s factors and records who did it, to whom and why', async () => {
    const done = await run(cwd, ['mfa', 'reset', 'ana@acme.example', '--reason', 'lost phone', '--json'])
    assert.equal(done.code, 0, done.stderr)
    const [row] = JSON.parse((await run(cwd, ['audit', 'list', '--user', 'ana@acme.example', '--json'])).stdout)
    assert.equal(row.event, 'mfa.reset')
    assert.match(row.actor, /^operator:/)
    assert.equal(row.details.reason, 'lost phone')
    const user = JSON.parse((await run(cwd, ['user', 'show', 'ana@acme.example', '--json'])).stdout)
    assert.equal(user.securityEpoch, 1)
  })

  it('hands out the link to enrol anew where mail is off, and mails it where it is on', async () => {
    const mailed = await run(cwd, ['mfa', 'reset', 'ana@acme.example', '--reason', 'lost phone', '--reference', '4711'])
    assert.match(mailed.stdout, /they are mailed a link when they sign in/)
    const [row] = JSON.parse((await run(cwd, ['audit', 'list', '--user', 'ana@acme.example', '--json'])).stdout)
    assert.equal(row.details.reference, '4711')
    const off = {
      NODE_ENV: 'production',
      SALLYPORT_ISSUER: 'https://id.example',
      SALLYPORT_KEYS: join(cwd, 'data/keys.json'),
    }
    const done = await run(cwd, ['mfa', 'reset', 'ana@acme.example', '--reason', 'lost phone', '--json'], off)
    const { link } = JSON.parse(done.stdout)
    assert.match(link, /^https:\/\/id\.example\/enrol\?token=[\w-]{43}$/, done.stderr)
    const { stdout } = await run(cwd, ['audit', 'list', '--json'])
    assert.ok(!stdout.includes(new URL(link).searchParams.get('token')!))
  })

  it('opens what wrong answers have closed, with a reason, and tells the audit before and after', async () => {
    const done = await run(cwd, ['user', 'unlock', 'ana@acme.example', '--reason', 'called back', '--json'])
    assert.deepEqual(JSON.parse(done.stdout), { email: 'ana@acme.example', unlocked: true }, done.stderr)
    const rows = JSON.parse((await run(cwd, ['audit', 'list', '--user', 'ana@acme.example', '--json'])).stdout)
    assert.deepEqual(
      rows.slice(0, 2).map(({ event }: { event: string }) => event),
      ['user.unlocked', 'administration.begun'],
    )
    assert.equal((await run(cwd, ['user', 'unlock', 'nobody@acme.example', '--reason', 'x'])).code, 1)
    assert.equal((await run(cwd, ['user', 'unlock', 'ana@acme.example', '--reason', ' '])).code, 1)
    assert.equal((await run(cwd, ['user', 'unlock', 'ana@acme.example'])).code, 2)
  })

  it('shows a reason with control characters as plain text', async () => {
    await run(cwd, ['mfa', 'reset', 'ana@acme.example', '--reason', 'a\u001b[2Jb\nc'])
    const { stdout } = await run(cwd, ['audit', 'list', '--limit', '1'])
    assert.ok(!stdout.includes('\u001b'), JSON.stringify(stdout))
    assert.equal(stdout.trim().split('\n').length, 2)
  })

  it('rotates both kinds of keys, and everything still opens', async () => {
    chmodSync(join(cwd, 'data/keys.json'), 0o640)
    const signing = await run(cwd, ['keys', 'rotate', '--signing', '--json'])
    assert.equal(signing.code, 0, signing.stderr)
    const data = await run(cwd, ['keys', 'rotate', '--data', '--json'])
    assert.equal(data.code, 0, data.stderr)
    assert.equal(JSON.parse(data.stdout).rewrapped, 6) // a client's secret, two signing keys, and letters of three resets
    assert.equal(statSync(join(cwd, 'data/keys.json')).mode & 0o777, 0o640)

    const keys = JSON.parse((await run(cwd, ['keys', 'list', '--json'])).stdout)
    const states = ({ signing }: { signing: { state: string }[] }) => signing.map(({ state }) => state).join()
    assert.equal(states(keys), 'next,active')
    assert.equal(keys.signing[0].kid, JSON.parse(signing.stdout).kid)
    // Against the key's own time: other test files set this process's clock.
    const { created, signs_from } = keys.signing[0]
    assert.ok(Date.parse(signs_from) - Date.parse(created) > 23 * 60 * 60 * 1000)
    for (const [command, complaint] of [
      [['rotate', '--signing'], /published already and signs from/],
      [['activate'], /--now does not wait/],
    ] as const) {
      const refused = await run(cwd, ['keys', ...command])
      assert.equal(refused.code, 1)
      assert.match(refused.stderr, complaint)
    }
    assert.equal((await run(cwd, ['keys', 'activate', '--now'])).code, 0)
    const after = JSON.parse((await run(cwd, ['keys', 'list', '--json'])).stdout)
    assert.equal(states(after), 'active,retired')
    assert.ok(Date.parse(after.signing[1].published_until) - Date.parse(created) > 30 * 24 * 60 * 60 * 1000)
    assert.equal((await run(cwd, ['keys', 'prune'])).stdout, 'nothing to remove\n')
    assert.match((await run(cwd, ['keys', 'prune', '--now'])).stdout, /is gone/)
    assert.equal(keys.data[0].id, JSON.parse(data.stdout).key)
    assert.equal((await run(cwd, ['client', 'show', 'payments'])).code, 0)
    assert.equal((await run(cwd, ['audit', 'verify'])).code, 0)
  })

  it('makes a key ring for production, once', async () => {
    const folder = temporaryFolder()
    const env = { NODE_ENV: 'production', SALLYPORT_KEYS: join(folder, 'keys.json') }
    assert.equal((await run(folder, ['keys', 'init'], env)).code, 0)
    const before = readFileSync(env.SALLYPORT_KEYS, 'utf8')
    assert.equal((await run(folder, ['keys', 'init'], env)).code, 1)
    assert.equal(readFileSync(env.SALLYPORT_KEYS, 'utf8'), before)
  })

  it('makes no key ring for a database that has lost its own', async () => {
    const SALLYPORT_KEYS = join(temporaryFolder(), 'keys.json')
    const { code, stderr } = await run(cwd, ['keys', 'init'], { SALLYPORT_KEYS })
    assert.equal(code, 1, stderr)
    assert.match(stderr, /restore its key ring/)
    assert.equal(existsSync(SALLYPORT_KEYS), false)
  })

  it('makes nothing in a dry run before the first start', async () => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'seed.yaml'), SEED)
    for (const env of [{}, { NODE_ENV: 'production', SALLYPORT_KEYS: join(folder, 'keys.json') }]) {
      const { code, stdout, stderr } = await run(folder, ['apply', 'seed.yaml', '--dry-run'], env)
      assert.equal(code, 0, stderr)
      assert.match(stdout, /^\+ client payments$/m)
      assert.deepEqual(readdirSync(folder), ['seed.yaml'])
    }
  })

  it('serves until it is told to stop, and the doctor sees it', async () => {
    const env = { PORT: String(await freePort()), SALLYPORT_LOG_LEVEL: 'silent' }
    const server = start(cwd, ['serve', '--json'], env)
    try {
      const [first] = await once(server.stdout!, 'data')
      assert.equal(JSON.parse(String(first)).issuer, `http://127.0.0.1:${env.PORT}`)
      assert.equal((await fetch(`http://127.0.0.1:${env.PORT}/healthz`)).status, 200)

      const second = await run(cwd, ['serve'], env)
      assert.equal(second.code, 1)
      assert.match(complaints(second)[0] ?? '', /PORT/)

      const { code, stdout } = await run(cwd, ['doctor', '--json'], env)
      const findings: { name: string; status: string }[] = JSON.parse(stdout)
      assert.equal(code, 0, stdout)
      assert.equal(findings.find(({ name }) => name === 'server')?.status, 'ok')
      assert.equal(findings.find(({ name }) => name === 'key ring')?.status, 'warn') // 0640 since the rotation
    } finally {
      server.kill('SIGTERM')
    }
    const [code] = await once(server, 'close')
    assert.equal(code, 0)
  })

  it('lets the doctor say what is broken, with 1', async () => {
    const { code, stdout } = await run(temporaryFolder(), ['doctor'])
    assert.equal(code, 1)
    assert.match(stdout, /^fail .*SALLYPORT_KEYS/m)
  })
})
