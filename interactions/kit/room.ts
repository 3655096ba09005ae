/** The contract of a room: what it is given, what it may answer. Everything a person is asked is one of these. */
import type { z } from 'zod'
import { type ErrorCode, InteractionError } from './errors.ts'
import type { NoticeFacts } from './letters.ts'
import type { Messages } from './messages.ts'
import type { Account, Counter, Method } from './stores.ts'

/**
 * What can be proven, by its name in our bookkeeping. `pwd` and `fed`, a company's sign-in, are primary proofs; the others
 * are second factors. `fed_mfa`: that company's identity provider says so, and is trusted with it.
 */
export type Factor = 'pwd' | 'fed' | 'fed_mfa' | Method

/** When each factor was proven, seconds since 1970. */
export type FactorTimes = Partial<Record<Factor, number>>

/** What was proven in one chain of interactions, and under which security epoch of the account. */
export interface ChainProofs {
  accountId: string
  securityEpoch: number
  times: FactorTimes
  /** The company whose identity provider vouched for `fed`. */
  fedBy?: string | undefined
  /** When it wants the session to end. */
  until?: number | undefined
}

/** A letter that waits, and whose it is. */
export interface WaitingAlert {
  accountId: string
  /** Its id; '' when there is to be none. */
  letter: string
}

/** What the rooms leave in the stored Interaction (`result`, carried on by `lastSubmission`). */
export interface Outcome {
  /** Start of the request: the first /auth of the chain. Ages are measured from here. */
  started?: number | undefined
  proofs?: ChainProofs | undefined
  /** The account whose recovery code this chain has reserved. */
  reservedFor?: string | undefined
  /** The account whose new recovery code this chain has shown, and the person has acknowledged. */
  renewedFor?: string | undefined
  /** Whose mailed link this chain has opened after a reset, and under which security epoch. */
  linkedFor?: Pick<ChainProofs, 'accountId' | 'securityEpoch'> | undefined
  /** The e-mail address typed on the identifier page. */
  identifier?: string | undefined
  /** The company's sign-in of this chain. */
  sso?:
    | {
        /** The person was sent there: not again without being asked. */
        sent?: boolean | undefined
        /** Somebody else came back, with this address: the identity provider is to ask anew. */
        other?: string | undefined
      }
    | undefined
  /** What the next page tells the person: a message key. Until a page is answered. */
  notice?: string | undefined
  /** The letter that tells its owner of this sign-in if it comes to nothing (kit/alerts.ts). */
  alert?: WaitingAlert | undefined
  /** "Not you?": the session in this browser does not count for this request. */
  differentAccount?: boolean | undefined
  /** Submitted to oidc-provider only when nothing is open: the deferred login. */
  login?: { accountId: string; ts: number; remember: false; amr: string[]; acr: string } | undefined
  /** Who said yes to the app, in this request. */
  consent?: { by: string } | undefined
  /** Uid of the session that no longer counted when the login was submitted: nothing of it is taken over. */
  deadSession?: string | undefined
  error?: string | undefined
  error_description?: string | undefined
}

/** The app that asked, as it is registered. */
export interface VisitedClient {
  id: string
  name: string
  firstParty: boolean
  uri?: string | undefined
  policyUri?: string | undefined
  tosUri?: string | undefined
}

/** The visit of one browser to one page of one interaction. */
export interface Visit {
  uid: string
  /** Stable over the whole chain of interactions of one request. */
  cid: string
  /** oidc-provider's prompt. */
  prompt: string
  now: number
  /** When the interaction ends by itself. */
  expiresAt: number
  client: VisitedClient
  /** The person's language, for text that is no page. */
  messages: Messages
  /** Who this is so far: by the proofs of the chain, or by the session. */
  account: Account | undefined
  /** Why the question is open. */
  reasons: readonly string[]
  /** The methods that may answer it. */
  offer: Method[]
  /** The e-mail address typed, or hinted at by the app. */
  identifier: { typed?: string | undefined; hinted?: string | undefined }
  /** What the app asks for, and what of it the person has not agreed to before (Consent in stores.ts). For `consent`. */
  permissions: { asked: string[]; missing: string[] }
  /** The query of the address. */
  query: Readonly<Record<string, unknown>>
  /** The company's sign-in of this chain. */
  sso: NonNullable<Outcome['sso']>
  /** Somebody signed out in this browser just now. */
  signedOut: boolean
  /** What the request asks of a sign-in, whoever signs in. */
  asks: Judgement['asks']
  /** What was just sent and could not be used, so that nobody types it again. Never shown where it may be secret. */
  posted: Record<string, unknown>
  /** Of this request, for letters that tell of it. */
  facts: NoticeFacts
  /** The person's network (IPv4 address, IPv6 /64) as a key for counters. */
  network: string
  /** What a page that refuses shows, for whoever looks for the reason. */
  reference: string
  /** SHA-256 of this browser's device cookie, if it has one. */
  device?: string | undefined
  /** SHA-256 of the token of the mailed link that was opened in this browser, if one was. */
  link?: string | undefined
  /** Where a page of this interaction lives. */
  url(page?: string): string
}

/** What a page shows: the view and its own locals. The kit adds the rest. */
export interface Shown {
  view: string
  /** Message key of the title. */
  title: string
  titleVars?: Record<string, string>
  locals?: Record<string, unknown>
  /** Origins where this page's form may end, besides ours and the app's. */
  formActions?: string[]
}

