/** The plugin's first customer: oidc-provider with the server's stores, keys and clients. */
import { type ClientMetadata, type Configuration, Provider } from 'oidc-provider'
import {
  createPasswordHasher,
  createSallyport,
  describeError,
  type Limits,
  type Sallyport,
  type Tell,
  tell,
} from '../interactions/index.ts'
import { ACCOUNT_CLIENT, accountClient } from './account/client.ts'
import { invitation, type NewLink } from './account/links.ts'
import { type Config, isLoopback } from './config.ts'
import { mailOf } from './delivery.ts'
import { newcomers } from './newcomers.ts'
import type { House } from './open.ts'
import { SeedError } from './seed/error.ts'
import type { PlanOptions } from './seed/index.ts'
import { jwksOf } from './signing-keys.ts'
import { smsOf } from './sms/gateway.ts'
import type { Client, Side, SigningKey, WrittenUser } from './stores.ts'

/** The lifetimes that the configuration sets. */
export const limitsOf = (config: Config): Limits => ({
  idle: config.SALLYPORT_SESSION_IDLE_SECONDS,
  absolute: config.SALLYPORT_SESSION_ABSOLUTE_SECONDS,
  interaction: config.SALLYPORT_INTERACTION_TTL_SECONDS,
  accessToken: config.SALLYPORT_ACCESS_TOKEN_TTL_SECONDS,
  idToken: config.SALLYPORT_ID_TOKEN_TTL_SECONDS,
  refreshToken: config.SALLYPORT_REFRESH_TOKEN_TTL_SECONDS,
  startsPerMinute: config.SALLYPORT_STARTS_PER_MINUTE,
  totpWindow: config.SALLYPORT_TOTP_WINDOW,
})

/** The hasher with the costs that the configuration sets. */
export const hasherOf = (config: Config) =>
  createPasswordHasher({
    memoryKiB: config.SALLYPORT_ARGON2_MEMORY_KIB,
    passes: config.SALLYPORT_ARGON2_PASSES,
    parallelism: config.SALLYPORT_ARGON2_PARALLELISM,
    concurrency: config.SALLYPORT_HASH_CONCURRENCY,
    queue: config.SALLYPORT_HASH_QUEUE,
  })

/** The plugin over the server's database. */
export function sallyportOf(house: House): Sallyport {
  const { config, database, connections = database.connections, keyRing, logger, onMetric } = house
  return createSallyport(config.SALLYPORT_ISSUER, {
    stores: database,
    keyRing,
    passwords: hasherOf(config),
    brand: {
      name: config.SALLYPORT_BRAND_NAME,
      homeUrl: `${config.SALLYPORT_ISSUER}/`,
      ...(config.SALLYPORT_BRAND_LOGO !== undefined && { logo: config.SALLYPORT_BRAND_LOGO }),
      ...(config.SALLYPORT_BRAND_COLOUR !== undefined && { colour: config.SALLYPORT_BRAND_COLOUR }),
      ...(config.SALLYPORT_BRAND_COLOUR_DARK !== undefined && { colourDark: config.SALLYPORT_BRAND_COLOUR_DARK }),
      ...(config.SALLYPORT_HELP_URL !== undefined && { helpUrl: config.SALLYPORT_HELP_URL }),
      ...(config.SALLYPORT_SUPPORT_CONTACT !== undefined && { supportContact: config.SALLYPORT_SUPPORT_CONTACT }),
    },
    language: config.SALLYPORT_LANGUAGE,
    limits: limitsOf(config),
    connections,
    defaultClient: config.SALLYPORT_DEFAULT_CLIENT,
    sms: smsOf(house),
    ...(mailOf(config) !== 'none' && { notices: true, forgotUrl: '/forgot' }),
    people: newcomers(database.directory, database.accounts),
    mailedLinks: database.passwords,
    client: async (id) =>
      id === ACCOUNT_CLIENT
        ? accountClient(house)
        : ((await database.directory.client(id)) as ClientMetadata | undefined),
    resource: async (id) => {
      const resource = (await database.directory.resources()).find((one) => one.id === id)
      return (
        resource && {
          name: resource.name,
          scope: resource.scopes.join(' '),
          tokenFormat: resource.token_format,
          client: resource.client,
          serviceClients: resource.service_clients,
        }
      )
    },
    onEvent({ name: _name, reference, ...happened }) {
      const { connection, outcome, check = 'none', test } = happened
      if (outcome === 'refused') logger.warn({ reference, ...happened }, 'a SAML response was refused')
      const labels = { connection, outcome, check, test: String(test) }
      onMetric?.({ name: 'saml_responses', value: 1, labels })
    },
    onError: (error, about) =>
      logger.error({ ...about, error: error.message, cause: causeOf(error) }, 'could not answer'),
  })
}

