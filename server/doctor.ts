/** Looks for what is wrong and says what to do about it. */
import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { verifyAudit } from './audit-checkpoints.ts'
import { endingCertificates } from './certificate-expiry.ts'
import type { Config, Environment } from './config.ts'
import { isLoopback, loadConfig } from './config.ts'
import { storeName } from './database.ts'
import { mailOf } from './delivery.ts'
import { readKeyRing } from './key-ring-file.ts'
import { createLogger } from './log.ts'
import { type House, openHouse } from './open.ts'
import type { Database } from './stores.ts'

/** One thing that was looked at. */
export interface Finding {
  name: string
  status: 'ok' | 'warn' | 'fail'
  /** What was found; with `warn` and `fail`, what to do. */
  message: string
}

const DAY = 24 * 60 * 60
const KEY_AGE_DAYS = 90

/** All findings, in the order of dependence: what needs a broken part is not looked at. */
export async function diagnose(env: Environment, cwd: string, file?: string): Promise<Finding[]> {
  const findings: Finding[] = [node()]
  let config: Config
  try {
    config = loadConfig(env, cwd, file)
    findings.push({ name: 'configuration', status: 'ok', message: `issuer ${config.SALLYPORT_ISSUER}` })
  } catch (error) {
    return [...findings, { name: 'configuration', status: 'fail', message: (error as Error).message }]
  }

  let house: House
  try {
    house = await openHouse(config, { logger: createLogger('silent') })
  } catch (error) {
    return [...findings, { name: 'store and keys', status: 'fail', message: (error as Error).message }]
  }
  try {
    findings.push(
      keyRing(config),
      await store(house),
      ...(await room(house)),
      await clock(house),
      await signingKey(house),
      await audit(house),
      ...(await people(house)),
      ...(await companyRules(house)),
      ...(await connections(house)),
      ...(await defaultClient(house)),
    )
  } finally {
    await house.close()
  }
  return [...findings, await answering(config)]
}

function node(): Finding {
  const [major = 0] = process.versions.node.split('.').map(Number)
  return major >= 22
    ? { name: 'node', status: 'ok', message: process.version }
    : {
        name: 'node',
        status: 'warn',
        message: `${process.version} works and is past its end of life: run Node 22 or 24 LTS`,
      }
}

function keyRing(config: Config): Finding {
  const path = config.SALLYPORT_KEYS
  const { mode, ring } = readKeyRing(path)!
  if ((mode & 0o077) !== 0)
    return { name: 'key ring', status: 'warn', message: `others can read ${path}: chmod 600 it` }
  return {
    name: 'key ring',
    status: 'ok',
    message: `${path}, ${ring.keys.length} data ${ring.keys.length === 1 ? 'key' : 'keys'}`,
  }
}

async function store({ database, config }: House): Promise<Finding> {
  const problems = await database.check()
  const name = storeName(config.SALLYPORT_STORE)
  if (problems.length === 0) return { name: 'store', status: 'ok', message: `${name} is whole` }
  const advice = problems.some((problem) => problem.includes('sallyport migrate')) ? '' : ': restore a copy'
  return { name: 'store', status: 'fail', message: `${name}: ${problems.slice(0, 3).join('; ')}${advice}` }
}

const MIB = 1024 * 1024

/** Free space where the embedded database grows. */
async function room({ config }: House): Promise<Finding[]> {
  if (config.SALLYPORT_STORE.kind !== 'sqlite') return []
  const folder = dirname(config.SALLYPORT_STORE.file)
  const { bavail, bsize } = await statfs(folder)
  const free = Math.floor((bavail * bsize) / MIB)
  const message = `${free} MiB free in ${folder}`
  if (free >= 1024) return [{ name: 'disk', status: 'ok', message }]
  return [{ name: 'disk', status: free < 100 ? 'fail' : 'warn', message: `${message}: make room` }]
}

const CLOCKS_DIFFER_SECONDS = 30

