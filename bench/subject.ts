/** What both servers are given alike: the client, the people, the way they are asked. */
import { createHash } from 'node:crypto'

export const PASSWORD = 'correct horse battery staple'
/** argon2id, the floor of OWASP Password Storage. */
export const ARGON2 = { memoryKiB: 19456, passes: 2, parallelism: 1 }
/** One secret for every authenticator app: the code of a step is computed once. */
export const TOTP_SECRET = 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'

export const CLIENT_ID = 'bench'
export const CLIENT_SECRET = 'bench-secret-bench-secret-bench-secret'
export const CALLBACK = 'https://rp.example/callback'
/** The API that the client gets opaque tokens for by itself. */
export const API = 'https://api.example'

const VERIFIER = 'v'.repeat(64)
export const PKCE = {
  verifier: VERIFIER,
  challenge: createHash('sha256').update(VERIFIER).digest('base64url'),
}

/** People; each signs in once per time step at most, because a code opens one door. */
export const PEOPLE = Array.from({ length: 600 }, (_, index) => ({
  id: `person-${index}`,
  email: `person-${index}@acme.example`,
}))
