/** What is stored, in a person's words. */
import type { Messages } from '../../interactions/index.ts'
import type { Company } from '../stores.ts'

/**
 * Why something was asked, in a sentence, or `undefined` for what says nothing to a person.
 *
 * @param source a reason of the policy, or who raised the requirement, as the audit has it
 */
export function whyInWords({ t, has }: Messages, source: string, companies: readonly Company[]): string | undefined {
  const [kind = '', rest = ''] = source.split(/:(.*)/s)
  const nameOf = (id: string) => companies.find((company) => company.id === id)?.name ?? id
  const [, at] = rest.split(/@(.*)/s)
  if (kind === 'role' && at !== undefined) return t('account.why.role_at', { company: nameOf(at) })
  if (kind === 'company') return t('account.why.company', { company: nameOf(rest) })
  const key = `account.why.${kind}`
  return has(key) ? t(key) : undefined
}

/** Each once, in their order. */
export const reasonsInWords = (messages: Messages, sources: readonly string[], companies: readonly Company[]) => [
  ...new Set(sources.flatMap((source) => whyInWords(messages, source, companies) ?? [])),
]
