/** The demo: a server on loopback with sample people and the relying party "Payments", to try by hand or played by itself. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createApi } from '../../examples/resource-server/api.ts'
import { startServer } from '../app.ts'
import { type Config, ConfigError, environment, isLoopback, loadConfig } from '../config.ts'
import { createLogger } from '../log.ts'
import { openHouse } from '../open.ts'
import { planningOf, sallyportOf } from '../provider.ts'
import { applyPlan, planSeed } from '../seed/index.ts'
import { startIdentityProvider } from './identity-provider.ts'
import { startOutboxPage } from './outbox.ts'
import { play, playCompanySignIn } from './play.ts'
import { startRelyingParty } from './relying-party.ts'
import { API, COLLEAGUES, CONNECTION, type DemoSecrets, demoSecrets, demoSeed, GUEST, PEOPLE } from './seed.ts'

const APP_PORT = 4000
const API_PORT = 4001
const IDENTITY_PROVIDER_PORT = 4002
const OUTBOX_PORT = 4003
/** Texts go where mail goes here: on a page. */
const TEXTS = { SALLYPORT_SMS: 'outbox' }

/**
 * Runs the demo until it is stopped, or, with `auto`, plays the main flow and ends.
 *
 * @returns the exit code
 * @throws {ConfigError} in production, or for an address that is not this machine's own
 */
export async function demo({ auto }: { auto: boolean }): Promise<number> {
  if (environment()['NODE_ENV'] === 'production')
    throw new ConfigError('NODE_ENV: the demo has sample people and does not run in production')
  return auto ? playByItself() : runUntilStopped()
}

async function runUntilStopped(): Promise<number> {
  const config = loadConfig({ ...TEXTS, ...environment() }, process.cwd())
  if (!isLoopback(config.HOST)) throw new ConfigError('HOST: the demo listens on 127.0.0.1 only')
  const app = `http://127.0.0.1:${APP_PORT}`
  const { secrets, outbox, close } = await start(
    config,
    { app, api: API_PORT, identityProvider: IDENTITY_PROVIDER_PORT, outbox: OUTBOX_PORT },
    config.SALLYPORT_LOG_LEVEL === 'info' ? 'warn' : config.SALLYPORT_LOG_LEVEL,
  )
  const width = Math.max(...[...PEOPLE, GUEST, ...COLLEAGUES].map(({ email }) => email.length))
  const list = (people: readonly { email: string; what: string }[]) =>
    people.map(({ email, what }) => `  ${email.padEnd(width)}  ${what}`).join('\n')
  process.stdout.write(
    `
Open ${app}   the app "Payments" (the provider is ${config.SALLYPORT_ISSUER})
and  ${outbox}   what these people get by mail and on their phones

${list(PEOPLE)}

  Password for all of them: ${secrets.password}

${list([GUEST])}

${list(COLLEAGUES)}

  These two sign in at their company (SAML), whose identity provider is a process of its own.

Try: sign in as the payor with an authenticator app on your phone; write the recovery code down; look at the tokens;
enter the Payments tool, make a disbursement, change the bank account; set its clock to 30 seconds and wait; give ten wrong codes;
sign out and in again; "Use your recovery code" as if the phone were lost; sign in as the payee by SMS.
Your own account is ${config.SALLYPORT_ISSUER}/account: change the phone, the address, the password; end sessions. As the administrator of
Dale Roads open "People you look after" there, and reset the member, once the member has an app.
Then, in another terminal: npm run sallyport -- audit list

Ctrl+C stops it. Everything it keeps is in ${config.SALLYPORT_DATA_DIR}
`,
  )
  await new Promise<void>((resolve) => {
    process.once('SIGINT', () => resolve())
    process.once('SIGTERM', () => resolve())
  })
  await close()
  return 0
}

async function playByItself(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-demo-'))
  try {
    const [port, appPort] = [await freePort(), await freePort()]
    const app = `http://127.0.0.1:${appPort}`
    // What is set in the environment is about another server.
    const config = loadConfig({ ...TEXTS, PORT: String(port), SALLYPORT_DATA_DIR: folder }, folder)
    const ports = { app, api: await freePort(), identityProvider: await freePort(), outbox: 0 }
    const { secrets, close } = await start(config, ports, 'error')
    try {
      const tell = (line: string) => process.stdout.write(`${line}\n`)
      const claims = await play(app, config.SALLYPORT_ISSUER, PEOPLE[0].email, secrets.password, tell)
      const { amr } = await playCompanySignIn(app, config.SALLYPORT_ISSUER, COLLEAGUES[0].email, tell)
      tell(`by company sign-in: amr ${JSON.stringify(amr)}`)
      process.stdout.write(`${JSON.stringify(claims, null, 2)}\n`)
      return 0
    } catch (error) {
      process.stderr.write(`sallyport demo: ${(error as Error).message}\n`)
      return 1
    } finally {
      await close()
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The server with its sample people, the app, and the API that the app calls. */
async function start(
  config: Config,
  {
    app,
    api: apiPort,
    identityProvider: port,
    outbox: outboxPort,
  }: { app: string; api: number; identityProvider: number; outbox: number },
  logLevel: string,
): Promise<{ secrets: DemoSecrets; outbox: string; close(): Promise<void> }> {
  mkdirSync(config.SALLYPORT_DATA_DIR, { recursive: true, mode: 0o700 })
  const house = await openHouse(config, { createKeys: true, logger: createLogger(logLevel) })
  const secrets = demoSecrets(config.SALLYPORT_DATA_DIR)
  const sp = `${config.SALLYPORT_ISSUER}/saml/${CONNECTION}`
  const identityProvider = await startIdentityProvider({
    port,
    folder: config.SALLYPORT_DATA_DIR,
    acsUrl: `${sp}/acs`,
    spEntityId: `${sp}/metadata`,
    people: COLLEAGUES,
  })
  const plan = await planSeed(house.database, demoSeed(secrets, app, identityProvider.metadata), {
    ...(await planningOf(house)),
    untested: 'the demo makes both sides',
  })
  await applyPlan(house.database, plan, 'operator:demo')
  const server = await startServer(house)
  const { clientSecret } = secrets
  const api = createServer((await createApi({ issuer: config.SALLYPORT_ISSUER, audience: API })).callback())
  await new Promise<void>((resolve, reject) => {
    api.once('error', reject)
    api.listen(apiPort, '127.0.0.1', resolve)
  })
  const relyingParty = await startRelyingParty({
    issuer: config.SALLYPORT_ISSUER,
    clientId: 'payments',
    clientSecret,
    url: app,
    api: `http://127.0.0.1:${apiPort}`,
  })
  const { letters } = sallyportOf(house)
  const outbox = await startOutboxPage({ port: outboxPort, database: house.database, letters })
  return {
    secrets,
    outbox: outbox.url,
    async close() {
      await outbox.close()
      await relyingParty.close()
      await identityProvider.close()
      await new Promise((resolve) => {
        api.close(resolve)
        api.closeAllConnections()
      })
      await server.close()
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
