/** Whose a domain is. */
import assert from 'node:assert/strict'
import { loadConfig } from '../../server/config.ts'
import { type Resolver, recordOf, verifyDomain } from '../../server/domain-proof.ts'
import { type House, openHouse } from '../../server/open.ts'
import { storeOf } from '../support/house.ts'
import { temporaryFolder } from '../support/temporary.ts'

describe('the proof of a domain', () => {
  let house: House
  beforeEach(async () => {
    const folder = temporaryFolder()
    house = await openHouse(loadConfig({ SALLYPORT_LOG_LEVEL: 'silent', ...(await storeOf(folder)) }, folder), {
      createKeys: true,
    })
    const company = { side: 'none' as const, disabled: false }
    await house.database.directory.commit([
      { kind: 'company', op: 'put', value: { ...company, id: 'acme', name: 'Acme', domains: ['old.example'] } },
      { kind: 'company', op: 'put', value: { ...company, id: 'best', name: 'Best', domains: ['best.example'] } },
    ])
  })
  afterEach(() => house.close())

  const verify = (name: string, resolve: Resolver, more: { reason?: string; company?: string } = {}) =>
    verifyDomain(house, { company: 'acme', name, ...more }, 'operator:test', resolve)
  const issuer = () => house.config.SALLYPORT_ISSUER
  const answering =
    (...records: string[][]): Resolver =>
    async () =>
      records
  const failing =
    (code: string): Resolver =>
    async () => {
      throw Object.assign(new Error(code), { code })
    }
  const domains = async (id = 'acme') => (await house.database.directory.company(id))!.domains
  const rows = async () => house.database.auditReader.auditRows({ event: 'company.domain_verified' })

  it('is a TXT record under it, in whatever parts, beside whatever others', async () => {
    const { name, value } = recordOf(issuer(), 'acme', 'acme.example')
    const asked: string[] = []
    const done = await verify(' ACME.example. ', async (host) => {
      asked.push(host)
      return [['v=spf1 -all'], [value.slice(0, 20), value.slice(20)]]
    })
    assert.deepEqual(asked, ['_sallyport.acme.example'])
    assert.equal(name, asked[0])
    assert.deepEqual(done, { verified: true, by: 'dns', domain: 'acme.example', record: { name, value } })
    assert.deepEqual(await domains(), ['old.example', 'acme.example'])
    assert.deepEqual((await rows())[0]?.details, { company: 'acme', domain: 'acme.example', by: 'dns' })
  })
  it('is asked for with the record to set, and changes nothing until it is there', async () => {
    for (const resolve of [
      answering(),
      answering(['sallyport-verification=']),
      failing('ENOTFOUND'),
      failing('ENODATA'),
    ]) {
      const done = await verify('acme.example', resolve)
      assert.equal(done.verified, false)
      assert.match(done.record.value, /^sallyport-verification=[\w-]{43}$/)
    }
    assert.deepEqual(await domains(), ['old.example'])
    assert.deepEqual(await rows(), [])
    await assert.rejects(verify('acme.example', failing('ESERVFAIL')), /the DNS does not answer/)
  })
  it('of one company, domain or server is none of another', async () => {
    const others = [
      recordOf(issuer(), 'best', 'acme.example'),
      recordOf(issuer(), 'acme', 'other.example'),
      recordOf('https://other.example', 'acme', 'acme.example'),
    ]
    for (const { value } of others)
      assert.equal((await verify('acme.example', answering([value]))).verified, false, value)
  })
  it('is what an operator knows by other means, and why', async () => {
    const never: Resolver = async () => assert.fail('nothing is looked up')
    assert.equal((await verify('acme.example', never, { reason: 'a letter' })).verified, true)
    assert.deepEqual((await rows())[0]?.details, {
      company: 'acme',
      domain: 'acme.example',
      by: 'operator',
      reason: 'a letter',
    })
    // Again: it stands there once.
    await verify('acme.example', never, { reason: 'a call' })
    assert.deepEqual(await domains(), ['old.example', 'acme.example'])
  })
  it('is refused for everybody’s domain, another company’s, and names that are none', async () => {
    for (const [name, complaint] of [
      ['gmail.com', /everybody/],
      ['GMX.de.', /everybody/],
      ['best.example', /"best" too/],
      ['аcme.example', /ASCII/],
      ['acme', /no domain/],
      ['-acme.example', /no domain/],
      ['a..example', /no domain/],
      ['acme.example/x', /no domain/],
      ['10.0.0.1:53', /no domain/],
    ] as const)
      await assert.rejects(verify(name, answering(), { reason: 'x' }), complaint, name)
    await assert.rejects(verify('acme.example', answering(), { company: 'none', reason: 'x' }), /there is no company/)
    assert.deepEqual(await domains('best'), ['best.example'])
  })
  it('is told of in the audit too where a seed file or `set` names a domain: whoever applies it confirms it', async () => {
    await verify('acme.example', answering(), { reason: 'x' })
    const [row] = await house.database.auditReader.auditRows({ event: 'config.changed' })
    assert.deepEqual(row?.details?.['domains_confirmed'], ['acme.example'])
  })
})
