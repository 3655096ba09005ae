/** `serve --workers`: how it starts and how it ends. What people see of it: test/faults/workers.test.ts. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { openSqlite } from '../../adapters/sqlite/index.ts'
import { KeyRing } from '../../interactions/index.ts'
import { readKeyRing } from '../../server/key-ring-file.ts'
import { begin, command, type Done, ended } from '../support/command.ts'
import { freePort } from '../support/free-port.ts'
import { temporaryFolder } from '../support/temporary.ts'

describe('serve --workers', function () {
  this.timeout(60_000)
  const begun: ChildProcess[] = []
  after(() => {
    for (const child of begun) child.kill('SIGKILL')
  })

  /** Starts it and waits for its line. */
  async function serve(cwd: string, port: number, args: string[]) {
    const child = begin(cwd, ['serve', ...args], { PORT: String(port) })
    begun.push(child)
    const done = ended(child)
    let said = ''
    child.stdout!.on('data', (chunk) => {
      said += chunk
    })
    while (!said.includes('\n') || (args.includes('--json') && !said.includes('}'))) {
      if (child.exitCode !== null) throw new Error((await done).stderr)
      await setTimeout(20)
    }
    return { child, done, said, url: `http://127.0.0.1:${port}` }
  }

  /** The processes that it has started. */
  const workersOf = ({ pid }: ChildProcess) =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
  const lives = (pid: number) => {
    try {
      process.kill(pid, 0)
      return true
    } catch {
      return false
    }
  }
  const gone = async (pids: number[]) => {
    for (let waited = 0; pids.some(lives) && waited < 10_000; waited += 50) await setTimeout(50)
    assert.deepEqual(pids.filter(lives), [])
  }

  it('makes one key ring and one signing key on an empty folder, says one line, ends with 0 on SIGTERM', async () => {
    const cwd = temporaryFolder()
    const port = await freePort()
    const { child, done, said, url } = await serve(cwd, port, ['--workers', '3', '--json'])
    assert.deepEqual(JSON.parse(said), { url, issuer: url, workers: 3 })
    assert.equal((await fetch(`${url}/readyz`)).status, 200)

    const { ring } = readKeyRing(join(cwd, 'data', 'keys.json'))!
    assert.equal(ring.keys.length, 1)
    const database = await openSqlite({ file: join(cwd, 'data', 'sallyport.sqlite'), sealer: new KeyRing(ring) })
    assert.equal((await database.signingKeys.signingKeys()).length, 1)
    await database.close()
    // Each connection may reach another worker: all publish the same keys.
    const kids = new Set<string>()
    for (let number = 0; number < 9; number++)
      kids.add(await (await fetch(`${url}/jwks`, { headers: { connection: 'close' } })).text())
    assert.equal(kids.size, 1)

    child.kill('SIGTERM')
    const { code, stdout, complaint } = await done
    assert.equal(code, 0)
    assert.equal(stdout, said)
    assert.equal(complaint, '')
  })

  it('says one line and starts nobody when the configuration is wrong, the address taken, the number none', async () => {
    const cwd = temporaryFolder()
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const taken = String((other.address() as { port: number }).port)
    const none = (done: Done, exit: number, says: RegExp) => {
      assert.equal(done.code, exit, done.stderr)
      assert.match(done.complaint || done.stderr, says)
      assert.equal(done.complaint.split('\n').length, 1)
      assert.equal(done.stdout, '')
    }
    const two = ['serve', '--workers', '2']
    none(await command(cwd, two, { SALLYPORT_HASH_QUEUE: 'many' }), 2, /^sallyport: SALLYPORT_HASH_QUEUE: /)
    none(await command(cwd, two, { NODE_ENV: 'production' }), 2, /^sallyport: SALLYPORT_KEYS: /)
    none(await command(cwd, two, { PORT: taken }), 1, /^sallyport: 127\.0\.0\.1:\d+ is taken: set PORT/)
    for (const number of ['0', 'many', '1000'])
      none(await command(cwd, ['serve', '--workers', number]), 2, /--workers.*It is a number from 1 to 999, or auto/)
    other.close()
  })

  it('answers what is under way when it is told to stop', async () => {
    const port = await freePort()
    const { child, done, url } = await serve(temporaryFolder(), port, ['--workers', '2'])
    const { connect } = await import('node:net')
    const socket = connect(port, '127.0.0.1').setEncoding('utf8')
    let answered = ''
    socket.on('data', (chunk) => {
      answered += chunk
    })
    const body = 'grant_type=client_credentials'
    socket.write(
      `POST /token HTTP/1.1\r\nHost: ${new URL(url).host}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ${body.length}\r\n\r\n`,
    )
    await setTimeout(300)
    child.kill('SIGTERM')
    await setTimeout(300)
    await assert.rejects(fetch(`${url}/healthz`), 'nothing new')
    socket.write(body)
    assert.equal((await done).code, 0)
    assert.match(answered, /^HTTP\/1\.1 400 /)
    assert.match(answered, /invalid_request/)
  })

  it('replaces a worker that was killed', async () => {
    const { child, done, url } = await serve(temporaryFolder(), await freePort(), ['--workers', '2'])
    const [first] = workersOf(child)
    process.kill(first!, 'SIGKILL')
    for (let waited = 0; waited < 20_000; waited += 100) {
      const now = workersOf(child)
      if (now.length === 2 && !now.includes(first!)) break
      await setTimeout(100)
    }
    assert.equal(workersOf(child).length, 2)
    assert.equal((await fetch(`${url}/readyz`)).status, 200)
    child.kill('SIGTERM')
    const { code, stderr } = await done
    assert.equal(code, 0)
    assert.match(stderr, new RegExp(`"worker":${first},"how":"was ended by SIGKILL"`))
  })

  it('gives up with 1 and a line that says why when workers cannot live', async () => {
    const cwd = temporaryFolder()
    const { child, done } = await serve(cwd, await freePort(), ['--workers', '2'])
    const workers = workersOf(child)
    // Those that come find another key ring than the one that the database was made with.
    const path = join(cwd, 'data', 'keys.json')
    const ring = readFileSync(path, 'utf8')
    rmSync(path)
    writeFileSync(path, '{}')
    process.kill(workers[0]!, 'SIGKILL')
    const { code, complaint } = await done
    assert.equal(code, 1)
    assert.match(
      complaint,
      /^sallyport: workers end as soon as they have started, 6 in a row: SALLYPORT_KEYS: .*keys\.json/,
    )
    assert.equal(complaint.split('\n').length, 1)
    await gone(workers)
    writeFileSync(path, ring)
  })

  it('leaves nobody behind when it is killed itself', async () => {
    const { child, done } = await serve(temporaryFolder(), await freePort(), ['--workers', '2'])
    const workers = workersOf(child)
    assert.equal(workers.length, 2)
    child.kill('SIGKILL')
    await gone(workers)
    assert.equal((await done).code, null)
  })

  it('stops once on Ctrl-C, which reaches everybody', async () => {
    const { child, done } = await serve(temporaryFolder(), await freePort(), ['--workers', '2'])
    for (const pid of [...workersOf(child), child.pid!]) process.kill(pid, 'SIGINT')
    const { code, complaint } = await done
    assert.equal(code, 0)
    assert.equal(complaint, '')
  })
})
