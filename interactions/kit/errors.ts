/** Failures a person can act on. */
import type { Vars } from './messages.ts'

/** Stable names, for logs and tests. Each has a sentence `error.<code>` in locales/; `cross_site` has a page. */
export type ErrorCode =
  | 'email_missing'
  | 'email_invalid'
  | 'email_same'
  | 'email_of_company'
  | 'email_for_company'
  | 'email_just_changed'
  | 'email_taken'
  | 'always_locked'
  | 'factor_needed'
  | 'password_missing'
  | 'wrong_credentials'
  | 'wrong_credentials_again'
  | 'too_many_attempts'
  | 'sign_in_closed'
  | 'too_many_from_network'
  | 'code_missing'
  | 'code_format'
  | 'wrong_code'
  | 'wrong_code_tries'
  | 'code_blocked'
  | 'code_disabled'
  | 'clock_slow'
  | 'clock_fast'
  | 'wrong_enrollment_code'
  | 'method_missing'
  | 'phone_missing'
  | 'phone_invalid'
  | 'sms_country'
  | 'sms_wait'
  | 'sms_too_many'
  | 'sms_not_now'
  | 'sms_failed'
  | 'sms_code_format'
  | 'wrong_sms_code'
  | 'sms_code_used_up'
  | 'sms_disabled'
  | 'recovery_code_missing'
  | 'wrong_recovery_code'
  | 'recovery_code_blocked'
  | 'acknowledge_missing'
  | 'person_unknown'
  | 'person_changed'
  | 'identity_missing'
  | 'note_missing'
  | 'verified_missing'
  | 'reset_own'
  | 'reset_elsewhere'
  | 'link_not_opened'
  | 'link_not_given'
  | 'too_many_links'
  | 'recovery_code_replaced'
  | 'user_code_missing'
  | 'wrong_user_code'
  | 'user_code_used'
  | 'sso_gone'
  | 'sso_too_often'
  | 'new_password_missing'
  | 'name_missing'
  | 'password_too_short'
  | 'password_too_long'
  | 'password_common'
  | 'password_context'
  | 'password_used_before'
  | 'password_breached'
  | 'form_invalid'
  | 'form_expired'
  | 'cross_site'
  | 'too_large'

/** A failure the person can act on: the page is shown again with its sentence. Anything else thrown is a bug or an outage. */
export class InteractionError extends Error {
  override readonly name = 'InteractionError'
  readonly code: ErrorCode
  /** HTTP status: 4xx, so that password managers do not save (R17); 429 when throttled. */
  readonly status: number
  /** The form field it belongs to. */
  readonly field: string | undefined
  readonly vars: Vars
  /** Seconds, for Retry-After. */
  readonly retryAfter: number | undefined

  constructor(
    code: ErrorCode,
    {
      status = 400,
      field,
      vars = {},
      retryAfter,
      cause,
    }: {
      status?: number
      field?: string | undefined
      vars?: Vars
      retryAfter?: number
      cause?: unknown
    } = {},
  ) {
    super(code, { cause })
    this.code = code
    this.status = status
    this.field = field
    this.vars = vars
    this.retryAfter = retryAfter
  }
}

/** One message for an unknown, disabled, locked or mistyped account, so that none can be told from another. */
export const wrongCredentials = () => new InteractionError('wrong_credentials', { field: 'password' })

/** The same when it happens again: their company may have closed it, a person learns, whatever the address. `cause` is for the audit only. */
export const wrongCredentialsAgain = (cause?: string) =>
  new InteractionError('wrong_credentials_again', { field: 'password', cause })

/** One message for a mistyped, expired and replayed code. `cause` is for the audit only. */
export const wrongCode = (cause?: string) => new InteractionError('wrong_code', { field: 'code', cause })

/** One message for a mistyped, expired, used and superseded code by text. `cause` is for the audit only. */
export const wrongSmsCode = (cause?: string) => new InteractionError('wrong_sms_code', { field: 'code', cause })

/** The right code twice, an old one, a mistyped one: one message. */
export const wrongRecoveryCode = () => new InteractionError('wrong_recovery_code', { field: 'recovery_code' })
