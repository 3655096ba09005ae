/**
 * Asks somebody whose second factors were reset to open a link that is mailed to them, before they add a new one. Answers
 * `mfa_link`. A password alone enrols nothing; nor does a link that somebody opens in another browser than the one that
 * signs in, so that nobody can be talked into opening one for a stranger.
 */
import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { InteractionError } from '../kit/errors.ts'
import { digest } from '../kit/keyring.ts'
import { letterWithLink } from '../kit/letters.ts'
import { definePage, person, type Room, type Visit } from '../kit/room.ts'
import type {
  Account,
  Counter,
  FoundLink,
  MailedLink,
  MailedLinkStore,
  PendingStore,
  ThrottleRule,
  ThrottleStore,
} from '../kit/stores.ts'

/** Seconds that a link is good (NIST SP 800-63B-4 §4.2.1.2 allows 24 hours). */
export const LINK_SECONDS = 60 * 60
/** The same seconds: of three links the last is good until another may be asked for. */
const LINKS: ThrottleRule = { kind: 'window', limit: 3, seconds: LINK_SECONDS }

/** Where links lead. */
export const LINK_PATH = '/enrol'

/**
 * A link that was not mailed yet, with the address that it opens.
 * @param uid the interaction that waits for it; without one the page says to sign in
 */
export function newEnrolmentLink(
  issuer: string,
  { email, securityEpoch: epoch }: Pick<Account, 'email' | 'securityEpoch'>,
  { now, seconds, uid }: { now: number; seconds: number; uid?: string },
): { link: MailedLink; url: string } {
  const token = randomBytes(32).toString('base64url')
  const link = { hash: digest(token), email, epoch, expiresAt: now + seconds }
  // From the configuration, never from a request's Host header.
  return { link, url: `${issuer}${LINK_PATH}?${new URLSearchParams({ ...(uid !== undefined && { at: uid }), token })}` }
}

/** What this room stands on. */
export interface MailedLinkParts {
  /** Without it nothing is mailed, and nobody goes on by a link. */
  links: MailedLinkStore | undefined
  /** Letters leave. Else the people who run this hand out links. */
  mails: boolean
  pending: PendingStore
  throttle: ThrottleStore
  /** Public URL, without a trailing slash. */
  issuer: string
  /** Seconds that the right to enrol is held. */
  heldSeconds: number
}

/** Asks a person to open a link that was mailed to them. */
export const mailedLink = ({ links, mails, pending, throttle, issuer, heldSeconds }: MailedLinkParts): Room => {
  /** Of this reset: another one voids its links, and begins to count anew. */
  const counter = (visit: Visit): Counter => {
    const { id, securityEpoch } = person(visit)
    return { key: `enrolment-link|account|${id}|${securityEpoch}`, rule: LINKS }
  }

  /** The link that was opened in this browser, while it is good for this person and this chain. */
  async function opened(visit: Visit): Promise<FoundLink | undefined> {
    const { id, securityEpoch, factorReset } = person(visit)
    const link = visit.link === undefined ? undefined : await links?.findLink(visit.link)
    if (link?.accountId !== id || link.purpose !== 'enrolment' || link.epoch !== securityEpoch) return undefined
    const isUsed = link.usedAt !== undefined && factorReset?.heldBy !== visit.cid
    return isUsed || link.expiresAt <= visit.now ? undefined : link
  }

  /** @returns what the audit says of it, or `undefined` when nothing was sent: the person changed meanwhile */
  async function send(visit: Visit) {
    const { now, uid, facts } = visit
    const { id, email } = person(visit)
    const { link, url } = newEnrolmentLink(issuer, person(visit), { now, seconds: LINK_SECONDS, uid })
    const { lang, ip, browser } = facts
    const letter = letterWithLink('enrolment_link', id, {
      ...{ to: email, lang, link: url, now, seconds: LINK_SECONDS },
      ...{ at: now, ip, browser },
    })
    const isSent = await links?.issueLink(id, 'enrolment', link, [letter])
    return isSent ? { event: 'enrolment.link_sent' } : undefined
  }

  return {
    name: 'mailed-link',
    pages: {
      '': definePage({
        form: z.strictObject({}),

        /** Once in a chain a link is sent without being asked for; whoever brings one along needs none. */
        async arrive(visit) {
          if (!links || !mails || (await opened(visit))) return undefined
          const { securityEpoch } = person(visit)
          const mine = randomBytes(12).toString('base64url')
          const { cid: owner, expiresAt, now } = visit
          const kept = await pending.keep({ owner, purpose: `link_sent|${securityEpoch}`, value: mine, expiresAt, now })
          if (kept !== mine) return undefined
          const { allowed } = await throttle.take([counter(visit)], now)
          // The last three are on their way, or there.
          const audit = allowed ? await send(visit) : undefined
          return audit && { is: 'turned', page: '', audit }
        },

        async show(visit) {
          const isOpened = (await opened(visit)) !== undefined
          return {
            view: 'mailed-link',
            title: isOpened ? 'mailed-link.opened_title' : 'mailed-link.title',
            locals: { email: person(visit).email, isOpened, mails, againUrl: visit.url('again') },
          }
        },

        async submit(visit) {
          const { id, securityEpoch } = person(visit)
          const { cid, now, link: hash } = visit
          const until = now + heldSeconds
          if (hash === undefined || !(await links?.holdEnrolment(hash, { accountId: id, cid, until, now })))
            throw new InteractionError(mails ? 'link_not_opened' : 'link_not_given')
          return {
            is: 'settled',
            outcome: { linkedFor: { accountId: id, securityEpoch } },
            audit: { event: 'enrolment.link_used' },
          }
        },
      }),

      again: definePage({
        form: z.strictObject({}),

        attempt: async (visit) => ({
          counters: [counter(visit)],
          event: 'enrolment.link_sent',
          refusal: () => 'too_many_links',
        }),

        async submit(visit) {
          if (!mails) throw new InteractionError('link_not_given')
          const audit = await send(visit)
          if (!audit) return { is: 'overtaken' }
          return { is: 'turned', page: '', outcome: { notice: 'mailed-link.sent_again' }, audit }
        },
      }),
    },
  }
}
