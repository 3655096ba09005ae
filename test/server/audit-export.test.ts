/** The audit in files: verified by another program, harmless in a spreadsheet, of any length. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openMongo } from '../../adapters/mongo/index.ts'
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing } from '../../interactions/index.ts'
import { cell } from '../../server/audit-export.ts'
import { migrateStore } from '../../server/database.ts'
import { createKeyRing, readKeyRing } from '../../server/key-ring-file.ts'
import type { Database } from '../../server/stores.ts'
import { command } from '../support/command.ts'
import { freshName, useMongo } from '../support/mongo.ts'
import { temporaryFolder } from '../support/temporary.ts'

const DAY = Date.parse('2027-01-31') / 1000

/** What a program that knows only docs/operations.md makes of a file. @returns how many rows it has verified */
function verified(file: string): number {
  const text = readFileSync(file, 'utf8')
  const rows = file.endsWith('.csv') ? ofCsv(text) : ofLines(text)
  const before = new Map<string, { number: number; hash: string }>()
  for (const { writer = '', number, previous = '', hash = '', body = '' } of rows) {
    const last = before.get(writer) ?? { number: 0, hash: '0'.repeat(64) }
    assert.equal(Number(number), last.number + 1, 'a row is missing')
    assert.equal(previous, last.hash, 'not the row before')
    assert.equal(createHash('sha256').update(`${previous}\n${body}`).digest('hex'), hash, 'changed')
    before.set(writer, { number: Number(number), hash })
  }
  return rows.length
}

const ofLines = (text: string) =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, string>)

function ofCsv(text: string): Record<string, string>[] {
  const [head = ''] = text.split('\r\n', 1)
  const names = head.split(',')
  const cells = [...text.slice(head.length + 2).matchAll(/"((?:[^"]|"")*)"(?:,|\r\n)/g)].map(([, value]) => value!)
  return Array.from({ length: cells.length / names.length }, (_, row) => {
    const one = Object.fromEntries(names.map((name, column) => [name, cells[row * names.length + column]!]))
    return { ...one, body: Buffer.from(one['body_base64url']!, 'base64url').toString() }
  })
}

