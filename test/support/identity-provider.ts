/** A company's identity provider, as a server of its own: reads signed requests and writes signed responses, with keys made here. */
import assert from 'node:assert/strict'
import { createVerify, randomBytes, X509Certificate } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import { inflateRawSync } from 'node:zlib'
import { newSpKey, readCertificate } from '../../interactions/federation/saml/index.ts'
import type { Connection } from '../../interactions/kit/stores.ts'
import {
  attribute,
  audience,
  authnStatement,
  confirmation,
  element,
  FORMAT,
  type MessageOptions,
  message,
  nameId,
  type Signer,
} from '../vectors/saml/message.ts'
import { now } from './clock.ts'

/** Who signs in there, and what is said of them. */
export interface SignedIn {
  email: string
  /** Of another format than an address. */
  name?: { value: string; format: string }
  displayName?: string
  /** Seconds ago. */
  proved?: number
  context?: string
  /** SessionNotOnOrAfter. */
  sessionEnds?: string
  /** More attributes, in canonical form. */
  attributes?: string
  /** Whatever else is to be said in another way. */
  message?: MessageOptions
}

/** A request as it arrived. */
export interface Asked {
  id: string
  relayState: string
  acsUrl: string
  spEntityId: string
  forceAuthn: boolean
  contexts: string[]
  xml: string
}

/** A form on its way to the assertion consumer service. */
export interface Posted {
  url: string
  fields: Record<string, string>
}

const key = (name: string): Signer => {
  const { privateKey, certificate } = newSpKey(name, now() - 24 * 60 * 60)
  return { privateKey, certificate: readCertificate(certificate) }
}

/** A running identity provider. */
export class IdentityProvider {
  readonly company: string
  readonly entityId: string
  /** Signs; another one may take its place. */
  key: Signer
  url = ''
  readonly #server: Server
  /** Of the service provider that it knows. */
  readonly #ours = newSpKey('sallyport', now() - 60)
  /** Who is at the keyboard. */
  person: SignedIn = { email: 'nobody@nowhere.example' }
  /** Of the last request. */
  asked: Asked | undefined

