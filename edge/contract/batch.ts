import { z } from '@hono/zod-openapi'

/** What a line of a batch may ask for. */
export const batchEndpoints = ['/v1/chat/completions', '/v1/captions'] as const
export type BatchEndpoint = (typeof batchEndpoints)[number]

export const batchStatuses = [
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

export const usageSchema = z.object({
  input_tokens: z.int().openapi({ description: 'Image and prompt tokens.' }),
  output_tokens: z.int(),
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
      counting: z
        .boolean()
        .openapi({ description: 'The input is still being read: request_counts.total grows.' }),
    }),
  })
  .openapi('Batch')
export type Batch = z.infer<typeof batchSchema>

/** A batch as it is kept under `keys.batch`: written once by the edge, afterwards by its coordinator alone. */
export interface StoredBatch {
  tenant: string
  batch: Batch
  /** Seconds after the batch's creation at which its output files expire, if they do. */
  outputExpiresAfter?: number
}

/** Lines of a shard at most. */
export const maxShardLines = 256
