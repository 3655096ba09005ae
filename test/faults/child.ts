/** A process of its own for the fault tests: callers of one operation, a writer, or a server. */
import { openMongo } from '../../adapters/mongo/index.ts'
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing, parseKeyRing } from '../../interactions/kit/keyring.ts'
import { tell } from '../../interactions/kit/letters.ts'
import type { Counter, Message } from '../../interactions/kit/stores.ts'
import type { Change, Database } from '../../server/stores.ts'

/** Far ahead: a server that deletes expired rows by its own clock must leave these to us. */
const NOW = 4_000_000_000
const CALLERS = 25
const [role = '', address = '', keys = '', dieAt = ''] = process.argv.slice(2)

/** What each caller of a round does; the answer is what it was told. */
const OPERATIONS: Record<string, (db: Database, person: string, caller: string) => Promise<unknown>> = {
  consume: (db, person) => db.artifacts.consume('AuthorizationCode', person, NOW),
  reserveRecoveryCode: (db, person, caller) =>
    db.factors.reserveRecoveryCode(person, { id: 'set', reservations: 0, cid: caller, until: NOW + 60 }),
  claimTimeStep: (db, person) => db.factors.claimTimeStep(person, 200),
  activate: (db, person, caller) =>
    db.factors.activate(person, {
      factor: { method: 'otp', secret: caller, step: 100 },
      now: NOW,
      factorVersion: 1,
      securityEpoch: 0,
      recoveryCodeId: caller,
    }),
  keep: (db, person, caller) =>
    db.pending.keep({ owner: person, purpose: 'kept', value: caller, expiresAt: NOW + 60, now: NOW }),
  take: (db, person) => db.pending.take(person, 'put', NOW),
  acceptResponse: async (db, person, caller) =>
    (await db.federation.acceptResponse({
      handle: person,
      issuer: 'https://idp.example',
      assertionId: `${person}-${caller}`,
      usableUntil: NOW + 60,
      facts: caller,
      expiresAt: NOW + 60,
      now: NOW,
    })) === 'accepted',
  takeFacts: (db, person) => db.federation.takeFacts(`taken-${person}`, 'uid', NOW),
  lease: async (db) => (await db.outbox.lease('mail', { now: NOW, until: NOW + 60 }))?.id,
  throttle: async (db, person) =>
    (await db.throttle.take([{ key: person, rule: { kind: 'window', limit: 1, seconds: 60 } }], NOW)).allowed,
}

const sealer = new KeyRing(parseKeyRing(keys))
const database: Database = address.startsWith('mongodb') ? await mongo() : await openSqlite({ file: address, sealer })

/** With `dieAt` the process ends when the command of that number, counted from the first after opening, is about to be sent. */
async function mongo(): Promise<Database> {
  const opened = await openMongo({ url: address, sealer, driver: { monitorCommands: true } })
  let commands = 0
  opened.connection.opened.getClient().on('commandStarted', () => {
    commands += 1
    if (commands === Number(dieAt)) process.kill(process.pid, 'SIGKILL')
  })
  return opened
}

if (role === 'callers') {
  process.on('message', async ({ operation, person, at }: { operation: string; person: string; at: number }) => {
    // The barrier: both processes begin at the same moment.
    await new Promise((resolve) => setTimeout(resolve, at - Date.now()))
    const answers = await Promise.all(
      Array.from({ length: CALLERS }, async (_, index) => {
        await new Promise((resolve) => setImmediate(resolve))
        return OPERATIONS[operation]!(database, person, `${process.pid}-${index}`)
      }),
    )
    process.send!(answers.map((answer) => answer ?? null))
  })
  process.send!('ready')
}

if (role === 'writer') {
  process.send!('ready')
  const who = String(process.pid)
  for (let number = 1; ; number++) {
    const key = `${who}-${number}`
    await database.artifacts.save({ model: 'Grant', key, payload: { number }, expiresAt: undefined })
    await database.pending.keep({ owner: key, purpose: 'p', value: key, expiresAt: NOW + 60, now: NOW })
    await database.audit.append({ event: 'test.written', outcome: 'success', at: NOW, accountId: key })
    process.send!(key)
    await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Resets people, one after the other, each with a letter that tells of it. */
if (role === 'telling') {
  process.send!('ready')
  const who = String(process.pid)
  for (let number = 1; ; number++) {
    const id = `${who}-${number}`
    const value = { id, email: `${id}@acme.example`, disabled: false, memberships: [], serverRoles: [] }
    await database.directory.commit([{ kind: 'user', op: 'put', value }])
    await database.directory.resetMfa(id, {
      now: NOW,
      messages: tell(value, 'mfa_reset', { now: NOW, lang: 'en', id: `of-${id}` }),
    })
    process.send!(id)
  }
}

/** Delivers to the mail server of `dieAt`, at the time of the last argument, until it is killed. */
if (role === 'delivering') {
  // A whole server, which no other role needs.
  const { loadConfig } = await import('../../server/config.ts')
  const { deliverDue, smtpTransport } = await import('../../server/delivery.ts')
  const { createLogger } = await import('../../server/log.ts')
  const { sallyportOf } = await import('../../server/provider.ts')
  const [url = '', at = ''] = process.argv.slice(5)
  const logger = createLogger('silent')
  const config = loadConfig({ SALLYPORT_SMTP_URL: url, SALLYPORT_MAIL_FROM: 'id@acme.example' }, '/nowhere')
  const { letters } = sallyportOf({ config, database, keyRing: sealer, logger, close: async () => {} })
  const transport = await smtpTransport(config)
  process.send!('ready')
  await deliverDue({ outbox: database.outbox, letters, transport, logger, now: () => Number(at) })
  process.send!('done')
}

if (role === 'work') {
  process.on('message', async (work: { commit: Change[] } | { take: Counter[] } | { reset: Message[] }) => {
    const answer =
      'commit' in work
        ? await database.directory.commit(work.commit)
        : 'reset' in work
          ? await database.directory.resetMfa('ana', { now: NOW, messages: work.reset })
          : await database.throttle.take(work.take, NOW)
    process.send!(answer ?? 'done')
  })
  process.send!('ready')
}
