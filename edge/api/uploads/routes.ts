import { z } from '@hono/zod-openapi'
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
import { maxFormParts } from '../files/form.ts'
import { newFile } from '../files/stored.ts'
import {
  contentTypeMissing,
  errorResponse,
  idempotencyErrors,
  idempotencyHeader,
  idParams,
  jsonBody,
  jsonResponse,
  jsonTooLarge,
  operation,
  serviceErrors,
  storageFull,
} from '../responses.ts'

export const uploadExample = {
  bytes: 1_200_000_000,
  filename: 'images.jsonl',
  mime_type: 'application/jsonl',
  purpose: 'batch',
} satisfies z.input<typeof uploadRequestSchema>

const { bytes, filename } = uploadExample

const pending: Upload = {
  id: 'upload_2n9c4e2x9a1b2c3d4e5f60718',
  object: 'upload',
  bytes,
  created_at: 1_790_000_000,
  expires_at: 1_790_003_600,
  filename,
  purpose: 'batch',
  status: 'pending',
  file: null,
}

const completed: Upload = {
  ...pending,
  status: 'completed',
  file: newFile({ id: 'file-2n9c4e2x9a1b2c3d4e5f60718', bytes, created_at: 1_790_000_100, filename }),
}

const part: UploadPart = {
  id: 'part_2n9c4e300a1b2c3d4e5f60718',
  object: 'upload.part',
  created_at: 1_790_000_010,
  upload_id: pending.id,
}

export const completionExample = { part_ids: [part.id] } satisfies z.input<typeof uploadCompletionSchema>

const params = idParams(pending.id)
const notFound = errorResponse(404, 'upload_not_found', 'There is no upload "upload_1".')
const notPending = errorResponse(
  400,
  'upload_not_pending',
  'The upload is cancelled. Create a new one: POST /v1/uploads.',
  'A field is missing, unknown or invalid, or the upload is no longer pending.',
)
const conflict = errorResponse(
  409,
  'upload_changed',
  'The upload was completed or cancelled by another request. Retry the request.',
)

export const createUpload = operation('post', '/v1/uploads', 'createUpload', {
  summary: 'Start a multipart upload',
  description: `Add parts of at most ${maxPartBytes} bytes each, in any order and several at a time; then complete the upload within ${uploadExpirySeconds / 60} minutes.`,
  request: {
    headers: idempotencyHeader('A retry with the same key creates no second upload.'),
    body: jsonBody(uploadRequestSchema, uploadExample),
  },
  responses: {
    200: jsonResponse('The pending upload.', uploadSchema, pending),
    400: errorResponse(400, 'missing_required_parameter', '"bytes" is missing. It must be an integer.'),
    413: jsonTooLarge,
    ...idempotencyErrors,
    ...serviceErrors,
    403: storageFull,
  },
})

export const addUploadPart = operation('post', '/v1/uploads/{id}/parts', 'addUploadPart', {
  summary: 'Add a part',
  description: 'The parts together have at most the bytes that the upload was created with.',
  request: {
    params,
    headers: idempotencyHeader('A retry with the same key adds no second part.'),
    body: {
      required: true,
      content: {
        'multipart/form-data': {
          schema: z
            .object({ data: z.string().openapi({ format: 'binary' }) })
            .openapi({ maxProperties: maxFormParts }),
        },
      },
    },
  },
  responses: {
    200: jsonResponse(
      'The part. Its id gives its position when the upload is completed.',
      uploadPartSchema,
      part,
    ),
    400: notPending,
    404: notFound,
    413: errorResponse(
      413,
      'upload_bytes_exceeded',
      'The upload was created with 1000 bytes, and its parts would have more.',
      'The part is too large, or the parts of the upload would have more bytes than announced.',
    ),
    409: idempotencyErrors[409],
    415: contentTypeMissing,
    ...serviceErrors,
    403: storageFull,
  },
})

export const completeUpload = operation('post', '/v1/uploads/{id}/complete', 'completeUpload', {
  summary: 'Assemble the parts into a file',
  description:
    'The file consists of the parts in the order given here; nothing is copied. Parts that are not listed are deleted.',
  request: { params, body: jsonBody(uploadCompletionSchema, completionExample) },
  responses: {
    200: jsonResponse('The upload with its file.', uploadSchema, completed),
    400: errorResponse(
      400,
      'bytes_mismatch',
      'The parts have 900 bytes in total, but the upload was created with 1000.',
      'The parts are not those of the upload or do not match it, or the upload is no longer pending.',
    ),
    404: notFound,
    409: conflict,
    413: jsonTooLarge,
    ...serviceErrors,
  },
})

export const cancelUpload = operation('post', '/v1/uploads/{id}/cancel', 'cancelUpload', {
  summary: 'Cancel an upload and delete its parts',
  request: { params },
  responses: {
    200: jsonResponse('The cancelled upload.', uploadSchema, { ...pending, status: 'cancelled' }),
    400: notPending,
    404: notFound,
    409: conflict,
    ...serviceErrors,
  },
})
