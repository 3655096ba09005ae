import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packageFolder } from './assets.ts'

/** What stands in for the `{name}`s of a message. */
export type Vars = Record<string, string | number>

/** The sentences of one language. */
export interface Messages {
  lang: string
  dir: 'ltr' | 'rtl'
  /**
   * The message, with its placeholders filled in. A number among `vars` picks the plural form
   * `<key>.<form>` (`one`, `few`, …) where there is one. Throws for an unknown key.
   */
  t(key: string, vars?: Vars): string
  /** Whether there is a message of that key. */
  has(key: string): boolean
}

/** The English messages of `locales/en.json`, with the given ones instead or besides (also `lang` and `dir`). */
export function loadMessages(overrides: Record<string, string> = {}): Messages {
  const english: Record<string, string> = JSON.parse(readFileSync(join(packageFolder('locales'), 'en.json'), 'utf8'))
  const texts = new Map(Object.entries({ ...english, ...overrides }))

  const find = (key: string): string => {
    const text = texts.get(key)
    if (text === undefined) throw new Error(`no message "${key}"`)
    return text
  }
  const lang = find('lang')
  const plural = new Intl.PluralRules(lang)

  return {
    lang,
    dir: find('dir') === 'rtl' ? 'rtl' : 'ltr',
    has: (key) => texts.has(key),
    t(key, vars = {}) {
      const count = Object.values(vars).find((value) => typeof value === 'number')
      const text = (count !== undefined && texts.get(`${key}.${plural.select(count)}`)) || find(key)
      return text.replace(/\{(\w+)\}/g, (placeholder, name) => String(vars[name] ?? placeholder))
    },
  }
}

/** A wait in words, rounded up: "20 seconds", "30 minutes", "24 hours". */
export function duration({ t }: Messages, seconds: number): string {
  if (seconds < 60) return t('duration.seconds', { n: Math.max(1, Math.ceil(seconds)) })
  const minutes = Math.ceil(seconds / 60)
  return minutes < 120 ? t('duration.minutes', { n: minutes }) : t('duration.hours', { n: Math.ceil(minutes / 60) })
}
