/** A whole server on a free port, with a real SQLite file in a temporary folder (or the store of the test) and a clock that the test sets. */
import './clock.ts'
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import { generate } from 'otplib'
import pino from 'pino'
import type { MongoDatabase } from '../../adapters/mongo/index.ts'
import type { SqliteDatabase } from '../../adapters/sqlite/index.ts'
import { createPasswordHasher, digest, type Letter } from '../../interactions/index.ts'
import type { ArtifactStore, ConnectionStore, Stores } from '../../interactions/kit/stores.ts'
import { startServer } from '../../server/app.ts'
import { loadConfig } from '../../server/config.ts'
import { type House, type Metric, openHouse } from '../../server/open.ts'
import type { Change, Client, Database } from '../../server/stores.ts'
import { now } from './clock.ts'
import { freePort } from './free-port.ts'
import { sharedMongo } from './mongo.ts'
import { temporaryFolder } from './temporary.ts'
import { type Answer, headingOf, Visitor } from './visitor.ts'

export const PASSWORD = 'correct horse battery staple'
export const CLIENT_SECRET = 'test-secret-test-secret-test-secret-1234'
export const CALLBACK = 'https://rp.example/callback'
export const API = 'https://api.payments.example'

/** The cheapest hash that is allowed, and one per run: hashing is not what these tests test. */
const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 10_000 })
let passwordHash: Promise<string> | undefined
const hashOfPassword = () => {
  passwordHash ??= hasher.hash(PASSWORD)
  return passwordHash
}

const COMPANIES: Change[] = [
  {
    kind: 'company',
    op: 'put',
    value: { id: 'acme', name: 'Acme Builders', side: 'payor', domains: ['acme.example'], disabled: false },
  },
  {
    kind: 'company',
    op: 'put',
    value: { id: 'best', name: 'Best Plumbing', side: 'payee', domains: ['best.example'], disabled: false },
  },
  { kind: 'company', op: 'put', value: { id: 'city', name: 'City Works', side: 'none', domains: [], disabled: false } },
]

const confidential = {
  client_secret: CLIENT_SECRET,
  redirect_uris: [CALLBACK],
  grant_types: ['authorization_code', 'refresh_token'],
}
const CLIENTS: Client[] = [
  {
    client_id: 'payments',
    client_name: 'Payments',
    client_uri: 'https://rp.example',
    ...confidential,
    post_logout_redirect_uris: ['https://rp.example/signed-out'],
    sallyport: { first_party: true, mfa: 'by_role' },
  },
  {
    client_id: 'strict',
    client_name: 'Strict',
    ...confidential,
    sallyport: { first_party: true, mfa: 'required', second_factor_max_age: 1800, offline: true },
  },
  {
    client_id: 'spa',
    client_name: 'Spa',
    token_endpoint_auth_method: 'none',
    redirect_uris: [CALLBACK],
    sallyport: { first_party: true },
  },
  {
    client_id: 'phone',
    client_name: 'Phone',
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    redirect_uris: ['com.example.phone:/callback'],
    sallyport: { first_party: true },
  },
  {
    client_id: 'tv',
    client_name: 'TV Reports',
    token_endpoint_auth_method: 'none',
    redirect_uris: [],
    response_types: [],
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    sallyport: { first_party: true, mfa: 'by_role' },
  },
  {
    client_id: 'partner',
    client_name: 'Partner Books',
    client_uri: 'https://books.example',
    policy_uri: 'https://books.example/privacy',
    tos_uri: 'https://books.example/terms',
    ...confidential,
    grant_types: [...confidential.grant_types, 'urn:ietf:params:oauth:grant-type:device_code'],
    sallyport: { first_party: false },
  },
  {
    client_id: 'poster',
    client_name: 'Poster',
    ...confidential,
    token_endpoint_auth_method: 'client_secret_post',
    sallyport: { first_party: true },
  },
]

