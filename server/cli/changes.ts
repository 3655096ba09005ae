/** `add|set|remove` of what is in the directory: options become keys of a seed entry, and the entry goes the way of `apply`. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import type { Command } from 'commander'
import type { Changed, Noun, Wanted } from '../changes.ts'
import { answer, Misused, operator, Refused, withHouse } from './house.ts'

type Entry = Record<string, unknown>

/** An option for a key that is often needed. Every other key is set by `--set`. */
interface Choice {
  flags: string
  what: string
  key: string
  /** May be given several times: the key becomes this list. */
  many?: true
  read?(values: string[], present: Entry): unknown
}

const NAME: Choice = { flags: '--name <text>', what: 'what people read', key: 'name' }

/** What each noun can be told. */
const CHOICES: Record<Noun, { id: string; choices: Choice[]; secret?: string; add: string; set: string }> = {
  company: {
    id: 'id',
    choices: [
      NAME,
      { flags: '--side <side>', what: 'payor, payee, both or none', key: 'side' },
      { flags: '--domain <domain>', what: 'a domain of its e-mail addresses', key: 'domains', many: true },
    ],
    add: 'acme --name "Acme Builders" --side payor --domain acme.example',
    set: `acme --set 'mfa={"enforced_from":"2027-01-31","zone":"America/Denver"}'`,
  },
  user: {
    id: 'email',
    choices: [
      NAME,
      {
        flags: '--role <company:role>',
        what: 'a role at a company, or the company alone for a member without one',
        key: 'memberships',
        many: true,
        read: membershipsOf,
      },
      { flags: '--server-role <role>', what: 'operator, support or auditor', key: 'server_roles', many: true },
    ],
    secret: '--password-file',
    add: 'ana@acme.example --name Ana --role acme:payments_admin --password-file -',
    set: 'ana@acme.example --role acme:disburser --role acme:company_admin',
  },
  resource: {
    id: 'id',
    choices: [
      NAME,
      { flags: '--scope <scope>', what: 'a scope that can be asked for', key: 'scopes', many: true },
      { flags: '--token-format <format>', what: 'jwt or opaque', key: 'token_format' },
      { flags: '--client <id>', what: 'the client that the API is', key: 'client' },
      { flags: '--service-client <id>', what: 'may get tokens for itself', key: 'service_clients', many: true },
    ],
    add: 'https://api.example.com --name "Payments API" --scope payments',
    set: 'https://api.example.com --token-format opaque --client api',
  },
  client: {
    id: 'client_id',
    choices: [
      { ...NAME, key: 'client_name' },
      { flags: '--redirect-uri <uri>', what: 'where the app is called back', key: 'redirect_uris', many: true },
      {
        flags: '--post-logout-redirect-uri <uri>',
        what: 'where people go after signing out',
        key: 'post_logout_redirect_uris',
        many: true,
      },
      { flags: '--grant-type <type>', what: 'a grant that it may use', key: 'grant_types', many: true },
      {
        flags: '--auth-method <method>',
        what: 'how it authenticates (token_endpoint_auth_method)',
        key: 'token_endpoint_auth_method',
      },
      { flags: '--scope <scopes>', what: 'scopes that it may ask for, in one text', key: 'scope' },
    ],
    secret: '--secret-file',
    add: 'payments --name Payments --redirect-uri https://pay.example/callback',
    set: 'payments --set sallyport.mfa=required --unset scope',
  },
  connection: {
    id: 'id',
    choices: [
      { flags: '--company <id>', what: 'whose people it is for', key: 'company' },
      { flags: '--domain <domain>', what: 'a domain of theirs', key: 'domains', many: true },
      { flags: '--client <id>', what: 'the one client that it is for', key: 'client' },
      { flags: '--mode <mode>', what: 'forward or allow_password', key: 'mode' },
      {
        flags: '--metadata-file <file>',
        what: 'metadata of its identity provider',
        key: 'idp',
        read: ([file], present) => ({ ...urlOf(present), metadata_file: resolve(file!) }),
      },
      {
        flags: '--metadata-url <url>',
        what: 'where its identity provider publishes it: fetched now, and by `refresh`',
        key: 'idp',
        read: ([url]) => ({ metadata_url: url }),
      },
    ],
    add: 'acme-sso --company acme --domain acme.example --mode forward --metadata-file idp.xml',
    set: 'acme-sso --set state=testing --set jit=true',
  },
}

