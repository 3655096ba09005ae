/** One of two processes that race on a database file: waits for the start, calls 25 times at once, says how often it won. */
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing, parseKeyRing } from '../../interactions/index.ts'

const [file = '', ring = '', what = '', me = ''] = process.argv.slice(2)
const database = await openSqlite({ file, sealer: new KeyRing(parseKeyRing(Buffer.from(ring, 'base64').toString())) })
const now = 1_800_000_000

const races: Record<string, (i: number) => Promise<boolean>> = {
  consume: () => database.artifacts.consume('AuthorizationCode', 'the-code', now),
  claimTimeStep: () => database.factors.claimTimeStep('ana', 1001),
  reserveRecoveryCode: (i) =>
    database.factors.reserveRecoveryCode('ana', { id: 'code-1', reservations: 0, cid: `${me}-${i}`, until: now + 60 }),
  activateTotp: async (i) =>
    (await database.factors.activateTotp('bo', {
      secret: 'A'.repeat(32),
      step: i,
      now,
      factorVersion: 0,
      recoveryCodeId: `${me}-${i}`,
    })) !== undefined,
  takePending: async () => (await database.pending.take('cid', 'once', now)) !== undefined,
  throttle: async () =>
    (await database.throttle.take([{ key: 'k', rule: { kind: 'window', limit: 1, seconds: 60 } }], now)).allowed,
}

process.send!('ready')
process.once('message', async () => {
  const won = await Promise.all(Array.from({ length: 25 }, (_, i) => races[what]!(i)))
  process.send!(won.filter(Boolean).length)
  await database.close()
  process.disconnect()
})
