import {
  type Sealer,
  TRACE_KEPT,
  TRACES_KEPT,
  type Trace,
  type TraceShelf,
  type TraceStore,
} from '../../interactions/kit/stores.ts'
import type { Connection, Row } from './driver.ts'

const placeOf = (reference: string) => ({ purpose: 'federation_trace', owner: reference })

/** The last sign-ins of each connection. */
export class SqliteTraces implements TraceStore {
  readonly #connection: Connection
  readonly #sealer: Sealer

  constructor(connection: Connection, sealer: Sealer) {
    this.#connection = connection
    this.#sealer = sealer
  }

  async keep({ reference, connectionId, at, shelf, said }: Trace): Promise<void> {
    const sealed = this.#sealer.seal(placeOf(reference), said)
    await this.#connection.write(() => {
      const columns = 'reference, connection_id, at, shelf, said, expires_at'
      this.#connection.run(
        `INSERT INTO federation_traces (${columns}) VALUES (?, ?, ?, ?, ?, ?)
          ON CONFLICT DO NOTHING`,
        ...[reference, connectionId, at, shelf, sealed, at + TRACE_KEPT],
      )
      const place = [connectionId, shelf]
      const others = 'SELECT reference FROM federation_traces WHERE connection_id = ? AND shelf = ?'
      this.#connection.run(
        `DELETE FROM federation_traces WHERE reference IN (${others} ORDER BY at DESC, rowid DESC LIMIT -1 OFFSET ?)`,
        ...place,
        TRACES_KEPT[shelf],
      )
    })
  }

  async find(reference: string, now: number): Promise<Trace | undefined> {
    const sql = 'SELECT * FROM federation_traces WHERE reference = ? AND expires_at > ?'
    const row = this.#connection.get(sql, reference, now)
    return row && this.#traceOf(row)
  }

  async list(connectionId: string, now: number): Promise<Trace[]> {
    const sql =
      'SELECT * FROM federation_traces WHERE connection_id = ? AND expires_at > ? ORDER BY at DESC, rowid DESC'
    return this.#connection.all(sql, connectionId, now).map((row) => this.#traceOf(row))
  }

  #traceOf(row: Row): Trace {
    const reference = String(row['reference'])
    return {
      reference,
      connectionId: String(row['connection_id']),
      at: Number(row['at']),
      shelf: row['shelf'] as TraceShelf,
      said: this.#sealer.open(placeOf(reference), String(row['said'])),
    }
  }
}
