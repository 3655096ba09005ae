/** What an app around the provider may rely on. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { join } from 'node:path'
import Koa from 'koa'
import mount from 'koa-mount'
import { type Configuration, Provider } from 'oidc-provider'
import { openSqlite, type SqliteDatabase } from '../../adapters/sqlite/index.ts'
import {
  createPasswordHasher,
  createProvider,
  createSallyport,
  KeyRing,
  newKeyRing,
  type SallyportOptions,
} from '../../interactions/index.ts'
import { freePort } from '../support/free-port.ts'
import { pkce, signIn } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'
import { headingOf, Visitor } from '../support/visitor.ts'

const keyRing = new KeyRing(newKeyRing())
const passwords = createPasswordHasher({ memoryKiB: 19456 })
const client = {
  client_id: 'app',
  client_secret: 'a'.repeat(40),
  redirect_uris: ['https://app.example/callback'],
  sallyport: { first_party: true },
}
const request = new URLSearchParams({
  ...{ client_id: 'app', response_type: 'code', redirect_uri: client.redirect_uris[0]!, scope: 'openid' },
  ...{ code_challenge: pkce.challenge, code_challenge_method: 'S256' },
})

describe('embedding', () => {
  let database: SqliteDatabase
  let options: SallyportOptions
  before(async () => {
    database = await openSqlite({ file: join(temporaryFolder(), 'sallyport.sqlite'), sealer: keyRing })
    options = { stores: database, keyRing, passwords, brand: { name: 'Embedded' } }
    const value = { id: 'ana', email: 'ana@a.example', disabled: false, memberships: [], serverRoles: [] }
    await database.directory.commit([
      { kind: 'user', op: 'put', value, passwordHash: await passwords.hash('correct horse battery staple') },
    ])
  })
  after(() => database.close())

  for (const [what, keys] of [
    ['no keys', undefined],
    ['keys of its own', ['the key of the app']],
  ] as const)
    it(`keeps its cookies apart from those of a koa app with ${what}`, async () => {
      const port = await freePort()
      const origin = `http://127.0.0.1:${port}`
      const app = new Koa()
      if (keys) app.keys = [...keys]
      app.use(async (ctx, next) => {
        await next()
        ctx.cookies.set('late', 'yes', { signed: keys !== undefined })
        if (keys && ctx.get('x-check')) ctx.body = { late: ctx.cookies.get('late', { signed: true }) ?? null }
      })
      app.use(mount('/op', createProvider(`${origin}/op`, { clients: [client] }, options)))
      const server = createServer(app.callback())
      await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
      try {
        const visitor = new Visitor(origin)
        const answer = await signIn(visitor, await visitor.go(`${origin}/op/auth?${request}`), 'ana@a.example')
        assert.match(answer.location ?? headingOf(answer), /callback\?code=/)
        if (keys) {
          const { text } = await visitor.request(`${origin}/op/nowhere`, { headers: { 'x-check': 'yes' } })
          assert.deepEqual(JSON.parse(text), { late: 'yes' }, 'signed by the app, read by the app')
        }
      } finally {
        await new Promise((resolve) => server.close(resolve))
      }
    })

  it('composes what the app has configured for other purposes', async () => {
    const configuration: Configuration = {
      claims: { profile: ['plan'], billing: ['iban'] },
      scopes: ['openid', 'billing'],
      extraParams: ['campaign'],
      extraClientMetadata: { properties: ['owner'] },
      cookies: { names: { session: 'theirs' } },
      findAccount: async (_ctx, id) => ({ accountId: id, claims: () => ({ sub: 'x', plan: 'pro', email: 'old@x' }) }),
      extraTokenClaims: () => ({ tenant: 7 }),
    }
    const extended = createSallyport('https://id.example', options).extendConfiguration(configuration)
    assert.deepEqual(extended.claims?.['profile'], ['name', 'plan'])
    assert.deepEqual(extended.claims?.['billing'], ['iban'])
    assert.deepEqual(extended.scopes, ['openid', 'offline_access', 'email', 'profile', 'billing'])
    assert.deepEqual(Object.keys(extended.extraParams!), ['campaign', 'set_up', 'second_factor_max_age'])
    assert.deepEqual(extended.extraClientMetadata?.properties, ['sallyport', 'former_secrets', 'owner'])
    assert.equal(extended.cookies?.names?.session, 'theirs')
    assert.equal(extended.cookies?.names?.interaction, '__Secure-_interaction')
    const account = await extended.findAccount!({} as never, 'ana')
    const claims = await account!.claims('userinfo', 'openid', {}, [])
    assert.deepEqual(claims, { sub: 'ana', email: 'ana@a.example', plan: 'pro' })
    const token = { kind: 'AccessToken' } as never
    const ctx = { oidc: { entities: { AuthorizationCode: { acr: 'a', amr: ['pwd'], authTime: 1 } } } } as never
    assert.deepEqual(await extended.extraTokenClaims!(ctx, token), { tenant: 7, acr: 'a', amr: ['pwd'], auth_time: 1 })
    new Provider('https://id.example', extended) // oidc-provider agrees
  })

  it('finds nobody whom the app does not find', async () => {
    const { findAccount } = createSallyport('https://id.example', options).extendConfiguration({
      findAccount: async () => undefined,
    })
    assert.equal(await findAccount!({} as never, 'ana'), undefined)
  })

  it('refuses a provider of another issuer', () => {
    const sallyport = createSallyport('https://id.example', options)
    const provider = new Provider('https://id.example/oidc', sallyport.extendConfiguration({}))
    assert.throws(() => sallyport.attach(provider), /issuer is https:\/\/id\.example\/oidc, not https:\/\/id\.example/)
  })
})
