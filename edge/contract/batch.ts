import { z } from '@hono/zod-openapi'
import { TurbineError } from './errors.ts'
import { expiresAfterSchema } from './file.ts'

/** What a line of a batch may ask for. */
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

/** States that a batch does not leave. */
export const isFinal = (status: BatchStatus) =>
  status === 'failed' || status === 'completed' || status === 'expired' || status === 'cancelled'

const stamp = z.int().nullable()

const usageSchema = z.object({
  input_tokens: z.int().openapi({ description: 'Image and prompt tokens.' }),
  input_tokens_details: z.object({ cached_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
})

/** A batch in OpenAI's shape, with Turbine's own under `turbine`. Times are unix seconds, null when unset. */
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
    /** Null where the input is an `s3://` address. */
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
        .openapi({ description: 'Mean over the captioned images of the share of image tokens merged away.' }),
      repaid: z.int().optional().openapi({
        description: 'Lines that were pruned, and were captioned again at full quality since. Absent: none.',
      }),
      counting: z
        .boolean()
        .openapi({ description: 'The input is still being read: request_counts.total grows.' }),
    }),
  })
  .openapi('Batch')
export type Batch = z.infer<typeof batchSchema>

/** Pairs, characters of a key and characters of a value that a batch's metadata has at most. */
export const metadataLimits = { pairs: 16, key: 64, value: 512 }

/** What a batch is created from. */
export const batchRequestSchema = z
  .strictObject({
    input_file_id: z.string().min(1).optional().openapi({
      description: 'A file of purpose `batch`. Exactly one of this and `turbine.input_uri` is needed.',
    }),
    endpoint: z.enum(batchEndpoints).openapi({ description: 'Whose answers the output has.' }),
    completion_window: z.string().openapi({
      description:
        'From 1 minute to 30 days, as `15m`, `24h` or `3d`. A batch is pruned only as far as it must to be done in time.',
      example: '24h',
    }),
    model: z.string().min(1).optional().openapi({
      description: 'A model id from `GET /v1/models`. Default: the model that is served.',
    }),
    metadata: z
      .record(z.string(), z.string())
      .nullish()
      .openapi({
        description: `At most ${metadataLimits.pairs} pairs; keys of at most ${metadataLimits.key} characters, values of at most ${metadataLimits.value}.`,
      }),
    output_expires_after: expiresAfterSchema.nullish(),
    turbine: z
      .strictObject({
        input_uri: z.string().optional().openapi({
          description:
            '`s3://bucket/manifest.jsonl`, or `s3://bucket/prefix/` for every image below it, where this tenant may read.',
        }),
        output_uri: z.string().optional().openapi({
          description: '`s3://bucket/prefix/`, where this tenant may write: the output files go there.',
        }),
        max_prune: z.number().min(0).max(1).optional().openapi({
          description: 'Highest share of image tokens that may be merged, 0 to 1. Default: 1.',
        }),
      })
      .optional(),
  })
  .openapi('BatchRequest')
export type BatchRequest = z.infer<typeof batchRequestSchema>

/** What a batch is asked for, as far as the Batch object shows it. */
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

/** A batch that nobody has looked at yet. */
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

/** A batch as it is kept under `keys.batch`: written once by the edge, afterwards by its coordinator alone. */
export interface StoredBatch {
  tenant: string
  batch: Batch
  /** Seconds after the batch's creation at which its output files expire, if they do. */
  outputExpiresAfter?: number
}

/** Lines of a shard at most. */
export const maxShardLines = 256

/** What lies under `keys.batchCancel`. */
export interface CancelMark {
  /** Unix seconds. */
  cancelling_at: number
}

const unitSeconds = { m: 60, h: 3600, d: 86_400 }
const leastWindowSeconds = 60
const mostWindowSeconds = 30 * 86_400

/**
 * A batch's `completion_window` in seconds.
 * @throws TurbineError `completion_window_invalid` unless it is from 1 minute to 30 days
 *
 * @example parseCompletionWindow('24h') // 86_400
 */
export function parseCompletionWindow(text: string): number {
  const [, count, unit] = /^(\d{1,5})([mhd])$/.exec(text) ?? []
  const seconds = Number(count) * unitSeconds[unit as keyof typeof unitSeconds]
  if (seconds >= leastWindowSeconds && seconds <= mostWindowSeconds) return seconds
  throw new TurbineError(
    `"completion_window" must be from 1 minute to 30 days, as "15m", "24h" or "3d", but ${JSON.stringify(text.slice(0, 40))} came.`,
    { status: 400, code: 'completion_window_invalid', param: 'completion_window' },
  )
}
