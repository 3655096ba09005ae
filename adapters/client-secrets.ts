/**
 * A client's secrets as the one text that is sealed: the present one on the first line, then each former one after the
 * time that it is good until. No secret holds a line end (RFC 6749 §A.2), and a text of one line is the present secret alone.
 */
import type { FormerSecret } from '../interactions/kit/stores.ts'

/** What a client may hold. */
export interface ClientSecrets {
  client_secret?: string | undefined
  former_secrets?: FormerSecret[] | undefined
}

/** The text to seal; `undefined` without a present secret. */
export function secretsText({ client_secret, former_secrets = [] }: ClientSecrets): string | undefined {
  if (client_secret === undefined) return undefined
  return [client_secret, ...former_secrets.map(({ secret, until }) => `${until} ${secret}`)].join('\n')
}

/** What the opened text says. */
export function secretsFrom(text: string): ClientSecrets {
  const [client_secret, ...former] = text.split('\n')
  const former_secrets = former.map((line) => {
    const at = line.indexOf(' ')
    return { secret: line.slice(at + 1), until: Number(line.slice(0, at)) }
  })
  return { client_secret, ...(former_secrets.length > 0 && { former_secrets }) }
}
