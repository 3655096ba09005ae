/**
 * A dry run: a sign-in at the identity provider that makes no session, links no account and makes no person. It ends on a page
 * that explains what came. Whoever has the link may try it once, in any browser; the page is for the browser that did.
 */
import { randomBytes } from 'node:crypto'
import { bodyParser } from '@koa/bodyparser'
import type { Context } from 'koa'
import type { Provider } from 'oidc-provider'
import type { Recorder } from '../kit/audit.ts'
import { comesFrom } from '../kit/csrf.ts'
import { digest } from '../kit/keyring.ts'
import { basePath } from '../kit/network.ts'
import { type Screen, seeOther } from '../kit/screen.ts'
import type {
  AccountStore,
  Connection,
  ConnectionStore,
  FederationStore,
  LinkStore,
  PendingStore,
  TraceStore,
} from '../kit/stores.ts'
import { nameOf } from './arrival.ts'
import { connectionPath, serviceProviderOf } from './connection.ts'
import type { VerifiedResponse } from './saml/index.ts'
import { type Prospect, readTrace, TEST } from './trace.ts'

/** Seconds that a link is good. */
const LINK_SECONDS = 30 * 60
/** Seconds that the identity provider has for its answer, and the browser for looking at it. */
const ANSWERED_WITHIN = 10 * 60
const LOOKED_AT_MS = 60 * 60 * 1000
const PURPOSE = 'connection_test'

/** What dry runs stand on. */
export interface DryRunParts {
  provider: Provider
  connections: ConnectionStore
  federation: FederationStore
  pending: PendingStore
  traces: TraceStore
  accounts: AccountStore
  links: LinkStore
  screen: Screen
  record: Recorder
  now: () => number
}

/** A link that starts one dry run, within half an hour. Only its hash is kept. */
export async function testLink(
  pending: PendingStore,
  { issuer, connection, now }: { issuer: string; connection: string; now: number },
): Promise<{ url: string; expiresAt: number }> {
  const handle = randomBytes(32).toString('base64url')
  const expiresAt = now + LINK_SECONDS
  await pending.keep({ owner: digest(handle), purpose: PURPOSE, value: connection, expiresAt, now })
  return { url: `${issuer}${connectionPath(connection)}/test?${new URLSearchParams({ handle })}`, expiresAt }
}

/** Where an answer to a dry run leads. */
export const resultPage = (issuer: string, id: string, handle: string, reference: string): string =>
  `${basePath(issuer)}${connectionPath(id)}/test/result?${new URLSearchParams({ handle, reference })}`

/** All that a dry run tries: of a connection that was changed between its beginning and its end nothing is known. */
const triedOf = ({ company, domains, idp, nameIdFormat, attributes }: Connection): string =>
  digest(JSON.stringify([company, domains, idp, nameIdFormat, attributes]))

/** Whoever has this cookie waits for the answer; behind it stands what is tried. */
const waiterOf = (secret: string): string => `${TEST + digest(secret)}:`

/** Whether the person could come in. Reads only. */
export async function personOf(
  { accounts, links }: Pick<DryRunParts, 'accounts' | 'links'>,
  verified: VerifiedResponse,
  connection: Connection,
): Promise<Prospect> {
  const { email, issuer } = verified
  const { company, jit } = connection
  const name = nameOf(verified, connection)
  const linked = name && (await links.find(name))
  const account = linked === undefined ? (await accounts.findByEmail(email))?.account : await accounts.find(linked)
  if (!account) return jit ? 'new' : 'none'
  if (account.disabled) return 'disabled'
  const isOther = linked === undefined && (await links.isNamed(account.id, { company, issuer }))
  return isOther ? 'other_name' : 'known'
}

