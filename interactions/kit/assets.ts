import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Middleware } from 'koa'

/** The style sheets, the script and the tab icon of every page. */
export interface Assets {
  /** Paths with a hash of the content in them, so that they can be kept for ever. */
  css: string
  js: string
  icon: string
  /** The app's own style sheet, which comes after ours. */
  own: string | undefined
  serve: Middleware
}

/** A folder that this package ships besides its code (`views`, `public`, `locales`): also next to `dist`. */
export function packageFolder(name: 'views' | 'public' | 'locales'): string {
  const beside = new URL(`../../${name}`, import.meta.url)
  return fileURLToPath(existsSync(beside) ? beside : new URL(`../../../${name}`, import.meta.url))
}

/**
 * Reads `public/` once. `serve` answers what it knows and leaves the rest to the next middleware.
 *
 * @param options.base where the provider is mounted: pages name their files under it, `serve` is asked without it
 * @param options.stylesheet a CSS file of the app's own
 */
export function loadAssets({
  base = '',
  stylesheet,
}: {
  base?: string
  stylesheet?: string | URL | undefined
} = {}): Assets {
  const files = new Map<string, { type: string; body: Buffer }>()

  const add = (file: string | URL, name = 'sallyport') => {
    const body = readFileSync(file)
    const type = extname(String(file)).slice(1)
    const hash = createHash('sha256').update(body).digest('hex').slice(0, 16)
    const path = `/assets/${name}.${hash}.${type}`
    files.set(path, { type, body })
    return base + path
  }
  const ours = (type: 'css' | 'js' | 'svg') => add(join(packageFolder('public'), `sallyport.${type}`))

  return {
    css: ours('css'),
    js: ours('js'),
    icon: ours('svg'),
    own: stylesheet === undefined ? undefined : add(stylesheet, 'own'),
    async serve(ctx, next) {
      const file = ctx.method === 'GET' || ctx.method === 'HEAD' ? files.get(ctx.path) : undefined
      if (!file) return next()
      ctx.set('Cache-Control', 'public, max-age=31536000, immutable')
      ctx.set('X-Content-Type-Options', 'nosniff')
      ctx.type = file.type
      ctx.body = file.body
    },
  }
}
