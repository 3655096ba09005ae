/** What people see of an Apache with mod_auth_openidc, and what it sees of them. Run by mod-auth-openidc.sh. */
import assert from 'node:assert/strict'
import { asPerson, given, type Person } from './person.ts'

const ENROLLED = ['Secure Your Account', 'Almost There']
const CHALLENGED = ['Enter the code from your authenticator app']
const APP_PROVEN = 'urn:sallyport:acr:2fa-app'
const app = given('APP')
const inside = `${app}/signed-in/`

/** What Apache's page says: the variables that mod_auth_openidc set. */
async function claims({ page }: Person): Promise<Record<string, string>> {
  const text = (await page.locator('body').textContent()) ?? ''
  return Object.fromEntries(
    text
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
}

await asPerson('payor@acme.example', async (payor) => {
  const { page } = payor
  await page.goto(inside)
  assert.deepEqual(await payor.signIn(), ENROLLED)
  assert.equal(page.url(), inside)
  const first = await claims(payor)
  assert.equal(first['REMOTE_USER'], first['OIDC_CLAIM_sub'])
  assert.equal(first['OIDC_CLAIM_email'], 'payor@acme.example')
  assert.equal(first['OIDC_CLAIM_name'], 'A Payor')
  assert.equal(first['OIDC_CLAIM_iss'], given('ISSUER'))
  assert.equal(first['OIDC_CLAIM_acr'], APP_PROVEN)
  assert.deepEqual(first['OIDC_CLAIM_amr']?.split(','), ['pwd', 'otp', 'mfa'])
  assert.ok(Number(first['OIDC_CLAIM_second_factor_time']) >= Number(first['OIDC_CLAIM_auth_time']))

  // Signed out by the app: RP-Initiated Logout 1.0.
  await page.goto(`${app}/signed-in/callback?logout=${encodeURIComponent(`${app}/`)}`)
  await payor.signOut()
  assert.equal(page.url(), `${app}/`)

  await page.goto(inside)
  assert.deepEqual(await payor.signIn(), CHALLENGED, 'the app knows them, and we ask for a code')
  assert.equal((await claims(payor))['OIDC_CLAIM_acr'], APP_PROVEN)

  // Signed out by us: Back-Channel Logout 1.0. The app's own session would have gone on.
  await page.goto(`${given('ISSUER')}/session/end`)
  await payor.signOut()
  const silent = await page.context().request.get(inside, { maxRedirects: 0 })
  assert.equal(silent.status(), 302, 'the session at Apache is over')
  await page.goto(inside)
  assert.equal(await payor.heading(), 'Sign in')
})

await asPerson('standard@city.example', async (standard) => {
  const { page } = standard
  await page.goto(inside)
  assert.deepEqual(await standard.signIn(), [], 'a password is enough here')
  const before = await claims(standard)
  assert.equal(before['OIDC_CLAIM_acr'], 'urn:sallyport:acr:1fa')
  assert.equal(before['OIDC_CLAIM_amr'], 'pwd')

  await page.goto(`${inside}payments/`)
  // Apache cannot redirect once it has refused: it sends a page that leads on.
  await page.waitForURL(`${given('ISSUER')}/**`)
  assert.deepEqual(await standard.proveApp(), ENROLLED, 'more is needed here, and the password is not asked again')
  assert.equal(page.url(), `${inside}payments/`)
  const after = await claims(standard)
  assert.equal(after['OIDC_CLAIM_acr'], APP_PROVEN)
  assert.equal(after['OIDC_CLAIM_auth_time'], before['OIDC_CLAIM_auth_time'])
})
