/** What an address outside names is fetched from outside only. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { selfSigned } from '../../interactions/federation/saml/certificate.ts'
import { type FetchOptions, fetchGuarded, isPublicAddress } from '../../server/guarded-fetch.ts'

const HOST = 'idp.example'

describe('fetching metadata', () => {
  const key = generateKeyPairSync('rsa', { modulusLength: 2048 })
    .privateKey.export({ type: 'pkcs8', format: 'pem' })
    .toString()
  const now = Math.floor(Date.now() / 1000)
  const ca = selfSigned({
    privateKey: key,
    commonName: HOST,
    notBefore: now - 86400 * 400,
    notAfter: now + 86400 * 400,
  })
  let server: Server
  let answer: (request: IncomingMessage, response: ServerResponse) => void
  let asked: string[]
  before(async () => {
    server = createServer({ key, cert: ca }, (request, response) => {
      asked.push(request.url ?? '')
      answer(request, response)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  })
  beforeEach(() => {
    asked = []
    answer = (_request, response) => response.end('<metadata/>')
  })
  after(() => {
    server.closeAllConnections()
    server.close()
  })

  const url = (path = '/metadata', host = HOST) => `https://${host}:${(server.address() as AddressInfo).port}${path}`
  const here: FetchOptions = { ca, resolve: async () => ['127.0.0.1'], isAllowed: () => true }
  const refuses = (complaint: RegExp, address: string, options: FetchOptions = here) =>
    assert.rejects(fetchGuarded(address, options), (error: Error) => {
      assert.equal(error.name, 'NotFetched')
      assert.match(error.message, complaint)
      return true
    })

  it('connects to the address that was looked at, and asks it for the name', async () => {
    let resolved = 0
    const options = {
      ...here,
      resolve: async () => {
        resolved += 1
        return ['127.0.0.1']
      },
    }
    assert.equal((await fetchGuarded(url(), options)).toString(), '<metadata/>')
    assert.equal(resolved, 1)
    assert.deepEqual(asked, ['/metadata'])
  })
  it('refuses what is not public, before it connects', async () => {
    for (const address of ['127.0.0.1', '10.1.2.3', '::1', 'fd00::1', '::ffff:127.0.0.1'])
      await refuses(/no public address/, url(), { ca, resolve: async () => [address] })
    await refuses(/no public address/, url(), { ca, resolve: async () => ['93.184.216.34', '127.0.0.1'] })
    await refuses(/no public address/, url('/', '127.0.0.1'), { ca })
    await refuses(/no public address/, url('/', '[::1]'), { ca })
    await refuses(/no public address/, url('/', '[::ffff:7f00:1]'), { ca })
    await refuses(/no public address/, url('/', '2130706433'), { ca })
    await refuses(/no public address/, url('/', 'localhost'), { ca })
    assert.deepEqual(asked, [])
  })
  it('knows which addresses are public', () => {
    for (const address of ['93.184.216.34', '8.8.8.8', '172.15.0.1', '172.32.0.1', '2606:4700::1111', '2a00:1450::1'])
      assert.ok(isPublicAddress(address), address)
    for (const address of [
      ...['0.0.0.0', '10.0.0.1', '100.64.0.1', '127.9.9.9', '169.254.169.254', '172.16.0.1', '172.31.255.255'],
      ...['192.0.0.1', '192.0.2.1', '192.168.1.1', '198.18.0.1', '198.19.255.255', '224.0.0.1', '255.255.255.255'],
      ...[
        '::',
        '::1',
        'fe80::1',
        'fc00::1',
        'fd12::1',
        'ff02::1',
        '::ffff:8.8.8.8',
        '64:ff9b::7f00:1',
        '2002:7f00:1::',
      ],
      ...['2001::1', '2001:db8::1', 'localhost', '', '8.8.8.8.8'],
    ])
      assert.ok(!isPublicAddress(address), address)
  })
  it('follows no redirect', async () => {
    answer = (_request, response) => response.writeHead(302, { location: url('/other') }).end()
    await refuses(/sends elsewhere \(302\)/, url())
    assert.deepEqual(asked, ['/metadata'])
  })
  it('takes 256 KB and no more, though the length is said to be less', async () => {
    answer = (_request, response) => response.end(Buffer.alloc(256 * 1024))
    assert.equal((await fetchGuarded(url(), here)).length, 256 * 1024)
    answer = (_request, response) => response.end(Buffer.alloc(256 * 1024 + 1))
    await refuses(/more than 256 KB/, url())
    answer = (_request, response) => {
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65536)));
      }
      response.on('drain', more)
      more()
    }
    await refuses(/more than 256 KB/, url())
  })
  it('waits so long and no longer, for an answer, for its end, and for the DNS', async () => {
    const soon = { ...here, timeoutMs: 200 }
    answer = () => {}
    await refuses(/within 0.2 seconds/, url(), soon)
    answer = (_request, response) => void response.write('<')
    await refuses(/within 0.2 seconds/, url(), soon)
    await refuses(/within 0.2 seconds/, url(), { ...soon, resolve: () => new Promise(() => {}) })
  })
  it('refuses other schemes, user names, failures, and a certificate that is not known', async () => {
    await refuses(/no https URL/, 'http://idp.example/')
    await refuses(/no https URL/, 'file:///etc/passwd')
    await refuses(/user name/, 'https://a:b@idp.example/')
    await refuses(/no host/, url(), { ...here, resolve: async () => [] })
    const { ca: _ca, ...strangers } = here
    await refuses(/cannot be reached \(.*SELF_SIGNED/, url(), strangers)
    await refuses(/cannot be reached \(ERR_TLS_CERT_ALTNAME_INVALID/, url('/', 'other.example'))
    answer = (_request, response) => response.writeHead(500).end()
    await refuses(/answered 500/, url())
  })
})
