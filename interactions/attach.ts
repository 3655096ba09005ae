/** What has to be done to a Provider after it was made: models, claims of this request, listeners, routes. */
import type { Context } from 'koa'
import { errors, type KoaContextWithOIDC, Provider } from 'oidc-provider'
import { clientRules, type Decided, type TokenFacts } from './configuration.ts'
import type { Decision, Situation } from './decision.ts'
import { answerOnce, deviceGate, refuse, reopen, slowDown } from './device.ts'
import { samlRoutes } from './federation/routes.ts'
import { acceptFormerSecrets } from './former-secrets.ts'
import { createRecorder, type Happened } from './kit/audit.ts'
import { behindTheRequest, holdAnswer } from './kit/behind.ts'
import { digest } from './kit/keyring.ts'
import { basePath } from './kit/network.ts'
import type { Outcome, Room, Rule } from './kit/room.ts'
import { interactionRoutes, type RouterParts } from './kit/router.ts'
import { pathOf } from './kit/routes.ts'
import { requestId, type Screen } from './kit/screen.ts'
import { leaveSignedOut } from './kit/trail.ts'
import { backchannelEvent, type EndingParts, endSessions as endForGood, reasonOf } from './logout.ts'
import { linkRoute } from './mailed-link/routes.ts'
import {
  discovery,
  floodGate,
  formPostPolicy,
  forPeople,
  keepLanguage,
  nobodyToSignOut,
  ownCookies,
  postToGet,
  sessionCookie,
  switchPage,
  unavailable,
} from './middleware.ts'
import type { Completed } from './options.ts'
import {
  acrOf,
  addProof,
  amrOf,
  carriedOver,
  counted,
  merge,
  primaryOf,
  ROOM_OF,
  type SessionFacts,
  sessionAlive,
  signedInBy,
} from './policy.ts'
import { parseClientsOnce } from './registered-clients.ts'

/** What {@link attach} needs besides the provider. */
export interface AttachParts {
  options: Completed
  decided: Decided
  decide: (situation: Situation) => Promise<Decision>
  rooms: Record<(typeof ROOM_OF)[keyof typeof ROOM_OF], Room>
  screen: Screen
}

type OwnSession = SessionFacts & {
  uid?: string
  amr?: string[]
  acr?: string
  loginTs?: number
  authorizations?: unknown
}

