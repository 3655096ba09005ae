/**
 * The identity provider of the demo's company, a program of its own with keys of its own: in place of a password it asks who
 * one is. Started by {@link startIdentityProvider}; reads its {@link Setting} as its only argument.
 */
import { fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inflateRawSync } from 'node:zlib'
import { SignedXml } from 'xml-crypto'
import { saml } from '../../interactions/index.ts'

const SAML = 'urn:oasis:names:tc:SAML:2.0'
const EMAIL = 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress'
const RSA_SHA256 = 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256'
const EXCLUSIVE = 'http://www.w3.org/2001/10/xml-exc-c14n#'
/** What a request may inflate to. */
const REQUEST_BYTES = 64 * 1024

interface Setting {
  /** Port on localhost: another site than 127.0.0.1, as a company's provider is. */
  port: number
  /** Where it keeps its key. */
  folder: string
  /** The only address that it posts to, and the entityID behind it. */
  acsUrl: string
  spEntityId: string
  people: readonly { email: string; name: string }[]
}

/**
 * Starts it in a process of its own.
 *
 * @returns its metadata, and how to stop it
 * @throws when it ends before it is ready
 */
export async function startIdentityProvider(setting: Setting): Promise<{ metadata: string; close(): Promise<void> }> {
  const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(setting)])
  const ended = once(child, 'exit')
  const ready = await Promise.race([once(child, 'message'), ended.then(() => undefined)])
  if (!ready) throw new Error(`the demo's identity provider did not start on port ${setting.port} of localhost`)
  return {
    metadata: ready[0] as string,
    async close() {
      if (child.connected) child.disconnect()
      await ended
    },
  }
}

async function main(setting: Setting): Promise<void> {
  const url = `http://localhost:${setting.port}`
  const key = await keyIn(setting.folder)
  const metadata = metadataOf(url, key.certificate)
  const server = createServer((request, response) => {
    if (request.method !== 'GET') return refuse(response, 405, 'GET')
    const asked = request.url ?? '/'
    // `//` is none: any page that a browser shows could ask for it.
    if (!URL.canParse(asked, url)) return refuse(response, 400, 'this is no address')
    const { pathname, searchParams } = new URL(asked, url)
    if (pathname === '/metadata') return answer(response, 'application/samlmetadata+xml', metadata)
    if (pathname === '/sso') return signInPage(response, searchParams, { ...setting, url, key })
    return refuse(response, 404, 'there is /sso and /metadata')
  })
  server.listen(setting.port, '127.0.0.1')
  await once(server, 'listening')
  process.send!(metadata)
  process.once('disconnect', () => process.exit())
  // Ctrl+C reaches both; the demo says when.
  process.on('SIGINT', () => {})
}

