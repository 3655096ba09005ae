/** Just enough of a browser: cookies with paths and expiry, forms, redirects followed by hand. No script, no mercy. */
interface Cookie {
  name: string
  value: string
  path: string
  expires: number
  attributes: string
}

/** An answer, with what a person could do on the page. */
export interface Answer {
  status: number
  /** Where this page is. */
  at: string
  location: string | undefined
  text: string
  headers: Headers
}

/** What a form posts, as the page's hidden fields and the person's typing. */
export type Fields = Record<string, string>

/** One browser. */
export class Visitor {
  cookies: Cookie[] = []
  /** Every cookie value, code and token that went over the wire. */
  readonly seen = new Set<string>()
  /** `GET /auth 303`, … */
  readonly log: string[] = []
  readonly origin: string
  /** Sent as X-Forwarded-For: an address of one's own. */
  readonly address: string
  /** Where the connection really goes: the inner side of a proxy that ends TLS for `origin`. */
  readonly via: string
  /** Sent as Accept-Language. */
  language: string | undefined

  constructor(origin: string, address = '127.0.0.1', via = origin) {
    this.origin = origin
    this.address = address
    this.via = via
  }

  /** A second window of the same browser, from here on with a jar of its own. */
  clone(): Visitor {
    const twin = new Visitor(this.origin, this.address, this.via)
    twin.cookies = this.cookies.map((cookie) => ({ ...cookie }))
    return twin
  }

  cookie(name: string): string | undefined {
    return this.cookies.find((cookie) => cookie.name === name)?.value
  }

  /** One request, no redirect followed. */
  async request(
    url: string,
    {
      form,
      headers = {},
      method,
    }: { form?: Fields | URLSearchParams | string; headers?: Record<string, string>; method?: string } = {},
  ): Promise<Answer> {
    const target = new URL(url, this.origin)
    const verb = method ?? (form === undefined ? 'GET' : 'POST')
    const sent: Record<string, string> = {
      accept: 'text/html',
      'x-forwarded-for': this.address,
      'user-agent': 'Visitor/1.0',
    }
    if (this.language !== undefined) sent['accept-language'] = this.language
    const jar = this.#cookieHeader(target.pathname)
    if (jar) sent['cookie'] = jar
    if (form !== undefined) {
      sent['content-type'] = 'application/x-www-form-urlencoded'
      sent['origin'] = target.origin
      sent['sec-fetch-site'] = 'same-origin'
    }
    const reached = target.origin === this.origin ? new URL(target.pathname + target.search, this.via) : target
    const response = await fetch(reached, {
      method: verb,
      headers: { ...sent, ...headers },
      redirect: 'manual',
      ...(form !== undefined && { body: typeof form === 'string' ? form : new URLSearchParams(form) }),
    })
    for (const cookie of response.headers.getSetCookie()) this.#keep(cookie)
    const text = await response.text()
    this.log.push(`${verb} ${target.pathname.replace(/[\w-]{21,}/g, ':uid')} ${response.status}`)
    const location = response.headers.get('location')
    const absolute = location === null ? undefined : new URL(location, target).href
    const code = absolute && new URL(absolute).searchParams.get('code')
    if (code) this.seen.add(code)
    return { status: response.status, at: target.href, location: absolute, text, headers: response.headers }
  }

  /** A request and the redirects on our own origin after it, until a page or the app's address. */
  async go(url: string, options: Parameters<Visitor['request']>[1] = {}): Promise<Answer> {
    let answer = await this.request(url, options)
    for (
      let hops = 0;
      answer.location?.startsWith(`${this.origin}/`) && answer.status >= 300 && answer.status < 400;
      hops++
    ) {
      if (hops > 12) throw new Error(`a loop of redirects: ${this.log.slice(-12).join(', ')}`)
      answer = await this.request(answer.location)
    }
    return answer
  }

  /** Submits the page's form with what the person typed. `to` picks another form of the page by the end of its action. */
  async submit(page: Answer, typed: Fields = {}, to?: string): Promise<Answer> {
    const { action, hidden } = formOf(page, to)
    return this.go(action, { form: { ...hidden, ...typed } })
  }

  #cookieHeader(path: string): string {
    return this.cookies
      .filter((cookie) => cookie.expires > Date.now() && covers(cookie.path, path))
      .sort((a, b) => b.path.length - a.path.length)
      .map(({ name, value }) => `${name}=${value}`)
      .join('; ')
  }

  #keep(header: string): void {
    const [pair = '', ...rest] = header.split(/;\s*/)
    const attributes = new Map(
      rest.map((part) => [part.split('=')[0]!.toLowerCase(), part.slice(part.indexOf('=') + 1)]),
    )
    const name = pair.slice(0, pair.indexOf('='))
    const value = pair.slice(pair.indexOf('=') + 1)
    const path = attributes.get('path') ?? '/'
    const expires = attributes.has('expires') ? Date.parse(attributes.get('expires')!) : Number.POSITIVE_INFINITY
    this.cookies = this.cookies.filter((cookie) => cookie.name !== name || cookie.path !== path)
    if (expires <= Date.now()) return
    this.cookies.push({ name, value, path, expires, attributes: rest.join('; ') })
    this.seen.add(value)
  }
}

const covers = (cookie: string, path: string) =>
  path === cookie || path.startsWith(cookie.endsWith('/') ? cookie : `${cookie}/`)

/** The form of a page: where it posts and its hidden fields. */
export function formOf(page: Answer, to?: string): { action: string; hidden: Fields } {
  const forms = [...page.text.matchAll(/<form[^>]*action="([^"]+)"[^>]*>([\s\S]*?)<\/form>/g)]
  const form =
    to === undefined
      ? (forms.find(([tag]) => /^<form[^>]*novalidate/.test(tag!)) ?? forms[0])
      : forms.find(([, action]) => action!.endsWith(to))
  if (!form)
    throw new Error(`no form${to === undefined ? '' : ` to ${to}`} on ${page.at}: ${page.status} ${titleOf(page)}`)
  const hidden = [...form[2]!.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)].map(
    ([, name, value]) => [name!, value!],
  )
  return { action: new URL(form[1]!.replaceAll('&amp;', '&'), page.at).href, hidden: Object.fromEntries(hidden) }
}

/** The page's title, `Error: ` included. */
export const titleOf = (page: Answer): string =>
  /<title>([^<]*)<\/title>/.exec(page.text)?.[1] ?? page.text.slice(0, 200)

/** The page's main heading. */
export const headingOf = (page: Answer): string => /<h1[^>]*>([\s\S]*?)<\/h1>/.exec(page.text)?.[1]?.trim() ?? ''
