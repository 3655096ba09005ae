/** Relying parties that nobody here wrote, each installed, configured as docs/clients.md says, and used in Chromium. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Runs the script to its end. @returns its last line */
async function run(script: string): Promise<string> {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const child = spawn('bash', [path], { stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk) => {
    out += chunk
  })
  child.stderr.on('data', (chunk) => {
    err += chunk
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  assert.equal(code, 0, `${script}: ${err.slice(-8000)}`)
  return out.trim().split('\n').at(-1)!
}

describe('relying parties', () => {
  it('mod_auth_openidc signs in with TOTP, sees the claims, steps up, and is signed out by both sides', async () => {
    assert.match(await run('mod-auth-openidc.sh'), /^mod_auth_openidc .*: signed in/)
  })

  it('oauth2-proxy signs in with TOTP, passes the claims on, and signs out of both', async () => {
    assert.match(await run('oauth2-proxy.sh'), /^oauth2-proxy .*: signed in/)
  })
})
