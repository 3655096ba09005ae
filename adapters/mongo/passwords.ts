import {
  type FoundLink,
  type LinkPurpose,
  type MailedLink,
  type Message,
  PASSWORDS_BARRED,
  type PasswordStore,
  PROVING,
  SETS_PASSWORD,
  VOIDED_BY_PASSWORD,
} from '../../interactions/kit/stores.ts'
import { CERTAIN, type Connection, NEWEST } from './driver.ts'
import type { MongoOutbox } from './outbox.ts'
import { type AccountDocument, type Collections, LINK_PURPOSES } from './schemas.ts'

/** Passwords that people set themselves, and the links that let them, in the person's own document. */
export class MongoPasswords implements PasswordStore {
  readonly #connection: Connection
  readonly #accounts: Collections['accounts']
  readonly #outbox: MongoOutbox

  constructor(connection: Connection, { accounts }: Collections, outbox: MongoOutbox) {
    this.#connection = connection
    this.#accounts = accounts
    this.#outbox = outbox
  }

  async recent(accountId: string): Promise<string[]> {
    const stored = await this.#connection.guarded(() =>
      this.#accounts.findById(accountId, { passwordHash: 1, formerPasswords: 1 }, NEWEST).lean(),
    )
    const { passwordHash, formerPasswords = [] } = stored ?? {}
    return passwordHash === undefined ? formerPasswords : [passwordHash, ...formerPasswords]
  }

  async issueLink(accountId: string, purpose: LinkPurpose, link: MailedLink, messages: Message[]): Promise<boolean> {
    const { hash, email, epoch, expiresAt } = link
    const { modifiedCount } = await this.#connection.guarded(() =>
      this.#accounts.updateOne(
        {
          _id: accountId,
          ...(!PROVING.includes(purpose) && { email }),
          securityEpoch: epoch,
          disabled: false,
          removed: null,
        },
        { $set: { [`mailedLinks.${purpose}`]: { hash, email, epoch, expiresAt } }, ...this.#outbox.along(messages) },
        CERTAIN,
      ),
    )
    if (modifiedCount === 1 && messages.length > 0) await this.#outbox.move(accountId)
    return modifiedCount === 1
  }

  async findLink(hash: string): Promise<FoundLink | undefined> {
    return (await this.#find(hash))?.link
  }

  async linkOf(accountId: string, purpose: LinkPurpose): Promise<MailedLink | undefined> {
    const stored = await this.#connection.guarded(() =>
      this.#accounts.findOne({ _id: accountId, removed: null }, { mailedLinks: 1 }, NEWEST).lean(),
    )
    return stored?.mailedLinks?.[purpose]
  }

  async holdEnrolment(
    hash: string,
    { accountId, cid, until, now }: { accountId: string; cid: string; until: number; now: number },
  ): Promise<boolean> {
    const found = await this.#find(hash)
    if (found?.stored._id !== accountId || found.link.purpose !== 'enrolment') return false
    const { stored, link } = found
    const { email, epoch } = link
    const isGood =
      link.expiresAt > now && stored.email === email && !stored.disabled && stored.factorReset?.open === true
    if (!isGood || stored.securityEpoch !== epoch) return false
    if (link.usedAt === undefined) {
      const { modifiedCount } = await this.#connection.guarded(() =>
        this.#accounts.updateOne(
          {
            _id: accountId,
            email,
            securityEpoch: epoch, // a reset raises it, and an activation by recovery; another activation closes `open`
            disabled: false,
            removed: null,
            'factorReset.open': true,
            'mailedLinks.enrolment.hash': hash,
            'mailedLinks.enrolment.usedAt': null,
          } as object,
          { $set: { 'mailedLinks.enrolment.usedAt': now, 'factorReset.heldBy': cid, 'factorReset.heldUntil': until } },
          CERTAIN,
        ),
      )
      if (modifiedCount === 1) return true
    }
    // Used: by this very chain, a moment ago?
    const reset = (await this.#find(hash))?.stored.factorReset
    return reset?.open === true && reset.heldBy === cid && (reset.heldUntil ?? 0) > now
  }

  async setByLink(
    hash: string,
    set: { passwordHash: string; name?: string | undefined; now: number; messages: Message[]; withdraws?: string[] },
  ): Promise<{ securityEpoch: number } | undefined> {
    const { passwordHash, name, now, messages, withdraws = [] } = set
    for (;;) {
      const found = await this.#find(hash)
      if (!found) return undefined
      const { stored, link } = found
      const { purpose, email, epoch } = link
      const isGood = link.usedAt === undefined && link.expiresAt > now && stored.email === email && !stored.disabled
      if (!isGood || !SETS_PASSWORD.includes(purpose) || stored.securityEpoch !== epoch) return undefined
      const links = stored.mailedLinks ?? {}
      const voided = VOIDED_BY_PASSWORD.filter((one) => links[one] && links[one].usedAt === undefined)
      const written = await this.#connection.guarded(() =>
        this.#accounts
          .findOneAndUpdate(
            {
              _id: stored._id,
              email,
              securityEpoch: epoch, // of two that read the same, one: it rises
              disabled: false,
              removed: null,
              passwordHash: stored.passwordHash ?? (null as never), // or it was made anew meanwhile: read again
              [`mailedLinks.${purpose}.hash`]: hash,
            },
            {
              $set: {
                passwordHash,
                ...formerAfter(stored),
                ...(name !== undefined && { name }),
                ...Object.fromEntries(voided.map((one) => [`mailedLinks.${one}.usedAt`, now])),
              },
              $inc: { securityEpoch: 1 },
              ...this.#outbox.along(messages),
            },
            { ...CERTAIN, returnDocument: 'after', projection: { securityEpoch: 1 } },
          )
          .lean(),
      )
      if (!written) continue
      await this.#outbox.move(stored._id)
      if (withdraws.length > 0) await this.#outbox.withdraw(stored._id, withdraws)
      return { securityEpoch: written.securityEpoch }
    }
  }

  async withdraw(accountId: string, messages: Message[]): Promise<boolean> {
    for (;;) {
      const stored = await this.#connection.guarded(() =>
        this.#accounts.findOne({ _id: accountId, disabled: false, removed: null }, undefined, NEWEST).lean(),
      )
      if (stored?.passwordHash === undefined) return false
      const { modifiedCount } = await this.#connection.guarded(() =>
        this.#accounts.updateOne(
          // Of two that read the same, one. Made anew meanwhile: read again.
          { _id: accountId, disabled: false, removed: null, passwordHash: stored.passwordHash! },
          {
            $unset: { passwordHash: 1 },
            $set: formerAfter(stored, PASSWORDS_BARRED),
            $inc: { securityEpoch: 1 },
            ...this.#outbox.along(messages),
          },
          CERTAIN,
        ),
      )
      if (modifiedCount !== 1) continue
      if (messages.length > 0) await this.#outbox.move(accountId)
      return true
    }
  }

  async #find(hash: string): Promise<{ stored: AccountDocument; link: FoundLink } | undefined> {
    const either = LINK_PURPOSES.map((purpose) => ({ [`mailedLinks.${purpose}.hash`]: hash }))
    const stored = await this.#connection.guarded(() =>
      this.#accounts.findOne({ $or: either, removed: null } as object, undefined, NEWEST).lean(),
    )
    const purpose = LINK_PURPOSES.find((one) => stored?.mailedLinks?.[one]?.hash === hash)
    if (!stored || !purpose) return undefined
    const { email, epoch, expiresAt, usedAt } = stored.mailedLinks![purpose]!
    return { stored, link: { accountId: stored._id, purpose, hash, email, epoch, expiresAt, usedAt } }
  }
}

/** What is remembered once another password takes the place of this one's, or none does: then one more is kept. */
export function formerAfter(
  { passwordHash, formerPasswords = [] }: Pick<AccountDocument, 'passwordHash' | 'formerPasswords'>,
  kept = PASSWORDS_BARRED - 1,
): { formerPasswords?: string[] } {
  const former = passwordHash === undefined ? formerPasswords : [passwordHash, ...formerPasswords]
  return former.length === 0 ? {} : { formerPasswords: former.slice(0, kept) }
}
