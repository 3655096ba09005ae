/** What the owner of an account is told of sign-ins that came to nothing: somebody has the password, or looks over a shoulder. */
import { digest } from './keyring.ts'
import type { NoticeFacts, NoticeKind, Tell } from './letters.ts'
import type { WaitingAlert } from './room.ts'
import type { Account, Stores, ThrottleRule } from './stores.ts'

const DAY = 24 * 60 * 60
const ONE_A_DAY: ThrottleRule = { kind: 'window', limit: 1, seconds: DAY }

type Whom = Pick<Account, 'id' | 'email'>

/** Tells of them, each kind once a day. */
export interface Alerts {
  /** Now. */
  once(account: Whom, kind: NoticeKind, facts: NoticeFacts): Promise<void>
  /**
   * A right password was given in a browser that nobody signed in with before, and something more is asked. The letter waits until
   * the sign-in can no longer be finished.
   *
   * @param dueAt seconds since 1970
   * @returns what {@link Alerts.callOff} is to be given
   */
  unlessFinished(account: Whom, device: string | undefined, facts: NoticeFacts, dueAt: number): Promise<WaitingAlert>
  /**
   * This person's sign-in came to its end: nobody is told, and the day's letter is still to be had. A letter to somebody else, whose
   * password was given before in the same browser, stays.
   */
  callOff(account: Whom, waiting: WaitingAlert | undefined): Promise<void>
}

/** @param tell who is told of what; nobody, where there is no mail */
export function alertsOf(
  { outbox, devices, throttle }: Pick<Stores, 'outbox' | 'devices' | 'throttle'>,
  tell: Tell,
): Alerts {
  const counter = ({ id }: Whom) => `unfinished|${id}`
  return {
    async once(account, kind, facts) {
      const id = digest(`${kind}|${account.id}|${Math.floor(facts.now / DAY)}`)
      await outbox.put(tell(account, kind, { ...facts, id }))
    },

    async unlessFinished(account, device, facts, dueAt) {
      const none = { accountId: account.id, letter: '' }
      const [letter] = tell(account, 'sign_in_unfinished', facts)
      if (!letter || (device !== undefined && (await devices.knows(device, account.id)))) return none
      const { allowed } = await throttle.take([{ key: counter(account), rule: ONE_A_DAY }], facts.now)
      if (!allowed) return none
      await outbox.put([{ ...letter, dueAt }])
      return { ...none, letter: letter.id }
    },

    async callOff(account, waiting) {
      if (!waiting?.letter || waiting.accountId !== account.id) return
      // When it has left already, it was late: and it was the day's.
      if (await outbox.takeBack(waiting.letter)) await throttle.clear([counter(account)])
    },
  }
}
