/** Where things stand in a response: looked at before any signature is trusted, so that a signature can only mean one thing. */
import { type CheckCode, CheckFailed } from './checks.ts'
import { NS } from './connection.ts'
import { all, attributeOf, bytesOf, children, childrenNamed, hasOnlyElements, is, textOf } from './strict-xml.ts'

/** A signature and the element it stands in, which is the one it must sign. */
export interface PlacedSignature {
  element: Element
  /** The `ID` of the element it stands in. */
  signs: string
}

/** The parts of a response as it was posted. */
export interface Shape {
  /** Success is told by {@link checkStatus}. */
  response: Element
  responseSignature: PlacedSignature | undefined
  assertion: Element | undefined
  assertionSignature: PlacedSignature | undefined
  encrypted: Element | undefined
}

/** The codes of the checks of {@link readResponse}. */
export const SHAPE_CHECKS = [
  'root',
  'version',
  'status',
  'namespace',
  'assertions',
  'ids',
  'signature_place',
  'signature_form',
  'signature_algorithm',
  'signature_transforms',
  'signature_reference',
  'signature_missing',
] as const satisfies CheckCode[]

/** Names that mean something to a reader of SAML, and the namespace they mean it in: others look at local names only. */
const MEANINGFUL: Record<string, string> = {
  Response: NS.samlp,
  Status: NS.samlp,
  StatusCode: NS.samlp,
  Assertion: NS.saml,
  EncryptedAssertion: NS.saml,
  Issuer: NS.saml,
  Subject: NS.saml,
  NameID: NS.saml,
  SubjectConfirmation: NS.saml,
  SubjectConfirmationData: NS.saml,
  Conditions: NS.saml,
  AudienceRestriction: NS.saml,
  Audience: NS.saml,
  AuthnStatement: NS.saml,
  AttributeStatement: NS.saml,
  Attribute: NS.saml,
  Signature: NS.ds,
  SignedInfo: NS.ds,
  Reference: NS.ds,
  SignatureValue: NS.ds,
  EncryptedData: NS.xenc,
}

const SUCCESS = 'urn:oasis:names:tc:SAML:2.0:status:Success'

/** What a status says, the reason behind it too: for people. */
const statusText = (status: Element) =>
  all(status)
    .filter((element) => is(element, NS.samlp, 'StatusCode'))
    .map((element) => attributeOf(element, 'Value')?.replace(/^urn:oasis:names:tc:SAML:2.0:status:/, ''))
    .join(' / ')

/**
 * One Status, whose top code is Success (SAML Core §3.2.2.2).
 * @throws {CheckFailed} `status`
 */
export function checkStatus(response: Element): void {
  const [status, another] = childrenNamed(response, NS.samlp, 'Status')
  if (!status || another) throw new CheckFailed('status', 'not one Status')
  const [code, second] = childrenNamed(status, NS.samlp, 'StatusCode')
  if (!code || second || attributeOf(code, 'Value') !== SUCCESS) throw new CheckFailed('status', statusText(status))
}

/**
 * The parts of a response.
 * @throws {CheckFailed} with one of {@link SHAPE_CHECKS}
 */
export function readResponse(response: Element): Shape {
  if (!is(response, NS.samlp, 'Response')) throw new CheckFailed('root', response.nodeName)
  checkVersion(response)
  checkStatus(response)
  checkNames(response)

  const elements = all(response)
  const found = elements.filter(
    (element) => is(element, NS.saml, 'Assertion') || is(element, NS.saml, 'EncryptedAssertion'),
  )
  const [only] = found
  if (!only || found.length > 1 || only.parentNode !== response)
    throw new CheckFailed('assertions', `${found.length} in the message`)
  const assertion = is(only, NS.saml, 'Assertion') ? only : undefined
  if (assertion) checkVersion(assertion)
  checkIds(elements)

  const signed = [response, ...(assertion ? [assertion] : [])]
  checkSignaturePlaces(elements, signed)
  const responseSignature = readSignature(response)
  const assertionSignature = assertion && readSignature(assertion)
  if (!responseSignature && assertion && !assertionSignature) throw new CheckFailed('signature_missing')
  return { response, responseSignature, assertion, assertionSignature, encrypted: assertion ? undefined : only }
}

