import { parentPort, workerData } from 'node:worker_threads'
import type { RunnerPlan, SessionGraphs } from '../models/model.ts'
import type { SessionOptions } from '../onnx/session.ts'
import { openRunner } from './runners/open-runner.ts'
import type { Runner, RunnerBatch, RunnerResult } from './runners/runner.ts'

/** Start data of a device's thread. */
export interface WorkerData {
  plan: RunnerPlan
  sessions: SessionGraphs
  options: SessionOptions
}

export type ToWorker = { kind: 'run'; batch: RunnerBatch } | { kind: 'close' }

export type FromWorker =
  | { kind: 'ready' }
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
  port.on('message', async (message: ToWorker) => {
    if (message.kind === 'close') {
      await runner.close()
      port.close()
      return
    }
    post(await runBatch(runner, message.batch))
  })
  post({ kind: 'ready' })
}

async function runBatch(runner: Runner, batch: RunnerBatch): Promise<FromWorker> {
  const start = performance.now()
  try {
    const result = await runner.run(batch)
    return { kind: 'done', inferenceMs: performance.now() - start, ...result }
  } catch (error) {
    return { kind: 'failed', reason: error instanceof Error ? error.message : String(error) }
  }
}

await serve()
