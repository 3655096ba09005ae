/** The first page of an account: who this is, how they sign in, what is asked of them and why. */
import { companiesInCare, type Method } from '../../interactions/index.ts'
import { type AccountPage, accountPage, type OwnAccountParts } from './own.ts'
import { reasonsInWords } from './words.ts'

const METHODS: readonly Method[] = ['otp', 'sms']

export const homePage = ({ house: { database }, sallyport }: OwnAccountParts): AccountPage =>
  accountPage({
    async show({ account, facts, messages }) {
      const needed = sallyport.requirementOf(account, facts)
      const companies = await database.directory.companies()
      const user = await database.directory.user(account.id)
      return {
        view: 'account/home',
        title: 'account.title',
        locals: {
          name: account.name,
          email: account.email,
          methods: METHODS.flatMap((method) => {
            const addedAt = account.enrolled[method]
            return addedAt === undefined
              ? []
              : [{ method, addedAt, usedAt: account.used?.[method], isAllowed: needed.methods.includes(method) }]
          }),
          addable: needed.methods.filter((method) => account.enrolled[method] === undefined),
          recoveryCode: account.recoveryCode?.acknowledged,
          hasPassword: user?.hasPassword === true,
          isRequired: needed.rank >= 2,
          looksAfterPeople: companiesInCare(account).length > 0,
          because: reasonsInWords(messages, needed.because, companies),
        },
      }
    },
  })
