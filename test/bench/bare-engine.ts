import { splitCores } from '../../infra/cores.ts'
import { bundledModel } from '../../infra/starter-model/bundled.ts'
import { DecoderPool, planDecoders } from '../../processor/decoding/decoder-pool.ts'
import { bucketsUpTo, plainRow, type RunRow } from '../../processor/engine/batch.ts'
import { DevicePool } from '../../processor/engine/device-pool.ts'
import { resolveDevices } from '../../processor/engine/devices.ts'
import { openModel } from '../../processor/models/open-model.ts'
import { pictureBytes, wholePicture } from '../../processor/models/pictures.ts'

/** What no service can do without, images per second. */
export interface BareEngine {
  /** Of the engine alone: full batches that are decoded already. */
  engineRate(images: number): Promise<number>
  /** Of engine and decoders together: while a batch runs, those behind it are decoded. */
  rate(images: number): Promise<number>
  close(): Promise<void>
}

/** The starter model's engine, unpruned, and the service's decoders for these pictures, with nothing around them. */
export async function openBareEngine(
  device: string,
  { batch, pictures }: { batch: number; pictures: readonly Uint8Array[] },
): Promise<BareEngine> {
  const model = await openModel(bundledModel)
  const { devices } = await resolveDevices(device)
  const pool = await DevicePool.start({ model, devices, buckets: bucketsUpTo(batch) })
  const decoders = new DecoderPool({
    budget: planDecoders(splitCores({ onCpu: true }).decoders),
    timeoutMs: 10_000,
  })
  const run = (rows: RunRow[]) => pool.devices[0]!.run({ rows, schedule: model.levels[0]! })
  const bytes = pictureBytes(model.picture, wholePicture)
  const decode = async (index: number): Promise<RunRow> => {
    const pixels = new Uint8Array(new SharedArrayBuffer(bytes))
    const image = pictures[index % pictures.length]!
    await decoders.decode({ image, rule: model.picture, target: pixels, lane: 'interactive' })
    return plainRow(model, { pixels, shape: wholePicture })
  }
  const decodeBatch = (first: number) =>
    Promise.all(Array.from({ length: batch }, (_, index) => decode(first + index)))
  const decoded = await decodeBatch(0)
  const rateOf = async (images: number, next: (first: number) => Promise<RunRow[]>) => {
    const start = performance.now()
    // As many ahead as the service holds.
    const ahead = [next(0), next(batch)]
    for (let done = 0; done < images; done += batch) {
      const rows = await ahead.shift()!
      if (done + 2 * batch < images) ahead.push(next(done + 2 * batch))
      await run(rows)
    }
    return (1000 * images) / (performance.now() - start)
  }
  return {
    engineRate: (images) => rateOf(images, async () => decoded),
    rate: (images) => rateOf(images, decodeBatch),
    close: async () => {
      await Promise.all([pool.close(), decoders.close()])
    },
  }
}
