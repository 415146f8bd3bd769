import * as ort from 'onnxruntime-node'
import type { BlipModel } from '../../processor/models/blip.ts'
import type { GraphOptions } from '../../processor/models/model.ts'
import { openSession, type SessionOptions } from '../../processor/onnx/session.ts'
import type { Schedule } from '../../processor/turbo/schedule.ts'

/** A model's graph open in this thread, as small as it gets: for measuring the graph itself. */
export interface BareSession {
  /** Runs `pixels uint8 [B, H, W, 3]` without a prompt. */
  run(pixels: Uint8Array, schedule: Schedule): Promise<ort.InferenceSession.OnnxValueMapType>
  /** Greedy ids of each image, cut behind the end id. */
  caption(pixels: Uint8Array, schedule: Schedule): Promise<number[][]>
  /** Writes the profile of a session that was opened with `enableProfiling`. */
  endProfiling(): void
  close(): Promise<void>
}

export async function openBareSession(
  model: BlipModel,
  options: GraphOptions = {},
  sessionOptions?: SessionOptions,
): Promise<BareSession> {
  const session = await openSession(model.buildGraph(options), model.folder, sessionOptions)
  const { height, width } = model.picture
  const run = (pixels: Uint8Array, { r, weight }: Schedule) => {
    const batch = pixels.length / (height * width * 3)
    return session.run({
      pixels: new ort.Tensor('uint8', pixels, [batch, height, width, 3]),
      prompt: new ort.Tensor('int64', new BigInt64Array(batch).fill(BigInt(model.startId)), [batch, 1]),
      limit: new ort.Tensor('int64', new BigInt64Array(batch).fill(BigInt(model.maxLength)), [batch, 1]),
      r: new ort.Tensor('int64', BigInt64Array.from(r, BigInt), [r.length]),
      weight: new ort.Tensor('float32', Float32Array.from(weight), [weight.length]),
    })
  }
  return {
    run,
    async caption(pixels, schedule) {
      const { ids } = await run(pixels, schedule)
      const [batch, length] = ids!.dims as [number, number]
      const data = ids!.data as BigInt64Array
      return Array.from({ length: batch }, (_, row) => {
        const list = Array.from(data.subarray(row * length, (row + 1) * length), Number)
        const end = list.indexOf(model.endId)
        return end < 0 ? list : list.slice(0, end + 1)
      })
    },
    endProfiling: () => session.endProfiling(),
    async close() {
      await session.release()
    },
  }
}
