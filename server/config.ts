/** Everything that can be set from outside. Read once, here; nothing else reads `process.env`. */
import { readFileSync } from 'node:fs'
import { BlockList, isIP } from 'node:net'
import { availableParallelism } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import { colourProblem, isCountry, readLogo, shippedLanguages } from '../interactions/index.ts'
import { didYouMean } from './nearest.ts'
import { oneLine } from './one-line.ts'

/** Configuration that cannot be used. The message is one line that names the setting and says what to do. Exit code 2. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  constructor(message: string, options?: ErrorOptions) {
    super(oneLine(message), options)
  }
}

const MINUTE = 60
const HOUR = 60 * 60
const DAY = 24 * 60 * 60

/** A whole number between two limits, ends included. */
const whole = (unit: string, min: number, max: number) => {
  const sentence = `must be a whole number${unit && ` of ${unit}`} from ${min} to ${max}`
  return z
    .string()
    .regex(/^\d{1,15}$/, sentence)
    .transform(Number)
    .pipe(z.number().min(min, sentence).max(max, sentence))
}

const text = (what: string, max: number) =>
  z
    .string()
    .trim()
    .min(1, `must be ${what}`)
    .max(max, `must be ${what} of at most ${max} characters`)
    .refine((value) => !hasControlCharacters(value), `must be ${what} without control characters`)

const filePath = z
  .string()
  .min(1, 'must be a path')
  .max(4096, 'must be a path')
  .refine((value) => !value.includes('{') && !hasControlCharacters(value), 'must be a path, not the content of a file')

const colour = (look: 'light' | 'dark') =>
  z.string().superRefine((value, ctx) => {
    const problem = colourProblem(value, look)
    if (problem !== undefined) ctx.addIssue(problem)
  })

