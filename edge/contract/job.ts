import { z } from 'zod'
import type { StreamRecord } from '../../infra/stream/stream.ts'
import {
  type CaptionEnd,
  type CaptionText,
  maxBeginningCharacters,
  maxStopCharacters,
  maxStops,
  modelIdSchema,
  mostImages,
  mostTextCharacters,
  type RequestWarning,
  requestWarningSchema,
} from './caption.ts'
import { TurbineError } from './errors.ts'
import { type Generation, generationSchema, maxCaptions } from './generation.ts'
import { parseJson } from './json.ts'
import { keys } from './keys.ts'
import { tenantSchema } from './tenant.ts'

/** Interactive request as a record of the stream. Times are unix ms. */
export interface CaptionJob extends CaptionEnd {
  id: string
  tenant: string
  model: string
  /**
   * The image's bytes, or the store key of an image too large for a record, with its size in bytes if it is known. Several
   * images are one behind the other.
   */
  image: Uint8Array | { key: string; bytes?: number }
  /** Bytes of each image; absent: there is one. */
  imageSizes?: readonly number[]
  acceptedAt: number
  deadline: number
  /** Maximum share of image tokens that may be merged, 0 to 1. */
  maxPrune: number
  /** What the model is asked; it follows all of it. */
  request?: CaptionText
  /** How its words are chosen. */
  settings?: Generation
  /** Captions of the request; absent: one. */
  n?: number
  /** What is to be known of the request. */
  warnings?: readonly RequestWarning[]
  /** URL that the finished caption is announced to; absent when no caller waits. */
  replyTo?: string
  /** That caller reads along: parts of the caption are announced as it grows. */
  streamed?: true
  traceparent?: string
  /** The job can be sent more than once: its result is looked up before it runs. */
  repeatable?: true
}

/** Larger images are stored first and sent by key, bytes. */
export const maxInlineImageBytes = 512 * 1024

/** The images of a job in its bytes. @throws TurbineError `record_unreadable` when they are not what their sizes say */
export function imagesOf({ imageSizes }: Pick<CaptionJob, 'imageSizes'>, bytes: Uint8Array): Uint8Array[] {
  if (imageSizes === undefined) return [bytes]
  let end = 0
  const images = imageSizes.map((size) => {
    end += size
    return bytes.subarray(end - size, end)
  })
  if (end !== bytes.length) throw unreadable('image-sizes')
  return images
}

/** Several images as the bytes of a job, and their sizes; one as it is. */
export function packImages(images: readonly Uint8Array[]): { bytes: Uint8Array; imageSizes?: number[] } {
  if (images.length === 1) return { bytes: images[0]! }
  const imageSizes = images.map(({ length }) => length)
  const bytes = new Uint8Array(imageSizes.reduce((sum, size) => sum + size, 0))
  let end = 0
  for (const image of images) {
    bytes.set(image, end)
    end += image.length
  }
  return { bytes, imageSizes }
}

/**
 * Encodes a job as a record: the image bytes are the value, everything else is in headers (no base64). The beginning of the
 * caption has the name that earlier versions read.
 */
