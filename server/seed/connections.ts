/** What a seed says of connections, compared with what is stored. */
import { isDeepStrictEqual } from 'node:util'
import { saml } from '../../interactions/index.ts'
import { isPublicMailDomain } from '../mail-domains.ts'
import { didYouMean } from '../nearest.ts'
import {
  checkConnections,
  StoreConflict,
  type StoredConnection,
  testedAlike,
  type WrittenConnection,
  writtenConnection,
} from '../stores.ts'
import { SeedError } from './error.ts'
import type { PlanOptions } from './plan.ts'
import type { Seed } from './schema.ts'

/** Seconds for which a dry run lets a connection be activated in the mode `forward`. */
export const TEST_GOOD_SECONDS = 24 * 60 * 60
const MOST_CERTIFICATES = 8

type Wanted = Omit<Seed['connections'][number], 'state'> & { state: WrittenConnection['state'] }

/** What there will be once the plan is done. */
export interface Around {
  /** Company → its verified domains. */
  companies: Map<string, string[]>
  clients: Set<string>
}

/**
 * A connection as it would be stored.
 *
 * @throws {SeedError}
 */
export async function connectionOf(
  wanted: Wanted,
  present: StoredConnection | undefined,
  { companies, clients }: Around,
  options: PlanOptions,
): Promise<WrittenConnection> {
  const { id, company, client, domains = [], mode, state, jit, idp, mfa, name_id_format, attributes } = wanted
  const fault = (text: string) => new SeedError(`connections ${id}: ${text}`)
  if (company === undefined) throw fault('company is missing: say whose people it is for')
  if (!companies.has(company))
    throw fault(
      `company: there is no company "${company}"${didYouMean(company, companies.keys()) || ': add it under companies'}`,
    )
  // Its key pair, its addresses and whoever came by it belong to that company.
  if (present && present.company !== company)
    throw fault(`company: it belongs to "${present.company}" and stays there: add another connection`)
  if (domains.length === 0) throw fault('domains is missing: list the domains of its people, each one of its company')
  const twin = domains.find((one, index) => domains.indexOf(one) !== index)
  if (twin !== undefined) throw fault(`domains: ${twin} is listed twice`)
  const open = domains.find(isPublicMailDomain)
  if (open !== undefined)
    throw fault(`domains: everybody can have an address at ${open}: no company's identity provider speaks for it`)
  if (client !== undefined && !clients.has(client))
    throw fault(`client: there is no client "${client}"${didYouMean(client, clients) || ': add it under clients'}`)
  if (idp === undefined)
    throw fault('idp is missing: give metadata_file, metadata_url, or entity_id, sso_url and certificates')

  const value = writtenConnection({
    id,
    company,
    client,
    domains,
    mode,
    state,
    jit,
    trustedContexts: mfa.trust === 'never' ? [] : mfa.trust.contexts,
    ...(await identityProviderOf(idp, present, options, fault)),
    nameIdFormat: name_id_format,
    attributes,
  })
  const routes = (one: WrittenConnection | undefined) => one?.state === 'active' && one.mode === 'forward'
  if (routes(value) && !routes(present) && options.untested === undefined && !isTested(value, present, options))
    throw fault(
      'state: active with mode: forward leaves its people no other way in, and no dry run has succeeded in the last 24 hours: make one (state: testing), or say --force --reason',
    )
  return value
}

function isTested(value: WrittenConnection, present: StoredConnection | undefined, { now }: PlanOptions): boolean {
  const at = present?.testedAt
  return at !== undefined && testedAlike(present!, value) && (now ?? Date.now() / 1000) - at <= TEST_GOOD_SECONDS
}

async function identityProviderOf(
  wanted: NonNullable<Wanted['idp']>,
  present: StoredConnection | undefined,
  { fetchMetadata, allowLoopback = false, now = Math.floor(Date.now() / 1000) }: PlanOptions,
  fault: (text: string) => SeedError,
): Promise<Pick<WrittenConnection, 'idp' | 'metadataUrl'>> {
  const { checkLocation, readCertificate, readIdpMetadata } = await saml()
  const { metadata, metadata_url: metadataUrl, entity_id, sso_url, binding, certificates } = wanted
  const inFields = entity_id !== undefined || sso_url !== undefined || certificates !== undefined
  const read = <T>(key: string, work: () => T): T => {
    try {
      return work()
    } catch (error) {
      if ((error as Error).name !== 'MetadataError') throw error
      throw fault(`idp: ${key}: ${(error as Error).message}`)
    }
  }
  const inMetadata = (key: string, text: string | Buffer): WrittenConnection['idp'] => {
    const readAt = (time: number): WrittenConnection['idp'] => {
      const {
        entityId,
        ssoUrl,
        binding: how,
        certificates: found,
      } = readIdpMetadata(text, { now: time, allowLoopback })
      return { entityId, ssoUrl, binding: how, certificates: found }
    }
    // What is stored already stays, though time has passed: a file shall not fail because of one certificate in it.
    const stored = read(key, () => readAt(0))
    return isDeepStrictEqual(stored, present?.idp) ? stored : read(key, () => readAt(now))
  }

  if (metadata !== undefined) {
    if (inFields) throw fault('idp: give metadata, or entity_id, sso_url and certificates, not both')
    return { idp: inMetadata('metadata', metadata), metadataUrl }
  }
  if (!inFields) {
    if (metadataUrl === undefined)
      throw fault('idp is empty: give metadata_file, metadata_url, or entity_id, sso_url and certificates')
    // Once it is stored, only an administrator takes over what is published there: `sallyport connection refresh`.
    if (present?.metadataUrl === metadataUrl) return { idp: present.idp, metadataUrl }
    if (!fetchMetadata) throw fault('idp: metadata_url: only the command line fetches it: give metadata')
    return { idp: inMetadata('metadata_url', await fetchMetadata(metadataUrl)), metadataUrl }
  }
  if (entity_id === undefined || sso_url === undefined || certificates === undefined || certificates.length === 0)
    throw fault('idp: give all of entity_id, sso_url and certificates')
  const found = new Map(
    certificates.map((text) => {
      const certificate = read('certificates', () => readCertificate(text))
      return [certificate.pem, certificate] as const
    }),
  )
  if (found.size > MOST_CERTIFICATES) throw fault(`idp: certificates: at most ${MOST_CERTIFICATES}: remove old ones`)
  const idp: WrittenConnection['idp'] = {
    entityId: entity_id,
    ssoUrl: read('sso_url', () => checkLocation(sso_url, allowLoopback)),
    binding,
    certificates: [...found.values()],
  }
  if (!isDeepStrictEqual(idp, present?.idp) && idp.certificates.every(({ notAfter }) => notAfter <= now))
    throw fault('idp: certificates: all of them have ended: ask for a new one')
  return { idp, metadataUrl }
}

/**
 * All connections that there will be, together.
 *
 * @throws {SeedError}
 */
export function checkTogether(connections: Iterable<WrittenConnection>, { companies, clients }: Around): void {
  try {
    checkConnections(
      connections,
      (company) => companies.get(company),
      (client) => clients.has(client),
    )
  } catch (error) {
    throw error instanceof StoreConflict ? new SeedError(error.message, { cause: error }) : error
  }
}
