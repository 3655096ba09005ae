/** What is stored, in a person's words. */
import type { Messages } from '../../interactions/index.ts'
import type { Company } from '../stores.ts'

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

/** A browser as people know it, "Firefox, Windows"; what we do not know begins as it names itself. @param userAgent the header */
export function browserName(userAgent: string): string {
  const first = (list: readonly (readonly [RegExp, string])[]) => list.find(([sign]) => sign.test(userAgent))?.[1]
  const known = [first(BROWSERS), first(SYSTEMS)].filter((name) => name !== undefined)
  return known.length > 0 ? known.join(', ') : userAgent.slice(0, 40)
}

/**
 * Why something was asked, in a sentence, or `undefined` for what says nothing to a person.
 *
 * @param source a reason of the policy, or who raised the requirement, as the audit has it
 */
export function whyInWords({ t, has }: Messages, source: string, companies: readonly Company[]): string | undefined {
  const [kind = '', rest = ''] = source.split(/:(.*)/s)
  const nameOf = (id: string) => companies.find((company) => company.id === id)?.name ?? id
  const [, at] = rest.split(/@(.*)/s)
  if (kind === 'role' && at !== undefined) return t('account.why.role_at', { company: nameOf(at) })
  if (kind === 'company') return t('account.why.company', { company: nameOf(rest) })
  const key = `account.why.${kind}`
  return has(key) ? t(key) : undefined
}

/** Each once, in their order. */
export const reasonsInWords = (messages: Messages, sources: readonly string[], companies: readonly Company[]) => [
  ...new Set(sources.flatMap((source) => whyInWords(messages, source, companies) ?? [])),
]
