/**
 * oidc-provider's Adapter over an ArtifactStore: what is stored under which name, and what is sealed.
 * A copied database opens nothing: bearer values are stored under SHA-256 and without `jti`, interactions encrypted whole.
 */
import { type Adapter, type AdapterFactory, type AdapterPayload, type ClientMetadata, errors } from 'oidc-provider'
import { behindTheRequest } from './behind.ts'
import { digest } from './keyring.ts'
import type { Artifact, ArtifactStore, Sealer } from './stores.ts'

/**
 * Encrypted whole: what an app asked for, whom it expects, what a person has done so far. One purpose for both, which is
 * what a change of keys looks for.
 */
const SEALED = new Set(['Interaction', 'PushedAuthorizationRequest'])

/** Ids that are no secret: a grant is found by tokens, never shown to anybody. */
const PLAIN = new Set(['Grant'])

/** What a request writes and does not read again: saved together at its end. */
const BEHIND = new Set(['AccessToken', 'AuthorizationCode', 'ClientCredentials', 'RefreshToken', 'Session'])

/** Where the adapter gets its parts. */
export interface AdapterParts {
  artifacts: ArtifactStore
  sealer: Sealer
  now: () => number
  /**
   * Seconds that a pushed request is remembered beyond its own end: a sign-in that it began may take that long, and two
   * of them must not lead to two codes. By default an hour.
   */
  pushedKept?: number
  /** Registered clients; `undefined` when the app configures its own. */
  client?: ((clientId: string) => Promise<ClientMetadata | undefined>) | undefined
}

/** An adapter factory for `configuration.adapter`. */
export const createAdapter =
  (parts: AdapterParts): AdapterFactory =>
  (model) =>
    model === 'Client' && parts.client ? new ClientAdapter(parts.client) : new ArtifactAdapter(model, parts)

class ArtifactAdapter implements Adapter {
  readonly #model: string
  readonly #artifacts: ArtifactStore
  readonly #sealer: Sealer
  readonly #now: () => number
  readonly #kept: number

  constructor(model: string, { artifacts, sealer, now, pushedKept = 60 * 60 }: AdapterParts) {
    this.#model = model
    this.#artifacts = artifacts
    this.#sealer = sealer
    this.#now = now
    this.#kept = model === 'PushedAuthorizationRequest' ? pushedKept : 0
  }

