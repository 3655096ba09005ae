/** Connections as configuration: what a file may say, states, keys, certificates, and nothing secret anywhere. */
import assert from 'node:assert/strict'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { parse } from 'yaml'
import { selfSigned } from '../../interactions/federation/saml/certificate.ts'
import { warnOfExpiry } from '../../server/certificate-expiry.ts'
import { changeDirectory } from '../../server/changes.ts'
import { keysOf } from '../../server/cli/changes.ts'
import { shownConnection } from '../../server/cli/connections.ts'
import { loadConfig } from '../../server/config.ts'
import { rotateKey } from '../../server/connection-keys.ts'
import { diagnose } from '../../server/doctor.ts'
import { exportYaml } from '../../server/export.ts'
import { type House, openHouse } from '../../server/open.ts'
import { applyPlan, type PlanOptions, parseSeed, planSeed, SeedError } from '../../server/seed/index.ts'
import { StoreConflict } from '../../server/stores.ts'
import { now, wait } from '../support/clock.ts'
import { storeOf } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'

const DAY = 24 * 60 * 60
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
const privateKey = key.export({ type: 'pkcs8', format: 'pem' }).toString()
const certificate = (days: number, commonName = 'idp.example') =>
  selfSigned({ privateKey, commonName, notBefore: now() - DAY, notAfter: now() + days * DAY })
const body = (pem: string) => pem.replace(/-----[^-]+-----|\s/g, '')
const metadata = (
  pem: string,
  { entityId = 'https://idp.acme.example', location = 'https://idp.acme.example/sso' } = {},
) =>
  `<?xml version="1.0"?><EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="${entityId}"><IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><KeyDescriptor use="signing"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>${body(pem)}</X509Certificate></X509Data></KeyInfo></KeyDescriptor><SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="${location}"/></IDPSSODescriptor></EntityDescriptor>`

const COMPANIES = [
  { id: 'acme', domains: ['acme.example', 'b.example', 'gmail.com', 'gmx.at', 'xn--cm-xka.example'] },
  { id: 'best', domains: ['best.example'] },
]
const CLIENTS = [
  { client_id: 'app', redirect_uris: ['https://a.example/cb'], client_secret: 'x'.repeat(40) },
  { client_id: 'other', redirect_uris: ['https://b.example/cb'], client_secret: 'x'.repeat(40) },
]

