/** Traces: what came of a response, kept for whoever is asked why a sign-in failed. */
import type { FederationRequest, ThrottleRule, ThrottleStore, TraceStore } from '../kit/stores.ts'
import type { ArrivalRefusal } from './arrival.ts'
import type { Explanation } from './saml/index.ts'

/** What happened with a response: to be counted or logged. Names nobody. */
export interface SamlEvent {
  name: 'saml.response'
  connection: string
  outcome: 'accepted' | 'refused'
  /** The first check that failed, or why somebody does not come in. */
  check?: string | undefined
  /** A dry run. */
  test: boolean
  /** What the person's page shows, and the trace is found by. */
  reference: string
}

/** Whether the person of a dry run could come in. `other_name`: the account has another name at the identity provider. */
export type Prospect = 'known' | 'new' | 'none' | 'other_name' | 'disabled'

/** What a trace says, as JSON. */
export interface TraceText {
  kind: 'sign_in' | 'test'
  outcome: 'accepted' | 'refused'
  /** Why not: a check's name, or an {@link ArrivalRefusal}. */
  code?: string | undefined
  /** In a sentence, where the explanation has none. */
  advice?: string | undefined
  explanation?: Explanation | undefined
  /** Of a dry run: who may see it, with what was tried, and whether the person has an account. */
  test?: { waiter: string; person?: Prospect | undefined } | undefined
}

/** Why nobody comes in though the response is a good one, or before it was looked at. For the trace: people see one page. */
export const REFUSALS: Record<
  ArrivalRefusal | 'connection_state' | 'form' | 'size' | 'request' | 'unsolicited',
  string
> = {
  connection_state: 'The connection is not active: `sallyport connection activate` makes it so.',
  connection_client: 'The connection is for another app.',
  email_domain: 'The person’s address, or the account that the name is linked to, is in no domain of the connection.',
  force_authn: 'The app asks for a new sign-in, and the request to the identity provider did not.',
  max_age: 'The sign-in at the identity provider is older than the app allows.',
  no_account:
    'No user found with the given email address: make an account, or let the connection make them (`--set jit=true`).',
  account_disabled: 'The account is disabled.',
  membership_disabled: 'The person’s membership in the company is disabled.',
  link_taken: 'The address belongs to an account with another name at the identity provider: `sallyport user unlink`.',
  form: 'What was posted is no form.',
  size: 'What was posted is too large.',
  request: 'Nobody waits for this answer, or no longer.',
  unsolicited: 'Nobody asked, and the app of the connection has no `initiate_login_uri` to start at.',
}

/** Whoever waits for the answer of a dry run: a browser, by its cookie, and never an interaction, whose uid has no colon. */
export const TEST = 'test:'

/** Whether a request belongs to a dry run. Its answer signs nobody in: no interaction has its name. */
export const isTest = (request: Pick<FederationRequest, 'interaction'> | undefined): boolean =>
  request?.interaction.startsWith(TEST) === true

/**
 * Of one network and connection, beside the dry runs. Anybody can post what is not signed, and whoever signed in once can post
 * that again: a trace of each would only push out the others.
 */
const FROM_ONE_NETWORK: Readonly<Record<'refused' | 'unsigned', ThrottleRule>> = {
  refused: { kind: 'window', limit: 60, seconds: 60 * 60 },
  unsigned: { kind: 'window', limit: 20, seconds: 60 * 60 },
}

/** What traces stand on. */
export interface TraceParts {
  traces: TraceStore
  throttle: ThrottleStore
  onEvent?: ((event: SamlEvent) => void) | undefined
}

/** Keeps what came of a response, and tells of it. */
export async function keepTrace(
  { traces, throttle, onEvent }: TraceParts,
  trace: {
    reference: string
    connection: string
    told: TraceText
    /** One of the connection's certificates signed. */
    signed: boolean
    network: string
    now: number
  },
): Promise<void> {
  const { reference, connection, told, signed, network, now } = trace
  const { kind, outcome, code: check } = told
  onEvent?.({ name: 'saml.response', connection, outcome, check, test: kind === 'test', reference })
  const shelf = outcome === 'accepted' ? outcome : signed ? 'refused' : 'unsigned'
  if (shelf !== 'accepted' && kind !== 'test') {
    const key = `trace|${shelf}|${connection}|${network}`
    const { allowed } = await throttle.take([{ key, rule: FROM_ONE_NETWORK[shelf] }], now)
    if (!allowed) return
  }
  await traces.keep({ reference, connectionId: connection, at: now, shelf, said: JSON.stringify(told) })
}

/** What a trace says. */
export const readTrace = (said: string): TraceText => JSON.parse(said) as TraceText
