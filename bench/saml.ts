/**
 * What a SAML response costs: `node --import tsx bench/saml.ts`. Processor time of both gates for one of 8 KB, signed with
 * RSA-2048; and how long everybody else waits while fifty are posted at once.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { verifyResponse } from '../interactions/federation/saml/index.ts'
import { agree } from '../interactions/federation/saml/samlify.ts'
import { acme, attribute, element, form, message, NOW, requests } from '../test/vectors/saml/message.ts'
import { median } from './report.ts'

const RUNS = 200
const SIZE = 8 * 1024

const groups = Array.from({ length: 42 }, (_, index) =>
  attribute(`urn:group:${index}`, `group ${index} of the company`),
)
const attributes = element('saml:AttributeStatement', {}, attribute('mail', 'ana@acme.example') + groups.join(''))
const posted = message({ attributes })
const body = form(posted)
const one = () =>
  verifyResponse({ form: body, connection: acme, findRequest: async (key) => requests.get(key), now: NOW })
const second = async () =>
  agree({ posted, decrypted: undefined, certificate: acme.idp.certificates[0]!, nameId: 'ana@acme.example' }, acme)

/** Median milliseconds of processor time. */
async function cost(work: () => Promise<unknown>): Promise<number> {
  const costs: number[] = []
  for (let run = 0; run < RUNS; run++) {
    const before = process.cpuUsage()
    await work()
    const { user, system } = process.cpuUsage(before)
    costs.push((user + system) / 1000)
  }
  return median(costs)
}

const { refusal } = await one()
if (refusal) throw new Error(`${refusal.code}: ${refusal.detail}`)
for (let run = 0; run < 50; run++) await one()

const both = await cost(one)
const gate = await cost(second)
const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
await Promise.all(Array.from({ length: 50 }, one))
delay.disable()

const milliseconds = (value: number) => `${value.toFixed(1)} ms`
process.stdout.write(
  [
    `response        ${(posted.length / 1024).toFixed(1)} KB (${SIZE / 1024} KB wanted)`,
    `both gates      ${milliseconds(both)} median of ${RUNS}`,
    `  our reading   ${milliseconds(both - gate)} (${Math.round((1 - gate / both) * 100)} %)`,
    `  second gate   ${milliseconds(gate)} (${Math.round((gate / both) * 100)} %)`,
    `50 at once      event loop delayed ${milliseconds(delay.percentile(99) / 1e6)} (p99), ${milliseconds(delay.max / 1e6)} at most`,
    '',
  ].join('\n'),
)
