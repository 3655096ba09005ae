/**
 * The small part of XML 1.0 that SAML messages are written in: elements, attributes, text. Everything else is refused
 * before a parser sees it, so that no two parsers can read one message differently.
 */
import { DOMParser } from '@xmldom/xmldom'
import { CheckFailed } from './checks.ts'

/** Counted before a document is built: what a parser may be asked to do. */
const MAX = {
  /** Characters. A field of 350 KB of Base64 holds less; canonical bytes may be longer than what was posted. */
  length: 400_000,
  depth: 16,
  /** Characters between `<` and `>`. */
  tag: 4096,
  /** In one tag. */
  attributes: 32,
  /** Characters that a canonical form writes as references: `>` of tags is among those counted. */
  escaped: 20_000,
  /** Characters. A canonical form repeats namespaces in many places. */
  namespace: 256,
}

/**
 * A response with hundreds of groups has a few hundred elements; every one costs a signature's check a tenth of a
 * millisecond. For every name of an element the parser looks through the whole text.
 */
const RESPONSE_LIMITS = { elements: 600, names: 100, attributes: 1200 }
/** Metadata lists every claim that a server knows, and nobody checks its signature. */
export const METADATA_LIMITS: typeof RESPONSE_LIMITS = { elements: 5000, names: 200, attributes: 10_000 }

const NAME = '[A-Za-z_][\\w.-]*'
const QNAME = `(?:${NAME}:)?${NAME}`
const SPACE = '[ \\t\\r\\n]'
const OPENS = new RegExp(`<(${QNAME})`, 'y')
const ATTRIBUTE = new RegExp(`${SPACE}+(${QNAME})${SPACE}*=${SPACE}*(?:"([^"<]*)"|'([^'<]*)')`, 'y')
const ENDS = new RegExp(`${SPACE}*(/?)>`, 'y')
const CLOSES = new RegExp(`</(${QNAME})${SPACE}*>`, 'y')
const DECLARATION = new RegExp(
  `^<\\?xml${SPACE}+version${SPACE}*=${SPACE}*(?:"1\\.0"|'1\\.0')` +
    `(?:${SPACE}+encoding${SPACE}*=${SPACE}*(?:"utf-8"|'utf-8'))?` +
    `(?:${SPACE}+standalone${SPACE}*=${SPACE}*(?:"(?:yes|no)"|'(?:yes|no)'))?${SPACE}*\\?>`,
  'i',
)
const REFERENCE = /&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([\da-fA-F]{1,6}));/y

/** XML 1.0 §2.2, without the control characters and line separators that parsers treat differently (XML 1.1 §2.11). */
const ILLEGAL = /[^\t\n\r\u0020-\u007e\u00a0-\u2027\u202a-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u

const fail = (code: 'markup' | 'characters' | 'references' | 'limits' | 'well_formed', detail: string) =>
  new CheckFailed(code, detail)

/** The codes of the checks that {@link parseStrict} makes. */
export const TEXT_CHECKS = ['limits', 'characters', 'markup', 'references', 'well_formed'] as const

/**
 * The document element of `xml`.
 *
 * @param limits by default those of a response
 * @throws {CheckFailed} with one of {@link TEXT_CHECKS}
 */
export function parseStrict(xml: string, limits = RESPONSE_LIMITS): Element {
  scan(xml, limits)
  const root = build(xml)
  checkNamespaces(root)
  return root
}

/** One pass over the text: it is well-formed but for namespaces, small enough, and holds nothing but elements, attributes and text. */
function scan(xml: string, limits: typeof RESPONSE_LIMITS): void {
  if (xml.length > MAX.length) throw fail('limits', `${xml.length} characters`)
  if ((xml.match(/[&>\r]/g)?.length ?? 0) > MAX.escaped)
    throw fail('limits', `more than ${MAX.escaped} of "&", ">" and CR`)
  if (ILLEGAL.test(xml)) throw fail('characters', 'a character that XML 1.0 does not have, or a control character')

  const open: string[] = []
  const known = new Set<string>()
  let elements = 0
  let attributes = 0
  let at = DECLARATION.exec(xml)?.[0].length ?? 0

  const next = (pattern: RegExp) => {
    pattern.lastIndex = at
    const match = pattern.exec(xml)
    if (match) at = pattern.lastIndex
    return match
  }
  const startTag = () => {
    const start = at
    const name = next(OPENS)?.[1]
    if (!name) throw fail('well_formed', 'a "<" that begins no tag')
    elements += 1
    if (elements > limits.elements) throw fail('limits', `more than ${limits.elements} elements`)
    known.add(name)
    if (known.size > limits.names) throw fail('limits', `more than ${limits.names} names of elements`)
    const names = new Set<string>()
    for (let match = next(ATTRIBUTE); match; match = next(ATTRIBUTE)) {
      const [, attribute = '', double, single] = match
      if (names.has(attribute)) throw fail('well_formed', `attribute ${attribute} twice`)
      names.add(attribute)
      attributes += 1
      if (names.size > MAX.attributes || attributes > limits.attributes) throw fail('limits', 'too many attributes')
      if (at - start > MAX.tag) throw fail('limits', `a tag of more than ${MAX.tag} characters`)
      const value = double ?? single ?? ''
      if (/^xmlns(?::|$)/.test(attribute) && value.length > MAX.namespace)
        throw fail('limits', `a namespace of more than ${MAX.namespace} characters`)
      checkReferences(value)
    }
    const end = next(ENDS)
    if (!end) throw fail('well_formed', `the tag ${name} does not end`)
    if (at - start > MAX.tag) throw fail('limits', `a tag of more than ${MAX.tag} characters`)
    if (open.length >= MAX.depth) throw fail('limits', `deeper than ${MAX.depth} elements`)
    if (end[1] === '') open.push(name)
  }

  while (at < xml.length) {
    const tag = xml.indexOf('<', at)
    const text = xml.slice(at, tag === -1 ? undefined : tag)
    if (open.length === 0 && /[^ \t\r\n]/.test(text)) throw fail('well_formed', 'text outside of the document element')
    if (text.includes(']]>')) throw fail('well_formed', '"]]>" in text')
    checkReferences(text)
    if (tag === -1) break
    at = tag

    const kind = xml[at + 1]
    if (kind === '!') throw fail('markup', 'a DOCTYPE, comment or CDATA section')
    if (kind === '?') throw fail('markup', 'a processing instruction, or an XML declaration that is not 1.0 in UTF-8')
    if (kind === '/') {
      const name = next(CLOSES)?.[1]
      if (name === undefined || open.pop() !== name) throw fail('well_formed', 'a closing tag that fits no opening tag')
    } else {
      if (open.length === 0 && elements > 0) throw fail('well_formed', 'more than one document element')
      startTag()
    }
  }
  if (open.length > 0 || elements === 0) throw fail('well_formed', 'no complete document element')
}

/** The five entities and references to legal characters, in their one form. */
function checkReferences(text: string): void {
  for (let at = text.indexOf('&'); at !== -1; at = text.indexOf('&', at + 1)) {
    REFERENCE.lastIndex = at
    const match = REFERENCE.exec(text)
    if (!match) throw fail('references', 'an entity that XML does not predefine')
    const [, , decimal, hex] = match
    if (decimal === undefined && hex === undefined) continue
    const point = decimal === undefined ? Number.parseInt(hex!, 16) : Number(decimal)
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff) || ILLEGAL.test(String.fromCodePoint(point)))
      throw fail('references', 'a reference to an illegal character')
  }
}

