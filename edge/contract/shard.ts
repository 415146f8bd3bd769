import type { Slice } from '../../infra/store/slices.ts'
import type { BatchEndpoint } from './batch.ts'
import { TurbineError } from './errors.ts'

/**
 * Up to 256 consecutive lines of a batch. A record holds the position of the lines, not the lines, so it is small
 * however large the images are. Shard numbers are fixed by the manifest alone.
 */
export interface ShardJob {
  tenant: string
  batch: string
  /** From 0. */
  shard: number
  endpoint: BatchEndpoint
  model: string
  /** Maximum share of image tokens that may be merged, 0 to 1; a line may set less. */
  maxPrune: number
  /** Unix ms; lines not started by then are `batch_expired`. */
  expiresAt: number
  /** Unix ms. */
  createdAt: number
  /** Position of the lines; together whole lines. */
  slices: Slice[]
  /** Number of the first line in the manifest, from 1; empty lines count. */
  firstLine: number
  /** Lines that are not empty. */
  lines: number
  /** Numbers of lines with the `custom_id` of an earlier line. */
  duplicates: number[]
  /** Set when only the pruned lines of a finished shard are captioned again, at full quality. */
  repay?: Repay
}

export interface Repay {
  /** Unix ms; nothing is written after it. */
  until: number
}

/** Line counts of a finished shard. */
export interface ShardTally {
  completed: number
  failed: number
  /** Lines not started when the batch expired or was cancelled; neither completed nor failed. */
  dropped: number
  /** Over the completed lines. */
  pruneRatioSum: number
  inputTokens: number
  outputTokens: number
  /** Completed lines whose image was pruned; absent in tallies of earlier versions. */
  pruned?: number
  /** Completed lines captioned again at full quality. */
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

export const addTallies = (a: ShardTally, b: ShardTally) => combine(a, b, 1)

/** Subtracts `b`, which is part of `a`. */
export const subtractTallies = (a: ShardTally, b: ShardTally) => combine(a, b, -1)

const combine = (a: ShardTally, b: ShardTally, sign: 1 | -1): Required<ShardTally> => {
  const sum = { ...emptyTally }
  for (const field of tallyFields) sum[field] = (a[field] ?? 0) + sign * (b[field] ?? 0)
  return sum
}

/**
 * Header of a shard's result object: one line of JSON, followed by the output lines, then the error lines. The object
 * is created once, so the second writer finds the results of the first; it is replaced only by compare-and-swap.
 */
export interface ShardHeader extends ShardTally {
  /** Bytes of the output lines, line ends included. */
  outputBytes: number
  /** Bytes of the error lines, line ends included. */
  errorBytes: number
}

/** Bytes at the start of a shard's object that always include its header. */
export const maxShardHeaderBytes = 1024

/** Encodes the results of a shard. `output` and `errors` are lines without line ends, in input order. */
export function encodeShard(tally: ShardTally, output: string[], errors: string[]): Uint8Array {
  const texts = [output, errors].map((lines) => lines.map((line) => `${line}\n`).join(''))
  const [outputBytes, errorBytes] = texts.map((text) => Buffer.byteLength(text)) as [number, number]
  const header: ShardHeader = { ...tally, outputBytes, errorBytes }
  return new TextEncoder().encode(`${JSON.stringify(header)}\n${texts.join('')}`)
}

/** Decodes the header from the first bytes of a shard's object; the output lines begin at `bodyStart`. */
export function decodeShardHeader(start: Uint8Array): { header: ShardHeader; bodyStart: number } {
  const end = start.indexOf(10)
  if (end === -1) throw new RangeError('A shard object begins with a line of JSON.')
  return { header: JSON.parse(new TextDecoder().decode(start.subarray(0, end))), bodyStart: end + 1 }
}

const recordOf = (key: string, content: { tenant: string; batch: string }) => ({
  key,
  value: new TextEncoder().encode(JSON.stringify(content)),
  headers: { 'turbine-id': content.batch, tenant: content.tenant },
})

/** Encodes a shard as a record; its key spreads the shards of a batch over all partitions. */
export const encodeShardJob = (job: ShardJob) => recordOf(`${job.batch}/${job.shard}`, job)

const shardJobFields = ['tenant', 'batch', 'shard', 'slices', 'firstLine', 'lines', 'expiresAt'] as const

/** @throws TurbineError `record_unreadable` */
export function decodeShardJob(record: { value: Uint8Array }): ShardJob {
  return decodeJson<ShardJob>(record, shardJobFields)
}

/** Control message to the planners. All messages of a batch go to one partition, so to one planner. */
export type Control =
  | { type: 'batch_created'; tenant: string; batch: string }
  | { type: 'batch_cancelled'; tenant: string; batch: string }
  /** `replaced`: its results replaced earlier ones. */
  | { type: 'shard_done'; tenant: string; batch: string; shard: number; tally: ShardTally; replaced?: true }
  /** `pending`: pruned lines that were not tried, since the devices were busy. */
  | {
      type: 'shard_repaid'
      tenant: string
      batch: string
      shard: number
      tally: ShardTally
      pending: number
    }

export const encodeControl = (control: Control) => recordOf(control.batch, control)

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
