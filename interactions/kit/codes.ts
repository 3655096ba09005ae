/** What limits answers to every question for a code, whichever room asks it. */
import type { Visit } from './room.ts'
import type { Counter, ThrottleRule } from './stores.ts'

/** Answers of any kind from one network. */
const NETWORK: ThrottleRule = { kind: 'window', limit: 30, seconds: 60 }
const PREFIX = 'code|network|'

/** The counter of codes from the network of this visit. */
export const codesFromNetwork = ({ network }: Pick<Visit, 'network'>): Counter => ({
  key: PREFIX + network,
  rule: NETWORK,
})

/** True for the key of {@link codesFromNetwork}. */
export const isFromNetwork = (key: string): boolean => key.startsWith(PREFIX)
