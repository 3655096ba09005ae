/**
 * THE door of the plugin: an oidc-provider that proves who signs in.
 *
 * `createProvider` is all an app needs; the two steps behind it, `extendConfiguration` before the constructor and `attach`
 * after it, are there for apps that make their Provider themselves.
 */
import { randomBytes } from 'node:crypto'
import { type Configuration, Provider } from 'oidc-provider'
import { attach as attachParts } from './attach.ts'
import { challenge, codeCounters, recoveryCodeCounter } from './challenge/index.ts'
import { decideOnce, extendConfiguration as extend } from './configuration.ts'
import { consent } from './consent/index.ts'
import { credentials, passwordCounter } from './credentials/index.ts'
import { createDecision } from './decision.ts'
import { enrollment } from './enrollment/index.ts'
import { companySignIn, federation } from './federation/index.ts'
import { type Assets, loadAssets } from './kit/assets.ts'
import { securityHeaders } from './kit/headers.ts'
import { createLetters, type Letters } from './kit/letters.ts'
import { loadLanguages } from './kit/messages.ts'
import { basePath } from './kit/network.ts'
import { notMeToken } from './kit/not-me.ts'
import { createPages } from './kit/pages.ts'
import { createScreen, type Screen } from './kit/screen.ts'
import type { Account } from './kit/stores.ts'
import { mailedLink } from './mailed-link/index.ts'
import { complete, type SallyportOptions } from './options.ts'
import { libraryPages } from './pages.ts'
import { isLockedOut, type OwnChoices, ownChoices, type Requirement, requirement, type SessionFacts } from './policy.ts'
import { recovery } from './recovery/index.ts'
import { createTexts } from './texts.ts'

export { describeError } from './attach.ts'
export { revokeConsent } from './consent/index.ts'
export { passwordCounter } from './credentials/index.ts'
export { type Asked, type Explanation, explain, type Question, REASON_WORDS } from './explanation.ts'
export { breachList, faultOf, type PasswordFault, type PasswordRules } from './factors/new-password.ts'
export {
  checkPassword,
  createPasswordHasher,
  type HashingOptions,
  HashingOverloaded,
  type PasswordHasher,
} from './factors/password.ts'
export { isCountry } from './factors/sms.ts'
export { serviceProviderOf } from './federation/connection.ts'
export { testLink } from './federation/dry-run.ts'
export type { IdpMetadata } from './federation/saml/index.ts'
export { readTrace, type SamlEvent, type TraceText } from './federation/trace.ts'
export { createRecorder, type Recorder, requestFacts } from './kit/audit.ts'
export { type Brand, colourProblem, readLogo } from './kit/brand.ts'
export { browserName } from './kit/browser.ts'
export { checkForm, formToken } from './kit/csrf.ts'
export { keepDevice, passwordSetIn } from './kit/device-cookie.ts'
export { type ErrorCode, InteractionError } from './kit/errors.ts'
export { securityHeaders } from './kit/headers.ts'
export { digest, KeyRing, type KeyRingFile, newKeyRing, parseKeyRing, SealBroken, withNewKey } from './kit/keyring.ts'
export {
  INVITING,
  type Letter,
  type LetterKind,
  type Letters,
  letterWithLink,
  type NoticeFacts,
  type Tell,
  tell,
  type Written,
} from './kit/letters.ts'
export { type Messages, shippedLanguages, type Wording } from './kit/messages.ts'
export { networkOf, normaliseEmail } from './kit/network.ts'
export { NOT_ME_SECONDS, type NotMe, readNotMe } from './kit/not-me.ts'
export { type FactorDatabase, type OwnAccount, type OwnAccountStore, withOwnAccounts } from './kit/own-accounts.ts'
export { dropCookie, keepCookie, readCookie } from './kit/private-cookie.ts'
export type { Shown } from './kit/room.ts'
export { type Screen, seeOther } from './kit/screen.ts'
export * from './kit/stores.ts'
export { NotSent, type SmsGateway, type SmsMessage, type SmsOptions } from './kit/texts.ts'
export { type EndingParts, endSessions, type Told } from './logout.ts'
export { newEnrolmentLink } from './mailed-link/index.ts'
export type { Api, Limits, SallyportOptions } from './options.ts'
export {
  type ClientRules,
  daysUntil,
  enforcementAhead,
  isLockedOut,
  type OwnChoices,
  openReasons,
  proofBeforeChange,
  type Requirement,
  requirement,
  rulesOf,
  type SessionFacts,
  type SessionLimits,
  sessionAlive,
  smsCountries,
} from './policy.ts'
export { companiesInCare, type Powers, powersOver, type ResetRight } from './resets.ts'
/** SAML 2.0: its libraries load with the first call. */
export const saml = () => import('./federation/saml/index.ts')

/**
 * The counters that wrong answers of this person, or of a stranger in their name, have filled. Clearing them
 * (`throttle.clear`) lets the person in again; it proves nothing and removes no factor.
 */
