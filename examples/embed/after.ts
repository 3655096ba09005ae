/** The same app, with Sallyport: a second factor, recovery codes, and tokens that say what was proven. */
import { readFileSync } from 'node:fs'
import Koa from 'koa'
import mount from 'koa-mount'
import { createPasswordHasher, createProvider, KeyRing, parseKeyRing, withOwnAccounts } from 'sallyport'
import { openSqlite } from 'sallyport/sqlite'
import { pages } from './pages.ts'
import { byEmail, byId, keepHash, type Person, scryptMatches } from './people.ts'
import { clients, cookieKeys, settings } from './settings.ts'

// A new password ends what the old one opened.
const account = (person?: Person) => person && { ...person, securityEpoch: person.passwordVersion }

/** @param origin where the app is reached */
export async function createApp(origin: string, folder: string): Promise<Koa> {
  const keyRing = new KeyRing(parseKeyRing(readFileSync(`${folder}/keys.json`, 'utf8')))
  const database = await openSqlite({ file: `${folder}/sallyport.sqlite`, sealer: keyRing })
  setInterval(() => database.sweep(Math.floor(Date.now() / 1000)), 5 * 60 * 1000).unref()
  const guarded = clients.map((client) => ({ ...client, sallyport: { mfa: 'required', first_party: true } }))
  const provider = createProvider(
    `${origin}/oidc`,
    { ...settings, clients: guarded },
    {
      keyRing,
      stores: withOwnAccounts(database, {
        find: async (id) => account(byId(id)),
        findByEmail: async (email) => account(byEmail(email)),
        upgradePasswordHash: keepHash,
      }),
      passwords: createPasswordHasher({ foreign: scryptMatches }),
      brand: { name: 'Ledger', supportContact: 'help@ledger.example' },
      stylesheet: new URL('brand.css', import.meta.url),
      messages: JSON.parse(readFileSync(new URL('messages.json', import.meta.url), 'utf8')),
    },
  )

  const app = new Koa()
  app.keys = cookieKeys
  app.use(pages)
  app.use(mount('/oidc', provider))
  return app
}