function build(xml: string): Element {
  // What the parser says quotes the message, so it is not passed on.
  const refuse = (): never => {
    throw fail('well_formed', 'the parser does not take it')
  }
  try {
    const parser = new DOMParser({ errorHandler: { warning: refuse, error: refuse, fatalError: refuse } })
    return parser.parseFromString(xml, 'text/xml').documentElement ?? refuse()
  } catch {
    return refuse()
  }
}

/** Namespaces in XML 1.0: every prefix is declared, none of the reserved ones again, no attribute twice by its namespace. */
function checkNamespaces(root: Element): void {
  for (const element of all(root)) {
    if (element.prefix && !element.namespaceURI) throw fail('well_formed', `prefix ${element.prefix} is not declared`)
    if (element.prefix === 'xmlns') throw fail('well_formed', 'prefix xmlns on an element')
    const names = new Set<string>()
    for (const attribute of Array.from(element.attributes)) {
      const { prefix, localName, namespaceURI, name, value } = attribute
      if (prefix === 'xmlns' && (value === '' || localName === 'xml' || localName === 'xmlns'))
        throw fail('well_formed', `${name} declares nothing that may be declared`)
      if (prefix && !namespaceURI) throw fail('well_formed', `prefix ${prefix} is not declared`)
      const expanded = `${namespaceURI ?? ''} ${localName}`
      if (prefix && names.has(expanded)) throw fail('well_formed', `attribute ${localName} twice in one namespace`)
      if (prefix) names.add(expanded)
    }
  }
}

/** This element and all below it, in the document's order. */
export function all(root: Element): Element[] {
  const found: Element[] = []
  const stack = [root]
  for (let element = stack.pop(); element; element = stack.pop()) {
    found.push(element)
    stack.push(...children(element).reverse())
  }
  return found
}

/** The elements directly below. */
export const children = (element: Element): Element[] =>
  Array.from(element.childNodes).filter((node): node is Element => node.nodeType === node.ELEMENT_NODE)

/** Whether it has this expanded name. */
export const is = (element: Element, namespace: string, name: string): boolean =>
  element.namespaceURI === namespace && element.localName === name

/** The elements directly below with this expanded name. */
export const childrenNamed = (element: Element, namespace: string, name: string): Element[] =>
  children(element).filter((child) => is(child, namespace, name))

/** The text of an element that has nothing but text; `undefined` when it has elements too. */
export const textOf = (element: Element): string | undefined =>
  children(element).length > 0 ? undefined : (element.textContent ?? '')

/** An attribute without a namespace, or `undefined` when it is not there. */
export const attributeOf = (element: Element, name: string): string | undefined =>
  element.hasAttribute(name) ? (element.getAttribute(name) ?? undefined) : undefined

/** True when there is no text but white space between the elements directly below. */
export const hasOnlyElements = (element: Element): boolean =>
  Array.from(element.childNodes).every(
    (node) => node.nodeType === node.ELEMENT_NODE || !/[^ \t\r\n]/.test(node.nodeValue ?? ''),
  )

/** The bytes of Base64 text that may be broken into lines, or `undefined` when it is not in its one spelling (RFC 4648 §3.5). */
export function bytesOf(base64: string): Buffer | undefined {
  const text = base64.replace(/[ \t\r\n]+/g, '')
  const bytes = Buffer.from(text, 'base64')
  return text !== '' && bytes.toString('base64') === text ? bytes : undefined
}

/** Text for an attribute or an element. Line breaks and tabs as references, so that a parser keeps them in both. */
export const escapeXml = (text: string): string =>
  text.replace(/[&<>"'\t\n\r]/g, (character) => `&#${character.codePointAt(0)};`)
