/** The demo's mailbox and phone: every letter and text that its people get, on one page of this machine. */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Letters, MessageState } from '../../interactions/index.ts'
import type { SmsBody } from '../sms/outbox.ts'
import type { Database } from '../stores.ts'

/** Messages on the page, newest first. */
const SHOWN = 50

/** What the page is made of. */
export interface OutboxPageParts {
  /** 0: any free one. */
  port: number
  database: Pick<Database, 'outbox' | 'directory'>
  letters: Letters
}

/**
 * Starts it, on 127.0.0.1 only. It shows codes and links to whoever asks, so it is for a demo and never for anything else.
 *
 * @returns where it is, and how to stop it
 */
export async function startOutboxPage({
  port,
  ...parts
}: OutboxPageParts): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    const answer = (status: number, body: string) =>
      response
        .writeHead(status, {
          'Content-Type': 'text/html; charset=utf-8',
          'Content-Security-Policy': `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
          'Cache-Control': 'no-store',
          'Referrer-Policy': 'no-referrer',
          'X-Content-Type-Options': 'nosniff',
          'Cross-Origin-Resource-Policy': 'same-origin',
        })
        .end(body)
    const { port: own } = server.address() as AddressInfo
    // A name that somebody else's DNS points here must not read it (DNS rebinding).
    if (![`127.0.0.1:${own}`, `localhost:${own}`].includes(request.headers.host ?? ''))
      return answer(403, page('Not here', `<p>Open <a href="http://127.0.0.1:${own}/">127.0.0.1:${own}</a>.</p>`))
    if (!isForPage(request)) return answer(404, page('Not found', '<p><a href="/">Messages</a></p>'))
    messagesOf(parts).then(
      (body) => answer(200, body),
      () => answer(500, page('Not now', '<p>The messages could not be read. <a href="/">Try again</a></p>')),
    )
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const isForPage = ({ method, url }: IncomingMessage) => (method === 'GET' || method === 'HEAD') && url === '/'

async function messagesOf({ database, letters }: Omit<OutboxPageParts, 'port'>): Promise<string> {
  const now = Date.now() / 1000
  const states = (await database.outbox.list({ limit: SHOWN })).filter(
    // Texts are due to nobody, and there at once; letters of later are not there yet.
    ({ channel, dueAt }) => channel === 'sms' || dueAt === undefined || dueAt <= now,
  )
  const bodies = await Promise.all(states.map(({ id }) => database.outbox.read(id)))
  const shown = states.map((state, index) => shownOf(state, bodies[index], letters))
  return page(
    'Messages',
    `<p>What the demo’s people get by mail and on their phones, newest first. Nothing of it leaves this machine.</p>
<p><a class="button" href="/">Look again</a></p>
${shown.length === 0 ? '<p>Nothing yet.</p>' : `<ul>${shown.join('\n')}</ul>`}`,
  )
}

function shownOf(state: MessageState, body: string | undefined, letters: Letters): string {
  const { accountId, channel, kind, createdAt } = state
  const about = `<p class="about">${channel === 'sms' ? 'Text message' : 'Mail'}, <time datetime="${iso(createdAt)}">${iso(createdAt)}</time></p>`
  const message = (to: string, title: string, text: string) =>
    `<li data-kind="${escaped(kind)}"><h2>${escaped(title)}</h2>${about}<p class="about">To ${escaped(to)}</p><p class="text">${linked(text)}</p></li>`
  if (body === undefined) return message('its reader', kind, 'It has left.')
  if (channel === 'sms') {
    const { to, text } = JSON.parse(body) as SmsBody
    return message(to, 'Code', text)
  }
  const { to, subject, text } = letters.write({ accountId, kind, body })
  return message(to, subject, text)
}

const iso = (seconds: number) => new Date(seconds * 1000).toISOString().replace('.000', '')

const STYLE = `:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}body{max-width:44rem;margin:2rem auto;padding:0 1rem}ul{list-style:none;padding:0}li{border:1px solid #8888;border-radius:.5rem;padding:0 1rem;margin:1rem 0}h2{font-size:1.125rem;margin:.75rem 0 0}.about{margin:0}.text{white-space:pre-line;overflow-wrap:anywhere}.button{display:inline-block;color:inherit;padding:.6rem 1rem;border:1px solid;border-radius:.5rem;text-decoration:none}`
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64')

const page = (title: string, body: string) =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${title}</title><style>${STYLE}</style><body><main><h1>${title}</h1>${body}</main></body></html>`

const escaped = (text: string) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

/** Addresses of web pages become links; all else is text. */
const linked = (text: string) =>
  text
    .split(/(https?:\/\/[^\s<>"]+)/)
    .map((part, index) => (index % 2 ? `<a href="${escaped(part)}">${escaped(part)}</a>` : escaped(part)))
    .join('')