/** Makes the provider ours. Call it once, before the first request. */
export function attach(provider: Provider, parts: AttachParts): void {
  const { options, decided, decide, rooms, screen } = parts
  extendModels(provider, decided)
  endSessions(provider, options)
  answerOnce(provider, options)
  useOnce(provider, options)
  parseClientsOnce(provider, options.client)
  acceptFormerSecrets(provider, options)
  claimsOfThisRequest(provider, decided)
  keepProofs(provider, options)
  resumeWithoutAnswer(provider)
  slideIdleness(provider, options)
  const record = createRecorder(options.stores.audit, options.now)
  auditEvents(provider, options, decided, record)

  const rule: Rule = {
    async judge({ client, ...situation }) {
      const { account, alive, open, requirement, proofs } = await decide({
        ...situation,
        client: clientRules({ sallyport: client }),
      })
      const { because, maxAge, rank, thisChainOnly } = requirement
      return {
        account,
        alive,
        open,
        counted: counted(requirement, proofs),
        fedBy: signedInBy(proofs),
        because,
        asks: {
          anew: thisChainOnly || maxAge !== undefined,
          since: maxAge === undefined ? undefined : situation.started - maxAge,
          second: rank >= 2,
        },
      }
    },
    addProof,
    carriedOver,
    room: (prompt) => (Object.hasOwn(ROOM_OF, prompt) ? rooms[ROOM_OF[prompt as keyof typeof ROOM_OF]] : undefined),
  }
  const { stores, keyRing, now, tell } = options
  provider.use(ownCookies(provider))
  const devices = {
    path: basePath(provider.issuer) + (pathOf(provider, 'code_verification') ?? '/'),
    reopen: (id: string) => reopen(provider, stores.pending, id, now()),
    refuse: (id: string, why: string) => refuse(provider, id, why),
  }
  provider.use(unavailable(provider, screen, options))
  provider.use(holdAnswer)
  const people = forPeople(provider)
  provider.use(people(sessionCookie(provider)))
  provider.use(people(discovery()))
  provider.use(people(switchPage(provider, screen, options)))
  provider.use(people(formPostPolicy()))
  provider.use(people(keepLanguage(provider)))
  provider.use(people(nobodyToSignOut(provider)))
  provider.use(people(floodGate(provider, screen, options)))
  provider.use(people(postToGet(provider, screen, options)))
  const ending = (ctx: Context, cid: string): EndingParts => ({
    provider,
    stores,
    now: now(),
    about: { requestId: requestId(ctx), cid },
  })
  /** The person does not wait for the apps. */
  const endSessionsOf: RouterParts['endSessionsOf'] = async (ctx, { accountId, cid, which }) => {
    const sessions = (await stores.artifacts.sessionsOf(accountId, now())).filter(({ uid }) => which(uid))
    const { ended, told } = await endForGood(ending(ctx, cid), sessions)
    const report = (error: Error) => options.onError(error, { requestId: requestId(ctx), where: 'back-channel logout' })
    told.then(({ failed }) => {
      for (const { clientId, why } of failed) report(new Error(`${clientId}: ${why}`))
    }, report)
    return ended
  }
  provider.use(slowDown(provider, options))
  provider.use(people(deviceGate(provider, screen, options, record)))
  const { connections, defaultClient, onEvent } = options
  if (connections) {
    // The identity provider would sign in again at once whoever has just signed out here.
    provider.on('end_session.success', (ctx) => leaveSignedOut(ctx as unknown as Context))
    provider.use(people(samlRoutes({ ...stores, provider, connections, screen, record, defaultClient, onEvent, now })))
  }
  const { mailedLinks: links } = options
  if (links) provider.use(people(linkRoute({ provider, links, screen, now })))
  const routed = { provider, rule, stores, keyRing, screen, record, devices, endSessionsOf, now, tell }
  provider.use(people(interactionRoutes(routed)))
}

/** Own fields of the rows: sessions keep factor times, tokens keep the epoch and the second factor's time. */
function extendModels(provider: Provider, decided: Decided): void {
  const extend = (Model: object, ...more: string[]) => {
    const { IN_PAYLOAD } = Model as { IN_PAYLOAD: string[] }
    Object.defineProperty(Model, 'IN_PAYLOAD', { configurable: true, get: () => [...IN_PAYLOAD, ...more] })
  }
  extend(provider.Session, 'factors', 'fedBy', 'until', 'epoch', 'created', 'used')

  for (const Model of [provider.AuthorizationCode, provider.DeviceCode, provider.RefreshToken, provider.AccessToken]) {
    extend(Model, 'epoch', 'secondFactorTime', 'fedBy')
    const prototype = Model.prototype as unknown as { save(...rest: unknown[]): Promise<unknown> }
    const save = prototype.save
    // The code carries what the decision knew; refresh and access tokens copy it from what they are made of.
    prototype.save = function (this: TokenFacts & { accountId?: string }, ...rest: unknown[]) {
      const ctx = Provider.ctx as KoaContextWithOIDC | undefined
      if (ctx?.oidc && this.epoch === undefined && this.accountId !== undefined)
        Object.assign(this, origin(ctx, decided))
      return save.apply(this, rest)
    }
  }
}

/** The library destroys the row it has read; what another request is about to write of the same session must die too. */
function endSessions(provider: Provider, { stores, now }: Completed): void {
  const prototype = provider.Session.prototype as unknown as { destroy(this: OwnSession): Promise<void> }
  const { destroy } = prototype
  prototype.destroy = async function () {
    if (this.uid !== undefined) await stores.artifacts.endSession(this.uid, now())
    await destroy.call(this)
  }
}

/** Seconds that a DPoP proof may be dated ahead, and then outlive the row that the library keeps of it. */
const DATED_AHEAD = 5 * 60

/**
 * The `jti` of a client assertion (RFC 7523 §3) and of a DPoP proof (RFC 9449 §11.1). The library looks first and writes
 * later: of two at once, both would pass.
 */
