/** What every database must promise (interactions/kit/stores.ts, server/stores.ts), in no database's words. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { type OwnAccount, withOwnAccounts } from '../../interactions/kit/own-accounts.ts'
import {
  type Activation,
  type Artifact,
  type Counter,
  type Message,
  type ThrottleRule,
  TRACES_KEPT,
  type Trace,
} from '../../interactions/kit/stores.ts'
import {
  type AuditRow,
  type Change,
  ChangedMeanwhile,
  type Company,
  type Database,
  type Resource,
  StoreConflict,
  type WrittenConnection,
  writtenOf,
} from '../../server/stores.ts'

/** One database, opened as often as a test wants. */
export interface Opened {
  database: Database
  /** A second open instance of the same data. */
  again(): Promise<Database>
  close(): Promise<void>
}

/** Far ahead: a server that deletes expired rows by its own clock must leave these to us. */
const NOW = 4_000_000_000
const COMPANY: Company = { id: 'acme', name: 'Acme', side: 'payor', domains: ['acme.example'], disabled: false }
const SECRET = 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'
const PHONE = '+12025550123'

const person = (id: string, more: object = {}, passwordHash?: string): Change => ({
  kind: 'user',
  op: 'put',
  value: {
    id,
    email: `${id}@acme.example`,
    name: id,
    disabled: false,
    memberships: [{ company: 'acme', roles: ['payments_admin'], disabled: false }],
    serverRoles: [],
    ...more,
  },
  passwordHash,
})
const putCompany = (more: Partial<Company> = {}): Change => ({
  kind: 'company',
  op: 'put',
  value: { ...COMPANY, ...more },
})

const CONNECTION: WrittenConnection = {
  id: 'acme-sso',
  company: 'acme',
  domains: ['acme.example'],
  mode: 'forward',
  state: 'active',
  jit: false,
  trustedContexts: [],
  idp: {
    entityId: 'https://idp.example/acme',
    ssoUrl: 'https://idp.example/sso',
    binding: 'redirect',
    certificates: [{ pem: 'a certificate', notBefore: 1, notAfter: NOW }],
  },
  attributes: {},
}
const keyPair = (name: string) => ({ privateKey: `${name} private`, certificate: `${name} certificate` })
const connect = (more: Partial<WrittenConnection> = {}, firstKey = keyPair('first')): Change => ({
  kind: 'connection',
  op: 'put',
  value: { ...CONNECTION, ...more },
  firstKey,
})

const winners = (results: unknown[]) => results.filter(Boolean).length

