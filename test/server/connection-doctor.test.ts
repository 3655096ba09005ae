/** The doctor of connections: `explain`, `test`, `trace`, `traces` in processes of their own; `refresh` over a network of the test. */
import assert from 'node:assert/strict'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { selfSigned } from '../../interactions/federation/saml/certificate.ts'
import { digest } from '../../interactions/kit/keyring.ts'
import { warnOfExpiry } from '../../server/certificate-expiry.ts'
import { changeDirectory } from '../../server/changes.ts'
import { loadConfig } from '../../server/config.ts'
import { comparePublished, publishedCertificate } from '../../server/connection-metadata.ts'
import { type House, type Metric, openHouse } from '../../server/open.ts'
import { command } from '../support/command.ts'
import { storeOf } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'
import * as m from '../vectors/saml/message.ts'

const DAY = 24 * 60 * 60
const NOW = Math.floor(Date.now() / 1000)

describe('sallyport connection: the doctor', function () {
  this.timeout(120_000)
  const privateKey = generateKeyPairSync('rsa', { modulusLength: 2048 })
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString()
  const certificate = (commonName: string, days = 400) =>
    selfSigned({ privateKey, commonName, notBefore: NOW - DAY, notAfter: NOW + days * DAY })
  const first = certificate('idp.example')
  const next = certificate('next')
  const fingerprint = (pem: string) => new X509Certificate(pem).fingerprint256
  const body = (pem: string) => new X509Certificate(pem).raw.toString('base64')
  const metadata = (pems: string[], entityId = m.acme.idp.entityId) =>
    `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="${entityId}"><IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">${pems
      .map(
        (pem) =>
          `<KeyDescriptor use="signing"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>${body(pem)}</X509Certificate></X509Data></KeyInfo></KeyDescriptor>`,
      )
      .join(
        '',
      )}<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.acme.example/sso"/></IDPSSODescriptor></EntityDescriptor>`

  let folder: string
  let env: Record<string, string>
  let house: House
  let server: Server
  let published: string
  const run = (...args: string[]) => command(folder, args, env)
  const issuer = 'https://id.example'

  before(async () => {
    server = createServer({ key: privateKey, cert: first }, (_request, response) => response.end(published))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    folder = temporaryFolder()
    env = { SALLYPORT_LOG_LEVEL: 'silent', SALLYPORT_ISSUER: issuer, ...(await storeOf(folder)) } as Record<
      string,
      string
    >
    const idp = { metadata_file: 'idp.xml' }
    writeFileSync(join(folder, 'idp.xml'), metadata([first]))
    writeFileSync(
      join(folder, 'seed.json'),
      JSON.stringify({
        companies: [{ id: 'acme', side: 'payor', domains: ['acme.example'] }],
        connections: [
          {
            id: 'acme-sso',
            company: 'acme',
            domains: ['acme.example'],
            mode: 'forward',
            idp,
            attributes: { email: 'mail', name: 'displayName' },
            state: 'testing',
          },
        ],
      }),
    )
    const applied = await run('apply', 'seed.json')
    assert.equal(applied.code, 0, applied.stderr)
    house = await openHouse(loadConfig(env, folder))
    house.network = { ca: first, resolve: async () => ['127.0.0.1'], isAllowed: () => true }
  })
  after(async () => {
    await house.close()
    server.closeAllConnections()
    server.close()
  })

  describe('explain', () => {
    const key = { privateKey, certificate: { pem: first, notBefore: NOW - DAY, notAfter: NOW + 400 * DAY } }
    const at = (seconds: number) => new Date((NOW - 3600 + seconds) * 1000).toISOString()
    /** An hour old. */
    const response = (more: m.MessageOptions = {}) =>
      m.message({
        response: { IssueInstant: at(0) },
        assertion: { IssueInstant: at(0) },
        confirmation: { NotOnOrAfter: at(300) },
        conditionTimes: { NotBefore: at(-60), NotOnOrAfter: at(300) },
        authn: m.authnStatement({ AuthnInstant: at(-10) }),
        signature: { key },
        ...more,
      })
    it('says of an old response that it was good, and until when', async () => {
      writeFileSync(join(folder, 'good.txt'), Buffer.from(response()).toString('base64'))
      const { code, stdout, stderr } = await run('connection', 'explain', 'good.txt')
      assert.equal(code, 0, stderr + stdout)
      assert.match(stdout, /acme-sso, the identity provider: good/)
      assert.match(stdout, /It was valid until \d{4}-/)
      assert.ok(stdout.includes(fingerprint(first)))
      assert.match(stdout, /signed in .*\(10 s before\)/)
      assert.match(stdout, /NameID +a…@acme\.example/)
      assert.doesNotMatch(stdout, /ana@|Ana Lima|<saml|PRIVATE/)
    })
    it('says what is wrong and where to change it; exit code 1', async () => {
      writeFileSync(join(folder, 'bad.xml'), response({ audiences: m.audience('urn:other') }))
      const { code, json } = await run('connection', 'explain', 'bad.xml', '--json')
      assert.equal(code, 1)
      const { failed, connection } = json() as { failed: { check: string }[]; connection: string }
      assert.deepEqual([connection, failed.map(({ check }) => check)], ['acme-sso', ['audience']])
    })
    it('asks whose it is when the response does not say', async () => {
      writeFileSync(join(folder, 'none.txt'), 'hello')
      const { code, stderr } = await run('connection', 'explain', 'none.txt')
      assert.equal(code, 1)
      assert.match(stderr, /name one with --connection/)
      assert.match((await run('connection', 'explain', 'none.txt', '--connection', 'acme-sso')).stdout, /✗ base64/)
      assert.match((await run('connection', 'explain', 'missing.txt')).stderr, /cannot read missing\.txt/)
      assert.match((await run('connection', 'explain', 'good.txt', '--connection', 'x')).stderr, /no connection "x"/)
    })
  })

  it('test prints a link whose handle is stored as a hash, and the audit does not have it', async () => {
    const { json } = await run('connection', 'test', 'acme-sso', '--json')
    const { url } = json() as { url: string }
    assert.ok(url.startsWith(`${issuer}/saml/acme-sso/test?handle=`))
    const handle = new URL(url).searchParams.get('handle')!
    const { pending, auditReader } = house.database
    assert.equal(await pending.recall(digest(handle), 'connection_test', NOW), 'acme-sso')
    const [row] = await auditReader.auditRows({ event: 'connection.test_link' })
    assert.deepEqual(row?.details, { connection: 'acme-sso' })
    assert.match((await run('connection', 'test', 'none')).stderr, /no connection "none"/)
  })

  it('trace and traces say what came', async () => {
    const told = { kind: 'sign_in', outcome: 'refused', code: 'no_account', advice: 'No user found.' }
    const at = NOW - 60
    await house.database.traces.keep({
      reference: 'ref-1',
      connectionId: 'acme-sso',
      at,
      shelf: 'refused',
      said: JSON.stringify(told),
    })
    const one = await run('connection', 'trace', 'ref-1')
    assert.match(one.stdout, /sign-in refused: no_account\nNo user found\./)
    assert.match((await run('connection', 'traces', 'acme-sso')).stdout, /sign-in +refused +no_account .*ref-1/)
    const gone = await run('connection', 'trace', 'ref-2')
    assert.equal(gone.code, 1)
    assert.match(gone.stderr, /there is no trace ref-2/)
    assert.match((await run('connection', 'traces', 'none')).stderr, /no connection "none"/)
  })

  describe('refresh', () => {
    const set = (more: object) =>
      changeDirectory(
        house,
        { noun: 'connection', op: 'set', id: 'acme-sso', keys: (present) => ({ ...present, ...more }) },
        'operator:test',
      )
    const url = () => `https://idp.example:${(server.address() as AddressInfo).port}/metadata`
    const stored = async () =>
      (await house.database.directory.connection('acme-sso'))!.idp.certificates.map(({ pem }) => fingerprint(pem))
    before(async () => {
      published = metadata([first])
      await set({ idp: { metadata_url: url() } })
    })
    it('finds nothing where nothing differs', async () => {
      published = metadata([first])
      assert.deepEqual(await comparePublished(house, 'acme-sso'), { differs: {}, fresh: [], gone: [] })
    })
    it('shows a new certificate and takes it over only when an administrator names it', async () => {
      published = metadata([first, next]).replace('/sso"', '/sso2"')
      const { differs, fresh, gone } = await comparePublished(house, 'acme-sso')
      assert.deepEqual(differs, {
        ssoUrl: { stored: 'https://idp.acme.example/sso', published: 'https://idp.acme.example/sso2' },
      })
      assert.deepEqual([fresh, gone], [[fingerprint(next)], []])
      assert.deepEqual(await stored(), [fingerprint(first)])
      const pem = await publishedCertificate(house, 'acme-sso', fingerprint(next).slice(0, 11))
      const keys = (present: Record<string, unknown>) => {
        const idp = present['idp'] as { certificates: string[] }
        return { ...present, idp: { ...idp, certificates: [...idp.certificates, pem] } }
      }
      await changeDirectory(house, { noun: 'connection', op: 'set', id: 'acme-sso', keys }, 'operator:test')
      assert.deepEqual(await stored(), [fingerprint(first), fingerprint(next)])
      published = metadata([next])
      assert.deepEqual((await comparePublished(house, 'acme-sso')).gone, [fingerprint(first)])
      await assert.rejects(publishedCertificate(house, 'acme-sso', fingerprint(first)), /there is no certificate/)
    })
    it('takes nothing from another identity provider, nor from what is no metadata', async () => {
      published = metadata([first], 'urn:thief')
      await assert.rejects(comparePublished(house, 'acme-sso'), /another identity provider now, urn:thief/)
      published = 'hello'
      await assert.rejects(comparePublished(house, 'acme-sso'), /connection "acme-sso": .*not well-formed/)
      await assert.rejects(comparePublished(house, 'none'), /there is no connection "none"/)
    })
  })

  it('the end of a certificate is a number that can be watched', async () => {
    const metrics: Metric[] = []
    house.onMetric = (metric) => metrics.push(metric)
    await warnOfExpiry(house, NOW + 380 * DAY)
    assert.ok(metrics.some(({ labels }) => labels['fingerprint'] === fingerprint(first)))
    for (const { name, value, labels } of metrics) {
      assert.equal(name, 'certificate_days_left')
      assert.ok(value >= 18 && value <= 20, String(value))
      assert.deepEqual(Object.keys(labels), ['connection', 'whose', 'fingerprint'])
    }
  })
})
