import { setImmediate } from 'node:timers/promises'
import { earlierReading } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { sliceBytes } from '../../../infra/store/slices.ts'
import { assertStillGranted, BatchInputError, locateManifest, readManifest } from '../manifest/source.ts'
import type { BatchContext } from './context.ts'
import { encodePlan, type PlannedShard, readPlan, ShardCutter } from './plan.ts'
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
    return []
  }
  try {
    // Before anything is captioned that could not be written.
    await assertStillGranted(state.stored, 'write', context)
    work.manifest = await locateManifest(state.stored, options)
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
  if (cutter.lines === 0) throw new BatchInputError('empty_batch', emptyMessage(batch.turbine.input_uri))
  if (cutter.usable === 0) return cutter.faults.map((fault) => batchError(fault, fault.line))
  work.planned = true
  return []
}

const emptyMessage = (uri: string | undefined) =>
  uri?.endsWith('/')
    ? `There are no images below ${uri}. Supported extensions: .jpg, .png, ...`
    : 'The input has no lines. Write one for each image.'
