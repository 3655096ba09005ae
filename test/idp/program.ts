/** A program that others wrote, started by a script of this folder. */
import { type ChildProcess, spawn } from 'node:child_process'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

/** In a process group of its own, so that it ends with all that its script has started. */
export class Program {
  readonly #name: string
  readonly #child: ChildProcess
  #said = ''

  /** @param script its first argument is `run` */
  constructor(name: string, script: string, args: string[], env: NodeJS.ProcessEnv = {}) {
    this.#name = name
    this.#child = spawn('bash', [fileURLToPath(new URL(script, import.meta.url)), 'run', ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    for (const stream of [this.#child.stdout!, this.#child.stderr!])
      stream.on('data', (chunk: Buffer) => {
        this.#said = (this.#said + chunk).slice(-3000)
      })
  }

  /** Waits until it answers. @throws with what it said last, when it ends first or takes longer than `limitMs` */
  async answers(url: string, limitMs: number): Promise<void> {
    const isThere = () =>
      fetch(url).then(
        ({ ok }) => ok,
        () => false,
      )
    for (const began = Date.now(); !(await isThere()); await setTimeout(250)) {
      if (this.#child.exitCode === null && Date.now() - began <= limitMs) continue
      this.stop()
      throw new Error(`${this.#name} did not start: ${this.#said}`)
    }
  }

  stop(): void {
    if (this.#child.exitCode === null) process.kill(-this.#child.pid!, 'SIGTERM')
  }
}
