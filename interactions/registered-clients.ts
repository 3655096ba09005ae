/** A registered client is made ready once, not at each request: the library would hash all that is registered of it each time. */
import type { Client, ClientMetadata, Provider } from 'oidc-provider'

type Find = (
  this: { adapter: { find(id: string): Promise<ClientMetadata | undefined> } },
  id: string,
) => Promise<Client>

/**
 * Goes on with a parsed client as long as the store answers with the same object, which it does as long as its row says
 * the same: each request still asks the store, so that a change counts at once.
 *
 * @param registered reads what is registered; `undefined` when the app configures its own
 */
export function parseClientsOnce(
  provider: Provider,
  registered: ((clientId: string) => Promise<ClientMetadata | undefined>) | undefined,
): void {
  if (!registered) return
  const Model = provider.Client as unknown as { find: Find }
  const { find } = Model
  const parsed = new WeakMap<object, Client>()
  Model.find = async (id) => {
    const metadata = typeof id === 'string' && id !== '' ? await registered(id) : undefined
    const known = metadata && parsed.get(metadata)
    if (known) return known
    const client = await find.call({ adapter: { find: async () => metadata } }, id)
    if (metadata) parsed.set(metadata, client)
    return client
  }
}
