/** Writes audit rows with what every row has: time, request, network, browser. */
import type { Context } from 'koa'
import { requestId } from './screen.ts'
import type { AuditEvent, AuditStore } from './stores.ts'

/** What the caller knows of the event. */
export type Happened = Omit<AuditEvent, 'at' | 'requestId' | 'ip' | 'userAgent'>

/** Records an event of this request. Await it: an act that cannot be audited is not done. */
export type Recorder = (ctx: Context, happened: Happened) => Promise<void>

/** Values of headers are cut here and encoded by the store (JSON), so that none can forge a row. */
const USER_AGENT_LENGTH = 200

/** What a row says of the request. */
export const requestFacts = (ctx: Context): Pick<AuditEvent, 'requestId' | 'ip' | 'userAgent'> => ({
  requestId: requestId(ctx),
  ip: ctx.ip,
  userAgent: ctx.get('user-agent').slice(0, USER_AGENT_LENGTH) || undefined,
})

/** @param now seconds since 1970 */
export const createRecorder =
  (store: AuditStore, now: () => number): Recorder =>
  (ctx, happened) =>
    store.append({ ...happened, at: now(), ...requestFacts(ctx) })
