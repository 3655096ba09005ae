/** Addresses: who a counter counts, and where the provider lives. */
import { isIPv6 } from 'node:net'

/**
 * The network of an address as a key: the IPv4 address, or the IPv6 /64, which one customer has to themselves.
 * An IPv4 address written as IPv6 is the IPv4 address.
 */
export function networkOf(ip: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(ip)
  if (mapped) return mapped[1]!
  if (!isIPv6(ip)) return ip
  const [head = '', tail = ''] = ip.split('%')[0]!.split('::')
  const left = head.split(':').filter((group) => group !== '')
  const right = ip.includes('::') ? tail.split(':').filter((group) => group !== '') : []
  const zeros = Array.from({ length: Math.max(0, 8 - left.length - right.length) }, () => '0')
  const groups = [...left, ...(ip.includes('::') ? zeros : []), ...right]
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}

/** The path under which an issuer lives, `/oidc` of `https://acme.example/oidc`; empty for the root of a host. */
export const basePath = (issuer: string): string => new URL(issuer).pathname.replace(/\/$/, '')

/** An e-mail address as it is stored and compared: no spaces around it, lower case, NFC. */
export const normaliseEmail = (email: string): string => email.trim().normalize('NFC').toLowerCase()
