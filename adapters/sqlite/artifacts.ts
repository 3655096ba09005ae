import type { Artifact, ArtifactStore } from '../../interactions/kit/stores.ts'
import type { Connection, Row } from './driver.ts'

/** The library accepts rows this long after their end (`clockTolerance`). */
const TOLERANCE = 15
/** Longer than any request takes. */
const DESTROYED_KEPT = 60 * 60

/** What oidc-provider destroys while another request may still be about to write it. */
const ENDS_FOR_GOOD = new Set(['Session', 'Interaction'])

type Payload = Record<string, unknown>

/** The rows of oidc-provider. The three duties are methods of their own, so that a test can take one away. */
export class SqliteArtifacts implements ArtifactStore {
  protected readonly connection: Connection

  constructor(connection: Connection) {
    this.connection = connection
  }

  async save(artifact: Artifact): Promise<void> {
    if (artifact.model === 'Session' && this.#says(artifact)) return
    await this.connection.write(() => {
      if (!ENDS_FOR_GOOD.has(artifact.model)) return this.write(artifact)
      const session = artifact.model === 'Session'
      if (session && this.hasEnded(artifact.uid)) return
      if (this.isDestroyed(artifact.key)) return session ? this.handOver(artifact) : undefined
      if (!session) return this.write(artifact)
      const stored = this.read('WHERE model = ? AND key = ?', artifact.model, artifact.key)
      const before = stored ? [stored.payload] : this.buried(artifact.uid)
      const payload = before.reduce((next, earlier) => this.merged(earlier, next), artifact.payload)
      this.write({ ...artifact, payload })
    })
  }

  async find(model: string, key: string, now: number): Promise<Artifact | undefined> {
    const row = this.connection.artifact(model, key)
    return alive(row && artifactOf(row), now)
  }

  async findByUid(model: string, uid: string, now: number): Promise<Artifact | undefined> {
    return alive(this.read('WHERE model = ? AND uid = ?', model, uid), now)
  }

  async findByUserCode(model: string, userCode: string, now: number): Promise<Artifact | undefined> {
    return alive(this.read('WHERE model = ? AND user_code = ?', model, userCode), now)
  }

  async consume(model: string, key: string, at: number, { ahead = false } = {}): Promise<boolean> {
    const sql = `UPDATE artifacts SET consumed_at = ?
      WHERE model = ? AND key = ? AND consumed_at IS NULL AND (expires_at IS NULL OR expires_at > ?)`
    return this.connection.write(
      () => this.connection.runOnArtifact(model, key, sql, at, model, key, at - TOLERANCE) === 1,
      { ahead },
    )
  }

  async onDisk(): Promise<void> {
    await this.connection.write(() => {})
  }

  async destroy(model: string, key: string, now: number): Promise<boolean> {
    return this.connection.write(() => {
      if (ENDS_FOR_GOOD.has(model)) this.bury(model, key, now)
      const sql = 'DELETE FROM artifacts WHERE model = ? AND key = ?'
      return this.connection.runOnArtifact(model, key, sql, model, key) === 1
    })
  }

  async endSession(uid: string, now: number): Promise<void> {
    await this.connection.write(() => {
      this.connection.run(
        'INSERT INTO ended_sessions (uid, kept_until) VALUES (?, ?) ON CONFLICT DO UPDATE SET kept_until = excluded.kept_until',
        uid,
        now + DESTROYED_KEPT,
      )
      this.connection.run("DELETE FROM artifacts WHERE model = 'Session' AND uid = ?", uid)
    })
  }

  async sessionsOf(accountId: string, now: number): Promise<Artifact[]> {
    const sql =
      "SELECT * FROM artifacts WHERE account_id = ? AND model = 'Session' AND (expires_at IS NULL OR expires_at > ?)"
    return this.connection.all(sql, accountId, now - TOLERANCE).map(artifactOf)
  }

  async revokeByGrantId(model: string, grantId: string): Promise<void> {
    const sql = 'DELETE FROM artifacts WHERE grant_id = ? AND model = ?'
    await this.connection.write(() => this.connection.run(sql, grantId, model))
  }

  /** Every request saves its session, most of them as it was. */
  #says({ model, key, payload, expiresAt, uid, accountId }: Artifact): boolean {
    const row = this.connection.artifact(model, key)
    return (
      row !== undefined &&
      row['payload'] === JSON.stringify(payload) &&
      row['expires_at'] === (expiresAt ?? null) &&
      row['uid'] === (uid ?? null) &&
      row['account_id'] === (accountId ?? null)
    )
  }

  async revokeGrants(accountId: string, clientId: string): Promise<void> {
    const mine = `SELECT key FROM artifacts WHERE model = 'Grant' AND account_id = ? AND payload ->> 'clientId' = ?`
    await this.connection.write(() => {
      for (const { key } of this.connection.all(mine, accountId, clientId)) {
        this.connection.run('DELETE FROM artifacts WHERE grant_id = ?', key!)
        this.connection.run("DELETE FROM artifacts WHERE model = 'Grant' AND key = ?", key!)
      }
    })
  }

