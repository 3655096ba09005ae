/** What an operator does about one person: shut them out, end their sessions, take back what an app may do. */
import { Command } from 'commander'
import type { Act } from '../audited.ts'
import type { House } from '../open.ts'
import type { Ended } from '../sessions.ts'
import type { User } from '../stores.ts'
import { answer, operator, personOf, Refused, reasonGiven, table, withHouse } from './house.ts'

interface Why {
  reason?: string
  by?: string
}

/** `user disable|enable|sessions|end-sessions|require-password-change|unlink|invite|consents`, for the command `user`. */
export function peopleCommands(): Command[] {
  return [
    switching(true),
    switching(false),
    sessionsCommand(),
    endSessionsCommand(),
    requirePasswordChangeCommand(),
    unlinkCommand(),
    inviteCommand(),
    consentsCommand(),
  ]
}

function switching(disabled: boolean): Command {
  const name = disabled ? 'disable' : 'enable'
  const command = new Command(name)
    .argument('<email>')
    .requiredOption('--reason <text>', 'why, and how you made sure who asked')
    .option('--by <who>', 'who decided it, when that is not you')
    .description(
      disabled
        ? 'shut a person out: sessions and refresh tokens end at once, their apps are told'
        : 'let a person in again who was shut out; what ended stays ended',
    )
  return command
    .addHelpText(
      'after',
      `\nExample:\n  sallyport user ${name} ana@acme.example --reason "${disabled ? 'left the company' : 'is back'}" --by "HR, ticket 4711"`,
    )
    .action((email: string, why: Why, self: Command) =>
      withHouse(self, async (house) => {
        const { database } = house
        const user = await personOf(database, email)
        const details = { reason: reasonGiven(why.reason ?? ''), ...by(why) }
        if (user.disabled === disabled)
          throw new Refused(`${user.email} is ${disabled ? 'disabled' : 'enabled'} already`)
        const what = disabled ? { event: 'user.disabled' } : { event: 'user.enabled' }
        const ended = await act(house, user, { ...what, details }, async () => {
          if (!(await database.directory.setDisabled(user.id, disabled)))
            throw new Refused(`${user.email} was changed by somebody else just now: look again`)
          return disabled
        })
        answer(self, { email: user.email, disabled, ...(disabled && toldOf(ended)) }, [
          disabled ? `${user.email} is shut out; ${endedIn(ended)}` : `${user.email} may sign in again`,
        ])
      }),
    )
}

function endSessionsCommand(): Command {
  return new Command('end-sessions')
    .argument('<email>')
    .option('--reason <text>', 'why')
    .option('--by <who>', 'who asked for it, when that is not you')
    .description('end all sessions and refresh tokens of a person, and half-finished sign-ins; their apps are told')
    .addHelpText('after', '\nExample:\n  sallyport user end-sessions ana@acme.example --reason "laptop stolen"')
    .action((email: string, why: Why, self: Command) =>
      withHouse(self, async (house) => {
        const user = await personOf(house.database, email)
        const details = { ...given(why), ...by(why) }
        const ended = await act(house, user, { event: 'user.sessions_ended', details }, async () => {
          if (!(await house.database.directory.raiseEpoch(user.id))) throw new Refused(`there is no user "${email}"`)
          return true
        })
        answer(self, { email: user.email, ...toldOf(ended) }, [`${user.email}: ${endedIn(ended)}`])
      }),
    )
}

/**
 * The password is taken away, rather than asked for once more at the next sign-in: whoever stole it could answer that, and would
 * choose the next one. A link to the person's address is what a thief of the password has not.
 */
