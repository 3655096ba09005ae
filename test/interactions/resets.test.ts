/** Who may reset whose second factors: the rule as a table, and what holds whatever people hold. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Account, Membership, MembershipRole, ServerRole, Side } from '../../interactions/kit/stores.ts'
import { openReasons, requirement } from '../../interactions/policy.ts'
import { companiesInCare, powersOver } from '../../interactions/resets.ts'

const NOW = Date.UTC(2027, 0, 31, 12) / 1000
const PAST = { from: '2020-01-01', zone: 'UTC' }
const AHEAD = { from: '2027-02-01', zone: 'UTC' }

const at = (companyId: string, roles: MembershipRole[] = [], more: Partial<Membership> = {}): Membership => ({
  companyId,
  side: 'none',
  roles,
  active: true,
  ...more,
})
const somebody = (id: string, memberships: Membership[], more: Partial<Account> = {}): Account => ({
  id,
  email: `${id}@example.com`,
  disabled: false,
  securityEpoch: 0,
  memberships,
  serverRoles: [],
  alwaysRequire2fa: false,
  factorVersion: 0,
  enrolled: {},
  ...more,
})
const ENROLLED = { enrolled: { otp: 1 } }
const BOTH: MembershipRole[] = ['company_admin', 'directory_admin']
const ENFORCES = { enforcement: PAST }
const PAYEE = { side: 'payee' as const }
const city = (roles: MembershipRole[] = [], more: Partial<Membership> = {}) =>
  at('city', roles, { ...ENFORCES, ...more })
const best = (roles: MembershipRole[] = ['payments_admin'], more: Partial<Membership> = {}) =>
  at('best', roles, { ...PAYEE, ...more })

const admin = somebody('admin', [city(BOTH)], ENROLLED)
const paid = somebody('paid', [best()], ENROLLED)

/** What, who, about whom, where, and their powers. */
const TABLE: [string, Account, Account | undefined, string, ReturnType<typeof powersOver>][] = [
  [
    'a standard user, by an administrator with both roles',
    admin,
    somebody('x', [city()]),
    'city',
    { reset: 'company', unlock: true },
  ],
  [
    'another administrator of the company',
    admin,
    somebody('x', [city(BOTH)], ENROLLED),
    'city',
    { reset: 'company', unlock: true },
  ],
  ['nobody themselves', admin, admin, 'city', { reset: 'own', unlock: false }],
  ['an address that nobody has', admin, undefined, 'city', undefined],
  ['somebody of another company', admin, somebody('x', [at('else', [], ENFORCES)]), 'city', undefined],
  ['somebody, at a company that is not one’s own', admin, somebody('x', [at('else', [], ENFORCES)]), 'else', undefined],
  ['somebody whose place is disabled', admin, somebody('x', [city([], { active: false })]), 'city', undefined],
  [
    'an administrator whose place is disabled',
    somebody('a', [city(BOTH, { active: false })], ENROLLED),
    somebody('x', [city()]),
    'city',
    undefined,
  ],
  ['an administrator without a factor', somebody('a', [city(BOTH)]), somebody('x', [city()]), 'city', undefined],
  [
    'a directory administrator alone',
    somebody('a', [city(['directory_admin'])], ENROLLED),
    somebody('x', [city()]),
    'city',
    { reset: 'operator', unlock: true },
  ],
  [
    'a company administrator alone',
    somebody('a', [city(['company_admin'])], ENROLLED),
    somebody('x', [city()]),
    'city',
    undefined,
  ],
  [
    'the two roles at two companies',
    somebody('a', [city(['company_admin']), at('else', ['directory_admin'], ENFORCES)], ENROLLED),
    somebody('x', [city()]),
    'city',
    undefined,
  ],
  [
    'a company that does not enforce',
    somebody('a', [at('city', BOTH)], ENROLLED),
    somebody('x', [at('city')]),
    'city',
    { reset: 'operator', unlock: true },
  ],
  [
    'a company that does not enforce yet',
    somebody('a', [at('city', BOTH)], ENROLLED),
    somebody('x', [city([], { enforcement: AHEAD })]),
    'city',
    { reset: 'operator', unlock: true },
  ],
  [
    'somebody of whom another company asks it too',
    admin,
    somebody('x', [city(), at('else', [], ENFORCES)]),
    'city',
    { reset: 'operator', unlock: true },
  ],
  [
    'somebody of whom another company will ask it',
    admin,
    somebody('x', [city(), at('else', [], { enforcement: AHEAD })]),
    'city',
    { reset: 'company', unlock: true },
  ],
  [
    'somebody of whom another company asked it, where they are no more',
    admin,
    somebody('x', [city(), at('else', [], { ...ENFORCES, active: false })]),
    'city',
    { reset: 'company', unlock: true },
  ],
  [
    'a member of another company that asks nothing',
    admin,
    somebody('x', [city(), at('else')]),
    'city',
    { reset: 'company', unlock: true },
  ],
  ...(['payments_admin', 'disburser', 'beneficiary_approver', 'disbursement_contributor'] as const).flatMap((role) =>
    (['payor', 'both', 'payee', 'none'] as const).flatMap((side): typeof TABLE => [
      [
        `a ${role} there (${side})`,
        admin,
        somebody('x', [city([role], { side })]),
        'city',
        { reset: 'operator', unlock: true },
      ],
      [
        `a ${role} elsewhere (${side})`,
        admin,
        somebody('x', [city(), at('else', [role], { side })]),
        'city',
        { reset: 'operator', unlock: true },
      ],
      [
        `a ${role} elsewhere (${side}), switched off`,
        admin,
        somebody('x', [city(), at('else', [role], { side, active: false })]),
        'city',
        { reset: 'operator', unlock: true },
      ],
    ]),
  ),
  ...(['operator', 'support', 'auditor'] as const).map((role): (typeof TABLE)[number] => [
    `an ${role} of this server`,
    admin,
    somebody('x', [city()], { serverRoles: [role] }),
    'city',
    { reset: 'operator', unlock: true },
  ]),
  [
    'somebody who is shut out',
    admin,
    somebody('x', [city()], { disabled: true }),
    'city',
    { reset: 'operator', unlock: false },
  ],

  [
    'a payee, by another Payments Admin',
    paid,
    somebody('x', [best()], ENROLLED),
    'best',
    { reset: 'payee', unlock: false },
  ],
  ['a payee, by themselves', paid, paid, 'best', { reset: 'own', unlock: false }],
  [
    'a payee, by a Payments Admin without a factor',
    somebody('a', [best()]),
    somebody('x', [best()]),
    'best',
    undefined,
  ],
  [
    'a payee, by one of another payee company',
    somebody('a', [at('else', ['payments_admin'], PAYEE)], ENROLLED),
    somebody('x', [best()]),
    'best',
    undefined,
  ],
  [
    'a payee, by the company’s administrator',
    somebody('a', [best(BOTH)], ENROLLED),
    somebody('x', [best()]),
    'best',
    { reset: 'operator', unlock: true },
  ],
  [
    'a payee, by an administrator who is Payments Admin too',
    somebody('a', [best(['payments_admin', ...BOTH])], ENROLLED),
    somebody('x', [best()]),
    'best',
    { reset: 'payee', unlock: true },
  ],
  [
    'a payee, where the company enforces besides',
    somebody('a', [best(['payments_admin'], ENFORCES)], ENROLLED),
    somebody('x', [best(['payments_admin'], ENFORCES)]),
    'best',
    { reset: 'payee', unlock: false },
  ],
  ['a standard user, by a Payments Admin', paid, somebody('x', [best([])]), 'best', undefined],
  [
    'a payee who is a disburser too',
    paid,
    somebody('x', [best(['payments_admin', 'disburser'])]),
    'best',
    { reset: 'operator', unlock: false },
  ],
  [
    'a payee of a company that pays too',
    somebody('a', [best(['payments_admin'], { side: 'both' })], ENROLLED),
    somebody('x', [best(['payments_admin'], { side: 'both' })]),
    'best',
    undefined,
  ],
  [
    'a payee who belongs to a payor company',
    paid,
    somebody('x', [best(), at('acme', [], { side: 'payor' })]),
    'best',
    { reset: 'operator', unlock: false },
  ],
  [
    'a payee who belonged to a payor company',
    paid,
    somebody('x', [best(), at('acme', [], { side: 'payor', active: false })]),
    'best',
    { reset: 'operator', unlock: false },
  ],
  [
    'a payee of two companies',
    paid,
    somebody('x', [best(), at('else', ['payments_admin'], PAYEE)]),
    'best',
    { reset: 'operator', unlock: false },
  ],
  [
    'a payee of whom another company asks it too',
    paid,
    somebody('x', [best(), city()]),
    'best',
    { reset: 'operator', unlock: false },
  ],
  [
    'a payee with a role at this server',
    paid,
    somebody('x', [best()], { serverRoles: ['auditor'] }),
    'best',
    { reset: 'operator', unlock: false },
  ],
  [
    'a payor, by another Payments Admin',
    somebody('a', [at('acme', ['payments_admin'], { side: 'payor' })], ENROLLED),
    somebody('x', [at('acme', ['disburser'], { side: 'payor' })]),
    'acme',
    undefined,
  ],
]

