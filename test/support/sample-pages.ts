/** Every page as it is first shown, and with every error that it can show. The types see to it that no error code and no message page is left out. */

import Koa from 'koa'
import QRCode from 'qrcode'
import { drawing } from '../../interactions/enrollment/index.ts'
import type { Explanation } from '../../interactions/federation/saml/index.ts'
import { loadAssets } from '../../interactions/kit/assets.ts'
import type { Brand } from '../../interactions/kit/brand.ts'
import { type ErrorCode, InteractionError } from '../../interactions/kit/errors.ts'
import { contentSecurityPolicy, newNonce, securityHeaders } from '../../interactions/kit/headers.ts'
import { loadLanguages, type Messages, type Vars } from '../../interactions/kit/messages.ts'
import { createPages, type Page } from '../../interactions/kit/pages.ts'
import { type MessageName, sentence } from '../../interactions/kit/screen.ts'

/** A view and what it is drawn with. */
export interface Sample {
  view: string
  page: Page
  /** What went wrong. */
  code?: ErrorCode
}

const OTPAUTH =
  'otpauth://totp/Sallyport:payor%40acme.example?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Sallyport&algorithm=SHA1&digits=6&period=30'

/** The dark modules of the sample QR code, row by row, without the quiet zone. */
export const modules = QRCode.create(OTPAUTH, { errorCorrectionLevel: 'M' }).modules

/** March 3, 2027, seconds. */
const DAY = Date.UTC(2027, 2, 3) / 1000

const email = 'payor@acme.example'
const longEmail = 'somebody.with.a.very.long.name.indeed@accounting.department.acme-builders.example'
const app = { clientName: 'Payments' }
const flow = { ...app, csrf: 'csrf-token', action: '/here', cancel: { action: '/cancel' } }
const known = { ...flow, different: { action: '/different' } }

const own = { csrf: 'csrf-token', action: '/here' }

/** A view as it is first shown. `title`: the variables of its title. */
interface First {
  view: string
  title?: Vars
  /** Key of its title, where it is not the view's. */
  heading?: string
  locals: object
}

