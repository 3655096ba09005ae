import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { FactorTimes } from '../../interactions/kit/room.ts'
import type { Account, Membership, Method } from '../../interactions/kit/stores.ts'
import {
  ACR_1FA,
  ACR_2FA,
  ACR_2FA_APP,
  ACR_VALUES,
  addProof,
  type ClientRules,
  carriedOver,
  claimsFault,
  claimsOf,
  counted,
  daysUntil,
  ENROLMENT_WINDOW,
  enforcementAhead,
  isLockedOut,
  merge,
  openReasons,
  ownChoices,
  type Proofs,
  proofBeforeChange,
  requirement,
  rulesOf,
  type Subject,
  sessionAlive,
  signedInBy,
  smsCountries,
  stillSatisfies,
} from '../../interactions/policy.ts'

const NOW = 1_800_000_000
const BOTH: Method[] = ['otp', 'sms']
const ALIAS = 'https://refeds.org/profile/mfa'

type Needs = Pick<Account, 'memberships' | 'serverRoles' | 'alwaysRequire2fa'>
const at = (side: Membership['side'], ...roles: Membership['roles']): Membership => ({
  companyId: 'c',
  side,
  roles,
  active: true,
})
const person = (...memberships: Membership[]): Needs => ({ memberships, serverRoles: [], alwaysRequire2fa: false })
const needed = (account: Needs | undefined, params: Record<string, string> = {}, client: ClientRules = {}) =>
  requirement(params, client, account, BOTH, NOW)
const proofs = (chain: FactorTimes = {}, session: FactorTimes = {}): Proofs => ({
  chain,
  session,
  started: NOW,
  unsubmitted: false,
})
const subject = (over: Partial<Subject> = {}): Subject => ({
  id: 'ana',
  enrolled: {},
  reserved: false,
  unacknowledged: false,
  ...over,
})
const reason = (
  ...[requirement_, who, what, options]: [ReturnType<typeof needed>, Subject | undefined, Proofs, object?]
) => openReasons(requirement_, who, what, NOW, options)?.reasons[0]

describe('policy: what a person decides themselves', () => {
  const enforced: Membership = { ...at('none'), enforcement: { from: '2020-01-01', zone: 'UTC' } }
  const held = (memberships: Membership[], methods: Method[], alwaysRequire2fa = true): Account => ({
    id: 'ana',
    email: 'ana@acme.example',
    disabled: false,
    securityEpoch: 0,
    factorVersion: 1,
    memberships,
    serverRoles: [],
    alwaysRequire2fa,
    enrolled: Object.fromEntries(methods.map((method) => [method, 1])),
  })
  const payor = at('payor', 'payments_admin')
  const payee = at('payee', 'payments_admin')
  for (const [who, account, isLocked, removable] of [
    ['a standard user whose switch is on', held([at('none')], ['otp']), false, []],
    ['a standard user whose switch is off', held([at('none')], ['otp'], false), false, ['otp']],
    ['a standard user with both', held([at('none')], BOTH), false, ['otp', 'sms']],
    ['a standard user with nothing', held([], [], false), false, []],
    ['a payor', held([payor], ['otp']), true, []],
    ['a payor with a phone of before', held([payor], BOTH), true, ['sms']],
    ['a payor with nothing but a phone of before', held([payor], ['sms'], false), true, []],
    ['a payee with an app', held([payee], ['otp']), true, []],
    ['a payee with both', held([payee], BOTH), true, ['otp', 'sms']],
    ['somebody of a company that enforces', held([enforced], ['sms'], false), true, []],
    ['an operator', { ...held([], ['otp'], false), serverRoles: ['operator'] as const }, true, []],
  ] as [string, Account, boolean, Method[]][])
    it(`${who} ${isLocked ? 'cannot' : 'can'} switch it off, and may remove ${removable.join(' or ') || 'nothing'}`, () => {
      const choices = ownChoices(account, BOTH, NOW)
      assert.deepEqual([choices.lockedBy.length > 0, choices.removable], [isLocked, removable])
    })
})

