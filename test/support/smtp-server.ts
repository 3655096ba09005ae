/** A real SMTP server in a process of its own. Tells its parent of every letter; `gone@…` it refuses for good, `later@…` for now; the letter to `quoted@…` too, with its first link. */
import { SMTPServer } from 'smtp-server'

const refused = (message: string, responseCode: number) => Object.assign(new Error(message), { responseCode })

const server = new SMTPServer({
  authOptional: true,
  disabledCommands: ['STARTTLS'],
  onRcptTo({ address }, _session, answer) {
    if (address.startsWith('gone@')) return answer(refused('no such mailbox', 550))
    if (address.startsWith('later@')) return answer(refused('try again', 451))
    return answer()
  },
  onData(stream, session, answer) {
    const parts: Buffer[] = []
    stream.on('data', (part: Buffer) => parts.push(part))
    stream.on('end', () => {
      const to = session.envelope.rcptTo.map(({ address }) => address)
      const [link] = /https?:\S+/.exec(Buffer.concat(parts).toString('utf8').replace(/=\r\n/g, '')) ?? []
      if (to.some((one) => one.startsWith('quoted@'))) return answer(refused(`blocked: ${link}`, 554))
      process.send!({ to, source: Buffer.concat(parts).toString('utf8') })
      answer()
    })
  },
})
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  process.send!({ port: (server.server.address() as { port: number }).port })
})
