/** What a message says, whether it is to be believed or not: for people who look for a mistake, never to decide by. */
import { NS } from './connection.ts'
import type { Found, FoundAssertion } from './said.ts'
import { all, attributeOf, childrenNamed, is, textOf } from './strict-xml.ts'

/** @param root of a message that the strict parser has read; it need not be a response */
export function readFound(root: Element): Found {
  const elements = all(root)
  const assertion = elements.find((element) => is(element, NS.saml, 'Assertion'))
  const encrypted = elements.find((element) => is(element, NS.saml, 'EncryptedAssertion'))
  return {
    response: {
      issuer: textIn(root, 'Issuer'),
      destination: attributeOf(root, 'Destination'),
      inResponseTo: attributeOf(root, 'InResponseTo'),
      issueInstant: attributeOf(root, 'IssueInstant'),
    },
    signatures: signaturesIn(elements),
    encryption: encrypted && {
      content: algorithmOf(encrypted, 'EncryptionMethod', 'EncryptedData'),
      key: algorithmOf(encrypted, 'EncryptionMethod', 'EncryptedKey'),
    },
    assertion: assertion && readAssertion(assertion),
  }
}

/** The same, with what was inside of an encrypted assertion. */
export const withDecrypted = (found: Found, assertion: Element): Found => ({
  ...found,
  signatures: [...found.signatures, ...signaturesIn(all(assertion))],
  assertion: readAssertion(assertion),
})

function readAssertion(assertion: Element): FoundAssertion {
  const inside = all(assertion)
  const named = (name: string) => inside.filter((element) => is(element, NS.saml, name))
  const attribute = (name: string, key: string) =>
    named(name)
      .map((element) => attributeOf(element, key))
      .find((value) => value !== undefined)
  const [nameId] = named('NameID')
  return {
    issuer: textIn(assertion, 'Issuer'),
    issueInstant: attributeOf(assertion, 'IssueInstant'),
    nameId: nameId && textOf(nameId),
    nameIdFormat: nameId && attributeOf(nameId, 'Format'),
    recipients: named('SubjectConfirmationData').flatMap((data) => attributeOf(data, 'Recipient') ?? []),
    confirmedUntil: attribute('SubjectConfirmationData', 'NotOnOrAfter'),
    audiences: named('Audience').flatMap((element) => textOf(element) ?? []),
    notBefore: attribute('Conditions', 'NotBefore'),
    notOnOrAfter: attribute('Conditions', 'NotOnOrAfter'),
    authnInstant: attribute('AuthnStatement', 'AuthnInstant'),
    sessionNotOnOrAfter: attribute('AuthnStatement', 'SessionNotOnOrAfter'),
    authnContexts: named('AuthnContextClassRef').flatMap((element) => textOf(element) ?? []),
    attributes: named('Attribute').map((element) => ({
      name: attributeOf(element, 'Name') ?? '',
      values: childrenNamed(element, NS.saml, 'AttributeValue').flatMap((value) => textOf(value) ?? []),
    })),
  }
}

const textIn = (parent: Element, name: string): string | undefined => {
  const [element] = childrenNamed(parent, NS.saml, name)
  return element && textOf(element)
}

const signaturesIn = (elements: Element[]) =>
  elements
    .filter((element) => is(element, NS.ds, 'Signature'))
    .slice(0, 8)
    .map((signature) => ({
      element: (signature.parentNode as Element).localName ?? '',
      method: algorithmOf(signature, 'SignatureMethod'),
      digest: algorithmOf(signature, 'DigestMethod'),
    }))

/** The Algorithm of the first element of this name, directly in the first one of `parent` where that is given. */
function algorithmOf(root: Element, name: string, parent?: string): string {
  const element = all(root).find(
    ({ localName, parentNode }) =>
      localName === name && (parent === undefined || (parentNode as Element).localName === parent),
  )
  return (element && attributeOf(element, 'Algorithm')) ?? ''
}