describe('policy: who needs a second factor, and which', () => {
  const enforced = (from: string, zone = 'UTC'): Membership => ({ ...at('none'), enforcement: { from, zone } })
  const table: [string, Needs, rank: number, methods: Method[]][] = [
    ['a standard user of companies that demand nothing', person(at('none'), at('payor', 'company_admin')), 0, BOTH],
    ['a payments admin of a payor', person(at('payor', 'payments_admin')), 2, ['otp']],
    ['a disburser', person(at('payor', 'disburser')), 2, ['otp']],
    ['a beneficiary approver at a company on both sides', person(at('both', 'beneficiary_approver')), 2, ['otp']],
    ['a disbursement contributor', person(at('payor', 'disbursement_contributor')), 0, BOTH],
    ['a payments admin of a payee', person(at('payee', 'payments_admin')), 2, BOTH],
    ['a payments admin of a company on both sides', person(at('both', 'payments_admin')), 2, ['otp']],
    [
      'payor here and payee there: union of needs, intersection of methods',
      person(at('payee', 'payments_admin'), at('payor', 'disburser')),
      2,
      ['otp'],
    ],
    ['a disabled membership does not count', person({ ...at('payor', 'disburser'), active: false }), 0, BOTH],
    [
      'a contributor whose client asks would have both; a payor role beside it takes SMS away',
      person(at('payor', 'disbursement_contributor'), at('payor', 'disburser')),
      2,
      ['otp'],
    ],
    [
      'an operator who is a payee too',
      { ...person(at('payee', 'payments_admin')), serverRoles: ['operator'] },
      2,
      ['otp'],
    ],
    ['an operator of the server', { ...person(), serverRoles: ['operator'] }, 2, ['otp']],
    ['somebody who switched "Always require 2FA" on', { ...person(), alwaysRequire2fa: true }, 2, BOTH],
    ['a company that enforces since yesterday', person(enforced('2027-01-14')), 2, BOTH],
    ['a company that enforces from tomorrow', person(enforced('2027-01-16')), 0, BOTH],
    ['one of two companies enforces (acceptance 13)', person(at('none'), enforced('2020-01-01')), 2, BOTH],
  ]
  for (const [who, account, rank, methods] of table)
    it(who, () => {
      const { rank: found, methods: offered } = needed(account)
      assert.deepEqual([found, offered], [rank, methods])
    })

  it('enforcement begins with the first second of its date in its zone (acceptance 14)', () => {
    const midnightInDenver = Date.parse('2027-01-31T00:00:00-07:00') / 1000
    const account = person(enforced('2027-01-31', 'America/Denver'))
    assert.equal(requirement({}, {}, account, BOTH, midnightInDenver - 1).rank, 0)
    assert.equal(requirement({}, {}, account, BOTH, midnightInDenver).rank, 2)
  })

  it('people of Payments get texts in the United States only, others where the server sends them (acceptance 9)', () => {
    const configured = ['US', 'GB', 'FR']
    const table: [Membership[], string[]][] = [
      [[], configured],
      [[at('none'), at('payor', 'company_admin')], configured],
      [[at('payee', 'payments_admin')], ['US']],
      [[at('none'), at('payor', 'disbursement_contributor')], ['US']],
      [[{ ...at('payee', 'payments_admin'), active: false }], configured],
    ]
    for (const [memberships, countries] of table) assert.deepEqual(smsCountries({ memberships }, configured), countries)
    assert.deepEqual(smsCountries({ memberships: [at('payee', 'payments_admin')] }, ['GB']), [])
  })

  describe('rules of companies', () => {
    const member = (rules: Membership['rules'], more: Partial<Membership> = {}): Membership => ({
      ...at('none'),
      rules,
      ...more,
    })
    const ended = { active: false }

    it('phones are where the server and every company of theirs allow them', () => {
      const configured = ['US', 'GB', 'FR']
      const table: [Membership[], string[]][] = [
        [[member({ sms_countries: ['FR', 'US'] })], ['US', 'FR']],
        [[member({ sms_countries: ['FR', 'US'] }), member({ sms_countries: ['GB', 'FR'] })], ['FR']],
        [[member({ sms_countries: ['DE'] })], []],
        [[member({ sms_countries: ['FR'] }), at('payee', 'payments_admin')], []],
        [[member({ sms_countries: ['FR'] }, ended), at('none')], configured],
      ]
      for (const [memberships, countries] of table)
        assert.deepEqual(smsCountries({ memberships }, configured), countries)
    })

    it('a lock-out looks at three passwords, and of several companies one is enough', () => {
      const table: [Membership[], attempt: number, locked: boolean][] = [
        [[member({ lockout: true })], 3, false],
        [[member({ lockout: true })], 4, true],
        [[at('none'), member({ lockout: true })], 4, true],
        [[member({ lockout: false })], 99, false],
        [[member({ lockout: true }, ended)], 99, false],
        [[], 99, false],
      ]
      for (const [memberships, attempt, locked] of table) assert.equal(isLockedOut({ memberships }, attempt), locked)
    })

    it('passwords are set by mail as soon as one company wants it', () => {
      const byMail = (...memberships: Membership[]) => rulesOf({ memberships }).passwordsByMail
      assert.equal(byMail(at('none'), member({ password_resets: 'mail' })), true)
      assert.equal(byMail(at('none'), member({})), false)
      assert.equal(byMail(member({ password_resets: 'mail' }, ended)), false)
    })

    it('the next date is known to whoever has no factor, in the days of its zone', () => {
      const ahead = (memberships: Membership[], enrolled: Account['enrolled'] = {}) =>
        enforcementAhead({ memberships, enrolled }, NOW)?.from
      assert.equal(ahead([enforced('2027-01-16')]), '2027-01-16')
      assert.equal(ahead([enforced('2027-01-15')]), undefined, 'it has begun')
      assert.equal(ahead([enforced('2027-01-15', 'Pacific/Pago_Pago')]), '2027-01-15', 'there it is yesterday')
      assert.equal(ahead([enforced('2027-03-01'), enforced('2027-02-01')]), '2027-02-01')
      assert.equal(ahead([enforced('2027-02-01')], { sms: 1 }), undefined)
      assert.equal(ahead([{ ...enforced('2027-02-01'), ...ended }]), undefined)
      assert.equal(daysUntil({ from: '2027-01-29', zone: 'UTC' }, NOW), 14)
      assert.equal(daysUntil({ from: '2027-03-29', zone: 'Europe/Berlin' }, NOW), 73, 'a night of 23 hours is a day')
    })
  })

  it('names who raised the bar', () => {
    const { because } = needed(person(at('payor', 'disburser')), { acr_values: ACR_2FA }, { mfa: 'required' })
    assert.deepEqual(because, ['role:disburser@c', 'client', 'acr_values'])
  })

  it('a company’s own sign-in meets its own enforcement, and nothing else', () => {
    const at = (company: string, more: Partial<Membership> = {}): Membership => ({
      ...enforced('2020-01-01'),
      companyId: company,
      ...more,
    })
    const rank = (account: Needs, fedBy?: string, client: ClientRules = {}, params = {}) =>
      requirement(params, client, account, BOTH, NOW, fedBy).rank
    assert.equal(rank(person(at('a')), 'a'), 0)
    assert.equal(rank(person(at('a'))), 2)
    assert.equal(rank(person(at('a')), 'b'), 2)
    assert.equal(rank(person(at('a'), at('b')), 'a'), 2, 'another company’s enforcement stands')
    assert.equal(rank(person(at('a', { side: 'payor', roles: ['disburser'] })), 'a'), 2, 'a role’s need stands')
    assert.equal(rank({ ...person(at('a')), alwaysRequire2fa: true }, 'a'), 2, 'the person’s own switch stands')
    assert.equal(rank(person(at('a')), 'a', { mfa: 'required' }), 2, 'the app’s need stands')
    assert.equal(rank(person(at('a')), 'a', {}, { acr_values: ACR_2FA }), 2, 'what was asked for stands')
    const challenge = { enforcement: { from: '2020-01-01', zone: 'UTC', sso: 'challenge' as const } }
    assert.equal(rank(person(at('a', challenge)), 'a'), 2, 'unless it wants its people to be asked here too')
  })

  it('a trusted identity provider’s second factor is enough for rank 2, never for payors, servers or the app', () => {
    const trusts = (account: Needs, params: Record<string, string> = {}, client: ClientRules = {}) =>
      needed(account, params, client).providerMfa
    const essential = (name: string, ...values: string[]) => ({
      claims: JSON.stringify({ id_token: { [name]: { essential: true, values } } }),
    })
    assert.equal(trusts(person(), { acr_values: ACR_2FA }), true)
    assert.equal(trusts(person(at('payee', 'payments_admin'))), true)
    assert.equal(trusts(person(), {}, { mfa: 'required' }), true)
    assert.equal(trusts(person(at('payor', 'payments_admin'))), false)
    assert.equal(trusts({ ...person(), serverRoles: ['support'] }), false)
    assert.equal(trusts(person(), { acr_values: ACR_2FA_APP }), false)
    assert.equal(trusts(person(), essential('amr', 'otp')), false)
    assert.equal(trusts(person(), essential('amr', 'sms')), false)
    assert.equal(trusts(person(), essential('amr', 'mfa')), true)
  })

  it('whose sign-in counts: the chain’s, else the session’s', () => {
    const by = (chain: FactorTimes, session: FactorTimes) =>
      signedInBy({ chain, session, fedBy: { chain: 'c', session: 's' } })
    assert.equal(by({ fed: 1 }, { fed: 1 }), 'c')
    assert.equal(by({ otp: 1 }, { fed: 1 }), 's')
    assert.equal(by({}, { fed: 1 }), 's')
    assert.equal(by({ pwd: 1 }, { fed: 1 }), undefined)
    assert.equal(by({}, { pwd: 1 }), undefined)
    assert.equal(signedInBy({ chain: { fed: 1 }, session: {} }), undefined)
  })

  it('a request raises the bar and never lowers it', () => {
    assert.equal(needed(person(at('payor', 'disburser')), { acr_values: ACR_1FA }).rank, 2)
    assert.equal(needed(person(), { acr_values: ACR_2FA_APP }).rank, 3)
    assert.deepEqual(needed(person(), { acr_values: ACR_2FA_APP }).methods, ['otp'])
    assert.equal(needed(person(), { acr_values: `${ACR_2FA} ${ACR_1FA}` }).rank, 1, 'a list is a set of alternatives')
    assert.equal(needed(person(), { acr_values: 'urn:unknown' }).rank, 0)
    assert.equal(needed(person(), { second_factor_max_age: '60' }).rank, 2)
    assert.equal(needed(person(), {}, { second_factor_max_age: 60 }).rank, 0, 'as client metadata it only ages')
    assert.equal(
      needed(person(), { second_factor_max_age: '9999' }, { second_factor_max_age: 60 }).secondFactorMaxAge,
      60,
    )
  })
})

