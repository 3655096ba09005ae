/** Text messages by Twilio's REST API (Programmable Messaging, 2010-04-01), by plain fetch. */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { SmsGateway } from '../../interactions/index.ts'
import { postTo, refusal } from './post.ts'

/** What it stands on. */
export interface TwilioParts {
  accountSid: string
  authToken: string
  /** A number in E.164, or the SID of a messaging service (`MG…`). */
  from: string
  /** Where Twilio tells what became of a text. */
  statusUrl?: string | undefined
  /** Another address, for tests. */
  base?: string
  patienceMs?: number
}

/** Where Twilio's status callbacks arrive. */
export const statusPath = '/sms/twilio/status'

export const twilio = ({
  accountSid,
  authToken,
  from,
  statusUrl,
  base = 'https://api.twilio.com',
  patienceMs,
}: TwilioParts): SmsGateway => ({
  async send({ to, text }) {
    const sender = from.startsWith('MG') ? { MessagingServiceSid: from } : { From: from }
    const form = { To: to, ...sender, Body: text, ...(statusUrl !== undefined && { StatusCallback: statusUrl }) }
    const url = `${base}/2010-04-01/Accounts/${accountSid}/Messages.json`
    const headers = {
      authorization: `Basic ${Buffer.from(`${accountSid}:${authToken}`).toString('base64')}`,
      'content-type': 'application/x-www-form-urlencoded',
    }
    const body = new URLSearchParams(form).toString()
    const answer = await postTo('twilio', url, { headers, body }, patienceMs)
    const said = read(answer.text)
    // Twilio's messages name the number; its codes do not.
    if (answer.status < 200 || answer.status > 299) throw refusal('twilio', answer.status, codeOf(said['code']))
    if (typeof said['sid'] !== 'string') throw new Error('the twilio gateway answered what is no message')
    if (said['status'] === 'failed' || said['status'] === 'undelivered')
      throw new Error(`the twilio gateway did not take the text${codeOf(said['error_code'])}`)
  },
})

const codeOf = (code: unknown) => (typeof code === 'number' ? `, code ${code}` : '')

function read(text: string): Record<string, unknown> {
  try {
    const value = JSON.parse(text) as unknown
    return value !== null && typeof value === 'object' ? (value as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}

/** `X-Twilio-Signature` of a callback: Base64 of HMAC-SHA1 over the URL and the sorted parameters, name and value in turn. */
export function twilioSignature(authToken: string, url: string, params: Record<string, string>): string {
  const text = Object.keys(params)
    .sort()
    .reduce((so, name) => so + name + params[name], url)
  return createHmac('sha1', authToken).update(text, 'utf8').digest('base64')
}

/** True when Twilio sent it. */
export function isTwilios(authToken: string, url: string, params: Record<string, string>, given: string): boolean {
  const expected = Buffer.from(twilioSignature(authToken, url, params))
  const other = Buffer.from(given)
  return expected.length === other.length && timingSafeEqual(expected, other)
}
