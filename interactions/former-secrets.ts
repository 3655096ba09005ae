/** A client's secret is replaced without a moment at which its app is locked out: the former one stays good for a while. */
import type { Client, Provider } from 'oidc-provider'
import type { FormerSecret } from './kit/stores.ts'

/** Name of the client metadata that holds them. */
export const FORMER_SECRETS = 'former_secrets'

/** A parsed client, with what of the library this file stands on. */
type OwnClient = Client & {
  clientSecret?: string
  [FORMER_SECRETS]?: FormerSecret[]
  compareClientSecret(actual: string): boolean | Promise<boolean>
  symmetricKeyStore: { selectForVerify(options: object): { k?: string }[] }
}

/** Former secrets open what the present one opens, each until its time: `client_secret_basic`, `_post` and `_jwt`. */
export function acceptFormerSecrets(provider: Provider, { now }: { now: () => number }): void {
  const Model = provider.Client as unknown as {
    prototype: OwnClient
    find(id: string): Promise<OwnClient | undefined>
  }
  const stillGood = (client: OwnClient) =>
    (client[FORMER_SECRETS] ?? []).filter(({ until }) => now() < until).map(({ secret }) => secret)

  const { compareClientSecret } = Model.prototype
  // All are compared, each in constant time: how long it takes does not tell which one was nearly right.
  Model.prototype.compareClientSecret = async function (actual) {
    const known = [this.clientSecret, ...stillGood(this)]
    const right = await Promise.all(known.map((clientSecret) => compareClientSecret.call({ clientSecret }, actual)))
    return right.includes(true)
  }

  // The library makes the keys of a client once, when it reads it, and keeps them longer than a secret may be good.
  const { find } = Model
  Model.find = async (id) => {
    const client = await find.call(Model, id)
    if (client?.[FORMER_SECRETS] && !Object.hasOwn(client.symmetricKeyStore, 'selectForVerify'))
      verifyByFormer(client.symmetricKeyStore, () => stillGood(client))
    return client
  }
}

/** What was signed by a former secret is verified by it: the same key otherwise (OIDC Core §10.1). */
function verifyByFormer(store: OwnClient['symmetricKeyStore'], secrets: () => string[]): void {
  const { selectForVerify } = store
  store.selectForVerify = (options) => {
    const keys = selectForVerify.call(store, options)
    const former = secrets().map((secret) => Buffer.from(secret).toString('base64url'))
    return [...keys, ...former.flatMap((k) => keys.map((key) => ({ ...key, k })))]
  }
}
