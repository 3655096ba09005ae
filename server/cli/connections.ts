/** What only connections have: states, key pairs, certificates, metadata that is fetched; and the proof of a domain. */
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import type { Wanted } from '../changes.ts'
import type { House } from '../open.ts'
import type { StoredConnection } from '../stores.ts'
import { tell } from './changes.ts'
import { answer, Misused, operator, Refused, reasonGiven, table, withHouse } from './house.ts'

type Entry = Record<string, unknown>

/** Adds them to the command `connection`. */
export function addConnectionCommands(command: Command): void {
  activating(command)
  disabling(command)
  rotating(command)
  certificates(command)
  refreshing(command)
}

/** Our addresses that an identity provider is told. */
export const addressesOf = (issuer: string, id: string) => ({
  metadata: `${issuer}/saml/${id}/metadata`,
  acs: `${issuer}/saml/${id}/acs`,
})

/** What is shown of a connection: never a private key. */
export async function shownConnection(connection: StoredConnection, issuer: string): Promise<Entry> {
  const { idp, keys: _keys, testedAt, ...rest } = connection
  const { certificates: _certificates, ...provider } = idp
  const { metadata, acs } = addressesOf(issuer, connection.id)
  return {
    ...rest,
    idp: provider,
    certificates: await listed(connection),
    ...(testedAt !== undefined && { tested_at: iso(testedAt) }),
    our_entity_id: metadata,
    our_metadata_url: metadata,
    our_acs_url: acs,
  }
}

async function listed(connection: StoredConnection) {
  const { certificateEnds } = await import('../certificate-expiry.ts')
  const ends = certificateEnds(connection, now())
  return ends.map(({ whose, fingerprint, notAfter, days }) => ({
    whose,
    fingerprint,
    ends: iso(notAfter),
    days_left: days,
  }))
}

function activating(command: Command): void {
  command
    .command('activate')
    .argument('<id>')
    .option('--force', 'though no dry run has succeeded in the last 24 hours')
    .option('--reason <text>', 'with --force: why')
    .description('people of its domains sign in by it from now on')
    .addHelpText(
      'after',
      `
In the mode forward they have no other way in: one wrong certificate shuts a whole company out. So a dry run must have
succeeded within 24 hours.

Examples:
  sallyport connection activate acme-sso
  sallyport connection activate acme-sso --force --reason "moved from the old server as it is"`,
    )
    .action(async (id: string, { force, reason }: { force?: boolean; reason?: string }, self: Command) => {
      if (reason !== undefined && !force) throw new Misused('--reason: it goes with --force')
      if (force && reason === undefined) throw new Misused('--force: say why, with --reason')
      await change(self, id, 'active', force ? { untested: reasonGiven(reason!) } : {})
    })
}

function disabling(command: Command): void {
  command
    .command('disable')
    .argument('<id>')
    .description('nobody signs in by it any more, from this moment; its people are asked for passwords')
    .addHelpText('after', '\nExample:\n  sallyport connection disable acme-sso')
    .action((id: string, _options: unknown, self: Command) => change(self, id, 'disabled'))
}

async function change(self: Command, id: string, state: string, more: Partial<Wanted> = {}): Promise<void> {
  await withHouse(self, async (house) => {
    const { changeDirectory } = await import('../changes.ts')
    const keys = (present: Entry) => ({ ...present, state })
    tell(self, await changeDirectory(house, { noun: 'connection', op: 'set', id, keys, ...more }, operator()), id)
  })
}

function rotating(command: Command): void {
  command
    .command('rotate-key')
    .argument('<id>')
    .option('--publish', 'add the new one to our metadata; the present one goes on to sign')
    .option('--sign', 'the other one of the two signs from now on; once more takes it back')
    .option('--finish', 'drop the one that does not sign')
    .description('make a new key pair of ours, which signs at once; the former one goes on to decrypt')
    .addHelpText(
      'after',
      `
An identity provider that checks our signatures must know the new key before it signs:
  sallyport connection rotate-key acme-sso --publish   # then hand in our metadata there, which names both
  sallyport connection rotate-key acme-sso --sign
  sallyport connection rotate-key acme-sso --finish    # when it encrypts to the new one`,
    )
    .action(async (id: string, steps: { publish?: true; sign?: true; finish?: true }, self: Command) => {
      const [step = 'new', another] = Object.keys(steps).filter((one) => ['publish', 'sign', 'finish'].includes(one))
      if (another !== undefined) throw new Misused(`--${another}: one step at a time`)
      await withHouse(self, async (house) => {
        const { rotateKey } = await import('../connection-keys.ts')
        const { signs, decrypts } = await rotateKey(house, id, step as 'new', operator())
        answer(self, { connection: id, signs, also_decrypts: decrypts }, [
          `${id}: ${signs} signs`,
          ...decrypts.map((one) => `${id}: ${one} is published and decrypts`),
        ])
      })
    })
}