  private constructor(company: string) {
    this.company = company
    this.entityId = `https://idp.${company}.example/metadata`
    this.key = key(`idp.${company}.example`)
    this.#server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url!, this.url)
      if (pathname !== '/sso') return response.writeHead(404).end() // a browser asks for an icon
      const asked = readRequest(searchParams.get('SAMLRequest')!, searchParams.get('RelayState')!)
      const fields = this.answer(asked)
      const inputs = Object.entries(fields).map(
        ([name, value]) => `<input type="hidden" name="${name}" value="${value}">`,
      )
      response.setHeader('content-type', 'text/html')
      response.end(`<form method="post" action="${asked.acsUrl}">${inputs.join('')}<button>Continue</button></form>`)
    })
  }

  static async start(company: string): Promise<IdentityProvider> {
    const provider = new IdentityProvider(company)
    await new Promise<void>((resolve) => provider.#server.listen(0, '127.0.0.1', resolve))
    const { port } = provider.#server.address() as { port: number }
    // Another site than ours: the sign-in server is at 127.0.0.1.
    provider.url = `http://localhost:${port}`
    return provider
  }

  close(): Promise<void> {
    this.#server.closeAllConnections()
    return new Promise((resolve) => this.#server.close(() => resolve()))
  }

  /** A connection to it. */
  connection(more: Partial<Connection> = {}): Connection {
    return {
      id: `${this.company}-sso`,
      company: this.company,
      domains: [`${this.company}.example`],
      mode: 'forward',
      state: 'active',
      jit: false,
      trustedContexts: [],
      idp: {
        entityId: this.entityId,
        ssoUrl: `${this.url}/sso`,
        binding: 'redirect',
        certificates: [this.key.certificate],
      },
      keys: [this.#ours],
      attributes: { email: 'mail', name: 'displayName' },
      ...more,
    }
  }

  /** The person's browser goes there with a request. @returns the form that it finds */
  async visit(location: string): Promise<Posted> {
    const page = await (await fetch(location.replace('//localhost:', '//127.0.0.1:'))).text()
    const fields = [...page.matchAll(/name="([^"]+)" value="([^"]*)"/g)].map(([, name, value]) => [name, value])
    return { url: /action="([^"]+)"/.exec(page)![1]!, fields: Object.fromEntries(fields) as Record<string, string> }
  }

  /** What it answers to a request. */
  answer(asked: Asked, person = this.person): Record<string, string> {
    this.asked = asked
    const at = (seconds: number) => new Date((now() + seconds) * 1000).toISOString()
    const { value, format } = person.name ?? { value: person.email, format: FORMAT.email }
    const proved = person.proved ?? (asked.forceAuthn ? 0 : 60)
    const to = {
      id: '',
      company: this.company,
      domains: [],
      idp: { entityId: this.entityId, ssoUrl: '', binding: 'redirect' as const, certificates: [] },
      sp: { entityId: asked.spEntityId, acsUrl: asked.acsUrl, keys: [] },
      attributes: {},
    }
    const data = { InResponseTo: asked.id, NotOnOrAfter: at(300) }
    const xml = message({
      from: to,
      response: { ID: `_${randomBytes(16).toString('hex')}`, InResponseTo: asked.id, IssueInstant: at(0) },
      assertion: { ID: `_${randomBytes(16).toString('hex')}`, IssueInstant: at(0) },
      nameId: nameId(value, { Format: format }),
      confirmations: confirmation(data, undefined, undefined, to),
      conditions: element('saml:Conditions', { NotBefore: at(-60), NotOnOrAfter: at(300) }, audience(asked.spEntityId)),
      authn: authnStatement({ AuthnInstant: at(-proved), SessionNotOnOrAfter: person.sessionEnds }, person.context),
      attributes: element(
        'saml:AttributeStatement',
        {},
        attribute('mail', person.email) +
          attribute('displayName', person.displayName ?? 'Ana Lima') +
          (person.attributes ?? ''),
      ),
      signature: { key: this.key },
      ...person.message,
    })
    return { SAMLResponse: Buffer.from(xml).toString('base64'), RelayState: asked.relayState }
  }
}

/** Reads a request of the redirect binding. */
export function readRequest(request: string, relayState: string): Asked {
  const bytes = Buffer.from(request, 'base64')
  const xml = bytes.subarray(0, 1).toString() === '<' ? bytes.toString() : inflateRawSync(bytes).toString()
  const attributeIn = (name: string) => new RegExp(` ${name}="([^"]*)"`).exec(xml)?.[1] ?? ''
  return {
    id: attributeIn('ID'),
    relayState,
    acsUrl: attributeIn('AssertionConsumerServiceURL'),
    spEntityId: /<saml:Issuer[^>]*>([^<]*)</.exec(xml)![1]!,
    forceAuthn: attributeIn('ForceAuthn') === 'true',
    contexts: [...xml.matchAll(/<saml:AuthnContextClassRef[^>]*>([^<]*)</g)].map(([, context]) => context!),
    xml,
  }
}

/** The request in an address was signed with the connection's key (SAML Bindings §3.4.4.1). */
export function assertSigned(location: string, { keys }: Connection): void {
  const query = new URL(location).search.slice(1)
  const [signed, signature] = query.split('&Signature=')
  const verify = createVerify('RSA-SHA256').update(signed!)
  const { publicKey } = new X509Certificate(keys[0]!.certificate)
  assert.ok(verify.verify(publicKey, Buffer.from(decodeURIComponent(signature!), 'base64')))
}

/** A browser's POST from the identity provider's site: without any cookie of ours, as Lax has it. */
export async function postResponse(
  { url, fields }: Posted,
  { address = '127.0.0.1', headers = {} }: { address?: string; headers?: Record<string, string> } = {},
) {
  const response = await fetch(url, {
    method: 'POST',
    redirect: 'manual',
    headers: {
      origin: 'http://localhost:1',
      'sec-fetch-site': 'cross-site',
      'x-forwarded-for': address,
      accept: 'text/html',
      ...headers,
    },
    body: new URLSearchParams(fields),
  })
  const location = response.headers.get('location')
  return {
    status: response.status,
    location: location === null ? undefined : new URL(location, url).href,
    text: await response.text(),
    headers: response.headers,
    at: url,
  }
}

/** Connections, as a store that a test changes. */
export class Connections {
  readonly all = new Map<string, Connection>()
  put(connection: Connection): Connection {
    this.all.set(connection.id, connection)
    return connection
  }
  async connection(id: string): Promise<Connection | undefined> {
    return this.all.get(id)
  }
  /** Which of them a dry run found good. */
  readonly tested: string[] = []
  async recordTest({ id }: Connection): Promise<boolean> {
    this.tested.push(id)
    return this.all.has(id)
  }
  async anyFor(clientId: string): Promise<boolean> {
    return [...this.all.values()].some(
      ({ state, client }) => state === 'active' && (client === undefined || client === clientId),
    )
  }
  async connectionFor(domain: string, clientId: string): Promise<Connection | undefined> {
    const ofDomain = [...this.all.values()].filter(
      ({ state, domains }) => state === 'active' && domains.includes(domain),
    )
    return ofDomain.find(({ client }) => client === clientId) ?? ofDomain.find(({ client }) => client === undefined)
  }
}
