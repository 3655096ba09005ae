/** What an identity provider publishes of itself, beside what is stored of it. Nothing is taken over unasked. */
import { type IdpMetadata, saml } from '../interactions/index.ts'
import { fingerprintOf } from './certificate-expiry.ts'
import type { House } from './open.ts'
import { planningOf } from './provider.ts'
import { StoreConflict } from './stores.ts'

/** What differs. Certificates by their SHA-256. */
export interface Differences {
  differs: Record<string, { stored: string; published: string }>
  /** Published, and not stored. */
  fresh: string[]
  /** Stored, and not published any more. */
  gone: string[]
}

/** Fetches the metadata of a connection and compares. @throws {StoreConflict} when there is none, or it is none to take */
export async function comparePublished(house: House, id: string): Promise<Differences> {
  const { idp, found } = await published(house, id)
  const fingerprints = (all: { pem: string }[]) => all.map(({ pem }) => fingerprintOf(pem))
  const [stored, there] = [fingerprints(idp.certificates), fingerprints(found.certificates)]
  const fields = (['ssoUrl', 'binding'] as const).filter((key) => idp[key] !== found[key])
  return {
    differs: Object.fromEntries(fields.map((key) => [key, { stored: idp[key], published: found[key] }])),
    fresh: there.filter((one) => !stored.includes(one)),
    gone: stored.filter((one) => !there.includes(one)),
  }
}

/** The published certificate that begins so, in PEM. @throws {StoreConflict} */
export async function publishedCertificate(house: House, id: string, fingerprint: string): Promise<string> {
  return matchingCertificate((await published(house, id)).found.certificates, fingerprint).pem
}

/** The one whose SHA-256 begins so. @throws {StoreConflict} */
export function matchingCertificate<C extends { pem: string }>(all: C[], wanted: string): C {
  const digits = (text: string) => text.replaceAll(':', '').toLowerCase()
  const [found, another] = all.filter(({ pem }) => digits(fingerprintOf(pem)).startsWith(digits(wanted)))
  if (!found)
    throw new StoreConflict(
      `there is no certificate ${wanted}: \`sallyport connection certificates\` lists those that are stored, \`connection refresh\` those that are published`,
    )
  if (another) throw new StoreConflict(`more than one certificate begins so: say more of ${wanted}`)
  return found
}

async function published(house: House, id: string) {
  const connection = await house.database.directory.connection(id)
  if (!connection) throw new StoreConflict(`there is no connection "${id}": \`sallyport connection list\` shows all`)
  const { metadataUrl, idp } = connection
  if (metadataUrl === undefined)
    throw new StoreConflict(
      `connection "${id}" has no metadata URL: \`sallyport connection set ${id} --metadata-url URL\``,
    )
  const { fetchMetadata, allowLoopback = false } = await planningOf(house)
  let found: IdpMetadata
  try {
    const text = await fetchMetadata!(metadataUrl)
    found = (await saml()).readIdpMetadata(text, { now: Math.floor(Date.now() / 1000), allowLoopback })
  } catch (error) {
    if (!['SeedError', 'MetadataError'].includes((error as Error).name)) throw error
    throw new StoreConflict(`connection "${id}": ${(error as Error).message}`, { cause: error })
  }
  if (found.entityId !== idp.entityId)
    throw new StoreConflict(
      `connection "${id}": ${metadataUrl} describes another identity provider now, ${found.entityId}: ask its administrator`,
    )
  return { idp, found }
}
