import { parentPort, workerData } from 'node:worker_threads'
import type { RunnerPlan, SessionGraphs } from '../models/model.ts'
import type { SessionOptions } from '../onnx/session.ts'
import type { FailedRows, MadeIds, PartTime, RowGroup } from './batch.ts'
import { openRunner } from './runners/open-runner.ts'
import type { RunEvents, Runner, RunnerBatch, RunnerResult } from './runners/runner.ts'

/** Start data of a device's thread. */
export interface WorkerData {
  plan: RunnerPlan
  sessions: SessionGraphs
  options: SessionOptions
}

export type ToWorker =
  | { kind: 'run'; batch: RunnerBatch; waiting?: Int32Array<SharedArrayBuffer> | undefined }
  | { kind: 'joining'; group?: RowGroup | undefined }
  | { kind: 'close' }

export type FromWorker =
  | { kind: 'ready' }
  | { kind: 'made'; made: MadeIds }
  | { kind: 'time'; time: PartTime }
  | { kind: 'rows-failed'; failed: FailedRows }
  | { kind: 'join'; running: number }
  | ({ kind: 'done'; inferenceMs: number } & RunnerResult)
  | { kind: 'failed'; reason: string }

/**
 * Thread of one device, since a session's run blocks its event loop: one batch at a time. An error of opening the sessions
 * ends the thread.
 */
async function serve(): Promise<void> {
  const port = parentPort!
  const { plan, sessions, options } = workerData as WorkerData
  const runner = await openRunner(plan, sessions, options)
  const post = (message: FromWorker) => port.postMessage(message)
  let joining: PromiseWithResolvers<RowGroup | undefined> | undefined
  const eventsOf = (waiting: Int32Array | undefined): RunEvents => ({
    onMade: (made) => post({ kind: 'made', made }),
    ...(waiting && {
      onTime: (time) => post({ kind: 'time', time }),
      onFailed: (failed) => post({ kind: 'rows-failed', failed }),
      join: async (running) => {
        if (Atomics.load(waiting, 0) <= 0) return undefined
        joining = Promise.withResolvers()
        post({ kind: 'join', running })
        return joining.promise
      },
    }),
  })
  port.on('message', async (message: ToWorker) => {
    if (message.kind === 'run') post(await runBatch(runner, message.batch, eventsOf(message.waiting)))
    else if (message.kind === 'joining') joining?.resolve(message.group)
    else {
      await runner.close()
      port.close()
    }
  })
  post({ kind: 'ready' })
}

async function runBatch(runner: Runner, batch: RunnerBatch, events: RunEvents): Promise<FromWorker> {
  const start = performance.now()
  try {
    const result = await runner.run(batch, events)
    return { kind: 'done', inferenceMs: performance.now() - start, ...result }
  } catch (error) {
    return { kind: 'failed', reason: error instanceof Error ? error.message : String(error) }
  }
}

await serve()
