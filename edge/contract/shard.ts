import { z } from 'zod'
import type { Slice } from '../../infra/store/slices.ts'
import {
  type BatchEndpoint,
  batchEndpoints,
  earlierReading,
  type LineReading,
  maxShardLines,
} from './batch.ts'
import { modelIdSchema } from './caption.ts'
import { TurbineError } from './errors.ts'
import { maxParts } from './file.ts'
import { parseJson } from './json.ts'
import { keys } from './keys.ts'
import { capabilitiesSchema } from './model.ts'
import { tenantSchema } from './tenant.ts'

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
  /** How its lines are read. */
  reading?: LineReading
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

const numberSchema = z.number().min(0)
const countSchema = z.int().min(0)
const batchIdSchema = z.string().regex(/^[\w-]{1,140}$/)
const place = { tenant: tenantSchema.shape.id, batch: batchIdSchema, shard: countSchema }

const sliceSchema = z.object({
  bucket: z.string().min(1).max(63).optional(),
  key: z.string().min(1).max(1024),
  start: countSchema,
  end: countSchema,
})

const shardJobSchema = z.object({
  ...place,
  endpoint: z.enum(batchEndpoints),
  model: modelIdSchema,
  reading: z
    .object({
      ignored: z.array(z.string()).optional(),
      aliases: z.record(z.string(), modelIdSchema).optional(),
      maxText: countSchema.optional(),
      maxImages: countSchema.optional(),
      can: capabilitiesSchema.optional(),
    })
    .optional(),
  maxPrune: z.number().min(0).max(1),
  expiresAt: numberSchema,
  createdAt: numberSchema,
  slices: z.array(sliceSchema).max(maxParts),
  firstLine: countSchema,
  lines: countSchema.max(maxShardLines),
  duplicates: z.array(countSchema).max(maxShardLines),
  repay: z.object({ until: numberSchema }).optional(),
})

/** @throws TurbineError `record_unreadable` when it is damaged, or names another tenant's objects */
export function decodeShardJob(record: { value: Uint8Array }): ShardJob {
  const job = decodeJson(record, shardJobSchema)
  const read = { ...job, reading: job.reading ?? earlierReading }
  const foreign = job.slices.some(({ bucket, key }) => bucket === undefined && !isInputOf(job.tenant, key))
  if (foreign) throw unreadable("has another tenant's objects in", 'slices')
  return read
}

const isInputOf = (tenant: string, key: string) =>
  [keys.fileContents(tenant), keys.uploadContents(tenant), keys.batchWork(tenant)].some((prefix) =>
    key.startsWith(prefix),
  )

/** Control message to the planners. All messages of a batch go to one partition, so to one planner. */
export type Control =
  | { type: 'batch_created'; tenant: string; batch: string }
  | { type: 'batch_cancelled'; tenant: string; batch: string }
  /** `replaced`: its results replaced earlier ones. */
  | { type: 'shard_done'; tenant: string; batch: string; shard: number; tally: ShardTally; replaced?: true }
  /** All lines that it has left wait for hosts that are slow, or ask for less. */
  | { type: 'shard_waiting'; tenant: string; batch: string; shard: number }
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

const tallySchema = z.object({
  completed: countSchema,
  failed: countSchema,
  dropped: countSchema,
  pruneRatioSum: numberSchema,
  inputTokens: countSchema,
  outputTokens: countSchema,
  pruned: countSchema.optional(),
  repaid: countSchema.optional(),
})

const controlSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('batch_created'), tenant: place.tenant, batch: place.batch }),
  z.object({ type: z.literal('batch_cancelled'), tenant: place.tenant, batch: place.batch }),
  z.object({
    type: z.literal('shard_done'),
    ...place,
    tally: tallySchema,
    replaced: z.literal(true).optional(),
  }),
  z.object({ type: z.literal('shard_waiting'), ...place }),
  z.object({ type: z.literal('shard_repaid'), ...place, tally: tallySchema, pending: countSchema }),
])

/** @throws TurbineError `record_unreadable` */
export function decodeControl(record: { value: Uint8Array }): Control {
  return decodeJson(record, controlSchema)
}

/** More than the largest of them has: a shard of a file in the maximum number of parts. */
const maxRecordItems = 10 * maxParts

function decodeJson<Schema extends z.ZodType>(
  { value }: { value: Uint8Array },
  schema: Schema,
): z.output<Schema> {
  let parsed: unknown
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(value)
    parsed = parseJson(text, { maxItems: maxRecordItems })
  } catch (cause) {
    throw unreadable('is not JSON', undefined, cause)
  }
  const read = schema.safeParse(parsed)
  if (read.success) return read.data
  const path = read.error.issues[0]?.path ?? []
  throw unreadable(path.length === 0 ? 'is not an object' : 'has no valid', path[0])
}

function unreadable(what: string, field?: PropertyKey, cause?: unknown): TurbineError {
  const name = field === undefined ? '' : ` "${String(field)}"`
  return new TurbineError(`The record ${what}${name}.`, {
    status: 500,
    code: 'record_unreadable',
    retriable: false,
    cause,
  })
}
