/** Every page with something on it: each view as it is first shown, and with the error that it can have. */
import Koa from 'koa'
import QRCode from 'qrcode'
import type { Assets } from '../../interactions/kit/assets.ts'
import { contentSecurityPolicy, newNonce, securityHeaders } from '../../interactions/kit/headers.ts'
import type { Page, Pages } from '../../interactions/kit/pages.ts'

/** A view and what it is drawn with. */
export interface Sample {
  view: string
  page: Page
}

const OTPAUTH =
  'otpauth://totp/Sallyport:payor%40acme.example?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Sallyport&algorithm=SHA1&digits=6&period=30'

/** The dark modules of the sample QR code, row by row, without the quiet zone. */
export const modules = QRCode.create(OTPAUTH, { errorCorrectionLevel: 'M' }).modules

const path = Array.from({ length: modules.size ** 2 }, (_, i) => [i % modules.size, Math.floor(i / modules.size)])
  .filter(([x, y]) => modules.get(y!, x!))
  .map(([x, y]) => `M${x! + 4} ${y! + 4}h1v1h-1z`)
  .join('')

const email = 'payor@acme.example'
const flow = {
  clientName: 'Payments',
  csrf: 'csrf-token',
  action: '/here',
  cancel: { action: '/cancel' },
  different: { action: '/different' },
}
const lost = { help: 'Ask an administrator at your company to reset your two-step sign-in.' }
const recovery = { code: '7K2M-4QXN-90TB-C3HZ-8WDR-P5VE', email, downloadAction: '/download', date: 'March 3, 2027' }
const enrollment = {
  qr: { size: modules.size + 8, path },
  key: 'JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP',
  otpauth: OTPAUTH,
  account: `Sallyport: ${email}`,
}
const codeError = {
  message: 'That code did not work. Wait for the next code in your app and enter it.',
  field: 'code',
}

/** By name: the view, or `<view>-error`. */
export const samples: Record<string, Sample> = {
  credentials: {
    view: 'credentials',
    page: { ...flow, title: 'Sign in', email: '' },
  },
  'credentials-error': {
    view: 'credentials',
    page: { ...flow, title: 'Sign in', email: 'payor', error: { message: 'Enter your email address', field: 'email' } },
  },
  'credentials-password': {
    view: 'credentials-password',
    page: { ...flow, title: 'Enter your password', email, identifierUrl: '/identifier' },
  },
  'credentials-password-error': {
    view: 'credentials-password',
    page: {
      ...flow,
      title: 'Enter your password',
      email: 'somebody.with.a.very.long.name.indeed@accounting.department.acme-builders.example',
      identifierUrl: '/identifier',
      error: {
        message: 'The email address or password is not right. Check both and try again.',
        field: 'password',
      },
    },
  },
  enrollment: { view: 'enrollment', page: { ...flow, title: 'Secure Your Account', ...enrollment } },
  'enrollment-error': {
    view: 'enrollment',
    page: { ...flow, title: 'Secure Your Account', ...enrollment, error: codeError },
  },
  challenge: {
    view: 'challenge',
    page: {
      ...flow,
      ...lost,
      title: 'Enter the code from your authenticator app',
      addedOn: 'March 3, 2027',
      recoveryUrl: '/recovery',
    },
  },
  'challenge-error': {
    view: 'challenge',
    page: {
      ...flow,
      ...lost,
      title: 'Enter the code from your authenticator app',
      recoveryUrl: '/recovery',
      error: codeError,
    },
  },
  'challenge-recovery-code': {
    view: 'challenge-recovery-code',
    page: { ...flow, ...lost, title: 'Enter your recovery code', codeUrl: '/code' },
  },
  'challenge-recovery-code-error': {
    view: 'challenge-recovery-code',
    page: {
      ...flow,
      ...lost,
      title: 'Enter your recovery code',
      codeUrl: '/code',
      error: { message: 'That recovery code is not right.', field: 'recovery_code' },
    },
  },
  recovery: { view: 'recovery', page: { ...flow, title: 'Almost There', ...recovery } },
  'recovery-error': {
    view: 'recovery',
    page: {
      ...flow,
      title: 'Almost There',
      ...recovery,
      error: { message: 'Select “I have safely recorded this code” to continue', field: 'acknowledged' },
    },
  },
  consent: {
    view: 'consent',
    page: {
      ...flow,
      title: 'Continue to Payments?',
      email,
      scopes: ['openid', 'email', 'offline_access', 'see what you paid'],
    },
  },
  'consent-error': {
    view: 'consent',
    page: {
      ...flow,
      title: 'Continue to Payments?',
      email,
      scopes: [],
      error: { message: 'This page was open for too long. Try again.' },
    },
  },
  'switch-account': {
    view: 'switch-account',
    page: {
      ...flow,
      title: 'You are signed in with another account',
      signedInAs: 'bo@best.example',
      newAccount: email,
      xsrf: 'xsrf-token',
      switchAction: '/switch',
      interaction: 'the-interaction',
    },
  },
  logout: {
    view: 'logout',
    page: { title: 'Do you want to sign out?', email, xsrf: 'xsrf-token', logoutAction: '/logout' },
  },
  'signed-out': {
    view: 'signed-out',
    page: { title: 'You are signed out', clientName: 'Payments', clientUri: 'https://rp.example' },
  },
  message: {
    view: 'message',
    page: {
      title: 'Something went wrong here',
      text: ['The fault is on our side.', 'Try again. If it keeps happening, ask for help.'],
      link: { href: '/', label: 'Try again' },
      reference: '3f0c1b52-7a31-4a0e-9d0e-2f8f3f1c9b1a',
    },
  },
  home: {
    view: 'home',
    page: { title: 'Sign in to Sallyport', discovery: 'https://id.example/.well-known/openid-configuration' },
  },
}

/** Answers `/<name>` with that sample, and serves what it needs. @param pagesOf the renderer for `/<name>/<kind>` */
export function samplesApp(assets: Assets, pagesOf: (kind: string | undefined) => Pages): Koa {
  return new Koa()
    .use(securityHeaders(false))
    .use(assets.serve)
    .use((ctx) => {
      const [, name = '', kind] = ctx.path.split('/')
      const sample = samples[name]
      if (!sample) return
      const nonce = newNonce()
      ctx.set('Content-Security-Policy', contentSecurityPolicy(nonce, []))
      ctx.type = 'html'
      ctx.body = pagesOf(kind).render(sample.view, { ...sample.page, nonce })
    })
}