/** Seconds that the clock of a database server is ahead of ours. */
async function serverClock(database: Database): Promise<number | undefined> {
  return 'clockDifference' in database && typeof database.clockDifference === 'function'
    ? ((await database.clockDifference()) as number)
    : undefined
}

/** Codes, tokens and sessions live by the clock: one that stands wrong or went back breaks them all. */
async function clock({ database }: House): Promise<Finding> {
  const now = Date.now() / 1000
  const year = new Date().getUTCFullYear()
  const [newest] = await database.auditReader.auditRows({ limit: 1 })
  if (year < 2025 || year > 2100)
    return { name: 'clock', status: 'fail', message: `it is not the year ${year}: set the clock` }
  if (newest && newest.at > now + 60)
    return { name: 'clock', status: 'warn', message: 'the newest audit row is from the future: did the clock go back?' }
  const difference = (await serverClock(database)) ?? 0
  if (Math.abs(difference) > CLOCKS_DIFFER_SECONDS)
    return {
      name: 'clock',
      status: 'warn',
      message: `the database server's is ${Math.abs(difference)} s ${difference > 0 ? 'ahead' : 'behind'}, and it deletes what has expired by it: set both clocks`,
    }
  return { name: 'clock', status: 'ok', message: new Date(now * 1000).toISOString() }
}

async function signingKey({ database }: House): Promise<Finding> {
  const active = (await database.signingKeys.signingKeys()).find(({ state }) => state === 'active')
  if (!active)
    return {
      name: 'signing key',
      status: 'fail',
      message: 'there is none: `sallyport keys rotate --signing` makes one',
    }
  const days = Math.floor((Date.now() / 1000 - active.createdAt) / DAY)
  return days <= KEY_AGE_DAYS
    ? { name: 'signing key', status: 'ok', message: `${days} days old` }
    : { name: 'signing key', status: 'warn', message: `${days} days old: \`sallyport keys rotate --signing\`` }
}

async function audit({ database, keyRing }: House): Promise<Finding> {
  const { broken, rows } = await verifyAudit({ ...database, keyRing })
  return broken
    ? { name: 'audit', status: 'fail', message: broken }
    : { name: 'audit', status: 'ok', message: `${rows} rows, all chains whole` }
}

async function people({ database }: House): Promise<Finding[]> {
  const [users, clients] = await Promise.all([database.directory.users(), database.directory.clients()])
  const able = users.filter(({ disabled, hasPassword }) => !disabled && hasPassword).length
  const open = clients.filter(({ redirect_uris }) => (redirect_uris as string[] | undefined)?.some(isOpen))
  const exposed = clients.filter(({ sallyport }) => (sallyport as { pkce?: string } | undefined)?.pkce === 'optional')
  return [
    able > 0
      ? { name: 'people', status: 'ok', message: `${able} can sign in` }
      : { name: 'people', status: 'warn', message: 'nobody can sign in: `sallyport apply FILE` brings people' },
    clients.length === 0
      ? { name: 'clients', status: 'warn', message: 'no app is registered: `sallyport apply FILE` registers some' }
      : open.length > 0
        ? {
            name: 'clients',
            status: 'fail',
            message: `http redirect URI of ${open.map(({ client_id }) => client_id).join(', ')}: make it https`,
          }
        : { name: 'clients', status: 'ok', message: `${clients.length} registered` },
    ...(exposed.length > 0
      ? [
          {
            name: 'PKCE',
            status: 'warn' as const,
            message: `${exposed.map(({ client_id }) => client_id).join(', ')} may go without: remove sallyport.pkce once they send code_challenge`,
          },
        ]
      : []),
  ]
}

