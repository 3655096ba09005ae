/**
 * The pages of all rooms: /interaction/:uid and /interaction/:uid/:page. Thin: which room, from the stored interaction,
 * never from the URL; whether its question is still the open one, from the policy; attempts counted before the answer.
 */
import { setTimeout } from 'node:timers/promises'
import { bodyParser } from '@koa/bodyparser'
import type { Context, Middleware } from 'koa'
import type { Provider } from 'oidc-provider'
import { alertsOf } from './alerts.ts'
import type { Recorder } from './audit.ts'
import { checkForm, formToken } from './csrf.ts'
import { deviceOf, keepDevice } from './device-cookie.ts'
import { type ErrorCode, InteractionError } from './errors.ts'
import { digest, type KeyRing } from './keyring.ts'
import type { NoticeFacts, Tell } from './letters.ts'
import type { Messages } from './messages.ts'
import { basePath, networkOf } from './network.ts'
import { openedLink } from './opened-link.ts'
import { goTo } from './parked.ts'
import type { Answer, Attempt, ChainProofs, Judgement, Outcome, RoomPage, Rule, Visit } from './room.ts'
import { type Around, requestId, type Screen, seeOther, speak } from './screen.ts'
import type { Stores, ThrottleVerdict } from './stores.ts'
import { hasSignedOut, leaveTrail, readTrail, successorOf } from './trail.ts'

/** What becomes of a device code (RFC 8628) whose interaction does not come to its end. */
export interface Devices {
  /** The page where a user code is typed. */
  path: string
  /** It may be typed and confirmed once more. */
  reopen(deviceCode: string): Promise<void>
  /** The device is told at its next poll. */
  refuse(deviceCode: string, why: string): Promise<void>
}

/** What the router stands on. */
export interface RouterParts {
  provider: Provider
  rule: Rule
  stores: Stores
  keyRing: KeyRing
  screen: Screen
  record: Recorder
  devices: Devices
  /** Ends those sessions of a person, and has their apps told. @returns how many there were */
  endSessionsOf(
    ctx: Context,
    whose: { accountId: string; cid: string; which: (uid: string | undefined) => boolean },
  ): Promise<number>
  now: () => number
  /** Who is told of what. */
  tell: Tell
}

const FORM_LIMIT = '16kb'
/** Where a failed resume goes. */
const AGAIN = 'again'
/** A twin of a failed request (double click) may be about to finish; it also slows a guesser down. */
const TWIN_MS = 50
const TWIN_LOOKS = 5

type Interaction = Awaited<ReturnType<Provider['interactionDetails']>>

/** Everything about one request to one interaction. */
interface Open {
  interaction: Interaction
  outcome: Outcome
  session: Record<string, unknown> | undefined
  client: { clientId: string; clientName?: string; sallyport?: Record<string, unknown>; [key: string]: unknown }
  started: number
}

/** Where the pages of an interaction live; used for oidc-provider's `interactions.url` too. */
export const interactionPath = (provider: Pick<Provider, 'issuer'>, uid: string, page = ''): string =>
  `${basePath(provider.issuer)}/interaction/${uid}${page && `/${page}`}`

/** Where a browser goes whose resume failed: to the question that is open, or to the beginning. Never round in circles. */
export const againPath = (provider: Pick<Provider, 'issuer'>, uid: string): string =>
  interactionPath(provider, uid, AGAIN)

