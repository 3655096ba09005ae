/**
 * What the server may believe of whom, written a second time: from the requirements, not from policy.ts, and in other
 * terms. It keeps people, browsers, sessions and requests as the requirements speak of them, and says of each request which
 * question is open and what a token may claim. Only the authenticator app is built as a second factor, so there are two.
 */

/** A person with everything that a test knows of them. */
export interface Person {
  id: string
  email: string
  role: 'payor' | 'payee' | 'standard'
  password: string
  disabled: boolean
  epoch: number
  factorVersion: number
  /** The authenticator app that stands, with the time steps that were accepted. */
  app?: { secret: string; used: Set<number> } | undefined
  recovery?: Recovery | undefined
  /** The factors were reset, and none was added since; `linked`: by a mailed link, that request may enrol. */
  reset?: { linked?: { by: Flow; until: number; epoch: number } | undefined } | undefined
  /** "Always require 2FA": on from the first app. */
  asksAlways: boolean
  formerRecoveryCodes: string[]
  /** The last code that was accepted. */
  lastCode?: string | undefined
}

/** The recovery code that stands; without `code`, one that nobody has seen yet. */
export interface Recovery {
  code?: string | undefined
  acknowledged: boolean
  reserved?: { by: Flow; until: number } | undefined
}

/** Something that was proven. */
export interface Proof {
  person: Person
  factor: 'pwd' | 'otp'
  at: number
  epoch: number
}

/** A signed-in browser. */
export interface Session {
  person: Person
  epoch: number
  created: number
  /** When it ends unused. */
  until: number
  proofs: Proof[]
}

/** A browser. */
export interface Browser {
  name: string
  session?: Session | undefined
  /** Counts what ends tokens: sign-outs, new sessions. */
  ends: number
}

/** One authorization request, from /auth to the app. */
export interface Flow {
  browser: Browser
  client: string
  params: Record<string, string>
  started: number
  proofs: Proof[]
  /** The browser's session when oidc-provider last looked. A page in a second tab knows nothing of a later one. */
  session?: Session | undefined
  /** "Use a different account". */
  ignoresSession: boolean
}

/** What a relying party registered. */
export interface ClientRules {
  mfa: 'required' | 'by_role'
  second_factor_max_age?: number
}

/** What a token says. */
export interface Claims {
  sub: string
  amr: string[]
  acr: string
  auth_time: number
  second_factor_time: number | undefined
}

export type Question = 'login' | 'challenge' | 'link' | 'enrolment' | 'acknowledgement'

const IDLE = 60 * 60
const ABSOLUTE = 12 * 60 * 60
const RANKS: Record<string, number> = {
  'urn:sallyport:acr:1fa': 1,
  'urn:sallyport:acr:2fa': 2,
  'urn:sallyport:acr:2fa-app': 3,
  'http://schemas.openid.net/pape/policies/2007/06/multi-factor': 2,
  'https://refeds.org/profile/mfa': 2,
}

/** The world of one run. */
export class Oracle {
  readonly clients: Record<string, ClientRules>
  /** The standard users' company demands a second factor. */
  companyEnforces = false
  readonly #now: () => number

  constructor(clients: Record<string, ClientRules>, now: () => number) {
    this.clients = clients
    this.#now = now
  }

  /** Who is in front of a request: who proved something in it, else whose session this browser has. */
  person(flow: Flow): Person | undefined {
    const proven = this.chain(flow).at(-1)?.person
    return proven ?? this.#session(flow)?.person
  }

  /** What was proven in this very request and still stands: nothing of before a password change, a reset, a disabling. */
  chain(flow: Flow): Proof[] {
    return flow.proofs.filter(({ person, epoch }) => epoch === person.epoch && !person.disabled)
  }

