import { trusted } from 'mongoose'
import {
  type Channel,
  type LeasedMessage,
  MESSAGE_KEPT,
  type Message,
  type MessageState,
  type OutboxStore,
  type Sealer,
} from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, insert, NEWEST, oneOf, wasFirst } from './driver.ts'
import type { Collections, OutboxDocument, WrittenMessage } from './schemas.ts'

export const outboxPlace = (owner: string) => ({ purpose: 'outbox', owner })
/** As many due messages are looked at for one that nobody else takes. */
const CANDIDATES = 20

/**
 * Messages on their way. What happens to a person takes its messages along in the person's own document (`messages`); from
 * there they are moved: first kept here, then struck out there. Both can be done again by anybody, and are: whoever asks for a
 * message to deliver moves first what somebody who died has left.
 */
export class MongoOutbox implements OutboxStore {
  readonly #connection: Connection
  readonly #outbox: Collections['outbox']
  readonly #accounts: Collections['accounts']
  readonly #sealer: Sealer

  constructor(connection: Connection, { outbox, accounts }: Collections, sealer: Sealer) {
    this.#connection = connection
    this.#outbox = outbox
    this.#accounts = accounts
    this.#sealer = sealer
  }

  /** Messages in the shape in which a person's document or the journal carries them. */
  written(messages: Message[]): WrittenMessage[] {
    return messages.map(({ id, channel, kind, accountId, body, createdAt, dueAt, expiresAt }) => ({
      id,
      channel,
      kind,
      account: accountId,
      body: this.#sealer.seal(outboxPlace(id), body),
      createdAt,
      firstDue: dueAt,
      dueAt,
      usableUntil: expiresAt,
      tries: 0,
    }))
  }

  /** The part of an update of a person's document that takes messages along. */
  along(messages: Message[] = []): object {
    return messages.length === 0 ? {} : { $push: { messages: { $each: this.written(messages) } } }
  }

  async put(messages: Message[]): Promise<void> {
    await this.#connection.guarded(() => this.keep(this.written(messages)))
  }

  /** Keeps those that are not there already. */
  async keep(messages: WrittenMessage[]): Promise<void> {
    for (const { id: _id, ...message } of messages) {
      const expires = new Date((message.usableUntil + MESSAGE_KEPT) * 1000)
      await wasFirst(insert(this.#outbox, [{ _id, ...message, expires }]))
    }
  }

  /** Moves what this person's document carries; without one, what any carries. */
  async move(accountId?: string): Promise<void> {
    await this.#connection.guarded(async () => {
      const carrying = { ...(accountId !== undefined && { _id: accountId }), 'messages.id': trusted({ $exists: true }) }
      const people = await this.#accounts.find(carrying as object, { messages: 1 }, NEWEST).lean()
      for (const { _id, messages = [] } of people) {
        await this.keep(messages)
        const moved = { id: oneOf(messages.map(({ id }) => id)) }
        await this.#accounts.updateOne({ _id }, { $pull: { messages: moved } }, CERTAIN)
      }
    })
  }

  async lease(channel: Channel, { now, until }: { now: number; until: number }): Promise<LeasedMessage | undefined> {
    await this.move()
    const due = { channel, dueAt: trusted({ $lte: now }) as never, usableUntil: trusted({ $gt: now }) as never }
    return this.#connection.guarded(async () => {
      const candidates = await this.#outbox.find(due, { _id: 1 }, NEWEST).sort({ dueAt: 1 }).limit(CANDIDATES).lean()
      for (const { _id } of candidates) {
        // Due is asked again by the write itself: whoever took it a moment ago has put that off.
        const taken = await this.#outbox
          .findOneAndUpdate(
            { _id, ...due },
            { $set: { dueAt: until }, $inc: { tries: 1 } },
            { ...CERTAIN, returnDocument: 'after' },
          )
          .lean()
        if (!taken) continue
        const { dueAt = until, ...state } = stateOf(taken)
        return { ...state, dueAt, body: this.#sealer.open(outboxPlace(_id), taken.body!) }
      }
      return undefined
    })
  }

  async sent(id: string, tries: number, now: number): Promise<boolean> {
    const expires = new Date((now + MESSAGE_KEPT) * 1000)
    return this.#update(id, tries, { $set: { sentAt: now, expires }, $unset: { body: 1, dueAt: 1, error: 1 } })
  }

  async putOff(id: string, tries: number, { error, dueAt }: { error: string; dueAt?: number | undefined }) {
    return this.#update(
      id,
      tries,
      dueAt === undefined ? { $set: { error }, $unset: { dueAt: 1 } } : { $set: { error, dueAt } },
    )
  }

  /** True for the worker that holds this try. */
  async #update(_id: string, tries: number, update: object): Promise<boolean> {
    const held = { _id, tries, dueAt: trusted({ $exists: true }) as never }
    const { modifiedCount } = await this.#connection.guarded(() => this.#outbox.updateOne(held, update, CERTAIN))
    return modifiedCount === 1
  }

  async withdraw(accountId: string, kinds: string[]): Promise<number> {
    await this.move(accountId)
    const waiting = { account: accountId, kind: oneOf(kinds), dueAt: trusted({ $exists: true }) as never }
    const { deletedCount } = await this.#connection.guarded(() => this.#outbox.deleteMany(waiting, CERTAIN))
    return deletedCount
  }

  async takeBack(_id: string): Promise<boolean> {
    const waiting = { _id, dueAt: trusted({ $exists: true }) as never }
    const { deletedCount } = await this.#connection.guarded(() => this.#outbox.deleteOne(waiting, CERTAIN))
    return deletedCount === 1
  }

  async list({ accountId, limit }: { accountId?: string | undefined; limit: number }): Promise<MessageState[]> {
    await this.move()
    const whose = accountId === undefined ? {} : { account: accountId }
    const rows = await this.#connection.guarded(() =>
      this.#outbox.find(whose, { body: 0 }, NEWEST).sort({ createdAt: -1, _id: 1 }).limit(limit).lean(),
    )
    return rows.map(stateOf)
  }

  async read(id: string): Promise<string | undefined> {
    const stored = await this.#connection.guarded(() => this.#outbox.findById(id, { body: 1 }, NEWEST).lean())
    return stored?.body === undefined ? undefined : this.#sealer.open(outboxPlace(id), stored.body)
  }

  async dueSince(channel: Channel, now: number): Promise<number | undefined> {
    const late = {
      channel,
      dueAt: trusted({ $exists: true }) as never,
      firstDue: trusted({ $lte: now }) as never,
      usableUntil: trusted({ $gt: now }) as never,
    }
    const oldest = await this.#connection.guarded(() =>
      this.#outbox.findOne(late, { firstDue: 1 }, NEWEST).sort({ firstDue: 1 }).lean(),
    )
    return oldest?.firstDue
  }
}

function stateOf(row: OutboxDocument): MessageState {
  const { _id: id, channel, kind, account: accountId, createdAt, usableUntil: expiresAt, tries } = row
  const { dueAt, sentAt, error } = row
  return { id, channel, kind, accountId, createdAt, expiresAt, tries, dueAt, sentAt, error }
}
