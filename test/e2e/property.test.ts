/**
 * Random orders of what two browsers and three people can do, and of rules that change meanwhile, through real HTTP.
 * test/support/oracle.ts says what each request may ask and what each token may claim; here the world is played.
 *
 * `PROPERTY_RUNS=1000` plays longer, `PROPERTY_SEED=…` plays other orders; a failure prints its seed and the whole story.
 */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import fc from 'fast-check'
import { generate } from 'otplib'
import { newSecret } from '../../interactions/factors/totp.ts'
import { createPasswordHasher, type Letter } from '../../interactions/index.ts'
import type { Client } from '../../server/stores.ts'
import { now, standStill, wait } from '../support/clock.ts'
import {
  CALLBACK,
  CLIENT_SECRET,
  claimsIn,
  mailedLinkTo,
  openTestHouse,
  PASSWORD,
  type TestHouse,
  type Tokens,
} from '../support/house.ts'
import { type Browser, type Claims, type Flow, Oracle, type Person, type Question } from '../support/oracle.ts'
import { TEXTS, textsTo } from '../support/texts.ts'
import { type Answer, formOf, headingOf, type Visitor } from '../support/visitor.ts'

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 100)
const SEED = Number(process.env['PROPERTY_SEED'] ?? 20270131)
/** After the first failure, so many shorter stories are tried. */
const SHRINKS = Number(process.env['PROPERTY_SHRINKS'] ?? 80)

/** More than are barred, so that a new one is always to be had. */
const PASSWORDS = [
  PASSWORD,
  ...['another', 'a third', 'a fourth', 'a fifth', 'a sixth'].map((one) => `${one} horse battery staple`),
]
const RECOVERY_CODE = 'ABCD-EFGH-JKMN-PQRS-TVWX-YZ23'
const STEP = 30
/** Companies and roles: who is a payor, and until when a company waits. */
const MEMBERSHIPS = {
  payor: [{ company: 'acme', roles: ['payments_admin' as const], disabled: false }],
  payee: [{ company: 'best', roles: ['payments_admin' as const], disabled: false }],
  standard: [{ company: 'city', roles: [], disabled: false }],
}

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
  | { do: 'open another page'; browser: number; segment: string }
  | {
      do: 'change the password' | 'reset the password by mail' | 'reset the factors' | 'disable' | 'enable'
      who: number
    }
  | { do: 'take the password away'; who: number }
  | { do: 'give a role'; who: number; role: Person['role'] }
  | { do: 'enforce'; from: 'never' | 'long ago' | 'the next hour' }
  | { do: 'require'; on: boolean }

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
/** Requests, those of the account's own pages among them. */
const request = fc.oneof(
  { weight: 4, arbitrary: fc.record({ client: fc.constantFrom('payments', 'payments', 'strict'), params: sparse }) },
  {
    weight: 1,
    arbitrary: fc.record({
      client: fc.constant('settings'),
      params: fc
        .tuple(
          fc.constantFrom('otp', 'sms', 'recovery_code'),
          fc.oneof({ weight: 3, arbitrary: fc.constant({}) }, params),
        )
        .map(([set_up, others]) => ({ ...others, set_up }) as Record<string, string>),
    }),
  },
)

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 14,
    arbitrary: fc
      .tuple(browser, request)
      .map(([at, { client, params: given }]) => ({ do: 'open' as const, browser: at, client, params: given })),
  },
  {
    weight: 40,
    arbitrary: fc.record({
      do: fc.constant('go on' as const),
      browser,
      pages: fc.integer({ min: 1, max: 4 }),
      how: fc.oneof(
        { weight: 5, arbitrary: right },
        { weight: 2, arbitrary: fc.constantFrom<How>('recovery', 'wrong', 'replayed') },
      ),
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
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('open another page' as const),
      browser,
      segment: fc.constantFrom('app', 'choose', 'phone', 'sms', 'otp', 'required', 'recovery', 'password'),
    }),
  },
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
      do: fc.constantFrom(
        'change the password',
        'reset the password by mail',
        'take the password away',
        'reset the factors',
        'disable',
        'enable',
      ),
      who: fc.constantFrom(0, 0, 1, 2),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('give a role' as const),
      who: fc.constantFrom(0, 0, 1),
      role: fc.constantFrom('payor', 'payee', 'standard'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('enforce' as const),
      from: fc.constantFrom('never', 'long ago', 'the next hour', 'the next hour'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('require' as const), on: fc.boolean() }) },
)

