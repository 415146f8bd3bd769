import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { openBareEngine } from './bare-engine.ts'
import { encodeScenes } from './encoded-scenes.ts'
import { median, printResult, quantile } from './measure.ts'
import type { LoadReport, LoadRequest } from './pipeline-client.ts'
import { startServe } from './serve-process.ts'
import { cpuPerImage, cpuTime } from './thread-cpu.ts'

const client = fileURLToPath(new URL('./pipeline-client.ts', import.meta.url))
/** Callers who never pause wait for three full batches at a time: with less, slow machines would reject some of them. */
const sloMs = 20_000

/**
 * Measures what the service costs beyond the engine and the decoding of its images, on the starter model, unpruned: images
 * per second with many callers, from HTTP through stream, decoders, batcher, engine and store, against the engine fed by the
 * same decoders; and what a lone request takes longer than its inference. All sides run in turn; service and callers are
 * processes of their own, on the same cores.
 */
export async function benchPipeline(options: { rounds: number; batch: number }): Promise<void> {
  const { rounds, batch } = options
  const service = await startServe({ TURBINE_MAX_BATCH: String(batch), TURBINE_SLO_MS: String(sloMs) })
  const bare = await openBareEngine('cpu', { batch, pictures: await encodeScenes(3, 32, 90) })
  const load = fork(client)
  const ask = (request: LoadRequest) =>
    new Promise<LoadReport>((resolve, reject) => {
      load.removeAllListeners()
      load.once('message', (report) => resolve(report as LoadReport))
      load.once('exit', (code) => reject(new Error(`the callers ended with code ${code}`)))
      load.send(request)
    })
  // Enough that the first and the last batches, which are not full, count for little.
  const images = 32 * batch
  const measured: Round[] = []
  const overheads: number[] = []
  const bareCpu = () => cpuTime(process.pid, [service.pid, load.pid!])
  try {
    await ask({ url: service.url, images: 2 * batch, callers: 2 * batch })
    for (let round = 0; round < rounds; round++) {
      const engineRate = await bare.engineRate(images)
      const alone = await cpuPerImage(images, bareCpu, () => bare.rate(images))
      const callersBefore = cpuTime(load.pid!).all
      const served = await cpuPerImage(
        images,
        () => cpuTime(service.pid),
        () => ask({ url: service.url, images, callers: 3 * batch }),
      )
      const callersMs = (cpuTime(load.pid!).all - callersBefore) / images
      const { imagesPerSecond } = served.result
      measured.push({
        kept: imagesPerSecond / alone.result,
        keptOfEngine: imagesPerSecond / engineRate,
        keptByCpu: alone.cpu.all / (served.cpu.all + callersMs),
        imagesPerSecond,
        mainMs: served.cpu.main,
        outsideMs: served.cpu.outside,
        callersMs,
      })
      const lone = await ask({ url: service.url, images: 12, callers: 1 })
      overheads.push(...lone.overheadsMs)
      const rates = [engineRate, alone.result, imagesPerSecond].map((rate) => rate.toFixed(1))
      console.log(
        `round ${round + 1}: ${rates[0]} images/s engine, ${rates[1]} with decoding, ${rates[2]} served`,
      )
    }
  } finally {
    if (load.connected) load.disconnect()
    await service.close()
    await bare.close()
  }
  const middle = (of: keyof Round) => median(measured.map((round) => round[of]))
  const percent = (of: keyof Round) => `${(100 * middle(of)).toFixed(0)} %`
  console.log(
    `${middle('imagesPerSecond').toFixed(1)} images/s served, ${percent('kept')} of engine and decoding, ${percent('keptOfEngine')} of the engine; ${percent('keptByCpu')} by CPU time`,
  )
  console.log(`a lone request takes ${median(overheads).toFixed(1)} ms longer than its inference (median)`)
  console.log(
    `CPU time an image: ${middle('mainMs').toFixed(2)} ms of the main thread, ${middle('outsideMs').toFixed(2)} ms of all threads but devices, ${middle('callersMs').toFixed(2)} ms of the callers`,
  )
  printResult('pipeline', {
    kept: middle('kept'),
    kept_engine_only: middle('keptOfEngine'),
    kept_by_cpu_time: middle('keptByCpu'),
    images_per_second: middle('imagesPerSecond'),
    overhead_ms_p50: median(overheads),
    overhead_ms_p90: quantile(overheads, 0.9),
    main_thread_ms_per_image: middle('mainMs'),
    cpu_ms_per_image: middle('outsideMs'),
    callers_cpu_ms_per_image: middle('callersMs'),
    batch,
    rounds,
  })
}

/** Both sides of a round: rates over those without a service, and CPU time an image, ms. */
interface Round {
  kept: number
  keptOfEngine: number
  keptByCpu: number
  imagesPerSecond: number
  mainMs: number
  outsideMs: number
  callersMs: number
}