  /** A slower request must not bring it back. What was authorized on a session waits for the row that has its uid next. */
  protected bury(model: string, key: string, now: number): void {
    this.connection.run(
      `INSERT INTO destroyed (key, kept_until, uid, payload)
        SELECT ?1, ?2, max(uid), max(payload) FROM artifacts WHERE model = 'Session' AND ?3 = 'Session' AND key = ?1
        ON CONFLICT DO UPDATE SET kept_until = excluded.kept_until`,
      key,
      now + DESTROYED_KEPT,
      model,
    )
  }

  /** A rename destroys the old row and then writes the new one from what it read before both. */
  protected buried(uid: string | undefined): Payload[] {
    if (uid === undefined) return []
    return this.connection
      .all('SELECT payload FROM destroyed WHERE uid = ?', uid)
      .map((row) => JSON.parse(String(row['payload'])) as Payload)
  }

  /** Signed out in another tab while a resume was about to rename the session. */
  protected hasEnded(uid: string | undefined): boolean {
    return uid !== undefined && this.connection.get('SELECT 1 FROM ended_sessions WHERE uid = ?', uid) !== undefined
  }

  protected isDestroyed(key: string): boolean {
    return this.connection.get('SELECT 1 FROM destroyed WHERE key = ?', key) !== undefined
  }

  /** Two apps authorized in parallel on one session: the second writer read the row before the first wrote it. */
  protected merged(stored: Payload, next: Payload): Payload {
    return sameSignIn(stored, next) ? { ...next, authorizations: this.union(stored, next) } : next
  }

  /** What a late writer authorized on a renamed session goes to the row that has its uid now, or will have it in a moment. */
  protected handOver(late: Artifact): void {
    const live = late.uid === undefined ? undefined : this.read('WHERE model = ? AND uid = ?', 'Session', late.uid)
    if (live) {
      if (!sameSignIn(live.payload, late.payload)) return
      this.write({ ...live, payload: { ...live.payload, authorizations: this.union(late.payload, live.payload) } })
      return
    }
    const row = this.connection.get('SELECT payload FROM destroyed WHERE key = ? AND uid IS NOT NULL', late.key)
    const earlier = row && (JSON.parse(String(row['payload'])) as Payload)
    if (!earlier || !sameSignIn(earlier, late.payload)) return
    const payload = JSON.stringify({ ...earlier, authorizations: this.union(late.payload, earlier) })
    this.connection.run('UPDATE destroyed SET payload = ? WHERE key = ?', payload, late.key)
  }

  /** Both, the strong one's word first. An app that was signed out of since then has no grant any more. */
  protected union(weak: Payload, strong: Payload) {
    const standing = Object.entries(authorizationsOf(weak)).filter(([, { grantId }]) => this.stands(grantId))
    return { ...Object.fromEntries(standing), ...authorizationsOf(strong) }
  }

  protected stands(grantId: string | undefined): boolean {
    return grantId === undefined || this.read('WHERE model = ? AND key = ?', 'Grant', grantId) !== undefined
  }

  protected write(artifact: Artifact): void {
    const { model, key, payload, expiresAt, uid, grantId, accountId, userCode, consumedAt } = artifact
    this.connection.runOnArtifact(
      model,
      key,
      `INSERT INTO artifacts (model, key, payload, expires_at, uid, grant_id, account_id, user_code, consumed_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (model, key) DO UPDATE SET payload = excluded.payload, expires_at = excluded.expires_at, uid = excluded.uid,
          grant_id = excluded.grant_id, account_id = excluded.account_id, user_code = coalesce(excluded.user_code, user_code),
          consumed_at = coalesce(consumed_at, excluded.consumed_at)`,
      model,
      key,
      JSON.stringify(payload),
      expiresAt ?? null,
      uid ?? null,
      grantId ?? null,
      accountId ?? null,
      userCode ?? null,
      consumedAt ?? null,
    )
  }

  protected read(where: string, ...values: string[]): Artifact | undefined {
    const row = this.connection.get(`SELECT * FROM artifacts ${where}`, ...values)
    return row && artifactOf(row)
  }
}

/** A session that was signed in on again (new `created`, other epoch) took nothing over, on purpose. */
const sameSignIn = (a: Payload, b: Payload): boolean =>
  ['accountId', 'epoch', 'created'].every((name) => a[name] === b[name])

const authorizationsOf = (payload: Payload) =>
  (payload['authorizations'] as Record<string, { grantId?: string }> | undefined) ?? {}

const alive = (artifact: Artifact | undefined, now: number): Artifact | undefined =>
  artifact && (artifact.expiresAt === undefined || artifact.expiresAt + TOLERANCE > now) ? artifact : undefined

function artifactOf(row: Row): Artifact {
  const text = (name: string) => (row[name] as string | null) ?? undefined
  const number = (name: string) => (row[name] as number | null) ?? undefined
  return {
    model: String(row['model']),
    key: String(row['key']),
    payload: JSON.parse(String(row['payload'])) as Payload,
    expiresAt: number('expires_at'),
    uid: text('uid'),
    grantId: text('grant_id'),
    accountId: text('account_id'),
    userCode: text('user_code'),
    consumedAt: number('consumed_at'),
  }
}
