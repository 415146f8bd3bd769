import { createHmac, timingSafeEqual } from 'node:crypto'
import { captionSchema, type FinishedCaption } from './caption.ts'
import { parseJson } from './json.ts'

/**
 * Announcement of a finished caption by a processor to an edge: a POST of the caption as JSON to the job's `reply-to`
 * URL, signed against forgery and dated against replay.
 */
export interface SignedReply {
  headers: Record<typeof signatureHeader | typeof timestampHeader | 'content-type', string>
  body: string
}

export const signatureHeader = 'turbine-signature'
/** Unix ms. */
export const timestampHeader = 'turbine-timestamp'
/** Maximum difference between the clocks of sender and receiver, ms. */
export const maxReplyAgeMs = 120_000
/** Path of an edge that receives replies. */
export const replyPath = <Id extends string>(id: Id) => `/internal/replies/${id}` as const

export type ReplyFault = 'malformed' | 'stale' | 'forged'

/** Signs with HMAC-SHA-256 over id, time and body. `now` is unix ms. */
export function signReply(secret: string, id: string, caption: FinishedCaption, now: number): SignedReply {
  const body = JSON.stringify(caption)
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

/** Returns the caption of a reply, or why the reply is rejected. `now` is unix ms. */
export function verifyReply(
  secret: string,
  id: string,
  { signature = '', timestamp = '', body }: { signature?: string; timestamp?: string; body: string },
  now: number,
): { caption: FinishedCaption } | { fault: ReplyFault } {
  if (!/^[\da-f]{64}$/.test(signature) || !/^\d{1,16}$/.test(timestamp)) return { fault: 'malformed' }
  const expected = signatureOf(secret, id, timestamp, body)
  if (!timingSafeEqual(Buffer.from(signature, 'hex'), expected)) return { fault: 'forged' }
  if (Math.abs(now - Number(timestamp)) > maxReplyAgeMs) return { fault: 'stale' }
  const caption = readCaption(body)
  return caption ? { caption } : { fault: 'malformed' }
}

/** Undefined if it is none: a processor of another version may have signed it. */
function readCaption(body: string): FinishedCaption | undefined {
  try {
    const read = captionSchema.safeParse(parseJson(body))
    return read.success && read.data.status !== 'queued' ? read.data : undefined
  } catch {
    return undefined
  }
}

/** The parts cannot be shifted against each other: neither id nor time contains a line feed. */
const signatureOf = (secret: string, id: string, timestamp: string, body: string) =>
  createHmac('sha256', secret).update(`${id}\n${timestamp}\n${body}`).digest()
