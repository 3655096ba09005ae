/** What we tell an identity provider, what it tells us, and what we ask of it. */
import assert from 'node:assert/strict'
import { createPublicKey, verify, X509Certificate } from 'node:crypto'
import { inflateRawSync } from 'node:zlib'
import { SignedXml } from 'xml-crypto'
import {
  authnRequest,
  MetadataError,
  newSpKey,
  readCertificate,
  readIdpMetadata,
  selfSigned,
  spMetadata,
} from '../../../interactions/federation/saml/index.ts'
import { acme, acmeKey, acmeNextKey, acmeOldKey, bestKey, NOW, signer } from '../../vectors/saml/message.ts'

const body = (pem: string) => pem.replace(/-----[^-]+-----|\s/g, '')
const keyOf = (pem: string, use = ' use="signing"') =>
  `<md:KeyDescriptor${use}><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>${body(pem)}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>`
const service = (location = 'https://idp.example/sso', binding = 'HTTP-Redirect') =>
  `<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:${binding}" Location="${location}"/>`
const PROTOCOL = 'urn:oasis:names:tc:SAML:2.0:protocol'
const descriptor = (content = keyOf(acmeKey.certificate.pem) + service(), attributes = '') =>
  `<md:IDPSSODescriptor protocolSupportEnumeration="${PROTOCOL}"${attributes}>${content}</md:IDPSSODescriptor>`
const entity = (content = descriptor(), attributes = ' entityID="https://idp.example"') =>
  `<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"${attributes}>${content}</md:EntityDescriptor>`
const read = (text: string | Buffer, more = {}) => readIdpMetadata(text, { now: NOW, ...more })

