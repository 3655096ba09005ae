/** Several processes behind one address: workers answer, and what started them sees that they stay. */
import cluster, { type Worker } from 'node:cluster'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import type { Config } from './config.ts'
import type { Logger } from './log.ts'

/** A worker that ends sooner counts as one that cannot live. */
const YOUNG_MS = 10_000
/** Milliseconds until another one takes the place: after the first that ended young, the second, … After the last nobody does. */
const PAUSES_MS = [100, 500, 1000, 2000, 5000]
/** Milliseconds that workers get to end: more than they give the requests under way. */
const ENDING_MS = 15_000

/** Workers that do not live. One sentence that says why, as far as it is known. */
export class WorkersFailed extends Error {
  override readonly name = 'WorkersFailed'
}

/** What a worker says when it cannot begin. */
interface Refusal {
  refused: string
}

/** Workers at work. */
export interface Workers {
  /** Resolves when all have ended because they were told to. @throws {WorkersFailed} when they end by themselves again and again */
  ended: Promise<void>
  /** Every worker answers what is under way and ends. */
  stop(): void
  /** Every worker reads the signing keys at once. */
  reload(): void
}

/**
 * Takes the address for a moment, so that a taken one is told once, before any worker starts.
 *
 * @returns the port; the one that was free, for port 0
 * @throws the error of `listen`
 */
export async function tryAddress({
  HOST,
  PORT,
}: Pick<Config, 'HOST' | 'PORT'>): Promise<{ port: number; url: string }> {
  const server = createServer().listen(PORT, HOST)
  await once(server, 'listening')
  const { address, family, port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return { port, url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}` }
}

/**
 * The settings of each of `count` workers: together they hash as many passwords at once, and let as many wait, as one
 * process would.
 */
export const shareOf = (config: Config, count: number, port: number): Record<string, string> => ({
  PORT: String(port),
  SALLYPORT_HASH_CONCURRENCY: String(Math.ceil(config.SALLYPORT_HASH_CONCURRENCY / count)),
  SALLYPORT_HASH_QUEUE: String(Math.ceil(config.SALLYPORT_HASH_QUEUE / count)),
})

/**
 * Starts this program `count` times more, with the same arguments, and waits until all of them listen. One that ends is
 * replaced.
 *
 * @param settings what each finds in its environment besides ours
 * @throws {WorkersFailed} when one of them does not come to listen; then none is left
 */
export async function startWorkers(count: number, settings: Record<string, string>, logger: Logger): Promise<Workers> {
  const stopping = new AbortController()
  const stop = () => {
    if (stopping.signal.aborted) return
    stopping.abort()
    for (const worker of running()) worker.process.kill('SIGTERM')
    const force = () => {
      for (const worker of running()) worker.process.kill('SIGKILL')
    }
    globalThis.setTimeout(force, ENDING_MS).unref()
  }

  // Each accepts for itself. Handed on by us, a connection would hang for good when its worker dies before taking it.
  cluster.schedulingPolicy = cluster.SCHED_NONE
  const first = Array.from({ length: count }, () => start(settings))
  try {
    await Promise.all(first.map(begun))
  } catch (error) {
    stop()
    await Promise.all(first.map(({ ended }) => ended))
    throw error
  }

  const places = first.map(async (started) => {
    let { worker, ended } = started
    for (let failures = 0; ; { worker, ended } = start(settings)) {
      const began = performance.now()
      const how = await ended
      if (stopping.signal.aborted) return
      failures = performance.now() - began < YOUNG_MS ? failures + 1 : 0
      const pause = PAUSES_MS[Math.max(failures - 1, 0)]
      if (pause === undefined)
        throw new WorkersFailed(`workers end as soon as they have started, ${failures} in a row: ${how}`)
      logger.error({ worker: worker.process.pid, how }, 'a worker has ended, another one takes its place')
      if (!(await passed(pause, stopping.signal))) return
    }
  })
  const ended = allEnded(places, stop)
  return {
    ended,
    stop,
    reload() {
      for (const worker of running()) worker.process.kill('SIGHUP')
    },
  }
}

/** In a worker: says why it cannot begin, and ends. */
export function refuse(why: string): void {
  process.send!({ refused: why } satisfies Refusal, () => process.exit(1))
}

const running = () => Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined)

/** Waits for the first failure, or for all to end; after a failure the others are told to end, and waited for. */
async function allEnded(places: Promise<void>[], stop: () => void): Promise<void> {
  try {
    await Promise.all(places)
  } catch (error) {
    stop()
    await Promise.allSettled(places)
    throw error
  }
}

/** A worker that was started. */
interface Started {
  worker: Worker
  listens: Promise<void>
  /** How it ended, when it has. */
  ended: Promise<string>
}

function start(settings: Record<string, string>): Started {
  const worker = cluster.fork(settings)
  let refusal: string | undefined
  worker.on('message', ({ refused }: Partial<Refusal>) => {
    refusal = refused
  })
  return {
    worker,
    listens: new Promise((resolve) => worker.once('listening', () => resolve())),
    ended: new Promise((resolve) =>
      worker.once('exit', (code, signal) =>
        resolve(refusal ?? (signal === null ? `ended with ${code}` : `was ended by ${signal}`)),
      ),
    ),
  }
}

/** Resolves when a worker listens. @throws {WorkersFailed} when it ends before */
async function begun({ listens, ended }: Started): Promise<void> {
  const end = await Promise.race([listens, ended])
  if (end !== undefined) throw new WorkersFailed(`a worker did not come to listen: ${end}`)
}

/** Waits. @returns false when `signal` came before */
const passed = (milliseconds: number, signal: AbortSignal): Promise<boolean> =>
  setTimeout(milliseconds, true, { signal }).catch(() => false)
