/** "This was not me": what the link in a letter names, so that whoever has the letter can end the sessions of whom it tells. */
import { timingSafeEqual } from 'node:crypto'
import type { KeyRing } from './keyring.ts'

/** Seconds after what a letter tells of in which its link does something. */
export const NOT_ME_SECONDS = 30 * 24 * 60 * 60

/** Whose account it is about, and when it happened (seconds since 1970). */
export interface NotMe {
  accountId: string
  at: number
}

type Ring = Pick<KeyRing, 'mac'>

const macOf = (keyRing: Ring, said: string) => keyRing.mac('not_me', said)

/** The same at every try to deliver a letter: nothing of it is kept. */
export function notMeToken(keyRing: Ring, { accountId, at }: NotMe): string {
  const said = Buffer.from(JSON.stringify([accountId, at])).toString('base64url')
  return `${said}.${macOf(keyRing, said)}`
}

/** What a token of ours names, until its time is over; else `undefined`. */
export function readNotMe(keyRing: Ring, token: string, now: number): NotMe | undefined {
  const [said = '', mac = ''] = token.split('.')
  const expected = Buffer.from(macOf(keyRing, said))
  const given = Buffer.from(mac)
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined
  const [accountId, at] = JSON.parse(Buffer.from(said, 'base64url').toString()) as [string, number]
  return now < at + NOT_ME_SECONDS ? { accountId, at } : undefined
}
