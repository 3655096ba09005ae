import { oneLine } from '../one-line.ts'

/** A seed file that cannot be used. The message is one line that names the thing and says what to do. Exit code 2. */
export class SeedError extends Error {
  override readonly name = 'SeedError'
  constructor(message: string, options?: ErrorOptions) {
    super(oneLine(message), options)
  }
}
