/** E-mail address first, then the password. Answers `login`. */
import { z } from 'zod'
import type { PasswordHasher } from '../factors/password.ts'
import { InteractionError, wrongCredentials } from '../kit/errors.ts'
import { digest } from '../kit/keyring.ts'
import { normaliseEmail } from '../kit/network.ts'
import { type Attempt, definePage, type Room } from '../kit/room.ts'
import type { AccountStore, Counter, DeviceStore, ThrottleRule } from '../kit/stores.ts'

/** One person's passwords: slower from the fifth, half an hour after each tenth, closed at a hundred (NIST §3.2.2, PCI 8.3.4). */
const PASSWORD: ThrottleRule = { kind: 'streak', every: 10, wait: 30 * 60, delayAfter: 5, disableAt: 100 }
/** A browser that signed in here before is only slowed down: a stranger's limits are not its owner's (R32). */
const KNOWN_DEVICE: ThrottleRule = { kind: 'streak', every: 10, wait: 60, delayAfter: 5 }
const NETWORK_MINUTE: ThrottleRule = { kind: 'window', limit: 20, seconds: 60 }
const NETWORK_HOUR: ThrottleRule = { kind: 'window', limit: 100, seconds: 60 * 60 }
const IDENTIFIER: ThrottleRule = { kind: 'window', limit: 30, seconds: 60 }

/** What this room stands on. */
export interface CredentialsParts {
  accounts: AccountStore
  devices: DeviceStore
  passwords: PasswordHasher
}

/** Asks who somebody is, and for their password. */
export const credentials = ({ accounts, devices, passwords }: CredentialsParts): Room => ({
  name: 'credentials',
  pages: {
    '': definePage({
      form: z.strictObject({
        email: z
          .string()
          .transform(normaliseEmail)
          .pipe(
            z
              .string()
              .min(1, 'email_missing')
              .max(254, 'email_invalid')
              .regex(/^[^@\s]+@[^@\s]+$/, 'email_invalid'),
          ),
      }),
      async show({ identifier, posted, reasons }) {
        const typed = typeof posted['email'] === 'string' ? posted['email'] : identifier.typed
        return {
          view: 'credentials',
          title: 'credentials.title',
          locals: { email: typed ?? identifier.hinted ?? '', hinted: reasons.includes('hinted_account') },
        }
      },
      async attempt({ network }) {
        return fromNetwork([{ key: `identifier|${network}`, rule: IDENTIFIER }], 'login.identifier')
      },
      async submit(_visit, { email }) {
        return { is: 'turned', page: 'password', outcome: { identifier: email } }
      },
    }),

    password: definePage({
      // `username` is there for password managers; who signs in is in the interaction.
      form: z.strictObject({
        username: z.string().optional(),
        password: z.string('password_missing').min(1, 'password_missing'),
      }),
      async show({ identifier, url }) {
        const locals = { email: identifier.typed ?? '', identifierUrl: url() }
        return { view: 'credentials-password', title: 'credentials-password.title', locals }
      },

      async attempt({ identifier: { typed = '' }, network, device }): Promise<Attempt> {
        const known = await accounts.findByEmail(typed)
        const trusted = await devices.knows(device ?? '', known?.account.id ?? '')
        return fromNetwork(
          [
            { key: `password|minute|${network}`, rule: NETWORK_MINUTE },
            { key: `password|hour|${network}`, rule: NETWORK_HOUR },
            trusted
              ? { key: `${passwordCounter(typed)}|${device}`, rule: KNOWN_DEVICE }
              : { key: passwordCounter(typed), rule: PASSWORD },
          ],
          'login.password',
        )
      },

      async submit({ identifier: { typed = '' } }, { password }) {
        if (typed === '') throw new InteractionError('email_missing', { field: 'username' })
        const known = await accounts.findByEmail(typed)
        // One hash on every path: unknown, disabled and passwordless accounts cost what a known one costs (R21, R23).
        const right = await passwords.verify(known?.passwordHash, password)
        if (!known || !right || known.account.disabled) throw wrongCredentials()

        const { account, passwordHash } = known
        if (passwordHash !== undefined && passwords.isOutdated(passwordHash))
          await accounts.upgradePasswordHash(account.id, passwordHash, await passwords.hash(password))
        return {
          is: 'proved',
          factor: 'pwd',
          accountId: account.id,
          securityEpoch: account.securityEpoch,
          audit: { event: 'login.password' },
        }
      },
    }),
  },
})

/** The counter of this address's wrong passwords, the same whether there is such an account. */
export const passwordCounter = (email: string): string => `password|account|${digest(email)}`

function fromNetwork(counters: Counter[], event: string): Attempt {
  return {
    counters,
    event,
    refusal(key, wait) {
      if (!key.includes('|account|')) return 'too_many_from_network'
      return wait === Number.POSITIVE_INFINITY ? 'sign_in_closed' : 'too_many_attempts'
    },
  }
}
