import { createRoute, z } from '@hono/zod-openapi'
import { expiresAfterSchema, type File, fileSchema, maxFileBytes } from '../../contract/file.ts'
import { pageQuery, pageSchema } from '../pages.ts'
import { fromText } from '../read.ts'
import { errorResponse, idempotencyErrors, jsonResponse, serviceErrors } from '../responses.ts'

/** What a form says beside the file. */
export const fileFormSchema = z.strictObject({
  purpose: z.enum(['batch']),
  expires_after: expiresAfterSchema
    .extend({ seconds: fromText(expiresAfterSchema.shape.seconds) })
    .optional(),
})

/** Files on a page at most, whatever the limit says: each is read for itself. */
export const maxPageFiles = 500

export const fileListQuerySchema = z.strictObject({
  ...pageQuery(10_000, 10_000),
  order: z.enum(['asc', 'desc']).default('desc').openapi({ description: 'By the time of creation.' }),
  purpose: fileSchema.shape.purpose.optional(),
})

const example: File = {
  id: 'file-2n9c4e2x9a1b2c3d4e5f60718',
  object: 'file',
  bytes: 1_048_576,
  created_at: 1_790_000_000,
  filename: 'images.jsonl',
  purpose: 'batch',
  status: 'processed',
}

const params = z.object({ id: z.string().openapi({ example: example.id }) })
const notFound = errorResponse(404, 'file_not_found', 'There is no file "file-1".')

export const createFile = createRoute({
  method: 'post',
  path: '/v1/files',
  operationId: 'createFile',
  tags: ['files'],
  summary: 'Upload a file for a batch',
  description:
    'The file is streamed to the object store. What is larger than a platform in front of the service lets through comes in parts: `POST /v1/uploads`.',
  request: {
    headers: z.object({
      'idempotency-key': z.string().optional().openapi({ description: 'A repeat makes no second file.' }),
    }),
    body: {
      required: true,
      description: `A file of at most ${maxFileBytes} bytes.`,
      content: {
        'multipart/form-data': {
          schema: z.object({
            file: z.string().openapi({ format: 'binary', description: 'A line for each image.' }),
            purpose: fileFormSchema.shape.purpose,
            'expires_after[anchor]': expiresAfterSchema.shape.anchor.optional(),
            'expires_after[seconds]': expiresAfterSchema.shape.seconds.optional(),
          }),
        },
      },
    },
  },
  responses: {
    200: jsonResponse('The file.', fileSchema, example),
    400: errorResponse(
      400,
      'invalid_value',
      '"purpose" must be one of "batch", but "vision" came.',
      'A field is missing, unknown or wrong, the file is empty, or the form broke off. Nothing is kept.',
    ),
    409: idempotencyErrors[409],
    413: errorResponse(
      413,
      'file_too_large',
      `"file" has more than ${maxFileBytes} bytes. Send it in parts: POST /v1/uploads.`,
    ),
    415: errorResponse(415, 'content_type_unsupported', 'The content type is missing.'),
    ...serviceErrors,
  },
})

export const listFiles = createRoute({
  method: 'get',
  path: '/v1/files',
  operationId: 'listFiles',
  tags: ['files'],
  summary: 'The files',
  description: `A page holds at most ${maxPageFiles} files; \`has_more\` says that there are more.`,
  request: { query: fileListQuerySchema },
  responses: {
    200: jsonResponse('A page of files.', pageSchema(fileSchema), {
      object: 'list',
      data: [example],
      first_id: example.id,
      last_id: example.id,
      has_more: false,
    }),
    400: errorResponse(400, 'invalid_value', '"limit" must be an integer from 1 to 10000, but 0 came.'),
    ...serviceErrors,
  },
})

export const getFile = createRoute({
  method: 'get',
  path: '/v1/files/{id}',
  operationId: 'getFile',
  tags: ['files'],
  summary: 'One file',
  request: { params },
  responses: { 200: jsonResponse('The file.', fileSchema, example), 404: notFound, ...serviceErrors },
})

const bytes = { 'application/octet-stream': { schema: z.string().openapi({ format: 'binary' }) } }

export const getFileContent = createRoute({
  method: 'get',
  path: '/v1/files/{id}/content',
  operationId: 'getFileContent',
  tags: ['files'],
  summary: "A file's bytes",
  request: {
    params,
    headers: z.object({
      range: z.string().optional().openapi({ description: 'One range of bytes.', example: 'bytes=1000-' }),
    }),
  },
  responses: {
    200: { description: 'The bytes.', content: bytes },
    206: { description: 'The range that was asked for.', content: bytes },
    404: notFound,
    416: errorResponse(416, 'range_invalid', 'The range bytes=9000- is not in a file of 100 bytes.'),
    ...serviceErrors,
  },
})

const fileDeletedSchema = z
  .object({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) })
  .openapi('FileDeleted')

export const deleteFile = createRoute({
  method: 'delete',
  path: '/v1/files/{id}',
  operationId: 'deleteFile',
  tags: ['files'],
  summary: 'Remove a file and its bytes',
  description:
    'A batch that still reads the file fails the lines that it has not captioned yet; cancel it before. What was written to a bucket of your own stays there.',
  request: { params },
  responses: {
    200: jsonResponse('It is gone.', fileDeletedSchema, { id: example.id, object: 'file', deleted: true }),
    404: notFound,
    ...serviceErrors,
  },
})