/** The settings, each under the name of its environment variable. */
export const Config = z.object({
  /** `production` refuses what is only good on a developer's machine. */
  NODE_ENV: z
    .enum(['production', 'development', 'test'], 'must be production, development or test')
    .default('development'),
  /** The address to listen on. */
  HOST: z
    .string()
    .regex(/^[\w.:-]{1,255}$/, 'must be an address or a host name, such as 127.0.0.1')
    .default('127.0.0.1'),
  /** The port to listen on; 0 takes a free one (then SALLYPORT_ISSUER must be set). */
  PORT: whole('', 0, 65535).default(3000),
  /**
   * Public base URL; becomes `iss`. No trailing slash: `iss` is compared as a string (OIDC Discovery §4.3).
   * By default `http://127.0.0.1:PORT`.
   */
  SALLYPORT_ISSUER: z.string().superRefine(checkIssuer).optional(),
  /** The folder of the embedded database and, in development, of the key ring. */
  SALLYPORT_DATA_DIR: filePath.default('./data'),
  /**
   * The database: `sqlite:FILE`, `mongodb://HOST/DATABASE` or `mongodb+srv://HOST/DATABASE`.
   * By default `sqlite:<data dir>/sallyport.sqlite`.
   */
  SALLYPORT_STORE: z.string().transform(parseStore).optional(),
  /** Path of the key ring file, which encrypts what is stored. By default `<data dir>/keys.json`; needed in production. */
  SALLYPORT_KEYS: filePath.optional(),
  /** Whose `X-Forwarded-*` is believed: addresses, CIDRs or `loopback`, separated by commas. By default nobody's. */
  SALLYPORT_TRUSTED_PROXIES: z
    .string()
    .transform((value) => value.split(/[\s,]+/).filter(Boolean))
    .superRefine(checkProxies)
    .default([]),
  /** How much is logged. */
  SALLYPORT_LOG_LEVEL: z
    .enum(
      ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
      'must be trace, debug, info, warn, error, fatal or silent',
    )
    .default('info'),
  /** The name that people see on the pages. */
  SALLYPORT_BRAND_NAME: text('a name', 60).default('Sallyport'),
  /** Path of an SVG or PNG file of at most 12 KiB, shown in place of the name and in the browser's tab. */
  SALLYPORT_BRAND_LOGO: filePath.optional(),
  /** The colour of buttons, `#rrggbb`, with a contrast of 3:1 to the light page. */
  SALLYPORT_BRAND_COLOUR: colour('light').optional(),
  /** The same on a dark page, with 3:1 to that. By default `SALLYPORT_BRAND_COLOUR`, lighter where it must be. */
  SALLYPORT_BRAND_COLOUR_DARK: colour('dark').optional(),
  /** The language of people whose app and browser ask for none that there is. */
  SALLYPORT_LANGUAGE: z.enum(shippedLanguages(), `must be one of ${shippedLanguages().join(', ')}`).default('en'),
  /** The app that people come to who begin at their company's identity provider, when their connection names none. */
  SALLYPORT_DEFAULT_CLIENT: text('a client_id', 200).optional(),
  /** A page that helps people who cannot sign in. */
  SALLYPORT_HELP_URL: z
    .string()
    .refine((value) => webUrl(value) !== undefined, 'must be an http or https URL')
    .optional(),
  /** Whom people ask for help: a mail address, a phone number or a sentence. */
  SALLYPORT_SUPPORT_CONTACT: text('a mail address, a phone number or a sentence', 200).optional(),
  /** The mail server: `smtp://` (587, STARTTLS) or `smtps://` (465), with user and password where it wants them. */
  SALLYPORT_SMTP_URL: z.string().transform(parseSmtp).optional(),
  /** Who letters are from: `id@example.com`, or `Name <id@example.com>`. Needed with `SALLYPORT_SMTP_URL`. */
  SALLYPORT_MAIL_FROM: text('a mail address', 200)
    .regex(
      /^(?:[^<>@]+ <[^\s<>@]+@[^\s<>@]+>|[^\s<>@]+@[^\s<>@]+)$/,
      'must be a mail address, such as Acme <id@acme.example>',
    )
    .optional(),
  /** How long a half-finished sign-in is kept. */
  SALLYPORT_INTERACTION_TTL_SECONDS: whole('seconds', 1, HOUR).default(HOUR),
  /** How long a session lives without being used. */
  SALLYPORT_SESSION_IDLE_SECONDS: whole('seconds', 1, 2 * HOUR).default(HOUR),
  /** How long a session lives at most, counted from its own beginning. */
  SALLYPORT_SESSION_ABSOLUTE_SECONDS: whole('seconds', 1, 24 * HOUR).default(12 * HOUR),
  /** How long an access token lives. */
  SALLYPORT_ACCESS_TOKEN_TTL_SECONDS: whole('seconds', 1, HOUR).default(10 * MINUTE),
  /** How long an ID token lives. */
  SALLYPORT_ID_TOKEN_TTL_SECONDS: whole('seconds', 1, HOUR).default(10 * MINUTE),
  /** How long a refresh token of a client with `sallyport.offline` lives at most. */
  SALLYPORT_REFRESH_TOKEN_TTL_SECONDS: whole('seconds', 1, 365 * DAY).default(30 * DAY),
  /** Memory of one argon2id hash. By default 65536 in production and 19456 elsewhere. */
  SALLYPORT_ARGON2_MEMORY_KIB: whole('KiB', 19456, 1024 * 1024).optional(),
  /** Passes of one argon2id hash; with 1, the memory must be at least 47104 KiB. */
  SALLYPORT_ARGON2_PASSES: whole('', 1, 10).default(2),
  /** Lanes of one argon2id hash. */
  SALLYPORT_ARGON2_PARALLELISM: whole('', 1, 16).default(1),
  /** Hashes at work at the same time. By default the number of processor cores. */
  SALLYPORT_HASH_CONCURRENCY: whole('', 1, 256).default(Math.max(1, availableParallelism())),
  /** Sign-ins that may wait for a hash; more are answered 503 with Retry-After. */
  SALLYPORT_HASH_QUEUE: whole('', 0, 10_000).default(64),
  /** The shortest password, in code points (NIST SP 800-63B-4 §3.1.1.2). */
  SALLYPORT_PASSWORD_MIN_LENGTH: whole('characters', 12, 64).default(15),
  /** A list of stolen passwords that new ones are looked up in, by five digits of their SHA-1 (k-anonymity). */
  SALLYPORT_BREACH_LIST_URL: z
    .string()
    .refine(
      (value) => webUrl(value) !== undefined && value.endsWith('/'),
      'must be an http or https URL that ends with a slash',
    )
    .optional(),
  /** Sign-ins that one network (IPv4 address, IPv6 /64) may begin in a minute, per process. */
  SALLYPORT_STARTS_PER_MINUTE: whole('', 1, 100_000).default(300),
  /** Time steps of 30 seconds accepted before and after the present one (RFC 6238 §5.2, §6). */
  SALLYPORT_TOTP_WINDOW: whole('', 0, 1).default(1),
  /** Who carries text messages: `outbox` (they stay here: development), `webhook:URL` or `twilio`. By default there are none. */
  SALLYPORT_SMS: z.string().transform(parseSms).optional(),
  /** Where people may have their phones: ISO 3166-1 codes, separated by commas. People of Payments: US only, if it is listed. */
  SALLYPORT_SMS_COUNTRIES: z
    .string()
    .transform((value) => value.split(/[\s,]+/).filter(Boolean))
    .superRefine(checkCountries)
    .default(['US']),
  /** Texts to one country in a day. */
  SALLYPORT_SMS_PER_COUNTRY_AND_DAY: whole('', 1, 1_000_000).default(2000),
  /** The key by which the receiver of `webhook:URL` knows our requests: `whsec_` and 24 to 64 bytes in Base64. */
  SALLYPORT_SMS_SECRET: z
    .string()
    .regex(/^whsec_[A-Za-z0-9+/]{32,88}={0,2}$/, 'must be whsec_ and 24 to 64 random bytes in Base64')
    .transform(hidden)
    .optional(),
  /** Twilio's account. */
  SALLYPORT_TWILIO_ACCOUNT_SID: z
    .string()
    .regex(/^AC[0-9a-f]{32}$/, 'must be AC and 32 hexadecimal digits')
    .optional(),
  /** Its auth token. */
  SALLYPORT_TWILIO_AUTH_TOKEN: z
    .string()
    .regex(/^[0-9a-f]{32}$/, 'must be 32 hexadecimal digits')
    .transform(hidden)
    .optional(),
  /** Who the texts come from: a number, such as +12025550100, or a messaging service (`MG…`). */
  SALLYPORT_TWILIO_FROM: z
    .string()
    .regex(
      /^(\+[1-9]\d{6,14}|MG[0-9a-f]{32})$/,
      'must be a number such as +12025550100, or MG and 32 hexadecimal digits',
    )
    .optional(),
})

