import { writeFile } from 'node:fs/promises'
import { Command, CommanderError, Option } from 'commander'
import { drawSvg } from '../../infra/plot/svg.ts'
import { describeError, exitCodeOf } from '../cli/errors.ts'
import { count, index, share } from '../cli/options.ts'
import type { BatchOptions } from './batch-load.ts'
import { simulationChart } from './chart.ts'
import {
  type CostTable,
  capacityOf,
  type DeviceCosts,
  presets,
  readDeviceCosts,
  timesFaster,
} from './device-costs.ts'
import { SimulationInputError } from './errors.ts'
import { fleetDefaults, fleetOf } from './fleet-options.ts'
import { loadOf } from './load-options.ts'
import { duration, durationText, positive, type Stragglers, stragglers } from './option-values.ts'
import { parsePolicies, policySyntax } from './policies.ts'
import { simulate } from './simulate.ts'
import { summaryTable } from './summary-table.ts'

/** Environment of the command. */
export interface SimulateEnvironment {
  stdout: { write(text: string): unknown }
  stderr: { write(text: string): unknown }
  /** Measures the configured model on this machine's device. */
  measure(rounds: number, onProgress: (message: string) => void): Promise<CostTable>
}

interface Flags {
  trace: string
  rate?: number
  factor: number
  burstAt: number
  burst: number
  duration?: number
  gpus: number
  min?: number
  max?: number
  partitions?: number
  policy: string
  slo: number
  start: number
  mtbf?: number
  stragglers?: Stragglers
  jitter: number
  queueLimit: number
  scrape: number
  scaleDownWindow: number
  cooldown: number
  batchLines?: number
  window: number
  batchAt: number
  batchMaxPrune: number
  costs: string
  speed: number
  decoders?: number
  seed: number
  svg: string | false
  json?: boolean
  measure?: boolean
  rounds: number
  out?: string
}

const help = `
Examples:
  npm run simulate                                                  a tenfold burst of 20 s, all policies
  npm run simulate -- --trace diurnal --gpus 4 --max 40 --policy adaptive,autoscale-full
  npm run simulate -- --trace burst --burst 10m --duration 30m --gpus 10 --speed 12 --decoders 16
  npm run simulate -- --trace arrivals.csv --policy adaptive-fixed-fleet,full --json
  npm run simulate -- --trace steady --rate 40 --gpus 2 --batch-lines 100000 --window 30m
  npm run simulate -- --measure --out my-device.json && npm run simulate -- --costs my-device.json

The scheduling is that of the processors, the clock is not: a day takes seconds. A file of arrivals is CSV whose first
line names its columns (at_ms, and as needed deadline_ms, max_prune, lane), or such fields as a JSON object a line. Those
of the batch lane keep the devices busy; the table counts the interactive ones.

Policies: full never prunes, level:N always prunes alike, adaptive prunes as the load asks and adds replicas,
adaptive-fixed-fleet only prunes, autoscale-full only adds replicas. all compares them all.
`

/**
 * Runs `npm run simulate` with these arguments. Failures are one line on standard error.
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage
 */
export async function runSimulate(args: string[], environment: SimulateEnvironment): Promise<number> {
  try {
    const flags = createCommand(environment).parse(args, { from: 'user' }).opts<Flags>()
    await (flags.measure ? measure(flags, environment) : compare(flags, environment))
    return 0
  } catch (error) {
    if (!(error instanceof CommanderError)) environment.stderr.write(`simulate: ${describeError(error)}\n`)
    return error instanceof SimulationInputError ? 2 : exitCodeOf(error)
  }
}

