import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { type Config, ConfigError, type Environment, loadConfig, trustedProxies } from '../../server/config.ts'
import { addKeyToRing, createKeyRing, KeyRingOnDisk, readKeyRing } from '../../server/key-ring-file.ts'
import { openHouse } from '../../server/open.ts'
import { temporaryFolder } from '../support/temporary.ts'

const PLACE = { purpose: 'test', owner: 'ana' }

/** The one line that a wrong configuration is refused with. */
function refusal(env: Environment, cwd = temporaryFolder(), file?: string): string {
  try {
    loadConfig(env, cwd, file)
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error))
    assert.doesNotMatch(error.message, /[\r\n]/)
    return error.message
  }
  return assert.fail('was accepted')
}

describe('config', () => {
  it('needs nothing on a developer’s machine', () => {
    const cwd = temporaryFolder()
    const config = loadConfig({}, cwd)
    assert.equal(config.SALLYPORT_ISSUER, 'http://127.0.0.1:3000')
    assert.deepEqual(config.SALLYPORT_STORE, { kind: 'sqlite', file: join(cwd, 'data/sallyport.sqlite') })
    assert.equal(config.SALLYPORT_KEYS, join(cwd, 'data/keys.json'))
    assert.equal(config.SALLYPORT_ARGON2_MEMORY_KIB, 19456)
    assert.deepEqual(config.SALLYPORT_TRUSTED_PROXIES, [])
  })

  it('hashes with 64 MiB in production', () => {
    const config = loadConfig({ NODE_ENV: 'production', SALLYPORT_KEYS: 'k' }, temporaryFolder())
    assert.equal(config.SALLYPORT_ARGON2_MEMORY_KIB, 64 * 1024)
  })

  it('derives the issuer from the port', () => {
    assert.equal(loadConfig({ PORT: '4711' }, temporaryFolder()).SALLYPORT_ISSUER, 'http://127.0.0.1:4711')
  })

  it('takes an empty variable for none', () => {
    assert.equal(loadConfig({ SALLYPORT_BRAND_NAME: '' }, temporaryFolder()).SALLYPORT_BRAND_NAME, 'Sallyport')
  })

  it('ignores what Kubernetes sets for a service of this name', () => {
    const env = {
      SALLYPORT_SERVICE_HOST: '10.0.0.1',
      SALLYPORT_PORT: 'tcp://10.0.0.1:80',
      SALLYPORT_PORT_80_TCP_ADDR: '10.0.0.1',
    }
    assert.equal(loadConfig(env, temporaryFolder()).PORT, 3000)
  })

  const WRONG: [name: string, value: string, complaint: RegExp][] = [
    ['SALLYPORT_ISSUER', 'id.example', /http or https URL/],
    ['SALLYPORT_ISSUER', 'https://id.example/', /slash/],
    ['SALLYPORT_ISSUER', 'https://id.example?a=b', /query/],
    ['SALLYPORT_ISSUER', 'https://id.example#a', /fragment/],
    ['SALLYPORT_ISSUER', 'https://u:p@id.example', /user name/],
    ['SALLYPORT_ISSUER', 'https://ID.example', /https:\/\/id\.example/],
    ['SALLYPORT_ISSUER', 'https://id.example:443', /written as https:\/\/id\.example$/],
    ['NODE_ENV', 'prod', /production/],
    ['HOST', 'a b', /address/],
    ['PORT', '70000', /65535/],
    ['PORT', 'tcp', /whole number/],
    ['PORT', '1e3', /whole number/],
    ['SALLYPORT_STORE', 'mongodb://127.0.0.1', /must name a database/],
    ['SALLYPORT_STORE', 'mongodb://127.0.0.1/?w=1', /must name a database/],
    ['SALLYPORT_STORE', 'mongodb:127.0.0.1/a', /mongodb:\/\/HOST\/DATABASE/],
    ['SALLYPORT_STORE', 'mongodb://ana:hun/ter@db/a', /as %XX/],
    ['SALLYPORT_STORE', 'mongodb://ana:hun@ter@db/a', /as %XX/],
    ['SALLYPORT_STORE', 'sqlite:', /sqlite:FILE/],
    ['SALLYPORT_STORE', 'sqlite::memory:', /sqlite:FILE/],
    ['SALLYPORT_STORE', 'postgres://a', /sqlite:FILE/],
    ['SALLYPORT_KEYS', '{"keys":[]}', /path/],
    ['SALLYPORT_TRUSTED_PROXIES', '10.0.0.0/8, everybody', /everybody/],
    ['SALLYPORT_TRUSTED_PROXIES', '10.0.0.0/33', /CIDR/],
    ['SALLYPORT_TRUSTED_PROXIES', '0.0.0.0/0', /CIDR/],
    ['SALLYPORT_LOG_LEVEL', 'loud', /debug/],
    ['SALLYPORT_BRAND_NAME', 'a\nb', /control/],
    ['SALLYPORT_BRAND_COLOUR', 'orange', /#rrggbb/],
    ['SALLYPORT_BRAND_COLOUR', '#ffd400', /1\.32:1 .* 3:1 is needed .*: #a88c00 has it$/],
    ['SALLYPORT_BRAND_COLOUR_DARK', '#0e6472', /dark pages, and 3:1 is needed/],
    ['SALLYPORT_BRAND_LOGO', 'nowhere/logo.svg', /cannot read .*nowhere\/logo\.svg \(ENOENT\)$/],
    ['SALLYPORT_LANGUAGE', 'de', /must be one of en, es, fr/],
    ['SALLYPORT_HELP_URL', 'javascript:alert(1)', /http/],
    ['SALLYPORT_INTERACTION_TTL_SECONDS', '3601', /3600/],
    ['SALLYPORT_SESSION_IDLE_SECONDS', '7201', /7200/],
    ['SALLYPORT_SESSION_ABSOLUTE_SECONDS', '86401', /86400/],
    ['SALLYPORT_ACCESS_TOKEN_TTL_SECONDS', '0', /3600/],
    ['SALLYPORT_ID_TOKEN_TTL_SECONDS', '-1', /3600/],
    ['SALLYPORT_REFRESH_TOKEN_TTL_SECONDS', '1.5', /whole number/],
    ['SALLYPORT_ARGON2_MEMORY_KIB', '8192', /19456/],
    ['SALLYPORT_HASH_CONCURRENCY', '0', /from 1/],
    ['SALLYPORT_HASH_QUEUE', 'many', /whole number/],
    ['SALLYPORT_PASSWORD_MIN_LENGTH', '8', /from 12/],
    ['SALLYPORT_TOTP_WINDOW', '2', /from 0 to 1/],
  ]
  for (const [name, value, complaint] of WRONG)
    it(`refuses ${name}=${JSON.stringify(value)} in one line that names it`, () => {
      const message = refusal({ [name]: value })
      assert.ok(message.startsWith(`${name}: `), message)
      assert.match(message, complaint)
    })

  it('refuses one pass below 46 MiB, and takes it above (R29)', () => {
    const env = { SALLYPORT_ARGON2_PASSES: '1' }
    assert.match(refusal({ ...env, SALLYPORT_ARGON2_MEMORY_KIB: '40000' }), /47104/)
    assert.equal(loadConfig(env, temporaryFolder()).SALLYPORT_ARGON2_MEMORY_KIB, 47104)
  })

  it('refuses an idle limit longer than the absolute one', () => {
    assert.match(refusal({ SALLYPORT_SESSION_ABSOLUTE_SECONDS: '60' }), /SALLYPORT_SESSION_IDLE_SECONDS/)
  })

  it('asks for an issuer where the port is chosen by the system', () => {
    assert.match(refusal({ PORT: '0' }), /^SALLYPORT_ISSUER: /)
  })

  it('refuses an unknown variable and guesses what was meant', () => {
    assert.match(refusal({ SALLYPORT_ISUER: 'x' }), /SALLYPORT_ISUER.*did you mean SALLYPORT_ISSUER\?/)
    assert.match(refusal({ SALLYPORT_METRICS_PORT: '1' }), /not built yet/)
  })

  it('never quotes the address of a store, which may hold a password', () => {
    assert.doesNotMatch(refusal({ SALLYPORT_STORE: 'mongodb://ana:hunter2@db' }), /hunter2/)
    assert.doesNotMatch(refusal({ SALLYPORT_STORE: 'mongodb://ana:hun/ter2@db/x' }), /ter2/)
  })

  it('takes the URL of a MongoDB and shows its password nowhere', () => {
    for (const [url, name] of [
      ['mongodb://db.example/sallyport', 'mongodb://db.example/sallyport'],
      ['mongodb://ana:hunter2@a:1,b:2/x?replicaSet=rs0', 'mongodb://a:1,b:2/x'],
      ['mongodb+srv://ana:hunter2@cluster.example/x', 'mongodb+srv://cluster.example/x'],
      ['mongodb://ana:hunter%2F2@[::1]:27017/x', 'mongodb://[::1]:27017/x'],
    ] as const) {
      const { SALLYPORT_STORE: store } = loadConfig({ SALLYPORT_STORE: url }, temporaryFolder())
      assert.ok(store.kind === 'mongodb')
      assert.equal(store.name, name)
      assert.equal(store.url(), url)
      for (const dump of [JSON.stringify(store), inspect(store, { depth: 9, showHidden: true })])
        assert.doesNotMatch(dump, /hunter|ana/)
    }
  })

  describe('in production', () => {
    const production = { NODE_ENV: 'production', SALLYPORT_KEYS: 'keys.json' }

    it('refuses http for others than itself', () => {
      assert.match(refusal({ ...production, SALLYPORT_ISSUER: 'http://id.example' }), /^SALLYPORT_ISSUER: .*https/)
      loadConfig({ ...production, SALLYPORT_ISSUER: 'http://localhost:3000' }, temporaryFolder())
    })

    it('refuses to start without a named key ring', () => {
      assert.match(refusal({ NODE_ENV: 'production' }), /^SALLYPORT_KEYS: /)
    })

    it('makes no key ring by itself', async () => {
      const cwd = temporaryFolder()
      const open = openHouse(loadConfig(production, cwd), { createKeys: true })
      await assert.rejects(open, /^ConfigError: SALLYPORT_KEYS: .*keys init/)
      assert.equal(existsSync(join(cwd, 'keys.json')), false)
    })

    it('refuses a key ring that everybody can read', async () => {
      const cwd = temporaryFolder()
      createKeyRing(join(cwd, 'keys.json'))
      chmodSync(join(cwd, 'keys.json'), 0o644)
      await assert.rejects(openHouse(loadConfig(production, cwd), { createKeys: true }), /chmod 600/)
    })
  })

  describe('file', () => {
    const inFile = (text: string) => {
      const cwd = temporaryFolder()
      writeFileSync(join(cwd, 'sallyport.config.yaml'), text)
      return cwd
    }

    it('is read from the working directory, and the environment wins', () => {
      const cwd = inFile('port: 4000\nbrand_name: Acme\ntrusted_proxies: [loopback, 10.0.0.0/8]\n')
      const config = loadConfig({ PORT: '5000' }, cwd)
      assert.equal(config.PORT, 5000)
      assert.equal(config.SALLYPORT_BRAND_NAME, 'Acme')
      assert.deepEqual(config.SALLYPORT_TRUSTED_PROXIES, ['loopback', '10.0.0.0/8'])
    })

    it('takes a brand, with the logo beside it and colours in quotes', () => {
      const cwd = inFile('brand_logo: logo.svg\nbrand_colour: "#ff5200"\nlanguage: fr\n')
      assert.match(refusal({}, cwd), /^brand_logo in sallyport\.config\.yaml: cannot read /)
      writeFileSync(join(cwd, 'logo.svg'), '<html>')
      assert.match(refusal({}, cwd), /^brand_logo in .* must be an SVG or PNG file/)
      writeFileSync(join(cwd, 'logo.svg'), '<svg xmlns="http://www.w3.org/2000/svg"/>')
      const config = loadConfig({}, cwd)
      assert.equal(config.SALLYPORT_BRAND_LOGO, join(cwd, 'logo.svg'))
      assert.equal(config.SALLYPORT_BRAND_COLOUR, '#ff5200')
      assert.equal(config.SALLYPORT_LANGUAGE, 'fr')
      assert.match(refusal({}, inFile('brand_colour: #ff5200')), /^brand_colour in .*use quotes/)
    })

    it('starts relative paths at its own folder', () => {
      const cwd = temporaryFolder()
      mkdirSync(join(cwd, 'etc'))
      writeFileSync(join(cwd, 'etc/a.yaml'), 'data_dir: here\n')
      assert.equal(loadConfig({}, cwd, 'etc/a.yaml').SALLYPORT_DATA_DIR, join(cwd, 'etc/here'))
    })

    for (const [text, complaint] of [
      ['isuer: https://id.example', /isuer in sallyport\.config\.yaml.*did you mean issuer\?/],
      ['PORT: 3000', /PORT in .*no such setting/],
      ['port: x', /^port in sallyport\.config\.yaml: must be a whole number/],
      ['port: { a: 1 }', /port in .*text or a number/],
      ['- a', /must hold settings/],
      ['a: [', /line \d+ is not YAML/],
      ['port: 1\nport: 2', /line 2/],
    ] as const)
      it(`refuses ${JSON.stringify(text)} by name`, () => assert.match(refusal({}, inFile(text)), complaint))

    it('must be there when it was named', () => {
      assert.match(refusal({}, temporaryFolder(), 'none.yaml'), /^none\.yaml: cannot be read/)
    })
  })
})

describe('trusted proxies', () => {
  const trusted = trustedProxies(['loopback', '10.1.0.0/16', '2001:db8::/32'])
  for (const address of ['127.0.0.9', '::1', '::ffff:127.0.0.1', '10.1.2.3', '::ffff:10.1.2.3', '2001:db8::7'])
    it(`believes ${address}`, () => assert.equal(trusted(address), true))
  for (const address of ['10.2.0.1', '::ffff:10.2.0.1', '2001:db9::1', 'fe80::1%lo', '', 'x', undefined])
    it(`does not believe ${address}`, () => assert.equal(trusted(address), false))
  it('believes nobody by default', () => assert.equal(trustedProxies([])('127.0.0.1'), false))
})

describe('key ring file', () => {
  it('is made once, for its owner only, and never replaced', () => {
    const path = join(temporaryFolder(), 'new/keys.json')
    assert.deepEqual([createKeyRing(path), createKeyRing(path)], [true, false])
    assert.equal(statSync(path).mode & 0o777, 0o600)
  })

  it('gets a new key in front, keeps its mode, and a server that runs goes on reading', () => {
    const path = join(temporaryFolder(), 'keys.json')
    createKeyRing(path)
    chmodSync(path, 0o640)
    const running = new KeyRingOnDisk(readKeyRing(path)!.ring, path)
    const old = running.seal(PLACE, 'old')
    const cookieKey = running.cookieKeys()[0]!

    const id = addKeyToRing(path)
    const fresh = new KeyRingOnDisk(readKeyRing(path)!.ring, path)
    const sealed = fresh.seal(PLACE, 'new')

    assert.equal(statSync(path).mode & 0o777, 0o640)
    assert.ok(sealed.startsWith(`v1.${id}.`))
    assert.equal(fresh.open(PLACE, old), 'old')
    assert.equal(running.open(PLACE, sealed), 'new')
    assert.ok(running.cookieKeys().includes(cookieKey))
    assert.equal(running.isStale(old), true)
  })

  it('is rotated by one at a time', () => {
    const path = join(temporaryFolder(), 'keys.json')
    createKeyRing(path)
    writeFileSync(`${path}.rotating`, '')
    assert.throws(() => addKeyToRing(path), /another rotation/)
    assert.equal(readKeyRing(path)!.ring.keys.length, 1)
  })

  it('that is none is refused without being quoted', () => {
    const path = join(temporaryFolder(), 'keys.json')
    writeFileSync(path, '{"keys":[{"id":"a","key":"hunter2"}]}')
    assert.throws(
      () => readKeyRing(path),
      (error: Error) =>
        error instanceof ConfigError && /no key ring/.test(error.message) && !/hunter2/.test(error.message),
    )
  })
})

describe('opening the house', () => {
  const config = (cwd: string): Config => loadConfig({ SALLYPORT_LOG_LEVEL: 'silent' }, cwd)

  it('makes one key ring and one signing key, whoever starts at once', async () => {
    const cwd = temporaryFolder()
    const houses = await Promise.all([1, 2, 3].map(() => openHouse(config(cwd), { createKeys: true })))
    const kids = await Promise.all(
      houses.map(async ({ database }) => (await database.signingKeys.signingKeys()).length),
    )
    assert.deepEqual(kids, [1, 1, 1])
    assert.equal(new Set(houses.map(({ keyRing }) => keyRing.mac('a', 'b'))).size, 1)
    for (const house of houses) await house.close()
    await houses[0]!.close() // twice is no error
  })

  it('makes nothing where a command only looks', async () => {
    const cwd = temporaryFolder()
    await assert.rejects(openHouse(config(cwd)), /^ConfigError: SALLYPORT_KEYS: no key ring/)
    assert.equal(existsSync(join(cwd, 'data')), false)
  })

  it('makes no new key ring beside a database', async () => {
    const cwd = temporaryFolder()
    mkdirSync(join(cwd, 'data'))
    writeFileSync(join(cwd, 'data/sallyport.sqlite'), '')
    await assert.rejects(openHouse(config(cwd), { createKeys: true }), /restore its key ring/)
  })

  it('says that a key ring belongs to another database', async () => {
    const cwd = temporaryFolder()
    await (await openHouse(config(cwd), { createKeys: true })).close()
    const other = join(temporaryFolder(), 'keys.json')
    createKeyRing(other)
    writeFileSync(join(cwd, 'data/keys.json'), readFileSync(other))
    await assert.rejects(openHouse(config(cwd)), /^ConfigError: SALLYPORT_KEYS: .*does not open/)
  })

  it('says that a file is no database', async () => {
    const cwd = temporaryFolder()
    createKeyRing(join(cwd, 'data/keys.json'))
    writeFileSync(join(cwd, 'data/sallyport.sqlite'), 'this is a letter, not a database. '.repeat(100))
    await assert.rejects(openHouse(config(cwd)), /^ConfigError: SALLYPORT_STORE: cannot open/)
  })
})
