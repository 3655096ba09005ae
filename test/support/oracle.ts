/**
 * What the server may believe of whom, written a second time: from the requirements, not from policy.ts, and in other
 * terms. It keeps people, browsers, sessions and requests as the requirements speak of them, and says of each request which
 * question is open and what a token may claim.
 */

/** A second factor. */
export type Second = 'otp' | 'sms'

/** A person with everything that a test knows of them. */
export interface Person {
  id: string
  email: string
  role: 'payor' | 'payee' | 'standard'
  password: string
  /** An operator took the password away: it opens nothing. */
  withdrawn: boolean
  disabled: boolean
  epoch: number
  factorVersion: number
  /** The authenticator app that stands, with the time steps that were accepted. */
  app?: { secret: string; used: Set<number>; added: number } | undefined
  /** The phone that stands, and the numbers that this person has. */
  phone?: { number: string; added: number } | undefined
  numbers: string[]
  recovery?: Recovery | undefined
  /** The factors were reset, and none was added since; `linked`: by a mailed link, that request may enrol. */
  reset?: { linked?: { by: Flow; until: number; epoch: number } | undefined } | undefined
  /** "Always require 2FA": on from the first factor. */
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
  factor: 'pwd' | Second
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
  /** A new recovery code was shown and acknowledged in it. */
  renewed: boolean
  /** The last code by text of each kind. */
  texts: Partial<Record<'challenge' | 'enrolment', TextSent>>
}

/** A code by text that was sent in a request, and is good only there. */
export interface TextSent {
  person: Person
  code: string
  number: string
  at: number
  /** The person's factors then. */
  version: number
  taken: boolean
}

/** What a relying party registered. */
export interface ClientRules {
  mfa: 'required' | 'by_role'
  second_factor_max_age?: number
  /** Its requests may ask that something be set up. */
  self_service?: boolean
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

/** Seconds that a proof lets a person add a factor. */
const WINDOW = 5 * 60
/** Seconds that a code by text is good. */
const TEXT = 5 * 60

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
  /** When the standard users' company begins to demand a second factor, seconds; never without it. */
  companyFrom: number | undefined
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
  counted(flow: Flow): Partial<Record<Proof['factor'], number>> {
    const person = this.person(flow)
    const chain = this.chain(flow)
    const session = this.#session(flow)
    const password = chain.find(({ factor }) => factor === 'pwd')?.at
    const { max_age, second_factor_max_age, prompt } = flow.params
    // OIDC Core §3.1.2.1: max_age=0 is prompt=login.
    const anew = prompt === 'login' || max_age === '0'
    const smallest = (ages: (string | number | undefined)[]) =>
      Math.min(...ages.flatMap((age) => (age === undefined ? [] : [Number(age)])))
    const youngest = smallest([second_factor_max_age, this.clients[flow.client]!.second_factor_max_age])
    // Who has no factor to prove gives the password once more before the first is set up.
    const oldest = smallest([max_age, this.#wants(flow) && person && !holdsAny(person) ? WINDOW : undefined])
    const ofSession = (session && session.person === person ? session.proofs : []).filter(
      ({ factor, at }) =>
        !anew &&
        // A new password drops what was proven before it.
        (password === undefined || at > password) &&
        flow.started - at <= oldest &&
        (factor === 'pwd' || (youngest !== 0 && flow.started - at <= youngest)),
    )
    const times: Partial<Record<Proof['factor'], number>> = {}
    for (const { factor, at } of [...ofSession, ...chain]) times[factor] = Math.max(times[factor] ?? 0, at)
    return times
  }

  /** Whether this person at this client has to prove a second factor, whatever the request says. */
  needsSecond(person: Person, client: string): boolean {
    if (person.role !== 'standard') return true
    const enforced = this.companyFrom !== undefined && this.#now() >= this.companyFrom
    return person.asksAlways || person.reset !== undefined || enforced || this.clients[client]!.mfa === 'required'
  }

  /** The second factors that this person may use, for what the request asks. Payors: the app alone. */
  allowed(person: Person, flow: Flow): Second[] {
    return person.role === 'payor' || this.#rank(flow) === 3 ? ['otp'] : ['otp', 'sms']
  }

  /** The question that is open, `refused` when there is none that would do, or `undefined` when a code may be issued. */
  question(flow: Flow): Question | 'refused' | undefined {
    const person = this.person(flow)
    const wanted = this.#wants(flow)
    if (person && wanted === 'sms' && !this.allowed(person, flow).includes('sms')) return 'refused'
    const counted = this.counted(flow)
    if (!person || counted.pwd === undefined) return 'login'
    const allowed = this.allowed(person, flow)
    const byRecovery = this.holdsRecovery(person, flow)
    const enrolment = this.mayEnrol(person, flow) ? 'enrolment' : 'link'
    const needs = this.needsSecond(person, flow.client) || this.#rank(flow) > 1
    if (needs && !allowed.some((factor) => counted[factor] !== undefined)) {
      if (byRecovery) return 'enrolment'
      return !allowed.some((factor) => holds(person, factor)) && this.mayAdd(person, flow) ? enrolment : 'challenge'
    }
    if (wanted && !this.#isSetUp(person, flow, wanted)) {
      if (byRecovery) return 'enrolment'
      if (!this.mayAdd(person, flow)) return 'challenge'
      if (wanted !== 'recovery_code') return enrolment
      if (holdsAny(person)) return 'acknowledgement'
    }
    const provenHere = this.chain(flow).some(({ factor }) => factor !== 'pwd')
    return provenHere && person.recovery?.acknowledged === false ? 'acknowledgement' : undefined
  }

  /** Never on a password alone: somebody who has a factor proves one in this request first. */
  mayAdd(person: Person, flow: Flow): boolean {
    const isFresh = ({ factor, at }: Proof) => factor !== 'pwd' && holds(person, factor) && this.#now() - at <= WINDOW
    return !holdsAny(person) || this.chain(flow).some((proof) => proof.person === person && isFresh(proof))
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

  /** Whether this code by text is right: the newest one of this request, young, not taken, and of this person's factors. */
  isText(flow: Flow, purpose: 'challenge' | 'enrolment', person: Person, code: string | undefined): boolean {
    const sent = flow.texts[purpose]
    return (
      sent !== undefined &&
      sent.person === person &&
      sent.code === code &&
      !sent.taken &&
      sent.version === person.factorVersion &&
      this.#now() < sent.at + TEXT
    )
  }

  #wants({ client, params }: Flow): 'otp' | 'sms' | 'recovery_code' | undefined {
    return this.clients[client]!.self_service ? (params['set_up'] as 'otp' | undefined) : undefined
  }

  /** Whatever stood before is to be replaced. */
  #isSetUp({ app, phone }: Person, { started, renewed }: Flow, wanted: 'otp' | 'sms' | 'recovery_code'): boolean {
    if (wanted === 'recovery_code') return renewed
    const added = wanted === 'otp' ? app?.added : phone?.added
    return added !== undefined && added >= started
  }

  /** What the request itself asks for: a list is a set of alternatives. */
  #rank({ params }: Flow): number {
    const ranks = (params['acr_values'] ?? '').split(' ').flatMap((value) => RANKS[value] ?? [])
    return Math.max(ranks.length > 0 ? Math.min(...ranks) : 0, params['second_factor_max_age'] === undefined ? 0 : 2)
  }

