/** Text messages that go nowhere: a developer reads them in the outbox (`sallyport outbox list`). */
import { randomUUID } from 'node:crypto'
import type { OutboxStore, SmsGateway } from '../../interactions/index.ts'

/** Seconds that a text can be read. */
const KEPT = 60 * 60

/** The kind under which codes stand in the outbox. */
export const CODE_KIND = 'sms_code'

/** A text in the outbox, as its `body` has it (JSON). */
export interface SmsBody {
  /** E.164. */
  to: string
  text: string
}

export const outboxGateway = (
  outbox: Pick<OutboxStore, 'put'>,
  now = () => Math.floor(Date.now() / 1000),
): SmsGateway => ({
  async send({ to, text, accountId }) {
    const body: SmsBody = { to, text }
    const at = now()
    // Never due: there is nobody who would carry it anywhere.
    const until = { createdAt: at, dueAt: at + KEPT, expiresAt: at + KEPT }
    await outbox.put([
      { id: randomUUID(), channel: 'sms', kind: CODE_KIND, accountId, body: JSON.stringify(body), ...until },
    ])
  },
})
