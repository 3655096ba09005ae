/** The store goes away while somebody is at each step: a 503, nobody gets in, and afterwards each goes on. Both databases. */
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { generate } from 'otplib'
import {
  acknowledge,
  CALLBACK,
  CLIENT_SECRET,
  enrol,
  firstSignIn,
  hasCode,
  openTestHouse,
  PASSWORD,
  pkce,
  secretOn,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { freshName, useMongo } from '../support/mongo.ts'
import { type Answer, formOf, headingOf } from '../support/visitor.ts'

/** What somebody does at a step, and what they see when it works. */
interface Step {
  act(): Promise<Answer>
  /** Looks at the answer of the same act when the store is back. */
  works(answer: Answer): Promise<void> | void
}

/** A store that can be taken away. */
interface Outage {
  settings: Record<string, string>
  begin(test: TestHouse): Promise<void>
  end(): Promise<void>
  /** Reading goes on meanwhile: SQLite while another process writes. */
  readable: boolean
}

const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'
const basic = (id: string) => ({ authorization: `Basic ${Buffer.from(`${id}:${CLIENT_SECRET}`).toString('base64')}` })
const is = (heading: RegExp) => (answer: Answer) => assert.match(headingOf(answer), heading, answer.text.slice(0, 300))
const has = (name: string) => (answer: Answer) => assert.ok(json(answer)[name] !== undefined, answer.text)
const json = ({ text }: Answer) => JSON.parse(text) as Record<string, string>
const inside = (answer: Answer) => assert.ok(hasCode(answer), `${answer.status} ${headingOf(answer)}`)

/** Everybody, each at a step of their own. */
function stepsOf(test: TestHouse): Record<string, (email: string) => Promise<Step>> {
  const app = async (path: string, form?: Record<string, string>, headers: Record<string, string> = {}) => {
    const method = form ? 'POST' : 'GET'
    const response = await fetch(`${test.url}${path}`, {
      method,
      headers,
      ...(form && { body: new URLSearchParams(form) }),
    })
    const text = await response.text()
    return { status: response.status, at: path, location: undefined, text, headers: response.headers }
  }
  const arrive = async (email: string, params: Record<string, string> = {}) => {
    const visitor = test.visitor()
    return { visitor, page: await signIn(visitor, await visitor.go(test.authUrl(params)), email) }
  }
  /** A payor who has an app, at the challenge in another browser. */
  const challenged = async (email: string) => {
    const { secret, recoveryCode } = await firstSignIn(test, email)
    const step = Math.floor(Date.now() / 30_000) + 1 // the present one enrolled
    return { ...(await arrive(email)), code: await generate({ secret, epoch: step * 30 }), recoveryCode }
  }
  const standard = async (email: string, params: Record<string, string> = {}) => {
    await test.person(`s-${email}`, 'standard')
    const { visitor, page } = await arrive(`s-${email}`, params)
    return { visitor, page }
  }
  const tokensOf = async (email: string) => test.exchange((await standard(email)).page)
  const device = async () =>
    json(await app('/device/auth', { client_id: 'tv', scope: 'openid email' })) as {
      user_code: string
      device_code: string
    }
  const confirming = async (email: string) => {
    const { visitor } = await standard(email)
    const started = await device()
    const entry = await visitor.go(`${test.url}/device`)
    return { visitor, started, page: await visitor.submit(entry, { user_code: started.user_code }) }
  }
  const code = (answer: Answer) => new URL(answer.location!).searchParams.get('code')!

  return {
    'the start': async () => {
      const visitor = test.visitor()
      return { act: () => visitor.go(test.authUrl()), works: is(/Sign in/) }
    },
    'a pushed request': async () => ({
      act: () =>
        app(
          '/request',
          {
            client_id: 'payments',
            response_type: 'code',
            redirect_uri: CALLBACK,
            scope: 'openid',
            code_challenge: pkce.challenge,
            code_challenge_method: 'S256',
          },
          basic('payments'),
        ),
      works: has('request_uri'),
    }),
    'the e-mail address': async (email) => {
      const visitor = test.visitor()
      const page = await visitor.go(test.authUrl())
      return { act: () => visitor.submit(page, { email }), works: is(/password/i) }
    },
    'the password': async (email) => {
      const visitor = test.visitor()
      const page = await visitor.submit(await visitor.go(test.authUrl()), { email })
      return {
        act: () => visitor.submit(page, { password: PASSWORD }),
        works: is(/Secure Your Account|Scan|authenticator/i),
      }
    },
    'the enrolment page': async (email) => {
      const { visitor, page } = await arrive(email)
      return { act: () => visitor.go(page.at), works: (answer) => assert.equal(secretOn(answer), secretOn(page)) }
    },
    'the code at the enrolment': async (email) => {
      const { visitor, page } = await arrive(email)
      const now = await generate({ secret: secretOn(page), epoch: Math.floor(Date.now() / 1000) })
      return { act: () => visitor.submit(page, { code: now }), works: is(/Almost There/) }
    },
    'the recovery page': async (email) => {
      const { visitor, page } = await arrive(email)
      const { page: recovery } = await enrol(visitor, page)
      return { act: () => visitor.go(recovery.at), works: is(/Almost There/) }
    },
    'the acknowledgement': async (email) => {
      const { visitor, page } = await arrive(email)
      const { page: recovery } = await enrol(visitor, page)
      return { act: () => acknowledge(visitor, recovery), works: inside }
    },
    'the challenge': async (email) => {
      const { visitor, page, code: next } = await challenged(email)
      return { act: () => visitor.submit(page, { code: next }), works: inside }
    },
    'the recovery code': async (email) => {
      const { visitor, page, recoveryCode } = await challenged(email)
      const form = await visitor.go(`${page.at}/recovery`)
      return {
        act: () => visitor.submit(form, { recovery_code: recoveryCode }),
        works: (answer) => void secretOn(answer),
      }
    },
    'the resume': async (email) => {
      const { visitor, page, code: next } = await challenged(email)
      const { action, hidden } = formOf(page)
      const { location } = await visitor.request(action, { form: { ...hidden, code: next } })
      return { act: () => visitor.go(location!), works: inside }
    },
    'a request on a live session': async (email) => {
      const { visitor } = await standard(email)
      return { act: () => visitor.go(test.authUrl()), works: inside }
    },
    'the consent': async (email) => {
      const { visitor, page } = await standard(email, { client_id: 'partner', scope: 'openid email' })
      return { act: () => visitor.submit(page), works: inside }
    },
    'the exchange of a code': async (email) => {
      const { page } = await standard(email)
      const form = {
        grant_type: 'authorization_code',
        code: code(page),
        redirect_uri: CALLBACK,
        code_verifier: pkce.verifier,
      }
      return { act: () => app('/token', form, basic('payments')), works: has('access_token') }
    },
    'a refresh': async (email) => {
      const first = await firstSignIn(test, email, { client_id: 'strict', scope: 'openid offline_access' })
      const tokens = await test.exchange(first.answer, 'strict')
      assert.ok(tokens['refresh_token'], JSON.stringify(tokens))
      const form = { grant_type: 'refresh_token', refresh_token: tokens['refresh_token']! }
      return { act: () => app('/token', form, basic('strict')), works: has('access_token') }
    },
    userinfo: async (email) => {
      const tokens = await tokensOf(email)
      return {
        act: () => app('/me', undefined, { authorization: `Bearer ${tokens['access_token']}` }),
        works: has('sub'),
      }
    },
    introspection: async (email) => {
      const tokens = await tokensOf(email)
      return {
        act: () => app('/token/introspection', { token: tokens['access_token']! }, basic('payments')),
        works: (answer) => assert.equal(json(answer)['active'], true),
      }
    },
    revocation: async (email) => {
      const tokens = await tokensOf(email)
      const token = tokens['access_token']!
      return {
        act: () => app('/token/revocation', { token }, basic('payments')),
        async works(answer) {
          assert.equal(answer.status, 200)
          assert.equal(json(await app('/token/introspection', { token }, basic('payments')))['active'], false)
        },
      }
    },
    'the question whether to sign out': async (email) => {
      const { visitor } = await standard(email)
      return { act: () => visitor.go(`${test.url}/session/end`), works: is(/sign out/i) }
    },
    'signing out': async (email) => {
      const { visitor } = await standard(email)
      const page = await visitor.go(`${test.url}/session/end`)
      return {
        act: () => visitor.submit(page, { logout: 'yes' }),
        async works() {
          is(/Sign in/)(await visitor.go(test.authUrl()))
        },
      }
    },
    'a device that asks for a code': async () => ({
      act: () => app('/device/auth', { client_id: 'tv', scope: 'openid' }),
      works: has('user_code'),
    }),
    'a device that polls': async (email) => {
      const { visitor, started, page } = await confirming(email)
      await visitor.submit(page, { confirm: 'yes' })
      const form = { grant_type: DEVICE_GRANT, device_code: started.device_code, client_id: 'tv' }
      return { act: () => app('/token', form), works: has('access_token') }
    },
    'the code of a device': async (email) => {
      const { visitor } = await standard(email)
      const { user_code } = await device()
      const page = await visitor.go(`${test.url}/device`)
      return { act: () => visitor.submit(page, { user_code }), works: is(/Is this you/) }
    },
    'the answer for a device': async (email) => {
      const { visitor, page } = await confirming(email)
      return { act: () => visitor.submit(page, { confirm: 'yes' }), works: is(/Your device is connected/) }
    },
  }
}

/** 503 as a page or as JSON, nothing else, and a line in the log. */
function refused(answer: Answer, logs: string[]): void {
  const { status, location, headers, text } = answer
  const about = `${status} ${location ?? ''} ${headingOf(answer)}`
  const id = headers.get('x-request-id')!
  const lines = logs.filter((line) => line.includes(id)).map((line) => JSON.parse(line) as { level: number })
  assert.equal(status, 503, about)
  assert.equal(location, undefined, about)
  assert.ok(headers.get('retry-after'), about)
  if (headers.get('content-type')?.startsWith('text/html')) assert.match(text, /<h1/, about)
  else assert.equal(json(answer)['error'], 'temporarily_unavailable', about)
  assert.ok(
    lines.some(({ level }) => level >= 50),
    'no line in the log',
  )
}

/** Steps that SQLite answers from what it has read, while another process holds the right to write. */
const READS = new Set(['the recovery page', 'userinfo', 'introspection'])

function outages(open: () => Outage): void {
  it('answers 503 at every step, lets nobody in, writes nothing half, and afterwards everybody goes on', async () => {
    const outage = open()
    const test = await openTestHouse(outage.settings)
    try {
      const steps: [string, Step][] = []
      let people = 0
      for (const [name, prepare] of Object.entries(stepsOf(test))) {
        people += 1
        const email = `person-${people}@acme.example`
        await test.person(email)
        steps.push([name, await prepare(email)])
      }
      await outage.begin(test)
      test.logs.length = 0
      const answers = await Promise.all(steps.map(([, step]) => step.act()))
      await outage.end()
      let wrong: string[] = []
      for (const [index, [name, step]] of steps.entries())
        try {
          if (outage.readable && READS.has(name)) await step.works(answers[index]!)
          else refused(answers[index]!, test.logs)
        } catch (error) {
          wrong.push(`${name}: ${(error as Error).message}`)
        }
      assert.deepEqual(wrong, [], 'while the store is away')
      wrong = []
      assert.deepEqual(await test.database.check(), [])
      for (const [name, step] of steps)
        try {
          await step.works(await step.act())
        } catch (error) {
          wrong.push(`${name}: ${(error as Error).message}`)
        }
      assert.deepEqual(wrong, [])
      assert.deepEqual(await test.database.check(), [])
      assert.equal((await test.database.auditReader.verifyAudit()).broken, undefined)
    } finally {
      await outage.end()
      await test.close()
    }
  })
}

/** Connections to a server that can be cut. */
class Cable {
  readonly #to: number
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined
  port = 0

  constructor(to: number) {
    this.#to = to
  }

  async plugIn(): Promise<void> {
    if (this.#server) return
    this.#server = createServer((near) => {
      const far = connect(this.#to, '127.0.0.1')
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one)
        one.pipe(other)
        one
          .on('error', () => {})
          .on('close', () => {
            this.#sockets.delete(one)
            other.destroy()
          })
      }
    }).listen(this.port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.port = (this.#server.address() as { port: number }).port
  }

  async cut(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    server?.close()
    for (const socket of this.#sockets) socket.destroy()
    if (server) await once(server, 'close')
  }
}

describe('an outage of SQLite: another process keeps the right to write', () => {
  let holder: ChildProcess | undefined
  const end = async () => {
    holder?.kill('SIGKILL')
    if (holder) await once(holder, 'exit')
    holder = undefined
  }
  outages(() => ({
    settings: {},
    readable: true,
    async begin({ folder }) {
      const file = join(folder, 'data', 'sallyport.sqlite')
      holder = fork(new URL('./holder.ts', import.meta.url).pathname, [file], { execArgv: ['--import', 'tsx'] })
      await once(holder, 'message')
    },
    end,
  }))
})

describe('an outage of MongoDB: its connections are cut', function () {
  const server = useMongo(this)
  let cable: Cable
  let settings: Record<string, string>
  before(async () => {
    const url = new URL(server().url(freshName()))
    cable = new Cable(Number(url.port || 27017))
    await cable.plugIn()
    url.host = `127.0.0.1:${cable.port}`
    settings = { SALLYPORT_STORE: url.href }
  })
  after(() => cable?.cut())
  outages(() => ({ settings, readable: false, begin: () => cable.cut(), end: () => cable.plugIn() }))
})