describe('policy: the claims parameter (OIDC Core §5.5)', () => {
  const claims = (idToken: object, userinfo: object = {}) => ({
    claims: JSON.stringify({ id_token: idToken, userinfo }),
  })
  const acr = (...values: string[]) => claims({ acr: { essential: true, values } })
  const amr = (...values: string[]) => claims({ amr: { essential: true, values } })
  const nobody = person()
  const payor = person(at('payor', 'disburser'))

  const table: [string, Record<string, string>, Needs, Method[], number | 'unreachable'][] = [
    ['essential acr: one value', claims({ acr: { essential: true, value: ACR_2FA_APP } }), nobody, BOTH, 3],
    ['essential acr: the lowest of a list', acr(ACR_2FA_APP, ACR_2FA, 'urn:unknown'), nobody, BOTH, 2],
    ['essential acr: an alias', acr(ALIAS), nobody, BOTH, 2],
    ['essential acr: never below what the role needs', acr(ACR_1FA), payor, BOTH, 2],
    ['essential acr: unknown values only', acr('urn:unknown', 'constructor'), nobody, BOTH, 'unreachable'],
    ['essential acr: the app, where only SMS is there', acr(ACR_2FA_APP), nobody, ['sms'], 'unreachable'],
    ['essential acr: the lowest that can be reached', acr(ACR_2FA_APP, ACR_2FA), nobody, ['sms'], 2],
    ['essential acr: 2fa for a payor, where only SMS is there', acr(ACR_2FA), payor, ['sms'], 'unreachable'],
    ['essential acr without a value asks for nothing', claims({ acr: { essential: true } }), nobody, BOTH, 0],
    [
      'essential acr in userinfo counts too',
      claims({ acr: null }, { acr: { essential: true, value: ACR_2FA } }),
      nobody,
      BOTH,
      2,
    ],
    ['voluntary acr is like acr_values', claims({ acr: { values: [ACR_2FA_APP, ACR_2FA] } }), nobody, BOTH, 2],
    ['voluntary acr that nobody knows', claims({ acr: { value: 'urn:unknown' } }), nobody, BOTH, 0],
    ['acr_values raises beside it', { ...acr(ACR_1FA), acr_values: ACR_2FA_APP }, nobody, BOTH, 3],
    ['essential amr with otp is the app', amr('pwd', 'otp'), nobody, BOTH, 3],
    [
      'essential amr as the list that a token has',
      claims({ amr: { essential: true, value: ['pwd', 'otp', 'mfa'] } }),
      nobody,
      BOTH,
      3,
    ],
    ['essential amr with mfa is any second factor', amr('mfa'), nobody, BOTH, 2],
    ['essential amr with pwd', amr('pwd'), nobody, BOTH, 0],
    ['essential amr: unknown values only', amr('hwk', 'toString'), nobody, BOTH, 'unreachable'],
    ['essential amr with sms for a payor', amr('sms'), payor, BOTH, 'unreachable'],
    ['voluntary amr asks for nothing', claims({ amr: { values: ['otp'] } }), nobody, BOTH, 0],
    [
      'essential auth_time asks for nothing: it is always told',
      claims({ auth_time: { essential: true } }),
      nobody,
      BOTH,
      0,
    ],
    ['a claim that nobody has', claims({ constructor: { essential: true }, __proto__: null }), nobody, BOTH, 0],
  ]
  for (const [what, params, account, available, expected] of table)
    it(what, () => {
      const need = requirement(params, {}, account, available, NOW)
      assert.equal(need.unreachable === undefined ? need.rank : 'unreachable', expected)
    })

  it('essential amr with sms wants SMS and no app', () => {
    assert.deepEqual(needed(nobody, amr('sms')).methods, ['sms'])
    assert.deepEqual(needed(nobody, amr('sms', 'otp')).methods, ['otp'])
  })

  it('what cannot be reached is said before anybody is asked, and whatever is proven', () => {
    const need = needed(nobody, acr('urn:unknown'))
    assert.equal(reason(need, undefined, proofs()), 'unreachable')
    assert.equal(reason(need, subject({ enrolled: { otp: 1 } }), proofs({ pwd: NOW, otp: NOW })), 'unreachable')
  })

  it('the token names the highest essential value that is met, whatever acr_values says', () => {
    const both = proofs({ pwd: NOW, otp: NOW })
    const said = (params: Record<string, string>, proven = both) => claimsOf(needed(nobody, params), proven).acr
    assert.equal(said(acr(ACR_2FA)), ACR_2FA)
    assert.equal(said(acr(ACR_1FA, ACR_2FA)), ACR_2FA)
    assert.equal(said(acr(ACR_1FA, ACR_2FA_APP), proofs({ pwd: NOW })), ACR_1FA)
    assert.equal(said({ ...acr(ACR_2FA), acr_values: ACR_2FA_APP }), ACR_2FA)
    assert.equal(said(claims({ acr: { essential: true } })), ACR_2FA_APP)
    assert.equal(said(claims({ acr: { value: ACR_2FA } })), ACR_2FA_APP, 'voluntary: our own rank')
  })

  it('sub with a value binds the request to that person (§3.1.2.2), essential or not', () => {
    const ofAna = subject()
    for (const request of [{ value: 'bob' }, { essential: true, value: 'bob' }, { values: ['bob', 'eve'] }])
      assert.equal(reason(needed(nobody, claims({ sub: request })), ofAna, proofs({ pwd: NOW })), 'hinted_account')
    for (const request of [null, { essential: true }, { value: 'ana' }, { values: ['bob', 'ana'] }])
      assert.equal(reason(needed(nobody, claims({ sub: request })), ofAna, proofs({ pwd: NOW })), undefined)
  })

  it('id_token_hint and sub that contradict each other are unreachable', () => {
    const hint = `e30.${Buffer.from('{"sub":"ana"}').toString('base64url')}.`
    const need = (value: string) => needed(nobody, { ...claims({ sub: { value } }), id_token_hint: hint })
    assert.equal(reason(need('bob'), subject(), proofs({ pwd: NOW })), 'unreachable')
    assert.equal(reason(need('ana'), subject(), proofs({ pwd: NOW })), undefined)
  })

  const faults: [object, RegExp | undefined][] = [
    [{}, undefined],
    [{ acr: null, amr: { essential: true, values: ['otp', ['pwd', 'otp']] }, other: { value: 7 } }, undefined],
    [{ acr: 'x' }, /claims\.id_token\.acr must be null or an object/],
    [{ acr: [] }, /null or an object/],
    [{ acr: { essential: 'true' } }, /essential/],
    [{ acr: { value: 1 } }, /no text/],
    [{ acr: { values: 'x' } }, /no list/],
    [{ acr: { values: [] } }, /no list/],
    [{ acr: { values: [null] } }, /no text/],
    [{ acr: { values: [['x']] } }, /no text/],
    [{ amr: { value: [] } }, /no text/],
    [{ sub: { value: {} } }, /no text/],
    [{ acr: { value: 'x', values: ['x'] } }, /not both/],
  ]
  for (const [request, fault] of faults)
    it(`${fault ? 'refuses' : 'takes'} ${JSON.stringify(request)}`, () => {
      const found = claimsFault({ id_token: request })
      if (fault) assert.match(found ?? '', fault)
      else assert.equal(found, undefined)
    })
})

