import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import ejs, { type TemplateFunction } from 'ejs'
import { type Assets, packageFolder } from './assets.ts'
import type { Brand } from './brand.ts'
import type { Messages } from './messages.ts'

/** What is wrong with an answer, in the person's language; `field` is the id of the input it is about. */
export interface PageError {
  message: string
  field?: string
}

/** What every view gets, besides its own locals (the first line of each view names them). */
export interface Page {
  /** The h1. By convention the message `<view>.title`. */
  title: string
  error?: PageError
  /** What happened meanwhile, in a sentence. */
  notice?: string
  /** The app that asked. */
  clientName?: string
  csrf?: string
  /** Where the page's form posts. */
  action?: string
  /** "Back to the app": a form that posts `csrf`. */
  cancel?: { action: string }
  /** "Not you? Use a different account": a form that posts `csrf`. */
  different?: { action: string }
  /** Whom to ask without phone and recovery code, in a company's words; else the page says it for the brand. */
  help?: string
  [local: string]: unknown
}

/** Makes HTML of a view and its locals, in one language. */
export interface Pages {
  render(messages: Messages, view: string, page: Page & { nonce: string }): string
}

const OPTIONAL = ['error', 'notice', 'clientName', 'csrf', 'action', 'cancel', 'different', 'help']

/**
 * The pages, from the EJS files in `views/`.
 *
 * @param options.views folders that are searched first, also for partials: the way to replace a single one
 */
export function createPages(options: { brand: Brand; assets: Assets; views?: string[] }): Pages {
  const { brand, assets } = options
  const folders = [...(options.views ?? []), packageFolder('views')]
  const compiled = new Map<string, TemplateFunction>()

  function template(view: string): TemplateFunction {
    const known = compiled.get(view)
    if (known) return known
    const filename = folders.map((folder) => join(folder, `${view}.ejs`)).find((file) => existsSync(file))
    if (!filename) throw new Error(`no view "${view}"`)
    const fresh = ejs.compile(readFileSync(filename, 'utf8'), { filename })
    compiled.set(view, fresh)
    return fresh
  }

  const nothing = Object.fromEntries(OPTIONAL.map((name) => [name, undefined])) // EJS throws for a local that is not there

  return {
    render({ lang, dir, t, has, date, moment }, view, page) {
      /** The words before and after a placeholder, so that a view can mark up what goes between them. */
      const around = (key: string, placeholder: string) => t(key, { [placeholder]: '\0' }).split('\0')
      const common = { ...nothing, lang, dir, t, has, date, moment, around, brand, assets }
      // EJS's own include keeps one cache for the process and looks beside the including file first;
      // this one honours `views` for partials and keeps the templates of each createPages apart.
      const draw = (name: string, locals: object): string =>
        template(name)({ ...locals, include: (part: string, more?: object) => draw(part, { ...locals, ...more }) })
      return draw(view, { ...common, ...page })
    },
  }
}