function useOnce(provider: Provider, { stores: { artifacts }, now }: Completed): void {
  const model = 'ReplayDetection'
  provider.ReplayDetection.unique = async (iss, jti, exp) => {
    const key = digest(JSON.stringify([iss, jti]))
    await artifacts.save({ model, key, payload: {}, expiresAt: exp + DATED_AHEAD })
    return artifacts.consume(model, key, now())
  }
}

function origin(ctx: KoaContextWithOIDC, decided: Decided): Pick<TokenFacts, 'epoch' | 'secondFactorTime' | 'fedBy'> {
  const decision = decided.settled(ctx)
  if (decision?.claims && decision.account)
    return defined({
      epoch: decision.account.securityEpoch,
      secondFactorTime: decision.claims.second_factor_time,
      fedBy: signedInBy(decision.proofs),
    })
  const { AuthorizationCode, DeviceCode, RotatedRefreshToken, RefreshToken } = ctx.oidc.entities as Record<
    string,
    TokenFacts | undefined
  >
  const source = AuthorizationCode ?? DeviceCode ?? RotatedRefreshToken ?? RefreshToken
  return defined({ epoch: source?.epoch, secondFactorTime: source?.secondFactorTime, fedBy: source?.fedBy })
}

const defined = <T extends object>(object: T) =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: NonNullable<T[K]>
  }

/** `acr`, `amr` and `auth_time` of this request: counted proofs only. The session's own stay what they are. */
function claimsOfThisRequest(provider: Provider, decided: Decided): void {
  for (const name of ['acr', 'amr'] as const)
    Object.defineProperty(provider.OIDCContext.prototype, name, {
      configurable: true,
      get(this: { ctx: object; session?: OwnSession }) {
        return decided.settled(this.ctx)?.claims?.[name] ?? this.session?.[name]
      },
    })

  // auth_time is read through session.authTime(), which knows no request: shadowed on this request's instance.
  provider.on('authorization.accepted', (ctx) => {
    const claims = decided.settled(ctx)?.claims
    if (claims)
      Object.defineProperty(ctx.oidc.session, 'authTime', { configurable: true, value: () => claims.auth_time })
  })
}

/** A resume that nobody answered anything for (typed by hand, the other of two clicks) forgets nothing that was proven. */
function resumeWithoutAnswer(provider: Provider): void {
  provider.on('interaction.ended', ({ oidc }) => {
    const { lastSubmission } = (oidc.entities.Interaction ?? {}) as { lastSubmission?: Outcome }
    if (!oidc.result && lastSubmission) Object.assign(oidc, { result: lastSubmission })
  })
}

/** A session slides with use: a request that was let through. `prompt=none` is no use: nobody need be there. */
function slideIdleness(provider: Provider, { now }: Completed): void {
  provider.on('authorization.accepted', ({ oidc }) => {
    if (!oidc.prompts.has('none')) (oidc.session as unknown as OwnSession).used = now()
  })
}

/** When a chain of interactions ends with a login, its proofs go into the session row. */
function keepProofs(provider: Provider, { limits, now }: Completed): void {
  provider.on('interaction.ended', (ctx) => {
    const outcome = ctx.oidc.result as Outcome | undefined
    const session = ctx.oidc.session as unknown as OwnSession | undefined
    const { login, proofs } = outcome ?? {}
    if (!login || !proofs || !session || login.accountId !== proofs.accountId || session.accountId !== proofs.accountId)
      return

    const { accountId: id, securityEpoch } = proofs
    // What the person's companies say, the decision before has looked at.
    const account = { id, securityEpoch, disabled: false, memberships: [] }
    if (session.uid === outcome?.deadSession || !sessionAlive(session, account, limits, now())) {
      // Signed in again on the cookie of a dead session: nothing of the old one is taken over.
      // Not now: a chain that raised the epoch itself goes on with the password of the session before.
      // Nor when the identity provider says: its sign-in may be older than a session may get.
      session.created = proofs.times.pwd ?? now()
      session.factors = {}
      session.authorizations = undefined
    }
    const factors = merge(session.factors ?? {}, proofs.times)
    session.factors = factors
    if (primaryOf(proofs.times) !== undefined) Object.assign(session, { fedBy: proofs.fedBy, until: proofs.until })
    session.used = now()
    session.epoch = securityEpoch
    session.amr = amrOf(factors)
    session.acr = acrOf(factors)
    session.loginTs = primaryOf(factors) ?? now()
  })
}

