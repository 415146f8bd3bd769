import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, it } from 'vitest'
import { greedy } from '../models/generation.ts'
import type { CaptionModel, GraphOptions } from '../models/model.ts'
import { Graph } from '../onnx/graph.ts'
import { blankPicture } from './batch.fixture.ts'
import { captionIds, type RunRow } from './batch.ts'
import type { Device } from './device.ts'
import { DevicePool, type DevicePoolOptions } from './device-pool.ts'
import type { WorkerData } from './device-worker.ts'

const endId = 3
const picture = { kind: 'squash', height: 2, width: 2, resample: 'bicubic' } as const

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
  family: 'tiny',
  picture,
  patch: 1,
  encoder: { tokens: 5, layers: 2, width: 1, mlpWidth: 1, heads: 1 },
  levels: [],
  follows: 'none',
  maxPictures: 1,
  encode: async () => ({ ids: [1], places: [] }),
  decode: String,
  endIds: [endId],
  generation: greedy(8),
  maxTokens: 8,
  honours: ['maxTokens'],
  runner: { kind: 'captioner', lengths: 'equal', height: 2, width: 2, endId },
  weightFiles: [],
  buildSessions: async (options) => ({ caption: { graph: tinyGraph(options), folder: '.' } }),
}

const target = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
const schedule = { r: [0, 1], weight: [1, 2] }

/** A row for each value: a picture of it, and a prompt. */
const rowsOf = (values: number[], ids = [1]): RunRow[] =>
  values.map((value) => ({
    pictures: [blankPicture(picture, value)],
    prompt: { ids, places: [], answer: 0 },
    settings: greedy(8),
  }))

/** Captions of a batch with their prompts. */
async function captionsOf(device: Pick<Device, 'run'>, values: number[], ids?: number[]) {
  const rows = rowsOf(values, ids)
  const result = await device.run({ rows, schedule })
  return rows.map(({ prompt }, index) => captionIds(prompt, result.rows[index]!))
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
    const graph = graphs[workers.length]
    const sessions = graph ? { caption: { graph, folder: '.' } } : data.sessions
    const worker = new Worker(new URL('./device-worker.ts', import.meta.url), {
      workerData: { ...data, sessions },
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
    expect(await captionsOf(device, [7, 8], [1, 9])).toEqual([
      [1, 9, 7, 7, 7, 50, 51],
      [1, 9, 8, 8, 8, 50, 51],
    ])
    const { rows, inferenceMs } = await device.run({ rows: rowsOf([7, 8, 9]), schedule })
    expect(rows).toHaveLength(3)
    expect(inferenceMs).toBeGreaterThan(0)
  })

  it('ends a caption at the end id', async () => {
    const { device } = await start()
    expect(await captionsOf(device, [endId])).toEqual([[1, endId]])
  })

  it('hands over what else the graph puts out', async () => {
    const { device } = await start({ graph: { trace: true } })
    const { outputs } = await device.run({ rows: rowsOf([5]), schedule })
    expect(outputs?.sizes).toMatchObject({ type: 'float32', dims: [2], data: Float32Array.of(1, 4) })
  })

  it('takes the runs of one device one after the other, and finishes them before it closes', async () => {
    const { pool, device } = await start()
    const runs = [4, 5, 6].map((value) => captionsOf(device, [value]))
    await pool.close()
    const results = await Promise.all(runs)
    expect(results.map(([ids]) => ids![1])).toEqual([4, 5, 6])
    await expect(captionsOf(device, [4])).rejects.toMatchObject({
      name: 'DeviceClosedError',
      retriable: true,
    })
    await pool.close()
  })

  it('rejects a batch that the runtime refuses, and goes on', async () => {
    const { device } = await start()
    await expect(
      device.run({ rows: rowsOf([4]), schedule: { r: [0, 99], weight: [1, 1] } }),
    ).rejects.toMatchObject({
      name: 'DeviceRunError',
      retriable: true,
      message: expect.stringMatching(/^Device cpu could not run the batch: .*Gather/),
    })
    expect(await captionsOf(device, [4])).toEqual([[1, 4, 4, 4, 50, 51]])
  })

  it('refuses to start with a graph that cannot be opened', async () => {
    const broken = {
      ...model,
      buildSessions: async () => ({ caption: { graph: new Uint8Array([1, 2, 3]), folder: '.' } }),
    }
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
    const running = captionsOf(device, [4])
    const ended = workers[0]!.terminate()
    await expect(running).rejects.toMatchObject({ name: 'DeviceCrashedError', retriable: true })
    await ended
    expect(await captionsOf(device, [4])).toEqual([[1, 4, 4, 4, 50, 51]])
    expect(crashes).toEqual(['Device cpu crashed and is being restarted; retry the batch.'])
    expect(pauses).toEqual([100])
    expect(workers).toHaveLength(2)
  })

  it('keeps trying, with longer pauses, when a restart fails', async () => {
    const { workers, spawn } = spawner({ 1: new Uint8Array([1]) })
    const pauses: number[] = []
    const { device } = await start({ spawn, pause: async (ms) => pauses.push(ms) })
    await workers[0]!.terminate()
    await expect(captionsOf(device, [4])).rejects.toMatchObject({
      name: 'DeviceCrashedError',
      cause: expect.objectContaining({ name: 'DeviceOpenError' }),
    })
    expect(await captionsOf(device, [4])).toEqual([[1, 4, 4, 4, 50, 51]])
    expect(pauses).toEqual([100, 200])
  })

  it('closes while it waits for a restart', async () => {
    const { workers, spawn } = spawner()
    const { pool, device } = await start({ spawn })
    const crashed = new Promise((resolve) => workers[0]!.once('exit', resolve))
    void workers[0]!.terminate()
    await crashed
    const waiting = captionsOf(device, [4])
    await Promise.all([pool.close(), expect(waiting).rejects.toMatchObject({ retriable: true })])
    expect(workers).toHaveLength(1)
  })
})
