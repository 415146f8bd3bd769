import pLimit from 'p-limit'
import { maxBodyBytes, type Pruning, promptTokens } from '../../../edge/contract/caption.ts'
import { TurbineError } from '../../../edge/contract/errors.ts'
import type { ManifestLine } from '../../../edge/contract/lines.ts'
import { encodeShard, type Repay, type ShardJob, type ShardTally } from '../../../edge/contract/shard.ts'
import { BaseError } from '../../../infra/errors.ts'
import type { SliceStores } from '../../../infra/store/slices.ts'
import { sleep } from '../../../infra/timing.ts'
import type { Captioned, Captioner, CaptionTask } from '../../pipeline/captioner.ts'
import { createLineRunner, type LineRun } from './line.ts'
import { resultIds } from './result-lines.ts'
import { findShardParts, type ShardParts, writeShard } from './results.ts'
import { createLookUps, linesOf, type ShardRunnerOptions, settled } from './runner.ts'

export type RepayJob = ShardJob & { repay: Repay }

/** Result of captioning a shard's pruned lines again. */
export interface Repaid {
  /** Of the results in the store now. */
  tally: ShardTally
  /** Lines captioned again here. */
  lines: number
  /** Pruned lines still to be tried. */
  pending: number
}

/** Captions the pruned lines of a shard again; undefined after its deadline, or when the batch is cancelled. */
export type ShardRepayer = (job: RepayJob, signal: AbortSignal) => Promise<Repaid | undefined>

export type ShardRepayerOptions = Pick<
  ShardRunnerOptions,
  'store' | 'buckets' | 'ownBucket' | 'captioner' | 'images' | 'imageLimits' | 'now' | 'sleep'
>

/** Time without a caption after which the devices count as busy, ms. */
const busyMs = 10_000
const pollMs = 1_000
/** Time reserved for writing the results, ms. */
const writeMs = 5_000

type Outcome = { repaid: OutputResult } | 'kept' | 'pending'

/**
 * Creates a runner that captions pruned lines of shards again, at full quality, on idle devices, and stops when they
 * get other work. Results are replaced by compare-and-swap; other lines, and those whose image is gone, stay byte for
 * byte.
 *
 * @throws MissingSliceError when the manifest is gone; StoreUnavailableError, and any error for which a shard is retried
 */
export function createShardRepayer(options: ShardRepayerOptions): ShardRepayer {
  const { store, captioner, now, sleep: wait = sleep } = options
  const { isCancelled, ...lookUps } = createLookUps(options)
  const devices = new IdleDevices(captioner)
  const fetches = captioner.concurrency
  const imageBytes = fetches * maxBodyBytes
  const runLine = createLineRunner({ ...options, ...lookUps, captioner: devices, fetches, imageBytes })
  const inTurn = pLimit(fetches)

  async function repayLine(line: ManifestLine, job: RepayJob, run: LineRun): Promise<Outcome> {
    run.signal.throwIfAborted()
    if (await isCancelled(job)) return 'pending'
    const outcome = await runLine(line, job, run)
    return outcome && 'captioned' in outcome ? { repaid: readOutputLine(outcome.text) } : 'kept'
  }

  /** Runs the lines until all are done, the devices are busy, or time is up. */
  async function repayLines(lines: ManifestLine[], job: RepayJob, signal: AbortSignal): Promise<Outcome[]> {
    const stopping = new AbortController()
    const over = new AbortController()
    const watching = stopWhenBusy(stopping, over.signal, job.repay.until - writeMs)
    const running = AbortSignal.any([signal, stopping.signal])
    const run: LineRun = {
      signal: running,
      fetching: AbortSignal.any([running, over.signal]),
      priority: 0,
    }
    const repay = async (line: ManifestLine): Promise<Outcome> => {
      try {
        return await repayLine(line, job, run)
      } catch (error) {
        stopping.abort(error)
        if (signal.aborted || !(stopping.signal.reason instanceof DevicesBusyError)) throw error
        return 'pending'
      }
    }
    try {
      return await settled(lines.map((line) => inTurn(() => repay(line))))
    } finally {
      over.abort()
      await watching
    }
  }

  async function stopWhenBusy(stopping: AbortController, over: AbortSignal, until: number): Promise<void> {
    let { served } = devices
    let servedAt = now()
    while (!over.aborted) {
      if (devices.waiting === 0 || devices.served !== served) servedAt = now()
      served = devices.served
      if (now() >= until || now() - servedAt >= busyMs) return stopping.abort(devicesBusy())
      await wait(pollMs, over)
    }
  }

  return async (job, signal) => {
    const { until } = job.repay
    const stored = now() < until ? await findShardParts(store, job, job.shard) : undefined
    if (!stored) return undefined
    const results = splitLines(stored.output).map(readOutputLine)
    const lines = await prunedLines(results, job, options)
    const outcomes = await repayLines(lines, job, signal)
    const pending = outcomes.filter((outcome) => outcome === 'pending').length
    const repaid = outcomes.flatMap((outcome) => (typeof outcome === 'object' ? outcome.repaid : []))
    if (repaid.length === 0) return { tally: stored.tally, lines: 0, pending }
    if (now() >= until || (await isCancelled(job))) return undefined
    const written = replaced(stored, results, repaid)
    const tally = await writeShard(store, job, written, stored)
    if (tally === written.tally) return { tally, lines: repaid.length, pending }
    // Another writer was first; its results show the pending lines.
    return { tally, lines: 0, pending: tally.pruned ?? 0 }
  }
}

