import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { breachList, faultOf, isCommon, isOfContext } from '../../interactions/factors/new-password.ts'

const rules = { minLength: 15, words: [], isFormer: async () => false }

describe('a new password (R28; behaviour 56)', () => {
  for (const [password, fault] of [
    ['a fine long pass phrase', undefined],
    ['ponies dance at night 🐎', undefined],
    ['eleven char', { code: 'password_too_short', length: 11, min: 15 }],
    // 15 code points in NFD are fewer in NFC, which counts.
    ['e\u0301'.repeat(14), { code: 'password_too_short', length: 14, min: 15 }],
    ['x'.repeat(257), { code: 'password_too_long', max: 256 }],
    ['1qaz2wsx3edc4rfv', { code: 'password_common' }],
    ['1QAZ2wsx3edc4rfv', { code: 'password_common' }],
    ['passwordpassword', { code: 'password_common' }],
    ['abcabcabcabcabc', { code: 'password_common' }],
    ['password password', { code: 'password_common' }],
    ['p a s s w o r d p a s s w o r d', { code: 'password_common' }],
    ['ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ', { code: 'password_common' }],
    ['pass\u200bword\u00adpass\u2060word', { code: 'password_common' }],
    [' '.repeat(15), { code: 'password_common' }],
    ['\u200b'.repeat(15), { code: 'password_common' }],
    ['\0'.repeat(15), { code: 'password_common' }],
    ['password and more of it', undefined],
  ] as const)
    it(`${password.slice(0, 30)}: ${fault?.code ?? 'is taken'}`, async () => {
      assert.deepEqual(await faultOf(password, rules), fault)
    })

  it('is compared with what everybody knows of its owner, as a whole', () => {
    const words = ['ana.arc@acme-builders.example', 'Ana Arc', 'Acme Builders', 'Sallyport', 'é']
    for (const password of [
      'Acme-Builders-2026',
      'AnaArcSallyport1',
      'acmebuildersexample!',
      'ANA.ARC.1234567890',
      'sallyportsallyport',
      'Ａｃｍｅ－Ｂｕｉｌｄｅｒｓ－２０２６',
      'Ácme Büilders 2026',
      'acme\u200bbuilders 2026',
    ])
      assert.ok(isOfContext(password, words), password)
    for (const password of ['Acme-Builders-rocks', '123456789012345', 'ééééééééééééééé', 'my sallyport is blue'])
      assert.ok(!isOfContext(password, words), password)
  })
  it('is none of the last ones, and none that is known to be stolen', async () => {
    const isFormer = async (password: string) => password === 'my former pass phrase'
    assert.deepEqual(await faultOf('my former pass phrase', { ...rules, isFormer }), { code: 'password_used_before' })
    const isBreached = async () => true
    assert.deepEqual(await faultOf('a fine long pass phrase', { ...rules, isBreached }), { code: 'password_breached' })
  })
  it('is looked up in at least 30,000, in 64 bits each', async () => {
    const { dictionary } = await import('@zxcvbn-ts/language-common')
    const list = dictionary['passwords-common'] as string[]
    assert.ok(list.length >= 30_000)
    for (let index = 0; index < list.length; index += 500) assert.ok(await isCommon(list[index]!), list[index])
  })

  describe('asked of a list of stolen ones', () => {
    const STOLEN = 'a pass phrase that was stolen'
    const asked: string[] = []
    let status = 200
    const server = createServer((request, response) => {
      asked.push(request.url!)
      const rest = createHash('sha1').update(STOLEN).digest('hex').toUpperCase().slice(5)
      response.writeHead(status).end(`${rest}:3\r\n${'0'.repeat(35)}:0\r\n`)
    })
    before((done) => void server.listen(0, '127.0.0.1', done))
    after(() => server.close())
    const errors: Error[] = []
    const list = () =>
      breachList(`http://127.0.0.1:${(server.address() as AddressInfo).port}/range/`, (error) => errors.push(error))

    it('tells it five digits', async () => {
      assert.equal(await list()(STOLEN), true)
      assert.equal(await list()('another one altogether'), false)
      for (const url of asked) assert.match(url, /^\/range\/[0-9A-F]{5}$/)
    })
    it('is taken when the list does not answer', async () => {
      status = 503
      assert.equal(await list()(STOLEN), false)
      assert.match(errors[0]!.message, /answered 503/)
      assert.equal(await breachList('http://127.0.0.1:1/', (error) => errors.push(error))(STOLEN), false)
      assert.equal(errors.length, 2)
    })
  })
})
