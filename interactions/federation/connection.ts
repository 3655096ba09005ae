/** A stored connection, as the verification of SAML sees it. */
import type { Connection } from '../kit/stores.ts'
import type { SamlConnection } from './saml/index.ts'

/** What is after the one `@`; empty when there is none, or more. */
export function domainOf(address: string): string {
  const [, domain = '', ...more] = address.toLowerCase().split('@')
  return more.length === 0 ? domain : ''
}

/** Our path of a connection: metadata and assertion consumer service are below it. */
export const connectionPath = (id: string): string => `/saml/${id}`

/** The connection with us as its service provider. Its entity ID is the address of its metadata. */
export function serviceProviderOf(connection: Connection, issuer: string): SamlConnection {
  const base = issuer + connectionPath(connection.id)
  const { id, company, domains, idp, keys, nameIdFormat, attributes } = connection
  return {
    ...{ id, company, domains, idp, nameIdFormat, attributes },
    sp: { entityId: `${base}/metadata`, acsUrl: `${base}/acs`, keys },
  }
}
