/** What several servers would all do, and one does. */
import { randomUUID } from 'node:crypto'
import type { Database } from './stores.ts'

/** Of all that ask for the same thing before it ends, one is told that it is the first. Times in seconds since 1970. */
export async function isFirst(
  { pending }: Pick<Database, 'pending'>,
  place: { owner: string; purpose: string; expiresAt: number; now: number },
): Promise<boolean> {
  const value = randomUUID()
  return (await pending.keep({ ...place, value })) === value
}