/** Rows for what oidc-provider did. Its events are synchronous: a failed write is reported, it cannot undo the event. */
function auditEvents(
  provider: Provider,
  options: Completed,
  decided: Decided,
  record: (ctx: Context, happened: Happened) => Promise<void>,
): void {
  const report = (ctx: KoaContextWithOIDC, happened: Happened) => {
    const oidc = ctx.oidc as KoaContextWithOIDC['oidc'] | undefined
    const uid = (oidc?.entities.Session as { uid?: string } | undefined)?.uid
    const event: Happened = {
      clientId: oidc?.client?.clientId,
      cid: oidc?.entities.Interaction?.cid,
      session: uid && digest(uid),
      ...happened,
    }
    const row = () =>
      record(ctx as unknown as Context, event).catch((error: Error) =>
        options.onError(error, { requestId: requestId(ctx as unknown as Context), where: 'audit' }),
      )
    void behindTheRequest(row, ctx)
  }

  provider.on('interaction.started', (ctx, prompt) => {
    const decision = decided.settled(ctx)
    const reasons = [...prompt.reasons, ...(decision?.requirement.because ?? [])]
    // Nobody has done anything yet: a row for each visitor would only fill the disk. The log has the request.
    if (!decision?.account) return
    report(ctx, { event: `prompt.${prompt.name}`, outcome: 'success', accountId: decision.account.id, reasons })
  })
  provider.on('authorization.success', (ctx) => {
    const decision = decided.settled(ctx)
    const details = decision?.claims && {
      amr: decision.claims.amr,
      acr: decision.claims.acr,
      auth_time: decision.claims.auth_time,
    }
    const accountId = ctx.oidc.session?.accountId
    report(ctx, {
      event: 'authorization',
      outcome: 'success',
      accountId,
      reasons: decision?.requirement.because ?? [],
      details,
    })
  })
  provider.on('authorization.error', (ctx, error) => {
    const accountId = decided.settled(ctx)?.account?.id
    if (accountId !== undefined)
      report(ctx, { event: 'authorization', outcome: 'failure', accountId, reasons: [error.message] })
  })
  provider.on('grant.success', (ctx) => {
    const accountId = ctx.oidc.account?.accountId
    report(ctx, { event: tokenEvent(ctx), outcome: 'success', accountId })
  })
  provider.on('grant.error', (ctx, error) => {
    // A device that waits for its person: no news, every five seconds.
    if (error instanceof errors.AuthorizationPending) return
    if (ctx.oidc.client) report(ctx, { event: tokenEvent(ctx), outcome: 'failure', reasons: [error.message] })
  })
  provider.on('grant.revoked', (ctx) => report(ctx, { event: 'grant.revoked', outcome: 'success' }))
  for (const event of ['backchannel.success', 'backchannel.error'] as const)
    provider.on(event as 'backchannel.error', (ctx, ...rest: unknown[]) => {
      const error = event === 'backchannel.error' ? (rest.shift() as Error) : undefined
      const [client, accountId] = rest as [{ clientId: string }, string]
      if (error)
        options.onError(error, { requestId: requestId(ctx as unknown as Context), where: 'back-channel logout' })
      report(ctx, { ...backchannelEvent(error && reasonOf(error)), clientId: client.clientId, accountId })
    })
  provider.on('end_session.success', (ctx) => {
    report(ctx, { event: 'logout', outcome: 'success', accountId: ctx.oidc.session?.accountId })
  })
}

/** A stable name: strangers may send any `grant_type`. */
function tokenEvent(ctx: KoaContextWithOIDC): string {
  const type = String(ctx.oidc.params?.['grant_type']).replace(/^urn:ietf:params:oauth:grant-type:/, '')
  return ['authorization_code', 'refresh_token', 'client_credentials', 'device_code'].includes(type)
    ? `token.${type}`
    : 'token.unknown'
}

/** A library error for the log: what differs, without what was secret. */
export const describeError = (error: Error): string =>
  error instanceof errors.OIDCProviderError
    ? [error.error, error.error_description, error.error_detail].filter(Boolean).join(': ')
    : error.message
