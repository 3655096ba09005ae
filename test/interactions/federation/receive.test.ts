/** Responses that are used once, over a real database; and two companies, one of which attacks the other. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { openSqlite, type SqliteDatabase } from '../../../adapters/sqlite/index.ts'
import {
  explain,
  type Received,
  readFacts,
  receiveResponse,
  type SamlConnection,
  verifyResponse,
} from '../../../interactions/federation/saml/index.ts'
import { keepTrace, readTrace } from '../../../interactions/federation/trace.ts'
import { digest, KeyRing, newKeyRing } from '../../../interactions/kit/keyring.ts'
import { temporaryFolder } from '../../support/temporary.ts'
import { hostile } from '../../vectors/saml/hostile.ts'
import * as m from '../../vectors/saml/message.ts'

describe('federation: responses are used once', () => {
  let database: SqliteDatabase
  beforeEach(async () => {
    database = await openSqlite({ file: join(temporaryFolder(), 'store.db'), sealer: new KeyRing(newKeyRing()) })
  })
  afterEach(() => database.close())

  const ask = (relayState: string, connection: SamlConnection = m.acme) =>
    database.federation.keepRequest({
      handle: digest(relayState),
      id: `_request-of-${relayState}`,
      connectionId: connection.id,
      interaction: `uid-of-${relayState}`,
      createdAt: m.NOW - 30,
      expiresAt: m.NOW + 570,
      forceAuthn: false,
      authnContexts: [],
    })
  const post = (xml: string, relayState = 'acme', connection = m.acme): Promise<Received> =>
    receiveResponse({ form: m.form(xml, relayState), connection, store: database.federation, now: m.NOW })
  const taken = (relayState = 'acme', interaction = `uid-of-${relayState}`) =>
    database.federation.takeFacts(digest(relayState), interaction, m.NOW)

  it('keeps what was said for the interaction that asked', async () => {
    await ask('acme')
    const authn = m.authnStatement({ SessionNotOnOrAfter: m.at(3600) })
    const { verified, handle } = await post(m.message({ authn }))
    assert.equal(handle, digest('acme'))
    assert.equal(await taken('acme', 'uid-of-another'), undefined)
    assert.deepEqual(readFacts((await taken())!), { ...verified, connectionId: 'acme-sso' })
    assert.equal(await taken(), undefined)
  })
  it('refuses the same response a second time', async () => {
    await ask('acme')
    assert.ok((await post(m.message())).verified)
    assert.equal((await post(m.message())).refusal?.code, 'request_answered')
  })
  it('of many that post one response at once believes one', async () => {
    await ask('acme')
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => post(m.message())))
    assert.equal(outcomes.filter(({ verified }) => verified).length, 1)
  })
  it('refuses an assertion whose id was used in another sign-in', async () => {
    await ask('acme')
    await ask('acme-other')
    assert.ok((await post(m.message())).verified)
    const { refusal, checks } = await post(m.message({ relayState: 'acme-other' }), 'acme-other')
    assert.equal(refusal?.code, 'replay')
    assert.equal(checks.at(-1)?.code, 'replay')
  })
  it('uses up nothing for a response that is refused', async () => {
    await ask('acme')
    const stranger = m.message({ signature: { key: m.strangerKey } })
    assert.equal((await post(stranger)).refusal?.code, 'signature')
    assert.ok((await post(m.message())).verified)
  })
  it('refuses an answer to a question that was never asked', async () => {
    assert.equal((await post(m.message())).refusal?.code, 'request')
  })

  describe('two companies', () => {
    const theirs = { from: m.best, to: m.best, signature: { key: m.bestKey } }
    const mail = (address: string) => m.element('saml:AttributeStatement', {}, m.attribute('mail', address))
    beforeEach(async () => {
      await ask('acme')
      await ask('best', m.best)
    })

    /** All that an identity provider can vary, in all its combinations. */
    const addresses = [
      'ana@acme.example',
      'ANA@ACME.EXAMPLE',
      'ana@аcme.example',
      'ana@acme.example\u200b',
      'eve@best.example',
    ]
    for (const named of addresses)
      for (const mailed of addresses)
        for (const [relayState, connection] of [
          ['acme', m.acme],
          ['acme', m.best],
          ['best', m.acme],
          ['best', m.best],
        ] as const)
          for (const to of [m.acme, m.best])
            it(`NameID ${named}, mail ${mailed}, for ${to.id}, RelayState of ${relayState}, posted to ${connection.id}`, async () => {
              const { verified, refusal } = await post(
                m.message({ ...theirs, to, relayState, nameId: m.nameId(named), attributes: mail(mailed) }),
                relayState,
                connection,
              )
              const isOwn = [named, mailed].every((address) => address === 'eve@best.example')
              const isAllowed = isOwn && relayState === 'best' && connection === m.best && to === m.best
              assert.equal(verified?.email, isAllowed ? 'eve@best.example' : undefined)
              if (!isAllowed) assert.ok(refusal)
              // Whatever happened, nobody of the other company waits to be let in.
              assert.equal(await taken('acme'), undefined)
            })
  })
})

describe('federation: traces of the hostile set', function () {
  this.timeout(60_000)
  let database: SqliteDatabase
  beforeEach(async () => {
    database = await openSqlite({ file: join(temporaryFolder(), 'store.db'), sealer: new KeyRing(newKeyRing()) })
  })
  afterEach(() => database.close())

  it('name the failed check for nine of ten at least, with words for whoever has to mend it', async () => {
    const found = async (relayState: string) => m.requests.get(relayState)
    let named = 0
    for (const [index, { form, connection, now, check, name }] of hostile.entries()) {
      const verification = await verifyResponse({ form, connection, findRequest: found, now })
      const explanation = explain(verification, connection, now)
      const told = { kind: 'sign_in', outcome: 'refused', code: verification.refusal?.code, explanation } as const
      // Each from a network of its own: of one network there are few.
      const from = { network: `198.51.100.${index}`, reference: `reference-${index}`, now: m.NOW }
      await keepTrace(database, {
        ...from,
        connection: `of-${index}`,
        told,
        signed: verification.signatures.length > 0,
      })
      const trace = await database.traces.find(`reference-${index}`, m.NOW)
      assert.ok(trace, name)
      const { code, explanation: kept } = readTrace(trace.said)
      if (code === check && kept?.failed.some((one) => one.check === check && one.advice !== '')) named += 1
      assert.doesNotMatch(trace.said, /<\w|boss@|ana@|Ana Lima/, name)
    }
    assert.ok(hostile.length >= 120)
    assert.ok(named >= 0.9 * hostile.length, `${named} of ${hostile.length}`)
  })
})
