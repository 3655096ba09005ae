/** The pages under /account, as a client of this server. */
import type { ClientMetadata } from 'oidc-provider'
import type { House } from '../open.ts'

/** Its id. A seed file cannot take it. */
export const ACCOUNT_CLIENT = 'account'

/** Where its authorization codes arrive. */
export const CALLBACK_PATH = '/account/callback'

/** Built in: no list of clients shows it. Its secret is never sent: the codes are taken inside this process. */
export const accountClient = ({ config, keyRing }: Pick<House, 'config' | 'keyRing'>): ClientMetadata => ({
  client_id: ACCOUNT_CLIENT,
  client_name: config.SALLYPORT_BRAND_NAME,
  client_secret: keyRing.mac('client', ACCOUNT_CLIENT),
  redirect_uris: [config.SALLYPORT_ISSUER + CALLBACK_PATH],
  grant_types: ['authorization_code'],
  sallyport: { first_party: true, self_service: true },
})
