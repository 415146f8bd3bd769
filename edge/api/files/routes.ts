import { z } from '@hono/zod-openapi'
import { expiresAfterSchema, fileSchema, maxFileBytes } from '../../contract/file.ts'
import { pageQuery, pageResponse } from '../pages.ts'
import { fromText } from '../read.ts'
import {
  contentTypeMissing,
  errorResponse,
  idempotencyErrors,
  idempotencyHeader,
  idParams,
  jsonResponse,
  operation,
  serviceErrors,
  storageFull,
} from '../responses.ts'
import { newFile } from './stored.ts'

/** Form fields beside the file. */
export const fileFormSchema = z.strictObject({
  purpose: z.enum(['batch']),
  expires_after: expiresAfterSchema
    .extend({ seconds: fromText(expiresAfterSchema.shape.seconds) })
    .optional(),
})

/** Maximum files per page, whatever `limit` says: each is read by itself. */
export const maxPageFiles = 500

export const fileListQuerySchema = z.strictObject({
  ...pageQuery(10_000, 10_000),
  order: z.enum(['asc', 'desc']).default('desc').openapi({ description: 'By creation time.' }),
  purpose: fileSchema.shape.purpose.optional(),
})

const example = newFile({
  id: 'file-2n9c4e2x9a1b2c3d4e5f60718',
  bytes: 1_048_576,
  created_at: 1_790_000_000,
  filename: 'images.jsonl',
})

const params = idParams(example.id)
const notFound = errorResponse(404, 'file_not_found', 'There is no file "file-1".')

export const createFile = operation('post', '/v1/files', 'createFile', {
  summary: 'Upload a file for a batch',
  description:
    'The file is streamed to the object store. Where a proxy in front of the service limits request sizes, upload it in parts: `POST /v1/uploads`.',
  request: {
    headers: idempotencyHeader('A retry with the same key creates no second file.'),
    body: {
      required: true,
      description: `A file of at most ${maxFileBytes} bytes.`,
      content: {
        'multipart/form-data': {
          schema: z.strictObject({
            file: z.string().openapi({ format: 'binary', description: 'One line per image.' }),
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
      '"purpose" must be one of "batch", got "vision".',
      'A field is missing, unknown or invalid, the file is empty, or the form is incomplete. Nothing is kept.',
    ),
    409: idempotencyErrors[409],
    413: errorResponse(
      413,
      'file_too_large',
      `"file" has more than ${maxFileBytes} bytes. Upload it in parts: POST /v1/uploads.`,
    ),
    415: contentTypeMissing,
    ...serviceErrors,
    403: storageFull,
  },
})

export const listFiles = operation('get', '/v1/files', 'listFiles', {
  summary: 'List files',
  description: `A page holds at most ${maxPageFiles} files; \`has_more\` is true if there are more.`,
  request: { query: fileListQuerySchema },
  responses: {
    200: pageResponse('A page of files.', fileSchema, example),
    400: errorResponse(400, 'invalid_value', '"limit" must be an integer from 1 to 10000, got 0.'),
    ...serviceErrors,
  },
})

export const getFile = operation('get', '/v1/files/{id}', 'getFile', {
  summary: 'Retrieve a file',
  request: { params },
  responses: { 200: jsonResponse('The file.', fileSchema, example), 404: notFound, ...serviceErrors },
})

const bytes = { 'application/octet-stream': { schema: z.string().openapi({ format: 'binary' }) } }

export const getFileContent = operation('get', '/v1/files/{id}/content', 'getFileContent', {
  summary: "Download a file's content",
  request: {
    params,
    headers: z.object({
      range: z.string().optional().openapi({
        description: 'One range of bytes. Others are ignored.',
        example: 'bytes=1000-',
      }),
    }),
  },
  responses: {
    200: { description: 'The content.', content: bytes },
    206: { description: 'The requested range.', content: bytes },
    404: notFound,
    416: errorResponse(416, 'range_invalid', 'The range bytes=9000- is outside the file of 100 bytes.'),
    ...serviceErrors,
  },
})

const fileDeletedSchema = z
  .object({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) })
  .openapi('FileDeleted')

export const deleteFile = operation('delete', '/v1/files/{id}', 'deleteFile', {
  summary: 'Delete a file and its content',
  description:
    'A batch that still reads the file fails the lines that are not captioned yet; cancel it first. Files written to your own bucket stay there.',
  request: { params },
  responses: {
    200: jsonResponse('The file was deleted.', fileDeletedSchema, {
      id: example.id,
      object: 'file',
      deleted: true,
    }),
    404: notFound,
    ...serviceErrors,
  },
})