  async upsert(id: string, payload: AdapterPayload, expiresIn?: number): Promise<void> {
    const key = this.#key(id)
    const { jti, uid, grantId, accountId, userCode } = payload
    const artifact = {
      model: this.#model,
      key,
      payload: this.#close(key, id, payload),
      expiresAt: expiresIn === undefined ? undefined : this.#now() + expiresIn + this.#kept,
      // An interaction's uid is its id, which is in a cookie; a session's is neither shown nor enough to find it.
      uid: this.#model === 'Session' && jti !== uid ? uid : undefined,
      // Interactions carry a grant id too, but do not die with the grant.
      grantId: this.#model === 'Interaction' ? undefined : grantId,
      accountId,
      userCode: userCode === undefined ? undefined : digest(userCode),
    }
    const save = () => this.#artifacts.save(artifact)
    await (BEHIND.has(this.#model) ? behindTheRequest(save) : save())
  }

  async find(id: string): Promise<AdapterPayload | undefined> {
    const artifact = await this.#artifacts.find(this.#model, this.#key(id), this.#now())
    // Of a pushed request that is gone nobody knows whether it was used: the library would go on without it.
    if (!artifact && this.#model === 'PushedAuthorizationRequest') return { jti: id, consumed: true }
    return this.#open(artifact, { jti: id })
  }

  /** Without the true `jti`: nobody knows it. So a session found here can be read, not saved or destroyed. */
  async findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return this.#open(await this.#artifacts.findByUid(this.#model, uid, this.#now()), {})
  }

  async findByUserCode(userCode: string): Promise<AdapterPayload | undefined> {
    return this.#open(await this.#artifacts.findByUserCode(this.#model, digest(userCode), this.#now()), { userCode })
  }

  /** Of two exchanges of one code, one gets the tokens (RFC 6749 §4.1.2): the library itself reads first and writes later. */
  async consume(id: string): Promise<void> {
    const won = await this.#artifacts.consume(this.#model, this.#key(id), this.#now(), { ahead: true })
    // The tokens that are made now are written later, and the answer waits for both together.
    await behindTheRequest(() => this.#artifacts.onDisk())
    if (won) return
    const artifact = await this.#artifacts.find(this.#model, this.#key(id), this.#now())
    if (artifact?.grantId !== undefined) await this.#revoke(artifact.grantId)
    throw this.#model === 'PushedAuthorizationRequest'
      ? new errors.InvalidRequestUri('request_uri was used already')
      : new errors.InvalidGrant(`${this.#model} was used already`)
  }

  /** One interaction leads to one answer: of two resumes at once the library itself would let both go on. */
  async destroy(id: string): Promise<void> {
    const was = await this.#artifacts.destroy(this.#model, this.#key(id), this.#now())
    if (!was && this.#model === 'Interaction') throw new errors.SessionNotFound('the interaction was resumed already')
  }

  async revokeByGrantId(grantId: string): Promise<void> {
    await this.#artifacts.revokeByGrantId(this.#model, grantId)
  }

  /** The library revokes the tokens of a replayed code only when it sees the replay; the loser of a race does it here. */
  async #revoke(grantId: string) {
    for (const model of ['AccessToken', 'RefreshToken', 'AuthorizationCode'])
      await this.#artifacts.revokeByGrantId(model, grantId)
    // The winner may not have written its tokens yet: without the grant they open nothing.
    await this.#artifacts.destroy('Grant', grantId, this.#now())
  }

  #key(id: string) {
    return PLAIN.has(this.#model) ? id : digest(id)
  }

  #close(key: string, id: string, payload: AdapterPayload): Record<string, unknown> {
    if (PLAIN.has(this.#model)) return payload
    const { jti: _jti, ...rest } = payload
    if (SEALED.has(this.#model)) {
      // The session's cookie value is copied in by the library and never read again.
      const session = rest.session && { ...rest.session, cookie: undefined }
      return { sealed: this.#sealer.seal({ purpose: 'interaction', owner: key }, JSON.stringify({ ...rest, session })) }
    }
    if (this.#model === 'DeviceCode') {
      // Found by user code, it is saved under its true id, which therefore must be in it.
      const { userCode: _userCode, ...device } = rest
      return { ...device, sealedId: this.#sealer.seal({ purpose: 'device_code', owner: key }, id) }
    }
    return rest
  }

  #open(artifact: Artifact | undefined, shown: Partial<AdapterPayload>): AdapterPayload | undefined {
    if (!artifact) return undefined
    const { key, payload, consumedAt } = artifact
    const used = consumedAt === undefined ? {} : { consumed: consumedAt }
    if (typeof payload['sealed'] === 'string')
      return {
        ...(JSON.parse(this.#sealer.open({ purpose: 'interaction', owner: key }, payload['sealed'])) as AdapterPayload),
        ...used,
        ...shown,
      }
    if (typeof payload['sealedId'] === 'string') {
      const { sealedId, ...device } = payload
      return {
        ...device,
        jti: this.#sealer.open({ purpose: 'device_code', owner: key }, sealedId as string),
        ...used,
        ...shown,
      }
    }
    return { ...payload, ...used, ...shown } as AdapterPayload
  }
}

/** Reads registered clients; the library keeps the parsed form, keyed by content. */
class ClientAdapter implements Adapter {
  readonly #client: (clientId: string) => Promise<ClientMetadata | undefined>

  constructor(client: (clientId: string) => Promise<ClientMetadata | undefined>) {
    this.#client = client
  }

  async find(id: string): Promise<AdapterPayload | undefined> {
    return (await this.#client(id)) as AdapterPayload | undefined
  }

  upsert = refuse
  findByUid = refuse
  findByUserCode = refuse
  consume = refuse
  destroy = refuse
  revokeByGrantId = refuse
}

async function refuse(): Promise<never> {
  throw new Error('clients are registered by the server, not through oidc-provider')
}