/** A running server and ways to walk through it. */
export interface TestHouse {
  house: House
  database: SqliteDatabase
  url: string
  folder: string
  /** What the server logged, one JSON line each. */
  logs: string[]
  visitor(): Visitor
  /** Makes a person. */
  person(email: string, role?: 'payor' | 'payee' | 'standard'): Promise<string>
  authUrl(params?: Record<string, string>): string
  exchange(
    answer: Answer,
    client?: string,
    extra?: Record<string, string>,
    headers?: Record<string, string>,
  ): Promise<Tokens>
  /** `client` by its secret; '' when the form says who asks. */
  token(form: Record<string, string>, client?: string): Promise<Tokens>
  /** Has the server read its signing keys again, as it does each minute. */
  reload(): Promise<boolean>
  /** A POST of an app's server, without a browser around it. */
  post(path: string, form: Record<string, string>, headers?: Record<string, string>): Promise<Tokens>
  close(): Promise<void>
}

export type Tokens = Record<string, string> & { status: number; error?: string }

/** `TEST_STORE=mongo`: a database of its own for each folder, so that a server opened again on it finds its data. */
export async function storeOf(folder: string): Promise<Record<string, string>> {
  if (process.env['TEST_STORE'] !== 'mongo') return {}
  const name = `sallyport_test_${createHash('sha256').update(folder).digest('hex').slice(0, 12)}`
  return { SALLYPORT_STORE: (await sharedMongo()).url(name) }
}

/** Everything that the database holds, as text: what a thief of it would read. */
export async function stolen({ database, folder }: TestHouse): Promise<string> {
  if ('collections' in database) {
    const { collections } = database as unknown as MongoDatabase
    const all = await Promise.all(Object.values(collections).map(({ collection }) => collection.find().toArray()))
    return JSON.stringify(all)
  }
  const data = join(folder, 'data')
  return readdirSync(data)
    .filter((name) => name.startsWith('sallyport.sqlite'))
    .map((name) => readFileSync(join(data, name), 'latin1'))
    .join('\n')
}

/** The stored payloads of a kind that belong to a person, as JSON text. */
export async function payloadsOf({ database }: TestHouse, model: string, accountId: string): Promise<string[]> {
  if (!('collections' in database))
    return database.connection
      .all('SELECT payload FROM artifacts WHERE model = ? AND account_id = ?', model, accountId)
      .map(({ payload }) => String(payload))
  const { artifacts } = (database as unknown as MongoDatabase).collections
  return (await artifacts.collection.find({ model, accountId }).toArray()).map(({ payload }) => String(payload))
}

