/**
 * SAML 2.0, service provider's side: requests, metadata, and the verification of responses.
 *
 * Loads samlify and the schemas: import it with `import()`, when somebody signs in by SAML.
 */
export { type AuthnRequest, type AuthnRequestOptions, authnRequest } from './authn-request.ts'
export { newSpKey, selfSigned } from './certificate.ts'
export { CHECKS, type Check, type CheckCode } from './checks.ts'
export * from './connection.ts'
export { addressed, type ExplainedFile, type Explanation, explain, explainFile, type TimeName } from './explain.ts'
export {
  checkLocation,
  type IdpMetadata,
  MetadataError,
  type MetadataOptions,
  readCertificate,
  readIdpMetadata,
  spMetadata,
} from './metadata.ts'
export { VerificationOverloaded } from './queue.ts'
export { type Facts, type Received, readFacts, receiveResponse } from './receive.ts'
export type { Authentication, Identity } from './said.ts'
export { VENDORS, type Vendor, vendorOf } from './vendors.ts'
export {
  type PostedResponse,
  type Refusal,
  type Verification,
  type VerifiedResponse,
  verifyResponse,
} from './verify.ts'