function requirePasswordChangeCommand(): Command {
  return new Command('require-password-change')
    .argument('<email>')
    .requiredOption('--reason <text>', 'why: what shows that the password is known to somebody else')
    .option('--by <who>', 'who decided it, when that is not you')
    .description('void the password of a person, and all sessions; "Forgot your password?" brings a new one')
    .addHelpText(
      'after',
      '\nExample:\n  sallyport user require-password-change ana@acme.example --reason "stands in a leaked list"',
    )
    .action((email: string, why: Why, self: Command) =>
      withHouse(self, async (house) => {
        const { config, database } = house
        const { mailOf } = await import('../delivery.ts')
        const user = await personOf(database, email)
        const details = { reason: reasonGiven(why.reason ?? ''), ...by(why) }
        if (mailOf(config) === 'none')
          throw new Refused(
            'mail is off, so nobody could choose a new one: `sallyport user set` sets it, --password-file',
          )
        if (!user.hasPassword) throw new Refused(`${user.email} has no password`)
        if (user.disabled) throw new Refused(`${user.email} is disabled: the password opens nothing`)
        const { withdrawal } = await import('../account/links.ts')
        const { factsHere } = await import('../provider.ts')
        const letter = withdrawal(user, { config, ...factsHere(house) })
        const ended = await act(house, user, { event: 'user.password_change_required', details }, async () => {
          if (!(await database.passwords.withdraw(user.id, [letter])))
            throw new Refused(`${user.email} was changed by somebody else just now: look again`)
          return true
        })
        answer(self, { email: user.email, password_withdrawn: true, ...toldOf(ended) }, [
          `${user.email} chooses a new password by "Forgot your password?"; ${endedIn(ended)}`,
        ])
      }),
    )
}

function inviteCommand(): Command {
  return new Command('invite')
    .argument('<email>')
    .description('send a person who has no password a link to choose one; a former invitation is void')
    .addHelpText('after', '\nExample:\n  sallyport user invite ana@acme.example')
    .action((email: string, _options: unknown, self: Command) =>
      withHouse(self, async (house) => {
        const { config, database } = house
        const { mailOf } = await import('../delivery.ts')
        if (mailOf(config) === 'none') throw new Refused('mail is off: set SALLYPORT_SMTP_URL and SALLYPORT_MAIL_FROM')
        const user = await personOf(database, email)
        if (user.hasPassword || user.passwordWithdrawn)
          throw new Refused(
            `${user.email} has a password, or had one: "Forgot your password?" on the sign-in page replaces it`,
          )
        if (user.disabled) throw new Refused(`${user.email} is disabled: \`sallyport user enable\` comes first`)
        const { INVITING } = await import('../../interactions/index.ts')
        const { invitation } = await import('../account/links.ts')
        const { factsHere } = await import('../provider.ts')
        const { audited } = await import('../audited.ts')
        const account = (await database.accounts.find(user.id))!
        const invited = invitation(account, { config, ...factsHere(house), inviter: config.SALLYPORT_BRAND_NAME })
        await audited(database.audit, { event: 'invitation.sent', actor: operator(), accountId: user.id }, async () => {
          await database.outbox.withdraw(user.id, [...INVITING])
          if (!(await database.passwords.issueLink(user.id, 'welcome', invited.link, invited.messages)))
            throw new Refused(`${user.email} was changed by somebody else just now: look again`)
        })
        const until = iso(invited.link.expiresAt)
        answer(self, { email: user.email, invited: true, until }, [
          `${user.email} is invited; the link is good until ${until}`,
        ])
      }),
    )
}

function unlinkCommand(): Command {
  return new Command('unlink')
    .argument('<email>')
    .requiredOption('--reason <text>', 'why, and how you made sure who asked')
    .option('--by <who>', 'who asked for it, when that is not you')
    .description("forget which name their company's identity provider gives a person: the next sign-in links anew")
    .addHelpText(
      'after',
      '\nExample:\n  sallyport user unlink ana@acme.example --reason "new identity provider account" --by "IT, ticket 4711"',
    )
    .action((email: string, why: Why, self: Command) =>
      withHouse(self, async ({ database }) => {
        const user = await personOf(database, email)
        const details = { reason: reasonGiven(why.reason ?? ''), ...by(why) }
        const { audited } = await import('../audited.ts')
        let links = 0
        const act = { event: 'federation.unlinked', actor: operator(), accountId: user.id, details }
        await audited(database.audit, act, async () => {
          links = await database.links.unlinkAll(user.id)
          if (links === 0) throw new Refused(`${user.email} is linked to no identity provider`)
          return { links }
        })
        answer(self, { email: user.email, links }, [
          `${user.email}: ${links} ${links === 1 ? 'link' : 'links'} forgotten; the next sign-in at their company links anew`,
        ])
      }),
    )
}

/**
 * Does it, ends the sessions when `work` says so, and tells the audit before and after.
 */
async function act(
  house: House,
  user: User,
  { event, details }: Pick<Act, 'event' | 'details'>,
  work: () => Promise<boolean>,
): Promise<Ended> {
  const { audited } = await import('../audited.ts')
  const { endSessionsOf } = await import('../sessions.ts')
  let ended: Ended = { sessions: 0, told: [], failed: [] }
  await audited(house.database.audit, { event, actor: operator(), accountId: user.id, details }, async () => {
    if (!(await work())) return undefined
    ended = await endSessionsOf(house, [user.id], operator())
    return { sessions: ended.sessions }
  })
  return ended
}

