/** The identity provider of the demo's company, in its own process: what strangers ask of it does not end it. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deflateRawSync } from 'node:zlib'
import { startIdentityProvider } from '../../server/demo/identity-provider.ts'
import { freePort } from '../support/free-port.ts'

describe('the demo’s identity provider', () => {
  let port: number
  let folder: string
  let provider: Awaited<ReturnType<typeof startIdentityProvider>>

  before(async () => {
    port = await freePort()
    folder = await mkdtemp(join(tmpdir(), 'demo-idp-'))
    const acsUrl = 'http://127.0.0.1:1/saml/corner/acs'
    provider = await startIdentityProvider({ port, folder, acsUrl, spEntityId: 'urn:us', people: [] })
  })
  after(async () => {
    await provider.close()
    await rm(folder, { recursive: true })
  })

  /** The path as it is: `fetch` would put it in order first. */
  const ask = async (path: string, method = 'GET') => {
    const [answer] = (await once(request({ host: '127.0.0.1', port, path, method }).end(), 'response')) as [
      IncomingMessage,
    ]
    answer.resume()
    return answer.statusCode
  }
  const asRequest = (text: string) => encodeURIComponent(deflateRawSync(text).toString('base64'))

  it('refuses what is no address, no request, or inflates to more than a request, and goes on', async () => {
    for (const path of [
      '//',
      'http://[',
      '/sso',
      '/sso?SAMLRequest=%00',
      `/sso?SAMLRequest=${asRequest(' '.repeat(1e7))}`,
    ])
      assert.equal(await ask(path), 400, path.slice(0, 50))
    assert.equal(await ask('//', 'POST'), 405)
    assert.equal(await ask('/metadata'), 200)
  })
  it('answers a request with names that break out of nothing', async () => {
    assert.equal(await ask(`/sso?SAMLRequest=${asRequest('<samlp:AuthnRequest a="" ID="_1&amp;">')}`), 400)
    assert.equal(await ask(`/sso?SAMLRequest=${asRequest('<samlp:AuthnRequest a="" ID="_1">')}`), 200)
  })
})
