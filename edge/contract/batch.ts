import { z } from '@hono/zod-openapi'
import { modelIdSchema } from './caption.ts'
import { excerpt, invalid } from './errors.ts'
import { expiresAfterSchema, fileIdSchema } from './file.ts'
import type { Capabilities, ModelAliases } from './model.ts'
import type { Ignored } from './parameters.ts'
import { s3UriSchema } from './tenant.ts'

/** Endpoints that a batch can call. */
export const batchEndpoints = ['/v1/chat/completions', '/v1/captions'] as const
export type BatchEndpoint = (typeof batchEndpoints)[number]

const batchStatuses = [
  'validating',
  'failed',
  'in_progress',
  'finalizing',
  'completed',
  'expired',
  'cancelling',
  'cancelled',
] as const
export type BatchStatus = (typeof batchStatuses)[number]

export const isFinal = (status: BatchStatus) =>
  status === 'failed' || status === 'completed' || status === 'expired' || status === 'cancelled'

const stamp = z.int().nullable()

const usageSchema = z.object({
  input_tokens: z.int().openapi({ description: 'Tokens of images and of texts.' }),
  input_tokens_details: z.object({ cached_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
})

/** Batch in OpenAI's format, with Turbine's fields under `turbine`. Times are unix seconds, null when unset. */
export const batchSchema = z
  .object({
    id: z.string(),
    object: z.literal('batch'),
    endpoint: z.enum(batchEndpoints),
    model: z.string(),
    errors: z
      .object({
        object: z.literal('list'),
        data: z.array(
          z.object({
            code: z.string(),
            message: z.string(),
            param: z.string().nullable(),
            line: z.int().nullable(),
          }),
        ),
      })
      .nullable(),
    /** Null if the input is an `s3://` URI. */
    input_file_id: z.string().nullable(),
    completion_window: z.string(),
    status: z.enum(batchStatuses),
    output_file_id: z.string().nullable(),
    error_file_id: z.string().nullable(),
    created_at: z.int(),
    in_progress_at: stamp,
    expires_at: z.int(),
    finalizing_at: stamp,
    completed_at: stamp,
    failed_at: stamp,
    expired_at: stamp,
    cancelling_at: stamp,
    cancelled_at: stamp,
    request_counts: z.object({ total: z.int(), completed: z.int(), failed: z.int() }),
    usage: usageSchema.nullable(),
    metadata: z.record(z.string(), z.string()).nullable(),
    turbine: z.object({
      input_uri: z.string().optional(),
      output_uri: z.string().optional(),
      max_prune: z.number(),
      prune_ratio_mean: z
        .number()
        .nullable()
        .openapi({ description: 'Mean share of image tokens merged, over the captioned images.' }),
      repaid: z.int().optional().openapi({
        description: 'Pruned lines that have been captioned again at full quality. Absent: none.',
      }),
      skipped: z
        .record(z.string(), z.int())
        .optional()
        .openapi({
          description:
            'Objects below the prefix of `input_uri` that were left out, by reason: `hidden`, `not_image`. Absent: none.',
          example: { hidden: 2 },
        }),
      counting: z
        .boolean()
        .openapi({ description: 'True while the input is being read: request_counts.total still grows.' }),
    }),
  })
  .openapi('Batch')
export type Batch = z.infer<typeof batchSchema>

/** Maximum pairs, characters per key and characters per value of a batch's metadata. */
export const metadataLimits = { pairs: 16, key: 64, value: 512 }

const windowPattern = /^([0-9]{1,5})([mhd])$/

export const batchRequestSchema = z
  .strictObject({
    input_file_id: fileIdSchema.optional().openapi({
      description: 'A file of purpose `batch`. Exactly one of this and `turbine.input_uri` is required.',
    }),
    endpoint: z.enum(batchEndpoints).openapi({ description: 'Endpoint that each line calls.' }),
    completion_window: z.string().openapi({
      pattern: windowPattern.source,
      maxLength: 6,
      description:
        'From 1 minute to 30 days, as `15m`, `24h` or `3d`. A batch is pruned only as much as needed to complete in time.',
      example: '24h',
    }),
    model: modelIdSchema.optional().openapi({
      description: 'A model id from `GET /v1/models`. Default: the served model.',
    }),
    metadata: z
      .record(z.string(), z.string().openapi({ maxLength: metadataLimits.value }))
      .nullish()
      .openapi({
        maxProperties: metadataLimits.pairs,
        description: `At most ${metadataLimits.pairs} pairs; keys of at most ${metadataLimits.key} characters, values of at most ${metadataLimits.value}.`,
      }),
    output_expires_after: z.union([expiresAfterSchema, z.null()]).optional(),
    turbine: z
      .strictObject({
        input_uri: s3UriSchema.optional().openapi({
          description:
            '`s3://bucket/manifest.jsonl`, or `s3://bucket/prefix/` for every image below it, where this tenant may read.',
        }),
        output_uri: s3UriSchema.optional().openapi({
          description: '`s3://bucket/prefix/` for the output files, where this tenant may write.',
        }),
        max_prune: z.number().min(0).max(1).optional().openapi({
          description: 'Maximum share of image tokens that may be merged, 0 to 1. Default: 1.',
        }),
      })
      .optional(),
  })
  .openapi('BatchRequest')
export type BatchRequest = z.infer<typeof batchRequestSchema>

/** Fields of a batch that come from its request. */
export type BatchIntent = Pick<
  Batch,
  | 'id'
  | 'endpoint'
  | 'model'
  | 'input_file_id'
  | 'completion_window'
  | 'created_at'
  | 'expires_at'
  | 'metadata'
> & { turbine: Pick<Batch['turbine'], 'input_uri' | 'output_uri' | 'max_prune'> }

/** Batch in its initial state. */
export const newBatch = ({ turbine, ...intent }: BatchIntent): Batch => ({
  object: 'batch',
  ...intent,
  errors: null,
  status: 'validating',
  output_file_id: null,
  error_file_id: null,
  in_progress_at: null,
  finalizing_at: null,
  completed_at: null,
  failed_at: null,
  expired_at: null,
  cancelling_at: null,
  cancelled_at: null,
  request_counts: { total: 0, completed: 0, failed: 0 },
  usage: null,
  turbine: { ...turbine, prune_ratio_mean: null, counting: true },
})

/** Settings of the service that accepts a request, which say how it is read. They travel with a batch. */
export interface Reading {
  /** Parameters that are dropped instead of refused. */
  ignored?: Ignored
  aliases?: ModelAliases
  /** Maximum characters of the text that a model follows. Default: 8192. */
  maxText?: number
  /** Maximum images of a request. Default: 8. */
  maxImages?: number
}

/** How the lines of a batch are read. */
export interface LineReading extends Reading {
  /** What the batch's model can; default: what earlier versions served. */
  can?: Capabilities
}

/** How the lines of a batch of an earlier version are read, which ignored what it did not honour. */
export const earlierReading: LineReading = { ignored: ['*'] }

/** Batch as stored under `keys.batch`: created by the edge, then written by its coordinator alone. */
export interface StoredBatch {
  tenant: string
  batch: Batch
  /** Seconds after the batch's creation at which its output files expire, if they do. */
  outputExpiresAfter?: number
  /** How its lines are read; absent: as `earlierReading` says. */
  reading?: LineReading
  /** Trace of the request that created it; traces of its shards link to it. */
  traceparent?: string
}

/** Maximum lines of a shard. */
export const maxShardLines = 256

/** Object under `keys.batchCancel`. */
export interface CancelMark {
  /** Unix seconds. */
  cancelling_at: number
}

const unitSeconds = { m: 60, h: 3600, d: 86_400 }
const leastWindowSeconds = 60
const mostWindowSeconds = 30 * 86_400

/**
 * Parses a batch's `completion_window` to seconds.
 * @throws TurbineError `completion_window_invalid` unless it is from 1 minute to 30 days
 *
 * @example parseCompletionWindow('24h') // 86_400
 */
export function parseCompletionWindow(text: string): number {
  const [, count, unit] = windowPattern.exec(text) ?? []
  const seconds = Number(count) * unitSeconds[unit as keyof typeof unitSeconds]
  if (seconds >= leastWindowSeconds && seconds <= mostWindowSeconds) return seconds
  throw invalid(
    'completion_window_invalid',
    `"completion_window" must be from 1 minute to 30 days, as "15m", "24h" or "3d", got ${excerpt(JSON.stringify(excerpt(text, 40)))}.`,
    'completion_window',
  )
}
