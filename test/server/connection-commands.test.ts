/** `sallyport connection …`, in processes of its own. */
import assert from 'node:assert/strict'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { selfSigned } from '../../interactions/federation/saml/certificate.ts'
import { loadConfig } from '../../server/config.ts'
import { openHouse } from '../../server/open.ts'
import { command } from '../support/command.ts'
import { storeOf } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'

const DAY = 24 * 60 * 60
const NOW = Math.floor(Date.now() / 1000)

describe('sallyport connection', function () {
  this.timeout(120_000)
  const privateKey = generateKeyPairSync('rsa', { modulusLength: 2048 })
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString()
  const certificate = (commonName: string) =>
    selfSigned({ privateKey, commonName, notBefore: NOW - 400 * DAY, notAfter: NOW + 3000 * DAY })
  const first = certificate('first')
  const next = certificate('next')
  const fingerprint = (pem: string) => new X509Certificate(pem).fingerprint256

  let folder: string
  let env: Record<string, string>
  const run = (...args: string[]) => command(folder, args, env)
  const done = async (...args: string[]) => {
    const { code, stderr, json } = await run(...args, '--json')
    assert.equal(code, 0, stderr)
    return json() as Record<string, unknown> & { changes: string[] }
  }
  const refused = async (code: number, complaint: RegExp, ...args: string[]) => {
    const end = await run(...args)
    assert.equal(end.code, code, end.stderr)
    assert.match(end.stderr, complaint)
    assert.doesNotMatch(end.stderr, /\n\s+at /)
  }

  before(async () => {
    folder = temporaryFolder()
    env = { SALLYPORT_LOG_LEVEL: 'silent', ...(await storeOf(folder)) } as Record<string, string>
    writeFileSync(join(folder, 'first.pem'), first)
    writeFileSync(join(folder, 'next.der'), new X509Certificate(next).raw)
    writeFileSync(
      join(folder, 'seed.json'),
      JSON.stringify({ companies: [{ id: 'acme', side: 'payor', domains: ['acme.example'] }] }),
    )
    await done('apply', 'seed.json')
  })

  it('adds, shows and lists one, with what its identity provider is told', async () => {
    const idp = ['--set', 'idp.entity_id=urn:idp', '--set', 'idp.sso_url=https://idp.example/sso']
    const file = ['--set', 'idp.certificates=["file:first.pem"]']
    const of = ['--company', 'acme', '--domain', 'acme.example', '--mode', 'forward', '--set', 'state=testing']
    assert.deepEqual((await done('connection', 'add', 'acme-sso', ...of, ...idp, ...file)).changes, [
      '+ connection acme-sso',
    ])
    await refused(1, /is there already/, 'connection', 'add', 'acme-sso', ...of, ...idp, ...file)
    const shown = await done('connection', 'show', 'acme-sso')
    assert.match(String(shown['our_acs_url']), /^http.*\/saml\/acme-sso\/acs$/)
    assert.match(String(shown['our_entity_id']), /^http.*\/saml\/acme-sso\/metadata$/)
    const { stdout } = await run('connection', 'list')
    assert.match(stdout, /acme-sso +acme +acme\.example +- +forward +testing +urn:idp/)
    for (const text of [stdout, JSON.stringify(shown)]) assert.doesNotMatch(text, /PRIVATE/)
    await refused(1, /there is no connection "acme-ss"/, 'connection', 'show', 'acme-ss')
    await refused(1, /no verified domain/, 'connection', 'set', 'acme-sso', '--domain', 'b.example')
    await refused(1, /there is no company/, 'connection', 'set', 'acme-sso', '--company', 'none')
    await refused(2, /https URL/, 'connection', 'set', 'acme-sso', '--metadata-url', 'http://idp.example')
    await refused(1, /no public address/, 'connection', 'set', 'acme-sso', '--metadata-url', 'https://127.0.0.1/m')
  })

  it('activates after a dry run, or with a reason; disables at once', async () => {
    await refused(1, /no dry run/, 'connection', 'activate', 'acme-sso')
    await refused(2, /--reason/, 'connection', 'activate', 'acme-sso', '--force')
    await refused(2, /--force/, 'connection', 'activate', 'acme-sso', '--reason', 'x')
    const forced = await done('connection', 'activate', 'acme-sso', '--force', '--reason', 'moved as it is')
    assert.deepEqual(forced.changes, ['~ connection acme-sso (state testing → active)'])
    assert.deepEqual((await done('connection', 'disable', 'acme-sso')).changes, [
      '~ connection acme-sso (state active → disabled)',
    ])
    const house = await openHouse(loadConfig(env, folder))
    const at = Math.floor(Date.now() / 1000)
    await house.database.directory.recordTest((await house.database.directory.connection('acme-sso'))!, at)
    await house.close()
    await done('connection', 'activate', 'acme-sso')
    const { stdout } = await run('audit', 'list', '--json')
    assert.match(stdout, /moved as it is/)
    assert.doesNotMatch(stdout, /PRIVATE/)
  })

  it('adds and removes certificates by file and fingerprint, never the last one', async () => {
    assert.deepEqual((await done('connection', 'certificates', 'acme-sso', '--add', 'next.der')).changes, [
      '~ connection acme-sso (idp)',
    ])
    const { stdout } = await run('connection', 'certificates', 'acme-sso')
    for (const pem of [first, next]) assert.ok(stdout.includes(fingerprint(pem)), stdout)
    assert.match(stdout, /own +[0-9A-F:]+ +\S+ +109\d/)
    await refused(2, /no fingerprint/, 'connection', 'certificates', 'acme-sso', '--remove', 'xyz')
    await refused(1, /no certificate/, 'connection', 'certificates', 'acme-sso', '--remove', '00:00:00:00')
    await done('connection', 'certificates', 'acme-sso', '--remove', fingerprint(first).slice(0, 11))
    await refused(1, /give all of/, 'connection', 'certificates', 'acme-sso', '--remove', fingerprint(next))
    await refused(1, /cannot read/, 'connection', 'certificates', 'acme-sso', '--add', 'missing.pem')
    await refused(1, /no metadata URL/, 'connection', 'refresh', 'acme-sso')
    await refused(1, /no metadata URL/, 'connection', 'certificates', 'acme-sso', '--accept', fingerprint(first))
  })

  it('turns its key pair in steps', async () => {
    const made = await done('connection', 'rotate-key', 'acme-sso')
    assert.equal((made['also_decrypts'] as string[]).length, 1)
    await refused(1, /has two key pairs/, 'connection', 'rotate-key', 'acme-sso')
    await refused(2, /one step at a time/, 'connection', 'rotate-key', 'acme-sso', '--sign', '--finish')
    const kept = await done('connection', 'rotate-key', 'acme-sso', '--finish')
    assert.equal(kept['signs'], made['signs'])
    assert.deepEqual(kept['also_decrypts'], [])
  })

  it('is in an export, prunable by name, and removed with a yes', async () => {
    const { stdout } = await run('export')
    assert.match(stdout, /connections:\n {2}- id: acme-sso/)
    assert.doesNotMatch(stdout, /PRIVATE/)
    writeFileSync(join(folder, 'again.yaml'), stdout)
    assert.deepEqual((await done('apply', 'again.yaml')).changes, [])
    await refused(2, /clients, connections/, 'apply', 'again.yaml', '--prune', 'users')
    await refused(2, /lists none/, 'apply', 'seed.json', '--prune', 'connections')
    await refused(1, /--yes/, 'connection', 'remove', 'acme-sso')
    assert.deepEqual((await done('connection', 'remove', 'acme-sso', '--yes')).changes, ['- connection acme-sso'])
  })

  it('proves domains only with the record, or with a reason', async () => {
    await refused(2, /--reason/, 'company', 'verify-domain', 'acme', 'c.example', '--confirm')
    await refused(
      1,
      /there is no company/,
      'company',
      'verify-domain',
      'acm',
      'c.example',
      '--confirm',
      '--reason',
      'x',
    )
    const proof = await done('company', 'verify-domain', 'acme', 'C.example', '--confirm', '--reason', 'a letter')
    assert.equal(proof['by'], 'operator')
    assert.deepEqual((await done('company', 'show', 'acme'))['domains'], ['acme.example', 'c.example'])
  })
})
