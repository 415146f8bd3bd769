import { Worker } from 'node:worker_threads'
import { loadConfig } from '../../../infra/config.ts'
import { createLogger } from '../../../infra/telemetry/log.ts'
import { Device } from '../../../processor/engine/device.ts'
import { startRole } from '../../../processor/service/roles.ts'

/** What it is told by whoever measures, and what it answers with. */
export type ToFeed = { kind: 'usage' } | { kind: 'close' }
export type FromFeed = { kind: 'ready' } | { kind: 'usage'; mainMs: number; decodingMs: number }

/** Ids of the starter model that make a caption of usual length. */
const ids = [5, 6, 7, 8, 9, 10, 11, 12, 2]

/** A processor whose device answers at once, and that tells what its main thread has used: all else is the real one. */
const start = Device.start.bind(Device)
Device.start = (options) =>
  start({
    ...options,
    spawn: (_, name) =>
      new Worker(new URL('./instant-device.ts', import.meta.url), { name, workerData: { ids } }),
  })

const { config } = loadConfig()
const log = createLogger({ level: config.logLevel })
const service = await startRole(process.env.KAFKA_BROKERS ? 'processor' : 'serve', {
  config,
  log,
  version: 'bench',
})

const tell = (message: FromFeed) => process.send!(message)
/** CPU time of decoding so far, ms, as the service's own metrics tell it. */
async function decodingMs(): Promise<number> {
  const text = await (await fetch(`${service.url}/metrics`)).text()
  const values = [...text.matchAll(/^turbine_decode_cpu_seconds_total\{[^}]*\} (\S+)/gm)]
  return 1000 * values.reduce((sum, [, value]) => sum + Number(value), 0)
}

process.on('message', async (message: ToFeed) => {
  if (message.kind === 'close') {
    await service.close()
    process.exit(0)
  }
  const { user, system } = process.threadCpuUsage()
  tell({ kind: 'usage', mainMs: (user + system) / 1000, decodingMs: await decodingMs() })
})
tell({ kind: 'ready' })
