/** What a form sent: of the account pages, and of those for people who have no password to give. */
import { bodyParser } from '@koa/bodyparser'
import type { Context } from 'koa'
import { z } from 'zod'
import { type ErrorCode, InteractionError, normaliseEmail } from '../../interactions/index.ts'

const parse = bodyParser({ enableTypes: ['form'], formLimit: '16kb' })

/** An e-mail address, normalised. */
export const EMAIL_FIELD = z
  .string('email_missing')
  .transform(normaliseEmail)
  .pipe(
    z
      .string()
      .min(1, 'email_missing')
      .max(254, 'email_invalid')
      .regex(/^[^@\s]+@[^@\s]+$/, 'email_invalid'),
  )

/** One that is about to be somebody's: as a seed file takes it, so that what is exported can be applied. */
export const NEW_EMAIL_FIELD = EMAIL_FIELD.pipe(z.email('email_invalid'))

/** What a person is called. SQLite ends a text at NUL. */
export const NAME_FIELD = z
  .string('name_missing')
  .trim()
  .min(1, 'name_missing')
  .max(200, 'form_invalid')
  .refine((name) => !name.includes('\0'), 'form_invalid')

/** The fields of a POST. @throws {InteractionError} for what is no form, or holds too much */
export async function fieldsOf(ctx: Context): Promise<Record<string, unknown>> {
  if (!ctx.is('application/x-www-form-urlencoded')) throw new InteractionError('form_invalid', { status: 415 })
  await parse(ctx, async () => {}).catch((cause: { status?: number }) => {
    if (cause.status === 413) throw new InteractionError('too_large', { status: 413 })
    throw new InteractionError('form_invalid', { cause })
  })
  return (ctx.request.body ?? {}) as Record<string, unknown>
}

/** @throws {InteractionError} that names the first field that is not right */
export function valid<T>(form: z.ZodType<T>, fields: unknown): T {
  const parsed = form.safeParse(fields)
  if (parsed.success) return parsed.data
  const { message, path } = parsed.error.issues[0]!
  const isOurs = /^[a-z_]+$/.test(message)
  throw new InteractionError(isOurs ? (message as ErrorCode) : 'form_invalid', isOurs ? { field: String(path[0]) } : {})
}