/** The middleware that answers all interaction pages. */
export function interactionRoutes(parts: RouterParts): Middleware {
  const { provider, rule, stores, keyRing, screen, record, devices, endSessionsOf, now, tell } = parts
  const parse = bodyParser({ enableTypes: ['form'], formLimit: FORM_LIMIT })
  const origin = new URL(provider.issuer).origin
  const alerts = alertsOf(stores, tell)
  const secretOf = (uid: string) => keyRing.mac('form', uid)

  const judge = ({ interaction, session, client, started }: Open, outcome: Outcome) =>
    rule.judge({
      params: interaction.params,
      client: client.sallyport ?? {},
      outcome,
      session,
      cid: interaction.cid,
      started,
    })

  return async (ctx, next) => {
    const match = /^\/interaction\/([\w-]{20,64})(?:\/([\w-]+))?$/.exec(ctx.path)
    if (!match) return next()
    const [, uid = '', segment = ''] = match
    if (ctx.method !== 'GET' && ctx.method !== 'POST') {
      ctx.set('Allow', 'GET, POST')
      return screen.message(ctx, 'bad_request', { status: 405 })
    }

    const open = await find(ctx, uid)
    if (!open) return
    if (segment === AGAIN && ctx.method === 'GET') return again(ctx, open)
    const { interaction, client } = open
    const room = rule.room(interaction.prompt.name)
    const page = room && Object.hasOwn(room.pages, segment) ? room.pages[segment] : undefined
    leave(ctx, open)

    try {
      if (ctx.method === 'POST') {
        await parse(ctx, async () => {}).catch((error: { status?: number }) => {
          if (error.status === 413) throw new InteractionError('too_large', { status: 413 })
          throw new InteractionError('form_invalid', { cause: error })
        })
        const { csrf, ...fields } = (ctx.request.body ?? {}) as Record<string, unknown>
        checkForm(ctx, origin, secretOf(uid), csrf)
        if (segment === 'cancel') return await cancel(ctx, open)
        if (segment === 'different') return await different(ctx, open)
        if (page) return await submit(ctx, open, page, fields)
      } else if (page) return await arrive(ctx, open, segment, page)
    } catch (error) {
      const shown = asInteractionError(error)
      const link = appLink(client, screen.messages(ctx))
      if (shown.code === 'cross_site') return screen.message(ctx, 'cross_site', { status: shown.status, link })
      if (!page) return screen.message(ctx, 'bad_request', { status: shown.status, link })
      // Judged anew: what failed may have failed because something changed meanwhile. Then the page is no longer shown.
      const here = await judge(open, { ...open.outcome, login: undefined })
      if (!asksThis(open, here.open)) return proceed(ctx, open, open.outcome)
      if (!isOffered(page, here)) return notFound(ctx, open)
      return show(ctx, open, segment, here, shown)
    }
    notFound(ctx, open)
  }

  function notFound(ctx: Context, { interaction: { uid } }: Open) {
    screen.message(ctx, 'not_found', {
      status: 404,
      link: { href: interactionPath(provider, uid), label: screen.messages(ctx).t('page.not_found.link') },
    })
  }

  /** GET: shows the page, unless its question is not the open one any more, or it has an answer by itself. */
  async function arrive(ctx: Context, open: Open, segment: string, page: RoomPage) {
    const here = await judge(open, { ...open.outcome, login: undefined })
    if (!asksThis(open, here.open)) return proceed(ctx, open, open.outcome)
    if (!isOffered(page, here)) return notFound(ctx, open)
    if (page.arrive) {
      let answer: Answer | undefined
      try {
        answer = await page.arrive(visitOf(ctx, open, here))
      } catch (error) {
        if (!(error instanceof InteractionError)) throw error
        // The other of two requests for this address may be about to finish.
        if ((await lookAgain(open)) === 'answered') return seeOther(ctx, open.interaction.returnTo)
        throw error
      }
      if (answer) return take(ctx, open, here, answer)
    }
    if (!page.show) return seeOther(ctx, interactionPath(provider, open.interaction.uid))
    await show(ctx, open, segment, here)
  }

  /** POST: counts the attempt, takes the answer, lets the policy say what comes next. */
  async function submit(ctx: Context, open: Open, page: RoomPage, fields: Record<string, unknown>) {
    const here = await judge(open, { ...open.outcome, login: undefined })
    // Answered in another tab, changed rules, a dead epoch: go on to the question that is open.
    if (!asksThis(open, here.open)) return proceed(ctx, open, open.outcome)
    if (!isOffered(page, here)) return notFound(ctx, open)

    const visit = visitOf(ctx, open, here)
    const parsed = page.form.safeParse(fields)
    if (!parsed.success) throw formError(parsed.error.issues[0])
    const attempt = await page.attempt?.(visit, parsed.data)
    const verdict = attempt && (await stores.throttle.take(attempt.counters, visit.now))
    const about = aboutOf(open, here)
    if (attempt && verdict && !verdict.allowed) {
      await record(ctx, { ...about, event: attempt.event, outcome: 'failure', details: { code: 'throttled' } })
      const instead = await attempt.instead?.(verdict.key ?? '')
      if (instead) return take(ctx, open, here, instead)
      throw refused(attempt, verdict)
    }

    let answer: Answer
    try {
      answer = await page.submit(visit, parsed.data, countedBy(attempt, verdict))
    } catch (error) {
      // Nobody looked at the answer, or certainly nothing came of it. A store that is gone cannot give back either: the first
      // error says why.
      if ((!(error instanceof InteractionError) || error.status === 503) && attempt && verdict?.counts)
        await stores.throttle.giveBack(attempt.counters, verdict.counts).catch(() => undefined)
      if (!(error instanceof InteractionError)) throw error
      const question = await lookAgain(open)
      if (question === 'answered') return seeOther(ctx, open.interaction.returnTo)
      const details = { code: error.code, ...(typeof error.cause === 'string' && { cause: error.cause }) }
      if (attempt) await record(ctx, { ...about, event: attempt.event, outcome: 'failure', details })
      if (error.cause === 'otp_replayed' && here.account) await alerts.once(here.account, 'code_replayed', factsOf(ctx))
      if (question === 'closed') return proceed(ctx, open, open.outcome)
      if (attempt?.endsInteraction && verdict?.left === 0 && error.code === page.wrong) return end(ctx, open, here)
      throw withTries(error, page, verdict)
    }

    if (answer.is === 'overtaken') {
      if ((await lookAgain(open)) === 'answered') return seeOther(ctx, open.interaction.returnTo)
      return proceed(ctx, open, open.outcome)
    }
    if (attempt && answer.is !== 'download')
      await stores.throttle.clear(attempt.counters.filter(({ rule }) => rule.kind === 'streak').map(({ key }) => key))
    await take(ctx, open, here, answer)
  }

  /** What every row of the audit about this question says. */
  function aboutOf(open: Open, here: Judgement) {
    return {
      accountId: here.account?.id,
      clientId: open.client.clientId,
      cid: open.interaction.cid,
      reasons: [...interactionReasons(open), ...here.because],
    }
  }

  /** Tells the audit of an answer, and does what it leads to. */
  async function take(ctx: Context, open: Open, here: Judgement, answer: Answer) {
    const notes = 'audit' in answer && answer.audit ? [answer.audit].flat() : []
    for (const { event, accountId, details } of notes)
      await record(ctx, {
        ...aboutOf(open, here),
        ...(answer.is === 'proved' && { accountId: answer.accountId }),
        ...(accountId !== undefined && { accountId }),
        event,
        outcome: answer.is === 'refused' ? 'failure' : 'success',
        details,
      })

    switch (answer.is) {
      case 'download':
        ctx.attachment(answer.name)
        ctx.type = 'text/plain; charset=utf-8'
        ctx.set('Cache-Control', 'no-store')
        ctx.body = answer.text
        return
      case 'turned':
        await keep(open, { ...open.outcome, ...answer.outcome })
        return seeOther(ctx, interactionPath(provider, open.interaction.uid, answer.page))
      case 'sent':
        await keep(open, { ...open.outcome, ...answer.outcome })
        return seeOther(ctx, answer.to)
      case 'refused':
        return screen.message(ctx, answer.message, {
          status: 400,
          link: {
            href: interactionPath(provider, open.interaction.uid, answer.again),
            label: screen.messages(ctx).t('message.again'),
          },
          reference: true,
        })
      case 'overtaken':
        return proceed(ctx, open, open.outcome)
      case 'settled':
        return proceed(ctx, open, { ...open.outcome, notice: undefined, ...answer.outcome })
      case 'proved':
        if (here.account?.id === answer.accountId && here.account.securityEpoch !== answer.securityEpoch)
          await endOthers(ctx, open, answer.accountId)
        return proceed(ctx, open, {
          ...open.outcome,
          notice: undefined,
          ...answer.outcome,
          proofs: withProof(open, answer, here),
        })
    }
  }

  /**
   * The chain's proofs and this one. Proofs of another person are dropped, and those of another epoch than the account
   * had when the question was asked: the proof's own write may have raised it, and then the chain goes on.
   */
  function withProof({ outcome, session }: Open, answer: Answer & { is: 'proved' }, here: Judgement): ChainProofs {
    const { accountId, securityEpoch } = answer
    const former = outcome.proofs
    const seen = here.account?.id === accountId ? here.account.securityEpoch : undefined
    const goesOn = former?.accountId === accountId && former.securityEpoch === seen
    const raised = seen !== undefined && seen !== securityEpoch
    const kept = raised ? rule.carriedOver(here.counted) : goesOn ? former.times : {}
    if (answer.factor === 'fed') {
      const at = Math.min(answer.at, now())
      const times = rule.addProof(kept, 'fed', at)
      const proven = answer.mfa ? rule.addProof(times, 'fed_mfa', at) : times
      return { accountId, securityEpoch, times: proven, fedBy: answer.company, until: answer.until }
    }
    const times = rule.addProof(kept, answer.factor, now())
    if (times.fed === undefined) return { accountId, securityEpoch, times }
    const until = goesOn ? former.until : (session as { until?: number } | undefined)?.until
    return { accountId, securityEpoch, times, fedBy: raised ? here.fedBy : former?.fedBy, until }
  }

  /** The proof raised the epoch: every session but this one is dead, and their apps should know. */
  async function endOthers(ctx: Context, { interaction: { cid, session } }: Open, accountId: string) {
    await endSessionsOf(ctx, { accountId, cid, which: (uid) => uid === undefined || uid !== session?.uid })
  }

  /** Keeps the outcome and lets oidc-provider ask the policy. `login` is submitted only when nothing else is open. */
  async function proceed(ctx: Context, open: Open, outcome: Outcome) {
    const pending: Outcome = { ...outcome, login: undefined }
    const { proofs } = outcome
    const after = await judge(open, pending)
    const finished = !after.open || after.open.reasons[0] === 'login_not_submitted'
    const login = proofs && after.account?.id === proofs.accountId && finished
    if (login) {
      // amr and acr of the session are computed when it is written; these are for the library's own record.
      const ts = proofs.times.pwd ?? proofs.times.fed ?? open.started
      pending.login = { accountId: proofs.accountId, ts, remember: false, amr: [], acr: '' }
      pending.deadSession = after.alive ? undefined : open.interaction.session?.uid
      await alerts.callOff(after.account!, outcome.alert)
      await rememberDevice(ctx, proofs.accountId)
      leave(ctx, open, true)
    } else if (proofs?.times.pwd !== undefined && after.account && outcome.alert?.accountId !== after.account.id)
      pending.alert = await alerts.unlessFinished(after.account, deviceOf(ctx), factsOf(ctx), open.interaction.exp)
    await keep(open, pending)
    seeOther(ctx, open.interaction.returnTo)
  }

  async function keep({ interaction, started }: Open, outcome: Outcome) {
    interaction.result = { ...outcome, started } as NonNullable<Interaction['result']>
    await interaction.persist()
  }

  /** "Back to the app": it gets `access_denied`. */
  async function cancel(ctx: Context, open: Open) {
    await record(ctx, {
      event: 'login.cancelled',
      outcome: 'success',
      clientId: open.client.clientId,
      cid: open.interaction.cid,
      details: { prompt: open.interaction.prompt.name },
    })
    await keep(open, { error: 'access_denied', error_description: 'the person went back to the app' })
    leave(ctx, open, true)
    seeOther(ctx, open.interaction.returnTo)
  }

  /** "Not you?": nothing proven so far counts, neither in this chain nor in this browser's session. */
  async function different(ctx: Context, open: Open) {
    await keep(open, { differentAccount: true })
    seeOther(ctx, open.interaction.returnTo)
  }

  /** Too many wrong codes: the interaction is over, and at a step-up the session; the page leads back to the app. */
  async function end(ctx: Context, open: Open, { account }: Judgement) {
    const { interaction, client, outcome } = open
    if (account) {
      await alerts.callOff(account, outcome.alert)
      await alerts.once(account, 'wrong_codes', factsOf(ctx))
    }
    const { uid, accountId } = interaction.session ?? {}
    if (uid !== undefined && accountId !== undefined)
      await endSessionsOf(ctx, { accountId, cid: interaction.cid, which: (one) => one === uid })
    // Also while a resume renames it, when no row is there to be found.
    if (uid !== undefined) await stores.artifacts.endSession(uid, now())
    await discard(interaction)
    if (interaction.deviceCode !== undefined) await devices.refuse(interaction.deviceCode, 'too many wrong codes')
    await record(ctx, {
      event: 'interaction.ended_by_wrong_codes',
      outcome: 'failure',
      clientId: client.clientId,
      cid: interaction.cid,
      details: { session_ended: uid !== undefined },
    })
    leave(ctx, open, true)
    const href = errorResponse(open, 'access_denied', 'too many wrong codes')
    const link = { href, label: appLink(client, screen.messages(ctx)).label }
    screen.message(ctx, 'too_many_codes', { status: 429, link })
  }

  /**
   * After an answer that failed: is its question still `open`? Else either a twin (the other of two clicks) has written its
   * answer into this interaction, or is about to: `answered`; or it was answered elsewhere: `closed`.
   */
  async function lookAgain(open: Open): Promise<'open' | 'answered' | 'closed'> {
    const { uid, result } = open.interaction
    const before = JSON.stringify(result)
    for (let looks = 0; looks < TWIN_LOOKS; looks++) {
      await setTimeout(TWIN_MS)
      const row = await provider.Interaction.find(uid)
      if (!row || JSON.stringify(row.result) !== before) return 'answered'
      const { open: asked } = await judge(open, { ...open.outcome, login: undefined })
      if (asksThis(open, asked)) return 'open'
    }
    return 'closed'
  }

  /** A browser that signed in here before is throttled less (R32). The cookie stands for no factor. */
  async function rememberDevice(ctx: Context, accountId: string) {
    const hash = keepDevice(ctx)
    const account = (await stores.devices.knows(hash, accountId)) ? undefined : await stores.accounts.find(accountId)
    // Told first: whoever dies in between tells it again, under the same name.
    if (account)
      await stores.outbox.put(
        tell(account, 'new_device', { ...factsOf(ctx), id: digest(`new_device|${hash}|${accountId}`) }),
      )
    await stores.devices.remember(hash, accountId, now())
  }

  async function show(ctx: Context, open: Open, asked: string, here: Judgement, error?: InteractionError) {
    const { interaction } = open
    const { uid } = interaction
    const visit = visitOf(ctx, open, here)
    const { pages } = rule.room(interaction.prompt.name)!
    const segment = pages[asked]?.show ? asked : ''
    const { notice } = open.outcome
    const shown = await pages[segment]!.show!(visit)
    const around: Around = {
      ...(notice !== undefined && { notice: visit.messages.t(notice) }),
      clientName: visit.client.name,
      csrf: formToken(secretOf(uid)),
      action: visit.url(segment),
      cancel: { action: visit.url('cancel') },
      formActions: [...formActionsOf(interaction.params), ...(shown.formActions ?? [])],
      error,
    }
    if (visit.account) around.different = { action: visit.url('different') }
    screen.show(ctx, shown, around)
  }

  /** What a letter says of this request. */
  function factsOf(ctx: Context): NoticeFacts {
    return { now: now(), lang: screen.messages(ctx).lang, ip: ctx.ip, browser: ctx.get('user-agent') || undefined }
  }

  function visitOf(ctx: Context, open: Open, here: Judgement): Visit {
    const { interaction, outcome, client } = open
    const { uid, params } = interaction
    return {
      uid,
      cid: interaction.cid,
      prompt: interaction.prompt.name,
      now: now(),
      expiresAt: interaction.exp,
      client: visitedClient(client),
      messages: screen.messages(ctx),
      account: here.account,
      reasons: here.open?.reasons ?? [],
      offer: here.open?.offer ?? [],
      identifier: { typed: outcome.identifier, hinted: stringOf(params['login_hint']) },
      permissions: permissionsIn(interaction),
      query: ctx.query,
      sso: outcome.sso ?? {},
      signedOut: hasSignedOut(ctx),
      asks: here.asks,
      posted: (ctx.request.body ?? {}) as Record<string, unknown>,
      facts: factsOf(ctx),
      network: networkOf(ctx.ip),
      reference: requestId(ctx),
      device: deviceOf(ctx),
      link: openedLink(ctx),
      url: (page = '') => interactionPath(provider, uid, page),
    }
  }

  function leave(ctx: Context, { interaction: { uid }, client }: Open, done?: true) {
    const { lang: language } = screen.messages(ctx)
    leaveTrail(ctx, interactionPath(provider, uid), { client: client.clientId, language, ...(done && { done }) })
  }

  /** The interaction of this browser, or an answer that says what became of it and leads on. */
  async function find(ctx: Context, uid: string): Promise<Open | undefined> {
    if (!holds(ctx, uid)) return lost(ctx, uid)
    const interaction = await provider.Interaction.find(uid)
    if (!interaction) return lost(ctx, uid)
    speak(ctx, interaction.params)
    const client = await provider.Client.find(String(interaction.params['client_id']))
    if (!client) {
      screen.message(ctx, 'unknown_client', { status: 400 })
      return undefined
    }
    const sessionUid = interaction.session?.uid
    const session = sessionUid === undefined ? undefined : await provider.Session.findByUid(sessionUid)
    if (sessionUid !== undefined && session?.accountId !== interaction.session?.accountId) {
      // The session behind this page ended (idle, signed out in another tab).
      await beginAgain(ctx, interaction as Interaction, client as unknown as Open['client'])
      return undefined
    }
    const last = interaction.lastSubmission as Outcome | undefined
    return {
      interaction: interaction as Interaction,
      outcome: { ...last, ...(interaction.result as Outcome | undefined) },
      session: session as unknown as Record<string, unknown> | undefined,
      client: client as unknown as Open['client'],
      started: last?.started ?? interaction.iat,
    }
  }

  /** This browser was given the interaction's cookie. */
  function holds(ctx: Context, uid: string) {
    return ctx.cookies.get(provider.cookieName('interaction'), { signed: true }) === uid
  }

  /** Hands the cookies of the interaction that came next to a browser which gave up the answer that brought them. */
  async function goOn(ctx: Context, uid: string): Promise<boolean> {
    const next = await successorOf(stores.pending, uid, now())
    if (!next) return false
    const path = interactionPath(provider, next.uid)
    const { pathname: resume } = new URL(next.returnTo)
    const maxAge = Math.max(0, next.exp - now()) * 1000
    const cookie = { signed: true, httpOnly: true, sameSite: 'lax', maxAge } as const
    ctx.cookies.set(provider.cookieName('interaction'), next.uid, { ...cookie, path })
    ctx.cookies.set(provider.cookieName('resume'), next.uid, { ...cookie, path: resume })
    seeOther(ctx, path)
    return true
  }

  /** oidc-provider could not resume. Where the question is still open, nothing is lost; else the request begins again. */
  async function again(ctx: Context, open: Open) {
    const here = await judge(open, { ...open.outcome, login: undefined })
    if (asksThis(open, here.open)) return seeOther(ctx, interactionPath(provider, open.interaction.uid))
    await beginAgain(ctx, open.interaction, open.client)
  }

  /**
   * The row knows the request: back to /auth with it. A request that was pushed or signed is begun by its app: sent by
   * the browser, nobody would vouch for it any more, and it would tell what was not meant for the address bar.
   */
  async function beginAgain(ctx: Context, interaction: Interaction, client: Open['client']) {
    await discard(interaction)
    if (interaction.deviceCode !== undefined) {
      await devices.reopen(interaction.deviceCode)
      return seeOther(ctx, devices.path)
    }
    const { parJti, trusted } = interaction as { parJti?: string; trusted?: string[] }
    if (parJti !== undefined || (trusted ?? []).length > 0)
      return screen.message(ctx, 'expired', { status: 400, link: appLink(client, screen.messages(ctx)) })
    const params = Object.entries(interaction.params).filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string',
    )
    const { pathname } = new URL(provider.urlFor('authorization'))
    await goTo(ctx, stores.pending, pathname, new URLSearchParams(params).toString(), now())
  }

  /** Not by `interaction.destroy()`, which says that somebody else was first: here that is as good. */
  async function discard({ uid }: Interaction) {
    await stores.artifacts.destroy('Interaction', digest(uid), now())
  }

  /** A page whose interaction is over or unknown: the trail says where to go on. */
  async function lost(ctx: Context, uid: string): Promise<undefined> {
    const trail = readTrail(ctx)
    // The first of two clicks may be about to say where it goes on.
    for (let looks = 0; holds(ctx, uid) && looks < (trail?.done ? 1 : TWIN_LOOKS); looks++) {
      if (looks > 0) await setTimeout(TWIN_MS)
      if (await goOn(ctx, uid)) return
    }
    if (trail) speak(ctx, { ui_locales: trail.language })
    // Somebody who has only the address learns which app asked, and nothing else.
    const clientId = trail?.client ?? (await provider.Interaction.find(uid))?.params['client_id']
    const client =
      clientId === undefined
        ? undefined
        : ((await provider.Client.find(String(clientId))) as unknown as Open['client'] | undefined)
    const link = client && appLink(client, screen.messages(ctx))
    // A link that was mailed to somebody who signs in in another browser: they can go on in this one.
    if (!trail && openedLink(ctx)) return void screen.message(ctx, 'link_opened', { status: 200, link })
    if (trail?.done) screen.message(ctx, 'already_done', { status: 400, link })
    else screen.message(ctx, trail ? 'expired' : 'other_browser', { status: 400, link })
  }

  /** The app's redirect URI with an error, for an interaction that oidc-provider knows nothing of any more (OIDC Core §3.1.2.6). */
  function errorResponse({ interaction: { params }, client }: Open, error: string, description: string) {
    const byQuery = params['response_mode'] === undefined || params['response_mode'] === 'query'
    if (params['redirect_uri'] === undefined || !byQuery) return appAddress(client)
    const url = new URL(String(params['redirect_uri']))
    url.searchParams.set('error', error)
    url.searchParams.set('error_description', description)
    if (typeof params['state'] === 'string') url.searchParams.set('state', params['state'])
    url.searchParams.set('iss', provider.issuer)
    return url.href
  }
}

