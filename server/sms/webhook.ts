/**
 * Text messages by a service of the operator's own: one signed POST for each, as Standard Webhooks (standardwebhooks.com)
 * has it, so that libraries for many languages verify it.
 */
import { createHmac, randomUUID } from 'node:crypto'
import type { SmsGateway } from '../../interactions/index.ts'
import { postTo, refusal } from './post.ts'

/** What it stands on. */
export interface WebhookParts {
  url: string
  /** `whsec_` and at least 24 bytes in Base64. */
  secret: string
  now?: () => number
  patienceMs?: number
}

/** The bytes of a `whsec_…` secret. */
export const secretBytes = (secret: string): Buffer => Buffer.from(secret.replace(/^whsec_/, ''), 'base64')

/** `v1,<Base64>` over id, time and body. @param timestamp seconds since 1970 */
export function signature(secret: string, id: string, timestamp: number, body: string): string {
  const mac = createHmac('sha256', secretBytes(secret)).update(`${id}.${timestamp}.${body}`).digest('base64')
  return `v1,${mac}`
}

/** Body: `{ "type": "sms.send", "timestamp": "…Z", "data": { "to": "+1…", "text": "…" } }`. Any 2xx takes it over. */
export const webhook = ({
  url,
  secret,
  now = () => Math.floor(Date.now() / 1000),
  patienceMs,
}: WebhookParts): SmsGateway => ({
  async send({ to, text }) {
    const id = `msg_${randomUUID()}`
    const at = now()
    const body = JSON.stringify({
      type: 'sms.send',
      timestamp: new Date(at * 1000).toISOString(),
      data: { to, text },
    })
    const headers = {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': String(at),
      'webhook-signature': signature(secret, id, at, body),
    }
    const { status } = await postTo('webhook', url, { headers, body }, patienceMs)
    if (status < 200 || status > 299) throw refusal('webhook', status)
  },
})