/** `/saml/:connection/test` and `/saml/:connection/test/result`. */
export function dryRun(parts: DryRunParts) {
  const { provider, connections, federation, pending, traces, screen, record, now } = parts
  const parse = bodyParser({ enableTypes: ['form'], formLimit: 4096 })
  const gone = (ctx: Context) => screen.message(ctx, 'test_link_gone', { status: 400 })
  const cookieName = (ctx: Context) => (ctx.secure ? '__Secure-dry-run' : 'dry-run')
  const pathOf = (id: string) => `${basePath(provider.issuer)}${connectionPath(id)}/test`

  const textOf = (value: unknown) => (typeof value === 'string' && value.length <= 100 ? value : '')
  const usable = (connection: Connection | undefined): connection is Connection =>
    connection !== undefined && connection.state !== 'disabled'

  return {
    /** Asks before it starts: programs that look at links in mail would use it up. */
    async offer(ctx: Context, connection: Connection | undefined) {
      const handle = textOf(ctx.query['handle'])
      const kept = await pending.recall(digest(handle), PURPOSE, now())
      if (!usable(connection) || kept !== connection.id) return gone(ctx)
      const locals = { domain: connection.domains[0], handle, startAction: pathOf(connection.id) }
      screen.show(
        ctx,
        { view: 'federation-test', title: 'federation-test.title', locals },
        { formActions: [new URL(connection.idp.ssoUrl).origin] },
      )
    },

    async start(ctx: Context, connection: Connection | undefined) {
      if (!comesFrom(ctx, new URL(provider.issuer).origin)) return screen.message(ctx, 'cross_site', { status: 403 })
      await parse(ctx, async () => {}).catch(() => {})
      const handle = textOf((ctx.request.body as Record<string, unknown> | undefined)?.['handle'])
      const kept = await pending.take(digest(handle), PURPOSE, now())
      if (!usable(connection) || kept !== connection.id) return gone(ctx)

      const secret = randomBytes(32).toString('base64url')
      const relayState = randomBytes(32).toString('base64url')
      const { authnRequest } = await import('./saml/index.ts')
      const request = authnRequest({
        connection: serviceProviderOf(connection, provider.issuer),
        relayState,
        now: now(),
      })
      await federation.keepRequest({
        handle: digest(relayState),
        id: request.id,
        connectionId: connection.id,
        interaction: waiterOf(secret) + triedOf(connection),
        createdAt: now(),
        expiresAt: now() + ANSWERED_WITHIN,
        forceAuthn: false,
        authnContexts: [],
      })
      ctx.cookies.set(cookieName(ctx), secret, {
        path: pathOf(connection.id),
        httpOnly: true,
        sameSite: 'lax',
        maxAge: LOOKED_AT_MS,
        overwrite: true,
      })
      if (request.binding === 'redirect') return seeOther(ctx, request.url)
      const { url, fields } = request
      const locals = { domain: connection.domains[0], post: { url, fields } }
      screen.show(
        ctx,
        { view: 'federation-test', title: 'federation-test.title', locals },
        { formActions: [new URL(url).origin] },
      )
    },

    /** Only in the browser that began it. A good answer counts as a test once, if nothing was changed since. */
    async result(ctx: Context, connection: Connection | undefined) {
      const { handle, reference } = ctx.query
      const waiter = waiterOf(ctx.cookies.get(cookieName(ctx)) ?? '')
      const trace = await traces.find(textOf(reference), now())
      const told = trace && readTrace(trace.said)
      const isOurs =
        usable(connection) && trace?.connectionId === connection.id && told?.test?.waiter.startsWith(waiter) === true
      if (!isOurs || !told?.test || !told.explanation) return gone(ctx)
      const { explanation, test } = told

      if (
        told.outcome === 'accepted' &&
        (await federation.takeFacts(textOf(handle), test.waiter, now())) !== undefined
      ) {
        const isSame = test.waiter === waiter + triedOf(connection)
        const counts = isSame && (await connections.recordTest?.(connection, now())) === true
        const details = { connection: connection.id, counts }
        await record(ctx, { event: 'connection.tested', outcome: 'success', details })
      }
      screen.show(ctx, {
        view: 'federation-test-result',
        title: 'federation-test-result.title',
        titleVars: { domain: connection.domains[0]! },
        locals: { told: explanation, person: test.person, reference: trace.reference },
      })
    },
  }
}