  /** The session of the request, if it is alive and this request may use it. */
  #session(flow: Flow): Session | undefined {
    const { session } = flow
    return session && !flow.ignoresSession && this.alive(session) ? session : undefined
  }

  alive({ person, epoch, created, until }: Session): boolean {
    return epoch === person.epoch && !person.disabled && this.#now() < Math.min(until, created + ABSOLUTE)
  }

  /** When each factor was proven, as far as it counts for this request. */
  counted(flow: Flow): { pwd?: number; otp?: number } {
    const person = this.person(flow)
    const chain = this.chain(flow)
    const session = this.#session(flow)
    const password = chain.find(({ factor }) => factor === 'pwd')?.at
    const { max_age, second_factor_max_age, prompt } = flow.params
    // OIDC Core §3.1.2.1: max_age=0 is prompt=login.
    const anew = prompt === 'login' || max_age === '0'
    const ages = [second_factor_max_age, this.clients[flow.client]!.second_factor_max_age].flatMap((age) =>
      age === undefined ? [] : [Number(age)],
    )
    const youngest = Math.min(...ages)
    const ofSession = (session && session.person === person ? session.proofs : []).filter(
      ({ factor, at }) =>
        !anew &&
        // A new password drops what was proven before it.
        (password === undefined || at > password) &&
        (max_age === undefined || flow.started - at <= Number(max_age)) &&
        (factor === 'pwd' || (youngest !== 0 && flow.started - at <= youngest)),
    )
    const times: { pwd?: number; otp?: number } = {}
    for (const { factor, at } of [...ofSession, ...chain]) times[factor] = Math.max(times[factor] ?? 0, at)
    return times
  }

  /** Whether this person at this client has to prove a second factor, whatever the request says. */
  needsSecond(person: Person, client: string): boolean {
    if (person.role !== 'standard') return true
    return (
      person.asksAlways ||
      person.reset !== undefined ||
      this.companyEnforces ||
      this.clients[client]!.mfa === 'required'
    )
  }

  /** The question that is open, or `undefined` when a code may be issued. */
  question(flow: Flow): Question | undefined {
    const person = this.person(flow)
    const counted = this.counted(flow)
    if (!person || counted.pwd === undefined) return 'login'
    const second = this.needsSecond(person, flow.client) || this.#asksForSecond(flow)
    if (second && counted.otp === undefined) {
      if (person.app && !this.holdsRecovery(person, flow)) return 'challenge'
      return this.mayEnrol(person, flow) ? 'enrolment' : 'link'
    }
    const provenHere = this.chain(flow).some(({ factor }) => factor === 'otp')
    return provenHere && person.recovery?.acknowledged === false ? 'acknowledgement' : undefined
  }

  /** This request holds the right to enrol by a recovery code. */
  holdsRecovery(person: Person, flow: Flow): boolean {
    const reserved = person.recovery?.reserved
    return reserved?.by === flow && this.#now() < reserved.until
  }

  /** After a reset a password alone enrols nothing. */
  mayEnrol({ reset, epoch }: Person, flow: Flow): boolean {
    if (!reset) return true
    return reset.linked?.by === flow && reset.linked.epoch === epoch && this.#now() < reset.linked.until
  }

  #asksForSecond({ params }: Flow): boolean {
    const ranks = (params['acr_values'] ?? '').split(' ').flatMap((value) => RANKS[value] ?? [])
    return params['second_factor_max_age'] !== undefined || (ranks.length > 0 && Math.min(...ranks) > 1)
  }

  /** What the tokens of this request have to say. */
  claims(flow: Flow): Claims {
    const { pwd, otp } = this.counted(flow)
    const requested = (flow.params['acr_values'] ?? '').split(' ')
    const rank = otp === undefined ? 1 : 3
    const met = requested.filter((value) => (RANKS[value] ?? 9) <= rank).sort((a, b) => RANKS[b]! - RANKS[a]!)
    const alias = requested.some((value) => value in RANKS && value.startsWith('http'))
    const own = otp === undefined ? 'urn:sallyport:acr:1fa' : 'urn:sallyport:acr:2fa-app'
    return {
      sub: this.person(flow)!.id,
      amr: otp === undefined ? ['pwd'] : ['pwd', 'otp', 'mfa'],
      acr: alias ? (met[0] ?? own) : own,
      auth_time: Math.min(pwd!, otp ?? pwd!),
      second_factor_time: otp,
    }
  }

  /** A code was issued: the session was used, except by `prompt=none`. */
  use(flow: Flow): void {
    const { session } = flow.browser
    if (session && flow.params['prompt'] !== 'none') session.until = this.#now() + IDLE
  }

  /** The browser came with its session. One that has ended stays ended. */
  touch(browser: Browser): void {
    const { session } = browser
    if (!session) return
    if (this.#now() >= Math.min(session.until, session.created + ABSOLUTE)) browser.session = undefined
  }

  /** A factor was proven in this request. What was proven by somebody else, or in an older epoch, is over. */
  prove(flow: Flow, person: Person, factor: 'pwd' | 'otp'): void {
    const former = factor === 'pwd' ? [] : this.chain(flow).filter((proof) => proof.person === person)
    flow.proofs = [...former, { person, factor, at: this.#now(), epoch: person.epoch }]
  }

  /** An app was added in this request; by a recovery code, all that was before is over but this request goes on. */
  enrol(flow: Flow, person: Person, secret: string, step: number): void {
    const byRecovery = this.holdsRecovery(person, flow)
    const { pwd } = this.counted(flow)
    // By a recovery code the app and all sessions are over; the password that counted in this request is not.
    const former: Proof[] = byRecovery
      ? pwd === undefined
        ? []
        : [{ person, factor: 'pwd', at: pwd, epoch: person.epoch }]
      : this.chain(flow).filter((proof) => proof.person === person)
    if (person.recovery?.code !== undefined) person.formerRecoveryCodes.push(person.recovery.code)
    if (byRecovery) person.epoch += 1
    person.asksAlways = true
    person.factorVersion += 1
    person.app = { secret, used: new Set([step]) }
    person.recovery = { acknowledged: false }
    person.reset = undefined
    flow.proofs = former.map((proof) => ({ ...proof, epoch: person.epoch }))
    this.prove(flow, person, 'otp')
  }

  /** A code was issued: what was proven in the request is in the browser's session now. */
  finish(flow: Flow): void {
    const { browser } = flow
    const proven = this.chain(flow)
    const person = proven.at(-1)?.person
    if (!person) return
    const { session } = browser
    const password = proven.find(({ factor }) => factor === 'pwd')?.at
    if (session && this.alive(session) && session.person === person) {
      const kept = session.proofs.filter(({ at }) => password === undefined || at > password)
      session.proofs = [...kept, ...proven]
      return
    }
    const now = this.#now()
    const begun = { person, epoch: person.epoch, created: password ?? now, until: now + IDLE, proofs: proven }
    // On the cookie of a dead session: pages that know that one know this one now.
    browser.session = session ? Object.assign(session, begun) : begun
    browser.ends += 1
  }

  changePassword(person: Person, password: string): void {
    person.password = password
    person.epoch += 1
  }

  resetFactors(person: Person): void {
    if (person.recovery?.code !== undefined) person.formerRecoveryCodes.push(person.recovery.code)
    person.app = undefined
    person.recovery = undefined
    person.reset = {}
    person.epoch += 1
    person.factorVersion += 1
  }

  disable(person: Person, disabled: boolean): void {
    if (disabled && !person.disabled) person.epoch += 1
    person.disabled = disabled
  }
}
