/** From a verified response to facts that are used once. */
import { digest } from '../../kit/keyring.ts'
import type { FederationStore } from '../../kit/stores.ts'
import { CHECKS } from './checks.ts'
import type { SamlConnection } from './connection.ts'
import { type Verification, type VerifiedResponse, verifyResponse } from './verify.ts'

/** Seconds in which the browser must follow from where the response was posted to the page that uses it. */
const FOLLOWED_WITHIN = 5 * 60

/** What waits for the browser that asked, and which connection said so. */
export interface Facts extends VerifiedResponse {
  connectionId: string
  /** Of its trace. */
  reference?: string | undefined
}

/** What came of a response that was posted. */
export type Received = Verification & {
  /** What the facts are kept under: the SHA-256 of the RelayState. */
  handle: string
}

/**
 * Verifies a response and claims its request and its assertion. The facts wait in the store, under the handle, for the
 * interaction that asked ({@link FederationStore.takeFacts}); nothing of them is given to whoever posted.
 *
 * @throws {VerificationOverloaded} when too many wait
 */
export async function receiveResponse({
  form,
  connection,
  store,
  now,
  reference,
}: {
  form: Readonly<Record<string, unknown>>
  connection: SamlConnection
  store: FederationStore
  now: number
  reference?: string | undefined
}): Promise<Received> {
  const handle = digest(String(form['RelayState']))
  const findRequest = (relayState: string) => store.findRequest(digest(relayState), now)
  const verification = await verifyResponse({ form, connection, findRequest, now })
  const { verified, checks, signatures, found } = verification
  if (!verified) return { ...verification, handle }

  const facts: Facts = { ...verified, connectionId: connection.id, reference }
  const outcome = await store.acceptResponse({
    handle,
    issuer: verified.issuer,
    assertionId: verified.assertionId,
    usableUntil: verified.usableUntil,
    facts: JSON.stringify({ ...facts, attributes: [...facts.attributes] }),
    expiresAt: now + FOLLOWED_WITHIN,
    now,
  })
  if (outcome === 'accepted') return { ...verification, checks: [...checks, { code: 'replay', passed: true }], handle }
  const code = outcome === 'replayed' ? 'replay' : 'request_answered'
  return {
    refusal: { code, advice: CHECKS[code] },
    checks: [...checks, { code, passed: false }],
    signatures,
    found,
    handle,
  }
}

/** What {@link receiveResponse} kept, as {@link FederationStore.takeFacts} hands it out. */
export function readFacts(text: string): Facts {
  const facts = JSON.parse(text) as Omit<Facts, 'attributes'> & { attributes: [string, string[]][] }
  return { ...facts, attributes: new Map(facts.attributes) }
}
