import type { ImageSpec } from '../models/model.ts'

/** Pixels of one batch in shared memory, so that a batch reaches its device without a copy. */
export interface PixelSlot {
  /** `uint8 [capacity, H, W, 3]` */
  readonly pixels: Uint8Array<SharedArrayBuffer>
  /** Pixels of one image, `uint8 [H, W, 3]`. */
  row(index: number): Uint8Array<SharedArrayBuffer>
  /** Returns the slot to the pool; idempotent. */
  release(): void
}

/**
 * Pool of slots: as many as were ever in use at once.
 *
 * @example
 * const slot = buffers.take()
 * await preprocess(bytes, model.image, slot.row(0))
 * await device.run({ pixels: slot.pixels, count: 1, prompt, schedule }).finally(slot.release)
 */
export class PixelBuffers {
  readonly #imageBytes: number
  readonly #capacity: number
  readonly #free: Uint8Array<SharedArrayBuffer>[] = []
  #allocated = 0

  /** `capacity`: images per slot, the largest batch. */
  constructor(image: ImageSpec, capacity: number) {
    this.#imageBytes = image.height * image.width * 3
    this.#capacity = capacity
  }

  /** Slots in use or free. */
  get allocated(): number {
    return this.#allocated
  }

  take(): PixelSlot {
    const pixels = this.#free.pop() ?? this.#allocate()
    const size = this.#imageBytes
    let taken = true
    return {
      pixels,
      row: (index) => pixels.subarray(index * size, (index + 1) * size),
      release: () => {
        if (taken) this.#free.push(pixels)
        taken = false
      },
    }
  }

  #allocate(): Uint8Array<SharedArrayBuffer> {
    this.#allocated++
    return new Uint8Array(new SharedArrayBuffer(this.#capacity * this.#imageBytes))
  }
}
