/**
 * Random orders of what two browsers and three people can do, and of rules that change meanwhile, through real HTTP.
 * test/support/oracle.ts says what each request may ask and what each token may claim; here the world is played.
 *
 * `PROPERTY_RUNS=1000` plays longer, `PROPERTY_SEED=…` plays other orders; a failure prints its seed and the whole story.
 */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { generate } from 'otplib'
import { newSecret } from '../../interactions/factors/totp.ts'
import { createPasswordHasher } from '../../interactions/index.ts'
import type { Client } from '../../server/stores.ts'
import { now, standStill, wait } from '../support/clock.ts'
import {
  CALLBACK,
  claimsIn,
  mailedLinkTo,
  openTestHouse,
  PASSWORD,
  type TestHouse,
  type Tokens,
} from '../support/house.ts'
import { type Browser, type Claims, type Flow, Oracle, type Person, type Question } from '../support/oracle.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 60)
const SEED = Number(process.env['PROPERTY_SEED'] ?? 20270131)
/** After the first failure, so many shorter stories are tried. */
const SHRINKS = Number(process.env['PROPERTY_SHRINKS'] ?? 80)

const PASSWORDS = [PASSWORD, 'another correct horse battery', 'a third correct horse battery']
const RECOVERY_CODE = 'ABCD-EFGH-JKMN-PQRS-TVWX-YZ23'
const STEP = 30

type How = 'right' | 'wrong' | 'replayed' | 'recovery' | 'former recovery' | 'forged' | 'nothing'
type Action =
  | { do: 'open'; browser: number; client: string; params: Record<string, string> }
  | { do: 'answer'; browser: number; how: How; who: number }
  | { do: 'go on'; browser: number; pages: number; how: How; who: number }
  | { do: 'go back and answer'; browser: number; pages: number; how: How; who: number }
  | { do: 'answer the other browser’s page'; browser: number; who: number }
  | { do: 'answer in both at once'; who: number }
  | { do: 'reload' | 'ask again' | 'use another account' | 'cancel' | 'sign out'; browser: number }
  | { do: 'exchange'; which: number }
  | { do: 'refresh'; which: number; former: boolean }
  | { do: 'wait'; seconds: number }
  | { do: 'change the password' | 'reset the factors' | 'disable' | 'enable'; who: number }
  | { do: 'enforce' | 'require'; on: boolean }

const browser = fc.nat(1)
const who = fc.constantFrom(0, 0, 0, 0, 1, 1, 2, 3)
const right = fc.constant<How>('right')
const params = fc.record(
  {
    prompt: fc.constantFrom('login', 'login', 'none'),
    max_age: fc.constantFrom('0', '1', '60', '3000'),
    second_factor_max_age: fc.constantFrom('0', '60', '5000'),
    acr_values: fc.constantFrom(
      'urn:sallyport:acr:1fa',
      'urn:sallyport:acr:2fa',
      'urn:sallyport:acr:2fa-app',
      'https://refeds.org/profile/mfa',
      'urn:sallyport:acr:1fa https://refeds.org/profile/mfa',
      'urn:unknown',
    ),
    login_hint: fc.constant('somebody@city.example'),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<Record<string, string>>
const sparse = fc.oneof(fc.constant<Record<string, string>>({}), params)

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 14,
    arbitrary: fc.record({
      do: fc.constant('open' as const),
      browser,
      client: fc.constantFrom('payments', 'payments', 'strict'),
      params: sparse,
    }),
  },
  {
    weight: 40,
    arbitrary: fc.record({
      do: fc.constant('go on' as const),
      browser,
      pages: fc.integer({ min: 1, max: 4 }),
      how: fc.oneof({ weight: 4, arbitrary: right }, { weight: 1, arbitrary: fc.constant<How>('recovery') }),
      who,
    }),
  },
  {
    weight: 14,
    arbitrary: fc.record({
      do: fc.constant('answer' as const),
      browser,
      how: fc.constantFrom<How>(
        'wrong',
        'replayed',
        'recovery',
        'recovery',
        'recovery',
        'former recovery',
        'forged',
        'nothing',
      ),
      who,
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('go back and answer' as const),
      browser,
      pages: fc.integer({ min: 1, max: 6 }),
      how: fc.oneof(right, fc.constantFrom<How>('replayed', 'recovery')),
      who,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('answer the other browser’s page' as const), browser, who }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('answer in both at once' as const), who }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom('reload', 'ask again', 'ask again', 'use another account', 'cancel', 'sign out'),
      browser,
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('exchange' as const), which: fc.nat(9) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('refresh' as const), which: fc.nat(9), former: fc.boolean() }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      seconds: fc.constantFrom(1, 10, 31, 31, 61, 61, 400, 2000, 3599, 3605),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('change the password', 'reset the factors', 'disable', 'enable'),
      who: fc.constantFrom(0, 0, 1, 2),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('enforce', 'require'), on: fc.boolean() }) },
)

const actions = fc.array(action, { minLength: 8, maxLength: 22, size: 'max' })

