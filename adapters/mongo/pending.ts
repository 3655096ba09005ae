import { trusted } from 'mongoose'
import type { DeviceStore, PendingStore, Sealer } from '../../interactions/kit/stores.ts'
import { CERTAIN, CHEAP, type Connection, NEWEST, wasFirst } from './driver.ts'
import type { Collections } from './schemas.ts'

export const pendingPlace = (owner: string, record: string) => ({ purpose: 'pending', owner, record })
/** Two texts as one that no other two have. */
export const pairId = (first: string, second: string) => JSON.stringify([first, second])
/** Seconds that an expired value stays, for clocks that differ. */
export const PENDING_KEPT = 60
/** A device that was not used for so long is unknown. */
export const DEVICE_KEPT = 400 * 24 * 60 * 60

/** Short-lived secrets, sealed for their owner and purpose. */
export class MongoPending implements PendingStore {
  readonly #connection: Connection
  readonly #pending: Collections['pending']
  readonly #sealer: Sealer

  constructor(connection: Connection, { pending }: Collections, sealer: Sealer) {
    this.#connection = connection
    this.#pending = pending
    this.#sealer = sealer
  }

  async keep(entry: { owner: string; purpose: string; value: string; expiresAt: number; now: number }) {
    const { owner, purpose, value, expiresAt, now } = entry
    const fresh = {
      owner,
      purpose,
      value: this.#sealer.seal(pendingPlace(owner, purpose), value),
      expiresAt,
      expires: new Date((expiresAt + PENDING_KEPT) * 1000),
    }
    for (;;) {
      const kept = await this.recall(owner, purpose, now)
      if (kept !== undefined) return kept
      // Takes the place of an expired one, or of none. One that came meanwhile is a duplicate, and wins.
      const write = this.#connection.guarded(() =>
        this.#pending.updateOne(
          { _id: pairId(owner, purpose), expiresAt: trusted({ $lte: now }) },
          { $set: fresh },
          { ...CERTAIN, upsert: true },
        ),
      )
      if (await wasFirst(write)) return value
    }
  }

  async replace({ owner, purpose, value, expiresAt }: Parameters<PendingStore['replace']>[0]): Promise<void> {
    const sealed = this.#sealer.seal(pendingPlace(owner, purpose), value)
    const fresh = { owner, purpose, value: sealed, expiresAt, expires: new Date((expiresAt + PENDING_KEPT) * 1000) }
    const write = () =>
      this.#connection.guarded(() =>
        this.#pending.updateOne({ _id: pairId(owner, purpose) }, { $set: fresh }, { ...CERTAIN, upsert: true }),
      )
    // Two that make it at once: the one that was second finds it there.
    if (!(await wasFirst(write()))) await write()
  }

  async recall(owner: string, purpose: string, now: number): Promise<string | undefined> {
    const stored = await this.#connection.guarded(() =>
      this.#pending
        .findOne({ _id: pairId(owner, purpose), expiresAt: trusted({ $gt: now }) }, undefined, NEWEST)
        .lean(),
    )
    return stored ? this.#sealer.open(pendingPlace(owner, purpose), stored.value) : undefined
  }

  async take(owner: string, purpose: string, now: number): Promise<string | undefined> {
    const stored = await this.#connection.guarded(() =>
      this.#pending.findOneAndDelete({ _id: pairId(owner, purpose) }, CERTAIN).lean(),
    )
    return stored && stored.expiresAt > now ? this.#sealer.open(pendingPlace(owner, purpose), stored.value) : undefined
  }
}

/** Which browsers a person signed in with. */
export class MongoDevices implements DeviceStore {
  readonly #connection: Connection
  readonly #devices: Collections['devices']

  constructor(connection: Connection, { devices }: Collections) {
    this.#connection = connection
    this.#devices = devices
  }

  async remember(deviceHash: string, accountId: string, now: number): Promise<void> {
    const row = { account: accountId, lastUsed: now, expires: new Date((now + DEVICE_KEPT) * 1000) }
    const write = () =>
      this.#devices.updateOne({ _id: pairId(deviceHash, accountId) }, { $set: row }, { ...CHEAP, upsert: true })
    // Two tabs that make it at once: for the second it is there already, which is all it wanted.
    await wasFirst(this.#connection.guarded(write))
  }

  async knows(deviceHash: string, accountId: string): Promise<boolean> {
    const found = await this.#connection.guarded(() =>
      this.#devices.findOne({ _id: pairId(deviceHash, accountId) }, { _id: 1 }, NEWEST).lean(),
    )
    return found !== null
  }
}