export function encodeJob(job: CaptionJob): StreamRecord {
  const headers: Record<string, string> = {
    'turbine-id': job.id,
    tenant: job.tenant,
    model: job.model,
    'accepted-at': String(job.acceptedAt),
    deadline: String(job.deadline),
    'max-prune': String(job.maxPrune),
  }
  const { beginning, ...text } = job.request ?? {}
  if (beginning !== undefined) headers.prompt = beginning
  if (Object.keys(text).length > 0) headers.request = JSON.stringify(text)
  if (job.settings && Object.keys(job.settings).length > 0) headers.settings = JSON.stringify(job.settings)
  if (job.n !== undefined) headers.n = String(job.n)
  if (job.warnings !== undefined) headers.warnings = job.warnings.join(',')
  if (job.imageSizes !== undefined) headers['image-sizes'] = job.imageSizes.join(',')
  if (job.maxTokens !== undefined) headers['max-tokens'] = String(job.maxTokens)
  if (job.stop !== undefined) headers.stop = JSON.stringify(job.stop)
  if (job.replyTo !== undefined) headers['reply-to'] = job.replyTo
  if (job.streamed) headers.streamed = '1'
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
const maxRequestHeader = 8 * mostTextCharacters
const maxSettingsHeader = 2048

/** What is no JSON becomes undefined, which no schema accepts here. */
function jsonIn(text: string): unknown {
  try {
    return parseJson(text, { maxItems: 64 })
  } catch {
    return undefined
  }
}

const json = <T>(maxCharacters: number, schema: z.ZodType<T>) =>
  z.string().max(maxCharacters).transform(jsonIn).pipe(schema).optional()

const count = (most: number) =>
  z
    .string()
    .regex(/^\d{1,16}$/)
    .transform(Number)
    .pipe(z.int().min(1).max(most))
    .optional()

const list = (text: string) => text.split(',')

const textSchema = z.string().max(mostTextCharacters).optional()

/** As `JSON` leaves it: without what is absent. */
const requestSchema: z.ZodType<Omit<CaptionText, 'beginning'>> = z.strictObject({
  system: textSchema,
  text: textSchema,
  task: z.string().max(100).optional(),
  maxPixels: z.int().min(1).optional(),
})

/** Headers as processors need them: what is in the stream is not trusted, since others may write there too. */
const headersSchema = z.object({
  'turbine-id': z.string().regex(/^[\w-]{1,128}$/),
  tenant: tenantSchema.shape.id,
  model: modelIdSchema,
  'accepted-at': timeHeader,
  deadline: timeHeader,
  'max-prune': timeHeader.pipe(z.number().max(1)),
  prompt: z.string().max(maxBeginningCharacters).optional(),
  request: json(maxRequestHeader, requestSchema),
  settings: json(maxSettingsHeader, generationSchema),
  n: count(maxCaptions),
  // Of a later version some may be unknown.
  warnings: z
    .string()
    .max(200)
    .transform((text) => list(text).filter((each) => requestWarningSchema.safeParse(each).success))
    .pipe(z.array(requestWarningSchema))
    .optional(),
  'image-sizes': z
    .string()
    .max(20 * mostImages)
    .transform((text) => list(text).map((size) => (/^\d{1,12}$/.test(size) ? Number(size) : Number.NaN)))
    .pipe(z.array(z.int().min(1)).max(mostImages))
    .optional(),
  'max-tokens': count(Number.MAX_SAFE_INTEGER),
  stop: json(maxStopHeader, z.array(z.string().min(1).max(maxStopCharacters)).max(maxStops)),
  'reply-to': z.string().max(2048).optional(),
  'image-key': z.string().max(1024).optional(),
  'image-bytes': z.string().optional(),
  streamed: z.string().optional(),
  traceparent: z.string().optional(),
  repeatable: z.string().optional(),
})

/** @throws TurbineError `record_unreadable` when a header is missing or malformed, or names another tenant's image */
export function decodeJob(record: Pick<StreamRecord, 'value' | 'headers'>): CaptionJob {
  const read = headersSchema.safeParse(record.headers)
  if (!read.success) throw unreadable(String(read.error.issues[0]?.path[0]))
  const { tenant, model, deadline, prompt, stop, traceparent, settings, n, warnings, ...headers } = read.data
  const id = headers['turbine-id']
  const imageKey = headers['image-key']
  const imageSizes = headers['image-sizes']
  if (imageKey !== undefined && !isImageOf(tenant, imageKey)) throw unreadable('image-key')
  if (imageKey === undefined) imagesOf({ imageSizes }, record.value)
  return {
    id,
    tenant,
    model,
    image: imageKey === undefined ? record.value : { key: imageKey, ...sizeIn(headers['image-bytes']) },
    acceptedAt: headers['accepted-at'],
    deadline,
    maxPrune: headers['max-prune'],
    ...requestOf(headers.request, prompt),
    settings,
    n,
    warnings,
    ...(imageSizes && { imageSizes }),
    maxTokens: headers['max-tokens'],
    stop,
    replyTo: headers['reply-to'],
    streamed: headers.streamed === '1' || undefined,
    traceparent,
    repeatable: headers.repeatable === '1' || undefined,
  }
}

const requestOf = (text: Omit<CaptionText, 'beginning'> = {}, beginning: string | undefined) => {
  const request: CaptionText = { ...text, ...(beginning !== undefined && { beginning }) }
  return Object.keys(request).length > 0 ? { request } : {}
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
