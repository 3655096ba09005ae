/** What a new password may be (NIST SP 800-63B-4 §3.1.1.2), of somebody who has an account here. */
import { breachList, faultOf, InteractionError, type PasswordHasher } from '../../interactions/index.ts'
import type { House } from '../open.ts'

/** Looks at a new password. @throws {InteractionError} that says what is wrong with it */
export type PasswordRule = (
  account: { id: string; email: string; name?: string | undefined },
  password: string,
  /** The name that is given with it. */
  name?: string,
) => Promise<void>

export function passwordRule({ config, database, logger }: House, passwords: PasswordHasher): PasswordRule {
  const breachUrl = config.SALLYPORT_BREACH_LIST_URL
  const isBreached =
    breachUrl === undefined
      ? undefined
      : breachList(breachUrl, (error) => logger.warn({ error: error.message }, 'list of stolen passwords'))

  return async (account, password, name) => {
    const user = await database.directory.user(account.id)
    const companies = await Promise.all(
      (user?.memberships ?? []).map(({ company }) => database.directory.company(company)),
    )
    const fault = await faultOf(password, {
      minLength: config.SALLYPORT_PASSWORD_MIN_LENGTH,
      words: [
        config.SALLYPORT_BRAND_NAME,
        account.email,
        account.name ?? '',
        name ?? '',
        ...companies.flatMap((company) => company?.name ?? []),
      ],
      async isFormer(one) {
        for (const hash of await database.passwords.recent(account.id))
          if (await passwords.verify(hash, one)) return true
        return false
      },
      isBreached,
    })
    if (!fault) return
    const { code, ...vars } = fault
    throw new InteractionError(code, { field: 'new_password', vars })
  }
}
