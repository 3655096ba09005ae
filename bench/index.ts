/** `npm run bench`: the durable server beside bare oidc-provider, in turns, in one run (docs/performance.md). */
import { cpus, loadavg, tmpdir } from 'node:os'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { checkOnce, OPERATIONS, type Operation, Target, WARM } from './operations.ts'
import { compare, type Figures, type Footprint, figures, footprintLines, median, type Round, table } from './report.ts'
import { hashOfPassword, Product, pin, type ServerProcess, startBare } from './servers.ts'

const IN_FLIGHT = 8
const ROUNDS = 5
const STARTS = 3

const { values: options } = parseArgs({
  options: {
    long: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    only: { type: 'string' },
    against: { type: 'string' },
    profile: { type: 'string' },
    folder: { type: 'string', default: tmpdir() },
    'no-pin': { type: 'boolean', default: false },
    'no-footprint': { type: 'boolean', default: false },
    rounds: { type: 'string', default: String(ROUNDS) },
  },
})
const seconds = options.long ? 5 : 1
const say = (line: string) => void process.stderr.write(`${line}\n`)

const operations = OPERATIONS.filter(({ name }) => options.only === undefined || options.only.split(',').includes(name))
const core = options['no-pin'] ? undefined : pin()
const passwordHash = await hashOfPassword()
const product = await Product.prepare(options.folder, passwordHash)
// Another build of ours takes bare's place: is this change worth anything?
const former =
  options.against === undefined ? undefined : await Product.prepare(options.folder, passwordHash, options.against)
try {
  const footprint = options['no-footprint'] ? undefined : await measureFootprint()
  const lines = await measureOperations()
  if (options.json) process.stdout.write(`${JSON.stringify({ ...conditions(), lines, footprint }, null, 2)}\n`)
  else {
    const { node, processor, load } = conditions()
    say(
      `\n${processor}, Node ${node}, load ${load.map((one) => one.toFixed(1)).join(' ')}, ${IN_FLIGHT} in flight, ${options.rounds} × ${seconds} s`,
    )
    process.stdout.write(
      `${[table(lines, operations), ...(footprint ? ['', ...footprintLines(footprint)] : [])].join('\n')}\n`,
    )
  }
} finally {
  product.remove()
  former?.remove()
}

async function measureOperations() {
  const servers = [
    await product.start(core, options.profile),
    await (former ? former.start(core, options.profile) : startBare(passwordHash, core, options.profile)),
  ] as const
  const names = ['sallyport', former ? 'former' : 'bare']
  try {
    const pairs = servers.map((server, index) => ({ server, target: new Target(names[index]!, server.origin) }))
    for (const { target } of pairs) await target.prepare(IN_FLIGHT)
    const offered = operations.filter((operation) =>
      pairs.every(({ target }) => {
        const has = operation.offered?.(target) ?? true
        if (!has) say(`${operation.name}: left out, ${target.name} does not offer it`)
        return has
      }),
    )
    say('warming up')
    for (const { target } of pairs)
      for (const operation of offered) await answers(operation, target, operation.warm ?? WARM)

    const rounds = new Map<string, Round[][]>(offered.map(({ name }) => [name, [[], []]]))
    for (let number = 0; number < Number(options.rounds); number++) {
      say(`round ${number + 1} of ${options.rounds}`)
      const order = number % 2 ? [1, 0] : [0, 1]
      for (const index of order) pairs[index]!.target.codes = []
      for (const operation of offered)
        for (const index of order) {
          const { server, target } = pairs[index]!
          rounds.get(operation.name)![index]!.push(await round(operation, server, target, seconds))
        }
    }
    await checkOnce(pairs[0]!.target)
    for (const { target } of pairs) target.close()
    return offered.map((operation) => {
      const [ours, others] = rounds.get(operation.name)!.map(figures) as [Figures, Figures]
      return compare(operation, ours, others)
    })
  } finally {
    for (const server of servers) await server.stop()
  }
}

/** Asks so many times, or until there is nothing left to ask for. */
async function answers({ run, left }: Operation, target: Target, count: number): Promise<void> {
  let open = count
  await Promise.all(
    target.workers.map(async (worker) => {
      while (open-- > 0 && (left?.(target) ?? true)) await run(target, worker)
    }),
  )
}

/** Asks for so many seconds, or until there is nothing left to ask for. */
async function round(operation: Operation, server: ServerProcess, target: Target, duration: number): Promise<Round> {
  const latencies: number[] = []
  const cpu = server.cpuMs()
  const began = performance.now()
  const end = began + (operation.left ? 60_000 : duration * 1000)
  await Promise.all(
    target.workers.map(async (worker) => {
      for (let at = performance.now(); at < end && (operation.left?.(target) ?? true); ) {
        await operation.run(target, worker)
        const now = performance.now()
        latencies.push(now - at)
        at = now
      }
    }),
  )
  if (latencies.length === 0) throw new Error(`${operation.name}: nothing to ask for`)
  return {
    answers: latencies.length,
    seconds: (performance.now() - began) / 1000,
    cpuMs: server.cpuMs() - cpu,
    latencies,
  }
}

async function measureFootprint(): Promise<Footprint> {
  say('start and memory')
  const starts: number[] = []
  for (let number = 1; number < STARTS; number++) {
    const server = await product.start(core)
    starts.push(server.startMs)
    await server.stop()
  }
  const server = await product.start(core)
  try {
    starts.push(server.startMs)
    await setTimeout(1500)
    const rssMiB = server.rssMiB()
    const target = new Target('sallyport', server.origin)
    await target.prepare(IN_FLIGHT)
    const refresh = OPERATIONS.find(({ name }) => name === 'refresh')!
    await answers(refresh, target, 1000)
    const after1000MiB = server.rssMiB()
    await answers(refresh, target, 9000)
    const after10000MiB = server.rssMiB()
    target.close()
    return { startMs: median(starts), rssMiB, after1000MiB, after10000MiB }
  } finally {
    await server.stop()
  }
}

function conditions() {
  return {
    node: process.versions.node,
    processor: `${cpus().length} × ${cpus()[0]!.model.trim()}`,
    load: loadavg(),
    pinned: core !== undefined,
    seconds,
    inFlight: IN_FLIGHT,
  }
}