function createCommand({ stdout, stderr }: SimulateEnvironment): Command {
  return new Command('npm run simulate --')
    .description('Play a load against a fleet of processors, and compare how it can be answered.')
    .option('--trace <kind>', 'burst | diurnal | steady, or a file of arrivals', 'burst')
    .option('--rate <n>', 'requests per second at the quietest (default: what suits the fleet)', positive)
    .option('--factor <n>', 'how many times as many come at the busiest', positive, 10)
    .addOption(time('--burst-at', 'when the burst begins', 60_000))
    .addOption(time('--burst', 'how long it lasts', 20_000))
    .option(
      '--duration <time>',
      'of the trace (default: burst 3m, diurnal 1h for the day, steady 5m)',
      duration,
    )
    .option('--gpus <n>', 'processors of one device each, 1 to 1000', count, fleetDefaults.replicas)
    .option('--min <n>', 'processors at least, where the fleet scales (default: --gpus)', index)
    .option('--max <n>', 'processors at most, where the fleet scales (default: 4 times --gpus)', count)
    .option('--partitions <n>', 'of the topic (default: 4 for each processor there may be)', count)
    .option('--policy <list>', policySyntax, 'all')
    .addOption(time('--slo', 'in which a request is to be answered', fleetDefaults.sloMs))
    .addOption(time('--start', 'until a new processor takes work', fleetDefaults.startMs))
    .option('--mtbf <time>', 'mean time between failures of a processor (default: it never fails)', duration)
    .option('--stragglers <share>x<factor>', 'slow processors, e.g. 0.05x3 (default: none)', stragglers)
    .option('--jitter <n>', 'standard deviation of run times, as a share', share, fleetDefaults.jitter)
    .option('--queue-limit <n>', 'requests that a processor holds at most', count, fleetDefaults.queueLimit)
    .addOption(time('--scrape', 'how often metrics are fetched', fleetDefaults.scrapeMs))
    .addOption(
      time('--scale-down-window', 'stabilization window of the autoscaler', fleetDefaults.scaleDownWindowMs),
    )
    .addOption(time('--cooldown', 'until the last processor goes, with --min 0', fleetDefaults.cooldownMs))
    .option('--batch-lines <n>', 'lines of a batch that runs beside the requests', count)
    .addOption(time('--window', 'in which the batch is to be done', 7_200_000))
    .addOption(time('--batch-at', 'when the batch comes', 0))
    .option('--batch-max-prune <share>', 'highest share of image tokens that may be merged', share, 1)
    .option(
      '--costs <table>',
      `what a processor takes: ${Object.keys(presets).join(', ')}, or a file`,
      'starter-cpu',
    )
    .option('--speed <n>', 'take a device that is this many times faster', positive, 1)
    .option('--decoders <n>', 'images that are decoded side by side (default: as measured)', count)
    .option('--seed <n>', 'the same seed gives the same result', index, 1)
    .option('--svg <file>', 'where to draw arrivals, latency, level and replicas over time', 'simulation.svg')
    .option('--no-svg', 'draw nothing')
    .option('--json', 'print the reports as JSON, with their curves over time')
    .option('--measure', "measure this machine's device and write a cost table")
    .option('--rounds <n>', 'how often --measure measures each cell', count, 5)
    .option('--out <file>', 'where --measure writes (default: standard output)')
    .helpOption('-h, --help', 'print this help')
    .addHelpText('after', help)
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      outputError: (text) => stderr.write(`simulate: ${text.replace(/^error: /, '')}`),
    })
}

/** Option whose default the help shows as it would be written. */
const time = (flag: string, description: string, ms: number) =>
  new Option(`${flag} <time>`, description).argParser(duration).default(ms, durationText(ms))

async function measure(
  { rounds, out }: Flags,
  { stdout, stderr, measure }: SimulateEnvironment,
): Promise<void> {
  const table = await measure(rounds, (message) => stderr.write(`${message}\n`))
  const text = `${JSON.stringify(table, undefined, 1)}\n`
  if (out === undefined) stdout.write(text)
  else await writeFile(out, text)
}

async function compare(flags: Flags, { stdout, stderr }: SimulateEnvironment): Promise<void> {
  const costs = await costsOf(flags)
  const fleet = fleetFlags(flags)
  const { partitions, maxReplicas } = fleetOf(fleet)
  const policies = parsePolicies(flags.policy, costs.levels)
  const load = await loadOf(loadFlags(flags), { costs, replicas: flags.gpus })
  const { full, pruned } = capacityOf(costs)
  stderr.write(
    `${load.description}\n${flags.gpus} x ${costs.device}: ${full.toFixed(0)} images/s each, ${pruned.toFixed(0)} pruned hardest; up to ${maxReplicas}, ${partitions} partitions\n`,
  )
  const { arrivals, durationMs } = load
  const batch = batchFlags(flags)
  const reports = policies.map((policy) =>
    simulate({ arrivals, durationMs, costs, policy, fleet, batch, seed: flags.seed }),
  )
  stdout.write(flags.json ? `${JSON.stringify(reports)}\n` : summaryTable(reports))
  if (flags.svg === false) return
  await writeFile(flags.svg, await drawSvg(simulationChart(reports)))
  stderr.write(`curves over time: ${flags.svg}\n`)
}

async function costsOf({ costs: name, speed, decoders }: Flags): Promise<DeviceCosts> {
  const measured = await readDeviceCosts(name)
  return timesFaster({ ...measured, decoders: decoders ?? measured.decoders }, speed)
}

const fleetFlags = (flags: Flags) => ({
  ...flags.stragglers,
  replicas: flags.gpus,
  minReplicas: flags.min,
  maxReplicas: flags.max,
  partitions: flags.partitions,
  sloMs: flags.slo,
  startMs: flags.start,
  mtbfMs: flags.mtbf,
  jitter: flags.jitter,
  queueLimit: flags.queueLimit,
  scrapeMs: flags.scrape,
  scaleDownWindowMs: flags.scaleDownWindow,
  cooldownMs: flags.cooldown,
})

const loadFlags = (flags: Flags) => ({
  trace: flags.trace,
  perSecond: flags.rate,
  factor: flags.factor,
  burstAtMs: flags.burstAt,
  burstMs: flags.burst,
  durationMs: flags.duration,
  seed: flags.seed,
})

function batchFlags({ batchLines, window, batchAt, batchMaxPrune }: Flags): BatchOptions | undefined {
  if (batchLines === undefined) return undefined
  return { lines: batchLines, windowMs: window, at: batchAt, maxPrune: batchMaxPrune }
}
