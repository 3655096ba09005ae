/** The first page of an account: who this is, how they sign in, what is asked of them and why. */
import { companiesInCare, enforcementAhead, type Method } from '../../interactions/index.ts'
import { mailOf } from '../delivery.ts'
import { type AccountPage, accountPage, type OwnAccountParts } from './own.ts'
import { reasonsInWords } from './words.ts'

const METHODS: readonly Method[] = ['otp', 'sms']

export const homePage = ({ house: { config, database }, sallyport }: OwnAccountParts): AccountPage =>
  accountPage({
    async show({ account, facts, messages, now }) {
      const needed = sallyport.requirementOf(account, facts)
      const { lockedBy, removable } = sallyport.choicesOf(account)
      const companies = await database.directory.companies()
      const user = await database.directory.user(account.id)
      const next = enforcementAhead(account, now)
      return {
        view: 'account/home',
        title: 'account.title',
        locals: {
          name: account.name,
          email: account.email,
          noticeEmail: account.noticeEmail,
          byMail: mailOf(config) !== 'none',
          methods: METHODS.flatMap((method) => {
            const addedAt = account.enrolled[method]
            return addedAt === undefined
              ? []
              : [
                  {
                    method,
                    addedAt,
                    usedAt: account.used?.[method],
                    isAllowed: needed.methods.includes(method),
                    isRemovable: removable.includes(method),
                  },
                ]
          }),
          addable: needed.methods.filter((method) => account.enrolled[method] === undefined),
          recoveryCode: account.recoveryCode?.acknowledged,
          hasPassword: user?.hasPassword === true,
          isRequired: needed.rank >= 2,
          isAlways: account.alwaysRequire2fa || lockedBy.length > 0,
          isLocked: lockedBy.length > 0,
          looksAfterPeople: companiesInCare(account).length > 0,
          because: reasonsInWords(messages, needed.because, companies),
          ...(next && {
            ahead: {
              company: companies.find(({ id }) => id === next.companyId)?.name ?? next.companyId,
              date: messages.date(Date.parse(next.from) / 1000),
              zone: next.zone,
            },
          }),
        },
      }
    },
  })