/** Keys that `--set` does not take, and why. */
const NOT_SET: Record<string, string> = {
  password: 'whoever lists processes reads it: use --password-file',
  password_hash: 'whoever lists processes reads it: use `sallyport apply`',
  client_secret: 'whoever lists processes reads it: use --secret-file, or `client rotate-secret`',
  state: 'use `remove`',
}

/** Adds `add`, `set` and `remove` to the command of a noun. */
export function addChanges(command: Command, noun: Noun): void {
  const { id, choices, secret, ...examples } = CHOICES[noun]
  for (const op of ['add', 'set'] as const) {
    const sub = command
      .command(op)
      .argument(`<${id}>`)
      .description(
        op === 'add' ? `make a new ${noun}` : `change keys of a ${noun}; those that are not named stay as they are`,
      )
    for (const { flags, what, many } of choices) {
      if (many) sub.option(flags, `${what}; may be repeated`, collect)
      else sub.option(flags, what)
    }
    if (secret !== undefined)
      sub.option(`${secret} <file>`, 'read it from a file, from standard input (-) or from env:NAME')
    sub
      .option('--set <key=value>', 'any key of a seed file; JSON, or else text; may be repeated', collect)
      .addHelpText('after', `\nExample:\n  sallyport ${noun} ${op} ${examples[op]}`)
    if (op === 'set') sub.option('--unset <key>', 'bring a key back to its default; may be repeated', collect)
    sub.action(async (name: string, options: Options, self: Command) => {
      const keys = keysOf(noun, options)
      const given = secret === undefined ? undefined : (options[optionName(secret)] as string | undefined)
      const read = given === undefined ? undefined : await secretFrom(given, `${noun} ${op}`, secret!)
      const wanted: Wanted = {
        noun,
        op,
        id: name,
        keys,
        ...(noun === 'user' ? { password: read } : { clientSecret: read }),
      }
      await withHouse(self, async (house) => {
        const { changeDirectory } = await import('../changes.ts')
        tell(self, await changeDirectory(house, wanted, operator()), name)
      })
    })
  }
  command
    .command('remove')
    .argument(`<${id}>`)
    .option('--yes', 'do not ask')
    .description(`remove a ${noun}`)
    .addHelpText('after', `\nExample:\n  sallyport ${noun} remove ${examples.add.split(' ')[0]} --yes`)
    .action((name: string, { yes }: { yes?: boolean }, self: Command) =>
      withHouse(self, async (house) => {
        const { changeDirectory, goesAlong } = await import('../changes.ts')
        if (!yes) await confirm(`${noun} "${name}"`, await goesAlong(house, noun, name))
        tell(self, await changeDirectory(house, { noun, op: 'remove', id: name }, operator()), name)
      }),
    )
}

/** Where its identity provider publishes its metadata stays known when a file is handed in. */
function urlOf({ idp }: Entry): Entry {
  const url = (idp as Entry | undefined)?.['metadata_url']
  return url === undefined ? {} : { metadata_url: url }
}

type Options = Record<string, string | string[] | boolean | undefined> & { set?: string[]; unset?: string[] }

const collect = (value: string, before: string[] = []) => [...before, value]

/** The keys that the options speak of. @throws {Misused} for a key that is not set so */
export function keysOf(noun: Noun, options: Options): NonNullable<Wanted['keys']> {
  const pairs = (options.set ?? []).map((text) => {
    const at = text.indexOf('=')
    if (at < 1) throw new Misused(`--set ${text.slice(0, 40)}: say key=value`)
    return [text.slice(0, at), jsonOrText(text.slice(at + 1))] as const
  })
  const paths = [...pairs.map(([path]) => path), ...(options.unset ?? [])]
  for (const path of paths) {
    const [key = ''] = path.split('.')
    const why = Object.hasOwn(NOT_SET, key) && !(noun === 'connection' && key === 'state') ? NOT_SET[key] : undefined
    if (why !== undefined) throw new Misused(`${key}: ${why}`)
    if (key === CHOICES[noun].id)
      throw new Misused(`${key}: it is what the ${noun} is known by: add another and remove this one`)
  }
  if (pairs.some(([path, value]) => path === 'state' && value === 'absent')) throw new Misused('state: use `remove`')
  return (present) => {
    const entry: Entry = { ...present }
    for (const { flags, key, many, read } of CHOICES[noun].choices) {
      const given = options[optionName(flags)] as string | string[] | undefined
      if (given !== undefined) entry[key] = read?.([given].flat(), present) ?? (many ? [given].flat() : given)
    }
    for (const [path, value] of pairs) put(entry, path.split('.'), value)
    for (const path of options.unset ?? []) put(entry, path.split('.'), undefined)
    return entry
  }
}

