/** Whom an assertion is about: one name that lasts, and one address that this company may speak for. */
import type { Checks } from './checks.ts'
import { NAME_ID, NS, type SamlConnection } from './connection.ts'
import type { Identity } from './said.ts'
import { attributeOf, children, childrenNamed, textOf } from './strict-xml.ts'

/** RFC 5322 §3.2.3 dot-atom at a host name (RFC 1123 §2.1) of at least two labels. In lower case. */
const ATOM = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
const LABEL = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?'
const EMAIL = new RegExp(`^${ATOM}(?:\\.${ATOM})*@${LABEL}(?:\\.${LABEL})+$`)

/** RFC 5321 §4.5.3.1. */
const isEmail = (text: string) => text.length <= 254 && text.indexOf('@') <= 64 && EMAIL.test(text)

/**
 * Makes all checks of the person and notes each one.
 *
 * @param assertion from signed bytes
 * @returns who it is; of use only when no check failed
 */
export function readIdentity(assertion: Element, connection: SamlConnection, checks: Checks): Identity {
  const [subject] = childrenNamed(assertion, NS.saml, 'Subject')
  const [element] = subject ? childrenNamed(subject, NS.saml, 'NameID') : []
  const nameId = (element && textOf(element)) ?? ''
  const nameIdFormat = (element && attributeOf(element, 'Format')) ?? NAME_ID.unspecified

  checks.note('name_id', nameId !== '' && nameId.length <= 1024 && !/^\s|\s$|[\t\r\n]/.test(nameId))
  const wanted = connection.nameIdFormat
  const isWanted = wanted === undefined || nameIdFormat === wanted
  checks.note('name_id_format', isWanted, isWanted ? undefined : `${nameIdFormat}, expected ${wanted}`)
  if (nameIdFormat === NAME_ID.persistent && element) {
    // A name in somebody else's book is another name.
    const ours = (attributeOf(element, 'SPNameQualifier') ?? connection.sp.entityId) === connection.sp.entityId
    const theirs = (attributeOf(element, 'NameQualifier') ?? connection.idp.entityId) === connection.idp.entityId
    checks.note('name_id_qualifier', ours && theirs)
  }

  const attributes = readAttributes(assertion, connection, checks)
  const fromAttribute = (name: string | undefined) => (name === undefined ? [] : (attributes.get(name) ?? []))
  const names = fromAttribute(connection.attributes.name)
  const stated = fromAttribute(connection.attributes.email)
  const addresses = [...(nameIdFormat === NAME_ID.email ? [nameId] : []), ...stated]
  const email = checkEmail(addresses, connection.domains, checks)

  return {
    nameId,
    nameIdFormat,
    lasts: nameIdFormat !== NAME_ID.transient,
    email,
    name: displayName(names[0] ?? '') || undefined,
    attributes,
  }
}

/** One line, without what turns the direction of the text around it (UAX #9 §2), at most 200 characters. */
const displayName = (text: string) =>
  [
    ...text
      .replace(/[\u202a-\u202e\u2066-\u2069]/g, '')
      .replace(/\s+/g, ' ')
      .trim(),
  ]
    .slice(0, 200)
    .join('')

function readAttributes(assertion: Element, connection: SamlConnection, checks: Checks): Map<string, string[]> {
  const attributes = new Map<string, string[]>()
  const found = childrenNamed(assertion, NS.saml, 'AttributeStatement').flatMap((statement) =>
    childrenNamed(statement, NS.saml, 'Attribute'),
  )
  let isOne = true
  for (const attribute of found) {
    const name = attributeOf(attribute, 'Name') ?? ''
    const values = children(attribute).map((value) => textOf(value))
    const plain = values.filter((value) => value !== undefined)
    // Which of two addresses an account is linked by must not depend on who reads them.
    if (name === connection.attributes.email && (attributes.has(name) || values.length !== 1 || plain.length !== 1))
      isOne = false
    attributes.set(name, [...(attributes.get(name) ?? []), ...plain])
  }
  checks.note('attributes', isOne)
  return attributes
}

/** The one address, in lower case. ASCII is looked at first: what becomes ASCII in lower case (U+212A) is not it. */
function checkEmail(addresses: string[], domains: string[], checks: Checks): string {
  checks.note('email_missing', addresses.length > 0)
  const isAscii = addresses.every((address) => /^[\x21-\x7e]+$/.test(address))
  const [email = '', ...others] = new Set(addresses.map((address) => address.toLowerCase()))
  checks.note('email_form', addresses.length === 0 || (isAscii && [email, ...others].every(isEmail)))
  checks.note('email_conflict', others.length === 0)
  const domain = email.slice(email.lastIndexOf('@') + 1)
  const isTheirs = domains.includes(domain)
  if (addresses.length > 0)
    checks.note('email_domain', isTheirs, isTheirs ? undefined : email.includes('@') ? domain : 'not an address')
  return email
}
