/** From rounds to a table. */
import type { Operation } from './operations.ts'

/** One server at one operation for one round. */
export interface Round {
  answers: number
  seconds: number
  cpuMs: number
  /** Milliseconds, one per answer. */
  latencies: number[]
}

/** An operation's figures for one server: medians over the rounds. */
export interface Figures {
  perSecond: number
  cpuMs: number
  p50: number
  p99: number
}

/** An operation, both servers, and how they compare. `bare` is there only when the other offers it. */
export interface Line {
  operation: string
  sallyport: Figures
  bare: Figures
  throughput: number
  cpu: number
  marks: { throughput: Mark; cpu: Mark; p99?: Mark }
}

/** How good it is: as hoped, as it has to be, or not. */
export type Mark = 'aim' | 'must' | 'miss'

/** Start and memory of the product. */
export interface Footprint {
  startMs: number
  rssMiB: number
  after1000MiB: number
  after10000MiB: number
}

export const median = (values: number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  return sorted.length % 2 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

const quantile = (sorted: number[], share: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!

export function figures(rounds: Round[]): Figures {
  const latencies = rounds.flatMap((round) => round.latencies).sort((a, b) => a - b)
  return {
    perSecond: median(rounds.map(({ answers, seconds }) => answers / seconds)),
    cpuMs: median(rounds.map(({ answers, cpuMs }) => cpuMs / answers)),
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
  }
}

export function compare(operation: Operation, sallyport: Figures, bare: Figures): Line {
  const throughput = sallyport.perSecond / bare.perSecond
  const cpu = sallyport.cpuMs / bare.cpuMs
  return {
    operation: operation.name,
    sallyport,
    bare,
    throughput,
    cpu,
    marks: {
      throughput: throughput >= operation.aim ? 'aim' : throughput >= operation.must ? 'must' : 'miss',
      cpu: cpu <= operation.cpu ? 'must' : 'miss',
      ...(operation.tokens && { p99: sallyport.p99 <= 25 ? ('must' as const) : ('miss' as const) }),
    },
  }
}

export function table(lines: Line[], operations: Operation[]): string {
  const head = [
    '',
    'sallyport/s',
    'bare/s',
    'ratio',
    'must',
    'aim',
    'CPU ms',
    'bare',
    'ratio',
    '≤',
    'p50 ms',
    'p99 ms',
    'bare p99',
  ]
  const rows = lines.map(({ operation, sallyport, bare, throughput, cpu, marks }) => {
    const { must, aim, cpu: limit } = operations.find(({ name }) => name === operation)!
    return [
      operation,
      sallyport.perSecond.toFixed(0),
      bare.perSecond.toFixed(0),
      `${throughput.toFixed(2)} ${SIGN[marks.throughput]}`,
      must.toFixed(2),
      aim.toFixed(2),
      sallyport.cpuMs.toFixed(2),
      bare.cpuMs.toFixed(2),
      `${cpu.toFixed(2)} ${SIGN[marks.cpu]}`,
      limit.toFixed(1),
      sallyport.p50.toFixed(1),
      `${sallyport.p99.toFixed(1)} ${marks.p99 ? SIGN[marks.p99] : ' '}`,
      bare.p99.toFixed(1),
    ]
  })
  const widths = head.map((cell, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length), cell.length))
  const line = (cells: string[]) =>
    cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  ')
  return [line(head), ...rows.map(line)].join('\n')
}

/** `★` as hoped, `✓` as it has to be, `✗` not. */
const SIGN: Record<Mark, string> = { aim: '★', must: '✓', miss: '✗' }

export function footprintLines({ startMs, rssMiB, after1000MiB, after10000MiB }: Footprint): string[] {
  const growth = after10000MiB - after1000MiB
  const mark = (good: boolean) => (good ? SIGN.must : SIGN.miss)
  return [
    `cold start to the first 200 on discovery  ${startMs.toFixed(0)} ms ${mark(startMs <= 1000)} (≤ 1000)`,
    `resident memory after start               ${rssMiB.toFixed(0)} MiB ${mark(rssMiB <= 130)} (≤ 130)`,
    `from 1,000 to 10,000 tokens               ${growth.toFixed(0)} MiB ${mark(growth <= 20)} (≤ 20), ${after1000MiB.toFixed(0)} → ${after10000MiB.toFixed(0)}`,
  ]
}
