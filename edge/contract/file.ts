import { z } from '@hono/zod-openapi'
import type { Slice } from '../../infra/store/slices.ts'

/** Id of a file in a request; any text that could be one, so that it is looked up. */
export const fileIdSchema = z.string().min(1).max(200)

/** File in OpenAI's format. Times are unix seconds. */
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

export const expiresAfterSchema = z
  .strictObject({
    anchor: z.enum(['created_at']),
    seconds: z
      .int()
      .min(3600)
      .max(2_592_000)
      .openapi({ description: 'Seconds after the creation of the file.' }),
  })
  .openapi('ExpiresAfter')

/** Maximum bytes of a file's name, as file systems have it. */
const maxFilenameBytes = 255

/** Cuts a name between characters; what is no well-formed text is replaced. */
export function cutFilename(name: string): string {
  const { read } = new TextEncoder().encodeInto(name, new Uint8Array(maxFilenameBytes))
  return name.slice(0, read).toWellFormed()
}

/** Maximum bytes of a file in one request; proxies in front of the service may allow less. */
export const maxFileBytes = 5_000_000_000

/** File as stored: uploaded parts stay parts, so nothing is copied. */
export interface StoredFile {
  file: File
  /** Positions of its content, in order. */
  slices: Slice[]
}

/** Upload in OpenAI's format. Times are unix seconds. */
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
    file: z.union([fileSchema, z.null()]),
  })
  .openapi('Upload')
export type Upload = z.infer<typeof uploadSchema>

/** Media types that the lines of a batch can have. */
const manifestType =
  /^(text\/[A-Za-z0-9.+-]+|application\/(octet-stream|[A-Za-z0-9.+-]*json[A-Za-z0-9.+-]*))( *;[ -~]*)?$/

export const uploadRequestSchema = z
  .strictObject({
    bytes: z.int().min(1).max(64_000_000_000).openapi({ description: 'Total bytes of all parts.' }),
    filename: z.string().min(1).max(255),
    mime_type: z
      .string()
      .min(1)
      .max(255)
      .refine((type) => manifestType.test(type), 'must be of a text or of JSON, like "application/jsonl"')
      .openapi({ pattern: manifestType.source, example: 'application/jsonl' }),
    purpose: z.enum(['batch']),
    expires_after: expiresAfterSchema.optional(),
  })
  .openapi('UploadRequest')
export type UploadRequest = z.infer<typeof uploadRequestSchema>

/** Maximum bytes of a part. */
export const maxPartBytes = 64 * 1024 * 1024
export const maxParts = 10_000
/** Time to complete an upload, seconds. */
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
    part_ids: z
      .array(z.string().max(200))
      .min(1)
      .max(maxParts)
      .openapi({ description: 'In the order of the file.' }),
    md5: z
      .string()
      .max(32)
      .regex(/^[0-9A-Fa-f]{32}$/)
      .optional()
      .openapi({ description: 'MD5 of the whole file in hex; the upload is rejected when it differs.' }),
  })
  .openapi('UploadCompletion')
export type UploadCompletion = z.infer<typeof uploadCompletionSchema>

/** Upload as stored under `keys.upload`. */
export interface StoredUpload {
  upload: Upload
  /** Seconds after the file's creation at which it expires, if it does. */
  fileExpiresAfter?: number
}
