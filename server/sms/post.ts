/** One POST to a gateway: short, bounded, and its errors say nothing that was in it. */

import { NotSent } from '../../interactions/index.ts'

/** Milliseconds that a person waits for a gateway. */
const PATIENCE_MS = 10_000
/** Bytes of an answer that are read. */
const MOST_BYTES = 64 * 1024

/** Errors of a connection that was never there. */
const UNREACHED = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']

/** What a gateway answered. */
export interface GatewayAnswer {
  status: number
  text: string
}

/**
 * @param gateway its name, for errors
 * @throws {NotSent} when nobody was reached; another error when the request may have arrived
 */
export async function postTo(
  gateway: string,
  url: string,
  init: { headers: Record<string, string>; body: string },
  patienceMs = PATIENCE_MS,
): Promise<GatewayAnswer> {
  const signal = AbortSignal.timeout(patienceMs)
  try {
    // A redirect would carry number and code to an address that nobody configured.
    const response = await fetch(url, { method: 'POST', redirect: 'error', signal, ...init })
    return { status: response.status, text: await beginningOf(response) }
  } catch (cause) {
    const { code = '' } = ((cause as Error).cause ?? {}) as NodeJS.ErrnoException
    if (UNREACHED.includes(code)) throw new NotSent(`the ${gateway} gateway cannot be reached (${code})`, { cause })
    const timedOut = (cause as Error).name === 'TimeoutError'
    throw new Error(`the ${gateway} gateway ${timedOut ? 'did not answer in time' : 'broke the connection off'}`, {
      cause,
    })
  }
}

/** Statuses of a gateway that takes nothing now, whoever the text is for. */
const TAKES_NOTHING = [401, 403, 429, 503]

/**
 * What a gateway's status means for a text: it takes none now; or it may have come after the text was taken, or be about this very
 * number. That counts: else somebody could ask a gateway about any number of numbers, each for its fee.
 */
export function refusal(gateway: string, status: number, more = ''): Error {
  const message = `the ${gateway} gateway answered ${status}${more}`
  return TAKES_NOTHING.includes(status) ? new NotSent(message) : new Error(message)
}

async function beginningOf(response: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let size = 0
  // The stream of fetch is iterable in Node.
  for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    parts.push(part)
    size += part.length
    if (size > MOST_BYTES) break
  }
  return Buffer.concat(parts).subarray(0, MOST_BYTES).toString('utf8')
}
