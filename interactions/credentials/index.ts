/** E-mail address first, then the password. Answers `login`. */
import { z } from 'zod'
import type { PasswordHasher } from '../factors/password.ts'
import { passwordSetIn } from '../kit/device-cookie.ts'
import { InteractionError, wrongCredentials, wrongCredentialsAgain } from '../kit/errors.ts'
import { digest } from '../kit/keyring.ts'
import type { NoticeFacts } from '../kit/letters.ts'
import { normaliseEmail } from '../kit/network.ts'
import { type Attempt, definePage, type Room, type Visit } from '../kit/room.ts'
import type { Account, AccountStore, Counter, DeviceStore, ThrottleRule } from '../kit/stores.ts'

/** One person's passwords: slower from the fifth, half an hour after each tenth, closed at a hundred (NIST §3.2.2, PCI 8.3.4). */
const PASSWORD: ThrottleRule = { kind: 'streak', every: 10, wait: 30 * 60, delayAfter: 5, disableAt: 100 }
/** A browser that signed in here before is only slowed down: a stranger's limits are not its owner's (R32). */
const KNOWN_DEVICE: ThrottleRule = { kind: 'streak', every: 10, wait: 60, delayAfter: 5 }
const NETWORK_MINUTE: ThrottleRule = { kind: 'window', limit: 20, seconds: 60 }
const NETWORK_HOUR: ThrottleRule = { kind: 'window', limit: 100, seconds: 60 * 60 }
/** Wrong passwords for one address, known or not, from which on the page tells of lock-outs. */
const TOLD_MORE_AT = 3
const IDENTIFIER: ThrottleRule = { kind: 'window', limit: 30, seconds: 60 }

/** What this room stands on. */
export interface CredentialsParts {
  accounts: AccountStore
  devices: DeviceStore
  passwords: PasswordHasher
  /** Whether a company's lock-out keeps the password from being looked at on a device that is not known. */
  isLockedOut(account: Account, attempt: number): boolean
  /** Tells the person that it has closed: behind the answer, which takes as long for everybody. */
  tellLockedOut(account: Account, facts: NoticeFacts): void
  /** Companies that have a sign-in of their own, if there are any. */
  sso?: CompanySignIn | undefined
  /** Where people go who forgot their password. */
  forgotUrl?: string | undefined
}

/** Where people go whose company has a sign-in of its own. By the domain alone: who exists makes no difference (R22). */
export interface CompanySignIn {
  /** The page that takes them there. */
  page: string
  /** Whether people of this address, or of the domain in `@domain`, must go to their company, or may. */
  mode(address: string, clientId: string): Promise<'forward' | 'allow_password' | undefined>
  /** What `form-action` must let the first page's form lead to: nobody knows yet where a person goes. */
  formActions(clientId: string): Promise<string[]>
}

/** Asks who somebody is, and for their password. */
export const credentials = ({
  accounts,
  devices,
  passwords,
  isLockedOut,
  tellLockedOut,
  sso,
  forgotUrl,
}: CredentialsParts): Room => ({
  name: 'credentials',
  pages: {
    '': definePage({
      /** Where the app knows whom it asks for, nobody has to type it. Once: after that a person has come back to choose. */
      async arrive({ identifier: { typed, hinted }, reasons, sso: { sent }, client }) {
        if (!sso || hinted === undefined || typed !== undefined || sent !== undefined) return undefined
        if (reasons.includes('different_account') || reasons.includes('hinted_account')) return undefined
        const address = normaliseEmail(hinted)
        const mode = await sso.mode(address, client.id)
        const isDomain = address.startsWith('@')
        if (mode !== 'forward' && !(isDomain && mode === 'allow_password')) return undefined
        return { is: 'turned', page: sso.page, outcome: isDomain ? {} : { identifier: address } }
      },

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
      async show({ client, identifier, posted, reasons }) {
        const typed = typeof posted['email'] === 'string' ? posted['email'] : identifier.typed
        const hinted = identifier.hinted?.trim().startsWith('@') ? undefined : identifier.hinted
        return {
          view: 'credentials',
          title: 'credentials.title',
          locals: { email: typed ?? hinted ?? '', hinted: reasons.includes('hinted_account') },
          ...(sso && { formActions: await sso.formActions(client.id) }),
        }
      },
      async attempt({ network }) {
        return fromNetwork([{ key: `identifier|${network}`, rule: IDENTIFIER }], 'login.identifier')
      },
      async submit({ client }, { email }) {
        const outcome = { identifier: email, sso: undefined }
        if (sso && (await sso.mode(email, client.id)) === 'forward') return { is: 'turned', page: sso.page, outcome }
        return { is: 'turned', page: 'password', outcome }
      },
    }),

    password: definePage({
      // `username` is there for password managers; who signs in is in the interaction.
      form: z.strictObject({
        username: z.string().optional(),
        password: z.string('password_missing').min(1, 'password_missing'),
      }),
      async arrive(visit) {
        return (await mustGo(sso, visit)) ? { is: 'turned', page: sso!.page } : undefined
      },
      async show({ identifier: { typed = '' }, client, url }) {
        const ssoUrl = (await sso?.mode(typed, client.id)) && url(sso!.page)
        const locals = {
          email: typed,
          identifierUrl: url(),
          ...(ssoUrl && { ssoUrl }),
          ...(forgotUrl && { forgotUrl }),
        }
        return { view: 'credentials-password', title: 'credentials-password.title', locals }
      },

      async attempt(visit): Promise<Attempt | undefined> {
        if (await mustGo(sso, visit)) return undefined
        const { identifier, network, device } = visit
        const { typed = '' } = identifier
        const known = await accounts.findByEmail(typed)
        const id = known?.account.id ?? ''
        const trusted =
          (await devices.knows(device ?? '', id)) ||
          (device !== undefined && (await devices.knows(passwordSetIn(device), id)))
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

      async submit(visit, { password }, counted) {
        // Whoever must go to their company has no password here, whatever the store says.
        if (await mustGo(sso, visit)) return { is: 'turned', page: sso!.page }
        const { typed = '' } = visit.identifier
        if (typed === '') throw new InteractionError('email_missing', { field: 'username' })
        const known = await accounts.findByEmail(typed)
        // One hash on every path: unknown, disabled and passwordless accounts cost what a known one costs (R21, R23).
        const right = await passwords.verify(known?.passwordHash, password)
        // Of devices that the person has not signed in with.
        const attempt = counted(passwordCounter(typed))
        const wrong = (cause?: string) => (attempt < TOLD_MORE_AT ? wrongCredentials() : wrongCredentialsAgain(cause))
        if (!known || known.account.disabled) throw wrong()
        const { account, passwordHash } = known
        // Refused as a wrong one is: a stranger learns neither of the lock nor of the account (R21).
        if (isLockedOut(account, attempt)) throw wrong('locked_out')
        if (!right) {
          if (isLockedOut(account, attempt + 1)) tellLockedOut(account, visit.facts)
          throw wrong()
        }

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

const mustGo = async (sso: CompanySignIn | undefined, { identifier, client }: Visit): Promise<boolean> =>
  identifier.typed !== undefined && (await sso?.mode(identifier.typed, client.id)) === 'forward'

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
