import { Command, InvalidArgumentError } from 'commander'
import { answer, personOf, Refused, withHouse } from './house.ts'

const METHOD_WORDS: Record<string, string> = { otp: 'authenticator app', sms: 'SMS' }
const RANK_WORDS = ['any sign-in', 'any sign-in', 'a second factor', 'a second factor that is not SMS']

/** `explain --user EMAIL --client ID`: what would be asked, and why. */
export function explainCommand(): Command {
  return new Command('explain')
    .description('what a person would be asked at an app right now, and why; the same decision that the server makes')
    .requiredOption('--user <email>', 'the person')
    .requiredOption('--client <id>', 'the app')
    .option('--acr <values>', 'acr_values of the request, with spaces between')
    .option('--max-age <seconds>', 'max_age of the request', seconds)
    .option('--second-factor-max-age <seconds>', 'second_factor_max_age of the request', seconds)
    .option('--prompt <values>', 'prompt of the request: login, consent')
    .option('--scope <scopes>', 'scope of the request', 'openid')
    .option(
      '--proved <factors>',
      'with a session in which these were proven so many seconds ago: pwd=60,otp=600',
      proofs,
    )
    .addHelpText(
      'after',
      `
Examples:
  sallyport explain --user ana@acme.example --client payments
  sallyport explain --user ana@acme.example --client payments --acr urn:sallyport:acr:2fa-app --proved pwd=600,otp=600`,
    )
    .action((options: Options, self: Command) =>
      withHouse(self, async ({ config, database }) => {
        const user = await personOf(database, options.user)
        const account = await database.accounts.find(user.id)
        if (!account) throw new Refused(`there is no user "${options.user}"`)
        const client = await database.directory.client(options.client)
        if (!client) throw new Refused(`there is no client "${options.client}": \`sallyport client list\` shows all`)
        const { explainFor, sourceInWords } = await import('../explain.ts')
        const { acr, maxAge, secondFactorMaxAge, prompt, scope, proved } = options
        const request = { acr, maxAge, secondFactorMaxAge, prompt, scope }
        const now = Math.floor(Date.now() / 1000)
        const explanation = await explainFor(
          database,
          {
            user,
            account,
            client,
            countries: config.SALLYPORT_SMS === undefined ? [] : config.SALLYPORT_SMS_COUNTRIES,
          },
          request,
          proved,
          now,
        )
        const { requirement, asked, impossible, claims } = explanation
        const companies = await Promise.all(user.memberships.map(({ company }) => database.directory.company(company)))
        const known = companies.filter((company) => company !== undefined)
        const because = [...new Set(requirement.because)].map((source) => ({
          source,
          why: sourceInWords(source, known),
        }))
        answer(
          self,
          {
            user: user.email,
            client: client.client_id,
            session: proved ?? null,
            required: {
              rank: requirement.rank,
              methods: requirement.methods,
              because,
              max_age: requirement.maxAge ?? null,
              second_factor_max_age: requirement.secondFactorMaxAge ?? null,
            },
            asked,
            impossible: impossible ?? null,
            token: claims ?? null,
          },
          [
            `${user.email} at ${client.client_id}, ${proved ? `with a session (${told(proved)})` : 'without a session'}`,
            `needed: ${RANK_WORDS[requirement.rank]}${requirement.rank > 1 ? `, by ${methods(requirement.methods)}` : ''}`,
            ...because.map(({ why }) => `  because of ${why}`),
            ...(asked.length === 0 && impossible === undefined ? ['nothing is asked'] : []),
            ...asked.map(
              (one, index) =>
                `${index + 1}. ${one.prompt}${one.room === 'federation' ? ' at their company' : ''}: ${one.why.join('; ')}${one.methods ? ` (${methods(one.methods)})` : ''}`,
            ),
            ...(impossible === undefined ? [] : [`then it cannot be met: ${impossible}`]),
            ...(claims ? [`token: amr ${claims.amr.join(' ')}, acr ${claims.acr}`] : []),
          ],
        )
      }),
    )
}

interface Options {
  user: string
  client: string
  acr?: string
  maxAge?: number
  secondFactorMaxAge?: number
  prompt?: string
  scope: string
  proved?: Record<string, number>
}

const methods = (names: readonly string[]) =>
  names.length === 0 ? 'nothing that there is' : names.map((name) => METHOD_WORDS[name] ?? name).join(' or ')

const told = (proved: Record<string, number>) =>
  Object.entries(proved)
    .map(([factor, ago]) => `${factor} ${ago} s ago`)
    .join(', ')

function seconds(value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw new InvalidArgumentError('must be a whole number of seconds')
  return Number(value)
}

function proofs(value: string): Record<string, number> {
  const pairs = value.split(',').map((pair) => /^(pwd|fed|otp|sms)=(\d{1,9})$/.exec(pair.trim()))
  if (pairs.some((pair) => pair === null))
    throw new InvalidArgumentError(
      'must be pwd=SECONDS, fed=SECONDS (company sign-in), otp=SECONDS, sms=SECONDS, with commas',
    )
  return Object.fromEntries(pairs.map((pair) => [pair![1]!, Number(pair![2])]))
}
