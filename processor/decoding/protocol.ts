/** One image for a decoder; its bytes follow. */
export interface DecodeRequest {
  imageBytes: number
  /** Memory that the decoder may take for it, bytes. */
  memoryBytes: number
  /** CPU time that it may take, ms. */
  cpuMs: number
  /** Pixels that the model sees of it at most, where that is a choice; 0: as its folder says. */
  pictureLimit: number
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
}

export const requestBytes = 16
export const replyHeadBytes = 20

export function encodeRequest({ imageBytes, memoryBytes, cpuMs, pictureLimit }: DecodeRequest): Buffer {
  return encode([imageBytes, Math.ceil(memoryBytes / 1024), Math.ceil(cpuMs), pictureLimit])
}

export function decodeRequest(bytes: Buffer): DecodeRequest {
  const [imageBytes, memoryKib, cpuMs, pictureLimit] = numbers(bytes) as [number, number, number, number]
  return { imageBytes, memoryBytes: memoryKib * 1024, cpuMs, pictureLimit }
}

export function encodeReply({ kind, bodyBytes, rssBytes, width, height }: ReplyHead): Buffer {
  return encode([replyKinds.indexOf(kind), bodyBytes, Math.ceil(rssBytes / 1024), width, height])
}

/** Undefined for bytes that no decoder of ours sends. */
export function decodeReply(bytes: Buffer): ReplyHead | undefined {
  const [kind, bodyBytes, rssKib, width, height] = numbers(bytes) as [number, number, number, number, number]
  const name = replyKinds[kind]
  return name && { kind: name, bodyBytes, rssBytes: rssKib * 1024, width, height }
}

const encode = (values: number[]) => Buffer.from(Uint32Array.from(values).buffer)

const numbers = (bytes: Buffer): number[] =>
  Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readUInt32LE(4 * index))
