/** What every database says of a store that another was to be copied into. */

/**
 * Why it is not.
 *
 * @param held what it holds
 * @param copied body of the newest audit row that says that it is a copy itself
 */
export function holds(name: string, held: readonly string[], copied: string | undefined): string {
  const what = held.map((kind) => kind.replaceAll('_', ' ')).join(', ')
  const { at, details } = JSON.parse(copied ?? '{}') as { at?: number; details?: { from?: string } }
  const finished = at === undefined ? '' : `; the copy of ${details?.from} into it was finished at ${iso(at)}`
  return `${name} holds data already (${what}): name an empty store${finished}`
}

/** Why nobody else may use it meanwhile. */
export const unfinished = (name: string, source: unknown): string =>
  `the database ${name} is an unfinished copy of ${source}: run \`sallyport copy\` again, it goes on`

/** Why a copy of something else cannot go on in it. */
export const othersCopy = (name: string, source: unknown): string =>
  `${name} is an unfinished copy of ${source}: finish that one, or name an empty store`

/** Why a copy ends. */
export const taken = (name: string): string => `another copy has taken ${name}: this one stops`

const iso = (seconds: number) => new Date(seconds * 1000).toISOString()
