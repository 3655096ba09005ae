/** The keys that sign tokens. */
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
import type { SigningKey, SigningKeyStore } from './stores.ts'

/**
 * A new ES256 key: private JWK with `use`, `alg` and the RFC 7638 thumbprint as `kid`.
 *
 * @param now seconds since 1970
 */
export async function newSigningKey(now: number): Promise<Omit<SigningKey, 'state'>> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  const jwk = await exportJWK(privateKey)
  const kid = await calculateJwkThumbprint(jwk, 'sha256')
  return { kid, privateJwk: JSON.stringify({ ...jwk, kid, use: 'sig', alg: 'ES256' }), createdAt: now }
}

/** Makes the first key where there is none. Several processes that start at once end with one key. */
export async function ensureSigningKey(store: SigningKeyStore, now: number): Promise<void> {
  const keys = await store.signingKeys()
  if (keys.length === 0) await store.addSigningKey(await newSigningKey(now), { ifNone: true })
}

/**
 * Adds a new key that signs from now on. The former ones stay published, so that issued tokens still verify.
 *
 * @returns the `kid` of the new key
 */
export async function rotateSigningKey(store: SigningKeyStore, now: number): Promise<string> {
  const key = await newSigningKey(now)
  await store.addSigningKey(key)
  return key.kid
}