/** Rules that this server cannot keep as they were meant. Nothing is said where there are none. */
async function companyRules({ config, database }: House): Promise<Finding[]> {
  const name = 'company rules'
  const { SALLYPORT_SMS: sms, SALLYPORT_SMS_COUNTRIES: countries } = config
  const all = (await database.directory.companies()).filter(({ disabled }) => !disabled)
  return all.flatMap(({ id, mfa, rules = {} }): Finding[] => {
    const mute = mailOf(config) === 'none'
    const allowed = rules.sms_countries?.filter((country) => countries.includes(country))
    return [
      ...(rules.password_resets === 'mail' && mute
        ? [
            `${id} wants passwords to be set by mail, and mail is off: set SALLYPORT_SMTP_URL, or nobody there can set one`,
          ]
        : []),
      ...(mfa && mute
        ? [`${id} demands a second factor, and mail is off: tell its people before the date yourself`]
        : []),
      ...(sms && allowed?.length === 0
        ? [`${id} allows phones nowhere that SALLYPORT_SMS_COUNTRIES has: the app is the only second factor there`]
        : []),
    ].map((message) => ({ name, status: 'warn', message }))
  })
}

/** Nothing is said where no company signs in by an identity provider of its own. */
async function defaultClient({ config, database }: House): Promise<Finding[]> {
  const id = config.SALLYPORT_DEFAULT_CLIENT
  if (id === undefined) return []
  const name = 'default client'
  const client = await database.directory.client(id)
  if (!client)
    return [
      {
        name,
        status: 'fail',
        message: `SALLYPORT_DEFAULT_CLIENT: there is no client "${id}": \`sallyport client list\``,
      },
    ]
  if (client.initiate_login_uri === undefined)
    return [
      {
        name,
        status: 'fail',
        message: `SALLYPORT_DEFAULT_CLIENT: client "${id}" has no initiate_login_uri to begin at`,
      },
    ]
  return [{ name, status: 'ok', message: `${id}, at ${client.initiate_login_uri}` }]
}

async function connections({ database }: House): Promise<Finding[]> {
  const name = 'connections'
  const all = await database.directory.connections()
  if (all.length === 0) return []
  const ending = await endingCertificates(database, Math.floor(Date.now() / 1000))
  if (ending.length === 0) {
    const active = all.filter(({ state }) => state === 'active').length
    return [{ name, status: 'ok', message: `${active} active of ${all.length}, no certificate ends within 30 days` }]
  }
  return ending.map(({ connection, whose, days, others }) => {
    const which = `${whose === 'idp' ? 'a certificate of the identity provider' : 'our own certificate'} of ${connection}`
    const when = days < 0 ? `has ended ${-days} days ago` : `ends in ${days} ${days === 1 ? 'day' : 'days'}`
    const todo =
      whose === 'own'
        ? `\`sallyport connection rotate-key ${connection}\``
        : others > 0
          ? `another one is good for longer; \`sallyport connection certificates ${connection} --remove …\` once it is not used`
          : `ask its administrator for the next one, then \`sallyport connection certificates ${connection} --add FILE\``
    return {
      name,
      status: days < 0 && others === 0 && whose === 'idp' ? ('fail' as const) : ('warn' as const),
      message: `${which} ${when}: ${todo}`,
    }
  })
}

function isOpen(uri: string): boolean {
  const { protocol, hostname } = new URL(uri)
  return protocol === 'http:' && !isLoopback(hostname)
}

async function answering({ SALLYPORT_ISSUER }: Config): Promise<Finding> {
  const name = 'server'
  try {
    const { status } = await fetch(`${SALLYPORT_ISSUER}/healthz`, { signal: AbortSignal.timeout(1000) })
    if (status === 200) return { name, status: 'ok', message: `answers at ${SALLYPORT_ISSUER}` }
    return {
      name,
      status: 'warn',
      message: `${SALLYPORT_ISSUER}/healthz answers ${status}: is that address this server's?`,
    }
  } catch {
    return { name, status: 'warn', message: `nothing answers at ${SALLYPORT_ISSUER}: \`sallyport serve\` starts it` }
  }
}
