/**
 * What is in the database: one mongoose schema per collection.
 *
 * Every promise of uniqueness is kept by `_id`, because that is the one index a sharded collection keeps unique
 * (docs/scale.md). Texts whose inside belongs to somebody else, such as payloads of oidc-provider and client metadata,
 * are kept as JSON text: their keys are chosen outside (client ids with dots, `$` names), and what is never a field name
 * can never be an operator or a path.
 */
import { type Connection, type Model, Schema } from 'mongoose'
import type {
  Channel,
  CompanyRules,
  LinkPurpose,
  MailedLink,
  MembershipRole,
  Connection as SamlConnection,
  ServerRole,
  Side,
  TraceShelf,
} from '../../interactions/kit/stores.ts'
import type { SigningKey } from '../../server/stores.ts'

/** Written by the directory: `commit` numbers the commit that wrote it last; `removed` leaves only that for a day. */
interface Filed {
  _id: string
  commit: number
  removed?: Date
}

/** A person: one document, so that what happens to them at once is one write. */
export interface AccountDocument extends Filed {
  email: string
  noticeEmail?: string
  name?: string
  passwordHash?: string
  /** Newest first. */
  formerPasswords?: string[]
  mailedLinks?: Partial<Record<LinkPurpose, MailedLink>>
  disabled: boolean
  serverRoles: ServerRole[]
  memberships: { company: string; roles: MembershipRole[]; disabled: boolean }[]
  alwaysRequire2fa: boolean
  securityEpoch: number
  factorVersion: number
  createdAt: number
  totp?: { secret: string; lastStep: number; addedAt: number }
  phone?: { number: string; addedAt: number; usedAt: number }
  recoveryCode?: {
    id: string
    replaces?: string
    hash?: string
    acknowledged: boolean
    reservedBy?: string
    reservedUntil?: number
    reservations: number
  }
  factorReset?: { at: number; open?: true; heldBy?: string; heldUntil?: number }
  /** Messages of the last writes of this document, until they are in the outbox. */
  messages?: WrittenMessage[]
}

/** A message as it is written beside what it tells. Plain JSON. */
export interface WrittenMessage {
  id: string
  channel: Channel
  kind: string
  account: string
  /** Sealed; until it has left. */
  body?: string
  createdAt: number
  firstDue: number
  /** The next try; none when it has left, or nobody tries any longer. */
  dueAt?: number
  usableUntil: number
  tries: number
  sentAt?: number
  error?: string
}

/** Whose an e-mail address is. `_id` is the address: two people cannot have one. */
export interface AddressDocument extends Filed {
  account: string
}

export interface CompanyDocument extends Filed {
  name: string
  side: Side
  domains: string[]
  disabled: boolean
  mfa?: { enforced_from: string; zone: string; sso?: 'challenge' | undefined }
  help?: string
  rules?: CompanyRules
}

export interface ClientDocument extends Filed {
  /** JSON. */
  metadata: string
  /** Sealed. */
  secret?: string
}

export interface ResourceDocument extends Filed {
  name: string
  scopes: string[]
  /** Its other keys, JSON. */
  options: string
}

export interface ConnectionDocument extends Filed {
  company: string
  client?: string
  state: SamlConnection['state']
  domains: string[]
  /** All else that a change writes, JSON. */
  settings: string
  /** Our key pairs, sealed. */
  keys: string
  testedAt?: number
}

/** The directory's commits: how many there were, and the steps of the last one until all of them are made. */
export interface JournalDocument {
  _id: 'directory'
  commit: number
  /** JSON. */
  steps?: string
  /** How often somebody began to make them. */
  tries?: number
}

export interface ArtifactDocument {
  /** `<model>:<key>` */
  _id: string
  model: string
  key: string
  /** JSON. */
  payload: string
  expiresAt?: number
  /** When the server may delete it. */
  expires?: Date
  uid?: string
  grantId?: string
  accountId?: string
  userCode?: string
  consumedAt?: number
  /** Sessions: raised by every write; the next one must have read it. */
  version?: number
  /** A session that ended: known for an hour, so that it does not come back. */
  destroyed?: boolean
}

export interface ThrottleDocument {
  _id: string
  count: number
  since: number
  blockedUntil: number
  disabled: boolean
  /** Names the window or streak that the count belongs to. */
  run: string
  /** New with every write; the next one must have read it. */
  version: string
  keptUntil?: number
  expires?: Date
}

