/**
 * What a SAML response costs: `npm run bench`, or `node --import tsx bench/saml.ts` alone. Processor time of both gates, of the
 * explanation and its trace for one of 8 KB, signed with RSA-2048; what a whole post costs a server with SQLite; and how long
 * everybody else waits while fifty are posted at once.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import pino from 'pino'
import { explain, verifyResponse } from '../interactions/federation/saml/index.ts'
import { agree } from '../interactions/federation/saml/samlify.ts'
import { digest } from '../interactions/kit/keyring.ts'
import { startServer } from '../server/app.ts'
import { loadConfig } from '../server/config.ts'
import { type House, openHouse } from '../server/open.ts'
import { now, wait } from '../test/support/clock.ts'
import { acme, attribute, element, form, message, NOW, requests } from '../test/vectors/saml/message.ts'
import { median } from './report.ts'
import { freePort, pin } from './servers.ts'

const RUNS = 200
/** At once. */
const POSTS = 50
/** Milliseconds that were set out: processor time of both gates, and delay of the event loop. */
const GATES_MS = 40
const DELAY_MS = 60

const groups = Array.from({ length: 42 }, (_, index) =>
  attribute(`urn:group:${index}`, `group ${index} of the company`),
)
const attributes = element('saml:AttributeStatement', {}, attribute('mail', 'ana@acme.example') + groups.join(''))

/** In the other process: posts what it is told to, all at once, and says how each was answered. */
function postForOthers(): void {
  pin()
  process.on('message', ({ url, bodies }: { url: string; bodies: string[] }) => {
    const post = (body: string) =>
      new Promise<number>((resolve, reject) => {
        const headers = { 'content-type': 'application/x-www-form-urlencoded' }
        const sent = request(url, { method: 'POST', headers }, (answer) => {
          answer.resume().on('end', () => resolve(answer.statusCode ?? 0))
        })
        sent.on('error', reject)
        sent.end(body)
      })
    Promise.all(bodies.map(post)).then(
      (statuses) => process.send!(statuses),
      (error: Error) => process.send!([error.message]),
    )
  })
}

async function measure(): Promise<string> {
  wait(NOW - now()) // the messages' time
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-'))
  const port = await freePort()
  const env = { PORT: String(port), SALLYPORT_DATA_DIR: folder, SALLYPORT_ARGON2_MEMORY_KIB: '19456' }
  const logger = pino({ level: 'info' }, { write: () => undefined })
  const house = await openHouse(loadConfig(env, folder), { createKeys: true, logger })
  const running = await startServer(house)
  const poster = fork(import.meta.filename, ['post'])
  try {
    const gates = await costOfGates()
    const traces = await costOfTraces(house)
    return report(gates, traces, await costOfPosts(house, poster))
  } finally {
    poster.kill()
    await running.close()
    rmSync(folder, { recursive: true })
  }
}

const posted = message({ attributes })
const verify = () =>
  verifyResponse({ form: form(posted), connection: acme, findRequest: async (key) => requests.get(key), now: NOW })

async function costOfGates() {
  const { refusal } = await verify()
  if (refusal) throw new Error(`${refusal.code}: ${refusal.detail}`)
  const certificate = acme.idp.certificates[0]!
  const second = async () => agree({ posted, decrypted: undefined, certificate, nameId: 'ana@acme.example' }, acme)
  for (let run = 0; run < 50; run++) await verify()
  return { both: await cost(verify), second: await cost(second) }
}

/** What is left over for whoever asks why a sign-in failed: the explanation, and its row. */
async function costOfTraces({ database: { traces } }: House) {
  const verification = await verify()
  const explained = async () => JSON.stringify(explain(verification, acme, NOW))
  const said = await explained()
  let count = 0
  const kept = () => {
    count += 1
    return traces.keep({ reference: `r${count}`, connectionId: 'acme-sso', at: NOW, shelf: 'accepted', said })
  }
  return { explanation: await cost(explained), trace: await cost(kept), size: said.length }
}