/** The lines of the manifest whose results are pruned. */
async function prunedLines(
  results: OutputResult[],
  job: ShardJob,
  stores: SliceStores,
): Promise<ManifestLine[]> {
  const pruned = results.filter(({ pruning }) => pruning.prune_level > 0)
  if (pruned.length === 0) return []
  const ids = new Set(pruned.map(({ id }) => id))
  return (await linesOf(job, stores)).filter(({ number }) => ids.has(resultIds(job.batch, number).id))
}

/** The shard with some of its results in place of the earlier ones. */
function replaced(stored: ShardParts, before: OutputResult[], repaid: OutputResult[]) {
  const byId = new Map(repaid.map((result) => [result.id, result]))
  const results = before.map((result) => byId.get(result.id) ?? result)
  const tally = tallyOutput(results, stored.tally)
  const texts = results.map(({ text }) => text)
  return { tally, object: encodeShard(tally, texts, splitLines(stored.errors)) }
}

class DevicesBusyError extends BaseError {
  override readonly retriable = true
}

const devicesBusy = () => new DevicesBusyError('The devices have other work.')

/** Captioner on idle devices: at full quality, after all waiting work. */
class IdleDevices implements Pick<Captioner, 'caption' | 'concurrency' | 'byDefault'> {
  readonly concurrency: number
  readonly byDefault: Captioner['byDefault']
  /** Images that wait for a device, or are on one. */
  waiting = 0
  /** Images captioned since the start. */
  served = 0
  readonly #captioner: Pick<Captioner, 'caption'>

  constructor(captioner: Pick<Captioner, 'caption' | 'concurrency' | 'byDefault'>) {
    this.#captioner = captioner
    this.byDefault = captioner.byDefault
    this.concurrency = captioner.concurrency
  }

  /** @throws DevicesBusyError when there is no room to wait in; what `Captioner.caption` throws */
  async caption(task: CaptionTask): Promise<Captioned> {
    this.waiting++
    try {
      const captioned = await this.#captioner.caption({ ...task, deadline: undefined, level: 0, idle: true })
      this.served++
      return captioned
    } catch (error) {
      if (error instanceof TurbineError && error.code === 'queue_full') throw devicesBusy()
      throw error
    } finally {
      this.waiting--
    }
  }
}

/** Line of an output file, with its pruning. */
interface OutputResult {
  text: string
  /** `batch_req_...` */
  id: string
  pruning: Pruning
}

interface StoredLine {
  id: string
  response: { body: { turbine: Pruning } }
}

/** Reads a line that `outputLine` made. */
function readOutputLine(text: string): OutputResult {
  const { id, response }: StoredLine = JSON.parse(text)
  return { text, id, pruning: response.body.turbine }
}

/** Splits lines of a shard's object, without line ends; byte for byte. */
function splitLines(bytes: Uint8Array): string[] {
  const lines = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes).split('\n')
  lines.pop()
  return lines
}

/** Tally of a shard with these output lines. */
function tallyOutput(
  results: readonly OutputResult[],
  { failed, dropped }: Pick<ShardTally, 'failed' | 'dropped'>,
): ShardTally {
  const sum = (value: (pruning: Pruning) => number) =>
    results.reduce((total, { pruning }) => total + value(pruning), 0)
  return {
    completed: results.length,
    failed,
    dropped,
    pruneRatioSum: sum(({ prune_ratio }) => prune_ratio),
    inputTokens: sum(promptTokens),
    outputTokens: sum(({ output_tokens }) => output_tokens),
    pruned: sum(({ prune_level }) => (prune_level > 0 ? 1 : 0)),
    repaid: sum(({ repaid }) => (repaid ? 1 : 0)),
  }
}
