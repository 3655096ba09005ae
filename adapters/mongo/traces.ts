import { trusted } from 'mongoose'
import { type Sealer, TRACE_KEPT, TRACES_KEPT, type Trace, type TraceStore } from '../../interactions/kit/stores.ts'
import { CHEAP, type Connection, insert, NEWEST, oneOf, wasFirst } from './driver.ts'
import { FEDERATION_KEPT } from './federation.ts'
import type { Collections, TraceDocument } from './schemas.ts'

export const tracePlace = (reference: string) => ({ purpose: 'federation_trace', owner: reference })

/** Of one second too: a flood must not push out what came after it. */
const LAST_FIRST = { at: -1, keptAt: -1 } as const

/** The last sign-ins of each connection. */
export class MongoTraces implements TraceStore {
  readonly #connection: Connection
  readonly #traces: Collections['federation_traces']
  readonly #sealer: Sealer

  constructor(connection: Connection, collections: Collections, sealer: Sealer) {
    this.#connection = connection
    this.#traces = collections.federation_traces
    this.#sealer = sealer
  }

  /** Of several at once each makes room: there may be a few more for a moment, never fewer. */
  async keep({ reference, said, ...trace }: Trace): Promise<void> {
    const expiresAt = trace.at + TRACE_KEPT
    const sealed = this.#sealer.seal(tracePlace(reference), said)
    const row = {
      _id: reference,
      ...trace,
      said: sealed,
      keptAt: performance.timeOrigin + performance.now(),
      expiresAt,
      expires: new Date((expiresAt + FEDERATION_KEPT) * 1000),
    }
    const { connectionId, shelf } = trace
    await this.#connection.guarded(async () => {
      if (!(await wasFirst(insert(this.#traces, [row])))) return
      const surplus = await this.#traces
        .find({ connectionId, shelf }, { _id: 1 }, NEWEST)
        .sort(LAST_FIRST)
        .skip(TRACES_KEPT[shelf])
        .lean()
      if (surplus.length > 0) await this.#traces.deleteMany({ _id: oneOf(surplus.map(({ _id }) => _id)) }, CHEAP)
    })
  }

  async find(reference: string, now: number): Promise<Trace | undefined> {
    const row = await this.#connection.guarded(() =>
      this.#traces.findOne({ _id: reference, expiresAt: trusted({ $gt: now }) }, undefined, NEWEST).lean(),
    )
    return row ? this.#traceOf(row) : undefined
  }

  async list(connectionId: string, now: number): Promise<Trace[]> {
    const rows = await this.#connection.guarded(() =>
      this.#traces
        .find({ connectionId, expiresAt: trusted({ $gt: now }) }, undefined, NEWEST)
        .sort(LAST_FIRST)
        .lean(),
    )
    return rows.map((row) => this.#traceOf(row))
  }

  #traceOf({ _id: reference, connectionId, at, shelf, said }: TraceDocument): Trace {
    return { reference, connectionId, at, shelf, said: this.#sealer.open(tracePlace(reference), said) }
  }
}
