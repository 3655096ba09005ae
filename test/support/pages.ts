/** Every page a person can meet, each with each of its errors: for the tests in a browser and for the pictures in the docs. */
import Koa, { type Context } from 'koa'
import QRCode from 'qrcode'
import { enrolmentUri } from '../../interactions/factors/totp.ts'
import { loadAssets } from '../../interactions/kit/assets.ts'
import { type ErrorCode, InteractionError } from '../../interactions/kit/errors.ts'
import { securityHeaders } from '../../interactions/kit/headers.ts'
import { loadMessages } from '../../interactions/kit/messages.ts'
import { type Brand, createPages } from '../../interactions/kit/pages.ts'
import type { Shown } from '../../interactions/kit/room.ts'
import { type Around, createScreen, type MessageName, type Screen } from '../../interactions/kit/screen.ts'

/** One page in one state. */
export interface SamplePage {
  /** `<page>` or `<page>-<state>`. */
  name: string
  /** The view it is drawn from. */
  view: string
  /** The field its error is about. */
  field?: string | undefined
  error?: ErrorCode
  draw(screen: Screen, ctx: Context): void
}

/** What the samples are filled with; a test puts hostile text here. */
export interface Texts {
  email: string
  app: string
  brand: Brand
}

export const TEXTS: Texts = {
  email: 'ana@example.com',
  app: 'Payments',
  brand: { name: 'Sallyport', supportContact: 'support@example.com' },
}

const SECRET = 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'
const RECOVERY_CODE = '7K2M-4QXN-90TB-C3HZ-8WDR-P5VE'

interface State {
  code: ErrorCode
  field?: string
  vars?: Record<string, string | number>
  retryAfter?: number
}