/** Who is told of what: nobody where mail is off. */
export const noticesOf = ({ config }: Pick<House, 'config'>): Tell => (mailOf(config) === 'none' ? () => [] : tell)

/** An invitation for somebody who has no password, unless mail is off or their company signs them in. */
async function invitationFor(
  { config, database, connections = database.connections }: House,
  { id, email, memberships }: WrittenUser,
  sides: ReadonlyMap<string, Side>,
): Promise<NewLink | undefined> {
  if (mailOf(config) === 'none') return undefined
  const connection = await connections.connectionFor(email.slice(email.lastIndexOf('@') + 1), '')
  if (connection?.mode === 'forward') return undefined
  const held = memberships.map(({ company, roles }) => ({ side: sides.get(company) ?? ('none' as const), roles }))
  const person = { id, email, securityEpoch: 0, memberships: held }
  return invitation(person, { config, ...factsHere({ config }), inviter: config.SALLYPORT_BRAND_NAME })
}

/** What a letter says of an act at the command line. */
export const factsHere = ({ config }: Pick<House, 'config'>) => ({
  now: Math.floor(Date.now() / 1000),
  lang: config.SALLYPORT_LANGUAGE,
})

/** A provider that answers nobody: for what a command needs of it. */
export async function providerOf(house: House): Promise<Provider> {
  return new Provider(
    house.config.SALLYPORT_ISSUER,
    sallyportOf(house).extendConfiguration(await configurationOf(house)),
  )
}

/** What planning a seed needs of this server. */
export async function planningOf(house: House): Promise<PlanOptions> {
  const { config, network } = house
  const provider = await providerOf(house)
  return {
    hash: hasherOf(config).hash,
    invite: (person, sides) => invitationFor(house, person, sides),
    tell: (person) => noticesOf(house)(person, 'password_changed', factsHere(house)),
    passwordMinLength: config.SALLYPORT_PASSWORD_MIN_LENGTH,
    allowLoopback: isLoopback(new URL(config.SALLYPORT_ISSUER).hostname),
    async fetchMetadata(url) {
      const { fetchGuarded } = await import('./guarded-fetch.ts')
      return fetchGuarded(url, network).catch((error: Error) => {
        if (error.name !== 'NotFetched') throw error
        throw new SeedError(`metadata_url: ${error.message}`, { cause: error })
      })
    },
    checkClient(client) {
      try {
        ;new (provider.Client as unknown as new (metadata: Client) => unknown)(client)
        return undefined
      } catch (error) {
        return describeError(error as Error)
      }
    },
  }
}

/** oidc-provider's own configuration: signing keys (of each algorithm the first one signs: the active one) and cookie names. */
export async function configurationOf(
  { config, database }: House,
  signingKeys?: readonly SigningKey[],
): Promise<Configuration> {
  const https = config.SALLYPORT_ISSUER.startsWith('https:')
  const order = { active: 0, next: 1, retired: 2 }
  const keys = [...(signingKeys ?? (await database.signingKeys.signingKeys()))].sort(
    (a, b) => order[a.state] - order[b.state],
  )
  return {
    jwks: { keys: keys.flatMap(jwksOf) },
    features: { backchannelLogout: { enabled: true }, deviceFlow: { enabled: true } },
    cookies: {
      // The two of an interaction have a path of their own, which __Host- forbids.
      names: https
        ? { session: '__Host-session', interaction: '__Secure-interaction', resume: '__Secure-resume' }
        : { session: 'session', interaction: 'interaction', resume: 'resume' },
    },
  }
}

const causeOf = (error: Error) => (error.cause instanceof Error ? error.cause.message : undefined)
