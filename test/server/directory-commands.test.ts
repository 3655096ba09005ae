/** `company|user|resource|client add|set|remove`: the way of `apply`, one entry at a time. */
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, lstatSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { createPasswordHasher } from '../../interactions/index.ts'
import { type Changed, changeDirectory, type Noun, type Wanted } from '../../server/changes.ts'
import { confirm, keysOf } from '../../server/cli/changes.ts'
import { overlapOf } from '../../server/cli/clients.ts'
import { type Environment, loadConfig } from '../../server/config.ts'
import { exportYaml } from '../../server/export.ts'
import { type House, openHouse } from '../../server/open.ts'
import { applyPlan, parseSeed, planSeed } from '../../server/seed/index.ts'
import { now } from '../support/clock.ts'
import { storeOf } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'

const PASSWORD = 'correct horse battery staple'
const SECRET = 'a-client-secret-of-more-than-32-characters'
const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 100 })

describe('directory commands', () => {
  let folder: string
  let house: House
  const open = async () =>
    openHouse(loadConfig({ SALLYPORT_LOG_LEVEL: 'silent', ...(await storeOf(folder)) }, folder), { createKeys: true })
  beforeEach(async () => {
    folder = temporaryFolder()
    house = await open()
  })
  afterEach(() => house.close())

  /** As the command line does it, options as commander gives them. */
  const change = (
    op: Wanted['op'],
    noun: Noun,
    id: string,
    options: Parameters<typeof keysOf>[1] = {},
    more: Partial<Wanted> = {},
    at = house,
  ): Promise<Changed> =>
    changeDirectory(
      at,
      { op, noun, id, ...(op !== 'remove' && { keys: keysOf(noun, options) }), ...more },
      'operator:test',
    )
  const add = (noun: Noun, id: string, options?: Parameters<typeof keysOf>[1], more?: Partial<Wanted>) =>
    change('add', noun, id, options, more)
  const set = (noun: Noun, id: string, options?: Parameters<typeof keysOf>[1], more?: Partial<Wanted>) =>
    change('set', noun, id, options, more)
  const remove = (noun: Noun, id: string) => change('remove', noun, id)
  const exported = async (at = house) => {
    let text = ''
    for await (const piece of exportYaml(at.database.directory)) text += piece
    return text
  }
  const apply = async (text: string, at = house) => {
    const plan = await planSeed(at.database, parseSeed(text, 'seed', {}), { hash: hasher.hash })
    await applyPlan(at.database, plan, 'operator:test')
  }
  const web = (options: Parameters<typeof keysOf>[1] = {}) =>
    add('client', 'web', { redirectUri: ['https://w.example/cb'], ...options })

  it('make what the same seed file makes', async () => {
    await add('company', 'acme', { name: 'Acme', side: 'payor', domain: ['acme.example', 'a.example'] })
    await add('company', 'city', { set: ['mfa={"enforced_from":"2027-01-31","zone":"UTC"}', 'help=Call 555 0100'] })
    const roles = ['acme:disburser', 'city', 'acme:company_admin', 'acme:disburser']
    await add(
      'user',
      ' Ana@Acme.example',
      { name: 'Ana', role: roles, serverRole: ['support'] },
      { password: PASSWORD },
    )
    await add('client', 'api', { name: 'Api', set: ['grant_types=[]'] }, { clientSecret: SECRET })
    await add('resource', 'https://api.example', { scope: ['a', 'b'], tokenFormat: 'opaque', client: 'api' })
    await web({ set: ['sallyport.mfa=required', 'sallyport.second_factor_max_age=60', 'client_uri=https://w.example'] })
    const file = `
companies:
  - { id: acme, name: Acme, side: payor, domains: [acme.example, a.example] }
  - { id: city, mfa: { enforced_from: "2027-01-31", zone: UTC }, help: Call 555 0100 }
users:
  - email: ana@acme.example
    name: Ana
    password: ${PASSWORD}
    memberships: [{ company: acme, roles: [disburser, company_admin] }, { company: city }]
    server_roles: [support]
resources: [{ id: "https://api.example", scopes: [a, b], token_format: opaque, client: api }]
clients:
  - { client_id: api, client_name: Api, client_secret: ${SECRET}, grant_types: [] }
  - client_id: web
    client_secret: ${SECRET}
    client_uri: https://w.example
    redirect_uris: [https://w.example/cb]
    sallyport: { mfa: required, second_factor_max_age: 60 }`
    const made = await exported()
    const other = await openHouse(
      loadConfig({ SALLYPORT_LOG_LEVEL: 'silent', ...(await storeOf(`${folder}-other`)) }, temporaryFolder()),
      { createKeys: true },
    )
    try {
      await apply(file, other)
      assert.equal(made, await exported(other))
    } finally {
      await other.close()
    }
    const hash = (await house.database.accounts.findByEmail('ana@acme.example'))?.passwordHash
    assert.equal(await hasher.verify(hash, PASSWORD), true)
  })

  it('set changes the keys that are named, and unset brings one back to its default', async () => {
    await add('company', 'acme', { name: 'Acme', side: 'payor', domain: ['acme.example'], set: ['help=Call'] })
    assert.deepEqual((await set('company', 'acme', { name: 'Other' })).lines, ['~ company acme (name)'])
    assert.deepEqual((await set('company', 'acme', { unset: ['help'] })).lines, ['~ company acme (help)'])
    assert.deepEqual((await set('company', 'acme', { side: 'payor' })).lines, [])
    assert.deepEqual(await house.database.directory.company('acme'), {
      id: 'acme',
      name: 'Other',
      side: 'payor',
      domains: ['acme.example'],
      disabled: false,
    })
    await web({ set: ['sallyport={"first_party":false,"mfa":"required"}'] })
    await set('client', 'web', { set: ['sallyport.second_factor_max_age=5'], unset: ['sallyport.mfa'] })
    assert.deepEqual((await house.database.directory.client('web'))?.['sallyport'], {
      first_party: false,
      mfa: 'by_role',
      second_factor_max_age: 5,
    })
  })

  it('set of roles leaves a membership disabled that was, and a person as they were', async () => {
    await add('company', 'acme', { side: 'payor' })
    await add('company', 'best', { side: 'payee' })
    const memberships = JSON.stringify([{ company: 'acme', roles: ['disburser'], disabled: true }])
    await add('user', 'ana@a.example', { set: [`memberships=${memberships}`, 'name=Ana'] }, { password: PASSWORD })
    const before = (await house.database.directory.user('ana@a.example'))!
    await set('user', 'ana@a.example', { role: ['acme:company_admin', 'best'] })
    assert.deepEqual(await house.database.directory.user('ana@a.example'), {
      ...before,
      memberships: [
        { company: 'acme', roles: ['company_admin'], disabled: true },
        { company: 'best', roles: [], disabled: false },
      ],
    })
  })

  it('refuse to add what is there, to set or remove what is not, and what apply refuses', async () => {
    await add('company', 'acme', { side: 'payor' })
    await add('user', 'ana@a.example', { role: ['acme:disburser'] })
    const conflict = (message: RegExp) => ({ name: 'StoreConflict', message })
    const wrong = (message: RegExp) => ({ name: 'SeedError', message })
    await assert.rejects(add('company', 'acme'), conflict(/company "acme" is there already.*company set/))
    await assert.rejects(add('user', 'ANA@a.example'), conflict(/user "ana@a.example" is there already/))
    for (const noun of ['company', 'user', 'resource', 'client'] as const) {
      const id = noun === 'user' ? 'no@a.example' : 'none'
      await assert.rejects(set(noun, id, {}), conflict(new RegExp(`no ${noun} "${id}".*${noun} list`)))
      await assert.rejects(remove(noun, id), conflict(new RegExp(`no ${noun} "${id}"`)))
    }
    // A person is known by their address here, as in a file.
    const { id } = (await house.database.directory.user('ana@a.example'))!
    await assert.rejects(remove('user', id), conflict(/no user/))
    await assert.rejects(set('company', 'acme', { set: ['nam=x'] }), wrong(/acme: nam: unknown key, did you mean name/))
    await assert.rejects(set('company', 'acme', { side: 'payer' }), wrong(/side: must be one of.*did you mean payor/))
    await assert.rejects(set('company', 'acme', { set: ['name=7'] }), wrong(/name: must be a text/))
    await assert.rejects(set('company', 'acme', { side: 'payee' }), conflict(/ana@a.example has the role disburser/))
    await assert.rejects(remove('company', 'acme'), conflict(/ana@a.example is still a member/))
    await assert.rejects(set('user', 'ana@a.example', { role: ['acmee:disburser'] }), conflict(/did you mean acme/))
    await assert.rejects(set('user', 'ana@a.example', {}, { password: 'short' }), conflict(/15 characters/))
    await assert.rejects(add('client', 'x', {}), conflict(/redirect_uris is missing/))
    await assert.rejects(add('client', 'ünicode'), wrong(/printable characters/))
    await assert.rejects(add('company', '株式会社'), wrong(/lower-case letters/))
    await assert.rejects(add('user', 'ana'), wrong(/e-mail address/))
    assert.equal((await house.database.directory.users()).length, 1)
  })

  it('know one spelling of an address, however it is typed', async () => {
    await add('user', 'unal@a.example', {})
    await set('user', ' UNAL@A.example ', { name: 'Ünal' })
    await remove('user', 'Unal@a.example')
    assert.deepEqual(await house.database.directory.users(), [])
  })

  it('--set takes no secret, no id, no state, and reaches no prototype', async () => {
    const misused = (message: RegExp) => ({ name: 'Misused', message })
    assert.throws(() => keysOf('user', { set: ['password=x'] }), misused(/--password-file/))
    assert.throws(() => keysOf('user', { set: ['password_hash=x'] }), misused(/apply/))
    assert.throws(() => keysOf('client', { set: ['client_secret=x'] }), misused(/--secret-file/))
    assert.throws(() => keysOf('client', { unset: ['client_secret'] }), misused(/--secret-file/))
    assert.throws(() => keysOf('client', { set: ['state=absent'] }), misused(/remove/))
    for (const [noun, key] of [
      ['user', 'email'],
      ['client', 'client_id'],
      ['company', 'id'],
      ['resource', 'id'],
    ] as const)
      assert.throws(() => keysOf(noun, { set: [`${key}=other`] }), misused(/add another/))
    for (const text of ['name', '=x', '']) assert.throws(() => keysOf('user', { set: [text] }), misused(/key=value/))
    await web()
    for (const path of ['__proto__.polluted', 'constructor.prototype.polluted', 'sallyport.__proto__.polluted'])
      await assert.rejects(set('client', 'web', { set: [`${path}=true`] }), /unknown key/)
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
    await assert.rejects(set('client', 'web', { set: ['__proto__={"client_secret":"x"}'] }), /unknown key/)
  })

  it('make a secret for a client that needs one, and for no other', async () => {
    const { clientSecret, lines } = await web()
    assert.deepEqual(lines, ['+ client web'])
    assert.match(clientSecret!, /^[\w-]{43}$/)
    assert.equal((await house.database.directory.client('web'))?.client_secret, clientSecret)
    assert.equal((await set('client', 'web', { name: 'Web' })).clientSecret, undefined)
    assert.equal((await house.database.directory.client('web'))?.client_secret, clientSecret)
    assert.equal((await set('client', 'web', { authMethod: 'none' })).clientSecret, undefined)
    assert.equal((await house.database.directory.client('web'))?.client_secret, undefined)
    const again = (await set('client', 'web', { authMethod: 'client_secret_post' })).clientSecret
    assert.ok(again && again !== clientSecret)
    const given = await set('client', 'web', {}, { clientSecret: SECRET })
    assert.deepEqual([given.lines, given.clientSecret], [['~ client web (client_secret)'], undefined])
  })

  it('a new password ends sessions, and one that is there is replaced', async () => {
    await add('user', 'ana@a.example', {}, { password: PASSWORD })
    const user = (await house.database.directory.user('ana@a.example'))!
    const session = { model: 'Session', key: 'k', uid: 'u', accountId: user.id, expiresAt: now() + 3600 }
    const payload = { accountId: user.id, authorizations: {}, uid: 'u', kind: 'Session', exp: now() + 3600 }
    await house.database.artifacts.save({ ...session, payload })
    await set('user', 'ana@a.example', {}, { password: 'another horse battery staple' })
    const hash = (await house.database.accounts.findByEmail('ana@a.example'))?.passwordHash
    assert.equal(await hasher.verify(hash, 'another horse battery staple'), true)
    assert.equal((await house.database.directory.user(user.id))?.securityEpoch, user.securityEpoch + 1)
    assert.deepEqual(await house.database.artifacts.sessionsOf(user.id, now()), [])
  })

  it('removing a person takes along what `state: absent` takes along', async () => {
    const leftovers = []
    for (const way of ['command', 'file']) {
      const email = `${way}@a.example`
      await add('user', email, {}, { password: PASSWORD })
      const { id } = (await house.database.directory.user(email))!
      const { database } = house
      const enrolment = {
        factor: { method: 'otp' as const, secret: 'JBSWY3DPEHPK3PXP', step: 1 },
        now: now(),
        factorVersion: 0,
        securityEpoch: 0,
      }
      await database.factors.activate(id, { ...enrolment, recoveryCodeId: 'code' })
      await database.devices.remember('device', id, now())
      await database.consents.remember(id, 'web', ['email'], now())
      await database.artifacts.save({
        model: 'RefreshToken',
        key: way,
        payload: {},
        accountId: id,
        expiresAt: now() + 60,
      })
      if (way === 'command') await remove('user', email)
      else await apply(`users: [{ email: ${email}, state: absent }]`)
      leftovers.push([
        await database.directory.user(id),
        await database.factors.totpSecret(id),
        await database.devices.knows('device', id),
        await database.consents.find(id, 'web'),
        await database.artifacts.find('RefreshToken', way, now()),
      ])
    }
    assert.deepEqual(leftovers[0], leftovers[1])
    assert.deepEqual(leftovers[0]?.filter(Boolean), [])
  })

  it('of many at once on one thing none loses what another wrote', async () => {
    await add('company', 'acme', { side: 'payor' })
    const second = await open()
    try {
      const ways: Parameters<typeof keysOf>[1][] = [
        { name: 'Acme' },
        { domain: ['acme.example'] },
        { set: ['help=Call'] },
        { set: ['mfa={"enforced_from":"2027-01-31","zone":"UTC"}'] },
        { side: 'both' },
        { set: ['disabled=true'] },
      ]
      await Promise.all(
        ways.map((options, index) => change('set', 'company', 'acme', options, {}, index % 2 ? second : house)),
      )
      assert.deepEqual(await house.database.directory.company('acme'), {
        id: 'acme',
        name: 'Acme',
        side: 'both',
        domains: ['acme.example'],
        disabled: true,
        mfa: { enforced_from: '2027-01-31', zone: 'UTC' },
        help: 'Call',
      })
      const added = await Promise.allSettled(
        Array.from({ length: 6 }, (_, index) =>
          change('add', 'client', 'app', { redirectUri: ['https://a.example'] }, {}, index % 2 ? second : house),
        ),
      )
      const won = added.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
      assert.equal(won.length, 1)
      assert.equal((await house.database.directory.client('app'))?.client_secret, won[0]!.clientSecret)
    } finally {
      await second.close()
    }
  })

  it('say so when nobody is an operator any more', async () => {
    await add('user', 'ana@a.example', { serverRole: ['operator'] })
    assert.deepEqual(
      (await set('user', 'ana@a.example', { name: 'Ana' })).notes.filter((note) => /operator/.test(note)),
      [],
    )
    await add('user', 'bob@a.example', { serverRole: ['operator'], set: ['disabled=true'] })
    for (const last of [
      () => set('user', 'ana@a.example', { unset: ['server_roles'] }),
      () => set('user', 'ana@a.example', { serverRole: ['operator'], set: ['disabled=true'] }),
      () => remove('user', 'ana@a.example'),
    ]) {
      await set('user', 'ana@a.example', { serverRole: ['operator'], set: ['disabled=false'] })
      assert.match((await last()).notes.join('\n'), /nobody is an operator any more/)
    }
  })

  it('tell the audit before and after, without a secret', async () => {
    await add('user', 'ana@a.example', { name: 'Ana' }, { password: PASSWORD })
    const { clientSecret } = await web()
    await remove('client', 'web')
    const rows = await house.database.auditReader.auditRows()
    const told = rows.map(({ event, actor, outcome, details }) => [event, actor, outcome, details?.['change']])
    assert.deepEqual(told.slice(0, 3).reverse(), [
      ['administration.begun', 'operator:test', 'success', undefined],
      ['config.applied', 'operator:test', 'success', undefined],
      ['config.changed', 'operator:test', 'success', '- client web'],
    ])
    const text = JSON.stringify(rows)
    for (const secret of [PASSWORD, clientSecret!, 'argon2id']) assert.ok(!text.includes(secret), secret)
  })

  describe('asking before something is removed', () => {
    const asked = async (answer: string | undefined, isTTY = true) => {
      const stdin = Object.assign(new PassThrough(), { isTTY })
      const stderr = new PassThrough()
      if (answer === undefined) stdin.end()
      else stdin.write(`${answer}\n`)
      const outcome = await confirm('user "a"', ['factor otp', '2 signed-in sessions'], { stdin, stderr }).then(
        () => 'yes',
        (error: Error) => error.message,
      )
      return { outcome, shown: String(stderr.read() ?? '') }
    }
    it('takes a yes for a yes, everything else for a no, and says what goes along', async () => {
      for (const yes of ['y', 'Y', ' yes ']) assert.equal((await asked(yes)).outcome, 'yes')
      for (const no of ['', 'n', 'yesterday', undefined]) assert.equal((await asked(no)).outcome, 'nothing was removed')
      assert.match((await asked('n')).shown, /Remove user "a", and with it factor otp, 2 signed-in sessions\? \[y\/N\]/)
    })
    it('asks nobody who is not there', async () => {
      const { outcome, shown } = await asked('y', false)
      assert.match(outcome, /only with --yes/)
      assert.equal(shown, '')
    })
  })

  it('an overlap is a time of at most 30 days', () => {
    for (const [text, seconds] of [
      ['0', 0],
      ['0h', 0],
      ['90s', 90],
      ['90m', 5400],
      ['24h', 86400],
      ['30d', 2592000],
    ] as const)
      assert.equal(overlapOf(text), seconds)
    for (const text of ['', '1', '24', '-1h', '1.5h', '31d', '721h', '24H', '1h ', '9999999999s', 'h'])
      assert.throws(() => overlapOf(text), { code: 'commander.invalidArgument' }, text)
  })
})