type Parsed = z.output<typeof Config>
/** Settings whose default hangs on another setting; always there after {@link loadConfig}. */
type Derived = 'SALLYPORT_ISSUER' | 'SALLYPORT_STORE' | 'SALLYPORT_KEYS' | 'SALLYPORT_ARGON2_MEMORY_KIB'

/** The settings, checked, with every default filled in and every path absolute. */
export type Config = Readonly<Omit<Parsed, Derived> & { [Name in Derived]-?: NonNullable<Parsed[Name]> }>

/** A database by its scheme. */
export type StoreAddress =
  | {
      kind: 'sqlite'
      /** Absolute path. */
      file: string
    }
  | {
      kind: 'mongodb'
      /** The URL without credentials and options: fit for messages. */
      name: string
      /** The whole URL. A function, so that no dump of the configuration shows the password in it. */
      url: () => string
    }

/** Who carries text messages. */
export type SmsAddress = { kind: 'outbox' } | { kind: 'twilio' } | { kind: 'webhook'; url: string }

/** Environment variables, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>

/** The environment of this process: for {@link loadConfig} and for `env:NAME` in a seed file. */
export const environment = (): Environment => process.env

/** Designed, and brought by a later version: refused by name, so that nobody thinks they work. */
const NOT_BUILT = new Set(['SALLYPORT_METRICS_PORT'])

/** The file that is read from the working directory when it is there. */
export const CONFIG_FILE = 'sallyport.config.yaml'

const NAMES = Object.keys(Config.shape) as (keyof typeof Config.shape)[]

/**
 * The configuration: environment over configuration file over defaults.
 *
 * An empty variable counts as not set. Relative paths start at `cwd`, those in the configuration file at its folder.
 *
 * @param file path of the configuration file; without it, `sallyport.config.yaml` in `cwd` is read if it is there
 * @throws {ConfigError} one line that names the setting and says what to do
 */