  /** What the tokens of this request have to say. */
  claims(flow: Flow): Claims {
    const { pwd, otp, sms } = this.counted(flow)
    const requested = (flow.params['acr_values'] ?? '').split(' ')
    const rank = otp !== undefined ? 3 : sms !== undefined ? 2 : 1
    const met = requested.filter((value) => (RANKS[value] ?? 9) <= rank).sort((a, b) => RANKS[b]! - RANKS[a]!)
    const alias = requested.some((value) => value in RANKS && value.startsWith('http'))
    const own = `urn:sallyport:acr:${['1fa', '2fa', '2fa-app'][rank - 1]}`
    const seconds = [otp, sms].filter((at) => at !== undefined)
    return {
      sub: this.person(flow)!.id,
      amr: [
        'pwd',
        ...(otp === undefined ? [] : ['otp']),
        ...(sms === undefined ? [] : ['sms']),
        ...(rank > 1 ? ['mfa'] : []),
      ],
      acr: alias ? (met[0] ?? own) : own,
      auth_time: Math.min(pwd!, ...seconds),
      second_factor_time: seconds.length > 0 ? Math.max(...seconds) : undefined,
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
  prove(flow: Flow, person: Person, factor: Proof['factor']): void {
    const former = factor === 'pwd' ? [] : this.chain(flow).filter((proof) => proof.person === person)
    flow.proofs = [...former, { person, factor, at: this.#now(), epoch: person.epoch }]
  }

  /** A factor was added in this request; by a recovery code, all that was before is over but this request goes on. */
  enrol(flow: Flow, person: Person, factor: { app: { secret: string; step: number } } | { phone: string }): void {
    const byRecovery = this.holdsRecovery(person, flow)
    const { pwd } = this.counted(flow)
    // By a recovery code all factors and sessions are over; the password that counted in this request is not.
    const former: Proof[] = byRecovery
      ? pwd === undefined
        ? []
        : [{ person, factor: 'pwd', at: pwd, epoch: person.epoch }]
      : this.chain(flow).filter((proof) => proof.person === person)
    if (person.recovery?.code !== undefined) person.formerRecoveryCodes.push(person.recovery.code)
    if (byRecovery) person.epoch += 1
    person.asksAlways = true
    person.factorVersion += 1
    if (byRecovery) person.app = person.phone = undefined
    const added = this.#now()
    if ('app' in factor) person.app = { secret: factor.app.secret, used: new Set([factor.app.step]), added }
    else person.phone = { number: factor.phone, added }
    person.recovery = { acknowledged: false }
    person.reset = undefined
    flow.proofs = former.map((proof) => ({ ...proof, epoch: person.epoch }))
    this.prove(flow, person, 'app' in factor ? 'otp' : 'sms')
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
    person.withdrawn = false
    person.epoch += 1
  }

  withdrawPassword(person: Person): void {
    person.withdrawn = true
    person.epoch += 1
  }

  resetFactors(person: Person): void {
    if (person.recovery?.code !== undefined) person.formerRecoveryCodes.push(person.recovery.code)
    person.app = person.phone = undefined
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

const holds = ({ app, phone }: Person, factor: Second): boolean => (factor === 'otp' ? app : phone) !== undefined
const holdsAny = (person: Person): boolean => holds(person, 'otp') || holds(person, 'sms')
