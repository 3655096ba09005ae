/**
 * The device flow (RFC 8628) in our look, and what the library leaves open in it: guesses at user codes are counted before
 * they are looked at, a code is answered once, and a device that asks too often is told to slow down.
 *
 * Who may go on is not decided here: after the confirmation the same policy asks as everywhere.
 */
import { randomUUID } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import { type Configuration, errors, type KoaContextWithOIDC, Provider } from 'oidc-provider'
import type { Recorder } from './kit/audit.ts'
import { comesFrom } from './kit/csrf.ts'
import { deviceOf } from './kit/device-cookie.ts'
import { type ErrorCode, InteractionError } from './kit/errors.ts'
import { digest } from './kit/keyring.ts'
import { basePath, networkOf } from './kit/network.ts'
import { againPath, appLink } from './kit/router.ts'
import { isOneOf, pathOf } from './kit/routes.ts'
import { type Screen, seeOther } from './kit/screen.ts'
import type { AccountStore, Counter, PendingStore, ThrottleRule } from './kit/stores.ts'
import type { Completed } from './options.ts'

/** RFC 8628 §3.2: how long device and user code work. */
export const DEVICE_CODE_SECONDS = 10 * 60
/** RFC 8628 §3.2: what a device waits between two polls. */
export const POLL_SECONDS = 5
/** A second of jitter is forgiven. */
const POLLS: ThrottleRule = { kind: 'window', limit: 1, seconds: POLL_SECONDS - 1 }
/** Wrong codes. With 20^8 codes, a thousand guesses in ten minutes find one of a thousand open ones once in five months. */
const OF_A_NETWORK: ThrottleRule = { kind: 'window', limit: 20, seconds: 10 * 60 }
const OF_ALL: ThrottleRule = { kind: 'window', limit: 1000, seconds: 10 * 60 }

/** The library's own names of what is wrong with a user code. */
const WRONG = new Map<string, ErrorCode>([
  ['NoCodeError', 'user_code_missing'],
  ['NotFoundError', 'wrong_user_code'],
  ['ExpiredError', 'user_code_used'],
  ['AlreadyUsedError', 'user_code_used'],
])

type Feature = NonNullable<NonNullable<Configuration['features']>['deviceFlow']>
type OwnSession = { state?: { secret?: string }; accountId?: string; exp?: number; touched?: boolean }

/** `features.deviceFlow` with our pages: where a code is typed, where it is confirmed, and how it ended. */
export function deviceFeature(feature: Feature | undefined, screen: Screen, accounts: AccountStore): Feature {
  const entry = (ctx: KoaContextWithOIDC, error?: InteractionError) => {
    const koa = ctx as unknown as Context
    const { userCode } = koa.state as { userCode?: string }
    const typed = userCode ?? ctx.oidc.params?.['user_code']
    const locals = {
      userCode: typeof typed === 'string' ? typed.slice(0, 40) : '',
      xsrf: (ctx.oidc.session as OwnSession).state?.secret,
      deviceAction: ctx.oidc.urlFor('code_verification'),
    }
    screen.show(koa, { view: 'device', title: 'device.title', locals }, { error })
  }
  return {
    ...feature,
    charset: 'base-20', // no vowels, no digits: no words, no look-alikes
    mask: '****-****',
    deviceInfo: (ctx) => ({ network: networkOf(ctx.ip) }),

    userCodeInputSource(ctx, _form, out, err) {
      const koa = ctx as unknown as Context
      const session = ctx.oidc.session as OwnSession
      const resumed = ctx.oidc.route === 'device_resume' ? ctx.path.split('/').at(-1) : undefined
      // A session that was never saved cannot be saved by the library here.
      if (typeof session.exp !== 'number' && err) session.touched = false
      if (!out && !err) return entry(ctx)
      if (err?.name === 'AbortedError') return screen.message(koa, 'device_denied', { status: 200 })
      const code = WRONG.get(err?.name ?? '') ?? (out?.error === 'already_used' ? 'user_code_used' : undefined)
      if (code) return entry(ctx, new InteractionError(code, { field: 'user_code' }))
      if (out?.error === 'server_error') return screen.message(koa, 'server_error', { status: 500, reference: true })
      if (resumed !== undefined && out?.error === 'invalid_request')
        return seeOther(koa, againPath(ctx.oidc.provider, resumed))
      if (out?.error === 'invalid_request' && typeof session.exp === 'number')
        return entry(ctx, new InteractionError('form_expired', { status: 403 }))
      const client = ctx.oidc.client as Parameters<typeof appLink>[0] | undefined
      const link = client && appLink(client, screen.messages(koa))
      screen.message(koa, 'bad_request', { status: 400, reference: true, link })
    },

    async userCodeConfirmSource(ctx, _form, client, deviceInfo, userCode) {
      const { accountId, state } = ctx.oidc.session as OwnSession
      const account = accountId === undefined ? undefined : await accounts.find(accountId)
      screen.show(
        ctx as unknown as Context,
        {
          view: 'device-confirm',
          title: 'device-confirm.title',
          locals: {
            app: client.clientName ?? client.clientId,
            userCode,
            email: account?.email,
            elsewhere: deviceInfo['network'] !== networkOf(ctx.ip),
            xsrf: state?.secret,
            deviceAction: ctx.oidc.urlFor('code_verification'),
          },
        },
        { clientName: client.clientName ?? client.clientId },
      )
    },

    successSource: (ctx) => screen.message(ctx as unknown as Context, 'device_allowed', { status: 200 }),
  }
}

