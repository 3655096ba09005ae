/** Fetches what an address outside names, and nothing of the network that the server itself stands in. */
import { lookup } from 'node:dns/promises'
import { request } from 'node:https'
import { BlockList, isIP } from 'node:net'

/** What was not fetched. The message says why in one sentence. */
export class NotFetched extends Error {
  override readonly name = 'NotFetched'
}

const MAX_BYTES = 256 * 1024
const MAX_MS = 5000

/** Not for everybody (RFC 6890 and the registries that it names). */
const SPECIAL = new BlockList()
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
] as const)
  SPECIAL.addSubnet(network, prefix, 'ipv4')
// Of 2000::/3: Teredo and its like, documentation, 6to4, which wraps any IPv4 address.
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const)
  SPECIAL.addSubnet(network, prefix, 'ipv6')
/** All that is given out for the public internet. Loopback, link-local, unique-local, mapped and NAT64 lie outside. */
const GLOBAL_IPV6 = new BlockList()
GLOBAL_IPV6.addSubnet('2000::', 3, 'ipv6')

/** Whether an address is one of the public internet. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address)
  if (family === 4) return !SPECIAL.check(address, 'ipv4')
  return family === 6 && GLOBAL_IPV6.check(address, 'ipv6') && !SPECIAL.check(address, 'ipv6')
}

/** What a test puts in place of the network. */
export interface FetchOptions {
  resolve?(host: string): Promise<string[]>
  isAllowed?(address: string): boolean
  /** A certificate authority besides the known ones. */
  ca?: string
  timeoutMs?: number
}

const resolveAll = async (host: string) => (await lookup(host, { all: true })).map(({ address }) => address)

/**
 * What stands at an https address: from a public address that was looked at and is then the one connected to, without
 * redirects, in 5 seconds, at most 256 KB.
 *
 * @throws {NotFetched}
 */
export async function fetchGuarded(
  address: string,
  { resolve = resolveAll, isAllowed = isPublicAddress, ca, timeoutMs = MAX_MS }: FetchOptions = {},
): Promise<Buffer> {
  const url = URL.canParse(address) ? new URL(address) : undefined
  if (url?.protocol !== 'https:') throw new NotFetched('the address is no https URL')
  if (url.username !== '' || url.password !== '') throw new NotFetched('the address holds a user name')
  const signal = AbortSignal.timeout(timeoutMs)
  const late = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(new NotFetched(`no answer within ${timeoutMs / 1000} seconds`)))
  })
  late.catch(() => {})
  return Promise.race([late, get(url, { resolve, isAllowed, ca, signal })])
}

async function get(
  url: URL,
  {
    resolve,
    isAllowed,
    ca,
    signal,
  }: Required<Pick<FetchOptions, 'resolve' | 'isAllowed'>> & { ca: string | undefined; signal: AbortSignal },
): Promise<Buffer> {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  let addresses: string[]
  try {
    addresses = isIP(host) ? [host] : await resolve(host)
  } catch (cause) {
    throw new NotFetched(`there is no host ${host}`, { cause })
  }
  const [first] = addresses
  if (first === undefined) throw new NotFetched(`there is no host ${host}`)
  // One that is not public among public ones is an attempt, or a mistake.
  if (!addresses.every(isAllowed)) throw new NotFetched(`${host} is no public address`)

  return new Promise((done, fail) => {
    const refuse = (why: string) => {
      asked.destroy()
      fail(new NotFetched(why))
    }
    const asked = request(
      url,
      {
        agent: false,
        signal,
        headers: { accept: 'application/samlmetadata+xml, application/xml, text/xml', 'accept-encoding': 'identity' },
        ...(ca !== undefined && { ca }),
        // Connects to the address that was looked at: a name that answers otherwise a moment later changes nothing.
        lookup: (_host, options, callback) => {
          const family = isIP(first)
          if (options.all) callback(null, [{ address: first, family }])
          else callback(null, first, family)
        },
      },
      (answer) => {
        const { statusCode = 0 } = answer
        if (statusCode >= 300 && statusCode < 400)
          return refuse(`${host} sends elsewhere (${statusCode}): name the address itself`)
        if (statusCode !== 200) return refuse(`${host} answered ${statusCode}`)
        const parts: Buffer[] = []
        let bytes = 0
        answer.on('data', (part: Buffer) => {
          bytes += part.length
          if (bytes > MAX_BYTES) return refuse(`more than ${MAX_BYTES / 1024} KB`)
          parts.push(part)
        })
        answer.on('end', () => done(Buffer.concat(parts)))
        answer.on('error', (cause) => fail(new NotFetched(`${host} broke off`, { cause })))
      },
    )
    asked.on('error', (cause) =>
      fail(
        new NotFetched(`${host} cannot be reached (${(cause as NodeJS.ErrnoException).code ?? cause.name})`, { cause }),
      ),
    )
    asked.end()
  })
}
