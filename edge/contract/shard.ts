import type { Slice } from '../../infra/store/slices.ts'
import type { BatchEndpoint } from './batch.ts'
import { TurbineError } from './errors.ts'

/**
 * Up to 256 consecutive lines of a batch as they travel over the stream: not the lines themselves but where they
 * lie, so a record is small however large its images are. Shard numbers are fixed by the manifest alone.
 */
export interface ShardJob {
  tenant: string
  batch: string
  /** From 0. */
  shard: number
  endpoint: BatchEndpoint
  model: string
  /** Highest share of image tokens that may be merged, 0 to 1; a line may say less. */
  maxPrune: number
  /** Unix ms; lines that are not begun by then are `batch_expired`. */
  expiresAt: number
  /** Unix ms. */
  createdAt: number
  /** Where the lines lie; together whole lines. */
  slices: Slice[]
  /** Number of the first line in the manifest, from 1; empty lines count. */
  firstLine: number
  /** Lines that are not empty. */
  lines: number
  /** Numbers of lines whose `custom_id` an earlier line of the manifest has. */
  duplicates: number[]
  /** Set when the shard is done, and only its pruned lines are to be captioned again, at full quality. */
  repay?: Repay
}

export interface Repay {
  /** Unix ms; later nothing of the shard is written any more. */
  until: number
}

/** What came of a shard. */
export interface ShardTally {
  completed: number
  failed: number
  /** Lines that were not begun when the batch expired or was cancelled; they count as neither. */
  dropped: number
  /** Over the completed lines. */
  pruneRatioSum: number
  inputTokens: number
  outputTokens: number
  /** Completed lines whose image was pruned; earlier versions did not count them. */
  pruned?: number
  /** Completed lines that were captioned again at full quality. */
  repaid?: number
}

export const emptyTally: Required<ShardTally> = {
  completed: 0,
  failed: 0,
  dropped: 0,
  pruneRatioSum: 0,
  inputTokens: 0,
  outputTokens: 0,
  pruned: 0,
  repaid: 0,
}

const tallyFields = Object.keys(emptyTally) as (keyof ShardTally)[]

/** The sum of what came of several shards. */
export const addTallies = (a: ShardTally, b: ShardTally) => combine(a, b, 1)

/** `a` without `b`, which it holds. */
export const subtractTallies = (a: ShardTally, b: ShardTally) => combine(a, b, -1)

const combine = (a: ShardTally, b: ShardTally, sign: 1 | -1): Required<ShardTally> => {
  const sum = { ...emptyTally }
  for (const field of tallyFields) sum[field] = (a[field] ?? 0) + sign * (b[field] ?? 0)
  return sum
}

/**
 * The object that holds the results of a shard: a line of JSON, `ShardHeader`; then the output lines; then the error
 * lines. It is written once, so whoever comes second finds the results of the first; what takes its place is written
 * only where it is still the same.
 */
export interface ShardHeader extends ShardTally {
  /** Bytes of the output lines, line ends included. */
  outputBytes: number
  /** Bytes of the error lines, line ends included. */
  errorBytes: number
}

/** Bytes at the start of a shard's object that certainly hold its header. */
export const maxShardHeaderBytes = 1024

/** The object of a shard's results. `output` and `errors` are lines without line ends, in the order of the input. */
export function encodeShard(tally: ShardTally, output: string[], errors: string[]): Uint8Array {
  const bytesOf = (lines: string[]) => new TextEncoder().encode(lines.map((line) => `${line}\n`).join(''))
  const parts = [bytesOf(output), bytesOf(errors)] as const
  const header: ShardHeader = { ...tally, outputBytes: parts[0].length, errorBytes: parts[1].length }
  const head = new TextEncoder().encode(`${JSON.stringify(header)}\n`)
  const object = new Uint8Array(head.length + parts[0].length + parts[1].length)
  object.set(head)
  object.set(parts[0], head.length)
  object.set(parts[1], head.length + parts[0].length)
  return object
}

/** The header of a shard's object, and where the output lines begin. `start` is its first bytes. */
export function decodeShardHeader(start: Uint8Array): { header: ShardHeader; bodyStart: number } {
  const end = start.indexOf(10)
  if (end === -1) throw new RangeError('A shard object begins with a line of JSON.')
  return { header: JSON.parse(new TextDecoder().decode(start.subarray(0, end))), bodyStart: end + 1 }
}

/** Shard to record. */
export function encodeShardJob(job: ShardJob) {
  return {
    // Spreads the shards of a batch over all partitions.
    key: `${job.batch}/${job.shard}`,
    value: new TextEncoder().encode(JSON.stringify(job)),
    headers: { 'turbine-id': job.batch, tenant: job.tenant },
  }
}

const shardJobFields = ['tenant', 'batch', 'shard', 'slices', 'firstLine', 'lines', 'expiresAt'] as const

/**
 * Record to shard.
 * @throws TurbineError `record_unreadable`
 */
export function decodeShardJob(record: { value: Uint8Array }): ShardJob {
  return decodeJson<ShardJob>(record, shardJobFields)
}

/** What the planners are told. All of a batch goes to one partition, so to one planner. */
export type Control =
  | { type: 'batch_created'; tenant: string; batch: string }
  | { type: 'batch_cancelled'; tenant: string; batch: string }
  /** `replaced`: its results took the place of earlier ones. */
  | { type: 'shard_done'; tenant: string; batch: string; shard: number; tally: ShardTally; replaced?: true }
  /** `pending`: pruned lines that were not tried, for the devices had other work. */
  | {
      type: 'shard_repaid'
      tenant: string
      batch: string
      shard: number
      tally: ShardTally
      pending: number
    }

export function encodeControl(control: Control) {
  return {
    key: control.batch,
    value: new TextEncoder().encode(JSON.stringify(control)),
    headers: { 'turbine-id': control.batch, tenant: control.tenant },
  }
}

/** @throws TurbineError `record_unreadable` */
export function decodeControl(record: { value: Uint8Array }): Control {
  return decodeJson<Control>(record, ['type', 'tenant', 'batch'])
}

function decodeJson<T extends object>({ value }: { value: Uint8Array }, fields: readonly (keyof T)[]): T {
  let parsed: unknown
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(value))
  } catch (cause) {
    throw unreadable('is not JSON', cause)
  }
  if (typeof parsed !== 'object' || parsed === null) throw unreadable('is not an object')
  const missing = fields.find((field) => !(field in parsed))
  if (missing !== undefined) throw unreadable(`lacks "${String(missing)}"`)
  return parsed as T
}

const unreadable = (what: string, cause?: unknown) =>
  new TurbineError(`The record ${what}.`, { status: 500, code: 'record_unreadable', retriable: false, cause })
