/** A running simplesamlphp. */
import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from '../support/free-port.ts'
import { temporaryFolder } from '../support/temporary.ts'

const SCRIPT = fileURLToPath(new URL('simplesamlphp.sh', import.meta.url))
/** With the installation of its packages. */
const START_MS = 4 * 60_000

export class SimpleSamlPhp {
  /** `localhost`, so that it is another site than 127.0.0.1. */
  readonly origin: string
  readonly #child: ChildProcess
  readonly #folder: string

  private constructor(origin: string, child: ChildProcess, folder: string) {
    this.origin = origin
    this.#child = child
    this.#folder = folder
  }

  /** @param people by `name:password` */
  static async start(people: Record<string, { email: [string] }>): Promise<SimpleSamlPhp> {
    const folder = temporaryFolder()
    const port = await freePort()
    writeFileSync(join(folder, 'people.json'), JSON.stringify(people))
    const child = spawn('bash', [SCRIPT, 'run', String(port), folder], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    let said = ''
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (chunk: Buffer) => {
        said = (said + chunk).slice(-3000)
      })
    const provider = new SimpleSamlPhp(`http://localhost:${port}`, child, folder)
    provider.knows({})
    for (const began = Date.now(); ; await setTimeout(200)) {
      if (await provider.metadata().catch(() => undefined)) return provider
      if (child.exitCode !== null || Date.now() - began > START_MS) {
        provider.stop()
        throw new Error(`simplesamlphp did not start: ${said}`)
      }
    }
  }

  async metadata(): Promise<string> {
    const response = await fetch(`${this.origin}/simplesaml/saml2/idp/metadata.php`)
    if (!response.ok) throw new Error(await response.text())
    return response.text()
  }

  /** The apps it answers from now on: by entityID, what simplesamlphp's `saml20-sp-remote` says of them. */
  knows(apps: Record<string, object>): void {
    writeFileSync(join(this.#folder, 'apps.json'), JSON.stringify(apps))
  }

  stop(): void {
    if (this.#child.exitCode === null) process.kill(-this.#child.pid!, 'SIGTERM')
  }
}
