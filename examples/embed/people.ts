/** The app's own people. In memory here; a table, a directory or another service elsewhere. */
import { randomBytes, randomUUID, scryptSync, timingSafeEqual } from 'node:crypto'

export interface Person {
  id: string
  email: string
  name: string
  plan: string
  /** `scrypt$salt$hash`, and whatever the app makes its hashes of later. */
  passwordHash: string
  /** Counts new passwords. */
  passwordVersion: number
}

const people: Person[] = []

export const byId = (id: string) => people.find((person) => person.id === id)
export const byEmail = (email: string) => people.find((person) => person.email === email)

export function addPerson(email: string, name: string, password: string): Person {
  const person = { id: randomUUID(), email, name, plan: 'pro', passwordHash: scryptHash(password), passwordVersion: 0 }
  people.push(person)
  return person
}

export function setPassword(person: Person, password: string): void {
  person.passwordHash = scryptHash(password)
  person.passwordVersion += 1
}

export function scryptMatches(hash: string, password: string): boolean {
  const [, salt = '', expected = ''] = hash.split('$')
  return timingSafeEqual(scryptSync(password, salt, 32), Buffer.from(expected, 'base64url'))
}

function scryptHash(password: string): string {
  const salt = randomBytes(16).toString('base64url')
  return `scrypt$${salt}$${scryptSync(password, salt, 32).toString('base64url')}`
}

/** A better hash of the same password. */
export async function keepHash(id: string, from: string, to: string): Promise<void> {
  const person = byId(id)
  if (person?.passwordHash === from) person.passwordHash = to
}
