/** What happened to an account in the last ninety days, in plain words, and why a person was asked what they were asked. */
import { browserName } from '../../interactions/index.ts'
import type { AuditRow } from '../stores.ts'
import { type AccountPage, accountPage, type OwnAccountParts } from './own.ts'
import { reasonsInWords } from './words.ts'

/** Seconds that are shown. */
const SHOWN_SECONDS = 90 * 24 * 60 * 60
/** Rows that are looked at, and of them shown. */
const LOOKED_AT = 2000
const SHOWN = 200

export const historyPage = ({ house: { database }, now }: OwnAccountParts): AccountPage =>
  accountPage({
    async show({ account, messages }) {
      const filter = { accountId: account.id, since: now() - SHOWN_SECONDS, limit: LOOKED_AT }
      const [rows, companies, clients] = await Promise.all([
        database.auditReader.auditRows(filter),
        database.directory.companies(),
        database.directory.clients(),
      ])
      const appOf = ({ clientId }: AuditRow) =>
        String(clients.find(({ client_id }) => client_id === clientId)?.['client_name'] ?? messages.t('account.here'))
      const events = rows.flatMap((row) => {
        const key = `account.event.${row.event}${row.outcome === 'failure' ? '.failed' : ''}`
        if (!messages.has(key)) return []
        return {
          what: messages.t(key, { app: appOf(row) }),
          at: row.at,
          ip: row.ip,
          browser: row.userAgent && browserName(row.userAgent),
          because: isQuestion(row) ? reasonsInWords(messages, row.reasons ?? [], companies) : [],
        }
      })
      return {
        view: 'account/history',
        title: 'account.history.title',
        locals: { events: events.slice(0, SHOWN) },
      }
    },
  })

/** Of other rows the reasons are codes of errors, or said already by the question. */
const isQuestion = ({ event }: AuditRow) => event.startsWith('prompt.')