export function loadConfig(env: Environment, cwd: string, file?: string): Config {
  const given = new Map<string, { value: string; label: string; base: string }>()

  const path = resolve(cwd, file ?? CONFIG_FILE)
  for (const [key, value] of readConfigFile(path, file !== undefined))
    given.set(variableOf(key, path), { value, label: `${key} in ${basename(path)}`, base: dirname(path) })

  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || value === '') continue
    if (isName(name)) given.set(name, { value, label: name, base: cwd })
    else if (name.startsWith('SALLYPORT_') && !isServiceLink(name, value)) throw unknownSetting(name, name, NAMES)
  }

  const parsed = Config.safeParse(Object.fromEntries([...given].map(([name, { value }]) => [name, value])))
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const name = String(issue!.path[0])
    throw new ConfigError(`${given.get(name)?.label ?? name}: ${issue!.message}`)
  }
  const label = (name: string) => given.get(name)?.label ?? name
  return complete(parsed.data, label, (name, value) => resolve(given.get(name)?.base ?? cwd, value))
}

/** Fills in what hangs on other settings, and checks them against each other. */
function complete(parsed: Parsed, label: (name: string) => string, absolute: (name: string, path: string) => string) {
  const production = parsed.NODE_ENV === 'production'
  if (parsed.PORT === 0 && parsed.SALLYPORT_ISSUER === undefined)
    throw new ConfigError(`SALLYPORT_ISSUER: set it when PORT is 0, because the port becomes known too late`)

  const dataDir = absolute('SALLYPORT_DATA_DIR', parsed.SALLYPORT_DATA_DIR)
  if (production && parsed.SALLYPORT_KEYS === undefined)
    throw new ConfigError(
      'SALLYPORT_KEYS: needed with NODE_ENV=production: the path of the key ring file, made by `sallyport keys init`',
    )

  const config: Config = {
    ...parsed,
    SALLYPORT_DATA_DIR: dataDir,
    ...(parsed.SALLYPORT_BRAND_LOGO !== undefined && {
      SALLYPORT_BRAND_LOGO: absolute('SALLYPORT_BRAND_LOGO', parsed.SALLYPORT_BRAND_LOGO),
    }),
    SALLYPORT_ISSUER: parsed.SALLYPORT_ISSUER ?? `http://127.0.0.1:${parsed.PORT}`,
    SALLYPORT_STORE: storeOf(parsed.SALLYPORT_STORE, dataDir, (file) => absolute('SALLYPORT_STORE', file)),
    SALLYPORT_KEYS: parsed.SALLYPORT_KEYS
      ? absolute('SALLYPORT_KEYS', parsed.SALLYPORT_KEYS)
      : join(dataDir, 'keys.json'),
    SALLYPORT_ARGON2_MEMORY_KIB: parsed.SALLYPORT_ARGON2_MEMORY_KIB ?? (production ? 64 * 1024 : defaultMemory(parsed)),
  }

  checkLogo(config, label)
  checkSms(config, label)
  const issuer = new URL(config.SALLYPORT_ISSUER)
  if (production && issuer.protocol === 'http:' && !isLoopback(issuer.hostname))
    throw new ConfigError(
      `${label('SALLYPORT_ISSUER')}: must be https with NODE_ENV=production, unless it is a loopback`,
    )
  if (config.SALLYPORT_SMTP_URL !== undefined && config.SALLYPORT_MAIL_FROM === undefined)
    throw new ConfigError('SALLYPORT_MAIL_FROM: needed with SALLYPORT_SMTP_URL: who letters are from')
  if (config.SALLYPORT_ARGON2_PASSES === 1 && config.SALLYPORT_ARGON2_MEMORY_KIB < ONE_PASS_FLOOR_KIB)
    throw new ConfigError(
      `${label('SALLYPORT_ARGON2_MEMORY_KIB')}: must be at least ${ONE_PASS_FLOOR_KIB} with one pass, or set SALLYPORT_ARGON2_PASSES to 2`,
    )
  if (config.SALLYPORT_ARGON2_MEMORY_KIB < 8 * config.SALLYPORT_ARGON2_PARALLELISM)
    throw new ConfigError(
      `${label('SALLYPORT_ARGON2_PARALLELISM')}: needs 8 KiB of memory for each lane (RFC 9106 §3.1)`,
    )
  if (config.SALLYPORT_SESSION_IDLE_SECONDS > config.SALLYPORT_SESSION_ABSOLUTE_SECONDS)
    throw new ConfigError(
      `${label('SALLYPORT_SESSION_IDLE_SECONDS')}: must not be longer than SALLYPORT_SESSION_ABSOLUTE_SECONDS`,
    )
  return config
}

