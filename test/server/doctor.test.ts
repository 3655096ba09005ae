import assert from 'node:assert/strict'
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { type Environment, loadConfig } from '../../server/config.ts'
import { diagnose } from '../../server/doctor.ts'
import { createLogger } from '../../server/log.ts'
import { openHouse } from '../../server/open.ts'
import { temporaryFolder } from '../support/temporary.ts'

const DAY = 24 * 60 * 60
const now = () => Math.floor(Date.now() / 1000)
/** No server listens on port 1. */
const ENV = { PORT: '1', NODE_ENV: 'test' }

describe('doctor', () => {
  let cwd: string
  beforeEach(async () => {
    cwd = temporaryFolder()
    await inHouse(async () => {})
  })

  const inHouse = async (work: (database: SqliteDatabase) => Promise<unknown>) => {
    const house = await openHouse(loadConfig(ENV, cwd), { createKeys: true, logger: createLogger('silent') })
    try {
      await work(house.database as SqliteDatabase) // the only kind there is
    } finally {
      await house.close()
    }
  }
  const statuses = async (env: Environment = ENV) =>
    Object.fromEntries((await diagnose(env, cwd)).map(({ name, status }) => [name, status]))
  const messageOf = async (name: string, env: Environment = ENV) =>
    (await diagnose(env, cwd)).find((finding) => finding.name === name)?.message ?? ''

  it('finds nothing broken in a new house, and warns that it is empty and not started', async () => {
    const found = await statuses()
    assert.ok(!Object.values(found).includes('fail'), JSON.stringify(found))
    assert.deepEqual(
      { store: found['store'], keys: found['key ring'], audit: found['audit'], signing: found['signing key'] },
      { store: 'ok', keys: 'ok', audit: 'ok', signing: 'ok' },
    )
    assert.equal(found['people'], 'warn')
    assert.equal(found['server'], 'warn')
  })

  it('warns of rules of companies that this server cannot keep', async () => {
    assert.equal((await statuses())['company rules'], undefined)
    const company = (id: string, more: object) => ({
      id,
      name: id,
      side: 'none' as const,
      domains: [],
      disabled: false,
      ...more,
    })
    const rules = { password_resets: 'mail' as const, sms_countries: ['FR'] }
    const mfa = { enforced_from: '2027-01-31', zone: 'UTC' }
    await inHouse((database) =>
      database.directory.commit([
        { kind: 'company', op: 'put', value: company('acme', { rules, mfa }) },
        { kind: 'company', op: 'put', value: company('gone', { rules, mfa, disabled: true }) },
      ]),
    )
    const told = async (env: Environment) =>
      (await diagnose(env, cwd)).filter(({ name }) => name === 'company rules').map(({ message }) => message)
    assert.deepEqual(await told(ENV), [])
    const [texts, ...more] = await told({ ...ENV, SALLYPORT_SMS: 'outbox' })
    assert.match(texts!, /^acme allows phones nowhere that SALLYPORT_SMS_COUNTRIES has/)
    assert.deepEqual(more, [])
    const production = {
      PORT: '1',
      NODE_ENV: 'production',
      SALLYPORT_ISSUER: 'https://login.example.com',
      SALLYPORT_KEYS: join(cwd, 'data', 'keys.json'),
    }
    const [byMail, told2fa] = await told(production)
    assert.match(byMail!, /^acme wants passwords to be set by mail, and mail is off: set SALLYPORT_SMTP_URL/)
    assert.match(told2fa!, /^acme demands a second factor, and mail is off/)
  })

  it('tells a broken configuration as a finding', async () => {
    const [, configuration, ...rest] = await diagnose({ PORT: 'many' }, cwd)
    assert.equal(configuration?.status, 'fail')
    assert.match(configuration?.message ?? '', /PORT/)
    assert.deepEqual(rest, [])
  })

  it('fails on a missing key ring, and on one that belongs to another database', async () => {
    const ring = join(cwd, 'data', 'keys.json')
    rmSync(ring)
    assert.equal((await statuses())['store and keys'], 'fail')
    const other = temporaryFolder()
    const house = await openHouse(loadConfig(ENV, other), { createKeys: true, logger: createLogger('silent') })
    await house.close()
    writeFileSync(ring, readFileSync(join(other, 'data', 'keys.json')))
    assert.equal((await statuses())['store and keys'], 'fail')
  })

  it('warns of a key ring that others can read, and fails in production', async () => {
    const ring = join(cwd, 'data', 'keys.json')
    chmodSync(ring, 0o644)
    assert.equal((await statuses())['key ring'], 'warn')
    const production = { ...ENV, NODE_ENV: 'production', SALLYPORT_KEYS: ring }
    assert.match(await messageOf('store and keys', production), /chmod 600/)
  })

  it('warns of a signing key older than 90 days', async () => {
    await inHouse(async ({ connection }) => connection.run('UPDATE signing_keys SET created_at = ?', now() - 91 * DAY))
    assert.equal((await statuses())['signing key'], 'warn')
  })

  it('fails on an audit row that was changed', async () => {
    await inHouse(async ({ audit }) => audit.append({ event: 'mfa.reset', outcome: 'success', at: now() }))
    assert.equal((await statuses())['audit'], 'ok')
    await inHouse(async ({ connection }) => {
      connection.run('DROP TRIGGER audit_keeps') // the database refuses it otherwise
      connection.run("UPDATE audit SET body = replace(body, 'reset', 'seen')")
    })
    assert.equal((await statuses())['audit'], 'fail')
  })

  it('fails on a client called back over http, except at a loopback address', async () => {
    const put = (uri: string) =>
      inHouse(({ directory }) =>
        directory.commit([{ kind: 'client', op: 'put', value: { client_id: 'old', redirect_uris: [uri] } }]),
      )
    await put('http://127.0.0.1:4000/callback')
    assert.equal((await statuses())['clients'], 'ok')
    await put('http://rp.example/callback')
    assert.equal((await statuses())['clients'], 'fail')
    assert.match(await messageOf('clients'), /old/)
  })

  it('fails on a default client that is not there, or has no place to begin at', async () => {
    const env = { ...ENV, SALLYPORT_DEFAULT_CLIENT: 'old' }
    const put = (initiate_login_uri?: string) =>
      inHouse(({ directory }) =>
        directory.commit([
          { kind: 'client', op: 'put', value: { client_id: 'old', ...(initiate_login_uri && { initiate_login_uri }) } },
        ]),
      )
    assert.match(await messageOf('default client', env), /there is no client "old"/)
    await put()
    assert.match(await messageOf('default client', env), /no initiate_login_uri/)
    await put('https://rp.example/start')
    assert.equal(await messageOf('default client', env), 'old, at https://rp.example/start')
  })

  it('warns of a client that may go without PKCE', async () => {
    const put = (pkce: string) =>
      inHouse(({ directory }) =>
        directory.commit([{ kind: 'client', op: 'put', value: { client_id: 'old', sallyport: { pkce } } }]),
      )
    await put('required')
    assert.equal((await statuses())['PKCE'], undefined)
    await put('optional')
    assert.equal((await statuses())['PKCE'], 'warn')
    assert.match(await messageOf('PKCE'), /^old may go without/)
  })
})