/** What an answer leads to. A room never says "logged in": it says what was proven, the policy decides. */
export type Answer =
  /** A factor was proven now. `securityEpoch`: the account's, as read before the proof, or as the proof's own write left it. */
  | ({
      is: 'proved'
      accountId: string
      securityEpoch: number
      outcome?: Outcome
      audit?: AuditNote | AuditNote[]
    } & (
      | { factor: Exclude<Factor, 'fed' | 'fed_mfa'> }
      /**
       * `at`: when the identity provider of this company asked; `until`: when it wants the session to end, seconds.
       * `mfa`: it is trusted to have asked for two factors.
       */
      | { factor: 'fed'; at: number; until: number | undefined; company: string; mfa: boolean }
    ))
  /** Nothing was proven; the policy looks again (a reservation, an acknowledgement, a consent). */
  | { is: 'settled'; outcome?: Outcome; audit?: AuditNote }
  /** Another request did it first: the other of two clicks, or another browser. */
  | { is: 'overtaken' }
  /** Another page of the same room. */
  | { is: 'turned'; page: string; outcome?: Outcome; audit?: AuditNote }
  /** An address elsewhere. */
  | { is: 'sent'; to: string; outcome?: Outcome }
  /** A page that says no more than a stranger may know, with a reference to the audit's row. `again`: the page that leads on. */
  | { is: 'refused'; message: 'sso_refused'; again: string; audit: AuditNote }
  /** A text file. */
  | { is: 'download'; name: string; text: string }

/** What the audit says of it. */
export interface AuditNote {
  event: string
  /** Whom it is about, when the answer does not say. */
  accountId?: string
  details?: Record<string, string | number | boolean | string[]>
}

/** What limits the attempts at a page, counted before the answer is looked at. */
export interface Attempt {
  counters: Counter[]
  /** The message when the limit is reached, given the counter's key and the seconds to wait; `Infinity`: closed for good. */
  refusal: (key: string, wait: number) => ErrorCode
  /** The audit event of a refused or wrong answer. */
  event: string
  /** True: the attempt after which a streak waits ends the interaction, and at a step-up the session. */
  endsInteraction?: boolean
  /** An answer in place of the refusal, given the counter's key: for whom the limit is nothing to be told of. */
  instead?: (key: string) => Promise<Answer | undefined>
}

/** One page of a room: the form it takes, what it shows, what an answer does. */
export interface RoomPage<Form = unknown> {
  /** The page is there only while this method may answer the question: to anybody else it is not found, shown or posted to. */
  method?: Method | undefined
  /** The form's fields; an issue's message is the code of the error to show. */
  form: z.ZodType<Form>
  /** What opening the page does, if it does anything: an answer in place of the page. */
  arrive?(visit: Visit): Promise<Answer | undefined>
  /** Without it the page only takes a form: opened by itself it leads to the room's first page, which shows its errors too. */
  show?(visit: Visit): Promise<Shown>
  /** `undefined`: the answer will not be looked at. */
  attempt?(visit: Visit, form: Form): Promise<Attempt | undefined>
  /**
   * @param counted what the counter of a key has counted, this attempt among it; 0 when it is none of this attempt's
   * @throws {InteractionError} the page is shown again with the message
   */
  submit(visit: Visit, form: Form, counted: (key: string) => number): Promise<Answer>
  /** The fresh wrong answers that are told to the person as "tries left". */
  wrong?: ErrorCode
}

/** A room: answers one prompt (policy.ts says which), with one or several pages. `''` is the page at the interaction's own URL. */
export interface Room {
  name: string
  pages: Record<string, RoomPage>
}

/** Checks a page's types where it is written, and forgets its form's type for the router. */
export const definePage = <Form>(page: RoomPage<Form>): RoomPage => page as RoomPage

/** What the policy says of a situation, as far as the kit needs it. */
export interface Judgement {
  account: Account | undefined
  /** The session of this browser counts. */
  alive: boolean
  /** The proofs that count for this request, the session's and the chain's. */
  counted: FactorTimes
  open: { prompt: string; reasons: readonly string[]; offer: Method[] } | undefined
  /** The company whose identity provider vouches for the sign-in that counts. */
  fedBy: string | undefined
  /**
   * What the request asks of a sign-in, whoever signs in. `anew`: the person is to be asked, whatever they proved before;
   * `since`: no proof older than this counts, seconds; `second`: one proof is not enough.
   */
  asks: { anew: boolean; since: number | undefined; second: boolean }
  /** Who raised the requirement, for the audit. */
  because: readonly string[]
}

/** The policy, as the kit is given it: the kit holds no rule. */
export interface Rule {
  judge(visit: {
    params: Record<string, unknown>
    client: Record<string, unknown>
    outcome: Outcome
    session: Record<string, unknown> | undefined
    cid: string
    started: number
  }): Promise<Judgement>
  addProof(chain: FactorTimes, factor: Factor, at: number): FactorTimes
  /** What of the counted proofs a chain keeps that raised the epoch itself. */
  carriedOver(counted: FactorTimes): FactorTimes
  /** The room that answers oidc-provider's prompt. */
  room(prompt: string): Room | undefined
}

/**
 * The person of a visit, for rooms that the policy opens only once it is known who this is.
 * @throws {InteractionError} `form_expired` when nobody is known any more
 */
export function person({ account }: Visit): Account {
  if (!account) throw new InteractionError('form_expired')
  return account
}
