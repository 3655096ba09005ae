import { Command } from 'commander'
import { answer, operator, personOf, reasonGiven, table, withHouse } from './house.ts'

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
    .description('remove every factor and the recovery code, and end all sessions; the next sign-in enrols anew')
    .addHelpText(
      'after',
      '\nExample:\n  sallyport mfa reset ana@acme.example --reason "lost phone, identified on a video call"',
    )
    .action((email: string, { reason }: { reason: string }, self: Command) =>
      withHouse(self, async (house) => {
        const { database } = house
        const user = await personOf(database, email)
        const why = reasonGiven(reason)
        const { audited } = await import('../audited.ts')
        const act = {
          event: 'mfa.reset',
          actor: operator(),
          accountId: user.id,
          details: { reason: why, removed: user.factors.map(({ method }) => method) },
        }
        await audited(database.audit, act, async () => {
          const { factsHere, noticesOf } = await import('../provider.ts')
          const facts = factsHere(house)
          const messages = noticesOf(house)(user, 'mfa_reset', facts)
          await database.directory.resetMfa(user.id, { now: facts.now, messages })
        })
        const { endSessionsOf } = await import('../sessions.ts')
        await endSessionsOf(house, [user.id], operator())
        answer(self, { email: user.email, reset: true }, [
          `${user.email} enrols anew at the next sign-in; all sessions have ended`,
        ])
      }),
    )
  return command
}