function storeOf(given: StoreAddress | undefined, dataDir: string, absolute: (file: string) => string): StoreAddress {
  if (!given) return { kind: 'sqlite', file: join(dataDir, 'sallyport.sqlite') }
  return given.kind === 'sqlite' ? { ...given, file: absolute(given.file) } : given
}

/** OWASP Password Storage: what argon2id needs with a single pass. */
const ONE_PASS_FLOOR_KIB = 47104
const defaultMemory = ({ SALLYPORT_ARGON2_PASSES: passes }: Parsed) => (passes === 1 ? ONE_PASS_FLOOR_KIB : 19456)

/**
 * Tells whether an address belongs to a trusted proxy.
 *
 * @param proxies `SALLYPORT_TRUSTED_PROXIES`: addresses, CIDRs, `loopback`
 * @returns a function of the peer's address; IPv4 in IPv6 notation (`::ffff:10.0.0.1`) counts as IPv4
 */
export function trustedProxies(proxies: readonly string[]): (address: string | undefined) => boolean {
  const list = new BlockList()
  for (const proxy of proxies) addProxy(list, proxy)
  const check = (address: string) => {
    const plain = address.replace(/%.*$/, '')
    const version = isIP(plain)
    return version !== 0 && list.check(plain, version === 6 ? 'ipv6' : 'ipv4')
  }
  // A proxy asks again and again.
  let last: { address: string; trusted: boolean } | undefined
  return (address) => {
    if (address === undefined || proxies.length === 0) return false
    if (last?.address !== address) last = { address, trusted: check(address) }
    return last.trusted
  }
}

/** True for `localhost`, 127.0.0.0/8 and ::1. @param hostname as `URL.hostname` has it */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)
}

const hasControlCharacters = (value: string) => oneLine(value) !== value

function addProxy(list: BlockList, proxy: string): boolean {
  if (proxy === 'loopback') {
    list.addSubnet('127.0.0.0', 8, 'ipv4')
    list.addAddress('::1', 'ipv6')
    return true
  }
  const [address = '', prefix, ...rest] = proxy.split('/')
  const version = isIP(address)
  if (version === 0 || rest.length > 0 || address.includes('%')) return false
  const family = version === 6 ? 'ipv6' : 'ipv4'
  if (prefix === undefined) list.addAddress(address, family)
  else {
    // A prefix of 0 would believe everybody.
    if (!/^\d{1,3}$/.test(prefix) || Number(prefix) < 1 || Number(prefix) > (version === 6 ? 128 : 32)) return false
    list.addSubnet(address, Number(prefix), family)
  }
  return true
}

function checkProxies(proxies: string[], ctx: z.RefinementCtx) {
  const wrong = proxies.find((proxy) => !addProxy(new BlockList(), proxy))
  if (wrong !== undefined)
    ctx.addIssue(`"${oneLine(wrong).slice(0, 60)}" is no address, CIDR (such as 10.0.0.0/8) or "loopback"`)
}

function checkLogo({ SALLYPORT_BRAND_LOGO: logo }: Config, label: (name: string) => string) {
  if (logo === undefined) return
  try {
    readLogo(logo)
  } catch (cause) {
    throw new ConfigError(`${label('SALLYPORT_BRAND_LOGO')}: ${(cause as Error).message}`, { cause })
  }
}

/** A function, so that no dump of the configuration shows the secret in it. */
function hidden(secret: string): () => string {
  return () => secret
}

function parseSms(value: string, ctx: z.RefinementCtx): SmsAddress {
  if (value === 'outbox' || value === 'twilio') return { kind: value }
  const url = value.startsWith('webhook:') ? webUrl(value.slice('webhook:'.length)) : undefined
  if (url && !url.username && !url.password && (url.protocol === 'https:' || isLoopback(url.hostname)))
    return { kind: 'webhook', url: url.href }
  ctx.addIssue('must be outbox, twilio, or webhook: and an https URL (http for a loopback)')
  return z.NEVER
}

