/** What the app "Payments" remembers of a browser. */
import { randomBytes } from 'node:crypto'
import { decodeJwt } from 'jose'
import type { Context } from 'koa'
import type { Call } from '../../examples/resource-server/step-up.ts'

/** Something that a person is about to do, which needs a second factor of its own. */
export interface Transaction {
  what: 'disbursement' | 'bank account change'
  call: Call
}

/** One browser. Times are seconds since 1970. */
export interface Session {
  tokens?: { id: string; access: string; refresh: string; until: number }
  /** A request under way, what it asked for, and what goes on after it. */
  pending?: {
    verifier: string
    state: string
    parameters: Record<string, string>
    then: 'entry' | Transaction | undefined
    began: number
  }
  /** What was begun, and not carried out yet. */
  waiting?: Transaction
  /** When the tool was used last; `undefined`: it was not entered. */
  used?: number
  /** Seconds without use after which it is entered anew. The app's own clock: the provider knows nothing of it. */
  idle: number
  disbursements: number
  /** The last four digits. */
  account?: string
}

const COOKIE = 'payments_session'

/** Nobody is signed in any more; what waits still waits. */
export function signOut(session: Session): void {
  delete session.tokens
  delete session.used
}

/** All of them, as long as the app runs. */
export class Sessions {
  readonly #sessions = new Map<string, Session>()
  readonly #idle: number

  constructor(idle: number) {
    this.#idle = idle
  }

  /** That of this browser, a new one if need be. */
  of(ctx: Context): Session {
    const known = this.#sessions.get(ctx.cookies.get(COOKIE) ?? '')
    if (known) return known
    const fresh: Session = { disbursements: 0, idle: this.#idle }
    const name = randomBytes(24).toString('base64url')
    this.#sessions.set(name, fresh)
    ctx.cookies.set(COOKIE, name, { httpOnly: true, sameSite: 'lax', overwrite: true })
    return fresh
  }

  forget(ctx: Context): void {
    this.#sessions.delete(ctx.cookies.get(COOKIE) ?? '')
  }

  /** The session of that `sid` has ended at the provider. */
  endAt(sid: string): void {
    for (const session of this.#sessions.values())
      if (session.tokens && decodeJwt(session.tokens.id)['sid'] === sid) signOut(session)
  }
}
