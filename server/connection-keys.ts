/** Our key pairs of a connection: one, or two while one takes the other's place. */
import { saml } from '../interactions/index.ts'
import { audited } from './audited.ts'
import { fingerprintOf } from './certificate-expiry.ts'
import type { House } from './open.ts'
import { type Connection, StoreConflict } from './stores.ts'

/**
 * `new`: a new pair signs at once. `publish`: a new pair stands behind the present one. `sign`: the other one signs.
 * `finish`: the one that does not sign goes.
 */
export type RotationStep = 'new' | 'publish' | 'sign' | 'finish'

/**
 * Makes one step. What was read is compared when it is written: of two at once one is refused.
 *
 * @returns SHA-256 fingerprints of the certificates
 * @throws {StoreConflict} when the step cannot be made
 */
export async function rotateKey(
  { database }: Pick<House, 'database'>,
  id: string,
  step: RotationStep,
  actor: string,
): Promise<{ signs: string; decrypts: string[] }> {
  const connection = await database.connections.connection(id)
  if (!connection) throw new StoreConflict(`there is no connection "${id}": \`sallyport connection list\` shows all`)
  const { keys } = connection
  const [first, second] = keys
  const adds = step === 'new' || step === 'publish'
  if (adds && second)
    throw new StoreConflict(
      `connection "${id}" has two key pairs: --sign changes the one that signs, --finish drops the other`,
    )
  if (!adds && !second)
    throw new StoreConflict(
      `connection "${id}" has one key pair: \`sallyport connection rotate-key ${id}\` makes another`,
    )

  const after = adds ? await withNew(id, keys, step) : step === 'sign' ? [second!, first!] : [first!]
  const [signs = '', ...decrypts] = after.map(({ certificate }) => fingerprintOf(certificate))
  const details = { connection: id, step, signs, decrypts }
  await audited(database.audit, { event: 'connection.key_rotated', actor, details }, async () => {
    if (!(await database.directory.replaceConnectionKeys(id, keys, after)))
      throw new StoreConflict(`connection "${id}" was changed by somebody else just now: look again and repeat`)
  })
  return { signs, decrypts }
}

async function withNew(id: string, keys: Connection['keys'], step: RotationStep): Promise<Connection['keys']> {
  const { newSpKey } = await saml()
  const made = newSpKey(`Sallyport ${id}`, Math.floor(Date.now() / 1000))
  return step === 'new' ? [made, ...keys] : [...keys, made]
}
