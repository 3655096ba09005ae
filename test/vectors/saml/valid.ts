/** Good responses that differ in how they are written. All of them are about ana@acme.example. */
import type { SamlConnection } from '../../../interactions/federation/saml/index.ts'
import * as m from './message.ts'

export interface Good {
  name: string
  form: Record<string, unknown>
  connection: SamlConnection
}

export const valid: Good[] = []
const add = (
  name: string,
  xml: string | m.MessageOptions,
  {
    relayState = 'acme',
    connection = m.acme,
    form,
  }: { relayState?: string; connection?: SamlConnection; form?: Record<string, unknown> } = {},
) => {
  const text = typeof xml === 'string' ? xml : m.message(xml)
  valid.push({ name, form: form ?? m.form(text, relayState), connection })
}
const { at } = m
const mail = (...more: string[]) =>
  m.element('saml:AttributeStatement', {}, m.attribute('mail', 'ana@acme.example') + more.join(''))
const plain = { sign: [] as never[] }

add('the assertion is signed', {})
add('the response is signed', { sign: ['response'] })
add('both are signed', { sign: ['assertion', 'response'] })
add('RSA-SHA512 and SHA-512', {
  signature: { method: m.RSA_SHA512, hash: 'sha512', digest: m.SHA512, digestHash: 'sha512' },
})
add('RSA-SHA256 and SHA-512', { signature: { digest: m.SHA512, digestHash: 'sha512' } })
add('signed by the second certificate', { signature: { key: m.acmeNextKey } })
add('signed by the second certificate, without KeyInfo', { signature: { key: m.acmeNextKey, keyInfo: '' } })
add(
  'signed by the second certificate after the first has ended',
  { signature: { key: m.acmeKey, keyInfo: '' } },
  {
    connection: { ...m.acme, idp: { ...m.acme.idp, certificates: [m.acmeOldKey.certificate, m.acmeKey.certificate] } },
  },
)
add(
  'response and assertion signed by different certificates',
  m.responseAround(m.assertionOf({ signature: { key: m.acmeNextKey } }), { sign: ['response'] }),
)
add('no KeyInfo', { signature: { keyInfo: '' } })
add('KeyInfo with a name beside the certificate', {
  signature: { keyInfo: `<ds:KeyName>k1</ds:KeyName>${m.x509(m.acmeKey)}` },
})
add('KeyInfo in lines of 64', { signature: { keyInfo: m.x509(m.acmeKey).replace(/[A-Za-z0-9+/=]{64}/g, '$&\n') } })
add('KeyInfo with the key itself', {
  signature: {
    keyInfo:
      '<ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AQAB</ds:Modulus><ds:Exponent>AQAB</ds:Exponent></ds:RSAKeyValue></ds:KeyValue>',
  },
})
add('signature value in lines of 76', {
  signature: {
    done: (xml) =>
      xml.replace(
        /(<ds:SignatureValue>)([^<]*)/,
        (_, tag: string, value: string) => `${tag}\n${value.replace(/.{76}/g, '$&\n')}\n`,
      ),
  },
})
add('an Id on the signature', {
  signature: { done: (xml) => xml.replace('<ds:Signature ', '<ds:Signature Id="_signature" ') },
})
add('a prefix list', {
  signature: {
    transforms:
      m.transform(m.ENVELOPED) +
      m.transform(m.EXCLUSIVE, m.element('ec:InclusiveNamespaces', { PrefixList: 'xs' }, '', true)),
  },
})
add('white space between the elements', {
  inAssertion: (xml) => xml.replaceAll('><', '>\n  <'),
  inResponse: (xml) => xml.replace('><samlp:Status', '>\n\n<samlp:Status'),
})
add('line ends of Windows', {
  inAssertion: (xml) => xml.replaceAll('><', '>\n<'),
  finish: (xml) => xml.replaceAll('\n', '\r\n'),
})
add('an XML declaration', { finish: (xml) => `<?xml version="1.0" encoding="UTF-8"?>\n${xml}` })
add('a standalone XML declaration in single quotes', {
  finish: (xml) => `<?xml version='1.0' encoding='utf-8' standalone='yes'?>${xml}\n`,
})
add('single quotes, other order, short end tags', {
  finish: (xml) =>
    xml
      .replace(/ (ID|Version)="([^"]*)"/g, " $1='$2'")
      .replace(/(<ds:DigestMethod [^>]*)><\/ds:DigestMethod>/, '$1 />'),
})
add(
  'other prefixes',
  m
    .message({
      inAssertion: (xml) => xml.replaceAll('saml:', 'a:').replace('xmlns:saml', 'xmlns:a'),
      sign: ['response'],
    })
    .replaceAll('samlp:', 'samlp:'),
)
add('SAML as the default namespace', {
  sign: ['response'],
  inAssertion: (xml) => xml.replaceAll('saml:', '').replace('xmlns:saml=', 'xmlns='),
})
add('namespaces declared at the top', {
  finish: (xml) =>
    xml
      .replaceAll(' xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"', '')
      .replace('<samlp:Response ', '<samlp:Response xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" '),
})
add('namespaces that nobody uses', {
  finish: (xml) =>
    xml.replace(
      '<samlp:Response ',
      '<samlp:Response xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:unused="urn:unused" ',
    ),
})
add('typed attribute values', {
  attributes: m.element(
    'saml:AttributeStatement',
    {},
    m
      .attribute('mail', 'ana@acme.example')
      .replace(
        '<saml:AttributeValue>',
        '<saml:AttributeValue xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">',
      ),
  ),
  finish: (xml) => xml.replace('<samlp:Response ', '<samlp:Response xmlns:xs="http://www.w3.org/2001/XMLSchema" '),
})
add('characters as references', { finish: (xml) => xml.replace('Ana Lima', '&#65;na&#x20;Lima') })
add('names in other scripts', {
  attributes: mail(
    m.attribute('displayName', 'Ana Lima 安娜 & <Co>'.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')),
  ),
})
add('two hundred groups', {
  attributes: mail(m.attribute('groups', ...Array.from({ length: 200 }, (_, index) => `group ${index}`))),
})
add('an attribute without a value', { attributes: mail(m.attribute('empty')) })
add('an attribute with an element inside', {
  attributes: mail(m.attribute('urn:oid:1.3.6.1.4.1.5923.1.1.1.10', m.nameId('_1', { Format: m.FORMAT.persistent }))),
})
add('two attribute statements', {
  attributes: mail() + m.element('saml:AttributeStatement', {}, m.attribute('x', 'y')),
})
add('several audiences', { audiences: m.audience('https://other.example', m.acme.sp.entityId) })
add('several audience restrictions', {
  audiences: m.audience(m.acme.sp.entityId) + m.audience(m.acme.sp.entityId, 'https://other.example'),
})
add('OneTimeUse and ProxyRestriction', {
  audiences: `${m.audience(m.acme.sp.entityId)}<saml:OneTimeUse></saml:OneTimeUse><saml:ProxyRestriction></saml:ProxyRestriction>`,
})
add('no issuer of the response', { responseIssuer: undefined })
add('an issuer with its format', {
  issuer: m.element('saml:Issuer', { Format: 'urn:oasis:names:tc:SAML:2.0:nameid-format:entity' }, m.acme.idp.entityId),
})
add('no destination in a response that is not signed', { response: { Destination: undefined } })
add('a session that ends', { authn: m.authnStatement({ SessionNotOnOrAfter: at(8 * 3600) }) })
add('two AuthnStatements', { authn: m.authnStatement() + m.authnStatement({ AuthnInstant: at(-3600) }) })
add('an AuthnStatement of yesterday', { authn: m.authnStatement({ AuthnInstant: at(-24 * 3600) }) })
add('fresh when it was forced', { relayState: 'forced' }, { relayState: 'forced' })
add('a persistent NameID with the address in an attribute', {
  nameId: m.nameId('_4f1c', { Format: m.FORMAT.persistent }),
})
add('a persistent NameID with its qualifiers', {
  nameId: m.nameId('_4f1c', {
    Format: m.FORMAT.persistent,
    NameQualifier: m.acme.idp.entityId,
    SPNameQualifier: m.acme.sp.entityId,
  }),
})
add('a transient NameID with the address in an attribute', {
  nameId: m.nameId('_4f1c', { Format: m.FORMAT.transient }),
})
add('a NameID without a format, the address in an attribute', { nameId: m.nameId('4711', { Format: undefined }) })
add('no attributes', { attributes: '' })
add('the address in capitals', { nameId: m.nameId('ANA@Acme.Example') })
add('a confirmation of another method beside the bearer’s', {
  confirmations: m.confirmation({}, 'urn:oasis:names:tc:SAML:2.0:cm:sender-vouches') + m.confirmation(),
})
add('a bearer confirmation for another recipient beside ours', {
  confirmations: m.confirmation({ Recipient: 'https://other.example' }) + m.confirmation(),
})
add('a clock that is 50 seconds ahead', {
  assertion: { IssueInstant: at(50) },
  response: { IssueInstant: at(50) },
  conditionTimes: { NotBefore: at(50) },
  authn: m.authnStatement({ AuthnInstant: at(50) }),
})
add('a clock that is 50 seconds behind', {
  conditionTimes: { NotOnOrAfter: at(-50) },
  confirmation: { NotOnOrAfter: at(-50) },
})
add('times without fractions', { conditionTimes: { NotOnOrAfter: at(300).replace('.000', '') } })
add('times in microseconds', { assertion: { IssueInstant: at(-5).replace('.000Z', '.123456Z') } })
add('no NotBefore', { conditionTimes: { NotBefore: undefined } })
add(
  'Base64 in lines',
  {},
  { form: { ...m.form(''), SAMLResponse: m.form(m.message()).SAMLResponse.replace(/.{76}/g, '$&\r\n') } },
)
add('a status message beside the code', {
  status: m.element('samlp:Status', {}, `${m.statusCode('Success')}<samlp:StatusMessage>ok</samlp:StatusMessage>`),
})

add('encrypted with AES-256-GCM, the assertion signed', m.responseAround(m.encrypted(m.assertionOf())))
add(
  'encrypted with AES-128-GCM, the assertion signed',
  m.responseAround(m.encrypted(m.assertionOf(), { cipher: 'aes128-gcm' })),
)
add(
  'encrypted with GCM, the response signed',
  m.responseAround(m.encrypted(m.assertionOf(plain)), { sign: ['response'] }),
)
add('encrypted with GCM, both signed', m.responseAround(m.encrypted(m.assertionOf()), { sign: ['response'] }))
add(
  'encrypted with CBC in a signed response',
  m.responseAround(m.encrypted(m.assertionOf(plain), { cipher: 'aes256-cbc' }), { sign: ['response'] }),
)
add(
  'encrypted with AES-128-CBC in a signed response, the assertion signed too',
  m.responseAround(m.encrypted(m.assertionOf(), { cipher: 'aes128-cbc' }), { sign: ['response'] }),
)
add('encrypted for our next key', m.responseAround(m.encrypted(m.assertionOf(), { publicKey: m.nextSpCertificate })))
add(
  'encrypted with RSA-OAEP of SHA-256',
  m.responseAround(
    m.encrypted(m.assertionOf(plain), {
      keyMethod: 'http://www.w3.org/2009/xmlenc11#rsa-oaep',
      keyParameters:
        m.element('ds:DigestMethod', { Algorithm: m.SHA256 }) +
        '<xenc11:MGF xmlns:xenc11="http://www.w3.org/2009/xmlenc11#" Algorithm="http://www.w3.org/2009/xmlenc11#mgf1sha256"></xenc11:MGF>',
      oaepHash: 'sha256',
    }),
    { sign: ['response'] },
  ),
)
add(
  'encrypted with an XML declaration inside',
  m.responseAround(m.encrypted(`<?xml version="1.0" encoding="UTF-8"?>${m.assertionOf()}`)),
)
add(
  'the encrypted key beside the data',
  m.responseAround(
    m
      .encrypted(m.assertionOf())
      .replace(
        /<ds:KeyInfo xmlns:ds="[^"]*">(<xenc:EncryptedKey>.*<\/xenc:EncryptedKey>)<\/ds:KeyInfo>(.*<\/xenc:EncryptedData>)/,
        (_, key: string, rest: string) =>
          rest +
          key.replace('<xenc:EncryptedKey>', '<xenc:EncryptedKey xmlns:xenc="http://www.w3.org/2001/04/xmlenc#">'),
      ),
  ),
)
add('a schema location, which nobody follows', {
  finish: (xml) =>
    xml.replace(
      '<samlp:Response ',
      '<samlp:Response xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="urn:x file:///etc/passwd urn:y http://127.0.0.1:9/x.xsd" ',
    ),
})
add('a namespace spelled with a reference', {
  finish: (xml) => xml.replace('xmlns:saml="urn:', 'xmlns:saml="urn&#58;'),
})