const actions = fc.array(action, { minLength: 8, maxLength: 22, size: 'max' })

/** Who the three people are at the beginning. */
const cast = fc.tuple(
  ...[0, 1, 2].map(() =>
    fc.record({
      role: fc.constantFrom('payor', 'standard', 'payee'),
      app: fc.boolean(),
      // A payor's phone is left over from another role.
      phone: fc.boolean(),
    } as const),
  ),
)
type Cast = { role: Person['role']; app: boolean; phone: boolean }[]

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
  | 'choose a way'
  | 'send'
  | 'text'
  | 'recovery'
  | 'required'
  | 'choose a method'
  | 'link'
  | 'enrolment'
  | 'phone'
  | 'first text'
  | 'acknowledgement'
  | 'switch'
  | 'message'

/** Which page this is, by its fields, as a person sees it. */
function kindOf(answer: Answer): Kind {
  const { text } = answer
  const heading = headingOf(answer)
  if (/name="email"/.test(text)) return 'email'
  if (/name="password"/.test(text)) return 'password'
  if (/id="key"/.test(text)) return 'enrolment'
  if (/name="phone"/.test(text)) return 'phone'
  if (/name="method"/.test(text)) return heading.startsWith('Select') ? 'choose a method' : 'choose a way'
  if (/name="code"/.test(text) && /name="resend"/.test(text))
    return heading.startsWith('Enter the') ? 'first text' : 'text'
  if (/name="resend"/.test(text)) return 'send'
  if (/name="code"/.test(text)) return 'challenge'
  if (/name="recovery_code"/.test(text)) return 'recovery'
  if (/name="acknowledged"/.test(text)) return 'acknowledgement'
  if (/name="xsrf"/.test(text)) return 'switch'
  if (/action="[^"]*\/again"/.test(text)) return 'link'
  if (/<h1[^>]*>You have opened the link/.test(text) && /name="csrf"/.test(text)) return 'link'
  return heading === 'Two-Factor Authentication Required' ? 'required' : 'message'
}

