/** The guards that matter most, each as a change that takes it away. Played by `test/mutations.ts`. */
/** A guard that is taken away, and who is to notice. */
export interface Mutation {
  name: string
  file: string
  find: string
  replace: string
  /** The test file that is to notice. */
  test: string
}

const ACCEPTANCE = 'test/e2e/acceptance.test.ts'
const ATTACKS = 'test/e2e/attacks.test.ts'
const EPOCH = 'test/e2e/epoch.test.ts'
export const PROPERTY = 'test/e2e/property.test.ts'
const CURRENT = 'test/contract/current-rows.test.ts'
const DUTIES = 'test/contract/duties.test.ts'
const CONTRACT = 'test/contract/sqlite.test.ts'
const POLICY = 'test/interactions/policy.test.ts'
const ROUTER = 'test/interactions/router.test.ts'
const OUTAGE = 'test/faults/outage.test.ts'
const ACCOUNT = 'test/e2e/account.test.ts'
const RESETS = 'test/e2e/resets.test.ts'
const SAML = 'test/interactions/federation/saml.test.ts'
const RULES = 'test/e2e/company-rules.test.ts'

/** Guards of one file that one test file is to notice. */
const of = (file: string, test: string, guards: [name: string, find: string, replace: string][]): Mutation[] =>
  guards.map(([name, find, replace]) => ({ name, file, find, replace, test }))

const policy = (name: string, find: string, replace: string, test = POLICY): Mutation => ({
  name,
  file: 'interactions/policy.ts',
  find,
  replace,
  test,
})
const router = (name: string, find: string, replace: string, test: string): Mutation => ({
  name,
  file: 'interactions/kit/router.ts',
  find,
  replace,
  test,
})
const factors = (name: string, find: string, replace: string, test: string): Mutation => ({
  name,
  file: 'adapters/sqlite/factors.ts',
  find,
  replace,
  test,
})
const artifacts = (name: string, find: string, replace: string): Mutation => ({
  name,
  file: 'adapters/sqlite/artifacts.ts',
  find,
  replace,
  test: DUTIES,
})

/** Durability: what an answer speaks of is on the disk. */
const ON_DISK: Mutation[] = [
  {
    name: 'tokens wait for the disk',
    file: 'interactions/kit/oidc-adapter.ts',
    find: 'await behindTheRequest(() => this.#artifacts.onDisk())',
    replace: '',
    test: DUTIES,
  },
  {
    name: 'only who says so is answered ahead',
    file: 'adapters/sqlite/commit-queue.ts',
    find: 'outcomes.filter(({ entry }) => !entry.ahead)',
    replace: '[]',
    test: 'test/contract/group-commit.test.ts',
  },
]

const saml = (name: string, file: string, find: string, replace: string, test = SAML): Mutation => ({
  name: `SAML: ${name}`,
  file: `interactions/federation/saml/${file}.ts`,
  find,
  replace,
  test,
})

const PEOPLE = 'test/server/people.test.ts'
const NOTICES = 'test/e2e/notices.test.ts'
const withdrawn = (
  [
    [
      'a stolen password: the file that has it brings it back',
      'server/seed/plan.ts',
      'present?.hasPassword || present?.passwordWithdrawn',
      'present?.hasPassword',
      PEOPLE,
    ],
    [
      'a stolen password: who had one is invited',
      'server/account/index.ts',
      '(await database.passwords.recent(found.account.id)).length === 0',
      'found.passwordHash === undefined',
      PEOPLE,
    ],
    [
      'a stolen password: may be chosen again',
      'adapters/sqlite/passwords.ts',
      'nowFormer(found, PASSWORDS_BARRED),\n        accountId',
      'null,\n        accountId',
      CONTRACT,
    ],
    [
      'a stolen password: sessions go on',
      'adapters/sqlite/passwords.ts',
      'SET password_hash = NULL, former_passwords = ?, security_epoch = security_epoch + 1',
      'SET password_hash = NULL, former_passwords = ?',
      CONTRACT,
    ],
    [
      'alerts: a finished sign-in is told of',
      'interactions/kit/router.ts',
      '      await alerts.callOff(after.account!, outcome.alert)\n',
      '',
      NOTICES,
    ],
    [
      'alerts: an owner’s sign-in takes back what tells of a thief',
      'interactions/kit/alerts.ts',
      '      if (!allowed) return none\n',
      '',
      NOTICES,
    ],
    [
      'alerts: a known browser is told of',
      'interactions/kit/alerts.ts',
      ' || (device !== undefined && (await devices.knows(device, account.id)))',
      '',
      NOTICES,
    ],
    [
      'the demo’s messages: by any name',
      'server/demo/outbox.ts',
      ".includes(request.headers.host ?? ''))",
      ".concat(request.headers.host ?? '').includes(request.headers.host ?? ''))",
      'test/browser/invitation.test.ts',
    ],
  ] as const
).map(([name, file, find, replace, test]): Mutation => ({ name, file, find, replace, test }))

const SMS = 'test/e2e/sms.test.ts'
const SMS_LIMITS = 'test/e2e/sms-limits.test.ts'
const text = (name: string, file: string, find: string, replace: string, test: string): Mutation => ({
  name: `text: ${name}`,
  file: `interactions/${file}`,
  find,
  replace,
  test,
})

const handOff = (name: string, file: string, find: string, replace: string): Mutation => ({
  name: `hand-off: ${name}`,
  file: `interactions/${file}`,
  find,
  replace,
  test: 'test/interactions/federation/handoff.test.ts',
})

