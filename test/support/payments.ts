/** The demo's app "Payments" and its API, at a server under test. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createApi } from '../../examples/resource-server/api.ts'
import { startRelyingParty } from '../../server/demo/relying-party.ts'
import { freePort } from './free-port.ts'
import { API, CLIENT_SECRET, type TestHouse } from './house.ts'

/** Starts both. @returns where the app is */
export async function openPayments(test: TestHouse): Promise<{ app: string; close(): Promise<void> }> {
  const app = `http://127.0.0.1:${await freePort()}`
  await test.database.directory.commit([
    {
      kind: 'client',
      op: 'put',
      value: {
        client_id: 'tool',
        client_name: 'Payments',
        client_secret: CLIENT_SECRET,
        client_uri: app,
        redirect_uris: [`${app}/callback`],
        post_logout_redirect_uris: [`${app}/`],
        grant_types: ['authorization_code', 'refresh_token'],
        backchannel_logout_uri: `${app}/backchannel-logout`,
        backchannel_logout_session_required: true,
        sallyport: { first_party: true, mfa: 'by_role', second_factor_max_age: 1800 },
      },
    },
  ])
  const api = createServer((await createApi({ issuer: test.url, audience: API })).callback())
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve))
  const relyingParty = await startRelyingParty({
    issuer: test.url,
    clientId: 'tool',
    clientSecret: CLIENT_SECRET,
    url: app,
    api: `http://127.0.0.1:${(api.address() as AddressInfo).port}`,
  })
  return {
    app,
    async close() {
      await relyingParty.close()
      await new Promise((resolve) => {
        api.close(resolve)
        api.closeAllConnections()
      })
    },
  }
}
