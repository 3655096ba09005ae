/** Why a sign-in by a company's identity provider failed, and trying one before anybody depends on it. */
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import type { Connection, saml } from '../../interactions/index.ts'
import type { House } from '../open.ts'
import { answer, operator, Refused, table, withHouse } from './house.ts'

type Saml = Awaited<ReturnType<typeof saml>>
type Explanation = Awaited<ReturnType<Saml['explainFile']>>

/** Adds them to the command `connection`. */
export function addDoctorCommands(command: Command): void {
  explaining(command)
  testing(command)
  tracing(command)
}

function explaining(command: Command): void {
  command
    .command('explain')
    .argument('<file>', 'a SAML response: Base64, XML, or the form that a browser posted; - for standard input')
    .option('--connection <id>', 'whose it is, when the issuer in it does not say')
    .description('say what a pasted SAML response says, who signed it, and what its identity provider has to change')
    .addHelpText(
      'after',
      `
Nobody is signed in by it and nothing is kept. Exit code 1 when it would be refused. A response is as good as a password
for a few minutes: send old ones.

Examples:
  sallyport connection explain response.txt
  pbpaste | sallyport connection explain - --connection acme-sso --json`,
    )
    .action(async (file: string, { connection: id }: { connection?: string }, self: Command) => {
      const text = textIn(file)
      await withHouse(self, async (house) => {
        const { saml, serviceProviderOf } = await import('../../interactions/index.ts')
        const { explainFile, addressed } = await saml()
        const connection = await connectionFor(house, id, addressed(text))
        const ours = serviceProviderOf(connection, house.config.SALLYPORT_ISSUER)
        const explanation = await explainFile(text, ours, now())
        answer(self, { connection: connection.id, ...explanation }, linesOf(connection.id, explanation))
        if (!explanation.accepted) process.exitCode = 1
      })
    })
}

function testing(command: Command): void {
  command
    .command('test')
    .argument('<id>')
    .description('print a link that tries the sign-in: it signs nobody in, and ends on a page that says what came')
    .addHelpText(
      'after',
      `
Send the link to the administrator at the company. It works once, within 30 minutes, in any browser. A good answer counts
as the dry run that \`activate\` asks for. The server must be running.

Example:
  sallyport connection test acme-sso`,
    )
    .action((id: string, _options: unknown, self: Command) =>
      withHouse(self, async ({ database, config }) => {
        const connection = await database.directory.connection(id)
        if (!connection) throw new Refused(`there is no connection "${id}": \`sallyport connection list\` shows all`)
        if (connection.state === 'disabled')
          throw new Refused(
            `connection "${id}" is disabled: \`sallyport connection set ${id} --set state=testing\` first`,
          )
        const { testLink } = await import('../../interactions/index.ts')
        const { audited } = await import('../audited.ts')
        const details = { connection: id }
        let made: Awaited<ReturnType<typeof testLink>> | undefined
        await audited(database.audit, { event: 'connection.test_link', actor: operator(), details }, async () => {
          made = await testLink(database.pending, { issuer: config.SALLYPORT_ISSUER, connection: id, now: now() })
        })
        const { url, expiresAt } = made!
        answer(self, { connection: id, url, expires: iso(expiresAt) }, [url, `once, until ${iso(expiresAt)}`])
      }),
    )
}

function tracing(command: Command): void {
  command
    .command('trace')
    .argument('<reference>', 'what the person’s error page shows')
    .description('say why a sign-in by a company’s identity provider failed')
    .addHelpText('after', '\nExample:\n  sallyport connection trace 3f0c1b52-7a31-4a0e-9d0e-2f8f3f1c9b1a')
    .action((reference: string, _options: unknown, self: Command) =>
      withHouse(self, async ({ database }) => {
        const trace = await database.traces.find(reference.trim(), now())
        if (!trace)
          throw new Refused(
            `there is no trace ${reference.slice(0, 100)}: they are kept for 7 days and pushed out by newer ones; the log has its check longer`,
          )
        const { readTrace } = await import('../../interactions/index.ts')
        const { connectionId, at } = trace
        const { test, explanation, ...told } = readTrace(trace.said)
        const person = test?.person && { person: test.person }
        answer(
          self,
          { reference: trace.reference, connection: connectionId, at: iso(at), ...told, ...person, explanation },
          [
            `${iso(at)} ${told.kind === 'test' ? 'dry run' : 'sign-in'} ${told.outcome}${told.code ? `: ${told.code}` : ''}`,
            ...(told.advice ? [told.advice] : []),
            ...(test?.person ? [PERSON[test.person]] : []),
            ...(explanation ? ['', ...linesOf(connectionId, explanation)] : []),
          ],
        )
      }),
    )
  command
    .command('traces')
    .argument('<id>')
    .description('list what came for a connection in the last 7 days, newest first')
    .addHelpText('after', '\nExample:\n  sallyport connection traces acme-sso')
    .action((id: string, _options: unknown, self: Command) =>
      withHouse(self, async ({ database }) => {
        const { readTrace } = await import('../../interactions/index.ts')
        const traces = await database.traces.list(id, now())
        if (traces.length === 0 && !(await database.directory.connection(id)))
          throw new Refused(`there is no connection "${id}": \`sallyport connection list\` shows all`)
        const rows = traces.map(({ reference, at, said }) => {
          const { kind, outcome, code, explanation } = readTrace(said)
          const certificate = explanation?.signatures.find((one) => one.certificate !== undefined)?.certificate
          const skew = explanation?.times.find(({ what }) => what === 'issued')?.seconds
          return { reference, at: iso(at), kind, outcome, check: code, certificate, skew }
        })
        answer(
          self,
          rows,
          table([
            ['at', 'what', 'outcome', 'check', 'certificate', 'clock', 'reference'],
            ...rows.map(({ reference, at, kind, outcome, check = '-', certificate = '-', skew }) => [
              at,
              kind === 'test' ? 'dry run' : 'sign-in',
              outcome,
              check,
              certificate.slice(0, 11),
              skew === undefined ? '-' : `${skew} s`,
              reference,
            ]),
          ]),
        )
      }),
    )
}

