import { setImmediate } from 'node:timers/promises'
import { type Batch, earlierReading } from '../../../edge/contract/batch.ts'
import { describeSkipped, type Skipped } from '../../../edge/contract/formats/file-kind.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { sliceBytes } from '../../../infra/store/slices.ts'
import { getJson } from '../../../infra/store/store.ts'
import { assertStillGranted, BatchInputError, locateManifest, readManifest } from '../manifest/source.ts'
import type { BatchContext } from './context.ts'
import { encodePlan, type PlannedShard, readPlan, ShardCutter } from './plan.ts'
import type { BatchState } from './state.ts'
import { type BatchError, batchError } from './status.ts'

/** Concurrency is limited for larger manifests, since each takes memory for its `custom_id`s. */
const smallManifestBytes = 16 * 1024 * 1024
/** Time for which a bucket of the caller that cannot serve is retried at most, within the batch's window, ms. */
const callersInputMs = 6 * 3_600_000

/** Lines that are read without a pause for others; an invalid one takes up to 20 microseconds. */
const linesAtOnce = 2048

/**
 * Plans a batch, shard by shard: from the stored plan, else by reading its manifest to the end.
 * @returns errors that keep the batch from running
 */
export async function planBatch(context: BatchContext): Promise<BatchError[]> {
  const { state, store, outages, signal, manifestPlaces, clock } = context
  const { batch, work } = state
  const giveUpAt = Math.min(batch.expires_at * 1000, clock.now() + callersInputMs)
  const options = { ...context, giveUpAt }
  const key = keys.batchPlan(state.ref.tenant, batch.id)
  const plan = await outages.outlast(() => readPlan(store, key), signal)
  if (plan) {
    work.load(plan)
    const skippedKey = keys.batchSkipped(state.ref.tenant, batch.id)
    noteSkipped(state, await outages.outlast(() => getJson<Skipped>(store, skippedKey), signal))
    return []
  }
  try {
    // Before anything is captioned that could not be written.
    await assertStillGranted(state.stored, 'write', context)
    const located = await locateManifest(state.stored, options)
    work.manifest = located.slices
    noteSkipped(state, located.skipped)
    const small = sliceBytes(work.manifest) <= smallManifestBytes
    const errors = await (small
      ? cutIntoShards(options)
      : manifestPlaces.run(state.ref.tenant, () => cutIntoShards(options), { signal }))
    if (errors.length > 0) return errors
    const { manifest, shards, lines, usable } = work
    const encoded = () => ReadableStream.from(encodePlan({ manifest, shards, lines, usable }))
    await outages.outlast(() => store.put(key, encoded(), { contentType: 'application/jsonl' }), signal)
    return []
  } catch (error) {
    if (!(error instanceof BatchInputError)) throw error
    const input = batch.input_file_id === null ? 'turbine.input_uri' : 'input_file_id'
    return [batchError({ code: error.code, message: error.message, param: error.param ?? input })]
  }
}

/** Tells in the batch what was left out of its input. */
function noteSkipped(state: BatchState, skipped: Skipped | undefined): void {
  if (!skipped || Object.keys(skipped).length === 0) return
  state.batch = { ...state.batch, turbine: { ...state.batch.turbine, skipped } }
}

async function cutIntoShards(context: BatchContext & { giveUpAt: number }): Promise<BatchError[]> {
  const { state, onLines } = context
  const { batch, stored, work, changes } = state
  const cutter = new ShardCutter({ ...batch, reading: stored.reading ?? earlierReading })
  const add = (shards: PlannedShard[]) => {
    const more = cutter.lines - work.lines
    work.plan(shards, cutter.lines)
    work.usable = cutter.usable
    onLines?.(Math.max(more, 0))
    changes.announce()
  }
  for await (const lines of readManifest(work.manifest, context)) {
    for (let start = 0; start < lines.length; start += linesAtOnce) {
      // A chunk of a megabyte can have hundreds of thousands of lines.
      if (start > 0) await setImmediate()
      add(cutter.push(lines.slice(start, start + linesAtOnce)))
    }
  }
  add(cutter.end())
  if (cutter.lines === 0) throw new BatchInputError('empty_batch', emptyMessage(batch.turbine))
  if (cutter.usable === 0) return cutter.faults.map((fault) => batchError(fault, fault.line))
  work.planned = true
  return []
}

function emptyMessage({ input_uri, skipped }: Batch['turbine']): string {
  if (input_uri === undefined) return 'The input has no lines. Write one for each image.'
  const left = skipped ? ` (${describeSkipped(skipped)})` : ''
  return `There are no images in ${input_uri}${left}.`
}
