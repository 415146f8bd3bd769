import type { StreamRecord } from '../../infra/stream/stream.ts'
import { TurbineError } from './errors.ts'

/** Interactive request as a record of the stream. Times are unix ms. */
export interface CaptionJob {
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
  if (job.replyTo !== undefined) headers['reply-to'] = job.replyTo
  if (job.traceparent !== undefined) headers.traceparent = job.traceparent
  if (job.repeatable) headers.repeatable = '1'
  if (job.image instanceof Uint8Array) return { key: job.id, value: job.image, headers }
  headers['image-key'] = job.image.key
  if (job.image.bytes !== undefined) headers['image-bytes'] = String(job.image.bytes)
  return { key: job.id, value: new Uint8Array(0), headers }
}

/** @throws TurbineError `record_unreadable` when a header is missing or not a number */
export function decodeJob(record: Pick<StreamRecord, 'value' | 'headers'>): CaptionJob {
  const { headers } = record
  const text = (name: string) => {
    const value = headers[name]
    if (value === undefined) throw unreadable(name)
    return value
  }
  const number = (name: string) => {
    const value = Number(text(name) || Number.NaN)
    if (!Number.isFinite(value)) throw unreadable(name)
    return value
  }
  const imageKey = headers['image-key']
  return {
    id: text('turbine-id'),
    tenant: text('tenant'),
    model: text('model'),
    image: imageKey === undefined ? record.value : { key: imageKey, ...sizeIn(headers) },
    acceptedAt: number('accepted-at'),
    deadline: number('deadline'),
    maxPrune: number('max-prune'),
    prompt: headers.prompt,
    replyTo: headers['reply-to'],
    traceparent: headers.traceparent,
    repeatable: headers.repeatable === '1' || undefined,
  }
}

/** Size of an image sent by key; a damaged one counts as unknown. */
function sizeIn(headers: StreamRecord['headers']): { bytes?: number } {
  const bytes = Number(headers['image-bytes'] || Number.NaN)
  return Number.isSafeInteger(bytes) && bytes >= 0 ? { bytes } : {}
}

const unreadable = (header: string) =>
  new TurbineError(`The record's header "${header}" is missing or malformed.`, {
    status: 500,
    code: 'record_unreadable',
    param: header,
    retriable: false,
  })
