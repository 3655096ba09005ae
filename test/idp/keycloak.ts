/** A running Keycloak and its administration (Admin REST API). */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { freePort } from '../support/free-port.ts'
import { Program } from './program.ts'

const REALM = 'acme'
/** A first start unpacks and compiles: half a minute on a quiet machine. */
const START_MS = 8 * 60_000

type Json = Record<string, unknown>

/** How a client of the realm behaves, by Keycloak's names. */
export interface SamlClient {
  entityId: string
  acsUrl: string
  attributes?: Record<string, string>
}

export class Keycloak {
  /** `localhost`, so that it is another site than 127.0.0.1. */
  readonly origin: string
  readonly #program: Program
  readonly #admin: string

  private constructor(origin: string, program: Program, admin: string) {
    this.origin = origin
    this.#program = program
    this.#admin = admin
  }

  static async start(): Promise<Keycloak> {
    const port = await freePort()
    const admin = randomBytes(18).toString('base64url')
    const program = new Program('Keycloak', 'keycloak.sh', [String(port)], { KEYCLOAK_ADMIN: admin })
    const keycloak = new Keycloak(`http://localhost:${port}`, program, admin)
    await program.answers(`${keycloak.origin}/realms/master`, START_MS)
    await keycloak.#ask('POST', '', { realm: REALM, enabled: true, sslRequired: 'none' })
    return keycloak
  }

  /** What the realm says of itself. */
  get metadataUrl(): string {
    return `${this.origin}/realms/${REALM}/protocol/saml/descriptor`
  }

  metadata = async (): Promise<string> => (await fetch(this.metadataUrl)).text()

  async addUser(username: string, password: string, email: string): Promise<void> {
    await this.#ask('POST', `/${REALM}/users`, {
      username,
      email,
      enabled: true,
      emailVerified: true,
      firstName: 'Alice',
      lastName: 'Acme',
      credentials: [{ type: 'password', value: password, temporary: false }],
    })
  }

  async addClient({ entityId, acsUrl, attributes = {} }: SamlClient): Promise<void> {
    const mapper = (name: string) => ({
      name,
      protocol: 'saml',
      protocolMapper: 'saml-user-property-mapper',
      config: {
        'user.attribute': name,
        'attribute.name': name,
        'friendly.name': name,
        'attribute.nameformat': 'Basic',
      },
    })
    await this.#ask('POST', `/${REALM}/clients`, {
      clientId: entityId,
      protocol: 'saml',
      enabled: true,
      redirectUris: [acsUrl],
      attributes: {
        'saml.assertion.signature': 'true',
        'saml.server.signature': 'true',
        'saml.client.signature': 'false',
        'saml.signature.algorithm': 'RSA_SHA256',
        saml_name_id_format: 'email',
        saml_force_name_id_format: 'true',
        'saml.authnstatement': 'true',
        saml_assertion_consumer_url_post: acsUrl,
        ...attributes,
      },
      protocolMappers: ['email', 'firstName'].map(mapper),
    })
  }

  async changeClient(entityId: string, attributes: Record<string, string>): Promise<void> {
    const [client] = (await this.#ask('GET', `/${REALM}/clients?clientId=${encodeURIComponent(entityId)}`)) as [Json]
    const changed = { ...client, attributes: { ...(client['attributes'] as Json), ...attributes } }
    await this.#ask('PUT', `/${REALM}/clients/${client['id']}`, changed)
  }

  /** A new signing key of higher priority: it signs from now on, the former one stays published. */
  async newSigningKey(): Promise<void> {
    const realm = (await this.#ask('GET', `/${REALM}`)) as Json
    await this.#ask('POST', `/${REALM}/components`, {
      name: 'rsa-new',
      parentId: realm['id'],
      providerId: 'rsa-generated',
      providerType: 'org.keycloak.keys.KeyProvider',
      config: { priority: ['200'], enabled: ['true'], active: ['true'], keySize: ['2048'], algorithm: ['RS256'] },
    })
  }

  stop(): void {
    this.#program.stop()
  }

  async #ask(method: string, path: string, body?: Json): Promise<unknown> {
    const token = (await (
      await fetch(`${this.origin}/realms/master/protocol/openid-connect/token`, {
        method: 'POST',
        body: new URLSearchParams({
          grant_type: 'password',
          client_id: 'admin-cli',
          username: 'admin',
          password: this.#admin,
        }),
      })
    ).json()) as { access_token: string }
    const response = await fetch(`${this.origin}/admin/realms${path}`, {
      method,
      headers: { authorization: `Bearer ${token.access_token}`, 'content-type': 'application/json' },
      ...(body && { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    assert.ok(response.ok, `Keycloak: ${method} ${path}: ${response.status} ${text}`)
    return text === '' ? undefined : JSON.parse(text)
  }
}
