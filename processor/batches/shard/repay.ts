import pLimit from 'p-limit'
import { maxBodyBytes, type Pruning } from '../../../edge/contract/caption.ts'
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

/** What came of the pruned lines of a shard. */
export interface Repaid {
  /** Of the results that are in the store now. */
  tally: ShardTally
  /** Lines that were captioned again here. */
  lines: number
  /** Pruned lines that are still to be tried. */
  pending: number
}

/** Captions the pruned lines of a shard again; undefined when it is too late for it, or the batch is to stop. */
export type ShardRepayer = (job: RepayJob, signal: AbortSignal) => Promise<Repaid | undefined>

export type ShardRepayerOptions = Pick<
  ShardRunnerOptions,
  'store' | 'buckets' | 'captioner' | 'images' | 'now' | 'sleep'
>

/** Without a caption for so long the devices have other work, ms. */
const busyMs = 10_000
const lookMs = 1_000
/** Time in which the results are written, ms. */
const writeMs = 5_000

type Outcome = { repaid: OutputResult } | 'kept' | 'pending'

/**
 * Captions the pruned lines of shards again, at full quality, on devices that have nothing else to do, and stops when
 * they get other work. The results take the place of those that were read, unless somebody else has changed them; all
 * other lines, and those whose image cannot be had any more, stay byte for byte.
 *
 * @throws MissingSliceError when the manifest is gone; StoreUnavailableError, and what else makes a shard come again
 */
export function createShardRepayer(options: ShardRepayerOptions): ShardRepayer {
  const { store, captioner, now, sleep: wait = sleep } = options
  const { tenantOf, isCancelled } = createLookUps(options)
  const devices = new IdleDevices(captioner)
  const fetches = captioner.concurrency
  const imageBytes = fetches * maxBodyBytes
  const runLine = createLineRunner({ ...options, captioner: devices, tenantOf, fetches, imageBytes })
  const inTurn = pLimit(fetches)

  async function repayLine(line: ManifestLine, job: RepayJob, run: LineRun): Promise<Outcome> {
    run.signal.throwIfAborted()
    if (await isCancelled(job)) return 'pending'
    const outcome = await runLine(line, job, run)
    return outcome && 'captioned' in outcome ? { repaid: readOutputLine(outcome.text) } : 'kept'
  }

  /** Runs the lines until all are done, the devices get other work, or the time is up. */
  async function repayLines(lines: ManifestLine[], job: RepayJob, signal: AbortSignal): Promise<Outcome[]> {
    const stopping = new AbortController()
    const over = new AbortController()
    const watching = stopWhenBusy(stopping, over.signal, job.repay.until - writeMs)
    const run: LineRun = {
      signal: AbortSignal.any([signal, stopping.signal]),
      expiry: over.signal,
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
      await wait(lookMs, over)
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
    // Somebody else was first. What is still to be done is seen from what is there now.
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

/** The devices have other work. */
class DevicesBusyError extends BaseError {
  override readonly retriable = true
}

const devicesBusy = () => new DevicesBusyError('The devices have other work.')

/** The devices of a captioner as far as they have nothing else to do: at full quality, after everything that waits. */
class IdleDevices implements Pick<Captioner, 'caption' | 'concurrency'> {
  readonly concurrency: number
  /** Images that wait for a device, or are on one. */
  waiting = 0
  /** Images captioned since the start. */
  served = 0
  readonly #captioner: Pick<Captioner, 'caption'>

  constructor(captioner: Pick<Captioner, 'caption' | 'concurrency'>) {
    this.#captioner = captioner
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

/** A line of an output file, as far as its pruning goes. */
interface OutputResult {
  /** The line itself, without its end. */
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

/** Lines of a shard's object, without their ends; byte for byte what was encoded. */
function splitLines(bytes: Uint8Array): string[] {
  const lines = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes).split('\n')
  lines.pop()
  return lines
}

/** What came of a shard with these output lines. */
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
    inputTokens: sum(({ tokens_in }) => tokens_in),
    outputTokens: sum(({ output_tokens }) => output_tokens),
    pruned: sum(({ prune_level }) => (prune_level > 0 ? 1 : 0)),
    repaid: sum(({ repaid }) => (repaid ? 1 : 0)),
  }
}
