import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'

/** A letter as the server got it. */
export interface Received {
  to: string[]
  messageId: string
  subject: string
  /** The part of plain text, and that of HTML, decoded. */
  text: string
  html: string
  source: string
}

/** An SMTP server for tests. */
export interface TestSmtp {
  url: string
  port: number
  letters: Received[]
  kill(): Promise<void>
}

/** Starts one in a process of its own. @param port where it was before, or a free one */
export async function startSmtp(port = 0): Promise<TestSmtp> {
  const child: ChildProcess = fork(new URL('./smtp-server.ts', import.meta.url).pathname, [String(port)], {
    execArgv: ['--import', 'tsx'],
  })
  const letters: Received[] = []
  const [first] = (await once(child, 'message')) as [{ port: number }]
  child.on('message', ({ to, source }: { to: string[]; source: string }) => letters.push(readLetter(to, source)))
  return {
    url: `smtp://127.0.0.1:${first.port}`,
    port: first.port,
    letters,
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
  }
}

function readLetter(to: string[], source: string): Received {
  const head = source.slice(0, source.indexOf('\r\n\r\n')).replace(/\r\n[ \t]+/g, ' ')
  const header = (name: string) => new RegExp(`^${name}: (.*)$`, 'im').exec(head)?.[1] ?? ''
  const part = (type: string) => {
    const [, headers = '', body = ''] =
      new RegExp(`Content-Type: ${type}([\\s\\S]*?)\\r\\n\\r\\n([\\s\\S]*?)\\r\\n--`, 'i').exec(source) ?? []
    return decoded(body, /Content-Transfer-Encoding: (\S+)/i.exec(headers)?.[1] ?? '')
  }
  return {
    to,
    messageId: header('Message-ID'),
    subject: words(header('Subject')),
    text: part('text/plain'),
    html: part('text/html'),
    source,
  }
}

function decoded(body: string, encoding: string): string {
  if (encoding.toLowerCase() === 'base64') return Buffer.from(body, 'base64').toString('utf8')
  if (encoding.toLowerCase() !== 'quoted-printable') return body
  return bytesOf(body.replace(/=\r\n/g, ''))
}

/** RFC 2047 words, as a subject has them. */
const words = (text: string): string =>
  text
    .replace(/\?=\s+=\?/g, '?==?')
    .replace(/=\?utf-8\?([bq])\?(.*?)\?=/gi, (_all, kind: string, body: string) =>
      kind.toLowerCase() === 'b' ? Buffer.from(body, 'base64').toString('utf8') : bytesOf(body.replaceAll('_', ' ')),
    )

/** `=C3=A9` → `é` */
const bytesOf = (text: string): string =>
  text.replace(/(?:=[0-9A-F]{2})+/gi, (run) => Buffer.from(run.replaceAll('=', ''), 'hex').toString('utf8'))