/** Who the three people are at the beginning. */
const cast = fc.tuple(
  ...[0, 1, 2].map(() =>
    fc.record({ role: fc.constantFrom('payor', 'payor', 'standard', 'payee'), app: fc.boolean() } as const),
  ),
)
type Cast = { role: Person['role']; app: boolean }[]

/** A page in front of somebody. */
interface Page {
  answer: Answer
  flow: Flow | undefined
}

/** A browser of the test and of the oracle. */
interface Player extends Browser {
  visitor: Visitor
  /** The page in front of the person; none while they are at the app. */
  page?: Page | undefined
  /** Pages of before, the newest last. */
  pages: Page[]
  cancelled?: boolean | undefined
  /** The last request that was made. */
  last?: { client: string; params: Record<string, string> } | undefined
  /** The mailed link that this browser opened last. */
  opened?: { person: Person; epoch: number; link: string; usedBy?: Flow } | undefined
  /** What is being submitted. */
  submitting?: { page: Page; kind: Kind; fields: Record<string, string> } | undefined
  lastRow: number
}

/** An authorization code that was issued, and what came of it. */
interface Issued {
  answer: Answer
  flow: Flow
  person: Person
  claims: Claims
  epoch: number
  at: number
  ends: number
  exchanged: boolean
  /** Refresh tokens, the newest last. */
  refresh: { token: string; used: boolean }[]
  dead: boolean
}

type Kind =
  | 'email'
  | 'password'
  | 'challenge'
  | 'recovery'
  | 'link'
  | 'enrolment'
  | 'acknowledgement'
  | 'switch'
  | 'message'

/** Which page this is, by its fields, as a person sees it. */
function kindOf({ text }: Answer): Kind {
  if (/name="email"/.test(text)) return 'email'
  if (/name="password"/.test(text)) return 'password'
  if (/id="key"/.test(text)) return 'enrolment'
  if (/name="code"/.test(text)) return 'challenge'
  if (/name="recovery_code"/.test(text)) return 'recovery'
  if (/name="acknowledged"/.test(text)) return 'acknowledgement'
  if (/name="xsrf"/.test(text)) return 'switch'
  if (/action="[^"]*\/again"/.test(text)) return 'link'
  if (/<h1[^>]*>You have opened the link/.test(text) && /name="csrf"/.test(text)) return 'link'
  return 'message'
}

const QUESTION_OF: Partial<Record<Kind, Question>> = {
  email: 'login',
  password: 'login',
  challenge: 'challenge',
  recovery: 'challenge',
  link: 'link',
  enrolment: 'enrolment',
  acknowledgement: 'acknowledgement',
}

const LEADS_ON = /<form [^>]*action="|<a [^>]*href="(?:https?:|\/)/
const parameter = (answer: Answer, name: string) => new URL(answer.location ?? 'x:').searchParams.get(name)
const isForApp = (answer: Answer) => answer.location?.startsWith(CALLBACK) === true
const step = () => Math.floor(now() / STEP)
const codeAt = (secret: string, at: number) => generate({ secret, epoch: at * STEP })
const lettersOf = (code: string) => code.replaceAll('-', '')

/** One run: its people, browsers, codes. */
class Play {
  readonly story: string[] = []
  readonly met = new Map<string, number>()
  readonly #test: TestHouse
  readonly #hashes: string[]
  readonly #oracle: Oracle
  readonly #people: Person[] = []
  readonly #players: Player[]
  readonly #flows = new Map<string, Flow>()
  readonly #codes: Issued[] = []
  readonly #lazy: boolean