/** Each command is a process of its own: exit codes, what stands on standard output, and what the process is given. */
describe('directory commands, as processes', function () {
  this.timeout(60_000)
  const TSX = import.meta.resolve('tsx')
  const PROGRAM = fileURLToPath(new URL('../../server/cli/index.ts', import.meta.url))
  let cwd: string
  const run = async (args: string[], { env = {}, stdin = '' }: { env?: Environment; stdin?: string } = {}) => {
    const { PATH, HOME } = process.env
    const child = spawn(process.execPath, ['--import', TSX, PROGRAM, ...args], { cwd, env: { PATH, HOME, ...env } })
    const done = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'] as const)
      child[name].on('data', (chunk) => {
        done[name] += chunk
      })
    child.stdin.end(stdin)
    const [code] = await once(child, 'close')
    return { code: code as number, ...done }
  }
  const ours = (stderr: string) => stderr.split('\n').filter((one) => /^(sallyport|error|note): /.test(one))

  before(async () => {
    cwd = temporaryFolder()
    writeFileSync(join(cwd, 'seed.yaml'), 'companies: [{ id: acme, side: payor }]')
    writeFileSync(join(cwd, 'secret'), `${SECRET}\n`)
    assert.equal((await run(['apply', 'seed.yaml'])).code, 0)
  })

  it('add, change, show, export and remove, in words and in JSON', async () => {
    const added = await run(['client', 'add', 'web', '--redirect-uri', 'https://w.example/cb', '--json'])
    assert.equal(added.code, 0, added.stderr)
    const { client_secret: secret, changes } = JSON.parse(added.stdout)
    assert.deepEqual([changes, secret.length], [['+ client web'], 43])

    const rotated = await run(['client', 'rotate-secret', 'web', '--overlap', '2h'])
    const fresh = /shown this once: ([\w-]{43})$/m.exec(rotated.stdout)?.[1]
    assert.ok(fresh && fresh !== secret, rotated.stdout + rotated.stderr)
    assert.match(rotated.stdout, /the former one is good until 20\d\d-/)
    const shown = await run(['client', 'show', 'web', '--json'])
    assert.equal(JSON.parse(shown.stdout).former_secrets_until.length, 1)
    const listed = await run(['client', 'list', '--json'])
    const audit = await run(['audit', 'list', '--json'])
    for (const { stdout, stderr } of [shown, listed, audit])
      for (const one of [secret, fresh]) assert.ok(!`${stdout}${stderr}`.includes(one))

    const user = await run(['user', 'add', 'ana@acme.example', '--role', 'acme:disburser', '--password-file', '-'], {
      stdin: `${PASSWORD}\n`,
    })
    assert.deepEqual([user.code, user.stdout], [0, '+ user ana@acme.example\n'], user.stderr)
    const written = await run(['export', '--output', 'out.yaml'])
    assert.deepEqual([written.code, written.stdout], [0, 'wrote out.yaml\n'], written.stderr)
    assert.equal(statSync(join(cwd, 'out.yaml')).mode & 0o777, 0o600)
    assert.equal((await run(['export'])).stdout, readFileSync(join(cwd, 'out.yaml'), 'utf8'))
    assert.equal((await run(['apply', 'out.yaml'])).stdout, 'nothing to change\n')
    assert.equal(JSON.parse((await run(['export', '--json'])).stdout).clients[0].client_id, 'web')

    const unasked = await run(['client', 'remove', 'web'], { stdin: 'y\n' })
    assert.deepEqual([unasked.code, unasked.stdout], [1, ''])
    assert.match(unasked.stderr, /only with --yes/)
    const gone = await run(['client', 'remove', 'web', '--yes', '--json'])
    assert.deepEqual(JSON.parse(gone.stdout).changes, ['- client web'])
  })

  it('take secrets from files and the environment, never from the command line', async () => {
    const redirect = ['--redirect-uri', 'https://f.example/cb']
    assert.equal((await run(['client', 'add', 'filed', ...redirect, '--secret-file', 'secret'])).code, 0)
    const env = { THE_SECRET: SECRET }
    assert.equal((await run(['client', 'add', 'env', ...redirect, '--secret-file', 'env:THE_SECRET'], { env })).code, 0)
    // What stands on standard input is the secret itself, whatever it looks like.
    const odd = `file:/etc/hostname-${'x'.repeat(32)}`
    assert.equal((await run(['client', 'add', 'odd', ...redirect, '--secret-file', '-'], { stdin: odd })).code, 0)
    for (const args of [
      ['client', 'set', 'filed', '--set', `client_secret=${SECRET}`],
      ['client', 'set', 'filed', '--secret-file', 'env:NOT_SET'],
      ['client', 'set', 'filed', '--secret-file', '-'],
      ['user', 'add', 'bob@acme.example', '--password', PASSWORD],
    ]) {
      const { code, stdout, stderr } = await run(args)
      assert.deepEqual([code, stdout], [2, ''], args.join(' '))
      assert.ok(!stderr.includes(SECRET) && !stderr.includes(PASSWORD), stderr)
    }
  })

  it('take an argument for what it is, though it looks like an option', async () => {
    const add = await run(['client', 'add', '--redirect-uri', 'https://o.example/cb', '--', '--yes'])
    assert.equal(add.code, 0, add.stderr)
    // A name is a name, not the yes.
    assert.equal((await run(['client', 'remove', '--', '--yes'])).code, 1)
    assert.equal((await run(['client', 'set', '--name', '--yes', '--', '--yes'])).code, 0)
    const { client_name } = JSON.parse((await run(['client', 'show', '--json', '--', '--yes'])).stdout)
    assert.equal(client_name, '--yes')
    assert.equal((await run(['client', 'remove', '--yes', '--', '--yes'])).code, 0)
  })

  it('answer 1 for what is refused, 2 for what is wrong, in one line', async () => {
    const cases: [code: number, args: string[]][] = [
      [1, ['company', 'add', 'acme']],
      [1, ['client', 'rotate-secret', 'none']],
      [1, ['export', '--output', 'no/such/folder/out.yaml']],
      [2, ['company', 'set', 'acme', '--set', 'nam=x']],
      [2, ['company', 'set', 'acme', '--nam', 'x']],
      [2, ['client', 'rotate-secret', 'none', '--overlap', '31d']],
    ]
    for (const [expected, args] of cases) {
      const { code, stdout, stderr } = await run(args)
      assert.deepEqual([code, stdout, ours(stderr).length], [expected, '', 1], `${args.join(' ')}: ${stderr}`)
    }
    assert.equal(existsSync(join(cwd, 'no')), false)
  })

  it('say what is wrong with a client: 0 while it works, 1 when something does not', async () => {
    const redirect = ['--redirect-uri', 'http://localhost:4000/cb']
    assert.equal((await run(['client', 'add', 'local', ...redirect])).code, 0)
    const warned = await run(['client', 'check', 'local', '--json'])
    assert.equal(warned.code, 0, warned.stderr)
    const { remarks } = JSON.parse(warned.stdout)
    assert.ok(remarks.every(({ status }: { status: string }) => status === 'warn'))
    await run(['client', 'set', 'local', '--set', 'sallyport.offline=true'])
    const failed = await run(['client', 'check', 'local'])
    assert.equal(failed.code, 1)
    assert.match(failed.stdout, /^fail {2}sallyport\.offline: /)
  })

  it('export into a link or a pipe without putting a file in its place', async () => {
    writeFileSync(join(cwd, 'real.yaml'), 'before')
    symlinkSync('real.yaml', join(cwd, 'link.yaml'))
    execFileSync('mkfifo', [join(cwd, 'pipe')])
    assert.equal((await run(['export', '--output', 'link.yaml'])).code, 0)
    const [{ code }, piped] = await Promise.all([
      run(['export', '--output', 'pipe']),
      readFile(join(cwd, 'pipe'), 'utf8'),
    ])
    assert.equal(code, 0)
    assert.equal(piped, readFileSync(join(cwd, 'real.yaml'), 'utf8'))
    assert.ok(lstatSync(join(cwd, 'link.yaml')).isSymbolicLink() && lstatSync(join(cwd, 'pipe')).isFIFO())
    assert.deepEqual(
      readdirSync(cwd).filter((name) => name.endsWith('.part')),
      [],
    )
  })

  it('export to somebody who reads only the beginning', async () => {
    const { PATH, HOME } = process.env
    const child = spawn(process.execPath, ['--import', TSX, PROGRAM, 'export'], { cwd, env: { PATH, HOME } })
    let stderr = ''
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    child.stdout.destroy()
    const [code] = await once(child, 'close')
    assert.equal(code, 0, stderr)
  })
})
