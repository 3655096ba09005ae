/** The two servers, each a process of its own. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createPasswordHasher } from '../interactions/index.ts'
import { loadConfig } from '../server/config.ts'
import { openHouse } from '../server/open.ts'
import type { Change } from '../server/stores.ts'
import { Client } from './client.ts'
import { API, ARGON2, CALLBACK, CLIENT_ID, CLIENT_SECRET, PASSWORD, PEOPLE, TOTP_SECRET } from './subject.ts'

/** Clock ticks of /proc are hundredths of a second. */
const TICK_MS = 10
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** A running server process. */
export class ServerProcess {
  readonly origin: string
  /** Milliseconds from the start of the process to the first 200 on discovery. */
  startMs = 0
  readonly #child: ChildProcess

  private constructor(origin: string, child: ChildProcess) {
    this.origin = origin
    this.#child = child
  }

  static async start(port: number, args: string[], env: NodeJS.ProcessEnv, core?: number) {
    const command = [...(core === undefined ? [] : ['taskset', '-c', String(core)]), process.execPath, ...args]
    const began = performance.now()
    const child = spawn(command[0]!, command.slice(1), {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let said = ''
    child.stderr!.on('data', (chunk: Buffer) => {
      said = (said + chunk).slice(-2000) // read, so that the log costs what it costs with a reader
    })
    const running = new ServerProcess(`http://127.0.0.1:${port}`, child)
    for (;;) {
      if (child.exitCode !== null) throw new Error(`the server ended: ${said}`)
      const client = new Client(running.origin)
      const answer = await client.ask({ path: '/.well-known/openid-configuration' }).catch(() => undefined)
      client.close()
      if (answer?.status === 200) break
      await setTimeout(2)
    }
    running.startMs = performance.now() - began
    return running
  }

  /** CPU time of all threads so far, milliseconds. */
  cpuMs(): number {
    const stat = readFileSync(`/proc/${this.#child.pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS
  }

  /** Resident memory, MiB. */
  rssMiB(): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.#child.pid}/status`, 'utf8'))![1]) / 1024
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    this.#child.kill('SIGTERM')
    await once(this.#child, 'exit')
  }
}

/** A data folder with the client and the people, on the disk that `parent` is on. */
export class Product {
  readonly folder: string
  readonly #cli: string

  private constructor(folder: string, cli: string) {
    this.folder = folder
    this.#cli = cli
  }

  /** @param cli another build of the command line, to compare with */
  static async prepare(parent: string, passwordHash: string, cli = here('../server/cli/index.js')): Promise<Product> {
    if (!existsSync(cli)) throw new Error(`no server at ${cli}: build it first`)
    const product = new Product(mkdtempSync(join(parent, 'sallyport-bench-')), cli)
    const house = await openHouse(loadConfig(product.#env(3000), product.folder), { createKeys: true })
    try {
      await house.database.directory.commit(changes(passwordHash))
      for (const { id } of PEOPLE) {
        const { factors } = house.database
        const activation = {
          factor: { method: 'otp' as const, secret: TOTP_SECRET, step: 1 },
          now: 1,
          factorVersion: 0,
          securityEpoch: 0,
        }
        await factors.activate(id, { ...activation, recoveryCodeId: 'named' })
        await factors.setRecoveryCode(id, { replaces: 'named', id: 'set', hash: passwordHash })
        await factors.acknowledgeRecoveryCode(id, 'set')
      }
    } finally {
      await house.close()
    }
    return product
  }

  /** @param profile a folder that a CPU profile is written to when the server stops */
  async start(core?: number, profile?: string): Promise<ServerProcess> {
    const port = await freePort()
    return ServerProcess.start(port, [...profiling(profile), this.#cli, 'serve'], this.#env(port), core)
  }

  remove(): void {
    rmSync(this.folder, { recursive: true })
  }

  /** As it is shipped, except that the limits on strangers are wide and the hash is the one that bare has. */
  #env(port: number): Record<string, string> {
    return {
      PORT: String(port),
      SALLYPORT_DATA_DIR: this.folder,
      SALLYPORT_TRUSTED_PROXIES: 'loopback',
      SALLYPORT_STARTS_PER_MINUTE: '100000',
      SALLYPORT_ARGON2_MEMORY_KIB: String(ARGON2.memoryKiB),
      SALLYPORT_ARGON2_PASSES: String(ARGON2.passes),
    }
  }
}

/** oidc-provider alone. @param profile as {@link Product.start} has it */
export async function startBare(passwordHash: string, core?: number, profile?: string): Promise<ServerProcess> {
  const port = await freePort()
  return ServerProcess.start(port, [...profiling(profile), here('./bare.js'), String(port), passwordHash], {}, core)
}

const profiling = (folder?: string) => (folder === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${folder}`])

export const hashOfPassword = () => createPasswordHasher({ ...ARGON2, concurrency: 1, queue: 1 }).hash(PASSWORD)

/** Keeps this process and the servers off each other's core, where that can be done. @returns the servers' core */
export function pin(): number | undefined {
  try {
    execFileSync('taskset', ['-a', '-c', '-p', '1', String(process.pid)], { stdio: 'ignore' })
    return 0
  } catch {
    return undefined
  }
}

const changes = (passwordHash: string): Change[] => [
  { kind: 'company', op: 'put', value: { id: 'acme', name: 'Acme', side: 'payor', domains: [], disabled: false } },
  {
    kind: 'client',
    op: 'put',
    value: {
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      redirect_uris: [CALLBACK],
      grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
      sallyport: { first_party: true, mfa: 'by_role', offline: true },
    },
  },
  {
    kind: 'resource',
    op: 'put',
    value: { id: API, name: 'API', scopes: ['api'], token_format: 'opaque', service_clients: [CLIENT_ID] },
  },
  ...PEOPLE.map(
    ({ id, email }): Change => ({
      kind: 'user',
      op: 'put',
      value: {
        id,
        email,
        disabled: false,
        memberships: [{ company: 'acme', roles: ['payments_admin'], disabled: false }],
        serverRoles: [],
      },
      passwordHash,
    }),
  ),
]

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
