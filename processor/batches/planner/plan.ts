import { maxShardLines } from '../../../edge/contract/batch.ts'
import { LineSplitter, type ManifestLine } from '../../../edge/contract/lines.ts'
import { type LineFault, type LineOptions, parseBatchLine } from '../../../edge/contract/manifest-line.ts'
import type { ShardJob } from '../../../edge/contract/shard.ts'
import { FingerprintSet } from '../../../infra/fingerprint-set.ts'
import { cutSlices, type Slice } from '../../../infra/store/slices.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'

/** A shard as a piece of the manifest. */
export interface PlannedShard {
  /** First byte of its first line. */
  start: number
  /** Byte behind its last line. */
  end: number
  /** Number of its first line, from 1; empty lines count. */
  firstLine: number
  /** Lines that are not empty. */
  lines: number
  /** Numbers of lines whose `custom_id` an earlier line has. */
  duplicates: number[]
}

/** Fault with its line number. */
export interface NumberedFault extends LineFault {
  line: number
}

/** Maximum bytes of a shard, unless one line has more. */
const maxShardBytes = 16 * 1024 * 1024
/** Maximum faults reported when no line is usable. */
const maxFaults = 100

/**
 * Cuts the lines of a manifest into shards, deterministically. Invalid lines stay in place; the runner of the shard
 * writes their errors.
 *
 * @example
 * const cutter = new ShardCutter({ endpoint: '/v1/captions', model: 'blip' })
 * for await (const lines of manifest) plan.push(...cutter.push(lines))
 * plan.push(...cutter.end())
 */
export class ShardCutter {
  readonly #options: LineOptions
  readonly #customIds = new FingerprintSet()
  #shard: PlannedShard | undefined
  /** Lines so far that are not empty. */
  lines = 0
  /** Lines so far that can be run. */
  usable = 0
  /** The first lines that cannot be used. */
  readonly faults: NumberedFault[] = []

  constructor({ endpoint, model, reading }: LineOptions) {
    this.#options = { endpoint, model, reading }
  }

  /** Adds lines; returns the shards that they complete. */
  push(lines: ManifestLine[]): PlannedShard[] {
    const complete: PlannedShard[] = []
    for (const line of lines) {
      const read = parseBatchLine(line, this.#options)
      if (read === undefined) continue
      const customId = 'ask' in read ? read.ask.customId : read.fault.customId
      const duplicate = customId !== null && !this.#customIds.add(customId)
      if (this.#shard && isFull(this.#shard, line)) complete.push(...this.end())
      this.#shard ??= emptyShard(line)
      const shard = this.#shard
      shard.end = line.end
      shard.lines++
      this.lines++
      if (duplicate) shard.duplicates.push(line.number)
      if ('fault' in read) this.#addFault({ line: line.number, ...read.fault })
      else if (duplicate) this.#addFault({ line: line.number, ...duplicateFault(customId) })
      else this.usable++
    }
    return complete
  }

  /** Returns the last shard. */
  end(): PlannedShard[] {
    const last = this.#shard
    this.#shard = undefined
    return last ? [last] : []
  }

  #addFault(fault: NumberedFault): void {
    if (this.faults.length < maxFaults) this.faults.push(fault)
  }
}

const isFull = (shard: PlannedShard, next: ManifestLine) =>
  shard.lines === maxShardLines || next.end - shard.start > maxShardBytes

const emptyShard = ({ start, number }: ManifestLine): PlannedShard => ({
  start,
  end: start,
  firstLine: number,
  lines: 0,
  duplicates: [],
})

/** Fault of a line whose `custom_id` an earlier one has. */
export const duplicateFault = (customId: string): LineFault => ({
  customId,
  code: 'duplicate_custom_id',
  message: 'An earlier line of the batch has the same "custom_id". Use a unique one for each line.',
  param: 'custom_id',
})

/** The job of a shard. `base`: what the jobs of a batch have in common; `manifest`: location of the whole manifest. */
export function shardJob(
  base: Omit<ShardJob, 'shard' | 'slices' | 'firstLine' | 'lines' | 'duplicates'>,
  manifest: readonly Slice[],
  shard: number,
  { start, end, ...planned }: PlannedShard,
): ShardJob {
  return { ...base, shard, slices: cutSlices(manifest, start, end), ...planned }
}

/** The plan of a batch whose manifest has been read to its end. */
export interface Plan {
  /** Location of the manifest. */
  manifest: readonly Slice[]
  shards: readonly PlannedShard[]
  /** Lines that are not empty. */
  lines: number
  /** Lines that can be run. */
  usable: number
}

type Head = Omit<Plan, 'shards'>
/** `[start, end, firstLine, lines, ...duplicates]` */
type Row = [number, number, number, number, ...number[]]

const rowsAtOnce = 1000

/** Encodes a plan for the store: a line of JSON for its head, then one for each shard. */
export async function* encodePlan({ shards, ...head }: Plan): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder()
  yield encoder.encode(`${JSON.stringify(head)}\n`)
  for (let first = 0; first < shards.length; first += rowsAtOnce) {
    const rows = shards
      .slice(first, first + rowsAtOnce)
      .map(
        ({ start, end, firstLine, lines, duplicates }): Row => [start, end, firstLine, lines, ...duplicates],
      )
    yield encoder.encode(rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  }
}

/** Reads what `encodePlan` made. */
export async function decodePlan(bytes: AsyncIterable<Uint8Array>): Promise<Plan> {
  const splitter = new LineSplitter()
  let head: Head | undefined
  const shards: PlannedShard[] = []
  for await (const chunk of bytes) {
    for (const { text } of splitter.push(chunk)) {
      if (head === undefined) {
        head = JSON.parse(text!)
        continue
      }
      const [start, end, firstLine, lines, ...duplicates]: Row = JSON.parse(text!)
      shards.push({ start, end, firstLine, lines, duplicates })
    }
  }
  if (head === undefined) throw new RangeError('A plan begins with a line of JSON.')
  return { ...head, shards }
}

/** Reads a stored plan; undefined when there is none. */
export async function readPlan(store: Pick<ObjectStore, 'get'>, key: string): Promise<Plan | undefined> {
  const object = await store.get(key)
  return object && decodePlan(object.body as ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>)
}
