/** What a second factor is to the challenge. A further one is one more file beside `app.ts` and `text.ts`. */
import type { Attempt, AuditNote, RoomPage, Visit } from '../kit/room.ts'
import type { Method, ThrottleRule } from '../kit/stores.ts'

/** A second factor that a person can be asked for. */
export interface SecondFactor {
  /** In our bookkeeping, in the form that chooses, and in the address of its page. */
  name: Method
  /** In tokens (RFC 8176). */
  amr: string
  /** What has to happen before it can be answered, and what limits that. Without it: nothing. */
  begin?: {
    attempt(visit: Visit): Promise<Attempt>
    /** @throws {InteractionError} when it cannot be asked for now */
    run(visit: Visit): Promise<AuditNote>
  }
  /** Asks for the answer and verifies it. */
  verify: RoomPage
}

/** Every tenth wrong code since the last right one waits half an hour; a hundred close the factor until recovery or reset. */
export const CODES: ThrottleRule = { kind: 'streak', every: 10, wait: 30 * 60, disableAt: 100 }

/** The counter of wrong codes of one factor. The version is part of it: a new factor starts with a new count. */
export const codeCounter = (method: Method, { id, factorVersion }: { id: string; factorVersion: number }): string =>
  `code|${method}|${id}|${factorVersion}`
