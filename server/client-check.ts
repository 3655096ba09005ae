/**
 * Reads a registered client as a reviewer would. What `apply` refuses it says in `apply`'s words; besides, it looks for what
 * is allowed and would not do what its owner expects.
 */
import { type Config, isLoopback } from './config.ts'
import { clientEntry } from './export.ts'
import { type PlanOptions, planSeed, readSeed, SeedError } from './seed/index.ts'
import { type Client, type Database, goodFormer, type Resource } from './stores.ts'

/** One thing about a client. */
export interface Remark {
  /** `fail`: something does not work. `warn`: it works, and could be better. */
  status: 'fail' | 'warn'
  /** The key of the client that it is about. */
  key: string
  /** What is so, and what to do: sentences. */
  message: string
}

/** A client with the schema's defaults in place. */
interface Registered {
  client_id: string
  client_name?: string
  redirect_uris: string[]
  post_logout_redirect_uris?: string[]
  grant_types: string[]
  token_endpoint_auth_method: string
  token_endpoint_auth_signing_alg?: string
  request_object_signing_alg?: string
  require_signed_request_object?: boolean
  jwks?: { keys: { kty?: string; crv?: string; alg?: string; use?: string }[] }
  client_uri?: string
  policy_uri?: string
  tos_uri?: string
  initiate_login_uri?: string
  backchannel_logout_uri?: string
  application_type?: string
  sallyport: { first_party: boolean; mfa: string; second_factor_max_age?: number; offline?: boolean }
}

/** What a remark is made from. */
interface Situation {
  config: Pick<Config, 'SALLYPORT_ISSUER' | 'SALLYPORT_SESSION_ABSOLUTE_SECONDS'>
  stored: Client
  resources: Resource[]
  now: number
}

/**
 * Everything that is to be said of a client: what fails first.
 *
 * @param now seconds since 1970
 */
export async function checkClient(
  { database, config }: { database: Database; config: Situation['config'] },
  stored: Client,
  planning: PlanOptions,
  now: number,
): Promise<Remark[]> {
  const situation = { config, stored, resources: await database.directory.resources(), now }
  const entry = clientEntry(stored)
  let client: Registered
  try {
    const seed = readSeed({ clients: [entry] }, 'apply', {})
    client = seed.clients[0] as Registered
    await planSeed(database, seed, planning)
  } catch (error) {
    if (!(error instanceof SeedError)) throw error
    return [{ status: 'fail', key: 'client_id', message: `${error.message}. Correct it: sign-ins fail until then` }]
  }
  const remarks = REVIEW.flatMap((review) => review(client, situation))
  return [...remarks.filter(({ status }) => status === 'fail'), ...remarks.filter(({ status }) => status === 'warn')]
}

const fail = (key: string, message: string): Remark => ({ status: 'fail', key, message })
const warn = (key: string, message: string): Remark => ({ status: 'warn', key, message })

type Review = (client: Registered, situation: Situation) => Remark[]

const hasBrowser = ({ grant_types }: Registered) => grant_types.includes('authorization_code')
const signsIn = (client: Registered) =>
  hasBrowser(client) || client.grant_types.some((type) => type.endsWith('device_code'))

/** What it is for: somebody else has to name it. */
const purpose: Review = ({ client_id: id, grant_types }, { resources }) => {
  const introspects = resources.some(({ client }) => client === id)
  const serves = resources.some(({ service_clients = [] }) => service_clients.includes(id))
  return [
    ...(grant_types.includes('client_credentials') && !serves
      ? [
          fail(
            'grant_types',
            `No API lists "${id}" among its service_clients, so client_credentials gets no token. List it there, or leave the grant out.`,
          ),
        ]
      : []),
    ...(grant_types.length === 0 && !introspects
      ? [
          warn(
            'grant_types',
            `It has no grant, and no API names it as its client: it can do nothing. Name it under client of the API that introspects, or remove it.`,
          ),
        ]
      : []),
  ]
}

const redirects: Review = ({ redirect_uris, application_type }, { config }) =>
  redirect_uris.flatMap((uri) => {
    const { protocol, hostname } = new URL(uri)
    const isLocal = protocol === 'http:' && isLoopback(hostname)
    return [
      ...(hostname === 'localhost' && isLocal
        ? [
            warn(
              'redirect_uris',
              `${uri}: localhost may be another address, or another machine's, on a person's computer. Use http://127.0.0.1 (RFC 8252 §8.3).`,
            ),
          ]
        : []),
      ...(isLocal && application_type !== 'native' && config.SALLYPORT_ISSUER.startsWith('https:')
        ? [
            warn(
              'redirect_uris',
              `${uri} leads to the person's own computer, and this is a web app at a server that others use. Remove it when development is over, or say application_type: native.`,
            ),
          ]
        : []),
      ...(uri.includes('*')
        ? [warn('redirect_uris', `${uri}: * stands for itself: addresses are compared exactly. List each one.`)]
        : []),
    ]
  })

