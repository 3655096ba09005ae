/**
 * A MongoDB for tests: the server that MONGODB_URI names, or a stand-in that speaks its protocol (mongo-stand-in/), built
 * by Maven and started once per run. MongoStandIn.java says what the stand-in can and cannot do.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Context, Suite } from 'mocha'
import { mongo } from 'mongoose'
import type { MongoDatabase } from '../../adapters/mongo/index.ts'

const SOURCES = fileURLToPath(new URL('mongo-stand-in', import.meta.url))
const CACHE = resolve(SOURCES, '../../../node_modules/.cache/mongo-stand-in')
const TOOLS = ['java', 'javac', 'mvn']
const HOW = 'install a JDK and Maven (apt-get install default-jdk-headless maven), or set MONGODB_URI to a MongoDB'
/** The first start downloads the server. */
const START_MS = 300_000

/** A running server. */
export interface TestMongo {
  /** The URL of a database on it. */
  url(database: string): string
}

/** True when the tests run against a real server. */
export const isRealMongo = (process.env['MONGODB_URI'] ?? '') !== ''

const names: string[] = []

/** The name of a database that no other test has, and that goes with the suite. */
export function freshName(): string {
  const name = `sallyport_test_${randomBytes(6).toString('hex')}`
  names.push(name)
  return name
}

async function dropped(server: TestMongo): Promise<void> {
  const client = await new mongo.MongoClient(server.url('admin')).connect()
  for (const name of names.splice(0)) await client.db(name).dropDatabase()
  await client.close()
}

/** Takes everything out of a database and leaves its indexes: quicker than a new one for every test. */
export async function emptied({ collections: { meta: _kept, ...others } }: MongoDatabase): Promise<void> {
  await Promise.all(Object.values(others).map(({ collection }) => collection.deleteMany({})))
}

let shared: Promise<TestMongo> | undefined

/**
 * Brings a server to the tests of a suite, and skips them where there can be none.
 * @returns the server, once the suite's hooks have run
 */
export function useMongo(suite: Suite): () => TestMongo {
  let server: TestMongo | undefined
  suite.beforeAll(async function () {
    this.timeout(START_MS)
    if (!isRealMongo) needsStandIn(this, suite.total())
    server = await sharedMongo()
  })
  suite.afterAll(() => (server ? dropped(server) : undefined))
  return () => server!
}

/** The one server of this run. */
export function sharedMongo(): Promise<TestMongo> {
  shared ??= isRealMongo ? Promise.resolve(at(process.env['MONGODB_URI']!)) : startStandIn()
  return shared
}

/** Skips so many tests where no stand-in can be built, and says how it could. */
export function needsStandIn(context: Context, tests: number): void {
  const missing = TOOLS.filter((tool) => !isOnPath(tool))
  if (missing.length === 0) return
  console.error(`skipped for want of ${missing.join(', ')}: ${tests} of the tests with MongoDB. To run them ${HOW}`)
  context.skip()
}

/** A stand-in of its own, for tests that stop it. With `port` it comes back where it was, empty. */
export async function startStandIn({
  port = 0,
  ttlSeconds = 3600,
}: {
  port?: number
  ttlSeconds?: number
} = {}): Promise<TestMongo & { port: number; kill(): Promise<void> }> {
  await build()
  const child = spawn(
    'java',
    [
      '-Xmx512m',
      `-DttlSeconds=${ttlSeconds}`, // between two sweeps of what has expired
      '-cp',
      [join(CACHE, 'lib/*'), join(CACHE, 'classes')].join(delimiter),
      'MongoStandIn',
      String(port),
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  const [line] = (await Promise.race([
    once(createInterface(child.stdout), 'line'),
    once(child, 'exit').then(([code]) => Promise.reject(new Error(`the MongoDB stand-in ended with ${code}`))),
  ])) as [string]
  letGo(child)
  const listening = Number(line)
  return {
    ...at(`mongodb://127.0.0.1:${listening}`),
    port: listening,
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

/** The run may end while it is there; it ends with us (its standard input does). */
function letGo(child: ChildProcess): void {
  child.unref()
  for (const stream of [child.stdin, child.stdout]) (stream as unknown as { unref(): void }).unref()
}

/** The URL with another database in it. */
function at(uri: string): TestMongo {
  const [, server, query = ''] = /^(mongodb(?:\+srv)?:\/\/[^/?]+)[^?]*(\?.*)?$/.exec(uri) ?? []
  if (server === undefined) throw new Error('MONGODB_URI must be mongodb://HOST, with options behind a question mark')
  return { url: (database) => `${server}/${database}${query}` }
}

/** Compiles the stand-in, unless it was compiled from these sources already. */
async function build(): Promise<void> {
  const sources = ['MongoStandIn.java', 'pom.xml'].map((name) => readFileSync(join(SOURCES, name)))
  const hash = createHash('sha256').update(Buffer.concat(sources)).digest('hex')
  const stamp = join(CACHE, 'stamp')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) return
  mkdirSync(CACHE, { recursive: true })
  const run = promisify(execFile)
  const lib = join(CACHE, 'lib')
  await run('mvn', [
    '-q',
    '-B',
    '-f',
    join(SOURCES, 'pom.xml'),
    'dependency:copy-dependencies',
    `-DoutputDirectory=${lib}`,
  ])
  await run('javac', ['-cp', join(lib, '*'), '-d', join(CACHE, 'classes'), join(SOURCES, 'MongoStandIn.java')])
  writeFileSync(stamp, hash)
}

const isOnPath = (tool: string) =>
  (process.env['PATH'] ?? '').split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, tool)))
