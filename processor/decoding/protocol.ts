/** One image for a decoder; its bytes follow. */
export interface DecodeRequest {
  imageBytes: number
  /** Memory that the decoder may take for it, bytes. */
  memoryBytes: number
  /** CPU time that it may take, ms. */
  cpuMs: number
}

/**
 * Kinds of replies: `ready` once, `pixels` of an image, `truncated` with those of one whose end is missing, `refused` with
 * an error as JSON; and the last of a decoder that ends itself because an image took too much `memory` or `time`.
 */
export const replyKinds = ['ready', 'pixels', 'truncated', 'refused', 'memory', 'time'] as const
export type ReplyKind = (typeof replyKinds)[number]

/** Head of a reply; its body follows. */
export interface ReplyHead {
  kind: ReplyKind
  bodyBytes: number
  /** Resident memory of the decoder. */
  rssBytes: number
}

export const requestBytes = 12
export const replyHeadBytes = 12

export function encodeRequest({ imageBytes, memoryBytes, cpuMs }: DecodeRequest): Buffer {
  return encode([imageBytes, Math.ceil(memoryBytes / 1024), Math.ceil(cpuMs)])
}

export function decodeRequest(bytes: Buffer): DecodeRequest {
  const [imageBytes, memoryKib, cpuMs] = numbers(bytes)
  return { imageBytes: imageBytes!, memoryBytes: memoryKib! * 1024, cpuMs: cpuMs! }
}

export function encodeReply({ kind, bodyBytes, rssBytes }: ReplyHead): Buffer {
  return encode([replyKinds.indexOf(kind), bodyBytes, Math.ceil(rssBytes / 1024)])
}

/** Undefined for bytes that no decoder of ours sends. */
export function decodeReply(bytes: Buffer): ReplyHead | undefined {
  const [kind, bodyBytes, rssKib] = numbers(bytes)
  const name = replyKinds[kind!]
  return name && { kind: name, bodyBytes: bodyBytes!, rssBytes: rssKib! * 1024 }
}

const encode = (values: [number, number, number]) => Buffer.from(Uint32Array.from(values).buffer)

const numbers = (bytes: Buffer): number[] => [0, 4, 8].map((at) => bytes.readUInt32LE(at))
