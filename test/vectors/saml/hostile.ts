/** Responses with one fault each, and the check that must find it. */
import { constants, createHash, createHmac } from 'node:crypto'
import { deflateRawSync, gzipSync } from 'node:zlib'
import type { CheckCode, SamlConnection } from '../../../interactions/federation/saml/index.ts'
import * as m from './message.ts'

/** A response and where it is posted to. */
export interface Case {
  /** The fault. */
  name: string
  group: string
  /** The check that fails first. */
  check: CheckCode
  form: Record<string, unknown>
  connection: SamlConnection
  now: number
}

export const hostile: Case[] = []

interface Posted {
  relayState?: string
  form?: Record<string, unknown>
  connection?: SamlConnection
  now?: number
}
const add = (group: string, name: string, check: CheckCode, xml: string | m.MessageOptions, posted: Posted = {}) =>
  hostile.push({
    name,
    group,
    check,
    form: posted.form ?? m.form(typeof xml === 'string' ? xml : m.message(xml), posted.relayState),
    connection: posted.connection ?? m.acme,
    now: posted.now ?? m.NOW,
  })

const BOSS = 'boss@acme.example'
const swap = (from: string | RegExp, to: string) => (xml: string) => {
  const swapped = xml.replace(from, () => to)
  if (swapped === xml) throw new Error(`nothing to replace: ${from}`)
  return swapped
}
const plain = { sign: [] as never[] }

