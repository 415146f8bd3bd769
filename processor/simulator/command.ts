import { writeFile } from 'node:fs/promises'
import { Command, CommanderError, Option } from 'commander'
import { drawSvg } from '../../infra/plot/svg.ts'
import { describeError, exitCodeOf } from '../cli/errors.ts'
import { count, index, positive, share } from '../cli/options.ts'
import type { Terminal } from '../cli/progress.ts'
import type { BatchOptions } from './batch-load.ts'
import { simulationChart } from './chart.ts'
import { type CostTable, capacityOf, presets, readDeviceCosts, timesFaster } from './device-costs.ts'
import { SimulationInputError } from './errors.ts'
import { type FleetOptions, fleetDefaults, fleetOf } from './fleet-options.ts'
import { type LoadOptions, loadOf } from './load-options.ts'
import { duration, durationText, stragglers } from './option-values.ts'
import { parsePolicies, policySyntax } from './policies.ts'
import { simulate } from './simulate.ts'
import { summaryTable } from './summary-table.ts'

/** Environment of the command. */
export interface SimulateEnvironment extends Terminal {
  /** Measures the configured model on this machine's device. */
  measure(rounds: number, onProgress: (message: string) => void): Promise<CostTable>
}

/** Command-line options by the fields that they set. */
type OptionsOf<T> = { readonly [Field in keyof T]-?: Option }

const option = <T>(flags: string, description: string, parse: (text: string) => T, value?: T) =>
  new Option(flags, description).argParser(parse).default(value)

/** Option whose default the help shows as it would be typed. */
const time = (flag: string, description: string, ms?: number) =>
  new Option(`${flag} <time>`, description)
    .argParser(duration)
    .default(ms, ms === undefined ? undefined : durationText(ms))

const loadOptions: OptionsOf<LoadOptions> = {
  trace: new Option('--trace <kind>', 'burst | diurnal | steady, or a file of arrivals').default('burst'),
  perSecond: option('--rate <n>', 'lowest requests per second (default: fits the fleet)', positive),
  factor: option('--factor <n>', 'peak rate over the lowest rate', positive, 10),
  burstAtMs: time('--burst-at', 'start of the burst', 60_000),
  burstMs: time('--burst', 'length of the burst', 20_000),
  durationMs: time(
    '--duration',
    'length of the trace (default: burst 3m, diurnal 1h for the day, steady 5m)',
  ),
  seed: option('--seed <n>', 'random seed; the same seed gives the same result', index, 1),
}

const fleetOptions = {
  replicas: option('--gpus <n>', 'processors with one device each, 1 to 1000', count, fleetDefaults.replicas),
  minReplicas: option('--min <n>', 'minimum processors when autoscaling (default: --gpus)', index),
  maxReplicas: option('--max <n>', 'maximum processors when autoscaling (default: 4 times --gpus)', count),
  partitions: option('--partitions <n>', 'topic partitions (default: 4 per processor of --max)', count),
  sloMs: time('--slo', 'latency target of interactive requests', fleetDefaults.sloMs),
  startMs: time('--start', 'start-up time of a processor', fleetDefaults.startMs),
  mtbfMs: time('--mtbf', 'mean time between failures of a processor (default: no failures)'),
  jitter: option('--jitter <n>', 'standard deviation of run times, as a share', share, fleetDefaults.jitter),
  queueLimit: option('--queue-limit <n>', 'queue limit of a processor', count, fleetDefaults.queueLimit),
  scrapeMs: time('--scrape', 'scrape interval of the metrics', fleetDefaults.scrapeMs),
  scaleDownWindowMs: time(
    '--scale-down-window',
    'stabilization window of the autoscaler',
    fleetDefaults.scaleDownWindowMs,
  ),
  cooldownMs: time('--cooldown', 'idle time before scaling to 0, with --min 0', fleetDefaults.cooldownMs),
} satisfies Partial<OptionsOf<FleetOptions>>

const batchOptions: OptionsOf<BatchOptions> = {
  lines: option('--batch-lines <n>', 'lines of a batch that runs beside the requests', count),
  windowMs: time('--window', 'completion window of the batch', 7_200_000),
  at: time('--batch-at', 'submission of the batch', 0),
  maxPrune: option('--batch-max-prune <share>', 'highest share of image tokens to merge', share, 1),
}

