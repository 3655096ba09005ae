/** What a browser posts to us (SAML Bindings §3.5): the form, and the text inside. */
import { CheckFailed } from './checks.ts'
import { bytesOf } from './strict-xml.ts'

/** Characters: 350 KB of Base64. */
const MAX_FIELD = 350 * 1024
/** SAML Bindings §3.5.3. Longer ones are none of ours. */
const MAX_RELAY_STATE = 80
/** Fields of other bindings: a form that has them means something else. */
const FOREIGN = ['SAMLRequest', 'SAMLart', 'SAMLEncoding', 'SigAlg', 'Signature', 'KeyInfo']

/** The codes of the checks of {@link readForm}. */
export const TRANSPORT_CHECKS = ['form', 'size', 'base64', 'utf8'] as const

/**
 * The text of the response, and the RelayState if there is one that could be ours.
 * @throws {CheckFailed} with one of {@link TRANSPORT_CHECKS}
 */
export function readForm(form: Readonly<Record<string, unknown>>): { xml: string; relayState: string | undefined } {
  const { SAMLResponse: field, RelayState: relayState } = form
  if (typeof field !== 'string' || field === '') throw new CheckFailed('form', 'not one SAMLResponse')
  if (relayState !== undefined && typeof relayState !== 'string') throw new CheckFailed('form', 'not one RelayState')
  const foreign = FOREIGN.find((name) => Object.hasOwn(form, name))
  if (foreign) throw new CheckFailed('form', `the field ${foreign} of another binding`)
  if (field.length > MAX_FIELD) throw new CheckFailed('size', `${field.length} characters`)
  // Lines may be broken (RFC 2045 §6.8); a space is a plus sign that somebody forgot to encode.
  const bytes = /[ \t]/.test(field) ? undefined : bytesOf(field)
  if (!bytes) throw new CheckFailed('base64')
  const isOurs = relayState !== undefined && relayState !== '' && relayState.length <= MAX_RELAY_STATE
  return { xml: textOf(bytes), relayState: isOurs ? relayState : undefined }
}

function textOf(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new CheckFailed('utf8')
  }
}
