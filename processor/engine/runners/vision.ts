import { type InferenceSession, Tensor } from 'onnxruntime-node'
import type { VisionPlan } from '../../models/model.ts'
import type { Schedule } from '../../turbo/schedule.ts'
import type { RunPicture } from '../batch.ts'
import { JoinedPixels } from './joined-pixels.ts'
import type { RawOutput } from './runner.ts'

/** What a vision session gives out. */
export interface Seen {
  /** The output that is read. */
  read: Tensor
  /** Of a traced graph: where each token went, `int64 [N, tokens]`. */
  source?: Tensor
}

/** What leaves a graph beside the rows; nothing of one that is not traced. */
export const traced = ({ read, source }: Seen): { outputs?: Record<string, RawOutput> } =>
  source ? { outputs: { tokens: raw(read), source: raw(source) } } : {}

const raw = ({ type, dims, data }: Tensor): RawOutput => ({ type, dims, data })

/** Runs the vision session of a model over the pictures of a whole batch at once: no picture is padded. */
export class VisionRun {
  readonly #session: InferenceSession
  readonly #plan: VisionPlan
  readonly #pixels = new JoinedPixels()

  constructor(session: InferenceSession, plan: VisionPlan) {
    this.#session = session
    this.#plan = plan
  }

  /** What is read of these pictures, their tiles or patches one behind the other. */
  async run(pictures: readonly RunPicture[], { r, weight }: Schedule): Promise<Seen> {
    const { unit, output } = this.#plan
    const unitBytes = unit.reduce((product, size) => product * size, 1)
    const count = pictures.reduce((sum, { shape }) => sum + shape.count, 0)
    const pixels = this.#pixels.join(pictures.map(({ pixels }) => pixels))
    if (pixels.length !== count * unitBytes)
      throw new RangeError(
        `The pictures of the batch have ${pixels.length} bytes of pixels, not ${count * unitBytes}.`,
      )
    const grid = () => new Tensor('int64', gridOf(pictures), [pictures.length, 3])
    const feeds: Record<string, () => Tensor> = {
      pixels: () => new Tensor('uint8', pixels, [count, ...unit]),
      r: () => new Tensor('int64', BigInt64Array.from(r, BigInt), [r.length]),
      weight: () => new Tensor('float32', Float32Array.from(weight), [weight.length]),
      // As Qwen2-VL has it, and its successors.
      grid_thw: () => grid(),
      image_grid_thw: () => grid(),
    }
    const inputs = Object.fromEntries(this.#session.inputNames.map((name) => [name, feeds[name]!()]))
    const fetches = this.#session.outputNames.filter((name) => name === output || name === tracedOutput)
    const { [output]: read, [tracedOutput]: source } = await this.#session.run(inputs, fetches)
    return { read: read!, ...(source && { source }) }
  }

  async close(): Promise<void> {
    await this.#session.release()
  }
}

/** As the plug-in names where tokens went. */
const tracedOutput = 'source'

/** One frame, rows and columns of patches, of each picture. */
const gridOf = (pictures: readonly RunPicture[]) =>
  BigInt64Array.from(
    pictures.flatMap(({ shape }) => [1, shape.rows, shape.cols]),
    BigInt,
  )
