/** What is wrong with a seed file, in one sentence that names the place. */
import { z } from 'zod'
import { didYouMean } from '../nearest.ts'
import { Seed, unwrap } from './schema.ts'

/** Designed, and brought by a later version. */
const NOT_BUILT = new Set(['brand'])
/** Left out on purpose, or standing elsewhere. */
const NOT_TAKEN = new Map([
  ['contexts', 'stands under trust: `mfa: { trust: { contexts: [ … ] } }`'],
  [
    'jwks_uri',
    'is not fetched: nothing that decides who gets in comes from an address that a client names; put the keys under jwks',
  ],
])

/** One sentence: where, what, and what was probably meant. Never the value: it may be a secret. */
export function issueText(issue: z.core.$ZodIssue, content: unknown): string {
  const where = placeOf(issue.path, content)
  if (issue.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys
    const label = `${where}${key.slice(0, 60)}`
    const reason = NOT_TAKEN.get(key)
    if (reason !== undefined) return `${label}: ${reason}`
    if (NOT_BUILT.has(key)) return `${label}: not built yet: leave it out`
    return `${label}: unknown key${didYouMean(key, knownKeys(issue.path)) || ': correct it or leave it out'}`
  }
  return `${where.replace(/: $/, '')}: ${complaint(issue, content)}`
}

const KINDS: Record<string, string> = {
  array: 'a list',
  object: 'a set of keys',
  boolean: 'true or false',
  string: 'a text',
  number: 'a whole number',
  int: 'a whole number',
}

function complaint(issue: z.core.$ZodIssue, content: unknown): string {
  const value = issue.path.reduce<unknown>(
    (inner, key) => (inner as Record<PropertyKey, unknown> | null | undefined)?.[key],
    content,
  )
  if (value === undefined) return 'is missing'
  // Our own sentences begin with "must" or "may"; the library's do not say what to do.
  if (/^(must|may) /.test(issue.message)) return issue.message
  if (issue.code === 'invalid_type') return `must be ${KINDS[issue.expected] ?? issue.expected}`
  if (issue.code === 'invalid_value')
    return `must be one of ${issue.values.map(String).join(', ')}${didYouMean(String(value), issue.values.map(String))}`
  if (issue.code === 'too_small') return `must be at least ${issue.minimum}`
  if (issue.code === 'too_big') return `must be at most ${issue.maximum}`
  return issue.message
}

/** `users ana@acme.example: memberships.0.roles: ` */
function placeOf(path: PropertyKey[], content: unknown): string {
  const [section, index, ...rest] = path
  if (section === undefined) return ''
  const entry =
    index === undefined
      ? undefined
      : (content as Record<string, Record<string, unknown>[]>)[String(section)]?.[Number(index)]
  const name = entry?.['email'] ?? entry?.['client_id'] ?? entry?.['id'] ?? index
  const place = [String(section), name === undefined ? '' : ` ${String(name).slice(0, 100)}`].join('')
  return rest.length > 0 ? `${place}: ${rest.map(String).join('.')}: ` : `${place}: `
}

/** The keys that may stand at this place. */
function knownKeys(path: PropertyKey[]): string[] {
  let schema: unknown = Seed
  for (const key of path) {
    const inner = unwrap(schema)
    if (inner instanceof z.ZodObject) schema = inner.shape[String(key)]
    else if (inner instanceof z.ZodArray) schema = inner.element
  }
  const last = unwrap(schema)
  return last instanceof z.ZodObject ? Object.keys(last.shape) : []
}