function checkCountries(countries: string[], ctx: z.RefinementCtx) {
  const wrong = countries.find((country) => !isCountry(country))
  if (wrong !== undefined)
    ctx.addIssue(`"${oneLine(wrong).slice(0, 20)}" is no country code, such as US or GB (ISO 3166-1, upper case)`)
  if (countries.length === 0) ctx.addIssue('must name a country, such as US')
}

function checkSms(config: Config, label: (name: string) => string) {
  const { SALLYPORT_SMS: sms, NODE_ENV } = config
  if (sms?.kind === 'outbox' && NODE_ENV === 'production')
    throw new ConfigError(
      `${label('SALLYPORT_SMS')}: outbox sends nothing, which is refused with NODE_ENV=production: name twilio or webhook:URL`,
    )
  const needed: Record<string, (keyof Config)[]> = {
    webhook: ['SALLYPORT_SMS_SECRET'],
    twilio: ['SALLYPORT_TWILIO_ACCOUNT_SID', 'SALLYPORT_TWILIO_AUTH_TOKEN', 'SALLYPORT_TWILIO_FROM'],
  }
  const missing = needed[sms?.kind ?? '']?.find((name) => config[name] === undefined)
  if (missing !== undefined) throw new ConfigError(`${missing}: needed with SALLYPORT_SMS=${sms?.kind}`)
}

function checkIssuer(value: string, ctx: z.RefinementCtx) {
  const url = webUrl(value)
  if (!url) return ctx.addIssue('must be an http or https URL, such as https://id.example.com')
  if (url.username || url.password) return ctx.addIssue('must not hold a user name or password')
  if (value.includes('?') || value.includes('#')) return ctx.addIssue('must have no query and no fragment')
  if (value.endsWith('/')) return ctx.addIssue('must not end with a slash')
  if (url.pathname !== '/') return ctx.addIssue('must have no path: give the server a host name of its own')
  const canonical = url.href.replace(/\/$/, '')
  if (canonical !== value) ctx.addIssue(`must be written as ${canonical}`)
}

function parseStore(value: string, ctx: z.RefinementCtx): StoreAddress {
  const [, scheme = '', file = ''] = /^([a-z+]+):(.*)$/s.exec(value) ?? []
  if (scheme === 'mongodb' || scheme === 'mongodb+srv') return parseMongo(value, ctx)
  if (
    scheme !== 'sqlite' ||
    file === '' ||
    file.startsWith('//') ||
    file.startsWith(':') ||
    hasControlCharacters(file)
  ) {
    ctx.addIssue('must be sqlite:FILE, such as sqlite:./data/sallyport.sqlite, or mongodb://HOST/DATABASE')
    return z.NEVER
  }
  return { kind: 'sqlite', file }
}

/**
 * A database as a command names it. A relative path starts at `cwd`.
 *
 * @throws {ConfigError} when it names none
 */
export function storeAddress(value: string, label: string, cwd: string): StoreAddress {
  const parsed = z.string().transform(parseStore).safeParse(value)
  if (!parsed.success) throw new ConfigError(`${label} ${parsed.error.issues[0]!.message}`)
  const address = parsed.data
  return address.kind === 'sqlite' ? { kind: 'sqlite', file: resolve(cwd, address.file) } : address
}

/** The driver reads the URL; here it is only made sure which part of it may be shown. */
function parseMongo(value: string, ctx: z.RefinementCtx): StoreAddress {
  const [, scheme, hosts, database] = MONGO_URL.exec(value) ?? []
  if (hosts === undefined) {
    ctx.addIssue(
      'must be mongodb://HOST/DATABASE, such as mongodb://db.example/sallyport; in a user name or password write : / ? # [ ] @ % as %XX',
    )
    return z.NEVER
  }
  if (database === undefined) {
    ctx.addIssue('must name a database behind the host, such as mongodb://db.example/sallyport')
    return z.NEVER
  }
  return { kind: 'mongodb', name: `${scheme}//${hosts}/${database}`, url: () => value }
}

