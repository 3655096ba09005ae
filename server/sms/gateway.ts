/** How this server sends text messages: which gateway, and whether it works. */
import type { SmsGateway, SmsMessage, SmsOptions } from '../../interactions/index.ts'
import type { House } from '../open.ts'
import { outboxGateway } from './outbox.ts'
import { statusPath, twilio } from './twilio.ts'
import { webhook } from './webhook.ts'

/** Seconds that a failure is told of, when nothing was sent since. */
const TOLD_SECONDS = 10 * 60

/** A gateway, and what became of the last text. */
export interface WatchedGateway extends SmsGateway {
  /** Why texts may not arrive, or `undefined`. @param now seconds since 1970 */
  trouble(now: number): string | undefined
}

/** @returns the same gateway, which remembers whether its last text was taken over */
export function watched(gateway: SmsGateway, now = () => Math.floor(Date.now() / 1000)): WatchedGateway {
  let failed: { at: number; why: string } | undefined
  return {
    async send(message: SmsMessage) {
      try {
        await gateway.send(message)
        failed = undefined
      } catch (error) {
        failed = { at: now(), why: (error as Error).message }
        throw error
      }
    },
    trouble: (at) => (failed && at < failed.at + TOLD_SECONDS ? failed.why : undefined),
  }
}

const known = new WeakMap<House, WatchedGateway>()

/** The gateway that the configuration names, one for each house; `undefined`: this server sends no texts. */
export function gatewayOf(house: House): WatchedGateway | undefined {
  const { config, database } = house
  const sms = config.SALLYPORT_SMS
  if (!sms) return undefined
  const made = known.get(house)
  if (made) return made
  const gateway = watched(
    sms.kind === 'outbox'
      ? outboxGateway(database.outbox)
      : sms.kind === 'webhook'
        ? webhook({ url: sms.url, secret: config.SALLYPORT_SMS_SECRET!() })
        : twilio({
            accountSid: config.SALLYPORT_TWILIO_ACCOUNT_SID!,
            authToken: config.SALLYPORT_TWILIO_AUTH_TOKEN!(),
            from: config.SALLYPORT_TWILIO_FROM!,
            // A loopback is nowhere for Twilio.
            statusUrl: config.SALLYPORT_ISSUER.startsWith('https:') ? config.SALLYPORT_ISSUER + statusPath : undefined,
          }),
  )
  known.set(house, gateway)
  return gateway
}

/** What the plugin needs to send texts. */
export function smsOf(house: House): SmsOptions | undefined {
  const gateway = gatewayOf(house)
  const { SALLYPORT_SMS_COUNTRIES: countries, SALLYPORT_SMS_PER_COUNTRY_AND_DAY: perCountryAndDay } = house.config
  return gateway && { gateway, countries, perCountryAndDay }
}