export const countersOf = (account: Pick<Account, 'id' | 'email' | 'factorVersion'>): string[] => [
  passwordCounter(account.email),
  ...codeCounters(account),
  recoveryCodeCounter(account),
]

/** The plugin, put together. */
export interface Sallyport {
  /** The given configuration with ours composed into it: for `new Provider(issuer, …)`. */
  extendConfiguration(configuration: Configuration): Configuration
  /** Adds models' fields, listeners and routes. Once for each provider, before its first request. */
  attach(provider: Provider): void
  /** Draws pages in the house's look, for routes of your own. */
  screen: Screen
  /** Serves the style sheet and the script. `attach` mounts it already. */
  assets: Assets
  /** Writes what messages of channel `mail` say. */
  letters: Letters
  /** What every app asks of this person, whatever it asks for itself. */
  requirementOf(account: Account, session?: SessionFacts): Requirement
  /** What this person may switch off and remove. */
  choicesOf(account: Account): OwnChoices
}

/**
 * @param issuer public URL without a trailing slash. Its path, if it has one, is where the provider is mounted
 * @param options stores, keys, brand
 */
export function createSallyport(issuer: string, options: SallyportOptions): Sallyport {
  const completed = complete(issuer, options)
  const { stores, passwords, brand, limits, now, tell } = completed
  const languages = loadLanguages(options.messages, options.language)
  const assets = loadAssets({ brand, base: basePath(issuer), stylesheet: options.stylesheet })
  const views = options.views && { views: options.views }
  const pages = createPages({ brand, assets, ...views })
  const screen = createScreen(pages, languages)
  const decide = createDecision(stores.accounts, limits, completed.methods, now)
  const decided = decideOnce(decide, now)
  const { factors, pending } = stores
  const { totpWindow } = limits
  const { sms } = completed
  const { hostname } = new URL(issuer)
  const texts = sms && createTexts({ sms, pending, keyRing: completed.keyRing, brand: brand.name, host: hostname })
  const newId = () => randomBytes(12).toString('base64url')

  const { connections, people } = completed
  const sso = connections && companySignIn(connections, issuer)
  const login = credentials({
    accounts: stores.accounts,
    devices: stores.devices,
    passwords,
    isLockedOut,
    tellLockedOut(account, facts) {
      const failed = (error: Error) => completed.onError(error, { where: 'outbox' })
      setImmediate(() => stores.outbox.put(tell(account, 'locked_out', facts)).catch(failed))
    },
    sso,
    forgotUrl: completed.forgotUrl,
  })
  const handOff =
    connections && federation({ ...stores, connections, people, issuer, tell, onEvent: completed.onEvent })

  const rooms = {
    credentials: { ...login, pages: { ...login.pages, ...handOff } },
    challenge: challenge({ factors, passwords, texts, totpWindow, reservationSeconds: limits.interaction }),
    'mailed-link': mailedLink({
      links: completed.mailedLinks,
      mails: completed.notices === true,
      pending,
      throttle: stores.throttle,
      issuer,
      heldSeconds: limits.interaction,
    }),
    // A colon separates issuer and account in the label of an authenticator app.
    enrollment: enrollment({
      factors,
      pending,
      texts,
      issuer: brand.name.replaceAll(':', ' '),
      totpWindow,
      newId,
      tell,
    }),
    recovery: recovery({ factors, pending, passwords, brand: brand.name, newId, tell }),
    consent: consent({
      consents: stores.consents,
      apiName: async (id) => (await options.resource?.(id))?.name,
      offlineSeconds: limits.refreshToken,
    }),
  }

  return {
    screen,
    assets,
    letters: createLetters({
      pages,
      languages,
      brand,
      notYou: (accountId, at) => `${issuer}/not-you?token=${notMeToken(completed.keyRing, { accountId, at })}`,
    }),
    requirementOf: (account, session) =>
      requirement({}, {}, account, completed.methods(account), now(), session?.fedBy),
    choicesOf: (account) => ownChoices(account, completed.methods(account), now()),
    extendConfiguration: (configuration) =>
      extend(libraryPages(configuration, screen, stores.accounts), completed, decided),
    attach(provider) {
      if (provider.issuer !== issuer) throw new TypeError(`the provider's issuer is ${provider.issuer}, not ${issuer}`)
      provider.use(assets.serve)
      attachParts(provider, { options: completed, decided, decide, rooms, screen })
    },
  }
}

/**
 * An oidc-provider with everything in place, security headers too.
 *
 * @param issuer public URL without a trailing slash; becomes `iss`. With a path (`https://acme.example/oidc`), mount the
 * provider there: `app.use(mount('/oidc', provider))`
 * @param configuration oidc-provider's own: `jwks` at least
 */
export function createProvider(issuer: string, configuration: Configuration, options: SallyportOptions): Provider {
  const sallyport = createSallyport(issuer, options)
  const provider = new Provider(issuer, sallyport.extendConfiguration(configuration))
  provider.use(securityHeaders(issuer.startsWith('https:')))
  sallyport.attach(provider)
  return provider
}