// Signature
{
  const group = 'signature'
  add(group, 'nothing is signed', 'signature_missing', plain)
  add(group, 'NameID changed after the assertion was signed', 'signature', {
    finish: swap('>ana@acme.example</saml:NameID>', `>${BOSS}</saml:NameID>`),
  })
  add(group, 'attribute changed after the response was signed', 'signature', {
    sign: ['response'],
    finish: swap('<saml:AttributeValue>ana@', '<saml:AttributeValue>boss@'),
  })
  add(group, 'Destination changed after the response was signed', 'signature', {
    sign: ['response'],
    response: { Destination: 'https://other.example/acs' },
    finish: swap('https://other.example/acs', m.acme.sp.acsUrl),
  })
  add(group, 'status changed after the response was signed', 'signature', {
    sign: ['response'],
    status: m.element('samlp:Status', {}, m.statusCode('Responder')),
    finish: swap('status:Responder', 'status:Success'),
  })
  add(group, 'signed by a stranger who sends the own certificate along', 'signature', {
    signature: { key: m.strangerKey },
  })
  add(group, 'signed by a stranger who sends the right certificate along', 'signature', {
    signature: { key: m.strangerKey, keyInfo: m.x509(m.acmeKey) },
  })
  add(group, 'signed by a stranger without KeyInfo', 'signature', { signature: { key: m.strangerKey, keyInfo: '' } })
  add(group, 'signed by the service provider’s own key', 'signature', {
    signature: { key: { ...m.strangerKey, privateKey: m.acme.sp.keys[0]!.privateKey } },
  })
  add(group, 'signed by the identity provider of another company', 'signature', { signature: { key: m.bestKey } })
  add(
    group,
    'signed by a certificate that has ended',
    'certificate',
    { signature: { key: m.acmeOldKey } },
    { connection: { ...m.acme, idp: { ...m.acme.idp, certificates: [m.acmeOldKey.certificate] } } },
  )
  add(
    group,
    'signed by a certificate that has ended, beside one that has not',
    'signature',
    { signature: { key: m.acmeOldKey } },
    {
      connection: {
        ...m.acme,
        idp: { ...m.acme.idp, certificates: [m.acmeOldKey.certificate, m.acmeKey.certificate] },
      },
    },
  )
  const stranger = m.assertionOf({ signature: { key: m.strangerKey } })
  add(
    group,
    'right signature of the response around a wrong one of the assertion',
    'signature',
    m.responseAround(stranger, { sign: ['response'] }),
  )
  add(
    group,
    'right signature of the assertion in a wrong one of the response',
    'signature',
    m.responseAround(m.assertionOf(), { sign: ['response'], signature: { key: m.strangerKey } }),
  )
  add(group, 'right signature of the assertion in a changed, signed response', 'signature', {
    sign: ['assertion', 'response'],
    response: { Destination: 'https://other.example/acs' },
    finish: swap('https://other.example/acs', m.acme.sp.acsUrl),
  })
  add(group, 'SignatureValue empty', 'signature_form', {
    signature: { done: (xml) => xml.replace(/(<ds:SignatureValue>)[^<]*/, '$1') },
  })
  add(group, 'SignatureValue cut short', 'signature', {
    signature: { done: (xml) => xml.replace(/(<ds:SignatureValue>[^<]{40})[^<]*/, '$1') },
  })
  add(group, 'SignatureValue not Base64', 'signature_form', {
    signature: { done: (xml) => xml.replace(/(<ds:SignatureValue>)/, '$1*') },
  })
  add(group, 'SignatureValue with an element inside', 'signature_form', {
    signature: { done: (xml) => xml.replace(/(<ds:SignatureValue>)/, '$1<ds:X></ds:X>') },
  })
  add(group, 'DigestValue of something else', 'signature', { signature: { of: 'something else' } })
  add(group, 'DigestValue empty', 'signature_form', {
    signature: { info: (xml) => xml.replace(/(<ds:DigestValue>)[^<]*/, '$1') },
  })
  add(group, 'SignedInfo changed after signing', 'signature', {
    signature: { of: m.assertionOf(plain), done: (xml) => xml.replace(/(<ds:DigestValue>)./, '$1/') },
  })
  add(group, 'two SignedInfo', 'signature_form', {
    signature: { done: (xml) => xml.replace(/(<ds:SignedInfo>.*<\/ds:SignedInfo>)/, '$1$1') },
  })
  add(group, 'two SignatureValue', 'signature_form', {
    signature: { done: (xml) => xml.replace(/(<ds:SignatureValue>[^<]*<\/ds:SignatureValue>)/, '$1$1') },
  })
  add(group, 'two DigestValue', 'signature_form', {
    signature: { info: (xml) => xml.replace(/(<ds:DigestValue>[^<]*<\/ds:DigestValue>)/, '$1$1') },
  })
  add(group, 'two References', 'signature_form', {
    signature: { info: (xml) => xml.replace(/(<ds:Reference .*<\/ds:Reference>)/, '$1$1') },
  })
  add(group, 'no Reference', 'signature_form', {
    signature: { info: (xml) => xml.replace(/<ds:Reference .*<\/ds:Reference>/, '') },
  })
  add(group, 'an Object in the signature', 'signature_form', {
    signature: { done: swap('</ds:Signature>', '<ds:Object></ds:Object></ds:Signature>') },
  })
  add(group, 'a Manifest in place of the element', 'signature_form', {
    signature: { info: swap('<ds:Reference ', '<ds:Reference Type="http://www.w3.org/2000/09/xmldsig#Manifest" ') },
  })
  add(group, 'Reference without URI', 'signature_reference', { signature: { info: swap(/ URI="[^"]*"/, '') } })
  add(group, 'Reference with an empty URI', 'signature_reference', { signature: { uri: '' } })
  add(group, 'Reference to the response from the assertion’s signature', 'signature_reference', {
    signature: { uri: '#_response' },
  })
  add(group, 'Reference by XPointer', 'signature_reference', { signature: { uri: "#xpointer(id('_assertion'))" } })
  add(group, 'Reference by address', 'signature_reference', {
    signature: { uri: 'https://evil.example/assertion.xml' },
  })
  add(group, 'Reference that breaks out of an XPath', 'signature_reference', {
    signature: { uri: "#_assertion' or '1'='1" },
  })
  add(group, 'text beside the parts of SignedInfo', 'signature_form', {
    signature: { info: swap('<ds:Reference', 'x<ds:Reference') },
  })
  add(group, 'KeyInfo of a stranger beside a right signature', 'key_info', {
    signature: { keyInfo: m.x509(m.strangerKey) },
  })
  add(group, 'signature in the namespace of nobody', 'namespace', {
    signature: {
      done: (xml) => xml.replaceAll('http://www.w3.org/2000/09/xmldsig#"', 'http://www.w3.org/2000/09/xmldsig"'),
    },
  })
  add(group, 'two KeyInfo', 'signature_form', {
    signature: { done: (xml) => xml.replace(/(<ds:KeyInfo>.*<\/ds:KeyInfo>)/, '$1$1') },
  })
  add(group, 'a KeyInfo of nine parts', 'signature_form', {
    signature: { keyInfo: m.element('ds:KeyName', {}, 'x').repeat(9) },
  })
  add(group, 'signed by a stranger whose key is at an address', 'signature', {
    signature: {
      key: m.strangerKey,
      keyInfo: m.element('ds:RetrievalMethod', { URI: 'https://evil.example/key.pem' }),
    },
  })
  add(group, 'signed by a stranger who writes the key itself', 'signature', {
    signature: {
      key: m.strangerKey,
      keyInfo: m.element(
        'ds:KeyValue',
        {},
        m.element(
          'ds:RSAKeyValue',
          {},
          m.element('ds:Modulus', {}, 'AQAB'.repeat(64)) + m.element('ds:Exponent', {}, 'AQAB'),
        ),
      ),
    },
  })
  const another = /<ds:SignatureValue>[^<]*/.exec(m.assertionOf({ assertion: { ID: '_another' } }))![0]
  add(group, 'SignatureValue of another good message', 'signature', {
    signature: { done: (xml) => xml.replace(/<ds:SignatureValue>[^<]*/, another) },
  })
  add(group, 'SignatureValue of zeros', 'signature', {
    signature: {
      done: (xml) => xml.replace(/(<ds:SignatureValue>)[^<]*/, `$1${Buffer.alloc(256).toString('base64')}`),
    },
  })
  add(group, 'SignatureValue of one', 'signature', {
    signature: {
      done: (xml) =>
        xml.replace(
          /(<ds:SignatureValue>)[^<]*/,
          `$1${Buffer.from('01'.padStart(512, '0'), 'hex').toString('base64')}`,
        ),
    },
  })
}

// Wrapping
{
  const group = 'wrapping'
  const good = m.assertionOf()
  const signature = /<ds:Signature .*<\/ds:Signature>/.exec(good)![0]
  const bare = good.replace(signature, '')
  const evil = (id = '_evil') =>
    m.assertionOf({ ...plain, assertion: { ID: id }, nameId: m.nameId(BOSS), attributes: '' })
  const inside = (assertion: string, content: string) => assertion.replace(/(<\/saml:Issuer>)/, `$1${content}`)
  const object = (content: string) =>
    signature.replace('</ds:Signature>', `<ds:Object>${content}</ds:Object></ds:Signature>`)
  const around = (content: string, options: m.MessageOptions = {}) =>
    m.responseAround(content, { ...plain, ...options })

  const whole = m.message({ sign: ['response'] })
  const wholeSignature = /<ds:Signature .*?<\/ds:Signature>/.exec(whole)![0]
  const wholeBare = whole.replace(wholeSignature, '')
  const evilWhole = m.message({
    ...plain,
    response: { ID: '_evil-response' },
    assertion: { ID: '_evil' },
    nameId: m.nameId(BOSS),
    attributes: '',
  })

  add(
    group,
    'XSW1: the signed response inside the signature of a forged one',
    'root',
    m.withSignature(
      evilWhole,
      wholeSignature.replace('</ds:Signature>', `<ds:Object>${wholeBare}</ds:Object></ds:Signature>`),
    ),
  )
  add(
    group,
    'XSW2: the signed response before its detached signature in a forged one',
    'root',
    m.withSignature(evilWhole, wholeBare + wholeSignature),
  )
  add(group, 'XSW3: a forged assertion before the signed one', 'assertions', around(evil() + good))
  add(group, 'a forged assertion after the signed one', 'assertions', around(good + evil()))
  add(group, 'XSW4: the signed assertion inside a forged one', 'assertions', around(inside(evil(), good)))
  add(
    group,
    'XSW5: a forged assertion with the signature, the signed one after it',
    'assertions',
    around(m.withSignature(evil(), signature) + bare),
  )
  add(
    group,
    'XSW6: a forged assertion whose signature holds the signed one',
    'assertions',
    around(m.withSignature(evil(), object(bare))),
  )
  add(
    group,
    'XSW7: a forged assertion with the same ID in Extensions',
    'assertions',
    around(good, {
      status:
        m.element('samlp:Extensions', {}, evil('_assertion')) + m.element('samlp:Status', {}, m.statusCode('Success')),
    }),
  )
  add(
    group,
    'XSW8: a forged assertion that holds the signed one in an Object',
    'assertions',
    around(m.withSignature(evil('_assertion'), object(bare))),
  )
  add(
    group,
    'CVE-2025-47949: the signed assertion in SubjectConfirmationData of a forged one',
    'assertions',
    around(evil().replace('</saml:SubjectConfirmationData>', `${good}</saml:SubjectConfirmationData>`)),
  )
  add(
    group,
    'CVE-2025-47949: the signed assertion in StatusDetail, a forged one in its place',
    'assertions',
    around(evil(), {
      status: m.element('samlp:Status', {}, m.statusCode('Success') + m.element('samlp:StatusDetail', {}, good)),
    }),
  )
  add(
    group,
    'the signed assertion in an AttributeValue of a forged one',
    'assertions',
    around(
      evil().replace(
        '</saml:Assertion>',
        `${m.element('saml:AttributeStatement', {}, m.attribute('x', good))}</saml:Assertion>`,
      ),
    ),
  )
  add(
    group,
    'the signed assertion in Advice of a forged one',
    'assertions',
    around(evil().replace('<saml:AuthnStatement', `<saml:Advice>${good}</saml:Advice><saml:AuthnStatement`)),
  )
  add(
    group,
    'a forged assertion that carries the signature of the good one',
    'signature_reference',
    around(m.withSignature(evil(), signature)),
  )
  add(
    group,
    'a forged assertion with the ID and the signature of the good one',
    'signature',
    around(m.withSignature(evil('_assertion'), signature)),
  )
  add(
    group,
    'the signature of the assertion in the response',
    'signature_reference',
    m.withSignature(around(evil()), signature),
  )
  add(
    group,
    'the signature as the last child of the response beside the good assertion',
    'signature_reference',
    around(bare + signature),
  )
  add(
    group,
    'the signature deep in the assertion',
    'signature_place',
    around(bare.replace('</saml:Subject>', `${signature}</saml:Subject>`)),
  )
  add(group, 'two signatures in the assertion', 'signature_place', around(m.withSignature(good, signature)))
  add(group, 'thirty signatures', 'signature_place', around(m.withSignature(bare, signature.repeat(30))))
  add(
    group,
    'the signed assertion in a Response of another namespace',
    'root',
    around(good).replaceAll('urn:oasis:names:tc:SAML:2.0:protocol', 'urn:oasis:names:tc:SAML:2.0:protocol:x'),
  )
  add(
    group,
    'a forged Assertion of another namespace before the signed one',
    'namespace',
    around(evil().replaceAll('urn:oasis:names:tc:SAML:2.0:assertion', 'urn:x') + good),
  )
  add(group, 'the signed assertion alone', 'root', good)
  add(
    group,
    'a LogoutResponse around the signed assertion',
    'root',
    around(good).replaceAll('samlp:Response', 'samlp:LogoutResponse'),
  )
  add(
    group,
    'an AuthnRequest around the signed assertion',
    'root',
    around(good).replaceAll('samlp:Response', 'samlp:AuthnRequest'),
  )
  add(group, 'a response in a response', 'root', around(around(good).replace('_response', '_inner')))
  add(
    group,
    'a SOAP envelope around the response',
    'root',
    `<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>${m.message()}</e:Body></e:Envelope>`,
  )
  add(group, 'an encrypted forged assertion beside the signed one', 'assertions', around(good + m.encrypted(evil())))
  add(
    group,
    'an assertion inside the assertion, both signed by the signer',
    'assertions',
    around(
      m.assertionOf({
        inAssertion: (xml) => inside(xml, evil().replace(' xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"', '')),
      }),
    ),
  )
  const swapped = (xml: string) => {
    const [ofResponse, ofAssertion] = xml.match(/<ds:Signature .*?<\/ds:Signature>/g)!
    return xml
      .replace(ofResponse!, () => 'FIRST')
      .replace(ofAssertion!, () => ofResponse!)
      .replace('FIRST', () => ofAssertion!)
  }
  add(group, 'the signatures of response and assertion in each other’s place', 'signature_reference', {
    sign: ['assertion', 'response'],
    finish: swapped,
  })
  for (const [name, namespace] of [
    ['in other letters', 'urn:oasis:names:tc:SAML:2.0:Assertion'],
    ['with a space after it', 'urn:oasis:names:tc:SAML:2.0:assertion '],
    ['of SAML 1.1', 'urn:oasis:names:tc:SAML:1.0:assertion'],
  ] as const)
    add(
      group,
      `the namespace of assertions ${name}`,
      'namespace',
      around(good).replaceAll('"urn:oasis:names:tc:SAML:2.0:assertion"', `"${namespace}"`),
    )
  add(group, 'no assertion', 'assertions', around(''))
  add(group, 'the same ID on response and assertion', 'ids', { response: { ID: '_assertion' } })
  add(group, 'a second ID attribute in other letters', 'ids', {
    finish: swap('<saml:Assertion ', '<saml:Assertion Id="_evil" '),
  })
  add(group, 'an xml:id with the value of the assertion’s ID', 'ids', {
    finish: swap('<samlp:Status>', '<samlp:Status xml:id="_assertion">'),
  })
  add(group, 'an ID in a namespace', 'ids', {
    finish: swap('<samlp:Status>', '<samlp:Status xmlns:x="urn:x" x:ID="_assertion">'),
  })
  add(group, 'no ID on the assertion', 'ids', { ...plain, finish: swap(' ID="_assertion"', '') })
  add(group, 'an empty ID', 'ids', { ...plain, assertion: { ID: '' } })
  add(group, 'an ID with a quote inside', 'ids', { ...plain, assertion: { ID: "_a' or '1'='1" } })
  add(group, 'the ID of the assertion on another element too', 'ids', {
    finish: swap('<samlp:Status>', '<samlp:Status ID="_assertion">'),
  })
}

// Algorithms
{
  const group = 'algorithms'
  const of = (signature: m.SignatureOptions) => ({ signature })
  add(
    group,
    'RSA-SHA1',
    'signature_algorithm',
    of({ method: 'http://www.w3.org/2000/09/xmldsig#rsa-sha1', hash: 'sha1' }),
  )
  add(
    group,
    'RSA-MD5',
    'signature_algorithm',
    of({ method: 'http://www.w3.org/2001/04/xmldsig-more#rsa-md5', hash: 'md5' }),
  )
  add(group, 'a digest of SHA-1', 'signature_algorithm', of({ digest: m.SHA1, digestHash: 'sha1' }))
  add(
    group,
    'a digest of MD5',
    'signature_algorithm',
    of({ digest: 'http://www.w3.org/2001/04/xmldsig-more#md5', digestHash: 'md5' }),
  )
  add(
    group,
    'HMAC with the certificate as its key',
    'signature_algorithm',
    of({
      method: 'http://www.w3.org/2000/09/xmldsig#hmac-sha1',
      info: (xml) => xml,
      done: (xml) =>
        xml.replace(
          /(<ds:SignatureValue>)[^<]*/,
          (_, tag: string) => tag + createHmac('sha1', m.acmeKey.certificate.pem).update(xml).digest('base64'),
        ),
    }),
  )
  add(group, 'HMAC-SHA256', 'signature_algorithm', of({ method: 'http://www.w3.org/2001/04/xmldsig-more#hmac-sha256' }))
  add(
    group,
    'HMACOutputLength',
    'signature_form',
    of({
      info: swap(
        `<ds:SignatureMethod Algorithm="${m.RSA_SHA256}">`,
        `<ds:SignatureMethod Algorithm="${m.RSA_SHA256}"><ds:HMACOutputLength>1</ds:HMACOutputLength>`,
      ),
    }),
  )
  add(group, 'DSA-SHA1', 'signature_algorithm', of({ method: 'http://www.w3.org/2000/09/xmldsig#dsa-sha1' }))
  add(
    group,
    'RSA-PSS by another name',
    'signature_algorithm',
    of({ method: 'http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1' }),
  )
  for (const [name, method, hash] of [
    ['RSA-SHA384', 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha384', 'sha384'],
    ['RSA-RIPEMD160', 'http://www.w3.org/2001/04/xmldsig-more#rsa-ripemd160', 'sha256'],
    ['ECDSA-SHA256', 'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256', 'sha256'],
    ['EdDSA', 'http://www.w3.org/2021/04/xmldsig-more#eddsa-ed25519', 'sha256'],
    ['RSA-SHA256 of the SHA-256 namespace', m.SHA256, 'sha256'],
  ] as const)
    add(group, name, 'signature_algorithm', of({ method, hash }))
  add(
    group,
    'no algorithm',
    'signature_algorithm',
    of({ info: swap(`<ds:SignatureMethod Algorithm="${m.RSA_SHA256}">`, '<ds:SignatureMethod>') }),
  )
  add(group, 'an algorithm named like a property of every object', 'signature_algorithm', of({ method: 'constructor' }))
  add(group, 'a digest named like a property of every object', 'signature_algorithm', of({ digest: '__proto__' }))
  add(group, 'an algorithm with a space after its name', 'signature_algorithm', of({ method: `${m.RSA_SHA256} ` }))
  add(group, 'RSA-SHA512 said, RSA-SHA256 done', 'signature', of({ method: m.RSA_SHA512 }))
  add(
    group,
    'inclusive canonicalization of SignedInfo',
    'signature_transforms',
    of({ canonicalization: 'http://www.w3.org/TR/2001/REC-xml-c14n-20010315' }),
  )
  add(
    group,
    'canonicalization with comments',
    'signature_transforms',
    of({ canonicalization: `${m.EXCLUSIVE}WithComments` }),
  )
  add(
    group,
    'inclusive canonicalization of the element',
    'signature_transforms',
    of({ transforms: m.transform(m.ENVELOPED) + m.transform('http://www.w3.org/TR/2001/REC-xml-c14n-20010315') }),
  )
  add(
    group,
    'the transform with comments',
    'signature_transforms',
    of({ transforms: m.transform(m.ENVELOPED) + m.transform(`${m.EXCLUSIVE}WithComments`) }),
  )
  add(
    group,
    'an XSLT transform',
    'signature_transforms',
    of({
      transforms:
        m.transform(
          'http://www.w3.org/TR/1999/REC-xslt-19991116',
          '<xsl:stylesheet xmlns:xsl="http://www.w3.org/1999/XSL/Transform"></xsl:stylesheet>',
        ) + m.transform(m.EXCLUSIVE),
    }),
  )
  add(
    group,
    'an XPath transform that leaves the assertion out',
    'signature_transforms',
    of({
      transforms:
        m.transform('http://www.w3.org/TR/1999/REC-xpath-19991116', '<ds:XPath>not(ancestor-or-self::x)</ds:XPath>') +
        m.transform(m.EXCLUSIVE),
    }),
  )
  add(
    group,
    'a Base64 transform',
    'signature_transforms',
    of({ transforms: m.transform('http://www.w3.org/2000/09/xmldsig#base64') + m.transform(m.EXCLUSIVE) }),
  )
  add(group, 'no transforms', 'signature_transforms', of({ transforms: '' }))
  add(group, 'only canonicalization', 'signature_transforms', of({ transforms: m.transform(m.EXCLUSIVE) }))
  add(
    group,
    'only the enveloped signature transform',
    'signature_transforms',
    of({ transforms: m.transform(m.ENVELOPED) }),
  )
  add(
    group,
    'the transforms in the other order',
    'signature_transforms',
    of({ transforms: m.transform(m.EXCLUSIVE) + m.transform(m.ENVELOPED) }),
  )
  add(
    group,
    'a transform a hundred times',
    'signature_transforms',
    of({ transforms: m.transform(m.ENVELOPED) + m.transform(m.EXCLUSIVE).repeat(100) }),
  )
  add(
    group,
    'a prefix list of a thousand prefixes',
    'signature_transforms',
    of({
      transforms:
        m.transform(m.ENVELOPED) +
        m.transform(m.EXCLUSIVE, m.element('ec:InclusiveNamespaces', { PrefixList: 'x '.repeat(1000) }, '', true)),
    }),
  )
}

// Text
{
  const group = 'text'
  const after = (name: string, check: CheckCode, finish: (xml: string) => string) => add(group, name, check, { finish })
  const inName = (text: string) => swap('>ana@acme.example</saml:NameID>', `>${text}</saml:NameID>`)
  after('a comment in NameID', 'markup', inName('ana@acme.example<!---->.evil.example'))
  after('a comment that cuts NameID in two', 'markup', inName('boss@acme.example<!--x-->ana@acme.example'))
  after('a comment in Audience', 'markup', swap('<saml:Audience>', '<saml:Audience><!--x-->'))
  after('a comment in DigestValue', 'markup', swap('<ds:DigestValue>', '<ds:DigestValue><!--x-->'))
  after('a comment in SignatureValue', 'markup', swap('<ds:SignatureValue>', '<ds:SignatureValue><!--x-->'))
  after('a comment before the response', 'markup', (xml) => `<!--x-->${xml}`)
  after('a comment after the response', 'markup', (xml) => `${xml}<!--x-->`)
  after('CDATA in NameID', 'markup', inName('<![CDATA[ana@acme.example]]>'))
  after('CDATA that hides a tag', 'markup', inName('ana@acme.example<![CDATA[</saml:NameID>]]>'))
  after('a processing instruction in NameID', 'markup', inName('ana@acme.example<?x .evil.example?>'))
  after('signed text turned into a processing instruction', 'markup', swap('Ana Lima', '<?x Ana Lima?>'))
  after(
    'a style sheet before the response',
    'markup',
    (xml) => `<?xml-stylesheet href="https://evil.example/x.xsl"?>${xml}`,
  )
  after('an XML declaration inside', 'markup', swap('<samlp:Status>', '<?xml version="1.0"?><samlp:Status>'))
  after('an XML declaration of version 1.1', 'markup', (xml) => `<?xml version="1.1"?>${xml}`)
  after('an XML declaration that says UTF-7', 'markup', (xml) => `<?xml version="1.0" encoding="utf-7"?>${xml}`)
  after('an XML declaration that says UTF-16', 'markup', (xml) => `<?xml version="1.0" encoding="UTF-16"?>${xml}`)
  after('a space before the XML declaration', 'markup', (xml) => ` <?xml version="1.0"?>${xml}`)
  after('a DOCTYPE', 'markup', (xml) => `<!DOCTYPE x>${xml}`)
  after('a DOCTYPE with an outer subset', 'markup', (xml) => `<!DOCTYPE x SYSTEM "https://evil.example/x.dtd">${xml}`)
  after(
    'an outer entity (XXE)',
    'markup',
    (xml) => `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>${inName('&e;')(xml)}`,
  )
  after(
    'entities in entities (billion laughs)',
    'markup',
    (xml) =>
      `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>${inName('&c;')(xml)}`,
  )
  after(
    'a parameter entity',
    'markup',
    (xml) => `<!DOCTYPE x [<!ENTITY % e SYSTEM "https://evil.example/e.dtd">%e;]>${xml}`,
  )
  after(
    'an attribute type of a DTD',
    'markup',
    (xml) => `<!DOCTYPE x [<!ATTLIST saml:Assertion Foo ID #IMPLIED>]>${xml}`,
  )
  after('an entity that nobody declared', 'references', inName('ana@acme.example&x;'))
  after('an entity of HTML', 'references', inName('ana@acme.example&nbsp;'))
  after('an ampersand alone', 'references', swap('Ana Lima', 'Ana & Lima'))
  after('a reference to NUL', 'references', inName('ana@acme.example&#0;'))
  after('a reference to a control character', 'references', inName('ana@acme.example&#x8;'))
  after('a reference to half a surrogate pair', 'references', inName('ana@acme.example&#xD800;'))
  after('a reference beyond Unicode', 'references', inName('ana@acme.example&#x110000;'))
  after('a reference to a line separator', 'references', inName('ana@acme.example&#x2028;'))
  after('a reference of endless length', 'references', inName(`ana@acme.example&#${'0'.repeat(5000)}65;`))
  after('NUL', 'characters', inName('ana@acme.example\0'))
  after('a backspace', 'characters', inName('ana@acme.examplee\b'))
  after('the line separator that XML 1.1 turns into a line feed', 'characters', inName('ana@acme.example\u2028'))
  after('NEL', 'characters', inName('ana@acme.example\u0085'))
  after('a non-character', 'characters', inName('ana@acme.example\uffff'))
  after('a byte order mark inside', 'signature', inName('ana@acme.example\ufeff'))
  after('a byte order mark before the response', 'well_formed', (xml) => `\ufeff${xml}`)
  after('text after the response', 'well_formed', (xml) => `${xml}x`)
  after('two responses', 'well_formed', (xml) => xml + xml)
  after('a response cut short', 'well_formed', (xml) => xml.slice(0, -20))
  after('a tag that is not closed', 'well_formed', swap('</saml:Subject>', ''))
  after('tags closed in the wrong order', 'well_formed', swap('</saml:NameID>', '</saml:Subject></saml:NameID>'))
  after('an attribute twice', 'well_formed', swap('<saml:Assertion ', '<saml:Assertion Version="2.0" '))
  after(
    'an attribute twice by namespace',
    'well_formed',
    swap('<samlp:Status>', '<samlp:Status xmlns:a="urn:a" xmlns:b="urn:a" a:x="1" b:x="2">'),
  )
  after('an attribute without quotes', 'well_formed', swap('Version="2.0"', 'Version=2.0'))
  after('"<" in an attribute', 'well_formed', swap('Version="2.0"', 'Version="<2.0"'))
  after('a prefix that nobody declared', 'well_formed', swap('<samlp:Status>', '<samlp:Status x:y="1">'))
  after('a prefix undeclared again', 'well_formed', swap('<samlp:Status>', '<samlp:Status xmlns:saml="">'))
  after('the prefix xml declared anew', 'well_formed', swap('<samlp:Status>', '<samlp:Status xmlns:xml="urn:x">'))
  after('the end of a CDATA section in text', 'well_formed', swap('Ana Lima', 'Ana]]>Lima'))
  after('a name in letters that are not ASCII', 'well_formed', swap('<samlp:Status>', '<ѕamlp:Status>'))
  after('HTML', 'well_formed', () => '<p>Sign in<br></p>')
  after('JSON', 'well_formed', () => '{"sub":"boss@acme.example"}')
  after('nothing but spaces', 'well_formed', () => '   ')
  after('a default namespace that turns the assertion into something else', 'signature', (xml) =>
    xml
      .replace(/saml:Subject>/g, 'Subject>')
      .replace('<Subject>', '<Subject xmlns="urn:oasis:names:tc:SAML:2.0:assertion">'),
  )
}

// Times
{
  const group = 'times'
  const { at } = m
  add(group, 'conditions over two minutes ago', 'expired', { conditionTimes: { NotOnOrAfter: at(-120) } })
  add(group, 'conditions over just beyond the skew', 'expired', { conditionTimes: { NotOnOrAfter: at(-60) } })
  add(group, 'conditions that begin in two minutes', 'not_yet_valid', { conditionTimes: { NotBefore: at(120) } })
  add(group, 'conditions that end before they begin', 'expired', {
    conditionTimes: { NotBefore: at(-30), NotOnOrAfter: at(-90) },
  })
  add(group, 'conditions without an end', 'conditions', { conditionTimes: { NotOnOrAfter: undefined } })
  add(group, 'no conditions', 'conditions', { conditions: '' })
  add(group, 'two conditions', 'conditions', {
    conditions:
      m.element('saml:Conditions', { NotOnOrAfter: at(-1000) }) +
      m.element('saml:Conditions', { NotOnOrAfter: at(300) }, m.audience(m.acme.sp.entityId)),
  })
  add(group, 'a condition that nobody knows', 'conditions', {
    audiences: `${m.audience(m.acme.sp.entityId)}<saml:Condition xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="x"></saml:Condition>`,
  })
  add(group, 'confirmation over two minutes ago', 'confirmation_expired', { confirmation: { NotOnOrAfter: at(-120) } })
  add(group, 'confirmation without an end', 'confirmation_expired', { confirmation: { NotOnOrAfter: undefined } })
  add(group, 'confirmation with NotBefore', 'confirmation', { confirmation: { NotBefore: at(-60) } })
  add(group, 'assertion of twenty minutes ago', 'issue_instant', { assertion: { IssueInstant: at(-1200) } })
  add(group, 'assertion of in two minutes', 'issue_instant', { assertion: { IssueInstant: at(120) } })
  add(group, 'response of twenty minutes ago', 'issue_instant', {
    sign: ['response'],
    response: { IssueInstant: at(-1200) },
  })
  add(group, 'no IssueInstant of the assertion', 'issue_instant', { assertion: { IssueInstant: undefined } })
  add(group, 'AuthnInstant in two minutes', 'authn_instant', { authn: m.authnStatement({ AuthnInstant: at(120) }) })
  add(
    group,
    'AuthnInstant before the request that forced it',
    'force_authn',
    { relayState: 'forced', authn: m.authnStatement({ AuthnInstant: at(-300) }) },
    { relayState: 'forced' },
  )
  add(
    group,
    'one of two AuthnInstants before the request that forced it',
    'force_authn',
    { relayState: 'forced', authn: m.authnStatement() + m.authnStatement({ AuthnInstant: at(-300) }) },
    { relayState: 'forced' },
  )
  add(group, 'session that has ended', 'session_expired', {
    authn: m.authnStatement({ SessionNotOnOrAfter: at(-120) }),
  })
  add(group, 'one of two sessions that has ended', 'session_expired', {
    authn: m.authnStatement({ SessionNotOnOrAfter: at(3600) }) + m.authnStatement({ SessionNotOnOrAfter: at(-120) }),
  })
  add(group, 'no AuthnStatement', 'authn_statement', { authn: '' })
  add(group, 'AuthnStatement without AuthnInstant', 'authn_statement', {
    authn: m.authnStatement({ AuthnInstant: undefined }),
  })
  add(group, 'a time with an offset', 'expired', { conditionTimes: { NotOnOrAfter: '2027-01-15T10:00:00+01:00' } })
  add(group, 'a time without a zone', 'expired', { conditionTimes: { NotOnOrAfter: '2027-01-15T09:00:00' } })
  add(group, 'the 30th of February', 'expired', { conditionTimes: { NotOnOrAfter: '2027-02-30T00:00:00Z' } })
  add(group, 'a time in words', 'expired', { conditionTimes: { NotOnOrAfter: 'tomorrow' } })
  add(group, 'a time in milliseconds', 'expired', { conditionTimes: { NotOnOrAfter: '9999999999999' } })
  add(group, 'an empty time', 'session_expired', { authn: m.authnStatement({ SessionNotOnOrAfter: '' }) })
  add(group, 'a time of a year with six digits', 'expired', {
    conditionTimes: { NotOnOrAfter: '+275760-09-13T00:00:00Z' },
  })
  for (const [name, time] of [
    ['with a small z', '2027-01-15T09:00:00z'],
    ['at the hour 24', '2027-01-15T24:00:00Z'],
    ['at a leap second', '2027-01-15T23:59:60Z'],
    ['with a comma', '2027-01-15T09:00:00,5Z'],
    ['with a space before it', ' 2027-01-15T09:00:00Z'],
    ['without seconds', '2027-01-15T09:00Z'],
    ['of a day alone', '2027-01-16Z'],
    ['below the year 0', '-2027-01-15T09:00:00Z'],
  ] as const)
    add(group, `a time ${name}`, 'expired', { conditionTimes: { NotOnOrAfter: time } })
  add(group, 'NotBefore that cannot be read', 'not_yet_valid', { conditionTimes: { NotBefore: 'never' } })
  add(group, 'an answer read an hour later', 'request', {}, { now: m.NOW + 3600 })
}

// Addressing
{
  const group = 'addressing'
  const { acsUrl, entityId } = m.acme.sp
  add(group, 'another destination, signed', 'destination', {
    sign: ['response'],
    response: { Destination: 'https://evil.example/acs' },
  })
  add(group, 'another destination, not signed', 'destination', {
    response: { Destination: 'https://evil.example/acs' },
  })
  add(group, 'no destination in a signed response', 'destination', {
    sign: ['response'],
    response: { Destination: undefined },
  })
  add(group, 'an empty destination', 'destination', { sign: ['response'], response: { Destination: '' } })
  add(group, 'the destination with a slash more', 'destination', {
    sign: ['response'],
    response: { Destination: `${acsUrl}/` },
  })
  add(group, 'the destination in capitals', 'destination', {
    sign: ['response'],
    response: { Destination: acsUrl.toUpperCase() },
  })
  add(group, 'the destination with a query', 'destination', {
    sign: ['response'],
    response: { Destination: `${acsUrl}?x` },
  })
  add(group, 'the destination over http', 'destination', {
    sign: ['response'],
    response: { Destination: acsUrl.replace('https', 'http') },
  })
  add(group, 'another recipient', 'recipient', { confirmation: { Recipient: 'https://evil.example/acs' } })
  add(group, 'no recipient', 'recipient', { confirmation: { Recipient: undefined } })
  add(group, 'the recipient as a prefix', 'recipient', { confirmation: { Recipient: acsUrl.slice(0, -1) } })
  add(group, 'another audience', 'audience', { audiences: m.audience('https://other.example') })
  add(group, 'no audience restriction', 'audience', { audiences: '' })
  add(group, 'an empty audience restriction', 'audience', { audiences: m.audience() })
  add(group, 'the audience with a slash more', 'audience', { audiences: m.audience(`${entityId}/`) })
  add(group, 'the audience with spaces around it', 'audience', { audiences: m.audience(` ${entityId} `) })
  add(group, 'the audience in capitals', 'audience', { audiences: m.audience(entityId.toUpperCase()) })
  add(group, 'one of two audience restrictions for somebody else', 'audience', {
    audiences: m.audience(entityId) + m.audience('https://other.example'),
  })
  add(group, 'an element in the audience', 'audience', {
    audiences: m.element(
      'saml:AudienceRestriction',
      {},
      m.element('saml:Audience', {}, `${entityId}<saml:X></saml:X>`),
    ),
  })
  add(group, 'the issuer of the assertion is another', 'issuer', {
    issuer: m.element('saml:Issuer', {}, 'https://evil.example'),
  })
  add(group, 'the issuer of the response is another', 'issuer', { responseIssuer: 'https://evil.example' })
  add(group, 'the issuer with a slash more', 'issuer', {
    issuer: m.element('saml:Issuer', {}, `${m.acme.idp.entityId}/`),
  })
  add(group, 'the issuer in capitals', 'issuer', {
    issuer: m.element('saml:Issuer', {}, m.acme.idp.entityId.toUpperCase()),
  })
  add(group, 'no issuer of the assertion', 'issuer', { issuer: '' })
  add(group, 'two issuers of the assertion', 'issuer', {
    issuer: m.element('saml:Issuer', {}, m.acme.idp.entityId).repeat(2),
  })
  add(group, 'an issuer of another format', 'issuer', {
    issuer: m.element('saml:Issuer', { Format: m.FORMAT.email }, m.acme.idp.entityId),
  })
}

// Status and version
{
  const group = 'status'
  const status = (content: string) => ({ status: m.element('samlp:Status', {}, content) })
  add(group, 'the identity provider refused', 'status', status(m.statusCode('Responder', m.statusCode('AuthnFailed'))))
  add(group, 'refused, with an assertion all the same', 'status', status(m.statusCode('Requester')))
  add(group, 'success only in the inner code', 'status', status(m.statusCode('Responder', m.statusCode('Success'))))
  add(group, 'success twice', 'status', status(m.statusCode('Success') + m.statusCode('Success')))
  add(group, 'no status code', 'status', status(''))
  add(group, 'no status', 'status', { status: '' })
  add(group, 'two statuses', 'status', { status: m.element('samlp:Status', {}, m.statusCode('Success')).repeat(2) })
  add(group, 'a status without a value', 'status', status('<samlp:StatusCode></samlp:StatusCode>'))
  add(group, 'success in capitals', 'status', status(m.statusCode('SUCCESS')))
  add(
    group,
    'refused and signed, without an assertion',
    'status',
    m.responseAround('', { sign: ['response'], ...status(m.statusCode('Responder')) }),
  )
  add(group, 'version 1.1 of the response', 'version', { response: { Version: '1.1' } })
  add(group, 'version 1.1 of the assertion', 'version', { assertion: { Version: '1.1' } })
  add(group, 'no version', 'version', { response: { Version: undefined } })
  add(
    group,
    'a response of SAML 1.1',
    'root',
    '<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:1.0:protocol" MajorVersion="1" MinorVersion="1"></samlp:Response>',
  )
}

// Binding to the request
{
  const group = 'binding'
  add(group, 'nobody asked for it', 'unsolicited', {
    response: { InResponseTo: undefined },
    confirmation: { InResponseTo: undefined },
  })
  add(group, 'nobody asked for the response, though for the assertion', 'unsolicited', {
    response: { InResponseTo: undefined },
  })
  add(group, 'InResponseTo written into an unsolicited response', 'in_response_to', {
    confirmation: { InResponseTo: undefined },
  })
  add(
    group,
    'an answer to another request, signed',
    'in_response_to',
    { sign: ['response', 'assertion'], relayState: 'acme-other' },
    { relayState: 'acme' },
  )
  add(group, 'InResponseTo of the unsigned response changed to ours', 'in_response_to', {
    relayState: 'acme-other',
    response: { InResponseTo: '_request-of-acme' },
  })
  add(group, 'an empty InResponseTo', 'in_response_to', { response: { InResponseTo: '' } })
  add(group, 'a RelayState that nobody waits under', 'request', {}, { relayState: 'somebody' })
  add(group, 'a RelayState of another sign-in', 'in_response_to', {}, { relayState: 'acme-other' })
  add(group, 'no RelayState', 'request', {}, { form: { SAMLResponse: m.form(m.message()).SAMLResponse } })
  add(group, 'a RelayState that is a URL', 'request', {}, { relayState: 'https://evil.example/' })
  add(group, 'a RelayState of endless length', 'request', {}, { relayState: 'acme'.repeat(1000) })
  add(group, 'a RelayState named like a property of every object', 'request', {}, { relayState: '__proto__' })
  add(group, 'an answer that comes too late', 'request', { relayState: 'late' }, { relayState: 'late' })
  add(group, 'a second answer', 'request_answered', { relayState: 'answered' }, { relayState: 'answered' })
  add(group, 'no confirmation', 'confirmation', { confirmations: '' })
  add(group, 'a confirmation by holder-of-key', 'confirmation', {
    confirmations: m.confirmation({}, 'urn:oasis:names:tc:SAML:2.0:cm:holder-of-key'),
  })
  add(group, 'a confirmation by sender-vouches', 'confirmation', {
    confirmations: m.confirmation({}, 'urn:oasis:names:tc:SAML:2.0:cm:sender-vouches'),
  })
  add(group, 'a confirmation with data twice', 'confirmation', {
    confirmations: m
      .confirmation()
      .replace(/(<saml:SubjectConfirmationData.*<\/saml:SubjectConfirmationData>)/, '$1$1'),
  })
  add(group, 'a confirmation by bearer in other letters', 'confirmation', {
    confirmations: m.confirmation({}, m.BEARER.toUpperCase()),
  })
  add(group, 'a confirmation without data', 'confirmation', {
    confirmations: m.element('saml:SubjectConfirmation', { Method: m.BEARER }),
  })
  add(group, 'two confirmations that hold only together', 'recipient', {
    confirmations: m.confirmation({ Recipient: 'https://evil.example' }) + m.confirmation({ InResponseTo: '_other' }),
  })
}

// Tenants
{
  const group = 'tenants'
  const theirs = { from: m.best, to: m.best, signature: { key: m.bestKey } }
  const asAcme = {
    nameId: m.nameId('ana@acme.example'),
    attributes: m.element('saml:AttributeStatement', {}, m.attribute('mail', 'ana@acme.example')),
  }
  const own = {
    nameId: m.nameId('eve@best.example'),
    attributes: m.element('saml:AttributeStatement', {}, m.attribute('mail', 'eve@best.example')),
  }
  const at = { connection: m.best, relayState: 'best' }
  const from = (more: m.MessageOptions): m.MessageOptions => ({ ...theirs, relayState: 'best', ...more })
  const mail = (address: string) => m.element('saml:AttributeStatement', {}, m.attribute('mail', address))
  const bestName = { nameId: m.nameId('_1', { Format: m.FORMAT.persistent }) }

  add(group, 'a NameID of the other company', 'email_domain', from(asAcme), at)
  add(
    group,
    'an attribute of the other company',
    'email_domain',
    from({ ...bestName, attributes: mail('ana@acme.example') }),
    at,
  )
  add(
    group,
    'an own NameID, an attribute of the other company',
    'email_conflict',
    from({ nameId: own.nameId, attributes: asAcme.attributes }),
    at,
  )
  add(
    group,
    'a NameID of the other company, an own attribute',
    'email_conflict',
    from({ nameId: asAcme.nameId, attributes: own.attributes }),
    at,
  )
  add(
    group,
    'the other company’s address in capitals',
    'email_domain',
    from({ ...bestName, attributes: mail('ANA@ACME.EXAMPLE') }),
    at,
  )
  add(
    group,
    'the other company’s domain below the own',
    'email_domain',
    from({ ...bestName, attributes: mail('ana@acme.example.best.example') }),
    at,
  )
  add(
    group,
    'the own domain below another',
    'email_domain',
    from({ ...bestName, attributes: mail('ana@best.example.evil.example') }),
    at,
  )
  add(
    group,
    'a subdomain of the own domain',
    'email_domain',
    from({ ...bestName, attributes: mail('ana@x.best.example') }),
    at,
  )
  add(
    group,
    'a domain that ends like the own',
    'email_domain',
    from({ ...bestName, attributes: mail('ana@notbest.example') }),
    at,
  )
  add(
    group,
    'two addresses in one attribute',
    'attributes',
    from({
      ...bestName,
      attributes: m.element('saml:AttributeStatement', {}, m.attribute('mail', 'eve@best.example', 'ana@acme.example')),
    }),
    at,
  )
  add(
    group,
    'the attribute twice',
    'attributes',
    from({
      ...bestName,
      attributes: m.element(
        'saml:AttributeStatement',
        {},
        m.attribute('mail', 'eve@best.example') + m.attribute('mail', 'ana@acme.example'),
      ),
    }),
    at,
  )
  add(
    group,
    'the attribute in two statements',
    'attributes',
    from({ ...bestName, attributes: mail('eve@best.example') + mail('ana@acme.example') }),
    at,
  )
  add(group, 'posted to the other company’s address', 'signature', from(own), {
    connection: m.acme,
    relayState: 'acme',
  })
  add(group, 'made for the other company’s address, signed by the own key', 'signature', {
    ...asAcme,
    to: m.acme,
    signature: { key: m.bestKey },
  })
  add(
    group,
    'the other company’s good answer posted to the own address',
    'signature',
    {},
    { connection: m.best, relayState: 'acme' },
  )
  add(
    group,
    'the RelayState of the other company’s sign-in',
    'request_connection',
    from({ ...own, relayState: 'acme' }),
    { connection: m.best, relayState: 'acme' },
  )
  add(
    group,
    'the own RelayState, InResponseTo of the other company’s request',
    'in_response_to',
    from({ ...own, relayState: 'acme' }),
    at,
  )
  add(
    group,
    'two connections of one identity provider: an answer for the other',
    'request_connection',
    { relayState: 'best' },
    { relayState: 'best' },
  )
  add(group, 'two connections of one identity provider: the audience of the other', 'audience', {
    audiences: m.audience(m.best.sp.entityId),
  })
  add(group, 'two connections of one identity provider: the recipient of the other', 'recipient', {
    confirmation: { Recipient: m.best.sp.acsUrl },
  })
  add(
    group,
    'the other company’s entity ID, the own key',
    'issuer',
    from({ ...own, issuer: m.element('saml:Issuer', {}, m.acme.idp.entityId) }),
    at,
  )
  add(
    group,
    'a persistent NameID in the book of the other identity provider',
    'name_id_qualifier',
    from({
      nameId: m.nameId('_ana', { Format: m.FORMAT.persistent, NameQualifier: m.acme.idp.entityId }),
      attributes: own.attributes,
    }),
    at,
  )
  add(
    group,
    'a persistent NameID for the other service provider',
    'name_id_qualifier',
    from({
      nameId: m.nameId('_ana', { Format: m.FORMAT.persistent, SPNameQualifier: m.acme.sp.entityId }),
      attributes: own.attributes,
    }),
    at,
  )
}

// Identities
{
  const group = 'identities'
  const named = (value: string, check: CheckCode, name: string) =>
    add(group, name, check, { nameId: m.nameId(value), attributes: '' })
  named('ana@acme.example ', 'name_id', 'a space after the address')
  named(' ana@acme.example', 'name_id', 'a space before the address')
  named('ana@acme.example\n', 'name_id', 'a line feed after the address')
  named('', 'name_id', 'an empty NameID')
  named('a'.repeat(2000), 'name_id', 'a NameID of two thousand characters')
  named(`${'a'.repeat(250)}@acme.example`, 'email_form', 'an address of more than 254 characters')
  named('bоss@acme.example', 'email_form', 'a Cyrillic letter in the address')
  named('boss@аcme.example', 'email_form', 'a Cyrillic letter in the domain')
  named('boss@acme.eXample\u212a'.replace('X', 'x'), 'email_form', 'a Kelvin sign in the address')
  named('boss@ａｃｍｅ.example', 'email_form', 'full-width letters in the domain')
  named('ana\u200b@acme.example', 'email_form', 'a zero-width space in the address')
  named('ana\u202e@acme.example', 'email_form', 'a turn of the writing direction in the address')
  named('ana@acme.example\u0301', 'email_form', 'a combining accent after the domain')
  named('ana@acme。example', 'email_form', 'an ideographic full stop')
  named('ana@evil.example@acme.example', 'email_form', 'two at signs')
  named('"ana@evil.example"@acme.example', 'email_form', 'a quoted local part')
  named('ana@acme.example,boss@acme.example', 'email_form', 'a list of addresses')
  named('Ana &lt;ana@acme.example&gt;', 'email_form', 'an address with a display name')
  named('ana', 'email_form', 'an address without a domain')
  named('@acme.example', 'email_form', 'an address without a local part')
  named('ana@acme.example.', 'email_form', 'a dot after the domain')
  named('ana@.acme.example', 'email_form', 'a dot before the domain')
  named('ana@[127.0.0.1]', 'email_form', 'an address at an IP address')
  named('ana(comment)@acme.example', 'email_form', 'a comment in the address')
  named('ana..lima@acme.example', 'email_form', 'two dots in the address')
  named('ana@xn--cme-7cd.example', 'email_domain', 'the domain in other letters, as ASCII')
  named('ana@other.example', 'email_domain', 'a domain of nobody')
  add(group, 'no address', 'email_missing', { nameId: m.nameId('_1', { Format: m.FORMAT.persistent }), attributes: '' })
  add(group, 'the address only in a NameID of no format', 'email_missing', {
    nameId: m.nameId('ana@acme.example', { Format: undefined }),
    attributes: '',
  })
  add(group, 'the address only in an attribute that is not mapped', 'email_missing', {
    nameId: m.nameId('_1', { Format: m.FORMAT.persistent }),
    attributes: m.element('saml:AttributeStatement', {}, m.attribute('Mail', 'ana@acme.example')),
  })
  add(group, 'an empty attribute', 'email_form', {
    nameId: m.nameId('_1', { Format: m.FORMAT.persistent }),
    attributes: m.element('saml:AttributeStatement', {}, m.attribute('mail', '')),
  })
  add(group, 'an attribute without a value', 'attributes', {
    attributes: m.element('saml:AttributeStatement', {}, m.attribute('mail')),
  })
  add(group, 'an attribute with an element inside', 'attributes', {
    attributes: m.element('saml:AttributeStatement', {}, m.attribute('mail', 'ana@acme.example<saml:X></saml:X>')),
  })
  add(group, 'an attribute named like a property of every object', 'email_missing', {
    nameId: m.nameId('_1', { Format: m.FORMAT.persistent }),
    attributes: m.element('saml:AttributeStatement', {}, m.attribute('__proto__', 'ana@acme.example')),
  })
  add(group, 'NameID and attribute name two people', 'email_conflict', {
    attributes: m.element('saml:AttributeStatement', {}, m.attribute('mail', BOSS)),
  })
  add(
    group,
    'a NameID of another format than agreed',
    'name_id_format',
    {},
    { connection: { ...m.acme, nameIdFormat: m.FORMAT.persistent } },
  )
  add(group, 'two NameIDs', 'subject', { nameId: m.nameId() + m.nameId(BOSS) })
  add(group, 'no NameID', 'subject', { nameId: '' })
  add(group, 'no subject', 'subject', { subject: '' })
  add(group, 'two subjects', 'subject', {
    subject:
      m.element('saml:Subject', {}, m.nameId() + m.confirmation()) +
      m.element('saml:Subject', {}, m.nameId(BOSS) + m.confirmation()),
  })
  add(group, 'an element in NameID', 'name_id', { nameId: m.nameId('ana@acme.example<saml:X></saml:X>') })
  add(group, 'a BaseID beside the NameID', 'subject', { nameId: `<saml:BaseID></saml:BaseID>${m.nameId()}` })
  add(group, 'another NameID in the confirmation', 'subject', {
    confirmations: m
      .confirmation()
      .replace('<saml:SubjectConfirmationData', `${m.nameId(BOSS)}<saml:SubjectConfirmationData`),
  })
  add(group, 'an encrypted NameID', 'subject', {
    nameId:
      '<saml:EncryptedID><xenc:EncryptedData xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"></xenc:EncryptedData></saml:EncryptedID>',
  })
  add(group, 'an encrypted NameID beside the plain one', 'subject', {
    nameId: `${m.nameId()}<saml:EncryptedID></saml:EncryptedID>`,
  })
  add(group, 'an encrypted address', 'email_missing', {
    nameId: m.nameId('_1', { Format: m.FORMAT.persistent }),
    attributes: m.element('saml:AttributeStatement', {}, '<saml:EncryptedAttribute></saml:EncryptedAttribute>'),
  })
  add(group, 'NameID of another namespace', 'namespace', {
    nameId: `${m.nameId()}<x:NameID xmlns:x="urn:x">boss@acme.example</x:NameID>`,
  })
}

// Encryption
{
  const group = 'encryption'
  const signed = m.assertionOf()
  const bare = m.assertionOf(plain)
  const whole = (content: string) => m.responseAround(content, { sign: ['response'] })
  const half = (content: string) => m.responseAround(content)
  add(group, 'encrypted, and nothing signed', 'signature_missing', half(m.encrypted(bare)))
  add(
    group,
    'encrypted with our public key by a stranger',
    'signature',
    half(m.encrypted(m.assertionOf({ signature: { key: m.strangerKey } }))),
  )
  add(
    group,
    'AES-CBC in a response that is not signed',
    'encryption_algorithm',
    half(m.encrypted(signed, { cipher: 'aes256-cbc' })),
  )
  add(
    group,
    'AES-128-CBC in a response that is not signed',
    'encryption_algorithm',
    half(m.encrypted(signed, { cipher: 'aes128-cbc' })),
  )
  add(group, '3DES', 'encryption_algorithm', whole(m.encrypted(signed, { cipher: 'tripledes-cbc' })))
  add(
    group,
    'RSA 1.5',
    'encryption_algorithm',
    whole(
      m.encrypted(signed, {
        keyMethod: 'http://www.w3.org/2001/04/xmlenc#rsa-1_5',
        padding: constants.RSA_PKCS1_PADDING,
      }),
    ),
  )
  add(
    group,
    'RSA 1.5 that says OAEP',
    'decryption',
    whole(m.encrypted(signed, { padding: constants.RSA_PKCS1_PADDING })),
  )
  add(
    group,
    'a cipher that nobody knows',
    'encryption_algorithm',
    whole(m.encrypted(signed, { cipherUri: 'urn:none' })),
  )
  add(
    group,
    'OAEP with different hashes',
    'encryption_algorithm',
    whole(m.encrypted(signed, { keyParameters: m.element('ds:DigestMethod', { Algorithm: m.SHA256 }) })),
  )
  add(
    group,
    'OAEP with a label',
    'encryption_algorithm',
    whole(m.encrypted(signed, { keyParameters: '<xenc:OAEPparams>AAAA</xenc:OAEPparams>' })),
  )
  add(
    group,
    'encrypted for somebody else',
    'decryption',
    whole(m.encrypted(signed, { publicKey: m.strangerKey.certificate.pem })),
  )
  add(
    group,
    'a changed byte in GCM',
    'decryption',
    half(
      m.encrypted(signed, {
        bytes: (content) => {
          content[40]! ^= 1
          return content
        },
      }),
    ),
  )
  add(
    group,
    'a GCM tag cut short',
    'decryption',
    half(m.encrypted(signed, { bytes: (content) => content.subarray(0, -12) })),
  )
  add(group, 'an empty cipher text', 'encryption_form', whole(m.encrypted(signed, { bytes: () => Buffer.alloc(0) })))
  add(group, 'a cipher text of five bytes', 'decryption', whole(m.encrypted(signed, { bytes: () => Buffer.alloc(5) })))
  add(
    group,
    'CBC with broken padding',
    'decryption',
    whole(
      m.encrypted(signed, {
        cipher: 'aes256-cbc',
        bytes: (content) => {
          content[content.length - 17]! ^= 0x7f
          return content
        },
      }),
    ),
  )
  add(
    group,
    'CBC that says GCM',
    'decryption',
    whole(m.encrypted(signed, { cipher: 'aes256-cbc', cipherUri: 'http://www.w3.org/2009/xmlenc11#aes256-gcm' })),
  )
  add(
    group,
    'a key of another length',
    'decryption',
    whole(m.encrypted(signed, { cipherUri: 'http://www.w3.org/2009/xmlenc11#aes128-gcm' })),
  )
  add(
    group,
    'two EncryptedData',
    'encryption_form',
    whole(m.encrypted(signed).replace(/(<xenc:EncryptedData .*<\/xenc:EncryptedData>)/, '$1$1')),
  )
  add(
    group,
    'two EncryptedKeys',
    'encryption_form',
    whole(m.encrypted(signed).replace(/(<xenc:EncryptedKey>.*<\/xenc:EncryptedKey>)/, '$1$1')),
  )
  add(
    group,
    'no EncryptedKey',
    'encryption_form',
    whole(m.encrypted(signed).replace(/<ds:KeyInfo .*<\/ds:KeyInfo>/, '')),
  )
  add(group, 'two encrypted assertions', 'assertions', whole(m.encrypted(signed) + m.encrypted(signed)))
  add(
    group,
    'only the content of the element encrypted',
    'encryption_form',
    whole(m.encrypted(signed).replace('xmlenc#Element', 'xmlenc#Content')),
  )
  add(
    group,
    'a cipher text at another address',
    'encryption_form',
    whole(
      m
        .encrypted(signed)
        .replace(
          /<xenc:CipherValue>[^<]*<\/xenc:CipherValue>(?=<\/xenc:CipherData><\/xenc:EncryptedData>)/,
          '<xenc:CipherReference URI="https://evil.example/"></xenc:CipherReference>',
        ),
    ),
  )
  add(
    group,
    'a comment in what was encrypted',
    'markup',
    whole(m.encrypted(bare.replace('Ana Lima', 'Ana<!--x--> Lima'))),
  )
  add(
    group,
    'a DOCTYPE in what was encrypted',
    'markup',
    whole(m.encrypted(`<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>${bare}`)),
  )
  add(group, 'two assertions in what was encrypted', 'well_formed', whole(m.encrypted(bare + bare)))
  add(group, 'a response in what was encrypted', 'encryption_form', whole(m.encrypted(m.message())))
  add(group, 'an encrypted assertion in what was encrypted', 'encryption_form', whole(m.encrypted(m.encrypted(bare))))
  add(group, 'text in what was encrypted', 'well_formed', whole(m.encrypted('boss@acme.example')))
  add(
    group,
    'broken UTF-8 in what was encrypted',
    'decryption',
    whole(m.encrypted(Buffer.from('ff', 'hex') as never as string)),
  )
  add(
    group,
    'wrapped: a forged assertion around the signed one in what was encrypted',
    'encryption_form',
    half(
      m.encrypted(
        m
          .assertionOf({ ...plain, assertion: { ID: '_evil' }, nameId: m.nameId(BOSS) })
          .replace('</saml:Issuer>', `</saml:Issuer>${signed}`),
      ),
    ),
  )
  add(
    group,
    'changed after it was signed and before it was encrypted',
    'signature',
    half(m.encrypted(signed.replaceAll('ana@', 'boss@'))),
  )
  add(
    group,
    'a cipher text without its text',
    'decryption',
    whole(m.encrypted(signed, { bytes: (content) => content.subarray(0, 12) })),
  )
  add(
    group,
    'an EncryptedAssertion without anything',
    'encryption_form',
    whole('<saml:EncryptedAssertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"></saml:EncryptedAssertion>'),
  )
  add(
    group,
    'changed cipher text in a signed response',
    'signature',
    whole(m.encrypted(bare)).replace(/(<xenc:CipherValue>)(....)/, '$1AAAA'),
  )
}

// Transport
{
  const group = 'transport'
  const { SAMLResponse } = m.form(m.message())
  const post = (name: string, check: CheckCode, fields: Record<string, unknown>) =>
    add(group, name, check, '', { form: fields })
  const text = (bytes: Buffer) => ({ SAMLResponse: bytes.toString('base64'), RelayState: 'acme' })
  post('no SAMLResponse', 'form', { RelayState: 'acme' })
  post('an empty SAMLResponse', 'form', { SAMLResponse: '', RelayState: 'acme' })
  post('two SAMLResponse', 'form', { SAMLResponse: [SAMLResponse, SAMLResponse], RelayState: 'acme' })
  post('SAMLResponse with fields of its own', 'form', { SAMLResponse: { toString: SAMLResponse }, RelayState: 'acme' })
  post('two RelayState', 'form', { SAMLResponse, RelayState: ['acme', 'best'] })
  post('a signature of the redirect binding', 'form', {
    SAMLResponse,
    RelayState: 'acme',
    SigAlg: m.RSA_SHA256,
    Signature: 'AAAA',
  })
  post('an artifact beside', 'form', { SAMLResponse, RelayState: 'acme', SAMLart: 'AAQAAA' })
  post('a request beside', 'form', { SAMLResponse, RelayState: 'acme', SAMLRequest: SAMLResponse })
  post('a foreign character in the Base64', 'base64', { SAMLResponse: `*${SAMLResponse}`, RelayState: 'acme' })
  post('Base64 of URLs', 'base64', {
    SAMLResponse: `${SAMLResponse.slice(0, 400)}-_${SAMLResponse.slice(402)}`,
    RelayState: 'acme',
  })
  post('Base64 with spaces for plus signs', 'base64', {
    SAMLResponse: `${SAMLResponse.slice(0, 400)} ${SAMLResponse.slice(401)}`,
    RelayState: 'acme',
  })
  post('Base64 with a byte too many', 'base64', { SAMLResponse: `${SAMLResponse}A`, RelayState: 'acme' })
  post('Base64 with text after its end', 'base64', {
    SAMLResponse: `${Buffer.from('<a/>').toString('base64')}${SAMLResponse}`,
    RelayState: 'acme',
  })
  post('Base64 with bits that mean nothing', 'base64', {
    SAMLResponse: 'PGEvPg=='.replace('g==', 'h=='),
    RelayState: 'acme',
  })
  post('XML without Base64', 'base64', { SAMLResponse: m.message(), RelayState: 'acme' })
  post('Base64 twice', 'well_formed', text(Buffer.from(SAMLResponse)))
  post('deflated', 'utf8', text(deflateRawSync(m.message())))
  post('gzip', 'utf8', text(gzipSync(m.message())))
  post('UTF-16', 'utf8', text(Buffer.concat([Buffer.from('fffe', 'hex'), Buffer.from(m.message(), 'utf16le')])))
  post('UTF-16 without a mark', 'characters', text(Buffer.from(m.message(), 'utf16le')))
  post(
    'Latin 1',
    'utf8',
    text(
      Buffer.from(
        m.message({
          attributes: m.element(
            'saml:AttributeStatement',
            {},
            m.attribute('mail', 'ana@acme.example') + m.attribute('displayName', 'Añá'),
          ),
        }),
        'latin1',
      ),
    ),
  )
  post(
    'an overlong sequence of UTF-8',
    'utf8',
    text(Buffer.concat([Buffer.from('<a>'), Buffer.from('c080', 'hex'), Buffer.from('</a>')])),
  )
  post(
    'half a surrogate pair in UTF-8',
    'utf8',
    text(Buffer.concat([Buffer.from('<a>'), Buffer.from('eda080', 'hex'), Buffer.from('</a>')])),
  )
  post('UTF-7', 'well_formed', text(Buffer.from(m.message().replaceAll('<', '+ADw-').replaceAll('>', '+AD4-'))))
  post(
    'UTF-32',
    'utf8',
    text(Buffer.concat([Buffer.from('fffe0000', 'hex'), Buffer.from([...m.message()].join('\0\0\0'))])),
  )
  // "<?xml" in EBCDIC.
  post('EBCDIC', 'utf8', text(Buffer.from('4c6fa7949340a58599a28996957e7ff14bf07f6f6e', 'hex')))
  post('random bytes', 'utf8', text(createHash('sha512').update('x').digest()))

  const big = (content: string) => text(Buffer.from(m.message({ ...plain, attributes: content })))
  post('a megabyte', 'size', text(Buffer.alloc(1_000_000, 'a')))
  post('a few thousand elements', 'limits', big('<a></a>'.repeat(3000)))
  post('a few thousand elements that close themselves', 'limits', big('<a/>'.repeat(3000)))
  post('a thousand elements deep', 'limits', big(`${'<a>'.repeat(1000)}${'</a>'.repeat(1000)}`))
  post('fifty thousand elements deep', 'limits', big('<a>'.repeat(50_000)))
  post(
    'a thousand attributes',
    'limits',
    big(`<a ${Array.from({ length: 1000 }, (_, index) => `a${index}=""`).join(' ')}></a>`),
  )
  post(
    'twenty thousand attributes',
    'limits',
    big(`<a ${Array.from({ length: 20_000 }, (_, index) => `a${index}=""`).join(' ')}></a>`),
  )
  post('a tag of two hundred thousand characters', 'limits', big(`<a b="${'x'.repeat(200_000)}"></a>`))
  post('a name of two hundred thousand characters', 'limits', big(`<${'x'.repeat(200_000)}></a>`))
  post('two hundred thousand spaces in a tag', 'limits', big(`<a${' '.repeat(200_000)}></a>`))
  post('an attribute without an end', 'well_formed', big(`<a b="${'x'.repeat(200_000)}`))
  post('two hundred thousand characters that are no tag', 'well_formed', big('<'.repeat(200_000)))
  post('two hundred thousand ampersands', 'limits', big('&'.repeat(200_000)))
  post('a namespace of endless length', 'limits', big(`<a xmlns:x="${'x'.repeat(300)}"></a>`))
  post(
    'two hundred thousand characters of text in a wrong response',
    'signature_missing',
    big(`<a>${'x'.repeat(200_000)}</a>`),
  )
  post(
    'as many elements as are let through',
    'signature',
    text(
      Buffer.from(
        m.message({
          attributes: m.element('saml:AttributeStatement', {}, m.attribute('x', 'x').repeat(280)),
          finish: swap('ana@', 'eva@'),
        }),
      ),
    ),
  )

  // With the signature of a good message, so that all of it is looked at.
  const stuffed = (content: string) =>
    text(
      Buffer.from(
        m
          .message({
            attributes: m.element(
              'saml:AttributeStatement',
              {},
              m.attribute('mail', 'ana@acme.example') + m.attribute('x', 'STUFF'),
            ),
          })
          .replace('STUFF', () => content),
      ),
    )
  const names = (count: number) => Array.from({ length: count }, (_, index) => index)
  post(
    'seven hundred names of elements in a long text',
    'limits',
    stuffed(
      `${names(700)
        .map((index) => `<e${index}></e${index}>`)
        .join('')}${'x'.repeat(200_000)}`,
    ),
  )
  post(
    'as many names of elements as are let through in a long text',
    'signature',
    stuffed(
      `${names(60)
        .map((index) => `<e${index}></e${index}>`)
        .join('')}${'x'.repeat(200_000)}`,
    ),
  )
  post(
    'namespaces in namespaces in namespaces',
    'limits',
    stuffed(
      `${names(33)
        .map((index) => `<d xmlns:q${index}="urn:q${index}" q${index}:z="">`)
        .join('')}${'</d>'.repeat(33)}`,
    ),
  )
  post(
    'forty namespaces, each used in each of forty elements',
    'limits',
    stuffed(
      `<a ${names(30)
        .map((index) => `xmlns:n${index}="urn:${index}"`)
        .join(' ')}>${`<b ${names(30)
        .map((index) => `n${index}:z=""`)
        .join(' ')}></b>`.repeat(60)}</a>`,
    ),
  )
  post('two hundred thousand greater-than signs', 'limits', stuffed('>'.repeat(200_000)))
  post('two hundred thousand carriage returns', 'limits', stuffed('\r'.repeat(200_000)))
  post('forty thousand references', 'limits', stuffed('&#65;'.repeat(40_000)))
  post(
    'two hundred thousand characters for a signature',
    'signature',
    text(
      Buffer.from(
        m.message({
          signature: {
            done: (xml) => xml.replace(/(<ds:SignatureValue>)[^<]*/, (_, tag: string) => tag + 'A'.repeat(200_000)),
          },
        }),
      ),
    ),
  )
  post(
    'two hundred thousand characters for a certificate',
    'key_info',
    text(
      Buffer.from(
        m.message({
          signature: {
            keyInfo: `<ds:X509Data><ds:X509Certificate>${'A'.repeat(200_000)}</ds:X509Certificate></ds:X509Data>`,
          },
        }),
      ),
    ),
  )
  post(
    'two hundred confirmations for somebody else',
    'recipient',
    text(Buffer.from(m.message({ confirmations: m.confirmation({ Recipient: 'https://other.example' }).repeat(200) }))),
  )
}
