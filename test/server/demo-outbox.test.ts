/** The demo's page of messages: whoever reads it has every code, so it is for one browser on this machine. */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { startOutboxPage } from '../../server/demo/outbox.ts'
import { sallyportOf } from '../../server/provider.ts'
import { openTestHouse, type TestHouse } from '../support/house.ts'

describe('the demo’s messages', () => {
  let test: TestHouse
  let page: Awaited<ReturnType<typeof startOutboxPage>>
  before(async () => {
    test = await openTestHouse()
    page = await startOutboxPage({ port: 0, database: test.database, letters: sallyportOf(test.house).letters })
  })
  after(async () => {
    await page?.close()
    await test?.close()
  })

  const ask = async (host: string, method = 'GET', path = '/') => {
    const { port } = new URL(page.url)
    const sent = request({ host: '127.0.0.1', port, method, path, headers: { host } })
    const answer = await new Promise<import('node:http').IncomingMessage>((resolve, reject) =>
      sent.on('response', resolve).on('error', reject).end(),
    )
    return { status: answer.statusCode, headers: answer.headers, body: await text(answer) }
  }
  const put = async (kind: string, channel: 'mail' | 'sms', body: object) => {
    const now = Math.floor(Date.now() / 1000)
    const times = { createdAt: now - 1, dueAt: now - 1, expiresAt: now + 60 }
    await test.database.outbox.put([
      { id: `${Math.random()}`, channel, kind, accountId: 'ana', body: JSON.stringify(body), ...times },
    ])
  }

  it('is read under its own address only: a name that points here reads nothing (DNS rebinding)', async () => {
    await put('sms_code', 'sms', { to: '+12025550123', text: '123456 is your code' })
    const { host, port } = new URL(page.url)
    assert.match((await ask(host)).body, /123456/)
    for (const other of ['evil.example', `evil.example:${port}`, `127.0.0.1.evil.example:${port}`, '127.0.0.1'])
      for (const answer of [await ask(other), await ask(other, 'HEAD')]) {
        assert.equal(answer.status, 403, other)
        assert.doesNotMatch(answer.body, /123456/)
      }
  })

  it('does nothing that a form could ask for, and is read by no page of another port', async () => {
    const { host } = new URL(page.url)
    for (const [method, path] of [
      ['POST', '/'],
      ['DELETE', '/'],
      ['GET', '/?callback=x'],
      ['GET', '//evil.example'],
    ] as const)
      assert.equal((await ask(host, method, path)).status, 404, `${method} ${path}`)
    const { headers } = await ask(host)
    assert.equal(headers['access-control-allow-origin'], undefined)
    assert.equal(headers['cross-origin-resource-policy'], 'same-origin')
  })

  it('shows what letters say as text, whoever wrote it; no script runs whatever it is', async () => {
    const nasty = `"><script>alert(1)</script><img src=x onerror=alert(1)> javascript:alert(1) https://a.example/"onmouseover='x`
    await put('sms_code', 'sms', { to: nasty, text: nasty })
    const vars = { company: nasty, zone: nasty }
    await put('mfa_deadline', 'mail', { to: nasty, lang: 'en', link: 'javascript:alert(1)', day: '2027-01-31', vars })
    const { body, headers } = await ask(new URL(page.url).host)
    assert.doesNotMatch(body, /<script|<img|href="javascript|onmouseover='/)
    assert.match(String(headers['content-security-policy']), /^default-src 'none'; style-src 'sha256-/)
  })
})
