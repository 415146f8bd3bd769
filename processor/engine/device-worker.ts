import { parentPort, workerData } from 'node:worker_threads'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import type { ImageSpec } from '../models/model.ts'
import { openSession, type SessionOptions } from '../onnx/session.ts'
import type { PaddedRun } from './batch.ts'

/** Start data of a device's thread. */
export interface WorkerData {
  graph: Uint8Array
  folder: string
  options: SessionOptions
  image: ImageSpec
}

export type ToWorker = { kind: 'run'; run: PaddedRun } | { kind: 'close' }

/** A tensor that left the graph. */
export interface RawOutput {
  /** As ONNX Runtime names it: `float32`, `int64`. */
  type: string
  dims: readonly number[]
  data: Tensor['data']
}

export type FromWorker =
  | { kind: 'ready' }
  | { kind: 'done'; outputs: Record<string, RawOutput>; inferenceMs: number }
  | { kind: 'failed'; reason: string }

/**
 * Thread of one device, since `session.run` blocks its event loop: one session, one batch at a time. An error of opening
 * the session ends the thread.
 */
async function serve(): Promise<void> {
  const port = parentPort!
  const { graph, folder, options, image } = workerData as WorkerData
  const session = await openSession(graph, folder, options)
  const post = (message: FromWorker) => port.postMessage(message)
  port.on('message', async (message: ToWorker) => {
    if (message.kind === 'close') {
      await session.release()
      port.close()
      return
    }
    post(await runBatch(session, message.run, image))
  })
  post({ kind: 'ready' })
}

async function runBatch(session: InferenceSession, run: PaddedRun, image: ImageSpec): Promise<FromWorker> {
  const { pixels, bucket, prompt, promptLength, limit, r, weight } = run
  const start = performance.now()
  try {
    const results = await session.run({
      pixels: new Tensor('uint8', pixels, [bucket, image.height, image.width, 3]),
      prompt: new Tensor('int64', prompt, [bucket, promptLength]),
      limit: new Tensor('int64', limit, [bucket, 1]),
      r: new Tensor('int64', r, [r.length]),
      weight: new Tensor('float32', weight, [weight.length]),
    })
    const inferenceMs = performance.now() - start
    const outputs: Record<string, RawOutput> = {}
    for (const [name, { type, dims, data }] of Object.entries(results)) outputs[name] = { type, dims, data }
    return { kind: 'done', outputs, inferenceMs }
  } catch (error) {
    return { kind: 'failed', reason: error instanceof Error ? error.message : String(error) }
  }
}

await serve()