  constructor(test: TestHouse, hashes: string[], lazy: boolean) {
    this.#test = test
    this.#hashes = hashes
    this.#lazy = lazy
    this.#oracle = new Oracle(
      { payments: { mfa: 'by_role' }, strict: { mfa: 'required', second_factor_max_age: 1800 } },
      now,
    )
    this.#players = ['left', 'right'].map((name) => ({
      name,
      visitor: test.visitor(),
      pages: [],
      ends: 0,
      lastRow: 0,
    }))
  }

  /** People, some with an app and an acknowledged recovery code. */
  async people(cast: Cast, run: number, recoveryHash: string): Promise<void> {
    const { accounts, factors } = this.#test.database
    await this.#enforce(false)
    await this.#require(false)
    for (const [index, { role, app }] of cast.entries()) {
      const email = `${'abc'[index]}${run}@${role}.example`
      const id = await this.#test.person(email, role)
      const secret = newSecret()
      if (app) {
        await factors.activate(id, {
          factor: { method: 'otp', secret, step: 1 },
          now: now(),
          factorVersion: 0,
          securityEpoch: 0,
          recoveryCodeId: `${id}-0`,
        })
        await factors.setRecoveryCode(id, { replaces: `${id}-0`, id: `${id}-1`, hash: recoveryHash })
        await factors.acknowledgeRecoveryCode(id, `${id}-1`)
      }
      const { securityEpoch, factorVersion } = (await accounts.find(id))!
      this.#people.push({
        id,
        email,
        role,
        password: PASSWORD,
        disabled: false,
        epoch: securityEpoch,
        factorVersion,
        app: app ? { secret, used: new Set([1]) } : undefined,
        asksAlways: app,
        recovery: app ? { code: RECOVERY_CODE, acknowledged: true } : undefined,
        formerRecoveryCodes: [],
      })
      this.story.push(`   ${email}: ${role} with${app ? ' an' : 'out'} app`)
    }
  }

  async act(action: Action): Promise<void> {
    this.story.push(`-- ${sentence(action)}`)
    switch (action.do) {
      case 'open':
        return this.#open(this.#players[action.browser]!, action.client, action.params)
      case 'go on': {
        const player = this.#players[action.browser]!
        if (!player.page) await this.#open(player, 'payments', {})
        for (let answered = 0; player.page && answered < action.pages; answered++)
          await this.#answer(player, player.page, action.how, action.who)
        return
      }
      case 'answer': {
        const player = this.#players[action.browser]!
        return this.#answer(player, player.page, action.how, action.who)
      }
      case 'go back and answer': {
        const player = this.#players[action.browser]!
        return this.#answer(player, player.pages.at(-action.pages), action.how, action.who)
      }
      case 'answer the other browser’s page':
        return this.#answer(
          this.#players[action.browser]!,
          this.#players[1 - action.browser]!.page,
          'right',
          action.who,
        )
      case 'answer in both at once':
        return this.#answerInBoth(action.who)
      case 'reload': {
        const player = this.#players[action.browser]!
        const { page } = player
        if (page) await this.#visit(player, page.answer.at, undefined, page.flow)
        return
      }
      case 'ask again': {
        const player = this.#players[action.browser]!
        if (player.last) await this.#open(player, player.last.client, player.last.params)
        return
      }
      case 'use another account':
        return this.#press(this.#players[action.browser]!, '/different')
      case 'cancel':
        return this.#press(this.#players[action.browser]!, '/cancel')
      case 'sign out':
        return this.#signOut(this.#players[action.browser]!)
      case 'exchange': {
        const code = pick(this.#codes, action.which)
        if (code) await this.#exchange(code)
        return
      }
      case 'refresh': {
        const code = pick(
          this.#codes.filter(({ refresh }) => refresh.length > 0),
          action.which,
        )
        if (code) await this.#refresh(code, action.former)
        return
      }
      case 'wait':
        return wait(action.seconds)
      case 'enforce':
        return this.#enforce(action.on)
      case 'require':
        return this.#require(action.on)
      default:
        return this.#change(this.#people[action.who]!, action.do)
    }
  }

  /** From wherever the story ended, an honest person gets through: the pages that are open, and a new request. */
  async end(): Promise<void> {
    this.story.push('-- everybody goes on honestly')
    for (const code of this.#codes) if (!code.exchanged) await this.#exchange(code)
    for (const person of this.#people) await this.#change(person, 'enable')
    wait(61 * 60) // the throttles
    for (const player of this.#players) {
      await this.#goOn(player)
      await this.#open(player, 'strict', {})
      assert.ok(await this.#goOn(player), `${player.name}: no code at the end of an honest sign-in`)
    }
    for (const code of this.#codes) if (!code.exchanged) await this.#exchange(code)
    for (const code of this.#codes) if (code.refresh.length > 0) await this.#refresh(code, false)
  }

  async #goOn(player: Player): Promise<boolean> {
    for (let answers = 0; ; answers++) {
      const { page } = player
      if (!page) return this.#codes.at(-1)?.flow.browser === player
      assert.ok(answers < 12, `a loop of pages: ${headingOf(page.answer)}`)
      if (kindOf(page.answer) === 'message') return false
      const known = this.#personOn(page)
      if (kindOf(page.answer) === 'password' && !known)
        await this.#visit(player, page.answer.at.replace(/\/password$/, ''), undefined, page.flow)
      else await this.#answer(player, page, 'right', 0)
    }
  }

  // The browsers.

  async #open(player: Player, client: string, params: Record<string, string>): Promise<void> {
    player.last = { client, params }
    await this.#visit(player, this.#test.authUrl({ client_id: client, ...params }), undefined, undefined)
  }

  /** Requests a page and follows its redirects, looking at each answer. */
  async #visit(
    player: Player,
    url: string,
    form: Record<string, string> | undefined,
    from: Flow | undefined,
  ): Promise<Answer[]> {
    let flow = from
    let next = url
    const hops: Answer[] = []
    for (;;) {
      assert.ok(hops.length < 12, `a loop of redirects: ${player.visitor.log.slice(-12).join(', ')}`)
      const { pathname, searchParams } = new URL(next)
      const uid = /^\/(?:auth|interaction)\/([\w-]+)/.exec(pathname)?.[1]
      if (pathname === '/auth') flow = this.#begin(player, searchParams)
      else if (uid !== undefined) {
        flow = this.#flows.get(uid) ?? flow
        if (flow) this.#flows.set(uid, flow)
      }
      if (pathname.startsWith('/auth') && flow) {
        this.#oracle.touch(player)
        flow.session = player.session
      }

      const answer = await player.visitor.request(next, hops.length === 0 && form ? { form } : {})
      assert.ok(answer.status < 500, `${answer.status} on ${pathname}: ${headingOf(answer)}`)
      if (hops.length === 0 && form) await this.#absorb(player, answer)
      hops.push(answer)
      if (answer.location === undefined || !answer.location.startsWith(`${this.#test.url}/`)) break
      next = answer.location
    }
    const last = hops.at(-1)!
    if (isForApp(last)) await this.#backAtApp(player, last, flow)
    else this.#shown(player, { answer: last, flow })
    this.story.push(`   ${player.name}: ${hops.map(({ status }) => status).join(' ')} ${seen(last)}`)
    return hops
  }

  #begin(player: Player, query: URLSearchParams): Flow {
    const { client_id: client = '', ...params } = Object.fromEntries(query)
    return { browser: player, client, params, started: now(), proofs: [], ignoresSession: false }
  }

  /** A page is shown: it asks what is open, and leads on. */
  #shown(player: Player, page: Page): void {
    const { answer, flow } = page
    const kind = kindOf(answer)
    this.#meet(`page ${kind}`)
    const body = answer.text.split('<main')[1] ?? ''
    // Whose sign-in is over, too, is all that this page cannot know.
    const stranger = headingOf(answer) === 'Go on where you began' && flow?.browser !== player
    if (!stranger) assert.match(body, LEADS_ON, `a dead page: ${headingOf(answer)}`)
    if (player.page) player.pages.push(player.page)
    player.page = page
    const question = QUESTION_OF[kind]
    if (question === undefined || !flow) return
    assert.ok(flow.browser === player, 'a page of another browser’s request')
    assert.equal(question, this.#oracle.question(flow), `asks for ${kind}`)
    const person = this.#oracle.person(flow)
    if (kind === 'enrolment') assert.ok(person && answer.text.includes(person.email), 'enrols the person who signs in')
    if (kind === 'acknowledgement') {
      assert.ok(person?.recovery && answer.text.includes(person.email), 'shows the code of the person who signs in')
      const code = /[0-9A-Z]{4}(?:-[0-9A-Z]{4}){5}/.exec(answer.text.replace(/<[^>]+>/g, ''))![0]
      const former = person.recovery.code
      if (former !== undefined && former !== code) person.formerRecoveryCodes.push(former)
      if (former !== code) person.recovery = { code, acknowledged: false }
    }
  }

  /** The app is called back: with a code only when nothing is open, with an error only when there is a reason. */
  async #backAtApp(player: Player, answer: Answer, flow: Flow | undefined): Promise<void> {
    assert.ok(flow, 'an answer to no request')
    assert.ok(flow.browser === player, 'an answer to another browser’s request')
    assert.equal(parameter(answer, 'state'), 'the-state')
    const open = this.#oracle.question(flow)
    const error = parameter(answer, 'error')
    this.#meet(error ? `error ${error}` : 'code')
    if (player.page) player.pages.push(player.page)
    player.page = undefined
    if (error === 'access_denied') return assert.ok(player.cancelled, 'access_denied though nobody cancelled')
    if (error) {
      assert.equal(flow.params['prompt'], 'none', `${error} without prompt=none`)
      assert.equal(error, open === 'login' ? 'login_required' : 'interaction_required')
      assert.ok(open, `${error} though nothing is open`)
      return
    }
    assert.ok(parameter(answer, 'code'), answer.location)
    assert.equal(open, undefined, `a code while the ${open} is open`)
    const person = this.#oracle.person(flow)!
    const claims = this.#oracle.claims(flow)
    this.#oracle.finish(flow)
    this.#oracle.use(flow)
    this.#codes.push({
      answer,
      flow,
      person,
      claims,
      epoch: person.epoch,
      at: now(),
      ends: player.ends,
      exchanged: false,
      refresh: [],
      dead: false,
    })
    if (!this.#lazy) await this.#exchange(this.#codes.at(-1)!)
  }

  // What people do.

  #personOn({ answer }: Page): Person | undefined {
    return this.#people.find(({ email }) => answer.text.includes(email))
  }

  async #answer(player: Player, page: Page | undefined, how: How, who: number): Promise<void> {
    if (!page) return
    const { answer } = page
    const kind = kindOf(answer)
    if (kind === 'message') return
    if (kind === 'switch') {
      if (how === 'right') await this.#submit(player, page, kind, {})
      return
    }
    if (kind === 'challenge' && (how === 'recovery' || how === 'former recovery')) {
      const hops = await this.#visit(player, `${answer.at}/recovery`, undefined, page.flow)
      const shown = player.page
      if (hops.length > 1 || !shown || kindOf(shown.answer) !== 'recovery') return
      return this.#answer(player, shown, how, who)
    }
    if (kind === 'link' && how === 'right') await this.#openLink(player, this.#personOn(page))
    const fields = await this.#fieldsFor(page, kind, how, who)
    await this.#submit(player, page, kind, fields, how === 'forged')
  }

  /** Opens the newest letter in this browser, if there is a good one. */
  async #openLink(player: Player, given: Person | undefined): Promise<void> {
    const person = given ?? (player.page?.flow && this.#oracle.person(player.page.flow))
    const link = person && (await mailedLinkTo(this.#test, person.email).catch(() => undefined))
    if (!link || player.opened?.link === link) return
    assert.equal((await player.visitor.request(link)).status, 303)
    player.opened = { person, epoch: person.epoch, link }
  }

  async #fieldsFor(page: Page, kind: Kind, how: How, who: number): Promise<Record<string, string>> {
    if (how === 'nothing') return {}
    const person = this.#personOn(page) ?? (page.flow && this.#oracle.person(page.flow))
    const honest = how !== 'wrong'
    switch (kind) {
      case 'email':
        return { email: (honest && this.#people[who]?.email) || 'nobody@city.example' }
      case 'password':
        return { password: (honest && person?.password) || 'wrong horse battery staple' }
      case 'challenge': {
        const right = person?.app ? await this.#freshCode(person.app) : '123456'
        if (how === 'replayed') return { code: person?.lastCode ?? right }
        return { code: honest ? right : await this.#wrongCode(person?.app?.secret) }
      }
      case 'enrolment': {
        const secret = secretOn(page.answer)
        return { code: honest ? await codeAt(secret, step()) : await this.#wrongCode(secret) }
      }
      case 'recovery': {
        if (how === 'former recovery') return { recovery_code: person?.formerRecoveryCodes.at(-1) ?? RECOVERY_CODE }
        return { recovery_code: (honest && person?.recovery?.code) || 'AAAA-AAAA-AAAA-AAAA-AAAA-AAAA' }
      }
      case 'link':
        return {}
      default:
        return honest ? { acknowledged: 'yes' } : { acknowledged: 'no' }
    }
  }

  /** The code that the app shows, after waiting for the next one if this one was used. */
  async #freshCode({ secret, used }: NonNullable<Person['app']>): Promise<string> {
    if ([...used].some((step_) => step_ >= step())) wait((Math.max(...used) + 1) * STEP - now())
    return codeAt(secret, step())
  }

  async #wrongCode(secret: string | undefined): Promise<string> {
    const valid = secret ? await Promise.all([-1, 0, 1].map((delta) => codeAt(secret, step() + delta))) : []
    return ['000000', '111111', '222222', '333333'].find((code) => !valid.includes(code))!
  }

  async #submit(player: Player, page: Page, kind: Kind, fields: Record<string, string>, forged = false): Promise<void> {
    const { action, hidden } = formOf(page.answer)
    player.submitting = forged ? undefined : { page, kind, fields }
    const csrf = forged ? { csrf: 'forged' } : {}
    await this.#visit(player, action, { ...hidden, ...fields, ...csrf }, page.flow)
    player.submitting = undefined
  }

  async #answerInBoth(who: number): Promise<void> {
    for (const player of this.#players) if (!player.page) await this.#open(player, 'strict', {})
    const ready = this.#players.flatMap((player) => {
      const { page } = player
      const kind = page && kindOf(page.answer)
      return page && kind && QUESTION_OF[kind] && !this.#raises(page, kind) ? [{ player, page, kind }] : []
    })
    if (ready.length < 2) return
    const fields: Record<string, string>[] = []
    for (const { page, kind } of ready) fields.push(await this.#fieldsFor(page, kind, 'right', who))
    // Waiting for the second code may have made the first one old.
    const [one] = ready
    fields[0] = await this.#fieldsFor(one!.page, one!.kind, 'right', who)
    await Promise.all(ready.map(({ player, page, kind }, i) => this.#submit(player, page, kind, fields[i]!)))
    this.#meet('both at once')
  }

  /** An enrolment by recovery code ends what the other browser proved: which of the two was first, nobody here can tell. */
  #raises({ flow }: Page, kind: Kind): boolean {
    const person = flow && this.#oracle.person(flow)
    return kind === 'enrolment' && person !== undefined && this.#oracle.holdsRecovery(person, flow!)
  }

  /** A button that is on every page of a flow. */
  async #press(player: Player, button: '/different' | '/cancel'): Promise<void> {
    const { page } = player
    if (!page || !new RegExp(`action="[^"]*${button}"`).test(page.answer.text)) return
    const { action, hidden } = formOf(page.answer, button)
    const { flow } = page
    const first = await player.visitor.request(action, { form: hidden })
    assert.ok(first.status < 500)
    const applied = /\/auth\/[\w-]+$/.test(first.location ?? '')
    if (applied && button === '/different' && flow) {
      flow.proofs = []
      flow.ignoresSession = true
      for (const { recovery, reset } of this.#people) {
        if (recovery?.reserved?.by === flow) recovery.reserved = undefined
        if (reset?.linked?.by === flow) reset.linked = undefined
      }
    }
    player.cancelled = applied && button === '/cancel'
    if (first.location) await this.#visit(player, first.location, undefined, flow)
    else this.#shown(player, { answer: first, flow: undefined })
    player.cancelled = false
  }

  async #signOut(player: Player): Promise<void> {
    this.#oracle.touch(player)
    const page = await player.visitor.go(`${this.#test.url}/session/end`)
    assert.ok(page.status < 500)
    if (/\/session\/end\/success$/.test(page.at)) return // nobody was signed in
    const { action, hidden } = formOf(page)
    const done = await player.visitor.request(action, { form: { ...hidden, logout: 'yes' } })
    assert.equal(done.status, 303)
    player.session = undefined
    player.ends += 1
    this.#meet('sign out')
  }

  // What the server took for proven, as its audit tells it: each must be a right answer that was just given.

  async #absorb(player: Player, { location }: Answer): Promise<void> {
    const rows = await this.#test.database.auditReader.auditRows({ limit: 40 })
    const fresh = rows.filter(({ id, ip }) => id > player.lastRow && ip === player.visitor.address).reverse()
    player.lastRow = fresh.at(-1)?.id ?? player.lastRow
    const { submitting } = player
    // Ending the session to go on as somebody else.
    if (submitting?.kind === 'switch' && location?.includes('/auth/')) {
      player.session = undefined
      player.ends += 1
    }
    for (const { event, outcome, accountId, details } of fresh) {
      if (event === 'interaction.ended_by_wrong_codes' && details?.['session_ended']) player.session = undefined
      if (outcome !== 'success' || !PROOFS.has(event)) continue
      this.#meet(event)
      assert.ok(submitting?.page.flow, `${event} without an answer`)
      const { page, fields, kind } = submitting
      const flow = page.flow!
      assert.equal(kind, PROOFS.get(event), `${event} by an answer to ${kind}`)
      assert.ok(flow.browser === player, `${event} by another browser`)
      const person = this.#people.find(({ id }) => id === (accountId ?? this.#oracle.person(flow)?.id))
      assert.ok(person, `${event} of nobody`)
      if (event === 'enrolment.link_used') this.#linked(player, flow, person)
      else await this.#proved(event, flow, person, page, fields)
    }
  }

  /** A mailed link gave the right to enrol: the person's newest, of after the reset, opened in this browser, for one request. */
  #linked({ opened }: Player, flow: Flow, person: Person): void {
    assert.ok(person.reset, 'a link without a reset')
    assert.equal(this.#oracle.person(flow), person, 'a link of somebody else than who signs in')
    assert.notEqual(this.#oracle.counted(flow).pwd, undefined, 'a link without a password')
    assert.ok(opened, 'a link that this browser never opened')
    assert.equal(opened.person, person, 'a link of somebody else')
    assert.equal(opened.epoch, person.epoch, 'a link of before')
    assert.ok(!opened.usedBy || opened.usedBy === flow, 'a link works twice')
    opened.usedBy = flow
    person.reset.linked = { by: flow, until: now() + 60 * 60, epoch: person.epoch }
  }

  async #proved(event: string, flow: Flow, person: Person, page: Page, fields: Record<string, string>): Promise<void> {
    const oracle = this.#oracle
    if (event === 'login.password') {
      assert.ok(page.answer.text.includes(person.email), 'the password of the person on the page')
      assert.ok(!person.disabled, 'a disabled person signs in')
      assert.equal(fields['password'], person.password, 'a wrong password is taken')
      return oracle.prove(flow, person, 'pwd')
    }
    assert.equal(oracle.person(flow), person, `${event} of somebody else than who signs in`)
    assert.notEqual(oracle.counted(flow).pwd, undefined, `${event} without a password`)

    if (event === 'mfa.otp') {
      assert.ok(person.app, 'a code without an app')
      const used = await this.#stepOf(person.app.secret, fields['code']!)
      assert.ok(!person.app.used.has(used), 'a code works twice')
      person.app.used.add(used)
      person.lastCode = fields['code']
      return oracle.prove(flow, person, 'otp')
    }
    if (event === 'mfa.enrolled') {
      const secret = secretOn(page.answer)
      const used = await this.#stepOf(secret, fields['code']!)
      assert.ok(!person.app || oracle.holdsRecovery(person, flow), 'a factor is added on a password alone')
      assert.ok(oracle.mayEnrol(person, flow), 'a factor is added after a reset by a password alone')
      if (person.reset) this.#meet('enrolled after a reset')
      this.#meet(oracle.holdsRecovery(person, flow) ? 'enrolled by recovery code' : 'enrolled')
      oracle.enrol(flow, person, secret, used)
      person.lastCode = fields['code']
      return
    }
    const given = event === 'recovery_code.reserved' ? fields['recovery_code'] : codeOn(page.answer)
    assert.ok(person.recovery?.code, `${event} without a code that was shown`)
    assert.equal(lettersOf(given!), lettersOf(person.recovery.code), `${event} by a code that is void`)
    if (event === 'recovery_code.reserved') person.recovery.reserved = { by: flow, until: now() + 60 * 60 }
    else person.recovery.acknowledged = true
  }

  /** The time step of a code that the server accepted. */
  async #stepOf(secret: string, code: string): Promise<number> {
    for (const candidate of [step(), step() + 1, step() - 1])
      if ((await codeAt(secret, candidate)) === code) return candidate
    assert.fail('a wrong code is taken')
  }

  // Tokens.

  async #exchange(code: Issued): Promise<void> {
    const { flow, person, epoch, at } = code
    const tokens = await this.#test.exchange(code.answer, flow.client)
    assert.ok(tokens.status < 500)
    const allowed = !code.exchanged && person.epoch === epoch && !person.disabled && now() <= at + 60 + 15
    const browser = flow.browser
    if (tokens.status !== 200) {
      assert.equal(tokens.error, 'invalid_grant')
      assert.ok(!(allowed && now() === at && browser.ends === code.ends), 'a fresh code is refused')
      // Nobody remembers a code that has expired.
      if (code.exchanged && now() < at + 60) this.#revoke(code)
      else browser.ends += 1
    } else {
      assert.ok(allowed, code.exchanged ? 'a code is exchanged twice' : 'a code of an older epoch is exchanged')
      this.#check(code, tokens)
    }
    code.exchanged = true
  }

  async #refresh(code: Issued, former: boolean): Promise<void> {
    const { flow, person, epoch, refresh, claims } = code
    const one = refresh.at(former ? 0 : -1)!
    const tokens = await this.#test.token({ grant_type: 'refresh_token', refresh_token: one.token }, flow.client)
    assert.ok(tokens.status < 500)
    if (tokens.status === 200) {
      assert.ok(!one.used && !code.dead, 'a refresh token works twice')
      assert.equal(person.epoch, epoch, 'a refresh token of an older epoch')
      assert.ok(!person.disabled, 'a refresh token of a disabled person')
      const second = this.#oracle.needsSecond(person, flow.client)
      assert.ok(!second || claims.second_factor_time !== undefined, 'a refresh token without the factor that is needed')
      one.used = true
      this.#meet('refresh')
      this.#check(code, tokens)
    } else {
      assert.equal(tokens.error, 'invalid_grant')
      this.#meet('refresh refused')
      if (one.used) this.#revoke(code)
    }
  }

  /** Shown twice: everything of its grant is dead. */
  #revoke(code: Issued): void {
    code.dead = true
    code.flow.browser.ends += 1
  }

  /** An ID token says what was proven and counts, no more and no less. */
  #check(code: Issued, tokens: Tokens): void {
    const { sub, amr, acr, auth_time, second_factor_time } = claimsIn(tokens['id_token']) as unknown as Claims
    assert.deepEqual({ sub, amr, acr, auth_time, second_factor_time }, code.claims)
    const token = tokens['refresh_token']
    if (token) code.refresh.push({ token, used: false })
    this.#meet(`acr ${acr}`)
  }

  // Rules that change.

  async #change(person: Person, what: 'change the password' | 'reset the factors' | 'disable' | 'enable') {
    const { directory } = this.#test.database
    if (what === 'reset the factors') {
      await directory.resetMfa(person.id, { now: now() })
      return this.#oracle.resetFactors(person)
    }
    const { id, email, name, memberships, serverRoles } = (await directory.user(person.id))!
    const disabled = what === 'disable' || (what === 'change the password' && person.disabled)
    const next = (PASSWORDS.indexOf(person.password) + 1) % PASSWORDS.length
    const passwordHash = what === 'change the password' ? this.#hashes[next] : undefined
    const value = { id, email, name, memberships, serverRoles, disabled }
    await directory.commit([{ kind: 'user', op: 'put', value, passwordHash }])
    if (passwordHash) this.#oracle.changePassword(person, PASSWORDS[next]!)
    else this.#oracle.disable(person, disabled)
  }

  async #enforce(on: boolean): Promise<void> {
    const { directory } = this.#test.database
    const { mfa: _former, ...company } = (await directory.company('city'))!
    const mfa = on ? { mfa: { enforced_from: '2020-01-01', zone: 'UTC' } } : {}
    await directory.commit([{ kind: 'company', op: 'put', value: { ...company, ...mfa } }])
    this.#oracle.companyEnforces = on
  }

  async #require(on: boolean): Promise<void> {
    const { directory } = this.#test.database
    const client = (await directory.client('payments'))!
    const mfa = on ? 'required' : 'by_role'
    const value: Client = { ...client, sallyport: { ...(client['sallyport'] as object), mfa } }
    await directory.commit([{ kind: 'client', op: 'put', value }])
    this.#oracle.clients['payments'] = { mfa }
  }

  /** What is stored is what was done: no factor came, went or was replaced behind our back. */
  async compare(): Promise<void> {
    for (const person of this.#people) {
      const account = (await this.#test.database.accounts.find(person.id))!
      assert.deepEqual(
        {
          epoch: account.securityEpoch,
          version: account.factorVersion,
          app: account.enrolled.otp !== undefined,
          acknowledged: account.recoveryCode?.acknowledged,
          reset: account.factorReset?.open === true,
        },
        {
          epoch: person.epoch,
          version: person.factorVersion,
          app: person.app !== undefined,
          acknowledged: person.recovery?.acknowledged,
          reset: person.reset !== undefined,
        },
        `the factors of ${person.email}`,
      )
    }
  }

  #meet(what: string): void {
    this.met.set(what, (this.met.get(what) ?? 0) + 1)
  }
}