/** The page's question is the one the policy has open. Consent is not the policy's: oidc-provider asks it. */
function asksThis(
  { interaction: { prompt } }: Open,
  open: { prompt: string; reasons: readonly string[] } | undefined,
): boolean {
  if (prompt.name === 'consent') return open === undefined || open.reasons[0] === 'login_not_submitted'
  return open?.prompt === prompt.name && open.reasons[0] !== 'login_not_submitted'
}

/** A page of a method that may not answer is not there: no room can forget to ask. */
const isOffered = ({ method }: RoomPage, { open }: Judgement) =>
  method === undefined || open?.offer.includes(method) === true

const interactionReasons = ({ interaction }: Open): string[] => interaction.prompt.reasons

function formError(issue: { message: string; path: PropertyKey[]; code?: string } | undefined): InteractionError {
  const field = issue?.path[0] === undefined ? undefined : String(issue.path[0])
  const known = issue && /^[a-z_]+$/.test(issue.message)
  return new InteractionError(known ? (issue.message as ErrorCode) : 'form_invalid', { field })
}

function refused(attempt: Attempt, { key = '', retryAfter }: ThrottleVerdict): InteractionError {
  return new InteractionError(attempt.refusal(key, retryAfter), { status: 429, retryAfter })
}

const countedBy = (attempt: Attempt | undefined, verdict: ThrottleVerdict | undefined) => (wanted: string) =>
  verdict?.counts?.[attempt!.counters.findIndex(({ key }) => key === wanted)] ?? 0

