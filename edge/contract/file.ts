import { z } from '@hono/zod-openapi'
import type { Slice } from '../../infra/store/slices.ts'

/** A file in OpenAI's shape. Times are unix seconds. */
export const fileSchema = z
  .object({
    id: z.string(),
    object: z.literal('file'),
    bytes: z.int(),
    created_at: z.int(),
    expires_at: z.int().optional(),
    filename: z.string(),
    purpose: z.enum(['batch', 'batch_output']),
    status: z.literal('processed'),
  })
  .openapi('File')
export type File = z.infer<typeof fileSchema>

/** When a file is removed by itself. */
export const expiresAfterSchema = z
  .strictObject({
    anchor: z.enum(['created_at']),
    seconds: z.int().min(3600).max(2_592_000).openapi({ description: 'Seconds after the file was made.' }),
  })
  .openapi('ExpiresAfter')

/** Bytes of a file that comes in one request; platforms in front of the service may allow less. */
export const maxFileBytes = 5_000_000_000

/** A file as it is kept: a file that came in parts stays in parts, so nothing is ever copied. */
export interface StoredFile {
  file: File
  /** Where its bytes lie, in order; together they are the file. */
  slices: Slice[]
}

/** An upload in OpenAI's shape. Times are unix seconds. */
export const uploadSchema = z
  .object({
    id: z.string(),
    object: z.literal('upload'),
    bytes: z.int(),
    created_at: z.int(),
    expires_at: z.int(),
    filename: z.string(),
    purpose: z.literal('batch'),
    status: z.enum(['pending', 'completed', 'cancelled', 'expired']),
    file: fileSchema.nullable(),
  })
  .openapi('Upload')
export type Upload = z.infer<typeof uploadSchema>

/** What a file that comes in parts will be. */
export const uploadRequestSchema = z
  .strictObject({
    bytes: z.int().min(1).max(64_000_000_000).openapi({ description: 'Bytes of all parts together.' }),
    filename: z.string().min(1).max(255),
    mime_type: z.string().min(1).max(255).openapi({ example: 'application/jsonl' }),
    purpose: z.enum(['batch']),
    expires_after: expiresAfterSchema.optional(),
  })
  .openapi('UploadRequest')
export type UploadRequest = z.infer<typeof uploadRequestSchema>

/** Bytes of a part at most. */
export const maxPartBytes = 64 * 1024 * 1024
/** Parts of an upload at most. */
const maxParts = 10_000
/** An upload that is not completed after this long is given up, seconds. */
export const uploadExpirySeconds = 3600

export const uploadPartSchema = z
  .object({
    id: z.string(),
    object: z.literal('upload.part'),
    created_at: z.int(),
    upload_id: z.string(),
  })
  .openapi('UploadPart')
export type UploadPart = z.infer<typeof uploadPartSchema>

export const uploadCompletionSchema = z
  .strictObject({
    part_ids: z.array(z.string()).min(1).max(maxParts).openapi({ description: 'In the order of the file.' }),
    md5: z
      .string()
      .regex(/^[\da-f]{32}$/i)
      .optional()
      .openapi({ description: 'MD5 of the whole file in hex; the upload is refused when it differs.' }),
  })
  .openapi('UploadCompletion')
export type UploadCompletion = z.infer<typeof uploadCompletionSchema>

/** An upload as it is kept under `keys.upload`. */
export interface StoredUpload {
  upload: Upload
  /** Seconds after the file's creation at which it expires, if it does. */
  fileExpiresAfter?: number
}
