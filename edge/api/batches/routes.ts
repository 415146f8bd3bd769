import { createRoute, z } from '@hono/zod-openapi'
import { type Batch, batchRequestSchema, batchSchema } from '../../contract/batch.ts'
import { pageQuery, pageSchema } from '../pages.ts'
import { errorResponse, idempotencyErrors, jsonResponse, serviceErrors } from '../responses.ts'

export const batchExample = {
  input_file_id: 'file-2n9c4e2x9a1b2c3d4e5f60718',
  endpoint: '/v1/chat/completions',
  completion_window: '24h',
} satisfies z.input<typeof batchRequestSchema>

export const batchListQuerySchema = z.strictObject(pageQuery(100, 20))

const example: Batch = {
  id: 'batch_2n9c4e2wz0718a1b2c3d4e5f6',
  object: 'batch',
  endpoint: batchExample.endpoint,
  model: 'starter',
  errors: null,
  input_file_id: batchExample.input_file_id,
  completion_window: batchExample.completion_window,
  status: 'in_progress',
  output_file_id: null,
  error_file_id: null,
  created_at: 1_790_000_000,
  in_progress_at: 1_790_000_001,
  expires_at: 1_790_086_400,
  finalizing_at: null,
  completed_at: null,
  failed_at: null,
  expired_at: null,
  cancelling_at: null,
  cancelled_at: null,
  request_counts: { total: 10_000, completed: 4096, failed: 3 },
  usage: null,
  metadata: { dataset: 'harbour' },
  turbine: { max_prune: 1, prune_ratio_mean: 0.21, counting: false },
}

const params = z.object({ id: z.string().openapi({ example: example.id }) })
const notFound = errorResponse(404, 'batch_not_found', 'There is no batch "batch_1".')

export const createBatch = createRoute({
  method: 'post',
  path: '/v1/batches',
  operationId: 'createBatch',
  tags: ['batches'],
  summary: 'Caption every image that a file names',
  description:
    'The input has a line for each image: `{"custom_id", "method", "url", "body"}` as OpenAI has it, `{"image_url": ..., "custom_id": ...}`, or a bare address. The output has a line for each line of the input that was captioned, in the order of the input; the other lines are in the error file.',
  request: {
    headers: z.object({
      'idempotency-key': z.string().optional().openapi({ description: 'A repeat makes no second batch.' }),
    }),
    body: {
      required: true,
      content: { 'application/json': { schema: batchRequestSchema, example: batchExample } },
    },
  },
  responses: {
    200: jsonResponse('The batch, accepted for good.', batchSchema, { ...example, status: 'validating' }),
    400: errorResponse(
      400,
      'input_file_not_found',
      'There is no file "file-1". Upload it: POST /v1/files.',
      'A field is missing, unknown or wrong, or the input file cannot be used.',
    ),
    404: errorResponse(404, 'model_not_found', 'There is no model "other". Served: starter.'),
    413: errorResponse(413, 'body_too_large', 'The body is larger than 1048576 bytes.'),
    ...idempotencyErrors,
    ...serviceErrors,
    403: errorResponse(403, 's3_not_granted', 'This tenant may not read s3://photos/.'),
    429: errorResponse(
      429,
      'too_many_open_batches',
      'This tenant has 4 unfinished batches, as many as it may have. Wait for one to end, or cancel one.',
    ),
  },
})

export const listBatches = createRoute({
  method: 'get',
  path: '/v1/batches',
  operationId: 'listBatches',
  tags: ['batches'],
  summary: 'The batches, newest first',
  request: { query: batchListQuerySchema },
  responses: {
    200: jsonResponse('A page of batches.', pageSchema(batchSchema), {
      object: 'list',
      data: [example],
      first_id: example.id,
      last_id: example.id,
      has_more: false,
    }),
    400: errorResponse(400, 'invalid_value', '"limit" must be an integer from 1 to 100, but 0 came.'),
    ...serviceErrors,
  },
})

export const getBatch = createRoute({
  method: 'get',
  path: '/v1/batches/{id}',
  operationId: 'getBatch',
  tags: ['batches'],
  summary: 'One batch',
  description: 'While it runs, its counts are about a second old.',
  request: { params },
  responses: { 200: jsonResponse('The batch.', batchSchema, example), 404: notFound, ...serviceErrors },
})

export const cancelBatch = createRoute({
  method: 'post',
  path: '/v1/batches/{id}/cancel',
  operationId: 'cancelBatch',
  tags: ['batches'],
  summary: 'Stop a batch and keep what is done',
  description:
    'It is `cancelling` for a few seconds, then `cancelled` with the files of what was done. A batch whose lines are all done by then is `completed`.',
  request: { params },
  responses: {
    200: jsonResponse('The batch.', batchSchema, {
      ...example,
      status: 'cancelling',
      cancelling_at: 1_790_000_100,
    }),
    400: errorResponse(400, 'batch_not_cancellable', 'The batch is completed and cannot be cancelled.'),
    404: notFound,
    ...serviceErrors,
  },
})
