/** Plays the main flow over HTTP, as a person with an authenticator app would, and checks what the app was told. */
import { setTimeout } from 'node:timers/promises'
import { generate } from 'otplib'
import { type Answer, type Fields, formOf, headingOf, titleOf, Visitor } from './visitor.ts'

/** What a page of the play was, for the line that is printed. */
type Tell = (line: string) => void

/**
 * Sign-in, enrolment, recovery code, token; then a disbursement by step-up, and sign-out.
 *
 * @returns the claims of the ID token
 * @throws with the reason when anything differs from what is expected
 */
export async function play(
  app: string,
  issuer: string,
  email: string,
  password: string,
  tell: Tell,
): Promise<Record<string, unknown>> {
  const person = new Visitor(issuer)
  const phone = { step: 0, secret: '' }
  const see = looker(tell)

  const identifier = see(await arrive(person, app, '/sign-in'), 'Sign in')
  const passwordPage = see(await person.submit(identifier, { email }), 'Enter your password')
  const first = await enrol(person, app, await person.submit(passwordPage, { password }), phone, tell)
  const claims = tokenOn(first)
  requireMethods(claims, ['pwd', 'otp', 'mfa'])

  // Times in tokens are whole seconds: the API tells a newer proof by a later one.
  await setTimeout(1000)
  const challenge = see(await arrive(person, app, '/disburse', {}), 'Enter the code from your authenticator app')
  const paid = await back(person, app, await person.submit(challenge, { code: await nextCode(phone) }), tell)
  if (!paid.text.includes('id="disbursements">1<')) throw new Error('the disbursement was not made')
  const second = await person.request(`${app}/`)
  if (Number(tokenOn(second)['second_factor_time']) < Number(claims['second_factor_time']))
    throw new Error('the step-up is not newer')

  const question = see(await arrive(person, app, '/sign-out'), 'Do you want to sign out?')
  await back(person, app, await person.submit(question, { logout: 'yes' }), tell)
  return claims
}

/**
 * A payor whose company signs them in: its identity provider, then our own enrolment all the same.
 *
 * @returns the claims of the ID token
 * @throws with the reason when anything differs from what is expected
 */
export async function playCompanySignIn(
  app: string,
  issuer: string,
  email: string,
  tell: Tell,
): Promise<Record<string, unknown>> {
  const person = new Visitor(issuer)
  const identifier = looker(tell)(await arrive(person, app, '/sign-in'), 'Sign in')
  const sent = await person.submit(identifier, { email })
  if (!sent.location) throw new Error(`expected the company's page, got ${sent.status} "${headingOf(sent)}"`)
  const there = await person.request(sent.location)
  tell(`${there.status} ${titleOf(there)} (the company)`)
  const { action, hidden } = formOf(there)
  // Another site's form brings no cookie of ours along.
  const posted = await new Visitor(issuer).request(action, {
    form: hidden,
    headers: { origin: new URL(sent.location).origin, 'sec-fetch-site': 'cross-site' },
  })
  if (!posted.location) throw new Error(`the response was refused: ${posted.status} "${headingOf(posted)}"`)
  const phone = { step: 0, secret: '' }
  const claims = tokenOn(await enrol(person, app, await person.go(posted.location), phone, tell))
  requireMethods(claims, ['otp', 'mfa'])
  return claims
}

/** Adds an app, refuses to go on without the tick, and comes back to the relying party. */
async function enrol(
  person: Visitor,
  app: string,
  page: Answer,
  phone: { step: number; secret: string },
  tell: Tell,
): Promise<Answer> {
  const see = looker(tell)
  const enrolment = see(page, 'Secure Your Account')
  phone.secret = /<code id="key"[^>]*>([^<]+)</.exec(enrolment.text)?.[1]?.replace(/\s/g, '') ?? ''
  if (!/^[A-Z2-7]{32}$/.test(phone.secret)) throw new Error('there is no setup key on the page')
  const recovery = see(await person.submit(enrolment, { code: await nextCode(phone) }), 'Almost There')
  const refused = await person.submit(recovery)
  if (refused.status !== 400) throw new Error('the recovery page went on without the tick')
  tell(`${refused.status} ${titleOf(refused)}`)
  return back(person, app, await person.submit(refused, { acknowledged: 'yes' }), tell)
}

/** Tells each page, and stops at one that is not expected. */
const looker =
  (tell: Tell) =>
  (page: Answer, heading: string): Answer => {
    tell(`${page.status} ${titleOf(page)}`)
    if (page.status !== 200 || headingOf(page) !== heading)
      throw new Error(
        `expected the page "${heading}" and got ${page.status} "${headingOf(page)}" at ${new URL(page.at).pathname}`,
      )
    return page
  }

function requireMethods({ amr }: Record<string, unknown>, methods: string[]): void {
  for (const method of methods)
    if (!(amr as string[]).includes(method)) throw new Error(`amr is ${JSON.stringify(amr)} and lacks ${method}`)
}

/** A code of a time step that was not used yet: the next one is shown a little early (RFC 6238 §5.2 lets it in). */
async function nextCode(phone: { step: number; secret: string }): Promise<string> {
  phone.step = Math.max(Math.floor(Date.now() / 30_000), phone.step + 1)
  return generate({ secret: phone.secret, epoch: phone.step * 30 })
}

/** A link or a form of the app, and the redirects to the provider's page. */
async function arrive(person: Visitor, app: string, path: string, form?: Fields): Promise<Answer> {
  const { location } = await person.request(`${app}${path}`, form && { form })
  if (location === undefined) throw new Error(`${path} of the app led nowhere`)
  return person.go(location)
}

/** From the provider back to the app's page. */
async function back(person: Visitor, app: string, answer: Answer, tell: Tell): Promise<Answer> {
  if (!answer.location?.startsWith(app))
    throw new Error(`expected to be sent back to the app, got ${answer.status} "${headingOf(answer)}"`)
  let page = await person.request(answer.location)
  if (page.location) page = await person.request(page.location)
  tell(`${page.status} ${titleOf(page)} (the app)`)
  return page
}

function tokenOn(page: Answer): Record<string, unknown> {
  const text = /<pre id="id-token"[^>]*>([\s\S]*?)<\/pre>/.exec(page.text)?.[1]
  if (text === undefined) throw new Error(`the app shows no ID token: ${headingOf(page)}`)
  return JSON.parse(text.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)))) as Record<
    string,
    unknown
  >
}
