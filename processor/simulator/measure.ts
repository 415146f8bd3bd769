import { readFile } from 'node:fs/promises'
import { availableParallelism, cpus } from 'node:os'
import type { Caption } from '../../edge/contract/caption.ts'
import type { Config } from '../../infra/config.ts'
import { bundledPictures } from '../../infra/starter-model/bundled.ts'
import { bucketsUpTo, measuredRow } from '../engine/batch.ts'
import { calibrate } from '../engine/calibrate.ts'
import { DevicePool } from '../engine/device-pool.ts'
import { resolveDevices } from '../engine/devices.ts'
import { graphOf, type Precision } from '../engine/precision.ts'
import { readPicture } from '../engine/read-picture.ts'
import type { CaptionModel } from '../models/model.ts'
import { openConfigured, precisionOf } from '../pipeline/open.ts'
import type { CostSample } from '../scheduling/cost-model.ts'
import type { CostTable } from './device-costs.ts'

export interface MeasureOptions {
  /** Model, device and largest batch. */
  config: Config
  /** Starts a service with this configuration, to measure the overhead of a request. */
  startService(): Promise<{ url: string; close(): Promise<void> }>
  /** Measurements of each cell. */
  rounds: number
  onProgress?(message: string): void
}

/** Sequential requests, so that none waits for another. */
const loneRequests = 40

/**
 * Measures the costs of a processor with one device: a run at every batch size and level, decoding, and the overhead of a
 * single request. Values are lower quartiles, since other load only slows a run down.
 */
export async function measureDevice(options: MeasureOptions): Promise<CostTable> {
  const { config, onProgress } = options
  const { devices } = await resolveDevices(config.device)
  const target = devices[0]!
  const model = await openConfigured(config, target)
  const buckets = bucketsUpTo(config.maxBatch)
  const { precision } = await precisionOf(config, model, target)
  onProgress?.(`${model.id} on ${target.name}, ${precision}, batches of ${buckets.join(', ')}`)
  const decoding = await measureDecoding(model)
  const samples = await measureRuns(options, { model, target, buckets, precision })
  const overhead = await measureOverhead(options, decoding)
  const cores = availableParallelism()
  return {
    device: `${model.id} on ${target.name} (${cores} x ${cpus()[0]?.model.trim()}), ${precision}`,
    buckets,
    levels: model.levels.map(({ pruneRatio, flopShare, quality }, level) => ({
      pruneRatio: rounded(pruneRatio, 4),
      relativeCost: rounded(flopShare, 4),
      exact: quality?.exact,
      ms: buckets.map((bucket) => rounded(timeOf(samples, { bucket, level }))),
    })),
    decodeMs: rounded(decoding),
    decoders: target.provider === 'cpu' ? Math.max(1, cores >> 1) : cores,
    ...overhead,
  }
}

interface RunsOptions {
  model: CaptionModel
  target: Awaited<ReturnType<typeof resolveDevices>>['devices'][number]
  buckets: number[]
  precision: Precision
}

async function measureRuns(
  { config, rounds, onProgress }: MeasureOptions,
  { model, target, buckets, precision }: RunsOptions,
): Promise<CostSample[]> {
  const intraOpThreads = config.intraOpThreads || undefined
  const pool = await DevicePool.start({
    model,
    devices: [target],
    buckets,
    intraOpThreads,
    graph: graphOf(precision),
  })
  try {
    const row = await measuredRow(
      model,
      await readPicture(await readFile(bundledPictures[0]!), model.picture),
    )
    const samples: CostSample[] = []
    for (let round = 1; round <= rounds; round++) {
      const budgetMs = Number.POSITIVE_INFINITY
      samples.push(...(await calibrate(pool.devices[0]!, { model, buckets, row, budgetMs })))
      onProgress?.(`runs: round ${round} of ${rounds}`)
    }
    return samples
  } finally {
    await pool.close()
  }
}

/** Decoding of one image, ms, over the bundled pictures. */
async function measureDecoding({ picture }: CaptionModel): Promise<number> {
  const times: number[] = []
  for (const file of [...bundledPictures, ...bundledPictures]) {
    const bytes = await readFile(file)
    const start = performance.now()
    await readPicture(bytes, picture)
    times.push(performance.now() - start)
  }
  return lowerQuartile(times)
}

/** Measures a lone request's time from the caller to its batch, and from the end of the run back to the caller. */
async function measureOverhead(
  { startService, onProgress }: MeasureOptions,
  decodeMs: number,
): Promise<Pick<CostTable, 'ingestMs' | 'overheadMs'>> {
  const service = await startService()
  try {
    onProgress?.('requests, one at a time')
    const requests = []
    for (let i = 0; i < loneRequests; i++)
      requests.push(await measureRequest(service.url, bundledPictures[i % bundledPictures.length]!))
    return {
      ingestMs: rounded(Math.max(0, lowerQuartile(requests.map(({ toMs }) => toMs)) - decodeMs)),
      overheadMs: rounded(lowerQuartile(requests.map(({ backMs }) => backMs))),
    }
  } finally {
    await service.close()
  }
}

async function measureRequest(url: string, picture: string): Promise<{ toMs: number; backMs: number }> {
  const body = await readFile(picture)
  const start = performance.now()
  const response = await fetch(`${url}/v1/captions?max_prune=0`, {
    method: 'POST',
    headers: { 'content-type': 'image/jpeg' },
    body,
  })
  const caption = (await response.json()) as Caption
  const totalMs = performance.now() - start
  if (caption.status !== 'completed') throw new Error(`The service answered ${response.status}.`)
  const { queue_ms: toMs, inference_ms: inferenceMs } = caption.turbine
  return { toMs, backMs: Math.max(0, totalMs - toMs - inferenceMs) }
}

const timeOf = (samples: readonly CostSample[], cell: Omit<CostSample, 'ms'>) =>
  lowerQuartile(
    samples.filter(({ bucket, level }) => bucket === cell.bucket && level === cell.level).map(({ ms }) => ms),
  )

function lowerQuartile(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 2]!
}

const rounded = (value: number, digits = 2) => Number(value.toFixed(digits))
