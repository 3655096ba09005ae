/** Structured logs. Lines are made of listed fields, never of whole objects: what is not listed cannot leak. */
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino'

export type { Logger } from 'pino'

/** What a line may say about a request, a response and an error.. */
export const serializers = {
  /** Method and path, without the query: codes, states and hints stand there. */
  req: (request: { id?: unknown; method?: string; url?: string; raw?: { originalUrl?: string } }) => ({
    id: request.id,
    method: request.method,
    path: request.url?.split('?', 1)[0],
  }),
  res: (response: { statusCode?: number }) => ({ status: response.statusCode }),
  /** Kind, message, stack and cause; not the fields that libraries hang on errors (SQL parameters, request bodies). */
  err: (error: unknown) => errorFields(error, 3),
}

/** Names that hold secrets. Second line of defence: lines are built from listed fields anyway. */
const SECRET_NAMES = [
  'password',
  'new_password',
  'password_hash',
  'passwordHash',
  'secret',
  'client_secret',
  'client_assertion',
  'request',
  'request_uri',
  'dpop',
  'code',
  'code_verifier',
  'recovery_code',
  'recoveryCode',
  'csrf',
  'cookie',
  'authorization',
  'access_token',
  'refresh_token',
  'id_token',
  'id_token_hint',
  'token',
  'privateJwk',
  'SAMLResponse',
]

/** Milliseconds that a line may wait for others. A process that is killed loses them; the audit does not wait here. */
const GATHERED_MS = 100
/** Bytes that are written at once. */
const GATHERED_BYTES = 4096

let gathering: DestinationStream | undefined

/** Standard error. Lines are gathered, since each write is a system call; the last ones leave when the process exits. */
function standardError(): DestinationStream {
  if (gathering) return gathering
  const stream = destination({ dest: 2, sync: true, minLength: GATHERED_BYTES, periodicFlush: GATHERED_MS })
  process.once('exit', () => stream.flushSync())
  gathering = stream
  return stream
}

/**
 * A logger that writes JSON lines to standard error (so that standard output stays for machine-readable answers).
 *
 * @param level pino's level, `silent` too
 * @param stream where to write instead
 */
export function createLogger(level: string, stream: DestinationStream = standardError()): Logger {
  return pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers,
      redact: {
        paths: SECRET_NAMES.flatMap((name) => [name, `*.${name}`]),
        censor: '[redacted]',
      },
    },
    stream,
  )
}

interface ErrorFields {
  type: string
  message: string
  errorCode?: string | undefined
  stack?: string | undefined
  cause?: ErrorFields | undefined
}

function errorFields(error: unknown, depth: number): ErrorFields {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error).slice(0, 500) }
  return {
    type: error.name,
    message: error.message,
    // Not `code`, which is redacted: in a form it is somebody's one-time password.
    errorCode: 'code' in error && typeof error.code === 'string' ? error.code : undefined,
    stack: error.stack,
    cause: error.cause !== undefined && depth > 0 ? errorFields(error.cause, depth - 1) : undefined,
  }
}