/** Tells a person who is about to be made to wait. */
function withTries(error: InteractionError, page: RoomPage, verdict: ThrottleVerdict | undefined): InteractionError {
  const left = verdict?.left
  if (error.code !== 'wrong_code' || page.wrong !== 'wrong_code' || left === undefined || left > 3 || left < 1)
    return error
  return new InteractionError('wrong_code_tries', { field: error.field, vars: { left } })
}

function asInteractionError(error: unknown): InteractionError {
  if (error instanceof InteractionError) return error
  throw error
}

/** The way to the app: where a sign-in starts, else its home, else the origin it is called back at. */
export function appLink(client: Open['client'], { t }: Messages): { href: string; label: string } {
  return { href: appAddress(client), label: t('shell.back', { app: client.clientName ?? client.clientId }) }
}

function appAddress(client: Open['client']): string {
  const redirectUri = (client['redirectUris'] as string[] | undefined)?.[0]
  const href = client['initiateLoginUri'] ?? client['clientUri'] ?? (redirectUri && originOf(redirectUri))
  return String(href ?? '/')
}

/** Where a form of an interaction may end: at the app's redirect URI, if it has one. A device has none. */
export function formActionsOf(params: Record<string, unknown>): string[] {
  const target = params['redirect_uri']
  return typeof target === 'string' ? [originOf(target)] : []
}

/** An origin for `form-action`; a custom scheme stands as `scheme:`. */
export function originOf(uri: string): string {
  const url = new URL(uri)
  return url.origin === 'null' ? url.protocol : url.origin
}

function visitedClient(client: Open['client']): Visit['client'] {
  return {
    id: client.clientId,
    name: client.clientName ?? client.clientId,
    firstParty: client.sallyport?.['first_party'] === true,
    uri: stringOf(client['clientUri']),
    policyUri: stringOf(client['policyUri']),
    tosUri: stringOf(client['tosUri']),
  }
}

/** As the Checks of `consent` have put them into the interaction. */
function permissionsIn({ prompt }: Interaction): Visit['permissions'] {
  const { asked = [], missing = [] } = prompt.details as Partial<Visit['permissions']>
  return { asked, missing }
}

const stringOf = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined)