describe('who may reset whose factors', () => {
  for (const [what, who, person, company, powers] of TABLE)
    it(what, () => assert.deepEqual(powersOver(who, person, company, NOW), powers))

  it('names the companies whose people somebody looks after', () => {
    const one = somebody('a', [
      city(BOTH),
      best(),
      at('off', BOTH, { active: false }),
      at('half', ['company_admin']),
      at('acme', ['payments_admin'], { side: 'payor' }),
    ])
    assert.deepEqual(companiesInCare(one), ['city', 'best'])
  })

  const sides = fc.constantFrom<Side>('payor', 'payee', 'payee', 'both', 'none', 'none')
  const anyRoles = fc.uniqueArray(
    fc.constantFrom<MembershipRole>(
      'payments_admin',
      'disburser',
      'beneficiary_approver',
      'disbursement_contributor',
      'company_admin',
      'directory_admin',
    ),
    { maxLength: 3 },
  )
  /** Those with which something is allowed come often. */
  const roles = fc.oneof(
    { weight: 1, arbitrary: anyRoles },
    { weight: 4, arbitrary: fc.constantFrom<MembershipRole[]>([], [], BOTH, ['payments_admin']) },
  )
  /** Of the same company everybody has the same side and enforcement. */
  const companies = fc.record({
    a: fc.record({ side: sides, enforcement: fc.option(fc.constantFrom(PAST, AHEAD), { nil: undefined }) }),
    b: fc.record({ side: sides, enforcement: fc.option(fc.constantFrom(PAST, AHEAD), { nil: undefined }) }),
    c: fc.record({ side: sides, enforcement: fc.option(fc.constantFrom(PAST, AHEAD), { nil: undefined }) }),
  })
  const mostly = fc.integer({ min: 0, max: 7 }).map((one) => one > 0)
  const places = fc.uniqueArray(fc.record({ companyId: fc.constantFrom('a', 'b', 'c'), roles, active: mostly }), {
    selector: ({ companyId }) => companyId,
    minLength: 1,
    maxLength: 2,
  })
  const person = fc.record({
    places,
    enrolled: mostly,
    disabled: mostly.map((is) => !is),
    serverRoles: fc.constantFrom<ServerRole[]>([], [], [], ['support']),
  })
  type Companies = Record<string, Pick<Membership, 'side' | 'enforcement'>>
  const built = (
    id: string,
    {
      places: own,
      enrolled,
      ...rest
    }: {
      places: { companyId: string; roles: MembershipRole[]; active: boolean }[]
      enrolled: boolean
      disabled: boolean
      serverRoles: Account['serverRoles']
    },
    of: Companies,
  ) =>
    somebody(
      id,
      own.map((place) => ({ ...place, ...of[place.companyId]! })),
      { ...rest, enrolled: enrolled ? { otp: 1 } : {} },
    )

  it('no roles anywhere let anybody reset themselves, a payor, or for a company that they do not speak for', () => {
    let allowed = 0
    fc.assert(
      fc.property(companies, person, person, fc.constantFrom('a', 'b', 'c'), (of, one, two, companyId) => {
        const [who, whom] = [built('who', one, of), built('whom', two, of)]
        assert.ok(!['company', 'payee'].includes(String(powersOver(who, who, companyId, NOW)?.reset)))
        const powers = powersOver(who, whom, companyId, NOW)
        if (powers === undefined) return
        const mine = who.memberships.find((place) => place.companyId === companyId)
        const theirs = whom.memberships.find((place) => place.companyId === companyId)
        assert.ok(mine?.active && theirs?.active && Object.keys(who.enrolled).length > 0)
        assert.ok(!powers.unlock || mine.roles.includes('directory_admin'))
        if (powers.reset !== 'company' && powers.reset !== 'payee') return
        allowed += 1
        assert.deepEqual([whom.disabled, whom.serverRoles], [false, []])
        // Everything that asks a second factor of them comes from this company, and none of it is a payor's.
        const { because, methods } = requirement({}, {}, whom, ['otp', 'sms'], NOW)
        assert.ok(because.length > 0)
        for (const source of because)
          assert.ok([`company:${companyId}`, `role:payments_admin@${companyId}`].includes(source), source)
        assert.deepEqual(methods, ['otp', 'sms'])
        const isPaid = theirs.roles.includes('payments_admin')
        assert.equal(powers.reset, isPaid ? 'payee' : 'company')
        const needed: MembershipRole[] = isPaid ? ['payments_admin'] : BOTH
        for (const role of needed) assert.ok(mine.roles.includes(role))
      }),
      { numRuns: Number(process.env['PROPERTY_RUNS'] ?? 5000) },
    )
    assert.ok(allowed > 0, `${allowed} were allowed`)
  })

  it('after a reset nobody enrols by a password alone, whatever else is asked, proven or held', () => {
    const times = fc.record({ pwd: fc.constant(NOW) }, { requiredKeys: ['pwd'] })
    const params = fc.record(
      {
        max_age: fc.constantFrom('0', '60'),
        acr_values: fc.constantFrom('urn:sallyport:acr:1fa', 'urn:sallyport:acr:2fa'),
        second_factor_max_age: fc.constantFrom('0', '300'),
        set_up: fc.constantFrom('otp', 'sms', 'recovery_code'),
        prompt: fc.constantFrom('login', 'consent'),
      },
      { requiredKeys: [] },
    )
    const client = fc.record(
      {
        mfa: fc.constantFrom('required' as const, 'by_role' as const),
        self_service: fc.boolean(),
        first_party: fc.boolean(),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(companies, person, params, client, times, fc.boolean(), (of, one, request, rules, chain, linked) => {
        const account = {
          ...built('who', { ...one, enrolled: false, disabled: false }, of),
          factorReset: { at: NOW - 60, open: true as const },
        }
        const needed = requirement(request, rules, account, ['otp', 'sms'], NOW)
        const subject = { id: 'who', enrolled: {}, reserved: false, unacknowledged: false, reset: true, linked }
        const proofs = { session: {}, chain, started: NOW, unsubmitted: true }
        const open = openReasons(needed, subject, proofs, NOW)
        if (needed.unreachable !== undefined) return
        assert.ok(open, 'no code')
        if (linked) assert.equal(open.prompt, 'mfa_enroll')
        else assert.deepEqual([open.prompt, open.reasons, open.offer], ['mfa_link', ['mailed_link_missing'], []])
        // A company's sign-in stands for the link.
        const fed = openReasons(needed, { ...subject, linked: false }, { ...proofs, chain: { fed: NOW } }, NOW)
        assert.equal(fed?.prompt, 'mfa_enroll')
      }),
      { numRuns: Number(process.env['PROPERTY_RUNS'] ?? 2000) },
    )
  })
})
