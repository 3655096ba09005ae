import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Middleware } from 'koa'

/** The style sheet, the script and the tab icon of every page. */
export interface Assets {
  /** Paths with a hash of the content in them, so that they can be kept for ever. */
  css: string
  js: string
  icon: string
  serve: Middleware
}

/** A folder that this package ships besides its code (`views`, `public`, `locales`): also next to `dist`. */
export function packageFolder(name: 'views' | 'public' | 'locales'): string {
  const beside = new URL(`../../${name}`, import.meta.url)
  return fileURLToPath(existsSync(beside) ? beside : new URL(`../../../${name}`, import.meta.url))
}

/** Reads `public/` once. `serve` answers under `prefix` what it knows and leaves the rest to the next middleware. */
export function loadAssets(prefix = '/assets'): Assets {
  const files = new Map<string, { type: string; body: Buffer }>()

  const add = (type: 'css' | 'js' | 'svg') => {
    const body = readFileSync(join(packageFolder('public'), `sallyport.${type}`))
    const hash = createHash('sha256').update(body).digest('hex').slice(0, 16)
    const path = `${prefix}/sallyport.${hash}.${type}`
    files.set(path, { type, body })
    return path
  }

  return {
    css: add('css'),
    js: add('js'),
    icon: add('svg'),
    serve(ctx, next) {
      const file = ctx.method === 'GET' || ctx.method === 'HEAD' ? files.get(ctx.path) : undefined
      if (!file) return next()
      ctx.set('Cache-Control', 'public, max-age=31536000, immutable')
      ctx.set('X-Content-Type-Options', 'nosniff')
      ctx.type = file.type
      ctx.body = file.body
      return Promise.resolve()
    },
  }
}