const given = ({ reason }: Why) => (reason === undefined ? {} : { reason: reasonGiven(reason) })
const by = ({ by: who }: Why) => (who === undefined || who.trim() === '' ? {} : { by: who.trim().slice(0, 200) })
const toldOf = ({ sessions, told, failed }: Ended) => ({ sessions_ended: sessions, told, not_told: failed })

function endedIn({ sessions, told, failed }: Ended): string {
  const apps = told.length > 0 ? `, told ${told.join(', ')}` : ''
  const not = failed.map(({ clientId, why }) => `; ${clientId} could not be told: ${why}`).join('')
  return `${sessions} ${sessions === 1 ? 'session' : 'sessions'} ended${apps}${not}`
}

function sessionsCommand(): Command {
  return new Command('sessions')
    .argument('<email>')
    .description('the live sessions of a person: since when, in which apps, from where')
    .addHelpText('after', '\nExample:\n  sallyport user sessions ana@acme.example --json')
    .action((email: string, _options: unknown, self: Command) =>
      withHouse(self, async (house) => {
        const user = await personOf(house.database, email)
        const account = await house.database.accounts.find(user.id)
        const { shownSessions } = await import('../sessions.ts')
        const sessions = account ? await shownSessions(house, account) : []
        const shown = sessions.map(({ created, lastUsed, ...session }) => ({
          ...session,
          created: iso(created),
          last_used: iso(lastUsed),
        }))
        answer(
          self,
          shown,
          shown.length === 0
            ? [`${user.email} has no session`]
            : table([
                ['id', 'created', 'last used', 'apps', 'address', 'browser'],
                ...shown.map(({ id, created, last_used, apps, ip, browser }) => [
                  id,
                  created,
                  last_used,
                  apps.join(' ') || '-',
                  ip ?? '-',
                  browser ?? '-',
                ]),
              ]),
        )
      }),
    )
}

function consentsCommand(): Command {
  return new Command('consents')
    .argument('<email>')
    .option('--revoke <client>', 'take back what this app may do: its tokens end, the person is asked again')
    .option('--reason <text>', 'with --revoke: why')
    .option('--by <who>', 'with --revoke: who asked for it, when that is not you')
    .description('what a person let third-party apps do')
    .addHelpText(
      'after',
      '\nExamples:\n  sallyport user consents ana@acme.example\n  sallyport user consents ana@acme.example --revoke partner',
    )
    .action((email: string, { revoke, ...why }: Why & { revoke?: string }, self: Command) =>
      withHouse(self, async ({ database }) => {
        const user = await personOf(database, email)
        if (revoke !== undefined) {
          if (!(await database.consents.find(user.id, revoke)))
            throw new Refused(`${user.email} agreed to nothing with "${revoke}": \`sallyport user consents\` shows all`)
          const { audited } = await import('../audited.ts')
          const { revokeConsent } = await import('../../interactions/index.ts')
          const details = { ...given(why), ...by(why) }
          const event = { event: 'consent.revoked', actor: operator(), accountId: user.id, clientId: revoke, details }
          const now = Math.floor(Date.now() / 1000)
          // One row for it, and that is written by `audited`.
          const { consents, artifacts } = database
          const silent = { consents, artifacts, audit: { append: async () => {} } }
          await audited(database.audit, event, async () => {
            if (!(await revokeConsent(silent, user.id, revoke, { now })))
              throw new Refused(`${user.email} agreed to nothing with "${revoke}" any more`)
          })
          return answer(self, { email: user.email, revoked: revoke }, [
            `${revoke} may do nothing any more for ${user.email}, who is asked again`,
          ])
        }
        const consents = (await database.consents.list(user.id)).map(({ clientId, permissions, since }) => ({
          client: clientId,
          permissions,
          since: iso(since),
        }))
        return answer(
          self,
          consents,
          consents.length === 0
            ? [`${user.email} agreed to nothing: first-party apps are agreed to by their registration`]
            : table([
                ['client', 'since', 'permissions'],
                ...consents.map(({ client, since, permissions }) => [client, since, permissions.join(', ')]),
              ]),
        )
      }),
    )
}

const iso = (seconds: number) => new Date(seconds * 1000).toISOString()