/** All pages in all their states. */
export function samplePages({ email, app, brand }: Texts = TEXTS): SamplePage[] {
  const around: Around = {
    clientName: app,
    csrf: 'a-token',
    action: '/posted',
    cancel: { action: '/posted/cancel' },
    different: { action: '/posted/different' },
  }
  const page = (shown: Shown, states: State[] = [], { about = around, name = shown.view } = {}): SamplePage[] => [
    { name, view: shown.view, draw: (screen, ctx) => screen.show(ctx, shown, about) },
    ...states.map(({ code, field, ...options }) => ({
      name: `${name}-${code.replaceAll('_', '-')}`,
      view: shown.view,
      error: code,
      field,
      draw: (screen: Screen, ctx: Context) =>
        screen.show(ctx, shown, { ...about, error: new InteractionError(code, { field, ...options }) }),
    })),
  ]
  const said = (
    name: MessageName,
    options: { link?: { href: string; label: string }; reference?: boolean } = {},
  ): SamplePage => ({
    name: `message-${name.replaceAll('_', '-')}`,
    view: 'message',
    draw: (screen, ctx) => screen.message(ctx, name, { status: 400, ...options }),
  })

  const otpauth = enrolmentUri({ issuer: 'Sallyport', account: email, secret: SECRET })
  const back = { href: 'https://app.example/', label: `Back to ${app}` }
  const { different: _, ...stranger } = around
  const code = (code: ErrorCode, more: Partial<State> = {}): State => ({ code, field: 'code', ...more })

  return [
    ...page(
      { view: 'credentials', title: 'credentials.title', locals: { email: '' } },
      [
        { code: 'email_missing', field: 'email' },
        { code: 'email_invalid', field: 'email' },
        { code: 'too_many_from_network', retryAfter: 60 },
        { code: 'form_expired' },
      ],
      { about: stranger },
    ),
    ...page(
      {
        view: 'credentials-password',
        title: 'credentials-password.title',
        locals: { email, identifierUrl: '/credentials' },
      },
      [
        { code: 'password_missing', field: 'password' },
        { code: 'wrong_credentials', field: 'password' },
        { code: 'too_many_attempts', retryAfter: 30 * 60 },
      ],
      { about: stranger },
    ),
    ...page(
      {
        view: 'enrollment',
        title: 'enrollment.title',
        locals: {
          qr: drawing(otpauth),
          key: SECRET.match(/.{4}/g)!.join(' '),
          otpauth,
          account: `Sallyport: ${email}`,
        },
      },
      [
        code('code_missing'),
        code('code_format'),
        code('wrong_enrollment_code'),
        code('clock_slow', { vars: { minutes: 3 } }),
        code('clock_fast', { vars: { minutes: 1 } }),
        { code: 'setup_expired' },
      ],
    ),
    ...page({ view: 'recovery', title: 'recovery.title', locals: recoveryLocals(email) }, [
      { code: 'acknowledge_missing', field: 'acknowledged' },
      { code: 'recovery_code_replaced' },
    ]),
    ...page(
      {
        view: 'challenge',
        title: 'challenge.title',
        locals: { recoveryUrl: '/challenge-recovery-code', addedOn: 'March 3, 2026' },
      },
      [
        code('code_missing'),
        code('code_format'),
        code('wrong_code'),
        code('wrong_code_tries', { vars: { left: 1 } }),
        code('code_blocked', { retryAfter: 30 * 60 }),
        { code: 'code_disabled' },
        { code: 'already_set_up' },
      ],
    ),
    ...page(
      {
        view: 'challenge-recovery-code',
        title: 'challenge-recovery-code.title',
        locals: { codeUrl: '/challenge' },
      },
      [
        { code: 'recovery_code_missing', field: 'recovery_code' },
        { code: 'wrong_recovery_code', field: 'recovery_code' },
        { code: 'recovery_code_blocked', retryAfter: 30 * 60 },
        { code: 'no_recovery_code' },
      ],
    ),
    ...page({
      view: 'consent',
      title: 'consent.title',
      titleVars: { app },
      locals: { email, scopes: ['openid', 'email', 'offline_access'] },
    }),
    ...page({
      view: 'switch-account',
      title: 'switch-account.title',
      locals: { signedInAs: 'bo@example.com', newAccount: email, xsrf: 'a-token', switchAction: '/posted' },
    }),
    ...page(
      { view: 'logout', title: 'logout.title', locals: { email, xsrf: 'a-token', logoutAction: '/posted' } },
      [],
      {
        about: {},
      },
    ),
    ...page({ view: 'signed-out', title: 'signed-out.title', locals: { clientUri: 'https://app.example/' } }, [], {
      about: { clientName: app },
    }),
    ...page(
      {
        view: 'home',
        title: 'home.title',
        titleVars: { brand: brand.name },
        locals: { discovery: '/.well-known/openid-configuration' },
      },
      [],
      { about: {} },
    ),
    said('expired', { link: back }),
    said('already_done', { link: back }),
    said('other_browser', { link: back }),
    said('cookies'),
    said('too_many_codes', { link: back }),
    said('unavailable', { reference: true }),
    said('busy'),
    said('not_found'),
    said('server_error', { reference: true }),
    said('bad_request', { reference: true }),
    said('unknown_client', { reference: true }),
    said('posted_expired'),
    said('signed_out_elsewhere'),
  ]
}

/** An app that answers `/<name>` with that page, and nothing else but their style sheet, script and icon. */
export function samplesApp(texts: Texts = TEXTS): Koa {
  const messages = loadMessages()
  const assets = loadAssets()
  const screen = createScreen(createPages({ messages, brand: texts.brand, assets }), messages)
  const pages = new Map(samplePages(texts).map((page) => [`/${page.name}`, page]))
  const app = new Koa()
  app.use(securityHeaders(false))
  app.use(assets.serve)
  app.use((ctx) => {
    // One reference for all time: the pictures in the docs change only when a page does.
    ctx.state['requestId'] = '9b2f6c1e-5a74-4f0e-8d33-6f1c0a7be214'
    pages.get(ctx.path)?.draw(screen, ctx)
  })
  return app
}

function recoveryLocals(email: string) {
  return { code: RECOVERY_CODE, email, downloadAction: '/posted/download', date: 'March 3, 2026' }
}

function drawing(text: string): { size: number; path: string } {
  const { modules } = QRCode.create(text, { errorCorrectionLevel: 'M' })
  const dark = Array.from({ length: modules.size ** 2 }, (_, i) => [i % modules.size, Math.floor(i / modules.size)])
    .filter(([x, y]) => modules.get(y!, x!))
    .map(([x, y]) => `M${x! + 4} ${y! + 4}h1v1h-1z`)
  return { size: modules.size + 8, path: dark.join('') }
}
