/** What an app that adopts the plugin gives it. */
import type { ClientMetadata } from 'oidc-provider'
import type { PasswordHasher } from './factors/password.ts'
import type { SamlEvent } from './federation/trace.ts'
import type { Brand } from './kit/brand.ts'
import type { KeyRing } from './kit/keyring.ts'
import { tell } from './kit/letters.ts'
import type { Wording } from './kit/messages.ts'
import type { Account, ConnectionStore, MailedLinkStore, Method, PeopleStore, Stores } from './kit/stores.ts'
import type { SmsOptions } from './kit/texts.ts'
import { type SessionLimits, smsCountries } from './policy.ts'

/** The plugin's options. */
export interface SallyportOptions {
  stores: Stores
  keyRing: KeyRing
  passwords: PasswordHasher
  brand: Brand
  /**
   * Registered clients, when they live in a store and not in `configuration.clients`. Asked at each request. The same object
   * means that nothing has changed: what was changed is another object.
   */
  client?: (clientId: string) => Promise<ClientMetadata | undefined>
  /** The API of a resource indicator (RFC 8707), or `undefined` when there is none. */
  resource?: (id: string) => Promise<Api | undefined>
  /** Companies' connections to their identity providers. Without them nobody is sent to one. */
  connections?: ConnectionStore | undefined
  /** Makes accounts for people whom a connection with `jit` sends for the first time. */
  people?: PeopleStore | undefined
  /**
   * Links by which people enrol anew whose factors were reset (`factorReset`). Without it a company's sign-in is their only way;
   * who never resets anybody needs none.
   */
  mailedLinks?: MailedLinkStore | undefined
  /** How texts are sent. Without it the authenticator app is the only second factor. */
  sms?: SmsOptions | undefined
  /** The app that people come to who begin at their identity provider, when their connection names none. */
  defaultClient?: string | undefined
  /** Where people go who forgot their password: a link from the password page. */
  forgotUrl?: string | undefined
  limits?: Partial<Limits>
  /** A CSS file of your own: it comes after ours, and may be no more than the colours that ours begins with. */
  stylesheet?: string | URL
  /** Folders with views of your own, searched first. */
  views?: string[]
  /** Sentences of your own, by language and key: in place of ours, or of a language that we do not have. */
  messages?: Wording
  /** The language of people whose wishes cannot be met. By default `en`. */
  language?: string | undefined
  /** Seconds since 1970. oidc-provider itself reads `Date.now()`. */
  now?: () => number
  /** Takes what happens, to be counted or logged. Never given a secret, nor who it was. */
  onEvent?: ((event: SamlEvent) => void) | undefined
  /**
   * People are told by mail of what happens to their accounts: letters are kept in `stores.outbox`, for you to deliver.
   * Without it none are written. "This was not me" in them leads to a page of yours, `/not-you?token=…`: `readNotMe` says whose sessions
   * to end.
   */
  notices?: boolean
  /** Takes what could not be answered. Never given a secret. */
  onError?: (error: Error, about: { requestId?: string | undefined; where: string }) => void
}

/** An API that takes our access tokens. */
export interface Api {
  /** What people read. */
  name?: string | undefined
  /** Its scopes, with spaces between. */
  scope: string
  /** `jwt` when left out. */
  tokenFormat?: 'jwt' | 'opaque' | undefined
  /** The client that may introspect its tokens. */
  client?: string | undefined
  /** The clients that may get its tokens for themselves. */
  serviceClients?: readonly string[] | undefined
}

/** Lifetimes in seconds. */
export interface Limits extends SessionLimits {
  interaction: number
  accessToken: number
  idToken: number
  /** Of a client with `sallyport.offline`; others' end with the session. */
  refreshToken: number
  /** Sign-ins that one network may begin in a minute. Those that a live session answers do not count. */
  startsPerMinute: number
  /** Time steps of an authenticator code accepted to either side: 1, or 0. */
  totpWindow: number
}

/** Sessions end after an hour unused and after twelve hours; an interaction after one (NIST SP 800-63B-4 §2.2.3). */
export const DEFAULT_LIMITS: Limits = {
  idle: 60 * 60,
  absolute: 12 * 60 * 60,
  interaction: 60 * 60,
  accessToken: 10 * 60,
  idToken: 10 * 60,
  refreshToken: 30 * 24 * 60 * 60,
  startsPerMinute: 300,
  totpWindow: 1,
}

/** The second factors that this person can be asked for here, the better one first. */
const methodsOf =
  ({ sms }: SallyportOptions) =>
  (account: Pick<Account, 'memberships'> | undefined): readonly Method[] =>
    // Nowhere to have a phone is no phone.
    sms && smsCountries(account ?? { memberships: [] }, sms.countries).length > 0 ? ['otp', 'sms'] : ['otp']

/** The options with every default filled in. */
export const complete = (issuer: string, options: SallyportOptions) => ({
  ...options,
  issuer,
  limits: { ...DEFAULT_LIMITS, ...options.limits },
  methods: methodsOf(options),
  now: options.now ?? (() => Math.floor(Date.now() / 1000)),
  onError: options.onError ?? (() => {}),
  tell: options.notices ? tell : () => [],
})
export type Completed = ReturnType<typeof complete>
