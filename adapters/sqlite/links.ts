import type { FederatedName, LinkStore } from '../../interactions/kit/stores.ts'
import type { Connection } from './driver.ts'
import type { SqliteOutbox } from './outbox.ts'

/** Names that companies' identity providers give our people. */
export class SqliteLinks implements LinkStore {
  readonly #connection: Connection
  readonly #outbox: SqliteOutbox

  constructor(connection: Connection, outbox: SqliteOutbox) {
    this.#connection = connection
    this.#outbox = outbox
  }

  async find({ company, issuer, format, name }: FederatedName): Promise<string | undefined> {
    const sql = 'SELECT account_id FROM links WHERE company_id = ? AND issuer = ? AND format = ? AND name = ?'
    const row = this.#connection.get(sql, company, issuer, format, name)
    return row && String(row['account_id'])
  }

  async link(
    { company, issuer, format, name }: FederatedName,
    accountId: string,
    now: number,
    { messages, withdraws = [] }: Parameters<LinkStore['link']>[3] = {},
  ) {
    return this.#connection.write(() => {
      const sql =
        'INSERT INTO links (account_id, company_id, issuer, format, name, linked_at) VALUES (?, ?, ?, ?, ?, ?)'
      const values = [accountId, company, issuer, format, name]
      if (this.#connection.run(`${sql} ON CONFLICT DO NOTHING`, ...values, now) === 1) {
        this.#outbox.inPut(messages)
        this.#outbox.inWithdraw(accountId, withdraws)
        return 'linked'
      }
      const same = 'account_id = ? AND company_id = ? AND issuer = ? AND format = ? AND name = ?'
      return this.#connection.get(`SELECT 1 FROM links WHERE ${same}`, ...values) ? 'known' : 'taken'
    })
  }

  async isNamed(accountId: string, { company, issuer }: Pick<FederatedName, 'company' | 'issuer'>): Promise<boolean> {
    const sql = 'SELECT 1 FROM links WHERE account_id = ? AND company_id = ? AND issuer = ?'
    return this.#connection.get(sql, accountId, company, issuer) !== undefined
  }

  async unlinkAll(accountId: string): Promise<number> {
    return this.#connection.write(() => this.#connection.run('DELETE FROM links WHERE account_id = ?', accountId))
  }
}