describe('policy: which question comes next', () => {
  const payor = needed(person(at('payor', 'disburser')))
  const payee = needed(person(at('payee', 'payments_admin')))
  const anybody = needed(person())
  const withApp = subject({ enrolled: { otp: 1 } })
  const table: [string, string | undefined, Parameters<typeof reason>][] = [
    ['nobody yet', 'no_session', [anybody, undefined, proofs()]],
    ['"Not you?"', 'different_account', [anybody, undefined, proofs(), { differentAccount: true }]],
    ['a password is enough', undefined, [anybody, subject(), proofs({ pwd: NOW })]],
    ['a company’s sign-in is enough', undefined, [anybody, subject(), proofs({ fed: NOW - 9999 })]],
    ['a payor by a company’s sign-in', 'second_factor_missing', [payor, withApp, proofs({ fed: NOW })]],
    [
      'a payor whose second factor is the identity provider’s',
      'second_factor_missing',
      [payor, withApp, proofs({ fed: NOW, fed_mfa: NOW })],
    ],
    ['a payee, likewise, is let in', undefined, [payee, subject(), proofs({ fed: NOW, fed_mfa: NOW })]],
    [
      'max_age: the identity provider’s time counts',
      'max_age',
      [needed(person(), { max_age: '60' }), subject(), proofs({}, { fed: NOW - 61 })],
    ],
    [
      'second_factor_max_age counts the identity provider’s time too',
      'mfa_not_enrolled',
      [needed(person(), { second_factor_max_age: '10' }), subject(), proofs({}, { fed: NOW - 11, fed_mfa: NOW - 11 })],
    ],
    ['a payor without an app', 'mfa_not_enrolled', [payor, subject(), proofs({ pwd: NOW })]],
    ['a payor with an app', 'second_factor_missing', [payor, withApp, proofs({ pwd: NOW })]],
    ['a payor after both', undefined, [payor, withApp, proofs({ pwd: NOW, otp: NOW })]],
    [
      'a payor by SMS is not let in (acceptance 26)',
      'prove_before_enrolment',
      [payor, subject({ enrolled: { sms: 1 } }), proofs({ pwd: NOW })],
    ],
    [
      '… and after the SMS enrols an app',
      'mfa_not_enrolled',
      [payor, subject({ enrolled: { sms: 1 } }), proofs({ pwd: NOW, sms: NOW })],
    ],
    [
      '… within five minutes',
      'prove_before_enrolment',
      [payor, subject({ enrolled: { sms: 1 } }), proofs({ pwd: NOW, sms: NOW - ENROLMENT_WINDOW - 1 })],
    ],
    [
      '… and not on the SMS of an older request',
      'prove_before_enrolment',
      [payor, subject({ enrolled: { sms: 1 } }), proofs({}, { pwd: NOW, sms: NOW })],
    ],
    ['a payee by SMS', undefined, [payee, subject({ enrolled: { sms: 1 } }), proofs({ pwd: NOW, sms: NOW })]],
    [
      'a reserved recovery code',
      'recovery_code_reserved',
      [payor, subject({ enrolled: { otp: 1 }, reserved: true }), proofs({ pwd: NOW })],
    ],
    [
      'an unacknowledged code after a second factor',
      'recovery_code_unacknowledged',
      [payor, subject({ enrolled: { otp: 1 }, unacknowledged: true }), proofs({ pwd: NOW, otp: NOW })],
    ],
    [
      'an unacknowledged code on a password alone is not shown',
      undefined,
      [anybody, subject({ enrolled: { otp: 1 }, unacknowledged: true }), proofs({ pwd: NOW })],
    ],
    [
      '… nor on a second factor of an older request',
      undefined,
      [payor, subject({ enrolled: { otp: 1 }, unacknowledged: true }), proofs({}, { pwd: NOW, otp: NOW })],
    ],
    [
      'proofs that were not submitted',
      'login_not_submitted',
      [anybody, subject(), { ...proofs({ pwd: NOW }), unsubmitted: true }],
    ],
    [
      'prompt=login counts only this chain',
      'login_prompt',
      [needed(person(), { prompt: 'login' }), subject(), proofs({}, { pwd: NOW })],
    ],
    [
      'prompt=login is content with this chain, whatever the session has',
      undefined,
      [needed(person(), { prompt: 'login' }), subject(), proofs({ pwd: NOW }, { pwd: NOW + 5 })],
    ],
    [
      'prompt=login asks the second factor again',
      'second_factor_fresh',
      [
        needed(person(at('payor', 'disburser')), { prompt: 'login' }),
        withApp,
        proofs({ pwd: NOW }, { pwd: NOW - 9, otp: NOW + 1 }),
      ],
    ],
    ['max_age: too old', 'max_age', [needed(person(), { max_age: '60' }), subject(), proofs({}, { pwd: NOW - 61 })]],
    [
      'max_age: young enough',
      undefined,
      [needed(person(), { max_age: '60' }), subject(), proofs({}, { pwd: NOW - 60 })],
    ],
    [
      'second_factor_max_age: too old',
      'second_factor_stale',
      [needed(person(), { second_factor_max_age: '10' }), withApp, proofs({}, { pwd: NOW - 99, otp: NOW - 11 })],
    ],
    [
      'second_factor_max_age: the password may be old',
      undefined,
      [needed(person(), { second_factor_max_age: '10' }), withApp, proofs({}, { pwd: NOW - 99, otp: NOW - 9 })],
    ],
    [
      "second_factor_max_age=0: another tab's proof is younger and does not count",
      'second_factor_stale',
      [needed(person(), { second_factor_max_age: '0' }), withApp, proofs({}, { pwd: NOW - 99, otp: NOW + 9 })],
    ],
  ]
  for (const [situation, expected, given] of table) it(situation, () => assert.equal(reason(...given), expected))
})

