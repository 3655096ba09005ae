/** The app's own pages. They know nothing of who signs people in. */
import type { Middleware } from 'koa'

const PAGES = new Map([
  ['/', 'Ledger: who owes whom'],
  ['/pricing', 'Ledger is free for up to three debtors'],
])

export const pages: Middleware = async (ctx, next) => {
  const text = PAGES.get(ctx.path)
  if (text === undefined) return next()
  ctx.cookies.set('seen', 'yes', { signed: true })
  ctx.type = 'html'
  ctx.body = `<!doctype html><title>Ledger</title><h1>${text}</h1>`
}
