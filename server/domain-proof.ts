/** Whose a domain is: the DNS says so, or an operator does. */
import { createHash } from 'node:crypto'
import { resolveTxt } from 'node:dns/promises'
import { audited } from './audited.ts'
import { changeDirectory } from './changes.ts'
import { isPublicMailDomain } from './mail-domains.ts'
import type { House } from './open.ts'
import { StoreConflict } from './stores.ts'

/** The TXT record that proves a domain. */
export interface DomainRecord {
  name: string
  value: string
}

/**
 * The record that a company sets to prove a domain. Everybody may read it; only who governs the domain can write it. It is
 * another one for every server, company and domain, so that one company's proof is none of another's.
 */
export const recordOf = (issuer: string, company: string, domain: string): DomainRecord => ({
  name: `_sallyport.${domain}`,
  value: `sallyport-verification=${createHash('sha256')
    .update(JSON.stringify([issuer, company, domain]))
    .digest('base64url')}`,
})

/** Answers with the TXT records of a name, each in the parts that DNS has it in. */
export type Resolver = (name: string) => Promise<string[][]>

/**
 * Whether the record is there.
 *
 * @throws when the DNS does not answer
 */
export async function isProven({ name, value }: DomainRecord, resolve: Resolver = resolveTxt): Promise<boolean> {
  try {
    const records = await resolve(name)
    return records.some((parts) => parts.join('').trim() === value)
  } catch (error) {
    if (['ENOTFOUND', 'ENODATA'].includes(String((error as NodeJS.ErrnoException).code))) return false
    throw error
  }
}

/**
 * A domain as it is compared and stored: lower case, without the dot at its end. `undefined` for what is none, and for a
 * name in other letters than ASCII, which may look like another one: it is given in its `xn--` form.
 */
export function domainOf(text: string): string | undefined {
  const domain = text.trim().toLowerCase().replace(/\.$/, '')
  return /^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$/.test(domain) ? domain : undefined
}

/** How a domain came to be a company's, or the record that is missing. */
export type Verified = { domain: string; record: DomainRecord } & (
  | { verified: true; by: 'dns' | 'operator' }
  | { verified: false }
)

/**
 * Adds a domain to a company's when its DNS proves it, or when an operator says why they know. The audit says which.
 *
 * @param wanted `reason`: an operator confirms it, and nothing is looked up
 * @throws {StoreConflict} when there is no such company, the domain is none, is everybody's, or another company's
 */
export async function verifyDomain(
  house: House,
  wanted: { company: string; name: string; reason?: string | undefined },
  actor: string,
  resolve?: Resolver,
): Promise<Verified> {
  const { company: id, name, reason } = wanted
  const domain = domainOf(name)
  if (domain === undefined)
    throw new StoreConflict(
      `${name.slice(0, 100)} is no domain: write it in ASCII, such as acme.example or xn--….example`,
    )
  if (isPublicMailDomain(domain))
    throw new StoreConflict(`everybody can have an address at ${domain}: it is no company's`)
  if (!(await house.database.directory.company(id)))
    throw new StoreConflict(`there is no company "${id}": \`sallyport company list\` shows all`)
  const record = recordOf(house.config.SALLYPORT_ISSUER, id, domain)
  if (reason === undefined && !(await answered(record, resolve))) return { verified: false, domain, record }

  const by = reason === undefined ? 'dns' : 'operator'
  const details = { company: id, domain, by, ...(reason !== undefined && { reason }) }
  await audited(house.database.audit, { event: 'company.domain_verified', actor, details }, async () => {
    const keys = ({ domains = [], ...present }: { domains?: string[] }) => ({
      ...present,
      domains: domains.includes(domain) ? domains : [...domains, domain],
    })
    await changeDirectory(house, { noun: 'company', op: 'set', id, keys }, actor)
  })
  return { verified: true, by, domain, record }
}

async function answered(record: DomainRecord, resolve?: Resolver): Promise<boolean> {
  try {
    return await isProven(record, resolve)
  } catch (cause) {
    const { code = 'no answer' } = cause as NodeJS.ErrnoException
    throw new StoreConflict(`the DNS does not answer for ${record.name} (${code}): repeat`, { cause })
  }
}
