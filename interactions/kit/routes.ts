/** oidc-provider's routes, by their paths as `ctx.path` has them: without where the provider is mounted. */
import type { Provider } from 'oidc-provider'

/** The path of a route. @throws when its feature is off */
export const routeOf = (provider: Provider, name: string): string => provider.pathFor(name, { mountPath: '' })

/** The path of a route that may not be there, because its feature is off. */
export function pathOf(provider: Provider, name: string): string | undefined {
  try {
    return routeOf(provider, name)
  } catch {
    return undefined
  }
}

/** True at one of these paths. The library's router takes other cases and a slash at the end too: no second address without our checks. */
export const isOneOf = (path: string, ...ours: (string | undefined)[]): boolean =>
  ours.includes(path.toLowerCase().replace(/\/+$/, ''))
