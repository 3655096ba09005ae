/** Dry runs and traces, over HTTP, with an identity provider that has keys of its own. */
import assert from 'node:assert/strict'
import { testLink } from '../../../interactions/federation/dry-run.ts'
import { readTrace } from '../../../interactions/federation/trace.ts'
import { TRACE_KEPT } from '../../../interactions/kit/stores.ts'
import type { Metric } from '../../../server/open.ts'
import { now, wait } from '../../support/clock.ts'
import { hasCode, openTestHouse, stolen, type TestHouse } from '../../support/house.ts'
import { Connections, IdentityProvider, postResponse, type SignedIn } from '../../support/identity-provider.ts'
import { type Answer, headingOf, type Visitor } from '../../support/visitor.ts'
import * as m from '../../vectors/saml/message.ts'

const GONE = 'This test link does not work any more'
const REFUSED = 'We could not confirm your sign-in'
const WORKS = /The sign-in works/

describe('federation: dry runs and traces', () => {
  let test: TestHouse
  let acme: IdentityProvider
  const connections = new Connections()
  const metrics: Metric[] = []
  let people = 0
  const newEmail = () => `tried${++people}@acme.example`

  before(async () => {
    acme = await IdentityProvider.start('acme')
    test = await openTestHouse({}, { connections, onMetric: (metric) => metrics.push(metric) })
  })
  after(async () => {
    await test.close()
    await acme.close()
  })
  beforeEach(() => {
    connections.all.clear()
    connections.tested.length = 0
    connections.put(acme.connection({ state: 'testing' }))
  })

  const link = async (connection = 'acme-sso') =>
    (await testLink(test.database.pending, { issuer: test.url, connection, now: now() })).url
  /** Opens the link and presses the button. @returns the identity provider's address */
  const begin = async (visitor: Visitor, url: string) => {
    const page = await visitor.go(url)
    return visitor.submit(page, {})
  }
  const answerOf = async (location: string, person: SignedIn) => {
    acme.person = person
    return postResponse(await acme.visit(location))
  }
  const tried = async (person: Partial<SignedIn> = {}, visitor = test.visitor()) => {
    const sent = await begin(visitor, await link())
    assert.equal(sent.status, 303, headingOf(sent))
    const came = await answerOf(sent.location!, { email: newEmail(), ...person })
    assert.equal(came.status, 303)
    return { visitor, came, page: await visitor.go(came.location!) }
  }
  const referenceOn = ({ text }: { text: string }) => /<code class="select-all"[^>]*>([^<]+)</.exec(text)?.[1] ?? ''
  const told = async (reference: string) => {
    const trace = await test.database.traces.find(reference, now())
    assert.ok(trace, `no trace ${reference}`)
    return { ...readTrace(trace.said), shelf: trace.shelf }
  }
  /** To the identity provider, from an app. */
  const signInAt = async (visitor: Visitor, email: string) =>
    visitor.submit(await visitor.go(test.authUrl()), { email })

  describe('a dry run', () => {
    it('signs in at the identity provider and explains what came; it counts as a test', async () => {
      const { page } = await tried({ proved: 30 })
      assert.equal(page.status, 200)
      assert.match(page.text, WORKS)
      assert.match(page.text, /signed in<\/dt>\s*<dd>[^(]*\(-3\d s\)/)
      assert.match(page.text, /t…@acme\.example/)
      assert.match(page.text, /No user found with the given email address/)
      assert.doesNotMatch(page.text, /tried\d|Ana Lima/)
      assert.match(String(page.headers.get('cache-control')), /no-store/)
      assert.deepEqual(connections.tested, ['acme-sso'])
    })
    it('makes no session, no person and no link', async () => {
      const email = newEmail()
      connections.put(acme.connection({ state: 'testing', jit: true }))
      const name = { value: 'never-linked', format: m.FORMAT.persistent }
      const { visitor, page } = await tried({ email, name })
      assert.match(page.text, /One is made at the first sign-in/)
      assert.equal(await test.database.directory.user(email), undefined)
      const { entityId: issuer } = acme
      assert.equal(
        await test.database.links.find({ company: 'acme', issuer, format: m.FORMAT.persistent, name: 'never-linked' }),
        undefined,
      )
      assert.doesNotMatch(visitor.cookies.map(({ name }) => name).join(), /session/)
      assert.equal((await visitor.go(test.authUrl({ prompt: 'none' }))).location?.includes('login_required'), true)
    })
    it('routes nobody while the connection is testing', async () => {
      assert.equal(headingOf(await signInAt(test.visitor(), newEmail())).includes('password'), true)
    })
    it('starts from draft, testing and active; a disabled one ends at once', async () => {
      for (const state of ['draft', 'testing', 'active'] as const) {
        connections.put(acme.connection({ state }))
        assert.match((await tried()).page.text, WORKS)
      }
      const visitor = test.visitor()
      const sent = await begin(visitor, await link())
      connections.put(acme.connection({ state: 'disabled' }))
      assert.equal((await answerOf(sent.location!, { email: newEmail() })).status, 400)
      assert.equal(headingOf(await test.visitor().go(await link())), GONE)
    })
    it('works with an identity provider that wants a POST', async () => {
      const one = acme.connection({ state: 'testing' })
      connections.put({ ...one, idp: { ...one.idp, binding: 'post' } })
      const page = await begin(test.visitor(), await link())
      assert.match(page.text, /name="SAMLRequest"/)
      assert.match(String(page.headers.get('content-security-policy')), /form-action 'self' http:\/\/localhost/)
    })
    it('names each failed check, and what to change; it counts for nothing', async () => {
      const { page } = await tried({ message: { audiences: m.audience('urn:other'), conditions: undefined as never } })
      assert.match(page.text, /does not work yet/)
      assert.match(page.text, /<code>audience<\/code>: Set the audience to our entity ID/)
      assert.deepEqual(connections.tested, [])
    })
    it('does not count when the connection was changed meanwhile', async () => {
      const visitor = test.visitor()
      const sent = await begin(visitor, await link())
      const came = await answerOf(sent.location!, { email: newEmail() })
      connections.put(acme.connection({ state: 'testing', attributes: { email: 'other' } }))
      assert.match((await visitor.go(came.location!)).text, WORKS)
      assert.deepEqual(connections.tested, [])
    })
    it('does not count for an address that it did not go to', async () => {
      const visitor = test.visitor()
      const sent = await begin(visitor, await link())
      const { idp } = acme.connection()
      connections.put(acme.connection({ state: 'testing', idp: { ...idp, ssoUrl: 'https://typo.example/sso' } }))
      const came = await answerOf(sent.location!, { email: newEmail() })
      assert.match((await visitor.go(came.location!)).text, WORKS)
      assert.deepEqual(connections.tested, [])
      const [row] = await test.database.auditReader.auditRows({ event: 'connection.tested', limit: 1 })
      assert.equal(row!.details?.['counts'], false)
    })
    it('shows its result again after a reload, and counts once', async () => {
      const { visitor, came } = await tried()
      assert.match((await visitor.go(came.location!)).text, WORKS)
      assert.equal(connections.tested.length, 1)
    })
  })

  describe('the link', () => {
    it('works once, also for two at once, and opening it uses nothing up', async () => {
      const url = await link()
      const pages = await Promise.all(
        [test.visitor(), test.visitor(), test.visitor()].map(async (one) => [one, await one.go(url)] as const),
      )
      const begun = await Promise.all(pages.map(([visitor, page]) => visitor.submit(page, {})))
      assert.deepEqual(begun.map(({ status }) => status).sort(), [303, 400, 400])
      assert.equal(headingOf(await test.visitor().go(url)), GONE)
    })
    it('ends after half an hour, and belongs to its connection', async () => {
      connections.put(acme.connection({ id: 'other-sso', state: 'testing' }))
      const url = await link()
      assert.equal(headingOf(await test.visitor().go(url.replace('acme-sso', 'other-sso'))), GONE)
      wait(30 * 60)
      assert.equal(headingOf(await test.visitor().go(url)), GONE)
    })
    it('starts nothing for another site', async () => {
      const handle = new URL(await link()).searchParams.get('handle')!
      const response = await fetch(`${test.url}/saml/acme-sso/test`, {
        method: 'POST',
        redirect: 'manual',
        headers: { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
        body: new URLSearchParams({ handle }),
      })
      assert.equal(response.status, 403)
    })
    it('is not in the database', async () => {
      const handle = new URL(await link()).searchParams.get('handle')!
      assert.ok(!(await stolen(test)).includes(handle))
    })
  })

  describe('the result', () => {
    it('is for the browser that began, and nobody else counts it', async () => {
      const visitor = test.visitor()
      const sent = await begin(visitor, await link())
      const came = await answerOf(sent.location!, { email: newEmail() })
      const stranger = test.visitor()
      assert.equal(headingOf(await stranger.go(came.location!)), GONE)
      await begin(stranger, await link())
      assert.equal(headingOf(await stranger.go(came.location!)), GONE)
      assert.deepEqual(connections.tested, [])
      assert.match((await visitor.go(came.location!)).text, WORKS)
    })
    it('shows no trace of a sign-in', async () => {
      connections.put(acme.connection())
      const { visitor } = await tried()
      const other = test.visitor()
      const email = newEmail()
      const sent = await signInAt(other, email)
      const refused = await answerOf(sent.location!, { email, message: { signature: { key: m.strangerKey } } })
      const url = `${test.url}/saml/acme-sso/test/result?${new URLSearchParams({ handle: 'x', reference: referenceOn(refused) })}`
      assert.equal(headingOf(await visitor.go(url)), GONE)
    })
  })

  describe('answers of the two kinds', () => {
    it('never take each other’s place: a test’s signs nobody in', async () => {
      connections.put(acme.connection())
      const email = newEmail()
      await test.person(email, 'standard')
      const victim = test.visitor()
      const page = await victim.go(test.authUrl())
      const real = await victim.submit(page, { email })
      const sent = await begin(test.visitor(), await link())
      acme.person = { email }
      const fromTest = await acme.visit(sent.location!)
      const asked = await acme.visit(real.location!)
      // The test's response under the RelayState of the sign-in, and the other way round.
      const crossed = [
        await postResponse({ ...asked, fields: { ...fromTest.fields, RelayState: asked.fields['RelayState']! } }),
        await postResponse({ ...asked, fields: { ...asked.fields, RelayState: fromTest.fields['RelayState']! } }),
      ]
      assert.equal(crossed[0]!.status, 400)
      assert.match(String(crossed[1]!.location), /test\/result/)
      // The answer of the test waits for a browser of the test: the interaction cannot take it.
      const came = await postResponse(fromTest)
      const handle = new URL(came.location!).searchParams.get('handle')!
      const uid = /interaction\/([\w-]+)/.exec(page.at)![1]!
      const taken = await victim.go(`${test.url}/interaction/${uid}/sso-return?${new URLSearchParams({ handle })}`)
      assert.ok(!hasCode(taken))
      assert.ok(taken.status >= 400)
      // What was asked for goes on to be good.
      assert.equal((await postResponse(asked)).status, 303)
    })
    it('cannot be given again', async () => {
      const visitor = test.visitor()
      const sent = await begin(visitor, await link())
      acme.person = { email: newEmail() }
      const posted = await acme.visit(sent.location!)
      assert.match((await visitor.go((await postResponse(posted)).location!)).text, WORKS)
      const again = await visitor.go((await postResponse(posted)).location!)
      assert.match(again.text, /request_answered/)
      assert.equal(connections.tested.length, 1)
    })
    it('leave a sign-in refused while the connection is testing', async () => {
      connections.put(acme.connection())
      const email = newEmail()
      const sent = await signInAt(test.visitor(), email)
      connections.put(acme.connection({ state: 'testing' }))
      const came = await answerOf(sent.location!, { email })
      assert.equal(came.status, 400)
      assert.equal((await told(referenceOn(came))).code, 'connection_state')
    })
  })

  describe('a trace', () => {
    beforeEach(() => connections.put(acme.connection()))
    const refused = async (message: m.MessageOptions, email = newEmail()) => {
      const sent = await signInAt(test.visitor(), email)
      return answerOf(sent.location!, { email, message })
    }

    it('is found by the reference on the page, for seven days, and is sealed', async () => {
      const page = await refused({ issuer: 'urn:wrong' })
      assert.equal(headingOf(page as unknown as Answer), REFUSED)
      const { code, explanation, shelf, kind } = await told(referenceOn(page))
      assert.deepEqual([code, shelf, kind], ['issuer', 'refused', 'sign_in'])
      assert.ok(explanation?.signatures[0]?.certificate)
      assert.doesNotMatch(page.text, /urn:wrong|issuer/)
      assert.ok(!(await stolen(test)).includes('urn:wrong'))
      assert.equal(await test.database.traces.find(referenceOn(page), now() + TRACE_KEPT), undefined)
    })
    it('of a success says which certificate, and how far the clocks are apart', async () => {
      const email = newEmail()
      await test.person(email, 'standard')
      const sent = await signInAt(test.visitor(), email)
      await answerOf(sent.location!, { email })
      const [last] = await test.database.traces.list('acme-sso', now())
      const { outcome, explanation } = readTrace(last!.said)
      assert.equal(outcome, 'accepted')
      assert.ok(explanation?.signatures[0]?.certificate)
      assert.ok(Math.abs(explanation!.times.find(({ what }) => what === 'issued')!.seconds) <= 2)
    })
    it('says that no user was found, which the page does not (acceptance 46)', async () => {
      const email = newEmail()
      const visitor = test.visitor()
      const sent = await signInAt(visitor, email)
      const page = await visitor.go((await answerOf(sent.location!, { email })).location!)
      assert.equal(headingOf(page), REFUSED)
      assert.doesNotMatch(page.text, /No user found/)
      const { code, advice, explanation } = await told(referenceOn(page))
      assert.equal(code, 'no_account')
      assert.match(String(advice), /No user found with the given email address/)
      assert.equal(explanation?.accepted, true)
    })
    it('is logged with reference and check, and counted; never the XML', async () => {
      metrics.length = 0
      const page = await refused({ signature: { key: m.strangerKey } })
      const line = test.logs
        .map((text) => JSON.parse(text) as Record<string, unknown>)
        .find((one) => one['reference'] === referenceOn(page))
      assert.equal(line?.['check'], 'signature')
      assert.equal(line?.['connection'], 'acme-sso')
      for (const text of test.logs) assert.doesNotMatch(text, /PHNhbWxw|<saml|Ana Lima/)
      assert.deepEqual(metrics, [
        {
          name: 'saml_responses',
          value: 1,
          labels: { connection: 'acme-sso', outcome: 'refused', check: 'signature', test: 'false' },
        },
      ])
    })
    it('of what anybody can post are few from one network', async () => {
      const post = (address: string) =>
        postResponse(
          { url: `${test.url}/saml/acme-sso/acs`, fields: { SAMLResponse: 'x', RelayState: 'y' } },
          { address },
        )
      const count = async () => (await test.database.traces.list('acme-sso', now())).length
      const before = await count()
      for (let index = 0; index < 25; index++) await post('192.0.2.77')
      assert.equal((await count()) - before, 20)
      await post('192.0.2.78')
      assert.equal((await count()) - before, 21)
    })
  })
})
