/** The sentences of every language, and which language a person gets. */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { packageFolder } from './assets.ts'

/** What stands in for the `{name}`s of a message. */
export type Vars = Record<string, string | number>

/** Sentences of an app's own, by language (a BCP 47 tag) and key. */
export type Wording = Record<string, Record<string, string>>

/** The sentences of one language. */
export interface Messages {
  /** BCP 47. */
  lang: string
  dir: 'ltr' | 'rtl'
  /**
   * The message, with its placeholders filled in. A number among `vars` picks the plural form
   * `<key>.<form>` (`one`, `few`, …) where there is one. Throws for an unknown key.
   */
  t(key: string, vars?: Vars): string
  /** Whether there is a message of that key. */
  has(key: string): boolean
  /** A day in words, in UTC. @param seconds since 1970 */
  date(seconds: number): string
  /** A day and a time in words, in UTC. @param seconds since 1970 */
  moment(seconds: number): string
  /** A wait in words, rounded up: "20 seconds", "30 minutes", "24 hours". */
  duration(seconds: number): string
}

/** The languages that the pages speak. */
export interface Languages {
  /** Their tags, the default first; `ui_locales_supported` of OIDC Discovery §3. */
  tags: string[]
  /**
   * The first of the wanted languages that there is, else the default. `fr-CA` finds `fr`, and `fr` finds `fr-CA`; another
   * script is another language. What is no language tag is passed over: wishes are no reason for an error (OIDC Core §3.1.2.1).
   *
   * @param wanted BCP 47 tags, the best first
   */
  best(wanted: readonly string[]): Messages
}

/** Scripts that are written from right to left (ISO 15924). */
const RIGHT_TO_LEFT = ['Adlm', 'Arab', 'Hebr', 'Mand', 'Nkoo', 'Rohg', 'Samr', 'Syrc', 'Thaa']
/** A stranger may wish for as many languages as fit into an address. */
const WISHES = 20
/** Lists of wishes whose answer is remembered. */
const REMEMBERED = 500

/**
 * Reads `locales/` once. A language's file is named by its tag; what it does not say is said in English.
 *
 * @param wording sentences in place of ours or besides, also in languages that we do not have
 * @param standard the language of people whose wishes cannot be met
 * @throws {TypeError} for a name that is no tag, or a default that there is no language of
 */
export function loadLanguages(wording: Wording = {}, standard = 'en'): Languages {
  const texts = new Map(shippedLanguages().map((tag) => [tag, read(tag)]))
  for (const [name, own] of Object.entries(wording)) {
    const tag = canonical(name)
    if (tag === undefined)
      throw new TypeError(`messages: "${name}" must be a language tag, such as pt-BR, with its sentences by key`)
    // A variant goes on from its language: `fr-CA` says the rest as `fr` does.
    texts.set(tag, { ...(texts.get(tag) ?? texts.get(facts(tag).language)), ...own })
  }
  const english = createMessages('en', texts.get('en')!)
  const languages = [...texts].map(([tag, own]) => (tag === 'en' ? english : createMessages(tag, own, english)))
  const first = languages.find(({ lang }) => lang === canonical(standard))
  if (!first)
    throw new TypeError(`language: "${standard}" must be one of ${languages.map(({ lang }) => lang).join(', ')}`)
  const all = [first, ...languages.filter((one) => one !== first)].map((messages) => ({
    messages,
    ...facts(messages.lang),
  }))

  const bestOf = (wishes: readonly string[]): Messages => {
    for (const name of wishes) {
      const tag = canonical(name)
      if (tag === undefined) continue
      const { language, script, region } = facts(tag)
      const near = all.filter((one) => one.language === language && one.script === script)
      const found =
        near.find(({ messages }) => messages.lang === tag) ?? near.find((one) => one.region === region) ?? near[0]
      if (found) return found.messages
    }
    return first
  }
  // Browsers repeat themselves, and asking Intl takes a tenth of a millisecond.
  const known = new Map<string, Messages>()

  return {
    tags: all.map(({ messages }) => messages.lang),
    best(wanted) {
      const wishes = wanted.slice(0, WISHES)
      const key = wishes.join()
      const found = known.get(key) ?? bestOf(wishes)
      // Strangers may wish for anything: what was found is forgotten before it is too much.
      if (known.size >= REMEMBERED) known.clear()
      known.set(key, found)
      return found
    },
  }
}

/** The tags of the languages in `locales/`. */
export const shippedLanguages = (): string[] =>
  readdirSync(packageFolder('locales')).map((file) => basename(file, '.json'))

const read = (tag: string) =>
  JSON.parse(readFileSync(join(packageFolder('locales'), `${tag}.json`), 'utf8')) as Record<string, string>

/** The tag as BCP 47 writes it, without extensions, or `undefined` for what is none. */
function canonical(tag: string): string | undefined {
  try {
    return new Intl.Locale(tag).baseName
  } catch {
    return undefined
  }
}

/** With the script and the region that most people who say this tag mean. */
function facts(tag: string) {
  const { language, script, region } = new Intl.Locale(tag).maximize()
  return { language, script, region }
}

/** @param fallback says what this language has no sentence for */
function createMessages(lang: string, own: Record<string, string>, fallback?: Messages): Messages {
  const texts = new Map(Object.entries(own))
  const plural = new Intl.PluralRules(lang)
  const numbers = new Intl.NumberFormat(lang)
  const day = new Intl.DateTimeFormat(lang, { dateStyle: 'long', timeZone: 'UTC' })
  const moment = new Intl.DateTimeFormat(lang, { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' })
  const units = Object.fromEntries(
    (['second', 'minute', 'hour'] as const).map((unit) => [
      unit,
      new Intl.NumberFormat(lang, { style: 'unit', unit, unitDisplay: 'long' }),
    ]),
  ) as Record<'second' | 'minute' | 'hour', Intl.NumberFormat>

  return {
    lang,
    dir: RIGHT_TO_LEFT.includes(facts(lang).script ?? '') ? 'rtl' : 'ltr',
    has: (key) => texts.has(key) || fallback?.has(key) === true,
    t(key, vars = {}) {
      const count = Object.values(vars).find((value) => typeof value === 'number')
      const form = count === undefined ? undefined : texts.get(`${key}.${plural.select(count)}`)
      const text = form ?? texts.get(key)
      if (text === undefined) {
        if (fallback) return fallback.t(key, vars)
        throw new Error(`no message "${key}"`)
      }
      return text.replace(/\{(\w+)\}/g, (placeholder, name) => {
        const value = vars[name] ?? placeholder
        return typeof value === 'number' ? numbers.format(value) : value
      })
    },
    date: (seconds) => day.format(seconds * 1000),
    moment: (seconds) => moment.format(seconds * 1000),
    duration(seconds) {
      if (seconds < 60) return units.second.format(Math.max(1, Math.ceil(seconds)))
      const minutes = Math.ceil(seconds / 60)
      return minutes < 120 ? units.minute.format(minutes) : units.hour.format(Math.ceil(minutes / 60))
    },
  }
}
