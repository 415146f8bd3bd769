/** One image for a decoder; what it becomes, as JSON, and its bytes follow. */
export interface DecodeRequest {
  imageBytes: number
  /** Memory that the decoder may take for it, bytes. */
  memoryBytes: number
  /** CPU time that it may take, ms. */
  cpuMs: number
  /** Of its rule; 0: that of the image before. */
  ruleBytes: number
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
  /** Of the picture, its orientation applied, pixels; 0 without pixels. */
  width: number
  height: number
  /** CPU time of the image, microseconds. */
  cpuMicros: number
}

export const requestBytes = 16
export const replyHeadBytes = 24

export function encodeRequest({ imageBytes, memoryBytes, cpuMs, ruleBytes }: DecodeRequest): Buffer {
  return encode([imageBytes, Math.ceil(memoryBytes / 1024), Math.ceil(cpuMs), ruleBytes])
}

export function decodeRequest(bytes: Buffer): DecodeRequest {
  const [imageBytes, memoryKib, cpuMs, ruleBytes] = numbers(bytes) as [number, number, number, number]
  return { imageBytes, memoryBytes: memoryKib * 1024, cpuMs, ruleBytes }
}

export function encodeReply({ kind, bodyBytes, rssBytes, width, height, cpuMicros }: ReplyHead): Buffer {
  return encode([replyKinds.indexOf(kind), bodyBytes, Math.ceil(rssBytes / 1024), width, height, cpuMicros])
}

/** Undefined for bytes that no decoder of ours sends. */
export function decodeReply(bytes: Buffer): ReplyHead | undefined {
  const [kind, bodyBytes, rssKib, width, height, cpuMicros] = numbers(bytes) as Six
  const name = replyKinds[kind]
  return name && { kind: name, bodyBytes, rssBytes: rssKib * 1024, width, height, cpuMicros }
}

type Six = [number, number, number, number, number, number]

const encode = (values: number[]) => Buffer.from(Uint32Array.from(values).buffer)

const numbers = (bytes: Buffer): number[] =>
  Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(4 * index))
