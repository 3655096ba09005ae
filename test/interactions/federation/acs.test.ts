/** The assertion consumer service, over HTTP: what anybody can post there. */
import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { deflateSync, gzipSync } from 'node:zlib'
import type { SamlConnection } from '../../../interactions/federation/saml/index.ts'
import { readTrace } from '../../../interactions/federation/trace.ts'
import { digest } from '../../../interactions/kit/keyring.ts'
import { networkOf } from '../../../interactions/kit/network.ts'
import type { Connection } from '../../../interactions/kit/stores.ts'
import { now, wait } from '../../support/clock.ts'
import { freePort } from '../../support/free-port.ts'
import { openTestHouse, type TestHouse } from '../../support/house.ts'
import { Connections } from '../../support/identity-provider.ts'
import { type Answer, headingOf } from '../../support/visitor.ts'
import { hostile } from '../../vectors/saml/hostile.ts'
import { acme, best, form, message, NOW, requests } from '../../vectors/saml/message.ts'

const REFUSED = 'We could not confirm your sign-in'
const FORM = 'application/x-www-form-urlencoded'

interface Reply {
  status: number
  headers: Record<string, string | string[] | undefined>
  text: string
}

describe('federation: what is posted to the assertion consumer service', () => {
  let test: TestHouse
  let port: number
  const connections = new Connections()
  let shift = 0
  let addresses = 0

  before(async () => {
    shift = NOW - now()
    wait(shift) // the messages' time
    port = await freePort()
    test = await openTestHouse({ PORT: String(port), SALLYPORT_ISSUER: 'https://id.example' }, { connections })
    for (const [relayState, { answered, ...request }] of requests) {
      const handle = digest(relayState)
      await test.database.federation.keepRequest({ ...request, handle, interaction: 'uid', authnContexts: [] })
      if (answered)
        await test.database.federation.acceptResponse({
          ...{ handle, issuer: 'urn:x', assertionId: '_x', facts: '{}', now: NOW },
          ...{ usableUntil: NOW + 300, expiresAt: NOW + 300 },
        })
    }
  })
  after(async () => {
    await test.close()
    wait(-shift)
  })
  const put = (connection: SamlConnection, more: Partial<Connection> = {}) =>
    connections.put({
      ...{ mode: 'forward', state: 'active', jit: false, trustedContexts: [], keys: connection.sp.keys },
      ...connection,
      ...more,
    })
  beforeEach(() => {
    connections.all.clear()
    put(acme)
    put(best)
  })

  /** From a network of its own. */
  const post = (
    body: string | Buffer,
    headers: Record<string, string> = {},
    { method = 'POST', path = '/saml/acme-sso/acs', to = port } = {},
  ): Promise<Reply> =>
    new Promise((resolve, reject) => {
      addresses += 1
      const forwarded = {
        'x-forwarded-for': `10.77.${addresses >> 8}.${addresses & 255}`,
        'x-forwarded-proto': 'https',
        'x-forwarded-host': 'id.example',
      }
      const sent = httpRequest(
        { host: '127.0.0.1', port: to, path, method, headers: { 'content-type': FORM, ...forwarded, ...headers } },
        (answer) => {
          let text = ''
          answer.setEncoding('utf8')
          answer.on('data', (part: string) => {
            text += part
          })
          answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }))
        },
      )
      sent.on('error', reject)
      sent.end(body)
    })
  const encoded = (fields: Record<string, unknown>) =>
    Object.entries(fields)
      .flatMap(([name, value]) =>
        value !== null && typeof value === 'object'
          ? Object.entries(value).map(([key, one]) => [Array.isArray(value) ? name : `${name}[${key}]`, String(one)])
          : [[name, String(value)]],
      )
      .map((pair) => pair.map((text) => encodeURIComponent(text!)).join('='))
      .join('&')
  const referenceOn = ({ text }: Reply) => /<code class="select-all"[^>]*>([^<]+)</.exec(text)?.[1] ?? ''
  const assertRefused = (reply: Reply, what: string) => {
    assert.ok(reply.status >= 400 && reply.status < 500, `${what}: ${reply.status}`)
    assert.equal(headingOf(reply as unknown as Answer), REFUSED, what)
    assert.match(referenceOn(reply), /^[\w-]+$/, what)
    assert.equal(reply.headers['set-cookie'], undefined, what)
    assert.equal(reply.headers['location'], undefined, what)
  }
  const plain = ({ text }: Reply) =>
    text
      .replace(/<code[^>]*>[^<]*<|nonce="[^"]*"|\/interaction\/[\w-]+\/sso/g, '')
      .replace(/<a class="button".*?<\/a>/s, '')

  describe('is refused, and never a fault of ours, with', () => {
    const SAMLResponse = encodeURIComponent(form(message()).SAMLResponse)
    const both = `SAMLResponse=${SAMLResponse}&RelayState=acme`
    const multipart = `--b\r\ncontent-disposition: form-data; name="SAMLResponse"\r\n\r\n${form(message()).SAMLResponse}\r\n--b--\r\n`
    const parts = (count: number) => Array.from({ length: count }, (_, index) => `p${index}=${index}`).join('&')
    const cases: [what: string, body: string | Buffer, headers?: Record<string, string>][] = [
      ['nothing', ''],
      ['SAMLResponse twice', `${both}&SAMLResponse=${SAMLResponse}`],
      ['SAMLResponse twice, the first one good', `${both}&SAMLResponse=PGEvPg%3D%3D`],
      ['SAMLResponse as a list', both.replace('SAMLResponse', 'SAMLResponse[]')],
      ['SAMLResponse as an object', both.replace('SAMLResponse', 'SAMLResponse[a][b]')],
      ['SAMLResponse in other letters', both.replace('SAMLResponse', 'samlresponse')],
      ['SAMLResponse in the prototype', `__proto__[SAMLResponse]=${SAMLResponse}&RelayState=acme`],
      ['RelayState twice', `${both}&RelayState=best`],
      ['RelayState as an object', both.replace('RelayState', 'RelayState[toString]')],
      ['a RelayState of 81 characters', both.replace('=acme', `=${'a'.repeat(81)}`)],
      ['a RelayState that is no UTF-8', both.replace('=acme', '=%ff%fe')],
      ['a RelayState with NUL', both.replace('=acme', '=acme%00')],
      ['a broken percent sign', `SAMLResponse=%zz${SAMLResponse}&RelayState=acme`],
      ['Base64 whose plus signs are not written as a form writes them', `SAMLResponse=PGEv+Pg==&RelayState=acme`],
      ['semicolons for ampersands', both.replace('&', ';')],
      ['a hundred thousand ampersands', '&'.repeat(100_000)],
      ['twenty thousand parameters', `${parts(20_000)}&${both}`],
      ['a parameter two thousand levels deep', `a${'[b]'.repeat(2000)}=c&${both.replace('SAMLResponse', 'x')}`],
      ['JSON that says it is a form', JSON.stringify({ SAMLResponse, RelayState: 'acme' })],
      ['JSON', JSON.stringify({ SAMLResponse, RelayState: 'acme' }), { 'content-type': 'application/json' }],
      ['XML', message(), { 'content-type': 'application/samlassertion+xml' }],
      ['a multipart form', multipart, { 'content-type': 'multipart/form-data; boundary=b' }],
      ['plain text', both, { 'content-type': 'text/plain' }],
      ['no type', both, { 'content-type': '' }],
      ['a form in UTF-16', Buffer.from(both, 'utf16le'), { 'content-type': `${FORM}; charset=utf-16le` }],
      ['a form in a set that nobody has', 'a=b', { 'content-type': `${FORM}; charset=ebcdic-cp-us` }],
      ['a compression that nobody has', both, { 'content-encoding': 'br' }],
      ['a compression that it does not have', both, { 'content-encoding': 'gzip' }],
      [
        'a form that is 64 megabytes when it is unpacked',
        gzipSync(Buffer.alloc(64 << 20)),
        { 'content-encoding': 'gzip' },
      ],
      ['the same by deflate', deflateSync(Buffer.alloc(64 << 20)), { 'content-encoding': 'deflate' }],
      ['more than 512 KB', `x=${'a'.repeat(513 * 1024)}`],
      ['more than 512 KB that does not say so', `x=${'a'.repeat(513 * 1024)}`, { 'transfer-encoding': 'chunked' }],
    ]
    for (const [what, body, headers] of cases)
      it(what, async () => {
        const memory = process.memoryUsage().rss
        const reply = await post(body, headers)
        assertRefused(reply, what)
        const isForm = (headers?.['content-type'] ?? FORM).startsWith(FORM)
        assert.equal(reply.status, isForm ? (/ 512 KB| 64 mega|the same by/.test(what) ? 413 : 400) : 415)
        assert.ok(process.memoryUsage().rss - memory < 200 << 20, 'unpacked')
      })

    for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH'])
      it(`${method} and the response in its query`, async () => {
        const reply = await post('', {}, { method, path: `/saml/acme-sso/acs?${both}` })
        assert.equal(reply.status, 405)
        assert.equal(reply.headers['allow'], 'POST')
        assert.equal(reply.headers['location'], undefined)
      })
    it('the response in the query of a POST', async () => {
      assertRefused(await post('', {}, { path: `/saml/acme-sso/acs?${both}` }), 'query')
      assertRefused(await post('RelayState=acme', {}, { path: `/saml/acme-sso/acs?${both}` }), 'half')
    })
    it('another connection’s address, or an address of none', async () => {
      for (const id of ['best-sso', 'none', 'ACME-SSO', 'acme-sso.', '__proto__', 'constructor'])
        assertRefused(await post(both, {}, { path: `/saml/${id}/acs` }), id)
      for (const path of [
        '/saml/acme-sso/acs/',
        '/saml//acs',
        '/saml/acme-sso%2facs',
        '/saml/acme-sso/%61cs',
        '/saml/a%00/acs',
      ])
        assert.equal((await post(both, {}, { path })).status, 404, path)
    })
    it('a connection that is not active', async () => {
      for (const state of ['draft', 'testing', 'disabled'] as const) {
        put(acme, { state })
        const reply = await post(both)
        assertRefused(reply, state)
        assert.equal(
          readTrace((await test.database.traces.find(referenceOn(reply), now()))!.said).code,
          'connection_state',
        )
      }
    })
  })

  it('is not looked at when one network brings too much, at whichever connections', async () => {
    const ip = '10.99.0.1'
    const rule = { kind: 'window', limit: 600, seconds: 60 } as const
    const take = { key: `saml|${networkOf(ip)}`, rule }
    await Promise.all(Array.from({ length: rule.limit - 1 }, () => test.database.throttle.take([take], now())))
    const from = { 'x-forwarded-for': ip }
    assert.equal((await post('', from)).status, 400)
    for (const path of ['/saml/acme-sso/acs', '/saml/best-sso/acs', '/saml/none/acs'])
      assert.equal((await post('', from, { path })).status, 429)
    assert.equal((await post('')).status, 400)
  })

  it('is taken once when it is good, of fifty who bring it to two servers at once', async () => {
    const request = { id: '_request-of-fifty', connectionId: 'acme-sso', interaction: 'uid', authnContexts: [] }
    const times = { createdAt: NOW, expiresAt: NOW + 600, forceAuthn: false }
    await test.database.federation.keepRequest({ ...request, ...times, handle: digest('fifty') })
    const good = encoded(form(message({ relayState: 'fifty' }), 'fifty'))
    const env = { PORT: String(await freePort()), SALLYPORT_ISSUER: 'https://id.example' }
    const second = await openTestHouse(env, { connections, folder: test.folder })
    const replies = await Promise.all(
      Array.from({ length: 50 }, (_, index) => post(good, {}, { to: index % 2 ? port : Number(env.PORT) })),
    ).finally(() => second.close())
    const taken = replies.filter(({ status }) => status === 303)
    assert.equal(taken.length, 1)
    assert.match(String(taken[0]!.headers['location']), /^\/interaction\/uid\/sso-return\?handle=/)
    for (const reply of replies) if (reply.status !== 303) assertRefused(reply, 'again')
  })

  it('whatever the fault, is refused with one page, and the trace names the check (acceptance 48)', async () => {
    const pages = new Set<string>()
    let later = 0
    // Time goes on here: of a connection the newest traces are kept.
    const inTime = [...hostile].sort((one, other) => one.now - other.now)
    for (const { name, group, check, form: fields, connection, now: at } of inTime) {
      put(connection)
      if (at - now() > 600) {
        later = at - now()
        wait(later)
      }
      const reply = await post(encoded(fields), {}, { path: new URL(connection.sp.acsUrl).pathname })
      const what = `${group}: ${name}`
      if (check === 'unsolicited') assert.ok([303, 400].includes(reply.status), what)
      assertRefused(reply, what)
      pages.add(plain(reply))
      const trace = await test.database.traces.find(referenceOn(reply), now())
      assert.equal(readTrace(trace!.said).code, check, what)
      assert.doesNotMatch(trace!.said, /<[a-z/?!]|Ana Lima|ana@|boss@|PHNhbWxw/i, what)
      put(acme)
      put(best)
    }
    wait(-later)
    assert.equal(pages.size, 1)
    for (const line of test.logs) assert.doesNotMatch(line, /<saml|PHNhbWxw|Ana Lima|ana@acme|boss@/)
  }).timeout(180_000)
})
