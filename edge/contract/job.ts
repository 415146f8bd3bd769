import { z } from 'zod'
import type { StreamRecord } from '../../infra/stream/stream.ts'
import {
  type CaptionEnd,
  maxPromptCharacters,
  maxStopCharacters,
  maxStops,
  modelIdSchema,
} from './caption.ts'
import { TurbineError } from './errors.ts'
import { parseJson } from './json.ts'
import { keys } from './keys.ts'
import { tenantSchema } from './tenant.ts'

/** Interactive request as a record of the stream. Times are unix ms. */
export interface CaptionJob extends CaptionEnd {
  id: string
  tenant: string
  model: string
  /** The image's bytes, or the store key of an image too large for a record, with its size in bytes if it is known. */
  image: Uint8Array | { key: string; bytes?: number }
  acceptedAt: number
  deadline: number
  /** Maximum share of image tokens that may be merged, 0 to 1. */
  maxPrune: number
  prompt?: string
  /** URL that the finished caption is announced to; absent when no caller waits. */
  replyTo?: string
  traceparent?: string
  /** The job can be sent more than once: its result is looked up before it runs. */
  repeatable?: true
}

/** Larger images are stored first and sent by key, bytes. */
export const maxInlineImageBytes = 512 * 1024

/** Encodes a job as a record: the image bytes are the value, everything else is in headers (no base64). */
export function encodeJob(job: CaptionJob): StreamRecord {
  const headers: Record<string, string> = {
    'turbine-id': job.id,
    tenant: job.tenant,
    model: job.model,
    'accepted-at': String(job.acceptedAt),
    deadline: String(job.deadline),
    'max-prune': String(job.maxPrune),
  }
  if (job.prompt !== undefined) headers.prompt = job.prompt
  if (job.maxTokens !== undefined) headers['max-tokens'] = String(job.maxTokens)
  if (job.stop !== undefined) headers.stop = JSON.stringify(job.stop)
  if (job.replyTo !== undefined) headers['reply-to'] = job.replyTo
  if (job.traceparent !== undefined) headers.traceparent = job.traceparent
  if (job.repeatable) headers.repeatable = '1'
  if (job.image instanceof Uint8Array) return { key: job.id, value: job.image, headers }
  headers['image-key'] = job.image.key
  if (job.image.bytes !== undefined) headers['image-bytes'] = String(job.image.bytes)
  return { key: job.id, value: new Uint8Array(0), headers }
}

const timeHeader = z
  .string()
  .regex(/^[0-9.e+-]{1,40}$/)
  .transform(Number)
  .pipe(z.number().min(0))

/** Every character of every text escaped. */
const maxStopHeader = 8 * maxStops * maxStopCharacters

/** What is no JSON becomes undefined, which no schema accepts here. */
function jsonIn(text: string): unknown {
  try {
    return parseJson(text, { maxItems: 2 * maxStops })
  } catch {
    return undefined
  }
}

/** Headers as processors need them: what is in the stream is not trusted, since others may write there too. */
const headersSchema = z.object({
  'turbine-id': z.string().regex(/^[\w-]{1,128}$/),
  tenant: tenantSchema.shape.id,
  model: modelIdSchema,
  'accepted-at': timeHeader,
  deadline: timeHeader,
  'max-prune': timeHeader.pipe(z.number().max(1)),
  prompt: z.string().max(maxPromptCharacters).optional(),
  'max-tokens': z
    .string()
    .regex(/^\d{1,16}$/)
    .transform(Number)
    .pipe(z.int().min(1))
    .optional(),
  stop: z
    .string()
    .max(maxStopHeader)
    .transform(jsonIn)
    .pipe(z.array(z.string().min(1).max(maxStopCharacters)).max(maxStops))
    .optional(),
  'reply-to': z.string().max(2048).optional(),
  'image-key': z.string().max(1024).optional(),
  'image-bytes': z.string().optional(),
  traceparent: z.string().optional(),
  repeatable: z.string().optional(),
})

/** @throws TurbineError `record_unreadable` when a header is missing or malformed, or names another tenant's image */
export function decodeJob(record: Pick<StreamRecord, 'value' | 'headers'>): CaptionJob {
  const read = headersSchema.safeParse(record.headers)
  if (!read.success) throw unreadable(String(read.error.issues[0]?.path[0]))
  const { tenant, model, deadline, prompt, stop, traceparent, ...headers } = read.data
  const id = headers['turbine-id']
  const imageKey = headers['image-key']
  if (imageKey !== undefined && !isImageOf(tenant, imageKey)) throw unreadable('image-key')
  return {
    id,
    tenant,
    model,
    image: imageKey === undefined ? record.value : { key: imageKey, ...sizeIn(headers['image-bytes']) },
    acceptedAt: headers['accepted-at'],
    deadline,
    maxPrune: headers['max-prune'],
    prompt,
    maxTokens: headers['max-tokens'],
    stop,
    replyTo: headers['reply-to'],
    traceparent,
    repeatable: headers.repeatable === '1' || undefined,
  }
}

/** Size of an image sent by key; a damaged one counts as unknown. */
function sizeIn(header: string | undefined): { bytes?: number } {
  const bytes = Number(header || Number.NaN)
  return Number.isSafeInteger(bytes) && bytes >= 0 ? { bytes } : {}
}

/** The object is read, and deleted. */
const isImageOf = (tenant: string, key: string) =>
  key.startsWith(keys.captions(tenant)) && /^[\w-]+\.image$/.test(key.slice(keys.captions(tenant).length))

const unreadable = (header: string) =>
  new TurbineError(`The record's header "${header}" is missing or malformed.`, {
    status: 500,
    code: 'record_unreadable',
    param: header,
    retriable: false,
  })