/** Runs the whole contract against one kind of database. */
export function contract(name: string, open: () => Promise<Opened>): void {
  describe(`contract: ${name}`, () => {
    let opened: Opened
    let db: Database
    let other: Database
    beforeEach(async () => {
      opened = await open()
      db = opened.database
      other = await opened.again()
      await db.directory.commit([putCompany(), person('ana', {}, 'hash-1'), person('bob')])
    })
    afterEach(() => opened.close())

    /** 50 parallel callers, taking turns over two instances. */
    const fifty = <T>(call: (database: Database, index: number) => Promise<T>): Promise<T[]> =>
      Promise.all(
        Array.from({ length: 50 }, async (_, index) => {
          await new Promise((resolve) => setImmediate(resolve))
          return call(index % 2 ? db : other, index)
        }),
      )
    type Given = Partial<Omit<Activation, 'factor'>>
    const activation = ({ secret = SECRET, step = 100, ...more }: { secret?: string; step?: number } & Given = {}) => ({
      factor: { method: 'otp' as const, secret, step },
      now: NOW,
      factorVersion: 0,
      securityEpoch: 0,
      recoveryCodeId: 'code-1',
      ...more,
    })
    const byPhone = ({ phone = PHONE, ...more }: { phone?: string } & Given = {}): Activation => ({
      ...activation(more),
      factor: { method: 'sms', phone },
    })
    /** An app and an acknowledged recovery code. */
    const enrolled = async () => {
      await db.factors.activate('ana', activation())
      await db.factors.setRecoveryCode('ana', { replaces: 'code-1', id: 'code-2', hash: 'hash' })
      await db.factors.acknowledgeRecoveryCode('ana', 'code-2')
    }
    const ana = async () => (await other.accounts.find('ana'))!

    describe('accounts', () => {
      it('finds a person with everything that the policy needs', async () => {
        await db.directory.commit([
          putCompany({ mfa: { enforced_from: '2027-01-01', zone: 'America/New_York', sso: 'challenge' } }),
          person('ana', { serverRoles: ['auditor'] }),
        ])
        assert.deepEqual(await ana(), {
          id: 'ana',
          email: 'ana@acme.example',
          name: 'ana',
          disabled: false,
          securityEpoch: 0,
          memberships: [
            {
              companyId: 'acme',
              side: 'payor',
              roles: ['payments_admin'],
              active: true,
              enforcement: { from: '2027-01-01', zone: 'America/New_York', sso: 'challenge' },
            },
          ],
          serverRoles: ['auditor'],
          alwaysRequire2fa: false,
          factorVersion: 0,
          enrolled: {},
          used: {},
          factorReset: undefined,
          recoveryCode: undefined,
        })
      })
      it('finds nobody under an unknown id or address', async () => {
        assert.equal(await db.accounts.find('nobody'), undefined)
        assert.equal(await db.accounts.findByEmail('nobody@acme.example'), undefined)
      })
      it('finds by address, with the hash of the password if there is one', async () => {
        const found = await db.accounts.findByEmail('ana@acme.example')
        assert.equal(found?.account.id, 'ana')
        assert.equal(found?.passwordHash, 'hash-1')
        assert.equal((await db.accounts.findByEmail('bob@acme.example'))?.passwordHash, undefined)
      })
      it('finds disabled people too', async () => {
        await db.directory.commit([person('ana', { disabled: true })])
        assert.equal((await ana()).disabled, true)
      })
      it('tells a person’s memberships what their company says to people who lost their phone, and what it demands', async () => {
        const rules = { lockout: true, idle_minutes: 15, password_resets: 'mail', sms_countries: ['US', 'CA'] } as const
        await db.directory.commit([
          putCompany({ help: 'Call Ann, 555 0100', rules: { ...rules, sms_countries: ['US', 'CA'] } }),
        ])
        const membership = async () => (await db.accounts.find('ana'))?.memberships[0]
        assert.equal((await membership())?.help, 'Call Ann, 555 0100')
        assert.equal((await db.directory.company('acme'))?.help, 'Call Ann, 555 0100')
        assert.deepEqual((await membership())?.rules, rules)
        assert.deepEqual((await db.directory.company('acme'))?.rules, rules)
        await db.directory.commit([putCompany()])
        assert.equal((await membership())?.help, undefined)
        assert.equal((await membership())?.rules, undefined)
        assert.deepEqual(await db.directory.company('acme'), COMPANY)
      })

      it('counts a membership as inactive when it or its company is disabled', async () => {
        await db.directory.commit([putCompany({ disabled: true })])
        assert.equal((await ana()).memberships[0]?.active, false)
        await db.directory.commit([
          putCompany(),
          person('ana', { memberships: [{ company: 'acme', roles: [], disabled: true }] }),
        ])
        assert.equal((await ana()).memberships[0]?.active, false)
      })
      it('replaces a password hash only when it is still the one that was read', async () => {
        await db.accounts.upgradePasswordHash('ana', 'another', 'hash-2')
        assert.equal((await other.accounts.findByEmail('ana@acme.example'))?.passwordHash, 'hash-1')
        await db.accounts.upgradePasswordHash('ana', 'hash-1', 'hash-2')
        assert.equal((await other.accounts.findByEmail('ana@acme.example'))?.passwordHash, 'hash-2')
        assert.equal((await ana()).securityEpoch, 0)
      })
    })

    describe('people of an app', () => {
      const carla: OwnAccount = { id: 'carla', email: 'carla@app.example', passwordHash: 'theirs', securityEpoch: 7 }
      /** The stores of one instance, with the app's people. */
      const stores = (of = db) =>
        withOwnAccounts(of, {
          find: async (id) => (id === carla.id ? carla : undefined),
          findByEmail: async (email) => (email === carla.email ? carla : undefined),
        })
      beforeEach(() => Object.assign(carla, { securityEpoch: 7, disabled: false }))

      it('are found by the app, and only there', async () => {
        const { accounts } = stores()
        const found = await accounts.findByEmail('carla@app.example')
        assert.equal(found?.passwordHash, 'theirs')
        assert.deepEqual(found?.account, await accounts.find('carla'))
        assert.ok(!('passwordHash' in found!.account))
        assert.equal(await accounts.find('ana'), undefined)
        assert.equal(await accounts.findByEmail('ana@acme.example'), undefined)
        assert.equal(await db.accounts.find('carla'), undefined)
      })
      it('hold factors: of 50 activations from two instances one wins', async () => {
        const results = await fifty((one, index) =>
          stores(one).factors.activate(
            'carla',
            activation({ securityEpoch: 7, secret: `SECRET${index}`, recoveryCodeId: `code-${index}` }),
          ),
        )
        assert.equal(winners(results), 1)
        assert.deepEqual(results.find(Boolean), { securityEpoch: 7 })
        const { enrolled, factorVersion, alwaysRequire2fa, memberships } = (await stores(other).accounts.find('carla'))!
        assert.deepEqual([enrolled, factorVersion, alwaysRequire2fa, memberships], [{ otp: NOW }, 1, true, []])
        assert.equal(await stores(other).factors.totpSecret('carla'), `SECRET${results.findIndex(Boolean)}`)
        assert.equal((await db.accounts.findByEmail('carla@app.example')) ?? 'nobody', 'nobody')
      })
      it('a new password of the app meanwhile voids an activation; so does being disabled, or gone', async () => {
        const { factors } = stores()
        carla.securityEpoch = 8
        assert.equal(await factors.activate('carla', activation({ securityEpoch: 7 })), undefined)
        carla.disabled = true
        assert.equal(await factors.activate('carla', activation({ securityEpoch: 8 })), undefined)
        assert.equal(await factors.activate('nobody', activation()), undefined)
        assert.equal(await factors.totpSecret('carla'), undefined)
      })
      it('a recovery raises the epoch beside the app, and a reset does', async () => {
        const { factors, accounts } = stores()
        await factors.activate('carla', activation({ securityEpoch: 7 }))
        await factors.setRecoveryCode('carla', { replaces: 'code-1', id: 'code-2', hash: 'hash' })
        assert.deepEqual(await factors.recoveryCodeHash('carla'), { id: 'code-2', hash: 'hash' })
        assert.ok(await factors.acknowledgeRecoveryCode('carla', 'code-2'))
        const reservation = { id: 'code-2', reservations: 0, cid: 'cid-1', until: NOW + 60 }
        assert.ok(await factors.reserveRecoveryCode('carla', reservation))
        const more = { securityEpoch: 7, factorVersion: 1, step: 101, byRecovery: { cid: 'cid-1' } }
        assert.deepEqual(await factors.activate('carla', activation(more)), { securityEpoch: 8 })
        assert.equal((await accounts.find('carla'))!.securityEpoch, 8)
        assert.ok(await db.directory.resetMfa('carla', { now: NOW }))
        const { securityEpoch, enrolled } = (await accounts.find('carla'))!
        assert.deepEqual([securityEpoch, enrolled], [9, {}])
      })
    })

    describe('phone', () => {
      it('activates: number, version, time, recovery code named but without a hash', async () => {
        assert.deepEqual(await db.factors.activate('ana', byPhone()), { securityEpoch: 0 })
        const account = await ana()
        assert.deepEqual([account.factorVersion, account.securityEpoch], [1, 0])
        assert.deepEqual([account.enrolled, account.used], [{ sms: NOW }, { sms: NOW }])
        assert.deepEqual([account.alwaysRequire2fa, account.recoveryCode?.acknowledged], [true, false])
        assert.equal(await other.factors.phone('ana'), PHONE)
        assert.equal(await other.factors.phone('bob'), undefined)
        assert.equal(await other.factors.totpSecret('ana'), undefined)
        const factors = [{ method: 'sms', addedAt: NOW }]
        assert.deepEqual((await other.directory.user('ana'))?.factors, factors)
      })
      it('of 50 activations, of phones and apps, one wins', async () => {
        const results = await fifty((one, index) =>
          one.factors.activate(
            'ana',
            index % 3 === 0
              ? byPhone({ phone: `+1202555${1000 + index}`, recoveryCodeId: `code-${index}` })
              : activation({ secret: `SECRET${index}`, recoveryCodeId: `code-${index}` }),
          ),
        )
        assert.equal(winners(results), 1)
        const index = results.findIndex(Boolean)
        const expected = index % 3 === 0 ? [`+1202555${1000 + index}`, undefined] : [undefined, `SECRET${index}`]
        assert.deepEqual([await db.factors.phone('ana'), await db.factors.totpSecret('ana')], expected)
        assert.equal((await ana()).recoveryCode?.id, `code-${index}`)
        assert.equal((await ana()).factorVersion, 1)
      })
      it('stands beside an app; another takes its place; each names a new recovery code', async () => {
        await enrolled()
        assert.ok(await db.factors.activate('ana', byPhone({ factorVersion: 1, recoveryCodeId: 'code-3' })))
        const more = { phone: '+12025550199', now: NOW + 5, factorVersion: 2, recoveryCodeId: 'code-4' }
        assert.ok(await db.factors.activate('ana', byPhone(more)))
        const { enrolled: both, recoveryCode, used } = await ana()
        assert.deepEqual(both, { otp: NOW, sms: NOW + 5 })
        assert.deepEqual(used, { otp: 100 * 30, sms: NOW + 5 })
        assert.deepEqual([recoveryCode?.id, recoveryCode?.acknowledged], ['code-4', false])
        assert.equal(await db.factors.phone('ana'), '+12025550199')
        assert.equal(await db.factors.totpSecret('ana'), SECRET)
      })
      it('is activated neither under another epoch or version nor for disabled people', async () => {
        assert.equal(await db.factors.activate('ana', byPhone({ securityEpoch: 1 })), undefined)
        assert.equal(await db.factors.activate('ana', byPhone({ factorVersion: 1 })), undefined)
        await db.directory.commit([person('ana', { disabled: true })])
        assert.equal(await db.factors.activate('ana', byPhone()), undefined)
        assert.equal(await db.factors.phone('ana'), undefined)
      })
      it('by recovery every former factor dies, of either kind', async () => {
        const recover = async (next: Activation, version: number) => {
          await db.factors.setRecoveryCode('ana', { replaces: `code-${version}`, id: `shown-${version}`, hash: 'hash' })
          const reservation = { id: `shown-${version}`, reservations: 0, cid: 'cid-1', until: NOW + 60 }
          assert.ok(await db.factors.reserveRecoveryCode('ana', reservation))
          return db.factors.activate('ana', { ...next, byRecovery: { cid: 'cid-1' } })
        }
        await db.factors.activate('ana', activation())
        await db.factors.activate('ana', byPhone({ factorVersion: 1, recoveryCodeId: 'code-2' }))
        const phone = '+12025550199'
        const next = byPhone({ phone, factorVersion: 2, recoveryCodeId: 'code-3' })
        assert.deepEqual(await recover(next, 2), { securityEpoch: 1 })
        assert.deepEqual((await ana()).enrolled, { sms: NOW })
        assert.deepEqual([await db.factors.totpSecret('ana'), await db.factors.phone('ana')], [undefined, phone])
        const app = activation({ secret: 'NEW', factorVersion: 3, securityEpoch: 1, recoveryCodeId: 'code-4' })
        assert.deepEqual(await recover(app, 3), { securityEpoch: 2 })
        assert.deepEqual((await ana()).enrolled, { otp: NOW })
        assert.deepEqual([await db.factors.totpSecret('ana'), await db.factors.phone('ana')], ['NEW', undefined])
      })
      it('remembers when it was used last, whichever of two comes first', async () => {
        await db.factors.notePhoneUse('ana', NOW)
        assert.deepEqual((await ana()).used, {})
        await db.factors.activate('ana', byPhone())
        await Promise.all([db.factors.notePhoneUse('ana', NOW + 9), other.factors.notePhoneUse('ana', NOW + 5)])
        assert.deepEqual((await ana()).used, { sms: NOW + 9 })
      })
      it('goes with a reset', async () => {
        await db.factors.activate('ana', byPhone())
        assert.ok(await db.directory.resetMfa('ana', { now: NOW }))
        assert.deepEqual([(await ana()).enrolled, await db.factors.phone('ana')], [{}, undefined])
      })
    })

    describe('authenticator app', () => {
      it('activates: secret, version, time, recovery code named but without a hash', async () => {
        assert.deepEqual(await db.factors.activate('ana', activation()), { securityEpoch: 0 })
        const account = await ana()
        assert.equal(account.factorVersion, 1)
        assert.equal(account.securityEpoch, 0)
        assert.deepEqual(account.enrolled, { otp: NOW })
        assert.equal(account.recoveryCode?.id, 'code-1')
        assert.equal(account.recoveryCode?.acknowledged, false)
        assert.equal(await other.factors.totpSecret('ana'), SECRET)
        assert.equal(await other.factors.recoveryCodeHash('ana'), undefined)
        assert.equal(await other.factors.totpSecret('bob'), undefined)
      })
      it('activates once per factor version', async () => {
        const results = await fifty((one, index) =>
          one.factors.activate('ana', activation({ secret: `SECRET${index}`, recoveryCodeId: `code-${index}` })),
        )
        assert.equal(winners(results), 1)
        const won = results.findIndex(Boolean)
        assert.equal(await db.factors.totpSecret('ana'), `SECRET${won}`)
        assert.equal((await ana()).recoveryCode?.id, `code-${won}`)
        assert.equal((await ana()).factorVersion, 1)
      })
      it('writes nothing when another activation or a reset was first', async () => {
        await db.directory.resetMfa('ana', { now: NOW })
        assert.equal(await db.factors.activate('ana', activation()), undefined)
        assert.equal(await db.factors.totpSecret('ana'), undefined)
        assert.equal((await ana()).recoveryCode, undefined)
      })
      it('activates nothing for a person who is not there', async () =>
        assert.equal(await db.factors.activate('nobody', activation()), undefined))
      it('uses up the time step of the activation, and every step only once', async () => {
        assert.equal(await db.factors.claimTimeStep('ana', 100), false)
        await db.factors.activate('ana', activation())
        assert.equal(await db.factors.claimTimeStep('ana', 100), false)
        assert.equal(winners(await fifty((one) => one.factors.claimTimeStep('ana', 102))), 1)
        assert.equal(await db.factors.claimTimeStep('ana', 101), false)
        assert.equal(await db.factors.claimTimeStep('ana', 103), true)
      })
      it('claims no step for somebody else', async () => {
        await db.factors.activate('ana', activation())
        await db.factors.activate('bob', activation())
        assert.equal(await db.factors.claimTimeStep('ana', 101), true)
        assert.equal(await db.factors.claimTimeStep('bob', 101), true)
      })
    })

    describe('recovery code', () => {
      it('sets one code per replaced id, unacknowledged', async () => {
        await db.factors.activate('ana', activation())
        const results = await fifty((one, index) =>
          one.factors.setRecoveryCode('ana', { replaces: 'code-1', id: `next-${index}`, hash: `hash-${index}` }),
        )
        assert.equal(winners(results), 1)
        const won = results.findIndex(Boolean)
        assert.deepEqual(await db.factors.recoveryCodeHash('ana'), { id: `next-${won}`, hash: `hash-${won}` })
        assert.equal((await ana()).recoveryCode?.acknowledged, false)
        assert.equal((await ana()).recoveryCode?.replaces, 'code-1')
      })
      it('is acknowledged once, by its own id, and not before it has a hash', async () => {
        await db.factors.activate('ana', activation())
        assert.equal(await db.factors.acknowledgeRecoveryCode('ana', 'code-1'), false)
        await db.factors.setRecoveryCode('ana', { replaces: 'code-1', id: 'code-2', hash: 'hash' })
        assert.equal(await db.factors.acknowledgeRecoveryCode('ana', 'code-1'), false)
        assert.equal(winners(await fifty((one) => one.factors.acknowledgeRecoveryCode('ana', 'code-2'))), 1)
        assert.equal((await ana()).recoveryCode?.acknowledged, true)
      })
      it('is unacknowledged and unreserved again when another takes its place', async () => {
        await enrolled()
        await db.factors.reserveRecoveryCode('ana', { id: 'code-2', reservations: 0, cid: 'chain', until: NOW + 600 })
        await db.factors.setRecoveryCode('ana', { replaces: 'code-2', id: 'code-3', hash: 'hash-3' })
        const { recoveryCode } = await ana()
        assert.equal(recoveryCode?.acknowledged, false)
        assert.equal(recoveryCode?.reservedBy, undefined)
        assert.equal(recoveryCode?.reservedUntil, undefined)
      })
      it('is reserved once per value read; a later reservation takes the place of the former', async () => {
        await enrolled()
        const reserve = (one: Database, cid: string, reservations: number) =>
          one.factors.reserveRecoveryCode('ana', { id: 'code-2', reservations, cid, until: NOW + 600 })
        const results = await fifty((one, index) => reserve(one, `chain-${index}`, 0))
        assert.equal(winners(results), 1)
        const { recoveryCode } = await ana()
        assert.equal(recoveryCode?.reservedBy, `chain-${results.findIndex(Boolean)}`)
        assert.equal(recoveryCode?.reservedUntil, NOW + 600)
        assert.equal(recoveryCode?.reservations, 1)
        assert.equal(await reserve(db, 'later', 1), true)
        assert.equal((await ana()).recoveryCode?.reservedBy, 'later')
      })
      it('is not reserved under another id, or before it has a hash', async () => {
        await db.factors.activate('ana', activation())
        const reservation = { id: 'code-1', reservations: 0, cid: 'chain', until: NOW + 600 }
        assert.equal(await db.factors.reserveRecoveryCode('ana', reservation), false)
        await db.factors.setRecoveryCode('ana', { replaces: 'code-1', id: 'code-2', hash: 'hash' })
        assert.equal(await db.factors.reserveRecoveryCode('ana', reservation), false)
      })
      it('lets the chain that holds it enrol: the old factor dies, the epoch rises, the old code is void', async () => {
        await enrolled()
        await db.factors.reserveRecoveryCode('ana', { id: 'code-2', reservations: 0, cid: 'chain', until: NOW + 600 })
        const next = activation({
          secret: 'NEW',
          factorVersion: 1,
          recoveryCodeId: 'code-3',
          byRecovery: { cid: 'chain' },
        })
        assert.deepEqual(await db.factors.activate('ana', next), { securityEpoch: 1 })
        assert.equal(await other.factors.totpSecret('ana'), 'NEW')
        assert.equal(await other.factors.recoveryCodeHash('ana'), undefined)
        const account = await ana()
        assert.equal(account.securityEpoch, 1)
        assert.equal(account.factorVersion, 2)
        assert.equal(account.recoveryCode?.id, 'code-3')
        assert.equal(account.recoveryCode?.reservedBy, undefined)
      })
      it('lets no other chain enrol, and nobody after the reservation ended', async () => {
        await enrolled()
        await db.factors.reserveRecoveryCode('ana', { id: 'code-2', reservations: 0, cid: 'chain', until: NOW + 600 })
        const by = (cid: string, now: number) =>
          db.factors.activate('ana', activation({ secret: 'NEW', factorVersion: 1, now, byRecovery: { cid } }))
        assert.equal(await by('another', NOW), undefined)
        assert.equal(await by('chain', NOW + 600), undefined)
        assert.equal(await db.factors.totpSecret('ana'), SECRET)
        assert.equal((await ana()).factorVersion, 1)
      })
    })

    describe('throttle', () => {
      const window: ThrottleRule = { kind: 'window', limit: 3, seconds: 60 }
      const streak: ThrottleRule = { kind: 'streak', every: 10, wait: 1800, delayAfter: 5, disableAt: 100 }
      const take = (rule: ThrottleRule, now: number, key = 'k') => db.throttle.take([{ key, rule }], now)

      it('gives an attempt back that nobody looked at, with the wait it began', async () => {
        const counters = [
          { key: 'n', rule: window },
          { key: 's', rule: { ...streak, every: 2 } },
        ]
        await db.throttle.take(counters, NOW)
        const second = await db.throttle.take(counters, NOW)
        assert.deepEqual(second.counts, [2, 2])
        assert.equal((await other.throttle.take(counters, NOW)).allowed, false, 'the streak waits')
        await other.throttle.giveBack(counters, second.counts!)
        const again = await db.throttle.take(counters, NOW)
        assert.deepEqual([again.allowed, again.counts], [true, [2, 2]])
      })
      it('gives back no more than was taken, and not the wait that a later attempt began', async () => {
        const counters = [{ key: 's', rule: { ...streak, every: 2 } }]
        const first = await db.throttle.take(counters, NOW)
        await db.throttle.take(counters, NOW)
        await db.throttle.giveBack(counters, first.counts!)
        assert.equal((await db.throttle.take(counters, NOW)).retryAfter, 1800)
        await db.throttle.clear(['s'])
        await db.throttle.giveBack(counters, first.counts!)
        assert.deepEqual((await db.throttle.take(counters, NOW)).counts, [1])
      })
      it('allows a window its limit, counted from the first attempt', async () => {
        for (const [index, second] of [0, 10, 20].entries())
          assert.deepEqual(await take(window, NOW + second), {
            allowed: true,
            retryAfter: 0,
            key: undefined,
            left: undefined,
            counts: [index + 1],
          })
        const refused = await take(window, NOW + 30)
        assert.equal(refused.allowed, false)
        assert.equal(refused.retryAfter, 30)
        assert.equal(refused.key, 'k')
        assert.equal((await take(window, NOW + 59)).retryAfter, 1)
        assert.equal((await take(window, NOW + 60)).allowed, true)
      })
      it('delays a streak 1, 2, 4 … 60 seconds after the fifth attempt; every tenth waits; refused ones are not counted', async () => {
        let now = NOW
        const waits: number[] = []
        const left: (number | undefined)[] = []
        for (let attempt = 1; attempt <= 20; attempt++) {
          const verdict = await take(streak, now)
          assert.equal(verdict.allowed, true, `attempt ${attempt}`)
          assert.equal(verdict.key, attempt % 10 === 0 ? 'k' : undefined)
          left.push(verdict.left)
          // The first four may follow at once; from the fifth on a second try is refused, and says for how long.
          if (attempt < 5) {
            waits.push(0)
            continue
          }
          const { allowed, retryAfter } = await take(streak, now)
          assert.equal(allowed, false, `after attempt ${attempt}`)
          assert.equal((await take(streak, now + retryAfter - 1)).retryAfter, 1)
          waits.push(retryAfter)
          now += retryAfter
        }
        assert.deepEqual(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 1800, 60, 60, 60, 60, 60, 60, 60, 60, 60, 1800])
        assert.deepEqual(left, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
      })
      it('closes a streak for good at its end, until it is cleared', async () => {
        let now = NOW
        for (let attempt = 1; attempt <= 100; attempt++) {
          assert.equal((await take(streak, now)).allowed, true, `attempt ${attempt}`)
          now += 1800
        }
        const verdict = await take(streak, now + 365 * 86_400)
        assert.equal(verdict.allowed, false)
        assert.equal(verdict.retryAfter, Number.POSITIVE_INFINITY)
        assert.equal((await other.throttle.take([{ key: 'k', rule: streak }], now)).allowed, false)
        await db.throttle.clear(['k'])
        assert.equal((await take(streak, now)).left, 9)
      })
      it('forgets what is cleared and nothing else', async () => {
        for (const key of ['a', 'b']) for (let n = 0; n < 3; n++) await take(window, NOW, key)
        await db.throttle.clear(['a'])
        await db.throttle.clear([])
        assert.equal((await take(window, NOW, 'a')).allowed, true)
        assert.equal((await take(window, NOW, 'b')).allowed, false)
      })
      it('takes from all counters or from none', async () => {
        const narrow: Counter = { key: 'narrow', rule: { kind: 'window', limit: 1, seconds: 60 } }
        const wide: Counter = { key: 'wide', rule: { kind: 'window', limit: 2, seconds: 60 } }
        assert.equal((await db.throttle.take([wide, narrow], NOW)).allowed, true)
        for (let n = 0; n < 5; n++) {
          const verdict = await db.throttle.take([wide, narrow], NOW)
          assert.equal(verdict.allowed, false)
          assert.equal(verdict.key, 'narrow')
        }
        assert.equal((await db.throttle.take([wide], NOW)).allowed, true)
        assert.equal((await db.throttle.take([wide], NOW)).allowed, false)
      })
      it('names the refusal that lasts longest', async () => {
        const short: Counter = { key: 'short', rule: { kind: 'window', limit: 1, seconds: 10 } }
        const long: Counter = { key: 'long', rule: { kind: 'window', limit: 1, seconds: 100 } }
        await db.throttle.take([short, long], NOW)
        const verdict = await db.throttle.take([short, long], NOW)
        assert.equal(verdict.key, 'long')
        assert.equal(verdict.retryAfter, 100)
      })
      it('never allows more than the limit to parallel callers', async () => {
        const rule: ThrottleRule = { kind: 'window', limit: 7, seconds: 60 }
        const verdicts = await fifty((one) => one.throttle.take([{ key: 'k', rule }], NOW))
        assert.equal(verdicts.filter(({ allowed }) => allowed).length, 7)
        const streaks = await fifty((one) => one.throttle.take([{ key: 's', rule: streak }], NOW))
        assert.equal(streaks.filter(({ allowed }) => allowed).length, 5)
      })
    })

    describe('throttle, several counters', () => {
      const limit = (key: string, most: number): Counter => ({
        key,
        rule: { kind: 'window', limit: most, seconds: 60 },
      })
      it('gives back what parallel callers took when another counter refused them', async () => {
        const [wide, narrow] = [limit('a wide one', 60), limit('narrow', 7)]
        const verdicts = await fifty((one, index) =>
          one.throttle.take(index % 3 ? [wide, narrow] : [narrow, wide], NOW),
        )
        assert.equal(verdicts.filter(({ allowed }) => allowed).length, 7)
        for (let n = 0; n < 53; n++) assert.equal((await db.throttle.take([wide], NOW)).allowed, true, `${n} more`)
        assert.equal((await db.throttle.take([wide], NOW)).allowed, false)
      })
    })

    describe('devices', () => {
      it('knows a device with the person who used it, and no other', async () => {
        await db.devices.remember('device', 'ana', NOW)
        await db.devices.remember('device', 'ana', NOW + 1)
        assert.equal(await other.devices.knows('device', 'ana'), true)
        assert.equal(await other.devices.knows('device', 'bob'), false)
        assert.equal(await other.devices.knows('another', 'ana'), false)
      })
    })

    describe('pending', () => {
      const entry = (value: string, more: object = {}) => ({
        owner: 'cid',
        purpose: 'totp',
        value,
        expiresAt: NOW + 60,
        now: NOW,
        ...more,
      })
      it('keeps one value: all callers get the first one', async () => {
        const values = await fifty((one, index) => one.pending.keep(entry(`value-${index}`)))
        assert.equal(new Set(values).size, 1)
        assert.equal(await db.pending.recall('cid', 'totp', NOW), values[0])
      })
      it('recalls by owner and purpose, until it expires', async () => {
        await db.pending.keep(entry('value'))
        assert.equal(await other.pending.recall('cid', 'totp', NOW + 59), 'value')
        assert.equal(await other.pending.recall('cid', 'totp', NOW + 60), undefined)
        assert.equal(await other.pending.recall('cid', 'another', NOW), undefined)
        assert.equal(await other.pending.recall('another', 'totp', NOW), undefined)
      })
      it('keeps a new value in the place of an expired one', async () => {
        await db.pending.keep(entry('old'))
        assert.equal(await db.pending.keep(entry('new', { now: NOW + 60, expiresAt: NOW + 120 })), 'new')
        assert.equal(await db.pending.recall('cid', 'totp', NOW + 119), 'new')
      })
      it('is taken once', async () => {
        await db.pending.keep(entry('value'))
        const taken = await fifty((one) => one.pending.take('cid', 'totp', NOW))
        assert.deepEqual(taken.filter(Boolean), ['value'])
        assert.equal(await db.pending.recall('cid', 'totp', NOW), undefined)
      })
      it('is replaced: the newest one counts, whether or not there was one', async () => {
        await db.pending.replace(entry('first'))
        await db.pending.keep(entry('kept'))
        await other.pending.replace(entry('second', { expiresAt: NOW + 120 }))
        assert.equal(await db.pending.recall('cid', 'totp', NOW + 119), 'second')
        const stored = async () => db.pending.recall('cid', 'totp', NOW)
        await fifty((one, index) => one.pending.replace(entry(`value-${index}`)))
        assert.match((await stored())!, /^value-\d+$/)
        await db.pending.take('cid', 'totp', NOW)
        await fifty((one, index) => one.pending.replace(entry(`value-${index}`)))
        assert.match((await stored())!, /^value-\d+$/)
      })
      it('does not give out an expired value', async () => {
        await db.pending.keep(entry('value'))
        assert.equal(await db.pending.take('cid', 'totp', NOW + 60), undefined)
      })
    })

    describe('traces', () => {
      const trace = (more: Partial<Trace> = {}): Trace => ({
        reference: 'reference',
        connectionId: 'acme-sso',
        at: NOW,
        shelf: 'refused',
        said: 'Lena, explained',
        ...more,
      })
      it('keeps what came of a response for seven days', async () => {
        await db.traces.keep(trace())
        const week = 7 * 24 * 60 * 60
        assert.deepEqual(await other.traces.find('reference', NOW + week - 1), trace())
        assert.equal(await other.traces.find('reference', NOW + week), undefined)
        assert.equal(await other.traces.find('another', NOW), undefined)
        assert.deepEqual(await other.traces.list('acme-sso', NOW + week), [])
        assert.deepEqual(await other.traces.list('best-sso', NOW), [])
        // A request id that came from outside may come again: the first stays.
        await Promise.all([db, other].map((one) => one.traces.keep(trace({ said: 'something else' }))))
        assert.equal((await other.traces.find('reference', NOW))?.said, 'Lena, explained')
        assert.ok((await db.sweep(NOW + week + 600)) >= 1)
      })
      it('keeps the newest of each connection, and a flood of strangers pushes out none that was signed', async () => {
        const signed = Array.from({ length: 3 }, (_, index) => trace({ reference: `signed-${index}`, at: NOW + index }))
        for (const one of signed) await db.traces.keep(one)
        const flood = Array.from({ length: TRACES_KEPT.unsigned + 50 }, (_, index) =>
          trace({ reference: `flood-${index}`, at: NOW + 10 + index, shelf: 'unsigned' }),
        )
        await Promise.all(flood.map((one, index) => [db, other][index % 2]!.traces.keep(one)))
        await db.traces.keep(trace({ reference: 'last', at: NOW + 1000, shelf: 'unsigned' }))
        await db.traces.keep(trace({ reference: 'elsewhere', connectionId: 'best-sso', shelf: 'unsigned' }))
        const kept = await other.traces.list('acme-sso', NOW + 1000)
        assert.equal(kept.length, TRACES_KEPT.unsigned + 3)
        assert.equal(kept[0]!.reference, 'last')
        assert.deepEqual(kept.slice(-3), signed.reverse())
        assert.equal(await db.traces.find('flood-0', NOW), undefined)
        assert.ok(await db.traces.find(flood.at(-1)!.reference, NOW))
        assert.equal((await db.traces.list('best-sso', NOW)).length, 1)
      })
      it('keeps the newest of one second, whatever the references are', async () => {
        const references = Array.from({ length: TRACES_KEPT.unsigned + 20 }, (_, index) => `r-${999 - index}`)
        for (const reference of references) await db.traces.keep(trace({ reference, shelf: 'unsigned' }))
        const kept = (await other.traces.list('acme-sso', NOW)).map(({ reference }) => reference)
        assert.deepEqual(kept, references.slice(20).reverse())
      })
    })

    describe('resets', () => {
      const mail = (hash: string, more: object = {}) =>
        db.passwords.issueLink(
          'ana',
          'enrolment',
          { hash, email: 'ana@acme.example', epoch: 1, expiresAt: NOW + 3600, ...more },
          [],
        )
      const right = (cid: string, more: object = {}) => ({ accountId: 'ana', cid, until: NOW + 600, now: NOW, ...more })
      const reset = (factorVersion?: number) =>
        db.directory.resetMfa('ana', { now: NOW, ...(factorVersion !== undefined && { factorVersion }) })

      it('are noted, open until a factor is added; the time stays', async () => {
        assert.equal((await ana()).factorReset, undefined)
        assert.ok(await reset())
        assert.deepEqual((await ana()).factorReset, { at: NOW, open: true })
        assert.ok(await db.factors.activate('ana', activation({ factorVersion: 1, securityEpoch: 1 })))
        assert.deepEqual((await ana()).factorReset, { at: NOW })
        assert.ok(await db.factors.activate('bob', activation()))
        assert.equal((await other.accounts.find('bob'))!.factorReset, undefined)
      })
      it('of 50 administrators who saw the same factors, one resets them', async () => {
        await enrolled()
        const results = await fifty((one, index) =>
          one.directory.resetMfa('ana', { now: NOW + index, messages: [], factorVersion: 1 }),
        )
        assert.equal(winners(results), 1)
        const { factorVersion, securityEpoch, factorReset } = await ana()
        assert.deepEqual([factorVersion, securityEpoch], [2, 1])
        assert.equal(factorReset?.at, NOW + results.findIndex(Boolean))
        assert.equal(await reset(1), false)
        assert.equal(await reset(2), true)
      })
      it('give the right to enrol to one of 50 chains by a link, and to that one again', async () => {
        await reset()
        assert.equal(await mail('e'), true)
        const results = await fifty((one, index) => one.passwords.holdEnrolment('e', right(`cid-${index}`)))
        assert.equal(winners(results), 1)
        const holder = `cid-${results.findIndex(Boolean)}`
        assert.deepEqual((await ana()).factorReset, { at: NOW, open: true, heldBy: holder, heldUntil: NOW + 600 })
        assert.equal((await other.passwords.findLink('e'))?.usedAt, NOW)
        assert.equal(await other.passwords.holdEnrolment('e', right(holder, { now: NOW + 5 })), true)
        assert.equal(await other.passwords.holdEnrolment('e', right(holder, { now: NOW + 600 })), false)
        assert.equal(await other.passwords.holdEnrolment('e', right('cid-x')), false)
        // Another link: another chain takes over.
        assert.equal(await mail('f'), true)
        assert.equal(await other.passwords.holdEnrolment('e', right(holder)), false)
        assert.equal(await other.passwords.holdEnrolment('f', right('cid-x')), true)
        assert.equal((await ana()).factorReset?.heldBy, 'cid-x')
      })
      it('give two clicks of one chain the same answer', async () => {
        await reset()
        await mail('e')
        assert.equal(winners(await fifty((one) => one.passwords.holdEnrolment('e', right('cid-1')))), 50)
      })
      it('give no right by a link that is for something else, for somebody else, too old, or was never made', async () => {
        await reset()
        for (const purpose of ['reset', 'welcome'] as const) {
          const link = { hash: purpose, email: 'ana@acme.example', epoch: 1, expiresAt: NOW + 3600 }
          await db.passwords.issueLink('ana', purpose, link, [])
          assert.equal(await db.passwords.holdEnrolment(purpose, right('cid-1')), false)
        }
        await mail('e')
        assert.equal(await db.passwords.holdEnrolment('e', right('cid-1', { accountId: 'bob' })), false)
        assert.equal(await db.passwords.holdEnrolment('e', right('cid-1', { now: NOW + 3600 })), false)
        assert.equal(await db.passwords.holdEnrolment('never', right('cid-1')), false)
        assert.deepEqual((await ana()).factorReset, { at: NOW, open: true })
        // Nor is it good for a password.
        assert.equal(await db.passwords.setByLink('e', { passwordHash: 'x', now: NOW, messages: [] }), undefined)
      })
      it('give no right once a factor was added, after another reset, a new password or an end of all sessions', async () => {
        const acts: (() => Promise<unknown>)[] = [
          async () => {
            const { factorVersion, securityEpoch } = await ana()
            return db.factors.activate('ana', activation({ factorVersion, securityEpoch }))
          },
          () => reset(),
          () => db.directory.raiseEpoch('ana'),
          () => db.directory.commit([person('ana', {}, 'hash-9')]),
          () => db.directory.setDisabled('ana', true),
        ]
        for (const [index, act] of acts.entries()) {
          await reset()
          const { securityEpoch: epoch } = await ana()
          assert.equal(await mail(`e${index}`, { epoch }), true)
          await act()
          assert.equal(await db.passwords.holdEnrolment(`e${index}`, right('cid-1')), false, String(index))
        }
      })
      it('win over every activation that read what was before, and void the right that a link gave', async () => {
        await reset()
        await mail('e')
        await db.passwords.holdEnrolment('e', right('cid-1'))
        const { factorVersion, securityEpoch } = await ana()
        const results = await fifty<unknown>((one, index) =>
          index % 2
            ? one.directory.resetMfa('ana', { now: NOW })
            : one.factors.activate('ana', activation({ factorVersion, securityEpoch })),
        )
        assert.ok(results.filter((_, index) => index % 2 === 1).every(Boolean))
        assert.deepEqual((await ana()).enrolled, {})
        assert.deepEqual((await ana()).factorReset, { at: NOW, open: true })
        assert.equal(await db.factors.totpSecret('ana'), undefined)
      })
      it('look at counters without taking from them', async () => {
        const counter: Counter = { key: 'k', rule: { kind: 'streak', every: 2, wait: 60 } }
        assert.deepEqual(await db.throttle.look(['k', 'l']), [undefined, undefined])
        await db.throttle.take([counter], NOW)
        await db.throttle.take([counter], NOW)
        const state = { count: 2, since: NOW, blockedUntil: NOW + 60, disabled: false }
        assert.deepEqual(await other.throttle.look(['l', 'k']), [undefined, state])
        assert.deepEqual(await other.throttle.look(['k']), [state])
      })
    })

    describe('passwords', () => {
      const link = (hash: string, more: object = {}) => ({
        hash,
        email: 'ana@acme.example',
        epoch: 0,
        expiresAt: NOW + 1800,
        ...more,
      })
      const set = (passwordHash: string, more: object = {}) => ({ passwordHash, now: NOW, messages: [], ...more })
      const present = async () => (await other.accounts.findByEmail('ana@acme.example'))?.passwordHash

      it('are set by a link once, which raises the epoch and voids every link', async () => {
        assert.equal(await db.passwords.issueLink('ana', 'reset', link('r'), []), true)
        assert.equal(await db.passwords.issueLink('ana', 'welcome', link('w'), []), true)
        assert.deepEqual(await other.passwords.findLink('r'), {
          ...link('r'),
          accountId: 'ana',
          purpose: 'reset',
          usedAt: undefined,
        })
        const results = await fifty((one, index) => one.passwords.setByLink('r', set(`new-${index}`)))
        assert.equal(winners(results), 1)
        assert.deepEqual(results.find(Boolean), { securityEpoch: 1 })
        assert.equal((await ana()).securityEpoch, 1)
        assert.equal(await present(), `new-${results.findIndex(Boolean)}`)
        assert.equal((await other.passwords.findLink('r'))?.usedAt, NOW)
        assert.equal((await other.passwords.findLink('w'))?.usedAt, NOW)
        assert.equal(await db.passwords.setByLink('w', set('newer')), undefined)
        assert.equal((await ana()).name, 'ana')
      })
      it('are not set by a link that has expired, was never made, or whose place another has taken', async () => {
        await db.passwords.issueLink('ana', 'reset', link('old'), [])
        await db.passwords.issueLink('ana', 'reset', link('r'), [])
        assert.equal(await db.passwords.findLink('old'), undefined)
        for (const [hash, now] of [
          ['old', NOW],
          ['never', NOW],
          ['r', NOW + 1800],
        ] as const)
          assert.equal(await db.passwords.setByLink(hash, set('new', { now })), undefined, hash)
        assert.equal(await present(), 'hash-1')
        assert.ok(await db.passwords.setByLink('r', set('new', { now: NOW + 1799, name: 'Ana Arc' })))
        assert.equal((await ana()).name, 'Ana Arc')
      })
      for (const [what, change] of [
        ['shut out', person('ana', { disabled: true })],
        ['given another address', person('ana', { email: 'ana@best.example' })],
        ['given another password', person('ana', {}, 'hash-2')],
        ['removed', { kind: 'user', op: 'remove', id: 'ana' }],
      ] as [string, Change][])
        it(`are not set by a link to somebody who was ${what} meanwhile`, async () => {
          await db.passwords.issueLink('ana', 'reset', link('r'), [])
          await db.directory.commit([change])
          assert.equal(await db.passwords.setByLink('r', set('new')), undefined)
          assert.equal(await db.passwords.issueLink('ana', 'reset', link('s'), []), false)
        })
      it('have no link for somebody unknown, and none of theirs for another', async () => {
        assert.equal(await db.passwords.issueLink('nobody', 'reset', link('r'), []), false)
        assert.equal(await db.passwords.issueLink('bob', 'reset', link('r'), []), false)
        assert.equal(await db.passwords.findLink('r'), undefined)
        assert.deepEqual(await db.passwords.recent('nobody'), [])
        assert.deepEqual(await db.passwords.recent('bob'), [])
      })
      it('are remembered, the last four, whoever set them', async () => {
        await db.directory.commit([person('ana', {}, 'hash-2')])
        for (const name of ['hash-3', 'hash-4', 'hash-5']) {
          await db.passwords.issueLink('ana', 'reset', link(name, { epoch: (await ana()).securityEpoch }), [])
          assert.ok(await db.passwords.setByLink(name, set(name)))
        }
        assert.deepEqual(await other.passwords.recent('ana'), ['hash-5', 'hash-4', 'hash-3', 'hash-2'])
        await db.directory.commit([person('ana')])
        assert.equal((await other.passwords.recent('ana')).length, 4)
        // Taken away, it is one of them still.
        assert.ok(await db.passwords.withdraw('ana', []))
        assert.deepEqual(await other.passwords.recent('ana'), ['hash-5', 'hash-4', 'hash-3', 'hash-2'])
        await db.passwords.issueLink('ana', 'reset', link('hash-6', { epoch: (await ana()).securityEpoch }), [])
        assert.ok(await db.passwords.setByLink('hash-6', set('hash-6')))
        assert.deepEqual(await other.passwords.recent('ana'), ['hash-6', 'hash-5', 'hash-4', 'hash-3'])
      })
      it('are taken away once, which raises the epoch, voids every link, and bars the password', async () => {
        const letter = { id: 'l', kind: 'k', channel: 'mail', accountId: 'ana', body: '', createdAt: NOW } as const
        const withdrawn = (id: string): Message[] => [{ ...letter, id, dueAt: NOW, expiresAt: NOW + 60 }]
        await db.passwords.issueLink('ana', 'reset', link('r'), [])
        const results = await fifty((one, index) => one.passwords.withdraw('ana', withdrawn(`w${index}`)))
        assert.equal(winners(results), 1)
        assert.equal((await ana()).securityEpoch, 1)
        assert.equal(await present(), undefined)
        assert.deepEqual(await other.passwords.recent('ana'), ['hash-1'])
        const { hasPassword, passwordWithdrawn } = (await other.directory.user('ana'))!
        assert.deepEqual([hasPassword, passwordWithdrawn], [false, true])
        assert.deepEqual(
          (await other.outbox.list({ limit: 9 })).map(({ id }) => id),
          [`w${results.indexOf(true)}`],
        )
        assert.equal(await db.passwords.setByLink('r', set('new')), undefined, 'a link of before')
        await db.passwords.issueLink('ana', 'reset', link('s', { epoch: 1 }), [])
        assert.ok(await db.passwords.setByLink('s', set('hash-2')))
        assert.deepEqual(await other.passwords.recent('ana'), ['hash-2', 'hash-1'])
        assert.equal((await other.directory.user('ana'))!.passwordWithdrawn, false)
      })
      it('are not taken away where there is none, or from somebody who is shut out', async () => {
        assert.equal(await db.passwords.withdraw('nobody', []), false)
        assert.equal(await db.passwords.withdraw('bob', []), false)
        assert.equal((await other.directory.user('bob'))!.passwordWithdrawn, false)
        await db.directory.commit([person('ana', { disabled: true })])
        assert.equal(await db.passwords.withdraw('ana', []), false)
        assert.equal(await present(), 'hash-1')
      })
      it('are set by an invitation that came with the person', async () => {
        const email = 'new@acme.example'
        await db.directory.commit([{ ...person('new', { email }), welcome: link('w', { email }) } as Change])
        assert.equal((await other.passwords.findLink('w'))?.purpose, 'welcome')
        assert.ok(await other.passwords.setByLink('w', set('first')))
        assert.equal((await db.accounts.findByEmail(email))?.passwordHash, 'first')
        assert.deepEqual(await db.passwords.recent('new'), ['first'])
      })
      it('take their messages along, and take pointless ones back', async () => {
        const message = (id: string, kind: string): Message => ({
          id,
          kind,
          channel: 'mail',
          accountId: 'ana',
          body: '',
          createdAt: NOW,
          dueAt: NOW + 60,
          expiresAt: NOW + 3600,
        })
        await db.passwords.issueLink('ana', 'welcome', link('w'), [
          message('a', 'invitation'),
          message('b', 'reminder'),
        ])
        await db.passwords.issueLink('ana', 'welcome', link('w2', { epoch: 9 }), [message('never', 'invitation')])
        await db.passwords.setByLink('w', set('n', { messages: [message('c', 'changed')], withdraws: ['reminder'] }))
        await db.passwords.setByLink('w', set('m', { messages: [message('never', 'changed')] }))
        assert.deepEqual((await other.outbox.list({ limit: 9 })).map(({ id }) => id).sort(), ['a', 'c'])
      })
    })

    /** A letter to somebody, and those that there are. */
    const told = (id: string): Message => ({
      id,
      kind: 'address',
      channel: 'mail',
      accountId: 'ana',
      body: '',
      createdAt: NOW,
      dueAt: NOW,
      expiresAt: NOW + 3600,
    })
    const ids = async () => (await other.outbox.list({ limit: 99 })).map(({ id }) => id).sort()

    describe('addresses', () => {
      const NEW = 'ana@new.example'
      const link = (hash: string, email: string, more: object = {}) => ({
        hash,
        email,
        epoch: 0,
        expiresAt: NOW + 1800,
        ...more,
      })
      const written = async () => writtenOf((await db.directory.user('ana'))!)

      it('have links that prove another one, which a new password voids', async () => {
        assert.equal(await db.passwords.issueLink('ana', 'email', link('e', NEW), [told('asked')]), true)
        assert.equal(await db.passwords.issueLink('ana', 'notice', link('n', 'bob@acme.example'), []), true)
        assert.equal(await db.passwords.issueLink('ana', 'email', link('x', NEW, { epoch: 1 }), [told('no')]), false)
        assert.equal((await other.passwords.findLink('e'))?.purpose, 'email')
        assert.equal((await other.passwords.linkOf('ana', 'email'))?.email, NEW)
        assert.equal(await other.passwords.linkOf('ana', 'email_undo'), undefined)
        assert.equal(await other.passwords.linkOf('bob', 'email'), undefined)
        assert.deepEqual(await ids(), ['asked'])
        const was = await written()
        const undo = link('u', was.email)
        await db.directory.commit([{ kind: 'user', op: 'put', value: { ...was, email: NEW }, was, undo }])
        await db.passwords.issueLink('ana', 'reset', link('r', NEW), [])
        assert.ok(await db.passwords.setByLink('r', { passwordHash: 'new', now: NOW, messages: [] }))
        const used = await Promise.all(['e', 'n', 'u'].map((hash) => other.passwords.findLink(hash)))
        assert.deepEqual(
          used.map((one) => one?.usedAt),
          [NOW, NOW, undefined],
        )
      })
      it('of fifty changes of one person one wins, with its letter and its way back', async () => {
        const was = await written()
        const results = await fifty(async (one, index) => {
          const value = { ...was, email: `ana${index}@new.example` }
          const undo = link(`u${index}`, was.email)
          const messages = [told(`m${index}`)]
          return one.directory.commit([{ kind: 'user', op: 'put', value, was, undo, messages }]).then(
            () => true,
            (error) => assert.ok(error instanceof ChangedMeanwhile),
          )
        })
        assert.equal(winners(results), 1)
        const won = results.findIndex(Boolean)
        const { email, securityEpoch } = await ana()
        assert.deepEqual([email, securityEpoch], [`ana${won}@new.example`, 0])
        assert.equal((await other.passwords.linkOf('ana', 'email_undo'))?.hash, `u${won}`)
        assert.deepEqual(await ids(), [`m${won}`])
        assert.equal(await db.accounts.findByEmail('ana@acme.example'), undefined)
      })
      it('of fifty people who want one address one gets it', async () => {
        const people = Array.from({ length: 50 }, (_, index) => person(`p${index}`))
        await db.directory.commit(people)
        const results = await fifty(async (one, index) => {
          const was = writtenOf((await one.directory.user(`p${index}`))!)
          return one.directory.commit([{ kind: 'user', op: 'put', value: { ...was, email: NEW }, was }]).then(
            () => true,
            (error) => assert.ok(error instanceof StoreConflict),
          )
        })
        assert.equal(winners(results), 1)
      })
      it('lose the way back with a change that has none; a change of something else leaves it', async () => {
        const was = await written()
        const changed = { ...was, email: NEW }
        await db.directory.commit([{ kind: 'user', op: 'put', value: changed, was, undo: link('u', was.email) }])
        await db.directory.commit([{ kind: 'user', op: 'put', value: { ...changed, name: 'Ana' } }])
        assert.ok(await other.passwords.findLink('u'))
        await db.directory.commit([{ kind: 'user', op: 'put', value: { ...changed, email: 'ana@moved.example' } }])
        assert.equal(await other.passwords.findLink('u'), undefined)
      })
      it('come back by a change that leaves nothing of somebody else: epoch, password, second address', async () => {
        await db.directory.commit([person('ana', {}, 'hash')])
        await db.passwords.issueLink('ana', 'notice', link('n', 'thief@home.example', { epoch: 1 }), [])
        assert.ok(await db.directory.takeNoticeEmail('n', NOW, []))
        const was = await written()
        const undo = link('u', was.email)
        await db.directory.commit([{ kind: 'user', op: 'put', value: { ...was, email: NEW }, was, undo }])
        assert.equal((await other.accounts.findByEmail(NEW))?.account.id, 'ana')
        const changed = await written()
        await db.directory.commit([
          { kind: 'user', op: 'put', value: was, was: changed, recovers: true, undo: { ...undo, expiresAt: NOW } },
        ])
        const { email, securityEpoch, noticeEmail } = await ana()
        assert.deepEqual([email, securityEpoch, noticeEmail], ['ana@acme.example', 2, undefined])
        assert.equal((await db.directory.user('ana'))?.hasPassword, false)
        assert.deepEqual(await other.passwords.recent('ana'), ['hash', 'hash-1'], 'nor may it be set again')
        assert.equal((await other.passwords.linkOf('ana', 'email_undo'))?.expiresAt, NOW)
      })
      it('a second one: of fifty that use its link one wins; then it is there until it is removed, once', async () => {
        await db.passwords.issueLink('ana', 'notice', link('n', 'ana@home.example'), [])
        assert.equal((await ana()).noticeEmail, undefined)
        const taken = await fifty((one, index) => one.directory.takeNoticeEmail('n', NOW, [told(`t${index}`)]))
        assert.equal(winners(taken), 1)
        assert.equal((await ana()).noticeEmail, 'ana@home.example')
        assert.equal((await other.directory.user('ana'))?.noticeEmail, 'ana@home.example')
        await db.directory.commit([person('ana', { name: 'Ana' })])
        assert.equal((await ana()).noticeEmail, 'ana@home.example', 'a change of something else leaves it')
        assert.equal(await db.directory.dropNoticeEmail('ana', 'other@home.example', [told('no')]), false)
        const dropped = await fifty((one, index) =>
          one.directory.dropNoticeEmail('ana', 'ana@home.example', [told(`d${index}`)]),
        )
        assert.equal(winners(dropped), 1)
        assert.equal((await ana()).noticeEmail, undefined)
        assert.equal((await ids()).length, 2)
      })
      it('a second one: not by a link that is too old, of another epoch, of somebody shut out, or for something else', async () => {
        const take = (hash: string, at = NOW) => db.directory.takeNoticeEmail(hash, at, [told('no')])
        await db.passwords.issueLink('ana', 'notice', link('n', 'ana@home.example'), [])
        await db.passwords.issueLink('ana', 'email', link('e', NEW), [])
        assert.deepEqual([await take('n', NOW + 1800), await take('e'), await take('none')], [false, false, false])
        await db.directory.raiseEpoch('ana')
        assert.equal(await take('n'), false)
        await db.passwords.issueLink('bob', 'notice', link('b', 'bob@home.example'), [])
        await db.directory.setDisabled('bob', true)
        assert.equal(await take('b'), false)
        assert.deepEqual(await ids(), [])
      })
    })

    describe('own choices', () => {
      const removal = (method: 'otp' | 'sms', factorVersion: number, more: object = {}) => ({
        method,
        factorVersion,
        securityEpoch: 0,
        messages: [],
        ...more,
      })
      it('the switch: once, and nothing else with it', async () => {
        const before = await ana()
        const switched = await fifty((one, index) =>
          one.directory.setAlwaysRequire2fa('ana', true, [told(`s${index}`)]),
        )
        assert.equal(winners(switched), 1)
        assert.deepEqual(await ids(), [`s${switched.findIndex(Boolean)}`], 'its letter, and no other')
        assert.deepEqual(await ana(), { ...before, alwaysRequire2fa: true })
        assert.equal(await db.directory.setAlwaysRequire2fa('ana', false, []), true)
        assert.deepEqual(await ana(), before)
        assert.equal(await db.directory.setAlwaysRequire2fa('nobody', true, []), false)
      })
      it('one of two factors goes once; version and epoch rise, the recovery code stays', async () => {
        await enrolled()
        await db.factors.activate('ana', byPhone({ factorVersion: 1, recoveryCodeId: 'code-3' }))
        const results = await fifty((one, index) =>
          one.directory.removeFactor(
            'ana',
            removal(index % 3 === 0 ? 'otp' : 'sms', 2, { messages: [told(`r${index}`)] }),
          ),
        )
        assert.equal(winners(results), 1)
        assert.deepEqual(await ids(), [`r${results.findIndex(Boolean)}`])
        const account = await ana()
        assert.deepEqual([account.factorVersion, account.securityEpoch], [3, 1])
        assert.equal(Object.keys(account.enrolled).length, 1)
        assert.equal(account.recoveryCode?.id, 'code-3')
      })
      it('with the last factor goes the recovery code', async () => {
        await enrolled()
        assert.equal(await db.directory.removeFactor('ana', removal('sms', 1)), false)
        assert.equal(await db.directory.removeFactor('ana', removal('otp', 0)), false)
        assert.equal(await db.directory.removeFactor('ana', removal('otp', 1, { securityEpoch: 1 })), false)
        assert.equal(await db.directory.removeFactor('ana', removal('otp', 1)), true)
        const { enrolled: left, recoveryCode } = await ana()
        assert.deepEqual([left, recoveryCode], [{}, undefined])
        assert.equal(await db.factors.recoveryCodeHash('ana'), undefined)
        assert.equal(await db.factors.activate('ana', activation({ factorVersion: 1 })), undefined)
      })
    })

    describe('outbox', () => {
      const message = (id: string, more: Partial<Message> = {}): Message => ({
        id,
        channel: 'mail',
        kind: 'app_added',
        accountId: 'ana',
        body: `what ${id} says`,
        createdAt: NOW,
        dueAt: NOW,
        expiresAt: NOW + 3600,
        ...more,
      })
      const lease = (one: Database, now = NOW) => one.outbox.lease('mail', { now, until: now + 60 })
      const known = async () => (await other.outbox.list({ limit: 99 })).map(({ id }) => id).sort()

      it('gives a message that is due, of the channel that was asked for', async () => {
        await db.outbox.put([message('text', { channel: 'sms' }), message('later', { dueAt: NOW + 1 }), message('now')])
        const { expiresAt, ...leased } = (await lease(other))!
        assert.equal(expiresAt, NOW + 3600)
        assert.equal(leased.id, 'now')
        assert.equal(leased.body, 'what now says')
        assert.equal(leased.tries, 1)
        assert.equal(await lease(db), undefined)
        assert.equal((await other.outbox.lease('sms', { now: NOW, until: NOW + 60 }))?.id, 'text')
        assert.equal((await lease(db, NOW + 1))?.id, 'later')
      })
      it('gives 20 messages to 50 workers, none of them twice', async () => {
        await db.outbox.put(Array.from({ length: 20 }, (_, index) => message(`m${index}`)))
        const got = await fifty((one) => lease(one))
        assert.deepEqual(
          got.flatMap((one) => one?.id ?? []).sort(),
          Array.from({ length: 20 }, (_, index) => `m${index}`).sort(),
        )
      })
      it('keeps one message of an id', async () => {
        await fifty((one) => one.outbox.put([message('m')]))
        await db.outbox.put([message('m', { body: 'another' })])
        assert.equal(await other.outbox.read('m'), 'what m says')
        assert.equal((await lease(db))?.tries, 1)
      })
      it('has sent a message once; what it said is gone, and its id still known', async () => {
        await db.outbox.put([message('m')])
        const { tries } = (await lease(db))!
        assert.equal(winners(await fifty((one) => one.outbox.sent('m', tries, NOW + 5))), 1)
        assert.equal(await lease(db, NOW + 900), undefined)
        assert.equal(await other.outbox.read('m'), undefined)
        await db.outbox.put([message('m')])
        assert.equal(await lease(db, NOW + 900), undefined)
        const [state] = await other.outbox.list({ limit: 1 })
        assert.deepEqual([state?.sentAt, state?.dueAt, state?.tries], [NOW + 5, undefined, 1])
        assert.ok(!JSON.stringify(state).includes('says'))
      })
      it('gives it to another worker when the first one is taken for dead, who can then no longer say what became of it', async () => {
        await db.outbox.put([message('m')])
        assert.equal((await lease(db))?.tries, 1)
        assert.equal(await lease(other, NOW + 59), undefined)
        assert.equal((await lease(other, NOW + 60))?.tries, 2)
        assert.equal(await db.outbox.sent('m', 1, NOW + 61), false)
        assert.equal(await db.outbox.putOff('m', 1, { error: 'no', dueAt: NOW + 61, now: NOW + 61 }), false)
        assert.equal(await other.outbox.sent('m', 2, NOW + 61), true)
      })
      it('tries again when it is put off, and never when it is given up', async () => {
        await db.outbox.put([message('m')])
        await lease(db)
        assert.equal(await db.outbox.putOff('m', 1, { error: 'refused', dueAt: NOW + 300, now: NOW }), true)
        assert.equal(await lease(other, NOW + 299), undefined)
        assert.equal((await lease(other, NOW + 300))?.tries, 2)
        assert.equal((await db.outbox.list({ limit: 1 }))[0]?.error, 'refused')
        assert.equal(await db.outbox.putOff('m', 2, { error: 'unknown mailbox', now: NOW }), true)
        assert.equal(await lease(other, NOW + 900), undefined)
        assert.equal((await db.outbox.list({ limit: 1 }))[0]?.dueAt, undefined)
      })
      it('gives out none that has become useless', async () => {
        await db.outbox.put([message('m')])
        assert.equal(await lease(db, NOW + 3600), undefined)
      })
      it('says since when the oldest has waited, tried or not', async () => {
        assert.equal(await db.outbox.dueSince('mail', NOW), undefined)
        await db.outbox.put([
          message('a', { dueAt: NOW + 5 }),
          message('b'),
          message('sms', { channel: 'sms', dueAt: 5 }),
        ])
        await lease(db)
        assert.equal(await other.outbox.dueSince('mail', NOW + 9), NOW)
        await db.outbox.sent('b', 1, NOW)
        assert.equal(await other.outbox.dueSince('mail', NOW + 9), NOW + 5)
        assert.equal(await other.outbox.dueSince('mail', NOW + 4), undefined)
        assert.equal(await other.outbox.dueSince('mail', NOW + 3600), undefined, 'useless by then')
      })
      it('takes back what has not left, of a person and of some kinds', async () => {
        await db.outbox.put([
          message('a', { kind: 'reminder' }),
          message('b', { kind: 'reminder', accountId: 'bob' }),
          message('c'),
        ])
        assert.equal(await other.outbox.withdraw('ana', ['reminder', 'another']), 1)
        assert.equal(await other.outbox.withdraw('ana', []), 0)
        await db.outbox.put([{ ...message('alone'), dueAt: NOW + 60 }])
        assert.equal(winners(await fifty((one) => one.outbox.takeBack('alone'))), 1)
        assert.equal(await other.outbox.read('alone'), undefined)
        assert.deepEqual(await known(), ['b', 'c'])
        assert.deepEqual(
          (await db.outbox.list({ accountId: 'bob', limit: 9 })).map(({ id }) => id),
          ['b'],
        )
      })
      it('holds the messages of what happened, and none of what did not', async () => {
        const first = { ...activation(), messages: [message('app')] }
        await db.factors.activate('ana', first)
        await db.factors.activate('ana', { ...first, messages: [message('app-again')] })
        const code = { replaces: 'code-1', id: 'code-2', hash: 'hash' }
        await db.factors.setRecoveryCode('ana', { ...code, messages: [message('code')] })
        await db.factors.setRecoveryCode('ana', { ...code, messages: [message('code-again')] })
        await db.directory.resetMfa('ana', { now: NOW, messages: [message('reset')] })
        await db.directory.resetMfa('nobody', { now: NOW, messages: [message('reset-nobody')] })
        await db.directory.commit([{ ...person('ana', {}, 'hash-9'), messages: [message('password')] } as Change])
        await assert.rejects(
          db.directory.commit([
            { ...person('ana'), messages: [message('twice')] } as Change,
            person('eve', { memberships: [{ company: 'none', roles: [], disabled: false }] }),
          ]),
          StoreConflict,
        )
        assert.deepEqual(await known(), ['app', 'code', 'password', 'reset'])
        assert.equal(await other.outbox.read('code'), 'what code says')
      })
      it('forgets the messages of a removed person', async () => {
        await db.outbox.put([message('m')])
        await db.directory.commit([{ kind: 'user', op: 'remove', id: 'ana' }])
        assert.deepEqual(await known(), [])
      })
    })

    describe('federation', () => {
      const request = (more: object = {}) => ({
        handle: 'handle',
        id: '_request',
        connectionId: 'acme-sso',
        interaction: 'uid',
        createdAt: NOW,
        expiresAt: NOW + 600,
        forceAuthn: true,
        authnContexts: ['urn:a', 'urn:b'],
        ...more,
      })
      const response = (more: object = {}) => ({
        handle: 'handle',
        issuer: 'https://idp.example',
        assertionId: '_assertion',
        usableUntil: NOW + 300,
        facts: '{"email":"ana@acme.example"}',
        expiresAt: NOW + 400,
        now: NOW + 1,
        ...more,
      })
      const outcomes = (results: string[]) =>
        Object.fromEntries(
          [...new Set(results)].sort().map((one) => [one, results.filter((result) => result === one).length]),
        )

      it('keeps a request until it expires', async () => {
        await db.federation.keepRequest(request())
        assert.deepEqual(await other.federation.findRequest('handle', NOW + 599), { ...request(), answered: false })
        assert.equal(await other.federation.findRequest('handle', NOW + 600), undefined)
        assert.equal(await other.federation.findRequest('another', NOW), undefined)
        await assert.rejects(db.federation.keepRequest(request({ id: '_other' })))
      })
      it('accepts one answer, whoever brings it and however often', async () => {
        await db.federation.keepRequest(request())
        const results = await fifty((one) => one.federation.acceptResponse(response()))
        assert.deepEqual(outcomes(results), { accepted: 1, answered: 49 })
        assert.equal((await other.federation.findRequest('handle', NOW + 1))?.answered, true)
      })
      it('accepts one of many answers to one request', async () => {
        await db.federation.keepRequest(request())
        const results = await fifty((one, index) =>
          one.federation.acceptResponse(response({ assertionId: `_${index}`, facts: String(index) })),
        )
        assert.deepEqual(outcomes(results), { accepted: 1, answered: 49 })
        const facts = await db.federation.takeFacts('handle', 'uid', NOW + 1)
        assert.equal(facts, String(results.indexOf('accepted')))
      })
      it('accepts one assertion for one of many requests', async () => {
        for (let index = 0; index < 50; index++) await db.federation.keepRequest(request({ handle: `handle-${index}` }))
        const results = await fifty((one, index) =>
          one.federation.acceptResponse(response({ handle: `handle-${index}` })),
        )
        assert.deepEqual(outcomes(results), { accepted: 1, replayed: 49 })
      })
      it('knows an assertion by its issuer: two of them may use one id', async () => {
        await db.federation.keepRequest(request())
        await db.federation.keepRequest(request({ handle: 'another' }))
        assert.equal(await db.federation.acceptResponse(response()), 'accepted')
        const second = response({ handle: 'another', issuer: 'https://other.example' })
        assert.equal(await other.federation.acceptResponse(second), 'accepted')
      })
      it('accepts nothing without a request, or after it has expired', async () => {
        assert.equal(await db.federation.acceptResponse(response()), 'answered')
        await db.federation.keepRequest(request())
        assert.equal(await db.federation.acceptResponse(response({ assertionId: '_2', now: NOW + 600 })), 'answered')
        assert.equal(await db.federation.takeFacts('handle', 'uid', NOW + 1), undefined)
      })
      it('goes on where somebody died between claiming the assertion and answering the request', async () => {
        assert.equal(await db.federation.acceptResponse(response()), 'answered') // claims the assertion, and finds no request
        await db.federation.keepRequest(request())
        assert.equal(await other.federation.acceptResponse(response()), 'accepted')
      })
      it('hands out what was said once', async () => {
        await db.federation.keepRequest(request())
        await db.federation.acceptResponse(response())
        const taken = await fifty((one) => one.federation.takeFacts('handle', 'uid', NOW + 2))
        assert.deepEqual(taken.filter(Boolean), ['{"email":"ana@acme.example"}'])
        assert.equal((await db.federation.findRequest('handle', NOW + 2))?.answered, true)
      })
      it('hands it out to the interaction that asked, in time, and to nobody else', async () => {
        await db.federation.keepRequest(request())
        assert.equal(await db.federation.takeFacts('handle', 'uid', NOW + 1), undefined)
        await db.federation.acceptResponse(response())
        assert.equal(await other.federation.takeFacts('handle', 'another', NOW + 2), undefined)
        assert.equal(await other.federation.takeFacts('another', 'uid', NOW + 2), undefined)
        assert.equal(await other.federation.takeFacts('handle', 'uid', NOW + 400), undefined)
        assert.ok(await other.federation.takeFacts('handle', 'uid', NOW + 399))
      })
      it('remembers an assertion until nobody would accept it any more', async () => {
        await db.federation.keepRequest(request())
        await db.federation.acceptResponse(response())
        await db.sweep(NOW + 299)
        await db.federation.keepRequest(request({ handle: 'another' }))
        assert.equal(await db.federation.acceptResponse(response({ handle: 'another' })), 'replayed')
      })
    })

    describe('links', () => {
      const ana = { company: 'acme', issuer: 'https://idp.example', format: 'urn:persistent', name: 'a-1' }

      it('links a name to one account, and says so once', async () => {
        const results = await fifty((one) => one.links.link(ana, 'ana', NOW))
        assert.equal(results.filter((result) => result === 'linked').length, 1)
        assert.equal(results.filter((result) => result === 'known').length, 49)
        assert.equal(await other.links.find(ana), 'ana')
        for (const more of [{ company: 'best' }, { issuer: 'https://x.example' }, { format: 'urn:x' }, { name: 'A-1' }])
          assert.equal(await other.links.find({ ...ana, ...more }), undefined)
      })
      it('lets one of many accounts have a name', async () => {
        const results = await fifty((one, index) => one.links.link(ana, `person-${index}`, NOW))
        assert.equal(results.filter((result) => result === 'linked').length, 1)
        assert.equal(results.filter((result) => result === 'taken').length, 49)
        assert.equal(await other.links.find(ana), `person-${results.indexOf('linked')}`)
      })
      it('lets one of many names have an account', async () => {
        const results = await fifty((one, index) => one.links.link({ ...ana, name: `a-${index}` }, 'ana', NOW))
        assert.equal(results.filter((result) => result === 'linked').length, 1)
        assert.equal(results.filter((result) => result === 'taken').length, 49)
        for (const [index, result] of results.entries())
          assert.equal(await db.links.find({ ...ana, name: `a-${index}` }), result === 'linked' ? 'ana' : undefined)
        assert.equal(await other.links.link({ ...ana, company: 'best', name: 'a-x' }, 'ana', NOW), 'linked')
      })
      it('leaves an account free whose name was taken', async () => {
        await db.links.link(ana, 'ana', NOW)
        assert.equal(await db.links.link(ana, 'bob', NOW), 'taken')
        assert.equal(await db.links.link({ ...ana, name: 'b-1' }, 'bob', NOW), 'linked')
      })
      it('knows whether an account has a name at an identity provider of a company', async () => {
        const { company, issuer } = ana
        assert.equal(await db.links.isNamed('ana', { company, issuer }), false)
        await db.links.link(ana, 'ana', NOW)
        await db.links.link(ana, 'bob', NOW)
        assert.equal(await other.links.isNamed('ana', { company, issuer }), true)
        assert.equal(await other.links.isNamed('ana', { company: 'best', issuer }), false)
        assert.equal(await other.links.isNamed('ana', { company, issuer: 'https://x.example' }), false)
        assert.equal(await other.links.isNamed('bob', { company, issuer }), false)
        await db.links.unlinkAll('ana')
        assert.equal(await other.links.isNamed('ana', { company, issuer }), false)
      })
      it('tells of a link once, and takes back what it makes pointless', async () => {
        const letter = { channel: 'mail' as const, body: '{}', createdAt: NOW, dueAt: NOW + 60, expiresAt: NOW + 600 }
        const kinds = async (accountId: string) =>
          (await other.outbox.list({ accountId, limit: 99 })).map(({ kind }) => kind)
        await db.outbox.put([{ ...letter, id: 'old', kind: 'pointless', accountId: 'ana' }])
        const link = (one: typeof db, accountId: string, id: string) =>
          one.links.link(ana, accountId, NOW, {
            messages: [{ ...letter, id, kind: 'linked', accountId }],
            withdraws: ['pointless'],
          })
        await fifty((one, index) => link(one, 'ana', `letter-${index}`))
        assert.deepEqual(await kinds('ana'), ['linked'])
        await db.outbox.put([{ ...letter, id: 'of-bob', kind: 'pointless', accountId: 'bob' }])
        assert.equal(await link(db, 'bob', 'letter-of-bob'), 'taken')
        assert.deepEqual(await kinds('bob'), ['pointless'])
      })
      it('forgets the names of one account', async () => {
        await db.links.link(ana, 'ana', NOW)
        await db.links.link({ ...ana, company: 'best' }, 'ana', NOW)
        await db.links.link({ ...ana, name: 'b-1' }, 'bob', NOW)
        assert.equal(await other.links.unlinkAll('ana'), 2)
        assert.equal(await other.links.unlinkAll('ana'), 0)
        assert.equal(await db.links.find(ana), undefined)
        assert.equal(await db.links.find({ ...ana, name: 'b-1' }), 'bob')
        assert.equal(await db.links.link({ ...ana, name: 'a-2' }, 'ana', NOW), 'linked')
      })
    })

    describe('consents', () => {
      it('add up, once each, and are found by person and app', async () => {
        await db.consents.remember('ana', 'app', ['openid', 'api read'], NOW)
        await db.consents.remember('ana', 'app', ['openid', 'email'], NOW + 10)
        await db.consents.remember('ana', 'zoo', ['openid'], NOW + 20)
        const app = { clientId: 'app', permissions: ['api read', 'email', 'openid'], since: NOW }
        assert.deepEqual(await other.consents.find('ana', 'app'), app)
        const zoo = { clientId: 'zoo', permissions: ['openid'], since: NOW + 20 }
        assert.deepEqual(await other.consents.list('ana'), [app, zoo])
        assert.equal(await other.consents.find('ana', 'other'), undefined)
        assert.equal(await other.consents.find('bob', 'app'), undefined)
        assert.deepEqual(await other.consents.list('bob'), [])
      })
      it('of parallel callers all stand', async () => {
        await fifty((one, index) => one.consents.remember('ana', 'app', [`scope-${index % 10}`], NOW))
        assert.equal((await db.consents.find('ana', 'app'))?.permissions.length, 10)
      })
      it('are forgotten, once, and no others', async () => {
        await db.consents.remember('ana', 'app', ['openid', 'email'], NOW)
        await db.consents.remember('ana', 'zoo', ['openid'], NOW)
        await db.consents.remember('bob', 'app', ['openid'], NOW)
        assert.equal(winners(await fifty((one) => one.consents.forget('ana', 'app'))), 1)
        assert.equal(await other.consents.find('ana', 'app'), undefined)
        assert.ok(await other.consents.find('ana', 'zoo'))
        assert.ok(await other.consents.find('bob', 'app'))
      })
      it('go with the person, and with the app', async () => {
        await db.directory.commit([{ kind: 'client', op: 'put', value: { client_id: 'app' } }])
        for (const who of ['ana', 'bob']) await db.consents.remember(who, 'app', ['openid'], NOW)
        await db.consents.remember('bob', 'zoo', ['openid'], NOW)
        await db.directory.commit([{ kind: 'user', op: 'remove', id: 'ana' }])
        assert.deepEqual(await other.consents.list('ana'), [])
        await db.directory.commit([{ kind: 'client', op: 'remove', id: 'app' }])
        assert.deepEqual(
          (await other.consents.list('bob')).map(({ clientId }) => clientId),
          ['zoo'],
        )
      })
    })

    describe('artifacts', () => {
      const code = (more: Partial<Artifact> = {}): Artifact => ({
        model: 'AuthorizationCode',
        key: 'key',
        payload: { scope: 'openid', nested: { list: [1, 'ü'] } },
        expiresAt: NOW + 60,
        ...more,
      })
      it('gives back what was saved, as a fresh object each time', async () => {
        await db.artifacts.save(code({ grantId: 'grant', accountId: 'ana' }))
        const first = await other.artifacts.find('AuthorizationCode', 'key', NOW)
        assert.deepEqual(first?.payload, { scope: 'openid', nested: { list: [1, 'ü'] } })
        assert.equal(first?.grantId, 'grant')
        assert.equal(first?.consumedAt, undefined)
        first!.payload['scope'] = 'changed'
        assert.equal((await other.artifacts.find('AuthorizationCode', 'key', NOW))?.payload['scope'], 'openid')
        assert.equal(await other.artifacts.find('AccessToken', 'key', NOW), undefined)
      })
      it('finds a row until fifteen seconds after its end, or for ever without one', async () => {
        await db.artifacts.save(code())
        await db.artifacts.save(code({ key: 'eternal', expiresAt: undefined }))
        assert.ok(await db.artifacts.find('AuthorizationCode', 'key', NOW + 74))
        assert.equal(await db.artifacts.find('AuthorizationCode', 'key', NOW + 75), undefined)
        assert.ok(await db.artifacts.find('AuthorizationCode', 'eternal', NOW + 1e9))
      })
      it('finds by uid and by user code, within the model', async () => {
        await db.artifacts.save(code({ model: 'Session', key: 's', uid: 'uid' }))
        await db.artifacts.save(code({ model: 'DeviceCode', key: 'd', userCode: 'user' }))
        assert.equal((await other.artifacts.findByUid('Session', 'uid', NOW))?.key, 's')
        assert.equal(await other.artifacts.findByUid('Interaction', 'uid', NOW), undefined)
        assert.equal((await other.artifacts.findByUserCode('DeviceCode', 'user', NOW))?.key, 'd')
        assert.equal(await other.artifacts.findByUserCode('DeviceCode', 'user', NOW + 75), undefined)
        assert.equal(await other.artifacts.findByUid('Session', 'uid', NOW + 75), undefined)
      })
      it('keeps the user code when the row is saved without it', async () => {
        await db.artifacts.save(code({ model: 'DeviceCode', key: 'd', userCode: 'user' }))
        await db.artifacts.save(code({ model: 'DeviceCode', key: 'd', payload: { accountId: 'ana' } }))
        assert.deepEqual((await db.artifacts.findByUserCode('DeviceCode', 'user', NOW))?.payload, { accountId: 'ana' })
      })
      it('uses a row up once, and still finds it', async () => {
        await db.artifacts.save(code())
        assert.equal(winners(await fifty((one) => one.artifacts.consume('AuthorizationCode', 'key', NOW))), 1)
        assert.equal((await db.artifacts.find('AuthorizationCode', 'key', NOW))?.consumedAt, NOW)
        assert.equal(await db.artifacts.consume('AuthorizationCode', 'unknown', NOW), false)
      })
      it('stays used up when it is saved again', async () => {
        await db.artifacts.save(code())
        await db.artifacts.consume('AuthorizationCode', 'key', NOW)
        await db.artifacts.save(code({ payload: { again: true } }))
        const found = await db.artifacts.find('AuthorizationCode', 'key', NOW)
        assert.equal(found?.consumedAt, NOW)
        assert.deepEqual(found?.payload, { again: true })
        assert.equal(await db.artifacts.consume('AuthorizationCode', 'key', NOW), false)
      })
      it('destroys one row, once; any but a session or an interaction may come back', async () => {
        await db.artifacts.save(code())
        await db.artifacts.save(code({ key: 'another' }))
        assert.equal(winners(await fifty((one) => one.artifacts.destroy('AuthorizationCode', 'key', NOW))), 1)
        assert.equal(await other.artifacts.find('AuthorizationCode', 'key', NOW), undefined)
        assert.ok(await other.artifacts.find('AuthorizationCode', 'another', NOW))
        await db.artifacts.save(code())
        assert.ok(await other.artifacts.find('AuthorizationCode', 'key', NOW))
      })
      it('revokes what came from a grant, of one model', async () => {
        await db.artifacts.save(code({ grantId: 'grant' }))
        await db.artifacts.save(code({ model: 'AccessToken', grantId: 'grant' }))
        await db.artifacts.save(code({ model: 'AccessToken', key: 'other', grantId: 'another' }))
        await db.artifacts.revokeByGrantId('AccessToken', 'grant')
        assert.equal(await other.artifacts.find('AccessToken', 'key', NOW), undefined)
        assert.ok(await other.artifacts.find('AccessToken', 'other', NOW))
        assert.ok(await other.artifacts.find('AuthorizationCode', 'key', NOW))
      })

      it('revokes the grants of a person to an app with all that came from them, and no other', async () => {
        const grant = (key: string, accountId: string, clientId: string) =>
          db.artifacts.save(code({ model: 'Grant', key, accountId, payload: { clientId } }))
        await grant('one', 'ana', 'app')
        await grant('two', 'ana', 'app')
        await grant('three', 'ana', 'zoo')
        await grant('four', 'bob', 'app')
        for (const grantId of ['one', 'two', 'three', 'four'])
          for (const model of ['AccessToken', 'RefreshToken', 'AuthorizationCode', 'DeviceCode'])
            await db.artifacts.save(code({ model, key: `${model} ${grantId}`, grantId }))
        await other.artifacts.revokeGrants('ana', 'app')
        for (const gone of ['one', 'two']) {
          assert.equal(await db.artifacts.find('Grant', gone, NOW), undefined)
          for (const model of ['AccessToken', 'RefreshToken', 'AuthorizationCode', 'DeviceCode'])
            assert.equal(await db.artifacts.find(model, `${model} ${gone}`, NOW), undefined)
        }
        for (const kept of ['three', 'four']) {
          assert.ok(await db.artifacts.find('Grant', kept, NOW))
          assert.ok(await db.artifacts.find('RefreshToken', `RefreshToken ${kept}`, NOW))
        }
      })
      it('brings no destroyed interaction back', async () => {
        const interaction = code({ model: 'Interaction' })
        await db.artifacts.save(interaction)
        await other.artifacts.save(code({ model: 'Interaction', payload: { answered: true } }))
        assert.deepEqual((await db.artifacts.find('Interaction', 'key', NOW))?.payload, { answered: true })
        assert.equal(await db.artifacts.destroy('Interaction', 'key', NOW), true)
        await other.artifacts.save(interaction)
        assert.equal(await db.artifacts.find('Interaction', 'key', NOW), undefined)
        assert.equal(await other.artifacts.destroy('Interaction', 'key', NOW), false)
      })

      describe('sessions', () => {
        const grant = (grantId: string): Artifact => ({
          model: 'Grant',
          key: grantId,
          expiresAt: undefined,
          payload: { accountId: 'ana' },
        })
        beforeEach(async () => {
          for (const client of ['a', 'b', 'c']) await db.artifacts.save(grant(`grant-${client}`))
        })
        const session = (key: string, clients: string[], more: object = {}): Artifact => ({
          model: 'Session',
          key,
          uid: 'uid',
          expiresAt: NOW + 3600,
          accountId: 'ana',
          payload: {
            uid: 'uid',
            accountId: 'ana',
            epoch: 1,
            created: NOW,
            authorizations: Object.fromEntries(clients.map((client) => [client, { grantId: `grant-${client}` }])),
            ...more,
          },
        })
        const clientsOf = (found: Artifact | undefined) => Object.keys(found?.payload['authorizations'] ?? {}).sort()
        const live = (key: string) => other.artifacts.find('Session', key, NOW)

        it('are found by person, until fifteen seconds after their end', async () => {
          for (const [key, accountId, model] of [
            ['one', 'ana', 'Session'],
            ['two', 'ana', 'Session'],
            ['bobs', 'bob', 'Session'],
            ['code', 'ana', 'AuthorizationCode'],
          ] as const)
            await db.artifacts.save(code({ model, key, uid: `uid of ${key}`, accountId, payload: { accountId } }))
          const found = await other.artifacts.sessionsOf('ana', NOW + 74)
          assert.deepEqual(found.map(({ uid }) => uid).sort(), ['uid of one', 'uid of two'])
          assert.deepEqual(found[0]?.payload, { accountId: 'ana' })
          assert.deepEqual(await other.artifacts.sessionsOf('ana', NOW + 75), [])
          await db.artifacts.endSession('uid of one', NOW)
          assert.equal((await other.artifacts.sessionsOf('ana', NOW)).length, 1)
        })
        it('do not come back once destroyed', async () => {
          await db.artifacts.save(session('old', ['a']))
          await db.artifacts.destroy('Session', 'old', NOW)
          await other.artifacts.save(session('old', ['a', 'b']))
          assert.equal(await live('old'), undefined)
          assert.equal(await db.artifacts.findByUid('Session', 'uid', NOW), undefined)
        })
        it('do not come back within the hour, whatever is swept', async () => {
          await db.artifacts.save(session('old', ['a']))
          await db.artifacts.destroy('Session', 'old', NOW)
          await db.sweep(NOW + 3599)
          await db.artifacts.save(session('old', ['a']))
          assert.equal(await live('old'), undefined)
        })
        it('keep what two writers authorized', async () => {
          await db.artifacts.save(session('key', []))
          await db.artifacts.save(session('key', ['a']))
          await other.artifacts.save(session('key', ['b']))
          assert.deepEqual(clientsOf(await live('key')), ['a', 'b'])
        })
        it('take over nothing whose grant was revoked: that app was signed out of', async () => {
          await db.artifacts.save(session('old', ['a', 'b']))
          await db.artifacts.destroy('Grant', 'grant-a', NOW)
          await db.artifacts.destroy('Session', 'old', NOW)
          await db.artifacts.save(session('new', ['b']))
          assert.deepEqual(clientsOf(await live('new')), ['b'])
          await other.artifacts.save(session('old', ['a', 'c']))
          assert.deepEqual(clientsOf(await live('new')), ['b', 'c'])
          await other.artifacts.save(session('new', []))
          assert.deepEqual(clientsOf(await live('new')), ['b', 'c'])
        })
        it('that ended save nothing any more, under any key', async () => {
          await db.artifacts.save(session('one', ['a']))
          await db.artifacts.save(session('two', ['a']))
          await other.artifacts.endSession('uid', NOW)
          assert.equal(await live('one'), undefined)
          assert.equal(await live('two'), undefined)
          await db.artifacts.destroy('Session', 'one', NOW)
          await db.artifacts.save(session('three', ['a']))
          await other.sweep(NOW + 3599)
          await db.artifacts.save(session('four', ['a']))
          assert.equal(await db.artifacts.findByUid('Session', 'uid', NOW), undefined)
          const others = { ...session('five', ['a']), uid: 'another' }
          await db.artifacts.save(others)
          assert.ok(await live('five'))
        })
        it('give the newer word on one client to the later writer', async () => {
          await db.artifacts.save(session('key', ['a']))
          await db.artifacts.save(session('key', [], { authorizations: { a: { grantId: 'newer' } } }))
          assert.deepEqual((await live('key'))?.payload['authorizations'], { a: { grantId: 'newer' } })
        })
        for (const [what, more] of [
          ['somebody else', { accountId: 'bob' }],
          ['another epoch', { epoch: 2 }],
          ['another sign-in', { created: NOW + 1 }],
        ] as const) {
          it(`take nothing over to ${what}`, async () => {
            await db.artifacts.save(session('key', ['a']))
            await db.artifacts.save(session('key', ['b'], more))
            assert.deepEqual(clientsOf(await live('key')), ['b'])
          })
          it(`hand nothing over from a renamed row to ${what}`, async () => {
            await db.artifacts.save(session('old', ['a']))
            await db.artifacts.destroy('Session', 'old', NOW)
            await db.artifacts.save(session('new', ['b'], more))
            await other.artifacts.save(session('old', ['a', 'c']))
            assert.deepEqual(clientsOf(await live('new')), ['b'])
          })
        }
        it('hand over what is written under the old name after a rename', async () => {
          await db.artifacts.save(session('old', ['a']))
          await db.artifacts.destroy('Session', 'old', NOW)
          await db.artifacts.save(session('new', ['a']))
          await other.artifacts.save(session('old', ['a', 'b']))
          assert.deepEqual(clientsOf(await live('new')), ['a', 'b'])
          assert.equal(await live('old'), undefined)
        })
        it('hand over what is written under the old name while the rename is half done', async () => {
          await db.artifacts.save(session('old', ['a']))
          await db.artifacts.destroy('Session', 'old', NOW)
          await other.artifacts.save(session('old', ['a', 'b']))
          await db.artifacts.save(session('new', ['a']))
          assert.deepEqual(clientsOf(await live('new')), ['a', 'b'])
        })
        it('hand over what was written under the old name after the renaming request had read it', async () => {
          await db.artifacts.save(session('old', ['a']))
          await other.artifacts.save(session('old', ['a', 'b']))
          await db.artifacts.destroy('Session', 'old', NOW)
          await db.artifacts.save(session('new', ['a']))
          assert.deepEqual(clientsOf(await live('new')), ['a', 'b'])
        })
      })
    })

    describe('directory', () => {
      it('keeps companies, people, clients and APIs', async () => {
        const mfa = { enforced_from: '2027-01-01', zone: 'Europe/Berlin', sso: 'challenge' as const }
        const resource = { id: 'https://api.example', name: 'Api', scopes: ['read', 'write'] }
        const opaque: Resource = {
          ...resource,
          id: 'https://opaque.example',
          token_format: 'opaque',
          client: 'app',
          service_clients: ['app'],
        }
        const client = { client_id: 'app', client_secret: 'shh', redirect_uris: ['https://app.example'] }
        await db.directory.commit([
          putCompany({ mfa }),
          { kind: 'client', op: 'put', value: client },
          { kind: 'client', op: 'put', value: { client_id: 'spa' } },
          { kind: 'resource', op: 'put', value: resource },
          { kind: 'resource', op: 'put', value: opaque },
        ])
        assert.deepEqual(await other.directory.companies(), [{ ...COMPANY, mfa }])
        assert.deepEqual(await other.directory.company('acme'), { ...COMPANY, mfa })
        assert.equal(await other.directory.company('none'), undefined)
        assert.deepEqual(await other.directory.clients(), [client, { client_id: 'spa' }])
        assert.deepEqual(await other.directory.client('app'), client)
        assert.equal(await other.directory.client('none'), undefined)
        assert.deepEqual(await other.directory.resources(), [resource, opaque])
        assert.deepEqual(
          (await other.directory.users()).map(({ id }) => id),
          ['ana', 'bob'],
        )
        assert.equal((await other.directory.user('ana'))?.email, 'ana@acme.example')
        assert.equal((await other.directory.user('ana@acme.example'))?.id, 'ana')
        assert.equal(await other.directory.user('none'), undefined)
      })
      it('says of a person what they have', async () => {
        const before = (await db.directory.user('ana'))!
        assert.deepEqual([before.hasPassword, before.factors, before.recoveryCode], [true, [], 'none'])
        assert.equal((await db.directory.user('bob'))?.hasPassword, false)
        await db.factors.activate('ana', activation())
        assert.equal((await db.directory.user('ana'))?.recoveryCode, 'unacknowledged')
        await db.factors.setRecoveryCode('ana', { replaces: 'code-1', id: 'code-2', hash: 'hash' })
        await db.factors.acknowledgeRecoveryCode('ana', 'code-2')
        const after = (await db.directory.user('ana'))!
        assert.equal(after.recoveryCode, 'acknowledged')
        assert.deepEqual(after.factors, [{ method: 'otp', addedAt: NOW }])
      })
      it('raises the epoch with a new password and with disabling, and with nothing else', async () => {
        const epoch = async () => (await ana()).securityEpoch
        await db.directory.commit([person('ana', { name: 'Other' })])
        assert.equal(await epoch(), 0)
        await db.directory.commit([person('ana', {}, 'hash-2')])
        assert.equal(await epoch(), 1)
        assert.equal((await db.accounts.findByEmail('ana@acme.example'))?.passwordHash, 'hash-2')
        await db.directory.commit([person('ana', { disabled: true })])
        assert.equal(await epoch(), 2)
        await db.directory.commit([person('ana', { disabled: true })])
        await db.directory.commit([person('ana')])
        assert.equal(await epoch(), 2)
        assert.equal((await db.accounts.findByEmail('ana@acme.example'))?.passwordHash, 'hash-2')
      })
      it('keeps factors when a person is put again', async () => {
        await enrolled()
        await db.directory.commit([person('ana', { name: 'Other' })])
        assert.equal(await db.factors.totpSecret('ana'), SECRET)
        assert.equal((await ana()).recoveryCode?.acknowledged, true)
      })
      it('keeps former secrets with their times, and a client without any as it was', async () => {
        const former_secrets = [
          { secret: 'one with spaces', until: NOW + 60 },
          { secret: 'two', until: NOW + 120 },
        ]
        const client = { client_id: 'app', client_secret: 'now', former_secrets, redirect_uris: [] }
        await db.directory.commit([{ kind: 'client', op: 'put', value: client }])
        assert.deepEqual(await other.directory.client('app'), client)
        assert.deepEqual(await other.directory.clients(), [client])
        const { former_secrets: _, ...alone } = client
        await db.directory.commit([{ kind: 'client', op: 'put', value: alone }])
        assert.deepEqual(await other.directory.client('app'), alone)
      })
      it('reads people in parts, each after an address', async () => {
        await db.directory.commit(['eve', 'Zed', 'ünal'].map((id) => person(id)))
        const all = (await other.directory.users()).map(({ email }) => email)
        const read: string[] = []
        for (;;) {
          const part = await other.directory.users({ after: read.at(-1) ?? '', limit: 2 })
          if (part.length === 0) break
          assert.ok(part.length <= 2)
          read.push(...part.map(({ email }) => email))
        }
        assert.deepEqual(read, all)
        assert.equal(all.length, 5)
      })
      it('refuses a change of what somebody else has changed since, and writes nothing of that commit', async () => {
        const app = { client_id: 'app', client_secret: 'one', redirect_uris: ['https://a.example'] }
        const api = { id: 'https://api.example', name: 'Api', scopes: ['a', 'b'] }
        const mfa = { enforced_from: '2027-01-01', zone: 'UTC' }
        const added: Change[] = [
          { kind: 'client', op: 'put', value: app, was: null },
          { kind: 'resource', op: 'put', value: api, was: null },
          { kind: 'company', op: 'put', value: { ...COMPANY, id: 'new', domains: ['b', 'a'], mfa }, was: null },
        ]
        await db.directory.commit(added)
        // As the directory reads them, from another connection too.
        const bob = writtenOf((await other.directory.user('bob'))!)
        const company = (await other.directory.company('new'))!
        const client = (await other.directory.client('app'))!
        const planned: Change[] = [
          { kind: 'client', op: 'put', value: { ...app, client_name: 'App' }, was: client },
          {
            kind: 'resource',
            op: 'put',
            value: { ...api, scopes: ['a'] },
            was: (await other.directory.resources())[0]!,
          },
          { kind: 'company', op: 'put', value: { ...company, name: 'New' }, was: company },
          { kind: 'user', op: 'put', value: { ...bob, name: 'Bob' }, was: bob },
        ]
        const refused = async (...changes: Change[]) => {
          const half: Change = { kind: 'client', op: 'put', value: { client_id: 'half' } }
          await assert.rejects(db.directory.commit([half, ...changes]), ChangedMeanwhile)
          assert.equal(await other.directory.client('half'), undefined)
        }
        for (const change of added) await refused(change)
        await db.directory.commit(planned)
        // Each of them is what it was no longer; a secret alone is a change too.
        for (const change of planned) await refused(change)
        const now = (await db.directory.client('app'))!
        await db.directory.commit([{ kind: 'client', op: 'put', value: { ...now, client_secret: 'two' }, was: now }])
        await refused({ kind: 'client', op: 'put', value: { ...now, client_name: 'B' }, was: now })
        await refused({ kind: 'client', op: 'put', value: now, was: { ...now, client_id: 'gone' } })
      })
      it('of parallel changes of one thing that were planned from the same makes one', async () => {
        await db.directory.commit([{ kind: 'client', op: 'put', value: { client_id: 'app', n: 0 } }])
        const was = (await db.directory.client('app'))!
        const results = await Promise.allSettled(
          Array.from({ length: 10 }, (_, index) =>
            (index % 2 ? db : other).directory.commit([
              { kind: 'client', op: 'put', value: { client_id: 'app', n: index + 1 }, was },
            ]),
          ),
        )
        const won = results.flatMap(({ status }, index) => (status === 'fulfilled' ? [index] : []))
        assert.equal(won.length, 1)
        for (const result of results)
          if (result.status === 'rejected') assert.ok(result.reason instanceof ChangedMeanwhile, String(result.reason))
        assert.deepEqual(await other.directory.client('app'), { client_id: 'app', n: won[0]! + 1 })
      })
      it('writes all changes or none, and names the conflict', async () => {
        const commit = (...changes: Change[]) =>
          db.directory.commit([{ kind: 'client', op: 'put', value: { client_id: 'half' } }, ...changes])
        await assert.rejects(
          commit(person('eve', { email: 'ana@acme.example' })),
          (error: Error) => error instanceof StoreConflict && error.message.includes('ana@acme.example'),
        )
        const lost = person('eve', { memberships: [{ company: 'gone', roles: [], disabled: false }] })
        await assert.rejects(
          commit(lost),
          (error: Error) => error instanceof StoreConflict && error.message.includes('gone'),
        )
        await assert.rejects(
          commit({ kind: 'company', op: 'remove', id: 'acme' }),
          (error: Error) => error instanceof StoreConflict && error.message.includes('acme'),
        )
        assert.equal(await other.directory.client('half'), undefined)
        assert.equal(await other.directory.user('eve'), undefined)
        assert.ok(await other.directory.company('acme'))
      })
      it('lets one of parallel commits have an address, and writes nothing of the others', async () => {
        const wanted = (index: number) => [
          person(`person-${index}`, { email: 'wanted@acme.example' }),
          { kind: 'client' as const, op: 'put' as const, value: { client_id: `client-${index}` } },
        ]
        const results = await Promise.allSettled(
          Array.from({ length: 10 }, (_, index) => (index % 2 ? db : other).directory.commit(wanted(index))),
        )
        const won = results.findIndex(({ status }) => status === 'fulfilled')
        for (const [index, result] of results.entries())
          if (index !== won) assert.ok(result.status === 'rejected' && result.reason instanceof StoreConflict)
        assert.equal((await db.directory.user('wanted@acme.example'))?.id, `person-${won}`)
        assert.deepEqual(await db.directory.clients(), [{ client_id: `client-${won}` }])
        assert.equal((await db.directory.users()).length, 3)
      })
      it('makes all of parallel commits that do not contradict each other', async () => {
        await Promise.all(
          Array.from({ length: 10 }, (_, index) => (index % 2 ? db : other).directory.commit([person(`p-${index}`)])),
        )
        assert.equal((await db.directory.users()).length, 12)
        assert.deepEqual(await db.check(), [])
      })
      it('changes addresses over cross in one commit', async () => {
        await db.directory.commit([
          person('ana', { email: 'bob@acme.example' }),
          person('bob', { email: 'ana@acme.example' }),
        ])
        assert.equal((await other.accounts.findByEmail('ana@acme.example'))?.account.id, 'bob')
        assert.equal((await other.accounts.findByEmail('bob@acme.example'))?.account.id, 'ana')
        assert.deepEqual(await db.check(), [])
      })
      it('frees an address that its person gave up', async () => {
        await db.directory.commit([person('ana', { email: 'ana.new@acme.example' })])
        assert.equal(await other.accounts.findByEmail('ana@acme.example'), undefined)
        await db.directory.commit([person('eve', { email: 'ana@acme.example' })])
        assert.equal((await other.accounts.findByEmail('ana@acme.example'))?.account.id, 'eve')
      })
      it('begins anew with a person who comes back', async () => {
        await enrolled()
        await db.directory.commit([person('ana', {}, 'hash-2')])
        await db.directory.commit([{ kind: 'user', op: 'remove', id: 'ana' }])
        await db.directory.commit([person('ana')])
        const account = await ana()
        assert.deepEqual([account.enrolled, account.recoveryCode, account.factorVersion], [{}, undefined, 0])
        assert.equal((await other.accounts.findByEmail('ana@acme.example'))?.passwordHash, undefined)
      })
      it('keeps names with dots and dollars in what belongs to others', async () => {
        const client = { client_id: '$app.1', 'a.b': { $set: { 'c.d': 1 } }, $where: '1' }
        await db.directory.commit([{ kind: 'client', op: 'put', value: client }])
        assert.deepEqual(await other.directory.client('$app.1'), client)
        const payload = { authorizations: { '$app.1': { 'x.y': null } }, 'a.b': [{ $gt: '' }] }
        await db.artifacts.save({ model: 'Grant', key: '$k.1', payload, expiresAt: undefined })
        assert.deepEqual((await other.artifacts.find('Grant', '$k.1', NOW))?.payload, payload)
      })
      it('takes a company and its people in any order, in and out', async () => {
        const eve = person('eve', { memberships: [{ company: 'new', roles: [], disabled: false }] })
        await db.directory.commit([eve, putCompany({ id: 'new' })])
        assert.equal((await db.directory.user('eve'))?.memberships[0]?.company, 'new')
        await db.directory.commit([
          { kind: 'company', op: 'remove', id: 'new' },
          { kind: 'user', op: 'remove', id: 'eve' },
        ])
        assert.equal(await db.directory.company('new'), undefined)
      })
      it('gives the address of a removed person to another in one commit', async () => {
        await db.directory.commit([
          person('eve', { email: 'ana@acme.example' }),
          { kind: 'user', op: 'remove', id: 'ana' },
        ])
        assert.equal((await other.directory.user('ana@acme.example'))?.id, 'eve')
      })
      it('removes a person with all that was theirs', async () => {
        await enrolled()
        await db.devices.remember('device', 'ana', NOW)
        await db.artifacts.save({
          model: 'Session',
          key: 's',
          payload: {},
          expiresAt: undefined,
          accountId: 'ana',
          uid: 'u',
        })
        await db.directory.commit([{ kind: 'user', op: 'remove', id: 'ana' }])
        assert.equal(await other.accounts.find('ana'), undefined)
        assert.equal(await other.factors.totpSecret('ana'), undefined)
        assert.equal(await other.factors.recoveryCodeHash('ana'), undefined)
        assert.equal(await other.devices.knows('device', 'ana'), false)
        assert.equal(await other.artifacts.find('Session', 's', NOW), undefined)
        assert.deepEqual(await other.check(), [])
      })
      it('removes clients and APIs', async () => {
        await db.directory.commit([
          { kind: 'client', op: 'put', value: { client_id: 'app' } },
          { kind: 'resource', op: 'put', value: { id: 'api', name: 'Api', scopes: [] } },
        ])
        await db.directory.commit([
          { kind: 'client', op: 'remove', id: 'app' },
          { kind: 'resource', op: 'remove', id: 'api' },
        ])
        assert.deepEqual([await other.directory.clients(), await other.directory.resources()], [[], []])
      })
      it('resets a person’s factors, and says when there is no such person', async () => {
        await enrolled()
        assert.equal(await db.directory.resetMfa('ana', { now: NOW }), true)
        const account = await ana()
        assert.deepEqual([account.enrolled, account.recoveryCode], [{}, undefined])
        assert.deepEqual([account.factorVersion, account.securityEpoch], [2, 1])
        assert.equal(await db.factors.totpSecret('ana'), undefined)
        assert.equal(await db.directory.resetMfa('nobody', { now: NOW }), false)
      })
      it('shuts a person out once, which raises the epoch, and lets them in again', async () => {
        assert.equal(winners(await fifty((one) => one.directory.setDisabled('ana', true))), 1)
        assert.deepEqual([(await ana()).disabled, (await ana()).securityEpoch], [true, 1])
        assert.equal(winners(await fifty((one) => one.directory.setDisabled('ana', false))), 1)
        assert.deepEqual([(await ana()).disabled, (await ana()).securityEpoch], [false, 1])
        assert.equal(await db.directory.setDisabled('nobody', true), false)
      })
      it('ends what was proven before, as often as it is told to', async () => {
        assert.equal(winners(await fifty((one) => one.directory.raiseEpoch('ana'))), 50)
        assert.equal((await ana()).securityEpoch, 50)
        assert.equal(await db.directory.raiseEpoch('nobody'), false)
        assert.equal(winners(await fifty((one) => one.directory.raiseEpoch('ana', 50))), 1)
        assert.equal((await ana()).securityEpoch, 51)
      })
    })

    describe('connections', () => {
      const COMPANIES = [
        putCompany({ domains: ['acme.example', 'b.example'] }),
        putCompany({ id: 'best', domains: ['best.example'] }),
        { kind: 'client', op: 'put', value: { client_id: 'app' } } as Change,
      ]
      const foreign = { ...CONNECTION.idp, entityId: 'https://idp.example/best' }
      const refused = async (about: RegExp, ...changes: Change[]) => {
        const half: Change = { kind: 'client', op: 'put', value: { client_id: 'half' } }
        await assert.rejects(
          db.directory.commit([half, ...changes]),
          (error: Error) => error instanceof StoreConflict && about.test(error.message),
        )
        assert.equal(await other.directory.client('half'), undefined)
      }
      beforeEach(() => db.directory.commit(COMPANIES))

      it('come back as they were written, the directory’s without a private key', async () => {
        const full = {
          client: 'app',
          metadataUrl: 'https://idp.example/metadata',
          nameIdFormat: 'urn:x',
          attributes: { email: 'mail', name: 'displayName' },
          trustedContexts: ['urn:mfa'],
        }
        await db.directory.commit([connect(full)])
        const written = { ...CONNECTION, ...full }
        assert.deepEqual(await other.connections.connection('acme-sso'), { ...written, keys: [keyPair('first')] })
        const seen = { ...written, keys: [{ certificate: 'first certificate' }] }
        assert.deepEqual(await other.directory.connection('acme-sso'), seen)
        assert.deepEqual(await other.directory.connections(), [seen])
        assert.equal(await other.connections.connection('none'), undefined)
      })
      it('lead from a domain, exactly: the one for the client before the one for all, and none that is not active', async () => {
        await db.directory.commit([
          connect(),
          connect({ id: 'for-app', client: 'app' }),
          connect({ id: 'testing', state: 'testing', domains: ['b.example'] }),
        ])
        const found = async (domain: string, client: string) =>
          (await other.connections.connectionFor(domain, client))?.id
        assert.equal(await found('acme.example', 'app'), 'for-app')
        assert.equal(await found('acme.example', 'another'), 'acme-sso')
        for (const domain of ['b.example', 'Acme.example', 'acme.example.', 'x.acme.example', 'acme', ''])
          assert.equal(await found(domain, 'app'), undefined, domain)
        await db.directory.commit([connect({ id: 'for-app', client: 'app', state: 'disabled' })])
        assert.equal(await found('acme.example', 'app'), 'acme-sso')
        await db.directory.commit([putCompany({ domains: ['acme.example', 'b.example'], disabled: true })])
        assert.equal(await found('acme.example', 'app'), undefined)
        // What is under way ends too; the directory keeps what was written.
        assert.equal((await other.connections.connection('acme-sso'))?.state, 'disabled')
        assert.equal((await other.directory.connection('acme-sso'))?.state, 'active')
      })
      it('have a domain once for each client, unless disabled, and only a verified one', async () => {
        await db.directory.commit([connect()])
        await refused(/acme\.example is taken by connection/, connect({ id: 'second' }))
        await refused(/taken/, connect({ id: 'second', state: 'draft', domains: ['b.example', 'acme.example'] }))
        await refused(/no verified domain/, connect({ id: 'second', domains: ['best.example'] }))
        await refused(/no verified domain/, putCompany({ domains: ['b.example'] }))
        await refused(/does not exist/, connect({ id: 'second', client: 'none' }))
        await refused(/does not exist/, connect({ id: 'second', company: 'none', idp: foreign }))
        // One gives it up and another takes it, in one commit, whatever their order.
        await db.directory.commit([connect({ id: 'second' }), connect({ state: 'disabled' })])
        assert.equal((await other.connections.connectionFor('acme.example', 'app'))?.id, 'second')
        await refused(/taken/, connect())
        await db.directory.commit([
          connect({ id: 'second', domains: ['b.example'] }),
          connect({ id: 'third', client: 'app', domains: ['b.example'] }),
          connect(),
        ])
        assert.equal((await other.connections.connectionFor('b.example', 'app'))?.id, 'third')
        assert.equal((await other.connections.connectionFor('b.example', 'x'))?.id, 'second')
        assert.equal((await other.connections.connectionFor('acme.example', 'x'))?.id, 'acme-sso')
        assert.equal(await other.connections.anyFor('x'), true)
        await db.directory.commit([
          connect({ id: 'second', domains: ['b.example'], state: 'disabled' }),
          connect({ state: 'disabled' }),
        ])
        assert.deepEqual([await other.connections.anyFor('app'), await other.connections.anyFor('x')], [true, false])
      })
      it('give a domain to one of parallel commits', async () => {
        const results = await Promise.allSettled(
          Array.from({ length: 10 }, (_, index) =>
            (index % 2 ? db : other).directory.commit([
              connect({ id: `c-${index}` }),
              { kind: 'client', op: 'put', value: { client_id: `of-${index}` } },
            ]),
          ),
        )
        const won = results.flatMap(({ status }, index) => (status === 'fulfilled' ? [index] : []))
        assert.equal(won.length, 1)
        for (const result of results)
          if (result.status === 'rejected') assert.match((result.reason as Error).message, /taken by connection/)
        assert.deepEqual(
          (await other.directory.connections()).map(({ id }) => id),
          [`c-${won[0]}`],
        )
        assert.equal((await other.directory.clients()).filter(({ client_id }) => client_id.startsWith('of-')).length, 1)
      })
      it('activate a domain once, whichever of two drafts comes first', async () => {
        await db.directory.commit(['one', 'two'].map((id) => connect({ id, state: 'disabled' })))
        const results = await Promise.allSettled(
          ['one', 'two'].map((id, index) => (index ? db : other).directory.commit([connect({ id, state: 'active' })])),
        )
        assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
        const active = (await db.directory.connections()).filter(({ state }) => state === 'active')
        assert.equal(active.length, 1)
        assert.equal((await other.connections.connectionFor('acme.example', 'app'))?.id, active[0]!.id)
      })
      it('share an identity provider inside one company, and with no other', async () => {
        await db.directory.commit([connect(), connect({ id: 'second', domains: ['b.example'] })])
        const best = { id: 'best-sso', company: 'best', domains: ['best.example'] }
        await refused(/another company/, connect(best))
        await refused(/another company/, connect({ ...best, state: 'disabled' }))
        await db.directory.commit([connect({ ...best, idp: foreign })])
        const results = await Promise.allSettled([
          db.directory.commit([connect({ id: 'x', state: 'disabled', idp: { ...foreign, entityId: 'urn:new' } })]),
          other.directory.commit([
            connect({ ...best, id: 'y', state: 'disabled', idp: { ...foreign, entityId: 'urn:new' } }),
          ]),
        ])
        assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
      })
      it('stay with their company, and it and their client stay while they are there', async () => {
        await db.directory.commit([connect({ client: 'app' })])
        await refused(/stays with company "acme"/, connect({ company: 'best', domains: ['best.example'] }))
        await refused(/does not exist/, { kind: 'client', op: 'remove', id: 'app' })
        const people: Change[] = ['ana', 'bob'].map((id) => ({ kind: 'user', op: 'remove', id }))
        const company: Change = { kind: 'company', op: 'remove', id: 'acme' }
        await refused(/acme/, ...people, company)
        await db.directory.commit([
          { kind: 'connection', op: 'remove', id: 'acme-sso' },
          { kind: 'client', op: 'remove', id: 'app' },
        ])
        assert.deepEqual(await other.directory.connections(), [])
        assert.equal(await other.connections.connectionFor('acme.example', 'app'), undefined)
      })
      it('are refused without a first key pair, and keep theirs when they are written again', async () => {
        await refused(/needs a key pair/, { kind: 'connection', op: 'put', value: CONNECTION })
        await db.directory.commit([connect()])
        await db.directory.commit([connect({ jit: true }, keyPair('other'))])
        assert.deepEqual((await other.connections.connection('acme-sso'))?.keys, [keyPair('first')])
        await db.directory.commit([{ kind: 'connection', op: 'remove', id: 'acme-sso' }])
        await db.directory.commit([connect({}, keyPair('other'))])
        assert.deepEqual((await other.connections.connection('acme-sso'))?.keys, [keyPair('other')])
      })
      it('change keys once from what was read', async () => {
        await db.directory.commit([connect()])
        const before = (await db.directory.connection('acme-sso'))!.keys
        const results = await Promise.all(
          Array.from({ length: 10 }, (_, index) =>
            (index % 2 ? db : other).directory.replaceConnectionKeys('acme-sso', before, [
              keyPair(`new-${index}`),
              keyPair('first'),
            ]),
          ),
        )
        assert.equal(winners(results), 1)
        const { keys } = (await other.connections.connection('acme-sso'))!
        assert.deepEqual(keys, [keyPair(`new-${results.indexOf(true)}`), keyPair('first')])
        assert.equal(await db.directory.replaceConnectionKeys('none', before, []), false)
      })
      it('remember a dry run until what it tried is changed', async () => {
        await db.directory.commit([connect({ state: 'testing' })])
        const testedAt = async () => (await other.directory.connection('acme-sso'))?.testedAt
        assert.equal(await testedAt(), undefined)
        assert.equal(await db.directory.recordTest(CONNECTION, NOW), true)
        assert.equal(await db.directory.recordTest({ ...CONNECTION, id: 'none' }, NOW), false)
        await db.directory.commit([connect({ jit: true, mode: 'allow_password' })])
        assert.equal(await testedAt(), NOW)
        await db.directory.commit([connect({ idp: { ...CONNECTION.idp, ssoUrl: 'https://idp.example/other' } })])
        assert.equal(await testedAt(), undefined)
        // Those that were tried are not those that are there.
        assert.equal(await db.directory.recordTest(CONNECTION, NOW), false)
        assert.equal(await testedAt(), undefined)
      })
      it('remember no dry run of settings that were changed at the same moment', async () => {
        await db.directory.commit([connect({ state: 'testing' })])
        for (let round = 0; round < 20; round++) {
          const ssoUrl = `https://idp.example/${round}`
          const before = (await db.directory.connection('acme-sso'))!
          const [, recorded] = await Promise.all([
            db.directory.commit([connect({ state: 'testing', idp: { ...before.idp, ssoUrl } })]),
            other.directory.recordTest(before, NOW),
          ])
          const after = (await other.directory.connection('acme-sso'))!
          assert.deepEqual([after.idp.ssoUrl, after.testedAt], [ssoUrl, undefined], `recorded: ${recorded}`)
        }
      })
      it('refuse a change of what somebody else has changed since', async () => {
        await db.directory.commit([{ ...connect(), was: null } as Change])
        await refused(/changed by somebody else/, { ...connect(), was: null } as Change)
        await db.directory.commit([{ ...connect({ jit: true }), was: CONNECTION } as Change])
        await refused(/changed by somebody else/, { ...connect({ state: 'disabled' }), was: CONNECTION } as Change)
        // Keys and tests are not what a change writes.
        await db.directory.recordTest(CONNECTION, NOW)
        await db.directory.commit([{ ...connect(), was: { ...CONNECTION, jit: true } } as Change])
      })
    })

    describe('signing keys', () => {
      const key = (kid: string, createdAt = NOW) => ({ kid, privateJwk: `{"kid":"${kid}"}`, createdAt })
      const states = async () =>
        Object.fromEntries((await other.signingKeys.signingKeys()).map(({ kid, state }) => [kid, state]))
      it('begin with one key, whoever starts first', async () => {
        const added = await fifty((one, index) => one.signingKeys.addFirstSigningKey(key(`key-${index}`)))
        assert.equal(winners(added), 1)
        assert.deepEqual(Object.values(await states()), ['active'])
      })
      it('are published ahead, one at a time', async () => {
        await db.signingKeys.addFirstSigningKey(key('one'))
        const published = await fifty((one, index) =>
          one.signingKeys.publishSigningKey(key(`next-${index}`, NOW + 1), NOW + 100),
        )
        assert.equal(winners(published), 1)
        const next = `next-${published.indexOf(true)}`
        assert.deepEqual(await other.signingKeys.signingKeys(), [
          { ...key(next, NOW + 1), state: 'next', activatesAt: NOW + 100 },
          { ...key('one'), state: 'active' },
        ])
      })
      it('sign once they are activated, once, and keep the one before as retired', async () => {
        await db.signingKeys.addFirstSigningKey(key('one'))
        await db.signingKeys.publishSigningKey(key('two', NOW + 1), NOW + 100)
        assert.equal(await db.signingKeys.activateSigningKey('one', NOW + 100), false)
        assert.equal(await db.signingKeys.activateSigningKey('other', NOW + 100), false)
        const activated = await fifty((one, index) => one.signingKeys.activateSigningKey('two', NOW + 100 + index))
        assert.equal(winners(activated), 1)
        assert.deepEqual(await other.signingKeys.signingKeys(), [
          { ...key('two', NOW + 1), state: 'active' },
          { ...key('one'), state: 'retired', retiredAt: NOW + 100 + activated.indexOf(true) },
        ])
        assert.equal(await db.signingKeys.publishSigningKey(key('three', NOW + 2), NOW + 200), true)
        await db.signingKeys.activateSigningKey('three', NOW + 200)
        assert.deepEqual(await states(), { one: 'retired', two: 'retired', three: 'active' })
      })
      it('are removed once, and never the one that signs', async () => {
        await db.signingKeys.addFirstSigningKey(key('one'))
        await db.signingKeys.publishSigningKey(key('two'), NOW)
        await db.signingKeys.activateSigningKey('two', NOW)
        assert.equal(winners(await fifty((one) => one.signingKeys.removeSigningKey('one'))), 1)
        assert.equal(await db.signingKeys.removeSigningKey('two'), false)
        assert.equal(await db.signingKeys.removeSigningKey('other'), false)
        assert.deepEqual(await states(), { two: 'active' })
      })
    })

    describe('audit', () => {
      const event = (name: string, more: object = {}) => ({
        event: name,
        outcome: 'success' as const,
        at: NOW,
        ...more,
      })
      it('keeps events newest first, and filters them', async () => {
        const details = { code: 'throttled', list: ['a'], n: 1 }
        await db.audit.append(event('login.password', { accountId: 'ana', details, reasons: ['payor'] }))
        await other.audit.append(event('mfa.otp', { accountId: 'ana' }))
        await db.audit.append(event('mfa.otp', { accountId: 'bob' }))
        const rows = await other.auditReader.auditRows()
        assert.deepEqual(
          rows.map((row) => [row.event, row.accountId]),
          [
            ['mfa.otp', 'bob'],
            ['mfa.otp', 'ana'],
            ['login.password', 'ana'],
          ],
        )
        assert.deepEqual(rows[2]?.details, details)
        assert.deepEqual(rows[2]?.reasons, ['payor'])
        assert.equal((await db.auditReader.auditRows({ accountId: 'ana' })).length, 2)
        assert.equal((await db.auditReader.auditRows({ event: 'mfa.otp', limit: 1 })).length, 1)
      })
      it('reads from the beginning, page by page, one person and one time', async () => {
        for (let at = 0; at < 2300; at += 100)
          await Promise.all(
            Array.from({ length: 100 }, (_, index) =>
              (index % 2 ? db : other).audit.append(
                event('mfa.otp', { at: at + index, accountId: index % 3 ? 'ana' : 'bob' }),
              ),
            ),
          )
        const read = async (filter?: { accountId?: string; from?: number; to?: number }) => {
          const rows = []
          for await (const row of db.auditReader.auditFromTheBeginning(filter)) rows.push(row)
          return rows
        }
        const all = await read()
        assert.equal(new Set(all.map(({ writer, number }) => `${writer} ${number}`)).size, 2300)
        assert.deepEqual(
          all.map(({ at }) => Math.floor(at / 100)),
          all.map((_, index) => Math.floor(index / 100)),
        )
        for (const { previous, body, hash } of all.slice(0, 50))
          assert.equal(createHash('sha256').update(`${previous}\n${body}`).digest('hex'), hash)
        assert.equal((await read({ accountId: 'bob' })).length, 23 * 34)
        assert.equal((await read({ from: 100, to: 1250 })).length, 1150)
        assert.equal((await read({ from: 2300 })).length, 0)
        assert.equal((await db.auditReader.auditRows({ since: 2290, limit: 99 })).length, 10)
        assert.deepEqual(await db.auditReader.verifyAudit(), { rows: 2300 })
      })
      it('names the last row of each chain, and of those that have grown behind a row', async () => {
        for (const name of ['one', 'two', 'three']) await db.audit.append(event(name))
        const [third] = await db.auditReader.auditRows({ limit: 1 })
        await other.audit.append(event('four'))
        const [fourth] = await db.auditReader.auditRows({ limit: 1 })
        const head = ({ writer, number, hash }: AuditRow) => ({ writer, number, hash })
        const byWriter = (a: { writer: string }, b: { writer: string }) => (a.writer < b.writer ? -1 : 1)
        assert.deepEqual(await db.auditReader.auditHeads(), [head(third!), head(fourth!)].sort(byWriter))
        assert.deepEqual(await db.auditReader.auditHeads(third!.id), [head(fourth!)])
        assert.deepEqual(await db.auditReader.auditHeads(fourth!.id), [])
      })
      it('misses a row that was there once', async () => {
        await fifty((one, index) => one.audit.append(event(`event-${index}`)))
        const heads = await db.auditReader.auditHeads()
        assert.deepEqual(await db.auditReader.verifyAudit(heads), { rows: 50 })
        const [head, last] = heads
        for (const [wrong, why] of [
          [{ ...last!, number: last!.number + 1 }, /ends before/],
          [{ ...head!, writer: 'another' }, /ends before/],
          [{ ...head!, hash: last!.hash }, /written anew/],
        ] as const)
          assert.match((await db.auditReader.verifyAudit([wrong])).broken?.why ?? '', why)
      })
      it('numbers each writer’s chain without a gap, and finds it whole', async () => {
        await fifty((one, index) => one.audit.append(event(`event-${index}`)))
        assert.deepEqual(await db.auditReader.verifyAudit(), { rows: 50 })
        const rows = await db.auditReader.auditRows()
        assert.equal(new Set(rows.map(({ writer }) => writer)).size, 2)
        for (const writer of new Set(rows.map((row) => row.writer))) {
          const chain = rows.filter((row) => row.writer === writer).reverse()
          assert.deepEqual(
            chain.map(({ number }) => number),
            chain.map((_, index) => index + 1),
          )
          for (const [index, row] of chain.entries()) if (index > 0) assert.equal(row.previous, chain[index - 1]?.hash)
        }
      })
    })

    describe('housekeeping', () => {
      it('sweeps what has expired and nothing else', async () => {
        await db.artifacts.save({ model: 'AccessToken', key: 'old', payload: {}, expiresAt: NOW })
        await db.artifacts.save({ model: 'AccessToken', key: 'live', payload: {}, expiresAt: NOW + 900 })
        await db.artifacts.save({ model: 'AccessToken', key: 'eternal', payload: {}, expiresAt: undefined })
        await db.pending.keep({ owner: 'o', purpose: 'p', value: 'v', expiresAt: NOW, now: NOW - 60 })
        await db.throttle.take([{ key: 'k', rule: { kind: 'window', limit: 1, seconds: 60 } }], NOW - 600)
        await db.throttle.take([{ key: 's', rule: { kind: 'streak', every: 1, wait: 1e6 } }], NOW - 600)
        assert.equal(await db.sweep(NOW + 300), 3)
        assert.equal(await db.sweep(NOW + 300), 0)
        assert.ok(await db.artifacts.find('AccessToken', 'live', NOW))
        assert.ok(await db.artifacts.find('AccessToken', 'eternal', NOW))
        const streak = await db.throttle.take([{ key: 's', rule: { kind: 'streak', every: 1, wait: 1e6 } }], NOW)
        assert.equal(streak.allowed, false)
      })
      it('answers a ping and finds itself whole', async () => {
        await db.ping()
        assert.deepEqual(await db.check(), [])
      })
      it('has nothing to encrypt anew while the key is the same', async () => {
        await db.factors.activate('ana', activation())
        assert.equal(await db.rewrap(), 0)
      })
      it('does not answer once it is closed', async () => {
        const third = await opened.again()
        await third.close()
        await assert.rejects(third.ping())
      })
    })
  })
}
