import { Tensor } from 'onnxruntime-node'
import { openModel } from '../../processor/models/open-model.ts'
import { openSession } from '../../processor/onnx/session.ts'
import { perLayer, semanticWeights } from '../../processor/turbo/schedule.ts'
import { largeFolder } from './families/folders.ts'
import { tinyFolder } from './families/parity.ts'
import { interleave, printResult, speedup } from './measure.ts'
import { smoothPixels } from './pixels.ts'

export interface PlugBenchOptions {
  rounds: number
  batch: number
  threads: number
  /** Tokens merged in every layer. */
  r: number
  python: string
  /** The tiny model. */
  tiny?: boolean
}

/** Turbo in an exported encoder of SmolVLM-256M's sizes, over the file as it is; and how fast such a folder opens. */
export async function benchPlug({
  rounds,
  batch,
  threads,
  r,
  python,
  tiny,
}: PlugBenchOptions): Promise<void> {
  const large = tiny ? { why: 'as asked' } : await largeFolder('smolvlm-256m', python)
  if ('why' in large && !tiny) console.log(`times of a tiny model, which say nothing: ${large.why}`)
  const start = performance.now()
  const model = await openModel('folder' in large ? large.folder : tinyFolder('smolvlm'))
  const openSeconds = (performance.now() - start) / 1000
  const graphOf = async (mode?: 'none') => (await model.buildSessions(mode && { mode, trace: true })).vision!
  const open = async (mode?: 'none') => {
    const { graph, folder } = await graphOf(mode)
    return openSession(graph, folder, { intraOpNumThreads: threads })
  }
  const [plain, turbo] = [await open('none'), await open()]
  const [height, width] =
    model.runner.kind === 'captioner' ? [0, 0] : (model.runner.vision.unit as [number, number])
  const pixels = new Tensor('uint8', smoothPixels(batch, { height, width }), [batch, height, width, 3])
  const { layers } = model.encoder
  const run = (merged: number) => {
    const schedule = perLayer(merged, layers)
    return () =>
      turbo.run({
        pixels,
        r: new Tensor('int64', BigInt64Array.from(schedule, BigInt), [layers]),
        weight: new Tensor('float32', Float32Array.from(semanticWeights(schedule)), [layers]),
      })
  }
  const cpu: Record<string, number[]> = {}
  const counted = (name: string, job: () => Promise<unknown>) => async () => {
    const before = process.cpuUsage()
    await job()
    const { user, system } = process.cpuUsage(before)
    cpu[name] = [...(cpu[name] ?? []), (user + system) / 1000]
  }
  const cases = { none: () => plain.run({ pixels }), r0: run(0), some: run(r) }
  const times = await interleave(
    {
      none: counted('none', cases.none),
      r0: counted('r0', cases.r0),
      some: counted('some', cases.some),
    },
    rounds,
  )
  await plain.release()
  await turbo.release()
  const result = {
    speedup: speedup(times.none, times.some),
    overhead_r0: 1 / speedup(times.none, times.r0) - 1,
    cpu_speedup: speedup(cpu.none!.slice(1), cpu.some!.slice(1)),
    cpu_overhead_r0: 1 / speedup(cpu.none!.slice(1), cpu.r0!.slice(1)) - 1,
    open_seconds: openSeconds,
    tokens: model.encoder.tokens,
    layers,
    r,
    batch,
    threads,
    rounds,
  }
  console.log(
    `${model.encoder.tokens} tokens, r = ${r} in ${layers} layers: ${result.speedup.toFixed(2)} times, ${result.cpu_speedup.toFixed(2)} in CPU time; opened in ${openSeconds.toFixed(1)} s`,
  )
  printResult('plug', result)
}