export interface DeviceDocument {
  /** JSON of device and account. */
  _id: string
  account: string
  lastUsed: number
  expires: Date
}

export interface PendingDocument {
  /** JSON of owner and purpose. */
  _id: string
  owner: string
  purpose: string
  /** Sealed. */
  value: string
  expiresAt: number
  expires: Date
}

export interface FederationRequestDocument {
  /** The handle. */
  _id: string
  id: string
  connectionId: string
  interaction: string
  createdAt: number
  expiresAt: number
  forceAuthn: boolean
  authnContexts: string[]
  answered: boolean
  /** Sealed; until somebody takes them. */
  facts?: string
  expires: Date
}

export interface UsedAssertionDocument {
  /** JSON of issuer and assertion id: no assertion is used twice. */
  _id: string
  /** The request that it was used for. */
  handle: string
  expires: Date
}

export interface TraceDocument {
  /** The reference. */
  _id: string
  connectionId: string
  at: number
  shelf: TraceShelf
  /** Sealed. */
  said: string
  /** Milliseconds, with what is below them: the order within a second. */
  keptAt?: number
  expiresAt: number
  expires: Date
}

export interface LinkDocument {
  /** JSON of what it claims: an account's place at an identity provider, or a name there (links.ts). */
  _id: string
  /** It is the name, which leads to the account. */
  leads: boolean
  account: string
  company: string
  issuer: string
  format: string
  name: string
  since: number
}

export interface OutboxDocument extends Omit<WrittenMessage, 'id'> {
  _id: string
  expires: Date
}

export interface ConsentDocument {
  /** JSON of account and client. */
  _id: string
  account: string
  client: string
  permissions: string[]
  since: number
}

/** All keys in one document: adding one and retiring the one before is one write. */
export interface SigningKeysDocument {
  _id: 'tokens'
  version: number
  keys: SigningKey[]
}

export interface AuditDocument {
  /** `<writer>:<number>`, the number with leading zeros: sorted, each chain stands in order. */
  _id: string
  writer: string
  number: number
  event: string
  accountId?: string
  at: number
  /** Microseconds since 1970 by the writer's clock; grows with every row of a process. */
  arrived: number
  body: string
  previous: string
  hash: string
}

/** Which version of these schemas the database was brought to. */
export interface MetaDocument {
  _id: 'schema'
  version: number
  /** There while another database is being copied into this one: whose copy, of what, how far (JSON). */
  copy?: { owner: string; source: string; progress?: string }
}

const all = <T extends string>(names: Record<T, true>): T[] => Object.keys(names) as T[]
const SIDES = all<Side>({ payor: true, payee: true, both: true, none: true })
const SERVER_ROLES = all<ServerRole>({ operator: true, support: true, auditor: true })
const MEMBERSHIP_ROLES = all<MembershipRole>({
  payments_admin: true,
  disburser: true,
  beneficiary_approver: true,
  disbursement_contributor: true,
  company_admin: true,
  directory_admin: true,
})

export const LINK_PURPOSES = all<LinkPurpose>({
  enrolment: true,
  reset: true,
  welcome: true,
  email: true,
  notice: true,
  email_undo: true,
})

const text = { type: String, required: true } as const
const optionalText = { type: String } as const
const yesOrNo = { type: Boolean, required: true } as const
const whole = { validator: Number.isSafeInteger, message: '{PATH} must be a whole number' }
const count = { type: Number, required: true, min: 0, validate: whole } as const
const optionalCount = { type: Number, min: 0, validate: whole } as const
const list = (names?: string[]) => ({
  type: [names ? { type: String, enum: names } : { type: String, minlength: 1 }],
  required: true,
  default: undefined,
})

/** Nothing that is not listed is stored: `throw` names it. No `__v`, no defaults of mongoose's own. */
const OPTIONS = { strict: 'throw', versionKey: false, id: false, minimize: false } as const
const inner = (definition: object) => new Schema(definition, { ...OPTIONS, _id: false })

/** The server deletes when the date has come. */
const atItsDate = { expireAfterSeconds: 0 }
/** What was removed is known for a day: no late writer of an older commit brings it back. */
const aDayLater = { expireAfterSeconds: 24 * 60 * 60 }

const filed = (definition: object) => {
  const schema = new Schema(
    { _id: text, commit: { ...count, min: 1 }, removed: { type: Date }, ...definition },
    { ...OPTIONS },
  )
  return schema.index({ removed: 1 }, aDayLater)
}
const plain = (definition: object) => new Schema({ _id: text, ...definition }, { ...OPTIONS })