/** The page where a user code is typed: who may try, from where, how often. */
export function deviceGate(
  provider: Provider,
  screen: Screen,
  { stores, now }: Completed,
  record: Recorder,
): Middleware {
  const path = pathOf(provider, 'code_verification')
  const origin = new URL(provider.issuer).origin

  return async (ctx, next) => {
    if (path === undefined || !isOneOf(ctx.path, path)) return next()
    if (ctx.method !== 'POST') {
      // The library would answer a complete URI (RFC 8628 §3.3.1) with a form that submits itself. A person does.
      if (typeof ctx.query['user_code'] === 'string') ctx.state['userCode'] = ctx.query['user_code']
      ctx.querystring = ''
      return next()
    }

    if (!comesFrom(ctx, origin)) return screen.message(ctx, 'cross_site', { status: 403 })
    if (ctx.cookies.get(provider.cookieName('session'), { signed: true }) === undefined)
      return screen.message(ctx, 'other_browser', {
        status: 400,
        link: { href: basePath(provider.issuer) + path, label: screen.messages(ctx).t('message.again') },
      })

    // A browser that somebody signed in with before is not shut out by strangers.
    const known = deviceOf(ctx) !== undefined
    const counters: Counter[] = [
      { key: `user_code|network|${networkOf(ctx.ip)}`, rule: OF_A_NETWORK },
      ...(known ? [] : [{ key: 'user_code|all', rule: OF_ALL }]),
    ]
    const verdict = await stores.throttle.take(counters, now())
    if (!verdict.allowed) {
      await record(ctx, { event: 'device.user_code', outcome: 'failure', details: { code: 'throttled' } })
      ctx.set('Retry-After', String(verdict.retryAfter))
      const vars = { wait: screen.messages(ctx).duration(verdict.retryAfter) }
      return screen.message(ctx, 'too_many_user_codes', { status: 429, vars })
    }
    await next()

    const { entities, params, session } = (ctx as unknown as KoaContextWithOIDC).oidc
    const { DeviceCode } = entities as { DeviceCode?: { clientId?: string } }
    if (DeviceCode && verdict.counts) await stores.throttle.giveBack(counters, verdict.counts)
    const clientId = DeviceCode?.clientId
    const accountId = session?.accountId
    if (!DeviceCode) await record(ctx, { event: 'device.user_code', outcome: 'failure', accountId })
    else if (ctx.status >= 400) return
    else if (params?.['abort']) await record(ctx, { event: 'device.denied', outcome: 'success', clientId, accountId })
    else if (params?.['confirm'])
      await record(ctx, { event: 'device.confirmed', outcome: 'success', clientId, accountId })
  }
}

const ANSWER = 'device_answer'
type OwnDeviceCode = { jti: string; exp: number; inFlight?: boolean; error?: string; accountId?: string }

/** A device code is answered once: of two people who confirm or refuse it at the same moment one does. */
export function answerOnce(provider: Provider, { stores, now }: Completed): void {
  const prototype = provider.DeviceCode.prototype as unknown as { save(...rest: unknown[]): Promise<unknown> }
  const { save } = prototype
  const answered = new WeakSet<object>()
  prototype.save = async function (this: OwnDeviceCode, ...rest: unknown[]) {
    const ctx = Provider.ctx as KoaContextWithOIDC | undefined
    const answers = ctx?.oidc?.route === 'code_verification' && (this.inFlight || this.error !== undefined)
    if (answers && !answered.has(this)) {
      const mine = randomUUID()
      const entry = { owner: digest(this.jti), purpose: ANSWER, value: mine, expiresAt: this.exp, now: now() }
      if ((await stores.pending.keep(entry)) !== mine)
        throw new errors.CustomOIDCProviderError('already_used', 'the user code was answered already')
      answered.add(this)
    }
    return save.apply(this, rest)
  }
}

/** The code of an interaction whose person has to begin again: it may be typed and confirmed once more. */
export async function reopen(provider: Provider, pending: PendingStore, id: string, now: number): Promise<void> {
  const code = (await provider.DeviceCode.find(id)) as unknown as
    | (OwnDeviceCode & { save(): Promise<unknown> })
    | undefined
  if (!code || code.accountId !== undefined || code.error !== undefined) return
  await pending.take(digest(id), ANSWER, now)
  code.inFlight = false
  await code.save()
}

/** The code of an interaction that ended badly: the device is told at its next poll. */
export async function refuse(provider: Provider, id: string, why: string): Promise<void> {
  const code = (await provider.DeviceCode.find(id)) as unknown as
    | (OwnDeviceCode & { errorDescription?: string; save(): Promise<unknown> })
    | undefined
  if (!code || code.accountId !== undefined || code.error !== undefined) return
  Object.assign(code, { error: 'access_denied', errorDescription: why })
  await code.save()
}

/** Tells devices how often they may ask, and those that ask more often to slow down (RFC 8628 §3.5). */
export function slowDown(provider: Provider, { stores, now }: Completed): Middleware {
  provider.on('device_authorization.success', (_ctx, body: Record<string, unknown>) => {
    body['interval'] = POLL_SECONDS
  })
  return async (ctx, next) => {
    await next()
    const body = ctx.body as { error?: string } | undefined
    if (ctx.status !== 400 || body?.error !== 'authorization_pending') return
    const code = (ctx as unknown as KoaContextWithOIDC).oidc.params?.['device_code']
    const { allowed } = await stores.throttle.take([{ key: `device_poll|${digest(String(code))}`, rule: POLLS }], now())
    if (allowed) return
    const { error, error_description } = new errors.SlowDown()
    ctx.body = { error, error_description }
  }
}
