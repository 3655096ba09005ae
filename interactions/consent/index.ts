/** "Continue to the app?" Asked where oidc-provider asks: `prompt=consent`, or a redirect URI that anybody could hold. Answers `consent`. */
import { z } from 'zod'
import { definePage, type Room } from '../kit/room.ts'

/** Asks a person to confirm the app. Remembers nothing. */
export const consent: Room = {
  name: 'consent',
  pages: {
    '': definePage({
      form: z.strictObject({}),
      async show({ account, scopes, client }) {
        const locals = { email: account?.email ?? '', scopes }
        return { view: 'consent', title: 'consent.title', titleVars: { app: client.name }, locals }
      },
      async submit() {
        return { is: 'settled', outcome: { consent: { given: true } }, audit: { event: 'consent.given' } }
      },
    }),
  },
}
