/** Pixels of one picture in shared memory, so that they reach a device's thread without a copy. */
export interface PixelSlot {
  readonly pixels: Uint8Array<SharedArrayBuffer>
  /** Returns the slot to the pool; idempotent. */
  release(): void
}

/** Free memory that is kept, bytes. */
const defaultKeptBytes = 256 * 1024 ** 2

/**
 * Pool of slots of any size. Memory of a free slot is used again for pictures of about the same size; beyond `keptBytes` it is
 * let go.
 *
 * @example
 * const slot = buffers.take(pictureBytes(model.picture, shape))
 * await preprocess(bytes, model.picture, slot.pixels)
 * await device.run({ rows: [plainRow(model, { pixels: slot.pixels, shape })], schedule }).finally(slot.release)
 */
export class PixelBuffers {
  readonly #keptBytes: number
  /** Free memory by its size. */
  readonly #free = new Map<number, SharedArrayBuffer[]>()
  #freeBytes = 0
  #allocated = 0

  constructor({ keptBytes = defaultKeptBytes } = {}) {
    this.#keptBytes = keptBytes
  }

  /** Slots allocated so far. */
  get allocated(): number {
    return this.#allocated
  }

  take(bytes: number): PixelSlot {
    const size = sizeClass(bytes)
    const buffer = this.#reuse(size) ?? this.#allocate(size)
    let taken = true
    return {
      pixels: new Uint8Array(buffer, 0, bytes),
      release: () => {
        if (taken) this.#keep(buffer)
        taken = false
      },
    }
  }

  #reuse(size: number): SharedArrayBuffer | undefined {
    const buffer = this.#free.get(size)?.pop()
    if (buffer) this.#freeBytes -= size
    return buffer
  }

  #allocate(size: number): SharedArrayBuffer {
    this.#allocated++
    return new SharedArrayBuffer(size)
  }

  #keep(buffer: SharedArrayBuffer): void {
    const size = buffer.byteLength
    if (this.#freeBytes + size > this.#keptBytes) return
    const free = this.#free.get(size) ?? []
    free.push(buffer)
    this.#free.set(size, free)
    this.#freeBytes += size
  }
}

/** Sizes of which each is at most an eighth larger than what it is for: the next of eight steps to the next power of two. */
export function sizeClass(bytes: number): number {
  const step = 2 ** Math.max(0, Math.floor(Math.log2(Math.max(1, bytes))) - 3)
  return Math.ceil(Math.max(1, bytes) / step) * step
}
