/** The hand-off to a company's identity provider, and back. Answers `login`, as `credentials` does. */
import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { InteractionError } from '../kit/errors.ts'
import { digest } from '../kit/keyring.ts'
import { normaliseEmail } from '../kit/network.ts'
import { type Answer, definePage, type RoomPage, type Visit } from '../kit/room.ts'
import type { Connection, ConnectionStore, FederationStore, ThrottleRule } from '../kit/stores.ts'
import { type ArrivalRefusal, type Arrivals, admit, MULTIPLE } from './arrival.ts'
import { domainOf, serviceProviderOf } from './connection.ts'
import type { Facts } from './saml/index.ts'
import { keepTrace, REFUSALS, readTrace, type TraceParts } from './trace.ts'

/** Seconds that the identity provider has for its answer. */
const ANSWERED_WITHIN = 10 * 60
/** Each request leaves a row. */
const REQUESTS: ThrottleRule = { kind: 'window', limit: 30, seconds: 10 * 60 }
/** The pages. */
const START = 'sso'
const RETURN = 'sso-return'
const OTHER = 'sso-other'

/** What this room stands on. */
export interface FederationParts extends Arrivals, TraceParts {
  connections: ConnectionStore
  federation: FederationStore
  issuer: string
}

/** Where the answer to a question leads the browser that asked. */
export const returnPage = (handle: string): string => `${RETURN}?${new URLSearchParams({ handle })}`

/** Which of `mode` a person of this address, or of the domain in `@domain`, finds at this app. For the identifier page. */
export const companySignIn = (connections: ConnectionStore, issuer: string) => ({
  page: START,
  mode: async (address: string, clientId: string) => (await connectionOf(connections, address, clientId))?.mode,
  async formActions(clientId: string) {
    if (!(await connections.anyFor(clientId))) return []
    // On this machine an identity provider may be there without TLS.
    return issuer.startsWith('https:') ? ['https:'] : ['https:', 'http:']
  },
})

const connectionOf = async (connections: ConnectionStore, address: string, clientId: string) => {
  const domain = domainOf(normaliseEmail(address))
  return domain === '' ? undefined : connections.connectionFor(domain, clientId)
}