const MAILED_LINK = { hash: text, email: text, epoch: count, expiresAt: count, usedAt: optionalCount }
const MESSAGE = {
  channel: { ...text, enum: all<Channel>({ mail: true, sms: true }) },
  kind: text,
  account: text,
  body: optionalText,
  createdAt: count,
  firstDue: count,
  dueAt: optionalCount,
  usableUntil: count,
  tries: count,
  sentAt: optionalCount,
  error: optionalText,
}

/** Name of the collection → its schema. */
const SCHEMAS = {
  accounts: filed({
    email: text,
    noticeEmail: optionalText,
    name: optionalText,
    passwordHash: optionalText,
    formerPasswords: { type: [text], default: undefined },
    mailedLinks: {
      type: inner(Object.fromEntries(LINK_PURPOSES.map((purpose) => [purpose, { type: inner(MAILED_LINK) }]))),
    },
    disabled: yesOrNo,
    serverRoles: list(SERVER_ROLES),
    memberships: {
      type: [inner({ company: text, roles: list(MEMBERSHIP_ROLES), disabled: yesOrNo })],
      required: true,
      default: undefined,
    },
    alwaysRequire2fa: yesOrNo,
    securityEpoch: count,
    factorVersion: count,
    createdAt: count,
    totp: { type: inner({ secret: text, lastStep: count, addedAt: count }) },
    phone: { type: inner({ number: text, addedAt: count, usedAt: count }) },
    recoveryCode: {
      type: inner({
        id: text,
        replaces: optionalText,
        hash: optionalText,
        acknowledged: yesOrNo,
        reservedBy: optionalText,
        reservedUntil: optionalCount,
        reservations: count,
      }),
    },
    factorReset: {
      type: inner({ at: count, open: { type: Boolean }, heldBy: optionalText, heldUntil: optionalCount }),
    },
    messages: { type: [inner({ id: text, ...MESSAGE })], default: undefined },
  })
    .index({ 'messages.id': 1 }, { sparse: true })
    .index({ 'mailedLinks.reset.hash': 1 }, { sparse: true })
    .index({ 'mailedLinks.welcome.hash': 1 }, { sparse: true })
    .index({ 'mailedLinks.email.hash': 1 }, { sparse: true })
    .index({ 'mailedLinks.notice.hash': 1 }, { sparse: true })
    .index({ 'mailedLinks.email_undo.hash': 1 }, { sparse: true })
    .index({ 'mailedLinks.enrolment.hash': 1 }, { sparse: true })
    .index({ email: 1 })
    .index({ 'memberships.company': 1 }),
  addresses: filed({ account: text }),
  companies: filed({
    name: text,
    side: { ...text, enum: SIDES },
    domains: list(),
    disabled: yesOrNo,
    mfa: { type: inner({ enforced_from: text, zone: text, sso: { ...optionalText, enum: ['challenge'] } }) },
    help: optionalText,
    rules: {
      type: inner({
        lockout: { type: Boolean },
        idle_minutes: optionalCount,
        password_resets: optionalText,
        sms_countries: { type: [String], default: undefined },
      }),
    },
  }),
  clients: filed({ metadata: text, secret: optionalText }),
  resources: filed({ name: text, scopes: list(), options: text }),
  connections: filed({
    company: text,
    client: optionalText,
    state: {
      ...text,
      enum: all<SamlConnection['state']>({ draft: true, testing: true, active: true, disabled: true }),
    },
    domains: list(),
    settings: text,
    keys: text,
    testedAt: optionalCount,
  }).index({ domains: 1 }),
  journal: plain({ commit: count, steps: optionalText, tries: optionalCount }),

  artifacts: plain({
    model: text,
    key: text,
    payload: text,
    expiresAt: { type: Number },
    expires: { type: Date },
    uid: optionalText,
    grantId: optionalText,
    accountId: optionalText,
    userCode: optionalText,
    consumedAt: { type: Number },
    version: optionalCount,
    destroyed: { type: Boolean },
  })
    .index({ expires: 1 }, atItsDate)
    .index({ uid: 1 }, { sparse: true })
    .index({ grantId: 1 }, { sparse: true })
    .index({ accountId: 1 }, { sparse: true })
    .index({ userCode: 1 }, { sparse: true })
    .index({ model: 1 }), // a new data key re-seals two models
  throttles: plain({
    count,
    since: count,
    blockedUntil: count,
    disabled: yesOrNo,
    run: text,
    version: text,
    keptUntil: optionalCount,
    expires: { type: Date },
  }).index({ expires: 1 }, atItsDate),
  devices: plain({ account: text, lastUsed: count, expires: { type: Date, required: true } })
    .index({ expires: 1 }, atItsDate)
    .index({ account: 1 }),
  pending: plain({
    owner: text,
    purpose: text,
    value: text,
    expiresAt: count,
    expires: { type: Date, required: true },
  }).index({ expires: 1 }, atItsDate),

  federation_requests: plain({
    id: text,
    connectionId: text,
    interaction: text,
    createdAt: count,
    expiresAt: count,
    forceAuthn: yesOrNo,
    authnContexts: list(),
    answered: yesOrNo,
    facts: optionalText,
    expires: { type: Date, required: true },
  }).index({ expires: 1 }, atItsDate),
  used_assertions: plain({ handle: text, expires: { type: Date, required: true } }).index({ expires: 1 }, atItsDate),
  federation_traces: plain({
    connectionId: text,
    at: count,
    shelf: { ...text, enum: all<TraceShelf>({ accepted: true, refused: true, unsigned: true }) },
    said: text,
    keptAt: { type: Number, min: 0 },
    expiresAt: count,
    expires: { type: Date, required: true },
  })
    .index({ expires: 1 }, atItsDate)
    .index({ connectionId: 1, shelf: 1, at: -1 }),

  links: plain({
    leads: yesOrNo,
    account: text,
    company: text,
    issuer: text,
    format: text,
    name: text,
    since: count,
  }).index({ account: 1 }),
  consents: plain({ account: text, client: text, permissions: list(), since: count })
    .index({ account: 1 })
    .index({ client: 1 }),

  outbox: plain({ ...MESSAGE, expires: { type: Date, required: true } })
    .index({ expires: 1 }, atItsDate)
    .index({ channel: 1, dueAt: 1 })
    .index({ account: 1 })
    .index({ createdAt: 1 }),

  signing_keys: plain({
    version: count,
    keys: {
      type: [
        inner({
          kid: text,
          privateJwk: text,
          createdAt: count,
          state: { ...text, enum: all<SigningKey['state']>({ next: true, active: true, retired: true }) },
          activatesAt: optionalCount,
          retiredAt: optionalCount,
        }),
      ],
      required: true,
      default: undefined,
    },
  }),
  audit: plain({
    writer: text,
    number: { ...count, min: 1 },
    event: text,
    accountId: optionalText,
    at: { type: Number, required: true },
    arrived: count,
    body: text,
    previous: text,
    hash: text,
  })
    .index({ arrived: -1, _id: -1 })
    .index({ accountId: 1, arrived: -1 })
    .index({ event: 1, arrived: -1 }),
  meta: plain({
    version: count,
    copy: { type: inner({ owner: text, source: text, progress: optionalText }) },
  }),
}