/** Options that are read by their own names. */
interface Flags {
  policy: string
  stragglers?: Pick<FleetOptions, 'stragglers' | 'stragglerFactor'>
  costs: string
  speed: number
  decoders?: number
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

Runs the processors' own scheduling code on a virtual clock: a day takes seconds. A file of arrivals is CSV with a header
line (at_ms, and optionally deadline_ms, max_prune, lane), or JSON lines with the same fields. Arrivals of the batch lane
keep the devices busy; the table counts interactive requests only.

Policies: full never prunes, level:N always prunes at level N, adaptive prunes by load and scales out,
adaptive-fixed-fleet only prunes, autoscale-full only scales out, all compares them all.
`

/**
 * Runs `npm run simulate` with these arguments. Failures are one line on standard error.
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage
 */
export async function runSimulate(args: string[], environment: SimulateEnvironment): Promise<number> {
  try {
    const command = createCommand(environment).parse(args, { from: 'user' })
    await (command.opts<Flags>().measure ? measure : compare)(command, environment)
    return 0
  } catch (error) {
    if (!(error instanceof CommanderError)) environment.stderr.write(`simulate: ${describeError(error)}\n`)
    return error instanceof SimulationInputError ? 2 : exitCodeOf(error)
  }
}

function createCommand({ stdout, stderr }: SimulateEnvironment): Command {
  const command = new Command('npm run simulate --')
    .description('Simulate a fleet of processors under load and compare scaling policies.')
    .option('--policy <list>', policySyntax, 'all')
    .option('--svg <file>', 'chart of arrivals, latency, level and replicas over time', 'simulation.svg')
    .option('--no-svg', 'do not draw the chart')
    .option('--json', 'print the reports as JSON, time series included')
    .helpOption('-h, --help', 'print this help')
    .addHelpText('after', help)
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      outputError: (text) => stderr.write(`simulate: ${text.replace(/^error: /, '')}`),
    })
  const add = (title: string, options: Record<string, Option>) => {
    command.optionsGroup(title)
    for (const each of Object.values(options)) command.addOption(each)
  }
  add('Load:', loadOptions)
  add('Batch:', batchOptions)
  add('Fleet:', fleetOptions)
  return command
    .option('--stragglers <share>x<factor>', 'slow processors, e.g. 0.05x3 (default: none)', stragglers)
    .optionsGroup('Costs:')
    .option('--costs <table>', `cost table: ${Object.keys(presets).join(', ')}, or a file`, 'starter-cpu')
    .option('--speed <n>', 'speed of the device over that of the cost table', positive, 1)
    .option('--decoders <n>', 'images decoded in parallel (default: as measured)', count)
    .option('--measure', "measure this machine's device and write a cost table")
    .option('--rounds <n>', 'measurements of each cell with --measure', count, 5)
    .option('--out <file>', 'output file of --measure (default: standard output)')
}

/** Reads the values of options into the fields that they set. */
const valuesOf = <T>(command: Command, options: { readonly [Field in keyof T]: Option }) =>
  Object.fromEntries(
    Object.entries<Option>(options).map(([field, each]) => [
      field,
      command.getOptionValue(each.attributeName()),
    ]),
  ) as T

async function measure(command: Command, { stdout, stderr, measure }: SimulateEnvironment): Promise<void> {
  const { rounds, out } = command.opts<Flags>()
  const table = await measure(rounds, (message) => stderr.write(`${message}\n`))
  const text = `${JSON.stringify(table, undefined, 1)}\n`
  if (out === undefined) stdout.write(text)
  else await writeFile(out, text)
}

async function compare(command: Command, { stdout, stderr }: SimulateEnvironment): Promise<void> {
  const { policy, speed, decoders, json, svg, ...flags } = command.opts<Flags>()
  const measured = await readDeviceCosts(flags.costs)
  const costs = timesFaster({ ...measured, decoders: decoders ?? measured.decoders }, speed)
  const loadFlags = valuesOf<LoadOptions>(command, loadOptions)
  const fleet = { ...valuesOf<Partial<FleetOptions>>(command, fleetOptions), ...flags.stragglers }
  const { replicas, partitions, maxReplicas } = fleetOf(fleet)
  const policies = parsePolicies(policy, costs.levels)
  const { arrivals, durationMs, description } = await loadOf(loadFlags, { costs, replicas })
  const { full, pruned } = capacityOf(costs)
  stderr.write(
    `${description}\n${replicas} x ${costs.device}: ${full.toFixed(0)} images/s each, ${pruned.toFixed(0)} at the highest level; up to ${maxReplicas} replicas, ${partitions} partitions\n`,
  )
  const batchFlags = valuesOf<BatchOptions>(command, batchOptions)
  const batch = batchFlags.lines === undefined ? undefined : batchFlags
  const reports = policies.map((each) =>
    simulate({ arrivals, durationMs, costs, policy: each, fleet, batch, seed: loadFlags.seed }),
  )
  stdout.write(json ? `${JSON.stringify(reports)}\n` : summaryTable(reports))
  if (svg === false) return
  await writeFile(svg, await drawSvg(simulationChart(reports)))
  stderr.write(`chart: ${svg}\n`)
}