describe('federation: metadata of an identity provider', () => {
  it('says who it is, where it is and what it signs with', () => {
    assert.deepEqual(read(entity()), {
      entityId: 'https://idp.example',
      ssoUrl: 'https://idp.example/sso',
      binding: 'redirect',
      certificates: [acmeKey.certificate],
      nameIdFormats: [],
      wantsSignedRequests: false,
      validUntil: undefined,
    })
  })
  it('may hold comments between its elements, an XML declaration and a byte order mark', () => {
    assert.ok(
      read(
        `\ufeff<?xml version="1.0" encoding="UTF-8"?>\n<!-- made by x -->\n${entity(`<!-- a -->${descriptor()}`)}<!-- b -->`,
      ),
    )
  })
  it('may prefer POST, and then is asked by POST', () => {
    const both = descriptor(
      keyOf(acmeKey.certificate.pem) + service('https://idp.example/post', 'HTTP-POST') + service(),
    )
    assert.equal(read(entity(both)).binding, 'redirect')
    const post = descriptor(keyOf(acmeKey.certificate.pem) + service('https://idp.example/post', 'HTTP-POST'))
    assert.deepEqual([read(entity(post)).binding, read(entity(post)).ssoUrl], ['post', 'https://idp.example/post'])
  })
  it('gives up keys for signing or for anything, once each, and of its own role alone', () => {
    const [a, b, c, d] = [acmeKey, acmeNextKey, bestKey, acmeOldKey].map(({ certificate }) => certificate.pem) as [
      string,
      string,
      string,
      string,
    ]
    const sp = `<md:SPSSODescriptor protocolSupportEnumeration="${PROTOCOL}">${keyOf(d)}</md:SPSSODescriptor>`
    const keys = keyOf(a) + keyOf(b, '') + keyOf(a) + keyOf(c, ' use="encryption"')
    const { certificates } = read(entity(sp + descriptor(keys + service())))
    assert.deepEqual(
      certificates.map(({ pem }) => pem),
      [a, b],
    )
  })
  it('may use plain http on this machine, where that is allowed', () => {
    for (const host of ['localhost:8080', '127.0.0.1:8080', '[::1]:8080']) {
      const text = entity(descriptor(keyOf(acmeKey.certificate.pem) + service(`http://${host}/sso`)))
      assert.throws(() => read(text), MetadataError)
      assert.equal(read(text, { allowLoopback: true }).ssoUrl, `http://${host}/sso`)
    }
    const far = entity(descriptor(keyOf(acmeKey.certificate.pem) + service('http://localhost.evil.example/sso')))
    assert.throws(() => read(far, { allowLoopback: true }), /not https/)
  })

  const weak = signer('weak', { bits: 1024 }).certificate.pem
  const withKeys = (...pems: string[]) => entity(descriptor(pems.map((pem) => keyOf(pem)).join('') + service()))
  const withLocation = (location: string) => entity(descriptor(keyOf(acmeKey.certificate.pem) + service(location)))
  const bad: [string, string | Buffer, RegExp][] = [
    ['a page', '<!doctype html><p>Sign in</p>', /DOCTYPE/],
    ['plain text', 'hello', /well-formed/],
    ['nothing', '', /well-formed/],
    ['bytes that are no UTF-8', Buffer.from('ff00ff', 'hex'), /UTF-8/],
    ['UTF-16', Buffer.from(entity(), 'utf16le'), /well-formed/],
    ['a DOCTYPE', `<!DOCTYPE x SYSTEM "https://evil.example/x.dtd">${entity()}`, /DOCTYPE/],
    ['entities', `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>${entity()}`, /DOCTYPE/],
    ['20 MB', Buffer.alloc(20_000_000, ' '), /256 KB/],
    ['ten thousand elements', entity('<a/>'.repeat(10_000)), /too large/],
    ['another namespace', entity().replace('SAML:2.0:metadata', 'SAML:1.0:metadata'), /no EntityDescriptor/],
    ['a response', '<a/>', /no EntityDescriptor/],
    [
      'a list of entities',
      `<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">${entity()}${entity()}</md:EntitiesDescriptor>`,
      /2 entities/,
    ],
    [
      'a list of one entity',
      `<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">${entity()}</md:EntitiesDescriptor>`,
      /a list/,
    ],
    ['no entityID', entity(descriptor(), ''), /no entityID/],
    ['an entityID of endless length', entity(descriptor(), ` entityID="https://${'x'.repeat(1024)}"`), /1024/],
    ['only a service provider', entity(descriptor().replaceAll('IDPSSO', 'SPSSO')), /no SAML 2.0 identity provider/],
    [
      'only SAML 1.1',
      entity(descriptor().replace(PROTOCOL, 'urn:oasis:names:tc:SAML:1.1:protocol')),
      /no SAML 2.0 identity provider/,
    ],
    ['two roles', entity(descriptor() + descriptor()), /more than one/],
    [
      'an end in 2001',
      entity(descriptor(), ' entityID="https://idp.example" validUntil="2001-01-01T00:00:00Z"'),
      /2001/,
    ],
    ['an end of the role in 2001', entity(descriptor(undefined, ' validUntil="2001-01-01T00:00:00Z"')), /2001/],
    ['an end that is no time', entity(descriptor(), ' entityID="https://idp.example" validUntil="soon"'), /no time/],
    ['no location', entity(descriptor(keyOf(acmeKey.certificate.pem))), /no SingleSignOnService/],
    [
      'a location for SOAP alone',
      entity(descriptor(keyOf(acmeKey.certificate.pem) + service('https://idp.example', 'SOAP'))),
      /no SingleSignOnService/,
    ],
    ['an http location', withLocation('http://idp.example/sso'), /not https/],
    ['a script for a location', withLocation('javascript:alert(1)'), /not https/],
    ['data for a location', withLocation('data:text/html,x'), /not https/],
    ['a relative location', withLocation('/sso'), /no URL/],
    ['an empty location', withLocation(''), /no URL/],
    ['a location with a line break', withLocation('https://idp.example/&#10;x'), /no URL/],
    ['a location with a password', withLocation('https://a:b@idp.example/'), /user name/],
    ['no key', entity(descriptor(service())), /no certificate/],
    [
      'only a key for encryption',
      entity(descriptor(keyOf(acmeKey.certificate.pem, ' use="encryption"') + service())),
      /no certificate/,
    ],
    ['a weak key', withKeys(weak), /1024 bits/],
    ['a weak key beside a good one', withKeys(acmeKey.certificate.pem, weak), /1024 bits/],
    ['a certificate that has ended', withKeys(acmeOldKey.certificate.pem), /ended/],
    ['a certificate that is none', entity(descriptor(keyOf('AAAA') + service())), /cannot be read/],
    [
      'a comment in the certificate',
      withKeys(acmeKey.certificate.pem).replace(/(<ds:X509Certificate>.{100})/, '$1<!--x-->'),
      /DOCTYPE/,
    ],
    [
      'nine certificates',
      withKeys(
        ...Array.from({ length: 9 }, (_, index) =>
          selfSigned({ privateKey: acmeKey.privateKey, commonName: `${index}`, notBefore: NOW, notAfter: NOW + 99 }),
        ),
      ),
      /more than 8/,
    ],
  ]
  for (const [name, text, sentence] of bad)
    it(`is refused in one sentence: ${name}`, () => {
      const before = process.cpuUsage()
      assert.throws(
        () => read(text),
        (error: Error) =>
          error instanceof MetadataError && sentence.test(error.message) && /^[^\n<>]+[.]$/.test(error.message),
      )
      const { user, system } = process.cpuUsage(before)
      assert.ok(user + system < 200_000)
    })
  it('takes a certificate in PEM too, and only RSA', () => {
    assert.deepEqual(readCertificate(acmeKey.certificate.pem), acmeKey.certificate)
    assert.throws(() => readCertificate('no'), /cannot be read/)
  })
})

