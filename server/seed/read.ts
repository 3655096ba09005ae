/** Reads a seed file, and the secrets that it names. */
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { type Environment, environment } from '../config.ts'
import { issueText } from './complaints.ts'
import { SeedError } from './error.ts'
import { Seed } from './schema.ts'

/**
 * Reads a seed file: YAML or JSON.
 *
 * @param env where values of the form `env:NAME` come from; `file:PATH` starts at the seed file's folder
 * @throws {SeedError} one line that names the place
 */
export function parseSeed(source: string, fileName: string, env: Environment = environment()): Seed {
  return readSeed(contentOf(source, fileName), fileName, env)
}

/**
 * Checks what a seed file, or whoever speaks like one, says.
 *
 * @param fileName stands before every complaint
 * @throws {SeedError} as {@link parseSeed}
 */
export function readSeed(content: object, fileName: string, env: Environment): Seed {
  const parsed = Seed.safeParse(content)
  if (!parsed.success) {
    // A mistyped key comes before what its lack causes.
    const { issues } = parsed.error
    const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]!
    throw new SeedError(`${fileName}: ${issueText(issue, content)}`)
  }
  const seed = parsed.data

  const read = (value: string | undefined, where: string) => readSecret(value, where, fileName, env)
  for (const one of seed.users) {
    if (one.state) continue
    one.password = read(one.password, `users ${one.email}: password`)
    one.password_hash = read(one.password_hash, `users ${one.email}: password_hash`)
  }
  for (const one of seed.clients)
    if (!one.state) one.client_secret = read(one.client_secret, `clients ${one.client_id}: client_secret`)

  for (const { id, state: gone, idp } of seed.connections) {
    if (gone === 'absent' || !idp) continue
    if (idp.metadata_file !== undefined) {
      if (idp.metadata !== undefined)
        throw new SeedError(`${fileName}: connections ${id}: idp: give metadata_file or metadata, not both`)
      const where = `connections ${id}: idp: metadata_file`
      idp.metadata = read(`file:${idp.metadata_file}`, where)
      delete idp.metadata_file
    }
    idp.certificates = idp.certificates?.map((one) => read(one, `connections ${id}: idp: certificates`)!)
  }

  refuseTwins(
    'companies',
    seed.companies.map(({ id }) => id),
    fileName,
  )
  refuseTwins(
    'users',
    seed.users.map((one) => one.email),
    fileName,
  )
  refuseTwins(
    'resources',
    seed.resources.map(({ id }) => id),
    fileName,
  )
  refuseTwins(
    'clients',
    seed.clients.map(({ client_id }) => client_id),
    fileName,
  )
  refuseTwins(
    'connections',
    seed.connections.map(({ id }) => id),
    fileName,
  )
  return seed
}

/** What the text says, as plain values. Errors name the line and never quote it: a secret may stand there. */
function contentOf(source: string, fileName: string): object {
  const document = parseDocument(source.replace(/^\ufeff/, ''), { logLevel: 'silent' })
  const [fault] = document.errors
  if (fault) {
    const what =
      fault.code === 'DUPLICATE_KEY' ? 'a key stands there twice' : `this is not YAML or JSON (${fault.code})`
    throw new SeedError(`${fileName}: line ${fault.linePos?.[0].line ?? 1}: ${what}`)
  }
  let content: unknown
  try {
    content = document.toJS()
  } catch (cause) {
    throw new SeedError(`${fileName}: too many aliases: write the values out`, { cause })
  }
  if (content === null || typeof content !== 'object' || Array.isArray(content))
    throw new SeedError(`${fileName}: must hold sections: ${Object.keys(Seed.shape).join(', ')}`)
  return content
}

/**
 * `env:NAME` and `file:PATH` keep secrets out of the file. One line end at the end of a file is not part of it.
 *
 * @throws {SeedError} when there is none
 */
export function readSecret(
  value: string | undefined,
  where: string,
  fileName: string,
  env: Environment,
): string | undefined {
  if (value?.startsWith('env:')) {
    const found = env[value.slice(4)]
    if (!found) throw new SeedError(`${fileName}: ${where}: the environment variable ${value.slice(4)} is not set`)
    return found
  }
  if (value?.startsWith('file:')) {
    const path = resolve(dirname(fileName), value.slice(5))
    let content: string
    try {
      content = readFileSync(path, 'utf8').replace(/\r?\n$/, '')
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException // node:fs throws nothing else
      throw new SeedError(`${fileName}: ${where}: cannot read ${path} (${code})`, { cause })
    }
    if (content === '') throw new SeedError(`${fileName}: ${where}: ${path} is empty`)
    return content
  }
  return value
}

function refuseTwins(section: string, names: string[], fileName: string): void {
  const twin = names.find((name, index) => names.indexOf(name) !== index)
  if (twin !== undefined) throw new SeedError(`${fileName}: ${section}: ${twin} is listed twice`)
}
