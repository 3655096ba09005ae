/**
 * What a person would be asked at an app, and why: the one decision (policy.ts), walked through as if every question were
 * answered rightly. Pure; it decides nothing itself.
 */
import type { Factor, FactorTimes } from './kit/room.ts'
import type { Account, Method } from './kit/stores.ts'
import {
  type Claims,
  type ClientRules,
  type ConsentReason,
  claimsOf,
  consentReasons,
  type Open,
  openReasons,
  type PromptName,
  type Proofs,
  type Reason,
  type Requirement,
  ROOM_OF,
  requirement,
  type Subject,
  signedInBy,
} from './policy.ts'

/** One question. */
export interface Asked {
  prompt: PromptName | 'consent'
  room: string
  reasons: (Reason | ConsentReason)[]
  /** The same in plain words. */
  why: string[]
  /** What may be chosen from. */
  methods?: Method[]
}

/** What would happen. */
export interface Explanation {
  /** What the request needs of this person. */
  requirement: Requirement
  /** In order. Empty: nothing is asked. */
  asked: Asked[]
  /** Why no code is issued in the end, in a sentence. */
  impossible?: string | undefined
  /** What the tokens say then; `undefined` when there are none. */
  claims?: Pick<Claims, 'amr' | 'acr'> | undefined
}

/** What is to be explained. */
export interface Question {
  /** Of the authorization request, as oidc-provider has them: texts. */
  params: Record<string, unknown>
  client: ClientRules & { isPublic: boolean; redirectUri: string | undefined }
  account: Account
  /** Without one nobody can prove the first factor. */
  hasPassword: boolean
  /** There was one, and it was taken away. */
  passwordWithdrawn?: boolean | undefined
  /** The company whose identity provider signs this person in at this app, in place of a password. */
  company?: string | undefined
  /** The live session; `undefined`: there is none. */
  session?: FactorTimes | undefined
  /** Permissions that the app asks for, and those that the person agreed to before. */
  permissions: { asked: readonly string[]; agreed: readonly string[] }
  /** The second factors that the server can ask for. */
  available: readonly Method[]
  /** Seconds since 1970. */
  now: number
}

/** Why something is asked, in plain words. */
export const REASON_WORDS: Record<Reason | ConsentReason, string> = {
  unreachable: 'what the app asks for cannot be reached',
  no_session: 'nobody is signed in in this browser',
  different_account: 'another account was asked for',
  hinted_account: 'the app asks for another person',
  login_prompt: 'the app asks for a new sign-in (prompt=login)',
  max_age: 'the sign-in is older than the app allows (max_age)',
  login_not_submitted: 'the sign-in is about to be finished',
  second_factor_missing: 'a second factor is needed, and none was proven',
  second_factor_stale: 'the second factor was proven longer ago than the app allows',
  second_factor_fresh: 'the app asks for a new sign-in, and that for a second factor',
  prove_before_enrolment: 'before a factor is added, one that exists is proven',
  mailed_link_missing: 'their factors were reset: a link that is mailed to them comes before a new one',
  mfa_not_enrolled: 'a second factor is needed, and the person has none that would do',
  enrolment_requested: 'the person wants to add or replace a second factor',
  recovery_code_requested: 'the person wants a new recovery code',
  recovery_code_reserved: 'a recovery code was given: a new factor takes the place of the lost one',
  recovery_code_unacknowledged: 'the person has not said yet that they recorded their recovery code',
  consent_prompt: 'the app asks for it (prompt=consent)',
  redirect_not_bound: 'nobody can tell which program listens at the redirect URI',
  consent_missing: 'a third party asks for what the person has not agreed to',
}

/** More prompts than a sign-in can have: the walk always ends. */
const MOST = 12

/** Walks through a sign-in in which every answer is right. */
export function explain(question: Question): Explanation {
  const { params, client, account, company, session, permissions, available, now } = question
  const chain: FactorTimes = {}
  const proofs: Proofs = {
    session: session ?? {},
    chain,
    started: now,
    unsubmitted: false,
    fedBy: { session: company, chain: company },
  }
  let known: Subject | undefined
  const subject = (): Subject => ({
    id: account.id,
    enrolled: account.enrolled,
    reserved: false,
    unacknowledged: account.recoveryCode?.acknowledged === false,
    reset: account.factorReset?.open === true,
  })
  if (session && !account.disabled) known = subject()
  const neededBy = (who: Account | undefined) => requirement(params, client, who, available, now, signedInBy(proofs))
  const asked: Asked[] = []
  const ask = (prompt: Asked['prompt'], reasons: Asked['reasons'], methods: Method[] = []) =>
    asked.push({
      prompt,
      room: prompt === 'login' && company !== undefined ? 'federation' : ROOM_OF[prompt],
      reasons,
      why: reasons.map((reason) => REASON_WORDS[reason]),
      ...(methods.length > 0 && { methods }),
    })
  const prove = (factor: Factor) => {
    chain[factor] = now
    proofs.unsubmitted = true
  }
  const ended = (impossible: string): Explanation => ({ requirement: neededBy(account), asked, impossible })

  for (let step = 0; step < MOST; step++) {
    const needed = neededBy(known && account)
    const open = openReasons(needed, known, proofs, now)
    if (!open) {
      const reasons = consentReasons({
        client,
        isPublic: client.isPublic,
        redirectUri: client.redirectUri,
        prompted: String(params['prompt'] ?? '')
          .split(' ')
          .includes('consent'),
        asked: permissions.asked,
        agreed: permissions.agreed,
        confirmed: false,
      })
      if (reasons.length > 0) ask('consent', reasons)
      const { amr, acr } = claimsOf(needed, proofs)
      return { requirement: needed, asked, claims: { amr, acr } }
    }
    const reason = open.reasons[0]!
    if (reason === 'unreachable') return ended(`${needed.unreachable}: the app gets unmet_authentication_requirements`)
    if (reason === 'login_not_submitted') {
      proofs.unsubmitted = false
      continue
    }
    ask(open.prompt, open.reasons, open.offer)
    const problem = answer(open, question)
    if (problem !== undefined) return ended(problem)
    if (open.prompt === 'login') {
      known = subject()
      prove(company === undefined ? 'pwd' : 'fed')
    } else if (open.prompt === 'recovery_ack') known = { ...known!, unacknowledged: false }
    else if (open.prompt === 'mfa_link') known = { ...known!, linked: true }
    else {
      const method = open.offer[0]!
      prove(method)
      if (open.prompt === 'mfa_enroll') {
        // A recovery code is shown, which waits to be acknowledged.
        known = { ...known!, enrolled: { ...known!.enrolled, [method]: now }, unacknowledged: true }
      }
    }
  }
  return ended('the questions do not end: please report this')
}

/** Why this person cannot answer. */
function answer(open: Open, { account, company, hasPassword, passwordWithdrawn }: Question): string | undefined {
  if (open.prompt !== 'login') return undefined
  if (account.disabled) return 'the account is disabled: no sign-in is right'
  if (!hasPassword && company === undefined)
    return passwordWithdrawn
      ? 'the password was taken away: "Forgot your password?" brings a new one'
      : 'the account has no password'
  return undefined
}