function certificates(command: Command): void {
  command
    .command('certificates')
    .argument('<id>')
    .option('--add <file>', 'one more that its identity provider may sign with: PEM, DER, or Base64')
    .option('--accept <fingerprint>', 'one more, from its metadata URL, that you have compared')
    .option('--remove <fingerprint>', 'one that it signs with no more; its first 8 digits are enough')
    .description('certificates of a connection with their ends, or add and remove those of its identity provider')
    .addHelpText(
      'after',
      '\nExamples:\n  sallyport connection certificates acme-sso\n  sallyport connection certificates acme-sso --add next.pem',
    )
    .action(async (id: string, options: { add?: string; accept?: string; remove?: string }, self: Command) => {
      const [step, another] = Object.keys(options).filter((one) => ['add', 'accept', 'remove'].includes(one))
      if (another !== undefined) throw new Misused(`--${another}: one step at a time`)
      await withHouse(self, async (house) => {
        const connection = await connectionOf(house, id)
        if (step === undefined) {
          const rows = await listed(connection)
          return answer(
            self,
            rows,
            table([
              ['whose', 'SHA-256', 'ends', 'days left'],
              ...rows.map(({ whose, fingerprint, ends, days_left }) => [whose, fingerprint, ends, String(days_left)]),
            ]),
          )
        }
        const { changeDirectory } = await import('../changes.ts')
        const { publishedCertificate, matchingCertificate } = await import('../connection-metadata.ts')
        let keys: NonNullable<Wanted['keys']>
        if (options.remove !== undefined) {
          const pem = matchingCertificate(connection.idp.certificates, fingerprint(options.remove)).pem
          keys = (present) => withCertificates(present, (pems) => pems.filter((one) => one !== pem))
        } else {
          const pem =
            options.add !== undefined
              ? certificateIn(options.add)
              : await publishedCertificate(house, id, fingerprint(options.accept!))
          keys = (present) => withCertificates(present, (pems) => [...pems, pem])
        }
        tell(self, await changeDirectory(house, { noun: 'connection', op: 'set', id, keys }, operator()), id)
      })
    })
}

function withCertificates(present: Entry, work: (pems: string[]) => string[]): Entry {
  const idp = present['idp'] as Entry & { certificates: string[] }
  return { ...present, idp: { ...idp, certificates: work(idp.certificates) } }
}

/** As it is written, its first digits at least. @throws {Misused} */
function fingerprint(text: string): string {
  if (!/^[0-9a-f]{8,64}$/i.test(text.replaceAll(':', '')))
    throw new Misused(`${text.slice(0, 100)} is no fingerprint: SHA-256 in hex, its first 8 digits at least`)
  return text
}

function certificateIn(file: string): string {
  let bytes: Buffer
  try {
    bytes = readFileSync(file === '-' ? 0 : file)
  } catch (cause) {
    throw new Refused(`cannot read ${file} (${(cause as NodeJS.ErrnoException).code})`, { cause })
  }
  // DER begins with a SEQUENCE, which no text does.
  return bytes[0] === 0x30 && bytes[1]! >= 0x80 ? bytes.toString('base64') : bytes.toString('utf8')
}

function refreshing(command: Command): void {
  command
    .command('refresh')
    .argument('<id>')
    .description('fetch the metadata of its identity provider and show what differs; nothing is taken over')
    .addHelpText(
      'after',
      `
A new certificate is taken over by an administrator only:
  sallyport connection certificates acme-sso --accept FINGERPRINT`,
    )
    .action((id: string, _options: unknown, self: Command) =>
      withHouse(self, async (house) => {
        const { comparePublished } = await import('../connection-metadata.ts')
        const { differs, fresh, gone } = await comparePublished(house, id)
        answer(self, { connection: id, differs, new_certificates: fresh, certificates_not_published: gone }, [
          ...Object.entries(differs).map(
            ([key, { stored, published }]) => `~ ${key}: ${stored} is stored, ${published} is published`,
          ),
          ...fresh.map(
            (one) => `+ certificate ${one}: \`certificates ${id} --accept ${one.slice(0, 11)}\` takes it over`,
          ),
          ...gone.map((one) => `- certificate ${one} is not published any more`),
          ...(Object.keys(differs).length + fresh.length + gone.length === 0 ? ['nothing differs'] : []),
        ])
      }),
    )
}

async function connectionOf({ database }: House, id: string): Promise<StoredConnection> {
  const connection = await database.directory.connection(id)
  if (!connection) throw new Refused(`there is no connection "${id}": \`sallyport connection list\` shows all`)
  return connection
}

/** `company verify-domain`, for the command `company`. */
export function addDomainCommand(command: Command): void {
  command
    .command('verify-domain')
    .argument('<id>')
    .argument('<domain>')
    .option('--confirm', 'you made sure by other means; nothing is looked up')
    .option('--reason <text>', 'with --confirm: how')
    .description('add a domain to a company once its DNS proves it; prints the record to set')
    .addHelpText(
      'after',
      `
Examples:
  sallyport company verify-domain acme acme.example
  sallyport company verify-domain acme acme.example --confirm --reason "letter of 3 March, called back"`,
    )
    .action(async (id: string, name: string, options: { confirm?: true; reason?: string }, self: Command) => {
      if (options.reason !== undefined && !options.confirm) throw new Misused('--reason: it goes with --confirm')
      if (options.confirm && options.reason === undefined)
        throw new Misused('--confirm: say how you made sure, with --reason')
      const reason = options.reason === undefined ? undefined : reasonGiven(options.reason)
      await withHouse(self, async (house) => {
        const { verifyDomain } = await import('../domain-proof.ts')
        const done = await verifyDomain(house, { company: id, name, reason }, operator())
        const { record, domain } = done
        if (!done.verified) {
          answer(self, { company: id, domain, verified: false, record }, [])
          throw new Refused(
            `${domain} is not proven yet: set the TXT record ${record.name} to ${record.value}, wait until it is there, and repeat`,
          )
        }
        answer(self, { company: id, domain, verified: true, by: done.by }, [
          `${domain} is a verified domain of ${id}, ${done.by === 'dns' ? 'by its DNS' : 'as you confirmed'}`,
        ])
      })
    })
}

const now = () => Math.floor(Date.now() / 1000)
const iso = (seconds: number) => new Date(seconds * 1000).toISOString()
