/** A browser as people know it. */

const BROWSERS = [
  [/\bEdgA?\//, 'Edge'],
  [/\bOPR\//, 'Opera'],
  [/\bSamsungBrowser\//, 'Samsung Internet'],
  [/\b(?:Firefox|FxiOS)\//, 'Firefox'],
  [/\b(?:Chrome|CriOS)\//, 'Chrome'],
  [/\bSafari\//, 'Safari'],
] as const
const SYSTEMS = [
  [/\b(?:iPhone|iPod)\b/, 'iPhone'],
  [/\biPad\b/, 'iPad'],
  [/\bAndroid\b/, 'Android'],
  [/\bWindows\b/, 'Windows'],
  [/\bCrOS\b/, 'ChromeOS'],
  [/\bMac OS X\b/, 'macOS'],
  [/\bLinux\b/, 'Linux'],
] as const
/** The one word before a version: no address, and no sentence. */
const PRODUCT = /^[A-Za-z][\w-]{0,39}(?=[/ ]|$)/

/**
 * "Firefox, Windows"; of what we do not know, the one word by which it names itself; `undefined` when that is none. A stranger
 * chooses the header, and it stands in letters of ours: nothing else of it is said.
 *
 * @param userAgent the header (RFC 9110 §10.1.5)
 */
export function browserName(userAgent: string): string | undefined {
  const first = (list: readonly (readonly [RegExp, string])[]) => list.find(([sign]) => sign.test(userAgent))?.[1]
  const known = [first(BROWSERS), first(SYSTEMS)].filter((name) => name !== undefined)
  return known.length > 0 ? known.join(', ') : PRODUCT.exec(userAgent)?.[0]
}
