/** Certificates that are about to end: whoever runs the server learns of it before nobody of a company gets in. */
import { X509Certificate } from 'node:crypto'
import { isFirst } from './first.ts'
import type { House } from './open.ts'
import type { Database, StoredConnection } from './stores.ts'

const DAY = 24 * 60 * 60
/** Days before the end at which the audit tells of it. */
export const THRESHOLDS = [30, 14, 3, 1] as const

/** One certificate of a connection. */
export interface CertificateEnd {
  connection: string
  /** The identity provider's, or ours. */
  whose: 'idp' | 'own'
  /** SHA-256, hex with colons, as Node and OpenSSL write it. */
  fingerprint: string
  /** Seconds since 1970. */
  notAfter: number
  /** Whole days; negative once it has ended. */
  days: number
  /** Others of the same side that are good for longer. */
  others: number
}

/** SHA-256 of a certificate in PEM. */
export const fingerprintOf = (pem: string): string => new X509Certificate(pem).fingerprint256

/** The certificates of a connection with their ends. @param now seconds since 1970 */
export function certificateEnds({ id, idp, keys }: StoredConnection, now: number): CertificateEnd[] {
  const sides = {
    idp: idp.certificates.map(({ pem, notAfter }) => ({ fingerprint: fingerprintOf(pem), notAfter })),
    own: keys.map(({ certificate }) => {
      const { fingerprint256, validTo } = new X509Certificate(certificate)
      return { fingerprint: fingerprint256, notAfter: Math.floor(Date.parse(validTo) / 1000) }
    }),
  }
  return (['idp', 'own'] as const).flatMap((whose) =>
    sides[whose].map((one) => ({
      connection: id,
      whose,
      ...one,
      days: Math.floor((one.notAfter - now) / DAY),
      others: sides[whose].filter(({ notAfter }) => notAfter > one.notAfter && notAfter > now).length,
    })),
  )
}

/** The certificates that end within 30 days, of connections that people use or try. */
export async function endingCertificates(
  { directory }: Pick<Database, 'directory'>,
  now: number,
): Promise<CertificateEnd[]> {
  const used = (await directory.connections()).filter(({ state }) => state === 'active' || state === 'testing')
  return used
    .flatMap((one) => certificateEnds(one, now))
    .filter(({ notAfter }) => notAfter - now <= THRESHOLDS[0] * DAY)
}

/**
 * Tells of them: in the log once a day, in the audit once at each threshold, however many processes look.
 *
 * @param now seconds since 1970
 */
export async function warnOfExpiry(
  { database, logger, onMetric }: Pick<House, 'database' | 'logger' | 'onMetric'>,
  now: number,
): Promise<void> {
  for (const ending of await endingCertificates(database, now)) {
    const { connection, whose, fingerprint, notAfter, days, others } = ending
    const details = { connection, whose, fingerprint, days, ends: new Date(notAfter * 1000).toISOString(), others }
    onMetric?.({ name: 'certificate_days_left', value: days, labels: { connection, whose, fingerprint } })
    const owner = `certificate ${connection} ${fingerprint}`
    const first = (purpose: string, expiresAt: number) => isFirst(database, { owner, purpose, expiresAt, now })
    if (await first(`log ${Math.floor(now / DAY)}`, now + 2 * DAY))
      logger.warn(
        details,
        days < 0 ? 'a certificate of a connection has ended' : 'a certificate of a connection ends soon',
      )
    const threshold = THRESHOLDS.findLast((one) => notAfter - now <= one * DAY)!
    if (await first(`audit ${threshold}`, Math.max(now, notAfter) + 60 * DAY))
      await database.audit.append({
        event: 'connection.certificate_expiring',
        outcome: 'success',
        at: now,
        actor: 'server',
        details: { ...details, threshold },
      })
  }
}
