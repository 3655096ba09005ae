import type { Consent, ConsentStore } from '../../interactions/kit/stores.ts'
import type { Connection } from './driver.ts'

/** What people agreed to: one row for each permission. */
export class SqliteConsents implements ConsentStore {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async remember(accountId: string, clientId: string, permissions: string[], now: number): Promise<void> {
    await this.#connection.write(() => {
      for (const permission of permissions)
        this.#connection.run(
          'INSERT INTO consents (account_id, client_id, permission, given_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
          accountId,
          clientId,
          permission,
          now,
        )
    })
  }

  async find(accountId: string, clientId: string): Promise<Consent | undefined> {
    return this.#read('WHERE account_id = ? AND client_id = ?', accountId, clientId)[0]
  }

  async list(accountId: string): Promise<Consent[]> {
    return this.#read('WHERE account_id = ?', accountId)
  }

  async forget(accountId: string, clientId: string): Promise<boolean> {
    const sql = 'DELETE FROM consents WHERE account_id = ? AND client_id = ?'
    return this.#connection.write(() => this.#connection.run(sql, accountId, clientId) > 0)
  }

  #read(where: string, ...values: string[]): Consent[] {
    const sql = `SELECT client_id, min(given_at) AS since, json_group_array(permission) AS permissions
      FROM consents ${where} GROUP BY client_id ORDER BY client_id`
    return this.#connection.settled(sql, ...values).map((row) => ({
      clientId: String(row['client_id']),
      permissions: (JSON.parse(String(row['permissions'])) as string[]).sort(),
      since: Number(row['since']),
    }))
  }
}