/** Posts to a running server, from another process: one after the other for the cost, then all at once for the delay. */
async function costOfPosts(house: House, poster: ChildProcess) {
  const { SALLYPORT_ISSUER: issuer } = house.config
  const { id, company, domains, idp, sp } = acme
  const connection = { id, company, domains, idp, mode: 'forward', state: 'active', jit: false } as const
  const value = { ...connection, trustedContexts: [], attributes: acme.attributes }
  const side = 'payor' as const
  await house.database.directory.commit([
    { kind: 'company', op: 'put', value: { id: company, name: 'Acme', side, domains, disabled: false } },
    { kind: 'connection', op: 'put', value, firstKey: sp.keys[0]! },
  ])
  const to = { ...acme, sp: { ...sp, entityId: `${issuer}/saml/${id}/metadata`, acsUrl: `${issuer}/saml/${id}/acs` } }
  let count = 0
  const one = async () => {
    count += 1
    const relayState = `post-${count}`
    await house.database.federation.keepRequest({
      ...{ handle: digest(relayState), id: `_request-of-${relayState}`, connectionId: id, interaction: 'uid' },
      ...{ createdAt: now(), expiresAt: now() + 600, forceAuthn: false, authnContexts: [] },
    })
    const xml = message({ from: acme, to, relayState, attributes, assertion: { ID: `_assertion-of-${relayState}` } })
    return new URLSearchParams(form(xml, relayState)).toString()
  }
  const post = async (bodies: string[]) => {
    const answered = once(poster, 'message')
    poster.send({ url: `${issuer}/saml/${id}/acs`, bodies })
    const [statuses] = (await answered) as [(number | string)[]]
    const wrong = statuses.find((status) => status !== 303)
    if (wrong !== undefined) throw new Error(`a good response was answered with ${wrong}`)
  }
  const made = (length: number) => Promise.all(Array.from({ length }, one))
  const costs: number[] = []
  for (const body of await made(100)) costs.push(await cpuOf(() => post([body])))

  const bodies = await made(POSTS)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  await post(bodies)
  delay.disable()
  return { post: median(costs.slice(20)), p99: delay.percentile(99) / 1e6, most: delay.max / 1e6 }
}

/** Milliseconds of processor time, of all threads. */
async function cpuOf(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}

/** The median of many runs. */
async function cost(work: () => Promise<unknown>): Promise<number> {
  const costs: number[] = []
  for (let run = 0; run < RUNS; run++) costs.push(await cpuOf(work))
  return median(costs)
}

function report(
  { both, second }: Awaited<ReturnType<typeof costOfGates>>,
  { explanation, trace, size }: Awaited<ReturnType<typeof costOfTraces>>,
  { post, p99, most }: Awaited<ReturnType<typeof costOfPosts>>,
): string {
  const ms = (value: number, digits = 1) => `${value.toFixed(digits)} ms`
  const share = (part: number) => `${Math.round((part / both) * 100)} %`
  const mark = (value: number, limit: number) => `${value <= limit ? '✓' : '✗'} (≤ ${limit})`
  return [
    `SAML response                             ${(posted.length / 1024).toFixed(1)} KB, RSA-2048`,
    `both gates, CPU                           ${ms(both)} ${mark(both, GATES_MS)}`,
    `  our own reading                         ${ms(both - second)}, ${share(both - second)}`,
    `  samlify and the schemas                 ${ms(second)}, ${share(second)}`,
    `explanation, CPU                          ${ms(explanation, 2)}, ${(size / 1024).toFixed(1)} KB`,
    `  its trace, sealed and written           ${ms(trace, 2)}`,
    `a whole post to the server, CPU           ${ms(post)}`,
    `${POSTS} posts at once, event loop delayed     p99 ${ms(p99)} ${mark(p99, DELAY_MS)}, at most ${ms(most)}`,
    '',
  ].join('\n')
}

if (process.argv[2] === 'post') postForOthers()
else process.stdout.write(await measure())
