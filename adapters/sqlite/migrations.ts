/** The schema, as a numbered list: `PRAGMA user_version` says how many of them a file has. Never change one that was released. */
import { StoreUnavailable } from '../../interactions/kit/stores.ts'
import { APPLICATION_ID, type Connection } from './driver.ts'

const MIGRATIONS: string[] = [
  `
  CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT,
    password_hash TEXT,
    disabled INTEGER NOT NULL DEFAULT 0,
    server_roles TEXT NOT NULL DEFAULT '[]',
    always_require_2fa INTEGER NOT NULL DEFAULT 0,
    security_epoch INTEGER NOT NULL DEFAULT 0,
    factor_version INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE companies (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    side TEXT NOT NULL,
    domains TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    enforced_from TEXT,
    enforced_zone TEXT,
    help TEXT
  ) STRICT;
  CREATE TABLE memberships (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    company_id TEXT NOT NULL REFERENCES companies (id) DEFERRABLE INITIALLY DEFERRED,
    roles TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, company_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX memberships_company ON memberships (company_id);

  CREATE TABLE totp (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    secret TEXT NOT NULL,
    last_step INTEGER NOT NULL,
    added_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE recovery_codes (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    replaces TEXT,
    hash TEXT,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    reserved_by TEXT,
    reserved_until INTEGER,
    reservations INTEGER NOT NULL DEFAULT 0
  ) STRICT;

  CREATE TABLE throttles (
    key TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    since INTEGER NOT NULL,
    blocked_until INTEGER NOT NULL,
    disabled INTEGER NOT NULL,
    kept_until INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX throttles_kept ON throttles (kept_until);
  CREATE TABLE devices (
    device TEXT NOT NULL,
    account_id TEXT NOT NULL, -- no reference: an embedding app's people are not in this file
    last_used INTEGER NOT NULL,
    PRIMARY KEY (device, account_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE pending (
    owner TEXT NOT NULL,
    purpose TEXT NOT NULL,
    value TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (owner, purpose)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX pending_expires ON pending (expires_at);

  CREATE TABLE artifacts (
    model TEXT NOT NULL,
    key TEXT NOT NULL,
    payload TEXT NOT NULL,
    expires_at INTEGER,
    uid TEXT,
    grant_id TEXT,
    account_id TEXT,
    user_code TEXT,
    consumed_at INTEGER,
    PRIMARY KEY (model, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX artifacts_uid ON artifacts (model, uid) WHERE uid IS NOT NULL;
  CREATE INDEX artifacts_grant ON artifacts (grant_id) WHERE grant_id IS NOT NULL;
  CREATE INDEX artifacts_user_code ON artifacts (user_code) WHERE user_code IS NOT NULL;
  CREATE INDEX artifacts_expires ON artifacts (expires_at) WHERE expires_at IS NOT NULL;
  CREATE TABLE destroyed (
    key TEXT PRIMARY KEY,
    kept_until INTEGER NOT NULL,
    uid TEXT,
    payload TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX destroyed_uid ON destroyed (uid) WHERE uid IS NOT NULL;

  CREATE TABLE ended_sessions (uid TEXT PRIMARY KEY, kept_until INTEGER NOT NULL) STRICT, WITHOUT ROWID;

  CREATE TABLE clients (client_id TEXT PRIMARY KEY, metadata TEXT NOT NULL, secret TEXT) STRICT;
  CREATE TABLE resources (id TEXT PRIMARY KEY, name TEXT NOT NULL, scopes TEXT NOT NULL) STRICT;
  CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    private_jwk TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL
  ) STRICT;

  CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    writer TEXT NOT NULL,
    number INTEGER NOT NULL,
    event TEXT NOT NULL,
    account_id TEXT,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL,
    UNIQUE (writer, number)
  ) STRICT;
  CREATE INDEX audit_account ON audit (account_id, id);
  CREATE INDEX audit_event ON audit (event, id);
  CREATE TRIGGER audit_keeps BEFORE UPDATE ON audit BEGIN SELECT raise(ABORT, 'the audit is append-only'); END;
  CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT raise(ABORT, 'the audit is append-only'); END;
  `,
  `
  CREATE TABLE consents (
    account_id TEXT NOT NULL, -- no reference: an embedding app's people are not in this file
    client_id TEXT NOT NULL,
    permission TEXT NOT NULL,
    given_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, client_id, permission)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX consents_client ON consents (client_id);
  CREATE INDEX artifacts_account ON artifacts (account_id, model) WHERE account_id IS NOT NULL;
  `,
  `
  ALTER TABLE signing_keys ADD COLUMN activates_at INTEGER;
  ALTER TABLE signing_keys ADD COLUMN retired_at INTEGER;
  UPDATE signing_keys SET retired_at = unixepoch() WHERE state = 'retired';
  CREATE UNIQUE INDEX signing_keys_one ON signing_keys (state) WHERE state IN ('active', 'next');
  `,
  `ALTER TABLE resources ADD COLUMN options TEXT NOT NULL DEFAULT '{}';`,
  `
  CREATE TABLE federation_requests (
    handle TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    connection_id TEXT NOT NULL,
    interaction TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    force_authn INTEGER NOT NULL,
    authn_contexts TEXT NOT NULL,
    answered INTEGER NOT NULL DEFAULT 0,
    facts TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX federation_requests_expires ON federation_requests (expires_at);
  CREATE TABLE used_assertions (
    issuer TEXT NOT NULL,
    assertion_id TEXT NOT NULL,
    handle TEXT NOT NULL,
    usable_until INTEGER NOT NULL,
    PRIMARY KEY (issuer, assertion_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX used_assertions_until ON used_assertions (usable_until);
  `,
  `
  CREATE TABLE connections (
    id TEXT PRIMARY KEY,
    company_id TEXT NOT NULL REFERENCES companies (id) DEFERRABLE INITIALLY DEFERRED,
    client_id TEXT,
    state TEXT NOT NULL,
    domains TEXT NOT NULL,
    settings TEXT NOT NULL,
    keys TEXT NOT NULL,
    tested_at INTEGER
  ) STRICT;
  CREATE TABLE connection_domains ( -- of those that are not disabled
    domain TEXT NOT NULL,
    client_id TEXT NOT NULL, -- '': for every client
    connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
    PRIMARY KEY (domain, client_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX connection_domains_connection ON connection_domains (connection_id);
  `,
  `
  CREATE TABLE links (
    account_id TEXT NOT NULL, -- no reference: an embedding app's people are not in this file
    company_id TEXT NOT NULL,
    issuer TEXT NOT NULL,
    format TEXT NOT NULL,
    name TEXT NOT NULL,
    linked_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, company_id, issuer)
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX links_name ON links (company_id, issuer, format, name);
  `,
  `
  CREATE TABLE federation_traces (
    reference TEXT PRIMARY KEY,
    connection_id TEXT NOT NULL, -- no reference: what happened stays told when the connection is removed
    at INTEGER NOT NULL,
    shelf TEXT NOT NULL,
    said TEXT NOT NULL,
    expires_at INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX federation_traces_connection ON federation_traces (connection_id, shelf, at);
  CREATE INDEX federation_traces_expires ON federation_traces (expires_at);
  `,
  `
  CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL,
    account_id TEXT NOT NULL, -- no reference: an embedding app's people are not in this file
    body TEXT,
    created_at INTEGER NOT NULL,
    first_due INTEGER NOT NULL,
    due_at INTEGER, -- the next try; none when it has left, or nobody tries any longer
    usable_until INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    sent_at INTEGER,
    error TEXT,
    kept_until INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX outbox_due ON outbox (channel, due_at) WHERE due_at IS NOT NULL;
  CREATE INDEX outbox_account ON outbox (account_id);
  CREATE INDEX outbox_created ON outbox (created_at);
  CREATE INDEX outbox_kept ON outbox (kept_until);
  `,
  `
  CREATE TABLE phones (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    number TEXT NOT NULL, -- E.164, sealed
    added_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL
  ) STRICT;
  `,
  `
  ALTER TABLE accounts ADD COLUMN former_passwords TEXT;
  CREATE TABLE mailed_links (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    purpose TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    PRIMARY KEY (account_id, purpose)
  ) STRICT, WITHOUT ROWID;
  `,
  // With rowids: a new row goes to the end of the table, and only short keys are sorted in. That halves what a write costs.
  `
  CREATE TABLE rows (
    model TEXT NOT NULL,
    key TEXT NOT NULL,
    payload TEXT NOT NULL,
    expires_at INTEGER,
    uid TEXT,
    grant_id TEXT,
    account_id TEXT,
    user_code TEXT,
    consumed_at INTEGER,
    PRIMARY KEY (model, key)
  ) STRICT;
  INSERT INTO rows SELECT * FROM artifacts;
  DROP TABLE artifacts;
  ALTER TABLE rows RENAME TO artifacts;
  CREATE INDEX artifacts_uid ON artifacts (model, uid) WHERE uid IS NOT NULL;
  CREATE INDEX artifacts_grant ON artifacts (grant_id) WHERE grant_id IS NOT NULL;
  CREATE INDEX artifacts_user_code ON artifacts (user_code) WHERE user_code IS NOT NULL;
  CREATE INDEX artifacts_expires ON artifacts (expires_at) WHERE expires_at IS NOT NULL;
  CREATE INDEX artifacts_account ON artifacts (account_id, model) WHERE account_id IS NOT NULL;
  `,
  // Whether a company asks its people for a second factor who came through its own identity provider.
  `ALTER TABLE companies ADD COLUMN enforced_sso TEXT CHECK (enforced_sso = 'challenge');`,
  // What else a company demands of its people, as JSON.
  `ALTER TABLE companies ADD COLUMN rules TEXT;`,
  // A second address, at which a person is told of changes.
  'ALTER TABLE accounts ADD COLUMN notice_email TEXT;',
  `
  ALTER TABLE accounts ADD COLUMN reset_at INTEGER; -- of factors
  ALTER TABLE accounts ADD COLUMN reset_open INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE accounts ADD COLUMN reset_held_by TEXT;
  ALTER TABLE accounts ADD COLUMN reset_held_until INTEGER;
  `,
]

