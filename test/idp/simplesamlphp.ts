/** A running simplesamlphp. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../support/free-port.ts'
import { temporaryFolder } from '../support/temporary.ts'
import { Program } from './program.ts'

/** With the installation of its packages. */
const START_MS = 4 * 60_000

export class SimpleSamlPhp {
  /** `localhost`, so that it is another site than 127.0.0.1. */
  readonly origin: string
  readonly #program: Program
  readonly #folder: string

  private constructor(origin: string, program: Program, folder: string) {
    this.origin = origin
    this.#program = program
    this.#folder = folder
  }

  /** @param people by `name:password` */
  static async start(people: Record<string, { email: [string] }>): Promise<SimpleSamlPhp> {
    const folder = temporaryFolder()
    const port = await freePort()
    writeFileSync(join(folder, 'people.json'), JSON.stringify(people))
    const program = new Program('simplesamlphp', 'simplesamlphp.sh', [String(port), folder])
    const provider = new SimpleSamlPhp(`http://localhost:${port}`, program, folder)
    provider.knows({})
    await program.answers(provider.metadataUrl, START_MS)
    return provider
  }

  /** What it says of itself. */
  get metadataUrl(): string {
    return `${this.origin}/simplesaml/saml2/idp/metadata.php`
  }

  metadata = async (): Promise<string> => (await fetch(this.metadataUrl)).text()

  /** The apps it answers from now on: by entityID, what simplesamlphp's `saml20-sp-remote` says of them. */
  knows(apps: Record<string, object>): void {
    writeFileSync(join(this.#folder, 'apps.json'), JSON.stringify(apps))
  }

  stop(): void {
    this.#program.stop()
  }
}
