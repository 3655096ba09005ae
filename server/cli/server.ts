import cluster from 'node:cluster'
import { availableParallelism } from 'node:os'
import { Command, InvalidArgumentError } from 'commander'
import type { Config } from '../config.ts'
import { answer, configFor, Refused, told } from './house.ts'

/** `serve`: runs the server until it is told to stop. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('run the server')
    .option('--workers <number>', 'processes that answer; `auto`: one for each processor core', workersOf, 1)
    .addHelpText(
      'after',
      '\nSIGTERM stops it. SIGHUP makes it read the signing keys at once, not within a minute.\n\nExamples:\n  SALLYPORT_ISSUER=https://id.example SALLYPORT_KEYS=/etc/sallyport/keys.json sallyport serve\n  sallyport serve --workers auto',
    )
    .action(async ({ workers }: { workers: number }, self: Command) => {
      if (cluster.isWorker) return worker(self)
      await (workers > 1 ? serveByWorkers(self, workers) : serveAlone(self))
    })
}

async function serveAlone(self: Command): Promise<void> {
  const stop = stopped()
  const { running, config } = await listen(self)
  answer(self, { url: running.url, issuer: config.SALLYPORT_ISSUER }, [
    `listening on ${running.url}, issuer ${config.SALLYPORT_ISSUER}`,
  ])
  await stop
  await running.close()
}

/** Everything that can be wrong is found before a worker starts, and said once. */
async function serveByWorkers(self: Command, count: number): Promise<void> {
  const { openHouse } = await import('../open.ts')
  const { shareOf, startWorkers, tryAddress } = await import('../workers.ts')
  const stop = stopped()
  const config = await configFor(self)
  // Makes what a first start makes, and lets go of it: workers open it each for themselves.
  const house = await openHouse(config, { createKeys: true })
  await house.close()
  const { port, url } = await tryAddress(config).catch((error) => {
    throw cannotListen(config, error)
  })
  const workers = await startWorkers(count, shareOf(config, count, port), house.logger)
  process.on('SIGHUP', workers.reload)
  answer(self, { url, issuer: config.SALLYPORT_ISSUER, workers: count }, [
    `listening on ${url}, issuer ${config.SALLYPORT_ISSUER}, ${count} workers`,
  ])
  void stop.then(workers.stop)
  await workers.ended
}

async function worker(self: Command): Promise<void> {
  // A terminal sends it to everybody; what started us says when to stop.
  process.on('SIGINT', () => {})
  const stop = stopped(['SIGTERM'])
  try {
    const { running } = await listen(self)
    await stop
    await running.close()
    process.exit(0)
  } catch (error) {
    const { refuse } = await import('../workers.ts')
    refuse(told(error).text)
  }
}

/** Opens the house and listens. */
async function listen(self: Command) {
  const { startServer } = await import('../app.ts')
  const { openHouse } = await import('../open.ts')
  const config = await configFor(self)
  const house = await openHouse(config, { createKeys: true })
  const running = await startServer(house).catch(async (error) => {
    await house.close()
    throw cannotListen(config, error)
  })
  process.on('SIGHUP', () => {
    running
      .reload()
      .catch((error: Error) => house.logger.error({ error: error.message }, 'the signing keys could not be read'))
  })
  return { running, config }
}

function cannotListen({ HOST, PORT }: Config, error: NodeJS.ErrnoException): Error {
  if (error.code === 'EADDRINUSE')
    return new Refused(`${HOST}:${PORT} is taken: set PORT to another one, or stop what listens there`)
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'EACCES')
    return new Refused(`cannot listen on ${HOST}:${PORT}: set HOST and PORT to an address of this machine`)
  return error
}

function workersOf(text: string): number {
  if (text === 'auto') return availableParallelism()
  if (/^[1-9]\d{0,2}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It is a number from 1 to 999, or auto.')
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

const stopped = (signals: NodeJS.Signals[] = ['SIGTERM', 'SIGINT']) =>
  new Promise<void>((resolve) => {
    for (const signal of signals) process.once(signal, () => resolve())
  })
