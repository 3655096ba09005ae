import { trusted } from 'mongoose'
import type { Activation, FactorStore, Message, NewFactor, Sealer } from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, NEWEST } from './driver.ts'
import type { MongoOutbox } from './outbox.ts'
import type { Collections } from './schemas.ts'

export const totpPlace = (owner: string) => ({ purpose: 'totp_secret', owner })
export const phonePlace = (owner: string) => ({ purpose: 'phone', owner })

/** Authenticator apps, phones and recovery codes, in the person's own document: what happens once is one write whose filter is the lock. */
export class MongoFactors implements FactorStore {
  readonly #connection: Connection
  readonly #accounts: Collections['accounts']
  readonly #sealer: Sealer
  readonly #outbox: MongoOutbox

  constructor(connection: Connection, { accounts }: Collections, sealer: Sealer, outbox: MongoOutbox) {
    this.#connection = connection
    this.#accounts = accounts
    this.#sealer = sealer
    this.#outbox = outbox
  }

  async totpSecret(accountId: string): Promise<string | undefined> {
    const stored = await this.#read(accountId)
    return stored?.totp && this.#sealer.open(totpPlace(accountId), stored.totp.secret)
  }

  async claimTimeStep(accountId: string, step: number): Promise<boolean> {
    return this.#update(
      { _id: accountId, 'totp.lastStep': trusted({ $lt: step }) },
      { $set: { 'totp.lastStep': step } },
    )
  }

  async phone(accountId: string): Promise<string | undefined> {
    const stored = await this.#read(accountId)
    return stored?.phone && this.#sealer.open(phonePlace(accountId), stored.phone.number)
  }

  async notePhoneUse(accountId: string, at: number): Promise<void> {
    await this.#update({ _id: accountId, phone: trusted({ $exists: true }) }, { $max: { 'phone.usedAt': at } })
  }

  async activate(accountId: string, activation: Activation): Promise<{ securityEpoch: number } | undefined> {
    const { factor, now, factorVersion, securityEpoch, recoveryCodeId, byRecovery, messages = [] } = activation
    const held = byRecovery && {
      'recoveryCode.reservedBy': byRecovery.cid,
      'recoveryCode.reservedUntil': trusted({ $gt: now }),
    }
    const stored = await this.#connection.guarded(() =>
      this.#accounts
        .findOneAndUpdate(
          { _id: accountId, factorVersion, securityEpoch, disabled: false, ...held },
          {
            $inc: { factorVersion: 1, securityEpoch: byRecovery ? 1 : 0 },
            $set: {
              ...this.#stored(accountId, factor, now),
              recoveryCode: { id: recoveryCodeId, acknowledged: false, reservations: 0 },
              alwaysRequire2fa: true,
            },
            $unset: {
              'factorReset.open': 1,
              'factorReset.heldBy': 1,
              'factorReset.heldUntil': 1,
              // Whoever holds a lost phone holds its number too, and whoever holds the number may hold the phone.
              ...(byRecovery && (factor.method === 'otp' ? { phone: 1 } : { totp: 1 })),
            },
            ...this.#outbox.along(messages),
          },
          { ...CERTAIN, returnDocument: 'after', projection: { securityEpoch: 1 } },
        )
        .lean(),
    )
    if (!stored) return undefined
    if (messages.length > 0) await this.#outbox.move(accountId)
    return { securityEpoch: stored.securityEpoch }
  }

  #stored(accountId: string, factor: NewFactor, now: number) {
    return factor.method === 'otp'
      ? {
          totp: { secret: this.#sealer.seal(totpPlace(accountId), factor.secret), lastStep: factor.step, addedAt: now },
        }
      : { phone: { number: this.#sealer.seal(phonePlace(accountId), factor.phone), addedAt: now, usedAt: now } }
  }

  async setRecoveryCode(
    accountId: string,
    code: { replaces: string; id: string; hash: string; messages?: Message[] | undefined },
  ): Promise<boolean> {
    const { replaces, id, hash, messages = [] } = code
    const isSet = await this.#update(
      { _id: accountId, 'recoveryCode.id': replaces },
      {
        $set: {
          'recoveryCode.id': id,
          'recoveryCode.replaces': replaces,
          'recoveryCode.hash': hash,
          'recoveryCode.acknowledged': false,
        },
        $unset: { 'recoveryCode.reservedBy': 1, 'recoveryCode.reservedUntil': 1 },
        ...this.#outbox.along(messages),
      },
    )
    if (isSet && messages.length > 0) await this.#outbox.move(accountId)
    return isSet
  }

  async recoveryCodeHash(accountId: string): Promise<{ id: string; hash: string } | undefined> {
    const code = (await this.#read(accountId))?.recoveryCode
    return code?.hash === undefined ? undefined : { id: code.id, hash: code.hash }
  }

  async reserveRecoveryCode(
    accountId: string,
    { id, reservations, cid, until }: { id: string; reservations: number; cid: string; until: number },
  ): Promise<boolean> {
    return this.#update(
      { _id: accountId, 'recoveryCode.id': id, 'recoveryCode.reservations': reservations, ...WITH_HASH },
      {
        $set: { 'recoveryCode.reservedBy': cid, 'recoveryCode.reservedUntil': until },
        $inc: { 'recoveryCode.reservations': 1 },
      },
    )
  }

  async acknowledgeRecoveryCode(accountId: string, id: string): Promise<boolean> {
    return this.#update(
      { _id: accountId, 'recoveryCode.id': id, 'recoveryCode.acknowledged': false, ...WITH_HASH },
      { $set: { 'recoveryCode.acknowledged': true } },
    )
  }

  #read(accountId: string) {
    return this.#connection.guarded(() =>
      this.#accounts.findOne({ _id: accountId }, { totp: 1, phone: 1, recoveryCode: 1 }, NEWEST).lean(),
    )
  }

  /** True when this caller's filter matched: of several that read the same, one. */
  async #update(filter: object, update: object): Promise<boolean> {
    const { modifiedCount } = await this.#connection.guarded(() => this.#accounts.updateOne(filter, update, CERTAIN))
    return modifiedCount === 1
  }
}

const WITH_HASH = { 'recoveryCode.hash': trusted({ $exists: true }) }
