/** For the client of such an API: a call that may have to wait for a stronger or fresher sign-in (RFC 9470 §4). */

/** A call, as plain data: it can wait in a session while the person is at the provider. */
export interface Call {
  url: string
  method: string
  body?: string
  headers?: Record<string, string>
}

/** What an API may ask of the authorization request. */
const ASKED = ['acr_values', 'max_age', 'second_factor_max_age']

/**
 * Makes the call.
 *
 * @returns the API's answer, and, where it asks for more, the parameters of the authorization request after which `again` is called.
 * Once: an API that still asks then will not be satisfied by a third.
 */
export async function callApi(
  call: Call,
  accessToken: string,
): Promise<{ response: Response; stepUp?: Record<string, string>; again: Call }> {
  const { url, headers, ...rest } = call
  const response = await fetch(url, { ...rest, headers: { ...headers, authorization: `Bearer ${accessToken}` } })
  const challenge = response.headers.get('www-authenticate') ?? ''
  const parameters = [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name!, value!] as const)
  const refused = parameters.some(([, value]) => value === 'insufficient_user_authentication')
  if (response.status !== 401 || !refused) return { response, again: call }
  const { transaction } = Object.fromEntries(parameters)
  return {
    response,
    stepUp: Object.fromEntries(parameters.filter(([name]) => ASKED.includes(name))),
    // The code that is to come is for this very call.
    again: transaction === undefined ? call : { ...call, headers: { ...headers, transaction } },
  }
}
