import { Command } from 'commander'
import type { House } from '../open.ts'
import { answer, operator, personOf, reasonGiven, table, withHouse } from './house.ts'

/** Seconds that a link is good which an operator hands out (NIST SP 800-63B-4 §4.2.1.2). */
const HANDED_OUT_SECONDS = 24 * 60 * 60

/** `mfa show|reset`. */
export function mfaCommand(): Command {
  const command = new Command('mfa').description('second factors of a person')

  command
    .command('show')
    .argument('<email>')
    .description('which factors a person has; never their secrets')
    .action((email: string, _options: unknown, self: Command) =>
      withHouse(self, async ({ database }) => {
        const user = await personOf(database, email)
        const { factors, recoveryCode } = user
        const phone = await database.factors.phone(user.id)
        // Enough to know it by on the phone with its owner, too little to send anything to.
        const ending = phone?.slice(-2)
        const known = factors.map((factor) => ({ ...factor, ...(factor.method === 'sms' && { ending }) }))
        const added = known.map(({ method, addedAt, ending: two }) => [
          method,
          `added ${new Date(addedAt * 1000).toISOString()}${two === undefined ? '' : `, number ending in ${two}`}`,
        ])
        const lines = table([...added, ['recovery code', recoveryCode]])
        answer(self, { email: user.email, factors: known, recoveryCode }, lines)
      }),
    )

  command
    .command('reset')
    .argument('<email>')
    .requiredOption('--reason <text>', 'why, and how you made sure who asked')
    .option('--reference <text>', 'of the request, as your support knows it')
    .description(
      'remove every factor and the recovery code, and end all sessions; the next sign-in enrols anew, by a mailed link',
    )
    .addHelpText(
      'after',
      '\nExample:\n  sallyport mfa reset ana@acme.example --reason "lost phone, identified on a video call" --reference 4711',
    )
    .action((email: string, { reason, reference }: { reason: string; reference?: string }, self: Command) =>
      withHouse(self, async (house) => {
        const { config, database } = house
        const user = await personOf(database, email)
        const why = reasonGiven(reason)
        const { audited } = await import('../audited.ts')
        const { factsHere, noticesOf } = await import('../provider.ts')
        const { now, lang } = factsHere(house)
        const act = {
          event: 'mfa.reset',
          actor: operator(),
          accountId: user.id,
          details: {
            reason: why,
            ...(reference !== undefined && { reference: reasonGiven(reference) }),
            removed: user.factors.map(({ method }) => method),
          },
        }
        await audited(database.audit, act, async () => {
          await database.directory.resetMfa(user.id, {
            now,
            messages: noticesOf(house)(user, 'mfa_reset', { now, lang }),
          })
        })
        const { endSessionsOf } = await import('../sessions.ts')
        await endSessionsOf(house, [user.id], operator())
        const { mailOf } = await import('../delivery.ts')
        const link = mailOf(config) === 'none' ? await linkFor(house, user.id, now) : undefined
        answer(self, { email: user.email, reset: true, ...(link && { link }) }, [
          `${user.email} enrols anew at the next sign-in; all sessions have ended`,
          link
            ? `mail is off: give them this link yourself, it is good for a day and opens nothing without their password\n${link}`
            : 'they are mailed a link when they sign in, and go on by it',
        ])
      }),
    )
  return command
}

/** Where no letter leaves, whoever reset somebody's factors brings them the link. */
async function linkFor({ config, database }: House, accountId: string, now: number): Promise<string | undefined> {
  const { newEnrolmentLink } = await import('../../interactions/index.ts')
  const account = await database.accounts.find(accountId)
  if (!account) return undefined
  const { link, url } = newEnrolmentLink(config.SALLYPORT_ISSUER, account, { now, seconds: HANDED_OUT_SECONDS })
  return (await database.passwords.issueLink(accountId, 'enrolment', link, [])) ? url : undefined
}