const leaving: Review = (client) =>
  hasBrowser(client)
    ? [
        ...(client.post_logout_redirect_uris?.length
          ? []
          : [
              warn(
                'post_logout_redirect_uris',
                'After signing out people stay on a page of this server. List where they go back to the app.',
              ),
            ]),
        ...(client.backchannel_logout_uri === undefined && client.token_endpoint_auth_method !== 'none'
          ? [
              warn(
                'backchannel_logout_uri',
                'The app is not told when a session ends elsewhere: it keeps its own until that ends. Give the address that takes logout tokens.',
              ),
            ]
          : []),
        ...(client.client_uri === undefined && client.initiate_login_uri === undefined
          ? [
              warn(
                'client_uri',
                'People whose sign-in is over or lost find no way back to the app. Give client_uri or initiate_login_uri.',
              ),
            ]
          : []),
      ]
    : []

const naming: Review = (client) => {
  if (!signsIn(client)) return []
  const { client_id: id, client_name, sallyport, policy_uri, tos_uri } = client
  return [
    ...(client_name === undefined
      ? [warn('client_name', `People read "${id}" where the app's name should stand. Give client_name.`)]
      : []),
    ...(!sallyport.first_party && policy_uri === undefined && tos_uri === undefined
      ? [
          warn(
            'policy_uri',
            'A third party asks people to let it know them, and shows no terms. Give policy_uri or tos_uri.',
          ),
        ]
      : []),
  ]
}

/** RFC 8252 §8.6; the rule itself stands in interactions/policy.ts. */
const unbound: Review = ({ sallyport, token_endpoint_auth_method: method, redirect_uris }) =>
  sallyport.first_party && method === 'none' && redirect_uris.some((uri) => !uri.startsWith('https://'))
    ? [
        warn(
          'redirect_uris',
          'Another program on a device can listen at an address that is not https, so people are asked each time whether this is their app. Use an https address that the app has claimed.',
        ),
      ]
    : []

const factors: Review = ({ sallyport }, { config }) => {
  const { second_factor_max_age: age } = sallyport
  const longest = config.SALLYPORT_SESSION_ABSOLUTE_SECONDS
  if (age === undefined || age < longest) return []
  return [
    warn(
      'sallyport.second_factor_max_age',
      `A session ends after ${longest} seconds at the most, so ${age} is never reached. Name a shorter time, or leave it out.`,
    ),
  ]
}

const refreshing: Review = ({ grant_types, sallyport }) =>
  sallyport.offline && !grant_types.includes('refresh_token')
    ? [
        fail(
          'sallyport.offline',
          'It is to go on without a session, and gets no refresh token. Add refresh_token to grant_types, or leave offline out.',
        ),
      ]
    : []

/** The kind of key that an algorithm needs (RFC 7518 §3.1, RFC 8037 §3.1). */
const FITS: Record<string, (key: { kty?: string; crv?: string }) => boolean> = {
  ES256: ({ kty, crv }) => kty === 'EC' && crv === 'P-256',
  PS256: ({ kty }) => kty === 'RSA',
  RS256: ({ kty }) => kty === 'RSA',
  Ed25519: ({ kty, crv }) => kty === 'OKP' && crv === 'Ed25519',
  EdDSA: ({ kty, crv }) => kty === 'OKP' && crv === 'Ed25519',
}

const keys: Review = (client) => {
  const { jwks, token_endpoint_auth_method: method } = client
  const able = (alg: string) =>
    jwks?.keys.some((key) => FITS[alg]!(key) && (key.alg ?? alg) === alg && (key.use ?? 'sig') === 'sig') ?? false
  const lacks = (key: string, what: string, alg: string | undefined) => {
    const algs = alg === undefined ? Object.keys(FITS) : [alg]
    return algs.some((one) => able(one) || !(one in FITS))
      ? []
      : [fail(key, `No key under jwks can verify ${alg ?? 'a signature'}, so ${what}. Add a key that can.`)]
  }
  return [
    ...(method === 'private_key_jwt'
      ? lacks('token_endpoint_auth_signing_alg', 'the app cannot authenticate', client.token_endpoint_auth_signing_alg)
      : []),
    ...(client.require_signed_request_object
      ? lacks('request_object_signing_alg', 'no request of the app is taken', client.request_object_signing_alg)
      : []),
    ...(method.endsWith('_jwt') && client.token_endpoint_auth_signing_alg === undefined
      ? [
          warn(
            'token_endpoint_auth_signing_alg',
            'Any algorithm is taken that its key or secret allows. Name the one that the app uses.',
          ),
        ]
      : []),
  ]
}

const secrets: Review = (_client, { stored, now }) =>
  goodFormer(stored, now).map(({ until }) =>
    warn(
      'client_secret',
      `A former secret is good until ${new Date(until * 1000).toISOString()}. Have the app use the new one before; \`client rotate-secret --overlap 0\` ends all former ones, with a new secret again.`,
    ),
  )

const REVIEW: Review[] = [purpose, refreshing, keys, redirects, unbound, leaving, naming, factors, secrets]
