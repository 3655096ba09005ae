/** A certified relying-party library, which nobody here wrote, against the served provider. */
import assert from 'node:assert/strict'
import * as oidc from 'openid-client'
import { ACR_2FA_APP } from '../../interactions/policy.ts'
import { nextStep, wait } from '../support/clock.ts'
import {
  acknowledge,
  CALLBACK,
  CHALLENGE,
  CLIENT_SECRET,
  codeOf,
  enrol,
  openTestHouse,
  signIn,
  type TestHouse,
} from '../support/house.ts'
import { type Answer, headingOf, type Visitor } from '../support/visitor.ts'

describe('openid-client 6', () => {
  let test: TestHouse
  let provider: oidc.Configuration
  let visitor: Visitor
  let secret: string
  let tokens: Awaited<ReturnType<typeof oidc.authorizationCodeGrant>>
  before(async () => {
    test = await openTestHouse()
    await test.person('ana@acme.example')
    visitor = test.visitor()
    provider = await oidc.discovery(new URL(test.url), 'payments', CLIENT_SECRET, undefined, {
      execute: [oidc.allowInsecureRequests],
    })
  })
  after(() => test.close())

  /** A request, what the person does, and the tokens. */
  async function authorize(params: Record<string, string>, walk: (page: Answer) => Promise<Answer>) {
    const verifier = oidc.randomPKCECodeVerifier()
    const state = oidc.randomState()
    const url = oidc.buildAuthorizationUrl(provider, {
      redirect_uri: CALLBACK,
      scope: 'openid email',
      state,
      code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      ...params,
    })
    const answer = await walk(await visitor.go(url.href))
    return oidc.authorizationCodeGrant(provider, new URL(answer.location!), {
      pkceCodeVerifier: verifier,
      expectedState: state,
      ...(params['max_age'] !== undefined && { maxAge: Number(params['max_age']) }),
    })
  }
  const challenged = async (page: Answer) => {
    assert.equal(headingOf(page), CHALLENGE)
    nextStep()
    return visitor.submit(page, { code: await codeOf(secret) })
  }

  it('completes code and PKCE with enrolment', async () => {
    tokens = await authorize({}, async (page) => {
      const enrolled = await enrol(visitor, await signIn(visitor, page, 'ana@acme.example'))
      secret = enrolled.secret
      return acknowledge(visitor, enrolled.page)
    })
    assert.deepEqual(tokens.claims()?.['amr'], ['pwd', 'otp', 'mfa'])
    assert.equal(tokens.claims()?.['acr'], ACR_2FA_APP)
  })

  it('answers silently while the session has what acr_values asks', async () => {
    const silent = await authorize({ acr_values: ACR_2FA_APP, prompt: 'none' }, async (answer) => answer)
    assert.equal(silent.claims()?.['acr'], ACR_2FA_APP)
  })

  it('asks a code of its own for second_factor_max_age=0, and no password', async () => {
    const stepped = await authorize({ second_factor_max_age: '0' }, challenged)
    assert.equal(stepped.claims()?.auth_time, tokens.claims()?.auth_time)
    assert.ok(Number(stepped.claims()?.['second_factor_time']) > Number(tokens.claims()?.['second_factor_time']))
  })

  it('asks both again when max_age has passed', async () => {
    wait(100)
    const again = await authorize({ max_age: '60' }, async (page) =>
      challenged(await signIn(visitor, page, 'ana@acme.example')),
    )
    assert.ok(Number(again.claims()?.auth_time) > Number(tokens.claims()?.auth_time))
    tokens = again
  })

  it('refreshes, reads userinfo, revokes', async () => {
    const refreshed = await oidc.refreshTokenGrant(provider, tokens.refresh_token!)
    assert.deepEqual(refreshed.claims()?.['amr'], ['pwd', 'otp', 'mfa'])
    assert.equal(refreshed.claims()?.auth_time, tokens.claims()?.auth_time)
    const info = await oidc.fetchUserInfo(provider, refreshed.access_token, refreshed.claims()!.sub)
    assert.equal(info.email, 'ana@acme.example')
    await oidc.tokenRevocation(provider, refreshed.access_token)
    await assert.rejects(oidc.fetchUserInfo(provider, refreshed.access_token, refreshed.claims()!.sub))
  })

  it('signs out, and the old cookie opens nothing', async () => {
    const old = visitor.clone()
    const url = oidc.buildEndSessionUrl(provider, {
      id_token_hint: tokens.id_token!,
      post_logout_redirect_uri: 'https://rp.example/signed-out',
      state: 'bye',
    })
    const page = await visitor.go(url.href)
    assert.equal(headingOf(page), 'Do you want to sign out?')
    const out = await visitor.submit(page, { logout: 'yes' })
    assert.equal(out.location, 'https://rp.example/signed-out?state=bye')
    const silent = await old.go(test.authUrl({ prompt: 'none' }))
    assert.equal(new URL(silent.location!).searchParams.get('error'), 'login_required')
  })
})