describe('federation: what we send', () => {
  const key = newSpKey('id.example', NOW)
  const next = newSpKey('id.example', NOW)
  const connection = { ...acme, sp: { ...acme.sp, keys: [key, next] } }

  it('keys come with a certificate that fits them', () => {
    const certificate = new X509Certificate(key.certificate)
    assert.ok(certificate.verify(certificate.publicKey))
    assert.equal(certificate.subject, 'CN=id.example')
    assert.equal(certificate.publicKey.asymmetricKeyDetails?.modulusLength, 3072)
    assert.equal(Date.parse(certificate.validTo) / 1000, NOW + 3 * 365 * 24 * 60 * 60)
    assert.ok(createPublicKey(key.privateKey).equals(certificate.publicKey))
    const far = new X509Certificate(
      selfSigned({ privateKey: key.privateKey, commonName: 'x', notBefore: NOW, notAfter: 2_600_000_000 }),
    )
    assert.equal(Date.parse(far.validTo) / 1000, 2_600_000_000)
  })
  it('metadata names both keys while one takes the other’s place, and no logout', () => {
    const text = spMetadata(connection)
    for (const { certificate } of [key, next]) assert.equal(text.split(body(certificate)).length, 3)
    assert.match(text, /entityID="https:\/\/id.example\/saml\/acme-sso\/metadata"/)
    assert.match(text, /AssertionConsumerService [^>]*Location="https:\/\/id.example\/saml\/acme-sso\/acs"/)
    assert.doesNotMatch(text, /Logout|PRIVATE/)
    assert.equal(
      spMetadata({ ...connection, sp: { ...connection.sp, keys: [key] } }).includes(body(next.certificate)),
      false,
    )
  })

  const options = { connection, relayState: 'r-"1&', now: NOW }
  it('a request by redirect is signed over its query (SAML Bindings §3.4.4)', () => {
    const request = authnRequest({ ...options, forceAuthn: true, authnContexts: ['https://refeds.org/profile/mfa'] })
    const url = new URL(request.url)
    const [signed, signature] = url.search.slice(1).split('&Signature=')
    assert.ok(
      verify(
        'sha256',
        Buffer.from(signed!),
        createPublicKey(key.privateKey),
        Buffer.from(decodeURIComponent(signature!), 'base64'),
      ),
    )
    assert.equal(url.searchParams.get('RelayState'), options.relayState)
    const text = inflateRawSync(Buffer.from(url.searchParams.get('SAMLRequest')!, 'base64')).toString()
    assert.match(text, new RegExp(`ID="${request.id}"`))
    assert.match(text, /ForceAuthn="true"/)
    assert.match(text, /IssueInstant="2027-01-15T08:00:00Z"/)
    assert.match(text, /Comparison="exact"><saml:AuthnContextClassRef>https:\/\/refeds.org\/profile\/mfa</)
    assert.match(text, /<saml:Issuer>https:\/\/id.example\/saml\/acme-sso\/metadata</)
  })
  it('a request by POST is signed after its Issuer (SAML Core §5.4)', () => {
    const request = authnRequest({ ...options, connection: { ...connection, idp: { ...acme.idp, binding: 'post' } } })
    assert.equal(request.binding, 'post')
    const { fields } = request as Extract<typeof request, { binding: 'post' }>
    assert.equal(fields.RelayState, options.relayState)
    const text = Buffer.from(fields.SAMLRequest, 'base64').toString()
    assert.match(text, /<\/saml:Issuer><ds:Signature /)
    assert.doesNotMatch(text, /ForceAuthn|RequestedAuthnContext/)
    const verifier = new SignedXml({ publicCert: key.certificate })
    verifier.loadSignature(/<ds:Signature.*<\/ds:Signature>/s.exec(text)![0])
    assert.equal(verifier.checkSignature(text), true)
  })
  it('no two requests have one id', () => {
    assert.notEqual(authnRequest(options).id, authnRequest(options).id)
    assert.match(authnRequest(options).id, /^_[0-9a-f]{40}$/)
  })
  it('a query of the identity provider’s own is kept, and a RelayState has an end', () => {
    const ssoUrl = 'https://idp.example/sso?tenant=1'
    assert.match(
      authnRequest({ ...options, connection: { ...connection, idp: { ...acme.idp, ssoUrl } } }).url,
      /sso\?tenant=1&SAMLRequest=/,
    )
    assert.throws(() => authnRequest({ ...options, relayState: 'x'.repeat(81) }), RangeError)
  })
  it('what an administrator typed cannot break out of what we write', () => {
    const evil = { ...connection, idp: { ...acme.idp, ssoUrl: 'https://idp.example/"><x a="&' } }
    const url = new URL(authnRequest({ ...options, connection: evil }).url)
    const sent = inflateRawSync(Buffer.from(new URLSearchParams(url.search).get('SAMLRequest')!, 'base64')).toString()
    assert.doesNotMatch(sent, /<x /)
  })
})