describe('policy: what a person sets up or changes', () => {
  const account = { ...person(at('none')), enrolled: {} as Account['enrolled'] }
  const wants = (set_up: string, enrolled: Account['enrolled'] = {}, who = account) =>
    needed({ ...who, enrolled } as Needs, { set_up }, { self_service: true })
  const long = { otp: NOW - 1000 }

  it('only the pages of an account may ask for it', () => {
    assert.equal(needed(account, { set_up: 'otp' }).setUp, undefined)
    assert.equal(wants('otp').setUp, 'otp')
    assert.equal(wants('pwd').setUp, undefined)
  })

  it('without a factor: the password of the last five minutes, then the factor', () => {
    const fresh = proofs({}, { pwd: NOW - ENROLMENT_WINDOW })
    assert.equal(reason(wants('otp'), subject(), proofs({}, { pwd: NOW - ENROLMENT_WINDOW - 1 })), 'max_age')
    assert.equal(reason(wants('otp'), subject(), fresh), 'enrolment_requested')
    assert.equal(reason(wants('recovery_code'), subject(), fresh), undefined)
  })

  it('with a factor: one that stands is proven in this very chain, whatever the session has', () => {
    for (const what of ['otp', 'sms', 'recovery_code']) {
      const here = wants(what, long)
      const who = subject({ enrolled: long })
      assert.equal(reason(here, who, proofs({}, { pwd: NOW, otp: NOW })), 'prove_before_enrolment', what)
      const then = what === 'recovery_code' ? 'recovery_code_requested' : 'enrolment_requested'
      assert.equal(reason(here, who, proofs({ otp: NOW }, { pwd: NOW })), then, what)
      const slow = { ...proofs({ otp: NOW - ENROLMENT_WINDOW - 1 }, { pwd: NOW }), started: NOW - 900 }
      assert.equal(reason(here, who, slow), 'prove_before_enrolment', what)
    }
  })

  it('is done when it was added in this chain, or the new code was acknowledged', () => {
    const chain = proofs({ otp: NOW }, { pwd: NOW })
    assert.equal(reason(wants('otp', { otp: NOW }), subject({ enrolled: { otp: NOW } }), chain), undefined)
    const who = subject({ enrolled: long, renewed: true })
    assert.equal(reason(wants('recovery_code', long), who, chain), undefined)
  })

  it('a method that the role does not allow is refused before anybody is asked', () => {
    const payor = { ...person(at('payor', 'disburser')), enrolled: long }
    assert.equal(
      reason(wants('sms', long, payor), subject({ enrolled: long }), proofs({ otp: NOW }, { pwd: NOW })),
      'unreachable',
    )
  })

  it('a change wants a fresh second factor, else the primary proof; a password both', () => {
    const asks = (enrolled: Account['enrolled'], factors: FactorTimes, change: 'password' | 'other' = 'other') =>
      Object.keys(proofBeforeChange({ enrolled }, { factors }, change, NOW) ?? {})
    const old = NOW - ENROLMENT_WINDOW - 1
    assert.deepEqual(asks({}, { pwd: NOW }), [])
    assert.deepEqual(asks({}, { pwd: old }), ['max_age'])
    assert.deepEqual(asks({}, { fed: NOW }), [])
    assert.deepEqual(asks(long, { pwd: NOW }), ['second_factor_max_age'])
    assert.deepEqual(asks(long, { pwd: old, otp: NOW }), [])
    assert.deepEqual(asks(long, { pwd: old, otp: NOW }, 'password'), ['max_age'])
    assert.deepEqual(asks(long, { pwd: NOW, otp: old }, 'password'), ['second_factor_max_age'])
  })
})

