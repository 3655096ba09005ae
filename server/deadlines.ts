/** People are told by mail before a company of theirs demands a second factor: whoever has none by then would be stopped. */
import { daysUntil, digest, letterWithLink, type Message } from '../interactions/index.ts'
import { mailOf } from './delivery.ts'
import type { House } from './open.ts'
import type { Company, User } from './stores.ts'

const DAY = 24 * 60 * 60
/** Days before the date from which a letter goes out; where the date is set later, the letters before it are left out. */
export const TOLD_DAYS = [14, 7, 1] as const
/** People that are read at once. */
const PAGE = 500

/** A date of a company that is near. */
interface Deadline {
  company: Company
  from: string
  zone: string
  days: number
  /** Which of {@link TOLD_DAYS} it is near by. */
  notice: number
}

/**
 * Keeps the letters that are due. Each has a name made of whom, what date and which notice: there is one, however many
 * processes look how often; and a date that was changed is another one.
 *
 * @param now seconds since 1970
 */
export async function tellOfDeadlines(house: Pick<House, 'config' | 'database' | 'connections'>, now: number) {
  const { config, database } = house
  if (mailOf(config) === 'none') return
  const near = (await database.directory.companies()).flatMap((company) => deadlineOf(company, now))
  const due = await notYetToday(house, near, now)
  if (due.length === 0) return
  const isSignedInThere = signedInBy(house)
  for (let after = ''; ; ) {
    const people = await database.directory.users({ after, limit: PAGE })
    const messages: Message[] = []
    for (const person of people)
      for (const deadline of due)
        if (concerns(deadline, person) && !(await isSignedInThere(person, deadline.company)))
          messages.push(letterOf(house, deadline, person, now))
    await database.outbox.put(messages)
    if (people.length < PAGE) break
    after = people.at(-1)!.email
  }
  for (const deadline of due)
    await database.pending.keep({ ...markOf(deadline, now), value: 'told', expiresAt: now + 2 * DAY, now })
}

function deadlineOf(company: Company, now: number): Deadline[] {
  if (company.disabled || !company.mfa) return []
  const { enforced_from: from, zone } = company.mfa
  const days = daysUntil({ from, zone }, now)
  const notice = TOLD_DAYS.findLast((one) => days <= one)
  return days > 0 && notice !== undefined ? [{ company, from, zone, days, notice }] : []
}

/** Whoever died on the way begins anew: the mark is made when all letters are kept. People who are new are found tomorrow. */
async function notYetToday({ database }: Pick<House, 'database'>, near: Deadline[], now: number): Promise<Deadline[]> {
  const marks = await Promise.all(
    near.map((deadline) => {
      const { owner, purpose } = markOf(deadline, now)
      return database.pending.recall(owner, purpose, now)
    }),
  )
  return near.filter((_, index) => marks[index] === undefined)
}

const markOf = ({ company, from, zone, notice }: Deadline, now: number) => ({
  owner: `deadline ${company.id}`,
  purpose: [from, zone, notice, Math.floor(now / DAY)].join(' '),
})

/** Who belongs to the company and has no second factor. */
const concerns = ({ company }: Deadline, { disabled, factors, memberships }: User): boolean =>
  !disabled && factors.length === 0 && memberships.some((one) => one.company === company.id && !one.disabled)

/** Whom the company signs in itself: its own enforcement is met by that, unless it wants them to be asked here as well. */
function signedInBy({ database, connections = database.connections }: Pick<House, 'database' | 'connections'>) {
  const known = new Map<string, Promise<string | undefined>>()
  const companyOf = async (domain: string) => {
    const connection = await connections.connectionFor(domain, '')
    return connection?.mode === 'forward' ? connection.company : undefined
  }
  return async ({ email }: User, company: Company): Promise<boolean> => {
    if (company.mfa?.sso === 'challenge') return false
    const domain = email.slice(email.lastIndexOf('@') + 1)
    const found = known.get(domain) ?? companyOf(domain)
    known.set(domain, found)
    return (await found) === company.id
  }
}

function letterOf({ config }: Pick<House, 'config'>, deadline: Deadline, person: User, now: number): Message {
  const { company, from, zone, days, notice } = deadline
  return letterWithLink('mfa_deadline', person.id, {
    id: digest(JSON.stringify(['mfa_deadline', company.id, from, zone, notice, person.id])),
    to: person.email,
    lang: config.SALLYPORT_LANGUAGE,
    link: `${config.SALLYPORT_ISSUER}/account`,
    day: from,
    vars: { company: company.name, zone },
    now,
    seconds: days * DAY,
  })
}
