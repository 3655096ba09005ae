/** What is measured. Every answer is looked at: one that is not what was asked for ends the run. */
import { randomBytes } from 'node:crypto'
import { generate } from 'otplib'
import { type Answer, Client } from './client.ts'
import { API, CALLBACK, CLIENT_ID, CLIENT_SECRET, PASSWORD, PEOPLE, PKCE, TOTP_SECRET } from './subject.ts'

const BASIC = `Basic ${Buffer.from(`${CLIENT_ID}:${CLIENT_SECRET}`).toString('base64')}`
const STEP_SECONDS = 30

/** One of those who ask at the same time, with a connection and a signed-in browser of their own. */
export interface Worker {
  client: Client
  jar: Jar
  sub: string
  accessToken: string
  refreshToken: string
}

/** Who signed in at which server in which time step last: the people outlive the process that they sign in at. */
const STEPS = new Map<string, Map<string, number>>()

/** A server under test and what is known of it. */
export class Target {
  readonly name: string
  readonly origin: string
  readonly workers: Worker[] = []
  readonly discovery: Record<string, unknown> = {}
  /** Codes that authorize has brought and code exchange uses up. */
  codes: string[] = []
  #person = 0
  readonly #steps: Map<string, number>

  constructor(name: string, origin: string) {
    this.name = name
    this.origin = origin
    this.#steps = STEPS.get(name) ?? new Map()
    STEPS.set(name, this.#steps)
  }

  /** Signs in as many people as are to ask at the same time. */
  async prepare(workers: number): Promise<void> {
    const client = new Client(this.origin)
    Object.assign(this.discovery, JSON.parse((await client.ask({ path: '/.well-known/openid-configuration' })).body))
    client.close()
    for (let index = 0; index < workers; index++) {
      const worker = { client: new Client(this.origin), jar: new Jar(), sub: '', accessToken: '', refreshToken: '' }
      await signInWith(this, worker)
      this.workers.push(worker)
    }
  }

  /** A person whose present time step is not used up, and the code of that step. */
  async person(): Promise<{ id: string; email: string; code: string }> {
    const step = Math.floor(Date.now() / 1000 / STEP_SECONDS)
    for (let tries = 0; tries < PEOPLE.length; tries++) {
      const person = PEOPLE[this.#person++ % PEOPLE.length]!
      if ((this.#steps.get(person.id) ?? 0) >= step) continue
      this.#steps.set(person.id, step)
      return { ...person, code: await generate({ secret: TOTP_SECRET, epoch: step * STEP_SECONDS }) }
    }
    throw new Error('every person has signed in within this time step: add people')
  }

  close(): void {
    for (const { client } of this.workers) client.close()
  }
}

/** Cookies by name and path. */
export class Jar {
  #cookies = new Map<string, { path: string; pair: string }>()

  keep(answer: Answer): void {
    for (const line of answer.cookies) {
      const [pair = '', ...attributes] = line.split('; ')
      const path = attributes.find((one) => one.toLowerCase().startsWith('path='))?.slice(5) ?? '/'
      const key = `${pair.slice(0, pair.indexOf('='))} ${path}`
      if (/expires=Thu, 01 Jan 1970/i.test(line)) this.#cookies.delete(key)
      else this.#cookies.set(key, { path, pair })
    }
  }

  header(path: string): Record<string, string> {
    const pairs: string[] = []
    for (const cookie of this.#cookies.values())
      if (path === cookie.path || path.startsWith(cookie.path.endsWith('/') ? cookie.path : `${cookie.path}/`))
        pairs.push(cookie.pair)
    return pairs.length > 0 ? { cookie: pairs.join('; ') } : {}
  }
}

/** An operation and how good it has to be, as a share of bare's throughput and CPU time. */
export interface Operation {
  name: string
  must: number
  aim: number
  /** CPU time per answer may be this many times bare's. */
  cpu: number
  /** Tokens: 99 of 100 answers within 25 ms. */
  tokens?: boolean
  /** Answers before it is measured: by default {@link WARM}. */
  warm?: number
  /** Ends by itself when there is nothing left to ask for. */
  left?(target: Target): boolean
  /** A server that does not offer it is left out. */
  offered?(target: Target): boolean
  run(target: Target, worker: Worker): Promise<void>
}

/** So many answers and the code that makes them is compiled: a server that runs for days is measured, not one that has just begun. */
export const WARM = 3000

export const OPERATIONS: Operation[] = [
  {
    name: 'client credentials',
    must: 0.75,
    aim: 0.9,
    cpu: 1.4,
    tokens: true,
    offered: ({ discovery }) => (discovery['grant_types_supported'] as string[]).includes('client_credentials'),
    async run(_target, worker) {
      const { access_token: token } = await tokens(worker, {
        grant_type: 'client_credentials',
        resource: API,
        scope: 'api',
      })
      check(token, 'no access token')
    },
  },
  {
    name: 'refresh',
    must: 0.7,
    aim: 0.9,
    cpu: 1.4,
    tokens: true,
    async run(_target, worker) {
      const former = worker.refreshToken
      await keep(worker, { grant_type: 'refresh_token', refresh_token: former })
      check(worker.refreshToken !== former, 'the refresh token was not rotated')
    },
  },
  {
    name: 'authorize',
    must: 0.75,
    aim: 0.95,
    cpu: 1.4,
    tokens: true,
    async run(target, worker) {
      const query = authorizeQuery('none')
      const answer = await worker.client.ask({ path: `/auth?${query}`, headers: worker.jar.header('/auth') })
      worker.jar.keep(answer)
      target.codes.push(codeIn(answer))
    },
  },
  {
    name: 'code exchange',
    must: 0.7,
    aim: 0.9,
    cpu: 1.4,
    tokens: true,
    left: ({ codes }) => codes.length > 0,
    async run({ codes }, worker) {
      await keep(worker, exchange(codes.pop()!))
    },
  },
  {
    name: 'userinfo',
    must: 0.8,
    aim: 1,
    cpu: 1.2,
    async run(_target, { client, sub, accessToken }) {
      const answer = await client.ask({ path: '/me', headers: { authorization: `Bearer ${accessToken}` } })
      const claims = JSON.parse(answer.body) as Record<string, string>
      check(answer.status === 200 && claims['email'] === `${claims['sub']}@acme.example` && sub !== '', answer.body)
    },
  },
  {
    name: 'introspection',
    must: 0.8,
    aim: 1,
    cpu: 1.2,
    offered: ({ discovery }) => discovery['introspection_endpoint'] !== undefined,
    async run({ discovery }, { client, accessToken }) {
      const path = new URL(String(discovery['introspection_endpoint'])).pathname
      const answer = await client.ask({ path, headers: { authorization: BASIC }, form: { token: accessToken } })
      check((JSON.parse(answer.body) as { active: boolean }).active, answer.body)
    },
  },
  {
    name: 'sign-in',
    must: 0.9,
    aim: 1.2,
    cpu: 1.4,
    warm: 150,
    run: async (target, { client }) =>
      signInWith(target, { client, jar: new Jar(), sub: '', accessToken: '', refreshToken: '' }),
  },
  {
    name: 'discovery',
    must: 1,
    aim: 1.6,
    cpu: 1.2,
    async run({ discovery }, { client }) {
      const answer = await client.ask({ path: '/.well-known/openid-configuration' })
      check(answer.status === 200 && answer.body.includes(`"issuer":"${discovery['issuer']}"`), answer.body)
    },
  },
  {
    name: 'jwks',
    must: 1,
    aim: 1.6,
    cpu: 1.2,
    async run(_target, { client }) {
      const answer = await client.ask({ path: '/jwks' })
      check(answer.status === 200 && answer.body.includes('"kty":"EC"') && !answer.body.includes('"d":'), answer.body)
    },
  },
]

/**
 * What no speed may be bought with: of many who show one code, one gets tokens; a used refresh token opens nothing.
 */
export async function checkOnce(target: Target): Promise<void> {
  const [first, second] = target.workers as [Worker, Worker]
  const ask = ({ client }: Worker, form: Record<string, string>) =>
    client.ask({ path: '/token', headers: { authorization: BASIC }, form })

  const used = first.refreshToken
  await keep(first, { grant_type: 'refresh_token', refresh_token: used })
  const reused = await ask(second, { grant_type: 'refresh_token', refresh_token: used })
  check(reused.status === 400 && reused.body.includes('invalid_grant'), `a used refresh token: ${reused.body}`)

  const { client, jar } = second
  const code = codeIn(await client.ask({ path: `/auth?${authorizeQuery('none')}`, headers: jar.header('/auth') }))
  const answers = await Promise.all(target.workers.map((worker) => ask(worker, exchange(code))))
  const won = answers.filter(({ status }) => status === 200)
  check(won.length === 1, `${won.length} of ${answers.length} callers got tokens for one code`)
}

/** From the request to the tokens: whatever pages there are, with what a person would type on them. */
async function signInWith(target: Target, worker: Worker): Promise<void> {
  const { client, jar } = worker
  const { id, email, code } = await target.person()
  const typed: Record<string, string> = { email, password: PASSWORD, code }
  // Every person at home in a network of their own: a server may limit how many sign in from one.
  const network = `10.${randomBytes(3).join('.')}`
  let path = `/auth?${authorizeQuery()}`
  let form: Record<string, string> | undefined
  for (let steps = 0; steps < 15; steps++) {
    const [bare = ''] = path.split('?')
    const headers = { accept: 'text/html', 'x-forwarded-for': network, ...jar.header(bare) }
    const answer = await client.ask(
      form
        ? { path, form, headers: { ...headers, origin: target.origin, 'sec-fetch-site': 'same-origin' } }
        : { path, headers },
    )
    jar.keep(answer)
    const location = answer.headers.get('location')
    if (location?.startsWith(CALLBACK)) {
      await keep(worker, exchange(codeIn(answer)))
      worker.sub = id
      return
    }
    if (location !== undefined) {
      const next = new URL(location, target.origin)
      path = next.pathname + next.search
      form = undefined
      continue
    }
    const page = formOn(answer)
    path = page.action || path
    form = { ...page.hidden }
    for (const name of page.asked) if (typed[name] !== undefined) form[name] = typed[name]
    check(
      page.asked.some((name) => typed[name] !== undefined),
      `nothing to type: ${answer.body}`,
    )
  }
  throw new Error('the sign-in does not end')
}

/** The form a person would fill in, and the names of its fields. */
function formOn({ status, body }: Answer) {
  const forms = [...body.matchAll(/<form([^>]*)action="([^"]+)"([^>]*)>([\s\S]*?)<\/form>/g)]
  const form = forms.find(([, , , after]) => after!.includes('novalidate')) ?? forms[0]
  check(status === 200 && form, `no form: ${status} ${body}`)
  const inputs = [...form[4]!.matchAll(/<input([^>]*)>/g)].map(([, attributes]) => {
    const value = (name: string) => new RegExp(`\\b${name}="([^"]*)"`).exec(attributes!)?.[1] ?? ''
    return { name: value('name'), value: value('value'), hidden: value('type') === 'hidden' }
  })
  return {
    action: new URL(form[2]!.replaceAll('&amp;', '&'), 'http://localhost').pathname,
    hidden: Object.fromEntries(inputs.filter((one) => one.hidden).map(({ name, value }) => [name, value])),
    asked: inputs.filter((one) => !one.hidden).map(({ name }) => name),
  }
}

const authorizeQuery = (prompt?: string) =>
  new URLSearchParams({
    client_id: CLIENT_ID,
    response_type: 'code',
    redirect_uri: CALLBACK,
    scope: 'openid email',
    state: 'the-state',
    code_challenge: PKCE.challenge,
    code_challenge_method: 'S256',
    ...(prompt !== undefined && { prompt }),
  }).toString()

const exchange = (code: string) => ({
  grant_type: 'authorization_code',
  code,
  redirect_uri: CALLBACK,
  code_verifier: PKCE.verifier,
})

function codeIn({ status, headers, body }: Answer): string {
  const location = headers.get('location') ?? ''
  const params = location.startsWith(CALLBACK) ? new URL(location).searchParams : undefined
  const code = params?.get('code')
  check(code && params?.get('state') === 'the-state', `no code: ${status} ${location} ${body}`)
  return code
}

async function tokens({ client }: Worker, form: Record<string, string>): Promise<Record<string, string>> {
  const answer = await client.ask({ path: '/token', headers: { authorization: BASIC }, form })
  check(answer.status === 200, `${answer.status} ${answer.body}`)
  return JSON.parse(answer.body) as Record<string, string>
}

/** The tokens that a worker goes on with. */
async function keep(worker: Worker, form: Record<string, string>): Promise<void> {
  const { access_token: access, refresh_token: refresh, id_token: id } = await tokens(worker, form)
  check(access && refresh && id?.split('.').length === 3, 'not all three tokens')
  worker.accessToken = access
  worker.refreshToken = refresh
}

function check(condition: unknown, message = 'a wrong answer'): asserts condition {
  if (!condition) throw new Error(message.slice(0, 2000))
}
