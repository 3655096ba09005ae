/** What the app has always told oidc-provider: its client, its keys, its own claim. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import type { Configuration } from 'oidc-provider'
import { byId } from './people.ts'

export const cookieKeys = [randomBytes(32).toString('base64url')]

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })

export const clients = [
  {
    client_id: 'ledger',
    client_name: 'Ledger',
    client_secret: randomBytes(32).toString('base64url'),
    redirect_uris: ['https://ledger.example/callback'],
  },
]

export const settings = {
  claims: { profile: ['name', 'plan'] },
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  cookies: { keys: cookieKeys },
  features: { devInteractions: { enabled: false } },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: 'ledger-1' }] },
  async findAccount(_ctx, id) {
    const person = byId(id)
    if (!person) return undefined
    const { email, name, plan } = person
    return { accountId: id, claims: () => ({ sub: id, email, name, plan }) }
  },
} satisfies Configuration