const QUESTION_OF: Partial<Record<Kind, Question>> = {
  email: 'login',
  password: 'login',
  challenge: 'challenge',
  'choose a way': 'challenge',
  send: 'challenge',
  text: 'challenge',
  recovery: 'challenge',
  required: 'enrolment',
  'choose a method': 'enrolment',
  link: 'link',
  enrolment: 'enrolment',
  phone: 'enrolment',
  'first text': 'enrolment',
  acknowledgement: 'acknowledgement',
}
/** Pages that only somebody sees who may use SMS. */
const BY_TEXT: Kind[] = ['choose a method', 'phone', 'first text']

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
  /** Texts to each person, and when the last one was. */
  readonly #texts = new Map<Person, { count: number; last: number; id: string }>()
  /** Waits until a text is to be had. */
  #patient = false

  constructor(test: TestHouse, hashes: string[], lazy: boolean) {
    this.#test = test
    this.#hashes = hashes
    this.#lazy = lazy
    this.#oracle = new Oracle(
      {
        payments: { mfa: 'by_role' },
        strict: { mfa: 'required', second_factor_max_age: 1800 },
        settings: { mfa: 'by_role', self_service: true },
      },
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

  /** People, some with an app, a phone, and an acknowledged recovery code. */
  async people(cast: Cast, run: number, recoveryHash: string): Promise<void> {
    const { accounts, factors } = this.#test.database
    await this.#enforce('never')
    await this.#require(false)
    for (const [index, { role, app, phone }] of cast.entries()) {
      const email = `${'abc'[index]}${run}@${role}.example`
      const id = await this.#test.person(email, role)
      const secret = newSecret()
      const number = numberOf(run, index, 0)
      const has = [
        ...(app ? [{ method: 'otp' as const, secret, step: 1 }] : []),
        ...(phone ? [{ method: 'sms' as const, phone: number }] : []),
      ]
      for (const [factorVersion, factor] of has.entries())
        await factors.activate(id, { factor, now: now(), factorVersion, securityEpoch: 0, recoveryCodeId: `${id}-0` })
      if (has.length > 0) {
        await factors.setRecoveryCode(id, { replaces: `${id}-0`, id: `${id}-1`, hash: recoveryHash })
        await factors.acknowledgeRecoveryCode(id, `${id}-1`)
      }
      const { securityEpoch, factorVersion } = (await accounts.find(id))!
      this.#people.push({
        id,
        email,
        role,
        password: PASSWORD,
        withdrawn: false,
        disabled: false,
        epoch: securityEpoch,
        factorVersion,
        app: app ? { secret, used: new Set([1]), added: now() } : undefined,
        phone: phone ? { number, added: now() } : undefined,
        numbers: [number, numberOf(run, index, 1)],
        asksAlways: has.length > 0,
        recovery: has.length > 0 ? { code: RECOVERY_CODE, acknowledged: true } : undefined,
        formerRecoveryCodes: [],
      })
      this.story.push(`   ${email}: ${role} with ${has.map(({ method }) => method).join(' and ') || 'no factor'}`)
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
        for (let answered = 0; player.page && answered < action.pages; answered++) {
          // Whatever goes wrong, goes wrong behind the password: so much is told about it alone elsewhere.
          const how = QUESTION_OF[kindOf(player.page.answer)] === 'login' ? 'right' : action.how
          await this.#answer(player, player.page, how, action.who)
        }
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
      case 'open another page': {
        const player = this.#players[action.browser]!
        const { page } = player
        if (page && /\/interaction\//.test(page.answer.at))
          await this.#visit(player, `${interactionOf(page)}/${action.segment}`, undefined, page.flow)
        return
      }
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
        return this.#enforce(action.from)
      case 'require':
        return this.#require(action.on)
      case 'give a role':
        return this.#give(this.#people[action.who]!, action.role)
      case 'take the password away':
        return this.#withdraw(this.#people[action.who]!)
      case 'reset the password by mail':
        return this.#resetByMail(this.#people[action.who]!)
      default:
        return this.#change(this.#people[action.who]!, action.do)
    }
  }

  /** From wherever the story ended, an honest person gets through: the pages that are open, and a new request. */
  async end(): Promise<void> {
    this.story.push('-- everybody goes on honestly')
    for (const code of this.#codes) if (!code.exchanged) await this.#exchange(code)
    for (const person of this.#people) await this.#change(person, 'enable')
    // The throttles: an hour, a day where many texts went out.
    const texts = [...this.#texts.values()].map(({ count }) => count)
    wait(texts.length === 0 || Math.max(...texts) < 6 ? 61 * 60 : 24 * 60 * 60 + 1)
    this.#patient = true
    for (const person of this.#people)
      if (person.withdrawn) {
        wait(60 * 60)
        await this.#resetByMail(person)
      }
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
      assert.ok(answers < 16, `a loop of pages: ${headingOf(page.answer)}`)
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
    return {
      browser: player,
      client,
      params,
      started: now(),
      proofs: [],
      ignoresSession: false,
      renewed: false,
      texts: {},
    }
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
    if (BY_TEXT.includes(kind))
      assert.ok(this.#oracle.allowed(person!, flow).includes('sms'), 'SMS is offered to a payor')
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
    if (error === 'unmet_authentication_requirements') return assert.equal(open, 'refused')
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
    if (kind === 'required') {
      if (how !== 'right') return
      const href = /<a class="button" href="([^"]+)"/.exec(answer.text)![1]!
      await this.#visit(player, new URL(href, answer.at).href, undefined, page.flow)
      return
    }
    const isChallenge = QUESTION_OF[kind] === 'challenge' && kind !== 'recovery'
    if (isChallenge && (how === 'recovery' || how === 'former recovery')) {
      const hops = await this.#visit(player, `${interactionOf(page)}/recovery`, undefined, page.flow)
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
      case 'choose a way':
      case 'choose a method': {
        if (kind === 'choose a way') this.#beforeText(person)
        const offered = [...page.answer.text.matchAll(/type="radio" value="(\w+)"/g)].map(([, method]) => method!)
        return { method: honest ? (offered[who % offered.length] ?? 'otp') : 'pwd' }
      }
      case 'phone':
        this.#beforeText(person)
        return { country: 'US', phone: honest ? (person?.numbers[who % 2] ?? '+12025550123') : '12' }
      case 'send':
        this.#beforeText(person)
        return { resend: 'yes' }
      case 'text':
      case 'first text': {
        const purpose = kind === 'text' ? 'challenge' : 'enrolment'
        const sent = page.flow?.texts[purpose]
        if (how === 'replayed') return { code: person?.lastCode ?? sent?.code ?? '000000' }
        if (!honest) return { code: sent?.code === '000000' ? '111111' : '000000' }
        if (person && page.flow && this.#oracle.isText(page.flow, purpose, person, sent?.code))
          return { code: sent!.code }
        this.#beforeText(person)
        return { resend: 'yes' }
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

  /** At the end of a story nobody is in a hurry. */
  #beforeText(person: Person | undefined): void {
    const last = person && this.#texts.get(person)?.last
    if (this.#patient && last !== undefined && now() - last < 211) wait(211)
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
      return page && kind && QUESTION_OF[kind] && kind !== 'required' && !this.#raises(page, kind)
        ? [{ player, page, kind }]
        : []
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

  /**
   * An enrolment by recovery code ends what the other browser proved, and any enrolment the codes by text that are under way:
   * which of the two was first, nobody here can tell.
   */
  #raises({ flow }: Page, kind: Kind): boolean {
    const person = flow && this.#oracle.person(flow)
    if (kind === 'text' || kind === 'first text') return true
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
      flow.renewed = false
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
      if (outcome === 'success' && event === 'sms.sent') await this.#sent(submitting, String(details?.['purpose']))
      if (outcome !== 'success' || !PROOFS.has(event)) continue
      this.#meet(event)
      assert.ok(submitting?.page.flow, `${event} without an answer`)
      const { page, fields, kind } = submitting
      const flow = page.flow!
      assert.ok(PROOFS.get(event)!.includes(kind), `${event} by an answer to ${kind}`)
      assert.ok(flow.browser === player, `${event} by another browser`)
      const person = this.#people.find(({ id }) => id === (accountId ?? this.#oracle.person(flow)?.id))
      assert.ok(person, `${event} of nobody`)
      if (event === 'enrolment.link_used') this.#linked(player, flow, person)
      else await this.#proved(event, flow, person, page, fields)
    }
  }

  /** A code went to a phone: it is good for this request, this person's factors and this number. */
  async #sent(submitting: Player['submitting'], purpose: string): Promise<void> {
    const flow = submitting?.page.flow
    const person = flow && this.#oracle.person(flow)
    assert.ok(submitting && flow && person, 'a text that nobody asked for')
    assert.notEqual(this.#oracle.counted(flow).pwd, undefined, 'a text before the password')
    const { count = 0, id } = this.#texts.get(person) ?? {}
    const [newest] = (await this.#test.database.outbox.list({ accountId: person.id, limit: 50 })).filter(
      ({ channel }) => channel === 'sms',
    )
    if (!newest || newest.id === id) return // the breaker is open: as if it had been sent
    this.#texts.set(person, { count: count + 1, last: now(), id: newest.id })
    const { to, text } = (await textsTo(this.#test, person.id))[0]!
    assert.equal(QUESTION_OF[submitting.kind], purpose, `a text for another question than ${submitting.kind}`)
    if (purpose === 'challenge') assert.equal(to, person.phone?.number, 'a challenge goes to the number that stands')
    else assert.ok(person.numbers.includes(to))
    const code = /^\d{6}/.exec(text)![0]
    flow.texts[purpose as 'challenge' | 'enrolment'] = {
      person,
      code,
      number: to,
      at: now(),
      version: person.factorVersion,
      taken: false,
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
      assert.ok(!person.withdrawn, 'a password that was taken away signs in')
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
    if (event === 'mfa.sms') {
      assert.ok(
        oracle.isText(flow, 'challenge', person, fields['code']),
        'a code by text that is not the newest, or not of here',
      )
      assert.equal(flow.texts.challenge!.number, person.phone?.number, 'a code by text to another number')
      flow.texts.challenge!.taken = true
      person.lastCode = fields['code']
      return oracle.prove(flow, person, 'sms')
    }
    if (event === 'mfa.enrolled') {
      const byRecovery = oracle.holdsRecovery(person, flow)
      assert.ok(byRecovery || oracle.mayAdd(person, flow), 'a factor is added on a password alone')
      assert.ok(oracle.mayEnrol(person, flow), 'a factor is added after a reset by a password alone')
      assert.equal(oracle.question(flow), 'enrolment', 'a factor is added that nobody asked for')
      const stood = person.app ?? person.phone
      this.#meet(byRecovery ? 'enrolled by recovery code' : stood ? 'enrolled beside a factor' : 'enrolled')
      if (person.reset) this.#meet('enrolled after a reset')
      if (page.answer.text.includes('id="key"')) {
        const secret = secretOn(page.answer)
        oracle.enrol(flow, person, { app: { secret, step: await this.#stepOf(secret, fields['code']!) } })
      } else {
        assert.ok(oracle.allowed(person, flow).includes('sms'), 'a payor’s phone becomes a factor')
        assert.ok(oracle.isText(flow, 'enrolment', person, fields['code']), 'a first code that was not sent for this')
        this.#meet('enrolled a phone')
        flow.texts.enrolment!.taken = true
        oracle.enrol(flow, person, { phone: flow.texts.enrolment!.number })
      }
      person.lastCode = fields['code']
      return
    }
    const given = event === 'recovery_code.reserved' ? fields['recovery_code'] : codeOn(page.answer)
    assert.ok(person.recovery?.code, `${event} without a code that was shown`)
    assert.equal(lettersOf(given!), lettersOf(person.recovery.code), `${event} by a code that is void`)
    if (event === 'recovery_code.reserved') person.recovery.reserved = { by: flow, until: now() + 60 * 60 }
    else {
      person.recovery.acknowledged = true
      flow.renewed = true
    }
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
      const allowed = this.#oracle.allowed(person, { ...flow, params: {} })
      assert.ok(
        !second || allowed.some((one) => claims.amr.includes(one)),
        'a refresh token without the factor that is needed',
      )
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
    const next = this.#nextPassword(person)
    const passwordHash = what === 'change the password' ? this.#hashes[next] : undefined
    const value = { id, email, name, memberships, serverRoles, disabled }
    await directory.commit([{ kind: 'user', op: 'put', value, passwordHash }])
    if (passwordHash) this.#oracle.changePassword(person, PASSWORDS[next]!)
    else this.#oracle.disable(person, disabled)
  }

  /** A company of another role: what was proven stands, what is needed may not. */
  async #give(person: Person, role: Person['role']): Promise<void> {
    const { directory } = this.#test.database
    const { id, email, name, serverRoles, disabled } = (await directory.user(person.id))!
    const value = { id, email, name, memberships: MEMBERSHIPS[role], serverRoles, disabled }
    await directory.commit([{ kind: 'user', op: 'put', value }])
    person.role = role
    this.#meet('give a role')
  }

  /** "Forgot your password?", in a third browser, to the end. It signs nobody in. */
  async #resetByMail(person: Person): Promise<void> {
    const visitor = this.#test.visitor()
    const { outbox } = this.#test.database
    const letters = async () =>
      (await outbox.list({ accountId: person.id, limit: 99 })).filter(({ kind }) => kind === 'password_reset')
    const before = new Set((await letters()).map(({ id }) => id))
    const asked = await visitor.submit(await visitor.go(`${this.#test.url}/forgot`), { email: person.email })
    if (asked.status === 429) return
    assert.equal(asked.status, 200)
    let fresh: string | undefined
    for (let looks = 0; fresh === undefined && looks < (person.disabled ? 3 : 200); looks++) {
      await setTimeout(10)
      fresh = (await letters()).find(({ id }) => !before.has(id))?.id
    }
    assert.equal(fresh === undefined, person.disabled, 'a letter to everybody who may sign in')
    if (fresh === undefined) return
    const { link } = JSON.parse((await outbox.read(fresh))!) as Letter
    const next = this.#nextPassword(person)
    const done = await visitor.submit(await visitor.go(link!), { new_password: PASSWORDS[next]! })
    assert.equal(headingOf(done), 'Your password is set')
    assert.ok(!visitor.cookies.some(({ name }) => name === 'session'), 'a reset signs nobody in')
    this.#oracle.changePassword(person, PASSWORDS[next]!)
    this.#meet('reset by mail')
  }

  async #withdraw(person: Person): Promise<void> {
    const done = await this.#test.database.passwords.withdraw(person.id, [])
    assert.equal(done, !person.disabled && !person.withdrawn)
    if (done) this.#oracle.withdrawPassword(person)
    this.#meet('password taken away')
  }

  #nextPassword = ({ password }: Person): number => (PASSWORDS.indexOf(password) + 1) % PASSWORDS.length

  /** From the first second of a day in a zone: of all zones, the one whose day begins with the next hour. */
  async #enforce(from: 'never' | 'long ago' | 'the next hour'): Promise<void> {
    const { directory } = this.#test.database
    const { mfa: _former, ...company } = (await directory.company('city'))!
    const begins = (Math.floor(now() / 3600) + 1) * 3600
    const mfa = {
      never: {},
      'long ago': { mfa: { enforced_from: '2020-01-01', zone: 'UTC' } },
      'the next hour': { mfa: midnightAt(begins) },
    }[from]
    await directory.commit([{ kind: 'company', op: 'put', value: { ...company, ...mfa } }])
    this.#oracle.companyFrom = { never: undefined, 'long ago': 0, 'the next hour': begins }[from]
    this.#meet(`enforce ${from}`)
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
          phone: await this.#test.database.factors.phone(person.id),
          acknowledged: account.recoveryCode?.acknowledged,
          reset: account.factorReset?.open === true,
        },
        {
          epoch: person.epoch,
          version: person.factorVersion,
          app: person.app !== undefined,
          phone: person.phone?.number,
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

/** Audit events of an accepted answer, with the pages that it may belong to. */
const PROOFS = new Map<string, Kind[]>([
  ['login.password', ['password']],
  ['mfa.otp', ['challenge']],
  ['mfa.sms', ['text']],
  ['enrolment.link_used', ['link']],
  ['mfa.enrolled', ['enrolment', 'first text']],
  ['recovery_code.reserved', ['recovery']],
  ['recovery_code.acknowledged', ['acknowledgement']],
])

const EVERYTHING = [
  ...[...Object.keys(QUESTION_OF), 'switch', 'message'].map((kind) => `page ${kind}`),
  ...PROOFS.keys(),
  ...[
    'enrolled',
    'enrolled a phone',
    'enrolled beside a factor',
    'enrolled by recovery code',
    'enrolled after a reset',
    'both at once',
    'sign out',
  ],
  ...['refresh', 'refresh refused', 'give a role', 'reset by mail', 'password taken away', 'enforce the next hour'],
  ...['error unmet_authentication_requirements', 'acr urn:sallyport:acr:2fa'],
  ...['code', 'error login_required', 'error interaction_required', 'error access_denied'],
  ...['acr urn:sallyport:acr:1fa', 'acr urn:sallyport:acr:2fa-app', 'acr https://refeds.org/profile/mfa'],
]

const pick = <T>(list: T[], which: number): T | undefined => list[which % Math.max(1, list.length)]

/** A number of its own for each person of each run, in a block of its own. */
const numberOf = (run: number, index: number, other: number): string => {
  const area = [202, 212, 303, 415, 512, 617, 702][(run + index) % 7]
  return `+1${area}${555 + (Math.floor(run / 7) % 400)}01${String((run % 30) * 3 + index)
    .padStart(2, '0')
    .slice(-1)}${other}`
}

/** The day that begins at this full hour in some zone, as a company's setting. */
function midnightAt(begins: number): { enforced_from: string; zone: string } {
  const hour = new Date(begins * 1000).getUTCHours()
  // At 05:00 UTC a day begins in the zone that is five hours behind, and that POSIX calls +5.
  const [zone, offset] = hour <= 12 ? [`Etc/GMT+${hour}`, -hour] : [`Etc/GMT-${24 - hour}`, 24 - hour]
  const day = new Date((begins + offset * 3600) * 1000).toISOString().slice(0, 10)
  return { enforced_from: day, zone: hour === 0 ? 'UTC' : zone }
}

const interactionOf = ({ answer: { at } }: Page): string => at.replace(/(\/interaction\/[\w-]+).*/, '$1')

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
    test = await openTestHouse({ ...TEXTS, SALLYPORT_SMS_PER_COUNTRY_AND_DAY: '1000000' })
    const settings: Client = {
      client_id: 'settings',
      client_name: 'Settings',
      client_secret: CLIENT_SECRET,
      redirect_uris: [CALLBACK],
      grant_types: ['authorization_code', 'refresh_token'],
      sallyport: { first_party: true, self_service: true },
    }
    await test.database.directory.commit([{ kind: 'client', op: 'put', value: settings }])
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