/**
 * An assertion that came out of an encrypted one, and its signature, if it has one.
 * @throws {CheckFailed} with one of {@link SHAPE_CHECKS}
 */
export function readAssertion(assertion: Element): PlacedSignature | undefined {
  const elements = all(assertion)
  const nested = elements.filter(
    (element) => is(element, NS.saml, 'Assertion') || is(element, NS.saml, 'EncryptedAssertion'),
  )
  if (!is(assertion, NS.saml, 'Assertion') || nested.length !== 1)
    throw new CheckFailed('encryption_form', `a ${assertion.nodeName} was encrypted`)
  checkVersion(assertion)
  checkNames(assertion)
  checkIds(elements)
  checkSignaturePlaces(elements, [assertion])
  return readSignature(assertion)
}

function checkVersion(element: Element): void {
  const version = attributeOf(element, 'Version')
  if (version !== '2.0') throw new CheckFailed('version', `${element.localName} ${version ?? 'without a version'}`)
}

function checkNames(root: Element): void {
  for (const element of all(root)) {
    const namespace = MEANINGFUL[element.localName]
    if (namespace !== undefined && Object.hasOwn(MEANINGFUL, element.localName) && element.namespaceURI !== namespace)
      throw new CheckFailed('namespace', element.nodeName)
    if (element.localName === 'Response' && element !== root) throw new CheckFailed('root', 'a Response in a Response')
  }
}

/** SAML's `ID`, and what others may take for one: each value once in the whole message. */
function checkIds(elements: Element[]): void {
  const seen = new Set<string>()
  for (const element of elements) {
    const ofSaml = element.namespaceURI === NS.saml || element.namespaceURI === NS.samlp
    const ids = Array.from(element.attributes).filter(({ localName }) => localName.toLowerCase() === 'id')
    if (ids.length > 1) throw new CheckFailed('ids', `${element.nodeName} has several`)
    for (const { name, value } of ids) {
      if (ofSaml && name !== 'ID') throw new CheckFailed('ids', `${name} on ${element.nodeName}`)
      if (!/^[A-Za-z_][\w.-]{0,255}$/.test(value))
        throw new CheckFailed('ids', `${name} of ${element.nodeName} is no NCName`)
      if (seen.has(value)) throw new CheckFailed('ids', 'one value twice')
      seen.add(value)
    }
    const needsId = is(element, NS.samlp, 'Response') || is(element, NS.saml, 'Assertion')
    if (needsId && ids.length === 0) throw new CheckFailed('ids', `${element.nodeName} has none`)
  }
}

function checkSignaturePlaces(elements: Element[], signed: Element[]): void {
  const signatures = elements.filter((element) => is(element, NS.ds, 'Signature'))
  for (const signature of signatures)
    if (!signed.includes(signature.parentNode as Element))
      throw new CheckFailed('signature_place', `a signature in ${signature.parentNode?.nodeName}`)
  for (const element of signed)
    if (childrenNamed(element, NS.ds, 'Signature').length > 1)
      throw new CheckFailed('signature_place', `several in ${element.nodeName}`)
}

const EXCLUSIVE = 'http://www.w3.org/2001/10/xml-exc-c14n#'
const ENVELOPED = 'http://www.w3.org/2000/09/xmldsig#enveloped-signature'

/** Signature algorithms that are accepted, with the name of their hash in OpenSSL (RFC 4051 §2.3). */
export const SIGNATURE_ALGORITHMS: ReadonlyMap<string, string> = new Map([
  ['http://www.w3.org/2001/04/xmldsig-more#rsa-sha256', 'sha256'],
  ['http://www.w3.org/2001/04/xmldsig-more#rsa-sha512', 'sha512'],
])
/** Digest algorithms that are accepted. */
export const DIGEST_ALGORITHMS = ['http://www.w3.org/2001/04/xmlenc#sha256', 'http://www.w3.org/2001/04/xmlenc#sha512']

