import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, it } from 'vitest'
import type { CaptionModel, GraphOptions } from '../models/model.ts'
import { Graph } from '../onnx/graph.ts'
import { DevicePool, type DevicePoolOptions } from './device-pool.ts'
import type { WorkerData } from './device-worker.ts'
import { PixelBuffers } from './pixel-buffers.ts'

const endId = 3
const image = { kind: 'squash', height: 2, width: 2, resample: 'bicubic' } as const

/** "Captions" an image with its prompt, its first pixel's three values and, for each layer, r's entry of a table. */
function tinyGraph({ trace = false }: GraphOptions = {}): Uint8Array {
  const g = new Graph()
  const pixels = g.input('pixels', 'uint8', ['B', 2, 2, 3])
  const prompt = g.input('prompt', 'int64', ['B', 'P'])
  const r = g.input('r', 'int64', [2])
  const weight = g.input('weight', 'float32', [2])
  const bytes = g.cast(g.reshape(pixels, [0, 12]), 'int64')
  const first = g.slice(bytes, 1, 0, 3)
  const looked = g.unsqueeze(g.gather(g.ints([50, 51, 52, 53]), r), 0)
  const rows = g.concat([g.shape(prompt, 0, 1), g.ints([2])], 0)
  g.output('ids', g.concat([prompt, first, g.expand(looked, rows)], 1), ['B', 'T'])
  if (trace) g.output('sizes', g.mul(weight, weight), [2])
  return g.toModel()
}

const model: CaptionModel = {
  id: 'tiny',
  folder: '.',
  image,
  patch: 1,
  encoder: { tokens: 5, layers: 2, width: 1, mlpWidth: 1, heads: 1 },
  maxLength: 8,
  maxPromptLength: 2,
  startId: 1,
  endId,
  padId: 0,
  levels: [],
  buildGraph: tinyGraph,
}

const target = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const schedule = { r: [0, 1], weight: [1, 2] }
const buffers = new PixelBuffers(image, 4)

/** Pixels of a batch: image i has the value `values[i]` everywhere. */
function pixelsOf(values: number[]) {
  const slot = buffers.take()
  values.forEach((value, i) => {
    slot.row(i).fill(value)
  })
  return slot.pixels
}

const pools: DevicePool[] = []
async function start(options: Partial<DevicePoolOptions> = {}) {
  const pool = await DevicePool.start({
    model,
    devices: [target],
    intraOpThreads: 1,
    buckets: [4, 1],
    ...options,
  })
  pools.push(pool)
  return { pool, device: pool.devices[0]! }
}

afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()))
})

/** Keeps hold of the threads, so that a test can end one, and starts the n-th with a graph of its own. */
function spawner(graphs: Record<number, Uint8Array> = {}) {
  const workers: Worker[] = []
  const spawn = (data: WorkerData) => {
    const graph = graphs[workers.length] ?? data.graph
    const worker = new Worker(new URL('./device-worker.ts', import.meta.url), {
      workerData: { ...data, graph },
    })
    workers.push(worker)
    return worker
  }
  return { workers, spawn }
}

