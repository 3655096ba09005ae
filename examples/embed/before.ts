/** The app, with a sign-in of its own: a password and nothing else. */
import Koa from 'koa'
import mount from 'koa-mount'
import { Provider } from 'oidc-provider'
import { pages } from './pages.ts'
import { clients, cookieKeys, settings } from './settings.ts'
import { signIn } from './sign-in.ts'

/** @param origin where the app is reached */
export async function createApp(origin: string): Promise<Koa> {
  const provider = new Provider(`${origin}/oidc`, {
    ...settings,
    clients,
    interactions: { url: (_ctx, { uid }) => `/oidc/sign-in/${uid}` },
  })

  const app = new Koa()
  app.keys = cookieKeys
  app.use(pages)
  app.use(signIn(provider))
  app.use(mount('/oidc', provider))
  return app
}
