import { Command } from 'commander'
import { answer, configFor, Refused } from './house.ts'

/** `serve`: runs the server until it is told to stop. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('run the server')
    .addHelpText(
      'after',
      '\nSIGTERM stops it. SIGHUP makes it read the signing keys at once, not within a minute.\n\nExample:\n  SALLYPORT_ISSUER=https://id.example SALLYPORT_KEYS=/etc/sallyport/keys.json sallyport serve',
    )
    .action(async (_options: unknown, self: Command) => {
      const { startServer } = await import('../app.ts')
      const { openHouse } = await import('../open.ts')
      const config = await configFor(self)
      const house = await openHouse(config, { createKeys: true })
      const running = await startServer(house).catch(async (error: NodeJS.ErrnoException) => {
        await house.close()
        if (error.code === 'EADDRINUSE')
          throw new Refused(
            `${config.HOST}:${config.PORT} is taken: set PORT to another one, or stop what listens there`,
          )
        if (error.code === 'EADDRNOTAVAIL' || error.code === 'EACCES')
          throw new Refused(
            `cannot listen on ${config.HOST}:${config.PORT}: set HOST and PORT to an address of this machine`,
          )
        throw error
      })
      answer(self, { url: running.url, issuer: config.SALLYPORT_ISSUER }, [
        `listening on ${running.url}, issuer ${config.SALLYPORT_ISSUER}`,
      ])
      process.on('SIGHUP', () => {
        running
          .reload()
          .catch((error: Error) => house.logger.error({ error: error.message }, 'the signing keys could not be read'))
      })
      await stopped()
      await running.close()
    })
}

/** `doctor`: looks for what is wrong and says what to do. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('check configuration, keys, database, clients and the running server')
    .action(async (_options: unknown, self: Command) => {
      const { diagnose } = await import('../doctor.ts')
      const { environment } = await import('../config.ts')
      const findings = await diagnose(environment(), process.cwd(), self.optsWithGlobals<{ config?: string }>().config)
      answer(
        self,
        findings,
        findings.map(({ status, name, message }) => `${status.padEnd(4)}  ${name}: ${message}`),
      )
      if (findings.some(({ status }) => status === 'fail')) process.exitCode = 1
    })
}

/** `demo`: a server with sample people and a relying party, or the whole flow played by itself. */
export function demoCommand(): Command {
  return new Command('demo')
    .option('--auto', 'play the main flow over HTTP and print the ID token')
    .description('a server with sample people and a relying party to try')
    .action(async ({ auto }: { auto?: boolean }) => {
      const { demo } = await import('../demo/index.ts')
      process.exitCode = await demo({ auto: auto ?? false })
    })
}

const stopped = () =>
  new Promise<void>((resolve) => {
    process.once('SIGTERM', () => resolve())
    process.once('SIGINT', () => resolve())
  })
