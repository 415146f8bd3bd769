import type { FinishedCaption } from './caption.ts'

/**
 * How a processor tells an edge that a caption is finished: a POST of the caption as JSON to the job's `reply-to`
 * address, signed so that nobody else can, and dated so that nobody can repeat it later.
 */
export interface SignedReply {
  headers: Record<typeof signatureHeader | typeof timestampHeader | 'content-type', string>
  body: string
}

export const signatureHeader = 'turbine-signature'
/** Unix ms. */
export const timestampHeader = 'turbine-timestamp'
/** A reply older (or newer) than this is refused, ms. */
export const maxReplyAgeMs = 120_000
/** Path of an edge where replies come in. */
export const replyPath = <Id extends string>(id: Id) => `/internal/replies/${id}` as const

export type ReplyFault = 'malformed' | 'stale' | 'forged'

/** Signs with HMAC-SHA-256 over id, time and body. `now` is unix ms. */
export async function signReply(
  secret: string,
  id: string,
  caption: FinishedCaption,
  now: number,
): Promise<SignedReply> {
  const body = JSON.stringify(caption)
  const timestamp = String(now)
  const mac = await crypto.subtle.sign('HMAC', await importKey(secret), message(id, timestamp, body))
  return {
    headers: {
      'content-type': 'application/json',
      [timestampHeader]: timestamp,
      [signatureHeader]: toHex(new Uint8Array(mac)),
    },
    body,
  }
}

/** The caption that a reply carries, or what is wrong with it. */
export async function verifyReply(
  secret: string,
  id: string,
  reply: { signature?: string; timestamp?: string; body: string },
  now: number,
): Promise<{ caption: FinishedCaption } | { fault: ReplyFault }> {
  const { signature = '', timestamp = '', body } = reply
  if (!/^[\da-f]{64}$/.test(signature) || !/^\d{1,16}$/.test(timestamp)) return { fault: 'malformed' }
  const genuine = await crypto.subtle.verify(
    'HMAC',
    await importKey(secret),
    fromHex(signature),
    message(id, timestamp, body),
  )
  if (!genuine) return { fault: 'forged' }
  if (Math.abs(now - Number(timestamp)) > maxReplyAgeMs) return { fault: 'stale' }
  return { caption: JSON.parse(body) as FinishedCaption }
}

const importKey = (secret: string) =>
  crypto.subtle.importKey('raw', new TextEncoder().encode(secret), { name: 'HMAC', hash: 'SHA-256' }, false, [
    'sign',
    'verify',
  ])

/** The parts cannot be shifted against each other: neither id nor time holds a line end. */
const message = (id: string, timestamp: string, body: string) =>
  new TextEncoder().encode(`${id}\n${timestamp}\n${body}`)

const toHex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')

const fromHex = (hex: string) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