const FINGERPRINT = Array.from({ length: 32 }, (_, index) => (index * 7 + 16).toString(16).toUpperCase()).join(':')
/** Of a good response. */
const EXPLAINED: Explanation = {
  accepted: true,
  provider: 'Microsoft Entra ID',
  at: DAY,
  signatures: [{ element: 'Assertion', method: 'rsa-sha256', digest: 'sha256', certificate: FINGERPRINT }],
  addresses: [
    { what: 'issuer', found: ['https://sts.windows.net/1-2/'], expected: 'https://sts.windows.net/1-2/', fits: true },
    {
      what: 'recipient',
      found: ['https://login.example.com/saml/acme-sso/acs'],
      expected: 'https://login.example.com/saml/acme-sso/acs',
      fits: true,
    },
  ],
  times: [{ what: 'valid_until', at: DAY + 300, seconds: 300 }],
  nameId: { value: 'a…@acme.example', format: 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress' },
  authnContexts: ['urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport'],
  attributes: {
    mapped: [{ as: 'email', name: 'mail', value: 'a…@acme.example' }],
    missing: [],
    others: ['http://schemas.microsoft.com/identity/claims/tenantid'],
  },
  failed: [],
}

const VIEWS = {
  credentials: { view: 'credentials', locals: { ...flow, email: '' } },
  'credentials-password': { view: 'credentials-password', locals: { ...flow, email, identifierUrl: '/identifier' } },
  federation: { view: 'federation', locals: { ...flow, domain: 'acme.example', identifierUrl: '/identifier' } },
  'federation-other': {
    view: 'federation-other',
    locals: { ...flow, domain: 'acme.example', came: 'bo@acme.example', expected: email },
  },
  'federation-test': {
    view: 'federation-test',
    locals: { ...flow, domain: 'acme.example', handle: 'handle', startAction: '/start' },
  },
  'federation-test-result': {
    view: 'federation-test-result',
    title: { domain: 'acme.example' },
    locals: { told: EXPLAINED, person: 'known', reference: '3f0c1b52-7a31-4a0e-9d0e-2f8f3f1c9b1a' },
  },
  enrollment: {
    view: 'enrollment',
    locals: {
      ...known,
      qr: drawing(OTPAUTH),
      key: 'JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP',
      otpauth: OTPAUTH,
      account: `Sallyport: ${email}`,
    },
  },
  recovery: {
    view: 'recovery',
    locals: {
      ...known,
      code: '7K2M-4QXN-90TB-C3HZ-8WDR-P5VE',
      email,
      downloadAction: '/download',
      now: DAY,
    },
  },
  challenge: { view: 'challenge', locals: { ...known, addedAt: DAY, recoveryUrl: '/recovery' } },
  'challenge-recovery-code': { view: 'challenge-recovery-code', locals: { ...known, codeUrl: '/code' } },
  'challenge-choose': {
    view: 'challenge-choose',
    locals: { ...known, methods: ['otp', 'sms'], recoveryUrl: '/recovery' },
  },
  'challenge-sms': {
    view: 'challenge-sms',
    locals: { ...known, sent: true, ending: '23', chooseUrl: '/choose', recoveryUrl: '/recovery' },
  },
  'mailed-link': { view: 'mailed-link', locals: { ...known, email, isOpened: false, mails: true, againUrl: '/again' } },
  'enrollment-required': { view: 'enrollment-required', locals: { ...known, nextUrl: '/choose' } },
  'enrollment-choose': { view: 'enrollment-choose', locals: { ...known, methods: ['otp', 'sms'] } },
  'enrollment-phone': {
    view: 'enrollment-phone',
    locals: {
      ...known,
      countries: [
        { code: 'IE', name: 'Ireland', calling: '353' },
        { code: 'US', name: 'United States', calling: '1' },
      ],
      country: 'US',
      phone: '',
      chooseUrl: '/choose',
    },
  },
  'enrollment-sms': {
    view: 'enrollment-sms',
    locals: { ...known, ending: '23', phoneUrl: '/phone', chooseUrl: '/choose' },
  },
  consent: {
    view: 'consent',
    title: { app: 'Payments' },
    locals: {
      ...known,
      email,
      thirdParty: false,
      links: {},
      permissions: ['openid', 'email', 'profile'].map((scope) => ({ key: `scope.${scope}`, scope })),
      before: [],
    },
  },
  device: { view: 'device', locals: { userCode: '', xsrf: 'xsrf-token', deviceAction: '/device' } },
  'device-confirm': {
    view: 'device-confirm',
    locals: {
      clientName: 'TV Reports',
      app: 'TV Reports',
      userCode: 'WDJB-MJHT',
      elsewhere: false,
      xsrf: 'xsrf-token',
      deviceAction: '/device',
    },
  },
  'switch-account': {
    view: 'switch-account',
    locals: {
      ...flow,
      signedInAs: 'bo@best.example',
      newAccount: email,
      xsrf: 'xsrf-token',
      switchAction: '/switch',
      interaction: 'x',
    },
  },
  logout: { view: 'logout', locals: { email, xsrf: 'xsrf-token', logoutAction: '/logout' } },
  'signed-out': { view: 'signed-out', locals: { ...app, clientUri: 'https://rp.example' } },
  forgot: { view: 'forgot', locals: { csrf: 'csrf-token', action: '/forgot', email: '' } },
  'new-password': {
    view: 'new-password',
    locals: { csrf: 'csrf-token', action: '/welcome', email, min: 15, name: '' },
  },
  home: {
    view: 'home',
    title: { brand: 'Sallyport' },
    locals: {
      apps: [
        { name: 'Payments', href: 'https://payments.example' },
        { name: 'Procurement and Subcontractor Compliance', href: 'https://procurement.example' },
      ],
      discovery: 'https://id.example/.well-known/openid-configuration',
    },
  },
  'account/home': {
    view: 'account/home',
    heading: 'account.title',
    locals: {
      ...own,
      name: 'A Person',
      email,
      methods: [
        { method: 'otp', addedAt: DAY, usedAt: DAY, isAllowed: true, isRemovable: false },
        { method: 'sms', addedAt: DAY, isAllowed: false, isRemovable: true },
      ],
      addable: [],
      recoveryCode: true,
      hasPassword: true,
      byMail: true,
      noticeEmail: longEmail,
      isRequired: true,
      isAlways: true,
      isLocked: true,
      looksAfterPeople: true,
      because: ['You handle payments at Acme Builders.', '“Always require 2FA” is on in your account.'],
    },
  },
  'account/name': { view: 'account/name', heading: 'account.name.title', locals: { ...own, name: 'A Person' } },
  'account/email': {
    view: 'account/email',
    heading: 'account.email.title',
    locals: { ...own, email, waiting: longEmail },
  },
  'account/notices': {
    view: 'account/notices',
    heading: 'account.notices.title',
    locals: { ...own, email, noticeEmail: longEmail },
  },
  'account/confirm': {
    view: 'account/confirm',
    heading: 'account.confirm.email',
    locals: { ...own, purpose: 'email', email: longEmail, former: email, back: '/account/email' },
  },
  'account/always': {
    view: 'account/always',
    heading: 'account.always.title',
    locals: { ...own, isOn: true, lockedBy: [] },
  },
  'account/remove': {
    view: 'account/remove',
    heading: 'account.remove.sms',
    locals: { ...own, method: 'sms', isThere: true, isAllowed: true, isLast: true, canSwitchOff: true, because: [] },
  },
  'not-you': { view: 'not-you', locals: { ...own, text: 'Then end all sessions now.', submit: 'End all sessions' } },
  'account/sessions': {
    view: 'account/sessions',
    heading: 'account.sessions.title',
    locals: {
      ...own,
      sessions: [
        {
          id: 'one',
          created: DAY,
          lastUsed: DAY,
          here: true,
          browser: 'Firefox, Windows',
          ip: '2001:db8:85a3::8a2e:370:7334',
          apps: ['Payments', 'Procurement and Subcontractor Compliance'],
        },
        { id: 'two', created: DAY, lastUsed: DAY, here: false, browser: 'Safari, iPhone', apps: [] },
      ],
    },
  },
  'account/apps': {
    view: 'account/apps',
    heading: 'account.apps.title',
    locals: {
      ...own,
      apps: [
        {
          id: 'partner',
          name: 'Partner Books',
          since: DAY,
          permissions: [
            { key: 'scope.openid', scope: 'openid' },
            { key: 'scope.payments', scope: 'payments', api: 'Payments API' },
          ],
        },
      ],
    },
  },
  'account/company': {
    view: 'account/company',
    heading: 'account.company.title',
    locals: {
      ...own,
      companies: [
        { id: 'acme', name: 'Acme Builders' },
        { id: 'best', name: 'Best Plumbing' },
      ],
      company: undefined,
      email: '',
      needsFactor: false,
    },
  },
  'account/company-person': {
    view: 'account/company-person',
    heading: 'account.person.title',
    title: { name: 'Bo Plumber' },
    locals: {
      ...own,
      company: 'City Works',
      name: 'Bo Plumber',
      email: longEmail,
      factors: [{ method: 'otp', addedAt: DAY }],
      isLocked: true,
      powers: { reset: 'company', unlock: true },
      identities: [{ way: 'video', label: 'On a video call' }],
      version: 3,
      resetAt: undefined,
      identity: undefined,
      note: '',
    },
  },
  'account/history': {
    view: 'account/history',
    heading: 'account.history.title',
    locals: {
      ...own,
      events: [
        { what: 'Signed in to Payments', at: DAY, ip: '192.0.2.1', browser: 'Firefox, Windows', because: [] },
        { what: 'Asked for a second step for Payments', at: DAY, because: ['Your last second step was too long ago.'] },
      ],
    },
  },
} satisfies Record<string, First>
type View = keyof typeof VIEWS

/** Pages that look different with other facts. */
const OTHER_FACTS: Record<string, First> = {
  'credentials.hinted': { ...VIEWS.credentials, locals: { ...VIEWS.credentials.locals, email, hinted: true } },
  'credentials-password.company_sign_in': {
    ...VIEWS['credentials-password'],
    locals: { ...VIEWS['credentials-password'].locals, ssoUrl: '/sso' },
  },
  'mailed-link.opened': {
    ...VIEWS['mailed-link'],
    heading: 'mailed-link.opened_title',
    locals: { ...VIEWS['mailed-link'].locals, isOpened: true },
  },
  'mailed-link.given': { ...VIEWS['mailed-link'], locals: { ...VIEWS['mailed-link'].locals, mails: false } },
  'account/company.needs_factor': {
    ...VIEWS['account/company'],
    locals: { ...VIEWS['account/company'].locals, needsFactor: true },
  },
  ...Object.fromEntries(
    ['own', 'operator'].map((reset): [string, First] => [
      `account/company-person.${reset}`,
      {
        ...VIEWS['account/company-person'],
        locals: {
          ...VIEWS['account/company-person'].locals,
          ...{ isLocked: false, factors: [], resetAt: DAY, powers: { reset, unlock: false } },
        },
      },
    ]),
  ),
  'federation.post': {
    ...VIEWS.federation,
    locals: {
      ...VIEWS.federation.locals,
      post: { url: 'https://idp.acme.example/sso', fields: { SAMLRequest: 'PHNhbWxwOg==', RelayState: 'handle' } },
    },
  },
  'federation-test.post': {
    view: 'federation-test',
    locals: {
      ...flow,
      domain: 'acme.example',
      post: { url: 'https://idp.acme.example/sso', fields: { SAMLRequest: 'PHNhbWxwOg==', RelayState: 'handle' } },
    },
  },
  'federation-test-result.refused': {
    ...VIEWS['federation-test-result'],
    locals: {
      ...VIEWS['federation-test-result'].locals,
      person: undefined,
      told: {
        ...EXPLAINED,
        accepted: false,
        signatures: [{ element: 'Response', method: 'rsa-sha1', digest: 'sha1' }],
        encryption: { content: 'aes256-gcm', key: 'rsa-oaep-mgf1p' },
        addresses: [
          { what: 'audience', found: [], expected: 'https://login.example.com/saml/acme-sso/metadata', fits: false },
        ],
        attributes: { mapped: [], missing: [{ as: 'email', name: 'mail' }], others: [] },
        failed: [
          {
            check: 'signature_algorithm',
            detail: 'http://www.w3.org/2000/09/xmldsig#rsa-sha1',
            advice: 'Sign with RSA-SHA256 or RSA-SHA512, and a digest of SHA-256 or SHA-512.',
            where: 'SAML Certificates → Edit → Signing Algorithm: SHA-256.',
          },
        ],
      } satisfies Explanation,
    },
  },
  'federation-other.long_names': {
    ...VIEWS['federation-other'],
    locals: { ...VIEWS['federation-other'].locals, came: longEmail, expected: `another.${longEmail}` },
  },
  'challenge.two_ways': { ...VIEWS.challenge, locals: { ...VIEWS.challenge.locals, chooseUrl: '/choose' } },
  'enrollment.two_ways': { ...VIEWS.enrollment, locals: { ...VIEWS.enrollment.locals, chooseUrl: '/choose' } },
  'challenge-choose.text_first': {
    ...VIEWS['challenge-choose'],
    locals: { ...VIEWS['challenge-choose'].locals, methods: ['sms', 'otp'] },
  },
  'challenge-sms.send': {
    ...VIEWS['challenge-sms'],
    heading: 'challenge-sms.send_title',
    locals: { ...VIEWS['challenge-sms'].locals, sent: false, chooseUrl: undefined },
  },
  'challenge-sms.again': {
    ...VIEWS['challenge-sms'],
    locals: { ...VIEWS['challenge-sms'].locals, notice: 'A new code is on its way.' },
  },
  'challenge.linked': {
    ...VIEWS.challenge,
    locals: {
      ...VIEWS.challenge.locals,
      notice:
        "Your company sign-in now opens your account here. If this was not you, tell your company's administrator.",
    },
  },
  'credentials-password.forgot': {
    ...VIEWS['credentials-password'],
    locals: { ...VIEWS['credentials-password'].locals, forgotUrl: '/forgot', ssoUrl: '/sso' },
  },
  'new-password.reset': {
    ...VIEWS['new-password'],
    locals: { ...VIEWS['new-password'].locals, email: longEmail, name: undefined },
  },
  'new-password.own': {
    ...VIEWS['new-password'],
    locals: { ...VIEWS['new-password'].locals, name: undefined, isOwn: true },
  },
  'credentials-password.long_names': {
    ...VIEWS['credentials-password'],
    locals: {
      ...VIEWS['credentials-password'].locals,
      email: longEmail,
      clientName: 'The Construction Payments and Invoicing Portal of Acme Builders International',
    },
  },
  'challenge.company_help': {
    ...VIEWS.challenge,
    locals: { ...VIEWS.challenge.locals, help: 'Call Ann at the front desk, 555 0100. Bring your badge.' },
  },
  'challenge-recovery-code.company_help': {
    ...VIEWS['challenge-recovery-code'],
    locals: { ...VIEWS['challenge-recovery-code'].locals, help: 'W'.repeat(300) },
  },
  'consent.third_party': {
    ...VIEWS.consent,
    title: { app: 'Partner Books' },
    locals: {
      ...VIEWS.consent.locals,
      clientName: 'Partner Books',
      thirdParty: true,
      days: 30,
      links: {
        uri: 'https://books.example',
        policy: 'https://books.example/privacy',
        terms: 'https://books.example/terms',
      },
      permissions: [
        { key: 'scope.openid', scope: 'openid' },
        { key: 'scope.offline_access', scope: 'offline_access' },
        { key: 'scope.payments', scope: 'payments', api: 'Payments API' },
      ],
    },
  },
  'consent.more': {
    ...VIEWS.consent,
    title: { app: 'Partner Books' },
    locals: {
      ...VIEWS.consent.locals,
      clientName: 'Partner Books',
      email: longEmail,
      thirdParty: true,
      links: { uri: 'https://books.example' },
      permissions: [
        { key: 'scope.claim_email', scope: 'email' },
        { key: 'scope.claim_name', scope: 'name' },
      ],
      before: [{ key: 'scope.openid', scope: 'openid' }],
    },
  },
  'device.with_code': { ...VIEWS.device, locals: { ...VIEWS.device.locals, userCode: 'WDJB-MJHT' } },
  'device-confirm.elsewhere': {
    ...VIEWS['device-confirm'],
    locals: { ...VIEWS['device-confirm'].locals, email: longEmail, elsewhere: true },
  },
  'switch-account.long_names': {
    ...VIEWS['switch-account'],
    locals: { ...VIEWS['switch-account'].locals, signedInAs: longEmail, newAccount: `other.${longEmail}` },
  },
  'logout.account_gone': { ...VIEWS.logout, locals: { ...VIEWS.logout.locals, email: undefined } },
  'signed-out.no_app': { ...VIEWS['signed-out'], locals: {} },
  'account/home.nothing': {
    ...VIEWS['account/home'],
    locals: {
      ...VIEWS['account/home'].locals,
      name: undefined,
      email: longEmail,
      methods: [],
      addable: ['otp', 'sms'],
      hasPassword: false,
      byMail: false,
      noticeEmail: undefined,
      isAlways: false,
      isLocked: false,
      recoveryCode: undefined,
      isRequired: false,
      because: [],
    },
  },
  'account/home.deadline': {
    ...VIEWS['account/home'],
    locals: {
      ...VIEWS['account/home'].locals,
      methods: [],
      addable: ['otp', 'sms'],
      recoveryCode: undefined,
      isRequired: false,
      isAlways: false,
      isLocked: false,
      looksAfterPeople: false,
      because: [],
      ahead: { company: 'City Works', date: 'January 31, 2027', zone: 'America/Denver' },
    },
  },
  'account/home.unacknowledged': {
    ...VIEWS['account/home'],
    locals: { ...VIEWS['account/home'].locals, recoveryCode: false, notice: 'Thank you.' },
  },
  'account/email.refused': {
    ...VIEWS['account/email'],
    locals: { ...own, email, refused: 'Your company signs you in with its own address at acme.example.' },
  },
  'account/notices.none': { ...VIEWS['account/notices'], locals: { ...own, email, waiting: longEmail } },
  ...Object.fromEntries(
    (['used', 'expired', 'unknown'] as const).map((fault) => [
      `account/confirm.${fault}`,
      {
        ...VIEWS['account/confirm'],
        heading: `page.link_${fault}.title`,
        locals: { ...VIEWS['account/confirm'].locals, fault },
      },
    ]),
  ),
  'account/confirm.notice': {
    ...VIEWS['account/confirm'],
    heading: 'account.confirm.notice',
    locals: { ...VIEWS['account/confirm'].locals, purpose: 'notice' },
  },
  'account/always.locked': {
    ...VIEWS['account/always'],
    locals: { ...own, isOn: true, lockedBy: ['You handle payments at Acme Builders.'] },
  },
  'account/always.off': { ...VIEWS['account/always'], locals: { ...own, isOn: false, lockedBy: [] } },
  'account/remove.one': {
    ...VIEWS['account/remove'],
    locals: { ...VIEWS['account/remove'].locals, isLast: false },
  },
  'account/remove.none': { ...VIEWS['account/remove'], locals: { ...VIEWS['account/remove'].locals, isThere: false } },
  'account/remove.needed': {
    ...VIEWS['account/remove'],
    heading: 'account.remove.otp',
    locals: {
      ...VIEWS['account/remove'].locals,
      method: 'otp',
      isAllowed: false,
      because: ['You handle payments at Acme Builders.'],
    },
  },
  'not-you.undo': {
    view: 'not-you',
    heading: 'undo.title',
    locals: { ...own, text: `Your account gets ${longEmail} again.`, submit: `Bring ${longEmail} back` },
  },
  'account/home.own_switch': {
    ...VIEWS['account/home'],
    locals: { ...VIEWS['account/home'].locals, isAlways: true, isLocked: false },
  },
  'account/apps.none': { ...VIEWS['account/apps'], locals: { ...VIEWS['account/apps'].locals, apps: [] } },
  'home.no_apps': { ...VIEWS.home, locals: { ...VIEWS.home.locals, apps: [] } },
}

/** Where an error is shown and with what; `as` names a second form that its sentence takes. */
interface Shown {
  on: View[]
  field?: string
  vars?: Vars
  /** Seconds. */
  retryAfter?: number
  as?: string
}

const CODE: View[] = ['enrollment', 'challenge']
const TEXT: View[] = ['enrollment-sms', 'challenge-sms']
const SENDS: View[] = [...TEXT, 'challenge-choose', 'enrollment-phone']
const COUNTED: View[] = ['credentials', 'credentials-password', 'enrollment', 'challenge', 'challenge-recovery-code']
const ADDRESSES: View[] = ['account/email', 'account/notices']
const PASSWORDS: View[] = ['forgot', 'new-password']
const FORMS: View[] = [
  ...COUNTED,
  ...SENDS,
  ...PASSWORDS,
  'enrollment-choose',
  'mailed-link',
  'account/company',
  'account/company-person',
  'account/sessions',
  'account/name',
  'account/apps',
  ...ADDRESSES,
  'account/confirm',
  'account/always',
  'account/remove',
  'not-you',
  'federation',
  'federation-other',
  'recovery',
  'consent',
]

/** `cross_site` has a page of its own. */
const ERRORS: Record<Exclude<ErrorCode, 'cross_site'>, Shown[]> = {
  email_missing: [
    { on: ['credentials', 'forgot', 'account/company', ...ADDRESSES], field: 'email' },
    { on: ['credentials-password'], field: 'username' },
  ],
  email_invalid: [{ on: ['credentials', 'forgot', ...ADDRESSES], field: 'email' }],
  email_same: [{ on: ADDRESSES, field: 'email' }],
  email_of_company: [{ on: ['account/email'], vars: { domain: 'acme.example' } }],
  email_for_company: [{ on: ['account/email'], field: 'email', vars: { domain: 'acme.example' } }],
  email_just_changed: [{ on: ['account/email'], vars: { date: 'November 24, 2026' } }],
  email_taken: [{ on: ['account/confirm'] }],
  always_locked: [{ on: ['account/always'] }],
  factor_needed: [{ on: ['account/remove'] }],
  password_missing: [{ on: ['credentials-password'], field: 'password' }],
  wrong_credentials: [{ on: ['credentials-password'], field: 'password' }],
  wrong_credentials_again: [{ on: ['credentials-password'], field: 'password' }],
  too_many_attempts: [
    { on: ['credentials-password'], retryAfter: 30 * 60 },
    { on: ['enrollment', 'enrollment-sms'], retryAfter: 60 },
    { on: ['forgot', 'account/company', 'account/company-person'], retryAfter: 60 * 60 },
  ],
  sign_in_closed: [{ on: ['credentials-password'] }],
  too_many_from_network: [{ on: [...COUNTED, ...TEXT, ...PASSWORDS], retryAfter: 40 }],
  code_missing: [{ on: [...CODE, ...TEXT], field: 'code' }],
  code_format: [{ on: CODE, field: 'code' }],
  wrong_code: [{ on: ['challenge'], field: 'code' }],
  wrong_code_tries: [
    { on: ['challenge'], field: 'code', vars: { left: 3 } },
    { on: ['challenge'], field: 'code', vars: { left: 1 }, as: 'one' },
  ],
  code_blocked: [{ on: ['challenge', 'challenge-sms'], retryAfter: 30 * 60 }],
  code_disabled: [{ on: ['challenge'] }],
  clock_slow: [
    { on: ['enrollment'], field: 'code', vars: { minutes: 3 } },
    { on: ['enrollment'], field: 'code', vars: { minutes: 1 }, as: 'one' },
  ],
  clock_fast: [
    { on: ['enrollment'], field: 'code', vars: { minutes: 3 } },
    { on: ['enrollment'], field: 'code', vars: { minutes: 1 }, as: 'one' },
  ],
  wrong_enrollment_code: [{ on: ['enrollment'], field: 'code' }],
  method_missing: [{ on: ['challenge-choose', 'enrollment-choose'], field: 'method' }],
  phone_missing: [{ on: ['enrollment-phone'], field: 'phone' }],
  phone_invalid: [{ on: ['enrollment-phone'], field: 'phone' }],
  sms_country: [{ on: ['enrollment-phone'], field: 'phone' }, { on: ['challenge-choose', 'challenge-sms'] }],
  sms_wait: [{ on: SENDS, retryAfter: 25 }],
  sms_too_many: [{ on: SENDS, retryAfter: 60 * 60 }],
  sms_not_now: [{ on: SENDS }],
  sms_failed: [{ on: SENDS }],
  sms_code_format: [{ on: TEXT, field: 'code' }],
  wrong_sms_code: [{ on: TEXT, field: 'code' }],
  sms_code_used_up: [{ on: TEXT, retryAfter: 5 * 60 }],
  sms_disabled: [{ on: ['challenge-sms'] }],
  recovery_code_missing: [{ on: ['challenge-recovery-code'], field: 'recovery_code' }],
  wrong_recovery_code: [{ on: ['challenge-recovery-code'], field: 'recovery_code' }],
  recovery_code_blocked: [{ on: ['challenge-recovery-code'], retryAfter: 30 * 60 }],
  acknowledge_missing: [{ on: ['recovery'], field: 'acknowledged' }],
  person_unknown: [{ on: ['account/company'], field: 'email' }],
  person_changed: [{ on: ['account/company-person'] }],
  identity_missing: [{ on: ['account/company-person'], field: 'identity' }],
  note_missing: [{ on: ['account/company-person'], field: 'note' }],
  verified_missing: [{ on: ['account/company-person'], field: 'verified' }],
  reset_own: [{ on: ['account/company-person'] }],
  reset_elsewhere: [{ on: ['account/company-person'] }],
  link_not_opened: [{ on: ['mailed-link'] }],
  link_not_given: [{ on: ['mailed-link'] }],
  too_many_links: [{ on: ['mailed-link'], retryAfter: 50 * 60 }],
  recovery_code_replaced: [{ on: ['recovery'] }],
  sso_gone: [{ on: ['federation'] }],
  sso_too_often: [{ on: ['federation'], retryAfter: 8 * 60 }],
  new_password_missing: [{ on: ['new-password'], field: 'new_password' }],
  name_missing: [{ on: ['new-password'], field: 'name' }],
  password_too_short: [{ on: ['new-password'], field: 'new_password', vars: { length: 11, min: 15 } }],
  password_too_long: [{ on: ['new-password'], field: 'new_password', vars: { max: 256 } }],
  password_common: [{ on: ['new-password'], field: 'new_password' }],
  password_context: [{ on: ['new-password'], field: 'new_password' }],
  password_used_before: [{ on: ['new-password'], field: 'new_password' }],
  password_breached: [{ on: ['new-password'], field: 'new_password' }],
  form_invalid: [{ on: FORMS }],
  user_code_missing: [{ on: ['device'], field: 'user_code' }],
  wrong_user_code: [{ on: ['device'], field: 'user_code' }],
  user_code_used: [{ on: ['device'], field: 'user_code' }],
  form_expired: [{ on: [...FORMS, 'device'] }],
  too_large: [{ on: FORMS }],
}

/** A page that says something and leads on; each entry is a form that it takes. */
interface Said {
  as?: string
  /** It knows the app, and leads back to it. */
  toApp?: true
  /** It leads on by a button of these words. */
  label?: string
  reference?: true
  vars?: Vars
}

const MESSAGES: Record<MessageName, Said[]> = {
  expired: [{ toApp: true }],
  already_done: [{ toApp: true }],
  other_browser: [{ toApp: true }, { as: 'no_app' }],
  cross_site: [{ toApp: true }],
  too_many_codes: [{ toApp: true }],
  device_allowed: [{}],
  device_denied: [{}],
  too_many_user_codes: [{ vars: { wait: '9 minutes' } }],
  unavailable: [{ label: 'message.again', reference: true }],
  busy: [{ label: 'message.again' }],
  server_error: [{ label: 'message.again', reference: true }],
  not_found: [{}, { label: 'page.not_found.link', as: 'signing_in' }],
  bad_request: [{ reference: true }, { toApp: true, reference: true, as: 'from_app' }],
  unknown_client: [{ reference: true }],
  posted_expired: [{}],
  sso_refused: [{ reference: true }, { label: 'message.again', reference: true, as: 'again' }],
  test_link_gone: [{}],
  link_sent: [{ vars: { email: longEmail }, label: 'forgot.again' }],
  link_used: [{ label: 'forgot.link' }],
  link_expired: [{ label: 'forgot.link' }],
  link_unknown: [{ label: 'forgot.link' }],
  link_opened: [{ toApp: true }],
  enrolment_link_used: [{ label: 'mailed-link.go_on' }],
  enrolment_link_expired: [{ label: 'mailed-link.go_on' }],
  enrolment_link_unknown: [{ label: 'mailed-link.go_on' }],
  password_set: [{}],
  not_you: [{ label: 'forgot.title' }],
  not_you_done: [{ label: 'forgot.title' }],
  email_restored: [{ label: 'forgot.title', vars: { email: longEmail } }],
  email_not_free: [{}],
  company_password: [{ vars: { domain: 'acme.example' } }],
  password_by_mail: [{}],
  still_signed_in: [{}, { toApp: true, as: 'from_app' }],
}

/** All of them in one language, by `<page>` or `<page>.<state>`. */
export function samplesIn(messages: Messages): Record<string, Sample> {
  const { t } = messages
  const first = ({ view, title, heading = `${view}.title`, locals }: First): Sample => ({
    view,
    page: { ...locals, title: t(heading, title) },
  })
  const failed = (view: View, code: ErrorCode, { field, vars, retryAfter }: Shown): Sample => {
    const error = new InteractionError(code, {
      ...(field && { field }),
      ...(vars && { vars }),
      ...(retryAfter && { retryAfter }),
    })
    const { page } = first(VIEWS[view])
    const kept = code === 'email_invalid' ? { email: 'payor.acme.example' } : {}
    const gone = field === 'username' ? { email: '' } : {}
    return {
      view,
      code,
      page: { ...page, ...kept, ...gone, error: { message: sentence(messages, error), ...(field && { field }) } },
    }
  }
  const said = (name: MessageName, { toApp, label, reference, vars }: Said): Sample => ({
    view: 'message',
    page: {
      title: t(`page.${name}.title`),
      text: t(`page.${name}.text`, vars),
      ...(label && { link: { href: '', label: t(label) } }),
      ...(toApp && { link: { href: 'https://rp.example', label: t('shell.back', { app: 'Payments' }) } }),
      ...(reference && { reference: '3f0c1b52-7a31-4a0e-9d0e-2f8f3f1c9b1a' }),
    },
  })
  const named = (...parts: (string | undefined)[]) => parts.filter(Boolean).join('.')

  return Object.fromEntries<Sample>([
    ...Object.entries<First>(VIEWS).flatMap(([view, shown]) => [
      [view, first(shown)] as const,
      ...Object.entries(OTHER_FACTS)
        .filter(([name]) => name.startsWith(`${view}.`))
        .map(([name, facts]) => [name, first(facts)] as const),
      ...Object.entries(ERRORS).flatMap(([code, shows]) =>
        shows
          .filter(({ on }) => on.includes(view as View))
          .map((show) => [named(view, code, show.as), failed(view as View, code as ErrorCode, show)] as const),
      ),
    ]),
    ...Object.entries(MESSAGES).flatMap(([name, forms]) =>
      forms.map((form) => [named('message', name, form.as), said(name as MessageName, form)] as const),
    ),
  ])
}

/** The languages that are shipped, English first. */
export const languages = loadLanguages()

/** The samples in English. */
export const samples = samplesIn(languages.best(['en']))

/**
 * Answers `/<name>` with that sample, and serves what it needs.
 * @param variants by the second part of a path: `/<name>/<variant>`; the plain one is `''`
 */
export function samplesApp(variants: Record<string, { messages?: Messages; brand: Brand }>): Koa {
  const app = new Koa().use(securityHeaders(false))
  for (const [variant, { messages = languages.best([]), brand }] of Object.entries(variants)) {
    const assets = loadAssets({ brand })
    const pages = createPages({ brand, assets })
    const drawn = samplesIn(messages)
    app.use(assets.serve).use((ctx, next) => {
      // `/account/home` is a page in a folder; `/account/home/es` the same in another variant.
      const end = variant === '' ? '' : `/${variant}`
      const sample = ctx.path.endsWith(end) ? drawn[ctx.path.slice(1, ctx.path.length - end.length)] : undefined
      if (!sample) return next()
      const nonce = newNonce()
      ctx.set('Content-Security-Policy', contentSecurityPolicy(nonce, []))
      ctx.type = 'html'
      ctx.body = pages.render(messages, sample.view, { ...sample.page, nonce })
    })
  }
  return app
}
