import { fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadConfig } from '../../infra/config.ts'
import { createLogger } from '../../infra/telemetry/log.ts'
import { startRole } from '../../processor/service/roles.ts'
import { openBareEngine } from './bare-engine.ts'
import { median, printResult, quantile } from './measure.ts'
import type { LoadReport, LoadRequest } from './pipeline-client.ts'

const client = fileURLToPath(new URL('./pipeline-client.ts', import.meta.url))
/** Callers who never pause wait for three full batches at a time: with less, slow machines would reject some of them. */
const sloMs = 20_000

/**
 * Measures the overhead of the service over the bare engine, on the starter model, unpruned: images per second with many callers,
 * from HTTP through stream, batcher, engine and store, against full batches that are decoded already; and what a lone
 * request takes longer than its inference. Both sides run in turn; the callers are a process of their own.
 */
export async function benchPipeline(options: { rounds: number; batch: number }): Promise<void> {
  const { rounds, batch } = options
  const dataDir = await mkdtemp(join(tmpdir(), 'turbine-pipeline-'))
  const { config } = loadConfig({ flags: { port: 0, dataDir, maxBatch: batch, sloMs } })
  const service = await startRole('serve', { config, log: createLogger({ level: 'warn' }), version: 'bench' })
  const bare = await openBareEngine(config.device, batch)
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
  const ratios: number[] = []
  const served: number[] = []
  const overheads: number[] = []
  try {
    await ask({ url: service.url, images: 2 * batch, callers: 2 * batch })
    for (let round = 0; round < rounds; round++) {
      const bareRate = await bare.imagesPerSecond(images)
      const { imagesPerSecond } = await ask({ url: service.url, images, callers: 3 * batch })
      served.push(imagesPerSecond)
      ratios.push(imagesPerSecond / bareRate)
      const lone = await ask({ url: service.url, images: 12, callers: 1 })
      overheads.push(...lone.overheadsMs)
    }
  } finally {
    if (load.connected) load.disconnect()
    await service.close()
    await bare.close()
    await rm(dataDir, { recursive: true })
  }
  console.log(
    `${median(served).toFixed(1)} images/s served, ${(100 * median(ratios)).toFixed(0)} % of the bare engine`,
  )
  console.log(`a lone request takes ${median(overheads).toFixed(1)} ms longer than its inference (median)`)
  printResult('pipeline', {
    kept: median(ratios),
    images_per_second: median(served),
    overhead_ms_p50: median(overheads),
    overhead_ms_p90: quantile(overheads, 0.9),
    batch,
    rounds,
  })
}
