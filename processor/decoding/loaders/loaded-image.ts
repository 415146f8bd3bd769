import type { ImageError } from '../../../edge/contract/errors.ts'
import { checkImage, type ImageLimits, imageSize } from '../../../edge/contract/image.ts'
import type { ImageWork } from '../../../edge/contract/image-work.ts'

/** What a loader has found in the header of an image: the main thread does not look at it. */
export interface ImageHead {
  /** Pixels; absent where the header is unreadable. */
  size?: { width: number; height: number }
  /** What decoding it takes; absent where the header is unreadable. */
  work?: ImageWork
  /** Why it is refused. */
  refusal?: ImageError
}

/** Bytes of an image that a loader has read, in memory that all threads share. */
export class LoadedImage extends Uint8Array<SharedArrayBuffer> {
  readonly head: ImageHead
  readonly #free: () => void

  constructor(bytes: Uint8Array<SharedArrayBuffer>, head: ImageHead, free: () => void) {
    super(bytes.buffer, bytes.byteOffset, bytes.length)
    this.head = head
    this.#free = free
  }

  /** Parts of it are plain bytes. */
  static get [Symbol.species]() {
    return Uint8Array
  }

  /** Returns its memory: nobody may read it from then on. Idempotent. */
  release(): void {
    this.#free()
  }
}

/** Returns the memory of images that loaders have read. */
export function releaseImages(images: readonly Uint8Array[]): void {
  for (const image of images) if (image instanceof LoadedImage) image.release()
}

/** Bytes of an image for libraries of this thread, which take no shared memory. What a loader has read is released. */
export function ownBytes(image: Uint8Array): Uint8Array {
  if (!(image instanceof LoadedImage)) return image
  const bytes = Uint8Array.from(image)
  image.release()
  return bytes
}

/** What decoding an image takes, as `checkImage`, which was done already for what a loader has read. @throws ImageError */
export function checkedWork(image: Uint8Array, param: string, limits?: ImageLimits): ImageWork | undefined {
  if (!(image instanceof LoadedImage)) return checkImage(image, param, limits)
  if (image.head.refusal) throw image.head.refusal
  return image.head.work
}

/** Width and height that the header of an image says; undefined when it is unreadable. */
export const sizeOf = (image: Uint8Array) =>
  image instanceof LoadedImage ? image.head.size : imageSize(image)
