import assert from 'node:assert/strict'
import { sign, verify } from 'node:crypto'
import { KeyRing, newKeyRing, parseKeyRing, SealBroken, withNewKey } from '../../interactions/kit/keyring.ts'

const PLACE = { purpose: 'totp_secret', owner: 'ana' }

describe('key ring', () => {
  const file = newKeyRing()
  const ring = new KeyRing(file)

  it('opens what it sealed, and seals the same text differently each time', () => {
    const [one, two] = [ring.seal(PLACE, 'grüße'), ring.seal(PLACE, 'grüße')]
    assert.notEqual(one, two)
    assert.equal(ring.open(PLACE, one), 'grüße')
    assert.equal(ring.open(PLACE, ring.seal(PLACE, '')), '')
    assert.ok(!one.includes('grüße'))
  })
  for (const [what, place] of [
    ['owner', { ...PLACE, owner: 'bob' }],
    ['purpose', { ...PLACE, purpose: 'pending' }],
    ['record', { ...PLACE, record: 'x' }],
    ['cut between owner and record', { purpose: 'totp_secret', owner: 'a', record: 'na' }],
  ] as const)
    it(`does not open for another ${what}`, () => {
      const sealed = ring.seal(PLACE, 'secret')
      assert.throws(() => ring.open(place, sealed), SealBroken)
    })
  it('does not open with any one character changed, added or left out', () => {
    for (const text of ['secret', 'secret1', 'secret12']) {
      const sealed = ring.seal(PLACE, text)
      for (let index = 0; index < sealed.length; index++) {
        const changed = sealed[index] === 'A' ? 'B' : 'A'
        const next = String.fromCharCode(sealed.charCodeAt(index) ^ 1)
        for (const put of [changed, next, '', `${sealed[index]}A`]) {
          const broken = sealed.slice(0, index) + put + sealed.slice(index + 1)
          if (broken !== sealed) assert.throws(() => ring.open(PLACE, broken), SealBroken, broken)
        }
      }
    }
  })
  it('signs with the newest key, for one purpose, and verifies by each', () => {
    const { id, key } = ring.signingKey('audit')
    const signature = sign(null, Buffer.from('text'), key)
    const turned = new KeyRing(withNewKey(file))
    assert.notEqual(turned.signingKey('audit').id, id)
    const isGood = (by: KeyRing, purpose: string, kid = id) => {
      const verifier = by.verificationKey(purpose, kid)
      return verifier && verify(null, Buffer.from('text'), verifier, signature)
    }
    assert.equal(isGood(turned, 'audit'), true)
    assert.equal(isGood(turned, 'other'), false)
    assert.equal(isGood(turned, 'audit', turned.signingKey('audit').id), false)
    assert.equal(isGood(new KeyRing(newKeyRing()), 'audit'), undefined)
  })
  it('does not open nothing, or what is too short', () => {
    for (const sealed of ['', 'v1', `v1.${file.keys[0]!.id}`, `v1.${file.keys[0]!.id}.AAAA`])
      assert.throws(() => ring.open(PLACE, sealed), SealBroken)
  })
  it('goes on reading after a new key, and seals under the new one', () => {
    const next = new KeyRing(withNewKey(file))
    const old = ring.seal(PLACE, 'secret')
    assert.equal(next.open(PLACE, old), 'secret')
    assert.equal(next.isStale(old), true)
    const fresh = next.seal(PLACE, 'secret')
    assert.equal(next.isStale(fresh), false)
    assert.throws(() => ring.open(PLACE, fresh), SealBroken)
  })
  it('names the key that is missing and says what to do', () => {
    const sealed = new KeyRing(newKeyRing()).seal(PLACE, 'secret')
    assert.throws(
      () => ring.open(PLACE, sealed),
      new RegExp(`no key "${sealed.split('.')[1]}" on the key ring: put it back`),
    )
  })
  it('signs cookies with the newest key and verifies with all', () => {
    const next = new KeyRing(withNewKey(file))
    assert.equal(next.cookieKeys().length, 2)
    assert.equal(next.cookieKeys()[1], ring.cookieKeys()[0])
    assert.ok(!next.cookieKeys().includes(file.keys[0]!.key))
  })
  it('hashes the same after a new key, and differently per purpose', () => {
    assert.equal(new KeyRing(withNewKey(file)).mac('form', 'x'), ring.mac('form', 'x'))
    assert.notEqual(ring.mac('form', 'x'), ring.mac('other', 'x'))
    assert.notEqual(ring.mac('form', 'x'), new KeyRing(newKeyRing()).mac('form', 'x'))
  })
  it('reads its own file and no other', () => {
    assert.deepEqual(parseKeyRing(JSON.stringify(file)), file)
    for (const text of ['', '{}', '{"keys":[]}', JSON.stringify({ keys: [{ ...file.keys[0], key: 'c2hvcnQ=' }] })])
      assert.throws(() => parseKeyRing(text))
  })
})
