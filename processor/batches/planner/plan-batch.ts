import type { StoredBatch } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { sliceBytes } from '../../../infra/store/slices.ts'
import { BatchInputError, locateManifest, type ManifestOptions, readManifest } from '../manifest/source.ts'
import { encodePlan, readPlan, ShardCutter } from './plan.ts'
import type { BatchWork } from './progress.ts'
import { type BatchError, batchError, lineError } from './status.ts'

/** Larger manifests wait for their turn to be read, since each takes memory for its `custom_id`s. */
const smallManifestBytes = 16 * 1024 * 1024

export interface PlanBatchOptions extends ManifestOptions {
  stored: StoredBatch
  /** What is planned goes here, shard by shard. */
  work: BatchWork
  /** Lets a few large manifests be read at a time. */
  inTurn<T>(read: () => Promise<T>): Promise<T>
  /** Told when there are more lines, of how many more. */
  onLines(more: number): void
}

/**
 * Plans a batch: from the plan that is kept, else by reading its manifest, to the end.
 * @returns why the batch cannot be run; nothing when it can
 */
export async function planBatch(options: PlanBatchOptions): Promise<BatchError[]> {
  const { stored, work, store, outages, signal } = options
  const key = keys.batchPlan(stored.tenant, stored.batch.id)
  const plan = await outages.outlast(() => readPlan(store, key), signal)
  if (plan) {
    work.load(plan)
    return []
  }
  try {
    work.manifest = await locateManifest(stored, options)
    const small = sliceBytes(work.manifest) <= smallManifestBytes
    const read = () => cutIntoShards(options)
    const errors = await (small ? read() : options.inTurn(read))
    if (errors.length === 0) await outages.outlast(() => keepPlan(options, key), signal)
    return errors
  } catch (error) {
    if (!(error instanceof BatchInputError)) throw error
    const param = stored.batch.input_file_id === null ? 'turbine.input_uri' : 'input_file_id'
    return [batchError(error.code, error.message, param)]
  }
}

async function cutIntoShards(options: PlanBatchOptions): Promise<BatchError[]> {
  const { stored, work, onLines } = options
  const cutter = new ShardCutter(stored.batch)
  const note = (shards: ReturnType<ShardCutter['push']>) => {
    const more = cutter.lines - work.lines
    work.plan(shards, cutter.lines)
    work.usable = cutter.usable
    onLines(Math.max(more, 0))
  }
  for await (const lines of readManifest(work.manifest, options)) note(cutter.push(lines))
  note(cutter.end())
  if (cutter.lines === 0) throw new BatchInputError('empty_batch', emptyMessage(stored))
  if (cutter.usable === 0) return cutter.faults.map(lineError)
  work.planned = true
  return []
}

const emptyMessage = ({ batch }: StoredBatch) =>
  batch.turbine.input_uri?.endsWith('/')
    ? `There are no images below ${batch.turbine.input_uri}. They are told by their extension: .jpg, .png, ...`
    : 'The input has no lines. Write one for each image.'

async function keepPlan({ store, work }: PlanBatchOptions, key: string): Promise<void> {
  const { manifest, shards, lines, usable } = work
  const body = ReadableStream.from(encodePlan({ manifest, shards, lines, usable }))
  await store.put(key, body, { contentType: 'application/jsonl' })
}
