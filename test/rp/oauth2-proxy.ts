/** What people see of oauth2-proxy, and what the app behind it sees of them. Run by oauth2-proxy.sh. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createRemoteJWKSet, type JWTPayload, jwtVerify } from 'jose'
import { asPerson, given } from './person.ts'

const ENROLLED = ['Secure Your Account', 'Almost There']
const CHALLENGED = ['Enter the code from your authenticator app']
const app = given('APP')
const issuer = given('ISSUER')

/** The app behind the proxy: it answers with who came and what the ID token says, after it has verified it. */
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`))
const upstream = createServer(async (request, response) => {
  const token = request.headers.authorization?.replace(/^Bearer /, '') ?? ''
  try {
    const { payload } = await jwtVerify(token, keys, { issuer, audience: 'reports' })
    response.setHeader('content-type', 'application/json').end(
      JSON.stringify({
        ...payload,
        user: request.headers['x-forwarded-user'],
        email: request.headers['x-forwarded-email'],
      }),
    )
  } catch (error) {
    response.writeHead(500).end((error as Error).message)
  }
}).listen(Number(new URL(given('UPSTREAM')).port), '127.0.0.1')
await once(upstream, 'listening')

try {
  for (const email of ['payor@acme.example', 'standard@city.example'])
    await asPerson(email, async (person) => {
      const { page } = person
      const claims = async () => JSON.parse((await page.locator('body').textContent()) ?? '') as JWTPayload
      await page.goto(`${app}/a/page?of=theirs`)
      assert.deepEqual(await person.signIn(), ENROLLED)
      assert.equal(page.url(), `${app}/a/page?of=theirs`)
      const first = await claims()
      assert.equal(first['email'], email)
      assert.equal(first['user'], first.sub)
      assert.equal(first['acr'], 'urn:sallyport:acr:2fa-app')
      assert.deepEqual(first['amr'], ['pwd', 'otp', 'mfa'])
      const info = await page.context().request.get(`${app}/oauth2/userinfo`)
      assert.equal(((await info.json()) as { email: string }).email, email)

      // Out of the proxy, on to us, and back: RP-Initiated Logout 1.0.
      const out = new URLSearchParams({ client_id: 'reports', post_logout_redirect_uri: `${app}/` })
      await page.goto(`${app}/oauth2/sign_out?${new URLSearchParams({ rd: `${issuer}/session/end?${out}` })}`)
      await person.signOut()
      assert.equal(await person.heading(), 'Sign in', 'back at the app, which asks us at once')
      assert.equal((await page.context().request.get(`${app}/oauth2/userinfo`)).status(), 401)

      assert.deepEqual(await person.signIn(), CHALLENGED)
      assert.deepEqual((await claims())['amr'], ['pwd', 'otp', 'mfa'])
    })
} finally {
  upstream.close()
  upstream.closeAllConnections()
}
