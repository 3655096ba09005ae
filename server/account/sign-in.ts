/**
 * How a person signs in to their account: by an authorization request like that of any app. What comes back is good as long as the
 * session at the provider lives, so whatever ends that (sign-out, "end all sessions", disabling, a new password) ends this at once.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { Context } from 'koa'
import type { Provider } from 'oidc-provider'
import {
  type Account,
  type Artifact,
  digest,
  type SessionFacts,
  type SessionLimits,
  seeOther,
  sessionAlive,
} from '../../interactions/index.ts'
import type { House } from '../open.ts'
import { ACCOUNT_CLIENT, CALLBACK_PATH } from './client.ts'

/** Seconds after which the policy is asked again, and the session moves on with its use. */
const ASKED_AGAIN = 10 * 60
/** Seconds that a sign-in may take. */
const SIGN_IN_SECONDS = 60 * 60

/** Who is signed in, in which session of the provider. */
export interface SignedIn {
  account: Account
  session: Artifact & { uid: string }
  facts: SessionFacts
}

/** What the sign-in stands on. */
export interface SignInParts {
  house: House
  provider: Provider
  limits: SessionLimits
  now: () => number
}

/** The sign-in of the account pages. */
export interface AccountSignIn {
  /** Who this is. A page that is opened is asked for anew after ten minutes; a form counts as long as the session lives. */
  signedIn(ctx: Context): Promise<SignedIn | undefined>
  /** Sends the person to the provider, and then to that page of ours. @param asks more parameters of the request */
  send(ctx: Context, to: string, asks?: Record<string, string>): void
  /** Takes the answer. @returns where to go on, or `undefined` when it is none of this browser's */
  arrive(ctx: Context): Promise<string | undefined>
}

/** What of an authorization code is looked at here. */
interface Code {
  clientId?: string
  accountId?: string
  redirectUri?: string
  codeChallenge?: string
  sessionUid?: string
  consume(): Promise<void>
}

export function accountSignIn({ house, provider, limits, now }: SignInParts): AccountSignIn {
  const { config, database, keyRing } = house
  const issuer = config.SALLYPORT_ISSUER
  const name = (ctx: Context, what: 'account' | 'account-browser') => (ctx.secure ? `__Host-${what}` : what)
  // Sealed rather than signed: the cookies say nothing.
  const cookie = { signed: false, httpOnly: true, sameSite: 'lax', path: '/' } as const

  /** One for all tabs of a browser, so that none of them is in another one's way. */
  function browserOf(ctx: Context): string {
    const known = ctx.cookies.get(name(ctx, 'account-browser'))
    if (known !== undefined && /^[\w-]{43}$/.test(known)) return known
    const fresh = randomBytes(32).toString('base64url')
    ctx.cookies.set(name(ctx, 'account-browser'), fresh, cookie)
    return fresh
  }

  /** What was sealed for that place, or `undefined`. */
  function opened(purpose: string, owner: string, sealed: unknown): Record<string, unknown> | undefined {
    try {
      return JSON.parse(keyRing.open({ purpose, owner }, String(sealed))) as Record<string, unknown>
    } catch {
      return undefined
    }
  }

  async function sessionOf(uid: string): Promise<SignedIn | undefined> {
    const session = await database.artifacts.findByUid('Session', uid, now())
    const facts = session?.payload as SessionFacts | undefined
    const account = await database.accounts.find(facts?.accountId ?? '')
    if (!session || !facts || !account || !sessionAlive(facts, account, limits, now())) return undefined
    return { account, session: { ...session, uid }, facts }
  }

  async function signedIn(ctx: Context): Promise<SignedIn | undefined> {
    const kept = opened('account_session', 'browser', ctx.cookies.get(name(ctx, 'account')))
    if (kept === undefined) return undefined
    if (ctx.method !== 'POST' && now() - Number(kept['at']) > ASKED_AGAIN) return undefined
    return sessionOf(String(kept['uid']))
  }

  return {
    signedIn,

    send(ctx, to, asks = {}) {
      const browser = browserOf(ctx)
      const place = { purpose: 'account_sign_in', owner: digest(browser) }
      const request = {
        client_id: ACCOUNT_CLIENT,
        response_type: 'code',
        redirect_uri: issuer + CALLBACK_PATH,
        scope: 'openid',
        state: keyRing.seal(place, JSON.stringify({ to, at: now() })),
        code_challenge: challengeOf(browser),
        code_challenge_method: 'S256',
        ...asks,
      }
      seeOther(ctx, `${issuer}/auth?${new URLSearchParams(request)}`)
    },

    async arrive(ctx) {
      const browser = browserOf(ctx)
      const began = opened('account_sign_in', digest(browser), ctx.query['state'])
      if (!began || now() - Number(began['at']) > SIGN_IN_SECONDS) return undefined
      // "Back to the app", or too many wrong codes: home again, if there is still somebody.
      if (typeof ctx.query['code'] !== 'string') return (await signedIn(ctx)) ? '/account' : '/'

      const code = (await provider.AuthorizationCode.find(ctx.query['code'])) as Code | undefined
      const isOurs =
        code?.clientId === ACCOUNT_CLIENT &&
        code.redirectUri === issuer + CALLBACK_PATH &&
        code.codeChallenge === challengeOf(browser)
      if (!isOurs) return undefined
      try {
        await code.consume()
      } catch {
        return undefined // used already: the other of two requests went on
      }
      const found = code.sessionUid === undefined ? undefined : await sessionOf(code.sessionUid)
      if (found?.account.id !== code.accountId) return undefined
      const kept = JSON.stringify({ uid: found?.session.uid, at: now() })
      const sealed = keyRing.seal({ purpose: 'account_session', owner: 'browser' }, kept)
      ctx.cookies.set(name(ctx, 'account'), sealed, cookie)
      return String(began['to'])
    },
  }
}

const challengeOf = (verifier: string) => createHash('sha256').update(verifier).digest('base64url')
