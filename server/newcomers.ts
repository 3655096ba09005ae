/** People who come by their company's sign-in for the first time. */
import { randomUUID } from 'node:crypto'
import type { AccountStore, PeopleStore } from '../interactions/index.ts'
import { type DirectoryStore, StoreConflict } from './stores.ts'

/** Makes people in the directory: without password, and with no more than a place in their company. */
export const newcomers = (directory: DirectoryStore, accounts: AccountStore): PeopleStore => ({
  async create({ email, name, company }) {
    if ((await directory.company(company))?.disabled !== false) return undefined
    const id = randomUUID()
    const memberships = [{ company, roles: [], disabled: false }]
    const value = { id, email, disabled: false, memberships, serverRoles: [], ...(name !== undefined && { name }) }
    try {
      await directory.commit([{ kind: 'user', op: 'put', value }])
    } catch (error) {
      // Somebody has the address since a moment ago, or the company is gone.
      if (error instanceof StoreConflict) return undefined
      throw error
    }
    return accounts.find(id)
  },
})