/** The pages of this room, for the room that asks for the address. */
export function federation(parts: FederationParts): Record<string, RoomPage> {
  const { connections, federation, throttle, traces, issuer } = parts

  /** By the domain of the address that was typed or hinted at, never by who it is. */
  const connectionFor = ({ identifier: { typed, hinted = '' }, client }: Visit) =>
    connectionOf(connections, typed ?? hinted, client.id)

  /**
   * A signed question, kept until it is answered.
   * @throws {InteractionError} `sso_too_often`
   */
  async function ask(visit: Visit, connection: Connection) {
    const { uid, now, asks, sso } = visit
    const { allowed, retryAfter } = await throttle.take([{ key: `sso|${digest(uid)}`, rule: REQUESTS }], now)
    if (!allowed) throw new InteractionError('sso_too_often', { status: 429, retryAfter })
    const { authnRequest } = await import('./saml/index.ts')
    const relayState = randomBytes(32).toString('base64url')
    const forceAuthn = asks.anew || sso.other !== undefined
    const authnContexts = asks.second ? connection.trustedContexts.filter((context) => context !== MULTIPLE) : []
    const request = authnRequest({
      connection: serviceProviderOf(connection, issuer),
      relayState,
      now,
      forceAuthn,
      authnContexts,
    })
    await federation.keepRequest({
      handle: digest(relayState),
      id: request.id,
      connectionId: connection.id,
      interaction: uid,
      createdAt: now,
      expiresAt: Math.min(now + ANSWERED_WITHIN, visit.expiresAt),
      forceAuthn,
      authnContexts,
    })
    return request
  }

  /** The response was a good one: the trace has what it said, and why nobody comes in by it. */
  async function traceArrival({ reference, network, now }: Visit, facts: Facts, code: ArrivalRefusal) {
    const { connectionId: connection, reference: former } = facts
    const response = former === undefined ? undefined : await traces.find(former, now)
    const { explanation } = response ? readTrace(response.said) : {}
    const told = { kind: 'sign_in', outcome: 'refused', code, advice: REFUSALS[code], explanation } as const
    await keepTrace(parts, { reference, connection, told, signed: true, network, now })
  }

  const sent = ({ sso: { other } }: Visit) => ({ sso: { sent: true, other } })

  async function leave(visit: Visit): Promise<Answer> {
    const connection = await connectionFor(visit)
    if (!connection) return { is: 'turned', page: '' }
    // There the request is on the page itself.
    if (connection.idp.binding === 'post') return { is: 'turned', page: START, outcome: sent(visit) }
    const request = await ask(visit, connection)
    return { is: 'sent', to: request.url, outcome: sent(visit) }
  }

  const handOff = definePage({
    form: z.strictObject({}),

    /** Straight on, but not when somebody has been there and comes back, or has just signed out. */
    async arrive(visit) {
      const connection = await connectionFor(visit)
      const goesOn =
        !connection || (visit.sso.sent !== true && !visit.signedOut && connection.idp.binding === 'redirect')
      return goesOn ? leave(visit) : undefined
    },

    async show(visit) {
      const connection = await connectionFor(visit)
      // Too many: the page's own button says so.
      const request = connection?.idp.binding === 'post' ? await ask(visit, connection).catch(orNone) : undefined
      const post = request?.binding === 'post' ? { url: request.url, fields: request.fields } : undefined
      const { typed, hinted = '' } = visit.identifier
      return {
        view: 'federation',
        title: 'federation.title',
        locals: {
          domain: domainOf(normaliseEmail(typed ?? hinted)),
          identifierUrl: visit.url(),
          ...(post && { post }),
        },
        ...(connection && { formActions: [new URL(connection.idp.ssoUrl).origin] }),
      }
    },

    submit: leave,
  })

  return {
    [START]: handOff,

    [RETURN]: {
      ...handOff,
      /** Only in the browser that has this interaction's cookie, and once. */
      async arrive(visit) {
        const { handle } = visit.query
        if (typeof handle !== 'string' || handle.length > 100) throw new InteractionError('sso_gone')
        const request = await federation.findRequest(handle, visit.now)
        const kept = await federation.takeFacts(handle, visit.uid, visit.now)
        if (kept === undefined || !request) throw new InteractionError('sso_gone')
        const { readFacts } = await import('./saml/index.ts')
        const facts = readFacts(kept)
        const connection = await connections.connection(facts.connectionId)
        const outcome = await admit(parts, { visit, facts, request, connection })
        if (outcome.is === 'other') {
          return { is: 'turned', page: OTHER, outcome: { sso: { sent: true, other: facts.email } } }
        }
        if (outcome.is === 'refused') {
          await traceArrival(visit, facts, outcome.code)
          const details = { code: outcome.code, connection: facts.connectionId }
          const about = outcome.accountId === undefined ? {} : { accountId: outcome.accountId }
          return {
            is: 'refused',
            message: 'sso_refused',
            again: START,
            audit: { event: 'login.sso', ...about, details },
          }
        }
        const { account, made, linked, mfa } = outcome
        const details = { connection: facts.connectionId }
        const about = { accountId: account.id, details }
        return {
          is: 'proved',
          factor: 'fed',
          accountId: account.id,
          securityEpoch: account.securityEpoch,
          at: facts.authnInstant,
          until: facts.sessionNotOnOrAfter,
          company: connection!.company,
          mfa,
          outcome: { sso: { sent: true }, ...(linked && { notice: 'notice.linked' }) },
          audit: [
            ...(made ? [{ event: 'federation.account_created', ...about }] : []),
            ...(linked ? [{ event: 'federation.linked', ...about }] : []),
            { event: 'login.sso', ...about },
          ],
        }
      },
    },

    [OTHER]: definePage({
      form: z.strictObject({ account: z.enum(['expected', 'came'], 'form_invalid') }),
      async arrive({ sso }) {
        return sso.other === undefined ? { is: 'turned', page: '' } : undefined
      },
      async show(visit) {
        const { identifier, sso } = visit
        const connection = await connectionFor(visit)
        const came = sso.other ?? ''
        const locals = { domain: domainOf(came), came, expected: identifier.typed ?? identifier.hinted ?? '' }
        return {
          view: 'federation-other',
          title: 'federation-other.title',
          locals,
          ...(connection && { formActions: [new URL(connection.idp.ssoUrl).origin] }),
        }
      },
      /** Nobody is signed in by this choice: both go to the identity provider again. */
      async submit({ sso: { other } }, { account }) {
        const goesOn = account === 'came' && other !== undefined
        return { is: 'turned', page: START, outcome: goesOn ? { identifier: other, sso: {} } : { sso: { other } } }
      },
    }),
  }
}

function orNone(error: unknown): undefined {
  if (!(error instanceof InteractionError)) throw error
}
