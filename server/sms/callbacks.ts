/** What Twilio tells of texts that it took over: for the log, so that an operator sees why codes do not arrive. */
import { bodyParser } from '@koa/bodyparser'
import type { Middleware } from 'koa'
import type { House } from '../open.ts'
import { isTwilios, statusPath } from './twilio.ts'

const LIMIT = '8kb'
/** What a callback may say a text has come to (Twilio's list of statuses of outbound messages). */
const LOST = ['failed', 'undelivered']

/** Takes status callbacks. Only Twilio can sign them; anybody else gets 403 and leaves no trace but a line in the log. */
export function statusCallbacks({ config, logger }: House): Middleware {
  const token = config.SALLYPORT_TWILIO_AUTH_TOKEN
  if (config.SALLYPORT_SMS?.kind !== 'twilio' || !token) return (_ctx, next) => next()
  const parse = bodyParser({ enableTypes: ['form'], formLimit: LIMIT })

  return async (ctx, next) => {
    if (ctx.path !== statusPath) return next()
    ctx.set('Cache-Control', 'no-store')
    if (ctx.method !== 'POST') {
      ctx.set('Allow', 'POST')
      ctx.status = 405
      return
    }
    const readable = await parse(ctx, async () => {}).then(
      () => true,
      () => false,
    )
    const params = Object.fromEntries(
      Object.entries((readable && (ctx.request.body as object | undefined)) || {}).filter(
        (entry): entry is [string, string] => typeof entry[1] === 'string',
      ),
    )
    // The address that we told Twilio, not the one that it was asked at: a proxy may have changed that.
    const url = config.SALLYPORT_ISSUER + statusPath + ctx.search
    if (!isTwilios(token(), url, params, ctx.get('X-Twilio-Signature'))) {
      ctx.status = 403
      return
    }
    const { MessageSid: message, MessageStatus: status = '', ErrorCode: code } = params
    if (LOST.includes(status)) logger.warn({ message, status, code }, 'a text did not arrive')
    ctx.status = 204
  }
}