/** Scheme, credentials, hosts (names, addresses, IPv6, sockets as %2F…), database, options. */
const MONGO_URL =
  /^(mongodb(?:\+srv)?:)\/\/(?:[^\s:/?#[\]@]+(?::[^\s:/?#[\]@]*)?@)?((?:[\w.%-]+|\[[\da-fA-F:.]+\])(?::\d+)?(?:,(?:[\w.%-]+|\[[\da-fA-F:.]+\])(?::\d+)?)*)(?:\/([\w-]+)?)?(?:\?\S*)?$/

/** A mail server. */
export interface SmtpAddress {
  /** Without credentials: fit for messages. */
  name: string
  /** The whole URL. A function, so that no dump of the configuration shows the password in it. */
  url: () => string
}

function parseSmtp(value: string, ctx: z.RefinementCtx): SmtpAddress {
  const url = URL.canParse(value) ? new URL(value) : undefined
  const isPlain = url && ['', '/'].includes(url.pathname) && url.search === '' && url.hash === ''
  if (!isPlain || !['smtp:', 'smtps:'].includes(url.protocol) || url.hostname === '' || /\s/.test(value)) {
    ctx.addIssue('must be smtp://HOST or smtps://HOST, such as smtps://user:password@mail.example')
    return z.NEVER
  }
  return { name: `${url.protocol}//${url.host}`, url: () => value }
}

function webUrl(value: string): URL | undefined {
  if (!/^https?:\/\//i.test(value) || /\s/.test(value) || !URL.canParse(value)) return undefined
  return new URL(value)
}

const isName = (name: string): name is keyof typeof Config.shape => Object.hasOwn(Config.shape, name)

/** `port` → `PORT`, `data_dir` → `SALLYPORT_DATA_DIR`. @throws {ConfigError} when there is no such setting */
function variableOf(key: string, path: string): string {
  const upper = key.toUpperCase()
  const name = upper === 'HOST' || upper === 'PORT' ? upper : `SALLYPORT_${upper}`
  if (key === key.toLowerCase() && isName(name)) return name
  throw unknownSetting(name, `${key} in ${basename(path)}`, FILE_KEYS, key)
}

const FILE_KEYS = NAMES.filter((name) => name !== 'NODE_ENV').map((name) =>
  name.replace(/^SALLYPORT_/, '').toLowerCase(),
)

function unknownSetting(name: string, label: string, known: string[], written = name): ConfigError {
  if (NOT_BUILT.has(name)) return new ConfigError(`${label}: not built yet: leave it out`)
  return new ConfigError(`${label}: no such setting${didYouMean(written, known) || ': correct it or leave it out'}`)
}

/** Kubernetes gives every pod variables for a service named `sallyport`: nobody wrote them. */
function isServiceLink(name: string, value: string): boolean {
  return /^SALLYPORT_(SERVICE_(HOST|PORT)|PORT_\d+_(TCP|UDP|SCTP))/.test(name) || /^(tcp|udp|sctp):\/\//.test(value)
}

/** The pairs of a configuration file, values as text. */
function readConfigFile(path: string, needed: boolean): [string, string][] {
  const label = basename(path)
  let content: string
  try {
    content = readFileSync(path, 'utf8')
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException // node:fs throws nothing else
    if (code === 'ENOENT' && !needed) return []
    throw new ConfigError(`${label}: cannot be read (${code}): ${path}`, { cause })
  }
  const document = parseDocument(content, { prettyErrors: true, logLevel: 'silent' })
  const [fault] = document.errors
  if (fault) throw new ConfigError(`${label}: line ${fault.linePos?.[0].line ?? 1} is not YAML (${fault.code})`)
  const root: unknown = document.toJS()
  if (root === null || root === undefined) return []
  if (typeof root !== 'object' || Array.isArray(root))
    throw new ConfigError(`${label}: must hold settings, one per line, such as "issuer: https://id.example.com"`)
  return Object.entries(root).map(([key, value]) => [key, textOf(value, `${key} in ${label}`)])
}

function textOf(value: unknown, label: string): string {
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value.join(',')
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  if (value === null) throw new ConfigError(`${label}: has no value: after a space, # begins a comment; use quotes`)
  throw new ConfigError(`${label}: must be a text or a number`)
}