/** Writes a value under a path, in objects of its own: what was read from the store is not touched. */
function put(entry: Entry, [key = '', ...rest]: string[], value: unknown): void {
  const inner = Object.hasOwn(entry, key) ? entry[key] : undefined
  const own = typeof inner === 'object' && inner !== null && !Array.isArray(inner) ? { ...inner } : {}
  if (rest.length > 0) put(own as Entry, rest, value)
  // Never through a setter: `__proto__` is a key like any other, and no key that there is.
  Object.defineProperty(entry, key, {
    value: rest.length > 0 ? own : value,
    enumerable: true,
    configurable: true,
    writable: true,
  })
}

const optionName = (flags: string) =>
  flags
    .split(' ')[0]!
    .slice(2)
    .replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** `acme:disburser acme:company_admin best` → memberships. Of one that there is, it stays whether it is disabled. */
function membershipsOf(values: string[], present: Entry): Entry[] {
  const before = (present['memberships'] as Entry[] | undefined) ?? []
  const roles = new Map<string, string[]>()
  for (const value of values) {
    const [company = '', role] = value.split(/:(.*)/s)
    const known = roles.get(company) ?? []
    roles.set(company, role === undefined || known.includes(role) ? known : [...known, role])
  }
  return [...roles].map(([company, list]) => ({
    ...before.find((one) => one['company'] === company),
    company,
    roles: list,
  }))
}

async function secretFrom(given: string, command: string, option: string): Promise<string> {
  const { readSecret, SeedError } = await import('../seed/index.ts')
  if (given !== '-') {
    const { environment } = await import('../config.ts')
    const value = given.startsWith('env:') ? given : `file:${resolve(given)}`
    return readSecret(value, option, command, environment())!
  }
  const text = readFileSync(0, 'utf8').replace(/\r?\n$/, '')
  if (text === '') throw new SeedError(`${command}: ${option}: standard input is empty: write the secret there`)
  return text
}

/** A terminal, or what stands in its place. */
interface Terminal {
  stdin: NodeJS.ReadableStream & { isTTY?: boolean }
  stderr: NodeJS.WritableStream
}

/** Asks a person. @throws {Refused} when they say no, or nobody is there to be asked */
export async function confirm(what: string, along: string[], { stdin, stderr }: Terminal = process): Promise<void> {
  if (!stdin.isTTY) throw new Refused(`${what} is removed only with --yes: nobody is here to be asked`)
  const lines = createInterface({ input: stdin, output: stderr })
  try {
    const rest = along.length > 0 ? `, and with it ${along.join(', ')}` : ''
    // A terminal that is closed instead of an answer is no yes.
    const closed = once(lines, 'close').then(() => '')
    const said = await Promise.race([lines.question(`Remove ${what}${rest}? [y/N] `), closed])
    if (!/^y(es)?$/i.test(said.trim())) throw new Refused('nothing was removed')
  } finally {
    lines.close()
  }
}

/** Says what was done. */
export function tell(command: Command, { lines, notes, clientSecret }: Changed, name: string): void {
  for (const note of notes) process.stderr.write(`note: ${note}\n`)
  const shown = clientSecret === undefined ? [] : [`client_secret of ${name}, shown this once: ${clientSecret}`]
  answer(command, { changes: lines, notes, ...(clientSecret !== undefined && { client_secret: clientSecret }) }, [
    ...(lines.length > 0 ? lines : ['nothing to change']),
    ...shown,
  ])
}
