/** For the client of such an API: a call that may have to wait for a stronger or fresher sign-in (RFC 9470 §4). */

/** A call, as plain data: it can wait in a session while the person is at the provider. */
export interface Call {
  url: string
  method: string
  body?: string
}

/** What an API may ask of the authorization request. */
const ASKED = ['acr_values', 'max_age', 'second_factor_max_age']

/**
 * Makes the call.
 *
 * @returns the API's answer, and, where it asks for more, the parameters of the authorization request after which the same
 * call is made again. Make it again once: an API that still asks then will not be satisfied by a third.
 */
export async function callApi(
  { url, ...call }: Call,
  accessToken: string,
): Promise<{ response: Response; stepUp?: Record<string, string> }> {
  const response = await fetch(url, { ...call, headers: { authorization: `Bearer ${accessToken}` } })
  const challenge = response.headers.get('www-authenticate') ?? ''
  const parameters = [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name!, value!] as const)
  const refused = parameters.some(([, value]) => value === 'insufficient_user_authentication')
  if (response.status !== 401 || !refused) return { response }
  return { response, stepUp: Object.fromEntries(parameters.filter(([name]) => ASKED.includes(name))) }
}
