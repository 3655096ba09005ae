/**
 * What Sallyport is compared with: oidc-provider alone, everything in memory, one form for password and code. It survives no
 * restart and checks nothing twice: an upper bound, nothing to deploy.
 */

import { bodyParser } from '@koa/bodyparser'
import { verify } from '@node-rs/argon2'
import { exportJWK, generateKeyPair } from 'jose'
import { type Adapter, type AdapterPayload, type KoaContextWithOIDC, Provider } from 'oidc-provider'
import { generate } from 'otplib'
import { CALLBACK, CLIENT_ID, CLIENT_SECRET, PEOPLE, TOTP_SECRET } from './subject.ts'

const [port = '', passwordHash = ''] = process.argv.slice(2)
const issuer = `http://127.0.0.1:${port}`

/** The library's own memory adapter without its limit of 1,000 rows, and without its walk over all rows of a grant. */
class Memory implements Adapter {
  static readonly rows = new Map<string, AdapterPayload>()
  static readonly byUid = new Map<string, string>()
  static readonly byGrant = new Map<string, Set<string>>()
  readonly #model: string

  constructor(model: string) {
    this.#model = model
  }
  async upsert(id: string, payload: AdapterPayload): Promise<void> {
    const key = `${this.#model}:${id}`
    if (this.#model === 'Session') Memory.byUid.set(payload.uid!, id)
    else if (this.#model !== 'Interaction' && payload.grantId) {
      const keys = Memory.byGrant.get(payload.grantId) ?? new Set()
      Memory.byGrant.set(payload.grantId, keys.add(key))
    }
    Memory.rows.set(key, payload)
  }
  async find(id: string): Promise<AdapterPayload | undefined> {
    return Memory.rows.get(`${this.#model}:${id}`)
  }
  async findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return this.find(Memory.byUid.get(uid) ?? '')
  }
  async findByUserCode(): Promise<undefined> {}
  async consume(id: string): Promise<void> {
    Memory.rows.get(`${this.#model}:${id}`)!['consumed'] = Math.floor(Date.now() / 1000)
  }
  async destroy(id: string): Promise<void> {
    Memory.rows.delete(`${this.#model}:${id}`)
  }
  async revokeByGrantId(grantId: string): Promise<void> {
    for (const key of Memory.byGrant.get(grantId) ?? []) Memory.rows.delete(key)
    Memory.byGrant.delete(grantId)
  }
}

const key = async (alg: 'ES256' | 'RS256') => {
  const { privateKey } = await generateKeyPair(alg, { extractable: true })
  return { ...(await exportJWK(privateKey)), kid: alg, use: 'sig', alg }
}
const people = new Map(PEOPLE.map(({ id, email }) => [email, { id, lastStep: 0 }]))
const emails = new Map(PEOPLE.map(({ id, email }) => [id, email]))

const provider = new Provider(issuer, {
  adapter: Memory,
  jwks: { keys: [await key('ES256'), await key('RS256')] },
  clients: [
    {
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      redirect_uris: [CALLBACK],
      grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
      id_token_signed_response_alg: 'ES256',
    },
  ],
  claims: { openid: ['sub'], email: ['email'] },
  cookies: { keys: ['a-key-for-the-signatures-of-cookies'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined as unknown as string,
      getResourceServerInfo: () => ({ scope: 'api', accessTokenFormat: 'opaque' }),
    },
    introspection: { enabled: true, allowedPolicy: async (_ctx, client, token) => token.clientId === client.clientId },
  },
  async findAccount(_ctx, id) {
    return { accountId: id, claims: () => ({ sub: id, email: emails.get(id) }) }
  },
  interactions: { url: (_ctx, { uid }) => `/interaction/${uid}` },
  issueRefreshToken: async () => true,
  expiresWithSession: async () => false,
  async loadExistingGrant(ctx: KoaContextWithOIDC) {
    const { client, provider: own, session } = ctx.oidc
    const id = session!.grantIdFor(client!.clientId)
    const found = id === undefined ? undefined : await own.Grant.find(id)
    if (found) return found
    const grant = new own.Grant({ accountId: session!.accountId!, clientId: client!.clientId })
    grant.addOIDCScope('openid email')
    await grant.save()
    return grant
  },
  pkce: { required: () => true },
  responseTypes: ['code'],
  rotateRefreshToken: true,
  ttl: {
    AccessToken: 600,
    AuthorizationCode: 60,
    Grant: 86_400,
    IdToken: 600,
    Interaction: 3600,
    RefreshToken: 86_400,
    Session: 3600,
  },
})

/** The time step of this code: the present one, or the one before (RFC 6238 §5.2), since a sign-in may begin at its end. */
async function stepOf(code: string | undefined): Promise<number | undefined> {
  const now = Math.floor(Date.now() / 30_000)
  for (const step of [now, now - 1])
    if (code === (await generate({ secret: TOTP_SECRET, epoch: step * 30 }))) return step
  return undefined
}

const parse = bodyParser({ enableTypes: ['form'] })
provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next()
  const { uid } = await provider.interactionDetails(ctx.req, ctx.res)
  if (ctx.method === 'GET') {
    ctx.type = 'html'
    ctx.body = `<!doctype html><title>Sign in</title><form method="post" action="/interaction/${uid}">
      <input name="email"><input name="password" type="password"><input name="code"><button>Sign in</button></form>`
    return
  }
  await parse(ctx, async () => {})
  const { email = '', password = '', code } = ctx.request.body as Record<string, string>
  const person = people.get(email)
  if (!person || !(await verify(passwordHash, password))) return ctx.throw(400, 'wrong password')
  const step = await stepOf(code)
  if (step === undefined || person.lastStep >= step) return ctx.throw(400, 'wrong code')
  person.lastStep = step
  const result = { login: { accountId: person.id, amr: ['pwd', 'otp', 'mfa'], remember: false } }
  ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result))
  ctx.status = 303
})

const server = provider.listen(Number(port), '127.0.0.1')
// An ordinary end, so that a profile is written.
process.once('SIGTERM', () => {
  server.close(() => process.exit())
  server.closeAllConnections()
})