/** Starts a server. */
export async function openTestHouse(
  env: Record<string, string> = {},
  {
    folder = temporaryFolder(),
    artifacts,
    connections,
    onMetric,
  }: {
    folder?: string
    artifacts?: (database: Database) => ArtifactStore
    connections?: ConnectionStore
    onMetric?: (metric: Metric) => void
  } = {},
): Promise<TestHouse> {
  const store = await storeOf(folder)
  const port = Number(env['PORT'] ?? (await freePort()))
  const listening = `http://127.0.0.1:${port}`
  const url = env['SALLYPORT_ISSUER'] ?? listening
  const logs: string[] = []
  const config = loadConfig(
    {
      PORT: String(port),
      SALLYPORT_DATA_DIR: join(folder, 'data'),
      SALLYPORT_TRUSTED_PROXIES: 'loopback',
      SALLYPORT_BRAND_NAME: 'Sallyport',
      SALLYPORT_LOG_LEVEL: 'info',
      SALLYPORT_HASH_QUEUE: '500',
      ...store,
      ...env,
    },
    folder,
  )
  const logger = pino({ level: config.SALLYPORT_LOG_LEVEL }, { write: (line: string) => void logs.push(line) })
  const house = await openHouse(config, { createKeys: true, logger })
  const database = house.database as SqliteDatabase // unless a test names another store, and then it knows
  if (connections) house.connections = connections
  if (onMetric) house.onMetric = onMetric
  if (artifacts) Object.assign(database, { artifacts: artifacts(database) })
  await database.directory.commit([
    ...COMPANIES,
    ...CLIENTS.map((value): Change => ({ kind: 'client', op: 'put', value })),
    { kind: 'resource', op: 'put', value: { id: API, name: 'Payments API', scopes: ['payments'] } },
  ])
  const running = await startServer(house)
  let visitors = 0

  const post: TestHouse['post'] = async (path, form, headers = {}) => {
    const body = new URLSearchParams(form)
    const response = await fetch(listening + path, { method: 'POST', headers, body })
    const text = await response.text()
    return { ...(JSON.parse(text === '' ? '{}' : text) as Record<string, string>), status: response.status } as Tokens
  }
  const token = async (
    form: Record<string, string>,
    client = 'payments',
    more: Record<string, string> = {},
  ): Promise<Tokens> => {
    const isPublic = ['spa', 'phone', 'tv'].includes(client)
    const inBody = isPublic
      ? { client_id: client }
      : client === 'poster'
        ? { client_id: client, client_secret: CLIENT_SECRET }
        : {}
    const basic = `Basic ${Buffer.from(`${client}:${CLIENT_SECRET}`).toString('base64')}`
    const headers: Record<string, string> =
      isPublic || client === 'poster' || client === '' ? {} : { authorization: basic }
    return post('/token', { ...form, ...inBody }, { ...headers, ...more })
  }

  return {
    house,
    database,
    url,
    folder,
    logs,
    visitor: () => {
      visitors += 1
      const address = `10.${(visitors >> 16) & 255}.${(visitors >> 8) & 255}.${visitors & 255}`
      return new Visitor(url, address, listening)
    },
    async person(email, role = 'payor') {
      const id = `person-${randomBytes(6).toString('hex')}`
      const memberships = {
        payor: [{ company: 'acme', roles: ['payments_admin' as const], disabled: false }],
        payee: [{ company: 'best', roles: ['payments_admin' as const], disabled: false }],
        standard: [{ company: 'city', roles: [], disabled: false }],
      }[role]
      const value = { id, email, name: 'A Person', disabled: false, memberships, serverRoles: [] }
      await database.directory.commit([{ kind: 'user', op: 'put', value, passwordHash: await hashOfPassword() }])
      return id
    },
    authUrl: (params = {}) => `${url}/auth?${new URLSearchParams({ ...REQUEST, ...params })}`,
    exchange(answer, client = 'payments', extra = {}, headers = {}) {
      const code = answer.location === undefined ? null : new URL(answer.location).searchParams.get('code')
      if (code === null) throw new Error(`no code: ${answer.status} ${answer.location ?? headingOf(answer)}`)
      return token(
        { grant_type: 'authorization_code', code, redirect_uri: CALLBACK, code_verifier: VERIFIER, ...extra },
        client,
        headers,
      )
    },
    token,
    reload: () => running.reload(),
    post,
    close: () => running.close(),
  }
}

const VERIFIER = randomBytes(32).toString('base64url')
/** A code verifier and its challenge (RFC 7636), one per run. */
export const pkce = { verifier: VERIFIER, challenge: createHash('sha256').update(VERIFIER).digest('base64url') }

/** The store as over a network: every call takes some milliseconds, so that what races does race. */
export const slowly = ({ artifacts }: Pick<Stores, 'artifacts'>): ArtifactStore =>
  new Proxy(artifacts, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown
      if (typeof value !== 'function') return value
      return async (...args: unknown[]) => {
        await new Promise((resolve) => setTimeout(resolve, 5))
        return (value as (...args: unknown[]) => unknown).apply(target, args)
      }
    },
  })

/** A plain request of the client `payments`. */
export const REQUEST = {
  client_id: 'payments',
  response_type: 'code',
  redirect_uri: CALLBACK,
  scope: 'openid email',
  state: 'the-state',
  code_challenge: pkce.challenge,
  code_challenge_method: 'S256',
}

/** The code that the app shows now. */
export const codeOf = (secret: string): Promise<string> => generate({ secret, epoch: now() })

/** The secret on the enrolment page, as a person would type it. */
export function secretOn(page: Answer): string {
  const key = /<code id="key"[^>]*>([^<]+)</.exec(page.text)?.[1]
  if (key === undefined) throw new Error(`no setup key on ${page.at}: ${headingOf(page)} ${page.text.slice(0, 300)}`)
  return key.replace(/\s/g, '')
}