/** All of them. */
export const MUTATIONS: Mutation[] = [
  {
    name: 'a dry run of other settings counts',
    file: 'adapters/sqlite/connections.ts',
    find: 'if (!present || !testedAlike(present, tried)) return false',
    replace: '',
    test: 'test/contract/sqlite.test.ts',
  },
  {
    name: 'a dry run counts for an address that it did not go to',
    file: 'interactions/federation/dry-run.ts',
    find: 'const isSame = test.waiter === waiter + triedOf(connection)',
    replace: 'const isSame = true',
    test: 'test/interactions/federation/dry-run.test.ts',
  },
  {
    name: 'a connection goes on when its company is disabled',
    file: 'adapters/sqlite/connections.ts',
    find: "row['disabled'] === 1 ? 'disabled' : written.state",
    replace: 'written.state',
    test: 'test/contract/sqlite.test.ts',
  },
  {
    name: 'mfa.sso: challenge is not stored',
    file: 'adapters/sqlite/accounts.ts',
    find: '...(sso !== null && { sso })',
    replace: '',
    test: 'test/contract/sqlite.test.ts',
  },
  {
    name: 'what is no form is read as one',
    file: 'interactions/federation/routes.ts',
    find: "if (!ctx.is('application/x-www-form-urlencoded'))",
    replace: 'if (false)',
    test: 'test/interactions/federation/acs.test.ts',
  },
  handOff(
    'nobody is told by mail of a link',
    'federation/arrival.ts',
    "made ? [] : tell(account, 'company_linked', visit.facts)",
    '[]',
  ),
  handOff(
    'an account that has a name there opens by what has none',
    'federation/arrival.ts',
    'if (!linked && (await links.isNamed(',
    'if (false && (await links.isNamed(',
  ),
  handOff(
    'a context that comes as an attribute counts',
    'federation/arrival.ts',
    '(trustedContexts.includes(MULTIPLE) && methods.includes(MULTIPLE))',
    'methods.some((one) => trustedContexts.includes(one))',
  ),
  {
    name: 'a reference that comes again is an outage',
    file: 'adapters/sqlite/traces.ts',
    find: 'ON CONFLICT DO NOTHING',
    replace: '',
    test: 'test/contract/sqlite.test.ts',
  },
  {
    name: 'a client whose secret was replaced is the one of before',
    file: 'adapters/sqlite/directory.ts',
    find: 'known?.metadata === metadata && known.secret === secret',
    replace: 'known?.metadata === metadata',
    test: 'test/server/client-secret.test.ts',
  },
  ...withdrawn,
  // The decision.
  policy(
    'self-service: a factor is set up on what the session proved',
    '    const first = openProof(subject, proofs, now) ?? openLink(subject, counting)\n',
    '    const first = openLink(subject, counting) as Open | undefined\n',
  ),
  policy('self-service: any app may ask for it', 'client.self_service ? SET_UP', 'true ? SET_UP'),
  policy(
    'self-service: a change needs no fresh second factor',
    'const second = methods.length > 0 && !methods',
    'const second = methods.length > 99 && !methods',
  ),
  {
    name: 'self-service: a form of another session',
    file: 'server/account/own.ts',
    find: "mac('account-form', session.uid)",
    replace: "mac('account-form', '')",
    test: ACCOUNT,
  },
  {
    name: 'self-service: a code of another app',
    file: 'server/account/sign-in.ts',
    find: '        code?.clientId === ACCOUNT_CLIENT &&\n        code.redirectUri === issuer + CALLBACK_PATH &&\n        code.codeChallenge === challengeOf(browser)',
    replace: '        code !== undefined',
    test: ACCOUNT,
  },
  {
    name: 'self-service: a session that has ended',
    file: 'server/account/sign-in.ts',
    find: ' || !sessionAlive(facts, account, limits, now())',
    replace: '',
    test: ACCOUNT,
  },
  policy(
    'a factor is added on a password alone',
    'return methods.length > 0 && !proven ?',
    'return methods.length > 99 ?',
  ),
  policy(
    'a password shows a recovery code',
    'if (subject.unacknowledged && secondHere)',
    'if (subject.unacknowledged)',
    EPOCH,
  ),
  policy(
    'a code while the login is not submitted',
    "if (proofs.unsubmitted) return open('login_not_submitted')",
    '',
    EPOCH,
  ),
  policy('prompt=login counts older proofs', 'if (needed.thisChainOnly) return false', '', PROPERTY),
  policy(
    'max_age counts older proofs',
    'at < proofs.started - needed.maxAge) return false',
    'at < 0) return false',
    PROPERTY,
  ),
  policy(
    'second_factor_max_age=0 counts a proof of another request',
    'return needed.secondFactorMaxAge > 0 && at',
    'return at',
    POLICY,
  ),
  policy(
    'second_factor_max_age counts older proofs',
    '&& at >= proofs.started - needed.secondFactorMaxAge',
    '',
    PROPERTY,
  ),
  policy(
    'a new password keeps older factors',
    '=> primary === undefined || (chain.fed === undefined && at > primary)',
    '=> true || primary',
  ),
  policy('a company’s sign-in keeps older factors', '(chain.fed === undefined && at > primary)', 'at > primary'),
  policy('a company’s sign-in meets every company’s enforcement', 'fedBy === companyId && ', 'fedBy && '),
  policy('mfa.sso: challenge is not heard', " && enforcement.sso !== 'challenge'", ''),
  policy('an identity provider’s second factor satisfies a payor', 'rank === 2 && !byRole && !smsOnly', 'rank === 2'),
  policy('a password counts as the company’s sign-in', 'return chain.fed === undefined ? undefined : ', 'return '),
  policy(
    'the session counts in spite of its epoch',
    'if (session.epoch !== account.securityEpoch) return false',
    '',
    EPOCH,
  ),
  policy(
    'the absolute limit of a session',
    ' || now >= session.created + limits.absolute) return false',
    ') return false',
  ),
  policy(
    'the idle limit of a session',
    'return session.used !== undefined && now < session.used + Math.min(limits.idle, rulesOf(account).idle)',
    'return true',
  ),
  {
    name: 'prompt=none counts as use of a session',
    file: 'interactions/attach.ts',
    find: "if (!oidc.prompts.has('none')) ",
    replace: '',
    test: ATTACKS,
  },
  {
    name: 'proofs of an older epoch count',
    file: 'interactions/decision.ts',
    find: '&& chain.securityEpoch === proven.securityEpoch ? chain',
    replace: '? chain',
    test: EPOCH,
  },
  // The way to a company's identity provider and back.
  handOff(
    'a posted password is looked at in forward mode',
    'credentials/index.ts',
    "if (await mustGo(sso, visit)) return { is: 'turned', page: sso!.page }\n        const",
    'const',
  ),
  handOff(
    'passwords of people without one are counted',
    'credentials/index.ts',
    'if (await mustGo(sso, visit)) return undefined',
    '',
  ),
  handOff('everybody is sent round again', 'federation/index.ts', 'visit.sso.sent !== true && !visit', '!visit'),
  handOff('whoever signed out is signed in again', 'federation/index.ts', '&& !visit.signedOut ', ''),
  handOff('prompt=login does not force a sign-in', 'federation/index.ts', 'asks.anew || sso.other', 'sso.other'),
  handOff(
    'requests without end',
    'federation/index.ts',
    "if (!allowed) throw new InteractionError('sso_too_often'",
    "if (false) throw new InteractionError('sso_too_often'",
  ),
  handOff(
    'a handle opens any interaction',
    'federation/index.ts',
    'takeFacts(handle, visit.uid,',
    'takeFacts(handle, request?.interaction ?? visit.uid,',
  ),
  handOff(
    'a disabled connection lets in who is on the way',
    'federation/arrival.ts',
    "if (connection?.state !== 'active')",
    'if (!connection)',
  ),
  handOff('a disabled person comes in', 'federation/arrival.ts', 'if (account.disabled)', 'if (false)'),
  handOff('a disabled member comes in', 'federation/arrival.ts', 'if (membership && !membership.active)', 'if (false)'),
  handOff(
    'an address is worth more than an address',
    'federation/arrival.ts',
    'if (isAddress && linked.email !== facts.email)',
    'if (false)',
  ),
  handOff(
    'a company speaks for who has left it',
    'federation/arrival.ts',
    'if (!speaksFor(linked.email))',
    'if (false)',
  ),
  handOff(
    'somebody else than expected comes in',
    'federation/arrival.ts',
    "expected !== linked?.email) return { is: 'other' }",
    "expected !== linked?.email && false) return { is: 'other' }",
  ),
  handOff('an heir of an address takes the account', 'federation/arrival.ts', "if (outcome === 'taken')", 'if (false)'),
  handOff('a transient name is linked', 'federation/arrival.ts', '  lasts\n    ?', '  true\n    ?'),
  handOff('everybody is made an account', 'federation/arrival.ts', 'known || !connection.jit ?', 'known ?'),
  handOff(
    'a context counts that was not asked for',
    'federation/arrival.ts',
    'request.authnContexts.includes(context)',
    'context',
  ),
  handOff(
    'a context counts that is not trusted',
    'federation/arrival.ts',
    'said.every((one) => trustedContexts.includes(one))',
    'true',
  ),
  handOff('a second factor of days ago counts', 'federation/arrival.ts', 'isFresh &&', ''),
  handOff(
    'an unsolicited response with other faults begins a sign-in',
    'federation/routes.ts',
    'checks.length === 1 && ',
    '',
  ),
  handOff('a sign-in of the future', 'kit/router.ts', 'Math.min(answer.at, now())', 'now() + 500'),
  handOff(
    'a company’s sign-in is forgotten in the refresh token',
    'configuration.ts',
    'methods(record), now(), token.fedBy)',
    'methods(record), now())',
  ),
  // Codes by text.
  text('a payor may post to its pages', 'kit/router.ts', 'open?.offer.includes(method) === true', 'true', SMS),
  text(
    'what was not offered becomes a factor',
    'enrollment/first-code.ts',
    'if (!visit.offer.includes(method))',
    'if (false)',
    SMS,
  ),
  text('payees may have their phones anywhere', 'policy.ts', "!pays || country === 'US'", 'true', SMS),
  text(
    'the country is not asked for at a text',
    'enrollment/text.ts',
    '        refuseElsewhere(visit, country)\n',
    '',
    SMS,
  ),
  text('an old code is good', 'texts.ts', 'kept.until <= visit.now', 'false', SMS),
  text('a code opens twice', 'texts.ts', 'if (taken === undefined || ', 'if (taken !== undefined && ', SMS_LIMITS),
  text('a code takes any number of answers', 'challenge/text.ts', '...(sent ? [texts.tries(sent)] : [])', '', SMS),
  text('nobody waits for the next text', 'texts.ts', "['30s', limit(1, 30)],", '', SMS),
  text('a prefix gets any number', 'texts.ts', 'limit(20, 10 * MINUTE)', 'limit(1e6, 10 * MINUTE)', SMS_LIMITS),
  text('a number gets any number', 'texts.ts', '    ...NUMBER.map(', '    ...[].map(', SMS_LIMITS),
  text(
    'a network gets any number',
    'texts.ts',
    'const NETWORK = limit(10, HOUR)',
    'const NETWORK = limit(1e6, HOUR)',
    SMS_LIMITS,
  ),
  text(
    'a person gets any number',
    'texts.ts',
    "['hour', limit(5, HOUR)],\n  ['day', limit(10, DAY)],\n]\n/** One count",
    ']\n/** One count',
    SMS_LIMITS,
  ),
  text('strangers use up the texts of an owner', 'texts.ts', 'number|${purpose', 'number|${1', SMS_LIMITS),
  text(
    'who tries numbers out keeps all from a code',
    'texts.ts',
    'breakerOf(purpose, country)\n',
    "breakerOf('enrolment', country)\n",
    SMS_LIMITS,
  ),
  text('a gateway that was down trips the breaker', 'texts.ts', 'if (isSent) breaker', 'breaker', SMS_LIMITS),
  text('the breaker does not open', 'texts.ts', 'if (breaker.isOpen(visit.now))', 'if (false)', SMS_LIMITS),
  text('the hook is not asked', 'texts.ts', 'if (sms.allows && ', 'if (!sms.allows && ', SMS_LIMITS),
  text(
    'a text that did not go out is counted',
    'kit/router.ts',
    ' || error.status === 503',
    '',
    'test/server/sms.test.ts',
  ),
  factors(
    'by recovery a former factor lives on',
    "for (const table of ['totp', 'phones']) connection.run",
    "for (const table of ['nothing'].slice(1)) connection.run",
    CONTRACT,
  ),
  // SAML.
  saml('comments and DOCTYPEs are parsed', 'strict-xml', "if (kind === '!')", "if (kind === 'never')"),
  saml('elements are not counted', 'strict-xml', 'if (elements > limits.elements)', 'if (elements > 1e9)'),
  saml(
    'several assertions are read',
    'shape',
    'if (!only || found.length > 1 || only.parentNode !== response)',
    'if (!only)',
  ),
  saml('one value may be two ids', 'shape', "if (seen.has(value)) throw new CheckFailed('ids', 'one value twice')", ''),
  saml(
    'a signature may stand anywhere',
    'shape',
    'if (!signed.includes(signature.parentNode as Element))',
    'if (false)',
  ),
  saml(
    'a signature may refer to anything',
    'shape',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: as it stands in the code
    "if (attributeOf(reference!, 'URI') !== `#${signs}`)",
    'if (false)',
  ),
  saml('any signature algorithm', 'shape', 'if (!SIGNATURE_ALGORITHMS.has(algorithm(method!)))', 'if (false)'),
  saml('any digest', 'shape', 'if (!DIGEST_ALGORITHMS.includes(algorithm(digestMethod!)))', 'if (false)'),
  saml(
    'any transform',
    'shape',
    'if (algorithm(enveloped!) !== ENVELOPED || algorithm(exclusive!) !== EXCLUSIVE)',
    'if (false)',
  ),
  saml('certificates never end', 'signature', '&& now < notAfter + SKEW_SECONDS', ''),
  saml('CBC without a signature', 'decrypt', 'if (isCbc && !signed)', 'if (false)'),
  saml('any audience', 'profile', 'audiences.every((names) => names.includes(entityId))', 'true'),
  saml('any recipient', 'profile', 'passed: recipient === context.acsUrl,', 'passed: true,'),
  saml('any destination', 'profile', 'destination === undefined ? !isResponseSigned : destination === acsUrl', 'true'),
  saml('the request of another connection', 'profile', 'request.connectionId === connection.id', 'true'),
  saml('an old sign-in where a new one was forced', 'profile', 'if (request?.forceAuthn)', 'if (false)'),
  saml('a condition that nobody knows', 'profile', 'CONDITIONS.some((name) => is(child, NS.saml, name))', 'true'),
  saml('people of another domain', 'identity', 'const isTheirs = domains.includes(domain)', 'const isTheirs = true'),
  saml('letters that look like others', 'identity', '(isAscii && [email, ...others].every(isEmail))', 'true'),
  saml('two addresses', 'identity', "checks.note('email_conflict', others.length === 0)", ''),
  saml('the schemas are not asked', 'samlify', '      schemas.validate(document)\n', ''),
  // Tokens.
  {
    name: 'tokens of an older epoch are honoured',
    file: 'interactions/configuration.ts',
    find: 'if (token && token.epoch !== record.securityEpoch) return undefined',
    replace: '',
    test: EPOCH,
  },
  {
    name: 'a refresh does not ask for the rank',
    file: 'interactions/configuration.ts',
    find: 'if (!stillSatisfies(needed, token.amr ?? [])) return undefined',
    replace: '',
    test: EPOCH,
  },
  {
    name: 'amr and acr are the session’s, not the request’s',
    file: 'interactions/attach.ts',
    find: 'decided.settled(this.ctx)?.claims?.[name] ?? this.session',
    replace: 'this.session',
    test: PROPERTY,
  },
  {
    name: 'a sign-in takes over the factors of a dead session',
    file: 'interactions/attach.ts',
    find: ' || !sessionAlive(session, account, limits, now())) {',
    replace: ') {',
    test: PROPERTY,
  },
  // The pages.
  router(
    'the first factor signs in',
    "const finished = !after.open || after.open.reasons[0] === 'login_not_submitted'",
    'const finished = true',
    ACCEPTANCE,
  ),
  router(
    'an answer to a question that is not open is taken',
    `    // Answered in another tab, changed rules, a dead epoch: go on to the question that is open.
    if (!asksThis(open, here.open)) return proceed(ctx, open, open.outcome)`,
    '',
    EPOCH,
  ),
  router(
    'a refused form shows a page that is not open',
    `      if (!asksThis(open, here.open)) return proceed(ctx, open, open.outcome)
      if (!isOffered(page, here)) return notFound(ctx, open)
      return show(`,
    '      return show(',
    ROUTER,
  ),
  router(
    'attempts are counted but not refused',
    'if (attempt && verdict && !verdict.allowed) {',
    'if (!visit) {',
    ACCEPTANCE,
  ),
  router(
    'the tenth wrong code ends nothing',
    'attempt?.endsInteraction && verdict?.left === 0',
    'attempt?.endsInteraction && !verdict',
    ACCEPTANCE,
  ),
  router(
    'a proof leaves no audit row',
    'of notes)\n      await record(',
    'of notes.slice(9))\n      await record(',
    ACCEPTANCE,
  ),
  router("another browser's interaction", 'if (!holds(ctx, uid)) return lost(ctx, uid)', '', ROUTER),
  router(
    '"use a different account" keeps the proofs',
    'await keep(open, { differentAccount: true })',
    'await keep(open, open.outcome)',
    ACCEPTANCE,
  ),
  {
    name: 'the CSRF token is not looked at',
    file: 'interactions/kit/csrf.ts',
    find: "if (typeof token !== 'string' || !tokens.verify(secret, token))",
    replace: "if (typeof token !== 'string')",
    test: ROUTER,
  },
  {
    name: 'forms of other sites are taken',
    file: 'interactions/kit/csrf.ts',
    find: "if (!comesFrom(ctx, origin)) throw new InteractionError('cross_site', { status: 403 })",
    replace: '',
    test: ROUTER,
  },
  {
    name: 'a disabled person signs in',
    file: 'interactions/credentials/index.ts',
    find: 'if (!known || known.account.disabled)',
    replace: 'if (!known)',
    test: EPOCH,
  },
  {
    name: 'a replayed code is taken by the room',
    file: 'interactions/challenge/app.ts',
    find: 'if (!(await factors.claimTimeStep(id, step))) throw',
    replace: 'if (!(await factors.claimTimeStep(id, step)) && !step) throw',
    test: ACCEPTANCE,
  },
  {
    name: 'a new password in the moment of an activation',
    file: 'adapters/sqlite/factors.ts',
    find: 'AND security_epoch = ? AND',
    replace: 'AND ? >= 0 AND',
    test: ATTACKS,
  },
  // The stores.
  factors('a replayed code is taken by the store', 'AND last_step < ?', 'AND ? > 0', ACCEPTANCE),
  factors(
    'activation without compare-and-set',
    'WHERE id = ? AND factor_version = ?',
    'WHERE id = ? AND ? >= 0',
    CONTRACT,
  ),
  factors('a recovery code raises no epoch', 'const raise = byRecovery ? 1 : 0', 'const raise = 0', EPOCH),
  factors(
    'activation by a reservation that another chain took over',
    'AND reserved_by = ? AND',
    'AND reserved_by <> ? AND',
    EPOCH,
  ),
  factors('reservation without compare-and-set', 'AND reservations = ?`', 'AND ? >= 0`', CONTRACT),
  artifacts('an authorization code is exchanged twice', 'AND consumed_at IS NULL AND', 'AND'),
  artifacts(
    'a destroyed session or interaction comes back',
    'if (this.isDestroyed(artifact.key)) return session ? this.handOver(artifact) : undefined',
    '',
  ),
  {
    name: 'a session that ended is written again by a resume',
    file: 'adapters/sqlite/artifacts.ts',
    find: 'if (session && this.hasEnded(artifact.uid)) return',
    replace: '',
    test: ATTACKS,
  },
  artifacts(
    'what two apps authorized in parallel is not merged',
    'return sameSignIn(stored, next) ? ',
    'return !stored ? ',
  ),
  {
    name: 'an outage that the library caught is answered by it',
    file: 'interactions/middleware.ts',
    find: 'if (isOutage(error)) outage.add(ctx)',
    replace: '',
    test: OUTAGE,
  },
  {
    name: 'an app’s code leaves with the page of an outage',
    file: 'interactions/middleware.ts',
    find: "    ctx.remove('Location')\n",
    replace: '',
    test: OUTAGE,
  },
  {
    name: 'an old session cookie is set again',
    file: 'interactions/middleware.ts',
    find: 'if (!own || !(empty || ',
    replace: 'if (!empty || !own || !(empty || ',
    test: DUTIES,
  },
  {
    name: 'a chain that ends before a signed row counts as whole',
    file: 'adapters/audit-chain.ts',
    find: 'new Map(known.map((head) => [nameOf(head), head]))',
    replace: 'new Map<string, Head>()',
    test: 'test/server/audit-checkpoints.test.ts',
  },
  {
    name: 'what arrives while a checkpoint is made stands in none',
    file: 'server/audit-checkpoints.ts',
    find: 'auditHeads(former?.id)',
    replace: 'auditHeads(last?.id)',
    test: 'test/server/audit-checkpoints.test.ts',
  },
  {
    name: 'a changed audit row is not noticed',
    file: 'adapters/audit-chain.ts',
    find: 'if (row.previous !== previous || ',
    replace: 'if (row.previous !== row.previous && ',
    test: 'test/contract/audit.test.ts',
  },
  {
    name: 'a change is written over what somebody else changed since',
    file: 'adapters/sqlite/directory.ts',
    find: 'refuseIfChanged(change, this.#stored(change))',
    replace: 'void change',
    test: CONTRACT,
  },
  // Clients.
  {
    name: 'a former secret is good for ever',
    file: 'interactions/former-secrets.ts',
    find: '.filter(({ until }) => now() < until)',
    replace: '',
    test: 'test/server/client-secret.test.ts',
  },
  {
    name: 'another secret leaves the former ones good',
    file: 'server/seed/plan.ts',
    find: 'former_secrets: stays ? present.former_secrets : undefined',
    replace: 'former_secrets: present?.former_secrets',
    test: 'test/server/client-secret.test.ts',
  },
  {
    name: 'PKCE of a public client',
    file: 'interactions/configuration.ts',
    find: "client.clientAuthMethod === 'none' || clientRules(client).pkce !== 'optional'",
    replace: "clientRules(client).pkce !== 'optional'",
    test: 'test/e2e/conformance.test.ts',
  },
  {
    name: 'a domain may lead to two connections',
    file: 'server/stores.ts',
    find: '      if (owner !== undefined)\n        throw new StoreConflict(\n          `connection',
    replace: '      if (owner === "")\n        throw new StoreConflict(\n          `connection',
    test: CONTRACT,
  },
  {
    name: 'two companies may share an identity provider',
    file: 'server/stores.ts',
    find: 'if (other && other.company !== company)',
    replace: 'if (false as boolean && other)',
    test: CONTRACT,
  },
  {
    name: 'a connection may move to another company',
    file: 'adapters/sqlite/connections.ts',
    find: "if (before && before['company_id'] !== company)",
    replace: 'if (false as boolean && before)',
    test: CONTRACT,
  },
  {
    name: 'a dry run counts for another identity provider',
    file: 'adapters/sqlite/connections.ts',
    find: 'before !== undefined && testedAlike(writtenOf(before), value)',
    replace: 'before !== undefined',
    test: CONTRACT,
  },
  {
    name: 'a disabled connection takes responses',
    file: 'interactions/federation/routes.ts',
    find: "if (connection.state === 'disabled')",
    replace: 'if (false)',
    test: 'test/interactions/federation/dry-run.test.ts',
  },
  {
    name: 'the result of a dry run is for the browser that began it',
    file: 'interactions/federation/dry-run.ts',
    find: 'told?.test?.waiter.startsWith(waiter) === true',
    replace: 'told?.test !== undefined',
    test: 'test/interactions/federation/dry-run.test.ts',
  },
  {
    name: 'the link of a dry run works once',
    file: 'interactions/federation/dry-run.ts',
    find: 'await pending.take(digest(handle), PURPOSE, now())',
    replace: 'await pending.recall(digest(handle), PURPOSE, now())',
    test: 'test/interactions/federation/dry-run.test.ts',
  },
  {
    name: 'another site starts no dry run',
    file: 'interactions/federation/dry-run.ts',
    find: 'if (!comesFrom(ctx, new URL(provider.issuer).origin))',
    replace: "if (ctx.get('none') !== '')",
    test: 'test/interactions/federation/dry-run.test.ts',
  },
  {
    name: 'a link belongs to its connection',
    file: 'interactions/federation/dry-run.ts',
    find: 'kept !== connection.id) return gone(ctx)\n      const locals',
    replace: 'kept === undefined) return gone(ctx)\n      const locals',
    test: 'test/interactions/federation/dry-run.test.ts',
  },
  {
    name: 'only a dry run is answered while a connection is testing',
    file: 'interactions/federation/routes.ts',
    find: "if (connection.state !== 'active' && !tests)",
    replace: "if (connection.state === 'draft')",
    test: 'test/interactions/federation/dry-run.test.ts',
  },
  {
    name: 'the answer of a dry run leads to no interaction',
    file: 'interactions/federation/routes.ts',
    find: 'const tests = isTest(own)',
    replace: 'const tests = false',
    test: 'test/interactions/federation/dry-run.test.ts',
  },
  {
    name: 'a flood from one network leaves few traces',
    file: 'interactions/federation/trace.ts',
    find: '    if (!allowed) return\n',
    replace: '    if (!allowed && now < 0) return\n',
    test: 'test/interactions/federation/dry-run.test.ts',
  },
  {
    name: 'an explanation shortens names',
    file: 'interactions/federation/saml/explain.ts',
    find: 'value: shortened(said.nameId)',
    replace: 'value: said.nameId',
    test: 'test/interactions/federation/explain.test.ts',
  },
  ...(
    [
      ['links: expire', 'adapters/sqlite/passwords.ts', ' AND l.expires_at > ?`', ' AND ? > 0`'],
      ['links: for one address', 'adapters/sqlite/passwords.ts', ' AND a.email = l.email', ''],
      ['links: for one epoch', 'adapters/sqlite/passwords.ts', 'AND a.security_epoch = l.epoch ', ''],
      [
        'outbox: a lease ends',
        'adapters/sqlite/outbox.ts',
        'UPDATE outbox SET due_at = ?, tries',
        'UPDATE outbox SET due_at = ? * 0, tries',
      ],
      [
        'outbox: a lease has one holder',
        'adapters/sqlite/outbox.ts',
        'WHERE id = ? AND tries = ? AND due_at IS NOT NULL`',
        'WHERE id = ? AND ? > 0 AND due_at IS NOT NULL`',
      ],
      ['outbox: an activation tells', 'adapters/sqlite/factors.ts', 'this.#outbox.inPut(activation.messages)', ''],
    ] as const
  ).map(([name, file, find, replace]): Mutation => ({ name, file, find, replace, test: CONTRACT })),
  {
    name: 'forgot: the token leaves the address',
    file: 'server/account/token.ts',
    find: 'seeOther(ctx, to)',
    replace: 'ctx.body = to + String(token)',
    test: 'test/e2e/forgotten-password.test.ts',
  },
  ...of('server/account/index.ts', 'test/e2e/forgotten-password.test.ts', [
    [
      'forgot: sessions end',
      'await endSessions({ provider, stores: database, now: now(), about: { requestId } }, sessions)',
      'await endSessions({ provider, stores: database, now: now(), about: { requestId } }, [])',
    ],
    ['forgot: an address is asked for three times', 'rule: ADDRESS }', 'rule: NETWORK }'],
    ['forgot: a network asks ten times', 'rule: NETWORK }', 'rule: TRIES }'],
    ['forgot: a link has one purpose', '!link || link.purpose !== purpose', '!link'],
    ['forgot: not for people of a company sign-in', 'isVoid || (await isElsewhere(house, link.email))', 'isVoid'],
    ['forgot: opens what was closed', 'await database.throttle.clear([passwordCounter(email)])', ''],
    ['forgot: one of our forms', "checkForm(ctx, origin, browserOf(ctx), body['csrf'])", ''],
  ]),
  policy('a company’s idle limit', 'Math.min(limits.idle, rulesOf(account).idle)', 'limits.idle'),
  policy('a company’s countries', 'maySendTo(country) && ', ''),
  policy('rules of a membership that ended', '(one.active && one.rules) || []', 'one.rules ?? []'),
  ...(
    [
      [
        'a lock-out',
        'interactions/credentials/index.ts',
        "if (isLockedOut(account, attempt)) throw wrong('locked_out')",
        '',
      ],
      [
        'a lock-out is not for a known device',
        'interactions/credentials/index.ts',
        '(await devices.knows(device',
        '(false && await devices.knows(device',
      ],
      [
        'a stranger is quicker than who has just set a password by mail',
        'interactions/credentials/index.ts',
        '(device !== undefined && ',
        '(false && device !== undefined && ',
      ],
      [
        'tokens end with a session that was idle for too long',
        'interactions/configuration.ts',
        'if (!sessionAlive(session?.payload as SessionFacts | undefined, record, limits, now())) return undefined',
        '',
      ],
      [
        'a session that a company ended begins anew',
        'interactions/attach.ts',
        'session.uid === outcome?.deadSession || ',
        '',
      ],
      ['passwords by mail: not in the account', 'server/account/own.ts', 'if (closed) {', 'if (closed && !page) {'],
      ['passwords by mail: not by an operator', 'server/seed/plan.ts', '  if (!strict) return\n', '  return\n'],
      [
        'one letter of a date for each person',
        'server/deadlines.ts',
        '    id: digest(JSON.stringify([',
        '    kept: digest(JSON.stringify([',
      ],
    ] as const
  ).map(([name, file, find, replace]): Mutation => ({ name: `rules: ${name}`, file, find, replace, test: RULES })),
  ...ON_DISK,
  ...(
    [
      ['others are asked', 'current-rows', "if (version !== this.#seen) this.forget('all')", ''],
      ['others are asked again', 'current-rows', 'this.#looked = false\n', ''],
      ['a write of ours counts', 'driver', 'this.#rows.forget(touched)\n      return Number', 'return Number'],
      ['a write to one token counts', 'driver', 'this.#rows.forgetArtifact(model, key)', ''],
      [
        'not from within a write',
        'driver',
        'return this.#writing ? read() : this.#guarded(() => this.#rows.settled',
        'return this.#guarded(() => this.#rows.settled',
      ],
      ['of settled tables only', 'current-rows', 'if (ofStatement.size === 0) refuseUnsettled(sql)', ''],
    ] as const
  ).map(
    ([name, file, find, replace]): Mutation => ({
      name: `rows kept in memory: ${name}`,
      file: `adapters/sqlite/${file}.ts`,
      find,
      replace,
      test: CURRENT,
    }),
  ),
  ...(
    [
      [
        'resets: a password alone enrols nothing',
        '  reset && !linked && counting.fed === undefined ?',
        '  reset && linked && counting.fed === undefined ?',
      ],
      ['resets: whoever was reset needs a factor', "if (account?.factorReset?.open) raise(2, 'reset')", ''],
    ] as const
  ).map(([name, find, replace]) => policy(name, find, replace, RESETS)),
  ...of('interactions/resets.ts', 'test/interactions/resets.test.ts', [
    ['resets: nobody themselves', "if (person.id === who.id) return { reset: 'own', unlock: false }", ''],
    ['resets: by somebody with a factor', '!person || Object.keys(who.enrolled).length === 0', '!person'],
    ['resets: both roles', "holds('company_admin') && holds('directory_admin')", "holds('directory_admin')"],
    ['resets: a role that is switched off counts', 'if (others.some(pays)) return undefined', ''],
    [
      'resets: the company speaks for all that ask',
      'others.some((one) => one.active && enforces(one, now, undefined))',
      'others.length < 0',
    ],
    ['resets: payors are the operator’s', 'return payee && isPayee && paid', 'return payee && paid'],
    ['resets: roles at this server', 'if (disabled || serverRoles.length > 0)', 'if (disabled)'],
  ]),
  ...of('server/account/company.ts', 'test/e2e/company-resets.test.ts', [
    [
      'resets: not theirs is unknown',
      "if (outcome === 'failure') throw new InteractionError('person_unknown', { field: 'email' })",
      "if (outcome === 'failure' && !person) throw new InteractionError('person_unknown', { field: 'email' })",
    ],
    ['resets: no page of somebody else', 'isFor: async (visit) => (await inCare(visit)) !== undefined,', ''],
    [
      'resets: the policy is asked again',
      "if (powers.reset === 'own' || powers.reset === 'operator')",
      "if (powers.reset !== 'own' && powers.reset !== 'company' && powers.reset !== 'payee' && powers.reset !== 'operator')",
    ],
    ['resets: what was seen', 'messages, factorVersion }))', 'messages }))'],
    [
      'resets: sessions end',
      'const { ended, told } = await endSessions(ending, sessions)',
      'const { ended, told } = await endSessions(ending, sessions.slice(1))',
    ],
    ['resets: unlocking has its role', 'if (!powers.unlock) throw', "if (powers.reset === 'own') throw"],
    ['resets: five unlocks', 'rule: UNLOCKS }]', 'rule: SEARCHES }]'],
  ]),
  ...of('interactions/mailed-link/index.ts', RESETS, [
    ['resets: a link for one person', 'link?.accountId !== id || link.purpose', 'link?.purpose'],
    ['resets: three links', 'limit: 3, seconds: LINK_SECONDS', 'limit: 30, seconds: LINK_SECONDS'],
    ['resets: one letter a chain', 'if (kept !== mine) return undefined', ''],
  ]),
  ...of('adapters/sqlite/passwords.ts', CONTRACT, [
    ['resets: a link is used once', "if (found['used_at'] !== null)", "if (found['used_at'] === 'never')"],
    ['resets: a link is of its epoch', ' AND l.epoch = a.security_epoch', ''],
    ['resets: a link for enrolment alone', "AND l.purpose = 'enrolment' ", ''],
    ['resets: a link for enrolment sets no password', " AND l.purpose IN ('reset', 'welcome')", ''],
    ['resets: of something that is open', ' AND a.reset_open = 1', ''],
  ]),
  {
    name: 'resets: a right ends with its epoch',
    file: 'interactions/decision.ts',
    find: 'outcome.linkedFor.securityEpoch === known.securityEpoch &&',
    replace: '',
    test: RESETS,
  },
  {
    name: 'account: so many forms an hour',
    file: 'server/account/own.ts',
    find: 'limit: 120,',
    replace: 'limit: 12_000,',
    test: 'test/e2e/account.test.ts',
  },
  {
    name: 'letters: no words of a stranger',
    file: 'interactions/kit/browser.ts',
    find: 'PRODUCT.exec(userAgent)?.[0]',
    replace: 'userAgent',
    test: 'test/server/mail.test.ts',
  },
  factors('resets: an activation closes them', 'reset_open = 0, reset_held_by', 'reset_held_by', CONTRACT),
  ...(
    [
      ['addresses: a link is its account’s', ' || link.accountId !== account.id', '', 'addresses'],
      ['addresses: a link expires', 'link.expiresAt <= now || link.epoch', 'link.epoch', 'addresses'],
      ['addresses: a link is of one epoch', ' || link.epoch !== account.securityEpoch', '', 'addresses'],
      ['addresses: what came before ends with it', 'await claimEpoch(parts, visit)', '', 'addresses'],
      [
        'addresses: one change at a time',
        'if (undo && undo.expiresAt > now &&',
        'if (undo && undo.expiresAt < 0 &&',
        'addresses',
      ],
      ['addresses: none of a company sign-in', 'if (await isElsewhere(parts.house, email))', 'if (false)', 'addresses'],
      [
        'addresses: a company’s own',
        '!user?.hasPassword || (await isElsewhere(house, account.email))',
        '!user',
        'addresses',
      ],
      [
        'addresses: nobody learns who has one',
        'owner\n    ? letterWithLink',
        'owner && !account\n    ? letterWithLink',
        'addresses',
      ],
      ['addresses: three letters an hour', 'rule: ADDRESS }', 'rule: PERSON }', 'addresses'],
      ['the switch is locked', 'sallyport.choicesOf(account).lockedBy.length > 0) {', 'false) {', 'second-step'],
      [
        'a factor that is needed stays',
        '!sallyport.choicesOf(account).removable.includes(method)',
        'false',
        'second-step',
      ],
      [
        'a removal ends other sessions',
        'const sessions = await goOnAlone(parts, visit)',
        'const sessions = 0',
        'second-step',
      ],
    ] as const
  ).map(
    ([name, find, replace, page]): Mutation => ({
      name: `account: ${name}`,
      file: `server/account/${page}.ts`,
      find,
      replace,
      test: `test/e2e/account-${page}.test.ts`,
    }),
  ),
  ...(
    [
      ['undo: of its days', "if (link.expiresAt <= now()) return say('link_expired')", '', 'account-addresses'],
      ['undo: by its own kind of link', "link?.purpose !== 'email_undo' || ", '!link || ', 'account-addresses'],
      ['undo: nothing of somebody else stays', 'recovers: true, ', '', 'account-addresses'],
      ['undo: once', 'recovers: true, undo,', 'recovers: true,', 'account-addresses'],
      ['not me: the epoch rises', 'await database.directory.raiseEpoch(accountId)', '', 'not-you'],
      ['not me: once', 'await database.pending.replace({', 'void ({', 'not-you'],
      [
        'not me: one of our forms',
        'checkForm(ctx, new URL(config.SALLYPORT_ISSUER).origin, secret, csrf)',
        '',
        'not-you',
      ],
    ] as const
  ).map(
    ([name, find, replace, test]): Mutation => ({
      name,
      file: 'server/account/not-you.ts',
      find,
      replace,
      test: `test/e2e/${test}.test.ts`,
    }),
  ),
  {
    name: 'not me: the link is ours',
    file: 'interactions/kit/not-me.ts',
    find: 'given.length !== expected.length || !timingSafeEqual(given, expected)',
    replace: 'given.length > expected.length',
    test: 'test/e2e/not-you.test.ts',
  },
  {
    name: 'not me: the link has its time',
    file: 'interactions/kit/not-me.ts',
    find: 'now < at + NOT_ME_SECONDS',
    replace: 'now > 0',
    test: 'test/e2e/not-you.test.ts',
  },
  {
    name: 'letters: to every proven address',
    file: 'interactions/kit/letters.ts',
    find: 'new Set([email, noticeEmail])',
    replace: 'new Set([email])',
    test: 'test/e2e/account-addresses.test.ts',
  },
  {
    name: 'links: a new password leaves the way back',
    file: 'interactions/kit/stores.ts',
    find: "[...SETS_PASSWORD, 'enrolment', ...PROVING]",
    replace: "[...SETS_PASSWORD, 'enrolment', 'email_undo', ...PROVING]",
    test: CONTRACT,
  },
  {
    name: 'factors: with the last one goes the recovery code',
    file: 'adapters/sqlite/directory.ts',
    find: 'DELETE FROM recovery_codes WHERE account_id = ?1 AND NOT EXISTS',
    replace: 'DELETE FROM recovery_codes WHERE account_id = ?1 AND 0 AND NOT EXISTS',
    test: CONTRACT,
  },
  {
    name: 'factors: removed of one version',
    file: 'adapters/sqlite/directory.ts',
    find: 'WHERE id = ? AND factor_version = ? AND security_epoch = ?\n            AND EXISTS',
    replace: 'WHERE id = ? AND factor_version >= ? AND security_epoch = ?\n            AND EXISTS',
    test: CONTRACT,
  },
]
