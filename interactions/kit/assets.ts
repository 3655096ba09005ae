import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Middleware } from 'koa'
import { type Brand, brandStyles, readLogo } from './brand.ts'

/** The style sheets, the script, the logo and the tab icon of every page. */
export interface Assets {
  /** Paths with a hash of the content in them, so that they can be kept for ever. */
  css: string
  js: string
  /** The brand's logo, if it has one. */
  logo: string | undefined
  /** The logo, or our mark. */
  icon: string
  /** The app's own style sheet, which comes after ours. */
  own: string | undefined
  serve: Middleware
}

/** A folder that this package ships besides its code (`views`, `public`, `locales`, `schemas`): also next to `dist`. */
export function packageFolder(name: 'views' | 'public' | 'locales' | 'schemas'): string {
  const beside = new URL(`../../${name}`, import.meta.url)
  return fileURLToPath(existsSync(beside) ? beside : new URL(`../../../${name}`, import.meta.url))
}

/** An SVG that is opened by its address is a document: it may have styles of its own, and do nothing. */
const SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"

/**
 * Reads `public/`, the brand's logo and the app's style sheet once. `serve` answers what it knows and leaves the rest to
 * the next middleware.
 *
 * @param options.base where the provider is mounted: pages name their files under it, `serve` is asked without it
 * @param options.stylesheet a CSS file of the app's own
 * @throws {TypeError} one line that names what of the brand cannot be used
 */
export function loadAssets({
  brand = {},
  base = '',
  stylesheet,
}: {
  brand?: Partial<Brand>
  base?: string
  stylesheet?: string | URL | undefined
} = {}): Assets {
  const files = new Map<string, { type: string; body: Buffer }>()

  const add = (name: string, type: string, body: Buffer) => {
    const hash = createHash('sha256').update(body).digest('hex').slice(0, 16)
    const path = `/assets/${name}.${hash}.${type}`
    files.set(path, { type, body })
    return base + path
  }
  const ours = (type: string) => readFileSync(join(packageFolder('public'), `sallyport.${type}`))
  const logo = brand.logo === undefined ? undefined : logoOf(brand.logo)
  const logoPath = logo && add('logo', logo.type, logo.body)

  return {
    css: add('sallyport', 'css', Buffer.concat([ours('css'), Buffer.from(brandStyles(brand))])),
    js: add('sallyport', 'js', ours('js')),
    logo: logoPath,
    icon: logoPath ?? add('sallyport', 'svg', ours('svg')),
    own: stylesheet === undefined ? undefined : add('own', 'css', readFileSync(stylesheet)),
    serve(ctx, next) {
      const file = ctx.method === 'GET' || ctx.method === 'HEAD' ? files.get(ctx.path) : undefined
      if (!file) return next()
      ctx.set('Cache-Control', 'public, max-age=31536000, immutable')
      ctx.set('X-Content-Type-Options', 'nosniff')
      if (file.type === 'svg') ctx.set('Content-Security-Policy', SVG_POLICY)
      ctx.type = file.type
      ctx.body = file.body
      return Promise.resolve()
    },
  }
}

function logoOf(file: string) {
  try {
    return readLogo(file)
  } catch (cause) {
    throw new TypeError(`brand.logo: ${(cause as Error).message}`, { cause })
  }
}