const PERSON = {
  known: 'The person has an account.',
  new: 'The person has no account yet: one is made at the first sign-in.',
  none: 'No user found with the given email address.',
  other_name:
    'The account has another name at the identity provider: `sallyport user unlink` when it is the same person.',
  disabled: 'The account of the person is disabled.',
}

/** By its id, or the one that the response was written for. */
async function connectionFor(
  { database: { directory, connections }, config }: House,
  id: string | undefined,
  { issuer, destination }: ReturnType<Saml['addressed']>,
): Promise<Connection> {
  const all = await directory.connections()
  const theirs = all.filter(({ idp }) => idp.entityId === issuer)
  const here = theirs.filter((one) => `${config.SALLYPORT_ISSUER}/saml/${one.id}/acs` === destination)
  const [only, another] = here.length > 0 ? here : theirs
  if (id === undefined && (!only || another))
    throw new Refused(
      only
        ? `several connections have the identity provider ${issuer}: name one with --connection`
        : `no connection has the identity provider ${issuer ?? 'of this response, whose issuer cannot be read'}: name one with --connection`,
    )
  const connection = await connections.connection(id ?? only!.id)
  if (!connection) throw new Refused(`there is no connection "${id}": \`sallyport connection list\` shows all`)
  return connection
}

function textIn(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (cause) {
    throw new Refused(`cannot read ${file} (${(cause as NodeJS.ErrnoException).code})`, { cause })
  }
}

/** What is in brackets behind a time. */
function distance(seconds: number): string {
  const size = Math.abs(seconds)
  const [amount, unit] =
    size < 2 * 60 * 60
      ? [size, 's']
      : size < 2 * 86_400
        ? [Math.round(size / 3600), 'h']
        : [Math.round(size / 86_400), 'days']
  return `${amount} ${unit} ${seconds < 0 ? 'before' : 'after'}`
}

/** An explanation for people at a terminal. */
export function linesOf(connection: string, explained: Explanation): string[] {
  const { accepted, provider, signatures, encryption, addresses, times, nameId, attributes, authnContexts } = explained
  const { failed, validUntil, at } = explained
  const old = validUntil !== undefined && validUntil < now() ? [`It was valid until ${iso(validUntil)}.`] : []
  return [
    `${connection}, ${provider}: ${accepted ? 'good' : 'refused'}, held against ${iso(at)}`,
    ...old,
    '',
    ...(signatures.length === 0 ? ['signature    none'] : []),
    ...signatures.map(
      ({ element, method, digest, certificate, certificateEnds }) =>
        `signature    ${element}, ${method}, ${digest}: ${certificate ? `by certificate ${certificate}, which ends ${iso(certificateEnds!)}` : 'not verified'}`,
    ),
    ...(encryption ? [`encrypted    ${encryption.content}, ${encryption.key}`] : []),
    ...addresses.map(
      ({ what, found, expected, fits }) =>
        `${what.padEnd(12)} ${found.join(', ') || 'none'}${fits ? '' : `, expected ${expected}`}`,
    ),
    ...times.map((one) =>
      `${one.what.replace('_', ' ').padEnd(12)} ${iso(one.at)} (${distance(one.seconds)})`.trimEnd(),
    ),
    ...(nameId ? [`NameID       ${nameId.value}, ${nameId.format}`] : ['NameID       none']),
    ...authnContexts.map((context) => `context      ${context}`),
    ...attributes.mapped.map(({ as, name, value }) => `${as.padEnd(12)} ${value}, from ${name}`),
    ...attributes.missing.map(({ as, name }) => `${as.padEnd(12)} not sent: there is no attribute ${name}`),
    ...(attributes.others.length > 0 ? [`not used     ${attributes.others.join(', ')}`] : []),
    ...failed.flatMap(({ check, detail, advice, where }) => [
      '',
      `✗ ${check}${detail ? `: ${detail}` : ''}`,
      `  ${advice}`,
      ...(where ? [`  ${provider}: ${where}`] : []),
    ]),
  ]
}

const now = () => Math.floor(Date.now() / 1000)
const iso = (seconds: number) => new Date(seconds * 1000).toISOString().replace('.000', '')
