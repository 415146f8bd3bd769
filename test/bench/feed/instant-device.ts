import { parentPort, workerData } from 'node:worker_threads'
import type { FromWorker, ToWorker } from '../../../processor/engine/device-worker.ts'

/** Thread of a device that answers at once: it takes batches as a device's thread does, and gives each row the same ids. */
const port = parentPort!
const { ids } = workerData as { ids: number[] }
const post = (message: FromWorker) => port.postMessage(message)
port.on('message', (message: ToWorker) => {
  if (message.kind === 'close') return port.close()
  if (message.kind === 'joining') return
  const rows = message.batch.rows.map(() => ({ ids, ended: true }))
  post({ kind: 'done', inferenceMs: 0.01, rows })
})
post({ kind: 'ready' })
