import { createHmac, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { captionSchema, type FinishedCaption } from './caption.ts'
import { maxCaptions } from './generation.ts'
import { parseJson } from './json.ts'

const textPartSchema = z.object({
  /** Which of the captions of a request. */
  index: z
    .int()
    .min(0)
    .max(maxCaptions - 1),
  /** Characters of the caption before this text. */
  from: z.int().min(0),
  text: z.string(),
})

/** New text of a caption that still grows. Whoever has some of it already knows by `from` what is new. */
export type TextPart = z.infer<typeof textPartSchema>

const captionPartSchema = z.object({
  id: z.string(),
  object: z.literal('caption.part'),
  created: z.int(),
  texts: z.array(textPartSchema).max(maxCaptions),
})

/** Settled text of captions that still grow, for a caller who reads along. `created` is in unix seconds. */
export type CaptionPart = z.infer<typeof captionPartSchema>

/**
 * What became of a part: `taken`, where its caller waits; `unwanted`, nobody waits here, and no further one is wanted; `left`, its caller has gone, and
 * nobody wants the caption.
 */
export type PartDelivery = 'taken' | 'unwanted' | 'left'

/**
 * Announcement of a finished caption, or of a part of one, by a processor to an edge: a POST of it as JSON to the job's
 * `reply-to` URL, signed against forgery and dated against replay.
 */
export interface SignedReply {
  headers: Record<typeof signatureHeader | typeof timestampHeader | 'content-type', string>
  body: string
}

/** Status of the response to a part whose caller has left. */
export const callerLeftStatus = 410

export const signatureHeader = 'turbine-signature'
/** Unix ms. */
export const timestampHeader = 'turbine-timestamp'
/** Maximum difference between the clocks of sender and receiver, ms. */
export const maxReplyAgeMs = 120_000
/** Path of an edge that receives replies. */
export const replyPath = <Id extends string>(id: Id) => `/internal/replies/${id}` as const

export type ReplyFault = 'malformed' | 'stale' | 'forged'

/** Signs with HMAC-SHA-256 over id, time and body. `now` is unix ms. */
export function signReply(
  secret: string,
  id: string,
  reply: FinishedCaption | CaptionPart,
  now: number,
): SignedReply {
  const body = JSON.stringify(reply)
  const timestamp = String(now)
  return {
    headers: {
      'content-type': 'application/json',
      [timestampHeader]: timestamp,
      [signatureHeader]: signatureOf(secret, id, timestamp, body).toString('hex'),
    },
    body,
  }
}

/** Returns the caption or the part in a reply, or why the reply is rejected. `now` is unix ms. */
export function verifyReply(
  secret: string,
  id: string,
  { signature = '', timestamp = '', body }: { signature?: string; timestamp?: string; body: string },
  now: number,
): { caption: FinishedCaption } | { part: CaptionPart } | { fault: ReplyFault } {
  if (!/^[\da-f]{64}$/.test(signature) || !/^\d{1,16}$/.test(timestamp)) return { fault: 'malformed' }
  const expected = signatureOf(secret, id, timestamp, body)
  if (!timingSafeEqual(Buffer.from(signature, 'hex'), expected)) return { fault: 'forged' }
  if (Math.abs(now - Number(timestamp)) > maxReplyAgeMs) return { fault: 'stale' }
  return readReply(body) ?? { fault: 'malformed' }
}

/** Undefined if it is none: a processor of another version may have signed it. */
function readReply(body: string): { caption: FinishedCaption } | { part: CaptionPart } | undefined {
  try {
    const json = parseJson(body)
    const part = captionPartSchema.safeParse(json)
    if (part.success) return { part: part.data }
    const read = captionSchema.safeParse(json)
    return read.success && read.data.status !== 'queued' ? { caption: read.data } : undefined
  } catch {
    return undefined
  }
}

/** The parts cannot be shifted against each other: neither id nor time contains a line feed. */
const signatureOf = (secret: string, id: string, timestamp: string, body: string) =>
  createHmac('sha256', secret).update(`${id}\n${timestamp}\n${body}`).digest()
