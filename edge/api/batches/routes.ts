import { z } from '@hono/zod-openapi'
import { type Batch, batchRequestSchema, batchSchema, newBatch } from '../../contract/batch.ts'
import { pageQuery, pageResponse } from '../pages.ts'
import {
  errorResponse,
  idempotencyErrors,
  idempotencyHeader,
  idParams,
  jsonBody,
  jsonResponse,
  jsonTooLarge,
  modelNotFound,
  operation,
  serviceErrors,
} from '../responses.ts'

export const batchExample = {
  input_file_id: 'file-2n9c4e2x9a1b2c3d4e5f60718',
  endpoint: '/v1/chat/completions',
  completion_window: '24h',
} satisfies z.input<typeof batchRequestSchema>

export const batchListQuerySchema = z.strictObject(pageQuery(100, 20))

const created = newBatch({
  ...batchExample,
  id: 'batch_2n9c4e2wz0718a1b2c3d4e5f6',
  model: 'starter',
  created_at: 1_790_000_000,
  expires_at: 1_790_086_400,
  metadata: { dataset: 'harbour' },
  turbine: { max_prune: 1 },
})

const running: Batch = {
  ...created,
  status: 'in_progress',
  in_progress_at: 1_790_000_001,
  request_counts: { total: 10_000, completed: 4096, failed: 3 },
  turbine: { max_prune: 1, prune_ratio_mean: 0.21, counting: false },
}

const params = idParams(created.id)
const notFound = errorResponse(404, 'batch_not_found', 'There is no batch "batch_1".')

export const createBatch = operation('post', '/v1/batches', 'createBatch', {
  summary: 'Create a batch',
  description:
    'Captions every image of the input, which has one line per image: `{"custom_id", "method", "url", "body"}` as in OpenAI\'s API, `{"image_url": ..., "custom_id": ...}`, or a bare URL. The output file has one line per captioned input line, in input order; failed lines are in the error file.',
  request: {
    headers: idempotencyHeader('A retry with the same key creates no second batch.'),
    body: jsonBody(batchRequestSchema, batchExample),
  },
  responses: {
    200: jsonResponse('The batch was accepted durably.', batchSchema, created),
    400: errorResponse(
      400,
      'input_file_not_found',
      'There is no file "file-1". Upload it: POST /v1/files.',
      'A field is missing, unknown or invalid, or the input file cannot be used.',
    ),
    404: modelNotFound,
    413: jsonTooLarge,
    ...idempotencyErrors,
    ...serviceErrors,
    403: errorResponse(403, 's3_not_granted', 'This tenant may not read s3://photos/.'),
    429: errorResponse(
      429,
      'too_many_open_batches',
      'This tenant has reached its limit of 4 unfinished batches. Wait for one to end, or cancel one.',
    ),
  },
})

export const listBatches = operation('get', '/v1/batches', 'listBatches', {
  summary: 'List batches, newest first',
  request: { query: batchListQuerySchema },
  responses: {
    200: pageResponse('A page of batches.', batchSchema, running),
    400: errorResponse(400, 'invalid_value', '"limit" must be an integer from 1 to 100, got 0.'),
    ...serviceErrors,
  },
})

export const getBatch = operation('get', '/v1/batches/{id}', 'getBatch', {
  summary: 'Retrieve a batch',
  description: 'While the batch runs, its counts are about one second old.',
  request: { params },
  responses: { 200: jsonResponse('The batch.', batchSchema, running), 404: notFound, ...serviceErrors },
})

export const cancelBatch = operation('post', '/v1/batches/{id}/cancel', 'cancelBatch', {
  summary: 'Cancel a batch and keep its results',
  description:
    'The batch is `cancelling` for a few seconds, then `cancelled`, with files of the finished lines. A batch whose lines have all finished by then is `completed`.',
  request: { params },
  responses: {
    200: jsonResponse('The batch.', batchSchema, {
      ...running,
      status: 'cancelling',
      cancelling_at: 1_790_000_100,
    }),
    400: errorResponse(400, 'batch_not_cancellable', 'The batch is completed and cannot be cancelled.'),
    404: notFound,
    ...serviceErrors,
  },
})
