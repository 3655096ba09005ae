import type { FederationRequest, FederationStore, Sealer } from '../../interactions/kit/stores.ts'
import type { Connection } from './driver.ts'

const placeOf = (handle: string) => ({ purpose: 'federation_facts', owner: handle })

/** Sign-ins at companies' identity providers. */
export class SqliteFederation implements FederationStore {
  readonly #connection: Connection
  readonly #sealer: Sealer

  constructor(connection: Connection, sealer: Sealer) {
    this.#connection = connection
    this.#sealer = sealer
  }

  async keepRequest(request: FederationRequest): Promise<void> {
    const { handle, id, connectionId, interaction, createdAt, expiresAt, forceAuthn, authnContexts } = request
    await this.#connection.write(() =>
      this.#connection.run(
        `INSERT INTO federation_requests
          (handle, id, connection_id, interaction, created_at, expires_at, force_authn, authn_contexts)
          VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
        ...[
          handle,
          id,
          connectionId,
          interaction,
          createdAt,
          expiresAt,
          forceAuthn ? 1 : 0,
          JSON.stringify(authnContexts),
        ],
      ),
    )
  }

  async findRequest(handle: string, now: number) {
    const sql = 'SELECT * FROM federation_requests WHERE handle = ? AND expires_at > ?'
    const row = this.#connection.get(sql, handle, now)
    return (
      row && {
        handle,
        id: String(row['id']),
        connectionId: String(row['connection_id']),
        interaction: String(row['interaction']),
        createdAt: Number(row['created_at']),
        expiresAt: Number(row['expires_at']),
        forceAuthn: row['force_authn'] === 1,
        authnContexts: JSON.parse(String(row['authn_contexts'])) as string[],
        answered: row['answered'] === 1,
      }
    )
  }

  async acceptResponse({
    handle,
    issuer,
    assertionId,
    usableUntil,
    facts,
    expiresAt,
    now,
  }: Parameters<FederationStore['acceptResponse']>[0]) {
    const sealed = this.#sealer.seal(placeOf(handle), facts)
    return this.#connection.write(() => {
      const claim = this.#connection.get(
        `INSERT INTO used_assertions (issuer, assertion_id, handle, usable_until) VALUES (?, ?, ?, ?)
          ON CONFLICT DO UPDATE SET handle = handle RETURNING handle`,
        ...[issuer, assertionId, handle, usableUntil],
      )
      if (claim!['handle'] !== handle) return 'replayed'
      const sql = `UPDATE federation_requests SET answered = 1, facts = ?, expires_at = ?
        WHERE handle = ? AND answered = 0 AND expires_at > ?`
      return this.#connection.run(sql, sealed, expiresAt, handle, now) === 1 ? 'accepted' : 'answered'
    })
  }

  async takeFacts(handle: string, interaction: string, now: number): Promise<string | undefined> {
    const sealed = await this.#connection.write(() => {
      const where = 'handle = ? AND interaction = ? AND expires_at > ? AND facts IS NOT NULL'
      const row = this.#connection.get(`SELECT facts FROM federation_requests WHERE ${where}`, handle, interaction, now)
      if (row) this.#connection.run('UPDATE federation_requests SET facts = NULL WHERE handle = ?', handle)
      return row && String(row['facts'])
    })
    return sealed === undefined ? undefined : this.#sealer.open(placeOf(handle), sealed)
  }
}
