/** The pages of the app "Payments". */
import { createHash } from 'node:crypto'
import { decodeJwt } from 'jose'
import type { Context } from 'koa'
import type { Session } from './payments-session.ts'

const STYLE = `:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}body{max-width:44rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}button,.button,input{font:inherit;color:inherit;background:none;padding:.6rem 1rem;border:1px solid;border-radius:.5rem}button,.button{display:inline-block;cursor:pointer;text-decoration:none;margin:.25rem 0}input{box-sizing:border-box;width:100%;max-width:20rem}label{display:block}pre{overflow-x:auto;padding:1rem;border:1px solid #8888;border-radius:.5rem}[role=alert],[role=status]{border-inline-start:.3rem solid;padding-inline-start:.7rem}`
const STYLE_HASH = createHash('sha256').update(STYLE).digest('base64')

/** The one style, and nothing else. */
export const CONTENT_SECURITY_POLICY = `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'`

const link = (href: string, label: string) => `<p><a class="button" href="${href}">${label}</a></p>`
const button = (action: string, label: string) =>
  `<form method="post" action="${action}"><button>${label}</button></form>`

/** Who is signed in, with their tokens; and what waits for them. */
export function home(ctx: Context, session: Session): void {
  const { tokens } = session
  if (!tokens) {
    html(ctx, 'Payments', `${waits(session)}<p>You are not signed in.</p>${link('/sign-in', 'Sign in')}`)
    return
  }
  const token = (name: string, jwt: string) => {
    const id = `${name.split(' ')[0]!.toLowerCase()}-token`
    return `<h2 id="${id}-name">${name}</h2><pre id="${id}" tabindex="0" role="region" aria-labelledby="${id}-name">${escaped(JSON.stringify(decodeJwt(jwt), null, 2))}</pre>`
  }
  html(
    ctx,
    'Payments',
    `${waits(session)}<p>Signed in as <b>${escaped(String(decodeJwt(tokens.id)['sub']))}</b>.</p>
${link('/payments', 'Enter the Payments tool')}${link('/sign-out', 'Sign out')}
${token('ID token', tokens.id)}${token('Access token', tokens.access)}`,
  )
}

/** What was begun before a sign-in became necessary. */
const waits = ({ waiting, tokens }: Session) =>
  waiting
    ? `<div role="status"><p>Your ${waiting.what} was not made yet.</p>${tokens ? button('/go-on', `Go on with the ${waiting.what}`) : ''}</div>`
    : ''

/** The tool: where each thing that moves money wants a code of its own. */
export function tool(ctx: Context, session: Session, idleChoices: number[], error?: string): void {
  const { disbursements, account, idle } = session
  if (error) ctx.status = 400
  const invalid = error ? ' aria-invalid="true" aria-describedby="error"' : ''
  html(
    ctx,
    error ? 'Error: Payments tool' : 'Payments tool',
    `${waits(session)}<h2>Disbursements</h2>
<p>Made: <b id="disbursements">${disbursements}</b></p>${button('/disburse', 'Make a disbursement')}
<h2>Bank account</h2>
<p>Paid to: <b id="account">${account ? `account ending in ${escaped(account)}` : 'no account yet'}</b></p>
${error ? `<p id="error" role="alert">${error}</p>` : ''}<form method="post" action="/bank-account"><label for="account-number">New account number</label><input id="account-number" name="account" inputmode="numeric" autocomplete="off" required maxlength="17"${invalid}> <button>Change the bank account</button></form>
<h2>Without use</h2>
<p>After <b id="idle">${inWords(idle)}</b> without use you prove your second factor again.</p>
${idleChoices
  .filter((seconds) => seconds !== idle)
  .map((seconds) => button(`/idle?seconds=${seconds}`, `Make it ${inWords(seconds)}`))
  .join('')}${link('/', 'Who is signed in')}${link('/sign-out', 'Sign out')}`,
    'Payments tool',
  )
}

const inWords = (seconds: number) => (seconds < 60 ? `${seconds} seconds` : `${seconds / 60} minutes`)

/** Says that something came to nothing, and leads on. */
export function message(ctx: Context, status: number, title: string, why: string): void {
  ctx.status = status
  html(ctx, title, `<p>${escaped(why)}</p>${link('/', 'Back to Payments')}`)
}

function html(ctx: Context, title: string, body: string, heading = title): void {
  ctx.type = 'html'
  ctx.body = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${title}</title><style>${STYLE}</style><main><h1>${heading}</h1>${body}</main></html>`
}

const escaped = (text: string) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