/**
 * Brings the file to this version's schema. Two processes that start at once both come up.
 * @throws {StoreUnavailable} when the file is of a newer version
 */
export function migrate(connection: Connection): void {
  const version = () => Number(connection.get('PRAGMA user_version')!['user_version'])
  const newer = (found: number) => {
    if (found > MIGRATIONS.length)
      throw new StoreUnavailable(
        `the database has schema ${found}, this version knows ${MIGRATIONS.length}: run the newer version`,
      )
  }
  newer(version())
  if (version() === MIGRATIONS.length) return
  connection.transaction(() => {
    const found = version() // read again under the lock: another process may have been first
    newer(found)
    for (const migration of MIGRATIONS.slice(found)) connection.exec(migration)
    connection.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${MIGRATIONS.length}`)
  })
}

/**
 * For a file that must not be changed.
 * @throws {StoreUnavailable} when it is not of this version
 */
export function checkVersion(connection: Connection, file: string): void {
  const version = Number(connection.get('PRAGMA user_version')!['user_version'])
  if (version === MIGRATIONS.length) return
  throw new StoreUnavailable(
    version < MIGRATIONS.length
      ? `the database ${file} has schema ${version}, this version has ${MIGRATIONS.length}: bring it up to date first, \`SALLYPORT_STORE=sqlite:${file} sallyport doctor\` does`
      : `the database ${file} has schema ${version}, this version knows ${MIGRATIONS.length}: run the newer version`,
  )
}