/** Audit events of an accepted answer, with the page that it belongs to. */
const PROOFS = new Map<string, Kind>([
  ['login.password', 'password'],
  ['mfa.otp', 'challenge'],
  ['enrolment.link_used', 'link'],
  ['mfa.enrolled', 'enrolment'],
  ['recovery_code.reserved', 'recovery'],
  ['recovery_code.acknowledged', 'acknowledgement'],
])

const EVERYTHING = [
  ...['email', 'password', 'challenge', 'recovery', 'link', 'enrolment', 'acknowledgement', 'switch', 'message'].map(
    (kind) => `page ${kind}`,
  ),
  ...PROOFS.keys(),
  ...[
    'enrolled',
    'enrolled by recovery code',
    'enrolled after a reset',
    'both at once',
    'sign out',
    'refresh',
    'refresh refused',
  ],
  ...['code', 'error login_required', 'error interaction_required', 'error access_denied'],
  ...['acr urn:sallyport:acr:1fa', 'acr urn:sallyport:acr:2fa-app', 'acr https://refeds.org/profile/mfa'],
]

const pick = <T>(list: T[], which: number): T | undefined => list[which % Math.max(1, list.length)]

const secretOn = ({ text }: Answer): string => /<code id="key"[^>]*>([^<]+)</.exec(text)![1]!.replace(/\s/g, '')

