/** Whose pages these are: name, help, logo, and colours that everybody can read. */
import { readFileSync } from 'node:fs'

/** Whose sign-in this is. */
export interface Brand {
  name: string
  /** Path of an SVG or PNG file of at most 12 KiB. It stands in place of our mark and the name, and in the browser's tab. */
  logo?: string
  /** Of buttons and marks, `#rrggbb`. Links and the text on buttons are made from it. */
  colour?: string
  /** The same on a dark page. By default `colour`, lighter where it must be. */
  colourDark?: string
  helpUrl?: string
  /** Whom to ask, as text: a mail address or a phone number. */
  supportContact?: string
  /** Where somebody goes whose app is not known: a page that lists the apps. */
  homeUrl?: string
}

/** What is behind brand colours in sallyport.css: card, sunken and page. */
export const SURFACES = {
  light: ['#ffffff', '#f4f7f8', '#eef3f4'],
  dark: ['#152023', '#101a1d', '#0c1416'],
} as const
type Look = keyof typeof SURFACES

/** WCAG 2.2: 1.4.11 for edges of buttons, which are never on the bare page; 1.4.3 for text, which may be. */
const EDGES = { ratio: 3, surfaces: 2 }
const TEXT = { ratio: 4.5, surfaces: 3 }
type Need = typeof TEXT

/** What is wrong with a brand's colour, in words that follow its name; `undefined` when it can be seen. */
export function colourProblem(colour: string, look: Look): string | undefined {
  if (!/^#[0-9a-f]{6}$/i.test(colour)) return 'must be a colour as #rrggbb, such as #0e6472'
  const { found, worst } = least(colour, look, EDGES)
  if (found >= EDGES.ratio) return undefined
  const ratio = (Math.floor(found * 100) / 100).toFixed(2)
  const better = readable(colour, look, EDGES)
  return `${colour} has a contrast of ${ratio}:1 with ${worst} of the ${look} pages, and ${EDGES.ratio}:1 is needed (WCAG 1.4.11): ${better} has it`
}

/**
 * Custom properties in place of those in sallyport.css; empty for a brand without colours.
 *
 * @throws {TypeError} one line, for a colour that is none or cannot be seen
 */
export function brandStyles({ colour, colourDark }: Pick<Brand, 'colour' | 'colourDark'>): string {
  const check = (name: string, value: string | undefined, look: Look) => {
    const problem = value === undefined ? undefined : colourProblem(value, look)
    if (problem) throw new TypeError(`brand.${name}: ${problem}`)
  }
  check('colour', colour, 'light')
  check('colourDark', colourDark, 'dark')
  const dark = colourDark ?? (colour && readable(colour, 'dark', TEXT))
  return [
    colour && `:root{${properties(colour, 'light')}}`,
    // Always with the first: a later rule for both looks would win over the dark one before it.
    dark && `@media screen and (prefers-color-scheme:dark){:root{${properties(dark, 'dark')}}}`,
  ]
    .filter(Boolean)
    .join('')
}

function properties(colour: string, look: Look): string {
  const onBrand = contrast(colour, '#ffffff') >= TEXT.ratio ? '#ffffff' : '#000000' // one of the two always has 4.5:1
  const away = onBrand === '#ffffff' ? '#000000' : '#ffffff'
  const link = readable(colour, look, TEXT)
  const values = {
    brand: colour,
    'brand-strong': mix(colour, away, 0.2),
    'on-brand': onBrand,
    link,
    'link-strong': mix(link, END[look], 0.25),
  }
  return Object.entries(values)
    .map(([name, value]) => `--${name}:${value}`)
    .join(';')
}

/** Where a colour goes that is to stand out more. */
const END = { light: '#000000', dark: '#ffffff' } as const

/** The colour, or the nearest darker (on dark pages lighter) one that has what is needed. */
function readable(colour: string, look: Look, need: Need): string {
  for (let part = 0; part < 1; part += 0.01) {
    const mixed = mix(colour, END[look], part)
    if (least(mixed, look, need).found >= need.ratio) return mixed
  }
  return END[look]
}

/** The least contrast that the colour has with what it stands on. */
function least(colour: string, look: Look, { surfaces }: Need): { found: number; worst: string } {
  const all = SURFACES[look].slice(0, surfaces).map((worst) => ({ found: contrast(colour, worst), worst }))
  return all.sort((a, b) => a.found - b.found)[0]!
}

/** The contrast ratio of WCAG 2.2, from 1 to 21. Both colours are `#rrggbb`. */
export function contrast(one: string, other: string): number {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a)
  return (light! + 0.05) / (dark! + 0.05)
}

function luminance(colour: string): number {
  const [red, green, blue] = channels(colour).map((value) => {
    const part = value / 255
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!
}

/** @param part of `other`, from 0 to 1 */
function mix(colour: string, other: string, part: number): string {
  const end = channels(other)
  const mixed = channels(colour).map((value, i) => Math.round(value + (end[i]! - value) * part))
  return `#${mixed.map((value) => value.toString(16).padStart(2, '0')).join('')}`
}

const channels = (colour: string) => [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16))

/** So that a sign-in page stays below 30 KB. */
const LOGO_LIMIT = 12 * 1024

/**
 * Reads a logo.
 *
 * @throws {TypeError} in words that follow the setting's name: not there, too large, neither SVG nor PNG
 */
export function readLogo(file: string): { type: 'svg' | 'png'; body: Buffer } {
  let body: Buffer
  try {
    body = readFileSync(file)
  } catch (cause) {
    throw new TypeError(`cannot read ${file} (${(cause as NodeJS.ErrnoException).code})`, { cause })
  }
  if (body.length > LOGO_LIMIT)
    throw new TypeError(`${file} has ${body.length} bytes, and ${LOGO_LIMIT} is the most: simplify or compress it`)
  if (body.subarray(0, 8).toString('latin1') === '\x89PNG\r\n\x1a\n') return { type: 'png', body }
  if (/^\s*(<\?xml[^>]*>\s*)?(<!--[\s\S]*?-->\s*|<!doctype[^>]*>\s*)*<svg[\s>]/i.test(body.toString('utf8')))
    return { type: 'svg', body }
  throw new TypeError(`${file} must be an SVG or PNG file`)
}