describe('policy: what the tokens say', () => {
  const claims = (chain: FactorTimes, session: FactorTimes = {}, params: Record<string, string> = {}) =>
    claimsOf(needed(person(), params), proofs(chain, session))

  /** RFC 8176, R88. */
  const flows: [string, FactorTimes, FactorTimes, string[], string][] = [
    ['password', { pwd: NOW }, {}, ['pwd'], ACR_1FA],
    ['password and app', { pwd: NOW, otp: NOW }, {}, ['pwd', 'otp', 'mfa'], ACR_2FA_APP],
    ['password and SMS', { pwd: NOW, sms: NOW }, {}, ['pwd', 'sms', 'mfa'], ACR_2FA],
    ['password, app and SMS', { pwd: NOW, otp: NOW, sms: NOW }, {}, ['pwd', 'otp', 'sms', 'mfa'], ACR_2FA_APP],
    ['a live session with both', {}, { pwd: NOW - 5, otp: NOW - 5 }, ['pwd', 'otp', 'mfa'], ACR_2FA_APP],
    ['a step-up keeps the password', { otp: NOW }, { pwd: NOW - 50 }, ['pwd', 'otp', 'mfa'], ACR_2FA_APP],
    ['a new password drops an older code', { pwd: NOW }, { pwd: NOW - 50, otp: NOW - 40 }, ['pwd'], ACR_1FA],
    ['a company’s sign-in has no value of its own', { fed: NOW - 99 }, {}, [], ACR_1FA],
    ['a company’s sign-in and app', { fed: NOW - 99, otp: NOW }, {}, ['otp', 'mfa'], ACR_2FA_APP],
    ['a company’s sign-in with its second factor', { fed: NOW, fed_mfa: NOW }, {}, ['mfa'], ACR_2FA],
    ['… and the app besides', { fed: NOW, fed_mfa: NOW, otp: NOW }, {}, ['otp', 'mfa'], ACR_2FA_APP],
    ['a password drops a company’s sign-in', { pwd: NOW }, { fed: NOW - 9, fed_mfa: NOW - 9 }, ['pwd'], ACR_1FA],
    [
      'a company’s sign-in drops what came after its time, before it came here',
      { fed: NOW - 99 },
      { pwd: NOW - 200, otp: NOW - 40 },
      [],
      ACR_1FA,
    ],
    [
      'a new password keeps a newer code of another tab',
      { pwd: NOW - 60 },
      { pwd: NOW - 99, otp: NOW - 40 },
      ['pwd', 'otp', 'mfa'],
      ACR_2FA_APP,
    ],
  ]
  for (const [flow, chain, session, amr, acr] of flows)
    it(flow, () => {
      const said = claims(chain, session)
      assert.deepEqual([said.amr, said.acr], [amr, acr])
    })

  it('an alias that was asked for is named, our own rank otherwise', () => {
    const both = { pwd: NOW, otp: NOW }
    assert.equal(claims(both, {}, { acr_values: ALIAS }).acr, ALIAS)
    assert.equal(claims(both, {}, { acr_values: ACR_2FA }).acr, ACR_2FA_APP)
    assert.equal(
      claims(both, {}, { acr_values: `${ALIAS} ${ACR_2FA_APP}` }).acr,
      ACR_2FA_APP,
      'the highest that is met',
    )
  })
  it('auth_time is the oldest counted proof, second_factor_time the newest second factor', () => {
    const said = claims({ otp: NOW }, { pwd: NOW - 50, sms: NOW - 20 })
    assert.deepEqual([said.auth_time, said.second_factor_time], [NOW - 50, NOW])
  })
  it('a code older than max_age is not claimed though the session has it', () => {
    assert.deepEqual(claims({}, { pwd: NOW - 10, otp: NOW - 400 }, { max_age: '300' }).amr, ['pwd'])
  })
  it('lists its five acr values', () => assert.equal(ACR_VALUES.length, 5))
  it('a refresh re-checks the rank, not the age', () => {
    const payor = needed(person(at('payor', 'disburser')))
    assert.equal(stillSatisfies(payor, ['pwd', 'otp', 'mfa']), true)
    assert.equal(stillSatisfies(payor, ['pwd', 'sms', 'mfa']), false)
    assert.equal(stillSatisfies(needed(person()), ['pwd']), true)
    assert.equal(stillSatisfies(payor, ['mfa']), false, 'somebody else’s second factor is none for a payor')
    assert.equal(stillSatisfies(needed(person(), {}, { mfa: 'required' }), ['mfa']), true)
    assert.equal(stillSatisfies(needed(person(), {}, { mfa: 'required' }), []), false)
  })
})

describe('policy: when a session counts', () => {
  const limits = { idle: 3600, absolute: 43200 }
  const account = { id: 'a', securityEpoch: 3, disabled: false, memberships: [at('none')] }
  const session = { accountId: 'a', epoch: 3, created: NOW, used: NOW }
  const idle = (minutes: 15 | 30 | 60 | 120, more: Partial<Membership> = {}): Membership => ({
    ...at('none'),
    rules: { idle_minutes: minutes },
    ...more,
  })
  const table: [string, boolean, object, object, number][] = [
    ['as long as it is used', true, {}, {}, NOW + 10],
    ['not after its idle limit, to the second', false, {}, {}, NOW + 3600],
    ['not after the absolute limit, however much it was used', false, { used: NOW + 43199 }, {}, NOW + 43200],
    ['not after the end that an identity provider set', false, { until: NOW + 5 }, {}, NOW + 5],
    ['before it', true, { until: NOW + 5 }, {}, NOW + 4],
    ['not with an older epoch', false, { epoch: 2 }, {}, NOW],
    ['not for a disabled account', false, {}, { disabled: true }, NOW],
    ['not for somebody else', false, { accountId: 'b' }, {}, NOW],
    ['not without a beginning', false, { created: undefined }, {}, NOW],
    ['not after its company’s limit', false, {}, { memberships: [idle(15)] }, NOW + 900],
    ['before it', true, {}, { memberships: [idle(15)] }, NOW + 899],
    ['not after the shortest of several companies’', false, {}, { memberships: [idle(30), idle(15)] }, NOW + 900],
    ['a company makes no session longer', false, {}, { memberships: [idle(120)] }, NOW + 3600],
    ['a disabled membership does not count', true, {}, { memberships: [idle(15, { active: false })] }, NOW + 3599],
  ]
  for (const [when, alive, over, who, now] of table)
    it(when, () => assert.equal(sessionAlive({ ...session, ...over }, { ...account, ...who }, limits, now), alive))
})