/** Everybody's response stands ready behind a button: the page works without script. */
function signInPage(
  response: ServerResponse<IncomingMessage>,
  query: URLSearchParams,
  provider: Setting & { url: string; key: Key },
): void {
  const id = requestIn(query.get('SAMLRequest') ?? '')
  if (id === undefined) {
    refuse(response, 400, 'this is no request: begin at the app')
    return
  }
  const relayState = query.get('RelayState') ?? ''
  const forms = provider.people.map(({ email, name }) => {
    const text = Buffer.from(responseTo(id, { email, name }, provider)).toString('base64')
    return `<form method="post" action="${escaped(provider.acsUrl)}">
<input type="hidden" name="SAMLResponse" value="${text}"><input type="hidden" name="RelayState" value="${escaped(relayState)}">
<p><button value="${escaped(email)}">${escaped(name)}, ${escaped(email)}</button></p></form>`
  })
  response.setHeader('Content-Security-Policy', "default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
  answer(
    response,
    'text/html; charset=utf-8',
    `<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>Corner Homes</title><main><h1>Corner Homes: who are you?</h1>
<p>This stands for a company's own sign-in page. A real one asks for a password.</p>
${forms.join('\n')}</main></html>`,
  )
}

/** The ID of a request of the redirect binding (SAML Bindings §3.4). The signature is not looked at: the answer goes to one address. */
function requestIn(text: string): string | undefined {
  try {
    const request = inflateRawSync(Buffer.from(text, 'base64'), { maxOutputLength: REQUEST_BYTES }).toString()
    return /<samlp:AuthnRequest [^>]*\bID="([\w.-]{1,100})"/.exec(request)?.[1]
  } catch {
    return undefined
  }
}

/** SAML Profiles §4.1.4.2, the assertion signed. */
function responseTo(
  inResponseTo: string,
  { email, name }: Setting['people'][number],
  { url, key, acsUrl, spEntityId }: Setting & { url: string; key: Key },
): string {
  const [response, assertion, session] = [newId(), newId(), newId()]
  const [before, now, after] = [-60, 0, 300].map((seconds) => new Date(Date.now() + seconds * 1000).toISOString())
  const attribute = (called: string, value: string) =>
    `<saml:Attribute Name="${called}"><saml:AttributeValue>${escaped(value)}</saml:AttributeValue></saml:Attribute>`
  const text = `<samlp:Response xmlns:samlp="${SAML}:protocol" xmlns:saml="${SAML}:assertion" ID="${response}" Version="2.0" IssueInstant="${now}" Destination="${escaped(acsUrl)}" InResponseTo="${inResponseTo}"><saml:Issuer>${url}/metadata</saml:Issuer><samlp:Status><samlp:StatusCode Value="${SAML}:status:Success"/></samlp:Status><saml:Assertion ID="${assertion}" Version="2.0" IssueInstant="${now}"><saml:Issuer>${url}/metadata</saml:Issuer><saml:Subject><saml:NameID Format="${EMAIL}">${escaped(email)}</saml:NameID><saml:SubjectConfirmation Method="${SAML}:cm:bearer"><saml:SubjectConfirmationData InResponseTo="${inResponseTo}" NotOnOrAfter="${after}" Recipient="${escaped(acsUrl)}"/></saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore="${before}" NotOnOrAfter="${after}"><saml:AudienceRestriction><saml:Audience>${escaped(spEntityId)}</saml:Audience></saml:AudienceRestriction></saml:Conditions><saml:AuthnStatement AuthnInstant="${now}" SessionIndex="${session}"><saml:AuthnContext><saml:AuthnContextClassRef>${SAML}:ac:classes:unspecified</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement>${attribute('mail', email)}${attribute('displayName', name)}</saml:AttributeStatement></saml:Assertion></samlp:Response>`
  const signer = new SignedXml({
    privateKey: key.privateKey,
    signatureAlgorithm: RSA_SHA256,
    canonicalizationAlgorithm: EXCLUSIVE,
  })
  signer.addReference({
    xpath: `//*[@ID='${assertion}']`,
    transforms: ['http://www.w3.org/2000/09/xmldsig#enveloped-signature', EXCLUSIVE],
    digestAlgorithm: 'http://www.w3.org/2001/04/xmlenc#sha256',
  })
  signer.computeSignature(text, {
    prefix: 'ds',
    location: { reference: "//*[local-name(.)='Assertion']/*[local-name(.)='Issuer']", action: 'after' },
  })
  return signer.getSignedXml()
}

function metadataOf(url: string, certificate: string): string {
  const body = certificate.replace(/-----[^-]+-----|\s/g, '')
  return `<md:EntityDescriptor xmlns:md="${SAML}:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="${url}/metadata"><md:IDPSSODescriptor protocolSupportEnumeration="${SAML}:protocol"><md:KeyDescriptor use="signing"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>${body}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:NameIDFormat>${EMAIL}</md:NameIDFormat><md:SingleSignOnService Binding="${SAML}:bindings:HTTP-Redirect" Location="${url}/sso"/></md:IDPSSODescriptor></md:EntityDescriptor>`
}

interface Key {
  privateKey: string
  certificate: string
}

/** The key of this data folder, made at the first start; mode 0600. */
async function keyIn(folder: string): Promise<Key> {
  const file = join(folder, 'demo-identity-provider.json')
  if (existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Key
  const { newSpKey } = await saml()
  const key = newSpKey('Corner Homes', Math.floor(Date.now() / 1000))
  writeFileSync(file, JSON.stringify(key), { mode: 0o600 })
  return key
}

const newId = () => `_${randomBytes(20).toString('hex')}`
const escaped = (text: string) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)

function answer(response: ServerResponse<IncomingMessage>, type: string, body: string): void {
  response.writeHead(200, { 'Content-Type': type, 'Cache-Control': 'no-store' }).end(body)
}

function refuse(response: ServerResponse<IncomingMessage>, status: number, why: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain' }).end(why)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(JSON.parse(process.argv[2]!) as Setting)
