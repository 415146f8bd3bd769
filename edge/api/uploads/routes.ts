import { createRoute, z } from '@hono/zod-openapi'
import {
  maxPartBytes,
  type Upload,
  type UploadPart,
  uploadCompletionSchema,
  uploadExpirySeconds,
  uploadPartSchema,
  uploadRequestSchema,
  uploadSchema,
} from '../../contract/file.ts'
import { errorResponse, idempotencyErrors, jsonResponse, serviceErrors } from '../responses.ts'

export const uploadExample = {
  bytes: 1_200_000_000,
  filename: 'images.jsonl',
  mime_type: 'application/jsonl',
  purpose: 'batch',
} satisfies z.input<typeof uploadRequestSchema>

const pending: Upload = {
  id: 'upload_2n9c4e2x9a1b2c3d4e5f60718',
  object: 'upload',
  bytes: uploadExample.bytes,
  created_at: 1_790_000_000,
  expires_at: 1_790_003_600,
  filename: uploadExample.filename,
  purpose: 'batch',
  status: 'pending',
  file: null,
}

const completed: Upload = {
  ...pending,
  status: 'completed',
  file: {
    id: 'file-2n9c4e2x9a1b2c3d4e5f60718',
    object: 'file',
    bytes: pending.bytes,
    created_at: 1_790_000_100,
    filename: pending.filename,
    purpose: 'batch',
    status: 'processed',
  },
}

const part: UploadPart = {
  id: 'part_2n9c4e300a1b2c3d4e5f60718',
  object: 'upload.part',
  created_at: 1_790_000_010,
  upload_id: pending.id,
}

export const completionExample = { part_ids: [part.id] } satisfies z.input<typeof uploadCompletionSchema>

const params = z.object({ id: z.string().openapi({ example: pending.id }) })
const notFound = errorResponse(404, 'upload_not_found', 'There is no upload "upload_1".')
const notPending = errorResponse(
  400,
  'upload_not_pending',
  'The upload is cancelled. Begin a new one: POST /v1/uploads.',
  'A field is missing, unknown or wrong, or the upload is not pending any more.',
)
const conflict = errorResponse(
  409,
  'upload_changed',
  'The upload was completed or cancelled by another request meanwhile. Send the request again.',
)

export const createUpload = createRoute({
  method: 'post',
  path: '/v1/uploads',
  operationId: 'createUpload',
  tags: ['uploads'],
  summary: 'Begin a file that comes in parts',
  description: `Parts of at most ${maxPartBytes} bytes each, in any order and several at a time; then complete it within ${uploadExpirySeconds / 60} minutes.`,
  request: {
    headers: z.object({
      'idempotency-key': z.string().optional().openapi({ description: 'A repeat begins no second one.' }),
    }),
    body: {
      required: true,
      content: { 'application/json': { schema: uploadRequestSchema, example: uploadExample } },
    },
  },
  responses: {
    200: jsonResponse('The upload, to which parts can be added.', uploadSchema, pending),
    400: errorResponse(400, 'missing_required_parameter', '"bytes" is missing. It must be an integer.'),
    413: errorResponse(413, 'body_too_large', 'The body is larger than 1048576 bytes.'),
    ...idempotencyErrors,
    ...serviceErrors,
  },
})

export const addUploadPart = createRoute({
  method: 'post',
  path: '/v1/uploads/{id}/parts',
  operationId: 'addUploadPart',
  tags: ['uploads'],
  summary: 'Add a part',
  request: {
    params,
    body: {
      required: true,
      content: {
        'multipart/form-data': { schema: z.object({ data: z.string().openapi({ format: 'binary' }) }) },
      },
    },
  },
  responses: {
    200: jsonResponse('The part. Its id says at completion where it belongs.', uploadPartSchema, part),
    400: notPending,
    404: notFound,
    413: errorResponse(413, 'file_too_large', `"data" has more than ${maxPartBytes} bytes.`),
    415: errorResponse(415, 'content_type_unsupported', 'The content type is missing.'),
    ...serviceErrors,
  },
})

export const completeUpload = createRoute({
  method: 'post',
  path: '/v1/uploads/{id}/complete',
  operationId: 'completeUpload',
  tags: ['uploads'],
  summary: 'Make the parts a file',
  description:
    'The parts are the file, in the order in which they are named here; nothing is copied. Parts that are not named are removed.',
  request: {
    params,
    body: {
      required: true,
      content: { 'application/json': { schema: uploadCompletionSchema, example: completionExample } },
    },
  },
  responses: {
    200: jsonResponse('The upload with its file.', uploadSchema, completed),
    400: errorResponse(
      400,
      'bytes_mismatch',
      'The parts have 900 bytes together, but the upload was announced with 1000.',
      'The parts are not those of the upload, or are not what was announced; or it is not pending any more.',
    ),
    404: notFound,
    409: conflict,
    413: errorResponse(413, 'body_too_large', 'The body is larger than 1048576 bytes.'),
    ...serviceErrors,
  },
})

export const cancelUpload = createRoute({
  method: 'post',
  path: '/v1/uploads/{id}/cancel',
  operationId: 'cancelUpload',
  tags: ['uploads'],
  summary: 'Give an upload up and remove its parts',
  request: { params },
  responses: {
    200: jsonResponse('The cancelled upload.', uploadSchema, { ...pending, status: 'cancelled' }),
    400: notPending,
    404: notFound,
    409: conflict,
    ...serviceErrors,
  },
})
