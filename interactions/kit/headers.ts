import { randomBytes } from 'node:crypto'
import type { Context, Middleware } from 'koa'
import helmet from 'koa-helmet'

/** A new nonce for the scripts of one response: 128 random bits. */
export const newNonce = (): string => randomBytes(16).toString('base64url')

/**
 * The Content-Security-Policy of a page.
 *
 * @param formActions origins (`https://app.example`, `com.example.app:`) that a form of this page may end at:
 * Chromium applies `form-action` to the redirects after a POST too, so the app's own is needed.
 */
export function contentSecurityPolicy(nonce: string, formActions: string[]): string {
  return [
    "default-src 'none'",
    `script-src 'nonce-${nonce}' 'strict-dynamic'`,
    "style-src 'self'",
    "img-src 'self'",
    "font-src 'self'",
    "connect-src 'self'",
    ["form-action 'self'", ...formActions].join(' '),
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "object-src 'none'",
  ].join('; ')
}

/** Of whatever is no page of ours: it may load, run and send nothing. */
const NOTHING = "default-src 'none'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

/**
 * All security headers. The Content-Security-Policy is the strictest there is; each page sets its own in its place.
 * Koa drops them when an error leaves the app: catch errors in a middleware after this one.
 *
 * @param https whether the issuer is https; only then is Strict-Transport-Security sent
 */
export function securityHeaders(https: boolean): Middleware {
  const headers = headersOf({
    contentSecurityPolicy: false,
    strictTransportSecurity: https && { maxAge: 2 * 365 * 24 * 60 * 60, includeSubDomains: true },
    // `no-referrer` would make our own forms send `Origin: null`.
    referrerPolicy: { policy: 'same-origin' },
    xFrameOptions: { action: 'deny' },
  })
  headers.set('Cache-Control', 'no-store')
  headers.set('Content-Security-Policy', NOTHING)
  headers.set(
    'Permissions-Policy',
    'camera=(), geolocation=(), microphone=(), clipboard-write=(self), publickey-credentials-get=(self), otp-credentials=(self)',
  )
  return (ctx, next) => {
    for (const [name, value] of headers) ctx.res.setHeader(name, value)
    return next()
  }
}

/** What helmet would send with every answer: always the same, so it is asked once. */
function headersOf(options: Parameters<typeof helmet>[0]): Map<string, string> {
  const headers = new Map<string, string>()
  const res = { setHeader: (name: string, value: string) => headers.set(name, value), removeHeader() {} }
  void helmet(options)({ req: {}, res } as unknown as Context, async () => {})
  return headers
}
