/** Text messages as a person gets them: out of the development outbox. */
import type { SmsBody } from '../../server/sms/outbox.ts'
import type { TestHouse } from './house.ts'

/** The settings of a server that keeps its texts. */
export const TEXTS = { SALLYPORT_SMS: 'outbox' }

/** Every text to this person, the newest first. */
export async function textsTo({ database }: Pick<TestHouse, 'database'>, accountId: string): Promise<SmsBody[]> {
  const listed = await database.outbox.list({ accountId, limit: 100 })
  const bodies = await Promise.all(
    listed.filter(({ channel }) => channel === 'sms').map(async ({ id }) => (await database.outbox.read(id))!),
  )
  return bodies.map((body) => JSON.parse(body) as SmsBody)
}

/** The code in the newest text to this person. */
export async function codeByText(test: Pick<TestHouse, 'database'>, accountId: string): Promise<string> {
  const [newest] = await textsTo(test, accountId)
  const code = /^\d{6}/.exec(newest?.text ?? '')?.[0]
  if (code === undefined) throw new Error(`no code by text: ${newest?.text ?? 'no text'}`)
  return code
}

/** Another code than this. */
export const not = (code: string): string => (code === '000000' ? '000001' : '000000')