const codeOn = ({ text }: Answer): string | undefined =>
  /[0-9A-Z]{4}(?:-[0-9A-Z]{4}){5}/.exec(text.replace(/<[^>]+>/g, ''))?.[0]

function seen(answer: Answer): string {
  if (!isForApp(answer)) return headingOf(answer)
  return parameter(answer, 'error') ?? 'a code'
}

/** `left: open payments max_age=60` */
function sentence({ do: verb, ...rest }: Action): string {
  const words = Object.entries(rest).map(([name, value]) => {
    if (name === 'browser') return ['left', 'right'][value as number]
    if (name === 'params')
      return Object.entries(value as object)
        .map(([param, given]) => `${param}=${given}`)
        .join(' ')
    if (name === 'who') return `as ${'abc'[value as number] ?? 'nobody'}`
    return typeof value === 'string' ? value : `${name}=${value}`
  })
  return [verb, ...words].join(' ').trim()
}

describe('property: random orders of two browsers and three people', () => {
  let test: TestHouse
  let hashes: string[]
  let recoveryHash: string
  let goOn: () => void
  before(async () => {
    test = await openTestHouse()
    const hasher = createPasswordHasher({ memoryKiB: 19456, passes: 2, parallelism: 1, concurrency: 2, queue: 10 })
    hashes = await Promise.all(PASSWORDS.map((password) => hasher.hash(password)))
    recoveryHash = await hasher.hash(lettersOf(RECOVERY_CODE))
    goOn = standStill()
  })
  after(() => {
    goOn()
    return test.close()
  })

  it('claims only what was proven, asks for what is needed, adds no factor on a password alone, never loops', async function () {
    this.timeout(0)
    const met = new Map<string, number>()
    let run = 0
    let tries = 0
    await fc.assert(
      fc.asyncProperty(cast, fc.boolean(), actions, async (cast_, lazy, actions_) => {
        if (tries > SHRINKS) return // a story that holds: no shorter one is looked for
        run += 1
        if (tries > 0) tries += 1
        const play = new Play(test, hashes, lazy)
        try {
          await play.people(cast_, run, recoveryHash)
          for (const one of actions_) {
            await play.act(one)
            await play.compare()
          }
          await play.end()
          await play.compare()
        } catch (error) {
          tries ||= 1
          throw new Error(`${(error as Error).message}\n${play.story.join('\n')}\n`, { cause: error })
        }
        for (const [what, count] of play.met) met.set(what, (met.get(what) ?? 0) + count)
      }),
      {
        numRuns: RUNS,
        seed: SEED,
        reporter({ failed, seed, numShrinks, errorInstance }) {
          if (failed)
            throw new Error(
              `PROPERTY_SEED=${seed}, after ${numShrinks} shorter stories: ${(errorInstance as Error).message}`,
              {
                cause: (errorInstance as Error).cause,
              },
            )
        },
      },
    )
    if (process.env['PROPERTY_RUNS']) console.log(Object.fromEntries([...met].sort()))
    // The stories were no empty ones.
    for (const what of EVERYTHING) assert.ok(met.get(what), `no story met: ${what}`)
  })
})