/** The collections of one connection. */
export interface Collections {
  accounts: Model<AccountDocument>
  addresses: Model<AddressDocument>
  companies: Model<CompanyDocument>
  clients: Model<ClientDocument>
  resources: Model<ResourceDocument>
  connections: Model<ConnectionDocument>
  journal: Model<JournalDocument>
  artifacts: Model<ArtifactDocument>
  throttles: Model<ThrottleDocument>
  devices: Model<DeviceDocument>
  pending: Model<PendingDocument>
  federation_requests: Model<FederationRequestDocument>
  used_assertions: Model<UsedAssertionDocument>
  federation_traces: Model<TraceDocument>
  links: Model<LinkDocument>
  consents: Model<ConsentDocument>
  outbox: Model<OutboxDocument>
  signing_keys: Model<SigningKeysDocument>
  audit: Model<AuditDocument>
  meta: Model<MetaDocument>
}

/** Names of the collections. */
export const COLLECTIONS = Object.keys(SCHEMAS) as (keyof Collections)[]

/** Models over a connection, each under the name of its collection. */
export function collectionsOf(connection: Connection): Collections {
  const models = COLLECTIONS.map((name) => [name, connection.model(name, SCHEMAS[name], name)])
  // The schemas are those of the documents above; mongoose cannot infer that through these helpers.
  return Object.fromEntries(models) as unknown as Collections
}
