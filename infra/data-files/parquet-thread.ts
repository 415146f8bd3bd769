import { parentPort, workerData } from 'node:worker_threads'
import { DataFileError } from './data-file-error.ts'
import type { BatchAnswer, BatchesAsk, RowBatch, Values } from './parquet-batches.ts'
import { openParquet } from './parquet-file.ts'

/** Reads a Parquet file for `threadBatches`: each message asks for the next rows. */
const { path, options } = workerData as BatchesAsk
const file = openParquet(path)
// It is told with the first rows that are asked for.
file.catch(() => {})
let batches: AsyncGenerator<RowBatch> | undefined

parentPort!.on('message', () => {
  void answer().then(({ answer, bytes }) => parentPort!.postMessage(answer, bytes))
})

async function answer(): Promise<{ answer: BatchAnswer; bytes: ArrayBuffer[] }> {
  try {
    batches ??= (await file).batchesHere(options)
    const { value, done } = await batches.next()
    if (done) return { answer: { end: true }, bytes: [] }
    const packing = new Packing()
    const columns = new Map(
      [...value.columns].map(([name, values]) => [name, packing.pack(values) as Values]),
    )
    return { answer: { batch: { ...value, columns } }, bytes: packing.end() }
  } catch (error) {
    return { answer: error instanceof DataFileError ? { fault: error.message } : { error }, bytes: [] }
  }
}

const blockBytes = 1024 * 1024

/** Moves the bytes of a batch into buffers of their own, which are handed over: those of pages have other rows in them, too. */
class Packing {
  #block = new Uint8Array(blockBytes)
  #used = 0
  readonly #blocks = new Set<ArrayBuffer>()

  pack(value: unknown): unknown {
    if (value instanceof Uint8Array) return this.#add(value)
    if (Array.isArray(value)) return value.map((item) => this.pack(item))
    if (typeof value !== 'object' || value === null || value instanceof Date) return value
    // Typed arrays of numbers are parts of pages as well.
    if (ArrayBuffer.isView(value)) return (value as Int32Array).slice()
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, this.pack(item)]))
  }

  #add(bytes: Uint8Array): Uint8Array {
    if (this.#used + bytes.length > this.#block.length) {
      this.#block = new Uint8Array(Math.max(blockBytes, bytes.length))
      this.#used = 0
    }
    this.#blocks.add(this.#block.buffer as ArrayBuffer)
    const packed = this.#block.subarray(this.#used, this.#used + bytes.length)
    packed.set(bytes)
    this.#used += bytes.length
    return packed
  }

  end(): ArrayBuffer[] {
    return [...this.#blocks]
  }
}
