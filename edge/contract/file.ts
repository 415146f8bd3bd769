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