describe('connections', () => {
  const pem = certificate(365)
  const IDP = { entity_id: 'https://idp.acme.example', sso_url: 'https://idp.acme.example/sso', certificates: [pem] }
  const SSO = { id: 'acme-sso', company: 'acme', domains: ['acme.example'], idp: IDP }
  const BEST = {
    id: 'best-sso',
    company: 'best',
    domains: ['best.example'],
    idp: { ...IDP, entity_id: 'https://idp.best.example' },
  }

  let folder: string
  let house: House
  const open = async () =>
    openHouse(loadConfig({ SALLYPORT_LOG_LEVEL: 'silent', ...(await storeOf(folder)) }, folder), { createKeys: true })
  beforeEach(async () => {
    folder = temporaryFolder()
    house = await open()
    await apply({ companies: COMPANIES, clients: CLIENTS })
  })
  afterEach(() => house.close())

  const plan = (seed: object, options: Partial<PlanOptions> = {}, at = house) =>
    planSeed(at.database, parseSeed(JSON.stringify(seed), join(folder, 'seed.yaml'), {}), {
      hash: async () => 'hash',
      ...options,
    })
  const apply = async (seed: object, options?: Partial<PlanOptions>, at = house) => {
    const made = await plan(seed, options, at)
    await applyPlan(at.database, made, 'operator:test')
    return made.lines
  }
  const connect = (...connections: object[]) => apply({ connections })
  const stored = async (id = 'acme-sso', at = house) => (await at.database.directory.connection(id))!
  const set = (id: string, change: object, untested?: string, at = house) =>
    changeDirectory(
      at,
      { noun: 'connection', op: 'set', id, keys: (present) => ({ ...present, ...change }), untested },
      'operator:test',
    )
  const exported = async (at = house) => {
    let text = ''
    for await (const piece of exportYaml(at.database.directory)) text += piece
    return text
  }

  describe('a seed file', () => {
    it('says all of a connection, by fields, by metadata, or by a file beside it', async () => {
      const full = {
        ...SSO,
        client: 'app',
        mode: 'forward',
        state: 'testing',
        jit: true,
        mfa: { trust: { contexts: ['https://refeds.org/profile/mfa'] } },
        name_id_format: 'urn:oasis:names:tc:SAML:2.0:nameid-format:persistent',
        attributes: { email: 'mail', name: 'displayName' },
      }
      assert.deepEqual(await connect(full), ['+ connection acme-sso'])
      const { keys, ...written } = await stored()
      assert.equal(keys.length, 1)
      assert.deepEqual(written, {
        id: 'acme-sso',
        company: 'acme',
        domains: ['acme.example'],
        client: 'app',
        mode: 'forward',
        state: 'testing',
        jit: true,
        trustedContexts: ['https://refeds.org/profile/mfa'],
        idp: {
          entityId: IDP.entity_id,
          ssoUrl: IDP.sso_url,
          binding: 'redirect',
          certificates: [
            { pem: new X509Certificate(pem).toString(), notBefore: validity(pem).from, notAfter: validity(pem).to },
          ],
        },
        nameIdFormat: full.name_id_format,
        attributes: full.attributes,
      })
      assert.deepEqual(await connect({ ...full, idp: { metadata: metadata(pem) } }), [])
      writeFileSync(join(folder, 'idp.xml'), metadata(pem))
      assert.deepEqual(await connect({ ...full, idp: { metadata_file: 'idp.xml' } }), [])
      // What is left out goes back to its default; the key pair stays.
      assert.deepEqual(await connect(SSO), [
        '~ connection acme-sso (client, state testing → draft, mode, jit, trustedContexts, nameIdFormat, attributes)',
      ])
      assert.deepEqual((await stored()).keys, keys)
      assert.deepEqual(await connect({ id: 'acme-sso', state: 'absent' }), ['- connection acme-sso'])
    })

    it('takes a certificate as people paste it, without BEGIN and END (acceptance 54)', async () => {
      await connect(SSO)
      const lines = body(pem).match(/.{1,40}/g)!
      for (const pasted of [body(pem), ` ${lines.join('\r\n')}\n`, pem.replaceAll('\n', '\r\n')])
        assert.deepEqual(await connect({ ...SSO, idp: { ...IDP, certificates: [pasted] } }), [])
    })

    it('fetches a metadata URL once, when an administrator names it, and never takes over what is published later', async () => {
      const asked: string[] = []
      let published = metadata(pem)
      const fetchMetadata = async (url: string) => {
        asked.push(url)
        return Buffer.from(published)
      }
      const connection = { ...SSO, idp: { metadata_url: 'https://idp.acme.example/metadata' } }
      await apply({ connections: [connection] }, { fetchMetadata })
      published = metadata(certificate(700, 'thief'))
      assert.deepEqual(await apply({ connections: [connection] }, { fetchMetadata }), [])
      assert.deepEqual(asked, ['https://idp.acme.example/metadata'])
      assert.equal((await stored()).idp.certificates.length, 1)
      await assert.rejects(plan({ connections: [{ ...connection, id: 'new' }] }), /only the command line fetches it/)
    })

    it('is taken again after a certificate in it has ended', async () => {
      const short = { ...SSO, idp: { metadata: metadata(certificate(2)) } }
      await connect(short)
      wait(3 * DAY)
      assert.deepEqual(await connect(short), [])
      await assert.rejects(connect({ ...short, id: 'second', domains: ['b.example'] }), /ended/)
    })

    const idp = (more: object) => ({ ...SSO, idp: { ...IDP, ...more } })
    const xml = (text: string) => ({ ...SSO, idp: { metadata: text } })
    const WRONG: [what: string, connections: object[], complaint: RegExp][] = [
      ['a company that is none', [{ ...SSO, company: 'acm' }], /did you mean acme/],
      ['no company', [{ ...SSO, company: undefined }], /company is missing/],
      ['no domain', [{ ...SSO, domains: [] }], /domains is missing/],
      ['a domain of another company', [{ ...SSO, domains: ['best.example'] }], /no verified domain of company "acme"/],
      ['a domain that nobody verified', [{ ...SSO, domains: ['x.acme.example'] }], /no verified domain/],
      ['an upper-case domain', [{ ...SSO, domains: ['ACME.example'] }], /lower case/],
      ['a dot at the end', [{ ...SSO, domains: ['acme.example.'] }], /lower case/],
      ['letters that look alike', [{ ...SSO, domains: ['аcme.example'] }], /lower case/],
      ['a domain twice', [{ ...SSO, domains: ['acme.example', 'acme.example'] }], /listed twice/],
      [
        'gmail.com (acceptance 52)',
        [{ ...SSO, domains: ['gmail.com'] }],
        /everybody can have an address at gmail\.com/,
      ],
      ['gmx.at', [{ ...SSO, domains: ['gmx.at'] }], /everybody can have an address at gmx\.at/],
      ['a client that is none', [{ ...SSO, client: 'ap' }], /there is no client "ap"/],
      ['no identity provider', [{ ...SSO, idp: undefined }], /idp is missing/],
      ['an empty identity provider', [{ ...SSO, idp: {} }], /idp is empty/],
      ['half an identity provider', [{ ...SSO, idp: { entity_id: 'urn:x' } }], /give all of/],
      ['two descriptions', [idp({ metadata: metadata(pem) })], /not both/],
      ['an http location', [idp({ sso_url: 'http://idp.example/sso' })], /not https/],
      ['a script as location', [idp({ sso_url: 'javascript:alert(1)' })], /not https|no URL/],
      ['a metadata URL without TLS', [idp({ metadata_url: 'http://idp.example' })], /https URL/],
      ['a certificate that is none', [idp({ certificates: ['secret text'] })], /cannot be read/],
      ['only ended certificates', [idp({ certificates: [certificate(-0.5)] })], /all of them have ended/],
      ['an entityID with spaces around it', [idp({ entity_id: ' urn:x' })], /without spaces around/],
      ['metadata that is no XML', [xml('hello')], /not well-formed/],
      ['metadata with a DOCTYPE', [xml(`<!DOCTYPE x>${metadata(pem)}`)], /DOCTYPE/],
      ['metadata with a script location', [xml(metadata(pem, { location: 'javascript:x' }))], /not https/],
      [
        'trust in a password',
        [
          {
            ...SSO,
            mfa: { trust: { contexts: ['urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport'] } },
          },
        ],
        /two factors/,
      ],
      ['a trust that is none', [{ ...SSO, mfa: { trust: 'always' } }], /must be never, or contexts/],
      ['a state that is none', [{ ...SSO, state: 'live' }], /draft, testing, active, disabled/],
      ['a key of ours', [{ ...SSO, keys: [] }], /unknown key/],
      ['two of one id', [SSO, SSO], /listed twice/],
      ['a domain for two (acceptance 52)', [SSO, { ...SSO, id: 'second' }], /acme\.example is taken by connection/],
      ['an entityID of another company', [SSO, { ...BEST, idp: IDP }], /another company/],
    ]
    for (const [what, connections, complaint] of WRONG)
      it(`refuses ${what} in one line`, async () => {
        await assert.rejects(
          async () => plan({ connections }),
          (error: Error) => {
            assert.ok(error instanceof SeedError, String(error.stack))
            assert.doesNotMatch(error.message, /[\r\n]/)
            assert.match(error.message, complaint)
            assert.ok(!error.message.includes('secret text') && !error.message.includes(body(pem)))
            return true
          },
        )
      })

    it('does not move a connection to another company, and keeps what the stored ones need', async () => {
      await connect({ ...SSO, client: 'app', state: 'testing' }, BEST)
      await assert.rejects(
        plan({ connections: [{ ...SSO, company: 'best', domains: ['best.example'] }] }),
        /belongs to "acme" and stays there/,
      )
      await assert.rejects(plan({ companies: [{ id: 'acme', domains: ['b.example'] }] }), /no verified domain/)
      await assert.rejects(plan({ companies: [{ id: 'acme', state: 'absent' }] }), /does not exist/)
      await assert.rejects(plan({ clients: [{ client_id: 'app', state: 'absent' }] }), /does not exist/)
      await assert.rejects(plan({ connections: [{ ...BEST, idp: IDP }] }), /another company/)
    })

    it('removes what it does not list when it is told to, and never all by an empty list', async () => {
      await connect(SSO, BEST)
      await assert.rejects(plan({}, { pruneConnections: true }), /lists none/)
      assert.deepEqual(await apply({ connections: [BEST] }, { pruneConnections: true }), ['- connection acme-sso'])
    })

    it('exported and applied changes nothing, on this server and on an empty one', async () => {
      const line = fc.stringMatching(/^[a-zA-Z][a-zA-Z0-9:/.# -]{0,20}[a-zA-Z]$/)
      const pems = [pem, certificate(200), certificate(90, 'third')]
      const one = fc.record(
        {
          client: fc.constantFrom('app', 'other', undefined),
          mode: fc.constantFrom('forward', 'allow_password'),
          jit: fc.boolean(),
          state: fc.constantFrom('draft', 'testing', 'active', 'disabled'),
          attributes: fc.record({ email: line, name: line }, { requiredKeys: [] }),
          mfa: fc.constantFrom({ trust: 'never' }, { trust: { contexts: ['https://refeds.org/profile/mfa'] } }),
          idp: fc.record({
            entity_id: fc
              .string({ unit: 'grapheme', minLength: 1, maxLength: 30 })
              .filter((text) => text !== '' && text === text.trim() && !/^(env|file):/.test(text)),
            sso_url: fc.webUrl({ validSchemes: ['https'], withQueryParameters: true }),
            binding: fc.constantFrom('redirect', 'post'),
            certificates: fc.subarray(pems, { minLength: 1 }),
          }),
        },
        { requiredKeys: ['idp'] },
      )
      const second = await openHouse(loadConfig({ SALLYPORT_LOG_LEVEL: 'silent' }, temporaryFolder()), {
        createKeys: true,
      })
      try {
        const options = { untested: 'moved' }
        await apply({ companies: COMPANIES, clients: CLIENTS }, {}, second)
        await fc.assert(
          fc.asyncProperty(one, async (connection) => {
            const written = { ...connection, id: 'acme-sso', company: 'acme', domains: ['acme.example', 'b.example'] }
            await apply({ connections: [written] }, options)
            const text = await exported()
            assert.deepEqual(await apply(parse(text) as object), [])
            await apply({ connections: (parse(text) as { connections: object[] }).connections }, options, second)
            assert.equal(await exported(second), text)
          }),
          { numRuns: 25 },
        )
      } finally {
        await second.close()
      }
    })
  })

  describe('states', () => {
    it('let nobody be forwarded without a dry run of the last day, or a reason that the audit keeps', async () => {
      await connect({ ...SSO, mode: 'forward', state: 'testing' })
      await assert.rejects(set('acme-sso', { state: 'active' }), (error: Error) => {
        assert.ok(error instanceof StoreConflict)
        assert.match(error.message, /no dry run has succeeded/)
        return true
      })
      const tried = (await house.database.directory.connection('acme-sso'))!
      await house.database.directory.recordTest(tried, now() - DAY - 10)
      await assert.rejects(set('acme-sso', { state: 'active' }), /no dry run/)
      await house.database.directory.recordTest(tried, now() - DAY + 60)
      // What was tried is no longer what is there.
      await assert.rejects(
        set('acme-sso', { state: 'active', idp: { ...IDP, certificates: [certificate(300, 'another')] } }),
        /no dry run/,
      )
      assert.deepEqual((await set('acme-sso', { state: 'active' })).lines, [
        '~ connection acme-sso (state testing → active)',
      ])
      await set('acme-sso', { state: 'disabled' })
      assert.equal(await house.database.connections.connectionFor('acme.example', 'app'), undefined)

      await set('acme-sso', { state: 'draft', idp: { ...IDP, binding: 'post' } })
      await set('acme-sso', { state: 'active' }, 'tried on the old server')
      const rows = await house.database.auditReader.auditRows({ limit: 3 })
      for (const { details, event } of rows)
        assert.match(String(details?.['reason'] ?? event), /tried on the old server|administration/)
      assert.equal(rows[0]!.event, 'config.changed')
      assert.equal(rows[0]!.details?.['change'], '~ connection acme-sso (state draft → active)')
    })
    it('ask the same of one that lets passwords in and is to forward, and nothing of one that goes on to', async () => {
      await connect({ ...SSO, state: 'active' })
      await assert.rejects(set('acme-sso', { mode: 'forward' }), /no dry run/)
      await set('acme-sso', { mode: 'forward' }, 'because')
      await set('acme-sso', { jit: true })
    })
    it('give a domain to one of two that are activated at the same time', async () => {
      const other = await open()
      try {
        await connect({ ...SSO, state: 'disabled' }, { ...SSO, id: 'second', state: 'disabled' })
        const results = await Promise.allSettled([
          set('acme-sso', { state: 'active' }),
          set('second', { state: 'active' }, undefined, other),
        ])
        assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
        for (const result of results)
          if (result.status === 'rejected') assert.match((result.reason as Error).message, /taken by connection/)
      } finally {
        await other.close()
      }
    })
    it('are no way to remove by `set`', () => {
      assert.throws(() => keysOf('connection', { set: ['state=absent'] }), /use `remove`/)
      assert.throws(() => keysOf('connection', { set: ['id=x'] }), /known by/)
    })
  })

  describe('key pairs', () => {
    it('turn with an overlap: a new one signs and the former one decrypts, until it is dropped', async () => {
      await connect(SSO)
      const first = (await stored()).keys[0]!.certificate
      await rotateKey(house, 'acme-sso', 'new', 'operator:test')
      const [second, former] = (await stored()).keys
      assert.equal(former!.certificate, first)
      assert.notEqual(second!.certificate, first)
      await assert.rejects(rotateKey(house, 'acme-sso', 'new', 'operator:test'), /has two key pairs/)
      await rotateKey(house, 'acme-sso', 'finish', 'operator:test')
      assert.deepEqual((await stored()).keys, [second])
      await assert.rejects(rotateKey(house, 'acme-sso', 'finish', 'operator:test'), /has one key pair/)
      await assert.rejects(rotateKey(house, 'none', 'new', 'operator:test'), /there is no connection/)
    })
    it('can be published before they sign', async () => {
      await connect(SSO)
      const first = (await stored()).keys[0]!
      await rotateKey(house, 'acme-sso', 'publish', 'operator:test')
      assert.deepEqual((await stored()).keys[0], first)
      await rotateKey(house, 'acme-sso', 'sign', 'operator:test')
      assert.deepEqual((await stored()).keys[1], first)
    })
    it('stand in no list, no export and no audit, and are sealed', async () => {
      await connect({ ...SSO, state: 'active' })
      await rotateKey(house, 'acme-sso', 'new', 'operator:test')
      await set('acme-sso', { jit: true })
      const keys = (await house.database.connections.connection('acme-sso'))!.keys
      const secrets = keys.map(({ privateKey: pemText }) => body(pemText).slice(60, 120))
      const shown = JSON.stringify(await shownConnection(await stored(), 'https://id.example'))
      const audit = JSON.stringify(await house.database.auditReader.auditRows({ limit: 1000 }))
      for (const text of [shown, audit, await exported(), JSON.stringify(await house.database.directory.connections())])
        for (const secret of ['PRIVATE KEY', 'privateKey', ...secrets]) assert.ok(!text.includes(secret))
      assert.match(shown, /"our_acs_url":"https:\/\/id\.example\/saml\/acme-sso\/acs"/)
      assert.match(shown, /"our_entity_id":"https:\/\/id\.example\/saml\/acme-sso\/metadata"/)
    })
  })

  describe('certificates that end', () => {
    it('are told of once at each threshold, however many processes look', async () => {
      const other = await open()
      const lines: string[] = []
      const watching = (one: House) => ({
        ...one,
        logger: { warn: (_details: object, text: string) => lines.push(text) } as unknown as House['logger'],
      })
      try {
        await connect({ ...SSO, state: 'active', idp: { ...IDP, certificates: [certificate(31)] } })
        const start = now()
        const told = async (day: number) => {
          const at = start + day * DAY + 60
          await Promise.all([house, other, house].map((one) => warnOfExpiry(watching(one), at)))
          const rows = await house.database.auditReader.auditRows({
            event: 'connection.certificate_expiring',
            limit: 50,
          })
          return rows.map(({ details }) => Number(details!['threshold'])).sort((a, b) => b - a)
        }
        assert.deepEqual(await told(0), [])
        assert.deepEqual(await told(1), [30])
        assert.deepEqual(await told(2), [30])
        assert.equal(lines.length, 2)
        assert.deepEqual(await told(17), [30, 14])
        assert.deepEqual(await told(28), [30, 14, 3])
        assert.deepEqual(await told(30), [30, 14, 3, 1])
        assert.deepEqual(await told(33), [30, 14, 3, 1])
        assert.equal(lines.at(-1), 'a certificate of a connection has ended')
      } finally {
        await other.close()
      }
    })
    it('are told of by the doctor, with what to do', async () => {
      const env = { SALLYPORT_LOG_LEVEL: 'silent', ...(await storeOf(folder)) }
      const finding = async () => (await diagnose(env, folder)).find(({ name }) => name === 'connections')
      assert.equal(await finding(), undefined)
      await connect({ ...SSO, state: 'active', idp: { ...IDP, certificates: [certificate(10)] } })
      assert.equal((await finding())?.status, 'warn')
      assert.match((await finding())!.message, /acme-sso ends in (9|10) days: .*certificates acme-sso --add/)
      wait(11 * DAY)
      assert.equal((await finding())?.status, 'fail')
    })
  })
})

function validity(pem: string) {
  const { validFrom, validTo } = new X509Certificate(pem)
  return { from: Date.parse(validFrom) / 1000, to: Date.parse(validTo) / 1000 }
}
