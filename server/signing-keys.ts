/**
 * The keys that sign tokens, and how one follows the other without a token that does not verify: a key is published before it
 * signs, and stays published after it has signed.
 */
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose'
import type { JWK, JWKS } from 'oidc-provider'
import type { AuditStore } from '../interactions/index.ts'
import type { Config } from './config.ts'
import type { NewSigningKey, SigningKey, SigningKeyStore } from './stores.ts'

const HOUR = 60 * 60

/** Seconds after which a running server has read the keys again. */
export const KEYS_READ_SECONDS = 60
/** Seconds that a key is published before it signs: apps that keep the key set for a day know it by then. */
export const PUBLISHED_AHEAD_SECONDS = 24 * HOUR
/** The same in a hurry: every server publishes it by then, and an app that does not know a key asks again. */
export const PUBLISHED_AHEAD_SECONDS_NOW = 2 * KEYS_READ_SECONDS

/**
 * Seconds that a retired key stays published: longer than anything that it signed is used. ID and access tokens live for
 * minutes; apps hold an ID token as `id_token_hint` for as long as their session or refresh token lives.
 */
export const retiredKeysKept = (config: Config): number =>
  HOUR +
  Math.max(
    config.SALLYPORT_ID_TOKEN_TTL_SECONDS,
    config.SALLYPORT_ACCESS_TOKEN_TTL_SECONDS,
    config.SALLYPORT_SESSION_ABSOLUTE_SECONDS,
    config.SALLYPORT_REFRESH_TOKEN_TTL_SECONDS,
  )

/** ES256 signs. RS256 is what every provider must offer (OIDC Core §15.1, Discovery §3): for apps that know nothing else. */
const ALGS = ['ES256', 'RS256'] as const

/**
 * A new key: a pair for each algorithm, which turn together. Its name is that of the ES256 pair.
 *
 * @param now seconds since 1970
 */
export async function newSigningKey(now: number): Promise<NewSigningKey> {
  const keys = await Promise.all(ALGS.map(newJwk))
  return { kid: keys[0]!.kid, privateJwk: JSON.stringify({ keys }), createdAt: now }
}

/** A private JWK with `use`, `alg` and the RFC 7638 thumbprint as `kid`. */
async function newJwk(alg: (typeof ALGS)[number]) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true })
  const jwk = await exportJWK(privateKey)
  return { ...jwk, kid: await calculateJwkThumbprint(jwk, 'sha256'), use: 'sig', alg }
}

/** The private JWKs of a key, ES256 first. */
export function jwksOf({ privateJwk }: Pick<SigningKey, 'privateJwk'>): JWKS['keys'] {
  const stored = JSON.parse(privateJwk) as JWK | JWKS
  return 'keys' in stored ? stored.keys : [stored]
}

/** Makes the first key where there is none. Several processes that start at once end with one key. */
export async function ensureSigningKey(store: SigningKeyStore, now: number): Promise<void> {
  const keys = await store.signingKeys()
  if (keys.length === 0) await store.addFirstSigningKey(await newSigningKey(now))
}

/** What {@link turnSigningKeys} stands on. */
export interface TurningParts {
  signingKeys: SigningKeyStore
  audit: AuditStore
  /** Seconds, as {@link retiredKeysKept} says. */
  kept: number
  now: number
  /** Who does it, for the audit. */
  actor: string
}

/**
 * Does what is due: the next key signs when its time has come, a retired key goes when nothing needs it any more. Any number
 * of processes may do it at once.
 *
 * @returns the keys as they are now
 */
export async function turnSigningKeys(parts: TurningParts): Promise<SigningKey[]> {
  const { signingKeys, kept, now } = parts
  const keys = await signingKeys.signingKeys()
  const due = keys.filter(
    ({ state, activatesAt, retiredAt }) =>
      (state === 'next' && activatesAt !== undefined && activatesAt <= now) ||
      (state === 'retired' && retiredAt !== undefined && retiredAt + kept <= now),
  )
  for (const { kid, state } of due) await (state === 'next' ? activate(parts, kid) : remove(parts, kid))
  return due.length === 0 ? keys : signingKeys.signingKeys()
}

/** Lets the next key sign. @returns false when another process was first */
export async function activate({ signingKeys, audit, now, actor }: TurningParts, kid: string): Promise<boolean> {
  const done = await signingKeys.activateSigningKey(kid, now)
  if (done)
    await audit.append({ event: 'keys.activated_signing', outcome: 'success', at: now, actor, details: { kid } })
  return done
}

/** Removes a key that does not sign: what it signed verifies no more. @returns false when another process was first */
export async function remove({ signingKeys, audit, now, actor }: TurningParts, kid: string): Promise<boolean> {
  const done = await signingKeys.removeSigningKey(kid)
  if (done) await audit.append({ event: 'keys.removed_signing', outcome: 'success', at: now, actor, details: { kid } })
  return done
}