describe('DevicePool', () => {
  it('runs a batch and gives the rows of its images', async () => {
    const { pool, device } = await start()
    expect(pool.buckets).toEqual([1, 4])
    expect(pool.maxBatch).toBe(4)
    const prompt = [1, 1].map((id) => [id, 9])
    const result = await device.run({ pixels: pixelsOf([7, 8]), count: 2, prompt, schedule })
    expect(result.ids).toEqual([
      [1, 9, 7, 7, 7, 50, 51],
      [1, 9, 8, 8, 8, 50, 51],
    ])
    expect(result.outputs.ids!.dims).toEqual([4, 7])
    expect(result.inferenceMs).toBeGreaterThan(0)
  })

  it('ends a caption at the end id', async () => {
    const { device } = await start()
    const { ids } = await device.run({ pixels: pixelsOf([endId]), count: 1, prompt: [[1]], schedule })
    expect(ids).toEqual([[1, endId]])
  })

  it('hands over what else the graph puts out', async () => {
    const { device } = await start({ graph: { trace: true } })
    const { outputs } = await device.run({ pixels: pixelsOf([5]), count: 1, prompt: [[1]], schedule })
    expect(outputs.sizes).toMatchObject({ type: 'float32', dims: [2], data: Float32Array.of(1, 4) })
  })

  it('takes the runs of one device one after the other, and finishes them before it closes', async () => {
    const { pool, device } = await start()
    const runs = [4, 5, 6].map((value) =>
      device.run({ pixels: pixelsOf([value]), count: 1, prompt: [[1]], schedule }),
    )
    await pool.close()
    const results = await Promise.all(runs)
    expect(results.map(({ ids }) => ids[0]![1])).toEqual([4, 5, 6])
    await expect(
      device.run({ pixels: pixelsOf([4]), count: 1, prompt: [[1]], schedule }),
    ).rejects.toMatchObject({ name: 'DeviceClosedError', retriable: true })
    await pool.close()
  })

  it('rejects a batch that the runtime refuses, and goes on', async () => {
    const { device } = await start()
    const batch = { pixels: pixelsOf([4]), count: 1, prompt: [[1]] }
    await expect(device.run({ ...batch, schedule: { r: [0, 99], weight: [1, 1] } })).rejects.toMatchObject({
      name: 'DeviceRunError',
      retriable: true,
      message: expect.stringMatching(/^Device cpu could not run the batch: .*Gather/),
    })
    await expect(device.run({ ...batch, schedule })).resolves.toMatchObject({ ids: [[1, 4, 4, 4, 50, 51]] })
  })

  it('refuses to start with a graph that cannot be opened', async () => {
    const broken = { ...model, buildGraph: () => new Uint8Array([1, 2, 3]) }
    await expect(start({ model: broken })).rejects.toMatchObject({
      name: 'DeviceOpenError',
      message: expect.stringMatching(/^Device cpu could not open the model: /),
    })
  })

  it('rejects the batch in hand when the thread dies, and starts another', async () => {
    const { workers, spawn } = spawner()
    const crashes: string[] = []
    const pauses: number[] = []
    const { device } = await start({
      spawn,
      pause: async (ms) => pauses.push(ms),
      onCrash: (error) => crashes.push(error.message),
    })
    const batch = { pixels: pixelsOf([4]), count: 1, prompt: [[1]], schedule }
    const running = device.run(batch)
    const ended = workers[0]!.terminate()
    await expect(running).rejects.toMatchObject({ name: 'DeviceCrashedError', retriable: true })
    await ended
    expect(await device.run(batch)).toMatchObject({ ids: [[1, 4, 4, 4, 50, 51]] })
    expect(crashes).toEqual(['Device cpu crashed and is being restarted; retry the batch.'])
    expect(pauses).toEqual([100])
    expect(workers).toHaveLength(2)
  })

  it('keeps trying, with longer pauses, when a restart fails', async () => {
    const { workers, spawn } = spawner({ 1: new Uint8Array([1]) })
    const pauses: number[] = []
    const { device } = await start({ spawn, pause: async (ms) => pauses.push(ms) })
    const batch = { pixels: pixelsOf([4]), count: 1, prompt: [[1]], schedule }
    await workers[0]!.terminate()
    await expect(device.run(batch)).rejects.toMatchObject({
      name: 'DeviceCrashedError',
      cause: expect.objectContaining({ name: 'DeviceOpenError' }),
    })
    expect(await device.run(batch)).toMatchObject({ ids: [[1, 4, 4, 4, 50, 51]] })
    expect(pauses).toEqual([100, 200])
  })

  it('closes while it waits for a restart', async () => {
    const { workers, spawn } = spawner()
    const { pool, device } = await start({ spawn })
    const crashed = new Promise((resolve) => workers[0]!.once('exit', resolve))
    void workers[0]!.terminate()
    await crashed
    const waiting = device.run({ pixels: pixelsOf([4]), count: 1, prompt: [[1]], schedule })
    await Promise.all([pool.close(), expect(waiting).rejects.toMatchObject({ retriable: true })])
    expect(workers).toHaveLength(1)
  })
})