/** The recovery code on its page. */
export function recoveryCodeOn(page: Answer): string {
  const output = /<output id="recovery-code"[^>]*>(.*?)<\/output>/s.exec(page.text)?.[1]?.replace(/<[^>]+>/g, '')
  const code = output && /[0-9A-Z]{4}(?:-[0-9A-Z]{4}){5}/.exec(output)?.[0]
  if (!code) throw new Error(`no recovery code on ${page.at}: ${headingOf(page)}`)
  return code
}

/** E-mail and password, from the sign-in page. */
export async function signIn(visitor: Visitor, page: Answer, email: string, password = PASSWORD): Promise<Answer> {
  const next = await visitor.submit(page, { email })
  return visitor.submit(next, { password })
}

/** From the enrolment page to the recovery page. */
export async function enrol(visitor: Visitor, page: Answer): Promise<{ page: Answer; secret: string }> {
  const secret = secretOn(page)
  return { page: await visitor.submit(page, { code: await codeOf(secret) }), secret }
}

/** Ticks the box. */
export const acknowledge = (visitor: Visitor, page: Answer): Promise<Answer> =>
  visitor.submit(page, { acknowledged: 'yes' })

/** A payor's whole first sign-in. */
export async function firstSignIn(test: TestHouse, email: string, params: Record<string, string> = {}) {
  const visitor = test.visitor()
  const enrolment = await signIn(visitor, await visitor.go(test.authUrl(params)), email)
  const { page, secret } = await enrol(visitor, enrolment)
  const recoveryCode = recoveryCodeOn(page)
  return { visitor, secret, recoveryCode, answer: await acknowledge(visitor, page) }
}

/** The heading of the page that asks for a mailed link. */
export const MAILED_LINK = 'Look into your mail'

/** The link of a reset that was mailed to this person last. */
export async function mailedLinkTo({ database }: TestHouse, email: string): Promise<string> {
  const { account } = (await database.accounts.findByEmail(email))!
  for (const { id, kind } of await database.outbox.list({ accountId: account.id, limit: 99 })) {
    if (kind !== 'enrolment_link') continue
    const { link } = JSON.parse((await database.outbox.read(id)) ?? '{}') as Letter
    const token = new URL(link!).searchParams.get('token')!
    // A former one is forgotten.
    if (await database.passwords.findLink(digest(token))) return link!
  }
  throw new Error(`no link was mailed to ${email}`)
}

/** After a reset: opens the mailed link in this browser, and goes on to the enrolment. */
export async function openMailedLink(test: TestHouse, visitor: Visitor, email: string): Promise<Answer> {
  return visitor.submit(await visitor.go(await mailedLinkTo(test, email)), {})
}

/** The heading of the challenge. */
export const CHALLENGE = 'Enter the code from your authenticator app'

/** True when the app was called back with a code. */
export const hasCode = (answer: Answer): boolean =>
  answer.location?.startsWith(CALLBACK) === true && new URL(answer.location).searchParams.has('code')

/** The error that the app was called back with. */
export const errorOf = (answer: Answer) => new URL(answer.location ?? 'x:').searchParams.get('error')

/** What an ID token or JWT access token says. */
export const claimsIn = (
  token: string | undefined,
): Record<string, unknown> & { amr: string[]; acr: string; sub: string; auth_time: number } =>
  decodeJwt(token!) as never

/** A POST whose headers are sent now and whose body when released, which answers with the status. */
export async function heldPost(visitor: Visitor, url: string, form: Record<string, string>) {
  const path = new URL(url).pathname
  const body = new URLSearchParams(form).toString()
  const cookie = visitor.cookies
    .filter((one) => path === one.path || path.startsWith(one.path.endsWith('/') ? one.path : `${one.path}/`))
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ')
  const headers = {
    cookie,
    origin: visitor.origin,
    'sec-fetch-site': 'same-origin',
    'content-type': 'application/x-www-form-urlencoded',
    'content-length': String(body.length),
  }
  const request = httpRequest(url, { method: 'POST', headers })
  const answered = new Promise<number>((resolve) =>
    request.on('response', (response) => {
      response.resume()
      resolve(response.statusCode!)
    }),
  )
  request.flushHeaders()
  await new Promise((resolve) => setTimeout(resolve, 200))
  return () => {
    request.end(body)
    return answered
  }
}
