import type {
  Account,
  AccountStore,
  Membership,
  MembershipRole,
  ServerRole,
  Side,
} from '../../interactions/kit/stores.ts'
import type { Connection, Row } from './driver.ts'

const READ = `
  SELECT a.*, t.added_at AS otp_at, t.last_step, p.added_at AS sms_at, p.used_at AS sms_used,
    r.id AS code_id, r.replaces, r.acknowledged, r.reserved_by, r.reserved_until, r.reservations,
    (SELECT json_group_array(json_object(
        'companyId', c.id, 'side', c.side, 'roles', json(m.roles),
        'active', m.disabled = 0 AND c.disabled = 0, 'from', c.enforced_from, 'zone', c.enforced_zone, 'help', c.help))
      FROM memberships m JOIN companies c ON c.id = m.company_id WHERE m.account_id = a.id) AS memberships
  FROM accounts a LEFT JOIN totp t ON t.account_id = a.id LEFT JOIN phones p ON p.account_id = a.id
    LEFT JOIN recovery_codes r ON r.account_id = a.id`

const BY_ID = `${READ} WHERE a.id = ?`
const BY_EMAIL = `${READ} WHERE a.email = ?`

/** Of an authenticator app: the step that was used last says when (RFC 6238). */
const STEP_SECONDS = 30

interface MembershipRow {
  companyId: string
  side: Side
  roles: MembershipRole[]
  active: number
  from: string | null
  zone: string | null
  help: string | null
}

/** People, read with one statement. */
export class SqliteAccounts implements AccountStore {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async find(accountId: string): Promise<Account | undefined> {
    const [row] = this.#connection.settled(BY_ID, accountId)
    return row && accountOf(row)
  }

  async findByEmail(email: string) {
    const [row] = this.#connection.settled(BY_EMAIL, email)
    return row && { account: accountOf(row), passwordHash: (row['password_hash'] as string | null) ?? undefined }
  }

  async upgradePasswordHash(accountId: string, from: string, to: string): Promise<void> {
    const sql = 'UPDATE accounts SET password_hash = ? WHERE id = ? AND password_hash = ?'
    await this.#connection.write(() => this.#connection.run(sql, to, accountId, from))
  }
}

function accountOf(row: Row): Account {
  const text = (name: string) => (row[name] as string | null) ?? undefined
  const number = (name: string) => (row[name] === null ? undefined : Number(row[name]))
  const memberships = JSON.parse(String(row['memberships'])) as MembershipRow[]
  const [otp, sms] = [number('otp_at'), number('sms_at')]
  const codeId = text('code_id')
  return {
    id: String(row['id']),
    email: String(row['email']),
    name: text('name'),
    disabled: row['disabled'] === 1,
    securityEpoch: Number(row['security_epoch']),
    factorVersion: Number(row['factor_version']),
    alwaysRequire2fa: row['always_require_2fa'] === 1,
    serverRoles: JSON.parse(String(row['server_roles'])) as ServerRole[],
    memberships: memberships.map(membershipOf),
    enrolled: { ...(otp !== undefined && { otp }), ...(sms !== undefined && { sms }) },
    used: {
      ...(otp !== undefined && { otp: Number(row['last_step']) * STEP_SECONDS }),
      ...(sms !== undefined && { sms: Number(row['sms_used']) }),
    },
    recoveryCode:
      codeId === undefined
        ? undefined
        : {
            id: codeId,
            replaces: text('replaces'),
            acknowledged: row['acknowledged'] === 1,
            reservedBy: text('reserved_by'),
            reservedUntil: number('reserved_until'),
            reservations: Number(row['reservations']),
          },
  }
}

function membershipOf({ companyId, side, roles, active, from, zone, help }: MembershipRow): Membership {
  const enforcement = from !== null && zone !== null ? { from, zone } : undefined
  return { companyId, side, roles, active: active === 1, enforcement, ...(help !== null && { help }) }
}
