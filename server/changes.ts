/**
 * One company, person, API, client or connection is added, changed or removed: an entry of a seed file is made of it, and goes the way
 * that `apply` goes.
 */
import { randomBytes } from 'node:crypto'
import { normaliseEmail } from '../interactions/index.ts'
import { clientEntry, companyEntry, connectionEntry, type Entry, resourceEntry, userEntry } from './export.ts'
import type { House } from './open.ts'
import { planningOf } from './provider.ts'
import { applyPlan, type Plan, planSeed, readSeed, type Section, SeedError, untilItHolds } from './seed/index.ts'
import { endTheseSessions, sessionsOf } from './sessions.ts'
import { type Client, type DirectoryStore, StoreConflict } from './stores.ts'

/** What there is in the directory, by its name on the command line. */
export type Noun = 'company' | 'user' | 'resource' | 'client' | 'connection'

interface Kind {
  section: Section
  /** The key that says which one it is. */
  key: string
  normal(id: string): string
  /** The entry of what is stored. */
  find(directory: DirectoryStore, id: string): Promise<Entry | undefined>
}

const asItIs = (id: string) => id
const entryIf = <Thing>(thing: Thing | undefined, entry: (thing: Thing) => Entry) => thing && entry(thing)
const KINDS: Record<Noun, Kind> = {
  company: {
    section: 'companies',
    key: 'id',
    normal: asItIs,
    find: async (directory, id) => entryIf(await directory.company(id), companyEntry),
  },
  user: {
    section: 'users',
    key: 'email',
    normal: normaliseEmail,
    async find(directory, email) {
      const user = await directory.user(email)
      return user?.email === email ? userEntry(user) : undefined
    },
  },
  resource: {
    section: 'resources',
    key: 'id',
    normal: asItIs,
    find: async (directory, id) =>
      entryIf(
        (await directory.resources()).find((one) => one.id === id),
        resourceEntry,
      ),
  },
  client: {
    section: 'clients',
    key: 'client_id',
    normal: asItIs,
    find: async (directory, id) => entryIf(await directory.client(id), clientEntry),
  },
  connection: {
    section: 'connections',
    key: 'id',
    normal: asItIs,
    find: async (directory, id) => entryIf(await directory.connection(id), connectionEntry),
  },
}

/** What is wanted of one of them. */
export interface Wanted {
  noun: Noun
  op: 'add' | 'set' | 'remove'
  id: string
  /** The keys to write, made from the present entry; `undefined` brings one back to its default. The others stay. */
  keys?: ((present: Entry) => Entry) | undefined
  /** Never among the keys: those are shown in complaints. */
  password?: string | undefined
  clientSecret?: string | undefined
  /** Activate a connection that had no dry run, and why. */
  untested?: string | undefined
}

/** What was done. */
export interface Changed extends Plan {
  /** Of a client that had none and needs one: made here, and shown this once. */
  clientSecret?: string | undefined
}

/**
 * Does it, all or nothing, with rows in the audit before and after.
 *
 * @param actor who did it, such as `operator:root`
 * @throws {SeedError} when a key or value is none
 * @throws {StoreConflict} when there is one already, or none, or what is stored does not allow it
 */
export async function changeDirectory(house: House, wanted: Wanted, actor: string): Promise<Changed> {
  const { database } = house
  const planning = {
    ...(await planningOf(house)),
    setPasswords: wanted.password !== undefined,
    ...(wanted.untested !== undefined && { untested: wanted.untested }),
  }
  return untilItHolds(
    async () => {
      const { seed, clientSecret } = await seedOf(database.directory, wanted)
      try {
        return { ...(await planSeed(database, seed, planning)), clientSecret }
      } catch (error) {
        // It was understood, and contradicts itself or what is stored.
        throw error instanceof SeedError ? new StoreConflict(error.message, { cause: error }) : error
      }
    },
    (plan) => applyPlan(database, plan, actor, (sessions) => endTheseSessions(house, sessions, actor)),
  )
}

async function seedOf(directory: DirectoryStore, { noun, op, keys, password, ...wanted }: Wanted) {
  const { section, key, normal, find } = KINDS[noun]
  const id = normal(wanted.id)
  const present = await find(directory, id)
  if (op === 'add' && present)
    throw new StoreConflict(`${noun} "${id}" is there already: \`sallyport ${noun} set\` changes it`)
  if (op !== 'add' && !present)
    throw new StoreConflict(`there is no ${noun} "${id}": \`sallyport ${noun} list\` shows all`)

  const given = op === 'remove' ? { state: 'absent' } : { ...present, ...keys?.(present ?? {}) }
  const entry = Object.fromEntries(Object.entries({ ...given, [key]: id }).filter(([, value]) => value !== undefined))
  const seed = readSeed({ [section]: [entry] }, `${noun} ${op}`, {})

  const [user] = seed.users
  if (user && password !== undefined) user.password = password
  const [client] = seed.clients
  if (!client || op === 'remove') return { seed }
  const made = wanted.clientSecret === undefined && (await needsSecret(directory, client))
  const clientSecret = made ? newClientSecret() : undefined
  client.client_secret = wanted.clientSecret ?? clientSecret
  return { seed, clientSecret }
}

async function needsSecret(directory: DirectoryStore, client: Client): Promise<boolean> {
  if (!authenticatesBySecret(client)) return false
  return (await directory.client(client.client_id))?.client_secret === undefined
}

/** Whether the client shows or signs with a secret that the server knows too. */
export const authenticatesBySecret = ({ token_endpoint_auth_method: method = 'client_secret_basic' }: Client) =>
  String(method).startsWith('client_secret_')

/** 256 random bits, base64url. */
export const newClientSecret = (): string => randomBytes(32).toString('base64url')

/** What goes with it when it is removed, in words. Empty when nothing does, or there is none. */
export async function goesAlong(house: House, noun: Noun, id: string): Promise<string[]> {
  const { directory } = house.database
  if (noun === 'connection') return ['our key pairs, which its identity provider knows']
  if (noun !== 'user') return noun === 'client' ? ['what people let it do'] : []
  const user = await directory.user(normaliseEmail(id))
  if (!user) return []
  const sessions = await sessionsOf(house.database, [user.id])
  return [
    ...user.memberships.map(({ company }) => `membership of ${company}`),
    ...user.serverRoles.map((role) => `server role ${role}`),
    ...user.factors.map(({ method }) => `factor ${method}`),
    ...(user.recoveryCode === 'none' ? [] : ['recovery code']),
    ...(sessions.length > 0 ? [`${sessions.length} signed-in session${sessions.length === 1 ? '' : 's'}`] : []),
  ]
}
