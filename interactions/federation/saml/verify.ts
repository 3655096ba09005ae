/** The verification of a response: what was posted, who signed it, whether it answers our request, whom it is about. */
import { CHECKS, type Check, type CheckCode, CheckFailed, Checks } from './checks.ts'
import type { PendingRequest, SamlConnection } from './connection.ts'
import { readFound, withDecrypted } from './found.ts'
import { readIdentity } from './identity.ts'
import { readProfile } from './profile.ts'
import { oneAtATime, yieldTurn } from './queue.ts'
import type { Authentication, Found, Identity } from './said.ts'
import { agree, SECOND_GATE_CHECKS } from './samlify.ts'
import { parseStrict, TEXT_CHECKS } from './strict-xml.ts'
import { readForm, TRANSPORT_CHECKS } from './transport.ts'
import { readTrusted } from './trust.ts'

/** What a verified response says. */
export interface VerifiedResponse extends Authentication, Identity {}

/** What came of a response. */
export type Verification = {
  /** Every check that was made, in its order, for a trace and the doctor. Some cannot be made once others failed. */
  checks: Check[]
  /** Which elements were signed, and by which certificate (its place in the connection's list). */
  signatures: { element: 'Response' | 'Assertion'; certificate: number }[]
  /** What the message says, for an explanation. Not there when it could not be read at all. */
  found: Found | undefined
} & ({ verified: VerifiedResponse; refusal?: undefined } | { verified?: undefined; refusal: Refusal })

/** Why a response was refused. */
export interface Refusal {
  /** The first check that failed. */
  code: CheckCode
  /** What an administrator of the identity provider can do. Holds nothing of the message. */
  advice: string
  detail?: string | undefined
}

/** A response to verify. */
export interface PostedResponse {
  /** The fields of the form, as a body parser gives them. */
  form: Readonly<Record<string, unknown>>
  /** The connection whose address it was posted to. */
  connection: SamlConnection
  /** Looks up the request that waits under a RelayState, answered ones too. */
  findRequest: (relayState: string) => Promise<PendingRequest | undefined>
  /** Seconds since 1970. */
  now: number
}

/** Of each a hundredth of a second or two: who waits longer has left. */
const MAY_WAIT = 200

const inTurn = oneAtATime(MAY_WAIT)

/**
 * Verifies a response: what was posted, its signatures, the Web Browser SSO profile, whom it is about, and all of it again
 * with samlify. Reads only: who uses the answer claims request and assertion in one step
 * (`FederationStore.acceptResponse`).
 *
 * @throws {VerificationOverloaded} when too many wait
 */
export const verifyResponse = (posted: PostedResponse): Promise<Verification> =>
  inTurn(async () => {
    const checks = new Checks()
    const signatures: Verification['signatures'] = []
    const seen: { found: Found | undefined } = { found: undefined }
    const refused = ({ code, detail }: { code: CheckCode; detail?: string | undefined }): Verification => ({
      refusal: { code, advice: CHECKS[code], detail },
      checks: checks.made,
      signatures,
      ...seen,
    })
    try {
      const verified = await verify(posted, checks, signatures, seen)
      return checks.failed ? refused(checks.failed) : { verified, checks: checks.made, signatures, ...seen }
    } catch (error) {
      if (!(error instanceof CheckFailed)) throw error
      checks.note(error.code, false, error.detail)
      return refused(checks.failed!)
    }
  })

async function verify(
  { form, connection, findRequest, now }: PostedResponse,
  checks: Checks,
  signatures: Verification['signatures'],
  seen: { found: Found | undefined },
): Promise<VerifiedResponse> {
  const { xml, relayState } = checks.all(TRANSPORT_CHECKS, () => readForm(form))
  const root = checks.all(TEXT_CHECKS, () => parseStrict(xml))
  const found = readFound(root)
  seen.found = found
  await yieldTurn()

  const trusted = readTrusted(xml, root, connection, now, checks)
  for (const { element, verified } of trusted.signers)
    signatures.push({ element, certificate: connection.idp.certificates.indexOf(verified.certificate) })
  if (trusted.decrypted) seen.found = withDecrypted(found, trusted.decrypted.element)
  await yieldTurn()

  const request = relayState === undefined ? undefined : await findRequest(relayState)
  const authentication = readProfile(trusted, { connection, request, now }, checks)
  const identity = readIdentity(trusted.assertion, connection, checks)
  const verified = { ...authentication, ...identity }
  if (checks.failed) return verified
  await yieldTurn()

  const [signer] = trusted.signers
  const reading = {
    posted: xml,
    decrypted: trusted.decrypted,
    certificate: signer!.verified.certificate,
    nameId: identity.nameId,
  }
  agree(reading, connection)
  for (const code of SECOND_GATE_CHECKS) checks.note(code, true)
  return verified
}
