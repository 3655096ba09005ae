/** What `explain` says is what the served flow asks. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { digest, REASON_WORDS } from '../../interactions/index.ts'
import { ACR_1FA, ACR_2FA, ACR_2FA_APP, CONSENT_REASONS, REASONS } from '../../interactions/policy.ts'
import { explainFor, type Request } from '../../server/explain.ts'
import { nextStep, now, wait } from '../support/clock.ts'
import { command } from '../support/command.ts'
import {
  acknowledge,
  CALLBACK,
  claimsIn,
  codeOf,
  enrol,
  errorOf,
  firstSignIn,
  openTestHouse,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import type { Answer, Visitor } from '../support/visitor.ts'

const PHONE = 'com.example.phone:/callback'
const CLIENTS = ['payments', 'strict', 'partner', 'spa', 'phone']
const REFEDS = 'https://refeds.org/profile/mfa'

describe('explain', function () {
  this.timeout(60_000)
  let test: TestHouse
  let count = 0
  before(async () => {
    test = await openTestHouse()
    await test.database.directory.commit([
      {
        kind: 'company',
        op: 'put',
        value: {
          id: 'guarded',
          name: 'Guarded Works',
          side: 'none',
          domains: [],
          disabled: false,
          mfa: { enforced_from: '2020-01-31', zone: 'America/Denver' },
        },
      },
    ])
  })
  after(() => test.close())

  /** A person of a kind, new each time: a sign-in changes who somebody is. */
  const KINDS: Record<string, (email: string) => Promise<string | undefined>> = {
    'a payor': async (email) => void (await test.person(email, 'payor')),
    'a payor with an app': async (email) => {
      await test.person(email, 'payor')
      return (await firstSignIn(test, email)).secret
    },
    'a payee': async (email) => void (await test.person(email, 'payee')),
    'a standard user': async (email) => void (await test.person(email, 'standard')),
    'a standard user with an app, recovery code not recorded': async (email) => {
      await test.person(email, 'standard')
      const visitor = test.visitor()
      const page = await signIn(visitor, await visitor.go(test.authUrl({ acr_values: ACR_2FA })), email)
      return (await enrol(visitor, page)).secret
    },
    'a member of a company that demands it': async (email) => {
      const id = await test.person(email, 'standard')
      const value = (await test.database.directory.user(id))!
      const memberships = [{ company: 'guarded', roles: [], disabled: false }]
      await test.database.directory.commit([{ kind: 'user', op: 'put', value: { ...value, memberships } }])
      return undefined
    },
  }
  const somebody = async (kind: string) => {
    count += 1
    const email = `somebody${count}@acme.example`
    const secret = await KINDS[kind]!(email)
    return { email, secret }
  }
  const explained = async (email: string, clientId: string, request: Request, proved?: Record<string, number>) => {
    const { directory, accounts } = test.database
    const user = (await directory.user(email))!
    const [account, client] = [(await accounts.find(user.id))!, (await directory.client(clientId))!]
    return explainFor(test.database, { user, account, client }, request, proved, now())
  }
  /** The prompt that a page answers, from the interaction that it belongs to. */
  const promptOf = async (page: Answer): Promise<string | undefined> => {
    const uid = /\/interaction\/([\w-]+)/.exec(page.at)?.[1]
    const stored = uid && (await test.database.artifacts.find('Interaction', digest(uid), now()))
    if (!stored) return undefined
    const place = { purpose: 'interaction', owner: stored.key }
    return (
      JSON.parse(test.house.keyRing.open(place, String(stored.payload['sealed']))) as { prompt: { name: string } }
    ).prompt.name
  }
  const url = (client: string, request: Request) =>
    test.authUrl({
      client_id: client,
      scope: request.scope ?? 'openid',
      redirect_uri: client === 'phone' ? PHONE : CALLBACK,
      ...(request.acr !== undefined && { acr_values: request.acr }),
      ...(request.maxAge !== undefined && { max_age: String(request.maxAge) }),
      ...(request.secondFactorMaxAge !== undefined && { second_factor_max_age: String(request.secondFactorMaxAge) }),
      ...(request.prompt !== undefined && { prompt: request.prompt }),
    })
  const isDone = ({ location }: Answer) => [CALLBACK, PHONE].some((uri) => location?.startsWith(uri))
  /** Answers every question rightly. @returns the prompts, and the answer that the app got */
  const walk = async (
    visitor: Visitor,
    at: string,
    { email, secret }: { email: string; secret: string | undefined },
  ) => {
    const asked: string[] = []
    let page = await visitor.go(at)
    while (!isDone(page)) {
      const prompt = await promptOf(page)
      assert.ok(prompt, `no question on ${page.at}: ${page.status}`)
      asked.push(prompt)
      if (prompt === 'login') page = await signIn(visitor, page, email)
      else if (prompt === 'mfa') page = await visitor.submit(page, { code: await codeOf(secret!) })
      else if (prompt === 'mfa_enroll') page = (await enrol(visitor, page)).page
      else if (prompt === 'recovery_ack') page = await acknowledge(visitor, page)
      else page = await visitor.submit(page, {})
      assert.ok(asked.length < 10, asked.join())
    }
    return { asked, page }
  }
  const compare = async (
    explanation: Awaited<ReturnType<typeof explained>>,
    client: string,
    { asked, page }: { asked: string[]; page: Answer },
    label: string,
  ) => {
    assert.deepEqual(
      explanation.asked.map(({ prompt }) => prompt),
      asked,
      label,
    )
    if (explanation.impossible !== undefined) {
      assert.equal(errorOf(page), 'unmet_authentication_requirements', label)
      return
    }
    const extra = client === 'phone' ? { redirect_uri: PHONE } : {}
    const code = new URL(page.location!).searchParams.get('code')!
    const tokens = await test.exchange({ ...page, location: `https://x.example/?code=${code}` }, client, extra)
    const { acr, amr } = claimsIn(tokens['id_token'])
    assert.deepEqual(explanation.claims, { amr, acr }, label)
  }

  for (const kind of [
    'a payor',
    'a payor with an app',
    'a payee',
    'a standard user',
    'a standard user with an app, recovery code not recorded',
    'a member of a company that demands it',
  ])
    it(`says what the server asks of ${kind}, at every app and for every acr`, async () => {
      for (const client of CLIENTS)
        for (const acr of [undefined, ACR_1FA, ACR_2FA, ACR_2FA_APP, REFEDS]) {
          const person = await somebody(kind)
          nextStep()
          const explanation = await explained(person.email, client, { acr, scope: 'openid email' })
          const walked = await walk(test.visitor(), url(client, { acr, scope: 'openid email' }), person)
          await compare(explanation, client, walked, `${client} ${acr}`)
        }
    })

  it('says what a session is asked', async () => {
    const requests: Request[] = [
      {},
      { acr: ACR_2FA },
      { maxAge: 50 },
      { maxAge: 5000 },
      { secondFactorMaxAge: 0 },
      { secondFactorMaxAge: 50 },
      { secondFactorMaxAge: 5000 },
      { prompt: 'login' },
      { prompt: 'consent' },
      { acr: ACR_2FA_APP, maxAge: 50 },
    ]
    for (const kind of ['a payor with an app', 'a standard user'])
      for (const client of ['payments', 'strict', 'partner'])
        for (const request of requests) {
          const person = await somebody(kind)
          nextStep()
          const visitor = test.visitor()
          // First at an app of the house, then elsewhere on the same session.
          const { asked } = await walk(visitor, url('payments', {}), person)
          const factors = asked.includes('mfa') ? ['pwd', 'otp'] : ['pwd']
          wait(100)
          nextStep()
          const [session] = await test.database.artifacts.sessionsOf(
            (await test.database.directory.user(person.email))!.id,
            now(),
          )
          const stored = session!.payload['factors'] as Record<string, number>
          assert.deepEqual(Object.keys(stored).sort(), factors.sort())
          const proved = Object.fromEntries(Object.entries(stored).map(([factor, at]) => [factor, now() - at]))
          const explanation = await explained(person.email, client, request, proved)
          const walked = await walk(visitor, url(client, request), person)
          await compare(explanation, client, walked, `${kind} ${client} ${JSON.stringify(request)}`)
        }
  })

  it('says why it cannot be met', async () => {
    const { email } = await somebody('a standard user')
    const user = (await test.database.directory.user(email))!
    await test.database.directory.setDisabled(user.id, true)
    const disabled = await explained(email, 'payments', {}, { pwd: 10 })
    assert.match(disabled.impossible ?? '', /disabled/)
    assert.deepEqual(
      disabled.asked.map(({ prompt }) => prompt),
      ['login'],
    )
    assert.equal(disabled.claims, undefined)
    const value = { ...user, id: 'invited', email: 'invited@acme.example' }
    await test.database.directory.commit([{ kind: 'user', op: 'put', value }])
    assert.match((await explained(value.email, 'payments', {})).impossible ?? '', /no password/)
  })

  it('has words for every reason', () => {
    assert.deepEqual(Object.keys(REASON_WORDS).sort(), Object.keys({ ...REASONS, ...CONSENT_REASONS }).sort())
    assert.ok(Object.values(REASON_WORDS).every((words) => words.length > 20))
  })

  it('answers at the command line, in words and in JSON, and names who is not there', async () => {
    const { email } = await somebody('a member of a company that demands it')
    const { config } = test.house
    const env = {
      SALLYPORT_DATA_DIR: join(test.folder, 'data'),
      SALLYPORT_STORE:
        config.SALLYPORT_STORE.kind === 'sqlite'
          ? `sqlite:${config.SALLYPORT_STORE.file}`
          : config.SALLYPORT_STORE.url(),
    }
    const run = (...args: string[]) => command(test.folder, ['explain', ...args], env)
    const words = await run('--user', email, '--client', 'strict')
    assert.equal(words.code, 0, words.stderr)
    assert.match(words.stdout, /because of Guarded Works demands it of everybody since 2020-01-31/)
    assert.match(words.stdout, /because of the app demands it of everybody/)
    assert.doesNotMatch(words.stdout, /their own switch/)
    assert.match(
      words.stdout,
      /^1\. login: nobody is signed in.*\n2\. mfa_enroll: .*\(authenticator app\)\n3\. recovery_ack: /m,
    )
    assert.match(words.stdout, /^token: amr pwd otp mfa, acr urn:sallyport:acr:2fa-app$/m)
    const json = await run('--user', email, '--client', 'payments', '--proved', 'pwd=60', '--max-age', '30', '--json')
    const told: { asked: { prompt: string; reasons: string[] }[]; session: object } = json.json()
    assert.deepEqual(told.session, { pwd: 60 })
    assert.deepEqual(
      told.asked.map(({ prompt, reasons }) => `${prompt}:${reasons}`),
      ['login:max_age', 'mfa_enroll:mfa_not_enrolled', 'recovery_ack:recovery_code_unacknowledged'],
    )
    const cases: [args: string[], code: number, says: RegExp][] = [
      [['--user', 'nobody@x.example', '--client', 'strict'], 1, /there is no user "nobody@x\.example"/],
      [['--user', email, '--client', 'none'], 1, /there is no client "none"/],
      [['--user', email], 2, /client/],
      [['--user', email, '--client', 'strict', '--proved', 'magic=1'], 2, /pwd=SECONDS/],
      [['--user', email, '--client', 'strict', '--max-age', 'x'], 2, /whole number/],
    ]
    for (const [args, code, says] of cases) {
      const done = await run(...args)
      assert.equal(done.code, code, done.stderr)
      assert.match(done.stderr, says)
    }
  })
})