describe('policy: property', () => {
  const second = fc.integer({ min: 1, max: 9000 })
  const times = fc.record(
    { pwd: second, fed: second, fed_mfa: second, otp: second, sms: second },
    { requiredKeys: [] },
  ) as fc.Arbitrary<FactorTimes>
  /** How the primary proof is made, when it is: by whose identity provider, how long ago there, and what it says. */
  const primary = fc.option(
    fc.record({ company: fc.constantFrom('a', 'b'), ago: fc.constantFrom(0, 50, 5000), mfa: fc.boolean() }),
    { nil: undefined },
  )
  const membership: fc.Arbitrary<Membership> = fc.record({
    companyId: fc.constantFrom('a', 'b'),
    side: fc.constantFrom('payor', 'payee', 'both', 'none'),
    roles: fc.oneof(
      fc.constant<Membership['roles']>([]),
      fc.uniqueArray(fc.constantFrom('payments_admin', 'disburser', 'disbursement_contributor', 'company_admin')),
    ),
    active: fc.boolean(),
    enforcement: fc.option(
      fc.constantFrom(
        { from: '1970-01-01', zone: 'UTC' },
        { from: '2999-01-01', zone: 'UTC' },
        { from: '2027-01-31', zone: 'Pacific/Auckland' },
      ),
      { nil: undefined },
    ),
  })
  /** The first second of that day in Auckland: summer time, thirteen hours ahead. */
  const DEADLINE = Date.parse('2027-01-31T00:00:00+13:00') / 1000
  const begins: Record<string, number> = {
    '1970-01-01': 0,
    '2999-01-01': Number.POSITIVE_INFINITY,
    '2027-01-31': DEADLINE,
  }
  /** What operators, companies and the person do meanwhile, elsewhere: seldom, and not for ever. */
  const meanwhile = fc.array(
    fc.oneof(
      { weight: 6, arbitrary: fc.constant('nothing' as const) },
      {
        weight: 1,
        arbitrary: fc.constantFrom('mfa reset', 'new password', 'payor', 'no payor', 'everybody enforces', 'app added'),
      },
    ),
    { minLength: 8, maxLength: 8 },
  )
  const account = fc.record({
    memberships: fc.array(membership, { maxLength: 2 }),
    // Seldom: what one source asks for hides what another would.
    serverRoles: fc.constantFrom<Account['serverRoles']>([], [], [], [], ['support']),
    alwaysRequire2fa: fc.constantFrom(false, false, false, false, true),
  })
  const client = fc.record(
    {
      mfa: fc.constantFrom('required', 'by_role', 'by_role'),
      second_factor_max_age: fc.constantFrom(0, 300, 1800),
      self_service: fc.constant(true),
    },
    { requiredKeys: [] },
  ) as fc.Arbitrary<ClientRules>
  const params = fc.record(
    {
      set_up: fc.constantFrom('otp', 'sms', 'recovery_code'),
      prompt: fc.constant('login'),
      max_age: fc.constantFrom('0', '60', '3000'),
      acr_values: fc.constantFrom(ACR_2FA, ACR_2FA_APP, ALIAS, 'urn:x'),
      second_factor_max_age: fc.constantFrom('0', '60', '5000'),
      claims: fc
        .oneof(
          fc.record({
            name: fc.constantFrom('acr', 'amr'),
            essential: fc.boolean(),
            values: fc.uniqueArray(fc.constantFrom(ACR_1FA, ACR_2FA, ACR_2FA_APP, ALIAS, 'otp', 'sms', 'mfa', 'x'), {
              minLength: 1,
              maxLength: 3,
            }),
          }),
        )
        .map(({ name, essential, values }) => JSON.stringify({ id_token: { [name]: { essential, values } } })),
    },
    { requiredKeys: [] },
  ) as fc.Arbitrary<Record<string, string>>

  const requestOf = ({ claims = '{}' }: Record<string, string>) =>
    (JSON.parse(claims) as { id_token?: Record<string, { essential: boolean; values: string[] }> }).id_token ?? {}

  const PAYS = /payments_admin|disburser$/
  const pays = (who: Needs) =>
    who.memberships.some(
      ({ active, side, roles }) =>
        active && (side === 'payor' || side === 'both') && roles.some((role) => PAYS.test(role)),
    )
  const PAYOR: Membership = { companyId: 'p', side: 'payor', roles: ['payments_admin'], active: true }

  it('no code while a reason is open, no factor on a password alone, no loop: whoever asks, whatever they answer or others do', () => {
    const met = new Set<string>()
    fc.assert(
      fc.property(
        times,
        fc.record({ alive: fc.boolean(), otp: fc.boolean(), sms: fc.boolean(), usesRecovery: fc.boolean() }),
        account,
        client,
        fc.oneof(fc.constant<Record<string, string>>({}), params),
        fc.array(fc.constantFrom(1, 20, 400), { minLength: 8, maxLength: 8 }),
        primary,
        fc.constantFrom(-3000, -900, -30, 0, 5000),
        meanwhile,
        (ages, { alive, otp, sms, usesRecovery }, first, rules, asked, pauses, company, fromDeadline, events) => {
          const started = DEADLINE + fromDeadline
          let now = started
          let who = first
          let used = false
          // What the person has, and when it was added.
          let held: Subject['enrolled'] = { ...(otp && { otp: 1 }), ...(sms && { sms: 1 }) }
          const session = Object.fromEntries(
            Object.entries(ages).map(([factor, at]) => [factor, started - 10_000 + at]),
          )
          let front: Subject | undefined =
            alive && (session['pwd'] ?? session['fed']) ? subject({ enrolled: held }) : undefined
          let given: Proofs = {
            session: front ? session : {},
            chain: {},
            started,
            unsubmitted: false,
            fedBy: { session: 'b', chain: company?.company },
          }
          /** A new security epoch: nothing that was proven counts any more. */
          const void_ = () => {
            given = { ...given, session: {}, chain: {}, unsubmitted: false }
            front = undefined
          }
          const others = (event: (typeof events)[number]) => {
            met.add(event)
            if (event === 'payor') who = { ...who, memberships: [...who.memberships, PAYOR] }
            if (event === 'no payor') who = { ...who, memberships: who.memberships.filter((one) => !pays(person(one))) }
            if (event === 'everybody enforces')
              who = {
                ...who,
                memberships: who.memberships.map((one) => ({
                  ...one,
                  enforcement: { from: '1970-01-01', zone: 'UTC' },
                })),
              }
            // Elsewhere, by somebody who proved what stood.
            if (event === 'app added') held = { ...held, otp: now }
            if (event === 'app added' && front)
              front = { ...front, enrolled: held, reserved: false, unacknowledged: true }
            if (event === 'mfa reset') held = {}
            if (event === 'mfa reset' || event === 'new password') void_()
          }

          for (let step = 0; ; step++) {
            assert.ok(step < 24, 'no loop')
            others(events[step] ?? 'nothing')
            const needs = { ...who, enrolled: held }
            const need = requirement(asked, rules, front && needs, BOTH, now, signedInBy(given))
            const open = openReasons(need, front, given, now)
            if (!open) {
              const counts = counted(need, given)
              assert.ok(counts.pwd ?? counts.fed, 'a primary proof')
              if (need.rank >= 2)
                assert.ok(
                  need.methods.some((method) => counts[method]) || (need.providerMfa && counts.fed_mfa),
                  'a second factor of a kind that is allowed',
                )
              if (pays(who)) assert.ok(counts.otp, 'whoever pays has proven the app, whoever vouches')
              const enforced = who.memberships.filter(
                ({ active, enforcement }) => active && enforcement && now >= begins[enforcement.from]!,
              )
              if (enforced.some(({ companyId }) => counts.fed === undefined || companyId !== signedInBy(given)))
                assert.ok(counts.otp ?? counts.sms ?? counts.fed_mfa, 'a company’s enforcement is met')
              if (enforced.some(({ enforcement }) => enforcement!.from === '2027-01-31'))
                met.add('a deadline that has come')
              for (const [factor, time] of Object.entries(counts) as ['pwd', number][])
                assert.ok(
                  given.chain[factor] === time || (given.session[factor] === time && !need.thisChainOnly),
                  'only what was proven',
                )
              const said = claimsOf(need, given)
              const { acr, amr } = requestOf(asked)
              if (acr?.essential) assert.ok(acr.values.includes(said.acr), 'an essential acr is met')
              if (amr?.essential)
                assert.ok(
                  amr.values.some((value) => said.amr.includes(value)),
                  'and an essential amr',
                )
              assert.equal(said.amr.includes('otp'), counts.otp !== undefined)
              assert.equal(said.auth_time, Math.min(...Object.values(counts)))
              if (need.secondFactorMaxAge === 0 && need.rank >= 2)
                assert.ok(given.chain.otp ?? given.chain.sms ?? given.chain.fed_mfa)
              const wanted = rules.self_service ? asked['set_up'] : undefined
              if (wanted === 'otp' || wanted === 'sms') assert.ok(front!.enrolled[wanted]! >= started, 'it was set up')
              if (wanted) met.add(`set up ${wanted}`)
              return
            }
            assert.ok(
              !pays(who) || open.prompt !== 'mfa_enroll' || !open.offer.includes('sms'),
              'a payor is offered SMS',
            )
            if (open.prompt === 'mfa_enroll') {
              const proven = BOTH.some(
                (method) => held[method] && now - (given.chain[method] ?? -1e9) <= ENROLMENT_WINDOW,
              )
              const has = Object.keys(held).length > 0
              assert.ok(!has || front!.reserved || proven, 'no factor on a password alone')
              if (has && !front!.reserved) met.add('one more factor')
              const { pwd } = counted(need, given)
              if (!has && open.reasons[0] === 'enrolment_requested' && pwd !== undefined)
                assert.ok(pwd >= started - ENROLMENT_WINDOW, 'the first factor wants a fresh password')
            }
            // People answer at once after a while: whoever takes more than five minutes each time proves again each time.
            now += pauses[step] ?? 20
            const prove = (factor: 'pwd' | Method) => {
              given = { ...given, chain: addProof(given.chain, factor, now), unsubmitted: true }
            }
            switch (open.prompt) {
              case 'login':
                if (open.reasons[0] === 'unreachable') return // an error for the app
                if (open.reasons[0] === 'login_not_submitted')
                  given = {
                    ...given,
                    session: merge(given.session, given.chain),
                    unsubmitted: false,
                    fedBy: { ...given.fedBy, session: signedInBy(given) },
                  }
                else {
                  front = subject({ enrolled: held, unacknowledged: front?.unacknowledged ?? false })
                  if (!company) prove('pwd')
                  else {
                    const times = addProof(given.chain, 'fed', now - company.ago)
                    const chain = company.mfa ? addProof(times, 'fed_mfa', now - company.ago) : times
                    given = { ...given, chain, unsubmitted: true }
                  }
                }
                break
              case 'mfa':
                for (const method of open.offer) assert.ok(front!.enrolled[method], 'offers what the person has')
                if (usesRecovery && !used) {
                  used = true
                  front = { ...front!, reserved: true }
                } else prove(open.offer[0]!)
                break
              case 'mfa_enroll': {
                const method = open.offer[0]!
                if (front!.reserved) {
                  // All that was before is over, but for the primary proof of this chain.
                  held = {}
                  given = { ...given, session: {}, chain: carriedOver(counted(need, given)) }
                }
                held = { ...held, [method]: now }
                front = { ...front!, enrolled: held, reserved: false, unacknowledged: true }
                prove(method)
                break
              }
              case 'recovery_ack':
                assert.ok(given.chain.otp ?? given.chain.sms, 'a code is shown only after a second factor')
                front = { ...front!, unacknowledged: false, renewed: true }
            }
          }
        },
      ),
      { numRuns: 10_000 },
    )
    for (const what of ['mfa reset', 'new password', 'payor', 'everybody enforces', 'a deadline that has come'])
      assert.ok(met.has(what), `no story met: ${what}`)
    for (const what of ['one more factor', 'set up otp', 'set up sms', 'set up recovery_code'])
      assert.ok(met.has(what), `no story met: ${what}`)
  })
})
