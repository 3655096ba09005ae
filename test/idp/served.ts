/** A served provider of this checkout, and an app that sends people to it. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { decodeJwt } from 'jose'
import * as oidc from 'openid-client'
import { temporaryFolder } from '../support/temporary.ts'

const CLI = fileURLToPath(new URL('../../server/cli/index.ts', import.meta.url))
const run = promisify(execFile)

/** The command line and a server over a data folder of its own. */
export class Served {
  readonly origin: string
  readonly #folder = temporaryFolder()
  readonly #env: NodeJS.ProcessEnv
  #child: ChildProcess | undefined
  #said = ''

  constructor(port: number) {
    this.origin = `http://127.0.0.1:${port}`
    this.#env = {
      ...process.env,
      NODE_ENV: 'development',
      PORT: String(port),
      SALLYPORT_ISSUER: this.origin,
      SALLYPORT_DATA_DIR: join(this.#folder, 'data'),
      SALLYPORT_ARGON2_MEMORY_KIB: '19456',
      SALLYPORT_ARGON2_PASSES: '2',
    }
  }

  /** Runs a command. @throws with what it said when it fails */
  async command(...args: string[]): Promise<string> {
    const { stdout } = await run(process.execPath, ['--import', 'tsx', CLI, ...args], { env: this.#env })
    return stdout
  }

  async apply(seed: object): Promise<void> {
    await this.command('apply', this.file('seed.json', JSON.stringify(seed)))
  }

  /** A payor of the company acme, the app, and the company's connection: in use, its identity provider known by `metadata_file`. */
  async connect(app: App, email: string, id: string, metadata_file: string, client: object = {}): Promise<void> {
    await this.apply({
      companies: [{ id: 'acme', name: 'Acme', side: 'payor', domains: ['acme.test'] }],
      users: [{ email, name: 'A Payor', memberships: [{ company: 'acme', roles: ['payments_admin'] }] }],
      clients: [
        {
          client_id: 'payments',
          client_name: 'Payments',
          client_secret: app.secret,
          redirect_uris: [`${app.origin}/callback`],
          sallyport: { first_party: true },
          ...client,
        },
      ],
      connections: [
        {
          id,
          mode: 'forward',
          company: 'acme',
          client: 'payments',
          domains: ['acme.test'],
          idp: { metadata_file },
          attributes: { email: 'email' },
        },
      ],
    })
    await this.command('connection', 'activate', id, '--force', '--reason', 'a test')
  }

  /** Our certificate for a connection, Base64 of the DER, as our metadata has it. */
  async certificate(id: string): Promise<string> {
    const metadata = await (await fetch(`${this.origin}/saml/${id}/metadata`)).text()
    return /<(?:\w+:)?X509Certificate>([^<]+)</.exec(metadata)![1]!.replace(/\s/g, '')
  }

  /** A file in the folder. @returns its path */
  file(name: string, text: string): string {
    const path = join(this.#folder, name)
    writeFileSync(path, text)
    return path
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, ['--import', 'tsx', CLI, 'serve'], { env: this.#env, stdio: 'pipe' })
    this.#child = child
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        this.#said = (this.#said + chunk).slice(-200_000)
      })
    for (;;) {
      if (
        await fetch(`${this.origin}/readyz`).then(
          ({ ok }) => ok,
          () => false,
        )
      )
        return
      assert.equal(child.exitCode, null, this.#said)
      await setTimeout(100)
    }
  }

  async stop(): Promise<void> {
    if (!this.#child || this.#child.exitCode !== null) return
    this.#child.kill('SIGTERM')
    await once(this.#child, 'exit')
  }
}

/** An app: `/` sends people to sign in, with whatever else its query says, and ends with what it learnt as JSON. */
export class App {
  readonly origin: string
  readonly secret = 'app-secret-app-secret-app-secret-42'
  readonly #server: Server

  private constructor(origin: string, server: Server) {
    this.origin = origin
    this.#server = server
  }

  static async start(issuer: string): Promise<App> {
    const pending = new Map<string, string>()
    const server = createServer((request, response) => {
      const url = new URL(request.url ?? '/', app.origin)
      const fail = (error: Error) => response.writeHead(500).end(String(error.stack))
      if (url.pathname === '/callback') back(url).then((body) => response.end(body), fail)
      else if (url.pathname === '/') go(url).then((location) => response.writeHead(303, { location }).end(), fail)
      else response.writeHead(404).end()
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const app = new App(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, server)
    let known: oidc.Configuration | undefined
    const configuration = async () => {
      known ??= await oidc.discovery(new URL(issuer), 'payments', app.secret, undefined, {
        execute: [oidc.allowInsecureRequests],
      })
      return known
    }
    const go = async (url: URL) => {
      const verifier = oidc.randomPKCECodeVerifier()
      const state = oidc.randomState()
      pending.set(state, verifier)
      // Started by the identity provider's tile (OIDC Core §4): the rest of the query is passed on.
      url.searchParams.delete('iss')
      return oidc.buildAuthorizationUrl(await configuration(), {
        ...Object.fromEntries(url.searchParams),
        redirect_uri: `${app.origin}/callback`,
        scope: 'openid email',
        state,
        code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
      }).href
    }
    const back = async (url: URL) => {
      const state = url.searchParams.get('state') ?? ''
      if (url.searchParams.has('error')) return JSON.stringify(Object.fromEntries(url.searchParams))
      const tokens = await oidc.authorizationCodeGrant(await configuration(), url, {
        pkceCodeVerifier: pending.get(state)!,
        expectedState: state,
      })
      return JSON.stringify(decodeJwt(tokens.id_token!))
    }
    return app
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}
