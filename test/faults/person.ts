/** People who sign in whatever happens to the server meanwhile. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { generate } from 'otplib'
import { CALLBACK, PASSWORD, secretOn, type TestHouse } from '../support/house.ts'
import { type Answer, headingOf, type Visitor } from '../support/visitor.ts'

/** A server that comes back. */
export interface Up {
  /** Resolves when it answers again. */
  up(): Promise<void>
}

/** A person who knows what the server told them, and holds it to it. */
export class Person {
  readonly id: string
  readonly email: string
  readonly #test: TestHouse
  readonly #server: Up
  readonly #visitor: Visitor
  readonly #goesBack: boolean
  #shown: string | undefined
  #usedStep = 0
  enrolled: string | undefined
  acknowledged = false
  interruptions = 0
  wentOn = 0
  accessToken: string | undefined

  constructor(test: TestHouse, server: Up, id: string, email: string, goesBack: boolean, visitor = test.visitor()) {
    this.#test = test
    this.#server = server
    this.#visitor = visitor
    this.id = id
    this.email = email
    this.#goesBack = goesBack
  }

  /** Signs in for the first time, whatever happens to the server meanwhile, until the tokens are there. */
  async signIn(): Promise<void> {
    const begin = () => this.#visitor.go(this.#test.authUrl())
    let step: () => Promise<Answer> = begin
    let page: Answer | undefined
    for (let tries = 0; tries < 60; tries++) {
      let answer: Answer
      try {
        answer = await step()
      } catch (error) {
        if (!(error instanceof TypeError)) throw error // fetch: the connection broke
        this.interruptions += 1
        await setTimeout(20)
        await this.#server.up()
        const at = page?.at
        // Half of the people reload the page they were at, the others start again.
        if (at !== undefined && this.#goesBack) this.wentOn += 1
        step = at !== undefined && this.#goesBack ? () => this.#visitor.go(at) : begin
        continue
      }
      if (answer.location?.startsWith(CALLBACK)) {
        this.acknowledged = true
        const tokens = await this.#test.exchange(answer).catch(() => undefined)
        // Whether the code was exchanged, nobody told: the person starts again.
        if (tokens?.status !== 200) {
          step = begin
          continue
        }
        this.accessToken = tokens['access_token']
        return
      }
      page = answer.status < 400 ? answer : undefined
      step = page ? this.#answer(page) : begin
    }
    throw new Error(`${this.email} never got through: ${this.#visitor.log.slice(-20).join(', ')}`)
  }

  /** What a person does on this page. */
  #answer(page: Answer): () => Promise<Answer> {
    const visitor = this.#visitor
    const asks = (name: string) => new RegExp(`<input[^>]*name="${name}"`).test(page.text)
    if (asks('password')) return () => visitor.submit(page, { password: PASSWORD })
    if (page.text.includes('id="key"')) {
      assert.equal(this.enrolled, undefined, `${this.email} had enrolled an app and is asked to do it again`)
      this.#shown = secretOn(page)
      return () => this.#code(page)
    }
    if (asks('acknowledged')) {
      assert.equal(this.acknowledged, false, `${this.email} had recorded the recovery code and is shown one again`)
      this.enrolled = this.#shown
      return () => visitor.submit(page, { acknowledged: 'yes' })
    }
    if (asks('code')) return () => this.#code(page)
    if (asks('email')) return () => visitor.submit(page, { email: this.email })
    throw new Error(`${this.email} is at ${page.at}: ${page.status} ${headingOf(page)}`)
  }

  /** The code of a step not used yet; one step ahead is within the window. */
  async #code(page: Answer): Promise<Answer> {
    const now = () => Math.floor(Date.now() / 30_000)
    const step = Math.max(now(), this.#usedStep + 1)
    while (now() < step - 1) await setTimeout(200)
    this.#usedStep = step
    return this.#visitor.submit(page, { code: await generate({ secret: this.#shown!, epoch: step * 30 }) })
  }
}