for (const store of ['SQLite', 'MongoDB'])
  describe(`audit export, ${store}`, function () {
    this.timeout(60_000)
    const server = store === 'MongoDB' ? useMongo(this) : undefined
    const folder = temporaryFolder()
    let env: Record<string, string>
    let ring: KeyRing
    const open = async (): Promise<Database> => {
      if (!server) return openSqlite({ file: join(folder, 'data', 'sallyport.sqlite'), sealer: ring })
      return openMongo({ url: env['SALLYPORT_STORE']!, sealer: ring })
    }
    const run = (...args: string[]) => command(folder, ['audit', ...args], env)

    before(async () => {
      createKeyRing(join(folder, 'data', 'keys.json'))
      ring = new KeyRing(readKeyRing(join(folder, 'data', 'keys.json'))!.ring)
      const url = server?.().url(freshName())
      env = url === undefined ? {} : { SALLYPORT_STORE: url }
      if (url !== undefined) await migrateStore({ kind: 'mongodb', name: 'test', url: () => url })
      // Two chains, more rows than one page has, and what a stranger would write into them.
      for (const [index, userAgent] of [
        '=1+1',
        "x;=cmd|' /C calc'!A0;\"\n@SUM(A1)",
        '+49 1',
        '-2',
        '\t=1',
        'ü, "x"\u2028',
      ].entries()) {
        const database = await open()
        if (index === 0) {
          const value = { id: 'ana', email: 'ana@acme.example', disabled: false, memberships: [], serverRoles: [] }
          await database.directory.commit([{ kind: 'user', op: 'put', value }])
        }
        const at = DAY - 3600 + index * 1200
        const row = {
          event: 'login.password',
          outcome: 'failure' as const,
          at,
          userAgent,
          ...(index % 2 && { accountId: 'ana' }),
        }
        await database.audit.append({ ...row, reasons: ['=x', 'y'], details: { '=a': '=b' } })
        await Promise.all(Array.from({ length: 400 }, () => database.audit.append({ ...row, userAgent: undefined })))
        await database.close()
      }
    })

    for (const format of ['ndjson', 'csv'])
      it(`as ${format}: another program verifies every chain`, async () => {
        const file = join(folder, `all.${format}`)
        const done = await run('export', '--format', format, '--output', file, '--json')
        assert.equal(done.code, 0, done.stderr)
        assert.deepEqual(done.json(), { output: file, format, rows: 2406 })
        assert.equal(statSync(file).mode & 0o777, 0o600)
        assert.equal(verified(file), 2406)
        const text = readFileSync(file, 'utf8')
        writeFileSync(file, text.replace(`${text.split('\n')[700]!}\n`, ''))
        assert.throws(() => verified(file), /a row is missing/)
      })

    it('oldest first, and of one person and time only', async () => {
      const rows = async (...args: string[]) => {
        const done = await run('export', ...args)
        assert.equal(done.code, 0, done.stderr)
        return done.stdout
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line) as { time: string; email?: string })
      }
      const all = (await rows()).map(({ time }) => time)
      assert.deepEqual(all, [...all].sort())
      const hers = await rows('--user', 'ana@acme.example')
      assert.deepEqual([hers.length, new Set(hers.map(({ email }) => email)).size], [1203, 1])
      assert.equal((await rows('--from', '2027-01-30T23:20:00Z', '--to', '2027-01-30T23:40:00Z')).length, 401)
    })

    it('writes no cell that a spreadsheet calculates', async () => {
      const { stdout } = await run('export', '--format', 'csv')
      for (const line of stdout.split('\r\n').slice(1)) {
        assert.doesNotMatch(line, /(^|[,;\t\n|])["'\s]*(?<!'["\s]*)[=+@]/, line)
        assert.doesNotMatch(line, /(^|,)"-/)
      }
      assert.match(stdout, /"'=1\+1"/)
    })

    it('lists since a time', async () => {
      const done = await run('list', '--since', '2027-01-31', '--event', 'login.password', '--limit', '9999', '--json')
      assert.equal((done.json() as []).length, 3 * 401)
    })

    it('refuses a file that is there, a place where none can be, and times that are none', async () => {
      writeFileSync(join(folder, 'there'), 'mine')
      const cases: [args: string[], code: number, says: RegExp][] = [
        [['--output', join(folder, 'there')], 1, /there already/],
        [['--output', join(folder, 'no', 'where')], 1, /cannot write/],
        [['--user', 'nobody@x.example'], 1, /there is no user/],
        [['--from', '2027-02-01', '--to', '2027-01-01'], 1, /before --to/],
        [['--from', 'yesterday'], 2, /must be a date/],
        [['--format', 'xml'], 2, /ndjson, csv/],
      ]
      for (const [args, code, says] of cases) {
        const done = await run('export', ...args)
        assert.equal(done.code, code, done.stderr)
        assert.match(done.stderr, says)
        assert.equal(done.stdout, '')
      }
      assert.equal(readFileSync(join(folder, 'there'), 'utf8'), 'mine')
      assert.equal(existsSync(join(folder, 'no')), false)
    })
  })

describe('a cell of the audit export', () => {
  for (const [value, expected] of [
    ['plain, "quoted"', '"plain, ""quoted"""'],
    [undefined, '""'],
    ['=1', `"'=1"`],
    ['＝1', `"'＝1"`],
    ['  =1', `"'  =1"`],
    ['"=1', `"'""=1"`],
    ['\t=1', `"'\t'=1"`],
    ['a;=1', `"a;'=1"`],
    ['a\n+1', `"a\n'+1"`],
    ['a=b', '"a=b"'],
    ['1-2', '"1-2"'],
  ] as const)
    it(`holds ${JSON.stringify(value)} as text`, () => assert.equal(cell(value), expected))
})
