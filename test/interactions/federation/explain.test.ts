/** What a response says, told to whoever has to mend it. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import {
  CHECKS,
  type Explanation,
  explain,
  explainFile,
  vendorOf,
  verifyResponse,
} from '../../../interactions/federation/saml/index.ts'
import { hostile } from '../../vectors/saml/hostile.ts'
import * as m from '../../vectors/saml/message.ts'
import { valid } from '../../vectors/saml/valid.ts'

const explained = async (posted: { form: Record<string, unknown>; connection?: typeof m.acme; now?: number }) => {
  const { connection = m.acme, now = m.NOW, form } = posted
  const findRequest = async (relayState: string) => m.requests.get(relayState)
  return explain(await verifyResponse({ form, connection, findRequest, now }), connection, now)
}
const checksOf = ({ failed }: Explanation) => failed.map(({ check }) => check)
const DAY = 24 * 60 * 60

describe('federation: the explanation of a response', function () {
  this.timeout(60_000)

  it('says who signed what, for whom, when, and about whom', async () => {
    const { times, signatures, addresses, ...rest } = await explained({ form: m.form(m.message()) })
    const fingerprint = new X509Certificate(m.acmeKey.certificate.pem).fingerprint256
    assert.deepEqual(signatures, [
      {
        element: 'Assertion',
        method: 'rsa-sha256',
        digest: 'sha256',
        certificate: fingerprint,
        certificateEnds: m.acmeKey.certificate.notAfter,
      },
    ])
    assert.ok(addresses.every(({ fits }) => fits))
    assert.deepEqual(addresses.map(({ what }) => what).sort(), ['audience', 'destination', 'issuer', 'recipient'])
    assert.equal(times.find(({ what }) => what === 'signed_in')?.seconds, -10)
    assert.equal(times.find(({ what }) => what === 'confirmed_until')?.seconds, 300)
    assert.equal(rest.accepted, true)
    assert.deepEqual(rest.failed, [])
    assert.deepEqual(rest.nameId, { value: 'a…@acme.example', format: m.FORMAT.email })
    assert.deepEqual(rest.attributes.mapped, [
      { as: 'email', name: 'mail', value: 'a…@acme.example' },
      { as: 'name', name: 'displayName', value: 'A… (8 characters)' },
    ])
  })

  it('shows no signature, no XML, no whole name, whatever came', async () => {
    for (const { form, connection, now = m.NOW } of [...hostile, ...valid] as (typeof hostile)[number][]) {
      const text = JSON.stringify(await explained({ form, connection, now }))
      assert.doesNotMatch(text, /<\w|[A-Za-z0-9+/]{100}/)
      assert.doesNotMatch(text, /Ana Lima|"[^"]*(ana|boss)@/)
    }
  })

  it('shows what is inside of an encrypted assertion', async () => {
    const xml = m.responseAround(m.encrypted(m.assertionOf()), { sign: [] })
    const { encryption, nameId, signatures } = await explained({ form: m.form(xml) })
    assert.deepEqual(encryption, { content: 'aes256-gcm', key: 'rsa-oaep-mgf1p' })
    assert.equal(nameId?.value, 'a…@acme.example')
    assert.ok(signatures[0]?.certificate)
  })

  it('says what differs, all at once, and what is missing', async () => {
    const xml = m.message({
      conditionTimes: { NotOnOrAfter: m.at(-400) },
      audiences: m.audience('urn:other'),
      attributes: m.element(
        'saml:AttributeStatement',
        {},
        m.attribute('upn', 'x') + m.attribute('mail', 'ana@acme.example'),
      ),
    })
    const told = await explained({ form: m.form(xml) })
    assert.deepEqual(checksOf(told).sort(), ['audience', 'expired'])
    assert.deepEqual(
      told.addresses.find(({ what }) => what === 'audience'),
      {
        what: 'audience',
        found: ['urn:other'],
        expected: m.acme.sp.entityId,
        fits: false,
      },
    )
    assert.deepEqual(told.attributes.missing, [{ as: 'name', name: 'displayName' }])
    assert.deepEqual(told.attributes.others, ['upn'])
    for (const { advice } of told.failed) assert.ok(advice.length > 20)
  })

  it('speaks of the product that it is, and of SAML to all others', async () => {
    const wrong = m.form(m.message({ audiences: m.audience('urn:other') }))
    const of = async (entityId: string) => {
      const connection = { ...m.acme, idp: { ...m.acme.idp, entityId } }
      const { provider, failed } = await explained({ form: wrong, connection })
      return [provider, failed.find(({ check }) => check === 'audience')?.where]
    }
    assert.deepEqual(await of('https://idp.acme.example/metadata'), ['the identity provider', undefined])
    assert.match(String(await of('https://sts.windows.net/1-2/')), /Entra ID,.*Identifier/)
    assert.match(String(await of('http://www.okta.com/exk1')), /Okta,.*Audience URI/)
    assert.match(String(await of('http://fs.acme.example/adfs/services/trust')), /AD FS,.*Identifiers/)
    assert.match(String(await of('https://accounts.google.com/o/saml2?idpid=C1')), /Google Workspace,.*Entity ID/)
    assert.match(String(await of('https://sso.acme.example/realms/acme')), /Keycloak,.*Client ID/)
    const ssoUrl = 'https://acme.okta.com/app/x/sso/saml'
    assert.equal(vendorOf({ entityId: 'urn:own', ssoUrl }), 'okta')
    assert.equal(
      vendorOf({ entityId: 'https://evil.example/?https://acme.okta.com/', ssoUrl: 'https://x.example' }),
      'other',
    )
  })

  it('names the failed check of every hostile message, with words for it', async () => {
    let named = 0
    for (const { form, connection, now, check, name } of hostile) {
      const told = await explained({ form, connection, now })
      assert.equal(told.accepted, false)
      if (checksOf(told).includes(check)) named++
      assert.ok(
        told.failed.every((one) => one.advice === CHECKS[one.check as keyof typeof CHECKS]),
        name,
      )
    }
    assert.ok(named / hostile.length >= 0.9, `${named} of ${hostile.length}`)
  })

  describe('of a file', () => {
    const later = m.NOW + 30 * DAY
    it('holds an old response against the time at which it was written', async () => {
      const { accepted, validUntil, at } = await explainFile(m.message(), m.acme, later)
      assert.equal(accepted, true)
      assert.equal(at, m.NOW - 5)
      assert.equal(validUntil, m.NOW + 300)
    })
    it('reads XML, Base64, broken lines, and what a browser’s tools copy', async () => {
      const xml = m.message()
      const base64 = Buffer.from(xml).toString('base64')
      const body = new URLSearchParams({ RelayState: 'x', SAMLResponse: base64 }).toString()
      const lines = base64.replace(/.{76}/g, '$&\r\n')
      for (const text of [xml, `\uFEFF${xml}\n`, base64, lines, body, encodeURIComponent(base64)])
        assert.equal((await explainFile(text, m.acme, later)).accepted, true, text.slice(0, 40))
    })
    it('says that a clock is ahead, and that nobody asked', async () => {
      const ahead = await explainFile(m.message(), m.acme, m.NOW - DAY)
      assert.ok(checksOf(ahead).includes('issue_instant'))
      const unasked = m.message({ response: { InResponseTo: undefined } })
      assert.ok(checksOf(await explainFile(unasked, m.acme, later)).includes('unsolicited'))
    })
    it('says what is no response', async () => {
      for (const text of ['', 'hello', '<html></html>', '%%%', '<a><!DOCTYPE x>'])
        assert.equal((await explainFile(text, m.acme, later)).accepted, false)
    })
  })
})
