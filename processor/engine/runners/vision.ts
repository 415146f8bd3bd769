import { type InferenceSession, Tensor } from 'onnxruntime-node'
import type { VisionPlan } from '../../models/model.ts'
import type { Schedule } from '../../turbo/schedule.ts'
import type { RunPicture } from '../batch.ts'
import { JoinedPixels } from './joined-pixels.ts'

/** Runs the vision session of a model over the pictures of a whole batch at once: no picture is padded. */
export class VisionRun {
  readonly #session: InferenceSession
  readonly #plan: VisionPlan
  readonly #pixels = new JoinedPixels()

  constructor(session: InferenceSession, plan: VisionPlan) {
    this.#session = session
    this.#plan = plan
  }

  /** Outputs for these pictures, their tiles or patches one behind the other. */
  run(pictures: readonly RunPicture[], { r, weight }: Schedule): Promise<InferenceSession.OnnxValueMapType> {
    const { unit } = this.#plan
    const unitBytes = unit.reduce((product, size) => product * size, 1)
    const count = pictures.reduce((sum, { shape }) => sum + shape.count, 0)
    const pixels = this.#pixels.join(pictures.map(({ pixels }) => pixels))
    if (pixels.length !== count * unitBytes)
      throw new RangeError(
        `The pictures of the batch have ${pixels.length} bytes of pixels, not ${count * unitBytes}.`,
      )
    const feeds: Record<string, () => Tensor> = {
      pixels: () => new Tensor('uint8', pixels, [count, ...unit]),
      r: () => new Tensor('int64', BigInt64Array.from(r, BigInt), [r.length]),
      weight: () => new Tensor('float32', Float32Array.from(weight), [weight.length]),
      grid: () => new Tensor('int64', gridOf(pictures), [pictures.length, 3]),
    }
    return this.#session.run(
      Object.fromEntries(this.#session.inputNames.map((name) => [name, feeds[name]!()])),
    )
  }

  async close(): Promise<void> {
    await this.#session.release()
  }
}

/** One frame, rows and columns of patches, of each picture. */
const gridOf = (pictures: readonly RunPicture[]) =>
  BigInt64Array.from(
    pictures.flatMap(({ shape }) => [1, shape.rows, shape.cols]),
    BigInt,
  )
