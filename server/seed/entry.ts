/** What is stored, as a seed file would say it. */
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { Seed, unwrap } from './schema.ts'

/** A section of a seed file. */
export type Section = keyof Seed

/**
 * An entry as it would stand in a seed file: keys in the schema's order, without those that say what is so by default.
 * Keys that the schema does not know are left out.
 */
export function entryOf(section: Section, stored: object): Record<string, unknown> {
  return shortest(Seed.shape[section].unwrap().element, stored as Record<string, unknown>)
}

function shortest(schema: z.ZodObject, value: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(schema.shape).flatMap(([key, field]) => {
    if (value[key] === undefined) return []
    const said = shortestValue(field, value[key])
    const unsaid = field instanceof z.ZodDefault ? shortestValue(field, field.def.defaultValue) : undefined
    return isDeepStrictEqual(said, unsaid) ? [] : [[key, said] as const]
  })
  return Object.fromEntries(entries)
}

function shortestValue(schema: unknown, value: unknown): unknown {
  const inner = unwrap(schema)
  if (inner instanceof z.ZodArray) return (value as unknown[]).map((one) => shortestValue(inner.element, one))
  // Other objects, such as keys of a client, say more than the schema knows.
  const isStrict = inner instanceof z.ZodObject && inner.def.catchall instanceof z.ZodNever
  return isStrict ? shortest(inner, value as Record<string, unknown>) : value
}