/** The signature that stands directly in an element: it has the one form that is accepted, and refers to that element. */
function readSignature(parent: Element): PlacedSignature | undefined {
  const [signature] = childrenNamed(parent, NS.ds, 'Signature')
  if (!signature) return undefined
  const signs = attributeOf(parent, 'ID')!

  const [info, value, keyInfo] = only(signature, ['SignedInfo', 'SignatureValue', 'KeyInfo?'])
  const [canonicalization, method, reference] = only(info!, ['CanonicalizationMethod', 'SignatureMethod', 'Reference'])
  if (keyInfo && children(keyInfo).length > 8) throw new CheckFailed('signature_form', 'KeyInfo')
  const [transforms, digestMethod, digest] = only(reference!, ['Transforms', 'DigestMethod', 'DigestValue'])
  const [enveloped, exclusive] = only(transforms!, ['Transform', 'Transform'], 'signature_transforms')

  for (const [element, ...allowed] of [
    [signature, 'Id'],
    [info!, 'Id'],
    [value!, 'Id'],
    [canonicalization!, 'Algorithm'],
    [method!, 'Algorithm'],
    [reference!, 'URI'],
    [transforms!],
    [enveloped!, 'Algorithm'],
    [exclusive!, 'Algorithm'],
    [digestMethod!, 'Algorithm'],
    [digest!],
  ] as [Element, ...string[]][])
    for (const { name } of Array.from(element.attributes))
      if (!allowed.includes(name) && !/^xmlns(:|$)/.test(name))
        throw new CheckFailed('signature_form', `attribute ${name} on ${element.nodeName}`)

  for (const element of [canonicalization!, method!, digestMethod!])
    if (children(element).length > 0) throw new CheckFailed('signature_form', `parameters of ${element.nodeName}`)
  if (children(enveloped!).length > 0) throw new CheckFailed('signature_transforms', 'parameters')
  for (const element of [value!, digest!])
    if (!bytesOf(textOf(element) ?? '')) throw new CheckFailed('signature_form', `${element.nodeName} is not Base64`)

  const algorithm = (element: Element) => attributeOf(element, 'Algorithm') ?? ''
  if (algorithm(canonicalization!) !== EXCLUSIVE)
    throw new CheckFailed('signature_transforms', algorithm(canonicalization!))
  if (algorithm(enveloped!) !== ENVELOPED || algorithm(exclusive!) !== EXCLUSIVE)
    throw new CheckFailed('signature_transforms', `${algorithm(enveloped!)} and ${algorithm(exclusive!)}`)
  checkPrefixList(exclusive!)
  if (!SIGNATURE_ALGORITHMS.has(algorithm(method!))) throw new CheckFailed('signature_algorithm', algorithm(method!))
  if (!DIGEST_ALGORITHMS.includes(algorithm(digestMethod!)))
    throw new CheckFailed('signature_algorithm', algorithm(digestMethod!))
  if (attributeOf(reference!, 'URI') !== `#${signs}`) throw new CheckFailed('signature_reference', 'another element')
  return { element: signature, signs }
}

/** Exactly these elements of XML Signature, in this order; a name with `?` may be missing at the end. */
function only(parent: Element, names: string[], code: CheckCode = 'signature_form'): (Element | undefined)[] {
  const found = children(parent)
  const fits = (name: string, index: number) => {
    const element = found[index]
    return element ? is(element, NS.ds, name.replace('?', '')) : name.endsWith('?')
  }
  if (found.length > names.length || !names.every(fits) || !hasOnlyElements(parent))
    throw new CheckFailed(
      code,
      `${parent.nodeName} holds ${found
        .map(({ nodeName }) => nodeName)
        .join(', ')
        .slice(0, 120)}`,
    )
  return found
}

/** Prefixes that are canonicalized though only values name them (Exclusive XML Canonicalization §3): more is signed, never less. */
function checkPrefixList(transform: Element): void {
  const found = children(transform)
  const [list] = found
  if (!list) return
  const prefixes = attributeOf(list, 'PrefixList')?.split(' ') ?? []
  const fits = is(list, EXCLUSIVE, 'InclusiveNamespaces') && children(list).length === 0 && found.length === 1
  if (!fits || prefixes.length > 16 || !prefixes.every((prefix) => /^(#default|[A-Za-z_][\w.-]{0,63})$/.test(prefix)))
    throw new CheckFailed('signature_transforms', 'InclusiveNamespaces')
}
